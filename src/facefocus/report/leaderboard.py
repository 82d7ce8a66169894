"""Which method is first, and how sure is that? Ranks over resampled identities.

One board for each question: own maps or other recognizers' maps, photos the map came from or
held-out ones, exactly k pixels or the percentile. Methods of one board are ranked on the identities
that all of them have, resampled alike; a method with several settings stands with its best one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from facefocus.evaluation.statistics import (
    FEWEST,
    Interval,
    RankDistribution,
    mean_interval,
    mean_intervals,
    rank_distribution,
)
from facefocus.report.paper import (
    Cell,
    PaperTable,
    TableRow,
    audit_of,
    person_means,
    setting,
    settle,
)
from facefocus.report.summary import COMPETES, INCLUSIVE, RANDOM, SKIP, Row
from facefocus.report.tables import Slice, default_slice
from facefocus.text import NOTHING, budget_text, number, percent

_OWN = pl.col("source") == pl.col("target")


@dataclass(frozen=True, eq=False)
class Board:
    """Methods of one board, best mean rank first.

    Attributes:
        title: What is compared, in words.
        methods: Their names.
        settings: Layer and objective of each, in words.
        rate: Recognition, mean over the common identities.
        drop: Clean minus that.
        ranks: Ranks by drop over resamples, in the same order.
        rows: The result rows of each.
        people: How many identities all methods have.
        random: Drop by as many random pixels, of the same identities; None where not run.
        warning: What must be known before a figure is read.
    """

    title: str
    methods: tuple[str, ...]
    settings: tuple[str, ...]
    rate: tuple[Interval, ...]
    drop: tuple[Interval, ...]
    ranks: RankDistribution
    rows: tuple[pl.DataFrame, ...]
    people: int
    random: Interval | None
    warning: str | None


def boards(results: pl.DataFrame) -> list[Board]:
    """Every board that the results have two methods for, at the first look's budget and fill."""
    if results.is_empty():
        return []
    shown = default_slice(results)
    rows = shown.at(results, "budget", "fill").filter(
        pl.col("rate").is_not_null(), pl.col("split") != "half"
    )
    found = []
    for _, part in rows.group_by(_QUESTION, maintain_order=True):
        for own in (True, False):
            asked = part.row(0, named=True)
            title = _title(asked, own, shown)
            board = _board(part, own=own, title=title, policy=asked["on_degenerate"])
            if board is not None:
                found.append(board)
    return found


#: What all rows of a board have in common, besides budget and fill.
_QUESTION = ("faces", "on_degenerate", "split", "compare", "threshold_rule", "seed")
#: Those that the title tells only where they are not the usual.
_USUAL = {"on_degenerate": "none", "compare": "clean", "threshold_rule": "eer", "seed": 0}


def _title(asked: Row, own: bool, shown: Slice) -> str:
    maps = "own maps" if own else "maps of other recognizers"
    photos = "photos the map came from" if asked["split"] == "same" else "held-out photos"
    told = [f", {name} = {asked[name]}" for name, usual in _USUAL.items() if asked[name] != usual]
    return (
        f"{asked['faces']}, {maps}, {photos}, {budget_text(shown.budget)} {shown.fill}"
        + "".join(told)
    )


def _board(part: pl.DataFrame, *, own: bool, title: str, policy: str) -> Board | None:
    competing = part.filter(COMPETES, _OWN if own else ~_OWN)
    methods = competing["method"].unique(maintain_order=True).to_list()
    rows = [settle(_last_stage(competing.filter(pl.col("method") == one))) for one in methods]
    scores = [[person_means(one, name) for name in ("rate", "clean_rate")] for one in rows]
    common = sorted(set.intersection(*(set(rate) for rate, _ in scores))) if scores else []
    if len(methods) < 2 or len(common) < FEWEST:
        return None
    rates = np.array([[rate[name] for name in common] for rate, _ in scores])
    drops = np.array([[clean[name] for name in common] for _, clean in scores]) - rates
    ranks = rank_distribution(list(drops[:, None]), seed=0)
    order = np.argsort(ranks.mean, kind="stable")
    return Board(
        title=title,
        methods=tuple(methods[place] for place in order),
        settings=tuple(setting(rows[place]) for place in order),
        rate=tuple(mean_intervals(rates[order], share=True)),
        drop=tuple(mean_intervals(drops[order])),
        ranks=RankDistribution(
            ranks.shares[order], ranks.mean[order], ranks.low[order], ranks.high[order]
        ),
        rows=tuple(rows[place].filter(pl.col("identity").is_in(common)) for place in order),
        people=len(common),
        random=_random(part, common),
        warning={"inclusive": INCLUSIVE, "skip": SKIP}.get(policy),
    )


def _last_stage(rows: pl.DataFrame) -> pl.DataFrame:
    """Of several experiments the last by name: rq4 has the findings of rq2 and rq3 to go by."""
    return rows.filter(pl.col("experiment") == rows["experiment"].max()) if rows.height else rows


def _random(part: pl.DataFrame, common: list[str]) -> Interval | None:
    """The drop by random pixels, mean over the targets."""
    rows = _last_stage(part.filter(pl.col("method") == RANDOM, pl.col("control").is_null()))
    means = rows.group_by("identity").agg((pl.col("clean_rate") - pl.col("rate")).mean())
    drops = dict(means.rows())
    if not set(common) <= set(drops):
        return None
    return mean_interval(np.array([drops[name] for name in common]))


def board_table(board: Board) -> PaperTable:
    """A board in the form of the paper's tables, for every rendering of these."""
    columns = ("Recognition", "Drop", "Rank", "First")
    rows = [_row(board, place) for place in range(len(board.methods))]
    notes = [
        f"{board.people} identities that all have. Rank 1 is the largest drop: mean and 95 % "
        "interval of its rank when identities are resampled; 'First' is how often it is the first.",
    ]
    if board.random is not None:
        notes.append(f"Random pixels of the same number take {board.random.text()}.")
    return PaperTable(
        number=0,
        caption=f"Leaderboard: {board.title}",
        labels=("Method", "Setting"),
        span="",
        columns=columns,
        rows=tuple(rows),
        warnings=() if board.warning is None else (board.warning,),
        notes=tuple(notes),
    )


def _row(board: Board, place: int) -> TableRow:
    ranks = board.ranks
    rank = f"{number(ranks.mean[place], 1)} [{ranks.low[place]:g}, {ranks.high[place]:g}]"
    cells = (
        Cell(board.rate[place], bold=place == 0),
        Cell(board.drop[place]),
        Cell(word=rank),
        Cell(word=percent(float(ranks.shares[place, 0]), 0)),
    )
    labels = (board.methods[place], board.settings[place] or NOTHING)
    return TableRow(labels, cells, audit_of([board.rows[place]]))


def board_tables(results: pl.DataFrame) -> Iterator[PaperTable]:
    """All boards of some results as tables."""
    return map(board_table, boards(results))
