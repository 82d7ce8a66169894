"""Workers of a Dask cluster: what they are told once, and how a task ends there.

Nothing is planned in a worker. It gets the session's spec and the part of the plan that tasks
look things up in, opens face set and recognizers with its first task, and keeps them.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import dask
import distributed
import requests
from distributed.diagnostics.plugin import WorkerPlugin

from facefocus.benchmark.clusters import (
    DASK,
    ClusterFile,
    cluster_of,
    most_workers,
    start_cluster,
    without_interrupts,
)
from facefocus.benchmark.job_end import leave_in_time
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.stages import Task
from facefocus.benchmark.task_outcome import Outcome, failure_of, try_task
from facefocus.core.errors import UserError, one_line
from facefocus.core.notices import notice
from facefocus.core.progress import Progress

#: Seconds between two reports of a worker from inside a task.
PAUSE = 0.5
#: Seconds after which the number of workers is asked for again.
LOOK = 2.0
#: Seconds that a scheduler may take to answer.
CONNECT = 20.0
#: Seconds after which the folder of a store shows on one machine what another has written.
LATE = 60.0
#: Tasks that are with the scheduler for each worker: what runs, and as many that wait.
AHEAD = 2


# --- in a worker ----------------------------------------------------------------------------------


@dataclass
class _Job:
    """What this process knows of a run: what it was told, and its session once that is open.

    Attributes:
        folder: Where the run was started: what relative names of its files begin with.
    """

    folder: str
    spec: SessionSpec
    plan: bytes
    threads: int | None
    patience: float
    session: Session | None = None


_jobs: dict[str, _Job] = {}
#: A session is used by one task at a time, also where a worker has several threads.
_busy = Lock()


class Preparation(WorkerPlugin):  # type: ignore[misc, unused-ignore]
    """Tells every worker of a run, also those that come later, what its tasks have in common.

    Args:
        token: Of the run.
        walltime: Seconds of a job of workers, where these are jobs.
        job: The first fields of a `_Job`.
    """

    def __init__(self, token: str, walltime: float | None, *job: Any) -> None:
        self.name, self._walltime, self._job = token, walltime, job
        self._end: Any = None

    def setup(self, worker: Any) -> None:
        """Take over what tasks will need; nothing is opened yet."""
        _jobs[self.name] = _Job(*self._job)
        if self._walltime is not None:
            self._end = leave_in_time(worker, self._walltime)

    def teardown(self, worker: Any) -> None:
        """Forget it."""
        _jobs.pop(self.name, None)
        if self._end is not None:
            worker.loop.remove_timeout(self._end)


def _opened(job: _Job) -> Session:
    import torch

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    if job.session is None:
        with suppress(OSError):  # where it is not here, a relative name says so
            os.chdir(job.folder)
        plan = pickle.loads(zlib.decompress(job.plan))
        job.session = Session(job.spec, plan=plan)
        job.session.store.patience = job.patience
    return job.session


def work(token: str, number: int, task: Task) -> Outcome:
    """Do a task in a worker; whatever goes wrong is in the outcome."""
    name = str(distributed.get_worker().name)
    started = time.time()
    job = _jobs.get(token)
    if job is None:
        return Outcome(name, started, 0.0, unprepared=True)
    with _busy:
        _say(token, {"stage": task.stage, "number": number, "name": name})
        try:
            session = _opened(job)
        except Exception as error:  # another worker may see the folder
            wrong: dict[str, Any] = {"failure": failure_of(error)}
        else:
            try:
                wrong = try_task(session, task, _reporting(token, task.stage, number))
            except UserError as mistake:
                wrong = {"mistake": str(mistake)}
    return Outcome(name, started, time.time() - started, **wrong)


def _say(token: str, news: dict[str, Any]) -> None:
    distributed.get_worker().log_event(token, news)


def _reporting(token: str, stage: str, number: int) -> Progress:
    last = time.monotonic()

    def report(_: str, done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            _say(token, {"stage": stage, "number": number, "done": done, "of": of})

    return report


# --- in the process that plans --------------------------------------------------------------------


class Pool:
    """The workers of a cluster, started when the first task is there.

    Args:
        cluster: See `cluster_of`.

    Raises:
        UserError: `cluster` is none.
    """

    def __init__(self, cluster: str) -> None:
        self._asked = cluster_of(cluster)
        self.most = most_workers(self._asked)
        self._cluster: Any = None
        self._client: Any = None
        self._looked, self._workers = 0.0, 0
        self.news: deque[dict[str, Any]] = deque()
        self.on_news: Callable[[], None] = lambda: None

    @property
    def of_this_machine(self) -> bool:
        """Whether its workers are processes that this one starts."""
        return isinstance(self._asked, ClusterFile) and self._asked.kind == "local"

    @property
    def client(self) -> Any:
        """The client of the scheduler.

        Raises:
            UserError: The cluster does not start, or the scheduler does not answer.
        """
        if self._client is None:
            for name in ("distributed", "distributed.client"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            logging.getLogger("asyncio").addFilter(_not_of_a_closed_connection)
            with dask.config.set(DASK):
                address = self._asked
                if isinstance(address, ClusterFile):
                    address = self._cluster = start_cluster(address)
                self._client = _connected(address)
            self._say_where_to_watch()
        return self._client

    def _say_where_to_watch(self) -> None:
        """Print the address of Dask's page, where there is one."""
        shown = isinstance(self._asked, str) or self._asked.dashboard
        link = self._client.dashboard_link if shown else None
        with suppress(requests.RequestException):
            page = requests.get(link, timeout=5) if link else None
            if page is not None and page.ok:
                missing = " once bokeh is installed there" * ("needs bokeh" in page.text)
                notice(f"The workers can be watched at {link}{missing}.")

    def prepare(self, session: Session, token: str | None = None) -> str:
        """Tell all workers what the tasks of a session have in common; returns the run's token.

        With that of before, once more: a scheduler that was started anew knows nothing.
        """
        token = token or f"facefocus-{uuid4().hex}"
        file = self._asked if isinstance(self._asked, ClusterFile) else None
        threads = None if file is None else file.threads
        walltime = None if file is None else file.job_seconds
        plan = zlib.compress(pickle.dumps(session.plan.for_workers()), level=1)
        client = self.client
        # The plan's keys name the batches of this process.
        spec = replace(session.spec, batches=session.batches)
        job = str(Path.cwd()), spec, plan, threads, 0.0 if self.of_this_machine else LATE
        client.subscribe_topic(token, lambda event: self.news.append(event[1]))
        try:
            client.register_plugin(Preparation(token, walltime, *job))
        except Exception as error:
            raise UserError(
                f"The workers cannot be prepared: {one_line(error)}. They need this version of"
                " facefocus, and the faces and the store under the same paths as here."
            ) from error
        return token

    def forget(self, token: str) -> None:
        """Take back what `prepare` told the workers, as far as they can still be reached."""
        with suppress(OSError, RuntimeError, TimeoutError, ValueError):
            if self._client.status == "running":
                self._client.unsubscribe_topic(token)
                self._client.unregister_worker_plugin(token)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Context of talk with the scheduler.

        Raises:
            UserError: It is gone.
        """
        try:
            yield
        except (OSError, CancelledError) as error:
            raise gone(error) from None

    def submit(self, token: str, number: int, task: Task, attempt: int) -> Any:
        """Give a task to the scheduler; returns its future."""
        key = f"{token}-{task.stage}-{number}-{attempt}-{uuid4().hex}"
        return self.client.submit(work, token, number, task, key=key, pure=False)

    def count_workers(self) -> int:
        """How many there are now, or were a moment ago.

        Raises:
            UserError: The scheduler is gone.
        """
        if time.monotonic() - self._looked > LOOK:
            try:
                self._workers = sum(self.client.nthreads().values())
            except (OSError, RuntimeError, TimeoutError) as error:
                raise gone(error) from None
            self._looked = time.monotonic()
        return self._workers

    @property
    def window(self) -> int:
        """How many tasks the scheduler may hold."""
        return AHEAD * max(1, self.count_workers())

    def close(self, *, kill: bool) -> None:
        """Give the workers back; those of this machine are ended at once where nobody waits."""
        if self._cluster is not None and kill:
            for nanny in getattr(self._cluster, "workers", {}).values():
                _end(nanny)
        for part in (self._client, self._cluster):
            if part is not None:
                try:
                    part.close(timeout=5)
                except (OSError, RuntimeError, TimeoutError, AssertionError) as error:
                    # Dask asserts that a job of Slurm, which may just be ending, is through.
                    logging.getLogger(__name__).debug("While a cluster was closed: %s", error)
        self._client = self._cluster = None


def _not_of_a_closed_connection(record: logging.LogRecord) -> bool:
    """Whether a record is no complaint that Dask's connections end when a cluster is stopped."""
    kind = type(record.exc_info[1]) if record.exc_info else None
    return kind is None or not kind.__module__.startswith(("distributed.", "tornado."))


def _connected(address: Any) -> Any:
    try:
        connect: Any = distributed.Client
        with without_interrupts():
            return connect(address, timeout=CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(
            f"No Dask scheduler answers at '{address}': {one_line(error)}. Start one with 'dask"
            " scheduler', and workers with 'dask worker HOST:PORT --nthreads 1'."
        ) from None


def gone(error: BaseException | str) -> UserError:
    """What to say where the scheduler no longer answers."""
    why = error if isinstance(error, str) else one_line(error)
    return UserError(
        f"The scheduler of the cluster is gone: {why}. What is finished is kept: run it again to go"
        " on."
    )


def _end(nanny: Any) -> None:
    nanny.auto_restart = False
    process = getattr(nanny, "pid", None)
    if process:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
