"""The sentences say what the numbers say, and no more."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.analysis.standing import best, margins, no_more
from facefocus.analysis.summary import GUESSING, guessing, summarize, warnings
from facefocus.benchmark.result_slices import default_slices
from facefocus.evaluation.statistics import Interval, mean_interval
from facefocus.report.answer import answer, artefact_note, checks
from facefocus.report.document import Check
from tests.report.fabricated import row, table

PEOPLE = tuple(f"Person_{number}" for number in range(8))


def run(*kinds: dict[str, Any]) -> pl.DataFrame:
    """The summary of `rows`."""
    return summarize(rows_of(*kinds))


def rows_of(*kinds: dict[str, Any]) -> pl.DataFrame:
    """Every kind of row for eight people, around its rate: no two kinds spread them alike."""
    rows = []
    for number, kind in enumerate(kinds):
        moved = np.random.default_rng(number).permutation(np.linspace(-0.02, 0.02, len(PEOPLE)))
        rate = kind.get("rate", 0.75)
        moved *= 0.05 <= rate <= 0.95
        rows += [
            row(identity=name, **kind | {"rate": rate + more})
            for name, more in zip(PEOPLE, moved, strict=True)
        ]
    return table(rows)


def answer_of(results: pl.DataFrame) -> str:
    summary = summarize(results)
    return answer(results, summary, default_slices(summary))[0]


def plain(text: str) -> str:
    """A paragraph without its intervals, which are a test's of their own."""
    return re.sub(r" \[[^]]*\]", "", text)


def check_of(summary: pl.DataFrame, title: str) -> Check:
    return next(check for check in checks(summary) if title in check.title)


def test_names_the_largest_drop_and_what_random_pixels_take() -> None:
    text = plain(
        answer_of(
            rows_of(
                {"rate": 0.75},
                {"method": "layer-cam", "rate": 0.6},
                {"method": "random", "rate": 0.9},
            )
        )
    )
    assert text.startswith(
        "Black (artefact): hiding the 1 % of pixels that layer-cam (layer N) ranks highest takes"
    )
    assert "from 1.000 to 0.600, a drop of 0.400 (mean of 8 identities" in text
    assert "Random pixels of the same number take 0.100; the method takes 0.300" in text
    assert "the largest of 2 configurations" in text


def test_says_when_the_method_is_not_told_from_random() -> None:
    rows = [row(identity=name, rate=0.79) for name in PEOPLE]
    chance = zip(PEOPLE, (0.7, 0.9) * 4, strict=True)
    rows += [row(method="random", identity=name, rate=rate) for name, rate in chance]
    assert "is not shown to differ from chance" in answer_of(table(rows))


@pytest.mark.parametrize("rate", [0.9, 1.0])
def test_the_headline_names_random_pixels_where_they_take_more(rate: float) -> None:
    text = plain(answer_of(rows_of({"rate": rate}, {"method": "random", "rate": 0.2})))
    assert text.startswith(
        "Black (artefact): no method takes more from net than random pixels. As many of these take"
        " its recognition"
        " rate from 1.000 to 0.200, a drop of 0.800; at most, hiding the 1 % of pixels that"
    )
    assert f"takes it from 1.000 to {rate:.3f}" in text and "measurably" not in text


def test_a_winner_is_named_only_where_its_lead_is_told_from_none() -> None:
    sure = answer_of(rows_of({"rate": 0.6}, {"method": "layer-cam", "rate": 0.8}))
    assert (
        "It is the largest drop; layer-cam (layer N) comes next, and takes less by +0.200" in sure
    )
    draw = np.random.default_rng(0)
    level = [
        row(identity=name, method=method, rate=draw.uniform(0.4, 0.6))
        for name in PEOPLE
        for method in ("grad-cam", "layer-cam")
    ]
    text = answer_of(table(level))
    assert "It is no winner: " in text and "does not differ from it for sure (" in text
    # Two layers of one method are no rivals.
    alone = answer_of(rows_of({"rate": 0.6}, {"layer": "1", "rate": 0.6}))
    assert "winner" not in alone and "comes next" not in alone


@pytest.mark.parametrize(("count", "people"), [(1, "1 identity"), (4, "mean of 4 identities")])
def test_few_people_have_no_interval_and_no_winner(count: int, people: str) -> None:
    kinds: list[dict[str, Any]] = [{"rate": 0.5}, {"method": "random", "rate": 0.9}]
    few = rows_of(*kinds, {"method": "layer-cam", "rate": 0.9}, {"control": "shifted", "rate": 0.8})
    text = answer_of(few.filter(pl.col("identity").is_in(PEOPLE[:count])))
    assert text.startswith("Black (artefact), with too few people for an answer: hiding")
    assert f"({people}; fewer than 5 people: no interval)" in text
    assert "[" not in text and "95 %" not in text and "comes next" not in text


