"""Intervals, paired tests, effect sizes and rank statistics over identities (PROTOCOL section 8).

Figures that a sample cannot give (any spread of a single identity) are NaN, and each docstring
says where; p-values are never NaN. No function warns.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from facefocus.seeds import generator

DRAWS = 10_000
LEVEL = 0.95

#: Numbers resampled at a time: bounds memory, changes no result.
_CHUNK = 2_000_000

#: Decimals at which differences and resampled means count as tied: rates are shares of whole
#: numbers, and 0.8 - 0.5 must tie with 0.6 - 0.3.
_DECIMALS = 12


#: With fewer resamples the two ends of an interval may be neighbors.
_FEW = 1_000

#: Wilcoxon's test is exact up to so many differences, without ties and with ties.
_EXACT, _EXACT_TIED = 50, 13


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Intervals:
    """`Interval` of every row of a matrix; NaN where a row gives none."""

    value: Float[np.ndarray, " rows"]
    low: Float[np.ndarray, " rows"]
    high: Float[np.ndarray, " rows"]


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
    """How sure the order of methods is: their ranks over bootstrap samples of identities.

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


def bootstrap_mean(
    values: Float[np.ndarray, " n"], *, seed: int, level: float = LEVEL, draws: int = DRAWS
) -> Interval:
    """Mean with its percentile bootstrap interval.

    Percentile rather than BCa: it cannot leave the range of the values (rates stay in [0, 1]) and
    is defined where all but a few are equal. Equal `seed` and n resample the same identities,
    so intervals of several methods differ by the methods alone. One value has no spread:
    both bounds are NaN.

    Raises:
        ValueError: There are no values or one is not finite.
    """
    mean = float(_sample(values).mean())
    if len(values) == 1:
        return Interval(mean, math.nan, math.nan)
    resamples = _resamples(len(values), seed=seed, draws=draws)
    means = np.concatenate([values[chosen].mean(axis=1) for chosen in resamples])
    return Interval(mean, *_percentile_bounds(means, level))


def bootstrap_means(
    values: Float[np.ndarray, "rows n"], *, seed: int, level: float = LEVEL, draws: int = DRAWS
) -> Intervals:
    """`bootstrap_mean` of every row at once, the same within rounding (12 decimals).

    All rows with as many values share their resamples, kept as counts of the identities, so one
    matrix product resamples them all.

    Args:
        values: NaN where an identity has no value; a row's others keep their order.

    Raises:
        ValueError: A value is infinite.
    """
    value, low, high = (np.full(len(values), np.nan) for _ in range(3))
    for rows, (present,) in _by_count(values):
        distinct, place = _distinct(present)
        value[rows] = distinct.mean(axis=1)[place]
        if present.shape[1] > 1:
            counts = _count_matrix(present.shape[1], seed=seed, draws=draws)
            ends = _row_ends(distinct, _means_of(counts), draws, level)
            low[rows], high[rows] = ends[:, place]
    return Intervals(value, low, high)


