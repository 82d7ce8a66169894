"""Tables on the terminal: grids that fold to its width, and the summary of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from facefocus.analysis.labels import measured, place_label, varying
from facefocus.analysis.results import Slice, default_slice, read_results, unfinished_note
from facefocus.analysis.summary import Row, competes, summarize, warnings
from facefocus.core.errors import UserError
from facefocus.core.text import NOTHING, budget_text, number, percent, visible
from facefocus.report.columns import LEADING, interval, leading, ordered

#: Characters of a line where there is no terminal: the usual tables then need no folding.
WIDTH = 120

#: The column of names takes no more of a line than it needs, and at most this.
_NAMES = 40


def for_tables(console: Console) -> Console:
    """The console, or a wide one to the same file where it is a file or a pipe."""
    return console if console.is_terminal else Console(file=console.file, width=WIDTH)


@dataclass(frozen=True)
class Grid:
    """A table of figures for a terminal.

    Attributes:
        title: Above it.
        heading: Of the names.
        names: What each row is called.
        columns: Heading and cells of each column, the most important one first.
        dim: Rows that are there for comparison.
        apart: Rows below which a line is drawn.
    """

    title: str
    heading: str
    names: Sequence[str]
    columns: Sequence[tuple[str, Sequence[str]]]
    dim: frozenset[int] = field(default_factory=frozenset)
    apart: frozenset[int] = field(default_factory=frozenset)

    def within(self, width: int) -> list[Table]:
        """Tables with the same rows, as few as `width` allows; no name and no figure is cut.

        The columns that no longer fit, the last first, fold into tables of their own below.
        """
        words = [word for name in (self.heading, *self.names) for word in name.split()]
        least = max(map(cell_len, words), default=1)
        wanted = max(map(cell_len, (self.heading, *self.names)))
        widths = [_width(*column) for column in self.columns]
        tables: list[Table] = []
        first = 0
        while first < len(widths) or not tables:
            last = first + 1
            while last < len(widths) and _total(least, widths[first : last + 1]) <= width:
                last += 1
            room = width - _total(0, widths[first:last])
            tables.append(self._table(first, last, max(least, min(wanted, _NAMES, room))))
            first = last
        return tables

    def _table(self, first: int, last: int, names: int) -> Table:
        title = self.title if not first else f"{self.title} (continued)"
        # As text: in a plain title, ":b" of "file.py:build" would be an emoji.
        said = Text(visible(title), style="table.title")
        table = Table(title=said, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column(self.heading, overflow="fold", width=names)
        columns = self.columns[first:last]
        for heading, _ in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        for row, name in enumerate(self.names):
            cells = (Text(visible(cells[row])) for _, cells in columns)
            style = "dim" if row in self.dim else None
            table.add_row(Text(visible(name)), *cells, style=style, end_section=row in self.apart)
        return table


def _width(heading: str, cells: Sequence[str]) -> int:
    return max(cell_len(line) for line in (*heading.split("\n"), *map(visible, cells)))


def _total(names: int, widths: Sequence[int]) -> int:
    """The width of a table: every column has two spaces of its own, and the table one."""
    return names + sum(widths) + 2 * (len(widths) + 1) + 1


# --- the summary of a run ------------------------------------------------------------------------


def _chosen(summary: pl.DataFrame, budget: float | None, fill: str | None) -> Slice:
    default = default_slice(summary)
    for name, asked in (("budget", budget), ("fill", fill)):
        known = summary[name].unique(maintain_order=True).to_list()
        if asked is not None and asked not in known:
            raise UserError(f"The '{name}' must be one of {known}. Got {asked!r}.")
    return Slice(
        default.budget if budget is None else budget,
        default.fill if fill is None else fill,
        default.split,
    )


def slice_note(summary: pl.DataFrame, shown: Slice) -> str:
    """What is shown, by which rule, and what else there is."""
    budgets = ", ".join(budget_text(one) for one in summary["budget"].unique().sort())
    fills = ", ".join(summary["fill"].unique(maintain_order=True))
    splits = set(summary["split"])
    photos = {
        frozenset({"same"}): "Maps and effects are of the same photos.",
        frozenset({"heldout"}): "Effects are on photos that the maps never saw.",
    }.get(frozenset(splits), "Maps and effects are of the same photos; held-out ones stand apart.")
    return (
        f"Shown: {shown} (1 %, or the smallest budget; black, or the first fill). "
        f"There are budgets {budgets}; fills {fills}. {photos}"
    )


def text(
    summary: pl.DataFrame,
    *,
    budget: float | None = None,
    fill: str | None = None,
    width: int = WIDTH,
) -> Group:
    """The table for the terminal: one budget and fill, per recognizer clean, baselines, methods.

    Args:
        summary: From `summarize`.
        budget: As a fraction; by default 1 %, or the smallest.
        fill: By default black, or the first.
        width: Of the terminal: where it is narrow, the audit folds into a table below.

    Raises:
        UserError: There is no such budget or fill, or no row at all.
    """
    shown = _chosen(summary, budget, fill)
    rows = shown.of(summary)
    few = leading(rows, min(LEADING, max(5, 20 // rows["target"].n_unique())))
    parts: list[Table | Text] = [
        _text(f"Warning: {line}", style="bold yellow") for line in warnings(rows)
    ]
    for part in few.partition_by("target", maintain_order=True):
        parts += _terminal_grid(part, f"{part['target'][0]}: {shown}").within(width)
    if few.height < rows.height:
        more = f"{rows.height - few.height} more with smaller drops are not shown."
        parts.append(_text(more, style="bold"))
    return Group(
        *parts, _text(slice_note(summary, shown), style="dim"), _text(_legend(rows), style="dim")
    )


def _text(said: str, style: str) -> Text:
    return Text(visible(said), style=style)


def print_summary(run: Path, console: Console) -> None:
    """Print the table of a run folder.

    Raises:
        UserError: The run has no results yet.
    """
    console = for_tables(console)
    for line in unfinished_note(run):
        console.print(_text(line, style="bold yellow"))
    console.print(text(summarize(read_results(run)), width=console.width))


def _legend(rows: pl.DataFrame) -> str:
    said = ["Means over identities with 95 % intervals.", "Recognition: with the pixels hidden."]
    if measured(rows, "excess"):
        said.append("Excess: drop beyond the same mask shifted at random.")
    else:
        said.append("Beyond random: drop beyond random pixels of the same number.")
    if measured(rows, "specificity"):
        said.append("Specificity: drop beyond other people's masks.")
    said.append(
        "Audit: identities without a map, mean and largest hidden area, identities over budget"
        + ("." if measured(rows, "specificity") else ", identities whose scores did not change.")
    )
    return " ".join(said)


@dataclass(frozen=True)
class _TerminalColumn:
    title: str
    cell: Callable[[Row], str]
    clean: Callable[[Row], str] = lambda row: NOTHING


def _terminal_columns(rows: pl.DataFrame) -> list[_TerminalColumn]:
    """What fits a line of `WIDTH`: the strictest comparison there is, and the audit."""
    beyond = "excess" if measured(rows, "excess") else "beyond_random"
    specific = measured(rows, "specificity")
    title = "Excess" if beyond == "excess" else "Beyond random"
    found = [
        _TerminalColumn(
            "Recognition",
            lambda row: interval(row, "rate"),
            lambda row: interval(row, "clean_rate"),
        ),
        _TerminalColumn(title, lambda row: interval(row, beyond, signed=True)),
    ]
    if specific:
        found.append(
            _TerminalColumn("Specificity", lambda row: interval(row, "specificity", signed=True))
        )
    else:
        found.append(
            _TerminalColumn(
                "Cosine", lambda row: number(row["cosine"]), lambda row: number(row["clean_cosine"])
            )
        )
    found += _TERMINAL_AUDIT
    if not specific:
        found.append(
            _TerminalColumn("Same\nscore", lambda row: percent(row["unaffected_share"], 0))
        )
    return found


_TERMINAL_AUDIT = (
    _TerminalColumn("n", lambda row: str(row["scored"]), lambda row: str(row["scored"])),
    _TerminalColumn("No\nmap", lambda row: percent(row["degenerate_share"])),
    _TerminalColumn(
        "Area\nmean/max",
        lambda row: (
            f"{percent(row['area_mean'], 2).removesuffix(' %')}/{percent(row['area_max'], 2)}"
        ),
        lambda row: "0/0 %",
    ),
    _TerminalColumn("Over", lambda row: percent(row["over_budget_share"], 0), lambda row: "0 %"),
)


def _terminal_grid(rows: pl.DataFrame, title: str) -> Grid:
    shown = _terminal_columns(rows)
    varies = varying(rows)
    clean, listed = _clean_rows(rows), ordered(rows)
    names = [", ".join(["clean", *([r["split"]] if "split" in varies else [])]) for r in clean]
    return Grid(
        title,
        "Method @ layer",
        [*names, *(place_label(row, varies) for row in listed)],
        [
            (column.title, [*map(column.clean, clean), *map(column.cell, listed)])
            for column in shown
        ],
        dim=frozenset(place for place, row in enumerate(listed, len(clean)) if not competes(row)),
    )


def _clean_rows(rows: pl.DataFrame) -> list[Row]:
    """One row per distinct clean score: held-out images and left-out identities have their own."""
    return rows.unique(("clean_rate", "split"), keep="first", maintain_order=True).to_dicts()
