"""The document on a run's methods."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from facefocus.cli.app import app
from facefocus.paper.methods_document import methods_document
from facefocus.report.document import Heading, Paragraph, Table
from tests.report.fabricated import row, table, write_run

PEOPLE = [f"P{number}" for number in range(8)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = []
    for split, loss in (("same", 0.0), ("heldout", 0.125)):
        for budget in (0.01, 0.05):
            for method, drop in (("a", 0.25), ("b", 0.5)):
                for source in ("net", "other"):
                    rows += [
                        row(identity=name, method=method, source=source, split=split,
                            budget=budget, rate=1 - drop * 10 * budget + loss * budget)
                        for name in PEOPLE
                    ]  # fmt: skip
    return write_run(tmp_path / "run", table(rows))


def test_every_setting_has_its_table_and_methods_come_in_order(run: Path) -> None:
    blocks = methods_document(run)
    tables = [block for block in blocks if isinstance(block, Table)]
    settings = [block for block in tables if "by budget" in block.caption]
    assert [block.caption.split(", ")[1] for block in settings] == [
        "photos the map came from", "held-out photos",
    ]  # fmt: skip
    held = settings[1]
    assert [column.title for column in held.columns][:3] == ["Method @ layer", "1 %", "5 %"]
    labels = [held.columns[0].cell(entry) for entry in held.rows]
    assert labels == ["b @ N", "a @ N"]
    # 1 - .5 * 10 * .05 + .125 * .05
    assert str(held.columns[2].cell(held.rows[0])).startswith("0.756 [")
    assert any("drop by kinship" in block.caption for block in tables)


def test_maps_of_other_recognizers_alone_have_a_table_of_their_own(tmp_path: Path) -> None:
    rows = [
        row(identity=name, method=method, source=source, rate=rate)
        for method, source, rate in (("a", "other", 0.5), ("b", "far", 0.25), ("random", None, 1.0))
        for name in PEOPLE
    ]
    blocks = methods_document(write_run(tmp_path / "run", table(rows)))
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert "Own maps under every setting" not in headings
    assert "Maps of other recognizers alone, under every setting" in headings
    (shown,) = [
        block for block in blocks if isinstance(block, Table) and "by budget" in block.caption
    ]
    labels = [shown.columns[0].cell(entry) for entry in shown.rows]
    assert labels == ["random", "b @ N, from far", "a @ N, from other"]


def test_it_is_of_one_run(run: Path) -> None:
    reported = CliRunner().invoke(app, ["report", str(run), "--what", "methods"])
    assert reported.exit_code == 0 and "## Own maps under every setting" in reported.output
    both = CliRunner().invoke(app, ["report", str(run), str(run), "--what", "methods"])
    assert both.exit_code != 0


def test_a_submission_is_named_as_it_was_given(run: Path) -> None:
    (run / "submission.json").write_text("{}")
    paragraphs = [block.text for block in methods_document(run) if isinstance(block, Paragraph)]
    assert any("`facefocus report run --what methods`" in text for text in paragraphs)
    assert not any(str(run.parent) in text for text in paragraphs)
