"""Intervals, paired tests, effect sizes and rank statistics over identities (Protocol: statistics).

Figures that a sample cannot give (an interval of fewer than five people) are NaN, and each
docstring says where; p-values are never NaN. No function warns.

Percentile bootstrap intervals hold a mean too rarely where people are few, and so does Student's
interval where most people have the same rate: of 6 people all are recognized always although one
of 20 hardly is. `mean_intervals` therefore counts one further person at the end of what is
possible, as Gaffke (2005) does: his bounds hold for every distribution on a known range, and are
those of Clopper and Pearson where each person is 0 or 1. `tests/evaluation/test_intervals.py`
shows by simulation how often every interval holds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from jaxtyping import Float

from facefocus.core.seeds import generator
from facefocus.core.text import with_bounds

DRAWS = 10_000
LEVEL = 0.95
_PERCENTS = (50 * (1 - LEVEL), 50 * (1 + LEVEL))

#: Numbers resampled at a time: bounds memory, changes no result.
_CHUNK = 2_000_000

#: Decimals at which differences and resampled means count as tied: rates are shares of whole
#: numbers, and 0.8 - 0.5 must tie with 0.6 - 0.3.
_DECIMALS = 12


#: With fewer people no interval is given, and none is printed.
FEWEST = 5
NO_INTERVAL = f"fewer than {FEWEST} people: no interval"

#: So many people must differ from the median for the range of a sample to say anything; of shares,
#: which pile up at 0 and 1, half of the people.
_SPREAD = 3

#: Halvings of the people that a setting is picked and tried on.
HALVINGS = 200

#: Wilcoxon's test is exact up to so many differences, without ties and with ties.
_EXACT, _EXACT_TIED = 50, 13


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its interval; NaN where there is none."""

    value: float
    low: float
    high: float

    def text(self, *, signed: bool = False) -> str:
        """``0.886 [0.861, 0.910]``."""
        return with_bounds(self.value, self.low, self.high, signed=signed)


@dataclass(frozen=True, eq=False)
class Intervals:
    """`Interval` of every row of a matrix; NaN where a row gives none."""

    value: Float[np.ndarray, " rows"]
    low: Float[np.ndarray, " rows"]
    high: Float[np.ndarray, " rows"]

    def __iter__(self) -> Iterator[Interval]:
        for row in zip(self.value, self.low, self.high, strict=True):
            yield Interval(*map(float, row))


@dataclass(frozen=True, eq=False)
class PValues:
    """Two-sided p-values of every row of a matrix; NaN for rows without any value."""

    t: Float[np.ndarray, " rows"]
    wilcoxon: Float[np.ndarray, " rows"]


@dataclass(frozen=True)
class PairedTest:
    """Two conditions compared on the same identities; differences are first minus second.

    Attributes:
        n: Number of identities.
        zeros: Identities whose difference is zero.
        difference: Mean difference.
        t: Student's t with n - 1 degrees of freedom.
        t_p: Its two-sided p-value.
        wilcoxon: Wilcoxon's signed-rank statistic, the smaller of the two rank sums.
        wilcoxon_p: Its two-sided p-value.
        d_z: Cohen's d of the differences, mean / std(differences).
        d_pooled: Cohen's d with pooled deviation, mean / sqrt((var(a) + var(b)) / 2).
    """

    n: int
    zeros: int
    difference: float
    t: float
    t_p: float
    wilcoxon: float
    wilcoxon_p: float
    d_z: float
    d_pooled: float


@dataclass(frozen=True, eq=False)
class RankDistribution:
    """Distribution of the methods' ranks over bootstrap samples of identities.

    Attributes:
        shares: Share of the samples in which method i has rank j + 1; tied methods divide the
            ranks they span equally, so every row and column sums to 1.
        mean: Mean rank of each method, 1 = best.
        low: Lower bound of its percentile interval; tied methods have their middle rank.
        high: Upper bound.
    """

    shares: Float[np.ndarray, "methods methods"]
    mean: Float[np.ndarray, " methods"]
    low: Float[np.ndarray, " methods"]
    high: Float[np.ndarray, " methods"]


