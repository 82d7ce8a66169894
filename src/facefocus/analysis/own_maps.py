"""Recognition under the masks of own and of others' maps, by photos, budget and fill.

Protocol: controls, held-out-photos. The figures of ``facefocus report --what information``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from facefocus.analysis.labels import place_label, varying
from facefocus.analysis.summary import Row, values
from facefocus.benchmark.result_columns import (
    COMPETES,
    CONFIGURATION,
    HELDOUT_ORACLE,
    MAP,
    ORACLE,
    RANDOM,
    SHARED_MASK,
)
from facefocus.evaluation.statistics import (
    FEWEST,
    LEVEL,
    Interval,
    holm,
    mean_intervals,
    paired_p_values,
    pick_shares,
)
from facefocus.occlusion.fills import FILLS, reading

#: Photos that a mask is tried on, by split.
PHOTOS = {"same": "the photos that the map came from", "heldout": "held-out photos"}

SHORT = {"same": "same", "heldout": "held-out"}

#: Whose map chooses the pixels, by control.
WHOSE = {
    None: "Own",
    "other": "Another person's",
    "population": "Everybody's",
    "blend": "Blend",
}

#: What tells one method from another: all that tells maps apart but source and layer.
_METHOD = tuple(name for name in MAP if name not in ("source", "layer", "layer_calls"))

#: Methods that search masks instead of making maps.
_SEARCHES = (ORACLE, HELDOUT_ORACLE)

Rates = Float[np.ndarray, "maps people"]
Matrix = Float[np.ndarray, "configurations people"]


class Setting(NamedTuple):
    """Photos, budget and fill with which a mask is tried."""

    split: str
    budget: float
    fill: str


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of an experiment as matrices [configurations, people], NaN where there is none.

    Attributes:
        rows: The configurations, in order.
        rate: Recognition under the mask.
        clean: Recognition of the same photos, nothing hidden.
        photos: How many photos of a person were tried, of held-out ones both halves together.
    """

    rows: pl.DataFrame
    rate: Matrix
    clean: Matrix
    photos: Matrix

    @classmethod
    def of(cls, results: pl.DataFrame) -> Scores:
        """The scores in some result rows."""
        rows = results.select(CONFIGURATION).unique(maintain_order=True)
        return cls(rows, *(values(results, rows, n) for n in ("rate", "clean_rate", "images")))

    @cached_property
    def _codes(self) -> dict[tuple[Any, ...], int]:
        names = (*MAP, "target", "control", *Setting._fields)
        return {key: code for code, key in enumerate(self.rows.select(names).rows())}

    @cached_property
    def budgets(self) -> list[float]:
        """In ascending order."""
        return list(self.rows["budget"].unique().sort())

    @cached_property
    def sources(self) -> list[str]:
        """The recognizers that maps come from."""
        sources = self.rows.filter(COMPETES)["source"].unique(maintain_order=True)
        return list(dict.fromkeys(name for source in sources for name in source.split("+")))

    @cached_property
    def targets(self) -> list[str]:
        """The recognizers that masks were tried on; those that maps come from first."""
        targets = self.rows["target"].unique(maintain_order=True)
        return sorted(targets, key=lambda name: name not in self.sources)

    @cached_property
    def splits(self) -> list[str]:
        """Those of `PHOTOS` that were tried."""
        return [split for split in PHOTOS if (self.rows["split"] == split).any()]

    @property
    def unseen(self) -> str:
        """Held-out photos, or the others where none were held out."""
        return self.splits[-1]

    @cached_property
    def gaps(self) -> list[str]:
        """The fills that see the mask; the first one answers."""
        return self._read("information", "inpaint")

    @cached_property
    def readings(self) -> list[str]:
        """One fill of each reading; the one that sees no mask first, where there is one."""
        return [*self._read("artefact", "black")[:1], self.gaps[0]]

    @cached_property
    def fills(self) -> list[str]:
        """`readings`, and the other fills that see the mask."""
        return [*self.readings, *self.gaps[1:]]

    def _read(self, as_what: str, first: str) -> list[str]:
        fills = [name for name in self.rows["fill"].unique(maintain_order=True) if name in FILLS]
        return sorted((n for n in fills if reading(n) == as_what), key=lambda name: name != first)

    @cached_property
    def controls(self) -> list[str | None]:
        """Those of `WHOSE` that were tried."""
        return [control for control in WHOSE if control in self.rows["control"].unique().to_list()]

    @cached_property
    def _varying(self) -> list[str]:
        names = varying(self.rows.filter(pl.col("control").is_null()))
        return [name for name in names if name in MAP and name != "source"]

    def label(self, row: Row, target: str | None = None) -> str:
        """What a map is called; its source where that is several, or is not `target`."""
        source = "" if row["method"] in _SEARCHES else row["source"] or ""
        name = place_label(row, self._varying)
        if "+" in source or (source and target and source != target):
            name += f", from {source.replace('+', ' + ')}"
        return name

    def maps(self, target: str) -> list[Row]:
        """The maps of a recognizer; of one that none come from, those of the first source.

        Maps of several recognizers together count for each of them.
        """
        return self._made_on(target, pl.col("method") != SHARED_MASK)

    def _made_on(self, target: str, which: pl.Expr) -> list[Row]:
        source = target if target in self.sources else self.sources[0]
        rows = _distinct(self.rows.filter(COMPETES & which))
        return [row for row in rows if source in row["source"].split("+")]

    def blind(self, target: str) -> list[Row]:
        """Maps that see no photo of the person, random pixels first, shared masks last.

        Shared masks are those of a recognizer, as `maps` are.
        """
        rows = _distinct(self.rows.filter(pl.col("source").is_null()))
        rows.sort(key=lambda row: row["method"] != RANDOM)
        return [*rows, *self._made_on(target, pl.col("method") == SHARED_MASK)]

    def oracles(self, target: str) -> list[Row]:
        """The searches on a recognizer: bounds, no methods."""
        searches = pl.col("method").is_in(_SEARCHES)
        return _distinct(self.rows.filter(searches & (pl.col("source") == target)))

    def rates(
        self, maps: Sequence[Row], target: str, setting: Setting, control: str | None = None
    ) -> Rates:
        """Recognition under the masks of some maps, or of what a control hides instead."""
        return self._of(self.rate, maps, target, setting, control)

    def drops(self, maps: Sequence[Row], target: str, setting: Setting) -> Rates:
        """Recognition without a mask minus recognition under the maps' own masks."""
        return self._of(self.clean - self.rate, maps, target, setting, None)

    def _of(
        self,
        matrix: Matrix,
        maps: Sequence[Row],
        target: str,
        setting: Setting,
        control: str | None,
    ) -> Rates:
        rates = np.full((len(maps), matrix.shape[1]), np.nan)
        for index, row in enumerate(maps):
            code = self._codes.get((*(row[name] for name in MAP), target, control, *setting))
            if code is not None:
                rates[index] = matrix[code]
        return rates

    def of_people(self, matrix: Matrix, target: str, split: str) -> Float[np.ndarray, " people"]:
        """What no mask changes, of each person: `clean` or `photos`, on a recognizer and split."""
        rows = (self.rows["target"] == target) & (self.rows["split"] == split)
        return np.asarray(np.fmax.reduce(matrix[rows.to_numpy()], axis=0))

    def one_layer_each(self, maps: Sequence[Row], target: str) -> list[Row]:
        """Of each method and source the layer that hides best, on average over budgets.

        By the fill that answers, on the photos that the maps came from: held-out photos choose
        nothing.
        """
        tried = [
            self.rates(maps, target, Setting(self.splits[0], budget, self.gaps[0]))
            for budget in self.budgets
        ]
        left = np.mean([[row.value for row in means(rates)] for rates in tried], axis=0)
        best: dict[tuple[Any, ...], int] = {}
        for index, row in enumerate(maps):
            key = (row["source"], *(row[name] for name in _METHOD))
            if key not in best or left[index] < left[best[key]]:
                best[key] = index
        return [maps[index] for index in best.values()]


