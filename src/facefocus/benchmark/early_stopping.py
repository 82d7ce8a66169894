"""Results that grow block by block, and when they are certain (Protocol: early-stopping).

People are scored in rounds of a seeded order. After each the run's tables are written, and
``stop.json`` says of how many people they are, which place or interval is certain, and which maps
are made no more. Every decision follows from the tables alone: not from what came first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from facefocus.benchmark.collect import map_columns
from facefocus.benchmark.experiment import Stop
from facefocus.benchmark.people import rounds
from facefocus.benchmark.plan import Made
from facefocus.benchmark.result_columns import COMPETES, MAP
from facefocus.benchmark.result_slices import default_slices
from facefocus.benchmark.session import Session
from facefocus.core.files import write_atomically
from facefocus.evaluation.confidence_sequences import first_place, mean_bounds

#: Name in a run folder.
STOP = "stop.json"

#: With this probability, at most, anything that is said to be certain is wrong.
LEVEL = 0.05

#: What names a row of a slice that competes: its map, and the rule for people without one.
_COMPETITOR = (*MAP, "on_degenerate")


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is certain in one slice on one target.

    Attributes:
        about: Target, budget, fill, reading and split.
        people: Who was scored, of how many.
        of: See `people`.
        methods: All that compete.
        open: Those that are not certain.
        first: The method that is certainly first, ties aside; None where that is open.
        intervals: Of each method's recognition, where its width counts.
    """

    about: dict[str, Any]
    people: int
    of: int
    methods: tuple[dict[str, Any], ...]
    open: tuple[dict[str, Any], ...]
    first: dict[str, Any] | None = None
    intervals: tuple[tuple[float, float], ...] = ()

    @property
    def certain(self) -> bool:
        """Whether nothing is open."""
        return not self.open


def verdicts(rows: pl.DataFrame, session: Session) -> list[Verdict]:
    """What the result rows of the people so far make certain, of each slice and target.

    Args:
        rows: Result rows of the first rounds.
        session: That has the plan of everybody.
    """
    stop = session.experiment.stop
    assert stop is not None
    drawn = [person.name for person in session.plan.people]
    order = [name for names in rounds(session.experiment, drawn) for name in names]
    slices = default_slices(rows)
    parts = [
        part
        for shown in slices
        for part in shown.of(rows).filter(COMPETES).partition_by("target", maintain_order=True)
    ]
    return [_verdict(stop, part, order, session, LEVEL / len(parts)) for part in parts]


def _verdict(
    stop: Stop, rows: pl.DataFrame, order: Sequence[str], session: Session, level: float
) -> Verdict:
    """The verdict of one slice on one target; `level` is its share of the whole."""
    shown = ("target", "budget", "fill", "reading", "split")
    about = rows.select(shown).row(0, named=True)
    inside = {
        person.name
        for block in session.plan.blocks
        if block.split == about["split"]
        for person in block.people
    }
    order = [name for name in order if name in inside]
    parts = rows.partition_by(_COMPETITOR, maintain_order=True)
    methods = tuple(part.select(_COMPETITOR).row(0, named=True) for part in parts)
    rates = np.stack([_rates(part, order) for part in parts])
    people = int((~np.isnan(rates)).sum(axis=1).max())
    rates = rates[:, :people]
    counts = about, people, len(order), methods
    if stop.width is not None:
        low, high = mean_bounds(rates, len(order), level / len(methods))
        wide = np.flatnonzero(high - low > stop.width)
        ends = tuple(zip(low.tolist(), high.tolist(), strict=True))
        return Verdict(*counts, tuple(methods[row] for row in wide), intervals=ends)
    # The larger the drop the better: the lower what is still recognized.
    standing = first_place(1 - rates, len(order), level)
    if standing.first is not None:
        return Verdict(*counts, (), methods[standing.first])
    return Verdict(*counts, tuple(methods[row] for row in np.flatnonzero(~standing.beaten)))


