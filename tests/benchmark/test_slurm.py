"""A run on a real Slurm of one node, a job of which is cancelled in the middle."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facefocus.benchmark.run_log import read_log
from tests.slurm import running_slurm, why_no_slurm
from tests.small import paint_faceset

#: A tiny recognizer in a file; every pass of torch waits until the file $SLOW is there.
MODEL = """
import os, sys, time
sys.path.insert(0, {root!r})
from tests.small import tiny_recognizer

def build():
    module = tiny_recognizer("own", 0).module
    fast = os.environ.get("SLOW")
    if fast:
        module.register_forward_pre_hook(lambda *_: time.sleep(0.3 * (not os.path.exists(fast))))
    return module

build.preprocessing = tiny_recognizer().preprocessing
"""

EXPERIMENT = """
name = "small"
[faces]
set = "painted"
identities = 12
[recognizers]
source = "one.py:build"
[[saliency]]
method = ["grad-cam", "layer-cam"]
[occlusion]
budget = 0.1
"""

CLUSTER = """
kind = "slurm"
jobs = 1
memory = "900MB"
walltime = "00:10:00"
interface = "lo"
logs = "logs"
"""


def queued(env: dict[str, str]) -> list[str]:
    """The numbers of Slurm's jobs."""
    command = ["squeue", "-h", "-o", "%i"]
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout.split()


@pytest.mark.skipif(why_no_slurm() is not None, reason=why_no_slurm() or "")
def test_a_cancelled_job_of_slurm_costs_nothing_but_its_task(tmp_path: Path) -> None:
    paint_faceset(tmp_path / "painted")
    (tmp_path / "one.py").write_text(MODEL.format(root=str(Path(__file__).parents[2])))
    (tmp_path / "small.toml").write_text(EXPERIMENT)
    (tmp_path / "cluster.toml").write_text(CLUSTER)
    call = [sys.executable, "-m", "facefocus.cli", "run", "small.toml", "--faces", "painted"]
    alone = [*call, "--out", "alone", "--store", "alone/store"]
    subprocess.run(alone, cwd=tmp_path, check=True, capture_output=True)
    with running_slurm() as env:
        together = subprocess.Popen(
            [*call, "--out", "run", "--store", "run/store", "--cluster", "cluster.toml"],
            cwd=tmp_path, env=env | {"SLOW": str(tmp_path / "fast")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        # A job is cancelled once its worker has done a task.
        while "end" not in (events := [line["event"] for line in read_log(tmp_path / "run")]):
            assert together.poll() is None, together.communicate()
            assert time.monotonic() < deadline, events
            time.sleep(0.1)
        (first, *_) = queued(env)
        subprocess.run(["scancel", first], env=env, check=True)
        # What is left takes no time once another job is there for it.
        while not set(queued(env)) - {first}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (tmp_path / "fast").touch()
        said = together.communicate(timeout=400)
    assert together.returncode == 0, said
    assert "Traceback" not in said[1]
    results = [(tmp_path / run / "results.parquet").read_bytes() for run in ("alone", "run")]
    assert results[0] == results[1]
    logs = [path.name for path in (tmp_path / "logs").iterdir()]
    # Another job took its place.
    assert len({re.findall(r"\d+", name)[0] for name in logs}) >= 2, logs
