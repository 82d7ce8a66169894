"""Blocks as plain text and on the terminal: tables fold to its width, and no number is cut."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from facefocus.core.text import NOTHING, visible
from facefocus.report.document import Block, Column, Table

#: Characters of a line where there is no terminal: the usual tables then need no folding.
WIDTH = 120

#: The column of names takes no more of a line than it needs, and at most this.
_NAMES = 40


def text_document(blocks: Sequence[Block], width: int = 10_000) -> str:
    """Blocks as text of a width, by default as wide as they need; ``*`` marks what is bold."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None)
    for block in blocks:
        console.print(*renderables(block, width), sep="\n")
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines()) + "\n"


def renderables(block: Any, width: int) -> Iterator[RenderableType]:
    """What rich prints of a block in lines of `width` characters."""
    match block.kind:
        case "heading":
            yield _text(f"\n{block.text}" if block.level > 2 else block.text, "bold")
        case "paragraph":
            yield _text(block.text)
        case "note":
            yield _text(block.text, "dim")
        case "listing":
            yield from (_text(f"- {item}") for item in block.items)
        case "checks":
            for check in block.items:
                yield _text(f"{'ok' if check.good else 'LOOK':<4}  {check.title}: {check.detail}")
        case "facts":
            yield from map(_text, _facts(block.items))
        case "details":
            for inner in block.blocks:
                yield from renderables(inner, width)
        case "table":
            yield from (_text(f"Warning: {line}", "bold yellow") for line in block.warnings)
            yield from terminal_tables(block, width)
            yield from (_text(line) for line in block.notes)


def _text(text: str, style: str = "") -> Text:
    return Text(visible(text, lines=True), style=style)


def _facts(items: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in items.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _facts(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {NOTHING if value is None else value}"


def terminal_tables(table: Table, width: int) -> list[RichTable]:
    """Tables with the same rows, as few as `width` allows; no name and no number is cut.

    The columns that no longer fit, the last first, fold into tables of their own below.
    """
    count = max(1, next((i for i, column in enumerate(table.columns) if column.numeric), 1))
    first, *labels = table.columns[:count]
    values = table.columns[count:]
    names = _cells(first, table)
    least = max((cell_len(word) for name in names for word in name.split()), default=1)
    wanted = max(map(cell_len, names))
    taken = _total(0, [_width(label, table) for label in labels])
    widths = [_width(column, table) for column in values]
    tables: list[RichTable] = []
    start = 0
    while start < len(values) or not tables:
        end = start + 1
        while end < len(values) and _total(taken + least, widths[start : end + 1]) <= width:
            end += 1
        room = width - _total(taken, widths[start:end])
        title = table.title if not start else f"{table.title} (continued)"
        part = RichTable(
            # As text: in a plain title, ":b" of "file.py:build" would be an emoji.
            title=Text(visible(title), style="table.title"),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        part.add_column(
            Text(visible(first.title)), overflow="fold", width=max(least, min(wanted, _NAMES, room))
        )
        shown = [*labels, *values[start:end]]
        for column in shown:
            part.add_column(
                Text(column.title),
                justify="right" if column.numeric else "left",
                no_wrap=column.numeric,
                overflow="fold",
            )
        for row in table.rows:
            cells = (_cell(column, row) for column in (first, *shown))
            part.add_row(*map(Text, cells), style="dim" if table.mark(row) == "baseline" else None)
        tables.append(part)
        start = end
    return tables


def _cell(column: Column, row: Any) -> str:
    return column.shown(row).plain(lambda text: f"*{text}*", visible)


def _cells(column: Column, table: Table) -> list[str]:
    """The heading of a column, line by line, and all its cells."""
    return [*column.title.split("\n"), *(_cell(column, row) for row in table.rows)]


def _width(column: Column, table: Table) -> int:
    return max(map(cell_len, _cells(column, table)))


def _total(names: int, widths: Sequence[int]) -> int:
    """The width of a table: every column has two spaces of its own, and the table one."""
    return names + sum(widths) + 2 * (len(widths) + 1) + 1