def _distinct(rows: pl.DataFrame) -> list[Row]:
    """The maps of some configurations."""
    return rows.unique(MAP, keep="first", maintain_order=True).to_dicts()


def means(rates: Rates, *, share: bool = True) -> list[Interval]:
    """The mean of every row over people, with its interval."""
    return list(mean_intervals(rates, share=share))


def first(rates: Rates) -> tuple[int | None, int]:
    """The row of lowest mean, None without any score, and how many it is not shown to be ahead of.

    By paired tests, corrected by Holm over all other rows.
    """
    left = np.array([interval.value for interval in means(rates)])
    if not np.isfinite(left).any():
        return None, 0
    top = int(np.nanargmin(left))
    rivals = tried(np.delete(rates, top, axis=0) - rates[top])
    tested = paired_p_values(rivals)
    ahead = corrected(np.maximum(tested.t, tested.wilcoxon).tolist())
    return top, len(rivals) - sum(ahead)


# --- own against everybody's ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Contest:
    """The best own map against the best map that knows nothing of the person.

    On both sides the best map is picked on the half of the people that a person is not in.

    Attributes:
        own: Recognition of each person [people]; NaN where a candidate has no score.
        everybody: Likewise.
    """

    own: Float[np.ndarray, " people"]
    everybody: Float[np.ndarray, " people"]

    @property
    def difference(self) -> Float[np.ndarray, " people"]:
        """Own minus everybody's: below zero, own maps hide better."""
        return np.asarray(self.own - self.everybody)

    @property
    def p(self) -> float:
        """The larger p-value of the t test and Wilcoxon's, uncorrected; 1 without people."""
        tested = paired_p_values(self.difference[None])
        return float(np.nan_to_num(max(tested.t[0], tested.wilcoxon[0]), nan=1.0))


