from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from facefocus.evaluation.statistics import holm, mean_interval
from facefocus.evaluation.strata import Stratum
from facefocus.faces.part_atlas import FACE_PARTS, parts
from facefocus.recognizer_cards.card_conditions import (
    CLEAN,
    Condition,
    first_conditions,
    further_conditions,
)
from facefocus.recognizer_cards.card_figures import (
    condition_rows,
    half_area,
    map_figures,
    stratum_rows,
)

PEOPLE = 12
OWNERS = np.repeat(np.arange(PEOPLE), 4)
NAMES = [f"p{number:02d}" for number in range(PEOPLE)]


def scores(*matched: int) -> np.ndarray:
    """Four pairs of each person, of which so many lie above 0.5."""
    return np.concatenate([np.where(np.arange(4) < own, 0.9, 0.1) for own in matched])


def test_conditions_hide_parts_alone_and_all_of_them_once() -> None:
    conditions = {each.name: each for each in first_conditions(112)}
    assert next(iter(conditions)) == "clean" and len(conditions) == 1 + 3 + 2 * (2 + 9)
    drawn = parts()
    inside = np.any([drawn[part] for part in FACE_PARTS], axis=0)
    np.testing.assert_array_equal(conditions["inside, black"].mask, inside)
    np.testing.assert_array_equal(conditions["outside, inpaint"].mask, ~inside)
    np.testing.assert_array_equal(conditions["eyes, black"].mask, drawn["eyes"])
    frames = np.random.default_rng(0).integers(1, 256, (2, 112, 112, 3), np.uint8)
    black = conditions["eyes, black"].changed(frames, ["a", "b"], 0)
    assert (black[:, drawn["eyes"]] == 0).all()
    np.testing.assert_array_equal(black[:, ~drawn["eyes"]], frames[:, ~drawn["eyes"]])
    filled = conditions["eyes, inpaint"].changed(frames, ["a", "b"], 0)
    assert (filled[:, drawn["eyes"]] > 0).any()
    np.testing.assert_array_equal(conditions["clean"].changed(frames, ["a", "b"], 0), frames)


@pytest.mark.parametrize("condition", [*first_conditions(32)[1:4], *further_conditions()])
def test_each_photo_is_changed_on_its_own(condition: Condition) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    together = condition.changed(frames, ["a", "b", "c"], 5)
    np.testing.assert_array_equal(condition.changed(frames[1:2], ["b"], 5), together[1:2])
    assert (together != frames).any()


def test_rates_changes_and_p_values_by_hand() -> None:
    hidden = Condition("eyes, black", "the eyes hidden, black", "eyes", "black")
    clean_matched = [4] * 10 + [2, 3]
    hidden_matched = [1, 0, 2, 1, 0, 1, 1, 2, 0, 1, 0, 1]
    same = scores(*clean_matched)
    rows = condition_rows(
        [CLEAN, hidden, Condition("half", "half", nuisance="half")],
        np.stack([same, scores(*hidden_matched), same]),
        OWNERS,
        {"eer": 0.5, "fmr=1e-3": 0.95},
    )
    rates = np.array([clean_matched, hidden_matched]) / 4
    rate = rows[1].rates["eer"]
    assert rows[0].rates["eer"].tmr == mean_interval(rates[0], share=True)
    assert rate.tmr == mean_interval(rates[1], share=True)
    assert rate.change == mean_interval(rates[1] - rates[0])
    difference = rates[1] - rates[0]
    # Everybody loses: of 2^12 signs, Wilcoxon's exact test counts the two that are alike.
    larger = max(float(stats.ttest_1samp(difference, 0).pvalue), 2 / 2**12)
    assert rate.p_value == pytest.approx(holm([larger, 1.0, 1.0, 1.0])[0]) and rate.shown
    assert not rows[2].rates["eer"].shown and rows[2].rates["eer"].p_value == 1
    # Nothing reaches 0.95: no change at the stricter threshold.
    assert rows[1].rates["fmr=1e-3"].tmr.value == 0 and not rows[1].rates["fmr=1e-3"].shown
    assert np.isnan(rows[0].rates["eer"].p_value) and np.isnan(rows[1].fmr.value)


