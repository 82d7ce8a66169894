"""A Slurm of one node, started and stopped in a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = """
ClusterName=facefocus
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
KillWait=1
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SchedulerParameters=sched_min_interval=0,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_no_slurm() -> str | None:
    """Why Slurm cannot be started here; None where it can."""
    programs = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "runuser")
    missing = [name for name in programs if shutil.which(name, path=_path()) is None]
    if missing:
        return f"Slurm needs {', '.join(missing)}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "Slurm's daemons need root"


def _path() -> str:
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


@contextmanager
def running_slurm() -> Iterator[dict[str, str]]:
    """The environment in which ``sbatch`` and the others reach a Slurm that runs meanwhile."""
    # Not below pytest's folders, which the user of munge may not enter.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        yield from _running(Path(folder))


def _running(folder: Path) -> Iterator[dict[str, str]]:
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname(), folder=folder, ports=_free_ports(2), cores=os.cpu_count()
        )
    )
    env = {**os.environ, "PATH": _path(), "SLURM_CONF": str(configuration)}
    key, munge = folder / "munge" / "key", folder / "munge"
    subprocess.run(["mungekey", "-c", "-k", key], check=True, env=env)
    for path in (key, munge):
        shutil.chown(path, "munge", "munge")
    files = [f"--key-file={key}", f"--socket={folder}/munge.socket"]
    files += [f"--{name}-file={munge}/{name}" for name in ("pid", "log", "seed")]
    # The socket lies where its user may write.
    folder.chmod(0o777)
    daemons = [
        ["runuser", "-u", "munge", "--", "munged", "-F", "--force", *files],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-c"],
    ]
    running = []
    try:
        for daemon in daemons:
            quiet = subprocess.DEVNULL
            running.append(subprocess.Popen(daemon, env=env, stdout=quiet, stderr=quiet))
            if daemon is daemons[0]:
                _until(lambda: (folder / "munge.socket").exists(), "munged", folder)
        _until(lambda: "idle" in _output(["sinfo", "-h", "-o", "%t"], env), "slurm", folder)
        yield env
    finally:
        _output(["scancel", "--full", "--user=root"], env)
        # What watches a job would outlive the daemons.
        deadline = time.monotonic() + 20
        while _output(["squeue", "-h"], env) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _output(command: list[str], env: dict[str, str]) -> str:
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout


def _until(true: object, what: str, folder: Path) -> None:
    assert callable(true)
    deadline = time.monotonic() + 60
    while not true():
        logs = [path.read_text()[-500:] for path in folder.glob("*.log")]
        assert time.monotonic() < deadline, (what, logs)
        time.sleep(0.1)
