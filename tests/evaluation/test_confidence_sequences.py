"""Bounds that hold however often one looks: against another library, by hand, and by simulation."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from facefocus.evaluation.confidence_sequences import (
    TIE,
    certain_places,
    first_place,
    growing_bets,
    log_capital,
    lower_bounds,
    mean_bounds,
    narrowing_bets,
    null_means,
)

VALUES = np.array([0.9, 0.4, 0.7, 1.0, 0.6, 0.8, 0.3, 0.95, 0.75, 0.85])
BETS = np.array([0.2, 0.5, 1.0, 1.5, 3.0, 0.8, 0.1, 2.0, 2.5, 1.2])

#: `confseq.betting.betting_mart` of confseq 0.0.11 (its Python files; the package needs a C++
#: compiler to install) on VALUES and BETS, with theta = 1 and trunc_scale = 0.9.
CONFSEQ = {
    (10, 0.65): [
        1.05, 0.933333, 0.98, 1.47, 1.5078, 1.773173, 1.733276, 2.643247, 4.462422, 8.478602,
    ],
    (12, 0.5): [
        1.08, 1.045636, 1.286133, 2.35791, 3.631181, 4.959156, 4.975687, 11.842135, 31.45567,
    ],
    (40, 0.3): [
        1.12, 1.184615, 1.680283, 3.519513, 7.215001, 10.447321, 10.527212, 25.871422, 61.545687,
        110.980771,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("of", "null"), CONFSEQ)
def test_capital_is_that_of_another_library(of: int, null: float) -> None:
    reference = CONFSEQ[of, null]
    for count in range(1, len(reference) + 1):
        if VALUES[:count].sum() > of * null:
            continue  # the other library says so one value later
        logs = log_capital(VALUES[None, :count], BETS[None, :count], null, of)
        # The most there ever was; nobody has less than the 1 that he began with.
        assert math.exp(logs[0]) == pytest.approx(max(1, *reference[:count]), rel=2e-6)


def test_a_null_that_the_values_contradict_is_refuted_for_certain() -> None:
    """Of four values two are 1: the mean is 0.5 or more."""
    values = np.array([[1.0, 1.0]])
    assert log_capital(values, np.zeros((1, 2)), 0.49, of=4)[0] == np.inf
    assert log_capital(values, np.zeros((1, 2)), 0.5, of=4)[0] == 0


def test_means_that_those_to_come_must_have() -> None:
    means = null_means(VALUES, 0.5, of=12)
    expected = [0.5, 0.463636, 0.47, 0.444444, 0.375, 0.342857, 0.266667, 0.26, 0.0875, -0.133333]
    assert means.round(6).tolist() == expected  # confseq.betting.mu_t


def test_the_game_is_fair_over_all_orders_of_a_list() -> None:
    """By enumeration: the mean capital over all orders is exactly the 1 at the start."""
    people = np.array([0.1, 0.9, 0.4, 0.7, 0.65])
    orders = np.array(list(permutations(people)))
    null = people.mean()
    for bets in (growing_bets(orders, null, 5), narrowing_bets(orders, 0.05)):
        means = null_means(orders, null, 5)
        paid = np.minimum(bets, 0.9 / means)
        # After the last but one nothing is left to chance.
        capital = np.cumprod(1 + paid * (orders - means), axis=1)[:, :4]
        assert capital.mean(axis=0) == pytest.approx(np.ones(4), abs=1e-12)


def test_bets_know_nothing_of_the_value_they_are_made_on_or_of_later_ones() -> None:
    other = VALUES.copy()
    other[6:] = 0.01
    for of in (10, 50):
        assert (growing_bets(VALUES, 0.5, of)[:7] == growing_bets(other, 0.5, of)[:7]).all()
    assert (narrowing_bets(VALUES, 0.05)[:7] == narrowing_bets(other, 0.05)[:7]).all()


def test_capital_falls_as_the_null_grows() -> None:
    """So that what is refuted is below one bound."""
    nulls = np.linspace(0.01, 0.99, 99)
    values = np.broadcast_to(VALUES, (99, 10))
    for bets in (BETS, narrowing_bets(VALUES, 0.05), growing_bets(VALUES, 0.49, 20)):
        logs = log_capital(values, np.broadcast_to(bets, (99, 10)), nulls, 20)
        assert (np.diff(logs[np.isfinite(logs)]) <= 1e-12).all()


def test_of_everybody_the_interval_is_the_mean() -> None:
    low, high = mean_bounds(VALUES[None], of=10, level=0.05)
    assert low[0] == pytest.approx(VALUES.mean(), abs=1e-6)
    assert high[0] == pytest.approx(VALUES.mean(), abs=1e-6)


def test_people_who_are_not_scored_yet_change_nothing() -> None:
    padded = np.append(VALUES, [np.nan] * 5)[None]
    assert lower_bounds(padded, 40, 0.05) == lower_bounds(VALUES[None], 40, 0.05)


STUDIES = 2000


def finite_lists(rng: np.random.Generator, people: int) -> np.ndarray:
    """A list of rates for each study, of many kinds: few values, piles at the ends, skewed."""
    lists = np.empty((STUDIES, people))
    kinds = np.array_split(np.arange(STUDIES), 4)
    lists[kinds[0]] = rng.random((len(kinds[0]), people)) < 0.1
    lists[kinds[1]] = rng.beta(0.3, 2, (len(kinds[1]), people))
    lists[kinds[2]] = rng.integers(0, 7, (len(kinds[2]), people)) / 6
    lists[kinds[3]] = np.clip(rng.normal(0.5, 0.17, (len(kinds[3]), people)), 0, 1)
    return lists  # rows are in random order already


def test_intervals_never_exclude_the_truth_in_95_of_100_studies() -> None:
    """2,000 studies of 96 people, looked at after every block of 8."""
    people, level = 96, 0.05
    lists = finite_lists(np.random.default_rng(3), people)
    truth = lists.mean(axis=1)
    wrong = np.zeros(STUDIES, bool)
    widths = []
    for count in range(8, people + 1, 8):
        low, high = mean_bounds(lists[:, :count], people, level)
        wrong |= (low > truth + 1e-6) | (high < truth - 1e-6)
        widths.append(float((high - low).mean()))
    assert wrong.mean() <= level
    # They are not merely valid: they shrink, and say something before the list is at its end.
    assert widths == sorted(widths, reverse=True)
    assert widths[5] < 0.35


@pytest.mark.parametrize("gap", [0.0, TIE + 0.005, 0.1])
def test_the_first_place_is_wrong_in_at_most_5_of_100_studies(gap: float) -> None:
    """2,000 studies of 6 methods on 64 people, looked at after every block of 8.

    Wrong is: the best is ever called beaten, or another one called first that is worse by more
    than a tie. Where all are alike (gap 0), the best is best by chance alone: the hardest case.
    """
    people, methods, level = 64, 6, 0.05
    rng = np.random.default_rng(4)
    own = rng.random((STUDIES, 1, people)) * 0.6
    values = np.clip(own + rng.normal(0, 0.15, (STUDIES, methods, people)), 0, 1)
    values[:, 0] = np.clip(values[:, 0] + gap, 0, 1)
    # Rates of few photos: multiples of a sixth.
    values = np.round(values * 6) / 6
    means = values.mean(axis=2)
    best = means.max(axis=1, keepdims=True)
    wrong, settled = np.zeros(STUDIES, bool), np.zeros(STUDIES, bool)
    for count in range(8, people, 8):
        beaten, able = certain_places(values[:, :, :count], people, level)
        wrong |= (beaten & (means >= best - 1e-9)).any(axis=1)
        wrong |= (able & (means < best - TIE - 1e-9)).any(axis=1)
        settled |= able.any(axis=1)
    assert wrong.mean() <= level
    if gap == 0.1:
        assert settled.mean() > 0.3


def test_the_first_place_of_everybody_is_always_certain() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (5, 12)) / 3
    standing = first_place(values, 12, 0.05)
    means = values.mean(axis=1)
    assert standing.first == int(means.argmax())
    assert standing.beaten.tolist() == (means < means.max() - 1e-12).tolist()


def test_a_method_that_was_left_out_is_compared_on_the_people_whom_it_has() -> None:
    values = np.array([[0.9], [0.1], [0.5]]).repeat(40, axis=1)
    values[1, 24:] = np.nan
    standing = first_place(values, 80, 0.05)
    assert standing.beaten.tolist() == [False, True, True]
    assert standing.first == 0


def test_one_method_alone_is_first() -> None:
    assert first_place(np.array([[0.5, 0.2]]), 10, 0.05).first == 0
