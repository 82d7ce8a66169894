"""The built-in views of a run's page, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import polars as pl

from facefocus.analysis.labels import place_label, varying
from facefocus.analysis.summary import Row, drops
from facefocus.benchmark.result_columns import COMPETES
from facefocus.core.text import NOTHING, budget_text, number, p_value
from facefocus.evaluation.statistics import FEWEST, rank_agreement
from facefocus.evaluation.strata import FEWEST_COMPARED
from facefocus.report import charts
from facefocus.report.answer import checks
from facefocus.report.audit_blocks import audit_blocks
from facefocus.report.columns import NOTES, interval
from facefocus.report.document import (
    Block,
    Chart,
    Checks,
    Code,
    Column,
    Details,
    Facts,
    Heading,
    Live,
    Paragraph,
    Section,
    Table,
)
from facefocus.report.explorer_data import PEOPLE, layer_order
from facefocus.report.explorer_data import people as people_table
from facefocus.report.people_groups import compared_groups, strata_rows
from facefocus.report.report_data import Report
from facefocus.report.section_registry import section

#: Methods and layers whose order is compared at most: all pairs of them are tested.
MOST_ORDERED = 100

_SEE_TABLE = "The leaderboard has the numbers."


@section("leaderboard", position=10)
def leaderboard(report: Report) -> Section | None:
    """Every method and layer under the selected settings."""
    if report.summary.is_empty():
        return None
    lead = (
        "Means over people with 95 % intervals. The rank is among the rows of the same settings"
        " when people are resampled, with 95 % of its values: a method is no winner where it is"
        " not sure."
    )
    notes = NOTES | {
        "Rank": "Mean rank over resampled people, with 95 % of its values.",
        "First": "Share of resamplings in which it comes first.",
        "p (Holm)": "Whether its drop differs from the largest one: paired t and Wilcoxon tests,"
        " the larger p, corrected by Holm over all methods and layers. Without: it is the largest.",
        "Of own maps": "Drop as a share of the drop by the target recognizer's own maps.",
    }
    blocks = [Live("leaderboard"), Details("What the columns mean", [Facts(notes)])]
    return Section("leaderboard", "Leaderboard", lead, blocks)


def _by(report: Report, column: str, chart: Chart) -> Section | None:
    """A view of one chart, where methods were tried at several values of a column."""
    rows = report.summary.filter(COMPETES)
    if rows.is_empty() or rows[column].drop_nulls().n_unique() < 2:
        return None
    return Section(chart.name, chart.name.capitalize(), "", [chart])


@section("layers", position=30)
def layers(report: Report) -> Section | None:
    """Layer by method."""
    chart = Chart(
        "layers",
        charts.matrix("layer", "method", "Layer", "Method"),
        f"The selected score for each layer and method; darker hides better. {_SEE_TABLE}",
        "Each cell is the best of its method and layer. A click opens it in the leaderboard.",
        each=("layer", "method"),
        click={"view": "=leaderboard", "find": "label"},
    )
    return _by(report, "layer", chart)


@section("budgets", position=40)
def budgets(report: Report) -> Section | None:
    """Scores against the budget."""
    chart = Chart(
        "budgets",
        charts.curves(),
        f"The selected score against the budget, a line for each of the best methods. {_SEE_TABLE}",
        "Bands are 95 % intervals. Shaded budgets: even the best method is not shown to take more"
        " recognition than random pixels, or than a blob in the middle.",
        free=("budget",),
        top=6,
    )
    return _by(report, "budget", chart)


@section("fills", position=50)
def fills(report: Report) -> Section | None:
    """Scores by what hides."""
    readings = report.summary.select("reading", "fill").unique(maintain_order=True)
    words = {"artefact": "shows what upsets the recognizer", "information": "shows what it knew"}
    named = (
        f"{', '.join(readings.filter(reading=kind)['fill'])} {text}"
        for kind, text in words.items()
        if kind in set(readings["reading"])
    )
    chart = Chart(
        "fills",
        charts.intervals(offset="fill"),
        f"The selected score under each fill for the best methods. {_SEE_TABLE}",
        f"What the hidden pixels are painted with: {'; '.join(named)}. The two are never averaged.",
        free=("fill",),
        top=5,
    )
    return _by(report, "fill", chart)


@section("losses", position=60)
def losses(report: Report) -> Section | None:
    """Scores by the loss that maps explain."""
    chart = Chart(
        "losses",
        charts.intervals(offset="objective", within="method"),
        f"The selected score for each loss and method. {_SEE_TABLE}",
        "Each method at its best layer under each loss: picked among several, so it looks slightly"
        " too good.",
        each=("objective", "method"),
    )
    return _by(report, "objective", chart)


@section("transfer", position=80)
def transfer(report: Report) -> Section | None:
    """Masks from one recognizer, tried on another."""
    rows = report.summary.filter(COMPETES)
    if rows.filter(pl.col("source") != pl.col("target")).is_empty():
        return None
    chart = Chart(
        "transfer",
        charts.matrix("target", "source", "Tried on", "Maps from"),
        f"The selected score for each pair of recognizers; darker hides better. {_SEE_TABLE}",
        "Each cell is the best of its pair. A click opens the pair.",
        free=("target", "maps"),
        each=("target", "source"),
        click={"target": "target", "maps": "source", "view": "=leaderboard"},
    )
    return Section("transfer", "Transfer", "", [chart])


@section("people", position=90)
def people(report: Report) -> Section | None:
    """Each person: recognition clean and hidden, maps and masks."""
    if report.results.is_empty():
        return None
    lead = (
        "A mean does not show people: some lose everything, some nothing. A click on a mark, or the"
        " list, opens a person. Masks are those that were scored."
    )
    shown = people_table(report)
    chart = Chart(
        "scatter",
        charts.scatter(),
        "Recognition of each person clean and hidden. The list below has the people.",
        f"{shown['identity'].n_unique()} of {report.results['identity'].n_unique()} people (a"
        f" seeded choice of at most {PEOPLE}) and {shown['label'].n_unique()} configurations are in"
        f" this page. Others: facefocus report {report.run.name} --person NAME",
        rows=shown,
        click={"person": "identity"},
    )
    return Section("people", "People", lead, [chart, Live("people")])


@section("strata", position=100)
def strata(report: Report) -> Section | None:
    """Whether the effect depends on who is hidden."""
    if report.summary.is_empty():
        return None
    rows = strata_rows(report)
    if rows.is_empty():
        return None if report.groups is None else Section(
            "strata", "Groups of people", "",
            [Paragraph(f"No group has {FEWEST} people who were scored: none is shown.")],
        )  # fmt: skip
    caption = [
        "Drop of recognition in thirds of the people by their photos, means over each person's, and"
        " by how well they are recognized with nothing hidden."
    ]
    if report.groups is None:
        caption.append("With --groups GROUPS.csv by any other groups.")
    else:
        mixed = report.groups.filter(pl.col("stratum").is_null())["identity"].n_unique()
        caption += [f"{mixed} people have photos in several groups: left out."] if mixed else []
    caption.append(f"Groups of fewer than {FEWEST} people are not shown.")
    chart = Chart(
        "strata",
        charts.intervals(offset="stratum"),
        "Drop of recognition in groups of people, for the named configurations.",
        " ".join(caption),
        rows=rows,
        top=2,
    )
    return Section("strata", "Groups of people", "", [chart, *_on_whom(report)])


def _on_whom(report: Report) -> Iterator[Block]:
    """On whom does it work? The best method's drop in each group, and whether that differs."""
    columns = [
        Column("Group", "", lambda row: row["stratum"], numeric=False),
        Column("People", "", lambda row: str(row["people"]), lambda row: row["people"]),
        *(
            Column(title, note, partial(_with_interval, name=name), itemgetter(name))
            for title, note, name in (
                ("Clean", "Recognition with nothing hidden.", "clean_rate"),
                ("Hidden", "Recognition, hidden.", "rate"),
                ("Drop", "Clean minus hidden.", "drop"),
            )
        ),
        Column(
            "p (Holm)",
            "Whether the drop differs from that of everybody else: permutations, corrected by Holm"
            f" over the groups; from {FEWEST_COMPARED} people on either side.",
            lambda row: p_value(row["p"]),
            lambda row: row["p"],
        ),
    ]
    for top, rows in compared_groups(report):
        label = place_label(top, varying(report.summary))
        yield Table(
            f"On whom does it work? {label} on {top['target']}, {report.shown}",
            columns,
            rows.to_dicts(),
            mark=lambda row: "flagged" if row["p"] is not None and row["p"] < 0.05 else "",
        )