def test_a_recognizer_that_tells_nobody_apart_has_no_answer() -> None:
    for useless in ({"eer": 0.5}, {"eer": None, "clean_fmr": 1.0}):
        results = rows_of({"rate": 0.6} | useless, {"method": "random", "rate": 0.9} | useless)
        text = answer_of(results)
        assert text.startswith("No answer for net: the recognizer does not tell identities apart")
        assert "0.600" not in text
        summary = summarize(results)
        assert best(summary) is None and set(summary["warning"]) == {GUESSING}
        assert warnings(summary)[0].endswith(GUESSING)
        assert guessing(results) == ["net"]
    fine = rows_of({"rate": 0.6, "eer": 0.05, "clean_fmr": 0.04})
    assert guessing(fine) == [] and "No answer" not in answer_of(fine)
    assert "No answer" not in answer_of(
        fine.drop("eer", "clean_fmr")
    )  # results of earlier versions


def test_says_when_there_is_no_control_and_when_nothing_drops() -> None:
    text = answer_of(rows_of({"rate": 1.0}))
    assert "no method is shown to lower the recognition of net" in text
    assert "No random-pixel control was run" in text


def test_never_crowns_what_ignores_the_budget() -> None:
    cheat = {"method": "cheat", "rate": 0.0, "on_degenerate": "inclusive"}
    over = {"method": "over", "rate": 0.1, "masked_pixels": 200.0}
    top = best(run(cheat, over, {"rate": 0.8}))
    assert top is not None and top["method"] == "grad-cam"
    assert "no method has a score that keeps to the budget" in answer_of(rows_of(cheat))


def test_names_the_recognizer_of_a_transferred_map() -> None:
    assert "with maps from other" in answer_of(rows_of({"source": "other"}))


def test_mentions_people_without_a_map() -> None:
    rows = [row(identity=name, degenerate=name in PEOPLE[:2]) for name in PEOPLE]
    assert "25 % of its identities had no map" in answer_of(table(rows))


def test_one_paragraph_for_each_recognizer() -> None:
    results = rows_of({"target": "a", "source": "a"}, {"target": "b", "source": "b"})
    summary = summarize(results)
    first, second, _ = answer(results, summary, default_slices(summary))
    assert "rate of a from" in first and "rate of b from" in second


def test_no_results() -> None:
    assert answer(table([]), summarize(table([])), []) == [
        "This run has no results: no configuration was scored."
    ]


def test_checks_find_nothing_in_a_clean_run() -> None:
    shown: list[dict[str, Any]] = [
        {}, {"control": "shifted", "rate": 0.9}, {"control": "other", "rate": 0.9},
        {"split": "heldout"}, {"split": "heldout", "control": "shifted"},
        {"split": "heldout", "control": "other"}, {"method": "random", "rate": 0.9},
        {"method": "random", "split": "heldout", "rate": 0.9}, {"method": "oracle", "rate": 0.5},
    ]  # fmt: skip
    found_all = checks(run(*shown))
    assert [check.title for check in found_all if not check.good] == []
    assert len(found_all) == 9


def test_checks_find_what_is_wrong() -> None:
    flat = {"degenerate": True, "rate": 1.0, "cosine": 0.6, "masked_pixels": 0.0}
    summary = run(flat, {"method": "inc", "on_degenerate": "inclusive"})
    assert not check_of(summary, "budget").good
    maps = check_of(summary, "has a map")
    assert not maps.good and "grad-cam (layer N): 100 % of identities" in maps.detail
    assert "stay untouched" in maps.detail
    unstable = check_of(run({"maps_ill_conditioned": 3}), "another machine")
    assert not unstable.good and "grad-cam (layer N), 25 %" in unstable.detail
    assert not check_of(summary, "random pixels").good
    assert not check_of(summary, "other images").good
    # Unaffected because there was no map: said, but no further alarm.
    assert check_of(summary, "changes the scores").good
    unmoved = run({"rate": 1.0, "cosine": 0.6})
    assert not check_of(unmoved, "changes the scores").good


def test_checks_say_what_was_not_run() -> None:
    summary = run({}, {"method": "random"})
    for title in ("same shape", "other people's", "other images", "best mask"):
        assert not check_of(summary, title).good
    summary = run({}, {"layer": "1"}, {"control": "shifted"})
    check = check_of(summary, "same shape")
    assert not check.good and "1 of 2 configurations have no control" in check.detail


