"""A run whose scheduler and workers are started through a real server of SSH."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from tests.cluster_run import check_the_same, events, hurry, run_alone, slow_down, start_run, until
from tests.ssh_server import running_ssh, why_no_ssh

CLUSTER = """
kind = "ssh"
hosts = ["first", "second", "third"]
"""


def spawned(folder: Path) -> list[psutil.Process]:
    """The processes that Dask started through SSH, which are no children of ours."""
    processes = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        called, env = " ".join(process.info["cmdline"] or ()), process.info["environ"] or {}
        if "dask_spec" in called and env.get("SSH_CONNECTION"):
            processes.append(process)
    return processes


@pytest.mark.skipif(why_no_ssh() is not None, reason=why_no_ssh() or "")
def test_workers_of_other_hosts_give_the_same_bytes(tmp_path: Path) -> None:
    run_alone(tmp_path)
    (tmp_path / "cluster.toml").write_text(CLUSTER)
    slow_down(tmp_path, 0.3)
    with running_ssh("first", "second", "third") as env:
        run = start_run(tmp_path, "cluster.toml", env=env)
        until(lambda: len({line["worker"] for line in events(tmp_path, "begin")}) == 2, run)
        hurry(tmp_path)
        check_the_same(tmp_path, run)
        deadline = time.monotonic() + 30
        while spawned(tmp_path):  # none outlives the run
            assert time.monotonic() < deadline
            time.sleep(0.1)
