"""S-RISE and CorrRISE: masks and what the similarities under them say (Protocol: perturbation).

The many sums over masks are matrix products, made where the masks are, on a GPU or here, and no
library promises the order of additions. Here it cannot matter: masks are multiples of `STEP`, and
weights are rounded to a grid so coarse that every partial sum is a float64 without rounding.
Results are then bit-identical for any number of threads, groups and pairs, and on any device. The
grid is 2^-26 for 1000 masks, finer than float32 embeddings are, and twice as wide for twice as many
masks, over which its errors average out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
import scipy
import torch
from jaxtyping import Float32, Float64, Int
from torch import Tensor

from facefocus.models.occluded_frames import sent
from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import (
    METHODS,
    Choice,
    DeviceMasks,
    Masks,
    PerturbationMethod,
    Whole,
)

#: S-RISE: cells per side of the grid, and the probability that a cell is kept.
GRID = 8
KEEP = 0.5
#: CorrRISE: patches per mask, and their side as a share of the frame's: 30 of 112 pixels.
PATCHES = 10
PATCH = 30 / 112
#: Masks are multiples of this, 256 times finer than a level of the frame.
STEP = 2.0**-16
#: Pixels times masks whose ranks are computed at once (0.5 GB); changes no result.
RANKED = 2**23


# Masks --------------------------------------------------------------------------------------------


def rise_masks(
    rng: np.random.Generator, count: int, frame: tuple[int, int], options: Options
) -> Float32[np.ndarray, "g h w"]:
    """RISE masks (Petsiuk et al., 2018, section 3.3): smooth, each pixel `KEEP` on average.

    A Bernoulli grid of 8 x 8 is upsampled bilinearly to 9 x 9 cells of ceil(side / 8) pixels, of
    which a frame at a uniform shift of less than a cell is cut out.
    """
    return rise_masks_on(rng, count, frame, options, torch.device("cpu")).numpy()


def rise_masks_on(
    rng: np.random.Generator,
    count: int,
    frame: tuple[int, int],
    options: Options,
    device: torch.device,
) -> Float32[Tensor, "g h w"]:
    """`rise_masks` of a device, which is sent their grids and shifts: 64 bits and two numbers each.

    The same bits on every device: whole numbers all the way, so that nothing is rounded before the
    last lines, whatever computes the products.
    """
    grids = rng.random((count, GRID, GRID)) < KEEP
    shifts = [_shifts(rng, count, side) for side in frame]
    rows, columns = (
        sent(torch.from_numpy(_interpolation(side)), device)[_windows(start, side, device)]
        for start, side in zip(shifts, frame, strict=True)
    )
    sums = rows @ (sent(torch.from_numpy(grids), device).double() @ columns.mT)
    sums *= 1.0 / (_denominator(frame[0]) * _denominator(frame[1]) * STEP)
    return (sums.round_() * STEP).float()


def _cell(side: int) -> int:
    return -(-side // GRID)


def _denominator(side: int) -> int:
    return 2 * (GRID + 1) * _cell(side)


@cache
def _interpolation(side: int) -> Float64[np.ndarray, "upsampled grid"]:
    """Bilinear weights (pixel centers, clamped edges) times their common denominator."""
    upsampled, denominator = (GRID + 1) * _cell(side), _denominator(side)
    centers = (2 * np.arange(upsampled) + 1) * GRID - upsampled
    low, rest = np.divmod(np.clip(centers, 0, (GRID - 1) * denominator), denominator)
    weights = np.zeros((upsampled, GRID))
    weights[np.arange(upsampled), low] = denominator - rest
    weights[np.arange(upsampled), np.minimum(low + 1, GRID - 1)] += rest
    return weights


def rise_weights(side: int) -> Float64[np.ndarray, "shifts side grid"]:
    """How much each cell of the grid weighs at each place along a side, for every shift."""
    weights = _interpolation(side) / _denominator(side)
    return np.stack([weights[shift : shift + side] for shift in range(_cell(side))])


def _shifts(rng: np.random.Generator, count: int, side: int) -> Int[np.ndarray, " g"]:
    """Where the frame begins in each upsampled grid."""
    return rng.integers(0, _cell(side), count)


def _windows(starts: Int[np.ndarray, " g"], side: int, device: torch.device) -> Tensor:
    """A window of `side` pixels from each start [g, side]."""
    return sent(torch.from_numpy(starts), device)[:, None] + torch.arange(side, device=device)


def patch_masks(
    rng: np.random.Generator,
    count: int,
    frame: tuple[int, int],
    options: Options,
    patches: int | None = None,
) -> Float32[np.ndarray, "g h w"]:
    """CorrRISE masks (Lu et al., 2024): ones with 10 patches, each fully inside, that may overlap.

    Args:
        rng: Draws them.
        count: How many.
        frame: Height and width; a patch is 30/112 of each, to the nearest pixel.
        options: ``fill``: ``black``: 0 in a patch; ``uniform``: every pixel of a patch its own
            value, uniform in [0, 1).
        patches: Another number of patches.
    """
    return patch_masks_on(rng, count, frame, options, torch.device("cpu"), patches).numpy()


def patch_masks_on(
    rng: np.random.Generator,
    count: int,
    frame: tuple[int, int],
    options: Options,
    device: torch.device,
    patches: int | None = None,
) -> Float32[Tensor, "g h w"]:
    """`patch_masks` of a device, which is sent their corners; the same bits on every device."""
    each = PATCHES if patches is None else patches
    sizes = [patch_side(side) for side in frame]
    corners = [
        rng.integers(0, side - size + 1, (count, each))
        for side, size in zip(frame, sizes, strict=True)
    ]
    rows, columns = (
        _within(sent(torch.from_numpy(corner), device), size, side)
        for corner, size, side in zip(corners, sizes, frame, strict=True)
    )
    # Small whole numbers: how many patches lie on a pixel.
    masks = (rows.mT @ columns == 0).float()
    if options["fill"] == "uniform":
        values = rng.integers(0, round(1 / STEP), masks.shape).astype(np.float32)
        values *= STEP
        masks = torch.maximum(masks, sent(torch.from_numpy(values), device))
    return masks


def patch_side(side: int) -> int:
    """Side of a patch of CorrRISE along a side of the frame, in pixels."""
    return max(1, math.floor(PATCH * side + 0.5))


def _within(
    corners: Int[Tensor, "g patches"], size: int, side: int
) -> Float32[Tensor, "g patches side"]:
    """1 where a patch lies along an axis of the frame, else 0."""
    beyond = torch.arange(side, device=corners.device) - corners[..., None]
    return ((beyond >= 0) & (beyond < size)).float()


# Maps ---------------------------------------------------------------------------------------------


def weighted_mean(
    similarities: Float64[np.ndarray, "p n"], masks: Masks
) -> Float64[np.ndarray, "p pixels"]:
    """S-RISE: sum_n w_n M_n / (N p).

    ``weights = "plain"``: w_n is the similarity under mask M_n, as published. All of them are far
    from 0, so the sum mostly shows how often each pixel was kept: of two seeds' identity maps
    (mobilefacenet-ms1m, 3 people of 4 images of LFW, 1000 masks) it correlates by .70, .69, .59.
    ``"centered"``: w_n is the similarity minus its mean over the masks, a control variate that
    changes the map's expectation by the same amount everywhere: .95, .91, .94. Dividing the plain
    sum by the pixel's coverage gives .95, .91, .94, too.
    """
    plain = dict(masks.options)["weights"] == "plain"
    # Differences of cosines are in [-2, 2].
    weights = similarities if plain else (similarities - _means(similarities)) / 2
    weights = _on_grid(weights, round(1 / STEP)) * (1 if plain else 2)
    return products(weights, masks) / (masks.count * KEEP)


def correlation(
    similarities: Float64[np.ndarray, "p n"], masks: Masks
) -> Float64[np.ndarray, "p pixels"]:
    """CorrRISE: positive part of each pixel's correlation with the similarity over the masks.

    0 where the pixel or the similarity does not vary. Pearson's correlation, or with ``rank``
    Spearman's, ties getting their average rank.
    """
    options = dict(masks.options)
    ranked = options["rank"] == "true"
    scores = scipy.stats.rankdata(similarities, axis=1) if ranked else similarities
    # The ranks of a pixel that is 0 or 1 are a + b * value, b > 0: the same correlation.
    if ranked and options["fill"] != "black":
        steps = 2 * masks.count  # halves, where values are tied
        strips = (torch.from_numpy(strip) for strip in _ranked_strips(masks))
        signed = np.concatenate([_pearson(scores, [strip], steps) for strip in strips], axis=1)
    else:
        signed = _pearson(scores, pixel_rows(masks), round(1 / STEP))
    positive: np.ndarray = np.maximum(signed, 0.0)
    return positive


def products(weights: Float64[np.ndarray, "p n"], masks: Masks) -> Float64[np.ndarray, "p pixels"]:
    """Weights times masks, summed where the masks are made.

    The same bits everywhere if no partial sum has to be rounded.

    Example:
        >>> from facefocus.saliency.perturbation import masks_of
        >>> masks = masks_of("s-rise", [("masks", "80")], (8, 8), "photo", 0)
        >>> products(np.full((1, 80), 0.5), masks).shape
        (1, 64)
    """
    total = torch.zeros(len(weights), math.prod(masks.frame), dtype=torch.float64)
    for part, block in _with_columns(weights, pixel_rows(masks)):
        total = total.to(block.device).addmm_(part, block)
    made: np.ndarray = total.cpu().numpy()
    return made


def pixel_rows(masks: Masks) -> Iterator[Float64[Tensor, "g pixels"]]:
    """The blocks of masks, a row for each, where they are made."""
    blocks = masks.tensors() if isinstance(masks, DeviceMasks) else map(torch.from_numpy, masks)
    return (block.flatten(1).double() for block in blocks)


def _ranked_strips(masks: Masks) -> Iterator[Float64[np.ndarray, "n pixels"]]:
    """Ranks over all masks, for a strip of pixels at a time: all at once would need them whole."""
    pixels = math.prod(masks.frame)
    width = max(1, RANKED // masks.count)
    for start in range(0, pixels, width):
        strip = [block.reshape(len(block), -1)[:, start : start + width] for block in masks]
        yield scipy.stats.rankdata(np.concatenate(strip), axis=0) - (masks.count + 1) / 2


def _with_columns(
    weights: Float64[np.ndarray, "p n"], blocks: Iterable[Float64[Tensor, "g pixels"]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each block of masks with the weights that belong to it, where it is."""
    start = 0
    for block in blocks:
        own = np.ascontiguousarray(weights[:, start : start + len(block)])
        yield sent(torch.from_numpy(own), block.device), block
        start += len(block)


