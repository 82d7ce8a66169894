from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from statsmodels.stats.multitest import multipletests

from facefocus.evaluation.statistics import (
    compare_paired,
    holm,
    mean_interval,
    mean_intervals,
    paired_p_values,
    pick_shares,
    rank_agreement,
    rank_distribution,
)

RNG = np.random.default_rng(0)
A = RNG.normal(0.8, 0.1, 40)
B = A - RNG.normal(0.05, 0.08, 40)


def test_intervals_are_seeded_and_methods_share_their_weights() -> None:
    assert mean_interval(A, seed=3) == mean_interval(A, seed=3)
    assert mean_interval(A, share=True, seed=3) != mean_interval(A, share=True, seed=4)
    intervals = mean_intervals(np.stack([A, A / 2]), seed=3)
    assert intervals.low[1] == pytest.approx(intervals.low[0] / 2, abs=1e-11)


@pytest.mark.parametrize("values", [[], [np.nan], [0.1, np.inf]])
def test_values_must_be_finite(values: list[float]) -> None:
    sample = np.array(values, dtype=float)
    for function in (
        lambda: mean_interval(sample),
        lambda: compare_paired(sample, sample),
        lambda: rank_distribution([sample[None]], seed=0),
        lambda: pick_shares(sample[None], seed=0),
    ):
        with pytest.raises(ValueError, match="at least one value, all of them finite"):
            function()


def test_paired_test_matches_scipy() -> None:
    result = compare_paired(A, B)
    student, signed = stats.ttest_rel(A, B), stats.wilcoxon(A, B)
    assert result.t == pytest.approx(student.statistic, rel=1e-9)
    assert result.t_p == pytest.approx(student.pvalue, rel=1e-8)
    assert result.wilcoxon == signed.statistic
    assert result.wilcoxon_p == pytest.approx(signed.pvalue, rel=1e-12)
    assert (result.n, result.zeros) == (40, 0)
    assert result.difference == pytest.approx(np.mean(A - B), abs=1e-12)


def test_effect_sizes_by_hand() -> None:
    a, b = np.array([2.0, 4.0, 6.0]), np.array([1.0, 1.0, 4.0])
    # Differences 1, 3, 2: mean 2, variance 1. Variances of a and b: 4 and 3.
    result = compare_paired(a, b)
    assert result.difference == 2.0
    assert result.d_z == pytest.approx(2.0, abs=1e-12)
    assert result.d_pooled == pytest.approx(2 / math.sqrt(3.5), abs=1e-12)
    assert result.t == pytest.approx(2 * math.sqrt(3), abs=1e-12)
    # All three positive: one of 2^3 sign patterns, both tails.
    assert (result.wilcoxon, result.wilcoxon_p) == (0.0, 0.25)


def test_the_sign_follows_the_order() -> None:
    forward, backward = compare_paired(A, B), compare_paired(B, A)
    assert forward.t > 0
    assert backward.t == -forward.t
    assert backward.d_z == -forward.d_z
    assert backward.d_pooled == -forward.d_pooled
    assert (backward.t_p, backward.wilcoxon_p) == (forward.t_p, forward.wilcoxon_p)


def test_zero_differences_are_dropped_and_counted() -> None:
    a = np.concatenate([A, np.full(25, 0.7)])
    b = np.concatenate([B, np.full(25, 0.7)])
    result, without = compare_paired(a, b), compare_paired(A, B)
    assert result.zeros == 25
    assert (result.wilcoxon, result.wilcoxon_p) == (without.wilcoxon, without.wilcoxon_p)
    assert result.t_p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-8)


def test_rounding_does_not_break_ties() -> None:
    # 0.8 - 0.5 and 0.6 - 0.3 differ in the last bit; as ties both have rank 2.5, and the negative
    # ranks sum to 2.5 + 1.
    result = compare_paired(np.array([0.8, 0.3, 0.1, 0.9]), np.array([0.5, 0.6, 0.2, 0.1]))
    assert result.wilcoxon == 3.5


def test_no_difference_at_all() -> None:
    result = compare_paired(A, A.copy())
    assert (result.t, result.t_p, result.wilcoxon, result.wilcoxon_p) == (0, 1, 0, 1)
    assert (result.d_z, result.d_pooled, result.difference) == (0, 0, 0)
    assert result.zeros == 40


