"""``python -m benchmarks``: all workloads, their table and docs/performance.md.

``python -m benchmarks w2 w5`` runs these alone, ``--missing`` those without results of today's
machine, ``--page`` none: it writes the page from the results that are there.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.page import table_lines, write_page
from benchmarks.results import Results
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="w1 ... w11")
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--docs", type=Path, default=ROOT.parent / "docs")
    asked = parser.parse_args()
    wrong = [name for name in asked.workloads if name not in WORKLOADS]
    if wrong:
        parser.error(f"The workloads are {', '.join(WORKLOADS)}. Got '{wrong[0]}'.")
    results = Results(asked.results)
    for name in [] if asked.page else asked.workloads or WORKLOADS:
        if asked.missing and results.fresh(name):
            continue
        start = time.perf_counter()
        rows = WORKLOADS[name]()
        results.save(name, rows, time.perf_counter() - start)
        for line in table_lines({name: rows}):
            print(line, flush=True)
    by_workload = results.all()
    if len(by_workload) > 1:
        print(
            *table_lines({name: measured["rows"] for name, measured in by_workload.items()}),
            sep="\n",
        )
    print(f"page {write_page(results.machines(), asked.docs)}")


if __name__ == "__main__":
    main()
