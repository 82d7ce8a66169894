"""Planning, status and one percent of a run of many people: ``docs/scale.md``.

    python -m benchmarks.many_people FOLDER                     # 100,000 people: 13 GB
    python -m benchmarks.many_people FOLDER --people 20000

Fabricates a face set of noise, three photos a person, with which nothing is recognized: only time,
memory and files count. Each part is a process of its own, whose seconds by the clock and most
memory are printed. For ``status`` the store is filled with an artefact of four bytes for each key.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facefocus.benchmark.run import open_sessions
from facefocus.benchmark.run_log import KEYS
from facefocus.benchmark.session import Session
from facefocus.faces.faceset import IndexRow, write_faceset

PHOTOS, SIZE = 3, (112, 112)
#: Three CAMs at three layers and random pixels, three budgets, six fills, one recognizer.
EXPERIMENT = """
name = "many"
[faces]
set = "{faces}"
[recognizers]
source = "iresnet-mini-eyes"
[[saliency]]
method = ["grad-cam", "grad-cam++", "layer-cam"]
layer = ["1", "N/2", "N"]
[[saliency]]
method = "random"
[occlusion]
budget = [0.01, 0.05, 0.1]
fill = ["black", "white", "mean", "random", "blur", "inpaint"]
"""
#: One CAM under one fill.
PART = """
name = "part"
[faces]
set = "{faces}"
identities = {people}
[recognizers]
source = "iresnet-mini-eyes"
[[saliency]]
method = "grad-cam"
[occlusion]
budget = 0.05
fill = "black"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--part", choices=("plan", "fill"), help="what a process of it does")
    given = parser.parse_args()
    folder, people = given.folder.resolve(), given.people
    if given.part is not None:
        {"plan": plan, "fill": fill}[given.part](folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    fabricate(folder / "faces", people)
    for name, text in (("many", EXPERIMENT), ("part", PART)):
        filled = text.format(faces=folder / "faces", people=people // 100)
        (folder / f"{name}.toml").write_text(filled)
    own = [sys.executable, "-m", "benchmarks.many_people", str(folder), "--part"]
    call = [sys.executable, "-m", "facefocus.cli"]
    timed("plan", [*own, "plan"])
    where = ["--out", str(folder / "run"), "--store", str(folder / "store")]
    begin([*call, "run", str(folder / "many.toml"), "--backend", "torch", *where], folder / "run")
    timed("fill the store", [*own, "fill"])
    timed("status, first look", [*call, "status", str(folder / "run")])
    timed("status, next look", [*call, "status", str(folder / "run")])
    where = ["--out", str(folder / "part"), "--store", str(folder / "part-store")]
    timed("one percent", [*call, "run", str(folder / "part.toml"), "--backend", "torch", *where])
    files = [path for path in (folder / "part-store").rglob("*") if path.is_file()]
    print(f"files of one percent: {len(files):,}")


def timed(name: str, call: list[str]) -> None:
    """Run a program and print what it says, and how long and with what memory it ran.

    Raises:
        SystemExit: It failed.
    """
    began = time.monotonic()
    process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, code, usage = os.wait4(process.pid, 0)
    took, worked = time.monotonic() - began, usage.ru_utime + usage.ru_stime
    print(output.rstrip())
    print(f"{name}: {took:.1f} s, {worked:.1f} of processors, {usage.ru_maxrss / 1024:,.0f} MB")
    sys.stdout.flush()
    if code:
        raise SystemExit(f"{name} failed.")


def fabricate(folder: Path, people: int) -> None:
    """A face set of noise; one that is there stays."""
    if (folder / "manifest.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    names = [
        (f"p{who:06d}", f"p{who:06d}_{photo}") for who in range(people) for photo in range(PHOTOS)
    ]
    rows = [IndexRow(identity=who, name=name, path=name) for who, name in names]
    write_faceset(folder, title="noise", rows=rows, frames=_noise(len(rows)), size=SIZE)


def _noise(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def begin(call: list[str], run: Path) -> None:
    """Start a run, and kill it as soon as its folder says what it will make."""
    process = subprocess.Popen(call)
    while process.poll() is None and not (run / KEYS).is_file():
        time.sleep(0.5)
    process.kill()
    process.wait()


def plan(folder: Path) -> None:
    """Plan the run, as ``facefocus run`` does before its first task."""
    began = time.process_time()
    whole = _session(folder).plan
    took = time.process_time() - began
    sent = zlib.compress(pickle.dumps(whole.for_workers()), level=1)
    keys = sum(map(len, whole.keys().values()))
    print(
        f"{len(whole.tasks):,} tasks, {keys:,} artefacts; planned in {took:.1f} s of processors;"
        f" a worker gets {len(sent) / 1e6:.1f} MB"
    )


def fill(folder: Path) -> None:
    """Leave in the store what the run would: a file for each task."""
    session = _session(folder)
    nothing = {"a": np.zeros(4, np.uint8)}
    for task in session.plan.tasks:
        with session.store.together():
            for key in task.keys:
                session.store.save(key, nothing)


def _session(folder: Path) -> Session:
    _, sessions = open_sessions(
        folder / "many.toml", out=folder / "run", store=folder / "store", backend="torch"
    )
    return sessions[""]


if __name__ == "__main__":
    main()
