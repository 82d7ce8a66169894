"""How much of a person's mated similarity is left under occlusion (Protocol: scores)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from facefocus.evaluation.verification import normalize

#: ``clean``: an occluded probe against clean references; ``both``: both sides occluded.
Compare = Literal["clean", "both"]


@dataclass(frozen=True)
class Retention:
    """One identity's mated scores over all ordered pairs of different images.

    Attributes:
        cosine: Mean mated cosine with the probe occluded.
        rate: Recognition rate: share of these pairs at or above the threshold (TMR).
        clean_cosine: Mean mated cosine of the clean images.
        clean_rate: Recognition rate of the clean images.
        pairs: Number of ordered pairs, m (m - 1).
    """

    cosine: float
    rate: float
    clean_cosine: float
    clean_rate: float
    pairs: int


def retention(
    clean: Float[np.ndarray, "m d"],
    occluded: Float[np.ndarray, "m d"],
    threshold: float,
    *,
    compare: Compare = "clean",
) -> Retention:
    """Mated scores of one identity, ordered pairs (a, b), a != b, with and without occlusion.

    Embeddings are given raw, row i of both arrays from the same image. Equal embeddings give
    exactly equal figures, and the order of the images has no influence on any bit.

    Raises:
        ValueError: Fewer than two images, or an embedding is not finite.

    Example:
        >>> clean = np.array([[1.0, 0.0], [1.0, 0.1]])
        >>> hidden = np.array([[0.0, 1.0], [1.0, 0.1]])
        >>> kept = retention(clean, hidden, threshold=0.5)
        >>> kept.clean_rate, kept.rate
        (1.0, 0.5)
    """
    if len(clean) < 2:
        raise ValueError(f"A mated pair needs at least 2 images. Got {len(clean)}.")
    gallery, probe = normalize(clean), normalize(occluded)
    reference = gallery if compare == "clean" else probe
    before, after = _mated(gallery, gallery), _mated(probe, reference)
    return Retention(
        cosine=macro_average(after),
        rate=float(np.mean(after >= threshold)),
        clean_cosine=macro_average(before),
        clean_rate=float(np.mean(before >= threshold)),
        pairs=len(before),
    )


def macro_average(values: Iterable[float]) -> float:
    """Mean of values, rounded once: their order has no influence.

    Raises:
        ValueError: There are no values.
    """
    listed = list(values)
    if not listed:
        raise ValueError("The mean of no values is not defined.")
    return math.fsum(listed) / len(listed)


def _mated(
    probes: Float[np.ndarray, "m d"], references: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, " pairs"]:
    # Not `@`: BLAS takes another routine, with other last bits, when both sides are one array.
    scores = np.einsum("ad,bd->ab", probes, references)
    return np.extract(~np.eye(len(scores), dtype=bool), scores)
