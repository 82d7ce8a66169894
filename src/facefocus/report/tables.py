"""The summary of a run on the terminal, as HTML and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import polars as pl

from facefocus.analysis.summary import Row, competes, warnings
from facefocus.core.text import as_html, visible
from facefocus.report.columns import Column, columns, ordered

# ---------------------------------------------------------------------------- one slice


# ---------------------------------------------------------------------------- the terminal


# ---------------------------------------------------------------------------- files


def to_csv(summary: pl.DataFrame) -> str:
    """Every configuration and every column with full precision; `warning` is its last column.

    Only tables of a page know the family that their p-values are corrected over: here they are not,
    and their names say so.
    """
    named = summary.rename(lambda name: f"{name}_uncorrected" if name.endswith("_p") else name)
    return visible(named.write_csv(), lines=True)


def to_html(
    summary: pl.DataFrame,
    *,
    caption: str = "Every configuration",
    omit: Collection[str] = (),
    scores: Sequence[Column] | None = None,
    order: Callable[[Row], Any] | None = None,
) -> str:
    """Every configuration as an HTML table, escaped, warnings above it; headings say what they are.

    Args:
        summary: From `summarize`, or some of its rows.
        caption: Of the table.
        omit: Titles of columns that the caption already says; never of the audit.
        scores: As in `columns`.
        order: What the rows are sorted by, instead of `columns.ordered`.
    """
    shown = [one for one in columns(summary, scores) if one.audit or one.title not in omit]
    parts = [
        f'<p class="warning"><strong>Warning:</strong> {as_html(line)}</p>'
        for line in warnings(summary)
    ]
    parts.append(
        f'<table class="sortable"><caption><span>{as_html(caption)}</span></caption><thead><tr>'
    )
    parts += [
        f'<th scope="col" class="{_css(one)}" title="{as_html(one.note)}">{as_html(one.title)}</th>'
        for one in shown
    ]
    parts.append("</tr></thead><tbody>")
    for row in ordered(summary) if order is None else sorted(summary.to_dicts(), key=order):
        mark = "flagged" if row["warning"] else "mapped" if competes(row) else "baseline"
        parts.append(f'<tr class="{mark}">')
        parts += [_html_cell(column, row) for column in shown]
        parts.append("</tr>")
    return "".join([*parts, "</tbody></table>"])


def _css(column: Column) -> str:
    return " ".join(name for name, on in (("num", column.numeric), ("audit", column.audit)) if on)


def _html_cell(column: Column, row: Row) -> str:
    value = column.value(row)
    sort = "" if value is None else as_html(str(value))
    shown = as_html(column.cell(row))
    if column.numeric and shown.endswith("]"):  # the interval may go under its mean
        shown = shown.replace(" [", ' <span class="interval">[', 1) + "</span>"
    return f'<td class="{_css(column)}" data-sort="{sort}">{shown}</td>'
