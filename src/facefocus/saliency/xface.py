"""xFace: what square patches take from the similarity (Protocol: photo-maps)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import METHODS, Whole
from facefocus.saliency.photo_maps import Photo, PhotoScoreMethod, Score, scores_under

#: Sides of the patches, in pixels of a frame of 112.
SIDES = (7, 14, 28)


def patches(
    frame: tuple[int, int], stride: int = 5, rng: np.random.Generator | None = None
) -> Bool[np.ndarray, "n h w"]:
    """A mask for each place of each patch, fully inside the frame, row by row.

    Args:
        frame: Height and width.
        stride: From place to place, in pixels of 112.
        rng: Draws the first place of each side, down and across, among those of one stride: every
            place is then tried with the same probability. None: the first place is the corner.

    Example:
        >>> patches((112, 112)).sum(axis=(1, 2))[[0, 22 * 22, -1]].tolist()
        [49, 196, 784]
        >>> len(patches((112, 112)))
        1173
    """
    masks = []
    for side in SIDES:
        (high, down), (wide, across) = (
            (max(1, round(side * length / 112)), max(1, round(stride * length / 112)))
            for length in frame
        )
        first, begin = (0, 0) if rng is None else (int(rng.integers(n)) for n in (down, across))
        for top in range(first, frame[0] - high + 1, down):
            for left in range(begin, frame[1] - wide + 1, across):
                mask = np.zeros(frame, bool)
                mask[top : top + high, left : left + wide] = True
                masks.append(mask)
    return np.stack(masks)


def xface(photo: Photo, score: Score, options: Options) -> Float64[np.ndarray, "h w"]:
    """xFace (Knoche et al., 2023): the sum over patches that hold a pixel of (s - s_patch) / area.

    s is the similarity of the photo, s_patch with the patch hidden. All patches are tried: sides
    of 7, 14 and 28 of 112 pixels, at a `stride` of 5. Of the authors' three ways to hide a pair,
    this is the one in which the explained photo alone is hidden: the other sides are photos that
    serve everybody. Pixels at the border are in fewer patches, and so lower, as published.

    Args:
        photo: What is explained.
        score: Its similarity to its references.
        options: ``stride``.
    """
    return summed_drops(photo, score, patches(photo.frame.shape[:2], int(options["stride"])))


def summed_drops(
    photo: Photo, score: Score, masks: Bool[np.ndarray, "n h w"]
) -> Float64[np.ndarray, "h w"]:
    """What each patch takes from the similarity, over its area, summed over those on a pixel."""
    drops = score(photo.frame[None])[0] - scores_under(photo, score, masks)
    total = np.zeros(photo.frame.shape[:2])
    for mask, drop in zip(masks, drops, strict=True):
        total[mask] += drop / mask.sum()
    return total


METHODS.add(
    "xface",
    PhotoScoreMethod(
        "xface",
        xface,
        version=1,
        passes=lambda options, frame: len(patches(frame, int(options["stride"]))),
        options={"stride": Whole("5", 1, 112)},
    ),
)
