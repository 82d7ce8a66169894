"""What a run with ``[stop]`` says of itself, word by word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from facefocus.analysis.results import run_notes
from facefocus.analysis.stop_notes import stop_notes
from facefocus.benchmark.early_stopping import STOP
from facefocus.report.run_result import Results

ABOUT = {"target": "net", "budget": 0.01, "fill": "black", "reading": "artefact", "split": "same"}


def method(name: str, layer: str | None = None, options: str = "") -> dict[str, Any]:
    return {
        "source": "net", "method": name, "options": options, "layer": layer, "layer_calls": layer,
        "objective": None, "evidence": None, "normalize": None, "arcface_scale": None,
        "max_pairs": None, "on_degenerate": "none",
    }  # fmt: skip


METHODS = [method("grad-cam", "1"), method("grad-cam", "2"), method("lime"), method("xface"),
           method("fame")]  # fmt: skip


def notes_of(run: Path, **changes: Any) -> list[str]:
    verdict = {
        "about": ABOUT, "people": 16, "of": 60, "methods": METHODS, "open": METHODS[:2],
        "first": None, "intervals": [], "certain": False,
    } | changes.pop("verdict", {})  # fmt: skip
    plain = {
        "when": "ranking", "width": None, "level": 0.05, "people": 16, "of": 60,
        "finished": False, "verdicts": [verdict], "left_out": [[], []],
    } | changes  # fmt: skip
    (run / STOP).write_text(json.dumps(plain))
    return list(stop_notes(run))


def test_an_open_first_place_names_who_is_left(tmp_path: Path) -> None:
    first, second, last = notes_of(tmp_path)
    assert first == "16 of 60 people, in a seeded order. More is certain as it goes on."
    assert second == (
        "net, 1 % of the pixels, fill black (artefact): after 16 of 60 people the first place is"
        " open between 2 of 5 methods (grad-cam @ 1, grad-cam @ 2)."
    )
    assert last.startswith("Whatever is called certain here is wrong with a probability of 5 % at")
    assert "the 60 people of this run" in last


def test_a_run_that_stopped_says_who_is_first_and_who_was_left_out(tmp_path: Path) -> None:
    lines = notes_of(
        tmp_path, finished=True, left_out=[[], METHODS[2:]],
        verdict={"certain": True, "open": [], "first": METHODS[1]},
    )  # fmt: skip
    assert lines[0] == "16 of 60 people, in a seeded order. Stopped early."
    assert "grad-cam @ 2 has the largest drop of 5 methods, or one within 0.02 of it" in lines[1]
    assert lines[2].startswith("3 methods were certain before the last block")


def test_widths(tmp_path: Path) -> None:
    ends = [[0.1, 0.2], [0.3, 0.7], [0.0, 0.1], [0.2, 0.3], [0.5, 0.55]]
    lines = notes_of(
        tmp_path, when="width", width=0.15, verdict={"intervals": ends, "open": METHODS[1:2]}
    )
    assert "the intervals of 1 of 5 methods are wider than 0.15 (the widest: 0.40)" in lines[1]
    ends[1] = [0.4, 0.5]
    done = {"intervals": ends, "open": [], "certain": True}
    lines = notes_of(tmp_path, when="width", width=0.15, finished=True, verdict=done)
    assert "recognition is known to 0.10 or better for every method, after 16 of 60" in lines[1]


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_without_stop_nothing_is_said(tmp_path: Path, text: str) -> None:
    assert list(stop_notes(tmp_path)) == []
    (tmp_path / STOP).write_text(text)
    assert list(stop_notes(tmp_path)) == []


def test_tables_pages_and_objects_say_of_how_many_people_they_are(tmp_path: Path) -> None:
    """They all begin with the notes of the run; here the objects of a notebook, too."""
    notes_of(tmp_path)
    rows = pl.DataFrame({"identity": ["a", "b"]})
    rows.write_parquet(tmp_path / "results.parquet")
    (tmp_path / "run.json").write_text("{}")
    assert run_notes(tmp_path)[0].startswith("16 of 60 people")
    results = Results(rows, tmp_path)
    results.__dict__["table"] = pl.DataFrame({"target": ["net"]})
    assert repr(results) == "Results: 2 of 60 identities, 1 configurations on net"
