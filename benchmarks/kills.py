"""A run that is killed again and again ends with the bytes of one process: ``docs/scale.md``.

    python -m benchmarks.kills OUT                      # 100 kills, 20 to 60 minutes
    python -m benchmarks.kills OUT --kills 8 --seed 1

A scheduler, three workers, each with its nanny, and ``facefocus run`` as client; each is started
again when it ends. One of them, in turn a worker, a nanny, the scheduler and the client, gets a
SIGKILL at a random moment after a task has begun since the last one. Faces are drawn, the
recognizer is an embedded one whose passes wait, so that tasks last and the machine does not. After
the last kill nothing waits any more. Ends with 1 where a byte of the result table differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import psutil

from facefocus.benchmark.run_log import read_log

FACEFOCUS = [sys.executable, "-m", "facefocus.cli"]
KINDS = ("worker", "nanny", "scheduler", "client")
WORKERS = 3
#: Seconds of a forward pass of a batch until the file $FAST is there; and at most between a task's
#: beginning and the kill.
PASS, DELAY = 1.0, 6.0
#: Seconds without a task that begins, after which the series is given up.
STUCK = 300.0

MODEL = f"""
import os, time
from facefocus.models.zoo import load

def waiting(name):
    plain, fast = load(name), os.environ.get("FAST")
    def build():
        if fast:
            plain.module.register_forward_pre_hook(
                lambda *_: time.sleep({PASS} * (not os.path.exists(fast)))
            )
        return plain.module
    build.preprocessing = plain.preprocessing
    return build

eyes, nose = waiting("iresnet-mini-eyes"), waiting("iresnet-mini-nose")
"""

EXPERIMENT = """
name = "kills"
[faces]
set = "faces"
[recognizers]
source = ["waiting.py:eyes", "waiting.py:nose"]
transfer = false
[[saliency]]
method = "grad-cam"
[[saliency]]
method = "random"
[occlusion]
budget = 0.1
fill = ["black", "white", "mean", "random", "blur", "inpaint"]
"""


class Crew:
    """The processes of a run, by what they are; each is started anew when it has ended."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self.scratch = folder, scratch
        self.started: Counter[str] = Counter()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        here = ["--host", "127.0.0.1", "--no-dashboard"]
        port = self.address.rpartition(":")[2]
        worker = ["worker", self.address, *here, "--nthreads", "1", "--memory-limit", "0"]
        worker += ["--local-directory", str(scratch)]
        run = [*run_call("run"), "--cluster", self.address]
        self._calls = {
            "scheduler": [sys.executable, "-m", "dask", "scheduler", *here, "--port", port],
            **{f"nanny {n}": [sys.executable, "-m", "dask", *worker] for n in range(WORKERS)},
            "client": run,
        }

    def look(self) -> int | None:
        """Start what does not run; returns how the client ended where it is through."""
        for name, call in self._calls.items():
            process = self._processes.get(name)
            code = None if process is None else process.poll()
            if process is not None and code is None:
                continue
            if name == "client" and process is not None and code in (0, 1, 3):
                return code
            with (self.scratch / f"{name}.log").open("ab") as log:
                environment = {**os.environ, "FAST": str(self.scratch / "fast")}
                self._processes[name] = subprocess.Popen(
                    call, cwd=self.folder, env=environment, stdout=log, stderr=log
                )
            self.started[name.split()[0]] += 1
        return None

    def victims(self, kind: str) -> list[psutil.Process]:
        """The processes of a kind that run."""
        name = "nanny" if kind == "worker" else kind
        processes = [process for key, process in self._processes.items() if key.startswith(name)]
        alive = [psutil.Process(process.pid) for process in processes if process.poll() is None]
        if kind != "worker":
            return alive
        children = [child for nanny in alive for child in nanny.children()]
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def end(self) -> None:
        """Stop all that still runs, and what it started."""
        for process in self._processes.values():
            if process.poll() is None:
                for running in (*psutil.Process(process.pid).children(True), process):
                    running.kill()
            process.wait()


