"""Whether a map finds the pixels that decide: errors while edited pixels are given back.

Protocol: truth-on-real-faces. After the decision-based patch replacement of Huber et al. (2024):
whoever knows which pixels make two people alike, or one person unlike, corrects the decision with
few of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from facefocus.evaluation.verification import normalize
from facefocus.occlusion.masks import cut, pixel_count, ranking

#: ``embed(frames [n,h,w,3] uint8) -> raw embeddings [n,d]``.
Embed = Callable[[np.ndarray], np.ndarray]

#: Shares of the pixels that are given back: 5 to 95 % by 5.
SHARES = tuple(step / 20 for step in range(1, 20))

#: Pairs held in memory at a time; changes no result.
CHUNK = 32


def replacement_decisions(
    embed: Embed,
    edited: UInt8[np.ndarray, "p h w 3"],
    original: UInt8[np.ndarray, "p h w 3"],
    compared: UInt8[np.ndarray, "p h w 3"],
    *,
    maps: Float[np.ndarray, "p h w"],
    threshold: float,
    rngs: Sequence[np.random.Generator],
    shares: Sequence[float] = SHARES,
) -> Bool[np.ndarray, "p steps"]:
    """Whether edited images match, as they are and with a share of their pixels given back.

    Where the edited image matches, pixels are given back from the largest value of the map down,
    else from the least one up. The decision is ``cosine >= threshold``.

    Args:
        embed: Raw embeddings of frames.
        edited: Images with foreign pixels.
        original: The same images without.
        compared: What each is compared with; stays as it is.
        maps: Saliency of each edited image; equal values are taken in random order.
        threshold: The recognizer's clean threshold.
        rngs: One generator for each pair, for the random order of ties.
        shares: Of the pixels that are given back.

    Returns:
        The decision on the edited images, then with each share given back.

    Raises:
        ValueError: A map or an embedding is not finite.
    """
    height, width = edited.shape[1:3]
    counts = [pixel_count(share, height, width) for share in shares]
    matches = np.zeros((len(edited), len(shares) + 1), bool)
    for start in range(0, len(edited), CHUNK):
        part = slice(start, start + CHUNK)
        references = normalize(embed(compared[part]))
        matches[part, 0] = _match(embed(edited[part]), references, threshold)
        signs = np.where(matches[part, 0], 1.0, -1.0)
        orders = [
            ranking(sign * saliency.astype(np.float64), rng)
            for sign, saliency, rng in zip(signs, maps[part], rngs[part], strict=True)
        ]
        # All steps at once: a recognizer pads its last batch.
        frames = [
            np.where(cut(order, counts, (height, width))[..., None], before, after)
            for order, before, after in zip(orders, original[part], edited[part], strict=True)
        ]
        steps = np.repeat(references, len(counts), axis=0)
        matched = _match(embed(np.concatenate(frames)), steps, threshold)
        matches[part, 1:] = matched.reshape(-1, len(counts))
    return matches


def _match(
    embeddings: Float[np.ndarray, "p d"], references: Float[np.ndarray, "p d"], threshold: float
) -> Bool[np.ndarray, " p"]:
    return np.asarray((normalize(embeddings) * references).sum(axis=1) >= threshold)


def decision_errors(
    matches: Bool[np.ndarray, "p steps"], mated: Bool[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """The share of the steps, without the first, at which each pair is decided wrongly.

    Its mean over non-mated pairs is the area under their FMR, over mated pairs under their FNMR.
    """
    return np.asarray((matches[:, 1:] != mated[:, None]).mean(axis=1))
