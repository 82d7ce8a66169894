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


@pytest.mark.parametrize("statistics", [False, True])
def test_a_table_by_way_of_files_has_the_bytes_of_one_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statistics: bool
) -> None:
    monkeypatch.setattr(module, "ROWS", 70)
    given = rows(1000)
    (tmp_path / "files").mkdir()
    table = SortedRows(tmp_path / "files", SCHEMA, ORDER, 3)
    table.add(given)
    assert len(list((tmp_path / "files").iterdir())) == 1000 // 70
    expected = pl.DataFrame(given, schema=SCHEMA, orient="row")
    expected = expected.sort(ORDER, nulls_last=True, maintain_order=True)
    assert max(map(len, table.frames())) < 300
    assert table.table().equals(expected)
    table.write(tmp_path / "files.parquet", statistics=statistics)
    expected.write_parquet(tmp_path / "memory.parquet", statistics=statistics)
    assert (tmp_path / "files.parquet").read_bytes() == (tmp_path / "memory.parquet").read_bytes()


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    table = SortedRows(tmp_path, SCHEMA, ORDER, 3)
    table.write(tmp_path / "empty.parquet", statistics=False)
    assert table.table().schema == pl.read_parquet(tmp_path / "empty.parquet").schema
    assert table.table().schema == pl.Schema(SCHEMA)


def test_large_tables_are_written_in_even_groups() -> None:
    frames = [pl.DataFrame({"a": range(n, n + 90)}) for n in range(0, 450, 90)]
    schema = {"a": pl.Int64}
    assert [len(one) for one in module.evenly(frames, 450, schema)] == [450]
    groups = module.evenly(frames[:1] * 4000, 360_000, schema)
    assert [len(one) for one in groups] == [120_000] * 3
