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
    unfinished_note,
)
from facefocus.core.errors import UserError, one_line
from facefocus.core.locations import run_folders
from facefocus.core.text import NOTHING, number, percent
from facefocus.paper import paper_figures
from facefocus.paper.leaderboard import Board, board_table, boards
from facefocus.paper.leaderboard import winner as winner_of
from facefocus.paper.paper_formats import table_block
from facefocus.paper.paper_tables import paper_table
from facefocus.report import figures, sections
from facefocus.report.answer import artefact_note, checks
from facefocus.report.audit_blocks import audit_blocks
from facefocus.report.document import Checks, Details, Facts, Heading, Link, Section
from facefocus.report.page import render_page, write_page, write_report
from facefocus.report.report_data import Report
from facefocus.report.section_registry import ordered_sections, section

#: Stages by name.
RQ1, RQ2, RQ3, RQ4, CONTROLS = "rq1", "rq2", "rq3", "rq4", "controls"


def is_study(folder: Path) -> bool:
    """Whether a folder holds the runs of a study."""
    return (folder / STUDY).is_file()


def write_study_report(folder: Path, *, with_faces: bool = False) -> Path:
    """Write the page of a study and those of its finished runs.

    Args:
        folder: The study's folder.
        with_faces: Show face pixels in the galleries.

    Returns:
        The path of the study's page.

    Raises:
        UserError: No run is finished, or a file cannot be read.
    """
    finished = finished_runs(folder)
    if not finished:
        raise UserError(f"No run of the study '{folder}' is finished yet.")
    for run in finished:
        write_report(run, with_faces=with_faces)
    results = read_runs([folder])
    return write_page(folder, lambda place: _render(folder, results, place))


def _render(folder: Path, results: pl.DataFrame, place: Path) -> str:
    report = Report(folder, results, {}, "", place)
    made = [registered.function(report) for registered in ordered_sections("study")]
    inclusive = (results["on_degenerate"] == "inclusive").any()
    warned = (
        ["Some rows of these runs were cut by the rule that hides a whole face where a map is flat"
         " (on_degenerate = inclusive), to measure what that does. Tables and leaderboards keep"
         " them apart."]
        if inclusive
        else []
    )  # fmt: skip
    title = str(_record(folder).get("name", folder.resolve().name))
    answers = [*unfinished_note(folder), *_answers(results)]
    return render_page(report, made, answers, warned, title=title)


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


def _blocks(section: Section | None, stage: str) -> list[Any]:
    return [] if section is None else [Heading(f"{stage}: {section.title}"), *section.blocks]


@section("study-trust", place=10, page="study")
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
    return Section("trust", "Can I trust it?", lead, blocks)


@section("study-winner", place=20, page="study")
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
    return Section("winner", "Who wins?", lead, [*blocks, *_tables(report, (12, 13))])


def _ranks(board: Board) -> Callable[[float], Any]:
    return lambda width: paper_figures.rank_shares(board, width=width)


@section("study-effect", place=30, page="study")
def effect(report: Report) -> Section | None:
    """How much is lost, by budget, fill and loss."""
    blocks = _tables(report, (2, 3, 4))
    if part := _part(report, RQ1):
        blocks += _blocks(sections.effect(part), RQ1)
    blocks += _tables(report, (9, 10, 11, 15))
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
    if part := _part(report, CONTROLS):
        for build in (sections.effect, sections.heldout, sections.person):
            blocks += _blocks(build(part), CONTROLS)
    lead = "The paper's figures in brackets, where it has them; intervals are over identities."
    return Section("effect", "By how much?", lead, blocks)


@section("study-where", place=40, page="study")
def where(report: Report) -> Section | None:
    """Which layers, and some maps."""
    blocks = _tables(report, (7, 8))
    if part := _part(report, RQ2):
        for target, rows in part.targets():
            blocks += [*part.heading(target), _layers(part, target, rows)]
    blocks += [Details("Tables 5 and 6: cosine by layer and group", _tables(report, (5, 6)))]
    if part := _part(report, RQ4):
        blocks += _blocks(sections.where(part), RQ4)
    return Section("where", "Where?", "Layers first, then maps and masks of a few people.", blocks)


def _layers(part: Report, target: str, rows: pl.DataFrame) -> Any:
    shown = part.shown.of(rows)
    return part.picture(
        lambda width: figures.layer_heatmap(shown, width=width),
        "layers",
        alt=f"Heat map of the drop of recognition of {target} by layer and method.",
        caption=f"{target}: drop of the recognition rate, {part.shown}. Darker is larger.",
        kind="svg",
    )


@section("study-whom", place=50, page="study")
def whom(report: Report) -> Section | None:
    """On which recognizers, and on which people."""
    blocks: list[Any] = _tables(report, (14,))
    if part := _part(report, RQ4):
        blocks += _blocks(sections.transfer(part), RQ4)
        blocks += _blocks(sections.whom(part), RQ4)
    lead = "On which recognizers, and on which people."
    return Section("whom", "On whom?", lead, blocks)


@section("study-runs", place=60, page="study")
def runs(report: Report) -> Section | None:
    """The runs, with links to their pages."""
    blocks: list[Any] = []
    finished = finished_runs(report.run)
    for run in finished:
        rows = read_results(run)
        people = rows["identity"].n_unique()
        text = f"{run.name}: {rows.height} rows of {people} identities"
        blocks.append(Link(f"../{run.name}/report/index.html", text))
        path = run / "choices.json"
        if path.is_file():
            blocks.append(Facts(_chosen(json.loads(path.read_text(encoding="utf-8")))))
    unfinished = [folder.name for folder in run_folders(report.run) if folder not in finished]
    facts = {
        "Not finished": ", ".join(unfinished) or NOTHING,
        "Left out": "; ".join(_record(report.run).get("missing", ())) or NOTHING,
    }
    return Section("runs", "The runs behind this page", "", [*blocks, Facts(facts)])


def _chosen(record: dict[str, Any]) -> dict[str, str]:
    return {
        f"{field} of {method}": f"{choice['chosen']}, from {choice['from']}"
        for field, found in record.items()
        for method, choice in found.items()
    }
