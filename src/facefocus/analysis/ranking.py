"""The order of methods, and how sure it is: ranks over resampled people."""

from __future__ import annotations

import numpy as np
import polars as pl

from facefocus.analysis.summary import COMPETES, drops
from facefocus.benchmark.result_columns import CONFIGURATION
from facefocus.evaluation.statistics import FEWEST, rank_distribution

#: Columns that `ranked` adds: the mean rank, its 95 % interval, and how often it is the first.
RANKS = ("rank", "rank_low", "rank_high", "first_share")


def ranked(results: pl.DataFrame, summary: pl.DataFrame) -> pl.DataFrame:
    """Each method's rank over bootstrap samples of the people whom all have scores of.

    Without two methods and five such people, the ranks are null.

    Args:
        results: A row for each identity and configuration.
        summary: Rows of one recognizer, budget, fill and split, from `summarize`.

    Returns:
        `summary` with the columns `RANKS`.
    """
    methods = summary.filter(COMPETES)
    values = drops(results, methods)
    values = values[:, ~np.isnan(values).any(axis=0)]
    if len(values) < 2 or values.shape[1] < FEWEST:
        return summary.with_columns(pl.lit(None, pl.Float64).alias(name) for name in RANKS)
    ranks = rank_distribution(list(values[:, None]), seed=0)
    columns = zip(RANKS, (ranks.mean, ranks.low, ranks.high, ranks.shares[:, 0]), strict=True)
    added = methods.select(*CONFIGURATION, *(pl.Series(name, value) for name, value in columns))
    return summary.join(
        added, on=CONFIGURATION, how="left", nulls_equal=True, maintain_order="left"
    )
