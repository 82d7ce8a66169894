"""What a terminal shows: progress with the time that remains, and tables that fit its width."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from facefocus.core.progress import Progress
from facefocus.core.text import visible

#: Seconds between two lines of progress in a log file.
LINE_EVERY = 15.0


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A `Progress` that draws on standard error while the block runs."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    bars = RichProgress(
        TextColumn("{task.description:<8}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def draw(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(visible(stage), total=total)
        bars.update(tasks[stage], completed=done, total=total)

    with bars:
        yield draw


def _lines(console: Console) -> Progress:
    """A line now and then: for a log file, or a cluster's output."""
    started: dict[str, float] = {}
    last: dict[str, float] = {}

    def write(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        begun = started.setdefault(stage, now)
        if done < total and now - last.get(stage, begun) < LINE_EVERY:
            return
        last[stage] = now
        left = (now - begun) * (total - done) / max(done, 1)
        console.print(
            f"{visible(stage)} {done}/{total}, about {int(left) // 60}:{int(left) % 60:02d} left",
            highlight=False,
            markup=False,
        )

    return write


# --- tables ---------------------------------------------------------------------------------------

#: Characters of a line where there is no terminal: the usual tables then need no folding.
WIDTH = 120

#: The column of names takes no more of a line than it needs, and at most this.
_NAMES = 40


def for_tables(console: Console) -> Console:
    """The console, or a wide one to the same file where it is a file or a pipe."""
    return console if console.is_terminal else Console(file=console.file, width=WIDTH)


@dataclass(frozen=True)
class Grid:
    """A table of figures for a terminal.

    Attributes:
        title: Above it.
        heading: Of the names.
        names: What each row is called.
        columns: Heading and cells of each column, the most important one first.
        dim: Rows that are there for comparison.
        apart: Rows below which a line is drawn.
    """

    title: str
    heading: str
    names: Sequence[str]
    columns: Sequence[tuple[str, Sequence[str]]]
    dim: frozenset[int] = field(default_factory=frozenset)
    apart: frozenset[int] = field(default_factory=frozenset)

    def within(self, width: int) -> list[Table]:
        """Tables with the same rows, as few as `width` allows; no name and no figure is cut.

        The columns that no longer fit, the last first, fold into tables of their own below.
        """
        words = [word for name in (self.heading, *self.names) for word in name.split()]
        least = max(map(cell_len, words), default=1)
        wanted = max(map(cell_len, (self.heading, *self.names)))
        widths = [_width(*column) for column in self.columns]
        tables: list[Table] = []
        first = 0
        while first < len(widths) or not tables:
            last = first + 1
            while last < len(widths) and _total(least, widths[first : last + 1]) <= width:
                last += 1
            room = width - _total(0, widths[first:last])
            tables.append(self._table(first, last, max(least, min(wanted, _NAMES, room))))
            first = last
        return tables

    def _table(self, first: int, last: int, names: int) -> Table:
        title = self.title if not first else f"{self.title} (continued)"
        # As text: in a plain title, ":b" of "file.py:build" would be an emoji.
        said = Text(visible(title), style="table.title")
        table = Table(title=said, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column(self.heading, overflow="fold", width=names)
        columns = self.columns[first:last]
        for heading, _ in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        for row, name in enumerate(self.names):
            cells = (Text(visible(cells[row])) for _, cells in columns)
            style = "dim" if row in self.dim else None
            table.add_row(Text(visible(name)), *cells, style=style, end_section=row in self.apart)
        return table


def _width(heading: str, cells: Sequence[str]) -> int:
    return max(cell_len(line) for line in (*heading.split("\n"), *map(visible, cells)))


def _total(names: int, widths: Sequence[int]) -> int:
    """The width of a table: every column has two spaces of its own, and the table one."""
    return names + sum(widths) + 2 * (len(widths) + 1) + 1