def mean_interval(
    values: Float[np.ndarray, " n"], *, share: bool = False, seed: int = 0
) -> Interval:
    """`mean_intervals` of one row.

    Raises:
        ValueError: There are no values or one is not finite.

    Example:
        >>> mean_interval(np.array([0.2, 0.3, 0.25, 0.35, 0.3, 0.28])).text()
        '0.280 [0.226, 0.334]'
    """
    row = _sample(values)[None]
    return next(iter(mean_intervals(row, share=share, seed=seed)))


def mean_intervals(
    values: Float[np.ndarray, "rows n"],
    *,
    share: bool = False,
    seed: int = 0,
    draws: int = DRAWS,
) -> Intervals:
    """Mean of every row with an interval for the mean over all people.

    The wider one of two. Student's interval is right where people are alike. Gaffke's bounds are
    right where few carry the mean: means with random weights, uniform over all divisions of 1 among
    n + 1 people, of whom the last is at the lower end of the range for the lower bound, and at the
    upper end for the upper one. The range is the row's own; but where fewer than three people
    differ from the median, of shares fewer than half, it says nothing. There, Gaffke's bounds alone
    count, on the range of what is possible: [0, 1] for shares, else [-1, 1], in which differences
    of rates and cosines lie.

    No bound leaves what is possible. Equal `seed` and number of people give equal weights, so rows
    differ by their values alone.

    Args:
        values: NaN where an identity has no value; a row's others keep their order. Rows with
            fewer than `FEWEST` values have NaN for bounds.
        share: Whether values are in [0, 1] by their nature.

    Raises:
        ValueError: A value is infinite, or a share outside [0, 1].
    """
    if share:
        values = np.where(np.abs(values - 0.5) < 0.5 + 1e-9, np.clip(values, 0, 1), values)
        if not (np.isnan(values) | ((values >= 0) & (values <= 1))).all():
            raise ValueError("Shares must be in [0, 1].")
    value, low, high = (np.full(len(values), np.nan) for _ in range(3))
    for rows, (present,) in _by_count(values):
        distinct, index = _distinct(present)
        value[rows] = distinct.mean(axis=1)[index]
        if present.shape[1] >= FEWEST:
            weights = _weights(present.shape[1] + 1, seed=seed, draws=draws)
            ends = _mean_ends(distinct, weights, share)
            low[rows], high[rows] = ends[:, index]
    return Intervals(value, low, high)


def ratio_intervals(
    top: Float[np.ndarray, "rows n"],
    bottom: Float[np.ndarray, "rows n"],
    *,
    seed: int = 0,
) -> Intervals:
    """Ratio of the means of two paired rows, with Fieller's interval over identities (1954).

    The interval holds every ratio r for which the mean of top - r bottom is not significantly
    different from zero.
    A ratio means nothing where its divisor may be zero: rows whose bottom mean is not above zero,
    interval included (`mean_intervals`), give NaN, as do the bounds of fewer than `FEWEST` people.

    Args:
        top: NaN where an identity has no value, which then counts on neither side.
        bottom: Likewise.

    Raises:
        ValueError: A value is infinite.
    """
    divisor = mean_intervals(np.where(np.isnan(top), np.nan, bottom), seed=seed)
    sure = (divisor.value > 0) & ~(divisor.low <= 0)
    value, low, high = (np.full(len(top), np.nan) for _ in range(3))
    for rows, (above, below) in _by_count(top, np.where(sure[:, None], bottom, np.nan)):
        value[rows] = above.mean(axis=1) / below.mean(axis=1)
        if above.shape[1] >= FEWEST:
            low[rows], high[rows] = _fieller(above, below)
    return Intervals(value, low, high)


def deviation_factor(people: int) -> float:
    """Factor from a figure's bootstrap deviation over people to half its interval.

    Student's quantile, times the root of n / (n - 1) by which a bootstrap sample of n people
    varies too little. NaN for fewer than `FEWEST` people.
    """
    if people < FEWEST:
        return math.nan
    return _student(people) * math.sqrt(people / (people - 1))


