"""Result rows to one row per configuration: macro means, intervals, controls and audit.

Protocol: statistics, controls. The table is what every rendering and figure reads. Every
score of an identity is a cell of a matrix [configurations, identities], so what is compared (with
a control, with held-out images, with the oracle) is one row of the matrix beside another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from facefocus.benchmark.identification import PHOTO_RISKS
from facefocus.benchmark.result_columns import (
    CENTER,
    CONFIGURATION,
    HELDOUT_ORACLE,
    ORACLE,
    RANDOM,
    SETTING,
    with_readings,
)
from facefocus.core.errors import UserError
from facefocus.evaluation.statistics import (
    Intervals,
    mean_intervals,
    paired_p_values,
    ratio_intervals,
)
from facefocus.evaluation.verification import GUESSING_EER

#: What each control (Protocol: controls) is compared for: how much more the own mask takes.
CONTROLS = {
    "shifted": "excess",
    "other": "specificity",
    "population": "beyond_population",
    "pixels": "beyond_pixels",
    "blocks": "beyond_blocks",
}

Row = dict[str, Any]


def competes(row: Row) -> bool:
    """`COMPETES` of one row."""
    return row["source"] is not None and row["method"] not in (ORACLE, HELDOUT_ORACLE)


def summarize(results: pl.DataFrame, *, controls: bool = False, seed: int = 0) -> pl.DataFrame:
    """One row per configuration: macro means over identities, 95 % intervals and the audit.

    Identities without a score (``on_degenerate = "skip"``) count in the audit, not in the means.
    Rates and shares are in 0..1. An interval needs five identities; else its ends are null. Every
    comparison is paired by identity, and what was not measured is null:

    - `drop`: clean minus hidden.
    - `beyond_random`, `beyond_center`: that drop minus the drop by the `random` method's pixels,
      and by those of `center-gaussian`.
    - `excess`, `specificity`, `beyond_population`, `beyond_pixels`, `beyond_blocks`: that drop
      minus the drop by the control (`CONTROLS`), with p-values of the t test and of Wilcoxon's,
      uncorrected.
    - `heldout_drop`, by maps from half of a person's photos on the other half; `half_drop`, by the
      same maps on their own half (rows of split ``half``), both ways and on the same identities
      (`heldout_identities` of them); and `heldout_loss`, `half_drop` minus `heldout_drop`: what the
      same maps lose on photos they never saw. In rows of split ``same`` and ``heldout``.
    - `oracle_share`: (drop - random drop) / (oracle drop - random drop), a ratio of means. The
      oracle is the bound, searched on the photos that are tried on, held-out ones included; none
      where masks may be larger (``on_degenerate = "inclusive"``).

    - Where the experiment asks for identification, `RISKS`: shares of a person's photos.

    The same with ``cosine_`` in front, of the mean mated cosine. Rows of split ``half`` are a
    reference, as controls are: they enter `half_drop` and have no row of their own.

    Args:
        results: One row per identity and configuration, as `facefocus run` writes it.
        controls: Also give the rows in which a control took the place of the mask.
        seed: Seed of the intervals' weights (Protocol: statistics).

    Raises:
        UserError: `results` lacks a column, or has an identity twice in a configuration.
    """
    needed = [name for name in (*CONFIGURATION, *_SCORES) if name != "reading"]
    missing = [name for name in needed if name not in results.columns]
    if missing:
        raise UserError(f"The results must have the column '{missing[0]}'. Got no such column.")
    results = with_readings(results)
    lacking = [name for name in _OPTIONAL if name not in results.columns]
    results = results.with_columns(pl.lit(None, pl.Float64).alias(name) for name in lacking)
    grid = _grid(results, results.select(CONFIGURATION).unique(maintain_order=True))
    audit = _audit(grid.rows)
    own = (audit["control"].is_null() | controls) & (audit["split"] != "half")
    rows = np.flatnonzero(own.to_numpy())
    risks = [name for name in RISKS if name in results.columns]
    names = (*_FIGURES, *(f"{name}{end}" for name in risks for end in _ENDS))
    figures = pl.DataFrame(
        _figures(grid, rows, seed) | _risks(grid, rows, risks, seed),
        schema=dict.fromkeys(names, pl.Float64),
    )
    table = pl.concat([audit.filter(own), figures.fill_nan(None)], how="horizontal")
    people = pl.col("heldout_identities").cast(pl.Int64)
    return table.with_columns(people, warning=_WARNING).select(*CONFIGURATION, *names, *_AUDIT)


_SCORES = (
    "identity", "images", "pairs", "clean_cosine", "cosine", "clean_rate", "rate", "budget_pixels",
    "masked_pixels", "masked_share", "maps", "maps_degenerate", "maps_ill_conditioned",
    "degenerate", "draws",
)  # fmt: skip

#: What identification adds (Protocol: photo-risk), hidden and with nothing hidden.
RISKS = tuple(f"{front}{name}" for name in PHOTO_RISKS for front in ("clean_", ""))

#: Columns that results of earlier versions lack.
_OPTIONAL = ("eer", "clean_fmr", "fmr")

#: Differences that are tested.
_TESTED = ("beyond_random", *CONTROLS.values(), "heldout_loss")

#: Means with an interval, of the rate; of the cosine with ``cosine_`` in front.
_COMPARED = (
    "drop", *_TESTED[:-1], "beyond_center", "half_drop", "heldout_drop", "heldout_loss",
    "oracle_share",
)  # fmt: skip
_MEANS = ("clean_rate", "rate", "clean_cosine", "cosine",
          *(f"{front}{name}" for front in ("", "cosine_") for name in _COMPARED))  # fmt: skip
#: Those that are in [0, 1] by their nature.
_SHARES = ("clean_rate", "rate")
_ENDS = ("", "_low", "_high")
_FIGURES = (
    *(f"{name}{end}" for name in _MEANS for end in _ENDS),
    *(f"{front}{name}_{test}_p" for front in ("", "cosine_") for name in _TESTED
      for test in ("t", "wilcoxon")),
    "heldout_identities",
)  # fmt: skip

#: The audit (Protocol: audit), in the order in which it is shown.
_AUDIT = (
    "identities", "scored", "degenerate_share", "maps_degenerate_share",
    "maps_ill_conditioned_share", "area_mean", "area_max", "over_budget_share", "unaffected_share",
    "clean_fmr", "fmr", "eer", "images", "pairs", "maps", "draws", "warning",
)  # fmt: skip


# --- the matrix -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Grid:
    """Scores as matrices [configurations, identities], NaN where there is none.

    Attributes:
        rows: Result rows with the `code` of their configuration and `who` of their identity.
        configurations: `CONFIGURATION` of every code, in order.
        people: How many identities.
    """

    rows: pl.DataFrame
    configurations: pl.DataFrame
    people: int

    def scores(self, name: str) -> Float[np.ndarray, "configurations people"]:
        """A column; clean scores too only where the hidden face has one."""
        matrix = np.full((self.configurations.height, self.people), np.nan)
        column = pl.when(pl.col("rate").is_not_null()).then(pl.col(name)).cast(pl.Float64)
        values = self.rows.select(column.fill_null(np.nan))[:, 0].to_numpy()
        matrix[self.rows["code"].to_numpy(), self.rows["who"].to_numpy()] = values
        return matrix

    def partners(
        self,
        rows: Int[np.ndarray, " rows"],
        keys: Sequence[str],
        asks: pl.Expr,
        answers: pl.Expr,
    ) -> Int[np.ndarray, " rows"]:
        """For each of `rows` that `asks` the code of what it is compared with, else -1.

        Args:
            rows: Codes.
            keys: Columns in which both are equal.
            asks: Whether a configuration has a partner at all.
            answers: Whether a configuration is one.
        """
        partners = (
            self.configurations.filter(answers)
            .select(*keys, partner=pl.col("code").cast(pl.Int64))
            .unique(keys, keep="first", maintain_order=True)
        )
        asked = self.configurations[rows].with_columns(asks=asks)
        joined = asked.join(partners, on=keys, how="left", nulls_equal=True, maintain_order="left")
        partner = pl.when("asks").then("partner").fill_null(-1)
        return joined.select(partner)[:, 0].cast(pl.Int64).to_numpy()


def _grid(results: pl.DataFrame, configurations: pl.DataFrame) -> _Grid:
    """The scores of some configurations; people are all of `results`, by name.

    Raises:
        UserError: An identity comes twice in a configuration.
    """
    results = with_readings(results)
    coded = configurations.with_row_index("code")
    people = results.select(pl.col("identity").unique().sort()).with_row_index("who")
    rows = results.join(people, on="identity", how="left", maintain_order="left").join(
        coded, on=CONFIGURATION, how="inner", nulls_equal=True, maintain_order="left"
    )
    if rows.select("code", "who").is_duplicated().any():
        raise UserError("The results must have an identity once per configuration. Got it twice.")
    return _Grid(rows, coded, people.height)


def _beside(
    scores: Float[np.ndarray, "configurations people"], partners: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, "rows people"]:
    """The partners' scores; NaN where there is no partner."""
    partner_scores = np.full((len(partners), scores.shape[1]), np.nan)
    partner_scores[partners >= 0] = scores[partners[partners >= 0]]
    return partner_scores


