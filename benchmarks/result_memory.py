"""Memory and time of a result table: ``python -m benchmarks.result_memory ROWS``.

Prints megabytes of the process: before, most while rows are added, most while the table is written;
and the seconds of the processor of both. A process each, for memory that was had is not given back.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from facefocus.benchmark.sorted_rows import SortedRows

#: Columns as result tables have them: names of what was tried, figures, and numbers.
SCHEMA: dict[str, Any] = {
    **{f"name {number}": pl.String for number in range(12)},
    **{f"figure {number}": pl.Float64 for number in range(25)},
    **{f"number {number}": pl.Int64 for number in range(4)},
}
ORDER = ["name 0", "name 1", "number 0", "figure 0"]


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Rows of 400 configurations, in no order."""
    rng = random.Random(0)
    for row in range(count):
        names = {f"name {n}": f"v{row // 7**n % 37}" for n in range(12)}
        figures = {f"figure {n}": rng.random() for n in range(25)}
        numbers = {f"number {n}": row % (n + 5) for n in range(4)}
        own = {"name 0": f"a{row % 40}", "name 1": f"b{row // 40 % 10}"}
        yield {**names, **figures, **numbers, **own}


def peak() -> float:
    """Most memory of this process until now, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    count = int(sys.argv[1])
    memory, seconds = [peak()], [time.process_time()]
    with tempfile.TemporaryDirectory() as folder:
        table = SortedRows(Path(folder), SCHEMA, ORDER)
        table.add(rows(count))
        memory, seconds = [*memory, peak()], [*seconds, time.process_time()]
        table.write(Path(folder) / "results.parquet", statistics=False)
        memory, seconds = [*memory, peak()], [*seconds, time.process_time()]
    print(
        f"{count} rows: {memory[0]:.0f} MB, {memory[1]:.0f} after adding, {memory[2]:.0f} after"
        f" writing; {seconds[1] - seconds[0]:.0f} and {seconds[2] - seconds[1]:.0f} s"
    )


if __name__ == "__main__":
    main()
