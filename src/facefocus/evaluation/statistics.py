"""Intervals, paired tests, effect sizes and rank statistics over identities (PROTOCOL section 8).

Figures that a sample cannot give (any spread of a single identity) are NaN, and each docstring
says where; p-values are never NaN. No function warns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float


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
    means = _resampled_means(values[None], seed=seed, draws=draws)[:, 0]
    return Interval(mean, *_percentile_bounds(means, level))


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
    ahead = (means[:, None, :] > means[:, :, None]).sum(axis=2)
    level_with = (means[:, None, :] == means[:, :, None]).sum(axis=2)
    shares = [
        (((ahead <= place) & (place < ahead + level_with)) / level_with).mean(axis=0)
        for place in range(len(values))
    ]
    ranks = ahead + (level_with + 1) / 2
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
    parts = [
        np.stack([row[chosen].mean(axis=1) for row in wide], axis=1)
        for chosen in _resamples(wide.shape[1], seed=seed, draws=draws)
    ]
    return np.concatenate(parts)


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


def _quotient(
    top: Float[np.ndarray, " draws"], bottom: Float[np.ndarray, " draws"]
) -> Float[np.ndarray, " draws"]:
    """Quotients, NaN where the divisor is zero, without a warning."""
    quotients = np.full_like(top, np.nan)
    np.divide(top, bottom, out=quotients, where=bottom > 0)
    return quotients
