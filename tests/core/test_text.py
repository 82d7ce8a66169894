"""One formatter of numbers; names that command no terminal, page or document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import facefocus
from facefocus.cli import main
from facefocus.core.notices import notice
from facefocus.core.text import (
    NOTHING,
    as_markdown,
    as_tex,
    bounds,
    number,
    p_value,
    percent,
    plain_markdown,
    visible,
    with_bounds,
)


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.88649, False, "0.886"),
        (0.0765, True, "+0.076"),
        (-0.0004, True, "0.000"),
        (-0.0004, False, "0.000"),
        (-0.0, True, "0.000"),
        (-0.02, False, "-0.020"),
        (None, False, NOTHING),
        (float("nan"), False, NOTHING),
        (float("inf"), False, NOTHING),
    ],
)
def test_number(value: float | None, signed: bool, text: str) -> None:
    assert number(value, signed=signed) == text
    assert number(-0.00001, 4) == "0.0000"


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0.3166, 1, "31.7 %"),
        (0.01, 2, "1 %"),
        (0.005, 2, "0.5 %"),
        (125 / 112**2, 2, "1 %"),
        (0.1, 0, "10 %"),
        (1.0, 1, "100 %"),
        (0.0, 1, "0 %"),
        (0.00001, 1, "<0.1 %"),
        (0.004, 0, "<1 %"),
        (-0.004, 0, "0 %"),
        (-0.0, 0, "0 %"),
        (-0.25, 0, "-25 %"),
        (None, 1, NOTHING),
    ],
)
def test_percent(share: float | None, digits: int, text: str) -> None:
    assert percent(share, digits) == text


def test_figures_with_and_without_an_interval() -> None:
    assert with_bounds(0.8861, 0.8607, 0.9096) == "0.886 [0.861, 0.910]"
    assert with_bounds(0.1, -0.0001, 0.2, signed=True) == "+0.100 [0.000, 0.200]"
    assert with_bounds(0.5, None, None) == with_bounds(0.5, float("nan"), float("nan")) == "0.500"
    assert bounds(None, 1.0) == ""
    assert [p_value(p) for p in (0.0004, 0.012, None)] == ["<0.001", "0.012", NOTHING]


HOSTILE = "\x1b[2J<b>`a|b`</b>[x](javascript:x)*&_%\u202e\x00"


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert visible("Ann\x1b[31m\r\x07\n") == r"Ann\x1b[31m\x0d\x07\x0a"
    assert visible("a\tb\nc\x1b", lines=True) == "a\tb\nc\\x1b"
    assert visible("\u202egnp.exe\u200b\x9b") == r"\u202egnp.exe\u200b\x9b"
    assert visible("M\udcfcller") == r"M\xfcller"  # a byte of a name that is not UTF-8
    assert visible("Müller 李 é") == "Müller 李 é"


def test_names_are_text_in_every_format() -> None:
    cell, tex = as_markdown(HOSTILE), as_tex(HOSTILE)
    assert not any("\x1b" in text or "\u202e" in text for text in (cell, tex))
    assert "<" not in cell and r"\`a\|b\`" in cell and "](" not in cell and r"\*" in cell
    assert r"\textless{}b\textgreater{}" in tex and r"\&\_\%" in tex
    assert plain_markdown("- **Ann<script>**: 0.5 [0.4, 0.6]") == (
        "- **Ann&lt;script&gt;**: 0.5 [0.4, 0.6]"
    )


def test_the_command_line_writes_hostile_names_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["facefocus", "status", "run\x1b[2J"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    notice("The recognizer '\x1b]0;owned\x07' is odd.")
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert r"run\x1b[2J" in captured.err and r"\x1b]0;owned\x07" in captured.err


def test_no_figure_is_shown_but_by_this_module() -> None:
    """A format of its own somewhere else would bring ``-0.000`` back."""
    own = re.compile(r"\{[^{}]*:[+,]*\.\d[f%]\}(?! MB)|:\+?\.\d+f\}(?! MB)")
    allowed = {"text.py"}
    #: Times, memory and speeds, which are never negative.
    allowed |= {"store_commands.py", "experiment.py", "model_commands.py", "run_commands.py"}
    allowed |= {"synthetic_commands.py", "verification.py", "randomization.py", "backends.py"}
    allowed |= {"check_commands.py", "sheet.py", "cost.py", "reliance.py"}
    root = Path(facefocus.__file__).parent
    files = {
        path.name for path in root.rglob("*.py") if own.search(path.read_text(encoding="utf-8"))
    }
    assert files <= allowed
