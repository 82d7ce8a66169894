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
    _counts,
    _rho,
    _tau_b,
    bootstrap_mean,
    bootstrap_means,
    bootstrap_ratios,
    compare_paired,
    holm,
    paired_p_values,
    rank_agreement,
    rank_correlation,
    rank_distribution,
)

RNG = np.random.default_rng(0)
A = RNG.normal(0.8, 0.1, 40)
B = A - RNG.normal(0.05, 0.08, 40)


def test_bootstrap_of_two_values_by_hand() -> None:
    # Means 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    values = np.array([0.0, 1.0])
    wide = bootstrap_mean(values, seed=0)
    assert (wide.value, wide.low, wide.high) == (0.5, 0.0, 1.0)
    narrow = bootstrap_mean(values, seed=0, level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_bootstrap_matches_scipy() -> None:
    ours = bootstrap_mean(A, seed=1)
    theirs = stats.bootstrap(
        (A,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(5)
    ).confidence_interval
    assert ours.value == A.mean()
    # Monte Carlo error of a 2.5 % point with 10,000 draws: about 0.025 standard errors.
    tolerance = 0.15 * stats.sem(A)
    assert ours.low == pytest.approx(theirs.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.high, abs=tolerance)


def test_bootstrap_is_seeded_and_pairs_methods() -> None:
    assert bootstrap_mean(A, seed=3) == bootstrap_mean(A, seed=3)
    assert bootstrap_mean(A, seed=3) != bootstrap_mean(A, seed=4)
    moved = bootstrap_mean(A + 1, seed=3)
    assert moved.low == pytest.approx(bootstrap_mean(A, seed=3).low + 1, abs=1e-12)


def test_bootstrap_stays_in_range_and_covers_several_chunks() -> None:
    rates = np.ones(1680)
    rates[:3] = 0.5
    interval = bootstrap_mean(rates, seed=0)
    assert interval.low <= interval.value <= interval.high <= 1.0
    # Binomial(1680, 3/1680) low rates, 2.5 % points 0 and 7, each worth 1/2.
    assert interval.high == 1.0
    assert interval.low == pytest.approx(1 - 0.5 * 7 / 1680, abs=1e-9)


def test_bootstrap_of_equal_values_and_of_one() -> None:
    equal = bootstrap_mean(np.full(7, 0.1), seed=0)
    assert equal.low == equal.high == equal.value == pytest.approx(0.1, abs=1e-15)
    one = bootstrap_mean(np.array([0.3]), seed=0)
    assert one.value == 0.3
    assert math.isnan(one.low)
    assert math.isnan(one.high)


@pytest.mark.parametrize("values", [[], [np.nan], [0.1, np.inf]])
def test_values_must_be_finite(values: list[float]) -> None:
    sample = np.array(values, dtype=float)
    for function in (
        lambda: bootstrap_mean(sample, seed=0),
        lambda: compare_paired(sample, sample),
        lambda: rank_distribution(sample[None], seed=0),
        lambda: rank_correlation(sample, sample, seed=0),
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


# Few examples: statsmodels collects garbage in every call.
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-9, 0.01, 0.02, 0.04, 0.3, 1.0]) | st.floats(0, 1), min_size=1)
)
def test_holm_matches_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-14)


def test_rank_shares_by_hand() -> None:
    # The first method's mean is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4; the second's 0.4.
    result = rank_distribution(np.array([[1.0, 0.0], [0.4, 0.4]]), seed=0)
    np.testing.assert_allclose(result.shares, [[0.75, 0.25], [0.25, 0.75]], atol=0.02)
    np.testing.assert_allclose(result.mean, [1.25, 1.75], atol=0.02)
    assert result.low.tolist() == [1, 1]
    assert result.high.tolist() == [2, 2]


def test_a_method_that_always_wins() -> None:
    values = np.stack([B, B + 0.5, B - 0.5])
    result = rank_distribution(values, seed=0)
    assert result.shares.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert result.mean.tolist() == result.low.tolist() == result.high.tolist() == [2, 1, 3]


