"""Certainty about means of people who are scored one after the other, however often one looks.

People come in random order from a finite list, without replacement. A null hypothesis says that the
mean of the whole list is at most `null`; somebody bets against it on each person. The capital of a
fair game grows beyond 1 / level with a probability of at most `level`, at any time (Ville 1939), so
a null whose bettor ever had as much is refuted, and looking costs nothing. These are the capital
processes without replacement of Waudby-Smith and Ramdas (2024), *Estimating means of bounded random
variables by betting*, J. R. Stat. Soc. B 86, section 5; Protocol: early-stopping. The functions of
the package ``confseq``, which needs a C++ compiler to install, gave the numbers that the tests
compare with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

#: Differences of means up to here count as a tie.
TIE = 0.02
#: The share of its capital that a bet risks, at most.
_MOST = 0.9
#: What is assumed of values in [0, 1] before the first: their mean, and their variance.
_MEAN, _VARIANCE = 0.5, 0.05
#: Sums that differ by less are equal: rates are shares of whole numbers.
_ROUNDING = 1e-9
#: Halvings of [0, 1] by which a bound is found.
_HALVINGS = 30


def null_means(
    values: Float[np.ndarray, "*rows people"], null: float | Float[np.ndarray, "*rows"], of: int
) -> Float[np.ndarray, "*rows people"]:
    """Before each value: the mean that those to come must have where the mean of all is `null`.

    Example:
        >>> null_means(np.array([1.0, 0.0, 1.0]), 0.5, of=4).round(3).tolist()
        [0.5, 0.333, 0.5]
    """
    seen = np.cumsum(values, axis=-1) - values
    total = of * np.asarray(null, dtype=np.float64)[..., None]
    return np.asarray((total - seen) / (of - np.arange(values.shape[-1])))


def _moments(
    values: Float[np.ndarray, "*rows people"],
) -> tuple[Float[np.ndarray, "*rows people"], Float[np.ndarray, "*rows people"]]:
    """Before each value: mean and variance of those before it, and of one assumed."""
    count = np.arange(1, values.shape[-1] + 1)
    total = np.cumsum(values, axis=-1) - values
    squares = np.cumsum(values**2, axis=-1) - values**2
    mean = (_MEAN + total) / count
    spread = squares - 2 * mean * total + (count - 1) * mean**2
    return mean, (_VARIANCE + np.maximum(spread, 0)) / count


def growing_bets(
    values: Float[np.ndarray, "*rows people"], null: float, of: int
) -> Float[np.ndarray, "*rows people"]:
    """Bets by which capital grows fastest against one null, as far as the past tells.

    The rule aGRAPA of the source: the mean's distance from the null over its mean square.
    """
    mean, variance = _moments(values)
    distance = mean - null_means(values, null, of)
    return np.asarray(np.maximum(distance, 0) / (variance + distance**2))


def narrowing_bets(
    values: Float[np.ndarray, "*rows people"], level: float
) -> Float[np.ndarray, "*rows people"]:
    """Bets that serve every null at once and make intervals narrow: PrPl-EB of the source."""
    _, variance = _moments(values)
    count = np.arange(1, values.shape[-1] + 1)
    return np.asarray(np.sqrt(2 * math.log(1 / level) / (variance * count * np.log1p(count))))


def log_capital(
    values: Float[np.ndarray, "*rows people"],
    bets: Float[np.ndarray, "*rows people"],
    null: float | Float[np.ndarray, "*rows"],
    of: int,
    scored: Bool[np.ndarray, "*rows people"] | None = None,
) -> Float[np.ndarray, "*rows"]:
    """The most that a bettor against *the mean of all is at most `null`* ever had, its logarithm.

    It is never larger for a larger null under the same bets, so the nulls that are refuted at one
    level are those below a bound. Infinite where the values seen contradict the null.

    Args:
        values: In [0, 1], in the order in which people were drawn.
        bets: 0 or more each; of none but earlier values. Cut to what a bettor can pay.
        null: The mean that is bet against.
        of: How many people there are in all.
        scored: Which of the values there are; the first so many of a row. All by default.

    Example:
        >>> fair = np.full((1, 2), 1.0)
        >>> log_capital(np.array([[1.0, 0.5]]), fair, 0.5, of=4).round(3).tolist()  # log(1.5 x 7/6)
        [0.56]
    """
    scored = np.ones(values.shape, bool) if scored is None else scored
    means = null_means(values, null, of)
    # Where those to come must be below 0, the null is refuted; nothing is left to bet on.
    possible = means > _ROUNDING
    cut = np.minimum(bets, _MOST / np.where(possible, means, 1))
    growth = np.where(possible & scored, np.log1p(cut * (values - means)), 0)
    most: Float[np.ndarray, "*rows"] = np.cumsum(growth, axis=-1).max(axis=-1, initial=0)
    seen = np.where(scored, values, 0).sum(axis=-1)
    return np.where(seen > of * np.asarray(null) + _ROUNDING, np.inf, most)


def lower_bounds(
    values: Float[np.ndarray, "rows people"], of: int, level: float
) -> Float[np.ndarray, " rows"]:
    """What the mean of all people is above, at one level, at whichever time one looks.

    Args:
        values: In [0, 1], in the order in which people were drawn; NaN behind the last of a row.
        of: How many people there are in all.
        level: The probability that the bound is ever above the mean, at most.

    Example:
        >>> lower_bounds(np.ones((1, 30)), of=60, level=0.05).round(2).tolist()
        [0.92]
    """
    scored = ~np.isnan(values)
    known = np.where(scored, values, 0.0)
    bets = narrowing_bets(known, level)
    low, high = np.zeros(len(values)), np.ones(len(values))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        out = log_capital(known, bets, middle, of, scored) >= math.log(1 / level)
        low, high = np.where(out, middle, low), np.where(out, high, middle)
    return low


def mean_bounds(
    values: Float[np.ndarray, "rows people"], of: int, level: float
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Both ends of an interval of the mean of all people, each at half the level.

    The arguments are those of `lower_bounds`; of all people it is the mean itself.
    """
    return lower_bounds(values, of, level / 2), 1 - lower_bounds(1 - values, of, level / 2)


