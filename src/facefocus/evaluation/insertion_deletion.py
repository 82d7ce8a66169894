"""Insertion and deletion on verification pairs (Protocol: sanity-checks).

As in the CorrRISE literature. Deletion hides the probe's most salient pixels first and should spoil
the decision early; insertion shows them first, on a frame that is otherwise hidden, and should
restore it early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from facefocus.evaluation.verification import normalize
from facefocus.occlusion.masks import cut, pixel_count, ranking
from facefocus.saliency.explainer import Hide

#: ``embed(frames [n,h,w,3] uint8) -> raw embeddings [n,d]``.
Embed = Callable[[np.ndarray], np.ndarray]

#: Pairs held in memory at a time; changes no result.
CHUNK = 256


@dataclass(frozen=True, eq=False)
class PairCurves:
    """Verification accuracy while the probe is hidden or shown from its most salient pixels on.

    Attributes:
        shares: Share of the frame's pixels hidden (deletion) or shown (insertion), 0 to 1.
        deletion: Accuracy at each share; lower is better.
        insertion: Accuracy at each share; higher is better.
        deletion_area: Area under the deletion curve by the trapezoid rule.
        insertion_area: Area under the insertion curve.
        right: Whether each pair is decided rightly: under deletion, under insertion.
    """

    shares: Float[np.ndarray, " steps"]
    deletion: Float[np.ndarray, " steps"]
    insertion: Float[np.ndarray, " steps"]
    deletion_area: float
    insertion_area: float
    right: Bool[np.ndarray, "2 p steps"]


def pair_curves(
    embed: Embed,
    frames: UInt8[np.ndarray, "n h w 3"],
    first: Int[np.ndarray, " p"],
    second: Int[np.ndarray, " p"],
    mated: Bool[np.ndarray, " p"],
    *,
    maps: Float[np.ndarray, "p h w"],
    hider: Callable[[np.ndarray], Hide],
    threshold: float,
    rngs: Sequence[np.random.Generator],
    steps: int = 11,
) -> PairCurves:
    """Deletion and insertion curves over verification pairs.

    Accuracy is the share of pairs decided rightly by ``cosine >= threshold``. The probe, the
    first image of a pair, is changed; the second stays clean.

    Args:
        embed: Raw embeddings of frames.
        frames: Frames of the face set.
        first: Row of each pair's probe.
        second: Row of each pair's reference.
        mated: Which pairs are mated.
        maps: Saliency of each pair's probe; equal values are taken in random order.
        hider: Rows of `frames` -> what hides masks on them by a fill.
        threshold: The recognizer's clean threshold, by the rule `eer` (Protocol: thresholds).
        rngs: One generator for each pair, for the random order of ties.
        steps: Points of a curve, evenly spaced from 0 to 100 %.

    Raises:
        ValueError: A map or an embedding is not finite.
    """
    shares = np.arange(steps) / (steps - 1)
    height, width = frames.shape[1:3]
    counts = [pixel_count(float(share), height, width) for share in shares]
    right = np.zeros((2, len(first), steps), dtype=bool)
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        hide = hider(first[part])
        references = normalize(embed(frames[second[part]]))
        orders = [ranking(m, rng) for m, rng in zip(maps[part], rngs[part], strict=True)]
        for step, count in enumerate(counts):
            masks = np.concatenate([cut(order, [count], (height, width)) for order in orders])
            for curve, mask in enumerate((masks, ~masks)):
                scores = (normalize(embed(hide(mask))) * references).sum(axis=1)
                right[curve, part, step] = (scores >= threshold) == mated[part]
    deletion, insertion = right.sum(axis=1) / len(first)
    return PairCurves(
        shares=shares,
        deletion=deletion,
        insertion=insertion,
        deletion_area=float(np.trapezoid(deletion, shares)),
        insertion_area=float(np.trapezoid(insertion, shares)),
        right=right,
    )