def _on_grid(weights: Float64[np.ndarray, "p n"], steps: int) -> Float64[np.ndarray, "p n"]:
    """Weights in [-1, 1] rounded, so that sums with factors of up to `steps` steps are exact."""
    largest = weights.shape[1] * steps
    scale = 2.0 ** (52 - math.ceil(math.log2(largest)))
    return np.rint(weights * scale) / scale


def _pearson(
    scores: Float64[np.ndarray, "p n"], blocks: Iterable[Float64[Tensor, "g pixels"]], steps: int
) -> Float64[np.ndarray, "p pixels"]:
    """Correlation over n of scores and pixels, 0 where either is constant; in one sweep.

    Args:
        scores: One row per pair.
        blocks: Pixel values, n rows in all, multiples of a power of two; their sums are made where
            they are.
        steps: Largest absolute pixel value in those multiples.
    """
    count = scores.shape[1]
    weights = _on_grid(_centered(scores), steps)
    totals: list[Tensor] = []
    for part, block in _with_columns(weights, blocks):
        new = part @ block, block.sum(dim=0), (block * block).sum(dim=0)
        pairs = zip(totals or map(torch.zeros_like, new), new, strict=True)
        totals = [total.add_(more) for total, more in pairs]
    cross, first, second = (total.cpu().numpy() for total in totals)
    sums = weights.sum(axis=1, keepdims=True)
    spread = (weights * weights).sum(axis=1, keepdims=True) - sums**2 / count
    variation = second - first**2 / count
    covariation = cross - sums * first / count
    constant = (spread <= 0) | (variation <= 0)
    return np.where(constant, 0.0, covariation / np.sqrt(np.where(constant, 1, spread * variation)))