def run_call(out: str) -> list[str]:
    """The command that runs the experiment in a folder with a store of its own."""
    where = ["--out", out, "--store", f"{out}/store"]
    return [*FACEFOCUS, "run", "kills.toml", "--backend", "torch", *where]


def series(folder: Path, kills: int, seed: int) -> tuple[bool, list[str]]:
    """Whether the run ended with the same bytes, and what was killed and repeated, in lines."""
    shutil.rmtree(folder, ignore_errors=True)
    scratch = folder / "processes"
    scratch.mkdir(parents=True)
    (folder / "waiting.py").write_text(MODEL)
    (folder / "kills.toml").write_text(EXPERIMENT)
    draw = ["synthetic", "make", "all", "--identities", "240", "--photos", "2", "--out", "faces"]
    subprocess.run([*FACEFOCUS, *draw], cwd=folder, check=True)
    subprocess.run(run_call("alone"), cwd=folder, check=True)
    began, killed = time.monotonic(), Counter[str]()
    with crew(folder, scratch) as processes:
        moments = _moments(processes, random.Random(seed))
        for kind, choose in zip(cycle(KINDS), moments, strict=False):
            killed[kind] += _kill(processes, kind, choose)
            print(f"{time.monotonic() - began:6.0f} s  {killed.total():3d}  {kind}", flush=True)
            if killed.total() == kills:
                break
        took = time.monotonic() - began
        (scratch / "fast").touch()
        while (code := processes.look()) is None:
            time.sleep(0.2)
    tables = [(folder / run / "results.parquet") for run in ("alone", "run")]
    same = code == 0 and tables[0].read_bytes() == tables[1].read_bytes()
    return same, [
        f"{killed.total()} kills in {took / 60:.1f} minutes: {_counted(killed)}",
        f"started: {_counted(processes.started)}",
        *_repeated(folder / "run"),
        "same bytes as one process" if same else "THE RESULT DIFFERS",
    ]


@contextmanager
def crew(folder: Path, scratch: Path) -> Iterator[Crew]:
    """The processes of a run, ended with the block."""
    made = Crew(folder, scratch)
    try:
        yield made
    finally:
        made.end()


def _moments(crew: Crew, rng: random.Random) -> Iterator[Callable[[int], int]]:
    """Wait for the moment of each kill; yields what chooses one of so many victims."""
    begun = 0
    while True:
        stuck = time.monotonic() + STUCK
        while (now := _begun(crew.folder / "run")) == begun:
            _look(crew, stuck)
        later = time.monotonic() + rng.uniform(0, DELAY)
        while time.monotonic() < later:
            _look(crew, stuck)
        begun = max(now, _begun(crew.folder / "run"))
        yield rng.randrange


def _look(crew: Crew, stuck: float) -> None:
    if crew.look() is not None:
        raise SystemExit("The run ended before all kills were done.")
    if time.monotonic() > stuck:
        raise SystemExit(f"No task has begun for {STUCK:.0f} s.")
    time.sleep(0.1)


def _begun(run: Path) -> int:
    return sum(line["event"] == "begin" for line in read_log(run))


def _kill(crew: Crew, kind: str, choose: Callable[[int], int]) -> int:
    while not (victims := crew.victims(kind)):
        crew.look()
        time.sleep(0.05)
    os.kill(victims[choose(len(victims))].pid, signal.SIGKILL)
    return 1


def _repeated(run: Path) -> list[str]:
    """What the run's log says was begun or done more than once."""
    events = {name: Counter[str]() for name in ("begin", "end", "failed")}
    for line in read_log(run):
        if line["event"] in events:
            events[line["event"]][line["key"]] += 1
    often = [count for count in events["begin"].values() if count > 1]
    twice = sum(count > 1 for count in events["end"].values())
    return [
        f"{len(events['begin'])} tasks: {len(often)} begun more than once,"
        f" {sum(often) - len(often)} beginnings too many, at most {max(often, default=1)} of one",
        f"{twice} tasks done more than once; {events['failed'].total()} tries failed",
    ]


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(names.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    same, lines = series(asked.out.resolve(), asked.kills, asked.seed)
    print("\n".join(lines))
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
