"""The result tables of runs and studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from facefocus.analysis.stop_notes import stop_notes
from facefocus.benchmark.result_columns import CONFIGURATION, with_readings
from facefocus.core.errors import UserError, one_line
from facefocus.core.locations import run_folders

#: The file that makes a folder of runs a study; says its name, its runs and what was left out.
STUDY = "study.json"

#: The file of a folder whose results were handed in by others; says what was in theirs.
SUBMITTED = "submission.json"


def read_results(run: Path) -> pl.DataFrame:
    """The result table of a run folder, of all its finished variants together.

    Raises:
        UserError: None is finished yet, or a table cannot be read.
    """
    return pl.concat(_read_finished(run), how="diagonal")


def finished_runs(folder: Path) -> list[Path]:
    """The run folders that have results: of a run's variants, or of a study's runs."""
    return [run for run in run_folders(folder) if (run / "results.parquet").is_file()]


def as_named(run: Path) -> str:
    """A run as its user named it: a submission is read from a folder that is there for a moment."""
    return run.name if (run / SUBMITTED).is_file() else str(run)


def run_notes(run: Path) -> list[str]:
    """What must be said first of a run or study: whose it is, how far it is, what is certain."""
    finished = finished_runs(run)
    left = [folder.name for folder in run_folders(run) if folder not in finished]
    path = run / STUDY
    if path.is_file():
        try:
            planned = json.loads(path.read_bytes()).get("runs", [])
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error
        left += [name for name in planned if not (run / name / "results.parquet").is_file()]
        left = list(dict.fromkeys(left))
    notes = []
    if (run / SUBMITTED).is_file():
        notes.append(
            f"The figures of {run.name} were handed in. Whether they contradict each other is found"
            f" by 'facefocus check {run.name}'; whether they are true only with the face set"
            " (--faces), of a tenth of the people. Without it, figures, masks and hashes that were"
            " all written anew are not found."
        )
    if left:
        notes.append(
            f"Not finished: {', '.join(left)} {'has' if len(left) == 1 else 'have'} no results yet."
            " The figures below are of the others."
        )
    for folder in finished:
        variant = "" if folder == run else f"{folder.name}: "
        if sentences := " ".join(stop_notes(folder)):
            notes.append(f"{variant}{sentences}")
    return notes


def _read_finished(folder: Path) -> list[pl.DataFrame]:
    return [_read_results(run) for run in finished_runs(folder) or run_folders(folder)]


def _read_results(run: Path) -> pl.DataFrame:
    path = run / "results.parquet"
    if not path.is_file():
        raise UserError(f"'{run}' has no results.parquet; run 'facefocus run' first.")
    try:
        return with_readings(pl.read_parquet(path.read_bytes()))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error


def read_runs(paths: Sequence[Path]) -> pl.DataFrame:
    """The result tables of runs and of folders of runs, one below the other.

    Of a folder of runs those that are finished. What stands in two of them, the baselines, counts
    once.

    Raises:
        UserError: One has none at all yet, or it cannot be read.
    """
    tables = [table for path in paths for table in _read_finished(path)]
    rows = pl.concat(tables, how="diagonal")
    return rows.unique((*CONFIGURATION, "identity"), keep="first", maintain_order=True)
