"""``facefocus submit`` and ``facefocus check``: results for others to check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facefocus.cli.options import REPORTS, Backend
from facefocus.cli.printing import long_job, show, show_lines

commands = typer.Typer()


@commands.command(rich_help_panel=REPORTS)
def submit(
    run: Annotated[Path, typer.Argument(help="A run folder.", exists=True, file_okay=False)],
    out: Annotated[
        Path | None, typer.Option("--out", help="The file. Default: RUN.submission.")
    ] = None,
) -> None:
    """Write a run's results to one file that others can check.

    It holds no face and no name: all rows under pseudonyms, versions and hashes of faces,
    recognizers and methods, and the masks of a tenth of the people, whom the hash of all else
    draws.
    """
    from facefocus.submissions.submission import write_submission

    show(f"submission {write_submission(run, out)}")


@commands.command(rich_help_panel=REPORTS)
def check(
    submission: Annotated[
        Path, typer.Argument(help="A file of 'facefocus submit'.", exists=True, dir_okay=False)
    ],
    faces: Annotated[
        Path | None,
        typer.Option("--faces", help="The face set it is of: masks are scored again on it."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="A method whose maps are made again; may be repeated."),
    ] = None,
    backend: Backend = "auto",
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="Keep what is computed here: a folder, or s3://BUCKET/... Default: nothing is.",
        ),
    ] = None,
) -> None:
    """Check results that somebody handed in.

    Without --faces: hashes, schema, and whether the figures follow from each other. With it, masks
    of a tenth of the people are scored again; with --method, made again. Exit code 1: something
    does not hold.
    """
    from facefocus.submissions.check_submission import check_submission

    with long_job() as progress:
        findings = check_submission(
            submission, faces, method or (), store=store, backend=backend, progress=progress
        )
    show_lines(f"{finding.verdict}: {finding.text}" for finding in findings)
    raise typer.Exit(int(any(finding.verdict == "does not hold" for finding in findings)))
