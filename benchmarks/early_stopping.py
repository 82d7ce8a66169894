"""How many people a first place needs: ``docs/early-stopping.md``.

    python -m benchmarks.early_stopping RUN [--people 60 600] [--studies 200] [--without METHOD]

Replays a run of everybody: its people are drawn in another order for each study, and each study
stops by the rule of ``when = "ranking"``. No recognizer is run. For more people than the run has, a
study's list of people is drawn from them with replacement.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from facefocus.analysis.results import read_results
from facefocus.benchmark.early_stopping import LEVEL
from facefocus.benchmark.people import round_ends
from facefocus.benchmark.result_columns import COMPETES, MAP
from facefocus.core.seeds import generator
from facefocus.core.text import budget_text
from facefocus.evaluation.confidence_sequences import TIE, first_place


@dataclass(frozen=True)
class Study:
    """One replay.

    Attributes:
        people: Who were scored when the first place was certain.
        scored: Share of all pairs of a method and a person that were scored.
        right: Whether the first is the best of the study's list, or within a tie of it.
    """

    people: int
    scored: float
    right: bool


def replay(rates: Float[np.ndarray, "methods people"]) -> Study:
    """Stop as a run does, on people in the order of the columns."""
    methods, people = rates.shape
    values, counts = 1 - rates, np.zeros(methods, int)
    open_ = np.ones(methods, bool)
    for end in round_ends(people):
        counts[open_] = end
        seen = np.where(np.arange(end) < counts[:, None], values[:, :end], np.nan)
        standing = first_place(seen, people, LEVEL)
        open_ &= ~standing.beaten
        if standing.first is not None:
            break
    means = values.mean(axis=1)
    assert standing.first is not None
    right = bool(means[standing.first] >= means.max() - TIE - 1e-9)
    return Study(end, counts.sum() / rates.size, right)


def studies(rates: Float[np.ndarray, "methods people"], people: int, count: int) -> Iterator[Study]:
    """Replays of lists of `people`, each in an order of its own."""
    for number in range(count):
        rng = generator(0, "replay", people, number)
        drawn = (
            rng.permutation(rates.shape[1])[:people]
            if people <= rates.shape[1]
            else rng.integers(rates.shape[1], size=people)
        )
        yield replay(rates[:, drawn])


def rates_of(rows: pl.DataFrame) -> Float[np.ndarray, "methods people"]:
    """Recognition of every person under each method that competes; the rows are of one setting."""
    own = rows.filter(COMPETES, pl.col("control").is_null())
    parts = own.partition_by(*MAP, maintain_order=True)
    rate = pl.coalesce("rate", "clean_rate").cast(pl.Float64)
    return np.stack([part.sort("identity").select(rate)[:, 0].to_numpy() for part in parts])


def table(
    run: Path, sizes: Sequence[int], count: int, without: Sequence[str] = ()
) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield (
        "| target | budget | fill | methods | first, second, fifth drop | people | certain after:"
        " median (quartiles) | scored | wrong |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    rows = read_results(run).filter(pl.col("split") == "same", ~pl.col("method").is_in(without))
    for part in rows.partition_by("target", "budget", "fill", maintain_order=True):
        rates = rates_of(part)
        clean = part["clean_rate"].mean()
        assert isinstance(clean, float)
        drops = np.sort(clean - rates.mean(axis=1))[::-1]
        best = ", ".join(f"{drop:.3f}" for drop in drops[[0, 1, min(4, len(drops) - 1)]])
        target, budget, fill = part.select("target", "budget", "fill").row(0)
        for people in sizes:
            simulated = list(studies(rates, people, count))
            low, middle, high = np.percentile([study.people for study in simulated], [25, 50, 75])
            scored = np.median([study.scored for study in simulated])
            wrong = sum(not study.right for study in simulated)
            yield (
                f"| {target} | {budget_text(budget)} | {fill} | {len(rates)} | {best} | {people}"
                f" | {middle:.0f} ({low:.0f} to {high:.0f}) | {100 * scored:.0f} %"
                f" | {wrong} of {count} |"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--people", type=int, nargs="+", default=[60, 600])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--without", nargs="+", default=[])
    asked = parser.parse_args()
    for line in table(asked.run, asked.people, asked.studies, asked.without):
        print(line, flush=True)


if __name__ == "__main__":
    main()
