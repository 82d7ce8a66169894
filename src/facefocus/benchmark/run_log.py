"""What a run folder says of its work while it goes on: ``run.log`` and ``failed.jsonl``.

``run.log`` has a line of JSON for the start and the end of every task, with its worker, seconds
and passes. Whoever sees the folder can follow the run, also from another machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from facefocus.benchmark.stages import Task
from facefocus.core.files import write_atomically, writing
from facefocus.core.locations import private

if TYPE_CHECKING:
    from facefocus.benchmark.task_outcome import Outcome

#: Names in a run folder.
RUN_LOG, FAILED, KEYS = "run.log", "failed.jsonl", "keys.parquet"


@dataclass(frozen=True)
class FailedTask:
    """A task that was set aside.

    Attributes:
        key: The first key of what it makes.
        worker: The last that tried it; empty where it ended with its worker.
        error: On one line.
        traceback: In full.
    """

    stage: str
    key: str
    worker: str
    error: str
    traceback: str


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and seconds that this process's processors worked."""

    seconds: float
    processor: float


class Clock:
    """Tells what was `Spent` since it was made, or last looked at."""

    def __init__(self) -> None:
        self._last = time.perf_counter(), time.process_time()

    def lap(self) -> Spent:
        """What was spent since the last look."""
        now = time.perf_counter(), time.process_time()
        (began, worked), self._last = self._last, now
        return Spent(now[0] - began, now[1] - worked)


class RunLog:
    """The log of a run folder; of nothing where `run` is None."""

    def __init__(self, run: Path | None) -> None:
        self._run = run

    @property
    def failed_file(self) -> Path | None:
        """Where tasks are listed that were set aside; None where there is no run folder."""
        return None if self._run is None else self._run / FAILED

    def write(self, event: str, **about: Any) -> None:
        """Add a line.

        Raises:
            UserError: The folder cannot be written.
        """
        if self._run is None:
            return
        line = json.dumps({"time": round(time.time(), 3), "event": event, **about}) + "\n"
        path = self._run / RUN_LOG
        with writing(path), path.open("ab") as file:
            file.write(private(line).encode())

    def begin(self, task: Task, worker: str) -> None:
        """A task begins."""
        self.write("begin", stage=task.stage, key=task.keys[0], worker=worker)

    def end(self, task: Task, outcome: Outcome) -> None:
        """A task is done: so many images went through networks, so many of them only as filling."""
        self.write(
            "end", stage=task.stage, key=task.keys[0], worker=outcome.worker,
            seconds=round(outcome.seconds, 3), processor=round(outcome.processor, 3),
            passes=task.cost, images=outcome.images[0], padded=outcome.images[1],
        )  # fmt: skip

    def spent(self, part: str, spent: Spent) -> None:
        """Something other than a stage took so long: its start, its plan, its tables, its page.

        Nothing is written where there is no log: what was handed in is nobody's run here.
        """
        if self._run is not None and (self._run / RUN_LOG).is_file():
            seconds, processor = round(spent.seconds, 3), round(spent.processor, 3)
            self.write("spent", part=part, seconds=seconds, processor=processor)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Context whose seconds are written as `spent`, if it ends well."""
        clock = Clock()
        yield
        self.spent(part, clock.lap())

    def failed_tasks(self) -> list[FailedTask]:
        """The tasks that were set aside when the run was last tried."""
        if self.failed_file is None:
            return []
        try:
            lines = self.failed_file.read_text(encoding="utf-8").splitlines()
            return [FailedTask(**json.loads(line)) for line in lines]
        except (OSError, ValueError, TypeError):
            return []

    def keep_failed(self, failed: Sequence[FailedTask]) -> None:
        """Keep the list of tasks that were set aside; no file where there is none.

        Raises:
            UserError: The folder cannot be written.
        """
        if self.failed_file is None:
            return
        if not failed:
            self.failed_file.unlink(missing_ok=True)
            return
        text = "".join(json.dumps(asdict(task)) + "\n" for task in failed)
        write_atomically(self.failed_file, lambda file: file.write(private(text).encode()))


@dataclass(frozen=True)
class Pace:
    """How fast a run goes, by its log.

    Attributes:
        stage: That was last begun.
        done: Passes of the stage that were done since the run was last started.
        total: Passes that it had to do then.
        seconds: Since the stage was begun, until the log's last line.
        workers: How many.
        running: Tasks that have begun and not ended.
        attempts: Tries of tasks that failed since the start.
        reason: Why the run stopped, where its log says so.
    """

    stage: str
    done: int
    total: int
    seconds: float
    workers: int
    running: int
    attempts: int
    reason: str | None

    @property
    def left(self) -> float | None:
        """Seconds that the stage still takes at this rate; None where nothing is known."""
        return self.seconds * (self.total - self.done) / self.done if self.done else None


def pace(run: Path) -> Pace | None:
    """How fast a run goes; None where its log says nothing, or that it is through."""
    stage, total, done, began, workers, attempts = "", 0, 0, 0.0, 1, 0
    running: set[str] = set()
    reason, last = None, 0.0
    for line in read_log(run):
        event, last = line["event"], line["time"]
        if event == "start":
            stage, workers, attempts, reason = "", 1, 0, None
        elif event == "stage":
            stage, total, done, began = line["stage"], line["passes"], 0, last
            running.clear()
        elif event == "begin":
            running.add(line["key"])
        elif event == "end":
            done += line["passes"]
            running.discard(line["key"])
        elif event == "failed":
            attempts += 1
        elif event == "workers":
            workers = line["count"]
        elif event == "stop":
            reason = line["reason"]
        elif event == "finish":
            stage = ""
    if not stage:
        return None
    return Pace(stage, done, total, last - began, workers, len(running), attempts, reason)


def write_keys(run: Path, keys: Mapping[str, Sequence[str]]) -> None:
    """Keep what a run will make, by stage: who follows it need not plan it again.

    Raises:
        UserError: The folder cannot be written.
    """
    table = pl.concat(
        pl.DataFrame({"key": stage_keys}, schema={"key": pl.String}).select(
            pl.lit(stage).alias("stage"), "key"
        )
        for stage, stage_keys in keys.items()
    )
    write_atomically(run / KEYS, lambda file: table.write_parquet(file))


def read_keys(run: Path) -> dict[str, list[str]] | None:
    """What a run will make, by stage; None where its folder does not say."""
    try:
        table = pl.read_parquet(run / KEYS)
    except (OSError, pl.exceptions.PolarsError):
        return None
    parts = table.partition_by("stage", maintain_order=True)
    return {part["stage"][0]: part["key"].to_list() for part in parts}


def read_log(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's log; a line that is being written is left out."""
    try:
        lines = (run / RUN_LOG).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue
