"""A try of a task, in this process or in a worker, and how it ended."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import Any

from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.stages import STAGES, Task
from facefocus.core.errors import UserError, located
from facefocus.core.progress import Progress, silent
from facefocus.core.store import Missing
from facefocus.models.memory import out_of_memory


class NeedsLess(Exception):
    """Memory does not suffice; `spec` is that of a session with smaller batches, and other keys."""

    def __init__(self, spec: SessionSpec) -> None:
        super().__init__(spec)
        self.spec = spec


@dataclass(frozen=True)
class Outcome:
    """How a task ended; one of the last five says what went wrong, else `images` is there.

    Attributes:
        worker: The name of the worker.
        started: When, in seconds of the clock.
        seconds: How long it took.
        images: See `run_task`.
        processor: Seconds that processors worked on it, of all its threads.
        failure: The error on one line, and its traceback.
        missing: Key of an artefact that is not in the store.
        less: The spec of a session with smaller batches.
        mistake: What no other worker could do better, for the user: a full disk.
        unprepared: The worker knows nothing of the run: its scheduler was started anew.
    """

    worker: str
    started: float
    seconds: float
    images: tuple[int, int] = (0, 0)
    processor: float = 0.0
    failure: tuple[str, str] | None = None
    missing: str | None = None
    less: SessionSpec | None = None
    mistake: str | None = None
    unprepared: bool = False


def run_task(session: Session, task: Task, progress: Progress = silent) -> tuple[int, int]:
    """Compute one task and store what it makes; progress is in the task's own unit.

    Returns:
        How many images went through passes without gradients, and how many of them only filled up
        a batch.

    Raises:
        NeedsLess: Memory does not suffice.
        Missing: What it needs of the store is not there.
    """
    before = session.images
    try:
        with session.store.together():
            STAGES[task.stage].run(session, task, progress)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise NeedsLess(session.with_less(task)) from None
    passed, padded = (now - then for now, then in zip(session.images, before, strict=True))
    return passed, padded


def try_task(session: Session, task: Task, progress: Progress) -> dict[str, Any]:
    """Do a task; returns what of an `Outcome` says what was done, or went wrong.

    Raises:
        UserError: The user has to mend it.
    """
    began = time.process_time()
    try:
        images = run_task(session, task, progress)
    except NeedsLess as less:
        return {"less": less.spec}
    except Missing as missing:
        return {"missing": missing.key}
    except UserError:
        raise
    except Exception as error:
        return {"failure": failure_of(error)}
    return {"images": images, "processor": time.process_time() - began}


def failure_of(error: Exception) -> tuple[str, str]:
    """An error on one line, and its traceback."""
    line = str(error) if isinstance(error, UserError) else located(error)
    return line, "".join(traceback.format_exception(error))
