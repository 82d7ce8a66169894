"""What a run folder says of its work while it goes on: ``run.log`` and ``failed.jsonl``.

``run.log`` has a line of JSON for the start and the end of every task, with its worker, seconds
and passes. Whoever sees the folder can follow the run, also from another machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facefocus.benchmark.stages import Task
from facefocus.core.files import write_atomically, writing
from facefocus.core.locations import private

#: Names in a run folder.
RUN_LOG, FAILED = "run.log", "failed.jsonl"


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


class RunLog:
    """The log of a run folder; of nothing where `run` is None."""

    def __init__(self, run: Path | None) -> None:
        self._run = run

    @property
    def failed_file(self) -> Path:
        """Where tasks are listed that were set aside."""
        return (self._run or Path()) / FAILED

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

    def end(self, task: Task, worker: str, seconds: float) -> None:
        """A task is done."""
        self.write(
            "end", stage=task.stage, key=task.keys[0], worker=worker,
            seconds=round(seconds, 3), passes=task.cost,
        )  # fmt: skip

    def failed_tasks(self) -> list[FailedTask]:
        """The tasks that were set aside when the run was last tried."""
        if self._run is None:
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
        if self._run is None:
            return
        if not failed:
            self.failed_file.unlink(missing_ok=True)
            return
        text = "".join(json.dumps(asdict(one)) + "\n" for one in failed)
        write_atomically(self.failed_file, lambda file: file.write(private(text).encode()))


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
