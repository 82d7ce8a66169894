"""Who is first, whether that is sure, and where random pixels or a blob do as much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from facefocus.analysis.summary import GUESSES, Row, drops
from facefocus.benchmark.result_columns import CENTER, COMPETES, RANDOM
from facefocus.core.text import budget_text
from facefocus.evaluation.statistics import Interval, mean_interval


def best(rows: pl.DataFrame) -> Row | None:
    """The configuration with the largest drop among those that count; None where none does."""
    ranked = ranked_fairly(rows)
    return ranked.row(0, named=True) if ranked.height else None


def ranked_fairly(rows: pl.DataFrame) -> pl.DataFrame:
    """Methods whose masks keep to the budget, on recognizers of any use, largest drop first."""
    fair = rows.filter(
        COMPETES
        & ~GUESSES
        & pl.col("drop").is_not_null()
        & (pl.col("on_degenerate") != "inclusive")
        & (pl.col("over_budget_share").fill_null(0.0) == 0.0)
    )
    return fair.sort("drop", descending=True, maintain_order=True)


@dataclass(frozen=True)
class Standing:
    """Who is first at one budget, fill and split, and whether that is sure.

    Attributes:
        top: The configuration of largest drop.
        next: The one of largest drop of another method; None where only one was tried.
        lead: Its drop less, over the people who have both; None without `next`.
        random: Random pixels of the same number; None where not run.
    """

    top: Row
    next: Row | None
    lead: Interval | None
    random: Row | None

    @property
    def lowers(self) -> bool:
        """Whether the largest drop is above 0 for sure, and above that by random pixels."""
        low = self.top["drop_low"]
        return low is not None and low > 0 and not self.below_random

    @property
    def below_random(self) -> bool:
        """Whether random pixels take as much as any method, or more."""
        return self.random is not None and self.random["drop"] >= self.top["drop"]

    @property
    def wins(self) -> bool:
        """Whether a winner may be named: the intervals of its drop and of its lead lie above 0."""
        return self.lowers and (self.lead is None or self.lead.low > 0)


def standing_of(rows: pl.DataFrame, results: pl.DataFrame) -> Standing | None:
    """The standing in some summary rows of one recognizer, budget, fill and split.

    Args:
        rows: From `summarize`.
        results: The result rows that they were made from.
    """
    ranked = ranked_fairly(rows)
    if ranked.is_empty():
        return None
    top = ranked[:1]
    others = ranked.filter(pl.col("method") != top["method"][0])[:1]
    lead = None
    if others.height:
        first, second = (drops(results, part)[0] for part in (top, others))
        both = np.isfinite(first) & np.isfinite(second)
        lead = mean_interval(first[both] - second[both]) if both.any() else None
    random = rows.filter((pl.col("method") == RANDOM) & pl.col("drop").is_not_null())
    return Standing(
        top.row(0, named=True),
        others.row(0, named=True) if others.height else None,
        lead,
        random.row(0, named=True) if random.height else None,
    )


@dataclass(frozen=True)
class Margin:
    """What the best method takes beyond pixels that need no map, at one budget.

    Attributes:
        top: The configuration of largest drop, a summary row.
        rival: What it is compared with, in words.
        more: Its drop less the rival's, over the people who have both.
    """

    top: Row
    rival: str
    more: Interval

    @property
    def shown(self) -> bool:
        """Whether the method is shown to take more: the interval lies above 0."""
        return self.more.low > 0


#: Rivals that need no map, in words, with the comparisons (`summarize`) that may tell of them.
_RIVALS = {
    "random pixels": ("beyond_random", "beyond_pixels"),
    f"a blob in the middle ({CENTER})": ("beyond_center",),
}

#: What the rows have in common of which one method is the best.
_CONTEST = ("faces", "target", "split", "fill", "budget")


def margins(summary: pl.DataFrame) -> list[Margin]:
    """The best method against random pixels and against the center, for every fill and budget.

    Of each recognizer, face set and split; by target, fill and budget. Random pixels are the
    method ``random`` or, without it, the control ``pixels``. Nothing where fewer than five people
    have both.

    Args:
        summary: From `summarize`.
    """
    leads = []
    for part in summary.sort(_CONTEST).partition_by(_CONTEST, maintain_order=True):
        top = best(part)
        for rival, names in _RIVALS.items():
            name = next((key for key in names if top and top[f"{key}_low"] is not None), None)
            if top and name:
                ends = (top[f"{name}{end}"] for end in ("", "_low", "_high"))
                leads.append(Margin(top, rival, Interval(*ends)))
    return leads


def no_more(leads: Sequence[Margin]) -> list[str]:
    """Sentences on the budgets at which the best method is not shown to beat random pixels.

    Or a blob in the middle. Nothing where it is shown to beat both at every budget.

    Args:
        leads: `margins` of one recognizer, fill and split.
    """
    rivals: dict[str, list[str]] = {}
    for rival in _RIVALS:
        against = [margin for margin in leads if margin.rival == rival]
        budgets = [margin.top["budget"] for margin in against if not margin.shown]
        if budgets:
            tried = [margin.top["budget"] for margin in against]
            rivals.setdefault(_at(budgets, tried), []).append(rival)
    return [
        f"{where}, even the best method is not shown to take more than {' or '.join(names)}."
        for where, names in rivals.items()
    ]


def _at(budgets: Sequence[float], tried: Sequence[float]) -> str:
    """``At 20 % and more``: some of the budgets that were tried, both in order."""
    words = list(map(budget_text, budgets))
    if len(tried) > 1 and len(budgets) == len(tried):
        return f"At every budget ({', '.join(words)})"
    if len(budgets) > 1 and list(budgets) == list(tried)[-len(budgets) :]:
        return f"At {words[0]} and more"
    return f"At {' and '.join(words)}"