def paired_p_values(differences: Float[np.ndarray, "rows n"]) -> PValues:
    """The p-values of `compare_paired` for every row of differences at once.

    Args:
        differences: NaN where an identity has none.

    Raises:
        ValueError: A value is infinite.
    """
    t, wilcoxon = (np.full(len(differences), np.nan) for _ in range(2))
    rounded = np.round(differences, _DECIMALS)
    for rows, (present,) in _by_count(rounded):
        t[rows] = _t_p_values(present)
        wilcoxon[rows] = 1.0
    for rows, (moved,) in _by_count(np.where(rounded == 0, np.nan, rounded)):
        wilcoxon[rows] = _wilcoxon_p_values(moved)
    return PValues(t, wilcoxon)


def compare_paired(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> PairedTest:
    """Paired tests and effect sizes of a - b, identity by identity.

    - No difference anywhere: t = 0, Wilcoxon 0, both d = 0, both p = 1.
    - One and the same difference everywhere: t and d_z are infinite with its sign, t_p = 0.
    - One identity: t, d_z and d_pooled are NaN and t_p = 1, as nothing tells the spread.
    - Wilcoxon drops zero differences (its original rule) and counts them in `zeros`; without
      ties it is exact up to 50 differences, with ties up to 13, above that normal, corrected
      for ties.
    - Differences are rounded to 12 decimals first, so that equal ones are equal.

    Raises:
        ValueError: There are no values or one is not finite.

    Example:
        >>> tested = compare_paired(np.array([0.9, 0.8, 0.95]), np.array([0.7, 0.5, 0.8]))
        >>> round(tested.difference, 3), round(tested.t_p, 3)
        (0.217, 0.039)
    """
    first, second = _sample(a), _sample(b)
    differences = np.round(first - second, _DECIMALS)
    moved = differences[differences != 0]
    t, t_p = _t_test(differences)
    signed = scipy.stats.wilcoxon(moved) if moved.size else None
    pooled = math.sqrt((_variance(first) + _variance(second)) / 2)
    return PairedTest(
        n=len(differences),
        zeros=len(differences) - moved.size,
        difference=float(differences.mean()),
        t=t,
        t_p=t_p,
        wilcoxon=float(signed.statistic) if signed else 0.0,
        wilcoxon_p=float(signed.pvalue) if signed else 1.0,
        d_z=_ratio(float(differences.mean()), math.sqrt(_variance(differences))),
        d_pooled=_ratio(float(differences.mean()), pooled),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down rule, in the given order.

    The i-th smallest of m is multiplied by m - i + 1, made no smaller than its predecessor and
    capped at 1 (Holm 1979).

    Raises:
        ValueError: A p-value is not in [0, 1].

    Example:
        >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"P-values must be in [0, 1]. Got {list(p_values)}.")
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for done, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[index]))
        corrected[index] = largest
    return corrected


def rank_distribution(
    methods: Sequence[Float[np.ndarray, "_ n"]],
    *,
    seed: int,
    draws: int = DRAWS,
) -> RankDistribution:
    """Ranks of methods by their mean over identities, over bootstrap samples of identities.

    The largest mean has rank 1. All methods are resampled alike (the comparison is paired). Of a
    method with several settings, every sample is halved at random: on each half stands the setting
    that has the largest mean on the other one, so more settings are no advantage by themselves.

    Args:
        methods: The values of each method, a row for each of its settings.

    Raises:
        ValueError: There are no values or one is not finite.
    """
    means = np.round(_picked_means(methods, seed=seed, draws=draws), _DECIMALS)
    first, last = (
        scipy.stats.rankdata(-means, axis=1, method=method).astype(np.int64)
        for method in ("min", "max")
    )
    shares = [
        (((first <= rank) & (rank <= last)) / (last - first + 1)).mean(axis=0)
        for rank in range(1, len(methods) + 1)
    ]
    ranks = (first + last) / 2
    low, high = np.percentile(ranks, _PERCENTS, axis=0)
    return RankDistribution(
        shares=np.stack(shares, axis=1), mean=ranks.mean(axis=0), low=low, high=high
    )


