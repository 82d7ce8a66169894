"""The paper's tables, filled, as text, Markdown, LaTeX, HTML and CSV.

Every rendering ends each row with its audit and says every warning before the first figure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.text import (
    NOTHING,
    as_html,
    as_markdown,
    as_tex,
    bounds,
    number,
    percent,
    visible,
)
from facefocus.paper.leaderboard import board_tables
from facefocus.paper.paper_tables import Audit, Cell, PaperTable, paper_table
from facefocus.paper.published import Printed, published

#: Headings of the audit, in every rendering.
AUDIT = ("No map", "Area mean", "Area max", "Same scores", "n")

#: What stands where no run has the setting.
NOT_RUN = "not run"


def title(table: PaperTable) -> str:
    """Number, where the paper has one, and caption."""
    return f"Table {table.number}. {table.caption}" if table.number else table.caption


def headings(table: PaperTable) -> list[str]:
    """Headings of all columns, the audit's last."""
    return [*table.labels, *table.columns, *AUDIT]


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


def _ours(cell: Cell) -> tuple[str, str]:
    """Our figure or word, and its interval."""
    if cell.word is not None:
        return cell.word, ""
    if cell.found is None:
        return NOT_RUN, ""
    return number(cell.found.value), bounds(cell.found.low, cell.found.high)


def _lines(table: PaperTable) -> Iterator[tuple[list[str], Sequence[Cell], list[str]]]:
    """Labels, cells and audit of every row; labels that repeat the row above are left empty."""
    above: tuple[str, ...] = ()
    for row in table.rows:
        repeated = bool(above) and row.labels[0] == above[0] and len(row.labels) > 1
        labels = ["" if repeated else row.labels[0], *row.labels[1:]]
        above = row.labels
        yield labels, row.cells, _audit_cells(row.audit)


# --- text and Markdown ----------------------------------------------------------------------------


def _plain(
    cell: Cell, strong: Callable[[str], str], escaped: Callable[[str], str] = visible
) -> str:
    ours, ends = _ours(cell)
    ours, printed = escaped(ours), escaped(printed_text(cell.printed))
    if cell.printed_bold:
        printed = strong(printed)
    said = [strong(ours) if cell.bold else ours, ends, f"({printed})" if printed else ""]
    return " ".join(filter(None, said))


