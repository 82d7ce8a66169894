"""Transfer by lineage: whether masks work on recognizers that are no kin to their source."""

from __future__ import annotations

import polars as pl

from facefocus.analysis.transfer_lineage import By, by_lineage, by_order, lineages_of, with_lineage
from facefocus.benchmark.result_columns import COMPETES
from facefocus.benchmark.result_slices import default_slices
from facefocus.core.text import NOTHING
from facefocus.evaluation.statistics import FEWEST
from facefocus.report import charts
from facefocus.report.columns import interval
from facefocus.report.document import Block, Chart, Column, Facts, Section, Table
from facefocus.report.explorer_data import KEYS, labels
from facefocus.report.report_data import Report
from facefocus.report.section_registry import section

#: Rows of a table: the methods that take most.
METHODS = 8

_WORDS = {
    "white box": "the mask was made on the target",
    "same": "source and target share training data and family of networks",
    "sibling": "they share one of the two",
    "unseen": "they share neither",
    "not stated": "where one of them comes from is not stated",
}

_TITLES: dict[By, str] = {"lineage": "Kinship", "training": "Training data"}


@section("lineage", position=85)
def lineage(report: Report) -> Section | None:
    """What masks take from recognizers that share data or family with their source, or neither."""
    rows = report.results.filter(COMPETES, pl.col("on_degenerate") != "inclusive")
    if rows.filter(pl.col("source") != pl.col("target")).is_empty():
        return None
    lineages = lineages_of(report.provenance, report.results)
    kinships = with_lineage(rows.select("source", "target", "method").unique(), lineages)["lineage"]
    words = Facts({kin: text for kin, text in _WORDS.items() if kin in set(kinships)})
    blocks: list[Block] = [_chart(report, "lineage"), words, _table(report, "lineage")]
    if {"real", "synthetic"} <= {stated.data for stated in lineages.values()}:
        blocks += [_chart(report, "training"), _table(report, "training")]
    lead = (
        "A mask is shown to transfer only where it works on a recognizer that shares neither"
        " training data nor family with those that it was made on. On kin it may look stronger"
        " than it is."
    )
    return Section("lineage", "Transfer by lineage", lead, blocks)


def _chart(report: Report, by: By) -> Chart:
    """Drops of each target by lineage of the source, a mark for each method."""
    lineages = lineages_of(report.provenance, report.results)
    grouped = by_lineage(report.results, lineages, by=by, each_target=True)
    grouped = grouped.filter(pl.col("drop").is_not_null(), pl.col("on_degenerate") != "inclusive")
    # The page shows groups in the order in which they come.
    grouped = grouped.sort(by_order(by), maintain_order=True)
    labelled = grouped.with_columns(_labels(grouped.with_columns(source="target"), report))
    rows = labelled.select(
        pl.lit(report.name).alias("run"), *KEYS[1:], "method", "label", pl.col(by).alias("stratum"),
        value="drop", low="drop_low", high="drop_high",
    )  # fmt: skip
    what = "kinship with the source" if by == "lineage" else "training data of source and target"
    return Chart(
        f"transfer by {_TITLES[by].lower()}",
        charts.intervals(offset="stratum"),
        f"Drop of recognition on the target, for the best methods by {what}.",
        f"Drop of recognition by {what}: each person's mean over the sources of a group. Bars are"
        " 95 % intervals.",
        rows=rows,
        top=3,
    )


def _labels(rows: pl.DataFrame, report: Report) -> pl.Series:
    """What each row is called, with the number of its sources and what tells runs apart."""
    texts = labels(rows, report.summary).to_list()
    several = [name for name in ("experiment", "faces") if rows[name].n_unique() > 1]
    row_labels = []
    for text, row in zip(texts, rows.iter_rows(named=True), strict=True):
        joint = [f"{row['sources']} sources"] if row["sources"] > 1 else []
        row_labels.append(", ".join([text, *joint, *(row[name] for name in several)]))
    return pl.Series("label", row_labels, pl.String)


def _table(report: Report, by: By) -> Table:
    """Methods over all targets, under the settings of the first look at what was transferred."""
    exact = report.results.filter(pl.col("on_degenerate") != "inclusive")
    # Of what was transferred: variants may have tried other budgets.
    shown = default_slices(exact.filter(COMPETES, pl.col("source") != pl.col("target")))[0]
    rows = shown.of(exact)
    grouped = by_lineage(rows, lineages_of(report.provenance, report.results), by=by)
    blank = grouped.with_columns(source=pl.lit(""), target=pl.lit(""))
    named = grouped.with_columns(_labels(blank, report)).filter(pl.col("drop").is_not_null())
    best = named.group_by("label").agg(pl.col("drop").max()).sort("drop", "label", descending=True)
    listed = best.select("label").head(METHODS).join(named, on="label", maintain_order="left")
    columns = [
        Column("Method @ layer", "", lambda row: row["label"], numeric=False),
        Column(_TITLES[by], "", lambda row: row[by], numeric=False),
        Column("Pairs", "Source and target recognizers.", lambda row: str(row["pairs"])),
        Column("Targets", "Recognizers that were tried.", lambda row: str(row["targets"])),
        Column("People", "", lambda row: str(row["scored"])),
        Column("Hidden", "Recognition, hidden.", lambda row: interval(row, "rate")),
        Column("Drop", "Clean minus hidden.", lambda row: interval(row, "drop")),
        Column(
            "Of own maps",
            "Drop as a share of that by the targets' own maps; none where that may be 0.",
            lambda row: NOTHING if row["kept"] is None else interval(row, "kept"),
        ),
    ]
    return Table(
        f"All targets together, {shown}: drop by {_TITLES[by].lower()}. Each person's mean over"
        f" the pairs of recognizers; intervals of 95 % over people, from {FEWEST} people on.",
        columns,
        listed.to_dicts(),
    )