def pick_shares(
    values: Float[np.ndarray, "settings n"], *, seed: int
) -> Float[np.ndarray, "settings n"]:
    """How often each setting is the best one of the half of the people that a person is not in.

    Over random halvings; columns sum to 1. Values weighted with it are those of "the best setting"
    for people who had no part in picking it.

    Raises:
        ValueError: There are no values or one is not finite.
    """
    settings, people = _sample(values).shape
    if settings == 1:
        return np.ones((1, people))
    rng = generator(seed, "halves")
    counts = np.zeros((settings, people))
    half = np.arange(people) < people // 2
    for _ in range(HALVINGS):
        inside = rng.permutation(half)
        for own in (inside, ~inside):
            counts[_best(values[:, ~own].sum(axis=1)), own] += 1
    return counts / HALVINGS


def rank_agreement(
    first: Float[np.ndarray, "methods n"],
    second: Float[np.ndarray, "methods n"],
    *,
    kind: Literal["kendall", "spearman"] = "kendall",
) -> Interval:
    """Whether two conditions rank methods alike: correlation of the methods' means.

    The interval holds every correlation that the order of the true means may have: the order of
    two methods counts as known where `paired_p_values`, t and Wilcoxon, corrected by `holm` over
    all pairs of methods on both sides, are below 1 - `LEVEL`; it may be either one elsewhere.
    Resampling people would not do: where methods are close, resampled means are in less order than
    the true ones, and an interval of tau from them may never hold. With one method, or all methods
    of one side level, all three figures are NaN; with fewer than `FEWEST` identities the ends.

    Raises:
        ValueError: There are no values or one is not finite.
    """
    means = [np.round(_sample(side).mean(axis=1)[None], _DECIMALS) for side in (first, second)]
    measure = _row_tau_b if kind == "kendall" else _row_rho
    value = float(measure(*means)[0])
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan)
    if first.shape[1] < FEWEST:
        return Interval(value, math.nan, math.nan)
    bounds = _tau_bounds if kind == "kendall" else _rho_bounds
    low, high = bounds(*_known_orders(first, second))
    return Interval(value, min(low, value), max(high, value))


def _known_orders(*sides: Float[np.ndarray, "methods n"]) -> list[np.ndarray]:
    """Of each side [methods, methods], the sign of row i minus row j where known, else 0."""
    above, below = np.triu_indices(len(sides[0]), 1)
    differences = np.concatenate([side[above] - side[below] for side in sides])
    tested = paired_p_values(differences)
    p_values = np.array(holm(np.maximum(tested.t, tested.wilcoxon).tolist()))
    signs = np.where(p_values < 1 - LEVEL, np.sign(differences.mean(axis=1)), 0.0)
    orders = []
    for part in np.split(signs, len(sides)):
        order = np.zeros((len(sides[0]),) * 2)
        order[above, below], order[below, above] = part, -part
        orders.append(order)
    return orders


def _tau_bounds(
    x: Float[np.ndarray, "methods methods"], y: Float[np.ndarray, "methods methods"]
) -> tuple[float, float]:
    """Least and largest Kendall's tau of the orders that known signs leave open."""
    pairs = len(x) * (len(x) - 1)
    known, open_pairs = (x * y).sum(), pairs - np.count_nonzero(x * y)
    return float((known - open_pairs) / pairs), float((known + open_pairs) / pairs)


