"""How long passes take: measured for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

#: Seconds that are spent on measuring, at least one call after the first.
MEASURED = 1.0


def median_seconds(work: Callable[[], object]) -> float:
    """The median time of some calls; the first is not counted, as it prepares the others."""
    work()
    times: list[float] = []
    while not times or sum(times) < MEASURED:
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
