"""MinPlus: greedy removal and greedy aggregation of parts (Protocol: photo-maps)."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int

from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import METHODS, Choice, Whole
from facefocus.saliency.photo_maps import Photo, PhotoScoreMethod, Score, scores_under


def minplus(photo: Photo, score: Score, options: Options) -> Float64[np.ndarray, "h w"]:
    """MinPlus (Mery, CVPRW 2022): the mean of greedy removal and greedy aggregation.

    *Removal* (the paper's S0-): of `grid` x `grid` squares, that one is hidden whose hiding leaves
    the least similarity, beside those that are hidden by now; `rounds` times. *Aggregation* (S1+):
    the photo is hidden whole, and that square is shown whose showing brings the most similarity. A
    square's value is its rank: their number down for those that were taken, in order, then the
    others by what they left, or brought, in the last round; ties by place. One round is S0 and S1.

    The paper's parts are Gaussian masks that multiply the photo. Squares stand for them here, so
    that any fill can hide them; values between their centers are interpolated bilinearly, so that
    hiding begins in the middle of a square.

    Args:
        photo: What is explained.
        score: Its similarity to its references.
        options: ``game`` ``both``, ``minus`` (removal) or ``plus`` (aggregation); ``rounds``,
            ``grid``.
    """
    grid = int(options["grid"])
    parts = squares(photo.frame.shape[:2], grid)
    rounds = min(int(options["rounds"]), len(parts))
    ranks = [
        greedy_ranks(photo, score, parts, rounds, removing=removing)
        for removing, word in ((True, "minus"), (False, "plus"))
        if options["game"] in ("both", word)
    ]
    cells = np.mean(ranks, axis=0).reshape(grid, grid)
    height, width = photo.frame.shape[:2]
    in_frame: np.ndarray = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    return in_frame


def squares(frame: tuple[int, int], grid: int) -> Bool[np.ndarray, "n h w"]:
    """The parts, row by row; every pixel is in one."""
    rows, columns = (np.arange(side) * grid // side for side in frame)
    number = rows[:, None] * grid + columns
    parts: np.ndarray = number == np.arange(grid * grid)[:, None, None]
    return parts


def greedy_ranks(
    photo: Photo, score: Score, parts: Bool[np.ndarray, "n h w"], rounds: int, *, removing: bool
) -> Int[np.ndarray, " n"]:
    """The rank of each part, n for the first that is taken."""
    hidden = np.zeros(parts.shape[1:], bool) if removing else np.ones(parts.shape[1:], bool)
    left = list(range(len(parts)))
    taken: list[int] = []
    for _ in range(rounds):
        masks = hidden | parts[left] if removing else hidden & ~parts[left]
        scores = scores_under(photo, score, masks)
        order = np.argsort(scores if removing else -scores, kind="stable")
        left = [left[index] for index in order]
        taken.append(left.pop(0))
        hidden = hidden | parts[taken[-1]] if removing else hidden & ~parts[taken[-1]]
        best = list(left)
        left.sort()
    ranks = np.empty(len(parts), np.int64)
    ranks[[*taken, *best]] = np.arange(len(parts), 0, -1)
    return ranks


def _passes(options: Options, frame: tuple[int, int]) -> int:
    cells = int(options["grid"]) ** 2
    rounds = min(int(options["rounds"]), cells)
    each = rounds * cells - rounds * (rounds - 1) // 2
    return each * (2 if options["game"] == "both" else 1)


METHODS.add(
    "minplus",
    PhotoScoreMethod(
        "minplus",
        minplus,
        version=1,
        passes=_passes,
        options={
            "game": Choice("both", ("both", "minus", "plus")),
            "rounds": Whole("8", 1, 10_000),
            "grid": Whole("8", 1, 100),
        },
    ),
)
