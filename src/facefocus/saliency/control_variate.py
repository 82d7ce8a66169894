"""S-RISE and CorrRISE with fewer passes: what a linear model explains is not left to chance.

Both methods estimate, for every pixel x, the covariance of the similarity s with the mask's value
M(x). Of one s the draw of the masks is known, so the covariance of M(x) with any other pixel M(j)
is known exactly. With a linear model s ~ sum_j b_j M(j), fitted on *other* masks, the estimate

    sum_j b_j cov(M(j), M(x)) + mean over masks of (s - sum_j b_j M(j)) (M(x) - E M(x))

has the same expectation whatever b is, and a spread as if s varied only by what the model leaves
unexplained: a control variate, cross-fitted so that nothing is biased (Protocol: perturbation).
``docs/economical-masks.md`` says how many passes that saves, and what else was tried.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from jaxtyping import Float64

from facefocus.saliency.methods import METHODS, Choice, Masks, PerturbationMethod, Whole
from facefocus.saliency.rise import (
    KEEP,
    PATCHES,
    STEP,
    patch_masks,
    patch_masks_on,
    patch_side,
    pixel_rows,
    products,
    rise_masks,
    rise_masks_on,
    rise_weights,
)

#: Pixels along each side of the frame whose values the linear model reads.
POINTS = 14
#: Parts of the masks; the model that serves one is fitted on the others.
FOLDS = 10
#: The model's coefficients are multiples of their largest one divided by this, and covariances of
#: this: all sums are then exact, so that no bit depends on the order of additions.
_COEFFICIENT, _COVARIANCE = 2.0**12, 2.0**-20


def read_points(side: int) -> list[int]:
    """The positions along a side of the frame that the model reads.

    Example:
        >>> read_points(112)[:3], len(read_points(112)), read_points(8)
        ([4, 12, 20], 14, [0, 1, 2, 3, 4, 5, 6, 7])
    """
    count = min(POINTS, side)
    return [(2 * index + 1) * side // (2 * count) for index in range(count)]


@cache
def grid_covariance(frame: tuple[int, int]) -> Float64[np.ndarray, "pixels points"]:
    """Covariance of every pixel with every point that is read, over all RISE masks.

    Cells are independent, and a pixel is a weighted mean of cells, whose weights depend on the
    shift: p (1 - p) times the mean over shifts of the sums of products of weights, along either
    axis by itself.
    """
    along = []
    for side in frame:
        weights = rise_weights(side)
        products = np.einsum("syc,spc->yp", weights, weights[:, read_points(side)])
        along.append(products / len(weights))
    joined = np.einsum("yi,xj->yxij", *along) * (KEEP * (1 - KEEP))
    return np.asarray(joined.reshape(math.prod(frame), -1))


@cache
def patch_covariance(
    frame: tuple[int, int], patches: int = PATCHES
) -> Float64[np.ndarray, "pixels points"]:
    """Covariance of every pixel with every point that is read, over all CorrRISE masks.

    Patches are independent: a pixel is 1 with the probability that one patch leaves it, to the
    power of their number, and two pixels are 1 likewise.
    """
    pixel, point, both = [], [], []
    for side in frame:
        size = patch_side(side)
        starts = np.arange(side - size + 1)[:, None]
        over = (starts <= np.arange(side)) & (np.arange(side) < starts + size)
        read = over[:, read_points(side)]
        pixel.append(over.mean(axis=0))
        point.append(read.mean(axis=0))
        both.append(np.einsum("sy,sp->yp", over, read, dtype=np.float64) / len(starts))
    over_pixel = np.multiply.outer(*pixel).reshape(-1, 1)
    over_point = np.multiply.outer(*point).reshape(1, -1)
    over_both = np.einsum("yi,xj->yxij", *both).reshape(len(over_pixel), -1)
    neither = (1 - over_pixel - over_point + over_both) ** patches
    return np.asarray(neither - (1 - over_pixel) ** patches * (1 - over_point) ** patches)


@cache
def patch_means(frame: tuple[int, int], patches: int = PATCHES) -> Float64[np.ndarray, " pixels"]:
    """The probability that no patch of a CorrRISE mask lies on a pixel."""
    along = []
    for side in frame:
        size = patch_side(side)
        starts = np.arange(side - size + 1)[:, None]
        along.append(((starts <= np.arange(side)) & (np.arange(side) < starts + size)).mean(axis=0))
    return np.asarray((1 - np.multiply.outer(*along).ravel()) ** patches)


def fitted_covariance(
    similarities: Float64[np.ndarray, "p n"],
    masks: Masks,
    means: Float64[np.ndarray, " pixels"],
    covariance: Float64[np.ndarray, "pixels points"],
) -> Float64[np.ndarray, "p pixels"]:
    """The covariance of each similarity with each pixel of a mask, unbiased.

    Args:
        similarities: In [-1, 1]; a row for each pair.
        masks: Drawn independently of each other.
        means: The expectation of each pixel.
        covariance: Of each pixel with each point that is read.
    """
    height, width = masks.frame
    points = np.add.outer(np.array(read_points(height)) * width, read_points(width)).ravel()
    values = np.concatenate([block[:, points].cpu().numpy() for block in pixel_rows(masks)])
    exact = np.rint(covariance / _COVARIANCE) * _COVARIANCE
    fold = np.arange(len(values)) % min(FOLDS, len(values))
    rest, total = np.empty_like(similarities), np.zeros((len(similarities), len(covariance)))
    for number in range(fold.max() + 1):
        inside, others = fold == number, fold != number
        slopes = _slopes(values[others], similarities[:, others])
        level = similarities[:, others].mean(axis=1, keepdims=True)
        level = level - (slopes * means[points]).sum(axis=1, keepdims=True)
        rest[:, inside] = similarities[:, inside] - level - slopes @ values[inside].T
        total += slopes @ exact.T * (inside.sum() / len(values))
    rest = np.rint(rest / STEP) * STEP
    change = products(rest, masks) - rest.sum(axis=1, keepdims=True) * means
    return np.asarray(total + change / len(values))


def _slopes(
    values: Float64[np.ndarray, "n points"], similarities: Float64[np.ndarray, "p n"]
) -> Float64[np.ndarray, "p points"]:
    """Coefficients of a ridge regression, rounded; the ridge is the mean square of a mask's values.

    Rounding makes them the same on any number of threads; any coefficients will do.
    """
    centered = values - np.rint(values.mean(axis=0) / STEP) * STEP
    change = similarities - similarities.mean(axis=1, keepdims=True)
    gram = centered @ centered.T  # exact: multiples of the square of a step
    ridge = max(np.trace(gram) / len(gram), STEP)
    weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), change.T).T
    slopes = weights @ centered
    largest = np.abs(slopes).max(axis=1, keepdims=True)
    unit = 2.0 ** np.ceil(np.log2(np.where(largest > 0, largest, 1))) / _COEFFICIENT
    return np.asarray(np.rint(slopes / unit) * unit)


def fitted_rise(
    similarities: Float64[np.ndarray, "p n"], masks: Masks
) -> Float64[np.ndarray, "p pixels"]:
    """S-RISE with a control variate: in expectation the centered map of `rise.weighted_mean`."""
    means = np.full(math.prod(masks.frame), KEEP)
    covariance = fitted_covariance(similarities, masks, means, grid_covariance(masks.frame))
    return covariance / KEEP


def fitted_corr_rise(
    similarities: Float64[np.ndarray, "p n"], masks: Masks
) -> Float64[np.ndarray, "p pixels"]:
    """CorrRISE with a control variate: positive part of the correlation with each pixel.

    The covariance is unbiased, and divided by the pixel's spread, which is known, and by that of
    the similarity over these masks, which is one number for the whole map.
    """
    means = patch_means(masks.frame)
    covariance = fitted_covariance(similarities, masks, means, patch_covariance(masks.frame))
    spread = similarities.std(axis=1, keepdims=True)
    varies = (spread > 0) & (means * (1 - means) > 0)
    scale = np.where(varies, spread * np.sqrt(means * (1 - means)), 1)
    return np.asarray(np.where(varies, np.maximum(covariance / scale, 0), 0))


METHODS.add(
    "s-rise-economical",
    PerturbationMethod(
        name="s-rise-economical",
        draw=rise_masks,
        draw_on=rise_masks_on,
        combine=fitted_rise,
        version=1,
        options={"masks": Whole("500", 2)},
        fillable=False,
    ),
)
METHODS.add(
    "corr-rise-economical",
    PerturbationMethod(
        name="corr-rise-economical",
        draw=patch_masks,
        draw_on=patch_masks_on,
        combine=fitted_corr_rise,
        version=1,
        options={"masks": Whole("250", 2), "fill": Choice("black", ("black",))},
        fillable=False,
    ),
)