def to_text(table: PaperTable) -> str:
    """For a terminal or a file: one line a row, as wide as it needs; ``*`` marks bold."""
    grid = Table(
        title=title(table), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for place, name in enumerate(headings(table)):
        grid.add_column(
            Text(name), justify="left" if place < len(table.labels) else "right", no_wrap=True
        )
    for labels, cells, audit in _lines(table):
        shown = [_plain(cell, lambda text: f"*{text}*") for cell in cells]
        grid.add_row(*map(Text, (*map(visible, labels), *shown, *audit)))
    buffer = io.StringIO()
    Console(file=buffer, width=10_000, color_system=None).print(grid)
    body = "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines())
    over = [f"Warning: {line}" for line in table.warnings]
    return "\n".join([*over, body, *table.notes, ""])


def to_markdown(table: PaperTable) -> str:
    """A Markdown table; ours bold by the paper's rule, the paper's figure in brackets."""
    names = [as_markdown(one) for one in headings(table)]
    marks = [":---" if place < len(table.labels) else "---:" for place in range(len(names))]
    lines = [f"**{as_markdown(title(table))}**", ""]
    lines += [f"> **Warning:** {as_markdown(line)}\n" for line in table.warnings]
    lines += ["| " + " | ".join(names) + " |", "|" + "|".join(marks) + "|"]
    for labels, cells, audit in _lines(table):
        shown = [_plain(cell, lambda text: f"**{text}**", as_markdown) for cell in cells]
        row = [*map(as_markdown, labels), *shown, *map(as_markdown, audit)]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join([*lines, "", *(f"{as_markdown(note)}  " for note in table.notes), ""])


# --- LaTeX ----------------------------------------------------------------------------------------


def to_latex(table: PaperTable) -> str:
    r"""A ``table*`` with a ``tabular`` (packages ``booktabs`` and ``graphicx``)."""
    names = headings(table)
    first, last = len(table.labels), len(names) - len(AUDIT)
    over = "&" * first
    spec = "l" * first + "r" * (len(names) - first)
    lines = [r"\begin{table*}", r"\centering"]
    if table.number:  # the paper's own number
        lines.append(rf"\setcounter{{table}}{{{table.number - 1}}}")
    lines.append(rf"\caption{{{as_tex(table.caption)}}}")
    lines += [rf"\textbf{{Warning:}} {as_tex(line)}\par" for line in table.warnings]
    lines += [r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{{spec}}}", r"\toprule"]
    span = rf"\multicolumn{{{last - first}}}{{c}}{{{as_tex(table.span)}}}"
    audit = rf"\multicolumn{{{len(AUDIT)}}}{{c}}{{Audit}}"
    lines.append(rf"{over}{span}&{audit} \\")
    lines.append(rf"\cmidrule(lr){{{first + 1}-{last}}}\cmidrule(lr){{{last + 1}-{len(names)}}}")
    lines += [" & ".join(map(as_tex, names)) + r" \\", r"\midrule"]
    for labels, cells, audited in _lines(table):
        row = [*map(as_tex, labels), *map(_tex_cell, cells), *map(as_tex, audited)]
        lines.append(" & ".join(row) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [rf"\par\footnotesize {as_tex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table*}", ""])


def _tex_cell(cell: Cell) -> str:
    ours, ends = _ours(cell)
    printed = as_tex(printed_text(cell.printed))
    if cell.printed_bold:
        printed = rf"\textbf{{{printed}}}"
    said = rf"\textbf{{{as_tex(ours)}}}" if cell.bold else as_tex(ours)
    # Braces: an interval's bracket right after a row's end would be read as its optional space.
    small = rf" {{\scriptsize {as_tex(ends)}}}" if ends else ""
    return f"{said}{small}" + (f" ({printed})" if printed else "")


def latex_document(tables: Sequence[PaperTable]) -> str:
    """Tables in a document that compiles by itself."""
    head = [
        r"\documentclass{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[margin=15mm,landscape]{geometry}",
        r"\usepackage{booktabs,graphicx}",
        r"\begin{document}",
    ]
    return "\n".join([*head, *map(to_latex, tables), r"\end{document}", ""])


# --- HTML -----------------------------------------------------------------------------------------


def to_html(table: PaperTable) -> str:
    """An HTML table, escaped, warnings above and notes below it."""
    parts = [
        f'<p class="warning"><strong>Warning:</strong> {as_html(line)}</p>'
        for line in table.warnings
    ]
    parts.append(f'<table class="paper"><caption><span>{as_html(title(table))}</span></caption>')
    parts.append("<thead><tr>")
    for place, name in enumerate(headings(table)):
        numeric = "num" if place >= len(table.labels) else ""
        audit = " audit" if place >= len(table.labels) + len(table.columns) else ""
        parts.append(f'<th scope="col" class="{numeric}{audit}">{as_html(name)}</th>')
    parts.append("</tr></thead><tbody>")
    for labels, cells, audited in _lines(table):
        parts.append("<tr>")
        parts += [f'<th scope="row">{as_html(label)}</th>' for label in labels]
        parts += map(_html_cell, cells)
        parts += [f'<td class="num audit">{as_html(one)}</td>' for one in audited]
        parts.append("</tr>")
    parts.append("</tbody></table>")
    parts += [f'<p class="note">{as_html(note)}</p>' for note in table.notes]
    return "".join(parts)


def _html_cell(cell: Cell) -> str:
    ours, ends = _ours(cell)
    shown = as_html(ours)
    shown = f"<strong>{shown}</strong>" if cell.bold else shown
    if cell.missing:
        shown = f'<span class="absent">{shown}</span>'
    if ends:
        shown += f' <span class="interval">{as_html(ends)}</span>'
    printed = as_html(printed_text(cell.printed))
    if printed:
        printed = f"<strong>{printed}</strong>" if cell.printed_bold else printed
        shown += f' <span class="printed">({printed})</span>'
    return f'<td class="num">{shown}</td>'


def html_document(tables: Sequence[PaperTable]) -> str:
    """Tables on a page that opens by itself, in the style of the reports."""
    style = (files("facefocus.report") / "templates" / "report.css").read_text("utf-8")
    regions = [f'<div class="scroll" tabindex="0">{to_html(table)}</div>' for table in tables]
    head = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>facefocus tables</title>'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head>'
    )
    return f"{head}<body><main>{''.join(regions)}</main></body></html>\n"


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
                found = cell.found
                ends = (found.value, found.low, found.high) if found else ("", "", "")
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
    "text": lambda tables: "\n".join(map(to_text, tables)),
    "markdown": lambda tables: "\n".join(map(to_markdown, tables)),
    "latex": latex_document,
    "csv": to_csv,
    "html": html_document,
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
        found = list(board_tables(results))
        if not found:
            raise UserError("A leaderboard needs two methods that were tried on two identities.")
        yield from found
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
