"""Maps with a control variate: the covariances are exact, and nothing is biased."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest

from facefocus.benchmark.experiment import parse_experiment
from facefocus.core.errors import UserError
from facefocus.saliency.control_variate import (
    fitted_covariance,
    fitted_rise,
    grid_covariance,
    patch_covariance,
    patch_means,
    read_points,
)
from facefocus.saliency.methods import METHODS, PerturbationMethod
from facefocus.saliency.perturbation import mask_set
from facefocus.saliency.rise import (
    GRID,
    patch_masks,
    patch_side,
    rise_masks,
    rise_weights,
    weighted_mean,
)


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks that are held."""

    values: np.ndarray
    options: tuple[tuple[str, str], ...] = (("weights", "centered"),)
    count: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", len(self.values))

    @property
    def frame(self) -> tuple[int, int]:
        height, width = self.values.shape[1:]
        return height, width

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(np.array_split(self.values, 3))


def drawn(seed: int, count: int, side: int = 16) -> np.ndarray:
    return rise_masks(np.random.default_rng(seed), count, (side, side), {})


def points_of(side: int) -> np.ndarray:
    return np.asarray(np.add.outer(np.array(read_points(side)) * side, read_points(side)).ravel())


def test_weights_of_cells_make_the_masks() -> None:
    """A grid of which one cell is kept, at every shift: what the masks themselves are made of."""
    weights = rise_weights(16)
    assert weights.shape == (2, 16, GRID)
    assert weights.sum(axis=2) == pytest.approx(np.ones((2, 16)))
    masks = drawn(0, 4)
    rng = np.random.default_rng(0)
    grids = rng.random((4, GRID, GRID)) < 0.5
    down, across = rng.integers(0, 2, 4), rng.integers(0, 2, 4)
    for mask, grid, y, x in zip(masks, grids, down, across, strict=True):
        assert mask == pytest.approx(weights[y] @ grid @ weights[x].T, abs=2**-16)


def test_covariances_of_grids_are_those_of_many_masks() -> None:
    masks = drawn(1, 40_000).reshape(40_000, -1).astype(np.float64) - 0.5
    measured = masks.T @ masks[:, points_of(16)] / len(masks)
    # A covariance of values within 0.5 of their mean is known to 0.25 / sqrt(n).
    assert np.abs(measured - grid_covariance((16, 16))).max() < 5 * 0.25 / 200


def test_covariances_of_patches_by_enumeration() -> None:
    """One and two patches at every place of a small frame."""
    size = patch_side(8)
    corners = list(product(range(8 - size + 1), repeat=2))
    squares = np.ones((len(corners), 8, 8))
    for mask, (top, left) in zip(squares, corners, strict=True):
        mask[top : top + size, left : left + size] = 0
    single = squares.reshape(len(corners), -1)
    double = (single[:, None] * single[None]).reshape(-1, 64)
    for patches, masks in ((1, single), (2, double)):
        means = masks.mean(axis=0)
        exact = (masks - means).T @ (masks - means)[:, points_of(8)] / len(masks)
        assert patch_means((8, 8), patches) == pytest.approx(means)
        assert patch_covariance((8, 8), patches) == pytest.approx(exact, abs=1e-12)


def similarity(masks: np.ndarray, side: int) -> np.ndarray:
    """Linear, even and odd in the mask's values, so that no linear model explains it."""
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    first, second, third = flat[:, 3 * side + 4], flat[:, 9 * side + 9], flat[:, 12 * side + 2]
    return 0.3 * first + 0.4 * first * second + 0.5 * (second - 0.5) ** 2 * third - 0.2


def test_the_map_is_unbiased_over_many_draws() -> None:
    """600 maps of 40 masks against one of 200,000: within the errors of the means, all pixels."""
    many = drawn(2, 200_000, 8)
    scores = similarity_of_eight(many)
    exact = (scores - scores.mean()) @ (many.reshape(len(many), -1) - 0.5) / len(many)
    maps = []
    for seed in range(600):
        masks = drawn(1000 + seed, 40, 8)
        own = similarity_of_eight(masks)[None]
        means = np.full(64, 0.5)
        maps.append(fitted_covariance(own, Masks(masks), means, grid_covariance((8, 8)))[0])
    error = np.std(maps, axis=0) / np.sqrt(600) + 0.5 * scores.std() / np.sqrt(len(many))
    deviations = (np.mean(maps, axis=0) - exact) / error
    assert np.abs(deviations).max() < 4.5
    assert np.square(deviations).mean() < 1.6


def similarity_of_eight(masks: np.ndarray) -> np.ndarray:
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    return 0.3 * flat[:, 10] + 0.4 * flat[:, 10] * flat[:, 37] + (flat[:, 20] - 0.5) ** 2


def test_the_spread_is_smaller_than_without() -> None:
    """Where a linear model explains most of the similarity; the plain map is that of S-RISE."""
    plain, fitted = [], []
    for seed in range(60):
        masks = drawn(seed, 120)
        own = (0.2 * masks.reshape(120, -1)[:, ::17].mean(axis=1) + 0.05 * masks[:, 3, 3])[None]
        held = Masks(masks)
        plain.append(weighted_mean(own.astype(np.float64), held)[0])
        fitted.append(fitted_rise(own.astype(np.float64), held)[0])
    assert np.std(fitted, axis=0).mean() < 0.7 * np.std(plain, axis=0).mean()
    # The plain map of n masks is (n - 1) / n of it: its weights lie about their own mean.
    difference = np.mean(fitted, axis=0) - np.mean(plain, axis=0) * 120 / 119
    assert np.abs(difference).max() < 5 * np.std(plain, axis=0).max() / np.sqrt(60)


def test_patch_masks_of_the_method_are_those_of_corr_rise() -> None:
    means = patch_means((16, 16))
    masks = patch_masks(np.random.default_rng(0), 20_000, (16, 16), {"fill": "black"})
    assert np.abs(masks.mean(axis=0).ravel() - means).max() < 5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize("name", ["s-rise-economical", "corr-rise-economical"])
def test_rows_do_not_depend_on_each_other_and_what_never_varies_is_zero(name: str) -> None:
    method = METHODS[name]
    assert isinstance(method, PerturbationMethod)
    masks = mask_set(method, (16, 16), "photo", seed=0, options={"masks": "96"})
    values = np.concatenate(list(masks))
    scores = np.stack([similarity(values, 16), np.full(96, 0.25), -similarity(values, 16)])
    made = method.combine(scores, masks)
    for row, alone in zip(made, scores, strict=True):
        assert (method.combine(alone[None], masks)[0] == row).all()
    assert np.abs(made[1]).max() < 1e-4


def test_a_fill_is_refused() -> None:
    asked = {
        "name": "x",
        "recognizers": {"source": "a"},
        "saliency": [{"method": "s-rise-economical", "fill": "inpaint"}],
        "occlusion": {"budget": 0.05, "fill": "inpaint"},
    }
    with pytest.raises(UserError, match=r"The 'fill' of \[saliency\] is for methods"):
        parse_experiment(asked)
