"""Tables for a terminal fit its width and cut nothing."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from facefocus.cli.console import for_tables
from facefocus.report.document import plain_table
from facefocus.report.text_renderer import terminal_tables

NAMES = (
    "clean",
    "occlusion-gradient @ N/2, steps=25, from mobilefacenet-casia + ms1m",
    "[bold]x[/]",
)
CELLS = {
    "Recognition": "0.886 [0.861, 0.910]",
    "Excess": "+0.076 [0.010, 0.120]",
    "Specificity": "-0.076 [-0.110, 0.020]",
    "n": "60",
    "No\nmap": "31.7 %",
    "Area\nmean/max": "0.75/1 %",
}
TABLE = plain_table(
    ["Method @ layer", *CELLS],
    [(name, *CELLS.values()) for name in NAMES],
    "file.py:build: \x1b[31mred",
)


def shown(width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(*terminal_tables(TABLE, width), sep="")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_name_and_no_figure_is_cut(width: int) -> None:
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text and "\x1b" not in text and r"\x1b[31mred" in text
    for cell in CELLS.values():
        assert text.count(cell) >= 3
    for word in (" ".join(NAMES)).split():
        assert word in text, word
    assert ":build" in text  # no emoji, no markup
    heads = [text.index(title) for title in ("Recognition", "Excess", "Specificity", "mean/max")]
    assert heads == sorted(heads)


def test_what_fits_is_one_table_and_the_audit_folds_first() -> None:
    assert len(terminal_tables(TABLE, 160)) == 1
    assert "continued" not in shown(160)
    first, *others = terminal_tables(TABLE, 100)
    kept = [str(column.header) for column in first.columns]
    assert kept[:2] == ["Method @ layer", "Recognition"] and "Area\nmean/max" not in kept
    assert [str(column.header) for column in others[-1].columns][-1] == "Area\nmean/max"
    assert len(terminal_tables(TABLE, 60)) > len(terminal_tables(TABLE, 100))


def test_names_longer_than_the_line_go_on_in_the_next() -> None:
    long = plain_table(["h", "n"], [("x" * 90, "1")], "t")
    console = Console(width=60, file=io.StringIO(), color_system=None)
    console.print(*terminal_tables(long, 60))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("x") == 90


def test_a_file_gets_wide_tables() -> None:
    file = io.StringIO()
    assert for_tables(Console(file=file, width=60)).width == 120
    terminal = Console(file=file, width=60, force_terminal=True)
    assert for_tables(terminal) is terminal
