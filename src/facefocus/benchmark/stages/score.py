"""What hiding does: the masks of a block and its controls, tried on a target under one fill."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy
from jaxtyping import Bool

from facefocus.benchmark.experiment import Experiment
from facefocus.benchmark.identification import PHOTO_RISKS
from facefocus.benchmark.keys import fill_of
from facefocus.benchmark.occluded_photos import Job, OccludedPhotos
from facefocus.benchmark.people import CROSS_POSE, Block, Person
from facefocus.benchmark.plan import scored_on
from facefocus.benchmark.session import Session, is_degenerate
from facefocus.benchmark.stages import ARTEFACT, STAGES, RowKey, Stage, Task
from facefocus.benchmark.stages.explain import MapOutput, unique
from facefocus.core.errors import UserError
from facefocus.core.progress import Progress
from facefocus.core.seeds import generator
from facefocus.core.store import Arrays, content_key
from facefocus.evaluation.nuisances import NUISANCES
from facefocus.evaluation.retention import retention
from facefocus.evaluation.verification import normalize
from facefocus.occlusion.controls import (
    BLEND_PHOTOS,
    CONTROLS,
    SHARED,
    UNDRAWN,
    blended,
    draw,
    partners,
)
from facefocus.occlusion.masks import Masks, mask_of, pack, unpack
from facefocus.occlusion.shapes import shaped
from facefocus.saliency.explainer import Passes
from facefocus.saliency.methods import METHODS

if TYPE_CHECKING:
    from facefocus.benchmark.collect import Part
    from facefocus.benchmark.plan import Inputs

#: What a score artefact holds of each person and budget, NaN for who is left out; besides the
#: masks themselves (`scored_masks`), and `PHOTO_RISKS` where it is asked for.
VALUES = ("cosine", "rate", "fmr", "area")


@dataclass(frozen=True)
class ScoreOutput:
    """One score artefact: the masks of a map artefact, tried on one target.

    Attributes:
        control: None for the maps' own masks, else the control that takes their place.
        draw: Number of the control's draw.
    """

    key: str
    maps: MapOutput
    fill: str
    on_degenerate: str
    control: str | None
    draw: int
    budgets: tuple[float, ...]


@dataclass(frozen=True)
class ScoreTask(Task):
    """All scores of a block on one target under one fill."""

    stage: ClassVar[str] = "scores"

    recognizer: str
    block: Block
    fill: str
    outputs: tuple[ScoreOutput, ...]

    @property
    def cost(self) -> int:
        """Forward passes, if no two masks were equal."""
        return self.block.tests * sum(len(output.budgets) for output in self.outputs)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all it makes."""
        return tuple(output.key for output in self.outputs)

    def without(self, present: Collection[str]) -> ScoreTask | None:
        """What is left of it when the keys in `present` exist."""
        left = tuple(output for output in self.outputs if output.key not in present)
        return replace(self, outputs=left) if left else None

    @property
    def recognizers(self) -> tuple[str, ...]:
        """The target."""
        return (self.recognizer,)


class ScoreStage(Stage):
    """The masks of every map and control of a block, tried on one target under one fill."""

    name = "scores"

    def plan(
        self, inputs: Inputs, planned: Mapping[str, Any]
    ) -> tuple[list[ScoreTask], Mapping[tuple[str, int], tuple[ScoreOutput, ...]]]:
        """The tasks, and the wanted scores of each (target, block index)."""
        _check_controls(inputs)
        scores = _scores(inputs, planned["maps"])
        return _score_tasks(inputs, scores), scores

    def run(self, session: Session, task: ScoreTask, progress: Progress) -> None:
        """See `score`."""
        score(session, task, progress)

    def parts(self, session: Session, target: str, block: Block) -> Iterator[tuple[RowKey, Part]]:
        """A part for every person, output and budget."""
        from facefocus.benchmark.collect import score_parts

        yield from score_parts(session, target, block)

    def passes(self, session: Session, task: ScoreTask) -> dict[str, Passes]:
        """At most: equal masks are embedded once, and are only known when they are made."""
        wanted = [
            output
            for output in session.plan.planned["scores"][task.recognizer, task.block.index]
            if output.fill == task.fill
        ]
        alone = replace(task, outputs=tuple(wanted)).cost
        return {task.recognizer: Passes(inference=task.cost, alone=alone, exact=False)}

    def size(self, session: Session, task: ScoreTask, lengths: Mapping[str, int]) -> int:
        """Four figures and a packed mask for each person and budget."""
        people, pixels = len(task.block.people), session.frame[0] * session.frame[1]
        return sum(
            ARTEFACT + people * sum(4 * 8 + _mask_bytes(budget, pixels) for budget in budgets)
            for budgets in (output.budgets for output in task.outputs)
        )


