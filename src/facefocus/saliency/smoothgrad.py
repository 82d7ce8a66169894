"""SmoothGrad: gradients of noisy copies of a photo, averaged (Protocol: photo-maps)."""

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

#: Standard deviation of the noise, as a share of the range of the photo's values: the middle of the
#: 10 to 20 % that the authors find best.
NOISE = 0.15


def smoothgrad(
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> Float64[np.ndarray, "n h w"]:
    """SmoothGrad (Smilkov et al., 2017): the mean gradient of `samples` noisy copies.

    The noise is Gaussian, independent for every value of the photo. The map is the sum over
    channels of the absolute mean gradient: how far a small change there moves the similarity. The
    authors leave open whether the sign counts; absolute values are what they show.

    Args:
        recognizer: The source.
        photos: What is explained; each draws its own noise.
        options: ``samples``: noisy copies.
        calls: Not used.
        pixels: Not used.

    Returns:
        Maps in the frame, 0 or more.
    """
    samples, frames = int(options["samples"]), stacked_frames(photos)
    spreads = NOISE * np.ptp(frames, axis=(1, 2, 3))
    # A photo may be there several times, to fill the batch: it draws once.
    rngs = {id(photo): photo.rng for photo in photos}
    total = np.zeros(frames.shape)
    for _ in range(samples):
        drawn = {
            key: rng.standard_normal(frames.shape[1:], np.float32) for key, rng in rngs.items()
        }
        noise = np.stack([drawn[id(photo)] for photo in photos])
        noisy = frames + noise * spreads[:, None, None, None].astype(np.float32)
        total += similarity_gradients(recognizer, photos, noisy)
    maps: np.ndarray = np.abs(total / samples).sum(axis=3)
    return maps


METHODS.add(
    "smoothgrad",
    PhotoGradientMethod(
        "smoothgrad",
        smoothgrad,
        version=1,
        passes=lambda options: (int(options["samples"]), int(options["samples"])),
        options={"samples": Whole("25", 1, 10_000)},
    ),
)