def test_tied_methods_divide_their_ranks() -> None:
    values = np.stack([A, A + 1, A.copy(), A - 1])
    result = rank_distribution(values, seed=0)
    expected = [[0, 0.5, 0.5, 0], [1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]
    assert result.shares.tolist() == expected
    assert result.mean.tolist() == [2.5, 1, 2.5, 4]


def test_rank_shares_are_doubly_stochastic() -> None:
    values = np.random.default_rng(1).normal(size=(6, 9))
    result = rank_distribution(values, seed=0, draws=2000)
    np.testing.assert_allclose(result.shares.sum(axis=0), 1)
    np.testing.assert_allclose(result.shares.sum(axis=1), 1)
    np.testing.assert_allclose(result.shares @ np.arange(1, 7), result.mean)


@given(
    hnp.arrays(np.int64, st.tuples(st.just(2), st.integers(3, 12)), elements=st.integers(0, 5)),
    st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_weighted_correlations_match_scipy_on_resamples(samples: np.ndarray, seed: int) -> None:
    x, y = samples.astype(float)
    chosen = np.random.default_rng(seed).integers(len(x), size=(1, len(x)))
    u, v = x[chosen[0]], y[chosen[0]]
    ours = [float(measure(x, y, _counts(chosen))[0]) for measure in (_tau_b, _rho)]
    if np.ptp(u) == 0 or np.ptp(v) == 0:
        assert all(math.isnan(value) for value in ours)
    else:
        expected = [stats.kendalltau(u, v).statistic, stats.spearmanr(u, v).statistic]
        np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize(("kind", "value"), [("kendall", 2 / 3), ("spearman", 0.8)])
def test_rank_correlation_by_hand(kind: Literal["kendall", "spearman"], value: float) -> None:
    # One neighboring swap of four: 5 pairs agree, 1 does not; squared rank distances 2.
    x, y = np.arange(4.0), np.array([0.0, 2.0, 1.0, 3.0])
    result = rank_correlation(x, y, kind=kind, seed=0)
    assert result.value == pytest.approx(value, abs=1e-15)
    assert -1 <= result.low <= result.value <= result.high == 1


def test_rank_correlation_interval_matches_scipy() -> None:
    ours = rank_correlation(A, B, kind="spearman", seed=0)
    theirs = stats.bootstrap(
        (A, B),
        lambda u, v: stats.spearmanr(u, v).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1500,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.high, abs=0.03)


def test_perfect_and_undefined_correlations() -> None:
    x = np.arange(6.0)
    kinds: tuple[Literal["kendall", "spearman"], ...] = ("kendall", "spearman")
    for kind in kinds:
        up = rank_correlation(x, x**3, kind=kind, seed=0)
        assert (up.value, up.low, up.high) == (1, 1, 1)
        down = rank_correlation(x, -x, kind=kind, seed=0)
        assert (down.value, down.low, down.high) == (-1, -1, -1)
        flat = rank_correlation(x, np.zeros(6), kind=kind, seed=0)
        assert all(math.isnan(v) for v in (flat.value, flat.low, flat.high))


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
    values = np.concatenate([ragged(), ragged()])  # equal rows are resampled once
    found = bootstrap_means(values, seed=3)
    for index, row in enumerate(values):
        present = row[~np.isnan(row)]
        got = (found.value[index], found.low[index], found.high[index])
        if not present.size:
            assert np.isnan(got).all()
            continue
        one = bootstrap_mean(present, seed=3)
        np.testing.assert_allclose(got, (one.value, one.low, one.high), atol=1e-11)


def test_many_intervals_with_few_draws() -> None:
    values = np.random.default_rng(0).normal(size=(3, 9))
    found = bootstrap_means(values, seed=1, draws=20)
    expected = bootstrap_mean(values[2], seed=1, draws=20)
    assert (found.low[2], found.high[2]) == pytest.approx((expected.low, expected.high))


def test_infinite_values_are_refused_in_rows() -> None:
    for function in (lambda v: bootstrap_means(v, seed=0), paired_p_values):
        with pytest.raises(ValueError, match="finite"):
            function(np.array([[1.0, np.inf]]))


def test_ratios_by_hand() -> None:
    # Means 1/2 and 1/4 above the line; below it always 1, and a mean that may be 0 or less.
    top = np.array([[0.0, 1.0], [0.25, 0.25], [1.0, 1.0]])
    bottom = np.array([[1.0, 1.0], [1.0, 1.0], [2.0, -1.0]])
    found = bootstrap_ratios(top, bottom, seed=0)
    assert found.value[:2].tolist() == [0.5, 0.25]
    assert (found.low[0], found.high[0]) == (0.0, 1.0)
    assert (found.low[1], found.high[1]) == (0.25, 0.25)
    assert np.isnan([found.value[2], found.low[2], found.high[2]]).all()


def test_ratios_leave_out_people_who_lack_one_side() -> None:
    top = np.array([[1.0, 3.0, np.nan, 5.0]])
    bottom = np.array([[2.0, 2.0, 9.0, np.nan]])
    found = bootstrap_ratios(top, bottom, seed=0)
    assert found.value[0] == 1.0
    assert (found.low[0], found.high[0]) == (0.5, 1.5)
    one = bootstrap_ratios(np.array([[1.0, np.nan]]), np.array([[4.0, 1.0]]), seed=0)
    assert one.value[0] == 0.25
    assert np.isnan(one.low[0])


@pytest.mark.parametrize("people", [1, 2, 9, 13, 14, 50, 51])
@pytest.mark.parametrize("ties", [True, False])
def test_many_p_values_are_those_of_one(people: int, ties: bool) -> None:
    values = np.random.default_rng(people).normal(0.1, 0.3, (12, people))
    values = np.round(values, 1) if ties else values
    values[0], values[1] = 0.0, 0.25
    values[2, : people // 2] = np.nan
    found = paired_p_values(values)
    for index, row in enumerate(values):
        present = row[~np.isnan(row)]
        one = compare_paired(present, np.zeros(len(present)))
        assert found.t[index] == pytest.approx(one.t_p, abs=1e-12)
        assert found.wilcoxon[index] == pytest.approx(one.wilcoxon_p, abs=1e-12)


def test_p_values_of_a_row_without_values_are_unknown() -> None:
    found = paired_p_values(np.array([[np.nan, np.nan], [0.5, 0.5]]))
    assert np.isnan(found.t[0]) and np.isnan(found.wilcoxon[0])
    assert (found.t[1], found.wilcoxon[1]) == (0.0, 0.5)


@pytest.mark.parametrize(("kind", "value"), [("kendall", 2 / 3), ("spearman", 0.8)])
def test_rank_agreement_by_hand(kind: Literal["kendall", "spearman"], value: float) -> None:
    # Four methods of constant drops: one neighboring swap, whoever is resampled.
    first = np.repeat(np.arange(4.0)[:, None], 5, axis=1)
    found = rank_agreement(first, first[[0, 2, 1, 3]], kind=kind, seed=0)
    assert (found.value, found.low, found.high) == pytest.approx((value,) * 3, abs=1e-12)


def test_rank_agreement_resamples_people_alike() -> None:
    # Two methods; the second is better for half of the people, on both sides alike.
    first = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, -0.9, 1.0, -0.9]])
    alike = rank_agreement(first, 2 * first, seed=0)
    assert (alike.value, alike.low, alike.high) == (1, 1, 1)
    opposed = rank_agreement(first, -first, seed=0)
    assert (opposed.value, opposed.low, opposed.high) == (-1, -1, -1)
    level = rank_agreement(first, np.zeros((2, 4)), seed=0)
    assert math.isnan(level.value)
    assert math.isnan(rank_agreement(first[:1], first[:1], seed=0).value)


@pytest.mark.parametrize("kind", ["kendall", "spearman"])
def test_rank_agreement_matches_scipy(kind: Literal["kendall", "spearman"]) -> None:
    first, second = np.random.default_rng(2).integers(0, 3, size=(2, 7, 5)).astype(float)
    theirs = stats.kendalltau if kind == "kendall" else stats.spearmanr
    expected = theirs(first.mean(axis=1).round(12), second.mean(axis=1).round(12)).statistic
    assert rank_agreement(first, second, kind=kind, seed=0, draws=50).value == pytest.approx(
        expected
    )
