"""The oracle: a bound that no mask of a run passes, per target and person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool

from facefocus.benchmark.keys import VERSIONS, fill_of
from facefocus.benchmark.occluded_photos import hider_of
from facefocus.benchmark.people import Block, Person
from facefocus.benchmark.plan import scored_on
from facefocus.benchmark.session import Session
from facefocus.benchmark.stages import STAGES, RowKey, Stage, Task
from facefocus.benchmark.stages.score import (
    VALUES,
    ScoreOutput,
    false_matches,
    scored_masks,
)
from facefocus.core.progress import Progress
from facefocus.core.seeds import generator
from facefocus.core.store import content_key
from facefocus.evaluation.retention import retention
from facefocus.occlusion.mask_search import search_masks
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.explainer import Passes

if TYPE_CHECKING:
    from facefocus.benchmark.collect import Part
    from facefocus.benchmark.plan import Inputs

#: Masks that the oracle tries for one person, in rough mean.
ORACLE_TRIES = 830


@dataclass(frozen=True)
class Scored:
    """The scores of one person under one configuration.

    Attributes:
        key: Of the score artefact.
        row: The person's row in it.
        starts: Whether a search on the scored photos may start from these masks: their maps saw
            no other photo of the person.
    """

    key: str
    row: int
    starts: bool


@dataclass(frozen=True)
class OracleTask(Task):
    """The oracle of one person on one target under one fill.

    Attributes:
        person: `rows` are the photos that it is searched on. Where `tests` are others, the mask
            that is found is tried on them, too.
        rivals: Every mask that was scored on the photos `rows`; none of them beats the bound.
    """

    stage: ClassVar[str] = "oracle"

    key: str
    recognizer: str
    person: Person
    fill: str
    rivals: tuple[Scored, ...]
    budgets: tuple[float, ...]

    @property
    def cost(self) -> int:
        """Forward passes, roughly: the search tries some hundreds of blocks on every photo."""
        return ORACLE_TRIES * len(self.person.rows)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all it makes."""
        return (self.key,)

    @property
    def recognizers(self) -> tuple[str, ...]:
        """The target."""
        return (self.recognizer,)


class OracleStage(Stage):
    """The bound of every person on every target under every fill, where it is asked for."""

    name = "oracle"

    def plan(
        self, inputs: Inputs, planned: Mapping[str, Any]
    ) -> tuple[list[OracleTask], Mapping[tuple[str, int], tuple[OracleTask, ...]]]:
        """The tasks, and those of each (target, block index)."""
        oracles = _oracles(inputs, planned["scores"])
        return [task for tasks in oracles.values() for task in tasks], oracles

    def run(self, session: Session, task: OracleTask, progress: Progress) -> None:
        """See `search_oracle`."""
        search_oracle(session, task, progress)

    def parts(self, session: Session, target: str, block: Block) -> Iterator[tuple[RowKey, Part]]:
        """A part for every person and budget."""
        from facefocus.benchmark.collect import oracle_parts

        yield from oracle_parts(session, target, block)

    def passes(self, session: Session, task: OracleTask) -> dict[str, Passes]:
        """Roughly: a search ends when it finds nothing better."""
        return {task.recognizer: Passes(inference=task.cost, alone=task.cost, exact=False)}


#: Masks that the search starts from, the best ones for each budget.
SEEDS = 4

#: A mask that was scored: its task's entry, and its place among the entry's budgets.
_MaskEntry = tuple[Scored, int]


def search_oracle(session: Session, task: OracleTask, progress: Progress) -> None:
    """The bound for one person on the photos that it is searched on, for every budget.

    Stored are `VALUES` of the bound, and as ``heldout_*`` those of the mask that the search found,
    tried on the person's other photos, where these are others.
    """
    search = session.experiment.oracle
    assert search is not None  # the plan has oracle tasks only where it is asked for
    person = task.person
    counts = [pixel_count(budget, *session.frame) for budget in task.budgets]
    entries, rivals = _rivals(session, task)
    searched = search_masks(
        session.recognizers[task.recognizer].embed,
        hider_of(session, person.rows, task.fill),
        session.embeddings(task.recognizer)[person.rows],
        shape=session.frame,
        counts=counts,
        rng=generator(session.experiment.seed, "oracle", person.name),
        seeds=_seeds(session, entries, rivals, counts),
        both=session.experiment.evaluation.compare == "both",
        block=search.block,
        candidates=search.candidates,
    )
    arrays = bound(_left(session, task, person.rows, searched.masks), rivals, counts)
    if not np.array_equal(person.rows, person.tests):
        heldout = _left(session, task, person.tests, searched.masks)
        arrays |= {f"heldout_{name}": heldout[name] for name in VALUES}
    session.store.save(task.key, {**arrays, "embeddings": np.array(searched.embeddings)})
    progress("oracle", 1, 1)


def _left(
    session: Session, task: OracleTask, rows: np.ndarray, masks: Bool[np.ndarray, "b h w"]
) -> dict[str, np.ndarray]:
    """`VALUES` of some photos of the person under each mask."""
    hide = hider_of(session, rows, task.fill)
    clean = session.embeddings(task.recognizer)[rows]
    level, compare = session.threshold(task.recognizer), session.experiment.evaluation.compare
    values = []
    for mask in masks:
        hidden = session.recognizers[task.recognizer].embed(hide(mask))
        left = retention(clean, hidden, level, compare=compare)
        fmr = false_matches(session, task.recognizer, task.person.name, rows, hidden)
        values.append((left.cosine, left.rate, fmr, float(mask.sum())))
    return dict(zip(VALUES, np.reshape(values, (-1, len(VALUES))).T, strict=True))


