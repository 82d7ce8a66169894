"""Runs on a real Slurm of one node: a job is cancelled, jobs end by their walltime."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cluster_run import check_the_same, events, hurry, run_alone, slow_down, start_run, until
from tests.slurm import running_slurm, why_no_slurm

pytestmark = pytest.mark.skipif(why_no_slurm() is not None, reason=why_no_slurm() or "")

CLUSTER = """
kind = "slurm"
jobs = 1
memory = "900MB"
walltime = "{walltime}"
interface = "lo"
logs = "logs"
"""


def queued(env: dict[str, str]) -> list[str]:
    """The numbers of Slurm's jobs."""
    command = ["squeue", "-h", "-o", "%i"]
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout.split()


def printed(folder: Path) -> dict[str, str]:
    """What each job printed, by its number."""
    logs = (folder / "logs").glob("*.err")
    return {re.findall(r"\d+", path.name)[0]: path.read_text() for path in logs}


def test_a_cancelled_job_costs_nothing_but_its_task(tmp_path: Path) -> None:
    run_alone(tmp_path, people="identities = 12")
    (tmp_path / "cluster.toml").write_text(CLUSTER.format(walltime="00:10:00"))
    slow_down(tmp_path, 0.3)
    with running_slurm() as env:
        run = start_run(tmp_path, "cluster.toml", env=env)
        # A job is cancelled once its worker has done a task.
        until(lambda: events(tmp_path, "end"), run)
        (first, *_) = queued(env)
        subprocess.run(["scancel", first], env=env, check=True)
        # What is left takes no time once another job is there for it.
        until(lambda: set(queued(env)) - {first}, run)
        hurry(tmp_path)
        check_the_same(tmp_path, run)
    assert len(printed(tmp_path)) >= 2  # another one took its place


#: Slurm's shortest walltime is a minute, and it looks for jobs that are over it twice a minute.
@pytest.mark.skipif(
    "FACEFOCUS_WALLTIME" not in os.environ, reason="takes ten minutes: set FACEFOCUS_WALLTIME=1"
)
@pytest.mark.parametrize("warned", [True, False])
def test_a_run_outlives_the_walltime_of_its_jobs(warned: bool, tmp_path: Path) -> None:
    """Tasks of 12 s in jobs of a minute; workers that are not told of it are cut off by Slurm."""
    run_alone(tmp_path, fills=["black", "white", "mean", "blur", "random", "inpaint"])
    cluster = CLUSTER.format(walltime="00:01:00" if warned else "01:00:00")
    (tmp_path / "cluster.toml").write_text(cluster + 'directives = ["--time=00:01:00"]')
    slow_down(tmp_path, 2.0)
    with running_slurm() as env:
        check_the_same(tmp_path, start_run(tmp_path, "cluster.toml", env=env), 1500)
    jobs = printed(tmp_path)
    cut = sum("DUE TO TIME LIMIT" in text for text in jobs.values())
    ended = [line["key"] for line in events(tmp_path, "end")]
    print(f"{len(jobs)} jobs, {cut} ended by Slurm; {len(ended)} tasks")
    # A quick machine is through with the second one.
    assert len(jobs) >= 2 and (warned or cut >= 1)
    assert len(ended) == len(set(ended))  # what was finished is not done again
