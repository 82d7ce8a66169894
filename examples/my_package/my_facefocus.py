"""A saliency method, a fill and a recognizer in a package of their own.

``pyproject.toml`` makes them known; nothing of facefocus is changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from facefocus.saliency.methods import GradientMethod, Options


def product_cam(activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
    """Maps [n, h, w] from activation and gradient [n, K, h, w]: the size of their product."""
    return (activation * gradient).sum(dim=1).abs()


# Raise `version` whenever the same input gives another map: old maps are then made anew.
PRODUCT_CAM = GradientMethod("product-cam", product_cam, version=1, scale_invariant=True)


def shuffle(frames: np.ndarray, rngs: Sequence[np.random.Generator]) -> np.ndarray:
    """Content [n, h, w, 3] uint8: each image's own pixels in random order."""
    content = np.empty_like(frames)
    for target, frame, rng in zip(content, frames, rngs, strict=True):
        target[...] = rng.permutation(frame.reshape(-1, 3)).reshape(frame.shape)
    return content


class Thumbnail:
    """A black box: name, fingerprint and `embed` are all that a recognizer needs."""

    name = "thumbnail"
    fingerprint = "thumbnail 1"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        """Embeddings float32 [n, d] of RGB frames uint8 [n, h, w, 3]: 8x8 mean colors."""
        rows = (_thumbnail(frame) for frame in frames)
        return np.array([row - row.mean() for row in rows], np.float32).reshape(len(frames), -1)


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    strips = np.array_split(frame.astype(np.float64), 8, axis=0)
    cells = [cell for strip in strips for cell in np.array_split(strip, 8, axis=1)]
    return np.array([cell.mean(axis=(0, 1)) for cell in cells])
