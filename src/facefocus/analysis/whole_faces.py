"""What a table of recognition rates would mean if some faces had been hidden whole.

A flat map under the rule ``map >= percentile`` selects every pixel (Protocol: masks, audit). If
that befalls a share p_i of the identities of source recognizer i, and the masks of the others
do nothing, target recognizer j reads

    rate(i, j) = (1 - p_i) clean_j + p_i hidden_j

with `hidden_j` the rate at which j accepts a face of which nothing is left. The paper's Table 14
has this form. A fit says that a matrix *cannot be distinguished from* such a one, not how it was
made.

What can be known. The form is ``clean_j + p_i d_j``: a column constant and a product. Adding to all
p and scaling them is undone by `clean` and `hidden`, so two conventions are needed, each of which
a measurement replaces:

- *origin*: where `clean` is not given, the source recognizer that does least hides nobody
  (p = 0). With the true least share q, every true share is ``1 - (1 - p)(1 - q)``, at least p.
- *scale*: where `hidden` is not given, the target recognizer that is hardest to fool accepts
  no face that is hidden whole: the least `hidden_j` is 0. No rate is below 0, so this is the
  smallest scale, and p is at least what is reported. The largest is the one at which the highest
  p is 1; it is reported as `most`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from facefocus.core.seeds import generator
from facefocus.evaluation.statistics import LEVEL, deviation_factor

Matrix = Float[np.ndarray, "sources targets"]

#: Alternating steps for a matrix with gaps, and the change at which they end.
_STEPS, _STILL = 500, 1e-10

#: Effects of this size are rounding: no share can be read from them.
_NOTHING = 1e-9

#: Draws of the residual bootstrap: a fit each, and whole percents are enough.
FIT_DRAWS = 400


@dataclass(frozen=True, eq=False)
class HiddenFit:
    """Rates read as a share of identities that are hidden whole, per source recognizer.

    Attributes:
        share: p of each source recognizer, in the conventions above; negative where masks
            raise recognition.
        low: Lower end of its 95 % interval; NaN where there is nothing to tell the spread from.
        high: Upper end.
        most: The largest p that the matrix allows; equal to `share` where `hidden` was given.
        clean: Rate of each target recognizer with nothing hidden: given or fitted.
        hidden: Rate with the whole face hidden: given or fitted; NaN where nothing has an effect.
        residuals: Matrix minus fit.
        free: Cells minus fitted numbers; with 0 every matrix fits.
        explained: Share of the squared effect (rate minus clean) that the fit reproduces.
    """

    share: Float[np.ndarray, " sources"]
    low: Float[np.ndarray, " sources"]
    high: Float[np.ndarray, " sources"]
    most: Float[np.ndarray, " sources"]
    clean: Float[np.ndarray, " targets"]
    hidden: Float[np.ndarray, " targets"]
    residuals: Matrix
    free: int
    explained: float

    @property
    def rms(self) -> float:
        """Root mean square of the residuals, over the cells."""
        return math.sqrt(float(np.nanmean(self.residuals**2)))

    @property
    def largest(self) -> float:
        """The residual farthest from zero, without its sign."""
        return float(np.nanmax(np.abs(self.residuals)))


def fit_hidden(
    rates: Matrix,
    *,
    clean: Float[np.ndarray, " targets"] | None = None,
    hidden: Float[np.ndarray, " targets"] | None = None,
    resampled: Float[np.ndarray, "draws sources targets"] | None = None,
    resampled_clean: Float[np.ndarray, "draws targets"] | None = None,
    people: int = 0,
    seed: int = 0,
) -> HiddenFit:
    """Least-squares fit of the form above, with intervals.

    Args:
        rates: Recognition rates in [0, 1], source by target recognizer; NaN for no cell.
        clean: Rates with nothing hidden; fitted where None.
        hidden: Rates with the whole face hidden; fitted where None. Needs `clean`.
        resampled: The matrix of other samples of identities, for the intervals; residuals are
            resampled where None, which a matrix without its identities is left to.
        resampled_clean: `clean` of these samples; needed with `resampled` where there is `clean`.
        people: How many identities were resampled.
        seed: Seed of the residual bootstrap.

    Raises:
        ValueError: A rate outside [0, 1], an empty row or column, too few rows or columns for what
            is to be fitted, or `hidden` without `clean`.
    """
    _check(rates, clean, hidden)
    known = np.isfinite(rates)
    share, base, gone = _solve(rates, known, clean, hidden)
    effect = np.where(np.isfinite(gone), gone - base, 0.0)
    fitted = base + share[:, None] * effect
    residuals = np.where(known, rates - fitted, np.nan)
    whole = np.nansum((rates - base) ** 2)
    free = int(known.sum()) - _unknowns(rates.shape, clean is None, hidden is None)
    if resampled is None:
        low, high = _residual_interval(fitted, residuals, free, clean, hidden, seed)
    else:
        spread = _sample_deviation(resampled, resampled_clean, hidden)
        half = spread * deviation_factor(people)
        low, high = share - half, share + half
    top = float(share.max())
    most = share if hidden is not None or not 0 < top < 1 else share / top
    return HiddenFit(
        share=share,
        low=low,
        high=high,
        most=most,
        clean=base,
        hidden=gone,
        residuals=residuals,
        free=free,
        explained=1.0 if whole < _NOTHING else 1.0 - float(np.nansum(residuals**2) / whole),
    )


def _check(rates: Matrix, clean: np.ndarray | None, hidden: np.ndarray | None) -> None:
    for values in (rates, clean, hidden):
        if values is not None and (np.nanmin(values) < 0 or np.nanmax(values) > 1):
            raise ValueError("Rates must be in [0, 1].")
    known = np.isfinite(rates)
    if not (known.any(axis=0).all() and known.any(axis=1).all()):
        raise ValueError("Every recognizer needs at least one rate.")
    if hidden is not None and clean is None:
        raise ValueError("'hidden' needs 'clean' beside it.")
    least = 1 if hidden is not None else 2
    if min(rates.shape) < least:
        raise ValueError(f"A fit needs at least {least} rows and columns. Got {rates.shape}.")


def _unknowns(shape: tuple[int, ...], clean: bool, hidden: bool) -> int:
    """How many numbers are fitted: conventions fix two, or one where `clean` is given."""
    sources, targets = shape
    return sources + hidden * (targets - 1) + clean * (targets - 1)


_Solution = tuple[np.ndarray, np.ndarray, np.ndarray]


def _solve(
    rates: Matrix,
    known: Bool[np.ndarray, "sources targets"],
    clean: np.ndarray | None,
    hidden: np.ndarray | None,
) -> _Solution:
    """Shares, clean rates and hidden rates in the conventions of this module."""
    if clean is not None and hidden is not None:
        effect = hidden - clean
        return _shares(np.where(known, rates - clean, 0.0), known, effect), clean, hidden
    share, base, effect = _product(rates, known, clean)
    if clean is None:
        base = base + share.min() * effect
        share = share - share.min()
    if np.abs(share[:, None] * effect).max() < _NOTHING:
        return np.zeros_like(share), base, np.full_like(base, np.nan)
    # The least hidden rate becomes 0: the recognizer that loses the largest part of its rate.
    scale = float((-effect / np.maximum(base, _NOTHING)).max())
    return share * scale, base, base + effect / scale


def _product(
    rates: Matrix, known: Bool[np.ndarray, "sources targets"], clean: np.ndarray | None
) -> _Solution:
    """Best ``base_j + share_i effect_j`` of any scale, effects mostly negative.

    One singular value decomposition where no cell is missing (Eckart and Young 1936), else
    alternating least squares from there.
    """
    base = np.nanmean(rates, axis=0) if clean is None else clean
    left = np.where(known, rates - base, 0.0)
    columns, sizes, rows = np.linalg.svd(left, full_matrices=False)
    share, effect = columns[:, 0] * sizes[0], rows[0]
    for _ in range(0 if known.all() else _STEPS):
        before = base + share[:, None] * effect
        share = _shares(np.where(known, rates - base, 0.0), known, effect)
        if clean is None:
            middle = (known * share[:, None]).sum(axis=0) / known.sum(axis=0)
            moved = known * (share[:, None] - middle)
            top = (moved * np.where(known, rates, 0.0)).sum(axis=0)
            effect = _quotient(top, (moved**2).sum(axis=0))
            base = np.nanmean(rates, axis=0) - middle * effect
        else:
            top = (share[:, None] * np.where(known, rates - base, 0.0)).sum(axis=0)
            effect = _quotient(top, (known * share[:, None] ** 2).sum(axis=0))
        if np.abs(base + share[:, None] * effect - before).max() < _STILL:
            break
    sign = -1.0 if effect.sum() > 0 else 1.0
    return sign * share, base, sign * effect


def _shares(
    left: Matrix, known: Bool[np.ndarray, "sources targets"], effect: np.ndarray
) -> np.ndarray:
    squares = (known * effect**2).sum(axis=1)
    return _quotient(left @ effect, squares)


def _quotient(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Quotients of sums over squares, 0 over nothing."""
    return np.asarray(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0))


def _residual_interval(
    fitted: Matrix,
    residuals: Matrix,
    free: int,
    clean: np.ndarray | None,
    hidden: np.ndarray | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile ends from refits with residuals drawn anew, widened for the fitted numbers."""
    known = np.isfinite(residuals)
    if free < 1:
        return (np.full(len(fitted), np.nan),) * 2
    errors = residuals[known] * math.sqrt(known.sum() / free)
    draws = generator(seed, "residuals").choice(errors, size=(FIT_DRAWS, *fitted.shape))
    shares = [
        _solve(np.where(known, fitted + draw, np.nan), known, clean, hidden)[0] for draw in draws
    ]
    low, high = np.percentile(shares, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    return low, high


def _sample_deviation(
    resampled: np.ndarray, clean: np.ndarray | None, hidden: np.ndarray | None
) -> np.ndarray:
    """Standard deviation of the shares over refits to other samples of identities."""
    shares = []
    for number, rates in enumerate(resampled):
        base = None if clean is None else clean[number]
        shares.append(_solve(rates, np.isfinite(rates), base, hidden)[0])
    return np.asarray(np.std(shares, axis=0))
