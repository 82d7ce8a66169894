"""How much of what hiding does survives a nuisance or repair (Protocol: robustness)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from facefocus.analysis.results import finished_runs
from facefocus.analysis.summary import Row
from facefocus.benchmark.result_columns import CONFIGURATION
from facefocus.benchmark.stages.robustness import MEASURES, ROBUSTNESS
from facefocus.core.errors import UserError, one_line
from facefocus.evaluation.nuisances import NUISANCES
from facefocus.evaluation.statistics import Intervals, mean_intervals, ratio_intervals

#: A nuisance undoes hiding where less than this share of the drop surely survives it.
UNDONE = 0.5


def read_robustness(paths: Sequence[Path]) -> pl.DataFrame | None:
    """The robustness tables of runs, one below the other; None where no run has one.

    Raises:
        UserError: One cannot be read.
    """
    files = [run / ROBUSTNESS for path in paths for run in finished_runs(path)]
    tables = []
    for file in files:
        try:
            tables += [pl.read_parquet(file.read_bytes())] if file.is_file() else []
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(f"'{file}' cannot be read: {one_line(error)}.") from error
    if not tables:
        return None
    rows = pl.concat(tables, how="diagonal")
    key = (*CONFIGURATION, "identity", "nuisance")
    return rows.unique(key, keep="first", maintain_order=True)


def surviving_shares(rows: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """One row per configuration and nuisance: means over identities with 95 % intervals.

    ``rate`` and ``clean_rate`` are recognition without the nuisance, ``nuisance_rate`` and
    ``nuisance_clean_rate`` under it. ``surviving`` is (clean - hidden) under the nuisance over
    (clean - hidden) without it, a ratio of means with Fieller's interval; null where the interval
    of the drop without it includes 0. The same with ``cosine``: ``cosine_surviving``. Identities
    without a score count nowhere; an interval needs five.

    Args:
        rows: As `facefocus.benchmark.stages.robustness.robustness_table` gives them.
        seed: Seed of the intervals' weights (Protocol: statistics).
    """
    key = (*CONFIGURATION, "nuisance")
    table = rows.select(key).unique(maintain_order=True)
    coded = rows.join(
        table.with_row_index("code"), on=key, nulls_equal=True, maintain_order="left"
    ).with_columns(who=pl.col("identity").rank("dense") - 1)
    people = rows["identity"].n_unique()

    def matrix(name: str) -> Float[np.ndarray, "rows people"]:
        scores = np.full((table.height, people), np.nan)
        values = coded[name].fill_null(np.nan).to_numpy()
        scores[coded["code"].to_numpy(), coded["who"].to_numpy()] = values
        return scores

    figures: dict[str, np.ndarray] = {}
    scored = np.isfinite(matrix("rate"))
    for measure in MEASURES:
        values = {
            name: np.where(scored, matrix(name), np.nan)
            for front in ("", "nuisance_")
            for name in (f"{front}clean_{measure}", f"{front}{measure}")
        }
        for name, scores in values.items():
            figures |= _named(name, mean_intervals(scores, share=measure == "rate", seed=seed))
        drop = values[f"clean_{measure}"] - values[measure]
        left = values[f"nuisance_clean_{measure}"] - values[f"nuisance_{measure}"]
        front = "" if measure == "rate" else f"{measure}_"
        figures |= _named(f"{front}surviving", ratio_intervals(left, drop, seed=seed))
    shown = pl.DataFrame(figures, schema=dict.fromkeys(figures, pl.Float64)).fill_nan(None)
    return table.hstack(shown).with_columns(scored=pl.Series(scored.sum(axis=1), dtype=pl.Int64))


def _named(name: str, intervals: Intervals) -> dict[str, np.ndarray]:
    return {name: intervals.value, f"{name}_low": intervals.low, f"{name}_high": intervals.high}


def undone(row: Row) -> bool:
    """Whether less than half of the drop surely survives, by a row of `surviving_shares`."""
    return row["surviving_high"] is not None and row["surviving_high"] < UNDONE


def holds(row: Row) -> bool:
    """Whether more than half of the drop surely survives."""
    return row["surviving_low"] is not None and row["surviving_low"] > UNDONE


def is_repair(nuisance: str) -> bool:
    """Whether somebody does it on purpose; one that is not installed is no repair."""
    return nuisance in NUISANCES and NUISANCES[nuisance].repair
