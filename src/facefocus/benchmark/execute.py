"""Do what a plan still misses, on any ``concurrent.futures`` executor.

A task carries everything it needs but the face set and the recognizers, which each process opens
once. What is computed goes to the store at once, so a run that is killed at any moment repeats at
most the tasks in flight, and its tables are the same to the byte.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from multiprocessing.queues import Queue
from queue import Empty

from facefocus.benchmark.session import Session, SessionSpec, open_session
from facefocus.benchmark.stages import STAGES, Task
from facefocus.core.errors import blaming_own_code
from facefocus.core.progress import Progress, silent
from facefocus.evaluation.verification import guessing_warning, tells_apart
from facefocus.models.memory import out_of_memory

#: Its warnings go to standard error where the program that calls says nothing else.
log = logging.getLogger(__name__)

#: How far a worker is with a task: its number, and done and total in the task's own unit.
WorkerReport = tuple[int, int, int]
#: Seconds between two reports of a worker, and between two looks at them.
PAUSE = 0.5

#: Where this process, a worker, reports to; None where nobody reads it.
_reports: Queue[WorkerReport] | None = None


def execute(
    session: Session,
    executor: Executor | None = None,
    progress: Progress = silent,
    reports: Queue[WorkerReport] | None = None,
) -> int:
    """Do every task whose artefacts are missing; returns how many tasks were done.

    Args:
        session: An open session.
        executor: Where tasks run; in this process when None.
        progress: Called with the stage, and done and total in passes.
        reports: What the executor's processes were given by `report_to`; without it, progress
            is in whole tasks.

    Raises:
        NeedsLess: Memory does not suffice.
        Missing: An artefact was damaged, and removed; it is made when this is called again.
    """
    done = 0
    for stage in STAGES:
        todo = [task for task in session.plan.tasks if task.stage == stage]
        left = [rest for task in todo if (rest := left_of(session, task)) is not None]
        passed = _Passed(stage, left, progress)
        if executor is None:
            for number, task in enumerate(left):
                run_task(session, task, passed.of(number))
                passed.finish(number)
        else:
            _run_all(session, left, executor, passed, reports)
        done += len(left)
        if stage == "embed":
            _warn_of_guessing(session)
    return done


def _warn_of_guessing(session: Session) -> None:
    """Say before the long work that a recognizer is of no use."""
    for name in session.experiment.recognizers.targets:
        rate = session.operating(name).eer
        if rate is not None and not tells_apart(rate):
            log.warning(guessing_warning(name, rate))


def report_to(reports: Queue[WorkerReport]) -> None:
    """Report to `reports` how far this process, a worker, is with each task."""
    global _reports
    # A worker that is stopped does not wait until its last reports are read.
    reports.cancel_join_thread()
    _reports = reports


def left_of(session: Session, task: Task) -> Task | None:
    """What a task still has to make; None where everything is there."""
    return task.without([key for key in task.keys if key in session.store])


class _Passed:
    """How far a stage is: done and total of each task, in the unit of the whole stage."""

    def __init__(self, stage: str, tasks: Sequence[Task], progress: Progress) -> None:
        self._stage, self._progress = stage, progress
        self._costs = [task.cost for task in tasks]
        self._parts = [0] * len(tasks)
        self._total, self._sum = sum(self._costs), 0

    def of(self, number: int) -> Progress:
        """Progress inside one task, in the task's own unit."""
        return lambda _, done, of: self._set(number, self._costs[number] * done // max(of, 1))

    def take(self, report: WorkerReport) -> None:
        """Take over what a worker reports."""
        number, done, of = report
        # Late news of a task that is finished would take it back.
        if self._parts[number] < self._costs[number]:
            self.of(number)("", done, of)

    def finish(self, number: int) -> None:
        """One task is done."""
        self._set(number, self._costs[number])

    def _set(self, number: int, part: int) -> None:
        self._sum += part - self._parts[number]
        self._parts[number] = part
        self._progress(self._stage, self._sum, self._total)


def _run_all(
    session: Session,
    tasks: Sequence[Task],
    executor: Executor,
    passed: _Passed,
    reports: Queue[WorkerReport] | None,
) -> None:
    """Run tasks that do not depend on each other."""
    futures = {
        executor.submit(_in_worker, session.spec, number, task): number
        for number, task in enumerate(tasks)
    }
    left = set(futures)
    try:
        while left:
            done, left = wait(left, PAUSE, FIRST_COMPLETED)
            for report in _new_reports(reports):
                passed.take(report)
            for future in done:
                future.result()
                passed.finish(futures[future])
    finally:
        for future in futures:
            future.cancel()


def _new_reports(reports: Queue[WorkerReport] | None) -> Iterator[WorkerReport]:
    """What workers reported since the last look."""
    while reports is not None:
        try:
            yield reports.get_nowait()
        except Empty:
            return


def _in_worker(spec: SessionSpec, number: int, task: Task) -> None:
    # Here, because an exception leaves its frames behind when it is sent to another process.
    with blaming_own_code():
        run_task(open_session(spec), task, _reporting(number))


def _reporting(number: int) -> Progress:
    """Progress that goes to the listening process, not more often than it looks."""
    reports, last = _reports, time.monotonic()
    if reports is None:
        return silent

    def report(_: str, done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            reports.put((number, done, of))

    return report


class NeedsLess(Exception):
    """Memory does not suffice; `spec` is that of a session with smaller batches, and other keys."""

    def __init__(self, spec: SessionSpec) -> None:
        super().__init__(spec)
        self.spec = spec


def run_task(session: Session, task: Task, progress: Progress = silent) -> None:
    """Compute one task and store what it makes; progress is in the task's own unit.

    Raises:
        NeedsLess: Memory does not suffice.
        Missing: What it needs of the store is not there.
    """
    try:
        STAGES[task.stage].run(session, task, progress)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise NeedsLess(session.with_less(task)) from None
