"""Do these recognition rates come from small masks, or from faces that were hidden whole?

Three questions (Protocol: audit), of result rows or of any transfer matrix:

- *shares*: does a matrix look as if a share of the identities had lost the whole face?
- *dependence*: does recognition depend on the budget and on the fill at all? If the damage is done
  by whole faces, a larger budget and another color change nothing.
- *exactness*: what do exactly k pixels of the same maps do, beside every pixel above a percentile?
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from facefocus.analysis.summary import COMPETES, CONFIGURATION, Row
from facefocus.analysis.whole_faces import HiddenFit, fit_hidden
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.core.text import bounds, budget_text, number, p_value, percent, with_bounds
from facefocus.evaluation.statistics import Interval, compare_paired, holm, mean_interval
from facefocus.paper.published import shipped
from facefocus.report.columns import place_label
from facefocus.report.tables import default_slice, read_runs

#: Rows of a matrix that hold no generating recognizer: nothing hidden, and the whole face hidden.
CLEAN, HIDDEN = "clean", "hidden"

#: A mask of this share of the frame leaves nothing of the face.
WHOLE = 0.95

#: Residuals within this are as good as the two or three digits that tables print.
CLOSE = 0.01

#: The fit must also reproduce this share of the squared effect, and there must be such an effect.
EXPLAINED, SMALL = 0.99, 0.05

#: With fewer numbers free, most matrices fit.
FEW = 5

#: A drop is there from the start if the smallest budget has this share of the largest one's drop.
EARLY = 0.8

#: Samples of identities for the intervals of a run's shares: a fit each.
DRAWS = 500

_LEVEL = 0.05


# --- a matrix from anywhere -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RateMatrix:
    """Recognition rates, generating by evaluating recognizer; NaN for an empty cell."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    rates: Float[np.ndarray, "sources targets"]
    clean: Float[np.ndarray, " targets"] | None = None
    hidden: Float[np.ndarray, " targets"] | None = None


def read_matrix(name: str) -> RateMatrix:
    """A matrix from a CSV file, or the shipped ``table14.csv`` of the paper.

    The first line names the evaluating recognizers, the first cell of every other line the
    generating one. Lines called ``clean`` and ``hidden`` may give the rates with nothing and with
    the whole face hidden.

    Raises:
        UserError: The file cannot be read or is no such matrix; says where.
    """
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else shipped(name)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the matrix '{name}': {type(error).__name__}.") from None
    if text is None:
        raise UserError(
            f"There is no matrix '{name}'. 'table14.csv', the paper's, is always there."
        )
    try:
        lines = [line for line in csv.reader(io.StringIO(text)) if any(map(str.strip, line))]
    except csv.Error as error:
        raise UserError(f"The matrix '{name}' is no CSV: {error}.") from None
    return _matrix(name, lines)


def _matrix(name: str, lines: Sequence[Sequence[str]]) -> RateMatrix:
    targets = tuple(cell.strip() for cell in lines[0][1:]) if lines else ()
    if not targets or "" in targets or len(set(targets)) < len(targets):
        raise UserError(
            f"The matrix '{name}' must name each evaluating recognizer once in its first line."
        )
    rows: dict[str, list[float]] = {}
    for line in lines[1:]:
        label = line[0].strip()
        if not label or label in rows:
            raise UserError(f"The matrix '{name}' must name every line once. Got '{label}'.")
        if len(line) != len(targets) + 1:
            raise UserError(
                f"Line '{label}' of '{name}' must have {len(targets)} rates. Got {len(line) - 1}."
            )
        rows[label] = [
            _rate(cell, f"Line '{label}', column '{column}' of '{name}'")
            for cell, column in zip(line[1:], targets, strict=True)
        ]
    known = {label: np.array(rows.pop(label)) for label in (CLEAN, HIDDEN) if label in rows}
    return _usable(name, RateMatrix(
        tuple(rows), targets, np.array(list(rows.values())).reshape(len(rows), len(targets)),
        known.get(CLEAN), known.get(HIDDEN),
    ))  # fmt: skip


def _rate(cell: str, place: str) -> float:
    if not cell.strip():
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        raise UserError(f"{place} must be a number in [0, 1]. Got '{cell}'.") from None
    if not 0 <= value <= 1:
        hint = f" Did you mean {value / 100:g}?" if 1 < value <= 100 else ""
        raise UserError(f"{place} must be in [0, 1]. Got {cell.strip()}.{hint}")
    return value


