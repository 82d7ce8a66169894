"""Two halves of a person's photos that share no picture (Protocol: held-out-photos).

Effects on held-out photos say nothing if a held-out photo is one that the map came from, saved
twice: near-equal photos stay together.
"""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Int, UInt8

#: Crops whose gray values correlate by more than this show one picture.
NEAR_EQUAL = 0.98

#: Fewest photos of a half: a mated pair.
LEAST = 2

#: Crops compared with all others at once: bounds the memory, changes no result.
_STEP = 512


def near_equal(frames: UInt8[np.ndarray, "n h w 3"]) -> Int[np.ndarray, " n"]:
    """A number for each photo: equal for photos that a chain of near-equal ones connects.

    Near-equal: equal, or a correlation of the gray crops above `NEAR_EQUAL`.
    """
    sums = sum(frames[..., channel].astype(np.uint16) for channel in range(3))
    gray = np.reshape(sums, (len(frames), -1)).astype(np.float32)
    # A crop of one gray correlates with nothing, and may still be there twice.
    plain = np.flatnonzero(gray.min(axis=1) == gray.max(axis=1))
    gray -= gray.mean(axis=1, keepdims=True)
    gray[plain] = 0
    lengths = np.linalg.norm(gray, axis=1, keepdims=True)
    gray /= np.where(lengths > 0, lengths, 1)
    alike = [gray[at : at + _STEP] @ gray.T > NEAR_EQUAL for at in range(0, len(gray), _STEP)]
    rows, columns = np.nonzero(np.concatenate(alike))
    first = {frames[row].tobytes(): row for row in plain}
    rows = np.append(rows, plain)
    columns = np.append(columns, [first[frames[row].tobytes()] for row in plain])
    links = scipy.sparse.coo_array(
        (np.ones(len(rows), bool), (rows, columns)), shape=(len(gray),) * 2
    )
    labels: np.ndarray = scipy.sparse.csgraph.connected_components(links, directed=False)[1]
    return labels


def halves(
    groups: Int[np.ndarray, " n"], rng: np.random.Generator
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]] | None:
    """Places of the photos in each half, sorted: a seeded draw that keeps every group whole.

    The halves are as even as groups allow, the first not the larger one; None where one of them
    would have fewer than `LEAST` photos. Groups of one photo each: every equal cut is equally
    likely.
    """
    order = rng.permutation(len(groups))
    _, first, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    drawn = np.argsort(first)  # groups in the order in which their first photo was drawn
    labels, sizes = groups[order[first[drawn]]], sizes[drawn].tolist()
    # Bit s of reachable[i]: some of the groups from i on have s photos together.
    reachable = [1]
    for size in reversed(sizes):
        reachable.append(reachable[-1] | reachable[-1] << size)
    reachable.reverse()
    left = next((s for s in range(len(groups) // 2, LEAST - 1, -1) if reachable[0] >> s & 1), None)
    if left is None:
        return None
    taken = []
    for label, size, rest in zip(labels, sizes, reachable[1:], strict=True):
        if size <= left and rest >> (left - size) & 1:
            taken.append(label)
            left -= size
    inside = np.isin(groups, taken)
    return np.flatnonzero(inside), np.flatnonzero(~inside)
