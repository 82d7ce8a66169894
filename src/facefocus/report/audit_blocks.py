"""The audit of whole faces: of a run, on its page and on the terminal, or of any matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.analysis.audit import (
    CLOSE,
    EARLY,
    Dependence,
    Exactness,
    RunShares,
    dependence,
    exactness,
    run_shares,
)
from facefocus.analysis.labels import place_label
from facefocus.analysis.rate_matrix import RateMatrix, fit_matrix, read_matrix
from facefocus.analysis.results import read_runs
from facefocus.analysis.summary import Row
from facefocus.analysis.whole_faces import HiddenFit
from facefocus.benchmark.result_slices import default_slice
from facefocus.core.errors import UserError
from facefocus.core.text import NOTHING, bounds, number, p_value, percent
from facefocus.report.document import (
    Block,
    Details,
    Facts,
    Heading,
    Listing,
    Paragraph,
    Table,
    plain_table,
)

#: Rows of a table that is shown at once; a longer one opens on a click.
SHORT = 12

#: The fit must also reproduce this share of the squared effect, and there must be such an effect.
EXPLAINED, SMALL = 0.99, 0.05

#: With fewer numbers free, most matrices fit.
FEW = 5

#: A p-value below this shows that recognition depends on the budget, or on the fill.
SIGNIFICANT = 0.05


def audit_document(
    run: Path | None, matrix: str | None, *, shipped: Callable[[str], str | None]
) -> list[Block]:
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
        return matrix_blocks(read_matrix(matrix, shipped(matrix)))
    results = read_runs([run] if run is not None else [])
    return [Paragraph(f"Shown: {default_slice(results)}."), *audit_blocks(results, absent=True)]


def audit_blocks(results: pl.DataFrame, *, absent: bool = False) -> list[Block]:
    """What the results can say to the three questions.

    Args:
        results: Result rows.
        absent: Also say which of them they cannot answer, and why.
    """
    exact, tests, shares = exactness(results), dependence(results), run_shares(results)
    by = {kind: [test for test in tests if test.kind == kind] for kind in ("budget", "fill")}
    parts: list[tuple[str, list[Block], str]] = [
        (
            "Exactly k pixels against the percentile, same maps",
            [_exact(exact)] if exact else [],
            "Not tried: give on_degenerate = ['none', 'inclusive'] in [occlusion].",
        ),
        (
            "Does recognition depend on the budget?",
            [_dependence(by["budget"], "the budget")] if by["budget"] else [],
            "Not tried: there is one budget.",
        ),
        (
            "Does recognition depend on the fill?",
            [_dependence(by["fill"], "the fill")] if by["fill"] else [],
            "Not tried: there are fewer than three fills, blur aside.",
        ),
        (
            "Does a transfer matrix look as if whole faces were hidden?",
            [_shares(shares), _meanings(shares)] if shares else [],
            "Not tried: no method was run from two recognizers on two, with anybody in all four.",
        ),
    ]
    blocks: list[Block] = []
    for title, answered, missing in parts:
        if answered or absent:
            blocks += [Heading(title), *(answered or [Paragraph(missing)])]
    return blocks


# --- a matrix -------------------------------------------------------------------------------------


def matrix_blocks(matrix: RateMatrix) -> list[Block]:
    """The fit of a matrix: shares of hidden faces, what they mean, and the residuals."""
    fit = fit_matrix(matrix)
    shares = [
        (name, number(share), bounds(low, high), number(most))
        for name, share, low, high, most in zip(
            matrix.sources, fit.share, fit.low, fit.high, fit.most, strict=True
        )
    ]
    residuals = [
        (name, *(number(value, signed=True) for value in row))
        for name, row in zip(matrix.sources, fit.residuals, strict=True)
    ]
    for name, rates, given in (
        ("clean", fit.clean, matrix.clean),
        ("hidden", fit.hidden, matrix.hidden),
    ):
        how = "fitted" if given is None else "given"
        residuals.append((f"{name} ({how})", *map(number, rates)))
    return [
        plain_table(
            ["Source", "p", "95 % interval", "At most"],
            shares,
            "Share p of identities that would have to lose the whole face",
        ),
        Listing(list(meaning(matrix, fit))),
        plain_table(
            ["Source", *matrix.targets],
            residuals,
            "Residuals of the fit, and rates with nothing and with the whole face hidden",
        ),
    ]


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
        yield f"Rates are at most {number(effect)} off the clean ones: too little to fit anything."
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
        " squared effect. A matrix in which, for each source recognizer, a share p of the"
        " identities lost the whole face and the others nothing looks the same."
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
    words = (
        "A recognizer's own maps take no more from it than from the others"
        if off > -CLOSE
        else "A recognizer's own maps take more from it than the fit says"
    )
    yield f"{words}: its own cells are {number(off, signed=True)} off the fit in the mean."


def _conventions(matrix: RateMatrix, fit: HiddenFit) -> Iterator[str]:
    """What was taken for given, and what that makes of p."""
    if matrix.clean is None:
        yield (
            "Clean rates are not given: the source recognizer of smallest effect counts as hiding"
            " nobody, so every p is at least what is shown."
        )
    if matrix.hidden is None:
        yield (
            "Rates with the whole face hidden are not given: the least of them counts as 0, the"
            " smallest p there can be; 'at most' is the scale at which the largest p is 1."
        )
    if fit.share.max() > 1 + CLOSE:
        yield "The largest p is above 1: whole faces alone cannot explain it."


# --- a run ----------------------------------------------------------------------------------------


def verdict(test: Dependence) -> str:
    """What one test says."""
    if test.suspicious and test.early is not None:
        return f"look: {percent(min(test.early, 1.0), 0)} of the drop is there at {test.values[0]}"
    shown = "depends on" if test.p_holm < SIGNIFICANT else "not shown to depend on"
    return f"{shown} the {test.kind}"


def _folded(table: Table, rows: int) -> Block:
    return table if rows <= SHORT else Details(f"{table.title} ({rows} rows)", [table])


_WHOSE = {
    "Method": "Method, layer and objective.",
    "Recognizer": "The target recognizer, on its own maps.",
}


def _whose(row: Row) -> list[str]:
    return [place_label(row, ("objective", "options")), str(row["target"])]


def exactness_cells(exact: Exactness, nothing: str) -> list[str]:
    """The figures of a comparison of exactly k pixels with the inclusive rule."""
    return [
        number(exact.clean),
        number(exact.exact),
        number(exact.inclusive),
        exact.difference.text(signed=True),
        percent(exact.area, 2),
        percent(exact.whole),
        percent(exact.by_whole, 0) if exact.whole else nothing,
    ]


def _exact(comparisons: Sequence[Exactness]) -> Block:
    headings = {
        **_WHOSE,
        "Clean": "Recognition with nothing hidden.",
        "Exactly k": "Recognition with exactly k pixels hidden, nothing where there is no map.",
        "Inclusive": "Recognition with every pixel at or above the percentile hidden.",
        "Exact - inclusive": "What the second rule takes more, with its 95 % interval.",
        "Area, inclusive": "Mean share of the frame that the second rule hides.",
        "Whole face hidden": "Share of identities of which it leaves nothing.",
        "Share of the drop": "How much of its drop is lost by these identities.",
    }
    rows = [
        [
            *_whose(exact.row),
            *exactness_cells(exact, NOTHING),
        ]
        for exact in comparisons
    ]
    caption = "Recognition with exactly k pixels hidden, and with every pixel >= the percentile"
    return _folded(plain_table(headings, rows, caption, names=2), len(rows))


def _dependence(tests: Sequence[Dependence], title: str) -> Block:
    values = list(dict.fromkeys(value for test in tests for value in test.values))
    headings = {
        **_WHOSE,
        "Degenerate maps": "What a flat map means: none, or inclusive, which hides the whole face.",
        "Clean": "Recognition with nothing hidden.",
        **{value: f"Recognition at {value}." for value in values},
        "p (Holm)": "Budget: Wilcoxon's test of smallest and largest; fills: Friedman's test, blur "
        "aside. Corrected over all of the kind.",
        "Difference": "Budget: smallest minus largest; fills: largest difference of two means.",
        "Verdict": f"look: the smallest budget has {percent(EARLY, 0)} or more of the drop.",
    }
    rows = []
    for test in sorted(tests, key=lambda test: not test.suspicious):
        rates = dict(zip(test.values, map(number, test.rates), strict=True))
        cells = [rates.get(value, NOTHING) for value in values]
        policy = str(test.row["on_degenerate"])
        judged = [p_value(test.p_holm), test.difference.text(), verdict(test)]
        rows.append([*_whose(test.row), policy, number(test.clean), *cells, *judged])
    return _folded(plain_table(headings, rows, f"Recognition by {title}", names=3), len(rows))


def _shares(shares: Sequence[RunShares]) -> Block:
    headings = {
        "Method": _WHOSE["Method"],
        "Degenerate maps": "What a flat map means.",
        "Source": "The source recognizer.",
        "p": "Share of identities that would have to lose the whole face.",
        "95 % interval": "Over identities.",
        "Whole faces in fact": "Share of identities whose mask did hide the whole face.",
    }
    rows = [
        [
            place_label(share.row, ("objective", "options")),
            str(share.row["on_degenerate"]),
            name,
            number(share.fit.share[index]),
            bounds(share.fit.low[index], share.fit.high[index]) or NOTHING,
            percent(share.measured[index]),
        ]
        for share in shares
        for index, name in enumerate(share.matrix.sources)
    ]
    caption = "Share of identities that would have to lose the whole face"
    return _folded(plain_table(headings, rows, caption, names=3), len(rows))


def _meanings(shares: Sequence[RunShares]) -> Block:
    sentences = {}
    for share in shares:
        name = place_label(share.row, ("objective", "options"))
        sentences[f"{name}, {share.row['on_degenerate']}"] = " ".join(
            meaning(share.matrix, share.fit)
        )
    return Facts(sentences)