def _mask_bytes(budget: float, pixels: int) -> int:
    """Size of a stored mask: what scattered pixels take; coherent ones take half of it."""
    information = float(scipy.stats.entropy([budget, 1 - budget], base=2))
    return round(pixels / 8 * min(1.0, 1.4 * information))


def score(session: Session, task: ScoreTask, progress: Progress) -> None:
    """Retention of every person of a block under every wanted mask, stored with the masks."""
    tables: dict[ScoreOutput, dict[str, np.ndarray]] = {}
    entries: dict[Job, list[tuple[ScoreOutput, int]]] = defaultdict(list)
    names = (*VALUES, *(PHOTO_RISKS if session.experiment.evaluation.identification else ()))
    for output in task.outputs:
        made = list(_block_masks(session, task.block, output))
        tables[output] = {name: np.full((len(made), len(output.budgets)), np.nan) for name in names}
        tables[output]["masks"] = pack(np.stack([masks.masks for masks in made]))
        for person, masks in enumerate(made):
            if masks.skipped:
                continue
            tables[output]["area"][person] = masks.areas
            for budget, mask in enumerate(masks.masks):
                entries[Job(person, np.packbits(mask).tobytes())].append((output, budget))
    jobs = sorted(entries, key=lambda job: (job.person, job.mask))
    retentions = retained(session, task.recognizer, task.block.people, task.fill, jobs)
    for done, (job, values) in enumerate(retentions, start=1):
        progress("scores", done, len(jobs))
        for output, budget in entries[job]:
            for name, value in values.items():
                tables[output][name][job.person, budget] = value
    for output, arrays in tables.items():
        session.store.save(output.key, arrays)


# --- masks ----------------------------------------------------------------------------------------


def scored_masks(session: Session, scores: Arrays) -> Bool[np.ndarray, "people budgets h w"]:
    """The very masks that the figures of a score artefact belong to.

    Whatever shows or judges a mask reads it here: made anew, it could be another one.
    """
    return unpack(scores["masks"], (*scores["cosine"].shape, *session.frame))


def _block_masks(session: Session, block: Block, output: ScoreOutput) -> Iterator[Masks]:
    """The masks of every person of a block, for all budgets (Protocol: masks, controls)."""
    made = session.store.load(output.maps.key)
    for index, person in enumerate(block.people):
        own = _masks(session, person.name, made["maps"][index], is_degenerate(made, index), output)
        # Whom nothing hides has nothing to be compared with; random pixels for want of a map do.
        if output.control is None or not own.areas.any():
            yield own
        else:
            yield _control(session, block, output, person, own, made["maps"][index])


def _masks(
    session: Session, name: str, saliency: np.ndarray, degenerate: bool, output: ScoreOutput
) -> Masks:
    return mask_of(
        saliency,
        degenerate=degenerate,
        budgets=output.budgets,
        on_degenerate=output.on_degenerate,
        rng=generator(session.experiment.seed, "ties", name),
        shaped=shaped(session.experiment.occlusion.shape),
    )


