"""xSSAB: gradients of what speaks for a match and of what speaks against it (photo-maps)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64

from facefocus.models.layers import placement
from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Options
from facefocus.saliency.mated_gradients import inputs_of
from facefocus.saliency.methods import METHODS, Whole
from facefocus.saliency.photo_maps import Photo, PhotoGradientMethod, stacked_frames


def xssab(
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> Float64[np.ndarray, "n h w"]:
    """xSSAB (Huber et al., WACV 2024, arXiv 2304.13409): similarity score argument backpropagation.

    The D features of the cosine, v = u_a * u_b elementwise, are split at t / D, t the threshold of
    a match: those of at least that speak for a match, the others against it. The sums of both sets
    are propagated back to the photo, u_b held. map = mean over channels of abs(gradient of the sum
    for) - mean over channels of abs(gradient of the sum against). A photo is explained against each
    other one, since the split depends on both.

    Args:
        recognizer: The source.
        photos: What is explained.
        options: ``threshold``: t in hundredths of the cosine.
        calls: Not used.
        pixels: Not used.
    """
    device, _ = placement(recognizer.module)
    frames = torch.from_numpy(stacked_frames(photos)).to(device).requires_grad_()
    embeddings = recognizer.module(inputs_of(recognizer, frames)).double()
    units = embeddings / torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    references = torch.from_numpy(np.stack([photo.reference for photo in photos])).to(device)
    products = units * references
    bound = int(options["threshold"]) / 100 / embeddings.shape[1]
    speaks_for = products.detach() >= bound
    magnitudes = []
    for chosen in (speaks_for, ~speaks_for):
        total = (products * chosen).sum()
        (gradient,) = torch.autograd.grad(total, frames, retain_graph=True)
        magnitudes.append(gradient.double().abs().mean(dim=3).cpu().numpy())
    maps: np.ndarray = magnitudes[0] - magnitudes[1]
    return maps


METHODS.add(
    "xssab",
    PhotoGradientMethod(
        "xssab",
        xssab,
        version=1,
        passes=lambda options: (1, 2),
        options={"threshold": Whole("25", 0, 100)},
        each_pair=True,
    ),
)
