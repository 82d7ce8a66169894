"""The order of methods, and how sure it is: ranks over resampled people."""

from __future__ import annotations

import numpy as np
import polars as pl

from facefocus.analysis.summary import drops
from facefocus.benchmark.result_columns import COMPETES, CONFIGURATION
from facefocus.evaluation.statistics import FEWEST, holm, paired_p_values, rank_distribution

#: Columns that `ranked` adds: the mean rank, its 95 % interval, and how often it is the first.
RANKS = ("rank", "rank_low", "rank_high", "first_share")

#: Another: whether the drop differs from the largest one, by the larger p of a paired t and a
#: Wilcoxon test over people, corrected by Holm over the methods; null for the first itself.
FIRST_P = "p_first"


def ranked(results: pl.DataFrame, summary: pl.DataFrame) -> pl.DataFrame:
    """Each method's rank over bootstrap samples of the people whom all have scores of.

    Without two methods and five such people, the ranks are null.

    Args:
        results: A row for each identity and configuration.
        summary: Rows of one recognizer, budget, fill and split, from `summarize`.

    Returns:
        `summary` with the columns `RANKS` and `FIRST_P`.
    """
    methods = summary.filter(COMPETES)
    values = drops(results, methods)
    values = values[:, ~np.isnan(values).any(axis=0)]
    if len(values) < 2 or values.shape[1] < FEWEST:
        return summary.with_columns(
            pl.lit(None, pl.Float64).alias(name) for name in (*RANKS, FIRST_P)
        )
    ranks = rank_distribution(list(values[:, None]), seed=0)
    first = int(values.mean(axis=1).argmax())
    tested = paired_p_values(np.delete(values[first] - values, first, axis=0))
    corrected = holm(np.maximum(tested.t, tested.wilcoxon).tolist())
    columns = dict(zip(RANKS, (ranks.mean, ranks.low, ranks.high, ranks.shares[:, 0]), strict=True))
    columns[FIRST_P] = np.insert(corrected, first, np.nan)
    added = methods.select(
        *CONFIGURATION,
        *(pl.Series(name, column, nan_to_null=True) for name, column in columns.items()),
    )
    return summary.join(
        added, on=CONFIGURATION, how="left", nulls_equal=True, maintain_order="left"
    )
