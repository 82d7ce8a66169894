"""Transfer by lineage: what masks take from recognizers that are kin to their source, or not.

Protocol: transfer. A recognizer is called unseen only where neither its training data nor its
family is that of a source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Float

from facefocus.benchmark.result_columns import COMPETES, CONFIGURATION
from facefocus.evaluation.statistics import mean_intervals, ratio_intervals
from facefocus.models.lineage import (
    LINEAGES,
    WHITE_BOX,
    Lineage,
    nearest_kinship,
    training_kinds,
)
from facefocus.models.zoo import lineage

#: What rows are grouped by: kinship, or real and synthetic training data.
By = Literal["lineage", "training"]

#: What a row of any source and target recognizer has in common with its group.
ALIKE = tuple(
    name for name in CONFIGURATION
    if name not in ("source", "target", "layer_calls", "control", "threshold")
)  # fmt: skip


def lineages_of(provenance: Mapping[str, Any], results: pl.DataFrame) -> dict[str, Lineage]:
    """Where every source and target recognizer of some results comes from.

    Args:
        provenance: Of the run or of its variants, which says it of the user's own recognizers.
        results: Result rows.
    """
    sources = results["source"].drop_nulls().unique().str.split("+").explode()
    names = sorted({*sources, *results["target"].unique()})
    recorded: dict[str, Any] = {}
    for record in (provenance, *provenance.values()):
        recognizers = record.get("recognizers") if isinstance(record, Mapping) else None
        recorded |= recognizers if isinstance(recognizers, Mapping) else {}
    return {name: _recorded(recorded.get(name)) or lineage(name) for name in names}


def _recorded(about: Any) -> Lineage | None:
    stated = about.get("lineage") if isinstance(about, Mapping) else None
    if not isinstance(stated, Mapping):
        return None
    known = {field.name for field in fields(Lineage)}
    return Lineage(**{name: value for name, value in stated.items() if name in known})


def with_lineage(results: pl.DataFrame, lineages: Mapping[str, Lineage]) -> pl.DataFrame:
    """Rows of methods with the columns `lineage` and `training` of source and target.

    And `sources`, on how many recognizers a map was made: joint maps are told apart.
    """
    rows = results.filter(COMPETES)
    pairs = rows.select("source", "target").unique(maintain_order=True)
    kin = [nearest_kinship(source, target, lineages) for source, target in pairs.iter_rows()]
    kinds = [_training(source, target, lineages) for source, target in pairs.iter_rows()]
    kinships = pairs.with_columns(
        pl.Series("lineage", kin, pl.String),
        pl.Series("training", kinds, pl.String),
        sources=pl.col("source").str.count_matches("+", literal=True) + 1,
    )
    return rows.join(kinships, on=["source", "target"], maintain_order="left")


def _training(source: str, target: str, lineages: Mapping[str, Lineage]) -> str:
    """Real or synthetic training data; maps of the target itself stand apart."""
    kinds = training_kinds(source, target, lineages)
    if nearest_kinship(source, target, lineages) == WHITE_BOX:
        return f"{kinds.rpartition(' to ')[2]}, {WHITE_BOX}"
    return kinds


def by_lineage(
    results: pl.DataFrame,
    lineages: Mapping[str, Lineage],
    *,
    by: By = "lineage",
    each_target: bool = False,
    seed: int = 0,
) -> pl.DataFrame:
    """One row per method, settings and lineage: means over people with 95 % intervals.

    Each person counts once: the mean over the pairs of recognizers of that lineage. A person
    without a score on one of these pairs is left out.

    Args:
        results: Result rows; controls, baselines and split ``half`` are left out.
        lineages: By recognizer, from `lineages_of`.
        by: ``lineage``, or ``training`` for real and synthetic training data.
        each_target: Whether targets are kept apart.
        seed: Of the intervals' weights (Protocol: statistics).

    Returns:
        `ALIKE`, `sources` (how many a map is made on), `by`, and `target` where kept apart;
        `pairs` of recognizers, `targets`, `scored`
        people; `clean_rate`, `rate` and `drop`; `kept`, the drop as a share of the drop by each
        target's own maps of the same method and settings, where there are such (a ratio of means,
        Fieller's interval). Intervals end in ``_low`` and ``_high``.
    """
    rows = with_lineage(results, lineages).filter(
        pl.col("control").is_null(), pl.col("split") != "half"
    )
    keys = [*ALIKE, "sources", *(["target"] if each_target else []), by]
    own = _own_drops(rows)
    rows = rows.join(own, on=[*ALIKE, "target", "identity"], how="left", nulls_equal=True)
    names = ("clean_rate", "rate", "own_drop")
    per = rows.group_by(*keys, "identity").agg(
        *(pl.when(pl.col(n).is_not_null().all()).then(pl.col(n).mean()).alias(n) for n in names),
        pairs=pl.struct("source", "target").n_unique(),
        targets=pl.col("target").n_unique(),
    )
    groups = per.group_by(keys).agg(pl.col("pairs").max(), pl.col("targets").max())
    groups = groups.sort(
        *(pl.col(name) for name in keys if name != by), by_order(by), nulls_last=True
    )
    matrices = _matrices(per, groups, keys, names)
    drop = matrices["clean_rate"] - matrices["rate"]
    figures = {"scored": np.isfinite(drop).sum(axis=1)}
    for name in ("clean_rate", "rate"):
        figures |= _ends(name, mean_intervals(matrices[name], share=True, seed=seed))
    figures |= _ends("drop", mean_intervals(drop, share=False, seed=seed))
    figures |= _ends("kept", ratio_intervals(drop, matrices["own_drop"], seed=seed))
    made = pl.DataFrame(figures).with_columns(pl.selectors.float().fill_nan(None))
    return pl.concat([groups, made], how="horizontal")


def _own_drops(rows: pl.DataFrame) -> pl.DataFrame:
    """The drop of each person by the target's own maps, under the same method and settings."""
    own = rows.filter(pl.col("source") == pl.col("target"))
    drop = (pl.col("clean_rate") - pl.col("rate")).mean()
    return own.group_by(*ALIKE, "target", "identity").agg(own_drop=drop)


def by_order(by: By) -> pl.Expr:
    """Sorts groups: the nearest kin first."""
    if by == "training":
        return pl.col(by)
    ranks = {name: rank for rank, name in enumerate(LINEAGES)}
    return pl.col(by).replace_strict(ranks, return_dtype=pl.Int64)


def _matrices(
    per: pl.DataFrame, groups: pl.DataFrame, keys: list[str], names: tuple[str, ...]
) -> dict[str, Float[np.ndarray, "groups people"]]:
    """Columns as matrices; NaN where a person misses a pair of the group."""
    people = per.select(pl.col("identity").unique().sort()).with_row_index("who")
    coded = per.join(people, on="identity").join(
        groups.with_row_index("code").rename({"pairs": "all_pairs"}).drop("targets"),
        on=keys,
        nulls_equal=True,
    )
    coded = coded.filter(pl.col("pairs") == pl.col("all_pairs"), pl.col("rate").is_not_null())
    matrices = {}
    for name in names:
        matrix = np.full((groups.height, people.height), np.nan)
        values = coded[name].fill_null(np.nan).to_numpy()
        matrix[coded["code"].to_numpy(), coded["who"].to_numpy()] = values
        matrices[name] = matrix
    return matrices


def _ends(name: str, intervals: Any) -> dict[str, np.ndarray]:
    return {name: intervals.value, f"{name}_low": intervals.low, f"{name}_high": intervals.high}
