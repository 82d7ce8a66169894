"""A run in short, as a terminal shows it: one budget and fill of every recognizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl

from facefocus.analysis.labels import measured, place_label, varying
from facefocus.analysis.standing import margins, no_more
from facefocus.analysis.summary import Row, competes, warnings
from facefocus.benchmark.result_slices import Slice, default_slices, photos_in_words
from facefocus.core.text import NOTHING, budget_text, number, percent
from facefocus.report.answer import artefact_note
from facefocus.report.columns import LEADING, interval, leading, ordered
from facefocus.report.document import Block, Column, Note, Paragraph, Table

#: The name of a row of clean faces, and the key that marks it.
CLEAN = "clean"


def slice_note(summary: pl.DataFrame, shown: Slice) -> str:
    """What is shown, by which rule, and what else there is of this reading."""
    summary = summary.filter(pl.col("reading") == shown.reading)
    budgets = ", ".join(budget_text(budget) for budget in summary["budget"].unique().sort())
    fills = ", ".join(summary["fill"].unique(maintain_order=True))
    splits = set(summary["split"])
    photos = {
        frozenset({"same"}): "Maps and effects are of the same photos.",
        frozenset({"heldout"}): "Effects are on photos that the maps never saw.",
        frozenset({"same", "heldout"}): "Maps and effects are of the same photos; held-out ones"
        " stand apart.",
    }.get(frozenset(splits), f"Tried on: {', '.join(map(photos_in_words, sorted(splits)))}.")
    usual = "inpaint" if shown.reading == "information" else "black"
    return (
        f"Shown: {shown} (1 %, or the smallest budget; {usual}, or the first fill). "
        f"There are budgets {budgets}; fills {fills}. {photos}"
    )


def summary_blocks(summary: pl.DataFrame) -> list[Block]:
    """What the terminal shows: one budget and fill of each reading; per recognizer a table.

    Each has clean faces, baselines and methods. Then where random pixels take as much, and what a
    run of artefacts alone does not show.

    Args:
        summary: From `summarize`.

    Raises:
        UserError: There is no row at all.
    """
    slices = default_slices(summary)
    tables = summary["target"].n_unique() * len(slices)
    blocks: list[Block] = []
    for shown in slices:
        rows = shown.of(summary)
        few = leading(rows, min(LEADING, max(5, 20 // tables)))
        blocks += [
            _table(part, f"{part['target'][0]}: {shown}", warned=() if index else warnings(rows))
            for index, part in enumerate(few.partition_by("target", maintain_order=True))
        ]
        if few.height < rows.height:
            left = rows.height - few.height
            blocks.append(Paragraph(f"{left} more with smaller drops are not shown."))
        blocks += [Paragraph(text) for text in _no_more(summary, shown)]
    blocks += [Paragraph(text) for text in artefact_note(summary)]
    notes = [Note(slice_note(summary, shown)) for shown in slices]
    rows = summary.filter(pl.col("budget") == slices[0].budget)
    return [*blocks, *notes, Note(_legend(rows))]


def _no_more(summary: pl.DataFrame, shown: Slice) -> Iterator[str]:
    """Where random pixels or a blob take as much, of each recognizer under the shown fill."""
    for part in shown.at(summary, "fill", "split").partition_by("target", maintain_order=True):
        for sentence in no_more(margins(part)):
            yield f"{part['target'][0]}, fill {shown.filled}: {sentence[0].lower()}{sentence[1:]}"


def _legend(rows: pl.DataFrame) -> str:
    words = ["Means over identities with 95 % intervals.", "Recognition: with the pixels hidden."]
    if measured(rows, "excess"):
        words.append("Excess: drop beyond the same mask shifted at random.")
    else:
        words.append("Beyond random: drop beyond random pixels of the same number.")
    if measured(rows, "specificity"):
        words.append("Specificity: drop beyond other people's masks.")
    words.append(
        "Audit: identities without a map, mean and largest hidden area, identities over budget"
        + ("." if measured(rows, "specificity") else ", identities whose scores did not change.")
    )
    return " ".join(words)


def _value_columns(rows: pl.DataFrame) -> list[Column]:
    """What fits a line of `WIDTH`: the strictest comparison there is, and the audit."""
    shape = measured(rows, "excess")
    beyond = "excess" if shape else "beyond_random"
    scores = [
        _column(
            "Recognition",
            lambda row: interval(row, "rate"),
            lambda row: interval(row, "clean_rate"),
        ),
        _column(
            "Excess" if shape else "Beyond random", lambda row: interval(row, beyond, signed=True)
        ),
    ]
    audit = [
        _column("n", lambda row: str(row["scored"]), lambda row: str(row["scored"])),
        _column("No\nmap", lambda row: percent(row["degenerate_share"])),
        _column("Area\nmean/max", _area, lambda row: "0/0 %"),
        _column("Over", lambda row: percent(row["over_budget_share"], 0), lambda row: "0 %"),
    ]
    if measured(rows, "specificity"):
        own = _column("Specificity", lambda row: interval(row, "specificity", signed=True))
        return [*scores, own, *audit]
    cosine = _column(
        "Cosine", lambda row: number(row["cosine"]), lambda row: number(row["clean_cosine"])
    )
    same = _column("Same\nscore", lambda row: percent(row["unaffected_share"], 0))
    return [*scores, cosine, *audit, same]


def _area(row: Row) -> str:
    mean = percent(row["area_mean"], 2).removesuffix(" %")
    return f"{mean}/{percent(row['area_max'], 2)}"


def _column(
    title: str, cell: Callable[[Row], str], clean: Callable[[Row], str] = lambda row: NOTHING
) -> Column:
    """A column of rows of masks, and of rows of clean faces (`CLEAN`)."""
    return Column(title, "", lambda row: (clean if CLEAN in row else cell)(row))


def _table(rows: pl.DataFrame, title: str, warned: Sequence[str]) -> Table:
    varies = varying(rows)
    # Held-out images and left-out identities have clean scores of their own.
    clean = rows.unique(("clean_rate", "split"), keep="first", maintain_order=True).to_dicts()

    def name(row: Row) -> str:
        if CLEAN not in row:
            return place_label(row, varies)
        return ", ".join([CLEAN, *([row["split"]] if "split" in varies else [])])

    return Table(
        title,
        [Column("Method @ layer", "", name, numeric=False), *_value_columns(rows)],
        [*({**row, CLEAN: True} for row in clean), *ordered(rows)],
        warnings=warned,
        mark=lambda row: "" if CLEAN in row or competes(row) else "baseline",
    )