def _centered(scores: Float64[np.ndarray, "p n"]) -> Float64[np.ndarray, "p n"]:
    """Scores less their mean, the largest deviation scaled to 1: correlation does not see it."""
    deviations = scores - _means(scores)
    largest = np.abs(deviations).max(axis=1, keepdims=True)
    scaled: np.ndarray = deviations / np.where(largest > 0, largest, 1.0)
    return scaled


def _means(scores: Float64[np.ndarray, "p n"]) -> Float64[np.ndarray, "p 1"]:
    means: np.ndarray = scores.mean(axis=1, keepdims=True)
    return means


METHODS.add(
    "s-rise",
    PerturbationMethod(
        name="s-rise",
        draw=rise_masks,
        draw_on=rise_masks_on,
        combine=weighted_mean,
        version=2,
        options={
            "masks": Whole("1000", 2),
            "weights": Choice("centered", ("centered", "plain")),
        },
    ),
)
METHODS.add(
    "corr-rise",
    PerturbationMethod(
        name="corr-rise",
        draw=patch_masks,
        draw_on=patch_masks_on,
        combine=correlation,
        version=2,
        options={
            "masks": Whole("500", 2),
            "fill": Choice("black", ("black", "uniform")),
            "rank": Choice("false", ("false", "true")),
        },
        shaping=("fill",),
    ),
)
