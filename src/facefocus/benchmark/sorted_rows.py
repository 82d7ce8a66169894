"""Rows that come in any order and leave sorted, while few of them are in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from facefocus.core.files import write_atomically

#: Rows that are gathered and sorted before they go to files, a run of a merge.
RUN = 20_000
#: Rows of a file of a run: what a merge has of each run in memory.
PIECE = 1_000
#: Runs that are merged at once, at most.
FAN = 20
#: Rows of a group of a table's file, at most: what polars takes for one that is in memory.
GROUP = 2**17

#: The beginning of the name of a folder for such files, in a run folder.
FOLDER = ".rows-"

#: Columns of a merge: the place of a row's run, and of the row.
_RUN_NUMBER, _ROW = "sorted_rows.run", "sorted_rows.row"


class SortedRows:
    """A table that is sorted by way of files.

    Args:
        folder: Where the files may lie; who makes it removes it.
        schema: The columns.
        order: The columns to sort by; nulls come last, equal rows as they were added.
    """

    def __init__(self, folder: Path, schema: Mapping[str, Any], order: Sequence[str]) -> None:
        self._folder, self._schema, self._order = folder, dict(schema), list(order)
        self._rows: list[dict[str, Any]] = []
        self._runs: list[list[Path]] = []
        self._files = 0
        self._total = 0

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows."""
        for row in rows:
            self._rows.append(row)
            if len(self._rows) >= RUN:
                self._keep()

    def _keep(self) -> None:
        if not self._rows:
            return
        table = pl.DataFrame(self._rows, schema=self._schema, orient="row")
        self._total += len(table)
        self._rows = []
        self._runs.append(self._run([self._sorted(table)]))

    def _run(self, frames: Iterable[pl.DataFrame]) -> list[Path]:
        """Sorted rows in files of at most `PIECE`."""
        files = []
        for piece in (piece for frame in frames for piece in frame.iter_slices(PIECE)):
            files.append(self._folder / f"{self._files:07d}.parquet")
            piece.write_parquet(files[-1], compression="uncompressed")
            self._files += 1
        return files

    def _sorted(self, table: pl.DataFrame, *last: str) -> pl.DataFrame:
        return table.sort([*self._order, *last], nulls_last=True, maintain_order=True)

    def frames(self) -> Iterator[pl.DataFrame]:
        """The table from its beginning to its end, at most 2 * `FAN` * `PIECE` rows at a time."""
        self._keep()
        while len(self._runs) > FAN:
            groups = [self._runs[start : start + FAN] for start in range(0, len(self._runs), FAN)]
            self._runs = [self._merged_run(group) for group in groups]
        yield from self._merged(self._runs)

    def _merged_run(self, runs: Sequence[Sequence[Path]]) -> list[Path]:
        merged = self._run(self._merged(runs))
        for file in chain(*runs):
            file.unlink()
        return merged

    def _merged(self, runs: Sequence[Sequence[Path]]) -> Iterator[pl.DataFrame]:
        """The rows of sorted runs, sorted; of equal rows those of an earlier run come first."""
        left = [deque(files) for files in runs]
        held = pl.DataFrame(schema=self._schema | {_RUN_NUMBER: pl.Int64})
        while len(held) or any(left):
            ahead = dict(held.group_by(_RUN_NUMBER).len().iter_rows())
            read = [held]
            for run_number, files in enumerate(left):
                # With a piece ahead of each run most of what is held is safe.
                if files and ahead.get(run_number, 0) < PIECE:
                    piece = pl.read_parquet(files.popleft())
                    read.append(piece.with_columns(pl.lit(run_number, pl.Int64).alias(_RUN_NUMBER)))
            held = self._sorted(pl.concat(read), _RUN_NUMBER)
            safe = self._safe(held, [run_number for run_number, files in enumerate(left) if files])
            yield held[:safe].drop(_RUN_NUMBER)
            held = held[safe:]

    @staticmethod
    def _safe(held: pl.DataFrame, unread: Sequence[int]) -> int:
        """Rows that come before all that was not read: up to the last row of one of such runs."""
        rows = held.with_row_index(_ROW).filter(pl.col(_RUN_NUMBER).is_in(unread))
        last = rows.group_by(_RUN_NUMBER).agg(pl.col(_ROW).max()).select(pl.col(_ROW).min()).item()
        return len(held) if last is None else last + 1

    def table(self) -> pl.DataFrame:
        """The whole table."""
        return pl.concat([pl.DataFrame(schema=self._schema), *self.frames()])

    def write(self, path: Path, *, statistics: bool) -> None:
        """Write the table, with or without statistics of its columns.

        Raises:
            UserError: The folder cannot be written.
        """
        self._keep()
        source = register_io_source(
            lambda *_: evenly(self.frames(), self._total, self._schema),
            schema=pl.Schema(self._schema),
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
