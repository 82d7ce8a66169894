"""The summary of a run as text, Markdown, HTML, CSV and LaTeX.

A number is never shown without its audit (PROTOCOL section 9.1): whatever renders a table takes its
columns from `columns`, which always ends with the audit.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from facefocus.errors import UserError, one_line
from facefocus.report.summary import CONFIGURATION, Row, summarize, warnings

__all__ = [
    "CONFIGURATION",
    "Column",
    "Slice",
    "columns",
    "default_slice",
    "print_summary",
    "read_results",
    "summarize",
    "text",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "warnings",
]

#: What stands where there is no number.
NOTHING = "\N{EN DASH}"

# ---------------------------------------------------------------------------- numbers as text


def number(value: float | None, *, signed: bool = False) -> str:
    """``0.886``, ``+0.076`` where `signed`, an en dash for nothing."""
    if value is None or not np.isfinite(value):
        return NOTHING
    rounded = round(value, 3) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:+.3f}" if signed and rounded else f"{rounded:.3f}"


def interval(row: Row, name: str, *, signed: bool = False) -> str:
    """``0.886 [0.861, 0.910]``: the mean called `name` of a summary row and its 95 % interval."""
    mean, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:
        return number(mean, signed=signed)
    return f"{number(mean, signed=signed)} [{number(low)}, {number(high)}]"


def percent(share: float | None, digits: int = 1) -> str:
    """``31.7 %`` of a share in 0..1; what is not zero never reads as zero."""
    if share is None or not np.isfinite(share):
        return NOTHING
    smallest = 10.0**-digits
    if 0 < 100 * share < smallest / 2:
        return f"<{smallest:g} %"
    text = f"{100 * share:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def layer_label(row: Row) -> str:
    """``N/2 (24)``: the layer as asked and what it resolved to, where that says more."""
    layer, calls = row["layer"], row["layer_calls"]
    if layer is None:
        return NOTHING
    return layer if calls in (None, layer) else f"{layer} ({calls})"


# ---------------------------------------------------------------------------- columns and rows


@dataclass(frozen=True)
class Column:
    """One column of a rendered table.

    Attributes:
        title: Heading.
        note: What it means, one sentence.
        cell: The text of a summary row in it.
        value: What it sorts by.
        numeric: Aligned right.
        audit: Part of the audit.
    """

    title: str
    note: str
    cell: Callable[[Row], str]
    value: Callable[[Row], Any]
    numeric: bool = True
    audit: bool = False


def _named(title: str, name: str, note: str) -> Column:
    def cell(row: Row) -> str:
        return NOTHING if row[name] in (None, "") else str(row[name])

    return Column(title, note, cell, lambda row: row[name], numeric=False)


def _mean(title: str, name: str, note: str, *, signed: bool = False) -> Column:
    return Column(
        title, note, lambda row: interval(row, name, signed=signed), lambda row: row[name]
    )


def _share(title: str, name: str, note: str, digits: int = 1) -> Column:
    return Column(
        title, note, lambda row: percent(row[name], digits), lambda row: row[name], audit=True
    )


#: Columns that say which run a number belongs to; shown only where they vary.
DETAILS = {
    "experiment": "Experiment", "faces": "Faces", "source": "Map from", "options": "Options",
    "objective": "Objective", "evidence": "Evidence", "split": "Images",
    "on_degenerate": "Degenerate maps", "compare": "Compared", "threshold_rule": "Threshold rule",
    "seed": "Seed",
}  # fmt: skip

_AUDIT_COLUMNS = (
    Column(
        "Scored",
        "Identities that were scored, of all.",
        lambda row: f"{row['scored']}/{row['identities']}",
        lambda row: row["scored"],
        audit=True,
    ),
    _share("No map", "degenerate_share", "Share of identities whose maps are all flat or invalid."),
    _share("Flat maps", "maps_degenerate_share", "Share of pair maps that carry no ranking."),
    _share("Area mean", "area_mean", "Mean share of the frame that was hidden.", 2),
    _share("Area max", "area_max", "Largest share of the frame hidden of any identity.", 2),
    _share("Over budget", "over_budget_share", "Share of identities with more hidden than asked."),
    _share(
        "Same scores", "unaffected_share", "Share of scored identities that lost nothing at all."
    ),
)

_SCORE_COLUMNS = (
    Column(
        "Clean",
        "Recognition of the same identities with nothing hidden.",
        lambda row: number(row["clean_rate"]),
        lambda row: row["clean_rate"],
    ),
    _mean("Recognition", "rate", "Share of mated pairs at or above the threshold, hidden."),
    _mean("Drop", "drop", "Clean recognition minus recognition hidden.", signed=True),
    _mean(
        "Beyond random",
        "beyond_random",
        "How much lower than with random pixels of the same number, paired by identity.",
        signed=True,
    ),
    _mean("Cosine", "cosine", "Mean cosine of mated pairs, hidden."),
)


def varying(summary: pl.DataFrame) -> list[str]:
    """The names of `DETAILS` that tell these rows apart, baselines aside.

    The map's recognizer counts where it is not the one that is attacked; options and objective
    where one method has several, since each method has its own.
    """
    mapped = summary.filter(pl.col("source").is_not_null())
    found = []
    for name in DETAILS:
        if name == "source":
            varies = mapped.filter(pl.col("source") != pl.col("target")).height > 0
        elif name in ("options", "objective"):
            varies = any(part[name].n_unique() > 1 for part in mapped.partition_by("method"))
        else:
            varies = mapped[name].n_unique() > 1
        if varies:
            found.append(name)
    return found


def columns(summary: pl.DataFrame) -> list[Column]:
    """The columns that tell these rows apart, the scores, and always the audit."""
    details = [_named(DETAILS[name], name, f"The row's '{name}'.") for name in varying(summary)]
    return [
        _named("Recognizer", "target", "The recognizer that is attacked."),
        Column(
            "Budget",
            "Share of the frame's pixels that may be hidden.",
            lambda row: percent(row["budget"], 2),
            lambda row: row["budget"],
        ),
        _named("Fill", "fill", "What the hidden pixels are painted with."),
        _named("Method", "method", "What ranked the pixels."),
        Column(
            "Layer",
            "Convolution asked for (and the calls it means).",
            layer_label,
            layer_order,
            numeric=False,
        ),
        *details,
        *_SCORE_COLUMNS,
        *_AUDIT_COLUMNS,
    ]


def layer_order(row: Row) -> float:
    """Depth of a row's layer: its first convolution call, -1 without a layer."""
    first = str(row["layer_calls"] or row["layer"] or "").split(",")[0]
    return float(first) if first.isdigit() else -1.0


