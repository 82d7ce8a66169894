"""Across poses: maps of frontal photos, tried on turned ones, and the reverse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from facefocus.analysis.labels import place_label, varying
from facefocus.analysis.summary import Row, drops
from facefocus.analysis.summary import values as scores_of
from facefocus.benchmark.people import CROSS_POSE
from facefocus.benchmark.result_columns import COMPETES
from facefocus.benchmark.result_slices import Slice
from facefocus.core.text import NOTHING
from facefocus.evaluation.statistics import mean_intervals
from facefocus.report.columns import interval
from facefocus.report.document import Block, Column, Section, Table
from facefocus.report.report_data import Report
from facefocus.report.section_registry import section

#: Heading, split, and what it is; the reference comes first.
_SPLITS = (
    ("Held-out", "heldout", "Drop by maps of a random half of the photos, on the other half."),
    ("Frontal to turned", CROSS_POSE[0], "Drop by maps of frontal photos, on turned ones."),
    ("Turned to frontal", CROSS_POSE[1], "Drop by maps of turned photos, on frontal ones."),
)


@section("pose", position=95)
def pose(report: Report) -> Section | None:
    """What maps of one pose take from photos of another, beside maps of any pose."""
    if report.summary.is_empty() or not set(CROSS_POSE) & set(report.summary["split"]):
        return None
    lead = (
        "Does a map of frontal photos hide turned ones, and the reverse? All figures of a row are"
        " of the same people. Maps of either half of the photos, tried on the other, are the"
        " reference where the run has them; they come from other numbers of photos, and are tried"
        " on other photos: see how well each are recognized with nothing hidden."
    )
    blocks: list[Block] = []
    for (faces, target), rows in report.summary.partition_by(
        "faces", "target", as_dict=True
    ).items():
        for shown in report.slices:
            pose_rows = list(_rows(report, rows, shown))
            if pose_rows:
                setting = Slice(shown.budget, shown.fill, "same", shown.reading)
                blocks.append(_table(pose_rows, f"{target}, {faces}, {setting}"))
    return Section("pose", "Across poses", lead, blocks) if blocks else None


def _rows(report: Report, summary: pl.DataFrame, shown: Slice) -> Iterator[Row]:
    """A row for each method: the drop under every split, and what it loses to the reference."""
    rows = shown.at(summary, "budget", "fill").filter(COMPETES)
    names = [name for name in varying(rows) if name != "split"]
    for method in rows.filter(split=CROSS_POSE[0]).iter_rows(named=True):
        by_split = {}
        for _, split, _ in _SPLITS:
            configuration = pl.DataFrame([{**method, "split": split}], schema=rows.schema)
            by_split[split] = drops(report.results, configuration)
        present = [values for values in by_split.values() if np.isfinite(values).any()]
        if not present:
            continue
        same = np.isfinite(np.concatenate(present)).all(axis=0)
        made: Row = {"label": place_label(method, names), "people": int(same.sum())}
        reference = by_split["heldout"]
        for split, values in by_split.items():
            configuration = pl.DataFrame([{**method, "split": split}], schema=rows.schema)
            clean = scores_of(report.results, configuration, "clean_rate")
            made |= _figure(f"{split} clean", np.where(same, clean, np.nan))
            made |= _figure(split, np.where(same, values, np.nan))
            made |= _figure(f"{split} less", np.where(same, reference - values, np.nan))
        yield made


def _figure(name: str, values: np.ndarray) -> Row:
    mean = mean_intervals(values)
    ends = (float(bound[0]) for bound in (mean.value, mean.low, mean.high))
    names = (name, f"{name}_low", f"{name}_high")
    return {key: None if np.isnan(end) else end for key, end in zip(names, ends, strict=True)}


def _table(rows: list[Row], setting: str) -> Table:
    def column(title: str, name: str, note: str, signed: bool = False) -> Column:
        def cell(row: Row) -> str:
            return NOTHING if row[name] is None else interval(row, name, signed=signed)

        return Column(title, note, cell, lambda row: row[name])

    columns = [
        Column("Method @ layer", "", lambda row: row["label"], numeric=False),
        Column("People", "Who has photos of both poses.", lambda row: str(row["people"])),
        *(column(*each) for each in _SPLITS),
        *(
            column(f"Clean, {title.lower()}", f"{split} clean", "Recognition, nothing hidden.")
            for title, split, _ in _SPLITS
        ),
        *(
            column(
                f"Held-out less {title.lower()}",
                f"{split} less",
                "How much less the drop is than that of the reference, of the same people.",
                signed=True,
            )
            for title, split, _ in _SPLITS[1:]
        ),
    ]
    return Table(f"Drop of recognition across poses: {setting}", columns, rows)
