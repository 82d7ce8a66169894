"""Times, ratios with their spread, growth exponents, and how many calls a plain loop makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call; on a GPU by events, so that queued kernels count."""
    if not torch.cuda.is_available():
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def in_turns(
    works: Mapping[str, Callable[[int], object]], repeats: int, *, warm: bool = True
) -> dict[str, list[float]]:
    """Seconds of each work in each repeat, one after the other, after one round unmeasured.

    Without `warm` the caller has seen to it that nothing happens for the first time. Every work is
    called with the number of the repeat, so that all can go through the same inputs.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(-1 if warm else 0, repeats):
        for name, work in works.items():
            taken = seconds(partial(work, max(repeat, 0)))
            if repeat >= 0:
                times[name].append(taken)
    return times


def counting(
    works: Mapping[str, Callable[[int], object]],
) -> tuple[dict[str, Callable[[int], object]], dict[str, list[float]]]:
    """The same works, and a list for each to which every call adds its processor seconds.

    Of all threads of this process: what a work costs where others are at work on the machine, too.
    """
    spent: dict[str, list[float]] = {name: [] for name in works}

    def counted(name: str, work: Callable[[int], object], repeat: int) -> None:
        began = time.process_time()
        work(repeat)
        spent[name].append(time.process_time() - began)

    return {name: partial(counted, name, work) for name, work in works.items()}, spent


def ratio(slow: Sequence[float], fast: Sequence[float], scale: float = 1.0) -> Spread:
    """How many times as long `slow` takes in each repeat; it does 1 / `scale` of the work."""
    return Spread.of([scale * a / b for a, b in zip(slow, fast, strict=True)])


def row_of(
    name: str, rival: str, target: float | None, spread: Spread, **more: Any
) -> dict[str, Any]:
    """A result: a ratio to a rival, and what else is said of it."""
    return {"what": name, "rival": rival, "target": target, **asdict(spread), **more}


def median_of(times: Sequence[float]) -> float:
    return float(np.median(times))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The p of cost ~ size^p: slope of a line through the logarithms (least squares)."""
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(slope)


def calls_one_by_one(images: int, layers: int = 1, methods: int = 1, objectives: int = 1) -> int:
    """Calls of a tool that makes one map at a time: each ordered pair of one person's images, at
    each layer, by each method, for each objective."""
    return images * (images - 1) * layers * methods * objectives


def matmul_peak(run: Callable[[], object], size: int, repeats: int = 4) -> float:
    """The best of some products of two square matrices, in floating-point operations per second."""
    run()
    return 2 * size**3 / min(seconds(run) for _ in range(repeats))
