"""CorrRISE as its public code has it: three patches and ranks (Protocol: perturbation)."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float32

from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import METHODS, Choice, PerturbationMethod, Whole
from facefocus.saliency.rise import correlation, patch_masks, patch_masks_on

#: Patches per mask.
PATCHES = 3


def few_patch_masks(
    rng: np.random.Generator, count: int, frame: tuple[int, int], options: Options
) -> Float32[np.ndarray, "g h w"]:
    """Those of `rise.patch_masks`, with 3 patches."""
    return patch_masks(rng, count, frame, options, patches=PATCHES)


METHODS.add(
    "corr-rise-code",
    PerturbationMethod(
        name="corr-rise-code",
        draw=few_patch_masks,
        draw_on=partial(patch_masks_on, patches=PATCHES),
        combine=correlation,
        version=1,
        options={
            "masks": Whole("500", 2),
            "fill": Choice("black", ("black", "uniform")),
            "rank": Choice("true", ("true", "false")),
        },
        shaping=("fill",),
    ),
)
