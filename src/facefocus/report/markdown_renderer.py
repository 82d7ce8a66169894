"""Blocks as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from facefocus.core.text import NOTHING, as_markdown, plain_markdown, visible
from facefocus.report.document import Block, Table


def markdown_document(blocks: Sequence[Block]) -> str:
    """Blocks one below the other, with an empty line between them."""
    text = "\n".join(line for block in blocks for line in (*markdown_lines(block), ""))
    return visible(text.rstrip() + "\n", lines=True)


def markdown_lines(block: Any) -> Iterator[str]:
    """The lines of one block; names in it become no links, emphasis or HTML."""
    match block.kind:
        case "heading":
            yield f"{'#' * block.level} {plain_markdown(block.text)}"
        case "paragraph":
            yield plain_markdown(block.text)
        case "note":
            yield f"*{plain_markdown(block.text)}*"
        case "listing":
            yield from (f"- {plain_markdown(item)}" for item in block.items)
        case "link":
            yield f"[{as_markdown(block.text)}]({block.file})"
        case "checks":
            for check in block.items:
                mark = "ok" if check.good else "look"
                yield f"- **{mark}: {as_markdown(check.title)}**: {plain_markdown(check.detail)}"
        case "facts":
            yield from _facts(block.items)
        case "code":
            yield from ("```", *block.text.splitlines(), "```")
        case "picture":
            yield f"![{as_markdown(block.alt)}]({block.wide[0]})"
            yield from ("", plain_markdown(block.caption)) if block.caption else ()
        case "details":
            yield f"**{as_markdown(block.title)}**"
            for inner in block.blocks:
                yield from ("", *markdown_lines(inner))
        case "table":
            yield from _table(block)


def _facts(items: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in items.items():
        if isinstance(value, Mapping):
            yield f"{indent}- **{as_markdown(name)}**:"
            yield from _facts(value, indent + "  ")
        else:
            listed = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            shown = NOTHING if value is None else plain_markdown(str(listed))
            yield f"{indent}- **{as_markdown(name)}**: {shown}"


def _table(table: Table) -> Iterator[str]:
    if table.caption:
        yield from (f"**{as_markdown(table.title)}**", "")
    for line in table.warnings:
        yield from (f"> **Warning:** {as_markdown(line)}", "")
    yield _row([as_markdown(" ".join(column.title.split())) for column in table.columns])
    yield "|" + "|".join("---:" if column.numeric else ":---" for column in table.columns) + "|"
    for row in table.rows:
        yield _row(
            [
                column.shown(row).plain(lambda text: f"**{text}**", as_markdown)
                for column in table.columns
            ]
        )
    if table.notes:
        yield from ("", *(f"{as_markdown(note)}  " for note in table.notes))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
