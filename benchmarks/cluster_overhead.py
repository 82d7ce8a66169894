"""What Dask adds to a task, and how a run would scale: ``docs/scale.md``.

    python -m benchmarks.cluster_overhead                   # seconds per empty task
    python -m benchmarks.cluster_overhead RUN --times 28    # a run with 28 times the tasks

The first one hands empty tasks of the size of real ones to two workers, a window at a time as a run
does. The second one reads the seconds of every task from a run's log and simulates that many on
1, 2, 20, 200 and 2,000 workers.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from facefocus.benchmark.run_log import read_log
from facefocus.benchmark.scaling import OVERHEAD, wall_seconds
from facefocus.benchmark.worker_pool import Pool

WORKERS = (1, 2, 20, 200, 2000)


def _nothing(payload: bytes) -> None:
    return None


def overhead(tasks: int = 2000, size: int = 4000) -> float:
    """Seconds of client and scheduler for one empty task with `size` bytes.

    Of the processor, so that other programs do not count. Both are in this process, which hands out
    one task after the other.
    """
    pool, ended, flying = Pool("local:2"), SimpleQueue[Any](), set[Any]()
    client, window = pool.client, pool.window
    try:
        client.submit(_nothing, b"", pure=False).result()
        start = time.process_time()
        for number in range(tasks):
            while len(flying) >= window:
                flying.discard(ended.get())
            future = client.submit(_nothing, b"%8d" % number * (size // 8), pure=False)
            flying.add(future)
            future.add_done_callback(ended.put)
        while flying:
            flying.discard(ended.get())
        return (time.process_time() - start) / tasks
    finally:
        pool.close(kill=True)


def task_seconds(run: Path) -> dict[str, list[float]]:
    """The seconds of every task of a run, by stage."""
    by_stage: dict[str, list[float]] = defaultdict(list)
    for line in read_log(run):
        if line["event"] == "end":
            by_stage[line["stage"]].append(line["seconds"])
    return by_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--overhead", type=float, default=OVERHEAD)
    asked = parser.parse_args()
    if asked.run is None:
        print(f"{1000 * overhead():.2f} ms per empty task")
        return
    by_stage = task_seconds(asked.run)
    stages = [seconds * asked.times for seconds in by_stage.values()]
    for stage, seconds in by_stage.items():
        count = len(seconds) * asked.times
        print(f"{stage}: {count:,} tasks, mean {sum(seconds) / len(seconds):.2f} s")
    alone = wall_seconds(stages, 1, asked.overhead)
    for workers in WORKERS:
        wall = wall_seconds(stages, workers, asked.overhead)
        share = alone / wall / workers
        print(f"{workers:5d} workers: {wall / 3600:9.3f} h, {share:5.0%} of them busy")


if __name__ == "__main__":
    main()
