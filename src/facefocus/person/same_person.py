"""Photos of somebody else among one person's, by cosines (Protocol: photographs-of-a-person)."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Bool, Float

#: Without a threshold, two groups of photos are of two people where the mean distance between them
#: is more than so many times the mean distance within the larger one. A distance is 1 - cosine.
RATIO = 1.7

#: Fewest photos of the larger group of whose distances the ratio is taken.
LEAST_GROUP = 3


def somebody_else(
    embeddings: Float[np.ndarray, "n d"], threshold: float | None = None
) -> Bool[np.ndarray, " n"] | None:
    """Which photos show somebody else than most of a person's photos do.

    Photos are joined by average linkage of their distances, 1 - cosine. With the recognizer's
    threshold for pairs, groups are joined while the mean cosine between them is at least that; the
    largest group is the person. Without it, the first join at more than `RATIO` times the mean
    distance within the larger group ends this, where that group has most of the photos and at
    least `LEAST_GROUP`; the scale of a recognizer's cosines then does not matter.

    Args:
        embeddings: One for each photo, of any length.
        threshold: The cosine from which on the recognizer takes two photos for one person.

    Returns:
        True for strangers; None where no two photos agree, or two groups are equally large.

    Example:
        >>> faces = np.array([[1, 0], [0.9, 0.1], [0.9, -0.1], [0, 1]])
        >>> somebody_else(faces, threshold=0.3).tolist()
        [False, False, False, True]
    """
    count = len(embeddings)
    if count < 2 or (threshold is None and count <= LEAST_GROUP):
        return np.zeros(count, bool)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    units = embeddings.astype(np.float64) / np.maximum(lengths, np.finfo(np.float32).tiny)
    distances = np.maximum(1 - units @ units.T, 0.0)
    np.fill_diagonal(distances, 0.0)
    joins = scipy.cluster.hierarchy.linkage(
        scipy.spatial.distance.squareform(distances, checks=False), "average"
    )
    groups = [[photo] for photo in range(count)]
    if threshold is None:
        return _apart(joins, groups, distances)
    for first, second, height, _ in joins:
        alike = height <= 1 - threshold
        groups.append(groups[int(first)] + groups[int(second)] if alike else [])
    groups.sort(key=len)
    if len(groups[-1]) < 2 or len(groups[-1]) == len(groups[-2]):
        return None
    return _all_but(groups[-1], count)


def _apart(
    joins: Float[np.ndarray, "joins 4"],
    groups: list[list[int]],
    distances: Float[np.ndarray, "n n"],
) -> Bool[np.ndarray, " n"]:
    """The same by `RATIO`: the scale of the distances is taken from the photos themselves."""
    count = len(distances)
    for first, second, height, _ in joins:
        larger, smaller = groups[int(first)], groups[int(second)]
        if len(larger) < len(smaller):
            larger, smaller = smaller, larger
        size = len(larger)
        if size >= LEAST_GROUP and 2 * size > count:
            within = distances[np.ix_(larger, larger)].sum() / (size * (size - 1))
            if height > RATIO * within:
                return _all_but(larger, count)
        groups.append(larger + smaller)
    return np.zeros(count, bool)


def _all_but(group: list[int], count: int) -> Bool[np.ndarray, " n"]:
    outside = np.ones(count, bool)
    outside[group] = False
    return outside
