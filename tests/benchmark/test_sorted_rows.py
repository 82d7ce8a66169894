"""A table that is sorted by way of files is the one that is sorted in memory, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.benchmark import sorted_rows as module
from facefocus.benchmark.sorted_rows import SortedRows

SCHEMA: dict[str, Any] = {
    "method": pl.String, "layer": pl.String, "budget": pl.Float64, "identity": pl.String,
    "normalize": pl.Boolean, "cosine": pl.Float64,
}  # fmt: skip
ORDER = ["method", "layer", "normalize", "budget", "identity"]


def rows(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "method": f"m{rng.integers(5)}",
            "layer": None if rng.random() < 0.2 else f"l{rng.integers(3)}",
            "normalize": [True, False, None][rng.integers(3)],
            "budget": float(rng.integers(4)),
            "identity": f"p{number}",
            "cosine": None if rng.random() < 0.1 else float(rng.random()),
        }
        for number in range(count)
    ]


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 rows are 29 runs of 35, merged four at once: three times."""
    for name, rows in {"RUN": 35, "PIECE": 8, "FAN": 4}.items():
        monkeypatch.setattr(module, name, rows)


@pytest.mark.parametrize("statistics", [False, True])
def test_a_table_by_way_of_files_has_the_bytes_of_one_in_memory(
    tmp_path: Path, statistics: bool
) -> None:
    given = rows(1000)
    (tmp_path / "files").mkdir()
    table = SortedRows(tmp_path / "files", SCHEMA, ORDER)
    table.add(given)
    expected = pl.DataFrame(given, schema=SCHEMA, orient="row")
    expected = expected.sort(ORDER, nulls_last=True, maintain_order=True)
    assert max(map(len, table.frames())) <= 2 * 4 * 8
    assert table.table().equals(expected)
    table.write(tmp_path / "files.parquet", statistics=statistics)
    expected.write_parquet(tmp_path / "memory.parquet", statistics=statistics)
    assert (tmp_path / "files.parquet").read_bytes() == (tmp_path / "memory.parquet").read_bytes()


@pytest.mark.parametrize("order", [["method", "budget"], ["identity"], ["layer"]])
def test_equal_rows_and_those_of_separate_runs_stay_as_they_were_added(
    tmp_path: Path, order: list[str]
) -> None:
    given = sorted(rows(300), key=lambda row: row["identity"])
    table = SortedRows(tmp_path, SCHEMA, order)
    table.add(given)
    expected = pl.DataFrame(given, schema=SCHEMA, orient="row")
    assert table.table().equals(expected.sort(order, nulls_last=True, maintain_order=True))


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    table = SortedRows(tmp_path, SCHEMA, ORDER)
    table.write(tmp_path / "empty.parquet", statistics=False)
    assert table.table().schema == pl.read_parquet(tmp_path / "empty.parquet").schema
    assert table.table().schema == pl.Schema(SCHEMA)


def test_large_tables_are_written_in_even_groups() -> None:
    frames = [pl.DataFrame({"a": range(n, n + 90)}) for n in range(0, 450, 90)]
    schema = {"a": pl.Int64}
    assert [len(group) for group in module.evenly(frames, 450, schema)] == [450]
    groups = module.evenly(frames[:1] * 4000, 360_000, schema)
    assert [len(group) for group in groups] == [120_000] * 3
