"""The page of a study: the paper's tables, figures, audit and leaderboard from all of its runs.

In the order in which a reader asks: can I trust it, who wins, by how much, where, on whom. Every
run keeps a page of its own, which this one links to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from facefocus.analysis.audit import exactness
from facefocus.analysis.results import (
    STUDY,
    finished_runs,
    read_results,
    read_runs,
    run_notes,
)
from facefocus.core.errors import UserError, one_line
from facefocus.core.locations import run_folders
from facefocus.core.text import NOTHING, number, percent
from facefocus.paper import paper_figures
from facefocus.paper.leaderboard import Board, board_table, boards
from facefocus.paper.leaderboard import winner as winner_of
from facefocus.paper.paper_formats import table_block
from facefocus.paper.paper_tables import paper_table
from facefocus.report.answer import artefact_note, checks
from facefocus.report.audit_blocks import audit_blocks
from facefocus.report.document import Checks, Details, Facts, Paragraph, Section
from facefocus.report.page import write_reports
from facefocus.report.report_data import Report
from facefocus.report.section_registry import ordered_sections, section

#: Stages by name.
RQ3, RQ4, CONTROLS = "rq3", "rq4", "controls"


def is_study(folder: Path) -> bool:
    """Whether a folder holds the runs of a study."""
    return (folder / STUDY).is_file()


def write_study_report(folder: Path, out: Path | None = None, **asked: Any) -> Path:
    """Write the page of a study: all its finished runs, and the paper's tables.

    Args:
        folder: The study's folder.
        out: The page's folder; by default STUDY/report.
        asked: `with_faces`, `persons` and `groups` as for `write_reports`.

    Returns:
        The path of the study's page.

    Raises:
        UserError: No run is finished, or a file cannot be read.
    """
    finished = finished_runs(folder)
    if not finished:
        raise UserError(f"No run of the study '{folder}' is finished yet.")
    results = read_runs([folder])
    inclusive = (results["on_degenerate"] == "inclusive").any()
    warned = (
        ["Some rows of these runs were cut by the rule that hides a whole face where a map is flat"
         " (on_degenerate = inclusive), to measure what that does. Tables and leaderboards keep"
         " them apart."]
        if inclusive
        else []
    )  # fmt: skip

    def sections(page_folder: Path) -> list[Section | None]:
        report = Report(folder, results, {}, "", page_folder)
        return [registered.function(report) for registered in ordered_sections("study")]

    return write_reports(
        finished,
        out or folder / "report",
        more=sections,
        title=str(_record(folder).get("name", folder.resolve().name)),
        notes=[*run_notes(folder), *_answers(results), *warned],
        **asked,
    )


def _record(folder: Path) -> dict[str, Any]:
    """What the study says of itself.

    Raises:
        UserError: It cannot be read.
    """
    path = folder / STUDY
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error


# --- answers --------------------------------------------------------------------------------------


def _answers(results: pl.DataFrame) -> Iterator[str]:
    """What the study found, a paragraph a question."""
    for board in boards(results):
        if board.warning is None:
            yield f"{board.title}: {winner_of(board)}"
    yield from artefact_note(results)
    worst = max(exactness(results), key=lambda pair: pair.difference.value, default=None)
    if worst is not None and worst.difference.low > 0:
        yield (
            f"With every pixel at or above the percentile hidden, as is common, recognition under"
            f" {worst.row['method']} on {worst.row['target']} is {number(worst.inclusive)}; with"
            f" exactly k pixels of the same maps it is {number(worst.exact)} (clean"
            f" {number(worst.clean)}). The rule hides the whole face of {percent(worst.whole)} of"
            " the identities."
        )


# --- sections -------------------------------------------------------------------------------------


def _part(report: Report, stage: str) -> Report | None:
    """The report of one stage: its rows of exactly k pixels, and its first run's gallery."""
    rows = report.results.filter(pl.col("experiment") == stage, pl.col("on_degenerate") == "none")
    runs = [run for run in finished_runs(report.run) if run.name.startswith(f"{stage}-")]
    return replace(report, results=rows, run=runs[0]) if rows.height and runs else None