def controlled(**rates: float) -> str:
    """The answer on an own rate of 0.5, clean 1, with these controls' rates."""
    kinds: list[dict[str, Any]] = [{"rate": 0.5}, {"method": "random", "rate": 0.9}]
    for name, rate in rates.items():
        if name == "oracle":
            kinds.append({"method": "oracle", "rate": rate})
        elif name == "heldout":
            kinds += [{"split": "heldout", "rate": rate}, {"split": "half", "rate": 0.5}]
        else:
            kinds.append({"control": name, "rate": rate})
    return answer_of(rows_of(*kinds))


def test_answer_on_a_method_that_passes_everything() -> None:
    text = plain(controlled(shifted=0.8, other=0.7, heldout=0.6, oracle=0.4))
    assert "a drop of 0.500 (" in text
    assert "takes 0.200: the method beats it by +0.300." in text
    assert "the drop is 0.400, less than the 0.500" in text
    assert "it holds, but for 0.100." in text
    assert "it takes +0.200 beyond other people's masks" in text
    assert "it reaches 0.800." in text  # (0.5 - 0.1) / (0.6 - 0.1)
    assert "Random pixels of the same number" not in text


def test_answer_on_a_method_that_fails_everything() -> None:
    text = plain(controlled(shifted=0.4, other=0.4, heldout=1.0, oracle=0.9))
    assert "which is more: the method does worse than its control (-0.100)" in text
    assert "whose interval includes 0 (0.500 by the same maps on the photos" in text
    assert "Other people's masks take more (-0.100)" in text
    assert "The oracle takes no more than random pixels for sure" in text


def test_answer_says_when_an_interval_includes_zero() -> None:
    rows = [row(identity=name, rate=0.5) for name in PEOPLE]
    for control in ("shifted", "other"):
        around = zip(PEOPLE, (0.4, 0.6) * 4, strict=True)
        rows += [row(identity=name, control=control, rate=rate) for name, rate in around]
    text = answer_of(table(rows))
    interval = mean_interval(np.array([-0.1, 0.1] * 4))
    ends = f"0.000 [{interval.low:.3f}, {interval.high:.3f}]"
    assert f"the method is not shown to beat it ({ends}, which includes zero)" in text
    assert "Nothing shows that the mask is this person's own" in text
    assert f"{ends}, which includes zero." in text


def test_answer_says_nothing_of_what_was_not_measured() -> None:
    text = controlled()
    assert not any(word in text for word in ("shifted", "other people", "never saw", "oracle"))


def test_oracle_and_controls_are_never_the_best() -> None:
    top = best(run({"rate": 0.7}, {"method": "oracle", "rate": 0.1}, {"control": "other"}))
    assert top is not None and (top["method"], top["control"]) == ("grad-cam", None)


def test_options_are_named() -> None:
    kind = {"method": "occlusion-gradient", "options": "block=1 steps=25", "layer": None}
    assert "that occlusion-gradient (steps=25) ranks highest" in answer_of(rows_of(kind))


def test_control_missing_for_some() -> None:
    summary = run({}, {"fill": "white"}, {"method": "random"})
    check = check_of(summary, "random pixels")
    assert not check.good and "1 of 2 configurations have no random control" in check.detail


def test_a_shared_mask_needs_no_control_by_other_people() -> None:
    own, other = {"rate": 0.5}, {"control": "other", "rate": 0.9}
    shared = {"method": "shared-mask", "layer": None, "layer_calls": None, "objective": None}
    check = check_of(run(own, other, shared), "other people's masks")
    assert check.good and check.detail.startswith("Every configuration has a control")
    assert not check_of(run(own, shared), "other people's masks").good
    alone = check_of(run(shared), "other people's masks")
    assert alone.good and alone.detail == "There is no map of one person."


def impostors(clean: float, hidden: float) -> Check:
    rows = [row(clean_fmr=clean, fmr=hidden), row(identity="Bo", clean_fmr=0.0, fmr=0.0)]
    listed = checks(summarize(table(rows)))
    return next(check for check in listed if check.title == "Impostors under occlusion")


def test_the_fmr_before_and_after_is_a_finding() -> None:
    fine = impostors(0.02, 0.03)
    assert fine.good and "from 1 % to 1.5 %" in fine.detail  # means over two people
    assert not impostors(0.02, 0.2).good
    titles = [check.title for check in checks(summarize(table([row()])))]
    assert "Impostors under occlusion" not in titles  # nobody to compare with


