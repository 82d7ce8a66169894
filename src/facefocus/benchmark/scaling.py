"""How long a run takes on N workers: a simulation of its tasks, stage by stage."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

#: Seconds that the client and the scheduler spend on one task: measured with empty tasks by
#: ``python -m benchmarks.cluster_overhead`` (docs/scale.md).
OVERHEAD = 0.004


def wall_seconds(
    stages: Iterable[Sequence[float]], workers: int, overhead: float = OVERHEAD
) -> float:
    """Seconds until all tasks are done.

    A stage begins when the one before it is through. Tasks are handed out one after the other, in
    their order, each to the worker that is free first.

    Args:
        stages: The seconds of each task of each stage.
        workers: How many.
        overhead: Seconds that handing out one task takes.

    Example:
        >>> wall_seconds([[2.0, 1.0, 1.0], [3.0]], workers=2, overhead=0.0)
        5.0
    """
    whole = 0.0
    for tasks in stages:
        free = [0.0] * workers
        handed = end = 0.0
        for seconds in tasks:
            handed += overhead
            done = max(heapq.heappop(free), handed) + seconds
            heapq.heappush(free, done)
            end = max(end, done)
        whole += end
    return whole