def _control(
    session: Session,
    block: Block,
    output: ScoreOutput,
    person: Person,
    own: Masks,
    saliency: np.ndarray,
) -> Masks:
    """What takes the place of a person's own masks, made of the map `saliency`.

    The mean map and the mask of others are those of other people only; a person beside whom nobody
    has a map is left out.
    """
    assert output.control is not None
    if output.control in CONTROLS:
        seed = session.experiment.seed
        drawn = [
            draw(output.control, mask, output.draw, seed=seed, identity=person.name)
            for mask in own.masks
        ]
        return Masks(np.stack(drawn), own.areas, own.requested, False, False)
    everybody = session.population(block, output.maps)
    others = [name for name in everybody.rows if name != person.name]
    if not others:
        # Never the person's own mask in its place: the control would equal what it controls.
        none = np.zeros_like(own.masks)
        return Masks(none, np.zeros_like(own.areas), own.requested, False, True)
    if output.control in UNDRAWN:
        mean = everybody.mean_without(person.name)
        if output.control == "blend" and not own.degenerate:
            mean = blended(saliency, mean, len(person.rows))
        return _masks(session, person.name, mean, False, output)
    if own.degenerate:
        rng = generator(session.experiment.seed, "partners", person.name)
        other = others[int(rng.permutation(len(others))[output.draw % len(others)])]
    else:
        rng = generator(session.experiment.seed, "partners")
        chosen = partners(len(everybody.rows), output.draw + 1, rng)[output.draw]
        other = list(everybody.rows)[int(chosen[everybody.rows[person.name]])]
    return _masks(session, other, everybody.maps[everybody.rows[other]], False, output)


# --- figures --------------------------------------------------------------------------------------


def retained(
    session: Session, target: str, people: Sequence[Person], fill: str, jobs: Sequence[Job]
) -> Iterator[tuple[Job, dict[str, float]]]:
    """Mean mated cosine, recognition rate and FMR of every job; best person by person.

    Without a nuisance `PHOTO_RISKS` as well, where it is asked for.
    """
    embeddings = session.embeddings(target)
    level = session.threshold(target)
    embedded = OccludedPhotos(session, target, people, fill).embedded(jobs)
    for job, occluded in zip(jobs, embedded, strict=True):
        person = people[job.person]
        clean = embeddings[person.tests]
        occluded = clean if occluded is None else occluded
        compare = session.experiment.evaluation.compare
        if job.nuisance is not None and NUISANCES[job.nuisance].gallery:
            compare = "both"
        left = retention(clean, occluded, level, compare=compare)
        fmr = false_matches(session, target, person.name, person.tests, occluded)
        values = {"cosine": left.cosine, "rate": left.rate, "fmr": fmr}
        if session.experiment.evaluation.identification and job.nuisance is None:
            values |= session.gallery(target).risks(person.name, clean, occluded)
        yield job, values


def false_matches(
    session: Session, recognizer: str, name: str, rows: np.ndarray, probes: np.ndarray
) -> float:
    """FMR of a person's photos `rows`, as they are in `probes`, against clean ones of other people.

    At the frozen threshold, over the seeded pairs of `Session.impostors`; NaN without any.
    """
    pairs = session.impostors[name]
    pairs = pairs[np.isin(pairs[:, 0], rows)]
    if not len(pairs):
        return float("nan")
    own = normalize(probes)[np.searchsorted(rows, pairs[:, 0])]
    others = normalize(session.embeddings(recognizer)[pairs[:, 1]])
    scores = (own * others).sum(axis=1)
    return float(np.mean(scores >= session.threshold(recognizer)))


# --- planning -------------------------------------------------------------------------------------


def _scores(
    inputs: Inputs, maps: Mapping[int, Sequence[MapOutput]]
) -> dict[tuple[str, int], tuple[ScoreOutput, ...]]:
    shared = _populations(inputs, maps)
    scores = {}
    asked = inputs.experiment.occlusion.shape
    # Keys of masks of pixels are what they were before there were others.
    shape: dict[str, Any] = {} if asked == "pixels" else {"shape": asked}
    if inputs.experiment.evaluation.identification:
        lists = inputs.pairs, inputs.calibration
        listed = [
            x.astype(np.int64) for pairs in lists for x in (pairs.first, pairs.second, pairs.mated)
        ]
        shape |= {
            "identification": [1, hashlib.sha256(np.concatenate(listed).tobytes()).hexdigest()]
        }
    for target in inputs.experiment.recognizers.targets:
        common = scored_on(inputs, target)
        for block in inputs.blocks:
            scores[target, block.index] = tuple(
                _score_output(
                    common | shape, block, output, fill, policy, control, number, population
                )
                for index, output in enumerate(maps[block.index])
                if _is_tried(inputs.experiment, output, target)
                for population in (shared[block.split, block.fold, block.round][index],)
                for fill in inputs.experiment.occlusion.fill
                if output.spec.tried_fill in (None, fill)
                for policy in inputs.experiment.occlusion.on_degenerate
                for control, number in _controls(inputs.experiment, block, output, policy)
            )
    return scores


