"""Grad-CAM and Grad-CAM++ of a triplet: the person's photos against somebody else (photo-maps)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Options
from facefocus.saliency.identity import minmax_normalize
from facefocus.saliency.mated_gradients import directions_of
from facefocus.saliency.methods import METHODS, GradientMethod
from facefocus.saliency.photo_maps import Photo, PhotoGradientMethod


def triplet_maps(
    cam: GradientMethod, recognizer: WhiteBox, photos: Sequence[Photo], calls: Sequence[int]
) -> Float[np.ndarray, "n h w"]:
    """CAMs whose objective is cos(photo, mates) - cos(photo, stranger).

    Chen et al. (WACV 2020) adapt Grad-CAM to embeddings by the triplet loss
    max(0, d(a, p) - d(a, n) + m). Of unit embeddings, d = 2 - 2 cos, so the gradient of an active
    triplet is that of this objective, up to its factor. They average the weights over sampled
    triplets; Grad-CAM's weights are linear in the gradient, so the mean reference does the same for
    the positives. The negative is the most similar of up to 64 photos of other people, since easy
    ones are not active.

    Args:
        cam: What makes a map of activation and gradient.
        recognizer: The source.
        photos: What is explained; each with a stranger.
        calls: Where.
    """

    def directions(e: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        mates, strangers = (
            torch.from_numpy(np.stack(found)).to(e)
            for found in zip(*((p.reference, p.stranger) for p in photos), strict=True)
        )
        return directions_of(e, mates) - directions_of(e, strangers)

    return cams_along(cam, recognizer, photos, calls, directions)


def cams_along(
    cam: GradientMethod,
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    calls: Sequence[int],
    directions: Callable[[Tensor], Tensor],
) -> Float[np.ndarray, "n h w"]:
    """CAMs of any objective of the embeddings.

    Args:
        cam: What makes a map of activation and gradient.
        recognizer: The source.
        photos: What is explained.
        calls: Where. A group of layers: the mean of the layers' scaled maps.
        directions: Raw embeddings [n, d] in float64 to the objective's gradient there.
    """
    frames = np.stack([photo.frame for photo in photos])
    table, size = recognizer.layers(), (frames.shape[1], frames.shape[2])
    options = cam.resolve_options({})
    total = torch.zeros(len(photos), *size)
    with recognizer.capture(frames, calls) as captured:
        found = directions(captured.embeddings.double())
        gradients = captured.gradients(found.to(captured.embeddings))
        for call in calls:
            raw = [captured.activations[call]], [gradients[call]]
            made, _ = cam.maps_at([table.calls[call - 1]], *raw, options)
            scaled, _ = minmax_normalize(made)
            total += recognizer.preprocessing.to_frame(scaled.float().cpu(), size)
    return (total / len(calls)).numpy()


def _method(name: str) -> PhotoGradientMethod:
    def maps(
        recognizer: WhiteBox,
        photos: Sequence[Photo],
        *,
        options: Options,
        calls: Sequence[int],
        pixels: int,
    ) -> np.ndarray:
        cam = METHODS[name]
        assert isinstance(cam, GradientMethod)
        return triplet_maps(cam, recognizer, photos, calls)

    return PhotoGradientMethod(
        f"triplet-{name}",
        maps,
        version=1,
        passes=lambda options: (1, 1),
        layer=True,
        gallery=True,
    )


for _name in ("grad-cam", "grad-cam++"):
    METHODS.add(f"triplet-{_name}", _method(_name))
