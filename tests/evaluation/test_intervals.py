"""Intervals hold: by simulation over people as they are, and against other implementations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from facefocus.evaluation.statistics import (
    FEWEST,
    deviation_factor,
    mean_interval,
    mean_intervals,
    pick_shares,
    rank_agreement,
    rank_distribution,
    ratio_intervals,
)

#: Rates of 400 people of LFW on `mobilefacenet-casia` in twelfths, and how many have each: nothing
#: hidden, a square of 3 % of the frame hidden, and one of 20 %.
CLEAN = {0: 5, 4: 1, 7: 1, 8: 4, 9: 1, 10: 3, 11: 5, 12: 380}
SMALL = {0: 4, 4: 1, 6: 9, 8: 3, 9: 2, 10: 14, 11: 15, 12: 352}
LARGE = {0: 95, 1: 8, 2: 23, 3: 7, 4: 28, 5: 12, 6: 98, 7: 10, 8: 20, 9: 10, 10: 16, 11: 4, 12: 69}
#: What the small square takes from each, clean minus hidden.
DROPS = {-6: 1, -2: 1, -1: 1, 0: 365, 1: 16, 2: 9, 6: 7}

#: How often a 95 % interval must hold. A simulation of 1000 samples is off by 0.007 in the mean.
LEAST = 0.92


def people(counts: dict[int, int]) -> np.ndarray:
    return np.repeat(list(counts), list(counts.values())) / 12


def paired(weaker: float) -> np.ndarray:
    """Drops [people, 2] by two masks, the second the stronger; rates are twelfths."""
    draw = np.random.default_rng(4)
    clean = draw.choice(people(CLEAN), 4000)
    frailty = draw.gamma(2, 0.5, 4000)
    rates = [
        np.clip(clean - np.round(12 * size * frailty * draw.uniform(0.6, 1.4, 4000)) / 12, 0, 1)
        for size in (weaker, 0.5)
    ]
    return clean[:, None] - np.stack(rates, axis=1)


def coverage(expected: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    return float(np.mean((low <= expected + 1e-12) & (expected - 1e-12 <= high)))


POPULATIONS: dict[str, Callable[[], np.ndarray]] = {
    "clean rates": lambda: people(CLEAN),
    "rates, little hidden": lambda: people(SMALL),
    "rates, much hidden": lambda: people(LARGE),
    "rates of most at 1": lambda: np.minimum(1, np.random.default_rng(3).beta(4, 2, 4000) * 1.5),
    "shares of the rates' kind, all between": lambda: np.random.default_rng(3).beta(30, 5, 4000),
    "drops, much hidden": lambda: paired(0.3)[:, 1],
    "drops, little hidden": lambda: people(DROPS),
    "differences of two masks": lambda: paired(0.3) @ np.array([-1.0, 1.0]),
    # Mean, deviation and skewness as of the same 400 people: 0.60, 0.13, -0.6; 0.055, 0.044, 0.9.
    "cosines": lambda: 1.02 - np.random.default_rng(5).gamma(11.0, 0.039, 4000),
    "drops of the cosine": lambda: np.random.default_rng(6).gamma(5.0, 0.02, 4000) - 0.045,
}


@pytest.mark.parametrize("count", [6, 10, 20, 60])
@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_hold(name: str, count: int) -> None:
    values = POPULATIONS[name]()
    chosen = np.random.default_rng(7).choice(values, (1000, count))
    intervals = mean_intervals(chosen, share="rates" in name, draws=1000)
    assert coverage(values.mean(), intervals.low, intervals.high) >= LEAST


@pytest.mark.parametrize("count", [6, 10, 20, 60])
@pytest.mark.parametrize("weaker", [0.2, 0.45])
def test_intervals_of_ratios_hold(weaker: float, count: int) -> None:
    pairs = paired(weaker)
    chosen = pairs[np.random.default_rng(8).integers(len(pairs), size=(1000, count))]
    ratios = ratio_intervals(chosen[..., 0], chosen[..., 1])
    known = ~np.isnan(ratios.low)
    ratio = pairs[:, 0].mean() / pairs[:, 1].mean()
    assert known.mean() > 0.9
    assert coverage(ratio, ratios.low[known], ratios.high[known]) >= LEAST


def test_where_few_people_carry_the_mean_the_stated_figure_holds() -> None:
    """Of exponential drops 6 people tell too little: the interval holds in .88, Student's too."""
    values = np.random.default_rng(9).exponential(0.1, 20_000)
    chosen = np.random.default_rng(10).choice(values, (1000, 6))
    intervals = mean_intervals(chosen, draws=1000)
    assert 0.86 <= coverage(values.mean(), intervals.low, intervals.high) <= 0.91


