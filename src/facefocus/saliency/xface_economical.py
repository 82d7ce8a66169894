"""xFace by a coarse lattice, begun elsewhere in each photo (Protocol: photo-maps)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import METHODS, Whole
from facefocus.saliency.photo_maps import Photo, PhotoScoreMethod, Score
from facefocus.saliency.xface import SIDES, patches, summed_drops

#: Places from patch to patch. At more than the largest side, a side might have no place at all.
STRIDE = Whole("7", 1, SIDES[-1])


def xface_economical(photo: Photo, score: Score, options: Options) -> Float64[np.ndarray, "h w"]:
    """xFace by a coarse lattice of patches, whose first place is drawn for each photo and side.

    Every place has the same chance to be tried, so the map has the expectation of that of a patch
    at every place, but for a factor, and what a lattice leaves out in one photo another one shows.
    ``docs/economical-masks.md`` has the figures.

    Args:
        photo: What is explained; its generator draws the first places.
        score: Its similarity to its references.
        options: ``stride``.
    """
    masks = patches(photo.frame.shape[:2], int(options["stride"]), photo.rng)
    return summed_drops(photo, score, masks)


def expected_patches(options: Options, frame: tuple[int, int]) -> int:
    """Patches of a photo on average, rounded.

    Example:
        >>> expected_patches({"stride": "7"}, (112, 112))
        577
    """
    stride = int(options["stride"])
    tried = [max(1, round(stride * length / 112)) for length in frame]
    return round(len(patches(frame, 1)) / (tried[0] * tried[1]))


METHODS.add(
    "xface-economical",
    PhotoScoreMethod(
        "xface-economical",
        xface_economical,
        version=1,
        passes=expected_patches,
        options={"stride": STRIDE},
    ),
)
