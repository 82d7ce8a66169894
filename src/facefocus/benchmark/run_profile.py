"""Where the time of a run goes, by its log: seconds and passes of start, stages and end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facefocus.benchmark.run_log import read_log
from facefocus.benchmark.stages import STAGES
from facefocus.core.errors import UserError
from facefocus.core.files import any_path
from facefocus.core.locations import run_folders


@dataclass(frozen=True)
class Part:
    """A part of a run, over all its variants and all times that it was started.

    Attributes:
        name: ``start`` (imports), ``faces``, ``recognizers``, ``plan``, a stage, ``collect`` (the
            tables), ``page``; of the demo also ``picture`` and ``person``.
        seconds: By the clock, however many workers there were.
        processor: Seconds that processors worked, of all threads and workers: they say what it
            costs where others work on the machine, too.
        tasks: That were done.
        images: That went through passes without gradients.
        padded: Those of them that only filled up a batch.
        passes: What the tasks cost, in the unit of progress: roughly, passes of every kind.
    """

    name: str
    seconds: float = 0.0
    processor: float = 0.0
    tasks: int = 0
    passes: int = 0
    images: int = 0
    padded: int = 0

    def __add__(self, other: Part) -> Part:
        return Part(
            self.name,
            self.seconds + other.seconds,
            self.processor + other.processor,
            self.tasks + other.tasks,
            self.passes + other.passes,
            self.images + other.images,
            self.padded + other.padded,
        )


@any_path
def run_profile(run: Path) -> list[Part]:
    """The parts of a run in the order of their work; stages that did nothing are left out.

    Args:
        run: Its folder, also while it goes on.

    Raises:
        UserError: Its log says nothing.
    """
    parts: dict[str, Part] = {}
    for folder in run_folders(run):
        for part in _parts(read_log(folder)):
            parts[part.name] = parts.get(part.name, Part(part.name)) + part
    if not parts:
        raise UserError(f"'{run}' has no run.log that tells of work. Name the folder of a run.")
    stages = list(STAGES)
    order = ["start", "faces", "recognizers", "plan", *stages]
    done = [part for part in parts.values() if part.tasks or part.name not in stages]
    return sorted(
        done, key=lambda part: order.index(part.name) if part.name in order else len(order)
    )


def _parts(lines: Iterator[dict[str, Any]]) -> Iterator[Part]:
    """What each line of a log adds. A stage ends where the next thing begins."""
    stage, began, last = "", 0.0, 0.0
    for line in lines:
        event, when = line["event"], line["time"]
        ends = event in ("start", "stage", "spent", "stop", "finish")
        if stage and ends:
            # A run that was killed did nothing between its last line and its next start.
            end = last if event == "start" else when - line.get("seconds", 0.0)
            yield Part(stage, max(end - began, 0.0))
            stage = ""
        if event == "stage":
            stage, began = line["stage"], when
        elif event == "spent":
            yield Part(line["part"], line["seconds"], line["processor"])
        elif event == "end":
            yield Part(
                line["stage"],
                processor=line.get("processor", 0.0),
                tasks=1,
                passes=line["passes"],
                images=line.get("images", 0),
                padded=line.get("padded", 0),
            )
        last = when
    if stage:
        yield Part(stage, last - began)
