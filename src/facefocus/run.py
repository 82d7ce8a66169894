"""Do what a plan still misses, on any ``concurrent.futures`` executor.

A task carries everything it needs but the face set and the recognizers, which each process opens
once. What is computed goes to the store at once, so a run that is killed at any moment repeats at
most the tasks in flight, and its tables are the same to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, as_completed

from facefocus.making import embed, embed_masked, make_maps
from facefocus.progress import Progress, silent
from facefocus.scoring import score, search_oracle
from facefocus.session import Session, SessionSpec, open_session
from facefocus.tasks import (
    STAGES,
    EmbedTask,
    MapTask,
    MaskedTask,
    ScoreTask,
    Task,
)


def execute(session: Session, executor: Executor | None = None, progress: Progress = silent) -> int:
    """Do every task whose artefacts are missing; returns how many tasks were done.

    Args:
        session: An open session.
        executor: Where tasks run; in this process when None.
        progress: Called with the stage, and done and total in passes.
    """
    done = 0
    for stage, kind in STAGES.items():
        todo = [task for task in session.plan.tasks if isinstance(task, kind)]
        left = [rest for task in todo if (rest := left_of(session, task)) is not None]
        total = sum(task.cost for task in left)
        passed = 0
        if executor is None:
            for task in left:
                run_task(session, task, _within(progress, stage, passed, task.cost, total))
                passed += task.cost
                progress(stage, passed, total)
        else:
            for task in _run_all(session, left, executor):
                passed += task.cost
                progress(stage, passed, total)
        done += len(left)
    return done


def left_of(session: Session, task: Task) -> Task | None:
    """What a task still has to make; None where everything is there."""
    return task.without([key for key in task.keys if key in session.store])


def _within(progress: Progress, stage: str, passed: int, cost: int, total: int) -> Progress:
    """Progress inside one task, in the unit of its whole stage."""

    def report(_: str, done: int, of: int) -> None:
        progress(stage, passed + cost * done // max(of, 1), total)

    return report


def _run_all(session: Session, tasks: Sequence[Task], executor: Executor) -> Iterator[Task]:
    """Run tasks that do not depend on each other, yielding each when it is done."""
    futures = {executor.submit(_in_worker, session.spec, task): task for task in tasks}
    try:
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    finally:
        for future in futures:
            future.cancel()


def _in_worker(spec: SessionSpec, task: Task) -> None:
    run_task(open_session(spec), task)


def run_task(session: Session, task: Task, progress: Progress = silent) -> None:
    """Compute one task and store what it makes; progress is in the task's own unit."""
    if isinstance(task, EmbedTask):
        embed(session, task, progress)
    elif isinstance(task, MaskedTask):
        embed_masked(session, task, progress)
    elif isinstance(task, MapTask):
        make_maps(session, task, progress)
    elif isinstance(task, ScoreTask):
        score(session, task, progress)
    else:
        search_oracle(session, task, progress)
