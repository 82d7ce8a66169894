"""Do these recognition rates come from small masks, or from faces that were hidden whole?

Three questions (Protocol: audit), of result rows or of any transfer matrix:

- *shares*: does a matrix look as if a share of the identities had lost the whole face?
- *dependence*: does recognition depend on the budget and on the fill at all? If the damage is done
  by whole faces, a larger budget and another color change nothing.
- *exactness*: what do exactly k pixels of the same maps do, beside every pixel above a percentile?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy
from jaxtyping import Float

from facefocus.analysis.rate_matrix import RateMatrix
from facefocus.analysis.summary import Row
from facefocus.analysis.whole_faces import HiddenFit, fit_hidden
from facefocus.benchmark.result_columns import COMPETES, CONFIGURATION
from facefocus.benchmark.result_slices import default_slice
from facefocus.core.seeds import generator
from facefocus.core.text import budget_text
from facefocus.evaluation.statistics import Interval, compare_paired, holm, mean_interval

#: A mask of this share of the frame leaves nothing of the face.
WHOLE = 0.95

#: Residuals within this are as good as the two or three digits that tables print.
CLOSE = 0.01

#: A drop is there from the start if the smallest budget has this share of the largest one's drop.
EARLY = 0.8

#: Samples of identities for the intervals of a run's shares: a fit each.
DRAWS = 500

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
    shares = []
    for part in rows.partition_by(_ACROSS, maintain_order=True):
        sources, targets = (part[side].unique(maintain_order=True) for side in ("source", "target"))
        whole = part.select("source", "target").n_unique() == len(sources) * len(targets)
        if min(len(sources), len(targets)) >= 2 and whole:
            shares += _run_share(part, tuple(sources), tuple(targets))
    return shares


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
        resampled=np.stack([grid[:, :, sample].mean(axis=2) for sample in chosen]),
        resampled_clean=np.stack([clean[0][:, sample].mean(axis=1) for sample in chosen]),
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
    index_of = {person: index for index, person in enumerate(names)}
    cube = np.full((len(sources), len(targets), len(names)), np.nan)
    for source, target, who, value in part.select("source", "target", "identity", name).rows():
        if who in index_of:
            cube[sources.index(source), targets.index(target), index_of[who]] = value
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
            and where no drop is shown.
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
    kinds = [
        [test for part in budgets.partition_by(_BUT_BUDGET, maintain_order=True)
         if (test := _by_budget(part))],
        [test for part in fills.partition_by(_BUT_FILL, maintain_order=True)
         if (test := _by_fill(part))],
    ]  # fmt: skip
    return [test for tests in kinds for test in _holm(tests)]


def _holm(tests: Sequence[Dependence]) -> list[Dependence]:
    corrected = holm([test.p for test in tests])
    return [
        Dependence(**{**vars(test), "p_holm": p}) for test, p in zip(tests, corrected, strict=True)
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
        tuple(budget_text(float(budget)) for budget in budgets),  # type: ignore[arg-type]
        tuple(map(float, rates.mean(axis=1))),
        float(clean.mean()),
        mean_interval(small - large, seed=0),
        compare_paired(small, large).wilcoxon_p,
        early=float((clean - small).mean()) / drop.value if sure else None,
    )


def _by_fill(part: pl.DataFrame) -> Dependence | None:
    fills, rates, clean = _by_identity(part, "fill")
    # Blur leaves most of the picture: it is weaker by design, and would hide what is asked here.
    kept = [index for index, fill in enumerate(fills) if fill != "blur"]
    if len(kept) < 3 or rates.shape[1] < 2:
        return None
    means = rates[kept].mean(axis=1)
    spread = float(means.max() - means.min())
    same = np.ptp(rates[kept], axis=0).max() < 1e-12
    p = 1.0 if same else float(scipy.stats.friedmanchisquare(*rates[kept]).pvalue)
    return Dependence(
        part.row(0, named=True),
        "fill",
        tuple(str(fills[index]) for index in kept),
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
