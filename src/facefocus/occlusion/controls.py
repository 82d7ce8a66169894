"""Controls: masks of the same area that know nothing of the person (Protocol: controls).

Hiding scattered pixels hurts recognition by itself, so a method is credited only with its drop
beyond a control of equal area and, for `shifted`, of equal shape. Every control returns exactly
as many pixels as the mask it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Bool, Float, Float64, Int

from facefocus.core.registry import Registry
from facefocus.core.seeds import generator

#: ``control(mask [h,w] bool, generator) -> mask [h,w] bool`` with as many pixels.
Control = Callable[[np.ndarray, np.random.Generator], np.ndarray]

CONTROLS: Registry[Control] = Registry("control")

#: Controls that are made from the maps of other people: another identity's mask, the mask of the
#: population's mean map, and that of the person's own map and the population's mixed. The last is
#: no control to beat: it asks whether a person's map adds to everybody's (Protocol: controls).
SHARED = ("other", "population", "blend")

#: Those of them that there is one of, not drawn.
UNDRAWN = ("population", "blend")

#: Photos of which a person's own map is made where it weighs as much as everybody's in `blend`.
#: Set, not fitted; part of the keys of its scores.
BLEND_PHOTOS = 6

#: Side of a random block as a share of the frame's shorter side: 8 of 112 pixels.
BLOCK_SIDE = 1 / 14


@CONTROLS.register("shifted")
def shifted(mask: Bool[np.ndarray, "h w"], rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """The same mask shifted on the torus: uniform over all shifts but the zero shift."""
    shift = int(rng.integers(1, mask.size)) if mask.size > 1 else 0
    return np.roll(mask, divmod(shift, mask.shape[1]), axis=(0, 1))


@CONTROLS.register("pixels")
def random_pixels(
    mask: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """As many random pixels as the mask has, each set of pixels equally likely."""
    control = np.zeros(mask.size, dtype=bool)
    control[rng.choice(mask.size, size=np.count_nonzero(mask), replace=False)] = True
    return control.reshape(mask.shape)


@CONTROLS.register("blocks")
def random_blocks(
    mask: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """A union of square blocks at random places of the torus, as many pixels as the mask has.

    A block is 1/14 of the frame's shorter side wide. Blocks may overlap; the last one gives only
    its first missing pixels, row by row.
    """
    height, width = mask.shape
    side = max(1, round(BLOCK_SIDE * min(height, width)))
    missing = int(np.count_nonzero(mask))
    control = np.zeros(mask.size, dtype=bool)
    # Every place comes once at most, so the loop ends for every area.
    corners = iter(rng.permutation(mask.size))
    while missing > 0:
        top, left = divmod(int(next(corners)), width)
        rows = (top + np.arange(side)) % height
        block = (rows[:, None] * width + (left + np.arange(side)) % width).ravel()
        new = block[~control[block]][:missing]
        control[new] = True
        missing -= new.size
    return control.reshape(mask.shape)


def blocks_within(
    free: Bool[np.ndarray, "h w"], count: int, rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """`count` pixels of `free`, in square blocks as `random_blocks`; cut off at what is not free.

    Raises:
        ValueError: Fewer than `count` pixels are free.
    """
    if np.count_nonzero(free) < count:
        raise ValueError(f"{count} pixels are wanted, {np.count_nonzero(free)} are free.")
    height, width = free.shape
    side = max(1, round(BLOCK_SIDE * min(height, width)))
    chosen = np.zeros(free.shape, dtype=bool)
    corners = iter(rng.permutation(free.size))
    while (missing := count - np.count_nonzero(chosen)) > 0:
        top, left = divmod(int(next(corners)), width)
        window = np.s_[top : top + side, left : left + side]
        new = np.flatnonzero(free[window] & ~chosen[window])[:missing]
        chosen[window].flat[new] = True
    return chosen


def draw(
    name: str, mask: Bool[np.ndarray, "h w"], number: int, *, seed: int, identity: str
) -> Bool[np.ndarray, "h w"]:
    """Draw `number` of the control called `name`.

    Raises:
        UserError: No control is called `name`.
    """
    return CONTROLS[name](mask, generator(seed, "control", name, identity, number))


def partners(people: int, count: int, rng: np.random.Generator) -> Int[np.ndarray, "count people"]:
    """For every person another one, `count` times: each row is a derangement.

    All people stand in one random circle; draw j pairs each with the one j places on, so nobody
    is paired with the same person twice before everyone has been.

    Raises:
        ValueError: Fewer than two people.
    """
    if people < 2:
        raise ValueError(f"Another identity needs at least 2 people. Got {people}.")
    circle = rng.permutation(people)
    chosen = np.empty((count, people), dtype=np.int64)
    for draw, row in enumerate(chosen):
        row[circle] = np.roll(circle, -(draw % (people - 1) + 1))
    return chosen


def blended(
    own: Float[np.ndarray, "h w"], others: Float[np.ndarray, "h w"], photos: int
) -> Float64[np.ndarray, "h w"]:
    """A person's map mixed with the mean map of others: the more photos, the more of its own.

    The mean of the ranks of both, average ranks for ties, scaled to [0, 1]; the own map weighs
    photos / (photos + 6).

    Args:
        own: The person's map.
        others: The mean map of others.
        photos: How many photos the own map was made of.

    Example:
        >>> own, others = np.array([[1.0, 5.0, 9.0]]), np.array([[3.0, 2.0, 2.0]])
        >>> blended(own, others, 6)
        array([[0.5  , 0.375, 0.625]])
    """
    weight = photos / (photos + BLEND_PHOTOS)
    first, second = (
        (scipy.stats.rankdata(values).reshape(own.shape) - 1) / max(values.size - 1, 1)
        for values in (own, others)
    )
    mixed: np.ndarray = weight * first + (1 - weight) * second
    return mixed


def run_sums(maps: Float[np.ndarray, "n h w"]) -> Float64[np.ndarray, "runs h w"]:
    """Sums of runs of about sqrt(n) maps: input of `mean_of_others`."""
    starts = np.arange(0, len(maps), max(1, math.isqrt(len(maps))))
    sums: np.ndarray = np.add.reduceat(maps, starts, axis=0, dtype=np.float64)
    return sums


def mean_of_others(
    maps: Float[np.ndarray, "n h w"], left_out: int, sums: Float64[np.ndarray, "runs h w"]
) -> Float64[np.ndarray, "h w"]:
    """The mean of all maps but that in row `left_out`.

    Nothing is subtracted: a rounding that depends on the map left out would order pixels at which
    all others are equal by that very map.

    Args:
        maps: At least two.
        left_out: A row.
        sums: Their `run_sums`.
    """
    size = max(1, math.isqrt(len(maps)))
    run = left_out // size
    near = np.arange(run * size, min(len(maps), (run + 1) * size))
    total = np.delete(sums, run, axis=0).sum(axis=0)
    total += maps[near[near != left_out]].sum(axis=0, dtype=np.float64)
    mean: np.ndarray = total / (len(maps) - 1)
    return mean
