"""Whether a map finds what is planted: share, ROC AUC and pointing game (Protocol: planted-truth).

Synthetic faces say in which pixels of every photo identity lives. An identity map is one map for
all photos of a person, in which the planted part moves a little with the pose. So no single mask
stands for the person: the pixels of all photos are pooled, each with the map's value at its place.
All that the scores need of the photos is the *planted share* of each pixel - in how many of them
it lies in a planted part - and with one photo they are the usual scores of a map and a mask.

A person without a map is scored as a flat map, which says nothing: chance in every score. Nobody
is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from facefocus.faces.sources.synthetic import mean_mask
from facefocus.occlusion.masks import top_pixels

#: Columns of a result table on faces with a truth, over the photos on which hiding is tried: the
#: mask's share in the planted parts, the map's ROC AUC and pointing game, each with the best that
#: any mask or map could have, and chance for share and pointing (for AUC it is 0.5).
COLUMNS = (
    "truth_share",
    "truth_share_best",
    "truth_auc",
    "truth_auc_best",
    "truth_pointing",
    "truth_pointing_best",
    "truth_chance",
)


def planted_share(
    parts: Mapping[str, Bool[np.ndarray, "n h w"]], rows: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "h w"]:
    """The share of the photos `rows` in which each pixel lies in any of the planted `parts`.

    Args:
        parts: The mask of each planted part in every photo (`faces.synthetic.read_truth`).
        rows: A person's photos.

    Raises:
        ValueError: No part or no photo.
    """
    if not parts or not len(rows):
        raise ValueError("A truth needs at least one part and one photo.")
    return mean_mask(np.any([masks[rows] for masks in parts.values()], axis=0))


def chance(planted: Float[np.ndarray, "h w"]) -> float:
    """The expected share and pointing score of random pixels: the planted area.

    By ROC AUC chance is 0.5.
    """
    return float(planted.mean())


def mask_shares(
    masks: Bool[np.ndarray, "b h w"], planted: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, " b"]:
    """The share of each mask's pixels inside the planted parts, over all photos (precision).

    A mask without pixels says nothing and scores `chance`.
    """
    areas = np.count_nonzero(masks, axis=(1, 2))
    inside = np.einsum("bhw,hw->b", masks, planted)
    return np.where(areas > 0, inside / np.maximum(areas, 1), chance(planted))


def best_shares(
    planted: Float[np.ndarray, "h w"], counts: Sequence[int]
) -> Float[np.ndarray, " b"]:
    """The oracle of `mask_shares`: the largest share that a mask of so many pixels can have.

    Below 1 where the part is smaller than the mask, or moves from photo to photo; `chance` for no
    pixel at all.

    Raises:
        ValueError: A count is not in [0, h * w].
    """
    if not all(0 <= count <= planted.size for count in counts):
        raise ValueError(f"Counts must be in [0, {planted.size}]. Got {list(counts)}.")
    largest = np.sort(planted, axis=None)[::-1].cumsum()
    return np.array([largest[n - 1] / n if n else chance(planted) for n in counts])


def roc_auc(saliency: Float[np.ndarray, "h w"], planted: Float[np.ndarray, "h w"]) -> float:
    """Probability that the map is larger at a planted pixel than at another, over all photos.

    The area under the ROC curve of the pixels of all photos: ties count half, so a flat map has
    0.5. The oracle is the planted share itself as a map, ``roc_auc(planted, planted)``: no map
    orders the pixels better (Neyman and Pearson). NaN where no pixel is planted, or every one.
    """
    _check(saliency)
    _, level = np.unique(saliency, return_inverse=True)
    inside = np.bincount(level.ravel(), weights=planted.ravel())
    outside = np.bincount(level.ravel(), weights=1.0 - planted.ravel())
    pairs = inside.sum() * outside.sum()
    if pairs == 0:
        return float("nan")
    below = outside.cumsum() - outside / 2
    return float((inside * below).sum() / pairs)


def pointing(saliency: Float[np.ndarray, "h w"], planted: Float[np.ndarray, "h w"]) -> float:
    """The pointing game: whether the map's maximum lies in a planted part, over all photos.

    The mean over all pixels that share the maximum, which is what one of them taken at random
    scores: a flat map has `chance`. The oracle is ``planted.max()``. Zhang et al. (2016) also
    accept a maximum within 15 pixels of the part; here it has to hit.
    """
    _check(saliency)
    return float(planted[saliency == saliency.max()].mean())


def map_share(saliency: Float[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """The share of a map inside the truth: of its values above its least one.

    A flat map has `chance`.

    Example:
        >>> map_share(np.array([[1.0, 4.0], [2.0, 1.0]]), np.array([[False, True], [False, False]]))
        0.75
    """
    _check(saliency)
    above = saliency.astype(np.float64) - saliency.min()
    total = above.sum()
    return float(above[truth].sum() / total) if total > 0 else float(truth.mean())


def overlap(
    saliency: Float[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> float:
    """Intersection over union of the truth and as many of the map's largest pixels.

    Of equal values those that come first in a random order count. NaN without any truth.
    """
    count = int(truth.sum())
    mask = top_pixels(saliency, count, rng)
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else float("nan")


def _check(saliency: Float[np.ndarray, "h w"]) -> None:
    if not np.isfinite(saliency).all():
        raise ValueError("A saliency map must be finite; score a person without one as flat.")