@pytest.mark.parametrize(("recognized", "count"), [(0, 6), (1, 6), (6, 6), (7, 10), (57, 60)])
def test_people_who_are_0_or_1_have_clopper_and_pearsons_interval(
    recognized: int, count: int
) -> None:
    rates = np.arange(count) < recognized
    interval = mean_interval(rates.astype(float), share=True)
    exact = stats.binomtest(recognized, count).proportion_ci(method="exact")
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high), abs=0.012)
    assert interval.value == recognized / count


def test_where_people_are_alike_it_is_students_interval() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 6)
    interval = mean_interval(values)
    student = stats.t.interval(0.95, 5, loc=values.mean(), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(student, abs=1e-12)


def test_it_is_no_narrower_than_scipys_studentized_bootstrap_by_much() -> None:
    values = np.random.default_rng(1).normal(0.3, 0.1, 20)
    theirs = stats.bootstrap(
        (values,), np.mean, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    interval = mean_interval(values)
    assert interval.low < theirs.low < theirs.high < interval.high
    assert interval.high - interval.low < 1.35 * (theirs.high - theirs.low)


def test_equal_values_say_little() -> None:
    """All rates 1: Clopper and Pearson's .025 ** (1 / n); no difference: as much both ways."""
    rates = mean_interval(np.ones(10), share=True)
    assert rates.high == 1.0 and rates.low == pytest.approx(0.025**0.1, abs=0.01)
    nothing = mean_interval(np.zeros(10))
    assert nothing.low < -0.25 and nothing.high > 0.25
    lost = mean_interval(np.ones(60))  # everybody is lost
    assert lost.high == 1.0 and lost.low > 0.85


def test_fewer_than_five_people_have_no_interval() -> None:
    for count in (1, 2, FEWEST - 1):
        for share in (True, False):
            interval = mean_interval(np.linspace(0.2, 0.4, count), share=share)
            assert (
                np.isfinite(interval.value) and np.isnan(interval.low) and np.isnan(interval.high)
            )
        ratio = ratio_intervals(np.full((1, count), 0.5), np.full((1, count), 1.0))
        assert ratio.value[0] == 0.5 and np.isnan(ratio.low[0])
        assert np.isnan(deviation_factor(count))
    sides = np.random.default_rng(0).normal(size=(2, 3, FEWEST - 1))
    agreed = rank_agreement(*sides)
    assert np.isfinite(agreed.value) and np.isnan(agreed.low)


def test_shares_outside_0_to_1_are_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        mean_intervals(np.full((1, 6), 1.2), share=True)
    assert mean_interval(np.full(6, 1 + 1e-12), share=True).value == 1.0  # a rounding is none


def test_ends_stay_where_differences_of_rates_can_be() -> None:
    interval = mean_interval(np.array([1.0, 1.0, 1.0, 0.0, 0.9, 1.0, 0.5]))
    assert -1 <= interval.low < interval.value < interval.high <= 1


# --- ratios ---------------------------------------------------------------------------------------


def test_ends_of_a_ratio_are_where_students_test_just_fails() -> None:
    draw = np.random.default_rng(3)
    bottom = draw.uniform(0.3, 1.0, 12)
    top = bottom * draw.uniform(0.2, 0.8, 12)
    ratios = ratio_intervals(top[None], bottom[None])
    assert ratios.value[0] == pytest.approx(top.mean() / bottom.mean())
    for end in (ratios.low[0], ratios.high[0]):
        assert stats.ttest_1samp(top - end * bottom, 0).pvalue == pytest.approx(0.05, abs=1e-9)


def test_random_is_0_and_the_oracle_1_of_itself() -> None:
    bottom = np.random.default_rng(3).uniform(0.3, 1.0, (1, 12))
    for share in (0.0, 1.0):
        ratios = ratio_intervals(share * bottom, bottom)
        assert (ratios.value[0], ratios.low[0], ratios.high[0]) == pytest.approx((share,) * 3)


def test_ratios_leave_out_people_who_lack_one_side_and_divisors_that_may_be_zero() -> None:
    top = np.array([[1.0, 3.0, np.nan, 5.0, 2.0, 2.0, 4.0, 3.0], [0.5] * 8])
    bottom = np.array([[2.0, 2.0, 9.0, np.nan, 2.1, 1.9, 2.0, 2.0], [1.0, -1.0] * 4])
    ratios = ratio_intervals(top, bottom)
    assert ratios.value[0] == pytest.approx(15 / 12)
    assert np.isnan([ratios.value[1], ratios.low[1], ratios.high[1]]).all()


# --- the order of methods -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [6, 20, 60])
@pytest.mark.parametrize("kind", ["kendall", "spearman"])
def test_intervals_of_rank_correlations_hold(
    kind: Literal["kendall", "spearman"], count: int
) -> None:
    """Also of methods so close that resampled means never come in the order of the true ones."""
    draw = np.random.default_rng(12)
    held, width = [], []
    for spread, shared in ((0.02, 1.0), (0.02, 0.5), (0.1, 1.0), (0.1, 0.7), (0.1, 0.0)):
        for _ in range(40):
            worth = draw.normal(0, spread, (2, 8))
            worth[1] = shared * worth[0] + math.sqrt(1 - shared**2) * worth[1]
            drops = worth[..., None] + draw.normal(0, 0.12, (2, 8, count))
            theirs = stats.kendalltau if kind == "kendall" else stats.spearmanr
            agreed = rank_agreement(*drops, kind=kind)
            held.append(agreed.low <= theirs(*worth).statistic + 1e-9 <= agreed.high + 2e-9)
            width.append(agreed.high - agreed.low)
    assert np.mean(held) >= LEAST
    assert count < 60 or np.mean(width) < 1.75  # it says something where people are many


# --- picking settings -----------------------------------------------------------------------------


def test_more_settings_are_no_advantage_by_themselves() -> None:
    """Two methods of equal worth, one with 20 settings: each is first in about half."""
    draw = np.random.default_rng(11)
    first, worth = [], []
    for _ in range(120):
        many, single = draw.normal(0.1, 0.2, (20, 30)), draw.normal(0.1, 0.2, (1, 30))
        first.append(rank_distribution([many, single], seed=0, draws=200).shares[0, 0])
        worth.append((pick_shares(many, seed=0) * many).sum(axis=0).mean())
    assert np.mean(first) == pytest.approx(0.5, abs=0.08)  # 0.98 where the best is picked once
    assert np.mean(worth) == pytest.approx(0.1, abs=0.01)  # 0.17 where it is reported on the same


def test_the_better_setting_is_picked() -> None:
    values = np.random.default_rng(12).normal(0.1, 0.05, (3, 20)) + np.array([[0.0], [0.5], [0.0]])
    shares = pick_shares(values, seed=0)
    assert shares[1].tolist() == [1.0] * 20
    assert rank_distribution([values, np.full((1, 20), 0.3)], seed=0).shares[0, 0] > 0.99
    assert pick_shares(values[:1], seed=0).tolist() == [[1.0] * 20]
