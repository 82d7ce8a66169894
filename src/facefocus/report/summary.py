"""Result rows to one row per configuration: macro means, intervals, control and audit.

PROTOCOL sections 8 and 9.1. The table that comes out is what every rendering and figure reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from facefocus.errors import UserError
from facefocus.evaluation.statistics import bootstrap_mean

#: The columns of a results table that tell one configuration from another.
CONFIGURATION = (
    "experiment", "faces", "source", "target", "method", "options", "layer", "layer_calls",
    "objective", "evidence", "split", "budget", "fill", "on_degenerate", "compare",
    "threshold_rule", "threshold", "seed",
)  # fmt: skip

#: What a configuration and its random-pixel control must have in common.
CONTROL = (
    "experiment", "faces", "target", "split", "budget", "fill", "compare", "threshold_rule",
    "threshold", "seed",
)  # fmt: skip

#: The method whose rows are the random-pixel control.
RANDOM = "random"

Row = dict[str, Any]


def summarize(results: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """One row per configuration: macro means over identities, 95 % intervals and the audit.

    Identities without a score (``on_degenerate = "skip"``) count in the audit, not in the means.
    `drop` is clean minus occluded, `beyond_random` the paired drop below the random-pixel control.
    Rates and shares are in 0..1. An interval needs two identities; else its ends are null.

    Args:
        results: One row per identity and configuration, as `facefocus run` writes it.
        seed: Seed of the bootstrap over identities (PROTOCOL section 8).

    Raises:
        UserError: `results` lacks a column.
    """
    missing = [name for name in (*CONFIGURATION, *_SCORES) if name not in results.columns]
    if missing:
        raise UserError(f"The results must have the column '{missing[0]}'. Got no such column.")
    paired = _with_control(results)
    groups = paired.partition_by(CONFIGURATION, maintain_order=True)
    rows = [_configuration(group, seed) for group in groups]
    return pl.DataFrame(rows, schema=_schema(results), orient="row")


_SCORES = (
    "identity", "images", "pairs", "clean_cosine", "cosine", "clean_rate", "rate", "budget_pixels",
    "masked_pixels", "masked_share", "maps", "maps_degenerate", "degenerate", "draws",
)  # fmt: skip

#: Means with an interval: name, then the value per identity.
_MEANS: dict[str, pl.Expr] = {
    "clean_rate": pl.col("clean_rate"),
    "rate": pl.col("rate"),
    "drop": pl.col("clean_rate") - pl.col("rate"),
    "beyond_random": pl.col("control_rate") - pl.col("rate"),
    "clean_cosine": pl.col("clean_cosine"),
    "cosine": pl.col("cosine"),
    "cosine_beyond_random": pl.col("control_cosine") - pl.col("cosine"),
}

#: The audit of PROTOCOL section 9.1, in the order in which it is shown.
AUDIT = (
    "identities", "scored", "degenerate_share", "maps_degenerate_share", "area_mean", "area_max",
    "over_budget_share", "unaffected_share",
)  # fmt: skip


def _schema(results: pl.DataFrame) -> dict[str, Any]:
    means = [f"{name}{end}" for name in _MEANS for end in ("", "_low", "_high")]
    return {
        **{name: results.schema[name] for name in CONFIGURATION},
        **dict.fromkeys(means, pl.Float64),
        **dict.fromkeys(AUDIT, pl.Float64),
        **dict.fromkeys(("identities", "scored", "images", "pairs", "maps", "draws"), pl.Int64),
        "warning": pl.String,
    }


def _with_control(results: pl.DataFrame) -> pl.DataFrame:
    """`results` with the random control's score of the same identity beside each row."""
    control = (
        results.filter(pl.col("method") == RANDOM)
        .unique((*CONTROL, "identity"), keep="first", maintain_order=True)
        .select(*CONTROL, "identity", control_rate="rate", control_cosine="cosine")
    )
    return results.join(
        control, on=(*CONTROL, "identity"), how="left", nulls_equal=True, maintain_order="left"
    ).with_columns(
        # A control is not compared with itself.
        pl.when(pl.col("method") != RANDOM).then("control_rate").alias("control_rate"),
        pl.when(pl.col("method") != RANDOM).then("control_cosine").alias("control_cosine"),
    )


def _configuration(group: pl.DataFrame, seed: int) -> Row:
    scored = group.filter(pl.col("rate").is_not_null())
    row: Row = {name: group[name][0] for name in CONFIGURATION}
    for name, value in _MEANS.items():
        row.update(_interval(name, scored.select(value.alias(name))[name].drop_nulls(), seed))
    row.update(_audit(group, scored))
    row["warning"] = _warning(row)
    return row


def _interval(name: str, values: pl.Series, seed: int) -> Row:
    if values.is_empty():
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    found = bootstrap_mean(values.to_numpy().astype(np.float64), seed=seed)
    if len(values) == 1:
        return {name: found.value, f"{name}_low": None, f"{name}_high": None}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _audit(group: pl.DataFrame, scored: pl.DataFrame) -> Row:
    maps = int(group["maps"].sum())
    over = (group["masked_pixels"] > group["budget_pixels"]).fill_null(False)
    same = (scored["rate"] == scored["clean_rate"]) & (scored["cosine"] == scored["clean_cosine"])
    return {
        "identities": group.height,
        "scored": scored.height,
        "images": int(group["images"].sum()),
        "pairs": int(group["pairs"].sum()),
        "maps": maps,
        "draws": group["draws"].max(),
        "degenerate_share": group["degenerate"].mean(),
        "maps_degenerate_share": group["maps_degenerate"].sum() / maps if maps else None,
        "area_mean": group["masked_share"].mean(),
        "area_max": group["masked_share"].max(),
        "over_budget_share": over.mean(),
        "unaffected_share": same.mean(),
    }


INCLUSIVE = (
    "on_degenerate=inclusive takes every pixel >= the percentile: a flat map hides the whole face, "
    "so these numbers do not keep to the budget."
)
SKIP = (
    "on_degenerate=skip leaves out the identities without a map: these means are over fewer people."
)
OVER = "Some masks are larger than the budget: compare nothing with these numbers."


def _warning(row: Row) -> str | None:
    if row["on_degenerate"] == "inclusive":
        return INCLUSIVE
    if row["over_budget_share"]:
        return OVER
    if row["scored"] < row["identities"]:
        return SKIP
    return None


def warnings(summary: pl.DataFrame) -> list[str]:
    """What a reader must know before reading any number of this table, most serious first."""
    found = set(summary["warning"].drop_nulls())
    counts = {text: (summary["warning"] == text).sum() for text in (INCLUSIVE, OVER, SKIP)}
    return [
        f"{counts[text]} of {summary.height} configurations: {text}"
        for text in (INCLUSIVE, OVER, SKIP)
        if text in found
    ]