def _tables(report: Report, numbers: Iterable[int]) -> list[Any]:
    return [table_block(paper_table(report.results, number)) for number in numbers]


@section("study-trust", position=10, page="study")
def trust(report: Report) -> Section | None:
    """Whether the numbers can be trusted."""
    blocks: list[Any] = []
    # The controls have the methods of RQ4, and more to say of them.
    if part := _part(report, CONTROLS) or _part(report, RQ4):
        blocks.append(Checks(checks(part.summary)))
    blocks += audit_blocks(report.results)
    lead = (
        "Read this first. What is marked 'look' does not make a number wrong, but limits it. The"
        " tables below show what becomes of the same maps when the rule does not keep to k pixels."
    )
    return Section("trust", "Paper: can I trust it?", lead, blocks)


@section("study-winner", position=20, page="study")
def winner(report: Report) -> Section | None:
    """The leaderboards."""
    blocks: list[Any] = []
    for board in boards(report.results):
        draw = _ranks(board)
        picture = report.picture(
            draw,
            "ranks",
            alt=f"Share of resamples in which each method has each rank; {board.title}. The table"
            " above has the means.",
            caption="How often each method has each rank when identities are resampled.",
            kind="svg",
        )
        shown = [table_block(board_table(board)), picture]
        fold = board.warning is not None
        blocks += [Details(f"With a warning: {board.title}", shown)] if fold else shown
    lead = "Ranks over resampled identities: a method is no winner where its rank is not sure."
    return Section("winner", "Paper: who wins?", lead, [*blocks, *_tables(report, (12, 13))])


def _ranks(board: Board) -> Callable[[float], Any]:
    return lambda width: paper_figures.rank_shares(board, width=width)


@section("study-effect", position=30, page="study")
def effect(report: Report) -> Section | None:
    """How much is lost, by budget, fill and loss."""
    blocks = _tables(report, (2, 3, 4, 9, 10, 11, 15))
    if _part(report, RQ3):
        table = paper_table(report.results, 9)
        blocks.append(
            report.picture(
                lambda width: paper_figures.losses(table, width=width),
                "losses",
                alt="Average recognition under every loss for each technique, ours and the"
                " paper's. Table 9 has the numbers.",
                caption="Losses: filled ours, hollow the paper's on its own recognizers.",
                kind="svg",
            )
        )
    lead = "The paper's figures in brackets, where it has them; intervals are over identities."
    return Section("effect", "Paper: by how much?", lead, blocks)


@section("study-where", position=40, page="study")
def where(report: Report) -> Section | None:
    """Which layers."""
    folded = Details("Tables 5 and 6: cosine by layer and group", _tables(report, (5, 6)))
    blocks = [*_tables(report, (7, 8)), folded]
    return Section("where", "Paper: where?", "The paper's figures in brackets.", blocks)


@section("study-whom", position=50, page="study")
def whom(report: Report) -> Section | None:
    """On which recognizers."""
    return Section("whom", "Paper: on whom?", "On which recognizers.", _tables(report, (14,)))


@section("study-runs", position=60, page="study")
def runs(report: Report) -> Section | None:
    """The runs, and what was chosen in them."""
    blocks: list[Any] = []
    finished = finished_runs(report.run)
    for run in finished:
        rows = read_results(run)
        people = rows["identity"].n_unique()
        text = f"{run.name}: {rows.height} rows of {people} identities"
        blocks.append(Paragraph(text))
        path = run / "choices.json"
        if path.is_file():
            blocks.append(Facts(_chosen(json.loads(path.read_text(encoding="utf-8")))))
    unfinished = [folder.name for folder in run_folders(report.run) if folder not in finished]
    facts = {
        "Not finished": ", ".join(unfinished) or NOTHING,
        "Left out": "; ".join(_record(report.run).get("missing", ())) or NOTHING,
    }
    return Section("runs", "Runs", "", [*blocks, Facts(facts)])


def _chosen(record: dict[str, Any]) -> dict[str, str]:
    return {
        f"{field} of {method}": f"{choice['chosen']}, from {choice['from']}"
        for field, choices in record.items()
        for method, choice in choices.items()
    }
