"""A section of one's own stands on the page, in its place."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from facefocus.report import explorer_files
from facefocus.report.page import write_report
from facefocus.report.section_registry import SECTIONS, ordered_sections
from tests.report.fabricated import realistic, write_run


def test_the_example_adds_a_section_to_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(SECTIONS)
    monkeypatch.setattr(SECTIONS, "_entries", {name: SECTIONS[name] for name in before})
    monkeypatch.setattr(explorer_files, "chart_library", lambda: Path(__file__))
    runpy.run_path("examples/my_block.py")
    page = write_report(write_run(tmp_path / "run", realistic(3))).read_text(encoding="utf-8")
    order = [page.index(f'id="{name}"') for name in ("people", "hardest-people", "audit")]
    assert order == sorted(order)
    assert "read their drops with care" in page


def test_the_built_in_views_come_in_the_order_in_which_a_reader_asks() -> None:
    names = {id(section): name for name in SECTIONS for section in [SECTIONS[name]]}
    assert [names[id(section)] for section in ordered_sections()] == [
        "leaderboard", "truth", "layers", "budgets", "fills", "robustness", "losses", "transfer",
        "lineage", "identification", "people", "pose", "strata", "audit", "provenance",
    ]  # fmt: skip
