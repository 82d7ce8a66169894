"""Which methods hide people, as a document: ranks, settings, lineage, identification, repair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from facefocus.analysis.labels import place_label, varying
from facefocus.analysis.results import as_named, read_results, run_notes
from facefocus.analysis.summary import Row
from facefocus.benchmark.result_columns import COMPETES
from facefocus.benchmark.result_slices import photos_in_words
from facefocus.core.text import NOTHING, budget_text
from facefocus.paper.leaderboard import board_table, boards
from facefocus.paper.paper_formats import table_block
from facefocus.report.answer import answer_to
from facefocus.report.columns import interval, ordered
from facefocus.report.document import Block, Chart, Column, Heading, Paragraph, Table
from facefocus.report.identification_view import identification
from facefocus.report.lineage_view import lineage
from facefocus.report.page import provenance_of
from facefocus.report.pose_view import pose
from facefocus.report.report_data import Report
from facefocus.report.robustness_blocks import robustness

#: Sections of a run's page that stand in the document as they are, without their charts.
_SECTIONS = (lineage, identification, robustness, pose)

#: What a person's own mask takes beyond others, where it was measured: heading, figure.
_BEYOND = (
    ("Beyond shifted", "excess"),
    ("Beyond others'", "specificity"),
    ("Beyond everybody's", "beyond_population"),
    ("Share of oracle", "oracle_share"),
)


def methods_document(run: Path) -> list[Block]:
    """All figures of the methods of one run, with its variants.

    Raises:
        UserError: Nothing of it is finished, or it cannot be read.
    """
    report = Report(run, read_results(run), provenance_of(run), "", run)
    people, targets = report.results["identity"].n_unique(), report.summary["target"].unique()
    faces = ", ".join(report.results["faces"].unique(maintain_order=True))
    blocks: list[Block] = [
        Heading(f"{report.name}: methods on {faces}", 1),
        *map(Paragraph, run_notes(run)),
        Paragraph(
            f"{people} people, tried on {', '.join(sorted(targets))}. Written by"
            f" `facefocus report {as_named(run)} --what methods`; every figure comes from the run."
            " Recognition is the share of a person's mated pairs at or above the threshold, the"
            " hidden photo against clean ones; means over people with intervals of 95 %."
        ),
        Heading("In short", 2),
        *_answers(report),
        *_under("Ranks", map(table_block, map(board_table, boards(report.results)))),
        *_under("Own maps under every setting", _tables(_own(report.summary))),
        *_under(
            "Maps of other recognizers alone, under every setting",
            _tables(_of_others_alone(report.summary)),
        ),
    ]
    for make in _SECTIONS:
        if (section := make(report)) is not None:
            blocks += [Heading(section.title, 2), Paragraph(section.lead)]
            blocks += [block for block in section.blocks if not isinstance(block, Chart)]
    return blocks


def _under(title: str, blocks: Iterable[Block]) -> list[Block]:
    """Blocks under a heading; nothing where there are none."""
    contents = list(blocks)
    return [Heading(title, 2), *contents] if contents else []


def _answers(report: Report) -> Iterator[Block]:
    for rows in report.summary.partition_by("faces", "target", maintain_order=True):
        for shown in report.slices:
            part = shown.of(rows)
            if not part.filter(COMPETES).is_empty():
                yield Paragraph(" ".join(answer_to(report.results, rows, shown)))


#: Maps that were made on the recognizer that they are tried on.
_OWN = (pl.col("source") == pl.col("target")).fill_null(False)


def _own(summary: pl.DataFrame) -> pl.DataFrame:
    return summary.filter((_OWN | ~COMPETES) & _OWN.any().over("experiment", "target"))


def _of_others_alone(summary: pl.DataFrame) -> pl.DataFrame:
    """The rows of variants that ask about the maps of other recognizers, and make no own ones."""
    return summary.filter(~_OWN.any().over("experiment", "target"))


def _tables(rows: pl.DataFrame) -> Iterator[Table]:
    """A table for each recognizer, split and fill: recognition at every budget."""
    keys = ("faces", "target", "split", "fill")
    for part in rows.partition_by(*keys, maintain_order=True):
        yield _table(part)


def _table(rows: pl.DataFrame) -> Table:
    names = [name for name in varying(rows) if name not in ("faces", "split")]
    if rows.select(_OWN.any()).item():
        names = [name for name in names if name != "source"]
    budgets = rows["budget"].unique().sort().to_list()
    largest = rows.filter(pl.col("budget") == budgets[-1])
    lines: dict[str, dict[float, Row]] = {}
    for row in ordered(largest) + rows.filter(pl.col("budget") != budgets[-1]).to_dicts():
        lines.setdefault(place_label(row, names), {})[row["budget"]] = row

    def at(budget: float, name: str = "rate", signed: bool = False) -> Column:
        def cell(entry: tuple[str, dict[float, Row]]) -> str:
            row = entry[1].get(budget)
            if row is None or row[name] is None:
                return NOTHING
            return interval(row, name, signed=signed)

        return Column(budget_text(budget), "", cell)

    columns = [Column("Method @ layer", "", lambda entry: entry[0], numeric=False)]
    columns += [at(budget) for budget in budgets]
    for title, name in _BEYOND:
        if rows[name].is_not_null().any():
            for budget in budgets:
                column = at(budget, name, signed=name != "oracle_share")
                columns.append(Column(f"{title}, {budget_text(budget)}", "", column.cell))
    first = rows.row(0, named=True)
    photos = photos_in_words(first["split"])
    return Table(
        f"{first['target']}, {photos}, {first['fill']} ({first['reading']}): recognition, hidden,"
        f" by budget. Clean: {interval(first, 'clean_rate')}",
        columns,
        list(lines.items()),
    )