def test_both_readings_are_said_apart() -> None:
    results = rows_of(
        {"rate": 0.1},
        {"method": "layer-cam", "rate": 0.6},
        {"method": "random", "rate": 0.3},
        {"fill": "white", "rate": 0.05},
        {"fill": "inpaint", "rate": 0.95},
        {"fill": "inpaint", "method": "layer-cam", "rate": 0.7},
        {"fill": "inpaint", "method": "random", "rate": 0.9},
    )
    summary = summarize(results)
    black, filled = map(plain, answer(results, summary, default_slices(summary)))
    assert black.startswith(
        "Black (artefact): hiding the 1 % of pixels that grad-cam (layer N) ranks highest takes"
        " the recognition rate of net from 1.000 to 0.100, a drop of 0.900 (mean of 8 identities"
    )
    assert filled.startswith(
        "With the gap filled in (inpaint, information): hiding the 1 % of pixels that layer-cam"
        " (layer N) ranks highest takes the recognition rate of net from 1.000 to 0.700"
    )
    # The largest drop of all is white's, an artefact: it is none of what the recognizer knew.
    assert "The largest drop at any budget and fill (artefact) is 0.950" in black
    assert "The largest drop" not in filled


def test_artefacts_alone_claim_nothing_of_what_was_known() -> None:
    results = rows_of({"rate": 0.2}, {"fill": "mean", "rate": 0.3})
    summary = summarize(results)
    assert answer(results, summary, default_slices(summary))[1:] == [
        "Pixels were hidden by black and mean only: this shows what upsets a recognizer, not what"
        " it knew from the pixels. For that, hide by a fill that sees the gap, too:"
        ' fill = ["black", "inpaint"].'
    ]
    several = artefact_note(rows_of({"fill": "white"}, {"fill": "mean"}, {"fill": "blur"}))
    assert several[0].startswith("Pixels were hidden by white, mean and blur only: ")
    assert several[0].endswith('fill = ["white", "inpaint"].')
    filled = rows_of({"fill": "linear", "rate": 0.2})
    (only,) = answer(filled, summarize(filled), default_slices(filled))
    assert only.startswith("With the gap filled in (linear, information): ")


def test_budgets_at_which_random_pixels_or_a_blob_take_as_much() -> None:
    kinds: tuple[dict[str, Any], ...]
    kinds = ({}, {"method": "random"}, {"method": "center-gaussian", "source": None})
    rates = {0.05: (0.8, 0.9, 0.9), 0.1: (0.5, 0.5, 0.6), 0.2: (0.3, 0.1, 0.4)}
    results = rows_of(
        *(
            {"budget": budget, "rate": rate} | kind
            for budget, left in rates.items()
            for rate, kind in zip(left, kinds, strict=True)
        )
    )
    compared = margins(summarize(results))
    budgets = [(margin.top["budget"], margin.rival[:6], margin.shown) for margin in compared]
    assert budgets == [
        (0.05, "random", True), (0.05, "a blob", True), (0.1, "random", False),
        (0.1, "a blob", True), (0.2, "random", False), (0.2, "a blob", True),
    ]  # fmt: skip
    assert [round(margin.more.value, 6) for margin in compared] == [0.1, 0.1, 0.0, 0.1, -0.2, 0.1]
    assert no_more(compared) == [
        "At 10 % and more, even the best method is not shown to take more than random pixels."
    ]
    assert answer_of(results).endswith(no_more(compared)[0])
    assert no_more([replace(margin, more=Interval(0.1, -0.1, 0.3)) for margin in compared]) == [
        "At every budget (5 %, 10 %, 20 %), even the best method is not shown to take more than"
        " random pixels or a blob in the middle (center-gaussian)."
    ]


def test_random_pixels_may_be_a_control_and_readings_have_margins_of_their_own() -> None:
    results = rows_of(
        {"rate": 0.2},
        {"control": "pixels", "rate": 0.4},
        {"fill": "inpaint", "rate": 0.95},
        {"fill": "inpaint", "control": "pixels", "rate": 0.95},
    )
    black, filled = margins(summarize(results))
    assert (black.top["fill"], black.shown) == ("black", True)
    assert (filled.top["reading"], filled.shown) == ("information", False)
    assert no_more([black]) == []
    assert no_more([filled]) == [
        "At 1 %, even the best method is not shown to take more than random pixels."
    ]


def test_no_margin_of_few_people() -> None:
    few = rows_of({"rate": 0.2}, {"method": "random", "rate": 0.2})
    assert margins(summarize(few.filter(pl.col("identity").is_in(PEOPLE[:4])))) == []
