"""LIME on superpixels (Protocol: photo-maps)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int, UInt8

from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import METHODS, Whole
from facefocus.saliency.photo_maps import Photo, PhotoScoreMethod, Score, scores_under

#: Width of the exponential kernel over cosine distances, and the weight of the ridge, as in LIME.
WIDTH, RIDGE = 0.25, 1.0
#: Places of superpixels weigh against colors as in SLIC: levels a superpixel's width.
COMPACTNESS = 20.0
#: Iterations of k-means.
ITERATIONS = 10


def lime(photo: Photo, score: Score, options: Options) -> Float64[np.ndarray, "h w"]:
    """LIME (Ribeiro et al., 2016): a local linear model of the similarity over superpixels.

    Each of `samples` perturbations shows every superpixel with probability 1/2 and hides the
    others; the first shows all. The model is a ridge regression (weight 1, free intercept) of the
    similarity on what is shown, samples weighted by exp(-d^2 / .25^2), d the cosine distance of
    what is shown to all shown. A pixel's value is the coefficient of its superpixel. The authors'
    superpixels are those of quickshift, hidden by their mean color; here they are `superpixels`,
    about, made by k-means (see `superpixels`), and hidden by black or the fill that is asked for.

    Args:
        photo: What is explained; its generator draws what is shown.
        score: Its similarity to its references.
        options: ``samples``, ``superpixels``.
    """
    labels = superpixels(photo.frame, int(options["superpixels"]))
    shown = photo.rng.random((int(options["samples"]), int(labels.max()) + 1)) < 0.5
    shown[0] = True
    similarities = scores_under_superpixels(photo, score, labels, shown)
    coefficients = local_model(shown, similarities)
    by_pixel: np.ndarray = coefficients[labels]
    return by_pixel


def superpixels(frame: UInt8[np.ndarray, "h w 3"], count: int) -> Int[np.ndarray, "h w"]:
    """About `count` superpixels, numbered from 0: k-means of color and position, as SLIC.

    Achanta et al. (2012), but over the whole frame, in RGB, and not made connected: ten rounds from
    the centers of a grid; a distance of one grid step weighs as much as 20 levels.
    """
    height, width, _ = frame.shape
    along = max(1, round((count * height / width) ** 0.5))
    across = max(1, round(count / along))
    step = (height * width / (along * across)) ** 0.5
    rows, columns = np.indices((height, width)) + 0.5
    positions = np.stack([rows, columns], axis=2) * (COMPACTNESS / step)
    points = np.concatenate([frame.astype(np.float64), positions], axis=2)
    middles = [(np.arange(n) + 0.5) * side / n for n, side in ((along, height), (across, width))]
    centers = points[np.ix_(*(middle.astype(int) for middle in middles))].reshape(-1, 5)
    centers[:, 3:] = np.stack(np.meshgrid(*middles, indexing="ij"), axis=2).reshape(-1, 2)
    centers[:, 3:] *= COMPACTNESS / step
    points = points.reshape(-1, 5)
    for _ in range(ITERATIONS):
        distances = np.stack([np.square(points - center).sum(axis=1) for center in centers])
        labels = distances.argmin(axis=0)
        sizes = np.bincount(labels, minlength=len(centers))
        for axis in range(5):
            sums = np.bincount(labels, points[:, axis], minlength=len(centers))
            centers[:, axis] = np.where(sizes > 0, sums / np.maximum(sizes, 1), centers[:, axis])
    # Numbers without gaps, where a center has lost all its pixels.
    numbered: np.ndarray = np.unique(labels, return_inverse=True)[1].reshape(height, width)
    return numbered


def scores_under_superpixels(
    photo: Photo, score: Score, labels: Int[np.ndarray, "h w"], shown: Bool[np.ndarray, "n m"]
) -> Float64[np.ndarray, " n"]:
    """The similarity where some superpixels are shown and the others hidden."""
    parts = [
        scores_under(photo, score, ~shown[start : start + 64][:, labels])
        for start in range(0, len(shown), 64)
    ]
    return np.concatenate(parts)


def local_model(
    shown: Bool[np.ndarray, "n m"], similarities: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " m"]:
    """The coefficients of the weighted ridge regression of similarities on what is shown.

    Example:
        >>> shown = np.array([[True, True], [True, False], [False, True], [False, False]])
        >>> local_model(shown, np.array([1.0, 0.9, 0.1, 0.0])).argmax()
        np.int64(0)
    """
    values = shown.astype(np.float64)
    # The cosine of what is shown to all shown; nothing shown is at distance 1.
    distances = 1 - np.sqrt(values.mean(axis=1))
    weights = np.exp(-np.square(distances) / WIDTH**2)
    total = weights.sum()
    centered = values - (weights[:, None] * values).sum(axis=0) / total
    change = similarities - (weights * similarities).sum() / total
    # No matrix product: its last bits may change with the threads.
    gram = np.einsum("n,ni,nj->ij", weights, centered, centered)
    slope = np.einsum("n,ni,n->i", weights, centered, change)
    solved: np.ndarray = np.linalg.solve(gram + RIDGE * np.eye(len(slope)), slope)
    return solved


METHODS.add(
    "lime",
    PhotoScoreMethod(
        "lime",
        lime,
        version=1,
        passes=lambda options, frame: int(options["samples"]),
        options={"samples": Whole("1000", 2, 1_000_000), "superpixels": Whole("49", 2, 10_000)},
    ),
)