# --- the figures ----------------------------------------------------------------------------------

_OWN = pl.col("control").is_null()


def _figures(grid: _Grid, rows: Int[np.ndarray, " rows"], seed: int) -> dict[str, np.ndarray]:
    """Every mean with its interval, and every p-value, of the configurations `rows`."""
    partners = _partners(grid, rows)
    values: dict[str, np.ndarray] = {}
    ratios: dict[str, Intervals] = {}
    for front, measure in (("", "rate"), ("cosine_", "cosine")):
        hidden, clean = grid.scores(measure), grid.scores(f"clean_{measure}")
        values |= {measure: hidden[rows], f"clean_{measure}": clean[rows]}
        compared = _compared(hidden, clean, rows, partners)
        top, bottom = compared.pop("above_random"), compared.pop("oracle_above_random")
        ratios[f"{front}oracle_share"] = ratio_intervals(top, bottom, seed=seed)
        values |= {f"{front}{name}": scores for name, scores in compared.items()}
    both = np.isfinite(values["heldout_drop"]).sum(axis=1)
    figures = {"heldout_identities": np.where(both, both, np.nan)}
    for share in (True, False):
        names = [name for name in values if (name in _SHARES) == share]
        # One call for all: the weights and equal rows are then shared.
        rates = np.concatenate([values[name] for name in names])
        means = mean_intervals(rates, share=share, seed=seed)
        for index, name in enumerate(names):
            part = slice(index * len(rows), (index + 1) * len(rows))
            ends = Intervals(means.value[part], means.low[part], means.high[part])
            figures |= _named(name, ends)
    for name, ratio in ratios.items():
        figures |= _named(name, ratio)
    for name in (f"{front}{name}" for front in ("", "cosine_") for name in _TESTED):
        p = paired_p_values(values[name])
        figures |= {f"{name}_t_p": p.t, f"{name}_wilcoxon_p": p.wilcoxon}
    return figures