def test_false_matches_are_counted_by_the_person_of_the_changed_photo() -> None:
    impostors = np.array([0, 0, 1, 1, 1, 1])
    strangers = np.array([[0.9, 0.1, 0.1, 0.1, 0.1, 0.1]])
    (row,) = condition_rows(
        [CLEAN], scores(*[4] * PEOPLE)[None], OWNERS, {"eer": 0.5}, strangers, impostors
    )
    assert row.fmr.value == pytest.approx((1 / 2 + 0) / 2)


def test_few_people_show_nothing() -> None:
    few = np.repeat(np.arange(9), 4)
    hidden = Condition("eyes, black", "", "eyes", "black")
    rows = condition_rows(
        [CLEAN, hidden], np.stack([scores(*[4] * 9), scores(*[0] * 9)]), few, {"eer": 0.5}
    )
    assert np.isnan(rows[1].rates["eer"].p_value) and not rows[1].rates["eer"].shown


def test_a_pair_is_in_the_stratum_of_its_first_photo() -> None:
    # Four photos of each person; the last two of each are dark, and match one time in two.
    first = np.arange(4 * PEOPLE)
    pairs = np.stack([first, (first // 4) * 4 + (first + 1) % 4], axis=1)
    matched = np.tile([0.9, 0.9, 0.9, 0.1], PEOPLE)
    dark = Stratum("light", "dark", first % 4 >= 2)
    old = Stratum("age", "old", first < 40)
    none = Stratum("age", "nobody", np.zeros(len(first), bool))
    shares = dict.fromkeys(NAMES, 0.8) | {"p11": 0.2}
    rows = stratum_rows([dark, old, none], NAMES, pairs, matched, OWNERS, {"eer": 0.5}, shares)
    assert [row.stratum.name for row in rows] == ["dark", "old"]
    by_light, by_age = rows
    assert (by_light.people, by_light.photos) == (12, 24)
    assert by_light.rates["eer"].tmr.value == 0.5
    assert by_light.rates["eer"].change.value == -0.5 and by_light.rates["eer"].shown
    assert np.isnan(by_light.face_share.value), "everybody has photos on both sides"
    # Two people are too few to compare ten with.
    assert by_age.people == 10 and np.isnan(by_age.rates["eer"].p_value)
    assert by_age.face_share.value == 0.8


def test_strangers_of_a_stratum_are_both_in_it() -> None:
    pairs = np.stack([np.arange(48), np.roll(np.arange(48), -1)], axis=1)
    dark = Stratum("light", "dark", np.arange(48) < 8)
    strangers = np.array([[0, 4], [0, 20], [4, 1], [30, 2]])
    cosines = np.array([0.9, 0.9, 0.1, 0.9])
    (row,) = stratum_rows(
        [dark], NAMES, pairs, np.full(48, 0.9), OWNERS, {"eer": 0.5}, {},
        (strangers, cosines, strangers[:, 0] // 4),
    )  # fmt: skip
    assert row.fmr.value == 0.5


def test_half_of_a_map_by_hand() -> None:
    # 6 of 12 lie on the first pixel, half of the mass: a quarter of four pixels.
    assert half_area(np.array([[6.0, 3.0], [3.0, 0.0]])) == 0.25
    # 2.5 of 5 equal pixels of 6.
    assert half_area(np.array([[1.0, 1, 1], [1, 1, 0]])) == pytest.approx(2.5 / 6)
    assert half_area(np.ones((3, 3))) == 0.5


def test_own_halves_against_those_of_others() -> None:
    rng = np.random.default_rng(0)
    own = rng.random((6, 16, 16))
    halves = [[each + 0.1 * rng.random((16, 16)), each] for each in own]
    figures = map_figures([*halves, [], [np.zeros((16, 16))], [own[0]]])
    assert (figures.people, figures.without, figures.halved) == (7, 2, 6)
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in halves]
    assert figures.own.value == pytest.approx(np.mean(expected))
    crossed = [
        np.mean([np.corrcoef(halves[i][s].ravel(), halves[j][1 - s].ravel())[0, 1]
                 for j in range(6) if j != i for s in (0, 1)])
        for i in range(6)
    ]  # fmt: skip
    assert figures.others.value == pytest.approx(np.mean(crossed))
    assert figures.personal.low > 0.5
    alone = map_figures([[own[0]]])
    assert np.isnan(alone.personal.value) and alone.population.max() == 1