def bootstrap_ratios(
    top: Float[np.ndarray, "rows n"],
    bottom: Float[np.ndarray, "rows n"],
    *,
    seed: int,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> Intervals:
    """Ratio of the means of two paired rows, with its percentile interval over identities.

    A ratio means nothing where its divisor may be zero: rows whose bottom mean is not above zero,
    interval included, give NaN. The few resamples with a bottom mean of at most 0 are left out.

    Args:
        top: NaN where an identity has no value, which then counts on neither side.
        bottom: Likewise.

    Raises:
        ValueError: A value is infinite.
    """
    divisor = bootstrap_means(
        np.where(np.isnan(top), np.nan, bottom), seed=seed, level=level, draws=draws
    )
    sure = (divisor.value > 0) & ~(divisor.low <= 0)
    value, low, high = (np.full(len(top), np.nan) for _ in range(3))
    for rows, (above, below) in _by_count(top, np.where(sure[:, None], bottom, np.nan)):
        value[rows] = above.mean(axis=1) / below.mean(axis=1)
        if above.shape[1] > 1:
            counts = _count_matrix(above.shape[1], seed=seed, draws=draws)
            both = np.hstack([above, below])
            low[rows], high[rows] = _row_ends(both, _ratios_of(counts), draws, level)
    return Intervals(value, low, high)


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
    """
    first, second = _sample(a), _sample(b)
    differences = np.round(first - second, _DECIMALS)
    moved = differences[differences != 0]
    t, t_p = _t_test(differences)
    signed = stats.wilcoxon(moved) if moved.size else None
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
    values: Float[np.ndarray, "methods n"],
    *,
    seed: int,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> RankDistribution:
    """Ranks of methods by their mean over identities, over bootstrap samples of identities.

    The largest mean has rank 1. All methods are resampled alike (the comparison is paired).

    Raises:
        ValueError: There are no values or one is not finite.
    """
    means = np.round(_resampled_means(values, seed=seed, draws=draws), _DECIMALS)
    first, last = (
        stats.rankdata(-means, axis=1, method=method).astype(np.int64) for method in ("min", "max")
    )
    shares = [
        (((first <= rank) & (rank <= last)) / (last - first + 1)).mean(axis=0)
        for rank in range(1, len(values) + 1)
    ]
    ranks = (first + last) / 2
    low, high = np.percentile(ranks, _percents(level), axis=0)
    return RankDistribution(
        shares=np.stack(shares, axis=1), mean=ranks.mean(axis=0), low=low, high=high
    )


def rank_correlation(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    *,
    kind: Literal["kendall", "spearman"] = "kendall",
    seed: int,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> Interval:
    """Kendall's tau-b or Spearman's rho with a percentile bootstrap interval over the n items.

    Samples in which one side is constant have no correlation and are left out of the interval.
    Where x or y itself is constant, all three figures are NaN.

    Raises:
        ValueError: There are no values or one is not finite.
    """
    first, second = _sample(x), _sample(y)
    measure = _tau_b if kind == "kendall" else _rho
    value = float(measure(first, second, np.ones((1, len(first))))[0])
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan)
    resampled = [
        measure(first, second, _counts(chosen))
        for chosen in _resamples(len(first), seed=seed, draws=draws)
    ]
    defined = np.concatenate(resampled)
    return Interval(value, *_percentile_bounds(defined[~np.isnan(defined)], level))


def rank_agreement(
    first: Float[np.ndarray, "methods n"],
    second: Float[np.ndarray, "methods n"],
    *,
    kind: Literal["kendall", "spearman"] = "kendall",
    seed: int,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> Interval:
    """Whether two conditions rank methods alike: correlation of the methods' means.

    Unlike `rank_correlation` the interval is over identities, resampled alike on both sides: the
    methods are those that were asked for, no sample. Samples in which all methods of one side
    are level have no correlation and are left out. With one method, all three figures are NaN.

    Raises:
        ValueError: There are no values or one is not finite.
    """
    means = [np.round(_sample(side).mean(axis=1)[None], _DECIMALS) for side in (first, second)]
    measure = _row_tau_b if kind == "kendall" else _row_rho
    value = float(measure(*means)[0])
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan)
    resampled = (
        np.round(_resampled_means(side, seed=seed, draws=draws), _DECIMALS)
        for side in (first, second)
    )
    drawn = measure(*resampled)
    return Interval(value, *_percentile_bounds(drawn[~np.isnan(drawn)], level))


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


def _resampled_means(
    values: Float[np.ndarray, "methods n"], *, seed: int, draws: int
) -> Float[np.ndarray, "draws methods"]:
    wide = _sample(values)
    counts = _count_matrix(wide.shape[1], seed=seed, draws=draws)
    return np.asarray(counts @ wide.T / wide.shape[1])


def _count_matrix(n: int, *, seed: int, draws: int) -> Float[np.ndarray, "draws n"]:
    """How often each bootstrap sample of n identities holds each of them."""
    return np.concatenate([_counts(chosen) for chosen in _resamples(n, seed=seed, draws=draws)])


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
    """Different rows, and the place of each row among them: clean scores come in every method."""
    places: dict[bytes, int] = {}
    place = [
        places.setdefault(hashlib.blake2b(row, digest_size=16).digest(), len(places))
        for row in np.ascontiguousarray(rows + 0.0)
    ]
    found = np.array(place)
    _, first = np.unique(found, return_index=True)
    return rows[first], found


def _percentiles(drawn: Float[np.ndarray, "rows draws"], level: float) -> np.ndarray:
    """``np.percentile(drawn, _percents(level), axis=1)``, several times as fast; reorders `drawn`.

    Two partitions at one place each are vectorized in numpy, one at several places is not.
    """
    ends = np.empty((2, len(drawn)))
    start = 0
    for end, share in zip(ends, _percents(level), strict=True):
        position = (drawn.shape[1] - 1) * share / 100
        below = math.floor(position)
        rest = drawn[:, start:]
        rest.partition(below - start, axis=1)
        low, high = rest[:, below - start], rest[:, below - start + 1 :].min(axis=1)
        end[:] = low + (high - low) * (position - below)
        start = below + 1
    return ends


#: What becomes of rows of values in every bootstrap sample: [rows, draws].
_Resample = Callable[[np.ndarray], np.ndarray]


def _means_of(counts: Float[np.ndarray, "draws n"]) -> _Resample:
    shares = np.ascontiguousarray(counts.T) / counts.shape[1]

    def resample(rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows @ shares)

    return resample


def _ratios_of(counts: Float[np.ndarray, "draws n"]) -> _Resample:
    """Of rows that hold the values above the line and then those below."""

    across = np.ascontiguousarray(counts.T)

    def resample(rows: np.ndarray) -> np.ndarray:
        above, below = np.hsplit(rows, 2)
        return _quotient(above @ across, below @ across)

    return resample


def _row_ends(
    rows: Float[np.ndarray, "rows n"],
    resample: _Resample,
    draws: int,
    level: float,
) -> Float[np.ndarray, "2 rows"]:
    """Percentile bounds of what `resample` makes of each row, [some, draws] at a time.

    Undefined draws (NaN) are left out.
    """
    ends = np.empty((2, len(rows)))
    step = max(1, _CHUNK // draws)
    for start in range(0, len(rows), step):
        drawn = resample(rows[start : start + step])
        if draws < _FEW or np.isnan(drawn).any():
            found = np.nanpercentile(drawn, _percents(level), axis=1)
        else:
            found = _percentiles(drawn, level)
        ends[:, start : start + step] = found
    return np.round(ends, _DECIMALS)


def _percents(level: float) -> list[float]:
    return [50 * (1 - level), 50 * (1 + level)]


def _percentile_bounds(draws: Float[np.ndarray, " draws"], level: float) -> tuple[float, float]:
    low, high = np.percentile(draws, _percents(level))
    return float(low), float(high)


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
    return t, 1.0 if math.isnan(t) else float(2 * stats.t.sf(abs(t), n - 1))


def _t_p_values(differences: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    n = differences.shape[1]
    if n == 1:
        return np.ones(len(differences))
    means = differences.mean(axis=1)
    equal = np.ptp(differences, axis=1) == 0
    deviations = np.where(equal, 1.0, differences.std(axis=1, ddof=1))
    p = 2 * stats.t.sf(np.abs(means) / (deviations / math.sqrt(n)), n - 1)
    return np.asarray(np.where(equal, (means == 0).astype(np.float64), p))


def _wilcoxon_p_values(moved: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    """Wilcoxon's signed-rank test of rows without zeros, by the rules of `compare_paired`."""
    n = moved.shape[1]
    ranks = np.asarray(stats.rankdata(np.abs(moved), axis=1))
    positive = np.where(moved > 0, ranks, 0.0).sum(axis=1)
    ordered = np.sort(ranks, axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    # The sum of squared ranks has the correction for ties in it.
    z = (positive - n * (n + 1) / 4) / np.sqrt((ranks**2).sum(axis=1) / 4)
    p = np.asarray(2 * stats.norm.sf(np.abs(z)))
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
    places = np.arange(int(steps.sum(axis=1).max()) + 1)
    chances = np.zeros((len(ranks), len(places)))
    chances[:, 0] = 1.0
    for step in steps.T:
        source = places - step[:, None]
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


def _tau_b(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], counts: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, " draws"]:
    """Kendall's tau-b of samples given as counts of items; all sums are of whole numbers."""
    signs_x, signs_y = (np.sign(v[:, None] - v[None, :]) for v in (x, y))

    def total(signs: np.ndarray) -> np.ndarray:
        return np.asarray(((counts @ signs) * counts).sum(axis=1))

    return _quotient(
        total(signs_x * signs_y), np.sqrt(total(np.abs(signs_x)) * total(np.abs(signs_y)))
    )


def _rho(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], counts: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, " draws"]:
    """Spearman's rho of samples given as counts: Pearson's r of the middle ranks in each."""
    # Twice the middle rank's distance from the mean rank: whole numbers, so no rounding.
    ranks_x, ranks_y = (counts @ np.sign(v[None, :] - v[:, None]) for v in (x, y))
    covariance = (counts * ranks_x * ranks_y).sum(axis=1)
    spread_x, spread_y = ((counts * ranks**2).sum(axis=1) for ranks in (ranks_x, ranks_y))
    return _quotient(covariance, np.sqrt(spread_x * spread_y))


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
    ranks_x, ranks_y = (np.asarray(stats.rankdata(v, axis=1)) - middle for v in (x, y))
    spread = np.sqrt((ranks_x**2).sum(axis=1) * (ranks_y**2).sum(axis=1))
    return _quotient((ranks_x * ranks_y).sum(axis=1), spread)


def _quotient(
    top: Float[np.ndarray, "*shape"], bottom: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Quotients, NaN where the divisor is zero, without a warning."""
    quotients = np.full_like(top, np.nan)
    np.divide(top, bottom, out=quotients, where=bottom > 0)
    return quotients
