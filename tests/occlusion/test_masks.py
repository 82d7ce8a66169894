from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from facefocus.core.errors import UserError
from facefocus.occlusion.masks import cut, inclusive, mask_of, pixel_count, ranking, top_pixels

BUDGETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.10)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    """Constant, sparse, tied, huge-range and ordinary maps."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    elements = draw(
        st.sampled_from(
            [
                st.just(0.25),
                st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0]),
                st.sampled_from([-0.0, 0.0, 0.25, 0.5]),
                st.sampled_from([5e-324, 1e-320, 1.0, 1e308, -1e308]),
                st.floats(-1e308, 1e308),
            ]
        )
    )
    return draw(hnp.arrays(np.float64, shape, elements=elements))


@pytest.mark.parametrize(
    ("budget", "shape", "count"),
    [
        (0.01, (112, 112), 125),  # 125.44
        (0.005, (112, 112), 63),  # 62.72
        (0.10, (112, 112), 1254),  # 1254.4
        (0.145, (10, 10), 15),  # 14.5, although 0.145 * 100 < 14.5 in floats
        (0.005, (10, 10), 1),  # 0.5
        (0.025, (10, 10), 3),  # 2.5 is not rounded to the even 2
        (0.0, (7, 9), 0),
        (1.0, (7, 9), 63),
    ],
)
def test_pixel_count(budget: float, shape: tuple[int, int], count: int) -> None:
    assert pixel_count(budget, *shape) == count


def test_budget_in_percent_is_suggested_as_a_share() -> None:
    with pytest.raises(UserError, match=r"\[0, 1\]\. Got 30\. Did you mean 0\.3\?"):
        pixel_count(30.0, 112, 112)
    with pytest.raises(UserError, match=r"Got -0\.1\.$"):
        pixel_count(-0.1, 112, 112)


@given(maps(), st.data())
def test_exactly_k_and_never_a_smaller_value(saliency: np.ndarray, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, saliency.size))
    mask = top_pixels(saliency, k, rng())
    assert np.count_nonzero(mask) == k
    if 0 < k < saliency.size:
        assert saliency[mask].min() >= saliency[~mask].max()


@given(maps(), st.integers(0, 2**32), st.data())
def test_top_pixels_is_the_head_of_the_ranking(
    saliency: np.ndarray, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, saliency.size))
    order = ranking(saliency, rng(seed))
    assert sorted(order.tolist()) == list(range(saliency.size))
    ranked = saliency.ravel()[order]
    assert np.all(ranked[1:] <= ranked[:-1])
    expected = cut(order, [k], (saliency.shape[0], saliency.shape[1]))[0]
    np.testing.assert_array_equal(top_pixels(saliency, k, rng(seed)), expected)


@given(maps(), st.integers(0, 100))
def test_masks_of_growing_budgets_are_nested(saliency: np.ndarray, seed: int) -> None:
    result = mask_of(saliency, degenerate=False, budgets=(0.1, 0.3, 0.8), rng=rng(seed))
    small, middle, large = result.masks
    assert not np.any(small & ~middle)
    assert not np.any(middle & ~large)
    counts = [pixel_count(b, *saliency.shape) for b in (0.1, 0.3, 0.8)]
    assert result.areas.tolist() == result.requested.tolist() == counts


def test_hand_worked_mask() -> None:
    saliency = np.array([[0.1, 0.9, 0.2], [0.8, 0.0, 0.3]])
    expected = [[False, True, False], [True, False, True]]
    assert top_pixels(saliency, 3, rng()).tolist() == expected


def test_ties_are_spread_over_the_whole_frame() -> None:
    """On a flat map every pixel is equally likely: chi-square over a 6 x 6 frame."""
    saliency = np.zeros((6, 6))
    hits = sum(top_pixels(saliency, 9, rng(seed)).astype(int) for seed in range(4000))
    expected = 4000 * 9 / 36
    # A pixel's count has variance n p (1 - p); the counts of one draw sum to 9, which costs one
    # degree of freedom: sum of (o - e)^2 / (e (1 - p)) * (35 / 36) is close to chi-square, 35.
    statistic = np.sum((hits - expected) ** 2) / (expected * (1 - 9 / 36)) * 35 / 36
    assert statistic < 66.6  # 99.9 % point of chi-square with 35 degrees of freedom


def test_ties_at_the_cut_only_are_random() -> None:
    saliency = np.zeros((5, 5))
    saliency[2, 2] = saliency[4, 0] = 1.0
    chosen = [top_pixels(saliency, 3, rng(seed)) for seed in range(200)]
    assert all(mask[2, 2] and mask[4, 0] for mask in chosen)
    third = {int(np.flatnonzero(mask & (saliency == 0))[0]) for mask in chosen}
    assert len(third) == 23


def test_same_seed_same_mask_and_input_untouched() -> None:
    saliency = rng(1).integers(0, 3, (20, 20)).astype(np.float32)
    before = saliency.copy()
    first, second = (top_pixels(saliency, 50, rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(saliency, before)
    assert np.any(first != top_pixels(saliency, 50, rng(8)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_must_be_finite(bad: float) -> None:
    saliency = np.full((3, 3), bad)
    for make in (
        lambda: ranking(saliency, rng()),
        lambda: top_pixels(saliency, 1, rng()),
        lambda: inclusive(saliency, [0.1]),
        lambda: mask_of(saliency, degenerate=False, budgets=[0.1], rng=rng()),
    ):
        with pytest.raises(ValueError, match="must be finite"):
            make()


@pytest.mark.parametrize("k", [-1, 10])
def test_k_must_fit_the_frame(k: int) -> None:
    with pytest.raises(ValueError, match=r"k must be in \[0, 9\]"):
        top_pixels(np.zeros((3, 3)), k, rng())
    with pytest.raises(ValueError, match=r"k must be in \[0, 9\]"):
        cut(np.arange(9), [k], (3, 3))


def test_inclusive_takes_the_whole_face_of_a_flat_map() -> None:
    masks = inclusive(np.full((8, 8), 0.5), BUDGETS)
    assert masks.shape == (6, 8, 8)
    assert masks.all()


def test_inclusive_takes_everything_beyond_a_sparse_map() -> None:
    saliency = np.zeros((10, 10))
    saliency[0, :5] = [5, 4, 3, 2, 1]
    # 100 values: the 95th percentile lies between 0 (rank 95 of 100) and 1, the 90th is 0.
    two, ten = inclusive(saliency, [0.02, 0.10])
    assert two.sum() == 2
    assert two[0, :2].all()
    assert ten.all()


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_inclusive_follows_numpy_percentile(seed: int) -> None:
    saliency = rng(seed).random((9, 7)).astype(np.float32)
    mask = inclusive(saliency, [0.1])[0]
    wide = saliency.astype(np.float64)
    np.testing.assert_array_equal(mask, wide >= np.percentile(wide, 90.0))


@pytest.mark.parametrize(
    ("policy", "areas", "skipped"),
    [
        ("none", [0, 0], False),
        ("skip", [0, 0], True),
        ("random", [10, 30], False),
        ("inclusive", [100, 100], False),
    ],
)
def test_degenerate_policies(policy: str, areas: list[int], skipped: bool) -> None:
    saliency = np.full((10, 10), np.nan)
    result = mask_of(saliency, degenerate=True, budgets=(0.1, 0.3), on_degenerate=policy, rng=rng())
    assert result.areas.tolist() == areas
    assert np.count_nonzero(result.masks, axis=(1, 2)).tolist() == areas
    assert result.requested.tolist() == [10, 30]
    assert result.degenerate
    assert result.skipped is skipped


@pytest.mark.parametrize("policy", ["none", "skip", "random"])
def test_a_sound_map_is_cut_exactly_under_every_exact_policy(policy: str) -> None:
    saliency = np.arange(100.0).reshape(10, 10)
    result = mask_of(saliency, degenerate=False, budgets=(0.03,), on_degenerate=policy, rng=rng())
    assert np.flatnonzero(result.masks[0]).tolist() == [97, 98, 99]
    assert not result.skipped
    assert not result.degenerate


def test_inclusive_is_the_rule_for_every_identity() -> None:
    saliency = np.zeros((10, 10))
    saliency[0, 0] = 1.0
    result = mask_of(
        saliency, degenerate=False, budgets=(0.1,), on_degenerate="inclusive", rng=rng()
    )
    assert result.areas.tolist() == [100]
    assert result.requested.tolist() == [10]


def test_random_policy_draws_from_the_seed() -> None:
    def draw(seed: int) -> np.ndarray:
        return mask_of(
            np.zeros((10, 10)),
            degenerate=True,
            budgets=(0.1,),
            on_degenerate="random",
            rng=rng(seed),
        ).masks

    np.testing.assert_array_equal(draw(3), draw(3))
    assert np.any(draw(3) != draw(4))


def test_unknown_policy_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"'on_degenerate' of \[occlusion\].*Did you mean 'skip'"):
        mask_of(np.zeros((2, 2)), degenerate=False, budgets=(0.5,), on_degenerate="skp", rng=rng())
