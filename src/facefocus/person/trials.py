"""Masks of one set of recognizers, tried on photos: which is chosen, and what is left.

A `Team` is the recognizers that masks are made on, and those that judge them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from facefocus.core.progress import Progress
from facefocus.evaluation.verification import normalize
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.fills import Fill, fill_rng, hider
from facefocus.person.proof import (
    CLEAN,
    Design,
    Figure,
    Judge,
    Measures,
    choose,
    intervals_of,
    measured,
)
from facefocus.saliency.explainer import Hide

#: Hidden crops that are embedded at once: bounds the memory.
STEP = 256

#: Measures that a single photo has.
OF_ONE_PHOTO = ("cosine", "false-match")

#: The mask that is recommended, among the conditions.
CHOSEN = "chosen"


@dataclass(frozen=True, eq=False)
class Crops:
    """The person's crops, and what hides masks on them.

    Attributes:
        frames: Aligned crops.
        names: A name each.
        fill: What hides.
        seed: Of random fills.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    names: tuple[str, ...]
    fill: str
    seed: int = 0

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width."""
        return self.frames.shape[1], self.frames.shape[2]

    def part(self, rows: Int[np.ndarray, " r"]) -> Crops:
        """Some of them."""
        return Crops(
            self.frames[rows], tuple(self.names[row] for row in rows), self.fill, self.seed
        )

    def hide(self, fill: str | Fill | None = None) -> Hide:
        """What hides masks on all crops."""
        rngs = [fill_rng(self.seed, name) for name in self.names]
        return hider(self.fill if fill is None else fill, self.frames, rngs)

    def embedded(
        self,
        recognizer: Recognizer,
        masks: Bool[np.ndarray, "c n h w"],
    ) -> Float[np.ndarray, "c n d"]:
        """Unit embeddings of all crops under each set of masks."""
        hide = self.hide()
        parts, sets = [], max(1, STEP // len(self.frames))
        for start in range(0, len(masks), sets):
            hidden = np.concatenate([hide(each) for each in masks[start : start + sets]])
            parts.append(recognizer.embed(hidden))
        return normalize(np.concatenate(parts)).reshape(*masks.shape[:2], -1)


@dataclass(frozen=True, eq=False)
class Team:
    """Recognizers that masks are made on and chosen by, and those that judge these masks.

    Attributes:
        sources: The recognizers of `deciding`.
        deciding: By them one of several masks is chosen: never by one that is to be unseen.
        judges: Whose figures are given.
    """

    sources: tuple[Recognizer, ...]
    deciding: tuple[Judge, ...]
    judges: tuple[Judge, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What trying a team's masks gave.

    Attributes:
        candidates: The mask of each photo by candidate.
        picked: The candidate that counts for each photo: the best one on the other half.
        recommended: The candidate that is best on all photos.
        masks: The mask of each photo that counts.
        figures: All numbers.
        values: The value of each photo: (condition, recognizer, seen) to measures, compared with
            photos that the mask never saw.
    """

    candidates: Mapping[str, Bool[np.ndarray, "n h w"]]
    picked: tuple[str, ...]
    recommended: str
    masks: Bool[np.ndarray, "n h w"]
    figures: tuple[Figure, ...]
    values: Mapping[tuple[str, str, bool], Measures]


def try_masks(
    team: Team,
    crops: Crops,
    design: Design,
    candidates: Mapping[str, Bool[np.ndarray, "n h w"]],
    controls: Callable[[Bool[np.ndarray, "n h w"]], Mapping[str, Bool[np.ndarray, "d n h w"]]],
    progress: Progress,
    *,
    deciding: Crops | None = None,
) -> Outcome:
    """Try candidates, choose by the other half, and try the controls of what was chosen.

    Args:
        team: Who made the masks, and who judges.
        crops: The photos.
        design: Which photos are compared.
        candidates: The mask of each photo by candidate.
        controls: Makes the masks of controls, several draws each, of the chosen masks.
        progress: Called with judges done and in total.
        deciding: The photos hidden in another way, by which candidates are chosen; else `crops`.
    """
    names, stack = list(candidates), np.stack(list(candidates.values()))
    every = {judge.name: judge.recognizer for judge in (*team.deciding, *team.judges)}
    embedded = {name: crops.embedded(each, stack) for name, each in every.items()}
    decided = (
        embedded
        if deciding is None
        else {judge.name: deciding.embedded(judge.recognizer, stack) for judge in team.deciding}
    )
    scores = np.mean(
        [_similarities(judge, decided[judge.name], design) for judge in team.deciding], axis=0
    )
    chosen = choose(scores, design.folds)
    everything = np.arange(len(crops.frames))
    masks = stack[chosen, everything]
    conditions = dict(controls(masks))
    figures: list[Figure] = []
    values: dict[tuple[str, str, bool], Measures] = {}
    for number, judge in enumerate(team.judges):
        progress("trials", number, len(team.judges))
        embeddings = {
            CLEAN: judge.clean[None],
            CHOSEN: embedded[judge.name][chosen, everything][None],
        }
        embeddings |= {name: embedded[judge.name][row][None] for row, name in enumerate(names)}
        embeddings |= {
            name: crops.embedded(judge.recognizer, drawn) for name, drawn in conditions.items()
        }
        figures += _figures(judge, embeddings, design)
        for condition, hidden in embeddings.items():
            values[condition, judge.name, judge.seen] = measured(judge, hidden, design.unseen)
    progress("trials", len(team.judges), len(team.judges))
    best = int(np.argmin(np.nanmean(scores, axis=1)))
    return Outcome(
        candidates,
        tuple(names[number] for number in chosen),
        names[best],
        masks,
        tuple(figures),
        values,
    )


def _similarities(
    judge: Judge, hidden: Float[np.ndarray, "c n d"], design: Design
) -> Float[np.ndarray, "c n"]:
    """Mean similarity of each photo under each candidate, as a share of the clean one's."""
    clean = measured(judge, judge.clean[None], design.unseen)["cosine", ""]
    rows = [measured(judge, each[None], design.unseen)["cosine", ""] for each in hidden]
    shares: np.ndarray = np.stack(rows) / np.nanmean(clean)
    return shares


def _figures(
    judge: Judge, conditions: Mapping[str, Float[np.ndarray, "_ n d"]], design: Design
) -> list[Figure]:
    """All numbers of one judge."""
    galleries = {"unseen": design.unseen}
    if design.crossed:
        galleries["others"] = design.others
    rows = [
        (condition, gallery, measure, rule, photos)
        for condition, hidden in conditions.items()
        for gallery, compared in galleries.items()
        for (measure, rule), photos in measured(judge, hidden, compared).items()
        if not design.alone or measure in OF_ONE_PHOTO
    ]
    means = intervals_of([row[-1] for row in rows], [row[2] for row in rows])
    return [
        Figure(
            condition,
            judge.name,
            judge.seen,
            gallery,
            measure,
            rule,
            mean.value,
            mean.low,
            mean.high,
            int(np.isfinite(photos).sum()),
        )
        for (condition, gallery, measure, rule, photos), mean in zip(rows, means, strict=True)
    ]