@dataclass(frozen=True, eq=False)
class FirstPlace:
    """How far it is certain which of some rows has the largest mean.

    Attributes:
        beaten: Rows that another one is certainly above.
        first: A row that no other one is above by more than `TIE`; None as long as that is open.
    """

    beaten: Bool[np.ndarray, " rows"]
    first: int | None


def first_place(values: Float[np.ndarray, "rows people"], of: int, level: float) -> FirstPlace:
    """Which row has the largest mean over all people, ties aside (Protocol: early-stopping).

    Args:
        values: In [0, 1], in the order in which people were drawn; NaN behind the last of a row.
        of: How many people there are in all.
        level: The probability that anything of this is ever wrong, at most.

    Example:
        >>> rates = np.array([[0.9], [0.2], [0.3]]).repeat(20, axis=1)
        >>> best = first_place(rates, of=60, level=0.05)
        >>> best.beaten.tolist(), best.first
        ([False, True, True], 0)
    """
    beaten, able = certain_places(values, of, level)
    means = np.nanmean(values, axis=1)
    able = np.flatnonzero(able)
    return FirstPlace(beaten, int(able[means[able].argmax()]) if len(able) else None)


def certain_places(
    values: Float[np.ndarray, "*studies rows people"], of: int, level: float
) -> tuple[Bool[np.ndarray, "*studies rows"], Bool[np.ndarray, "*studies rows"]]:
    """Rows that another is certainly above, and rows that none is above by more than `TIE`.

    With a probability of at most `level` is the largest row ever among the first, or a row among
    the others that the largest is above by more than `TIE`: either has to refute a true null about
    the largest row and one of the others, so `level` is divided by their number.

    The arguments are those of `first_place`, of several studies at once.
    """
    rows = values.shape[-2]
    needed = math.log(max(1, rows - 1) / level)
    tied = (1 - TIE) / 2
    beaten = np.zeros(values.shape[:-1], bool)
    held = np.zeros((*values.shape[:-1], rows), bool)
    for row in range(rows):
        apart = (1 + values[..., row : row + 1, :] - values) / 2
        scored = ~np.isnan(apart)
        apart = np.where(scored, apart, 0.5)
        # The same bets against both nulls: whoever refutes the larger one refutes the smaller.
        bets = growing_bets(apart, tied, of)
        beaten |= log_capital(apart, bets, 0.5, of, scored) >= needed
        held[..., row, :] = log_capital(apart, bets, tied, of, scored) >= needed
        held[..., row, row] = True
    able = (held | beaten[..., None, :]).all(axis=-1) & ~beaten
    return beaten, able