def _rivals(session: Session, task: OracleTask) -> tuple[list[_MaskEntry], dict[str, np.ndarray]]:
    """Every mask that was scored on the photos of the search, and its `VALUES`."""
    entries: list[_MaskEntry] = []
    values: list[np.ndarray] = []
    for scored in task.rivals:
        arrays = session.store.load(scored.key)
        table = np.stack([arrays[name][scored.row] for name in VALUES], axis=1)
        kept = np.flatnonzero(np.isfinite(table[:, 0]))
        entries += [(scored, int(budget)) for budget in kept]
        values += list(table[kept])
    return entries, dict(zip(VALUES, np.reshape(values, (-1, len(VALUES))).T, strict=True))


def bound(
    searched: Mapping[str, np.ndarray], rivals: Mapping[str, np.ndarray], counts: Sequence[int]
) -> dict[str, np.ndarray]:
    """What no mask of at most each count of pixels beats, as far as is known.

    The cosine, with its FMR and area, is that of the mask that leaves least cosine, of all that
    were found for this or a smaller count or were scored; the rate is the least of any of these,
    which may be another mask: each measure is bounded by itself.

    Args:
        searched: `VALUES` of the masks that a search found, one for each count.
        rivals: `VALUES` of the masks that were scored on the same photos.
        counts: Pixels to hide.
    """
    every = {name: np.concatenate([searched[name], rivals[name]]) for name in VALUES}
    made: dict[str, list[float]] = {name: [] for name in VALUES}
    for count in counts:
        fits = np.flatnonzero(every["area"] <= count)
        best = fits[np.argmin(every["cosine"][fits])]
        for name in VALUES:
            made[name].append(float(every[name][best]))
        made["rate"][-1] = float(every["rate"][fits].min())
        beaten = rivals["area"] <= count
        for name in ("cosine", "rate"):
            if (rivals[name][beaten] < made[name][-1]).any():
                raise AssertionError(f"A mask of {count} pixels beats the oracle in {name}.")
    return {name: np.array(values) for name, values in made.items()}


def _seeds(
    session: Session,
    entries: Sequence[_MaskEntry],
    rivals: Mapping[str, np.ndarray],
    counts: Sequence[int],
) -> np.ndarray:
    """For each count the `SEEDS` masks that left least similarity [b, s, h, w], empty where fewer.

    Of equal figures one mask, which as a rule is the same; none whose map saw other photos.
    """
    masks = np.zeros((len(counts), SEEDS, *session.frame), bool)
    blind = np.array([scored.starts for scored, _ in entries], bool)
    for own, count in zip(masks, counts, strict=True):
        fits = np.flatnonzero(blind & (rivals["area"] <= count))
        _, first = np.unique(rivals["cosine"][fits], return_index=True)
        for seed, best in zip(own, fits[first], strict=False):
            scored, budget = entries[best]
            seed[...] = scored_masks(session, session.store.load(scored.key))[scored.row, budget]
    return masks


# --- planning -------------------------------------------------------------------------------------


def _oracles(
    inputs: Inputs, scores: Mapping[tuple[str, int], Sequence[ScoreOutput]]
) -> dict[tuple[str, int], tuple[OracleTask, ...]]:
    """A search on all photos, and one on each half where photos are held out."""
    wanted = inputs.experiment.oracle
    oracles: dict[tuple[str, int], tuple[OracleTask, ...]] = {}
    if wanted is None:
        return oracles
    budgets = inputs.experiment.occlusion.budget
    for target in inputs.experiment.recognizers.targets:
        common, rivals = scored_on(inputs, target), _scored(inputs, scores, target)
        for block in inputs.blocks:
            # A bound is searched on all photos, and on the halves that are held out.
            if block.split not in ("same", "heldout"):
                continue
            tasks = []
            for fill, person in product(inputs.experiment.occlusion.fill, block.people):
                scored = tuple(dict.fromkeys(rivals[fill, person.name, person.rows.tobytes()]))
                key = content_key(
                    "oracle",
                    version=VERSIONS["oracle"],
                    common=common,
                    search=wanted.model_dump(),
                    person=[person.name, person.rows.tolist(), person.tests.tolist()],
                    fill=fill_of(fill),
                    rivals=[[rival.key, rival.row, rival.starts] for rival in scored],
                )
                tasks.append(OracleTask(key, target, person, fill, scored, budgets))
            oracles[target, block.index] = tuple(tasks)
    return oracles


def _scored(
    inputs: Inputs, scores: Mapping[tuple[str, int], Sequence[ScoreOutput]], target: str
) -> dict[tuple[str, str, bytes], list[Scored]]:
    """All scores on a target by fill, person and tested photos."""
    scored: dict[tuple[str, str, bytes], list[Scored]] = defaultdict(list)
    for block in inputs.blocks:
        for output, (row, person) in product(scores[target, block.index], enumerate(block.people)):
            own = np.array_equal(person.rows, person.tests)
            key = output.fill, person.name, person.tests.tobytes()
            scored[key].append(Scored(output.key, row, own or output.maps.source is None))
    return scored


STAGES.add("oracle", OracleStage())