def _is_tried(experiment: Experiment, output: MapOutput, target: str) -> bool:
    """Whether the masks of a map are tried on a target; those of baselines always are."""
    return experiment.recognizers.transfer or not output.sources or target in output.sources


def _populations(
    inputs: Inputs, maps: Mapping[int, Sequence[MapOutput]]
) -> dict[tuple[str, int, int], list[str]]:
    """Hash of the maps of everybody in a fold under each spec: what shared controls depend on.

    With ``[stop]``, of everybody of the same round: nobody knows yet who will follow.
    """
    by_fold: dict[tuple[str, int, int], list[hashlib._Hash]] = {}
    for block in inputs.blocks:
        outputs = maps[block.index]
        hashes = by_fold.setdefault(
            (block.split, block.fold, block.round), [hashlib.sha256() for _ in outputs]
        )
        for digest, output in zip(hashes, outputs, strict=True):
            digest.update(output.key.encode())
    return {fold: [digest.hexdigest() for digest in hashes] for fold, hashes in by_fold.items()}


def _check_controls(inputs: Inputs) -> None:
    """Refuse controls that are made of other people's maps where there are no other people."""
    wanted = inputs.experiment.controls
    shared = [] if wanted is None else [control for control in wanted.control if control in SHARED]
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for block in inputs.blocks:
        counts[block.split, block.fold] += len(block.people)
    for (split, _), count in counts.items():
        if shared and count < 2:
            held = " with photos of both poses" if split in CROSS_POSE else ""
            held = " whose photos can be held out" if split in ("heldout", "half") else held
            raise UserError(
                f"The 'control' of [controls] can be {' and '.join(shared)} only with 2 or more"
                f" people{held}: their maps make it. Got {count}. Choose more people, or leave it"
                " out."
            )


def _controls(
    experiment: Experiment, block: Block, output: MapOutput, policy: str
) -> Iterator[tuple[str | None, int]]:
    """The maps' own masks, then every draw of every control that fits them."""
    yield None, 0
    wanted = experiment.controls
    # Controls have equal areas by definition; a baseline is a control itself.
    if wanted is None or policy == "inclusive" or output.source is None or block.split == "half":
        return
    everybodys = METHODS[output.spec.method].needs(dict(output.spec.options)).shared
    for control in wanted.control:
        if everybodys and control in SHARED:
            continue  # other people's map is the same one
        for number in range(1 if control in UNDRAWN else wanted.draws):
            yield control, number


def _score_output(
    common: Mapping[str, Any],
    block: Block,
    output: MapOutput,
    fill: str,
    policy: str,
    control: str | None,
    draw: int,
    population: str,
) -> ScoreOutput:
    budgets = common["budgets"] if output.spec.budget is None else (output.spec.budget,)
    made_of: list[Any] = [control, draw, population if control in SHARED else None]
    made_of += [BLEND_PHOTOS] if control == "blend" else []
    key = content_key(
        "scores",
        **{**common, "budgets": budgets},
        maps=output.key,
        tested=block.tested,
        fill=fill_of(fill),
        on_degenerate=policy,
        control=made_of,
    )
    return ScoreOutput(key, output, fill, policy, control, draw, budgets)


def _score_tasks(
    inputs: Inputs, scores: Mapping[tuple[str, int], Sequence[ScoreOutput]]
) -> list[ScoreTask]:
    return [
        ScoreTask(target, inputs.blocks[index], fill, unique(of_fill))
        for (target, index), outputs in scores.items()
        for fill in inputs.experiment.occlusion.fill
        if (of_fill := [output for output in outputs if output.fill == fill])
    ]


STAGES.add("scores", ScoreStage())
