"""Which method is first, and how sure is that? Ranks over resampled identities.

One board for each question: what upsets a recognizer or what it knew (Protocol: fills), own maps or
other recognizers' maps, photos the map came from or held-out ones, exactly k pixels or the
percentile. Methods of one board are ranked on the identities
that all of them have, resampled alike. Of a method with several settings, people are halved again
and again, and on each half stands the setting that is best on the other: no setting is picked on
the people it is reported on, so that many settings are no advantage by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from facefocus.analysis.summary import GUESSING, INCLUSIVE, SKIP, Row, guessing
from facefocus.benchmark.result_columns import COMPETES, RANDOM, with_readings
from facefocus.benchmark.result_slices import Slice, default_slices, photos_in_words
from facefocus.core.text import NOTHING, budget_text, number, percent
from facefocus.evaluation.statistics import (
    FEWEST,
    Interval,
    RankDistribution,
    mean_interval,
    mean_intervals,
    pick_shares,
    rank_distribution,
)
from facefocus.paper.paper_tables import (
    SETTINGS,
    Cell,
    PaperTable,
    TableRow,
    audit_of,
    person_means,
    setting,
)

_OWN = pl.col("source") == pl.col("target")

#: Says in a label how often the setting is the one that is picked.
PICKED = "picked"


@dataclass(frozen=True, eq=False)
class Board:
    """Methods of one board, best mean rank first.

    Attributes:
        title: What is compared, in words.
        reading: What its drops show (Protocol: fills).
        methods: Their names.
        settings: Layer and objective of each that is picked most often, in words, and how often.
        rate: Recognition, mean over the common identities.
        drop: Clean minus that.
        ranks: Ranks by drop over resamples, in the same order.
        rows: The result rows of each, of all settings that are ever picked.
        people: How many identities all methods have.
        lead: Drop of the first less that of the second, of the same identities.
        random: Drop by as many random pixels, of the same identities; None where not run.
        warning: What must be known before a figure is read.
    """

    title: str
    reading: str
    methods: tuple[str, ...]
    settings: tuple[str, ...]
    rate: tuple[Interval, ...]
    drop: tuple[Interval, ...]
    ranks: RankDistribution
    rows: tuple[pl.DataFrame, ...]
    people: int
    lead: Interval
    random: Interval | None
    warning: str | None


def boards(results: pl.DataFrame) -> list[Board]:
    """Every board that the results have two methods for, of each reading, artefact first.

    At the first look's budget and fill.
    """
    if results.is_empty():
        return []
    return [board for shown in default_slices(results) for board in _boards_at(results, shown)]


def _boards_at(results: pl.DataFrame, shown: Slice) -> list[Board]:
    rows = shown.at(with_readings(results), "budget", "fill").filter(
        pl.col("rate").is_not_null(), pl.col("split") != "half"
    )
    leaderboards = []
    for _, part in rows.group_by(_QUESTION, maintain_order=True):
        for own in (True, False):
            asked = part.row(0, named=True)
            title = _title(asked, own, shown)
            board = _board(part, own=own, title=title, policy=asked["on_degenerate"])
            if board is not None:
                leaderboards.append(board)
    return leaderboards


#: What all rows of a board have in common, besides budget and fill.
_QUESTION = ("faces", "on_degenerate", "split", "compare", "threshold_rule", "seed")
#: Those that the title tells only where they are not the usual.
_USUAL = {"on_degenerate": "none", "compare": "clean", "threshold_rule": "eer", "seed": 0}


def _title(asked: Row, own: bool, shown: Slice) -> str:
    maps = "own maps" if own else "maps of other recognizers"
    photos = photos_in_words(asked["split"])
    settings = [
        f", {name} = {asked[name]}" for name, usual in _USUAL.items() if asked[name] != usual
    ]
    return (
        f"{asked['faces']}, {maps}, {photos}, {budget_text(shown.budget)} {shown.filled}"
        + "".join(settings)
    )


def _board(part: pl.DataFrame, *, own: bool, title: str, policy: str) -> Board | None:
    competing = part.filter(COMPETES, _OWN if own else ~_OWN)
    tried = [_Tried.of(part) for part in competing.partition_by("method", maintain_order=True)]
    common = sorted(frozenset.intersection(*(method.people for method in tried))) if tried else []
    if len(tried) < 2 or len(common) < FEWEST:
        return None
    rates, cleans = (
        [method.scores(common, name) for method in tried] for name in ("rate", "clean_rate")
    )
    drops = [clean - rate for clean, rate in zip(cleans, rates, strict=True)]
    ranks = rank_distribution(drops, seed=0)
    order = np.argsort(ranks.mean, kind="stable")
    picks = [pick_shares(drop, seed=0) for drop in drops]
    rate, drop = (
        np.stack([(picks[index] * values[index]).sum(axis=0) for index in order])
        for values in (rates, drops)
    )
    return Board(
        title=title,
        reading=part["reading"][0],
        methods=tuple(tried[index].method for index in order),
        settings=tuple(tried[index].label(picks[index]) for index in order),
        rate=tuple(mean_intervals(rate, share=True)),
        drop=tuple(mean_intervals(drop)),
        ranks=RankDistribution(
            ranks.shares[order], ranks.mean[order], ranks.low[order], ranks.high[order]
        ),
        rows=tuple(tried[index].picked(picks[index], common) for index in order),
        people=len(common),
        lead=mean_interval(drop[0] - drop[1]),
        random=_random(part, common),
        warning=_warning(competing, policy),
    )


def _warning(rows: pl.DataFrame, policy: str) -> str | None:
    if useless := guessing(rows):
        return f"{', '.join(useless)}: {GUESSING}"
    return {"inclusive": INCLUSIVE, "skip": SKIP}.get(policy)


def winner(board: Board) -> str:
    """Who is first, in a sentence; nobody whose drop, or lead, has an interval that includes 0."""
    first, second = (
        f"{board.methods[index]} ({board.settings[index]})"
        if board.settings[index]
        else board.methods[index]
        for index in (0, 1)
    )
    drop, random = board.drop[0], board.random
    if random is not None and random.value >= drop.value:
        return (
            f"no method takes more than as many random pixels, {random.text()}; at most, {first}"
            f" takes {drop.text()}."
        )
    often = percent(float(board.ranks.shares[0, 0]), 0)
    beside = f" {first} is first of {len(board.methods)} in {often} of the resamples."
    beside += "" if random is None else f" As many random pixels take {random.text()}."
    lead = board.lead.text(signed=True)
    if not drop.low > 0:
        words = f"no method is shown to lower recognition: at most, {first} takes {drop.text()}."
    elif not board.lead.low > 0:
        words = (
            f"no winner: {first} takes {drop.text()}, not shown to be more than {second} ({lead})."
        )
    else:
        words = f"{first} lowers recognition most, by {drop.text()}, {lead} more than {second}."
    return f"{words}{beside}"


@dataclass(frozen=True, eq=False)
class _Tried:
    """A method with every setting that was tried on all the people it was tried on."""

    method: str
    settings: tuple[pl.DataFrame, ...]
    people: frozenset[str]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> _Tried:
        # A study repeats settings in its later stages; picking counts what all stages tried.
        once = rows.unique(
            (*SETTINGS, "source", "target", "identity"), keep="last", maintain_order=True
        )
        parts = once.partition_by(SETTINGS, maintain_order=True)
        most = max(part["identity"].n_unique() for part in parts)
        whole = tuple(part for part in parts if part["identity"].n_unique() == most)
        people = frozenset.intersection(*(frozenset(part["identity"]) for part in whole))
        return cls(rows["method"][0], whole, people)

    def scores(self, people: list[str], name: str) -> Float[np.ndarray, "settings people"]:
        """A score of each person under each setting."""
        means = [person_means(part, name) for part in self.settings]
        return np.array([[mean[person] for person in people] for mean in means])

    def label(self, picks: Float[np.ndarray, "settings people"]) -> str:
        """The setting that is picked most often."""
        shares = picks.mean(axis=1)
        most = int(np.argmax(shares))
        words = setting(self.settings[most])
        if len(shares) == 1:
            return words
        return f"{words} ({PICKED} {percent(float(shares[most]), 0)}, of {len(shares)})".lstrip()

    def picked(
        self, picks: Float[np.ndarray, "settings people"], people: list[str]
    ) -> pl.DataFrame:
        """The result rows of all settings that are ever picked."""
        used = [part for part, shares in zip(self.settings, picks, strict=True) if shares.any()]
        return pl.concat(used).filter(pl.col("identity").is_in(people))


def _last_stage(rows: pl.DataFrame) -> pl.DataFrame:
    """Of several experiments the last by name."""
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
    rows = [_row(board, index) for index in range(len(board.methods))]
    notes = [
        f"{board.people} identities that all have. Rank 1 is the largest drop: mean and 95 % "
        "interval of its rank when identities are resampled; 'First' is how often it is the first.",
    ]
    targets = sorted({name for rows in board.rows for name in rows["target"].unique()})
    if len(targets) > 1:
        notes.append(f"Means over {len(targets)} recognizers: {', '.join(targets)}.")
    if board.reading == "artefact":
        notes.append("Artefact: this shows what upsets a recognizer, not what it knew.")
    if any(f"({PICKED} " in setting for setting in board.settings):
        notes.append(
            "A method with several settings stands, on each half of the people, with the setting"
            " that is best on the other half."
        )
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


def _row(board: Board, index: int) -> TableRow:
    ranks = board.ranks
    rank = f"{number(ranks.mean[index], 1)} [{ranks.low[index]:g}, {ranks.high[index]:g}]"
    cells = (
        Cell(board.rate[index], bold=index == 0),
        Cell(board.drop[index]),
        Cell(word=rank),
        Cell(word=percent(float(ranks.shares[index, 0]), 0)),
    )
    labels = (board.methods[index], board.settings[index] or NOTHING)
    return TableRow(labels, cells, audit_of([board.rows[index]]))


def board_tables(results: pl.DataFrame) -> Iterator[PaperTable]:
    """All boards of some results as tables."""
    return map(board_table, boards(results))