def contest(scores: Scores, target: str, setting: Setting) -> Contest | None:
    """Own maps, alone or blended, against mean maps of others and what sees no photo of theirs.

    None where no mean map was tried, or nobody has a score under all of them.
    """
    maps = scores.maps(target)
    flat = [row for row in scores.blind(target) if row["method"] != RANDOM]
    population = tried(scores.rates(maps, target, setting, "population"))
    own = [scores.rates(maps, target, setting, control) for control in (None, "blend")]
    sides = [
        tried(np.concatenate(own)),
        np.concatenate([population, tried(scores.rates(flat, target, setting))]),
    ]
    people = np.isfinite(np.concatenate(sides)).all(axis=0)
    if not len(population) or not people.any():
        return None
    rates = np.full((2, len(people)), np.nan)
    for picked, side in zip(rates, sides, strict=True):
        whole = side[:, people]
        picked[people] = (pick_shares(-whole, seed=0) * whole).sum(axis=0)
    return Contest(*rates)


def tried(rates: Rates) -> Float[np.ndarray, "tried people"]:
    """The rows that have any score."""
    return np.asarray(rates[np.isfinite(rates).any(axis=1)])


def corrected(p_values: Sequence[float]) -> list[bool]:
    """Which of several differences are there, corrected by Holm."""
    return [p < 1 - LEVEL for p in holm(p_values)]


@dataclass(frozen=True, eq=False)
class Group:
    """People whose maps were made of equally many photos.

    Attributes:
        photos: Of how many; of an odd number of photos the smaller half.
        budget: The share of pixels that is hidden.
        difference: Own minus everybody's recognition of each [people].
        ahead: Whether own maps hide better, corrected by Holm over all groups and budgets.
    """

    photos: int
    budget: float
    difference: Float[np.ndarray, " people"]
    ahead: bool


def groups(scores: Scores, target: str, fill: str) -> list[Group]:
    """The people of `contest` by the photos of their maps; groups of five people and more."""
    photos = scores.of_people(scores.photos, target, "heldout") // 2
    parts: list[tuple[int, float, np.ndarray]] = []
    for budget in scores.budgets:
        outcome = contest(scores, target, Setting("heldout", budget, fill))
        known = np.isfinite(outcome.difference) if outcome else np.zeros(len(photos), dtype=bool)
        for count in np.unique(photos[known]):
            rows = known & (photos == count)
            if outcome and rows.sum() >= FEWEST:
                parts.append((int(count), budget, outcome.difference[rows]))
    tested = [paired_p_values(part[None]) for *_, part in parts]
    sure = corrected([float(max(test.t[0], test.wilcoxon[0])) for test in tested])
    return [
        Group(*part, ahead=known and bool(part[2].mean() < 0))
        for part, known in zip(parts, sure, strict=True)
    ]
