"""FAME: what changes where a photo is moved away from its person, step by step (photo-maps)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float64

from facefocus.models.preprocessing import GRAY
from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import METHODS, Choice, Whole
from facefocus.saliency.photo_maps import (
    Photo,
    PhotoGradientMethod,
    similarity_gradients,
    stacked_frames,
)

#: Standard deviation of the blur as a share of the shorter side, cut at 4 of them: that of the fill
#: `blur`.
BLUR = 0.04


def fame(
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> Float64[np.ndarray, "n h w"]:
    """FAME (arXiv 2605.12017): the change that iterated gradient steps make.

    x moves against the gradient g of its similarity, x - g / max abs(g) in 0-255, `steps` times,
    and stays within 0 and 255. map = abs(gray(x_n) - gray(x)), blurred as published unless `blur`
    is false: masks of single pixels are far better without. How wide the blur is, is our choice: a
    Gaussian of 4 % of the shorter side. A photo whose gradient is 0 stays where it is.

    Args:
        recognizer: The source.
        photos: What is explained.
        options: ``steps``, ``blur``.
        calls: Not used.
        pixels: Not used.
    """
    clean = stacked_frames(photos)
    moved = clean.copy()
    for _ in range(int(options["steps"])):
        gradients = similarity_gradients(recognizer, photos, moved)
        largest = np.abs(gradients).max(axis=(1, 2, 3), keepdims=True)
        steps = gradients / np.where(largest == 0, 1, largest)
        moved = np.clip(moved - steps, 0, 255).astype(np.float32)
    change: np.ndarray = np.abs(((moved - clean).astype(np.float64) * GRAY).sum(axis=3))
    if options["blur"] == "false":
        return change
    sigma = BLUR * min(change.shape[1:])
    side = 2 * round(4 * sigma) + 1
    return np.stack(
        [
            cv2.GaussianBlur(each, (side, side), sigma, borderType=cv2.BORDER_REFLECT)
            for each in change
        ]
    )


METHODS.add(
    "fame",
    PhotoGradientMethod(
        "fame",
        fame,
        version=1,
        passes=lambda options: (int(options["steps"]), int(options["steps"])),
        options={"steps": Whole("100", 1, 10_000), "blur": Choice("true", ("true", "false"))},
    ),
)