def _risks(
    grid: _Grid, rows: Int[np.ndarray, " rows"], names: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """The shares of photos that are found, of the configurations `rows`."""
    figures: dict[str, np.ndarray] = {}
    for name in names:
        figures |= _named(name, mean_intervals(grid.scores(name)[rows], share=True, seed=seed))
    return figures


def _named(name: str, intervals: Intervals) -> dict[str, np.ndarray]:
    return {name: intervals.value, f"{name}_low": intervals.low, f"{name}_high": intervals.high}


def _partners(grid: _Grid, rows: Int[np.ndarray, " rows"]) -> dict[str, np.ndarray]:
    """What each configuration is compared with, by the name of the comparison."""
    same_map = [name for name in CONFIGURATION if name != "control"]
    same_split = [name for name in CONFIGURATION if name not in ("split", "control")]
    random, center = (_OWN & (pl.col("method") == name) for name in (RANDOM, CENTER))
    partners = {
        name: grid.partners(rows, same_map, _OWN, pl.col("control") == control)
        for control, name in CONTROLS.items()
    }
    partners["random"] = grid.partners(rows, SETTING, _OWN, random)
    partners["beyond_random"] = grid.partners(rows, SETTING, _OWN & ~random, random)
    partners["beyond_center"] = grid.partners(rows, SETTING, _OWN & ~center, center)
    exact = _OWN & (pl.col("on_degenerate") != "inclusive")
    partners["oracle"] = grid.partners(rows, SETTING, exact, pl.col("method") == ORACLE)
    for split in ("half", "heldout"):
        partners[split] = grid.partners(rows, same_split, _OWN, _OWN & (pl.col("split") == split))
    return partners


def _compared(
    hidden: Float[np.ndarray, "configurations people"],
    clean: Float[np.ndarray, "configurations people"],
    rows: Int[np.ndarray, " rows"],
    partners: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Every comparison per identity, of one measure."""
    own, drop = hidden[rows], clean - hidden
    random = _beside(hidden, partners["random"])
    half, heldout = (_beside(drop, partners[split]) for split in ("half", "heldout"))
    half = np.where(np.isnan(heldout), np.nan, half)
    compared = partners["half"] >= 0
    heldout = np.where(compared[:, None] & np.isnan(half), np.nan, heldout)
    return {
        "drop": drop[rows],
        **{
            name: _beside(hidden, partners[name]) - own
            for name in ("beyond_random", "beyond_center", *CONTROLS.values())
        },
        "half_drop": half,
        "heldout_drop": heldout,
        "heldout_loss": half - heldout,
        "above_random": random - own,
        "oracle_above_random": random - _beside(hidden, partners["oracle"]),
    }


def drops(
    results: pl.DataFrame, summary: pl.DataFrame, *, cosine: bool = False
) -> Float[np.ndarray, "rows people"]:
    """The drop of every identity of `results` (by name) in every row of `summary`, NaN for none."""
    measure = "cosine" if cosine else "rate"
    clean, hidden = (values(results, summary, name) for name in (f"clean_{measure}", measure))
    return np.asarray(clean - hidden)


def values(
    results: pl.DataFrame, summary: pl.DataFrame, name: str
) -> Float[np.ndarray, "rows people"]:
    """The column `name` of every identity of `results` (by name) in every row of `summary`."""
    return np.asarray(_grid(results, summary.select(CONFIGURATION)).scores(name))


# --- audit ----------------------------------------------------------------------------------------

INCLUSIVE = (
    "on_degenerate=inclusive takes every pixel >= the percentile: a flat map hides the whole face, "
    "so these masks exceed the budget."
)
SKIP = (
    "on_degenerate=skip leaves out the identities without a map: these means are over fewer "
    "identities."
)
ALONE = "A control of other people's maps leaves out an identity when no other identity has a map."
OVER = "Some masks are larger than the budget: do not compare these numbers with others."

GUESSING = (
    f"the recognizer does not tell identities apart: its equal error rate, or its FMR at the "
    f"threshold, is {GUESSING_EER:g} or more (chance is 0.5). Its figures mean nothing; check its "
    "weights and its preprocessing."
)

#: Rows of a recognizer that does not tell identities apart.
GUESSES = pl.max_horizontal("eer", "clean_fmr").fill_null(0.0) >= GUESSING_EER


def guessing(results: pl.DataFrame) -> list[str]:
    """The recognizers of some result rows that tell nobody apart."""
    known = [name for name in ("eer", "clean_fmr") if name in results.columns]
    means = results.group_by("target", maintain_order=True).agg(pl.col(known).mean())
    lacking = [name for name in ("eer", "clean_fmr") if name not in known]
    means = means.with_columns(pl.lit(None, pl.Float64).alias(name) for name in lacking)
    return means.filter(GUESSES)["target"].to_list()


_WARNING = (
    pl.when(GUESSES)
    .then(pl.lit(GUESSING))
    .when(pl.col("on_degenerate") == "inclusive")
    .then(pl.lit(INCLUSIVE))
    .when(pl.col("over_budget_share") > 0)
    .then(pl.lit(OVER))
    .when(pl.col("scored") < pl.col("identities"))
    .then(pl.when(pl.col("on_degenerate") == "skip").then(pl.lit(SKIP)).otherwise(pl.lit(ALONE)))
)


def _audit(coded: pl.DataFrame) -> pl.DataFrame:
    """`CONFIGURATION` and `_AUDIT` but its warning, a row per code in order."""
    scored = pl.col("rate").is_not_null()
    same = (pl.col("rate") == pl.col("clean_rate")) & (pl.col("cosine") == pl.col("clean_cosine"))
    over = (pl.col("masked_pixels") > pl.col("budget_pixels")).fill_null(False)
    maps = pl.col("maps").sum()
    return (
        coded.group_by("code", maintain_order=True)
        .agg(
            pl.col(CONFIGURATION).first(),
            identities=pl.len().cast(pl.Int64),
            scored=scored.sum().cast(pl.Int64),
            degenerate_share=pl.col("degenerate").mean(),
            **{
                f"{name}_share": pl.when(maps > 0).then(pl.col(name).sum() / maps)
                for name in ("maps_degenerate", "maps_ill_conditioned")
            },
            area_mean=pl.col("masked_share").mean(),
            area_max=pl.col("masked_share").max(),
            over_budget_share=over.mean(),
            unaffected_share=same.filter(scored).mean(),
            clean_fmr=pl.col("clean_fmr").filter(scored).mean(),
            fmr=pl.col("fmr").mean(),
            eer=pl.col("eer").max(),
            images=pl.col("images").sum(),
            pairs=pl.col("pairs").sum(),
            maps=maps,
            draws=pl.col("draws").max(),
        )
        .sort("code")
    )


def warnings(summary: pl.DataFrame) -> list[str]:
    """What a reader must know before reading any number of this table, most serious first."""
    present = set(summary["warning"].drop_nulls())
    texts = (GUESSING, INCLUSIVE, OVER, SKIP, ALONE)
    counts = {text: (summary["warning"] == text).sum() for text in texts}
    return [
        f"{counts[text]} of {summary.height} configurations: {text}"
        for text in texts
        if text in present
    ]