def _usable(name: str, matrix: RateMatrix) -> RateMatrix:
    known = np.isfinite(matrix.rates)
    least = 2 if matrix.hidden is None else 1
    if min(matrix.rates.shape) < least:
        raise UserError(
            f"The matrix '{name}' must have at least {least} generating and evaluating recognizers."
            f" Got {matrix.rates.shape[0]} and {matrix.rates.shape[1]}."
        )
    for names, has in ((matrix.sources, known.any(axis=1)), (matrix.targets, known.any(axis=0))):
        if not has.all():
            empty = names[int(np.argmin(has))]
            raise UserError(f"The matrix '{name}' must have a rate for '{empty}'. Got none.")
    for label, row in ((CLEAN, matrix.clean), (HIDDEN, matrix.hidden)):
        if row is not None and np.isnan(row).any():
            raise UserError(f"The line '{label}' of '{name}' must have a rate in every column.")
    if matrix.hidden is not None and matrix.clean is None:
        raise UserError(f"The line '{HIDDEN}' of '{name}' needs a line '{CLEAN}' beside it.")
    return matrix


def fit_matrix(matrix: RateMatrix) -> HiddenFit:
    """`evaluation.audit.fit_hidden` of a matrix."""
    return fit_hidden(matrix.rates, clean=matrix.clean, hidden=matrix.hidden)


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


# --- a run ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RunShares:
    """The fit of one method's transfer matrix in a run.

    Attributes:
        row: Any of its summary columns: method, layer, budget, fill, policy.
        matrix: Its rates, clean ones known.
        fit: Intervals over identities.
        measured: Share of identities whose masks hid the whole face, for each source.
    """

    row: Row
    matrix: RateMatrix
    fit: HiddenFit
    measured: tuple[float, ...]


#: What the cells of one matrix have in common.
_ACROSS = [name for name in CONFIGURATION
           if name not in ("source", "target", "layer_calls", "threshold")]  # fmt: skip


def run_shares(results: pl.DataFrame) -> list[RunShares]:
    """A fit for every complete transfer matrix of the first look's budget and fill."""
    shown = default_slice(results)
    rows = shown.of(results).filter(COMPETES, pl.col("rate").is_not_null())
    found = []
    for part in rows.partition_by(_ACROSS, maintain_order=True):
        sources, targets = (part[side].unique(maintain_order=True) for side in ("source", "target"))
        whole = part.select("source", "target").n_unique() == len(sources) * len(targets)
        if min(len(sources), len(targets)) >= 2 and whole:
            found += _run_share(part, tuple(sources), tuple(targets))
    return found


def _run_share(
    part: pl.DataFrame, sources: tuple[str, ...], targets: tuple[str, ...]
) -> list[RunShares]:
    """The fit of one matrix; none where nobody is in all of its cells."""
    grid, clean, area = (
        _cube(part, name, sources, targets) for name in ("rate", "clean_rate", "masked_share")
    )
    whole = area >= WHOLE
    people = grid.shape[2]
    if not people:
        return []
    chosen = generator(0, "audit").integers(people, size=(DRAWS, people))
    known = _known_hidden(grid, whole)
    fit = fit_hidden(
        grid.mean(axis=2),
        clean=clean[0].mean(axis=1),
        hidden=known,
        resampled=np.stack([grid[:, :, one].mean(axis=2) for one in chosen]),
        resampled_clean=np.stack([clean[0][:, one].mean(axis=1) for one in chosen]),
        people=people,
    )
    matrix = RateMatrix(sources, targets, grid.mean(axis=2), clean[0].mean(axis=1), known)
    measured = tuple(float(row.mean()) for row in whole[:, 0])
    return [RunShares(part.row(0, named=True), matrix, fit, measured)]


def _cube(
    part: pl.DataFrame, name: str, sources: Sequence[str], targets: Sequence[str]
) -> Float[np.ndarray, "sources targets people"]:
    """A column of the people who have it in every cell."""
    people = part.group_by("identity").len().filter(pl.col("len") == len(sources) * len(targets))
    names = people["identity"].sort().to_list()
    place = {one: index for index, one in enumerate(names)}
    cube = np.full((len(sources), len(targets), len(names)), np.nan)
    for source, target, who, value in part.select("source", "target", "identity", name).rows():
        if who in place:
            cube[sources.index(source), targets.index(target), place[who]] = value
    return cube


