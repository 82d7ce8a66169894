"""The result tables of runs and studies, and the budget, fill and split that a first look shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.benchmark.result_columns import CONFIGURATION, with_readings
from facefocus.core.errors import UserError, one_line
from facefocus.core.locations import run_folders
from facefocus.core.text import budget_text

#: The file that makes a folder of runs a study; says its name, its runs and what was left out.
STUDY = "study.json"

#: The file of a folder whose results were handed in by others; says what was in theirs.
SUBMITTED = "submission.json"


def photos_in_words(split: str) -> str:
    """On which photos hiding is tried: ``held-out photos``.

    Example:
        >>> photos_in_words("same"), photos_in_words("frontal-to-turned")
        ('photos the map came from', 'frontal to turned photos')
    """
    usual = {"same": "photos the map came from", "heldout": "held-out photos"}
    return usual.get(split, f"{split.replace('-', ' ')} photos")


@dataclass(frozen=True)
class Slice:
    """One budget, one fill and one split: what a first look shows.

    `reading` says what a drop under the fill shows (Protocol: fills).
    """

    budget: float
    fill: str
    split: str = "same"
    reading: str = "artefact"

    def of(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows of this slice, of methods' own masks."""
        return self.at(table, "budget", "fill", "split")

    def at(self, table: pl.DataFrame, *names: str) -> pl.DataFrame:
        """The rows of methods' own masks that are equal to this slice in `names`."""
        equal = [pl.col(name) == getattr(self, name) for name in names]
        return table.filter(pl.col("control").is_null(), *equal)

    @property
    def filled(self) -> str:
        """``black (artefact)``: the fill and what a drop under it shows."""
        return f"{self.fill} ({self.reading})"

    def __str__(self) -> str:
        photos = "" if self.split == "same" else f", {photos_in_words(self.split)}"
        return f"{budget_text(self.budget)} of the pixels, fill {self.filled}{photos}"


#: The fill of a first look, where there is one, by reading; in the order in which they are shown.
_FIRST_FILLS = {"artefact": "black", "information": "inpaint"}


def default_slices(table: pl.DataFrame) -> list[Slice]:
    """What a first look shows: one slice for each reading of the table, artefact first.

    Budget 1 %, fill black (``inpaint`` for information) and split ``same`` where there are; else
    the smallest or the first. Never split ``half``, which is a reference for held-out photos.

    Args:
        table: Result rows or their summary.

    Raises:
        UserError: The table is empty.
    """
    if table.is_empty():
        raise UserError("The results must have at least one row. Got an empty table.")
    table = with_readings(table)
    budgets = table["budget"].unique().sort().to_list()
    budget = next((one for one in budgets if np.isclose(one, 0.01)), budgets[0])
    splits = [one for one in ("same", "heldout") if one in set(table["split"])]
    split = [*splits, *table.filter(pl.col("split") != "half")["split"]][0]
    found = []
    for reading, first in _FIRST_FILLS.items():
        fills = table.filter(pl.col("reading") == reading)["fill"].unique(maintain_order=True)
        if len(fills):
            fill = first if first in fills else fills[0]
            found.append(Slice(budget, fill, split, reading))
    return found


def default_slice(table: pl.DataFrame) -> Slice:
    """The first of `default_slices`.

    Raises:
        UserError: The table is empty.
    """
    return default_slices(table)[0]


def read_results(run: Path) -> pl.DataFrame:
    """The result table of a run folder, of all its finished variants together.

    Raises:
        UserError: None is finished yet, or a table cannot be read.
    """
    return pl.concat(_read_finished(run), how="diagonal")


def finished_runs(folder: Path) -> list[Path]:
    """The run folders that have results: of a run's variants, or of a study's runs."""
    return [run for run in run_folders(folder) if (run / "results.parquet").is_file()]


def run_notes(run: Path) -> list[str]:
    """What must be said first of a run or study: that it is not finished, or not one's own."""
    finished = finished_runs(run)
    left = [folder.name for folder in run_folders(run) if folder not in finished]
    path = run / STUDY
    if path.is_file():
        try:
            planned = json.loads(path.read_bytes()).get("runs", [])
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error
        left += [one for one in planned if not (run / one / "results.parquet").is_file()]
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
