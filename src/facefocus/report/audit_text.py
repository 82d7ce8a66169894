"""The audit of whole faces as text: of a run, or of any transfer matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.analysis.audit import CLOSE, Dependence, Exactness, dependence, exactness, run_shares
from facefocus.analysis.labels import place_label
from facefocus.analysis.rate_matrix import RateMatrix, fit_matrix, read_matrix
from facefocus.analysis.results import read_runs
from facefocus.analysis.summary import Row
from facefocus.analysis.whole_faces import HiddenFit
from facefocus.core.errors import UserError
from facefocus.core.text import bounds, budget_text, number, p_value, percent, with_bounds

#: The fit must also reproduce this share of the squared effect, and there must be such an effect.
EXPLAINED, SMALL = 0.99, 0.05

#: With fewer numbers free, most matrices fit.
FEW = 5

#: A p-value below this shows that recognition depends on the budget, or on the fill.
SIGNIFICANT = 0.05


def matrix_lines(matrix: RateMatrix, fit: HiddenFit) -> Iterator[str]:
    """The fit for people: a line for each generating recognizer, then what it means."""
    wide = max(len("recognizer"), *map(len, matrix.sources))
    yield f"{'recognizer':<{wide}}  p      95 % interval   at most"
    for name, share, low, high, most in zip(
        matrix.sources, fit.share, fit.low, fit.high, fit.most, strict=True
    ):
        ends = bounds(low, high)
        yield f"{name:<{wide}}  {number(share)}  {ends:<14}  {number(most)}"
    yield from ("", *meaning(matrix, fit), "", *residual_lines(matrix, fit))


def residual_lines(matrix: RateMatrix, fit: HiddenFit) -> Iterator[str]:
    """Residuals, and under them what each evaluating recognizer does without and with a face."""
    wide = max(len("residuals"), *map(len, matrix.sources))
    columns = [max(7, len(name)) for name in matrix.targets]

    def line(label: str, cells: Sequence[str]) -> str:
        shown = (f"{cell:>{width}}" for cell, width in zip(cells, columns, strict=True))
        return f"{label:<{wide}}  {'  '.join(shown)}"

    yield line("residuals", matrix.targets)
    for name, row in zip(matrix.sources, fit.residuals, strict=True):
        yield line(name, [number(value, signed=True) for value in row])
    given = " (given)" if matrix.clean is not None else " (fitted)"
    yield line("clean", [number(value) for value in fit.clean]) + given
    given = " (given)" if matrix.hidden is not None else " (fitted)"
    yield line("hidden", [number(value) for value in fit.hidden]) + given


def meaning(matrix: RateMatrix, fit: HiddenFit) -> Iterator[str]:
    """What a fit says, in sentences: what it would mean, and what it cannot tell."""
    cells = int(np.isfinite(matrix.rates).sum())
    worst = np.unravel_index(np.nanargmax(np.abs(fit.residuals)), fit.residuals.shape)
    where = f"{matrix.sources[worst[0]]} on {matrix.targets[worst[1]]}"
    size = f"root mean square {number(fit.rms)}, largest {number(fit.largest)} ({where})"
    if fit.free < 1:
        yield f"{cells} cells are no more than what is fitted: any matrix fits, and p says nothing."
        return
    effect = float(np.nanmax(np.abs(matrix.rates - fit.clean)))
    if effect < SMALL:
        yield f"Rates are at most {number(effect)} off the clean ones: too little to tell a form."
        return
    if fit.rms > CLOSE or fit.explained < EXPLAINED:
        yield (
            f"Does not fit: residuals {size}, {fit.free} free; {percent(fit.explained, 1)} of the"
            " squared effect. The masks act differently on different recognizers, so p is no share"
            " of identities."
        )
        return
    little = "" if fit.free >= FEW else ", which with so few cells says little"
    yield (
        f"Fits{little}: residuals {size}, {fit.free} free; {percent(fit.explained, 3)} of the"
        " squared effect. The matrix cannot be told from one in which, for each generating"
        " recognizer, a share p of the identities lost the whole face and the others nothing."
    )
    yield from _of_own_maps(matrix, fit)
    yield from _conventions(matrix, fit)


def _of_own_maps(matrix: RateMatrix, fit: HiddenFit) -> Iterator[str]:
    """Whether recognizers lose more to their own maps than the fit, which knows of none, says."""
    own = [
        float(fit.residuals[i, matrix.targets.index(name)])
        for i, name in enumerate(matrix.sources)
        if name in matrix.targets
    ]
    if not own:
        return
    off = float(np.nanmean(own))
    said = (
        "A recognizer's own maps take no more from it than from the others"
        if off > -CLOSE
        else "A recognizer's own maps take more from it than the fit says"
    )
    yield f"{said}: its own cells are {number(off, signed=True)} off the fit in the mean."


def _conventions(matrix: RateMatrix, fit: HiddenFit) -> Iterator[str]:
    """What was taken for given, and what that makes of p."""
    if matrix.clean is None:
        yield (
            "Clean rates are not given: the generating recognizer that does least counts as hiding"
            " nobody, so every p is at least what is shown."
        )
    if matrix.hidden is None:
        yield (
            "Rates with the whole face hidden are not given: the least of them counts as 0, the"
            " smallest p there can be; 'at most' is the scale at which the largest p is 1."
        )
    if fit.share.max() > 1 + CLOSE:
        yield "The largest p is above 1: whole faces alone cannot explain it."


def audit_lines(
    run: Path | None, matrix: str | None, *, shipped: Callable[[str], str | None]
) -> Iterator[str]:
    """The audit of a run, or of a matrix.

    Args:
        run: A run folder, or a folder of runs.
        matrix: A CSV file, or the name of a shipped one.
        shipped: The text of the shipped matrix of a name; None if there is none.

    Raises:
        UserError: Neither or both are given, or what is given cannot be read.
    """
    if (run is None) == (matrix is None):
        raise UserError(
            "Name a run, or a matrix with --matrix FILE.csv; '--matrix table14.csv' is the paper's."
        )
    if matrix is not None:
        read = read_matrix(matrix, shipped(matrix))
        yield from matrix_lines(read, fit_matrix(read))
    elif run is not None:
        yield from run_lines(read_runs([run]))


def run_lines(results: pl.DataFrame) -> Iterator[str]:
    """The audit of result rows: shares, dependence, exactness; says what cannot be asked."""
    yield "Shares of identities that would have to be hidden whole (transfer matrices)"
    shares = run_shares(results)
    if not shares:
        yield "  None: no method was tried from two recognizers on two, with anybody in all four."
    for one in shares:
        yield f"  {_label(one.row)}, {one.row['on_degenerate']}:"
        for place, name in enumerate(one.matrix.sources):
            fit = one.fit
            yield (
                f"    {name} p {with_bounds(fit.share[place], fit.low[place], fit.high[place])};"
                f" whole faces hidden in fact: {number(one.measured[place])}"
            )
        yield from (f"    {line}" for line in meaning(one.matrix, one.fit))
    yield from ("", *_dependence_lines(dependence(results)), "", *_exact_lines(exactness(results)))


def _label(row: Row) -> str:
    names = ("objective", "options", "fill")
    return f"{place_label(row, names)}, {budget_text(row['budget'])}"


def _dependence_lines(tests: Sequence[Dependence]) -> Iterator[str]:
    yield "Does recognition depend on the budget, and on the fill?"
    if not tests:
        yield "  Not asked: one budget, and fewer than three fills."
    for one in tests:
        rates = ", ".join(
            f"{value} {number(rate)}" for value, rate in zip(one.values, one.rates, strict=True)
        )
        yield f"  {one.kind}: {_whose(one.row)}: clean {number(one.clean)}; {rates}; {verdict(one)}"


def _whose(row: Row) -> str:
    place = place_label(row, ("objective", "options"))
    return f"{place} on {row['target']}, {row['on_degenerate']}"


def verdict(one: Dependence) -> str:
    """What one test says, p-value included."""
    p = f"p {p_value(one.p_holm)}, Holm-corrected"
    if one.kind == "fill":
        known = (
            "depends on the fill" if one.p_holm < SIGNIFICANT else "not shown to depend on the fill"
        )
        return f"{known} ({p}, means differ by {number(one.difference.value)})"
    if one.suspicious and one.early is not None:
        return (
            f"LOOK: {percent(min(one.early, 1.0), 0)} of the drop is there at {one.values[0]}:"
            f" more pixels add {number(one.difference.value)} ({p})"
        )
    known = (
        "depends on the budget" if one.p_holm < SIGNIFICANT else "not shown to depend on the budget"
    )
    return f"{known} ({p}, {one.difference.text()})"


def _exact_lines(found: Sequence[Exactness]) -> Iterator[str]:
    yield "Exactly k pixels, and every pixel at or above the percentile, of the same maps"
    if not found:
        yield "  Not asked: give on_degenerate = ['none', 'inclusive'] in [occlusion]."
    for one in found:
        share = (
            "" if one.by_whole is None or not one.whole
            else f", who lose {percent(one.by_whole, 0)} of it"
        )  # fmt: skip
        yield (
            f"  {_whose(one.row).rpartition(',')[0]}: clean {number(one.clean)}, exact"
            f" {number(one.exact)}, inclusive {number(one.inclusive)}; difference"
            f" {one.difference.text(signed=True)}; inclusive hides"
            f" {percent(one.area, 2)} in the mean, the whole face of {percent(one.whole)}{share}"
        )
