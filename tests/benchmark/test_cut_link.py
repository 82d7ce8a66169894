"""A scheduler and workers on two hosts, the link between which is cut in the middle of a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.cluster_run import check_the_same, events, hurry, run_alone, slow_down, start_run, until
from tests.namespaces import two_hosts, why_no_namespaces

#: Dask gives up a connection after 30 s of silence; this is the least that it takes.
QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}


@pytest.mark.skipif(why_no_namespaces() is not None, reason=why_no_namespaces() or "")
def test_what_a_worker_behind_a_cut_link_had_is_done_elsewhere(tmp_path: Path) -> None:
    with two_hosts() as (here, there):
        address = f"tcp://{here.address}:8786"
        dask, env = [sys.executable, "-m", "dask"], {**os.environ, **QUICK}
        scheduler = [*dask, "scheduler", "--host", here.address, "--port", "8786"]
        here.start([*scheduler, "--no-dashboard"], env=env)
        worker = [*dask, "worker", address, "--nthreads", "1", "--memory-limit", "0", "--no-nanny"]
        for host, name in ((here, "near"), (there, "far")):
            folder = ["--name", name, "--local-directory", str(tmp_path / "dask")]
            host.start([*worker, *folder], env=env)
        run_alone(tmp_path)  # meanwhile
        slow_down(tmp_path, 1.0)
        run = start_run(tmp_path, address, before=here.before, env=env)

        def begun(worker: str) -> set[str]:
            return {line["key"] for line in events(tmp_path, "begin") if line["worker"] == worker}

        until(lambda: begun("far"), run)
        there.cut()
        lost = begun("far") - {line["key"] for line in events(tmp_path, "end")}
        assert lost
        # It is begun here, too, while its worker still works on it.
        until(lambda: lost <= begun("near"), run)
        hurry(tmp_path)
        check_the_same(tmp_path, run)