def ordered(summary: pl.DataFrame) -> list[Row]:
    """The rows by recognizer, budget and fill; within these baselines first, then largest drop."""

    def key(row: Row) -> tuple[Any, ...]:
        drop = row["drop"] if row["drop"] is not None else -np.inf
        return (row["target"], row["budget"], row["fill"], row["source"] is not None, -drop)

    return sorted(summary.to_dicts(), key=key)


#: So many methods and layers are shown at first; a table that fills screens is read by nobody.
LEADING = 15


def leading(summary: pl.DataFrame) -> pl.DataFrame:
    """The baselines and the `LEADING` rows of largest drop, of each recognizer."""
    mapped = pl.col("source").is_not_null()
    drops = pl.col("drop").fill_null(float("-inf")).rank("ordinal", descending=True)
    return summary.filter(~mapped | (drops.over("target", mapped) <= LEADING))


# ---------------------------------------------------------------------------- one slice


@dataclass(frozen=True)
class Slice:
    """One budget and one fill: what a first look shows."""

    budget: float
    fill: str

    def of(self, summary: pl.DataFrame) -> pl.DataFrame:
        """The rows of this slice."""
        return summary.filter((pl.col("budget") == self.budget) & (pl.col("fill") == self.fill))

    def __str__(self) -> str:
        return f"{percent(self.budget, 2)} of the pixels, fill {self.fill}"


def default_slice(summary: pl.DataFrame) -> Slice:
    """Budget 1 % where there is one, else the smallest; black where there is it, else the first.

    Raises:
        UserError: The table is empty.
    """
    if summary.is_empty():
        raise UserError("The results must have at least one row. Got an empty table.")
    budgets = summary["budget"].unique().sort().to_list()
    fills = summary["fill"].unique(maintain_order=True).to_list()
    budget = next((one for one in budgets if np.isclose(one, 0.01)), budgets[0])
    return Slice(budget, "black" if "black" in fills else fills[0])


