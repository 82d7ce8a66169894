"""FGGB: gradients of every feature of the embedding, weighed by what it adds (photo-maps)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64

from facefocus.models.layers import placement
from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Options
from facefocus.saliency.mated_gradients import inputs_of
from facefocus.saliency.methods import METHODS, Choice, Whole
from facefocus.saliency.photo_maps import Photo, PhotoGradientMethod, stacked_frames


def fggb(
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> Float64[np.ndarray, "n h w"]:
    """Feature-guided gradient backpropagation (Lu et al., 2024, arXiv 2403.04549).

    G_k = mean over channels of abs(d u_k / d x), scaled to unit L2 norm, for each of the D features
    of the unit embedding u; S = sum over k of G_k (v_k - t / D), v the elementwise product with the
    reference and t the threshold of a match. `part` sums over all features (``both``), or over
    those whose factor is positive, or over the others with the sign turned (``negative``): the
    paper shows the latter two apart. S is linear in the reference, so that of the mean of a
    person's other photos is the mean of their maps.

    Args:
        recognizer: The source.
        photos: What is explained.
        options: ``threshold``: t in hundredths of the cosine; ``part``.
        calls: Not used.
        pixels: Not used.
    """
    device, _ = placement(recognizer.module)
    frames = torch.from_numpy(stacked_frames(photos)).to(device).requires_grad_()
    embeddings = recognizer.module(inputs_of(recognizer, frames))
    length = embeddings.shape[1]
    norms = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    units = embeddings / norms
    values = units.detach().double().cpu().numpy()
    factors = values * np.stack([photo.reference for photo in photos])
    factors = factors - int(options["threshold"]) / 100 / length
    if options["part"] == "positive":
        factors = np.maximum(factors, 0)
    elif options["part"] == "negative":
        factors = np.maximum(-factors, 0)
    total = np.zeros(frames.shape[:3])
    for k in range(length):
        (gradient,) = torch.autograd.grad(units[:, k].sum(), frames, retain_graph=True)
        magnitude = gradient.double().abs().mean(dim=3).cpu().numpy()
        size = np.sqrt(np.square(magnitude).sum(axis=(1, 2), keepdims=True))
        total += magnitude / np.where(size > 0, size, 1) * factors[:, k, None, None]
    return total


METHODS.add(
    "fggb",
    PhotoGradientMethod(
        "fggb",
        fggb,
        version=1,
        # How long an embedding is, is not known before the work.
        passes=lambda options: (1, 512),
        options={
            "threshold": Whole("25", 0, 100),
            "part": Choice("both", ("both", "positive", "negative")),
        },
    ),
)
