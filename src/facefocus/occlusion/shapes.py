"""Masks of a shape: pixels, cells of a grid, or a few blocks (Protocol: shapes).

Pixels that are scattered over a face hide best, and nobody can wear them. Every shape hides
exactly k pixels, so that what coherence costs can be said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from facefocus.occlusion.masks import Shaped, check_count, cut, finite, nested_masks, top_pixels

Shape = Literal["pixels", "cells", "patches"]
#: ``score(masks [n,h,w] bool) -> [n]``: what is left of recognition under each mask.
Score = Callable[[np.ndarray], np.ndarray]

#: Side of a cell, and least side of a block, as a share of the frame's shorter side: 7 of 112.
CELL = 1 / 16
#: Blocks of a mask, at most, and blocks that are scored before one of them is taken.
BLOCKS, SHORTLIST = 6, 24
#: Heights of the blocks to their widths.
ASPECTS = (1.0, 2.0, 0.5)

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
    height, width = saliency.shape
    values = finite(saliency)
    side = cell_side((height, width))
    rows, columns = np.arange(height) // side, np.arange(width) // side
    numbers = (rows[:, None] * (columns[-1] + 1) + columns).ravel()
    means = np.bincount(numbers, weights=values) / np.bincount(numbers)
    order = rng.permutation(means.size)
    place = np.empty(means.size, dtype=np.int64)
    place[order[np.argsort(-means[order], kind="stable")]] = np.arange(means.size)
    # Stable: within a cell, row by row.
    return cut(np.argsort(place[numbers], kind="stable"), counts, (height, width))


def patches(
    saliency: Float[np.ndarray, "h w"],
    k: int,
    score: Score,
    *,
    blocks: int = BLOCKS,
    shortlist: int = SHORTLIST,
) -> Bool[np.ndarray, "h w"]:
    """At most `blocks` rectangles of at least 7 x 7 of 112 pixels, exactly `k` pixels in all.

    Greedy: of a shortlist of rectangles, those with the largest mean of the map over what they
    would newly hide, the one with the lowest score is taken, again and again. A rectangle has the
    area that is left divided by the rectangles that are left, or 7 x 7 where that is more, and is
    once or twice as high as wide, or half. Rectangles may overlap. The last one is trimmed: the
    first missing pixels, row by row.

    Args:
        saliency: Larger means hide first.
        k: Pixels to hide.
        score: What is left of recognition under each of some masks: lower is better.
        blocks: Rectangles, at most.
        shortlist: Rectangles that are scored before one is taken.

    Raises:
        ValueError: The map holds a value that is not finite, `k` is not in [0, h * w], or `blocks`
            or `shortlist` is below 1.

    Example:
        >>> saliency = np.zeros((32, 32))
        >>> saliency[10:14, 20:24] = 1
        >>> inner = lambda masks: -masks[:, 10:14, 20:24].sum(axis=(1, 2))
        >>> mask = patches(saliency, 16, inner, blocks=1)
        >>> mask.sum(), mask[10:14, 20:24].all()
        (np.int64(16), np.True_)
    """
    values = finite(saliency).reshape(saliency.shape)
    check_count(k, values.size)
    for name, value in (("blocks", blocks), ("shortlist", shortlist)):
        if value < 1:
            raise ValueError(f"The {name} must be at least 1. Got {value}.")
    mask = np.zeros(values.shape, dtype=bool)
    for left in range(blocks, 0, -1):
        missing = k - int(np.count_nonzero(mask))
        if missing == 0:
            break
        tried = np.stack(
            [
                _with_block(mask, block, missing)
                for block in _shortlist(values, mask, missing, left, shortlist)
            ]
        )
        scores = np.asarray(score(tried), dtype=np.float64)
        mask = tried[int(np.argmin(scores))]
    return mask


#: Top, left, height and width of a rectangle.
_Block = tuple[int, int, int, int]


def cell_side(shape: tuple[int, int]) -> int:
    """Side of a cell in pixels: 7 of 112."""
    return max(1, round(CELL * min(shape)))


def _with_block(mask: np.ndarray, block: _Block, missing: int) -> np.ndarray:
    """The mask and a rectangle, of which at most the first `missing` new pixels, row by row."""
    top, left, height, width = block
    grown = mask.copy()
    window = grown[top : top + height, left : left + width]
    new = np.flatnonzero(~window)[:missing]
    window.flat[new] = True
    return grown


def _shortlist(
    values: np.ndarray, mask: np.ndarray, missing: int, left: int, count: int
) -> list[_Block]:
    """The `count` rectangles with the largest mean over new pixels, no two nearly the same."""
    least = cell_side(values.shape)
    area = max(least * least, math.ceil(missing / left))
    found = np.empty((0, 5))
    while len(found) == 0:
        # The last rectangle has to bring all that is missing: it grows until one can.
        found = np.concatenate(
            [
                _ranked(values, mask, sides, min(missing, _enough(sides, left)))
                for sides in _sides(area, least, values.shape)
            ]
        )
        area += max(least, area // 4)
    chosen: list[_Block] = []
    for row in np.argsort(-found[:, 0], kind="stable"):
        top, beginning, height, width = (int(value) for value in found[row, 1:])
        near = max(1, min(height, width) // 3)
        if all(
            (height, width) != other[2:]
            or max(abs(top - other[0]), abs(beginning - other[1])) >= near
            for other in chosen
        ):
            chosen.append((top, beginning, height, width))
        if len(chosen) == count:
            break
    return chosen


def _enough(sides: tuple[int, int], left: int) -> int:
    """New pixels that a rectangle has to hide: half of its own; the last one all that can be."""
    area = sides[0] * sides[1]
    return area if left == 1 else (area + 1) // 2


def _sides(area: int, least: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Heights and widths of rectangles of at least an area, inside a frame."""
    sides = set()
    for aspect in ASPECTS:
        height = min(max(least, math.ceil(math.sqrt(area * aspect))), shape[0])
        width = min(max(least, math.ceil(area / height)), shape[1])
        height = min(max(height, math.ceil(area / width)), shape[0])
        sides.add((height, width))
    return sorted(sides)


def _ranked(
    values: np.ndarray, mask: np.ndarray, sides: tuple[int, int], enough: int
) -> Float[np.ndarray, "n 5"]:
    """Mean over new pixels, top, left, height, width of rectangles with `enough` new pixels."""
    new = _window_sums((~mask).astype(np.float64), sides)
    totals = _window_sums(np.where(mask, 0.0, values), sides)
    tops, lefts = np.nonzero(new >= enough)
    means = totals[tops, lefts] / new[tops, lefts]
    return np.stack([means, tops, lefts, *(np.full(len(tops), side) for side in sides)], axis=1)


def _window_sums(values: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Sums over all windows of a height and width inside the frame."""
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    sums[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    height, width = sides
    windows: np.ndarray = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
    ) + sums[:-height, :-width]
    return windows