def test_the_same_difference_everywhere() -> None:
    result = compare_paired(A - 0.1, A)
    assert (result.t, result.t_p, result.d_z) == (-math.inf, 0.0, -math.inf)
    assert result.difference == pytest.approx(-0.1, abs=1e-12)
    assert result.d_pooled == pytest.approx(-0.1 / A.std(ddof=1), rel=1e-9)
    assert result.wilcoxon_p < 1e-6
    # Equal but for rounding.
    assert compare_paired(np.array([0.8, 0.6, 0.5]), np.array([0.5, 0.3, 0.2])).t == math.inf


def test_constant_conditions() -> None:
    result = compare_paired(np.full(5, 1.0), np.full(5, 0.1))
    assert (result.t, result.d_z, result.d_pooled) == (math.inf,) * 3


@pytest.mark.parametrize(("a", "p"), [(0.5, 1.0), (0.9, 1.0)])
def test_one_identity(a: float, p: float) -> None:
    result = compare_paired(np.array([a]), np.array([0.5]))
    assert (result.n, result.t_p, result.wilcoxon_p) == (1, p, 1.0)
    assert all(math.isnan(x) for x in (result.t, result.d_z, result.d_pooled))


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.just(2), st.integers(1, 30)),
        elements=st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 1.0]),
    )
)
@settings(max_examples=30, deadline=None)
def test_p_values_are_always_probabilities(samples: np.ndarray) -> None:
    result = compare_paired(samples[0], samples[1])
    assert 0 <= result.t_p <= 1
    assert 0 <= result.wilcoxon_p <= 1


def test_holm_by_hand() -> None:
    # 3 * 0.01, then 2 * 0.02, then max(0.04, 0.035).
    assert holm([0.02, 0.01, 0.035]) == pytest.approx([0.04, 0.03, 0.04], abs=1e-15)
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        holm([0.1, math.nan])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-9, 0.01, 0.02, 0.04, 0.3, 1.0]) | st.floats(0, 1), min_size=1)
)
def test_holm_matches_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-14)


def test_rank_shares_by_hand() -> None:
    # The first method's mean is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4; the second's 0.4.
    result = rank_distribution([np.array([[1.0, 0.0]]), np.array([[0.4, 0.4]])], seed=0)
    np.testing.assert_allclose(result.shares, [[0.75, 0.25], [0.25, 0.75]], atol=0.02)
    np.testing.assert_allclose(result.mean, [1.25, 1.75], atol=0.02)
    assert result.low.tolist() == [1, 1]
    assert result.high.tolist() == [2, 2]


def test_a_method_that_always_wins() -> None:
    values = np.stack([B, B + 0.5, B - 0.5])
    result = rank_distribution(list(values[:, None]), seed=0)
    assert result.shares.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert result.mean.tolist() == result.low.tolist() == result.high.tolist() == [2, 1, 3]


