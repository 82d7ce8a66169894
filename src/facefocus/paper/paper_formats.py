"""The paper's tables, filled, as text, Markdown, LaTeX, HTML and CSV.

Every rendering ends each row with its audit and says every warning before the first figure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

import polars as pl

from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.text import NOTHING, bounds, number, percent, visible
from facefocus.paper.leaderboard import board_tables
from facefocus.paper.paper_tables import Audit, Cell, PaperTable, paper_table
from facefocus.paper.published import Printed, published
from facefocus.report import document
from facefocus.report.document import Column, Table
from facefocus.report.html_renderer import html_document
from facefocus.report.latex_renderer import latex_document
from facefocus.report.markdown_renderer import markdown_document
from facefocus.report.text_renderer import text_document

#: Headings of the audit, in every rendering.
AUDIT = ("No map", "Area mean", "Area max", "Same scores", "n")

#: What stands where no run has the setting.
NOT_RUN = "not run"


def _audit_cells(audit: Audit | None) -> list[str]:
    if audit is None:
        return [NOTHING] * len(AUDIT)
    return [
        percent(audit.degenerate),
        percent(audit.area_mean, 2),
        percent(audit.area_max, 2),
        percent(audit.unaffected),
        str(audit.identities),
    ]


def printed_text(value: Printed | None) -> str:
    """The paper's cell: ``0.942``, a word, or nothing."""
    return "" if value is None else number(value) if isinstance(value, float) else value


def _cell(cell: Cell) -> document.Cell:
    """Ours, its interval, and the paper's."""
    text, interval = (NOT_RUN if cell.missing else cell.word or ""), ""
    if cell.word is None and cell.measured is not None:
        text, interval = number(cell.measured.value), bounds(cell.measured.low, cell.measured.high)
    return document.Cell(
        text,
        interval,
        printed_text(cell.printed),
        bold=cell.bold,
        printed_bold=cell.printed_bold,
        missing=cell.missing,
    )


def table_block(table: PaperTable) -> Table:
    """A table for every renderer; a label that repeats the row above is left empty."""
    names = (*table.labels, *table.columns, *AUDIT)
    first, last = len(table.labels), len(names) - len(AUDIT)
    columns = [
        Column(name, "", itemgetter(index), numeric=index >= first, audit=index >= last)
        for index, name in enumerate(names)
    ]
    rows = []
    above: tuple[str, ...] = ()
    for row in table.rows:
        repeated = bool(above) and row.labels[0] == above[0] and len(row.labels) > 1
        labels = ["" if repeated else row.labels[0], *row.labels[1:]]
        above = row.labels
        rows.append((*labels, *map(_cell, row.cells), *_audit_cells(row.audit)))
    return Table(
        table.caption,
        columns,
        rows,
        warnings=table.warnings,
        notes=table.notes,
        span=table.span,
        number=table.number,
    )


# --- CSV ------------------------------------------------------------------------------------------

_CSV = (
    "table", "row", "column", "value", "low", "high", "word", "published", "bold",
    "degenerate_share", "area_mean", "area_max", "unaffected_share", "identities", "warning",
)  # fmt: skip


def to_csv(tables: Sequence[PaperTable]) -> str:
    """A line a cell with full precision; `warning` is the last column."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV)
    for table in tables:
        for row in table.rows:
            audit = row.audit or Audit(None, None, None, None, 0)
            for column, cell in zip(table.columns, row.cells, strict=True):
                interval = cell.measured
                ends = (interval.value, interval.low, interval.high) if interval else ("", "", "")
                writer.writerow([
                    table.number, " / ".join(row.labels), column, *ends, cell.word or "",
                    "" if cell.printed is None else cell.printed, cell.bold,
                    audit.degenerate, audit.area_mean, audit.area_max, audit.unaffected,
                    audit.identities, " ".join(table.warnings),
                ])  # fmt: skip
    return buffer.getvalue()


# --- all of them ----------------------------------------------------------------------------------

#: Renderings of several tables by name.
FORMATS: dict[str, Callable[[Sequence[PaperTable]], str]] = {
    "text": lambda tables: text_document(list(map(table_block, tables))),
    "markdown": lambda tables: markdown_document(list(map(table_block, tables))),
    "latex": lambda tables: latex_document(list(map(table_block, tables))),
    "csv": to_csv,
    "html": lambda tables: html_document(list(map(table_block, tables)), "facefocus tables"),
}

#: What ``--table`` may name besides the numbers.
ALL, LEADERBOARD = "all", "leaderboard"


def render(results: pl.DataFrame, table: str, form: str, *, policy: str = "none") -> str:
    """The tables that `table` names, in one of `FORMATS`.

    Args:
        results: Result rows (`tables.read_runs`).
        table: A number from 2 to 15, ``all``, or ``leaderboard``.
        form: A name of `FORMATS`.
        policy: ``on_degenerate`` of the rows of numbered tables.

    Raises:
        UserError: No such table or format, or the results have nothing for it.
    """
    if form not in FORMATS:
        raise UserError(
            f"The 'format' must be one of {', '.join(FORMATS)}. Got '{form}'."
            + did_you_mean(form, FORMATS)
        )
    return visible(FORMATS[form](list(_chosen(results, table, policy))), lines=True)


def _chosen(results: pl.DataFrame, table: str, policy: str) -> Iterator[PaperTable]:
    numbers = list(published())
    if table == LEADERBOARD:
        leaderboards = list(board_tables(results))
        if not leaderboards:
            raise UserError("A leaderboard needs two methods that were tried on two identities.")
        yield from leaderboards
    elif table == ALL:
        for number_ in numbers:
            yield paper_table(results, number_, policy=policy)
    elif table.isdecimal() and int(table) in numbers:
        yield paper_table(results, int(table), policy=policy)
    else:
        raise UserError(
            f"The 'table' must be {numbers[0]} to {numbers[-1]}, {ALL} or {LEADERBOARD}."
            f" Got '{table}'.{did_you_mean(table, (ALL, LEADERBOARD))}"
        )