def _rho_bounds(
    x: Float[np.ndarray, "methods methods"], y: Float[np.ndarray, "methods methods"]
) -> tuple[float, float]:
    """Bounds of Spearman's rho over the orders that known signs leave open.

    A method's rank, counted from the middle, is half the sum of its signs. Each lies between the
    sums with every open sign at -1 and at 1, and so does the product of the ranks of both sides.
    """
    n = len(x)
    ends = [
        np.stack([order.sum(axis=1) - unknown, order.sum(axis=1) + unknown]) / 2
        for order in (x, y)
        for unknown in [n - 1 - np.count_nonzero(order, axis=1)]
    ]
    products = ends[0][:, None] * ends[1][None, :]
    scale = n * (n * n - 1) / 12
    low, high = products.min(axis=(0, 1)).sum() / scale, products.max(axis=(0, 1)).sum() / scale
    return float(max(-1.0, low)), float(min(1.0, high))


def _sample(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    if not values.size or not np.isfinite(values).all():
        raise ValueError("Statistics need at least one value, all of them finite.")
    return values.astype(np.float64)


def _resamples(n: int, *, seed: int, draws: int) -> Iterator[np.ndarray]:
    """Indices of bootstrap samples, [some, n] at a time."""
    rng = generator(seed, "bootstrap")
    step = max(1, _CHUNK // n)
    for start in range(0, draws, step):
        yield rng.integers(n, size=(min(step, draws - start), n))


def _picked_means(
    methods: Sequence[Float[np.ndarray, "_ n"]], *, seed: int, draws: int
) -> Float[np.ndarray, "draws methods"]:
    """Means over bootstrap samples; of several settings as in `rank_distribution`."""
    wide = _sample(np.concatenate(methods))
    ends = np.cumsum([len(settings) for settings in methods])
    alone = len(wide) == len(methods)
    rng = generator(seed, "halves")
    parts = []
    for chosen in _resamples(wide.shape[1], seed=seed, draws=draws):
        counts = _counts(chosen)
        if alone:
            parts.append(counts @ wide.T / wide.shape[1])
            continue
        inside = rng.random(counts.shape) < 0.5
        halves = wide @ (counts * inside).T, wide @ (counts * ~inside).T
        picked = [
            _of_other_half(first, second) + _of_other_half(second, first)
            for first, second in zip(*(np.split(half, ends[:-1]) for half in halves), strict=True)
        ]
        parts.append(np.stack(picked, axis=1) / wide.shape[1])
    return np.concatenate(parts)


def _of_other_half(
    own: Float[np.ndarray, "settings draws"], other: Float[np.ndarray, "settings draws"]
) -> Float[np.ndarray, " draws"]:
    """In every draw, what the best setting of `other` has in `own`."""
    return np.asarray(np.take_along_axis(own, _best(other)[None], axis=0)[0])


def _best(sums: Float[np.ndarray, "_ ..."]) -> np.ndarray:
    """The setting of the largest sum, the first of equals."""
    return np.asarray(np.argmax(np.round(sums, _DECIMALS), axis=0))


def _by_count(
    *matrices: Float[np.ndarray, "rows n"],
) -> Iterator[tuple[np.ndarray, list[Float[np.ndarray, "some present"]]]]:
    """Rows with equally many values in all the matrices: their indices, and the values alone."""
    if any(np.isinf(matrix).any() for matrix in matrices):
        raise ValueError("Statistics need finite values.")
    present = ~np.any([np.isnan(matrix) for matrix in matrices], axis=0)
    counts = present.sum(axis=1)
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == count)
        yield rows, [m[rows][present[rows]].reshape(len(rows), count) for m in matrices]


def _distinct(rows: Float[np.ndarray, "rows n"]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows, and each row's index among them: clean scores come in every method."""
    known: dict[bytes, int] = {}
    index = np.array(
        [
            known.setdefault(hashlib.blake2b(row, digest_size=16).digest(), len(known))
            for row in np.ascontiguousarray(rows + 0.0)
        ]
    )
    _, first = np.unique(index, return_index=True)
    return rows[first], index


def _weights(count: int, *, seed: int, draws: int) -> Float[np.ndarray, "count draws"]:
    """Columns uniform over all ways to divide 1 among `count` people."""
    drawn = generator(seed, "weights").standard_exponential((draws, count))
    drawn /= drawn.sum(axis=1, keepdims=True)
    return np.ascontiguousarray(drawn.T)


def _mean_ends(
    rows: Float[np.ndarray, "rows n"],
    weights: Float[np.ndarray, "n+1 draws"],
    share: bool,
) -> Float[np.ndarray, "2 rows"]:
    """The bounds of `mean_intervals` for rows without gaps."""
    people = rows.shape[1]
    apart = np.abs(rows - np.median(rows, axis=1, keepdims=True)) > 10.0**-_DECIMALS
    spread = apart.sum(axis=1) >= (people / 2 if share else _SPREAD)
    possible = _possible(rows, share)
    limits = np.where(spread, np.stack([rows.min(axis=1), rows.max(axis=1)]), possible)
    ends = np.empty((2, len(rows)))
    draws = weights.shape[1]
    below = int((1 - LEVEL) / 2 * (draws - 1))
    step = max(1, _CHUNK // draws)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        inside = rows[part] @ weights[:-1]
        for end, limit, rank in zip(ends, limits, (below, draws - 1 - below), strict=True):
            drawn = inside + limit[part, None] * weights[-1]
            drawn.partition(rank, axis=1)
            end[part] = drawn[:, rank]
    mean = rows.mean(axis=1)
    half = _student(people) * rows.std(axis=1, ddof=1) / math.sqrt(people)
    wider = np.stack([np.minimum(ends[0], mean - half), np.maximum(ends[1], mean + half)])
    held = np.clip(np.where(spread, wider, ends), *possible)
    return np.asarray(np.round(held, _DECIMALS))


def _possible(rows: Float[np.ndarray, "rows n"], share: bool) -> Float[np.ndarray, "2 rows"]:
    """The range of the figure; of what is in [-1, 1] against expectation, the row's own."""
    low, high = (0.0, 1.0) if share else (-1.0, 1.0)
    return np.stack([np.minimum(rows.min(axis=1), low), np.maximum(rows.max(axis=1), high)])


def _student(n: int) -> float:
    return float(scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1))


def _fieller(
    top: Float[np.ndarray, "rows n"], bottom: Float[np.ndarray, "rows n"]
) -> Float[np.ndarray, "2 rows"]:
    """The two ratios at which the mean of top - ratio bottom is just significantly above 0."""
    n = top.shape[1]
    means = [side.mean(axis=1) for side in (top, bottom)]
    moved = [side - mean[:, None] for side, mean in zip((top, bottom), means, strict=True)]

    def left(a: int, b: int) -> np.ndarray:
        error = (moved[a] * moved[b]).sum(axis=1) / (n * (n - 1))
        return np.asarray(means[a] * means[b] - _student(n) ** 2 * error)

    square, mixed, constant = left(1, 1), left(0, 1), left(0, 0)
    root = np.sqrt(np.maximum(mixed**2 - square * constant, 0.0))
    return np.round(np.stack([(mixed - root) / square, (mixed + root) / square]), _DECIMALS)


def _variance(values: Float[np.ndarray, " n"]) -> float:
    """Sample variance (n - 1); NaN for one value, exactly 0 for equal ones."""
    if len(values) == 1:
        return math.nan
    # The mean of equal numbers can miss them by a rounding.
    return 0.0 if np.ptp(values) == 0 else float(values.var(ddof=1))


def _ratio(difference: float, deviation: float) -> float:
    if deviation == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / deviation


def _t_test(differences: Float[np.ndarray, " n"]) -> tuple[float, float]:
    n = len(differences)
    t = _ratio(float(differences.mean()), math.sqrt(_variance(differences) / n))
    return t, 1.0 if math.isnan(t) else float(2 * scipy.stats.t.sf(abs(t), n - 1))


def _t_p_values(differences: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    n = differences.shape[1]
    if n == 1:
        return np.ones(len(differences))
    means = differences.mean(axis=1)
    equal = np.ptp(differences, axis=1) == 0
    deviations = np.where(equal, 1.0, differences.std(axis=1, ddof=1))
    p = 2 * scipy.stats.t.sf(np.abs(means) / (deviations / math.sqrt(n)), n - 1)
    return np.asarray(np.where(equal, (means == 0).astype(np.float64), p))


def _wilcoxon_p_values(moved: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    """Wilcoxon's signed-rank test of rows without zeros, by the rules of `compare_paired`."""
    n = moved.shape[1]
    ranks = np.asarray(scipy.stats.rankdata(np.abs(moved), axis=1))
    positive = np.where(moved > 0, ranks, 0.0).sum(axis=1)
    ordered = np.sort(ranks, axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    # The sum of squared ranks has the correction for ties in it.
    z = (positive - n * (n + 1) / 4) / np.sqrt((ranks**2).sum(axis=1) / 4)
    p = np.asarray(2 * scipy.stats.norm.sf(np.abs(z)))
    if n <= _EXACT and not tied.all():
        p[~tied] = _signed_rank_p(np.arange(1.0, n + 1)[None], positive[None, ~tied])[0]
    if n <= _EXACT_TIED and tied.any():
        p[tied] = _signed_rank_p(ranks[tied], positive[tied, None])[:, 0]
    return p


def _signed_rank_p(
    ranks: Float[np.ndarray, "rows n"], sums: Float[np.ndarray, "rows values"]
) -> Float[np.ndarray, "rows values"]:
    """Two-sided p-values of sums of positive ranks if every sign is a coin's.

    Ranks count double: those of ties are halves.
    """
    steps = np.rint(2 * ranks).astype(np.int64)
    totals = np.arange(int(steps.sum(axis=1).max()) + 1)
    chances = np.zeros((len(ranks), len(totals)))
    chances[:, 0] = 1.0
    for step in steps.T:
        source = totals - step[:, None]
        moved = np.take_along_axis(chances, np.maximum(source, 0), axis=1)
        chances = (chances + np.where(source >= 0, moved, 0.0)) / 2
    at = np.rint(2 * sums).astype(np.int64)
    upto = np.take_along_axis(chances.cumsum(axis=1), at, axis=1)
    exactly = np.take_along_axis(chances, at, axis=1)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(upto, 1 - upto + exactly)))


def _counts(chosen: np.ndarray) -> Float[np.ndarray, "draws n"]:
    """How often each bootstrap sample holds each item."""
    draws, n = chosen.shape
    flat = (np.arange(draws)[:, None] * n + chosen).ravel()
    return np.bincount(flat, minlength=draws * n).reshape(draws, n).astype(np.float64)


def _row_tau_b(
    x: Float[np.ndarray, "draws n"], y: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, " draws"]:
    """Kendall's tau-b of x and y, row by row."""
    both, in_x, in_y = (np.zeros(len(x)) for _ in range(3))
    for index in range(x.shape[1] - 1):
        signs_x, signs_y = (np.sign(v[:, index + 1 :] - v[:, index, None]) for v in (x, y))
        both += (signs_x * signs_y).sum(axis=1)
        in_x += np.abs(signs_x).sum(axis=1)
        in_y += np.abs(signs_y).sum(axis=1)
    return _quotient(both, np.sqrt(in_x * in_y))


def _row_rho(
    x: Float[np.ndarray, "draws n"], y: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, " draws"]:
    """Spearman's rho of x and y, row by row."""
    middle = (x.shape[1] + 1) / 2
    ranks_x, ranks_y = (np.asarray(scipy.stats.rankdata(v, axis=1)) - middle for v in (x, y))
    spread = np.sqrt((ranks_x**2).sum(axis=1) * (ranks_y**2).sum(axis=1))
    return _quotient((ranks_x * ranks_y).sum(axis=1), spread)


def _quotient(
    top: Float[np.ndarray, "*shape"], bottom: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Quotients, NaN where the divisor is zero, without a warning."""
    quotients = np.full_like(top, np.nan)
    np.divide(top, bottom, out=quotients, where=bottom > 0)
    return quotients