def _with_interval(row: Row, name: str) -> str:
    return interval(row, name)


@section("audit", position=110)
def audit(report: Report) -> Section | None:
    """Whether the numbers can be trusted."""
    if report.summary.is_empty():
        return None
    lead = "What is marked 'look' does not make a number wrong, but limits it."
    blocks: list[Any] = [Checks(checks(report.summary))]
    if orders := _same_orders(report):
        blocks += [Heading("Own photos against held-out photos"), Facts(orders)]
    if more := audit_blocks(report.results):
        blocks.append(Details("Whole faces: budget, fill, percentile, transfer", more))
    return Section("audit", "Audit", lead, blocks)


def _same_orders(report: Report) -> dict[str, str]:
    """Whether methods come in the same order on photos that their maps saw and never saw."""
    taus = {}
    for (faces, target), rows in report.summary.partition_by(
        "faces", "target", as_dict=True
    ).items():
        part = report.shown.of(rows).filter(COMPETES, pl.col("heldout_drop").is_not_null())
        part = part.filter(pl.col("source") == pl.col("target"))
        if not 2 <= part.height <= MOST_ORDERED:
            continue
        same, other = (
            drops(report.results, part.with_columns(split=pl.lit(split)))
            for split in ("half", "heldout")
        )
        whole = ~np.isnan(same + other).any(axis=0)
        if whole.sum() >= FEWEST:
            tau = rank_agreement(same[:, whole], other[:, whole])
            taus[f"{target}, {faces}"] = (
                f"Kendall's tau of {part.height} methods and layers, {whole.sum()} people:"
                f" {tau.text()} (1: the same order)"
            )
    return taus


