"""Does hiding hold? The surviving shares of a run, in sentences and as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from facefocus.analysis.labels import place_label, varying
from facefocus.analysis.standing import standing_of
from facefocus.analysis.summary import Row
from facefocus.analysis.surviving_share import (
    UNDONE,
    holds,
    is_repair,
    read_robustness,
    surviving_shares,
    undone,
)
from facefocus.benchmark.result_columns import CONFIGURATION
from facefocus.benchmark.result_slices import Slice, default_slices
from facefocus.core.text import NOTHING, number
from facefocus.evaluation.statistics import FEWEST, NO_INTERVAL
from facefocus.report.answer import method_text
from facefocus.report.columns import interval, leading, ordered
from facefocus.report.document import Block, Column, Section, Table, plain_table
from facefocus.report.report_data import Report
from facefocus.report.section_registry import section

#: Methods of a table, besides baselines.
METHODS = 5

#: Nuisances that the sentences at the top name.
NAMED = 3

TITLE = "Does it hold?"

_LEAD = (
    "Each face is hidden, then something happens to the photo, then it is recognized. Clean photos"
    " suffer the same: the surviving share is the drop under a nuisance as a share of the drop"
    f" without it. A nuisance undoes hiding where that share's interval lies below {UNDONE:g};"
    " repair is what somebody does on purpose."
)


def robustness_answer(
    results: pl.DataFrame, summary: pl.DataFrame, shares: pl.DataFrame
) -> list[str]:
    """For each recognizer and reading a sentence or two: does the best method's mask hold?

    Args:
        results: Result rows.
        summary: From `summarize`, of them.
        shares: From `surviving_shares`.
    """
    sentences = []
    for part in summary.partition_by("target", maintain_order=True):
        for shown in default_slices(summary):
            standing = standing_of(shown.of(part), results)
            if standing is not None:
                rows = _of(shares, standing.top).to_dicts()
                sentences += [_sentence(standing.top, shown, rows)] if rows else []
    return sentences


def _of(shares: pl.DataFrame, row: Row) -> pl.DataFrame:
    """The rows of a configuration, under every nuisance."""
    keys = pl.DataFrame({name: [row[name]] for name in CONFIGURATION}, schema_overrides={
        name: shares.schema[name] for name in CONFIGURATION
    })  # fmt: skip
    return shares.join(keys, on=CONFIGURATION, how="semi", nulls_equal=True, maintain_order="left")


def _sentence(top: Row, shown: Slice, rows: Sequence[Row]) -> str:
    by = f"by {method_text(top)} from {top['target']} ({shown})"
    if top["scored"] < FEWEST:
        return f"Not known whether it holds: hidden {by}; {NO_INTERVAL}."
    known = [row for row in rows if row["surviving"] is not None]
    if not known:
        return f"Nothing to hold: hiding {by} is not shown to lower recognition."
    known.sort(key=lambda row: float(row["surviving"]))
    bad = [row for row in known if undone(row)]
    if bad:
        repaired = [row for row in bad if is_repair(row["nuisance"])]
        verdict = "Repair undoes it" if repaired else "A nuisance undoes it"
        again = f"who is hidden {by} is recognized again"
        return f"{verdict}: {again}. {_effects((repaired or bad)[:NAMED])}"
    least = f"{known[0]['nuisance']} ({interval(known[0], 'surviving')})"
    if all(map(holds, known)):
        return (
            f"It holds: hidden {by}, more than half of the drop survives each of the {len(known)}"
            f" nuisances that were tried; least survives {least}."
        )
    return f"Not shown to hold: hidden {by}, least of the drop survives {least}."


def _effects(rows: Sequence[Row]) -> str:
    """Recognition clean, hidden, and hidden under some nuisances."""
    words = [" of the drop survives", *[""] * (len(rows) - 1)]
    parts = [
        f"{number(row['nuisance_rate'])} after {row['nuisance']}"
        f" ({interval(row, 'surviving')}{more})"
        for row, more in zip(rows, words, strict=True)
    ]
    before = f"{number(rows[0]['clean_rate'])} clean and {number(rows[0]['rate'])} hidden"
    return f"Recognition is {before}; hidden, it is {', '.join(parts)}."


def robustness_table(rows: pl.DataFrame, caption: str) -> Table:
    """Methods under nuisances: a row for each.

    Args:
        rows: Of `surviving_shares`.
        caption: What it shows.
    """
    names = varying(rows)

    def mean(title: str, note: str, name: str) -> Column:
        return Column(title, note, lambda row: number(row[name]), lambda row: row[name])

    def spread(title: str, note: str, name: str) -> Column:
        return Column(
            title,
            note,
            lambda row: NOTHING if row[name] is None else interval(row, name),
            lambda row: row[name],
        )

    columns = [
        Column("Method @ layer", "", lambda row: place_label(row, names), numeric=False),
        Column(
            "Nuisance", "What happens to the photo.", lambda row: row["nuisance"], numeric=False
        ),
        mean("Hidden", "Recognition hidden, without the nuisance.", "rate"),
        mean("Clean under it", "Recognition of clean photos under it.", "nuisance_clean_rate"),
        spread("Hidden under it", "Recognition of hidden photos under it.", "nuisance_rate"),
        spread(
            "Surviving share",
            "Drop under the nuisance over the drop without it; none where that may be 0.",
            "surviving",
        ),
        spread("Of the cosine", "The same of the mean cosine.", "cosine_surviving"),
        Column("Undone", "Less than half surely survives: yes; more than half: no.", _verdict),
        Column("n", "Identities.", lambda row: str(row["scored"]), lambda row: row["scored"]),
    ]
    return Table(
        caption, columns, rows.to_dicts(), mark=lambda row: "flagged" if undone(row) else ""
    )


def _verdict(row: Row) -> str:
    return "yes" if undone(row) else "no" if holds(row) else NOTHING


def short_table(rows: pl.DataFrame, caption: str) -> Table:
    """A line for each configuration, a column for each nuisance: what a terminal shows."""
    names = varying(rows)
    nuisances = rows["nuisance"].unique(maintain_order=True).to_list()
    lines = []
    for part in rows.partition_by(CONFIGURATION, maintain_order=True):
        row_under = {row["nuisance"]: row for row in part.to_dicts()}
        first = next(iter(row_under.values()))
        scores = [_short(row_under[name]) if name in row_under else NOTHING for name in nuisances]
        lines.append([place_label(first, names), number(first["rate"]), *scores])
    note = "Recognition under each nuisance (and the surviving share of the drop)."
    table = plain_table(["Method @ layer", "Hidden", *nuisances], lines, caption)
    return replace(table, notes=[note])


def _short(row: Row) -> str:
    share = "" if row["surviving"] is None else f" ({number(row['surviving'], 2)})"
    return f"{number(row['nuisance_rate'])}{share}"


def robustness_tables(
    summary: pl.DataFrame,
    shares: pl.DataFrame,
    table: Callable[[pl.DataFrame, str], Table] = robustness_table,
) -> list[Block]:
    """A table for each recognizer and reading: baselines and the methods of largest drop."""
    blocks: list[Block] = []
    for shown in default_slices(summary):
        for part in shown.of(summary).partition_by("target", maintain_order=True):
            parts = [_of(shares, row) for row in ordered(leading(part, METHODS))]
            rows = pl.concat(parts)
            if rows.height:
                blocks.append(table(rows, f"{part['target'][0]}: {shown}"))
    return blocks


def _shares(report: Report) -> pl.DataFrame | None:
    rows = read_robustness([report.run])
    return None if rows is None or rows.is_empty() else surviving_shares(rows)


def _answers(report: Report) -> list[str]:
    shares = _shares(report)
    return [] if shares is None else robustness_answer(report.results, report.summary, shares)


@section("robustness", position=55, answers=_answers)
def robustness(report: Report) -> Section | None:
    """Whether hiding survives nuisances and repair."""
    shares = _shares(report)
    if shares is None or report.summary.is_empty():
        return None
    return Section("robustness", TITLE, _LEAD, robustness_tables(report.summary, shares))