def test_tied_methods_divide_their_ranks() -> None:
    values = np.stack([A, A + 1, A.copy(), A - 1])
    result = rank_distribution(list(values[:, None]), seed=0)
    expected = [[0, 0.5, 0.5, 0], [1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]
    assert result.shares.tolist() == expected
    assert result.mean.tolist() == [2.5, 1, 2.5, 4]


def test_rank_shares_are_doubly_stochastic() -> None:
    values = np.random.default_rng(1).normal(size=(6, 9))
    result = rank_distribution(list(values[:, None]), seed=0, draws=2000)
    np.testing.assert_allclose(result.shares.sum(axis=0), 1)
    np.testing.assert_allclose(result.shares.sum(axis=1), 1)
    np.testing.assert_allclose(result.shares @ np.arange(1, 7), result.mean)


def ragged(rows: int = 12, people: int = 20) -> np.ndarray:
    """Rows with ties, a constant one, an empty one, one of a single value, and gaps."""
    values = np.round(np.random.default_rng(7).normal(0.1, 0.3, (rows, people)), 1)
    values[0] = 0.25
    values[1] = np.nan
    values[2, 1:] = np.nan
    values[3, :9] = np.nan
    values[4] = np.random.default_rng(8).normal(0, 1, people)
    return values


def test_many_intervals_are_those_of_one() -> None:
    values = np.concatenate([ragged(), ragged()])  # equal rows are computed once
    for index, interval in enumerate(mean_intervals(values, seed=3)):
        present = values[index][~np.isnan(values[index])]
        got = (interval.value, interval.low, interval.high)
        if not present.size:
            assert np.isnan(got).all()
            continue
        alone = mean_interval(present, seed=3)
        np.testing.assert_allclose(got, (alone.value, alone.low, alone.high), atol=1e-11)


def test_infinite_values_are_refused_in_rows() -> None:
    for function in (mean_intervals, paired_p_values):
        with pytest.raises(ValueError, match="finite"):
            function(np.array([[1.0, np.inf]]))


@pytest.mark.parametrize("people", [1, 2, 9, 13, 14, 50, 51])
@pytest.mark.parametrize("ties", [True, False])
def test_many_p_values_are_those_of_one(people: int, ties: bool) -> None:
    # Few rows: scipy's exact test of ties goes through every pattern of signs.
    values = np.random.default_rng(people).normal(0.1, 0.3, (6, people))
    values = np.round(values, 1) if ties else values
    values[0], values[1] = 0.0, 0.25
    values[2, : people // 2] = np.nan
    p_values = paired_p_values(values)
    for index, row in enumerate(values):
        present = row[~np.isnan(row)]
        single = compare_paired(present, np.zeros(len(present)))
        assert p_values.t[index] == pytest.approx(single.t_p, abs=1e-12)
        assert p_values.wilcoxon[index] == pytest.approx(single.wilcoxon_p, abs=1e-12)


def test_p_values_of_a_row_without_values_are_unknown() -> None:
    p_values = paired_p_values(np.array([[np.nan, np.nan], [0.5, 0.5]]))
    assert np.isnan(p_values.t[0]) and np.isnan(p_values.wilcoxon[0])
    assert (p_values.t[1], p_values.wilcoxon[1]) == (0.0, 0.5)


@pytest.mark.parametrize(("kind", "value"), [("kendall", 2 / 3), ("spearman", 0.8)])
def test_rank_agreement_by_hand(kind: Literal["kendall", "spearman"], value: float) -> None:
    # Four methods of constant drops: one neighboring swap, and every order is known.
    first = np.repeat(np.arange(4.0)[:, None], 20, axis=1)
    agreed = rank_agreement(first, first[[0, 2, 1, 3]], kind=kind)
    assert (agreed.value, agreed.low, agreed.high) == pytest.approx((value,) * 3, abs=1e-12)


@pytest.mark.parametrize(("kind", "low"), [("kendall", 1 / 3), ("spearman", 0.5)])
def test_rank_agreement_leaves_open_what_is_not_known(
    kind: Literal["kendall", "spearman"], low: float
) -> None:
    # The second and third method differ by nothing but chance on one side: 1 2 3 or 1 3 2.
    noise = np.tile([0.1, -0.1], 10)
    first = np.stack([np.zeros(20), 1 + noise, 1.01 - noise])
    second = np.repeat(np.arange(3.0)[:, None], 20, axis=1)
    agreed = rank_agreement(first, second, kind=kind)
    assert (agreed.value, agreed.low, agreed.high) == pytest.approx((1, low, 1), abs=1e-12)


def test_rank_agreement_of_one_method_or_level_ones_is_unknown() -> None:
    first = np.array([[0.0] * 6, [1.0, -0.9] * 3])
    assert math.isnan(rank_agreement(first, np.zeros((2, 6))).value)
    assert math.isnan(rank_agreement(first[:1], first[:1]).value)


@pytest.mark.parametrize("kind", ["kendall", "spearman"])
def test_rank_agreement_matches_scipy(kind: Literal["kendall", "spearman"]) -> None:
    first, second = np.random.default_rng(2).integers(0, 3, size=(2, 7, 5)).astype(float)
    theirs = stats.kendalltau if kind == "kendall" else stats.spearmanr
    expected = theirs(first.mean(axis=1).round(12), second.mean(axis=1).round(12)).statistic
    assert rank_agreement(first, second, kind=kind).value == pytest.approx(expected)
