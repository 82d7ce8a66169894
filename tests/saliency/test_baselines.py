from __future__ import annotations

import math

import numpy as np
import pytest

from facefocus.core import seeds
from facefocus.saliency.baselines import baseline_map, center_gaussian
from facefocus.saliency.explainer import Needs
from facefocus.saliency.methods import METHODS, Baseline, Method


def baseline(name: str) -> Baseline:
    method = METHODS[name]
    assert isinstance(method, Baseline)
    return method


def test_random_depends_on_seed_identity_and_draw_alone() -> None:
    random = baseline("random")
    saliency = baseline_map(random, (4, 6), seed=1, identity="Ann", draw=2)
    rng = seeds.generator(1, "baseline-random", "Ann", 2)
    np.testing.assert_array_equal(saliency, rng.random((4, 6), dtype=np.float32))
    for other in (
        baseline_map(random, (4, 6), seed=2, identity="Ann", draw=2),
        baseline_map(random, (4, 6), seed=1, identity="Bob", draw=2),
        baseline_map(random, (4, 6), seed=1, identity="Ann", draw=0),
    ):
        assert not np.array_equal(saliency, other)


def test_random_is_uniform() -> None:
    saliency = baseline_map(baseline("random"), (100, 100), seed=0, identity="Ann")
    assert saliency.min() >= 0 and saliency.max() < 1
    # Mean 1/2 and standard deviation 1/sqrt(12), here within 4 standard errors.
    assert saliency.mean() == pytest.approx(0.5, abs=0.012)
    assert saliency.std() == pytest.approx(1 / math.sqrt(12), abs=0.006)


def test_center_gaussian_by_hand() -> None:
    # 3x3: sigma = .75, so one step from the center is exp(-.5 / .5625) = exp(-8/9).
    step = math.exp(-8 / 9)
    rng = np.random.default_rng(0)
    expected = [[step**2, step, step**2], [step, 1, step], [step**2, step, step**2]]
    np.testing.assert_allclose(center_gaussian((3, 3), rng), expected, rtol=1e-6)


def test_center_gaussian_between_pixels_of_an_even_frame() -> None:
    saliency = baseline_map(baseline("center-gaussian"), (4, 2), seed=0, identity="Ann")
    # Offsets .5 and 1.5 of sigma 1 vertically; .5 of sigma .5 horizontally.
    side = math.exp(-0.5)
    column = [math.exp(-1.125), math.exp(-0.125), math.exp(-0.125), math.exp(-1.125)]
    np.testing.assert_allclose(saliency, np.outer(column, [side, side]), rtol=1e-6)


def test_the_registry_says_what_they_need() -> None:
    for name in ("random", "center-gaussian"):
        method = baseline(name)
        assert isinstance(method, Method)
        needs = Needs(draws=True, seed=True, sources="none", photos="none")
        assert (method.kind, method.needs({})) == ("baseline", needs)
