"""What a terminal shows: progress with the time that remains, and tables that fit its width."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

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
