"""``facefocus report``, ``tables``, ``results`` and ``truth``: what runs found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from facefocus.cli.options import Run
from facefocus.cli.printing import show

#: The commands of this file, for the program's own list.
commands = typer.Typer()


@commands.command()
def report(
    run: Run,
    with_faces: Annotated[
        bool, typer.Option("--with-faces", help="Embed photographs in the page.")
    ] = False,
) -> None:
    """Print the table of a run, or the leaderboards of a study, and write the page."""
    from facefocus.paper.study_page import is_study, print_study, write_study_report
    from facefocus.report.html import write_report
    from facefocus.report.terminal_table import print_summary

    study = is_study(run)
    page = (write_study_report if study else write_report)(run, with_faces=with_faces)
    (print_study if study else print_summary)(run, Console())
    show(f"page {page}")


@commands.command()
def tables(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs.")],
    table: Annotated[str, typer.Option(help="2 to 15, all, or leaderboard.")] = "all",
    form: Annotated[
        str, typer.Option("--format", help="text, markdown, latex, csv or html.")
    ] = "text",
    on_degenerate: Annotated[
        str, typer.Option(help="none: exactly k pixels; inclusive: the paper's rule.")
    ] = "none",
) -> None:
    """The paper's tables with your numbers beside the printed ones."""
    from facefocus.analysis.results import read_runs
    from facefocus.paper.paper_formats import render

    show(render(read_runs(runs), table, form, policy=on_degenerate), end="")


@commands.command()
def results(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs.")],
    out: Annotated[Path, typer.Option(help="The document (Markdown).")] = Path("results.md"),
) -> None:
    """The paper's questions answered from runs, as a document without a figure typed by hand."""
    from facefocus.core.files import write_atomically
    from facefocus.paper.questions import results_document

    text = results_document(runs)
    write_atomically(out, lambda file: file.write(text.encode()))
    show(f"results {out}")


@commands.command()
def truth(
    run: Run,
    out: Annotated[Path, typer.Option(help="The Markdown file.")] = Path("results-truth.md"),
) -> None:
    """Which methods find the planted part: a note on a run on synthetic faces, with pictures."""
    from facefocus.planted.truth_report import write_note

    show(f"note {write_note(run, out)}")
