"""Grad-CAM and Grad-CAM++ of a triplet: the person's photos against somebody else (photo-maps)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Options
from facefocus.saliency.identity import minmax_normalize
from facefocus.saliency.mated_gradients import directions_of
from facefocus.saliency.methods import METHODS, GradientMethod, Option
from facefocus.saliency.photo_maps import Photo, PhotoGradientMethod

#: (raw embeddings [n, d] in float64, their photos, all options) -> the objective's gradient there.
Directions = Callable[[Tensor, Sequence[Photo], Options], Tensor]


def triplet_directions(
    e: Float[Tensor, "n d"], photos: Sequence[Photo], options: Options
) -> Float[Tensor, "n d"]:
    """Gradient of cos(photo, mates) - cos(photo, stranger).

    Chen et al. (WACV 2020) adapt Grad-CAM to embeddings by the triplet loss
    max(0, d(a, p) - d(a, n) + m). Of unit embeddings, d = 2 - 2 cos, so the gradient of an active
    triplet is that of this objective, up to its factor. They average the weights over sampled
    triplets; Grad-CAM's weights are linear in the gradient, so the mean reference does the same for
    the positives. The negative is the most similar of up to 64 photos of other people, since easy
    ones are not active.
    """
    mates, strangers = (
        torch.from_numpy(np.stack(embeddings)).to(e)
        for embeddings in zip(*((p.reference, p.stranger) for p in photos), strict=True)
    )
    return directions_of(e, mates) - directions_of(e, strangers)


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
        pulls = directions(captured.embeddings.double())
        gradients = captured.gradients(pulls.to(captured.embeddings))
        for call in calls:
            raw = [captured.activations[call]], [gradients[call]]
            made, _ = cam.maps_at([table.calls[call - 1]], *raw, options)
            scaled, _ = minmax_normalize(made)
            total += recognizer.preprocessing.to_frame(scaled.float().cpu(), size)
    return (total / len(calls)).numpy()


def photo_cam(
    label: str, cam: str, directions: Directions, options: Mapping[str, Option] | None = None
) -> PhotoGradientMethod:
    """The method that takes the CAM called `cam` of another objective, by the name `label`."""

    def maps(
        recognizer: WhiteBox,
        photos: Sequence[Photo],
        *,
        options: Options,
        calls: Sequence[int],
        pixels: int,
    ) -> np.ndarray:
        method = METHODS[cam]
        assert isinstance(method, GradientMethod)
        return cams_along(
            method, recognizer, photos, calls, lambda e: directions(e, photos, options)
        )

    return PhotoGradientMethod(
        label,
        maps,
        version=1,
        passes=lambda options: (1, 1),
        options=options or {},
        layer=True,
        gallery=True,
    )


for _name in ("grad-cam", "grad-cam++"):
    METHODS.add(f"triplet-{_name}", photo_cam(f"triplet-{_name}", _name, triplet_directions))
