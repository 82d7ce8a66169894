"""Which setting of a method is best, by a rule, from the results of an earlier experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from facefocus.benchmark.result_columns import COMPETES
from facefocus.benchmark.result_slices import default_slice
from facefocus.core.errors import UserError
from facefocus.core.text import number

#: The rule of the paper's Tables 7 to 10, in words.
RULE = "least recognition rate, mean over identities and then over recognizers with their own maps"


@dataclass(frozen=True)
class Choice:
    """The best setting of one method.

    Attributes:
        value: The layer or objective that was chosen.
        ranking: Every setting with its mean rate, best first.
        source: Where the results come from.
        slice: Budget and fill of the comparison, in words.
    """

    value: str
    ranking: tuple[tuple[str, float], ...]
    slice: str
    source: str = ""

    def __str__(self) -> str:
        best, *others = self.ranking
        second = f", next {others[0][0]} {number(others[0][1])}" if others else ""
        origin = f"from {self.source}: " if self.source else ""
        return f"{self.value}, {origin}rate {number(best[1])}{second} ({self.slice}; {RULE})"

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "chosen": self.value,
            "from": self.source,
            "rule": f"{RULE}; {self.slice}; masks of exactly k pixels; the first of equals",
            "ranking": [{"setting": name, "rate": rate} for name, rate in self.ranking],
        }


def choose(results: pl.DataFrame, methods: Sequence[str], field: str) -> dict[str, Choice]:
    """For each method the setting of `field` that lowers recognition most.

    Own maps only (source = target), split ``same``, masks of exactly k pixels, at 1 % black or the
    smallest budget and first fill; of artefacts, where there are any. Equal rates: the first in
    the order of the results.

    Args:
        results: Result rows of a run.
        methods: Names of methods.
        field: ``layer`` or ``objective``.

    Raises:
        UserError: A method has no such rows.
    """
    shown = default_slice(results)
    rows = shown.of(results).filter(
        COMPETES,
        pl.col("source") == pl.col("target"),
        pl.col("on_degenerate") == "none",
        pl.col("rate").is_not_null(),
    )
    return {method: _best(rows, method, field, str(shown)) for method in methods}


def _best(rows: pl.DataFrame, method: str, field: str, shown: str) -> Choice:
    own = rows.filter(pl.col("method") == method, pl.col(field).is_not_null())
    if own.is_empty():
        raise UserError(
            f"The {field} of '{method}' cannot be chosen: the results have no rows of this method"
            f" with maps from the target recognizer ({shown})."
        )
    each = own.group_by(field, "target", maintain_order=True).agg(pl.col("rate").mean())
    means = each.group_by(field, maintain_order=True).agg(pl.col("rate").mean())
    ranked = means.sort(pl.col("rate").round(12), maintain_order=True)
    ranking = tuple((str(name), float(rate)) for name, rate in ranked.select(field, "rate").rows())
    return Choice(ranking[0][0], ranking, shown)