def _rates(rows: pl.DataFrame, order: Sequence[str]) -> Float[np.ndarray, " people"]:
    """Recognition of each person in the order of the draw; NaN for who is not scored.

    Of a person without a map nothing is hidden, so that nothing is lost.
    """
    rate = pl.coalesce("rate", "clean_rate").cast(pl.Float64)
    known = dict(rows.select("identity", rate).iter_rows())
    return np.array([known.get(name, np.nan) for name in order])


class Rounds:
    """The rounds of a run, one after the other; a single one without ``[stop]``.

    Attributes:
        done: Whether there is no round left.

    Example:
        rounds = Rounds(session, run)
        while (part := rounds.next()) is not None:
            ...  # execute the session `part`, and write its tables
            rounds.look()
    """

    def __init__(self, session: Session, run: Path) -> None:
        self._session, self._run = session, run
        self._count = 1 + max(block.round for block in session.plan.blocks)
        self._left_out: list[list[dict[str, Any]]] = [[]]
        self.done = False
        self._first: dict[int, Verdict] = {}

    def next(self) -> Session | None:
        """The session of all rounds up to the next one; None after the last."""
        if self.done:
            return None
        if self._session.experiment.stop is None:
            return self._session
        return begun(self._session, self._left_out)

    def look(self) -> None:
        """Read the tables of the round, say what they make certain, and choose the next round."""
        stop = self._session.experiment.stop
        if stop is None:
            (self._run / STOP).unlink(missing_ok=True)
            self.done = True
            return
        rows = pl.read_parquet((self._run / "results.parquet").read_bytes())
        current = [] if stop.when == "never" else verdicts(rows, self._session)
        # What was once certain stays so.
        self._first |= {n: v for n, v in enumerate(current) if v.certain and n not in self._first}
        current = [self._first.get(number, verdict) for number, verdict in enumerate(current)]
        everyone = len(self._left_out) == self._count
        self.done = everyone or (stop.when != "never" and all(v.certain for v in current))
        record = {
            **stop.model_dump(),
            "level": LEVEL,
            "people": rows["identity"].n_unique(),
            "of": len(self._session.plan.people),
            "finished": self.done,
            "verdicts": [_plain(verdict) for verdict in current],
            "left_out": self._left_out,
        }
        text = json.dumps(record, indent=1) + "\n"
        write_atomically(self._run / STOP, lambda file: file.write(text.encode()))
        self._left_out = [*self._left_out, _certain_maps(current)]


def _plain(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON has it."""
    return {**vars(verdict), "certain": verdict.certain}


def _certain_maps(current: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The maps that no open verdict needs, of those that any verdict is about."""

    def maps(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
        return (tuple(row[name] for name in MAP) for row in rows)

    needed = {key for verdict in current for key in maps(verdict.open)}
    named = dict.fromkeys(key for verdict in current for key in maps(verdict.methods))
    return [dict(zip(MAP, key, strict=True)) for key in named if key not in needed]


def begun(session: Session, left_out: Sequence[Sequence[Mapping[str, Any]]]) -> Session:
    """A session of the first rounds of a run.

    Args:
        session: That has the plan of everybody.
        left_out: Of each round, the columns `MAP` of the maps that are not made in it.
    """
    shape = session.experiment.occlusion.shape
    made: dict[tuple[Any, ...], set[Made]] = {}
    for outputs in session.plan.planned["maps"].values():
        for output in outputs:
            columns = tuple(map_columns(output, shape).values())
            made.setdefault(columns, set()).add((output.sources, output.spec))
    return session.begun(
        [
            {map_spec for row in rows for map_spec in made[tuple(row[name] for name in MAP)]}
            for rows in left_out
        ]
    )


def read_stop(run: Path) -> dict[str, Any] | None:
    """What ``stop.json`` of a run folder says; None without ``[stop]``."""
    try:
        return dict(json.loads((run / STOP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