def _chosen(summary: pl.DataFrame, budget: float | None, fill: str | None) -> Slice:
    default = default_slice(summary)
    for name, asked in (("budget", budget), ("fill", fill)):
        known = summary[name].unique(maintain_order=True).to_list()
        if asked is not None and asked not in known:
            raise UserError(f"The '{name}' must be one of {known}. Got {asked!r}.")
    return Slice(
        default.budget if budget is None else budget, default.fill if fill is None else fill
    )


def slice_note(summary: pl.DataFrame, shown: Slice) -> str:
    """What is shown, by which rule, and what else there is."""
    budgets = ", ".join(percent(one, 2) for one in summary["budget"].unique().sort())
    fills = ", ".join(summary["fill"].unique(maintain_order=True))
    return (
        f"Shown: {shown} (1 %, or the smallest budget; black, or the first fill). "
        f"There are budgets {budgets}; fills {fills}."
    )


# ---------------------------------------------------------------------------- the terminal


def text(summary: pl.DataFrame, *, budget: float | None = None, fill: str | None = None) -> Group:
    """The table for the terminal: one budget and fill, per recognizer clean, baselines, methods.

    Args:
        summary: From `summarize`.
        budget: As a fraction; by default 1 %, or the smallest.
        fill: By default black, or the first.

    Raises:
        UserError: There is no such budget or fill, or no row at all.
    """
    shown = _chosen(summary, budget, fill)
    rows = shown.of(summary)
    few = leading(rows)
    parts: list[Table | Text] = [
        Text(f"Warning: {line}", style="bold yellow") for line in warnings(rows)
    ]
    parts += [
        _terminal_table(part, f"{part['target'][0]}: {shown}")
        for part in few.partition_by("target", maintain_order=True)
    ]
    if few.height < rows.height:
        more = f"{rows.height - few.height} more with smaller drops are not shown."
        parts.append(Text(more, style="bold"))
    return Group(*parts, Text(slice_note(summary, shown), style="dim"), Text(LEGEND, style="dim"))


def print_summary(run: Path, console: Console) -> None:
    """Print the table of a run folder.

    Raises:
        UserError: The run has no results yet.
    """
    # Tables keep their numbers whole where there is no terminal to fit: in a file or a pipe.
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDTH)
    console.print(text(summarize(read_results(run))))


def read_results(run: Path) -> pl.DataFrame:
    """The result table of a run folder.

    Raises:
        UserError: It has none yet, or it cannot be read.
    """
    path = run / "results.parquet"
    if not path.is_file():
        raise UserError(f"'{run}' has no results.parquet; run 'facefocus run' first.")
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error


#: Columns of the terminal table with every number whole.
WIDTH = 120

LEGEND = (
    "Means over identities with 95 % intervals. Drop: clean minus hidden; beyond random: below "
    "random pixels of the same number. Audit: identities without a map, mean and largest hidden "
    "area, identities over budget, identities whose scores did not change."
)


