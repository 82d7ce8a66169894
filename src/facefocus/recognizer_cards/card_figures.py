"""The figures of a card (Protocol: recognizer-card): pure functions of scores and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Shaped

from facefocus.evaluation.part_shares import PartShare, part_shares
from facefocus.evaluation.statistics import (
    LEVEL,
    Interval,
    holm,
    mean_interval,
    paired_p_values,
)
from facefocus.evaluation.strata import FEWEST_COMPARED, Stratum, difference_p
from facefocus.recognizer_cards.card_conditions import Condition

#: With fewer people, figures are given and nothing is claimed.
FEWEST_PEOPLE = FEWEST_COMPARED

NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Rate:
    """A true match rate at one threshold.

    Attributes:
        tmr: Macro-average over people.
        change: Against clean photos, over the same people; NaN for clean photos.
        p_value: That there is a change, Holm's correction over the table; NaN for none.
    """

    tmr: Interval
    change: Interval
    p_value: float

    @property
    def shown(self) -> bool:
        """Whether a change is shown: its interval is on one side of 0, and its p-value small."""
        apart = self.change.low > 0 or self.change.high < 0
        return bool(apart and self.p_value < 1 - LEVEL)


@dataclass(frozen=True)
class ConditionRow:
    """One condition of a table.

    Attributes:
        condition: What became of the photos.
        rates: By the threshold's rule.
        fmr: At the first rule's threshold; NaN where it was not measured.
    """

    condition: Condition
    rates: Mapping[str, Rate]
    fmr: Interval


@dataclass(frozen=True)
class StratumRow:
    """One group of photos.

    Attributes:
        stratum: Which photos.
        people: Who has a mated pair whose first photo is in it.
        photos: The photos of the card in it.
        rates: TMR by the threshold's rule; `Rate.change` against the people's other photos, or
            other people.
        fmr: At the first rule's threshold, pairs of two photos in the stratum.
        face_share: Share of the map inside the face, of people whose photos are all in it.
    """

    stratum: Stratum
    people: int
    photos: int
    rates: Mapping[str, Rate]
    fmr: Interval
    face_share: Interval


@dataclass(frozen=True)
class MapFigures:
    """What the maps of all people say.

    Attributes:
        people: Who has a map.
        without: Who has none: all of their pair maps are flat.
        population: Their mean map [h, w], each scaled to [0, 1].
        shares: In every part.
        half_area: Share of the picture that holds half of a map; 0.5 for a flat one.
        own, others: Correlation of a map of half of a person's photos with that of the other
            half, and with those of other people.
        personal: Their difference; NaN where too few people have two halves.
        halved: Who has two halves.
    """

    people: int
    without: int
    population: Float64[np.ndarray, "h w"]
    shares: tuple[PartShare, ...]
    half_area: Interval
    own: Interval
    others: Interval
    personal: Interval
    halved: int


def person_rates(
    scores: Float[np.ndarray, " p"], owners: Int[np.ndarray, " p"], threshold: float
) -> Float64[np.ndarray, " people"]:
    """Share of each person's pairs at or above the threshold; owners are numbered from 0.

    Example:
        >>> person_rates(np.array([0.1, 0.9, 0.8]), np.array([0, 0, 1]), 0.5).tolist()
        [0.5, 1.0]
    """
    matched = np.bincount(owners, scores >= threshold)
    return np.asarray(matched / np.bincount(owners))


def condition_rows(
    conditions: Sequence[Condition],
    mated: Float[np.ndarray, "conditions p"],
    owners: Int[np.ndarray, " p"],
    thresholds: Mapping[str, float],
    non_mated: Float[np.ndarray, "conditions k"] | None = None,
    impostors: Int[np.ndarray, " k"] | None = None,
) -> list[ConditionRow]:
    """A row for each condition, the first of which is that of clean photos.

    Args:
        conditions: In the order of the table.
        mated: Scores of mated pairs.
        owners: Whose pair each is, numbered from 0.
        thresholds: By rule.
        non_mated: Scores of non-mated pairs; None where none were scored.
        impostors: Whose first photo each of these pairs has.
    """
    rates = {
        rule: np.stack([person_rates(row, owners, level) for row in mated])
        for rule, level in thresholds.items()
    }
    changes = {rule: rows[1:] - rows[0] for rule, rows in rates.items()}
    p_values = _corrected(np.concatenate(list(changes.values())))
    by_rule = dict(zip(changes, np.split(p_values, len(changes)), strict=True))
    level = next(iter(thresholds.values()))
    rows = []
    for number, condition in enumerate(conditions):
        tmr = {
            rule: Rate(
                mean_interval(people[number], share=True),
                mean_interval(changes[rule][number - 1]) if number else NOTHING,
                float(by_rule[rule][number - 1]) if number else float("nan"),
            )
            for rule, people in rates.items()
        }
        fmr = NOTHING
        if non_mated is not None and impostors is not None:
            fmr = mean_interval(person_rates(non_mated[number], impostors, level), share=True)
        rows.append(ConditionRow(condition, tmr, fmr))
    return rows


def _corrected(differences: Float[np.ndarray, "rows people"]) -> Float64[np.ndarray, " rows"]:
    """Paired p-values (the larger of both tests), by Holm; NaN with too few people."""
    if differences.shape[1] < FEWEST_PEOPLE or not len(differences):
        return np.full(len(differences), np.nan)
    tested = paired_p_values(differences)
    return np.array(holm(np.maximum(tested.t, tested.wilcoxon).tolist()))


def stratum_rows(
    strata: Sequence[Stratum],
    names: Sequence[str],
    pairs: Int[np.ndarray, "p 2"],
    scores: Float[np.ndarray, " p"],
    owners: Int[np.ndarray, " p"],
    thresholds: Mapping[str, float],
    face_shares: Mapping[str, float],
    strangers: tuple[Int[np.ndarray, "k 2"], Float[np.ndarray, " k"], Int[np.ndarray, " k"]]
    | None = None,
) -> list[StratumRow]:
    """A row for each stratum in which the card has mated pairs.

    A pair is in the stratum of its first photo. P-values of all rates of all strata are corrected
    together by Holm.

    Args:
        strata: Groups of photos.
        names: Of the people by number.
        pairs: Rows of the mated pairs.
        scores: Of clean photos.
        owners: Whose each pair is.
        thresholds: By rule.
        face_shares: Share of the map inside the face, by person.
        strangers: Non-mated pairs, their scores, and whose their first photos are.
    """
    rows, tested = [], []
    photos_in_card = np.unique(pairs[:, 0])
    level = next(iter(thresholds.values()))
    for stratum in strata:
        inside = stratum.photos[pairs[:, 0]]
        photos = int(stratum.photos[photos_in_card].sum())
        if not inside.any():
            continue
        rates = {}
        for rule, threshold in thresholds.items():
            sides = [_by_person(scores, owners, names, threshold, s) for s in (inside, ~inside)]
            change, p_value = _against(*sides)
            own = mean_interval(np.array(list(sides[0].values())), share=True)
            rates[rule] = Rate(own, change, p_value)
            tested.append(p_value)
        wholly = {
            names[owner]
            for owner in np.unique(owners)
            if inside[owners == owner].all() and names[owner] in face_shares
        }
        shares = np.array([face_shares[name] for name in sorted(wholly)])
        rows.append(
            StratumRow(
                stratum,
                len(np.unique(owners[inside])),
                photos,
                rates,
                _stratum_fmr(stratum.photos, strangers, level),
                mean_interval(shares, share=True) if len(shares) else NOTHING,
            )
        )
    return _holm_over(rows, tested)


def _by_person(
    scores: np.ndarray,
    owners: np.ndarray,
    names: Sequence[str],
    threshold: float,
    chosen: Bool[np.ndarray, " p"],
) -> dict[str, float]:
    own = owners[chosen]
    return {
        names[owner]: float((scores[chosen][own == owner] >= threshold).mean())
        for owner in np.unique(own)
    }


def _against(inside: Mapping[str, float], outside: Mapping[str, float]) -> tuple[Interval, float]:
    """Difference of those inside and the others, and its p-value; as `difference_p`."""
    p_value = difference_p(inside, outside)
    if np.isnan(p_value):
        return NOTHING, p_value
    both = sorted(set(inside) & set(outside))
    if both:
        return mean_interval(np.array([inside[n] - outside[n] for n in both])), p_value
    first, second = (np.array(list(side.values())) for side in (inside, outside))
    a, b = mean_interval(first, share=True), mean_interval(second, share=True)
    # From the intervals of both sides: squares are added (Newcombe 1998).
    value = a.value - b.value
    low = value - float(np.hypot(a.value - a.low, b.high - b.value))
    high = value + float(np.hypot(a.high - a.value, b.value - b.low))
    return Interval(value, low, high), p_value


def _stratum_fmr(
    photos: np.ndarray,
    strangers: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    level: float,
) -> Interval:
    if strangers is None:
        return NOTHING
    pairs, scores, owners = strangers
    inside = photos[pairs].all(axis=1)
    if not inside.any():
        return NOTHING
    _, numbers = np.unique(owners[inside], return_inverse=True)
    return mean_interval(person_rates(scores[inside], numbers, level), share=True)


def _holm_over(rows: list[StratumRow], tested: list[float]) -> list[StratumRow]:
    known = [p for p in tested if not np.isnan(p)]
    corrected = iter(holm(known))
    made = []
    for row in rows:
        rates = {
            rule: Rate(rate.tmr, rate.change, next(corrected))
            if not np.isnan(rate.p_value)
            else rate
            for rule, rate in row.rates.items()
        }
        made.append(StratumRow(row.stratum, row.people, row.photos, rates, row.fmr, row.face_share))
    return made


def half_area(values: Float[np.ndarray, "h w"]) -> float:
    """The smallest share of the picture that holds half of a map's mass; 0.5 for a flat map.

    Example:
        >>> half_area(np.array([[0.0, 0.0], [0.0, 5.0]]))
        0.125
    """
    mass = np.sort((values - values.min()).ravel())[::-1].astype(np.float64)
    if mass.sum() == 0:
        return 0.5
    reached = np.cumsum(mass) / mass.sum()
    last = int(np.argmax(reached >= 0.5))
    before = reached[last - 1] if last else 0.0
    # The pixel in which half is reached counts in part.
    return float((last + (0.5 - before) / (reached[last] - before)) / mass.size)


def map_figures(
    halves: Sequence[Sequence[Float[np.ndarray, "h w"]]],
) -> MapFigures:
    """Figures of everybody's maps.

    Args:
        halves: Of each person the maps of both halves of the photos, or the one map of all of them;
            maps that are flat are left out.

    Raises:
        ValueError: Nobody has a map that is not flat.
    """
    kept = [[_scaled(m) for m in own if np.ptp(m) > 0] for own in halves]
    maps = [_scaled(np.mean(own, axis=0)) for own in kept if own]
    if not maps:
        raise ValueError("Nobody has a map.")
    two = [own for own in kept if len(own) == 2]
    own, others, personal = _alike(two)
    return MapFigures(
        people=len(maps),
        without=len(halves) - len(maps),
        population=np.mean(maps, axis=0),
        shares=part_shares(maps),
        half_area=mean_interval(np.array([half_area(each) for each in maps]), share=True),
        own=own,
        others=others,
        personal=personal,
        halved=len(two),
    )


def _scaled(values: np.ndarray) -> Float64[np.ndarray, "h w"]:
    wide = values.astype(np.float64) - values.min()
    return np.asarray(wide / wide.max()) if wide.max() > 0 else wide


def _alike(two: Sequence[Sequence[np.ndarray]]) -> tuple[Interval, Interval, Interval]:
    """Pearson's correlation over pixels: own halves, halves of others, their difference."""
    if len(two) < 2:
        return NOTHING, NOTHING, NOTHING
    sides = np.array([[_unit(own[half]) for own in two] for half in (0, 1)])
    table = sides[0] @ sides[1].T
    own = table.diagonal()
    count = len(two)
    # A person's first half with others' second ones, and the other way round.
    both = (table.sum(axis=0) + table.sum(axis=1) - 2 * own) / (2 * (count - 1))
    return mean_interval(own), mean_interval(both), mean_interval(own - both)


def _unit(values: np.ndarray) -> Float64[np.ndarray, " pixels"]:
    flat = values.ravel() - values.mean()
    return np.asarray(flat / np.linalg.norm(flat))


def numbered(owners: Shaped[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
    """Owners as numbers from 0, in the order of their names."""
    return np.asarray(np.unique(owners, return_inverse=True)[1]).astype(np.int64)
