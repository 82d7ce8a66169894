"""Masks of a shape: pixels, cells of a grid, or a few blocks (Protocol: shapes).

Pixels that are scattered over a face hide best, and nobody can wear them. Every shape hides
exactly k pixels, so that what coherence costs can be said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from facefocus.occlusion.masks import Shaped, cut, finite, nested_masks, top_pixels
from facefocus.occlusion.patch_layout import least_side, random_patches

Shape = Literal["pixels", "cells", "patches"]

pixels = top_pixels


def shaped(shape: str) -> Shaped:
    """What makes masks of a shape that a map alone determines: ``pixels`` or ``cells``."""
    return {"pixels": nested_masks, "cells": nested_cells}[shape]


def cells(
    saliency: Float[np.ndarray, "h w"], k: int, rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """The squares of a grid with the largest mean, the last one trimmed to exactly `k` pixels.

    A square is 1/16 of the frame's shorter side wide, 7 of 112 pixels; those at the right and
    lower border may be narrower. Of the last one the first missing pixels are taken, row by row.

    Args:
        saliency: Larger means hide first.
        k: Pixels to hide.
        rng: For ties.

    Raises:
        ValueError: The map holds a value that is not finite, or `k` is not in [0, h * w].

    Example:
        >>> saliency = np.zeros((32, 32))
        >>> saliency[2:4, 4:6] = 1
        >>> mask = cells(saliency, 3, np.random.default_rng(0))
        >>> np.argwhere(mask).tolist()
        [[2, 4], [2, 5], [3, 4]]
    """
    mask: np.ndarray = nested_cells(saliency, [k], rng)[0]
    return mask


def nested_cells(
    saliency: Float[np.ndarray, "h w"], counts: Sequence[int], rng: np.random.Generator
) -> Bool[np.ndarray, "b h w"]:
    """`cells` for each of some counts; one random order breaks all ties, so that they are nested.

    Raises:
        ValueError: As `cells`.
    """
    values, numbers = finite(saliency), _cell_numbers(saliency.shape)
    means = np.bincount(numbers, weights=values) / np.bincount(numbers)
    order = rng.permutation(means.size)
    ranks = np.empty(means.size, dtype=np.int64)
    ranks[order[np.argsort(-means[order], kind="stable")]] = np.arange(means.size)
    # Stable: within a cell, row by row.
    return cut(np.argsort(ranks[numbers], kind="stable"), counts, saliency.shape)


def random_mask(
    shape: str, k: int, region: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """A mask of a shape that knows nothing: exactly `k` pixels at random places of a region.

    Each set of pixels or of cells is equally likely; see `random_patches`. What has no room in the
    region lies beside it.

    Args:
        shape: ``pixels``, ``cells`` or ``patches``.
        k: Pixels to hide.
        region: Where; a cell has half of its pixels there, a rectangle its center.
        rng: Of the draws.

    Raises:
        ValueError: `k` is not in [0, h * w].

    Example:
        >>> region = np.zeros((32, 32), bool)
        >>> region[8:24, 8:24] = True
        >>> mask = random_mask("cells", 16, region, np.random.default_rng(0))
        >>> mask.sum(), (mask & ~region).any()
        (np.int64(16), np.False_)
    """
    if shape == "patches":
        return random_patches(k, region, rng)
    if shape == "pixels":
        return pixels(region.astype(np.float64), k, rng)
    numbers = _cell_numbers(region.shape)
    shares = np.bincount(numbers, weights=region.ravel()) / np.bincount(numbers)
    inside = (shares >= 0.5)[numbers].astype(np.float64)
    return cells(inside.reshape(region.shape), k, rng)


def _cell_numbers(shape: tuple[int, int]) -> Int[np.ndarray, " pixels"]:
    """The cell of every pixel, row by row."""
    side = least_side(shape)
    rows, columns = np.arange(shape[0]) // side, np.arange(shape[1]) // side
    numbers: np.ndarray = (rows[:, None] * (columns[-1] + 1) + columns).ravel()
    return numbers
