"""The sentences say what the numbers say, and no more."""

from __future__ import annotations

from typing import Any

import polars as pl

from facefocus.report.answer import Check, answer, best, checks
from facefocus.report.tables import default_slice, summarize
from tests.report.fabricated import row, table

PEOPLE = ("Ada", "Bo", "Cy", "Di")


def run(*kinds: dict[str, Any]) -> pl.DataFrame:
    """Every kind of row for four people."""
    return summarize(table([row(identity=name, **kind) for kind in kinds for name in PEOPLE]))


def said(summary: pl.DataFrame) -> str:
    (paragraph,) = answer(summary, default_slice(summary))
    return paragraph


def found(summary: pl.DataFrame, title: str) -> Check:
    return next(check for check in checks(summary) if title in check.title)


def test_names_the_largest_drop_and_what_random_pixels_take() -> None:
    text = said(
        run({"rate": 0.75}, {"method": "layer-cam", "rate": 0.6}, {"method": "random", "rate": 0.9})
    )
    assert "the 1 % of pixels that layer-cam (layer N) ranks highest (fill black)" in text
    assert "from 1.000 to 0.600, a drop of 0.400 [0.400, 0.400] (mean of 4 identities" in text
    assert "Random pixels of the same number take 0.100; the method takes 0.300" in text
    assert "largest drop of 2 configurations" in text


def test_says_when_the_method_is_not_told_from_random() -> None:
    rows = [row(identity=name, rate=0.8) for name in PEOPLE]
    chance = zip(PEOPLE, (0.7, 0.9, 0.7, 0.9), strict=True)
    rows += [row(method="random", identity=name, rate=rate) for name, rate in chance]
    assert "is not told from chance" in said(summarize(table(rows)))


def test_says_when_random_pixels_do_better() -> None:
    text = said(run({"rate": 0.9}, {"method": "random", "rate": 0.6}))
    assert "take 0.400, which is more: the method does worse than chance" in text


def test_says_when_there_is_no_control_and_when_nothing_drops() -> None:
    text = said(run({"rate": 1.0}))
    assert "No method lowers the recognition of net measurably" in text
    assert "No random-pixel control was run" in text


def test_never_crowns_what_ignores_the_budget() -> None:
    cheat = {"method": "cheat", "rate": 0.0, "on_degenerate": "inclusive"}
    over = {"method": "over", "rate": 0.1, "masked_pixels": 200.0}
    top = best(run(cheat, over, {"rate": 0.8}))
    assert top is not None and top["method"] == "grad-cam"
    assert "no method has a score that keeps to the budget" in said(run(cheat))


def test_names_the_recognizer_of_a_transferred_map() -> None:
    assert "with maps from other" in said(run({"source": "other"}))


def test_mentions_people_without_a_map() -> None:
    rows = [row(identity=name, degenerate=name == "Di") for name in PEOPLE]
    assert "25 % of its identities had no map" in said(summarize(table(rows)))


def test_one_paragraph_for_each_recognizer() -> None:
    summary = run({"target": "a", "source": "a"}, {"target": "b", "source": "b"})
    first, second = answer(summary, default_slice(summary))
    assert "rate of a from" in first and "rate of b from" in second


def test_no_results() -> None:
    assert answer(summarize(table([])), None) == [
        "This run has no results: no configuration was scored."
    ]


def test_checks_find_nothing_in_a_clean_run() -> None:
    summary = run({"split": "heldout"}, {"split": "heldout", "method": "random"})
    assert [check.good for check in checks(summary)] == [True] * 5


def test_checks_find_what_is_wrong() -> None:
    flat = {"degenerate": True, "rate": 1.0, "cosine": 0.6, "masked_pixels": 0.0}
    summary = run(flat, {"method": "inc", "on_degenerate": "inclusive"})
    assert not found(summary, "budget").good
    maps = found(summary, "has a map")
    assert not maps.good and "grad-cam (layer N): 100 % of identities" in maps.detail
    assert "stay untouched" in maps.detail
    assert not found(summary, "random pixels").good
    assert not found(summary, "other images").good
    # Unaffected because there was no map: said, but no further alarm.
    assert found(summary, "changes the scores").good
    unmoved = run({"rate": 1.0, "cosine": 0.6})
    assert not found(unmoved, "changes the scores").good


def test_control_missing_for_some() -> None:
    summary = run({}, {"fill": "white"}, {"method": "random"})
    check = found(summary, "random pixels")
    assert not check.good and "1 of 2 configurations have no random control" in check.detail
