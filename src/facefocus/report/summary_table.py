"""Summary rows as tables: every configuration with its audit, on a page and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import polars as pl

from facefocus.analysis.summary import Row, competes, warnings
from facefocus.core.text import visible
from facefocus.report.columns import columns, ordered
from facefocus.report.document import Column, Table


def to_csv(summary: pl.DataFrame) -> str:
    """Every configuration and every column with full precision; `warning` is its last column.

    Only tables of a page know the family that their p-values are corrected over: here they are not,
    and their names say so.
    """
    named = summary.rename(lambda name: f"{name}_uncorrected" if name.endswith("_p") else name)
    return visible(named.write_csv(), lines=True)


def summary_table(
    summary: pl.DataFrame,
    *,
    caption: str = "Every configuration",
    omit: Collection[str] = (),
    scores: Sequence[Column] | None = None,
    order: Callable[[Row], Any] | None = None,
) -> Table:
    """Every configuration as a table that can be sorted, with its warnings.

    Args:
        summary: From `summarize`, or some of its rows.
        caption: Of the table.
        omit: Titles of columns that the caption already says; never of the audit.
        scores: As in `columns`.
        order: What the rows are sorted by, instead of `columns.ordered`.
    """
    return Table(
        caption,
        [column for column in columns(summary, scores) if column.audit or column.title not in omit],
        ordered(summary) if order is None else sorted(summary.to_dicts(), key=order),
        warnings=warnings(summary),
        mark=_mark,
        sortable=True,
    )


def _mark(row: Row) -> str:
    return "flagged" if row["warning"] else "" if competes(row) else "baseline"
