"""The summary of a run on the terminal, as HTML and as CSV."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from facefocus.analysis.summary import CONFIGURATION, Row, competes, summarize, warnings
from facefocus.cli.console import WIDTH, Grid, for_tables
from facefocus.core.errors import UserError, one_line
from facefocus.core.locations import run_folders
from facefocus.core.text import NOTHING, as_html, budget_text, number, percent, visible
from facefocus.report.columns import (
    LEADING,
    Column,
    columns,
    interval,
    leading,
    measured,
    ordered,
    place_label,
    varying,
)

#: The file that makes a folder of runs a study; says its name, its runs and what was left out.
STUDY = "study.json"

# ---------------------------------------------------------------------------- one slice


@dataclass(frozen=True)
class Slice:
    """One budget, one fill and one split: what a first look shows."""

    budget: float
    fill: str
    split: str = "same"

    def of(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows of this slice, of methods' own masks."""
        return self.at(table, "budget", "fill", "split")

    def at(self, table: pl.DataFrame, *names: str) -> pl.DataFrame:
        """The rows of methods' own masks that are equal to this slice in `names`."""
        equal = [pl.col(name) == getattr(self, name) for name in names]
        return table.filter(pl.col("control").is_null(), *equal)

    def __str__(self) -> str:
        photos = ", held-out photos" if self.split == "heldout" else ""
        return f"{budget_text(self.budget)} of the pixels, fill {self.fill}{photos}"


def default_slice(summary: pl.DataFrame) -> Slice:
    """Budget 1 %, fill black and split ``same`` where there are; else the smallest or the first.

    Never split ``half``, which is a reference for held-out photos.

    Raises:
        UserError: The table is empty.
    """
    if summary.is_empty():
        raise UserError("The results must have at least one row. Got an empty table.")
    budgets = summary["budget"].unique().sort().to_list()
    fills = summary["fill"].unique(maintain_order=True).to_list()
    budget = next((one for one in budgets if np.isclose(one, 0.01)), budgets[0])
    split = "same" if "same" in set(summary["split"]) else "heldout"
    return Slice(budget, "black" if "black" in fills else fills[0], split)


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


# ---------------------------------------------------------------------------- the terminal


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


def read_results(run: Path) -> pl.DataFrame:
    """The result table of a run folder, of all its finished variants together.

    Raises:
        UserError: None is finished yet, or a table cannot be read.
    """
    left = unfinished(run)
    folders = run_folders(run)
    done = [one for one in folders if one.name not in left]
    return pl.concat([_read_results(one) for one in done or folders], how="diagonal")


def unfinished(run: Path) -> list[str]:
    """The folders of a run's variants, or of a study's runs, that have no results yet."""
    return [one.name for one in run_folders(run) if not (one / "results.parquet").is_file()]


def unfinished_note(run: Path) -> list[str]:
    """What must be said first of a run or study that is not finished; nothing of one that is."""
    left = unfinished(run)
    path = run / STUDY
    if path.is_file():
        try:
            planned = json.loads(path.read_bytes()).get("runs", [])
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error
        left += [one for one in planned if not (run / one / "results.parquet").is_file()]
        left = list(dict.fromkeys(left))
    if not left:
        return []
    return [
        f"Not finished: {', '.join(left)} {'has' if len(left) == 1 else 'have'} no results yet."
        " What is said below is of the others alone."
    ]


def _read_results(run: Path) -> pl.DataFrame:
    path = run / "results.parquet"
    if not path.is_file():
        raise UserError(f"'{run}' has no results.parquet; run 'facefocus run' first.")
    try:
        return pl.read_parquet(path.read_bytes())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error


def read_runs(paths: Sequence[Path]) -> pl.DataFrame:
    """The result tables of runs and of folders of runs, one below the other.

    Of a folder of runs those that are finished. What stands in two of them, the baselines, counts
    once.

    Raises:
        UserError: One has none at all yet, or it cannot be read.
    """
    tables = []
    for folders in map(run_folders, paths):
        done = [one for one in folders if (one / "results.parquet").is_file()]
        tables += [_read_results(one) for one in done or folders]
    rows = pl.concat(tables, how="diagonal")
    return rows.unique((*CONFIGURATION, "identity"), keep="first", maintain_order=True)


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
