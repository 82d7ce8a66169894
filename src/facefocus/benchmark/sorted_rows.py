"""Rows that come in any order and leave sorted, while few of them are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from facefocus.core.files import write_atomically

#: Rows that are gathered before they go to a file, and that are sorted at once, at least.
ROWS = 50_000
#: Rows of a group of a table's file, at most: what polars takes for one that is in memory.
GROUP = 2**17

#: The beginning of the name of a folder for such files, in a run folder.
FOLDER = ".rows-"

_PART = "sorted_rows.part"


class SortedRows:
    """A table that is sorted by way of files.

    Args:
        folder: Where the files may lie; who makes it removes it.
        schema: The columns.
        order: The columns to sort by; nulls come last.
        split: How many of them, from the first one, tell the parts apart that are sorted at once.
    """

    def __init__(
        self, folder: Path, schema: Mapping[str, Any], order: Sequence[str], split: int
    ) -> None:
        self._folder, self._schema = folder, dict(schema)
        self._order, self._split = list(order), list(order[:split])
        self._rows: list[dict[str, Any]] = []
        self._parts: dict[tuple[Any, ...], list[int]] = {}
        self._files = 0

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows."""
        for row in rows:
            self._rows.append(row)
            if len(self._rows) >= ROWS:
                self._keep()

    def _keep(self) -> None:
        table = pl.DataFrame(self._rows, schema=self._schema, orient="row")
        parts = []
        for row in table.select(self._split).iter_rows():
            part = self._parts.setdefault(row, [len(self._parts), 0])
            part[1] += 1
            parts.append(part[0])
        table = table.with_columns(pl.Series(_PART, parts, pl.Int64)).sort(_PART)
        table.write_parquet(self._folder / f"{self._files:06d}.parquet", row_group_size=ROWS // 10)
        self._files += 1
        self._rows = []

    def frames(self) -> Iterator[pl.DataFrame]:
        """The table from its beginning to its end, at least `ROWS` at a time."""
        if self._rows:
            self._keep()
        if not self._files:
            return
        schema = {name: self._schema[name] for name in self._split}
        keys = pl.DataFrame(list(self._parts), schema=schema, orient="row")
        counts = [list(column) for column in zip(*self._parts.values(), strict=True)]
        sizes = keys.with_columns(pl.Series(_PART, counts[0]), pl.Series("size", counts[1]))
        wanted: list[int] = []
        rows = 0
        for part, size in (
            sizes.sort(self._split, nulls_last=True).select(_PART, "size").iter_rows()
        ):
            wanted.append(part)
            rows += size
            if rows >= ROWS:
                yield self._sorted(wanted)
                wanted, rows = [], 0
        if wanted:
            yield self._sorted(wanted)

    def _sorted(self, parts: Sequence[int]) -> pl.DataFrame:
        table = pl.scan_parquet(self._folder / "*.parquet").filter(pl.col(_PART).is_in(parts))
        rows = table.drop(_PART).collect()
        return rows.sort(self._order, nulls_last=True, maintain_order=True)

    def table(self) -> pl.DataFrame:
        """The whole table."""
        return pl.concat([pl.DataFrame(schema=self._schema), *self.frames()])

    def write(self, path: Path, *, statistics: bool) -> None:
        """Write the table, with or without statistics of its columns.

        Raises:
            UserError: The folder cannot be written.
        """
        if self._rows:
            self._keep()
        total = sum(size for _, size in self._parts.values())
        source = register_io_source(
            lambda *_: evenly(self.frames(), total, self._schema), schema=pl.Schema(self._schema)
        )
        write_atomically(
            path, lambda file: source.sink_parquet(file, statistics=statistics, maintain_order=True)
        )


def evenly(
    frames: Iterable[pl.DataFrame], total: int, schema: Mapping[str, Any]
) -> Iterator[pl.DataFrame]:
    """Frames with `total` rows in few of at most `GROUP` rows, of nearly equal size."""
    count = max(1, -(-total // GROUP))
    sizes = [total // count + (number < total % count) for number in range(count)]
    rest, source = pl.DataFrame(schema=schema), iter(frames)
    for size in sizes:
        while len(rest) < size:
            rest = pl.concat([rest, next(source)])
        yield rest[:size].rechunk()
        rest = rest[size:]
