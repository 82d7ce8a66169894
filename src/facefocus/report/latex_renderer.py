"""Blocks as LaTeX (packages ``booktabs`` and ``graphicx``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from facefocus.core.text import as_tex, visible
from facefocus.report.document import Block, Cell, Table

_HEAD = (
    r"\documentclass{article}",
    r"\usepackage[T1]{fontenc}",
    r"\usepackage[margin=15mm,landscape]{geometry}",
    r"\usepackage{booktabs,graphicx}",
    r"\begin{document}",
)
_HEADINGS = {1: "section", 2: "section", 3: "subsection", 4: "subsubsection"}


def latex_document(blocks: Sequence[Block]) -> str:
    """Blocks in a document that compiles by itself."""
    body = "\n".join(line for block in blocks for line in (*latex_lines(block), ""))
    return visible("\n".join([*_HEAD, body, r"\end{document}", ""]), lines=True)


def latex_lines(block: Any) -> Iterator[str]:
    """The lines of a heading, a paragraph, a note, a list, facts or a table."""
    match block.kind:
        case "heading":
            yield rf"\{_HEADINGS[block.level]}*{{{as_tex(block.text)}}}"
        case "paragraph":
            yield as_tex(block.text)
        case "note":
            yield rf"{{\footnotesize {as_tex(block.text)}\par}}"
        case "listing":
            items = (rf"\item {as_tex(item)}" for item in block.items)
            yield from (r"\begin{itemize}", *items, r"\end{itemize}")
        case "facts":
            yield from _facts(block.items)
        case "table":
            yield from _table(block)
        case kind:
            raise ValueError(f"A block of kind '{kind}' has no form in LaTeX.")


def _facts(items: Mapping[str, Any]) -> Iterator[str]:
    yield r"\begin{itemize}"
    for name, value in items.items():
        if isinstance(value, Mapping):
            yield rf"\item {as_tex(f'{name}:')}"
            yield from _facts(value)
        else:
            yield rf"\item {as_tex(f'{name}: {value}')}"
    yield r"\end{itemize}"


def _table(table: Table) -> Iterator[str]:
    r"""A ``table*`` with a ``tabular``, scaled to the width of the page."""
    columns = table.columns
    first = next((i for i, column in enumerate(columns) if column.numeric), len(columns))
    last = next((i for i, column in enumerate(columns) if column.audit), len(columns))
    spec = "l" * first + "r" * (len(columns) - first)
    yield from (r"\begin{table*}", r"\centering")
    if table.number:
        yield rf"\setcounter{{table}}{{{table.number - 1}}}"
    yield rf"\caption{{{as_tex(table.caption)}}}"
    yield from (rf"\textbf{{Warning:}} {as_tex(line)}\par" for line in table.warnings)
    yield from (r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{{spec}}}", r"\toprule")
    if last < len(columns):
        span = rf"\multicolumn{{{last - first}}}{{c}}{{{as_tex(table.span)}}}"
        audit = rf"\multicolumn{{{len(columns) - last}}}{{c}}{{Audit}}"
        yield rf"{'&' * first}{span}&{audit} \\"
        rules = rf"\cmidrule(lr){{{first + 1}-{last}}}"
        yield rf"{rules}\cmidrule(lr){{{last + 1}-{len(columns)}}}"
    yield from (
        " & ".join(as_tex(" ".join(column.title.split())) for column in columns) + r" \\",
        r"\midrule",
    )
    yield from (
        " & ".join(_cell(column.shown(row)) for column in columns) + r" \\" for row in table.rows
    )
    yield from (r"\bottomrule", r"\end{tabular}}")
    yield from (rf"\par\footnotesize {as_tex(note)}" for note in table.notes)
    yield r"\end{table*}"


def _cell(cell: Cell) -> str:
    def strong(text: str) -> str:
        return rf"\textbf{{{text}}}"

    # Braces: an interval's bracket right after a row's end would be read as its optional space.
    small = rf" {{\scriptsize {as_tex(cell.interval)}}}" if cell.interval else ""
    text, printed = as_tex(cell.text), as_tex(cell.printed)
    beside = f" ({strong(printed) if cell.printed_bold else printed})" if printed else ""
    return f"{strong(text) if cell.bold else text}{small}{beside}"