def _known_hidden(grid: np.ndarray, whole: np.ndarray) -> np.ndarray | None:
    """The rate of each target on faces that were hidden whole; None where it saw none."""
    counts = whole.sum(axis=(0, 2))
    if not counts.all():
        return None
    return np.asarray(np.where(whole, grid, 0.0).sum(axis=(0, 2)) / counts)


@dataclass(frozen=True)
class Dependence:
    """Whether one configuration's recognition depends on the budget, or on the fill.

    Attributes:
        row: The configuration.
        kind: ``budget`` or ``fill``.
        values: The budgets or fills compared, as texts.
        rates: Recognition under each.
        clean: Clean recognition of the same identities.
        difference: Budget: smallest minus largest; fill: largest spread of two means, no interval.
        p: Two-sided: Wilcoxon's test of the two budgets; Friedman's of the fills.
        p_holm: Corrected over all tests of the kind.
        early: Share of the largest budget's drop that the smallest one has already; None for fills
            and where no drop is told from none.
    """

    row: Row
    kind: str
    values: tuple[str, ...]
    rates: tuple[float, ...]
    clean: float
    difference: Interval
    p: float
    p_holm: float = 1.0
    early: float | None = None

    @property
    def suspicious(self) -> bool:
        """Whether a drop is there, and more pixels add (nearly) nothing to it."""
        return self.early is not None and self.early >= EARLY

    @property
    def drop(self) -> float:
        """Clean rate minus the rate of the last value."""
        return self.clean - self.rates[-1]


#: What tells one configuration from another, budget, or fill, aside.
_BUT_BUDGET = [name for name in CONFIGURATION if name not in ("budget", "experiment")]
_BUT_FILL = [name for name in CONFIGURATION if name not in ("fill", "experiment")]


def dependence(results: pl.DataFrame) -> list[Dependence]:
    """Every configuration that was tried at several budgets, or under several fills.

    Budgets at the first look's fill and fills at its budget; own maps and split ``same`` only.
    """
    shown = default_slice(results)
    rows = _once(shown.at(results, "split")).filter(
        COMPETES, pl.col("source") == pl.col("target"), pl.col("rate").is_not_null()
    )
    budgets = rows.filter(pl.col("fill") == shown.fill)
    fills = rows.filter(pl.col("budget") == shown.budget)
    found = [
        [one for part in budgets.partition_by(_BUT_BUDGET, maintain_order=True)
         if (one := _by_budget(part))],
        [one for part in fills.partition_by(_BUT_FILL, maintain_order=True)
         if (one := _by_fill(part))],
    ]  # fmt: skip
    return [one for tests in found for one in _holm(tests)]


def _holm(tests: Sequence[Dependence]) -> list[Dependence]:
    corrected = holm([one.p for one in tests])
    return [
        Dependence(**{**vars(one), "p_holm": p}) for one, p in zip(tests, corrected, strict=True)
    ]