@section("provenance", position=120)
def provenance(report: Report) -> Section | None:
    """What was done, by which versions, on which machine; the experiment file."""
    if report.summary.is_empty():
        return None
    blocks: list[Any] = [Facts(_done(report))]
    if report.experiment:
        blocks.append(Details("The experiment file, as it was run", [Code(report.experiment)]))
    if report.provenance:
        blocks.append(Facts(report.provenance))
    else:
        blocks.append(Paragraph("The run does not record what made it."))
    lead = (
        "Pixels that a method calls important are hidden; the recognizer then compares the hidden "
        "face with the person's other images. Recognition is the share of those pairs at or above "
        "the threshold."
    )
    return Section("provenance", "Provenance", lead, blocks)


def _done(report: Report) -> dict[str, str]:
    rows = report.summary
    faces = report.provenance.get("faces")
    frames = f" ({faces['frames']} images)" if isinstance(faces, dict) and "frames" in faces else ""
    limits = rows.select("target", "threshold_rule", "threshold").unique(maintain_order=True)
    return {
        "Faces": _listed(rows["faces"]) + frames,
        "Identities": str(report.results["identity"].n_unique()),
        "Target recognizers": _listed(rows["target"]),
        "Source recognizers": _listed(rows["source"].drop_nulls()) or NOTHING,
        "Methods": _listed(rows["method"]),
        "Layers": ", ".join(layer_order(rows)) or NOTHING,
        "Budgets": ", ".join(budget_text(budget) for budget in rows["budget"].unique().sort()),
        "Fills": "; ".join(
            f"{reading}: {_listed(rows.filter(reading=reading)['fill'])}"
            for reading in rows["reading"].unique(maintain_order=True)
        ),
        "Compared with": _listed(rows["compare"]),
        "Thresholds": "; ".join(
            f"{row['target']}: {number(row['threshold'])} ({row['threshold_rule']})"
            for row in limits.iter_rows(named=True)
        ),
    }


def _listed(values: pl.Series) -> str:
    return ", ".join(map(str, values.unique(maintain_order=True)))