def _terminal_table(rows: pl.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("Method", overflow="fold", min_width=10, max_width=26)
    table.add_column("Layer", no_wrap=True)
    for heading in ("Recognition", "Beyond random", "Cosine", "n", "No map", "Area\nmean/max",
                    "Over\nbudget", "Same\nscore"):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    names = varying(rows)
    for row in _clean_rows(rows):
        label = ", ".join(["clean", *([row["split"]] if "split" in names else [])])
        table.add_row(
            label, NOTHING, interval(row, "clean_rate"), NOTHING, number(row["clean_cosine"]),
            str(row["scored"]), NOTHING, "0/0 %", "0 %", NOTHING,
        )  # fmt: skip
    for row in ordered(rows):
        table.add_row(*_terminal_cells(row, names), style=None if row["source"] else "dim")
    return table


def _clean_rows(rows: pl.DataFrame) -> list[Row]:
    """One row per distinct clean score: held-out images and left-out identities have their own."""
    return rows.unique(("clean_rate", "split"), keep="first", maintain_order=True).to_dicts()


def _terminal_cells(row: Row, names: Sequence[str]) -> list[str]:
    return [
        series_label(row, names),
        row["layer"] or NOTHING,
        interval(row, "rate"),
        interval(row, "beyond_random", signed=True),
        number(row["cosine"]),
        str(row["scored"]),
        percent(row["degenerate_share"]),
        f"{percent(row['area_mean'], 2).removesuffix(' %')}/{percent(row['area_max'], 2)}",
        percent(row["over_budget_share"], 0),
        percent(row["unaffected_share"], 0),
    ]


def series_label(row: Row, names: Iterable[str]) -> str:
    """The method and whatever of `names` (from `varying`) tells this row from its neighbors."""
    said = [str(row[name]) for name in names if row[name] not in (None, "")]
    return ", ".join([row["method"], *said])


# ---------------------------------------------------------------------------- files


def to_csv(summary: pl.DataFrame) -> str:
    """Every configuration and every column with full precision; `warning` is its last column."""
    return summary.write_csv()


def to_markdown(summary: pl.DataFrame) -> str:
    """Every configuration as a Markdown table, warnings above it."""
    shown = columns(summary)
    lines = [f"> **Warning:** {line}\n" for line in warnings(summary)]
    lines.append("| " + " | ".join(column.title for column in shown) + " |")
    lines.append("|" + "|".join("---:" if column.numeric else ":---" for column in shown) + "|")
    for row in ordered(summary):
        cells = [column.cell(row).replace("|", r"\|") for column in shown]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_html(
    summary: pl.DataFrame, *, caption: str = "Every configuration", omit: Collection[str] = ()
) -> str:
    """Every configuration as an HTML table, escaped, warnings above it; headings say what they are.

    Args:
        summary: From `summarize`, or some of its rows.
        caption: Of the table.
        omit: Titles of columns that the caption already says; never of the audit.
    """
    shown = [one for one in columns(summary) if one.audit or one.title not in omit]
    parts = [
        f'<p class="warning"><strong>Warning:</strong> {html.escape(line)}</p>'
        for line in warnings(summary)
    ]
    parts.append(
        f'<table class="sortable"><caption><span>{html.escape(caption)}</span></caption><thead><tr>'
    )
    parts += [
        f'<th scope="col" class="{_css(one)}" title="{html.escape(one.note)}">'
        f"{html.escape(one.title)}</th>"
        for one in shown
    ]
    parts.append("</tr></thead><tbody>")
    for row in ordered(summary):
        mark = "flagged" if row["warning"] else "mapped" if row["source"] else "baseline"
        parts.append(f'<tr class="{mark}">')
        parts += [_html_cell(column, row) for column in shown]
        parts.append("</tr>")
    return "".join([*parts, "</tbody></table>"])


def _css(column: Column) -> str:
    return " ".join(name for name, on in (("num", column.numeric), ("audit", column.audit)) if on)


def _html_cell(column: Column, row: Row) -> str:
    value = column.value(row)
    sort = "" if value is None else html.escape(str(value))
    shown = html.escape(column.cell(row))
    if column.numeric and shown.endswith("]"):  # the interval may go under its mean
        shown = shown.replace(" [", ' <span class="interval">[', 1) + "</span>"
    return f'<td class="{_css(column)}" data-sort="{sort}">{shown}</td>'


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", NOTHING: "--",
    }
)  # fmt: skip


def to_latex(summary: pl.DataFrame) -> str:
    """Every configuration as a LaTeX ``tabular`` (package ``booktabs``), warnings below it."""
    shown = columns(summary)
    lines = [r"\begin{tabular}{" + "".join("r" if one.numeric else "l" for one in shown) + "}"]
    lines += [r"\toprule", _tex_row(one.title for one in shown), r"\midrule"]
    lines += [_tex_row(one.cell(row) for one in shown) for row in ordered(summary)]
    lines.append(r"\bottomrule")
    for line in warnings(summary):
        note = rf"\textbf{{Warning:}} {line.translate(_TEX)}"
        lines.append(rf"\multicolumn{{{len(shown)}}}{{l}}{{{note}}} \\")
    return "\n".join([*lines, r"\end{tabular}", ""])


def _tex_row(cells: Iterable[str]) -> str:
    return " & ".join(cell.translate(_TEX) for cell in cells) + r" \\"
