"""Who is found in a gallery of everybody: by any photo, by template, first of all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from facefocus.analysis.labels import place_label, varying
from facefocus.analysis.summary import Row, values
from facefocus.benchmark.result_columns import COMPETES
from facefocus.benchmark.result_slices import Slice
from facefocus.core.text import NOTHING, number
from facefocus.evaluation.statistics import FEWEST, rank_agreement
from facefocus.report.columns import interval, leading
from facefocus.report.document import Block, Column, Facts, Heading, Section, Table
from facefocus.report.report_data import Report
from facefocus.report.section_registry import section

#: Methods and layers of a table, and whose order is compared at most.
METHODS, MOST_ORDERED = 12, 100

#: Heading, figure, and what it is.
_FIGURES = (
    ("Pair", "rate", "Share of mated pairs that match, at the experiment's threshold."),
    ("Pair, FMR 1e-3", "rate_strict", "The same at an FMR of 1e-3."),
    ("Any photo", "any_rate", "Share of photos that match one or more of the person's others."),
    ("Any, FMR 1e-3", "any_rate_strict", "The same at an FMR of 1e-3."),
    ("Template", "template_rate", "Share of photos that match the person's template."),
    ("Template, FMR 1e-3", "template_rate_strict", "The same at an FMR of 1e-3."),
    ("Rank-1", "rank_one", "Share to which the person's template is the nearest of everybody's."),
)


@section("identification", position=87)
def identification(report: Report) -> Section | None:
    """Shares of photos that are found, where the experiment asks for them; and the ranking."""
    if report.summary.is_empty() or "gallery_people" not in report.results.columns:
        return None
    lead = (
        "A pair rate of 0.2 need not hide somebody who has ten photos in the gallery. Here each"
        " hidden photo is looked for: among the person's other photos, by their mean (the"
        " template), and among the templates of everybody."
    )
    blocks: list[Block] = []
    orders: dict[str, dict[str, str]] = {}
    for (faces, target), rows in report.summary.partition_by(
        "faces", "target", as_dict=True
    ).items():
        for shown in report.slices:
            part = shown.of(rows).filter(
                pl.col("any_rate").is_not_null(), pl.col("on_degenerate") != "inclusive"
            )
            if part.is_empty():
                continue
            gallery = report.results.filter(faces=faces, target=target)["gallery_people"][0]
            blocks.append(_table(part, f"{target}, {faces}, {shown}", gallery))
            if taus := dict(_orders(report, part, shown)):
                orders[f"{target}, {faces}, {shown}"] = taus
    if orders:
        question = "Do the methods come in another order than by pairs? Kendall's tau, 1: the same"
        blocks += [Heading(question), Facts(orders)]
    return Section("identification", "Identification", lead, blocks) if blocks else None


def _table(rows: pl.DataFrame, setting: str, people: int) -> Table:
    names = varying(rows)

    def column(title: str, name: str, note: str) -> Column:
        def cell(row: Row) -> str:
            return NOTHING if row[name] is None else interval(row, name)

        return Column(title, note, cell, lambda row: row[name])

    top = leading(rows, METHODS).sort("rate", maintain_order=True)
    clean = {name: top[f"clean_{name}"][0] for _, name, _ in _FIGURES}
    return Table(
        f"Hidden photos that are found: {setting}. Least is best.",
        [
            Column("Method @ layer", "", lambda row: place_label(row, names), numeric=False),
            *(column(*figure) for figure in _FIGURES),
        ],
        top.to_dicts(),
        notes=[
            f"In the gallery: {people:,} people. With nothing hidden: "
            + ", ".join(
                f"{title[0].lower()}{title[1:]} {number(clean[name])}"
                for title, name, _ in _FIGURES
                if clean[name] is not None
            )
            + "."
        ],
    )


def _orders(report: Report, rows: pl.DataFrame, shown: Slice) -> Iterator[tuple[str, str]]:
    """Kendall's tau between the order by pairs and the order by each other figure."""
    part = rows.filter(COMPETES, pl.col("source") == pl.col("target"))
    if not 2 <= part.height <= MOST_ORDERED:
        return
    results = shown.of(report.results)
    by_pair = values(results, part, "rate")
    for title, name, _ in _FIGURES[2:]:
        other = values(results, part, name)
        whole = ~np.isnan(by_pair + other).any(axis=0)
        if whole.sum() >= FEWEST:
            tau = rank_agreement(by_pair[:, whole], other[:, whole])
            if np.isfinite(tau.value):
                yield title, tau.text()
