"""``python -m benchmarks.backends RUN OTHER``: whether two runs of one experiment agree.

For runs that differ in the backend only. In float32, recognition rates may differ by 0.002 in the
mean over people, and masks only where map values tie to rounding or the map is ill-conditioned
(Protocol: gradient methods). For each method and layer it says of how many people the scores
differ, and how many of these have ill-conditioned maps.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.benchmark.backend_advice import RATE
from facefocus.benchmark.run import open_run
from facefocus.benchmark.session import Session, is_degenerate
from facefocus.core.locations import run_folders
from facefocus.core.seeds import generator
from facefocus.occlusion.masks import mask_of

#: Largest difference of map values that count as tied.
TIE = 1e-5
#: Largest difference of a person's cosine that is none.
SCORE = 1e-3
#: Columns of the results that tell one configuration from another.
CONFIGURATION = (
    *("source", "target", "method", "options", "layer", "objective", "evidence", "normalize"),
    *("split", "budget", "fill", "on_degenerate", "control"),
)


@dataclass(frozen=True)
class Agreement:
    """How far two runs are apart.

    Attributes:
        configurations: Rows of the table, people averaged.
        rate: Largest difference of a mean recognition rate.
        cosine: Largest difference of a mean cosine.
        masks: Masks that were compared.
        unlike: Masks that differ.
        untied: Those of them that differ in a pixel whose value is no tie.
        ill_conditioned: Those of these that a person's ill-conditioned maps made.
        scores: See `unlike_scores`.
    """

    configurations: int
    rate: float
    cosine: float
    masks: int
    unlike: int
    untied: int
    ill_conditioned: int
    scores: pl.DataFrame

    @property
    def holds(self) -> bool:
        """Ill-conditioned maps may give other masks, but no other rates in the mean."""
        return self.rate <= RATE and self.untied == self.ill_conditioned


def compare(first: Path, second: Path) -> Agreement:
    """Two run folders of one experiment."""
    tables = [pl.read_parquet(run / "results.parquet") for run in (first, second)]
    by = [name for name in CONFIGURATION if name in tables[0].columns]
    means = [
        table.group_by(by).agg(pl.col("rate").mean(), pl.col("cosine").mean()) for table in tables
    ]
    joined = means[0].join(means[1], on=by, how="full", suffix="_other", nulls_equal=True)
    if len(joined) != len(means[0]) or len(joined) != len(means[1]):
        raise SystemExit("The two runs are not of the same experiment.")
    differences = {
        name: float(np.nanmax(np.abs((joined[name] - joined[f"{name}_other"]).to_numpy())))
        for name in ("rate", "cosine")
    }
    counts = _compare_masks(open_run(first), open_run(second))
    scores = unlike_scores(*tables)
    return Agreement(len(joined), differences["rate"], differences["cosine"], *counts, scores)


def unlike_scores(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Methods and layers of which a person's cosine differs by more than `SCORE` in two tables.

    Returns:
        method, layer; ``people``; ``unlike``: those whose cosine differs in a configuration;
        ``ill_conditioned``: those of them with an ill-conditioned map in either run; ``largest``
        difference.
    """
    by = [*(name for name in CONFIGURATION if name in first.columns), "identity"]
    joined = first.join(second, on=by, suffix="_other", nulls_equal=True)
    ill = pl.max_horizontal("maps_ill_conditioned", "maps_ill_conditioned_other") > 0
    people = joined.group_by("method", "layer", "identity").agg(
        (pl.col("cosine") - pl.col("cosine_other")).abs().fill_nan(None).max().alias("largest"),
        ill.any().alias("ill"),
    )
    unlike = pl.col("largest") > SCORE
    counts = people.group_by("method", "layer").agg(
        pl.len().alias("people"),
        unlike.sum().alias("unlike"),
        (unlike & pl.col("ill")).sum().alias("ill_conditioned"),
        pl.col("largest").max(),
    )
    return counts.filter(pl.col("unlike") > 0).sort("method", "layer")


def _compare_masks(first: Session, second: Session) -> tuple[int, int, int, int]:
    masks = unlike = untied = ill_conditioned = 0
    budgets = first.experiment.occlusion.budget
    for block in first.plan.blocks:
        pairs = zip(
            first.plan.planned["maps"][block.index],
            second.plan.planned["maps"][block.index],
            strict=True,
        )
        for own, other in pairs:
            made = [first.store.load(own.key), second.store.load(other.key)]
            for person, who in enumerate(block.people):
                maps = [arrays["maps"][person] for arrays in made]
                ill = any(arrays["ill_conditioned"][person] for arrays in made)
                drawn = [
                    mask_of(
                        saliency,
                        degenerate=is_degenerate(arrays, person),
                        budgets=budgets,
                        on_degenerate="none",
                        rng=generator(first.experiment.seed, "ties", who.name),
                    ).masks
                    for saliency, arrays in zip(maps, made, strict=True)
                ]
                for ours, theirs in zip(*drawn, strict=True):
                    masks += 1
                    unlike += bool((ours != theirs).any())
                    other = not tied(maps[0], ours, theirs)
                    untied += other
                    ill_conditioned += other and ill
    return masks, unlike, untied, ill_conditioned


def tied(saliency: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two masks of equal area differ only in pixels whose values tie to rounding."""
    only_ours, only_theirs = saliency[ours & ~theirs], saliency[theirs & ~ours]
    if only_ours.size == 0 and only_theirs.size == 0:
        return True
    if only_ours.size != only_theirs.size:
        return False
    span = float(np.ptp(saliency)) or 1.0
    both = np.concatenate([only_ours, only_theirs])
    return float(np.ptp(both)) <= TIE * span


def score_lines(scores: pl.DataFrame) -> list[str]:
    """A line for each row of `unlike_scores`."""
    return [
        f"  {row['method']} at layer {row['layer']}: cosines of {row['unlike']} of {row['people']}"
        f" people differ, by up to {row['largest']:.4f}; {row['ill_conditioned']} of these have"
        " ill-conditioned maps\n"
        for row in scores.iter_rows(named=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path, nargs="+")
    asked = parser.parse_args()
    good = True
    for other in asked.other:
        for folder in run_folders(asked.run):
            beside = other / folder.relative_to(asked.run)
            comparison = compare(folder, beside)
            good &= comparison.holds
            print(
                f"{folder} {beside}: {comparison.configurations} configurations; recognition rates"
                f" within {comparison.rate:.5f} (at most {RATE}), cosines within"
                f" {comparison.cosine:.1e}; {comparison.unlike} of {comparison.masks} masks differ,"
                f" {comparison.untied} of them not by ties, {comparison.ill_conditioned} of"
                " these of ill-conditioned maps:"
                f" {'the same' if comparison.holds else 'NOT the same'}"
            )
            print(*score_lines(comparison.scores), sep="", end="")
    raise SystemExit(int(not good))


if __name__ == "__main__":
    main()
