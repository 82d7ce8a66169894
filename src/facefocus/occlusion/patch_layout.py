"""Masks of a few rectangles that somebody could wear or paint (Protocol: shapes)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from facefocus.occlusion.masks import check_count, finite

#: ``score(masks [n,h,w] bool) -> [n]``: what is left of recognition under each mask.
Score = Callable[[np.ndarray], np.ndarray]

#: Least side of a rectangle, and side of a cell, as a share of the frame's shorter side: 7 of 112.
LEAST_SIDE = 1 / 16
#: Rectangles of a mask, at most.
RECTANGLES = 6
#: Layouts that are scored at first, moves that are tried on the best, and moves scored at once.
LAYOUTS, MOVES, AT_ONCE = 48, 96, 4
#: Heights of the rectangles to their widths.
ASPECTS = (1.0, 2.0, 0.5)

#: Top, left, height and width of each of some rectangles.
_Rectangles = Int[np.ndarray, "n 4"]
#: What each rectangle of a mask hides: the last one that was put there may be trimmed.
_Layout = list[np.ndarray]


def least_side(shape: tuple[int, int]) -> int:
    """Side of a cell, and least side of a rectangle, in pixels: 7 of 112."""
    return max(1, round(LEAST_SIDE * min(shape)))


def patches(
    saliency: Float[np.ndarray, "h w"],
    k: int,
    rng: np.random.Generator,
    score: Score | None = None,
    *,
    region: Bool[np.ndarray, "h w"] | None = None,
    rectangles: int = RECTANGLES,
) -> Bool[np.ndarray, "h w"]:
    """At most so many `rectangles` of at least 7 x 7 of 112 pixels, exactly `k` pixels in all.

    A rectangle has the area that is left divided by the rectangles that are left, or 7 x 7 where
    that is more, and is once or twice as high as wide, or half. Rectangles may overlap. The last
    one brings all that is missing and is trimmed: its first missing pixels, row by row.

    Without a score, greedy by the map: again and again the rectangle with the largest mean over
    what it would newly hide. With one, that layout and random ones are scored, and the best is
    improved: a rectangle is lifted and put somewhere else, near by or anywhere, and stays there if
    the score is lower.

    Args:
        saliency: Larger means hide first.
        k: Pixels to hide.
        rng: Draws layouts and moves.
        score: What is left of recognition under each of some masks: lower is better.
        region: Where the centers of rectangles lie, as far as there is room; by default anywhere.
        rectangles: At most.

    Raises:
        ValueError: The map holds a value that is not finite, `k` is not in [0, h * w], or
            `rectangles` is below 1.

    Example:
        >>> saliency = np.zeros((32, 32))
        >>> saliency[10:14, 20:24] = 1
        >>> mask = patches(saliency, 16, np.random.default_rng(0), rectangles=1)
        >>> mask.sum(), mask[10:14, 20:24].all()
        (np.int64(16), np.True_)
    """
    height, width = saliency.shape
    values = finite(saliency).reshape(height, width)
    check_count(k, values.size)
    if rectangles < 1:
        raise ValueError(f"The rectangles must be at least 1. Got {rectangles}.")
    inside = np.ones(values.shape, bool) if region is None else region

    def largest_mean(candidates: _Rectangles, covered: np.ndarray) -> int:
        return int(np.argmax(_means(values, covered, candidates)))

    best = _layout(k, inside, rectangles, largest_mean)
    if score is None or k == 0:
        return _union(best, (height, width))
    drawn = [_random_layout(k, inside, rectangles, rng) for _ in range(LAYOUTS - 1)]
    best, lowest = _lowest(score, [best, *drawn], (height, width))
    for _ in range(MOVES // AT_ONCE):
        moved = [_moved(best, inside, rng) for _ in range(AT_ONCE)]
        layout, left = _lowest(score, moved, (height, width))
        if left < lowest:
            best, lowest = layout, left
    return _union(best, (height, width))


def random_patches(
    k: int, region: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """A mask as `patches` could be that knows nothing: each rectangle at a place drawn among all.

    Args:
        k: Pixels to hide.
        region: Where the centers of rectangles lie, as far as there is room.
        rng: Of the draws.

    Example:
        >>> random_patches(50, np.ones((32, 32), bool), np.random.default_rng(0)).sum()
        np.int64(50)
    """
    check_count(k, region.size)
    return _union(_random_layout(k, region, RECTANGLES, rng), region.shape)


# Layouts ------------------------------------------------------------------------------------------


def _layout(
    k: int,
    region: np.ndarray,
    rectangles: int,
    choose: Callable[[_Rectangles, np.ndarray], int],
) -> _Layout:
    """Rectangles that hide exactly `k` pixels, each chosen of those that hide mostly new ones."""
    made: _Layout = []
    covered = np.zeros(region.shape, bool)
    for left in range(rectangles, 0, -1):
        missing = k - int(np.count_nonzero(covered))
        if missing == 0:
            break
        candidates = _candidates(covered, missing, left, region)
        made.append(_hidden_by(candidates[choose(candidates, covered)], covered, missing))
        covered = covered | made[-1]
    return made


def _random_layout(
    k: int, region: np.ndarray, rectangles: int, rng: np.random.Generator
) -> _Layout:
    return _layout(k, region, rectangles, lambda candidates, _: int(rng.integers(len(candidates))))


def _moved(layout: _Layout, region: np.ndarray, rng: np.random.Generator) -> _Layout:
    """One rectangle lifted and put where it hides as much: half the time near by, else anywhere."""
    lifted = int(rng.integers(len(layout)))
    rest = [hidden for number, hidden in enumerate(layout) if number != lifted]
    covered = _union(rest, region.shape)
    missing = int(np.count_nonzero(_union(layout, region.shape) & ~covered))
    if missing == 0:
        return rest
    candidates = _candidates(covered, missing, 1, region)
    rows, columns = np.nonzero(layout[lifted])
    centers = candidates[:, :2] + candidates[:, 2:] / 2
    away = np.abs(centers - (rows.mean() + 0.5, columns.mean() + 0.5))
    near = np.flatnonzero((away <= candidates[:, 2:] / 2).all(axis=1))
    if len(near) and rng.random() < 0.5:
        candidates = candidates[near]
    return [*rest, _hidden_by(candidates[int(rng.integers(len(candidates)))], covered, missing)]


def _lowest(score: Score, layouts: list[_Layout], shape: tuple[int, int]) -> tuple[_Layout, float]:
    scores = np.asarray(score(np.stack([_union(layout, shape) for layout in layouts])), np.float64)
    best = int(np.argmin(scores))
    return layouts[best], float(scores[best])


def _union(layout: _Layout, shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    return np.logical_or.reduce(layout) if layout else np.zeros(shape, bool)


# Rectangles ---------------------------------------------------------------------------------------


def _hidden_by(rectangle: np.ndarray, covered: np.ndarray, missing: int) -> np.ndarray:
    """The pixels of a rectangle, of those not yet covered at most the first `missing`."""
    top, left, height, width = rectangle.tolist()
    hidden = np.zeros_like(covered)
    window = np.s_[top : top + height, left : left + width]
    new = ~covered[window]
    hidden[window] = ~new | (new & (np.cumsum(new).reshape(new.shape) <= missing))
    return hidden


def _candidates(covered: np.ndarray, missing: int, left: int, region: np.ndarray) -> _Rectangles:
    """All rectangles that may be put next, with their centers in the region where any has.

    One of several that are left hides a half of its own area newly, the last one all that is
    missing: it grows until one can.
    """
    least = least_side(covered.shape)
    area = max(least * least, math.ceil(missing / left))
    free = (~covered).astype(np.float64)
    while True:
        rectangles = []
        for sides in _sides(area, least, covered.shape):
            own = sides[0] * sides[1]
            enough = min(missing, own if left == 1 else (own + 1) // 2)
            corners = np.argwhere(_window_sums(free, sides) >= enough)
            rectangles.append(np.column_stack([corners, np.tile(sides, (len(corners), 1))]))
        there = np.concatenate(rectangles)
        if len(there):
            centers = there[:, :2] + there[:, 2:] // 2
            inside = region[centers[:, 0], centers[:, 1]]
            return there[inside] if inside.any() else there
        area += max(least, area // 4)


def _means(values: np.ndarray, covered: np.ndarray, rectangles: _Rectangles) -> np.ndarray:
    """Mean of a map over the pixels that each rectangle would newly hide."""
    means = np.empty(len(rectangles))
    for height, width in np.unique(rectangles[:, 2:], axis=0).tolist():
        rows = (rectangles[:, 2:] == (height, width)).all(axis=1)
        tops, lefts = rectangles[rows, 0], rectangles[rows, 1]
        totals = _window_sums(np.where(covered, 0.0, values), (height, width))
        new = _window_sums((~covered).astype(np.float64), (height, width))
        means[rows] = totals[tops, lefts] / new[tops, lefts]
    return means


def _sides(area: int, least: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Heights and widths of rectangles of at least an area, inside a frame."""
    sides = set()
    for aspect in ASPECTS:
        height = min(max(least, math.ceil(math.sqrt(area * aspect))), shape[0])
        width = min(max(least, math.ceil(area / height)), shape[1])
        height = min(max(height, math.ceil(area / width)), shape[0])
        sides.add((height, width))
    return sorted(sides)


def _window_sums(values: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Sums over all windows of a height and width inside the frame."""
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    sums[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    height, width = sides
    windows: np.ndarray = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
    ) + sums[:-height, :-width]
    return windows
