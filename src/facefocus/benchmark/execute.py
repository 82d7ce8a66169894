"""Do what a plan still misses, in this process or by the workers of a cluster.

What is computed goes to the store at once, so a run that is killed at any moment repeats at most
the tasks in flight, and its tables are the same to the byte.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar

from facefocus.benchmark.run_log import FailedTask, RunLog
from facefocus.benchmark.session import Session
from facefocus.benchmark.stages import STAGES, Task
from facefocus.benchmark.task_outcome import NeedsLess, Outcome, try_task
from facefocus.core.errors import UserError, one_line
from facefocus.core.notices import notice
from facefocus.core.progress import Progress, silent
from facefocus.core.store import Missing
from facefocus.evaluation.verification import guessing_warning, tells_apart

if TYPE_CHECKING:
    from facefocus.benchmark.worker_pool import Pool

#: Its warnings go to standard error where the program that calls says nothing else.
log = logging.getLogger(__name__)

#: Seconds between two looks at what workers report from inside their tasks.
PAUSE = 0.5
#: How often a task is tried before it is set aside.
TRIES = 3
#: Tasks that are set aside before a stage is given up of which none could be done.
HOPELESS = 3
#: Seconds without a worker after which that is said, and after which those of this machine, which
#: are started anew as soon as they end, are given up.
PATIENCE, GIVEN_UP = 20.0, 120.0


class Incomplete(UserError):
    """Tasks were set aside, so the tables cannot be written: exit code 3."""

    code = 3


def execute(
    session: Session,
    pool: Pool | None = None,
    progress: Progress = silent,
    run_log: RunLog | None = None,
    stages: Collection[str] | None = None,
) -> int:
    """Do every task whose artefacts are missing; returns how many tasks were done.

    Args:
        session: An open session.
        pool: The workers; without any, this process does it all.
        progress: Called with the stage, and done and total in passes.
        run_log: Where the run's folder says what was done.
        stages: These alone, which need no other; all by default.

    Raises:
        NeedsLess: Memory does not suffice.
        Missing: An artefact was damaged, and removed; it is made when this is called again.
        Incomplete: A task failed three times; everything that does not need it was done.
        UserError: The user has to mend something, or nothing of a stage can be done.
    """
    run_log = run_log or RunLog(None)
    done, before = 0, {task.key for task in run_log.failed_tasks()}
    workers = _Workers(session, pool or _ThisProcess(), run_log, before)
    try:
        for stage in STAGES if stages is None else stages:
            session.store.look()
            todo = (task for task in session.plan.tasks if task.stage == stage)
            left = [rest for task in todo if (rest := left_of(session, task)) is not None]
            # What failed before is tried first.
            left.sort(key=lambda task: task.keys[0] not in before)
            passed = _Passed(stage, left, progress)
            run_log.write("stage", stage=stage, tasks=len(left), passes=passed.total)
            with workers.pool.answering():
                workers.run(left, passed)
            done += len(left)
            # Once, with the first people.
            if stage == "embed" and not workers.unmade and not session.plan.blocks[-1].round:
                _warn_of_guessing(session)
    finally:
        workers.close()
    run_log.keep_failed(workers.failed)
    workers.check()
    return done


def _warn_of_guessing(session: Session) -> None:
    """Say before the long work that a recognizer is of no use."""
    for name in session.experiment.recognizers.targets:
        rate = session.operating(name).eer
        if rate is not None and not tells_apart(rate):
            log.warning(guessing_warning(name, rate))


def left_of(session: Session, task: Task) -> Task | None:
    """What a task still has to make; None where everything is there."""
    return task.without([key for key in task.keys if key in session.store])


class _Passed:
    """How far a stage is: done and total of each task, in the unit of the whole stage."""

    def __init__(self, stage: str, tasks: Sequence[Task], progress: Progress) -> None:
        self._stage, self._progress = stage, progress
        self._costs = [task.cost for task in tasks]
        self._parts = [0] * len(tasks)
        self.total, self._sum = sum(self._costs), 0

    def of(self, number: int) -> Progress:
        """Progress inside one task, in the task's own unit."""
        return lambda _, done, of: self._set(number, self._costs[number] * done // max(of, 1))

    def take(self, number: int, done: int, of: int) -> None:
        """Take over what a worker reports."""
        # Late news of a task that is finished would take it back.
        if self._parts[number] < self._costs[number]:
            self.of(number)("", done, of)

    def finish(self, number: int) -> None:
        """One task is done."""
        self._set(number, self._costs[number])

    def _set(self, number: int, part: int) -> None:
        self._sum += part - self._parts[number]
        self._parts[number] = part
        self._progress(self._stage, self._sum, self.total)


class _ThisProcess:
    """The one worker of a run that has no cluster: a task is done when it is submitted.

    Methods are those of `facefocus.benchmark.worker_pool.Pool`.
    """

    window, of_this_machine = 1, True

    def __init__(self) -> None:
        self.news: deque[dict[str, Any]] = deque()
        self.on_news: Callable[[], None] = lambda: None

    def prepare(self, session: Session, token: str | None = None) -> str:
        self._session = session
        return "this process"

    def submit(self, token: str, number: int, task: Task, attempt: int) -> _Finished:
        def say(**about: Any) -> None:
            self.news.append({"stage": task.stage, "number": number, **about})
            self.on_news()

        started = time.time()
        say(name=token)
        wrong = try_task(self._session, task, lambda _, done, of: say(done=done, of=of))
        return _Finished(Outcome(token, started, time.time() - started, **wrong))

    def answering(self) -> AbstractContextManager[None]:
        return nullcontext()

    def count_workers(self) -> int:
        return 1

    def forget(self, token: str) -> None: ...


@dataclass(frozen=True, eq=False)
class _Finished:
    """A future of Dask whose task is done."""

    outcome: Outcome
    status: ClassVar[str] = "finished"

    def result(self) -> Outcome:
        return self.outcome

    def add_done_callback(self, call: Callable[[_Finished], object]) -> None:
        call(self)

    def cancel(self) -> None: ...


@dataclass
class _Workers:
    """A session's tasks on their way to workers and back.

    Attributes:
        before: First keys of tasks that failed in an earlier run.
        failed: Tasks that were set aside.
        waiting: How many tasks need what those would have made.
        unmade: Keys of all that none of these made.
    """

    session: Session
    pool: Pool | _ThisProcess
    run_log: RunLog
    before: Collection[str]
    failed: list[FailedTask] = field(default_factory=list)
    waiting: int = 0
    unmade: set[str] = field(default_factory=set)
    _token: str | None = None
    _flying: dict[Any, tuple[int, int]] = field(default_factory=dict)
    _under_way: set[int] = field(default_factory=set)
    _begun: dict[int, str] = field(default_factory=dict)
    _workers: int = 0

    def run(self, tasks: Sequence[Task], passed: _Passed) -> None:
        """Do tasks that do not depend on each other; those that fail are set aside."""
        if not tasks:
            return
        self._token = self._token or self.pool.prepare(self.session)
        ended: SimpleQueue[Any] = SimpleQueue()
        self._begun.clear()
        self.pool.on_news = lambda: self._take_news(tasks, passed)
        todo, again = iter(range(len(tasks))), deque[tuple[int, int]]()
        done, set_aside, quiet = 0, 0, time.monotonic()
        while True:
            for number, attempt in self._next(todo, again):
                self._under_way.add(number)
                future = self.pool.submit(self._token, number, tasks[number], attempt)
                self._flying[future] = number, attempt
                future.add_done_callback(ended.put)
            if not self._flying:
                return
            self.pool.on_news()
            try:
                future = ended.get(timeout=PAUSE)
            except Empty:
                quiet = self._look(quiet)
                continue
            number, attempt = self._flying.pop(future)
            self._under_way.discard(number)
            verdict = self._ended(number, tasks[number], future, attempt)
            del future  # its worker holds the outcome as long as it is known here
            if verdict in ("again", "unprepared"):
                again.append((number, attempt + (verdict == "again")))
                continue
            passed.finish(number)
            done, set_aside = done + (verdict == "done"), set_aside + (verdict == "set aside")
            if not done and set_aside >= min(HOPELESS, len(tasks)):
                self._give_up(len(tasks) - set_aside)
                return

    def _next(
        self, todo: Iterator[int], again: deque[tuple[int, int]]
    ) -> Iterator[tuple[int, int]]:
        """Tasks, each with the number of its attempt, until the window is full."""
        window = self.pool.window
        while len(self._flying) < window:
            if again:
                yield again.popleft()
                continue
            try:
                yield next(todo), 1
            except StopIteration:
                return

    def _take_news(self, tasks: Sequence[Task], passed: _Passed) -> None:
        """What workers said from inside their tasks since the last look."""
        while self.pool.news:
            news = self.pool.news.popleft()
            number = news["number"]
            if number not in self._under_way or news["stage"] != tasks[number].stage:
                continue  # of a task that has ended
            if "done" in news:
                passed.take(number, news["done"], news["of"])
            elif self._begun.get(number) != news["name"]:
                self._begin(number, tasks[number], news["name"])

    def _begin(self, number: int, task: Task, worker: str) -> None:
        self._begun[number] = worker
        self.run_log.begin(task, worker)

    def _look(self, quiet: float) -> float:
        """Count the workers; say where there is none. Returns since when all is well.

        Raises:
            UserError: There is none, and none will come.
        """
        count = self.pool.count_workers()
        if count != self._workers:
            self.run_log.write("workers", count=count)
            self._workers = count
        if count:
            return time.monotonic()
        seconds = time.monotonic() - quiet
        if seconds > GIVEN_UP and self.pool.of_this_machine:
            raise UserError(
                "No worker process of this machine starts: what they said stands above. What is"
                " stored stays. Run it again without --workers and --cluster, in one process."
            )
        if seconds > PATIENCE:
            notice("No worker of the cluster runs. The run goes on as soon as one does.")
        return quiet

    def _ended(self, number: int, task: Task, future: Any, attempt: int) -> str:
        """What became of a task: done, again, unprepared (again, and no try), or set aside.

        Raises:
            NeedsLess: Its worker has too little memory.
            Missing: An artefact that it needs was damaged.
            UserError: It cannot be done anywhere, or the scheduler is gone.
        """
        if future.status == "finished":
            outcome = future.result()
            if outcome.unprepared:
                self.pool.prepare(self.session, self._token)
                return "unprepared"
            if self._begun.pop(number, None) != outcome.worker:  # that news is still on its way
                self.run_log.begin(task, outcome.worker)
            return self._judge(task, outcome, attempt)
        if future.status != "error":  # cancelled or lost
            self.pool.count_workers()  # says whether the scheduler is gone
            return "again"
        error = future.exception()
        line = f"Its worker ended {TRIES} times: killed, out of memory, or at the end of its time."
        if type(error).__name__ != "KilledWorker":
            line = one_line(error)
        return self._set_aside(task, "", (line, f"{type(error).__name__}: {error}\n"))

    def _judge(self, task: Task, outcome: Outcome, attempt: int) -> str:
        if outcome.less is not None:
            raise NeedsLess(outcome.less)
        if outcome.mistake is not None:
            raise UserError(outcome.mistake)
        if outcome.missing is not None:
            if outcome.missing not in self.unmade:
                raise Missing(outcome.missing)
            self.waiting += 1
            self.unmade |= set(task.keys)
            return "set aside"
        if outcome.failure is None:
            self.run_log.end(task, outcome)
            return "done"
        error, trace = outcome.failure
        self.run_log.write(
            "failed", stage=task.stage, key=task.keys[0], worker=outcome.worker,
            error=error, traceback=trace, attempt=attempt,
        )  # fmt: skip
        if attempt < TRIES:
            return "again"
        return self._set_aside(task, outcome.worker, outcome.failure)

    def _set_aside(self, task: Task, worker: str, failure: tuple[str, str]) -> str:
        self.failed.append(FailedTask(task.stage, task.keys[0], worker, *failure))
        self.run_log.keep_failed(self.failed)
        self.unmade |= set(task.keys)
        return "set aside"

    def _give_up(self, left: int) -> None:
        """Leave the rest of a stage of which nothing can be done."""
        self._recall()
        new = [task for task in self.failed if task.key not in self.before]
        if len(new) == len(self.failed) and not self.waiting:
            # Nothing at all has worked: this is the user's to mend, not the cluster's.
            first = self.failed[0]
            cause = RuntimeError(f"in {first.worker}\n{first.traceback}")
            raise UserError(f"{first.error.rstrip('.')}. --traceback shows all.") from cause
        self.waiting += left

    def check(self) -> None:
        """Refuse to go on to the tables where tasks were set aside."""
        if not self.failed and not self.waiting:
            return
        waiting = f", and {self.waiting} others need what they make" if self.waiting else ""
        file = self.run_log.failed_file
        shown = f"'{file}' has the tracebacks" if file else self.failed[0].error
        raise Incomplete(
            f"{_counted(len(self.failed))} failed{waiting}: the tables are not written. {shown}."
            " Run it again when the cause is mended: these are tried first."
        )

    def close(self) -> None:
        """Take back what is still with the scheduler, and what the workers were told."""
        self._recall()
        if self._token is not None:
            self.pool.forget(self._token)

    def _recall(self) -> None:
        for future in self._flying:
            future.cancel()
        self._flying.clear()
        self._under_way.clear()


def _counted(tasks: int) -> str:
    return "1 task" if tasks == 1 else f"{tasks} tasks"
