"""A small run by one process and by a cluster, whose tasks last as long as a test wants."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from facefocus.benchmark.run import run_experiment
from facefocus.benchmark.run_log import read_log
from tests.small import paint_faceset

#: A tiny recognizer in a file; every pass of torch waits as many seconds as a file says.
MODEL = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.small import tiny_recognizer

slow = Path({slow!r})

def wait(*_):
    if slow.exists():
        time.sleep(float(slow.read_text()))

def build():
    module = tiny_recognizer("own", 0).module
    module.register_forward_pre_hook(wait)
    return module

build.preprocessing = tiny_recognizer().preprocessing
"""

EXPERIMENT = """
name = "small"
[faces]
set = "painted"
{people}
[recognizers]
source = "one.py:build"
[[saliency]]
method = ["grad-cam", "layer-cam"]
[occlusion]
budget = 0.1
fill = {fills}
"""

CALL = [sys.executable, "-m", "facefocus.cli", "run", "small.toml", "--backend", "torch"]
CALL += ["--faces", "painted"]
#: Seconds that a busy machine may take for anything.
PATIENCE = 300.0


def run_alone(folder: Path, *, fills: Sequence[str] = ("black",), people: str = "") -> None:
    """Write the files of an experiment, and run it in this process."""
    paint_faceset(folder / "painted")
    root, slow = str(Path(__file__).parents[1]), str(folder / "slow")
    (folder / "one.py").write_text(MODEL.format(root=root, slow=slow))
    (folder / "small.toml").write_text(EXPERIMENT.format(fills=list(fills), people=people))
    with chdir(folder):
        run_experiment(
            Path("small.toml"), faces=Path("painted"), out=Path("alone"),
            store=Path("alone/store"), backend="torch",
        )  # fmt: skip


def start_run(
    folder: Path, cluster: str, *, before: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """The same run on a cluster; `before` stands before the command."""
    return subprocess.Popen(
        [*before, *CALL, "--out", "run", "--store", "run/store", "--cluster", cluster],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def slow_down(folder: Path, seconds: float) -> None:
    """Let every pass wait."""
    (folder / "slow").write_text(str(seconds))


def hurry(folder: Path) -> None:
    """Let no pass wait any more."""
    (folder / "slow").unlink()


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind in the run's log."""
    return [line for line in read_log(folder / "run") if line["event"] == kind]


def until(true: Callable[[], object], run: subprocess.Popen[str]) -> None:
    """Wait for something while a run goes on."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check_the_same(folder: Path, run: subprocess.Popen[str], seconds: float = PATIENCE) -> None:
    """The run ends without a traceback, and with the bytes of one process."""
    output = run.communicate(timeout=seconds)
    assert run.returncode == 0, output
    assert "Traceback" not in output[1]
    results = [(folder / name / "results.parquet").read_bytes() for name in ("alone", "run")]
    assert results[0] == results[1]