def _once(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without those that another experiment of a study has too."""
    same = [name for name in CONFIGURATION if name != "experiment"]
    return rows.unique((*same, "identity"), keep="first", maintain_order=True)


def _by_identity(part: pl.DataFrame, field: str) -> tuple[list[object], np.ndarray, np.ndarray]:
    """Values of a field, rates [values, people] of those who have all, and their clean rates."""
    values = part[field].unique(maintain_order=True).to_list()
    wide = part.pivot(field, index=["identity", "clean_rate"], values="rate").drop_nulls()
    # By place: polars writes a small budget otherwise than Python does.
    rates = wide.drop("identity", "clean_rate").to_numpy().T
    return values, rates, wide["clean_rate"].to_numpy()


def _by_budget(part: pl.DataFrame) -> Dependence | None:
    budgets, rates, clean = _by_identity(part.sort("budget", maintain_order=True), "budget")
    if len(budgets) < 2 or rates.shape[1] < 2:
        return None
    small, large = rates[0], rates[-1]
    drop = mean_interval(clean - large, seed=0)
    sure = drop.low > 0 and drop.value > CLOSE
    return Dependence(
        part.row(0, named=True),
        "budget",
        tuple(budget_text(float(one)) for one in budgets),  # type: ignore[arg-type]
        tuple(map(float, rates.mean(axis=1))),
        float(clean.mean()),
        mean_interval(small - large, seed=0),
        compare_paired(small, large).wilcoxon_p,
        early=float((clean - small).mean()) / drop.value if sure else None,
    )


def _by_fill(part: pl.DataFrame) -> Dependence | None:
    fills, rates, clean = _by_identity(part, "fill")
    # Blur leaves most of the picture: it is weaker by design, and would hide what is asked here.
    kept = [place for place, one in enumerate(fills) if one != "blur"]
    if len(kept) < 3 or rates.shape[1] < 2:
        return None
    means = rates[kept].mean(axis=1)
    spread = float(means.max() - means.min())
    same = np.ptp(rates[kept], axis=0).max() < 1e-12
    p = 1.0 if same else float(stats.friedmanchisquare(*rates[kept]).pvalue)
    return Dependence(
        part.row(0, named=True),
        "fill",
        tuple(str(fills[place]) for place in kept),
        tuple(map(float, means)),
        float(clean.mean()),
        Interval(spread, float("nan"), float("nan")),
        p,
    )


@dataclass(frozen=True)
class Exactness:
    """The same maps, cut at exactly k pixels and at the percentile.

    Attributes:
        row: The configuration.
        clean: Clean recognition.
        exact: Recognition with exactly k pixels hidden, and none without a map.
        inclusive: Recognition with every pixel at or above the percentile hidden.
        difference: Exact minus inclusive, of the same identities.
        area: Mean hidden share of the frame under `inclusive`.
        whole: Share of identities whose whole face `inclusive` hides.
        by_whole: Share of the inclusive drop that these lose; None where nothing drops.
    """

    row: Row
    clean: float
    exact: float
    inclusive: float
    difference: Interval
    area: float
    whole: float
    by_whole: float | None


def exactness(results: pl.DataFrame) -> list[Exactness]:
    """Every configuration tried with both rules, at the first look's budget and fill; own maps."""
    shown = default_slice(results)
    keys = [name for name in CONFIGURATION if name not in ("on_degenerate", "experiment")]
    rows = _once(shown.of(results)).filter(
        COMPETES, pl.col("source") == pl.col("target"), pl.col("rate").is_not_null()
    )
    exact, inclusive = (
        rows.filter(pl.col("on_degenerate") == kind) for kind in ("none", "inclusive")
    )
    both = exact.join(
        inclusive.select(*keys, "identity", "rate", "masked_share"),
        on=[*keys, "identity"], how="inner", nulls_equal=True, suffix="_inclusive",
        maintain_order="left",
    )  # fmt: skip
    return [_exactness(part) for part in both.partition_by(keys, maintain_order=True)]


def _exactness(part: pl.DataFrame) -> Exactness:
    clean, exact, loose = (
        part[name].to_numpy() for name in ("clean_rate", "rate", "rate_inclusive")
    )
    area = part["masked_share_inclusive"].to_numpy()
    lost, whole = clean - loose, area >= WHOLE
    total = float(lost.sum())
    return Exactness(
        part.row(0, named=True),
        float(clean.mean()),
        float(exact.mean()),
        float(loose.mean()),
        mean_interval(exact - loose, seed=0),
        float(area.mean()),
        float(whole.mean()),
        float(lost[whole].sum()) / total if total > CLOSE * len(lost) else None,
    )


# --- for people -----------------------------------------------------------------------------------


def audit_lines(run: Path | None, matrix: str | None) -> Iterator[str]:
    """The audit of a run, or of a matrix.

    Raises:
        UserError: Neither or both are given, or what is given cannot be read.
    """
    if (run is None) == (matrix is None):
        raise UserError(
            "Name a run, or a matrix with --matrix FILE.csv; '--matrix table14.csv' is the paper's."
        )
    if matrix is not None:
        read = read_matrix(matrix)
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
        known = "depends on the fill" if one.p_holm < _LEVEL else "not shown to depend on the fill"
        return f"{known} ({p}, means differ by {number(one.difference.value)})"
    if one.suspicious and one.early is not None:
        return (
            f"LOOK: {percent(min(one.early, 1.0), 0)} of the drop is there at {one.values[0]}:"
            f" more pixels add {number(one.difference.value)} ({p})"
        )
    known = "depends on the budget" if one.p_holm < _LEVEL else "not shown to depend on the budget"
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
