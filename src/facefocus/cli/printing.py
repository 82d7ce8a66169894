"""What every command prints with: text, columns, questions, notices, progress."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import typer

from facefocus.cli.console import shown_progress
from facefocus.core.progress import Progress
from facefocus.core.text import visible


def show(text: object, *, end: str = "\n", error: bool = False) -> None:
    """Print a text; control characters of names in it, which come from anywhere, are escaped."""
    print(visible(str(text), lines=True), end=end, file=sys.stderr if error else sys.stdout)


def show_lines(lines: Iterable[str]) -> None:
    """Print lines of text."""
    show("\n".join(lines))


def columns(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> Iterator[str]:
    """Rows of cells as lines with columns of equal width; those in `right` are flush right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def agreed(question: str) -> bool:
    """Whether the user answers a question with yes; the end of the input is a no."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        return False


class Notices(logging.Handler):
    """Notices and warnings on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a notice."""
        show(self.format(record), error=True)


class _Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM: as a cluster does when the time is up."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


@contextmanager
def long_job() -> Iterator[Progress]:
    """Progress on the terminal; Ctrl-C and SIGTERM are one line and exit code 130 or 143."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with shown_progress() as progress:
            yield progress
    except KeyboardInterrupt as stopped:
        show("Interrupted. What is finished is kept: run it again to go on.", error=True)
        raise typer.Exit(143 if isinstance(stopped, _Terminated) else 130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
