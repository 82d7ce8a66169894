"""What a terminal shows: progress with the time that remains, and tables that fit its width."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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

from facefocus.core.progress import Progress
from facefocus.core.text import visible

if TYPE_CHECKING:
    from facefocus.report.document import Block

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
        start = started.setdefault(stage, now)
        if done < total and now - last.get(stage, start) < LINE_EVERY:
            return
        last[stage] = now
        left = (now - start) * (total - done) / max(done, 1)
        console.print(
            f"{visible(stage)} {done}/{total}, about {int(left) // 60}:{int(left) % 60:02d} left",
            highlight=False,
            markup=False,
        )

    return write


def for_tables(console: Console) -> Console:
    """The console, or a wide one to the same file where it is a file or a pipe."""
    from facefocus.report.text_renderer import WIDTH

    return console if console.is_terminal else Console(file=console.file, width=WIDTH)


def print_blocks(blocks: Sequence[Block]) -> None:
    """Print blocks in the width of the terminal."""
    from facefocus.report.text_renderer import renderables

    console = for_tables(Console())
    for block in blocks:
        console.print(*renderables(block, console.width), sep="\n")


def print_summary(run: Path) -> None:
    """Print the table of a run folder.

    Raises:
        UserError: The run has no results yet.
    """
    from facefocus.analysis.results import read_results, run_notes
    from facefocus.analysis.summary import summarize
    from facefocus.analysis.surviving_share import read_robustness, surviving_shares
    from facefocus.report.document import Paragraph
    from facefocus.report.robustness_blocks import (
        robustness_answer,
        robustness_tables,
        short_table,
    )
    from facefocus.report.summary_blocks import summary_blocks

    results, robustness = read_results(run), read_robustness([run])
    summary, first = summarize(results), run_notes(run)
    last: list[Block] = []
    if robustness is not None:
        shares = surviving_shares(robustness)
        first += robustness_answer(results, summary, shares)
        last += robustness_tables(summary, shares, short_table)
    print_blocks([*map(Paragraph, first), *summary_blocks(summary), *last])


def print_study(folder: Path) -> None:
    """Print the leaderboards of a study.

    Raises:
        UserError: No run is finished.
    """
    from facefocus.analysis.results import read_runs, run_notes
    from facefocus.paper.paper_formats import LEADERBOARD, render

    text = render(read_runs([folder]), LEADERBOARD, "text")
    words = "\n".join([*run_notes(folder), text])
    Console().print(visible(words, lines=True), markup=False, highlight=False, soft_wrap=True)
