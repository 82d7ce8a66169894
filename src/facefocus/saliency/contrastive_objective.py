"""Methods whose objective sets the person's photos against a whole gallery (Protocol: photo-maps).

Softmax over the gallery asks what makes a photo nearer to its person than to everybody else: what
all faces share has no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facefocus.models.layers import placement
from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Options
from facefocus.saliency.mated_gradients import directions_of, inputs_of
from facefocus.saliency.methods import METHODS, Whole
from facefocus.saliency.occlusion_gradient import content_of_blocks
from facefocus.saliency.photo_maps import Photo, PhotoGradientMethod, stacked_frames
from facefocus.saliency.triplet_grad_cam import photo_cam

#: The temperature of the softmax, in hundredths of the cosine.
TEMPERATURE = {"temperature": Whole("10", 1)}


def contrastive_directions(
    e: Float[Tensor, "n d"], photos: Sequence[Photo], options: Options
) -> Float[Tensor, "n d"]:
    """Gradient of log softmax of each photo's similarity to its person, over the gallery.

    S = log(exp(u r / T) / (exp(u r / T) + sum_k exp(u g_k / T))), u the unit embedding, r the mean
    of the person's other photos and g_k the photos of other people. With p the share of r and p_k
    those of the g_k, T dS/du = (1 - p) r - sum_k p_k g_k.

    Args:
        e: Raw embeddings of the photos.
        photos: Each with a gallery.
        options: ``temperature``: T in hundredths.
    """
    temperature = int(options["temperature"]) / 100
    units = e / torch.linalg.vector_norm(e, dim=1, keepdim=True)
    pulls = []
    for u, photo in zip(units, photos, strict=True):
        assert photo.gallery is not None
        own, others = (torch.from_numpy(x).to(e) for x in (photo.reference, photo.gallery))
        every = torch.cat([own[None], others])
        shares = torch.softmax((every * u).sum(dim=1) / temperature, dim=0)
        pulls.append(own - (shares[:, None] * every).sum(dim=0))
    return directions_of(e, torch.stack(pulls)) / temperature


def contrastive_occlusion_gradient(
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> Float[np.ndarray, "n h w"]:
    """The occlusion gradient of one step, of the contrastive objective.

    map = sum_c g_c (x_c - content_c): what hiding a pixel by the fill takes, to first order.
    """
    frames = stacked_frames(photos)
    device, _ = placement(recognizer.module)
    at = torch.from_numpy(frames).to(device).requires_grad_()
    e = recognizer.module(inputs_of(recognizer, at))
    along = contrastive_directions(e.detach().double(), photos, options)
    (gradient,) = torch.autograd.grad(e, at, along.to(e))
    contents = []
    for photo in photos:
        assert photo.hide is not None
        contents.append(content_of_blocks(photo.hide, np.zeros(frames.shape[1:3], bool), 1)[0])
    difference = frames.astype(np.float64) - np.stack(contents)
    effects: np.ndarray = (gradient.double().cpu().numpy() * difference).sum(axis=3)
    return effects


for _name in ("grad-cam", "grad-cam++", "layer-cam"):
    _label = f"contrastive-{_name}"
    METHODS.add(_label, photo_cam(_label, _name, contrastive_directions, TEMPERATURE))

METHODS.add(
    "contrastive-occlusion-gradient",
    PhotoGradientMethod(
        "contrastive-occlusion-gradient",
        contrastive_occlusion_gradient,
        version=1,
        passes=lambda options: (1, 1),
        options=TEMPERATURE,
        needs_fill=True,
        gallery=True,
    ),
)
