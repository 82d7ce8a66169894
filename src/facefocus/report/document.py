"""A document is a sequence of blocks: what is said and which values stand in which table.

Blocks hold no markup. `html_renderer`, `markdown_renderer`, `latex_renderer` and `text_renderer`
turn them into text, each with one way to show a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


class Block:
    """A part of a document; its kind is the name by which renderers know it."""

    @property
    def kind(self) -> str:
        """The class's name in lower case."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Heading(Block):
    """A heading; level 1 is the document's own, 3 one inside a section, 4 one below that."""

    text: str
    level: int = 3


@dataclass(frozen=True)
class Paragraph(Block):
    """Sentences."""

    text: str


@dataclass(frozen=True)
class Note(Block):
    """What is said in smaller type: how the document was made."""

    text: str


@dataclass(frozen=True)
class Listing(Block):
    """Sentences, each an item of a list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Link(Block):
    """A file beside the document."""

    file: str
    text: str


@dataclass(frozen=True)
class Check:
    """One thing to know before a number is believed.

    Attributes:
        good: Whether there is nothing to look at.
        title: What was looked at.
        detail: What was found, in one sentence.
    """

    good: bool
    title: str
    detail: str


@dataclass(frozen=True)
class Checks(Block):
    """The findings of the audit."""

    items: Sequence[Check]


@dataclass(frozen=True)
class Facts(Block):
    """Names and values; a value may be facts itself."""

    items: Mapping[str, Any]


@dataclass(frozen=True)
class Code(Block):
    """Text as it is."""

    text: str


@dataclass(frozen=True)
class Details(Block):
    """Blocks that open on a click, where a format has clicks."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Picture(Block):
    """A picture at one or two widths, each as address, width and height in CSS pixels."""

    wide: tuple[str, int, int]
    alt: str
    caption: str = ""
    narrow: tuple[str, int, int] | None = None


@dataclass(frozen=True, eq=False)
class Chart(Block):
    """A chart that follows the selectors of a page; other formats leave it out.

    Attributes:
        name: Its address in the page.
        spec: A Vega-Lite specification whose data are called ``rows`` (and ``lines``).
        alt: What it shows, for who does not see it.
        caption: What to know to read it.
        rows: A table of its own, which follows the selectors that are columns of it; the
            leaderboard's rows where there is none.
        free: Selectors that it does not follow: what is on its axes.
        each: Of the leaderboard's rows, the best for each value of these columns.
        top: Of the leaderboard's rows, so many of the best series; 0 for all.
        click: Selectors that a click sets, and the field that each is set to.
    """

    name: str
    spec: Mapping[str, Any]
    alt: str
    caption: str
    rows: pl.DataFrame | None = None
    free: Sequence[str] = ()
    each: Sequence[str] = ()
    top: int = 0
    click: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Live(Block):
    """A part that the page's script makes: ``leaderboard`` or ``people``."""

    part: str


@dataclass(frozen=True)
class Cell:
    """What a table shows in one place.

    Attributes:
        text: The value in words.
        interval: Its interval in words; empty where it has none.
        printed: A published value beside it; empty where there is none.
        bold: Whether `text` is emphasized.
        printed_bold: Whether `printed` is.
        missing: Whether there is no value, and `text` says why.
    """

    text: str
    interval: str = ""
    printed: str = ""
    bold: bool = False
    printed_bold: bool = False
    missing: bool = False

    def plain(self, strong: Callable[[str], str], escaped: Callable[[str], str]) -> str:
        """``0.886 [0.861, 0.910] (0.942)``, each part escaped; `strong` marks what is bold."""
        text, printed = escaped(self.text), escaped(self.printed)
        parts = [strong(text) if self.bold else text, escaped(self.interval)]
        if printed:
            parts.append(f"({strong(printed) if self.printed_bold else printed})")
        return " ".join(filter(None, parts))


@dataclass(frozen=True)
class Column:
    """One column of a table: how each row's value is shown.

    Attributes:
        title: Heading.
        note: What it means, one sentence; may be empty.
        cell: What a row shows in it; a text that ends with an interval is a value and its interval.
        value: What it sorts by; None where the table is not sorted.
        numeric: Whether it is aligned right.
        audit: Whether it is part of the audit.
    """

    title: str
    note: str
    cell: Callable[[Any], Cell | str]
    value: Callable[[Any], Any] | None = None
    numeric: bool = True
    audit: bool = False

    def shown(self, row: Any) -> Cell:
        """What a row shows in this column."""
        cell = self.cell(row)
        if isinstance(cell, Cell):
            return cell
        if self.numeric and cell.endswith("]") and " [" in cell:
            text, _, interval = cell.partition(" [")
            return Cell(text, f"[{interval}")
        return Cell(cell)

    def sort_value(self, row: Any) -> str:
        """What a row is sorted by, as text; empty for no value."""
        value = None if self.value is None else self.value(row)
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Table(Block):
    """Columns, rows, and what must be known to read them.

    Attributes:
        caption: What the table shows.
        columns: In order, those that name a row first.
        rows: Any objects that the columns can show.
        warnings: What must be known before any value is read.
        notes: What is said below.
        mark: The kind of a row: ``"baseline"``, ``"flagged"`` or nothing.
        sortable: Whether a click on a heading sorts it, where a format has clicks.
        span: Heading over the columns of values.
        number: In a publication; 0 for none.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Any]
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    mark: Callable[[Any], str] = lambda row: ""
    sortable: bool = False
    span: str = ""
    number: int = 0

    @property
    def title(self) -> str:
        """Number, where there is one, and caption."""
        return f"Table {self.number}. {self.caption}" if self.number else self.caption


def plain_table(
    headings: Iterable[str] | Mapping[str, str],
    rows: Iterable[Sequence[Cell | str]],
    caption: str = "",
    *,
    names: int = 1,
) -> Table:
    """A table of texts.

    Args:
        headings: What each column is called, and maybe what it means.
        rows: The texts of each row, one a column.
        caption: Of the table.
        names: How many of the first columns are names; the others are numbers.
    """
    noted = (
        headings.items() if isinstance(headings, Mapping) else ((title, "") for title in headings)
    )
    columns = [
        Column(title, note, lambda row, index=index: row[index], numeric=index >= names)  # type: ignore[misc]
        for index, (title, note) in enumerate(noted)
    ]
    return Table(caption, columns, list(rows))


@dataclass(frozen=True)
class Section:
    """A part of a document under a question.

    Attributes:
        key: Its address in the document.
        title: The question.
        lead: What to know to read it; may be empty.
        blocks: The answer.
    """

    key: str
    title: str
    lead: str
    blocks: Sequence[Block]
