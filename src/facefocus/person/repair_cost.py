"""What protection against repair costs: recognition after repair, by area (Protocol: repair-cost).

Masks that are found with repair in the loop are tried at several budgets, beside the mask that is
found as it is painted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from facefocus.core.progress import Progress, silent
from facefocus.core.text import budget_text
from facefocus.person.candidates import REPAIR, Recipe
from facefocus.person.proof import Design, Figure, Judge
from facefocus.person.trials import CHOSEN, Crops, Team, try_masks

#: Shares of the face that are tried besides the one that is asked for, where they are larger.
BUDGETS = (0.1, 0.2, 0.3)


@dataclass(frozen=True)
class RepairFigure:
    """One number of masks with repair, or of the ones without.

    Attributes:
        against: Whether the mask was found with repair in the loop.
        budget: Share of the face that it hides.
        repaired: Whether the photos were repaired, the hidden places known.
        figure: The number, of the mask that is chosen on the other half.
    """

    against: bool
    budget: float
    repaired: bool
    figure: Figure


def repair_figures(
    team: Team,
    crops: Crops,
    design: Design,
    masks_of: Callable[[Recipe, Progress], Mapping[str, np.ndarray]],
    recipe: Recipe,
    progress: Progress = silent,
) -> list[RepairFigure]:
    """Masks against repair at `recipe.budget` and at `BUDGETS`, and the mask that ignores repair.

    Each is chosen on the other half, as always: those against repair by repaired photos.

    Args:
        team: Who makes masks, and who judges.
        crops: The photos.
        design: Which are compared.
        masks_of: Makes the mask of each photo by candidate, under a recipe.
        recipe: Against repair.
        progress: Called with masks done and in total.
    """
    repaired = replace(crops, fill=REPAIR)
    budgets = [recipe.budget, *(budget for budget in BUDGETS if budget > recipe.budget)]
    ignorant = replace(recipe, against="")
    # Masks, photos they are tried on, and photos by which they are chosen.
    trials = [(replace(recipe, budget=budget), repaired, repaired) for budget in budgets]
    trials += [(recipe, crops, repaired), (ignorant, crops, crops), (ignorant, repaired, crops)]
    figures = []
    for number, (asked, tried, deciding) in enumerate(trials):

        def stage_progress(stage: str, done: int, total: int, before: int = number) -> None:
            progress(stage, before * total + done, len(trials) * total)

        masks = masks_of(asked, stage_progress)
        outcome = try_masks(team, tried, design, masks, lambda _: {}, silent, deciding=deciding)
        figures += [
            RepairFigure(bool(asked.against), asked.budget, tried is repaired, figure)
            for figure in outcome.figures
            if figure.condition == CHOSEN and figure.gallery == "unseen"
        ]
    progress("repair", len(trials), len(trials))
    return figures


@dataclass(frozen=True)
class RepairCost:
    """What protection against repair costs on one recognizer, by one measure.

    Attributes:
        clean: With nothing hidden.
        unrepaired: The mask that ignores repair, as it is painted, at the budget asked for.
        repaired: The same mask, the photos repaired.
        against: Masks against repair, the photos repaired, by ascending budget.
        hides: Whether the mask that ignores repair takes anything before repair: else there is
            nothing that protection could cost.
        least: The least budget tried at which as little is left of recognition as in `unrepaired`;
            None where none of them is enough, or that mask hides nothing.
    """

    clean: float
    unrepaired: Figure
    repaired: Figure
    against: tuple[tuple[float, Figure], ...]

    @property
    def hides(self) -> bool:
        """See `RepairCost`."""
        return self.unrepaired.value < self.clean

    @property
    def least(self) -> float | None:
        """See `RepairCost`."""
        if not self.hides:
            return None
        for budget, figure in self.against:
            if figure.value <= self.unrepaired.value:
                return budget
        return None


def repair_cost(
    figures: Sequence[RepairFigure], judge: Judge, measure: tuple[str, str], clean: float
) -> RepairCost | None:
    """What the figures of a judge say by one measure; None where they say nothing."""
    own = [
        row
        for row in figures
        if (row.figure.recognizer, row.figure.seen) == (judge.name, judge.seen)
        and (row.figure.measure, row.figure.rule) == measure
    ]
    ignorant = {row.repaired: row.figure for row in own if not row.against}
    if not ignorant:
        return None
    against = ((row.budget, row.figure) for row in own if row.against and row.repaired)
    return RepairCost(clean, ignorant[False], ignorant[True], tuple(sorted(against, key=_budget)))


def _budget(row: tuple[float, Figure]) -> float:
    return row[0]


def repair_sentences(
    cost: RepairCost, judge: Judge, budget: float, text: Callable[[Figure], str]
) -> Iterator[str]:
    """What repair leaves with and without `--against repair`, and what protection costs."""
    asked = cost.against[0][1]
    matched = "similarity" if asked.measure == "cosine" else "photos matched"
    yield (
        f"Once the photos are repaired, the hidden places known, {matched} on {judge.name}:"
        f" {text(asked)} under this mask, {text(cost.repaired)} under a mask of the same size that"
        f" was found without repair ({text(cost.unrepaired)} before repair)."
    )
    least, largest = cost.least, cost.against[-1][0]
    if not cost.hides:
        yield (
            f"Hiding {budget_text(budget)} takes nothing on {judge.name} even without repair: what"
            " protection against repair costs cannot be said."
        )
    elif least is None:
        yield (
            "Protection against repair that leaves as little was not reached up to"
            f" {budget_text(largest)} of the face."
        )
    else:
        remedy = "" if least == budget else f" Ask for that mask with --budget {least:g}."
        yield (
            f"Of the areas tried, {budget_text(least)} is the least of which repair leaves as"
            f" little as {budget_text(budget)} leaves without repair.{remedy}"
        )
