"""What a user calls a cluster, and the Dask cluster that it is: processes here, SSH, Slurm.

``local:4`` is four processes of this machine, ``tcp://host:8786`` a Dask scheduler that runs, and
anything else a TOML file (`ClusterFile`, ``docs/cluster.md``).
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import current_process
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from facefocus.core.errors import UserError, one_line
from facefocus.core.files import read_toml
from facefocus.core.specs import Several, Spec, Whole, parse, to_toml

Positive = Annotated[Whole, Field(ge=1)]

#: How processes of this machine start. On Linux copies of one that has imported what `PRELOADED`
#: says; elsewhere a copy may not be safe.
PROCESSES = "forkserver" if sys.platform == "linux" else "spawn"
PRELOADED = ["distributed", "facefocus.benchmark.worker_pool", "facefocus.models.zoo", "torch"]

#: What every cluster of ours is told of Dask. Three dead workers set a task aside: this counts the
#: second ones. A worker gets a task when it can begin it, so that no other suffers by its death.
#: Memory is not counted: pictures that are mapped from the disk would count, and the system itself
#: ends a process that takes too much.
DASK = {
    "distributed.scheduler.allowed-failures": 2,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.multiprocessing-method": PROCESSES,
    "distributed.comm.timeouts.connect": "60s",  # a busy machine takes its time
}


class ClusterFile(Spec):
    """A cluster file.

    Attributes:
        kind: What starts the workers.
        workers: Processes: of this machine, or of a job of Slurm.
        hosts: Of SSH: the first one has the scheduler, the others a worker each.
        jobs: Of Slurm: at least and at most how many jobs are queued; one number for both.
        queue: Partition of Slurm.
        account: Account of Slurm.
        cores: Of a job; its workers share them.
        memory: Of a job: ``16GB``.
        walltime: Of a job: ``04:00:00``. A job that ends is followed by another.
        gpus: Of a job, which then has one worker for it: 0 or 1.
        setup: Lines of the shell that a job begins with, such as ``module load cuda``.
        directives: Further lines of ``#SBATCH``.
        python: The interpreter on the nodes; that of this program by default.
        interface: Network interface that nodes reach each other by, such as ``ib0``.
        logs: Folder of what jobs print.
        dashboard: Whether Dask shows its page.
    """

    kind: Literal["local", "ssh", "slurm"]
    workers: Positive = 1
    hosts: Several[str] | None = None
    jobs: Several[Positive] = (1,)
    queue: str | None = None
    account: str | None = None
    cores: Positive = 1
    memory: str = "8GB"
    walltime: str = "01:00:00"
    gpus: Annotated[Whole, Field(ge=0, le=1)] = 0
    setup: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    python: str = sys.executable
    interface: str | None = None
    logs: str | None = None
    dashboard: bool = False

    @property
    def most(self) -> int:
        """Workers, at most."""
        if self.kind == "ssh":
            return max(1, len(self.hosts or ()) - 1)
        return self.workers * (self.jobs[-1] if self.kind == "slurm" else 1)

    @property
    def job_seconds(self) -> float | None:
        """Seconds of a job of Slurm; None where jobs have no end, or there are none."""
        return seconds_of(self.walltime) if self.kind == "slurm" else None

    @property
    def threads(self) -> int:
        """Threads of a worker's passes: workers share the cores."""
        cores = self.cores if self.kind == "slurm" else os.cpu_count() or 1
        return max(1, cores // (1 if self.kind == "ssh" else self.workers))


def cluster_of(text: str) -> str | ClusterFile:
    """What ``--cluster`` says: the address of a scheduler, or what a file describes.

    Raises:
        UserError: It is none of these, or a field of the file is wrong.
    """
    if re.fullmatch(r"(tcp|tls|ws|wss|ucx)://\S+", text):
        return text
    local = re.fullmatch(r"local:(\d+)", text)
    if local and int(local[1]):
        return ClusterFile(kind="local", workers=int(local[1]))
    if local or not text.endswith(".toml"):
        raise UserError(
            "The '--cluster' must be local:N (N processes), the address of a Dask scheduler"
            f" (tcp://HOST:PORT), or a TOML file. Got '{text}'."
        )
    file = parse(ClusterFile, read_toml(Path(text), "cluster file"), "cluster file")
    if file.kind == "ssh" and len(file.hosts or ()) < 2:
        raise UserError(
            "The 'hosts' of the cluster file must name the host of the scheduler and at least one"
            f" other. Got {to_toml({'hosts': list(file.hosts or ())}).strip()}."
        )
    if len(file.jobs) > 2 or file.jobs[0] > file.jobs[-1]:
        raise UserError(
            "The 'jobs' of the cluster file must be a number, or the least and the most. Got"
            f" {list(file.jobs)}."
        )
    seconds_of(file.walltime)
    return file


#: The forms of a walltime that Slurm reads, with the unit of each number.
WALLTIMES = {
    r"(\d+)": (60,),
    r"(\d+):(\d+)": (60, 1),
    r"(\d+):(\d+):(\d+)": (3600, 60, 1),
    r"(\d+)-(\d+)": (86400, 3600),
    r"(\d+)-(\d+):(\d+)": (86400, 3600, 60),
    r"(\d+)-(\d+):(\d+):(\d+)": (86400, 3600, 60, 1),
}


def seconds_of(walltime: str) -> float | None:
    """Seconds of a walltime as Slurm reads it; None where it has no end.

    Raises:
        UserError: Slurm cannot read it.

    Example:
        >>> seconds_of("1-02:00:00") / 3600
        26.0
    """
    if walltime.lower() in ("infinite", "unlimited"):
        return None
    for form, units in WALLTIMES.items():
        if match := re.fullmatch(form, walltime):
            return float(sum(int(n) * unit for n, unit in zip(match.groups(), units, strict=True)))
    raise UserError(
        "The 'walltime' of the cluster file must be HOURS:MINUTES:SECONDS, with DAYS- before it for"
        f" more than a day. Got '{walltime}'."
    )


def most_workers(cluster: str | ClusterFile) -> int:
    """Workers at most; 1 where only the scheduler knows."""
    return 1 if isinstance(cluster, str) else cluster.most


#: What a script has to do whose workers would run it once more.
UNGUARDED = (
    "Workers import the script that starts them. It must do its work under:"
    " if __name__ == '__main__':"
)


def require_dask() -> None:
    """Refuse where Dask is not installed, or where a worker runs the script that started it.

    Raises:
        UserError: Says what to do.
    """
    if getattr(current_process(), "_inheriting", False):
        raise UserError(UNGUARDED)
    if find_spec("distributed") is None:
        raise UserError(
            "Several processes need Dask, which is not installed. Install it with pip install"
            " 'facefocus[cluster]', or leave out --workers and --cluster: one process needs none."
        )


def start_cluster(file: ClusterFile) -> Any:
    """A Dask cluster with its workers, which start one after the other.

    Raises:
        UserError: It cannot be started.
    """
    start = {"local": _local, "ssh": _ssh, "slurm": _slurm}[file.kind]
    try:
        with without_interrupts(), _importable_main():
            return start(file)
    except ImportError as error:
        raise UserError(
            f"The cluster needs a package that is not installed: {one_line(error)}. Install it with"
            " pip install 'facefocus[cluster]' (ssh: and asyncssh)."
        ) from None
    except (RuntimeError, OSError, ValueError) as error:
        hint = f" {UNGUARDED}" if file.kind == "local" else ""
        raise UserError(f"The cluster cannot be started: {one_line(error)}.{hint}") from error


def _local(file: ClusterFile) -> Any:
    import distributed

    # After the first call, in which Dask names modules of its own choice.
    context: Any = distributed.utils.get_mp_context
    context().set_forkserver_preload(PRELOADED)
    inside: dict[str, Any] = {"host": "127.0.0.1", "protocol": "tcp://"}
    shown = {"dashboard": file.dashboard, "dashboard_address": _page(file)}
    common = {**inside, "nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL}
    workers = {
        number: {"cls": distributed.Nanny, "options": {**common, "env": of_device(device)}}
        for number, device in enumerate(devices_of(file.workers, gpus()))
    }
    cluster: Any = distributed.SpecCluster
    return cluster(
        workers=workers,
        scheduler={"cls": distributed.Scheduler, "options": {**inside, **shown, "port": 0}},
        silence_logs=logging.CRITICAL,
    )


def gpus() -> list[str]:
    """The GPUs of this machine that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def devices_of(workers: int, gpus: Sequence[str]) -> list[str | None]:
    """The GPU of each worker; workers share them in turn where these are fewer.

    Example:
        >>> devices_of(3, ["0", "1"])
        ['0', '1', '0']
    """
    return [gpus[number % len(gpus)] if gpus else None for number in range(workers)]


def of_device(gpu: str | None) -> dict[str, str]:
    """What the environment of a worker says of its GPU."""
    return {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}


def _page(file: ClusterFile) -> str:
    """Where the scheduler answers browsers; where that is not asked for, this machine's alone."""
    return ":8787" if file.dashboard else "127.0.0.1:0"


def _ssh(file: ClusterFile) -> Any:
    import distributed

    cluster: Any = distributed.SSHCluster
    return cluster(
        list(file.hosts or ()),
        worker_options={"nthreads": 1, "memory_limit": 0},
        scheduler_options={"dashboard": file.dashboard},
        remote_python=file.python,
    )


def _slurm(file: ClusterFile) -> Any:
    from dask_jobqueue.slurm import SLURMCluster

    directives = [*file.directives, *(["--gres=gpu:1"] if file.gpus else [])]
    cluster = SLURMCluster(
        queue=file.queue,
        account=file.account,
        cores=file.workers,  # a thread of Dask for each worker
        processes=file.workers,
        job_cpu=file.cores,
        memory=file.memory,
        walltime=file.walltime,
        job_extra_directives=directives,
        job_script_prologue=list(file.setup),
        python=file.python,
        interface=file.interface,
        log_directory=file.logs,
        worker_extra_args=["--memory-limit", "0", "--no-dashboard"],
        scheduler_options={"dashboard": file.dashboard, "dashboard_address": _page(file)},
        job_name="facefocus",
    )
    # Adaptive also where both are equal: a job that has ended is followed by another.
    cluster.adapt(minimum_jobs=file.jobs[0], maximum_jobs=file.jobs[-1])
    return cluster


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Context whose threads, and the processes that they start, never see Ctrl-C.

    It goes to every process of a terminal; the first one ends the others.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _importable_main() -> Iterator[None]:
    """Workers import the program that started them by its file; a notebook or standard input,
    which is none, is not imported."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or Path(file).is_file():
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = file
