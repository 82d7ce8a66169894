"""Integrated gradients from the fill to the photo (Protocol: photo-maps)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import METHODS, Whole
from facefocus.saliency.photo_maps import (
    Photo,
    PhotoGradientMethod,
    similarity_gradients,
    stacked_frames,
)


def integrated_gradients(
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> Float64[np.ndarray, "n h w"]:
    """Integrated gradients (Sundararajan et al., 2017, equation 1) of a photo's similarity.

    sum over channels of (x - x') times the mean gradient along the straight path from x' to x, in
    0-255. The baseline x' is what the fill leaves of a photo that is hidden whole. The mean is over
    the middles of `steps` equal parts (the authors take their right ends), so the values of a map
    add up to the similarity of x less that of x', but for what a sum of few parts misses.

    Args:
        recognizer: The source.
        photos: What is explained; each with a fill.
        options: ``steps``: parts of the path.
        calls: Not used.
        pixels: Not used.

    Returns:
        Signed attributions in the frame.
    """
    steps = int(options["steps"])
    ends = stacked_frames(photos)
    starts = np.stack([photo.baseline for photo in photos]).astype(np.float32)
    total = np.zeros(ends.shape)
    for step in range(steps):
        share = np.float32((step + 0.5) / steps)
        total += similarity_gradients(recognizer, photos, starts + share * (ends - starts))
    attributions: np.ndarray = ((ends - starts) * (total / steps)).sum(axis=3)
    return attributions


METHODS.add(
    "integrated-gradients",
    PhotoGradientMethod(
        "integrated-gradients",
        integrated_gradients,
        version=1,
        passes=lambda options: (int(options["steps"]), int(options["steps"])),
        options={"steps": Whole("20", 1, 10_000)},
        needs_fill=True,
    ),
)
