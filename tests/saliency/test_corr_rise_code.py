from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from facefocus.saliency.methods import METHODS, PerturbationMethod
from facefocus.saliency.perturbation import MaskSet, mask_set


def masks_of(name: str, **options: str) -> MaskSet:
    method = METHODS[name]
    assert isinstance(method, PerturbationMethod)
    return mask_set(method, (16, 16), "image", seed=0, options={"masks": "40", **options})


def test_it_is_spearmans_correlation_over_masks_of_three_patches() -> None:
    masks = masks_of("corr-rise-code")
    drawn = np.concatenate(list(masks))
    # A patch is 30 / 112 of 16 pixels: 4; up to three of them are hidden.
    hidden = (drawn == 0).sum(axis=(1, 2))
    assert set(np.unique(drawn)) == {0, 1} and hidden.max() == 3 * 16 and hidden.min() >= 16
    similarities = np.random.default_rng(0).random((1, 40))
    saliency = masks.method.combine(similarities, masks)[0].reshape(16, 16)
    for pixel in ((3, 4), (8, 8), (12, 5)):
        wanted = spearmanr(similarities[0], drawn[:, *pixel]).statistic
        np.testing.assert_allclose(saliency[pixel], max(wanted, 0), atol=1e-9)
    assert saliency.max() > 0


def test_the_papers_masks_have_ten() -> None:
    hidden = np.concatenate([(part == 0).sum(axis=(1, 2)) for part in masks_of("corr-rise")])
    assert hidden.max() > 3 * 16
