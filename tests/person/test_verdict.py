"""What the first screen says, and what it must not say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facefocus.evaluation.statistics import Interval
from facefocus.person.proof import CLEAN, Figure, Judge
from facefocus.person.robust_figures import Robustness
from facefocus.person.trials import CHOSEN
from facefocus.person.verdict import Verdict, verdict
from tests.small import tiny_recognizer

KNOWN = Judge(tiny_recognizer("known"), True, np.eye(6))
FRESH = Judge(tiny_recognizer("fresh", 1), False, np.eye(6))
WORSE = Judge(tiny_recognizer("worse", 2), False, np.eye(6))


def figure(condition: str, judge: Judge, value: float, measure: str = "template") -> Figure:
    rule = "" if measure == "cosine" else "EER"
    return Figure(
        condition, judge.name, judge.seen, "unseen", measure, rule, value, 0.1, 0.9, photos=6
    )


def row(nuisance: str, judge: Judge, value: float, high: float) -> Robustness:
    return Robustness(
        nuisance, nuisance, judge.name, judge.seen, 0.8, 0.5, Interval(value, 0.0, high), {}, 6
    )


def verdict_of(
    robustness: list[Robustness],
    hidden: tuple[float, float, float] = (0.0, 1 / 6, 0.5),
    more: float = 0.3,
    judges: tuple[Judge, ...] = (KNOWN, FRESH, WORSE),
    measure: str = "template",
) -> Verdict:
    figures, values = [], {}
    for judge, value in zip((KNOWN, FRESH, WORSE), hidden, strict=True):
        if judge not in judges:
            continue
        for condition, shown, cosine in (
            (CLEAN, 1.0, 0.8),
            (CHOSEN, value, 0.2),
            ("random", 0.9, 0.2 + more),
            ("shifted", 0.95, 0.25 + more),
        ):
            figures.append(figure(condition, judge, cosine, "cosine"))
            if measure != "cosine":
                figures.append(figure(condition, judge, shown, measure))
            spread = np.roll(np.linspace(-0.01, 0.01, 6), len(condition) + ord(condition[0]))
            values[condition, judge.name, judge.seen] = {("cosine", ""): cosine + spread}
    picked = {(judge.name, judge.seen): ("own", "own") for judge in judges}
    return verdict(picked, values, figures, judges, robustness, budget=0.05, limits=[])


def test_the_four_numbers_are_clean_held_out_worst_unseen_and_the_strongest_control() -> None:
    numbers = verdict_of([]).numbers
    assert [number.value for number in numbers] == ["6 of 6", "0 of 6", "3 of 6", "5.4 of 6"]
    assert "worse" in numbers[2].detail and "known" in numbers[1].detail
    assert numbers[3].detail.startswith("random pixels, the strongest control")
    assert [number.value for number in verdict_of([], measure="cosine").numbers][2] == "0.20"
    alone = verdict_of([], judges=(KNOWN,)).numbers
    assert alone[2].value == "not tried" and "--unseen" in alone[2].detail


@pytest.mark.parametrize(
    "nuisance", ["mask-shift-2", "median-3", "inpaint-told", "photograph saved"]
)
def test_what_a_slip_or_a_repair_undoes_is_said_first_and_called_no_protection(
    nuisance: str,
) -> None:
    first = verdict_of([row(nuisance, WORSE, 0.2, 0.4)]).sentences[0]
    assert first.startswith("This is no protection: less than half of its effect is left after")
    # The interval reaches beyond a half: that it is undone is not shown.
    first = verdict_of([row(nuisance, WORSE, 0.2, 0.7)]).sentences[0]
    assert first.startswith("It is not shown to last")
    assert "no protection" not in " ".join(verdict_of([row(nuisance, WORSE, 0.8, 0.9)]).sentences)
    assert "no protection" not in " ".join(verdict_of([row("jpeg-10", WORSE, 0.1, 0.2)]).sentences)


def test_it_is_said_to_beat_the_control_only_where_the_interval_lies_above_zero() -> None:
    assert any(
        line.startswith("It lowers similarity more than random")
        for line in verdict_of([]).sentences
    )
    close = verdict_of([], more=0.0).sentences
    assert any("is not shown to lower similarity more" in line for line in close)
    assert any(
        line.startswith("It lowers similarity less") for line in verdict_of([], more=-0.1).sentences
    )


def test_without_a_threshold_no_match_is_claimed() -> None:
    text = " ".join(verdict_of([], measure="cosine").sentences)
    assert "from 0.80 to 0.20" in text and "cannot be said without a threshold" in text
    assert "matched" not in text


def test_a_larger_gallery_that_matches_more_is_said() -> None:
    shown = verdict_of([])
    assert not any("all your other photos" in line for line in shown.sentences)
    figures = [figure(CLEAN, KNOWN, 1.0), figure(CHOSEN, KNOWN, 0.0)]
    figures.append(replace(figure(CHOSEN, KNOWN, 0.5), gallery="others"))
    picked = {(KNOWN.name, True): ("own", "population")}
    shown = verdict(picked, {}, figures, [KNOWN], [], budget=0.05, limits=["a", "b", "c"])
    assert any("by your own mask or everybody's mask" in s for s in shown.sentences)
    assert any("3 of 6 are matched by" in s and "all your photos" in s for s in shown.sentences)
    assert shown.warnings == ("a", "b", "c")


def test_lost_and_moved_faces_are_said() -> None:
    painted = replace(row("photograph saved", WORSE, 0.9, 1.1), photos=4, undetected=2, moved=12.6)
    sentences = verdict_of([painted]).sentences
    assert any(line.startswith("On 2 of 6 painted photographs") for line in sentences)
    assert any("found 13 pixels of the crop" in line for line in sentences)
    still = replace(painted, undetected=0, moved=1.0)
    assert verdict_of([still]).sentences == verdict_of([]).sentences
