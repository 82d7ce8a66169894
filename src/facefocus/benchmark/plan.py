"""From an experiment to tasks: what there is to compute, each piece under its content key.

Every stage plans its own tasks (`facefocus.benchmark.stages`). A task holds the keys of everything
it makes; whatever the store has already is left out when it runs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from facefocus.benchmark.experiment import Experiment
from facefocus.benchmark.keys import VERSIONS, forward_of, libraries
from facefocus.benchmark.people import Block, Person, everybody, make_blocks, photos_hash
from facefocus.benchmark.stages import STAGES, Task
from facefocus.core.errors import UserError
from facefocus.evaluation.verification import check_rule, verification_pairs
from facefocus.faces.faceset import FaceSet, Pairs
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.explainer import MapSpec

#: Maps of one kind: the recognizers that they are made on, and their spec.
Made = tuple[tuple[str, ...], MapSpec]


@dataclass(frozen=True)
class Plan:
    """Everything an experiment needs, in order of dependence.

    Attributes:
        blocks: The people who are scored, in blocks; those of the held-out folds after the others.
        people: All chosen people with all their photos, sorted by name.
        pairs: The verification pairs of the face set.
        calibration: The pairs that set the thresholds: these, or those of another face set.
        tasks: All tasks, stage by stage.
        planned: What each stage's plan gave besides its tasks, by its name.
    """

    experiment: Experiment
    blocks: tuple[Block, ...]
    people: tuple[Person, ...]
    pairs: Pairs
    calibration: Pairs
    tasks: tuple[Task, ...]
    planned: Mapping[str, Any]

    @cached_property
    def explained(self) -> Mapping[int, list[tuple[Block, Person]]]:
        """Whose map every photo is used for, by its row."""
        by_row: dict[int, list[tuple[Block, Person]]] = defaultdict(list)
        for block in self.blocks:
            if block.split == "half":  # its maps are those of the held-out block
                continue
            for person in block.people:
                for row in person.rows.tolist():
                    by_row[row].append((block, person))
        return by_row

    def for_workers(self) -> Plan:
        """What tasks look up in the plan while they run: who is in it, and where clean embeddings
        and everybody's maps are."""
        looked_up = tuple(task for task in self.tasks if task.stage == "embed")
        return replace(self, tasks=looked_up, planned={"maps": self.planned["maps"]})

    def keys(self) -> dict[str, list[str]]:
        """The keys of each stage: what `facefocus status` looks for."""
        stages: dict[str, list[str]] = {stage: [] for stage in STAGES}
        for task in self.tasks:
            stages[task.stage] += task.keys
        return {stage: keys for stage, keys in stages.items() if keys}


@dataclass(frozen=True)
class Inputs:
    """What planning starts from.

    Attributes:
        pairs: The verification pairs of the face set.
        calibrating: The face set that the threshold comes from.
        calibration: The pairs that it comes from.
        lists: The verification lists of both face sets, where they have any.
        blocks: The people to score.
        people: All chosen people with all their photos, sorted by name.
        given: Of maps that were made elsewhere, by the name that the experiment gives them: their
            hash, and the maps by identity.
        left_out: Maps that are made no more, by round: sources and spec.
    """

    experiment: Experiment
    faces: FaceSet
    pairs: Pairs
    calibrating: FaceSet
    calibration: Pairs
    lists: tuple[Pairs | None, Pairs | None]
    recognizers: Mapping[str, Recognizer]
    blocks: tuple[Block, ...]
    people: tuple[Person, ...]
    given: Mapping[str, tuple[str, Mapping[str, np.ndarray]]]
    left_out: Sequence[Collection[Made]] = ()

    def wants(self, block: Block, made: Made) -> bool:
        """Whether maps are still to be made in the round of a block."""
        return not self.left_out or made not in self.left_out[block.round]

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the frames."""
        height, width = self.faces.frames.shape[1:3]
        return height, width


def make_plan(
    experiment: Experiment,
    faces: FaceSet,
    pairs: Pairs | None,
    recognizers: Mapping[str, Recognizer],
    calibration: tuple[FaceSet, Pairs | None] | None = None,
    given: Mapping[str, tuple[str, Mapping[str, np.ndarray]]] | None = None,
    left_out: Sequence[Collection[Made]] = (),
) -> Plan:
    """Work out all tasks; nothing is computed.

    Args:
        experiment: What to do.
        faces: The photos.
        pairs: The verification list of the face set; a seeded sample of pairs where it has none.
        recognizers: Every source and target, loaded, by the name the experiment uses.
        calibration: The other face set that the threshold comes from, and its list, likewise.
        given: See `Inputs`.
        left_out: An entry for each round that is planned, with the maps that are not made in it;
            none at all: everything.

    Raises:
        UserError: Too few people, too few pairs for the threshold, an unknown layer, or a gradient
            method on a black box.
    """
    blocks = make_blocks(experiment, faces)
    people = everybody(blocks)
    if left_out:
        blocks = tuple(block for block in blocks if block.round < len(left_out))
    lists = pairs, pairs if calibration is None else calibration[1]
    pairs = verification_pairs(faces, pairs, experiment.seed)
    calibrating = faces if calibration is None else calibration[0]
    setting = pairs
    if calibration is not None:
        setting = verification_pairs(calibrating, lists[1], experiment.seed)
    mated = int(setting.mated.sum())
    rule = experiment.evaluation.rule
    check_rule(rule, mated, len(setting.mated) - mated, calibrating.title)
    inputs = Inputs(
        experiment, faces, pairs, calibrating, setting, lists, recognizers, blocks, people,
        given or {}, left_out,
    )  # fmt: skip
    _check_budgets(experiment, inputs.frame)
    tasks: list[Task] = []
    planned: dict[str, Any] = {}
    for name in STAGES:
        stage_tasks, planned[name] = STAGES[name].plan(inputs, planned)
        tasks += stage_tasks
    order = list(STAGES)
    tasks.sort(key=lambda task: order.index(task.stage))
    return Plan(experiment, blocks, people, pairs, setting, tuple(tasks), planned)


def _check_budgets(experiment: Experiment, frame: tuple[int, int]) -> None:
    """Refuse a budget that hides no pixel of a frame."""
    height, width = frame
    for budget in experiment.occlusion.budget:
        if not pixel_count(budget, height, width):
            least = 1 / (height * width)
            raise UserError(
                f"The 'budget' of [occlusion] must hide at least one of the {height}x{width} pixels"
                f" of an aligned crop. Got {budget:g}. The least is {least:.1e}."
            )


def scored_on(inputs: Inputs, target: str) -> dict[str, Any]:
    """What every score on one target depends on: part of the keys of scores and of the oracle."""
    recognizer = inputs.recognizers[target]
    evaluation = inputs.experiment.evaluation
    return {
        # Impostors are drawn from everybody who was chosen.
        "chosen": photos_hash((person.name, person.rows) for person in inputs.people),
        "version": VERSIONS["scores"],
        "target": recognizer.fingerprint,
        "forward": forward_of(recognizer),
        "libraries": libraries(),
        "faces": inputs.faces.hash,
        "threshold": _threshold_key(inputs),
        "compare": evaluation.compare,
        "budgets": inputs.experiment.occlusion.budget,
        "seed": inputs.experiment.seed,
    }


def _threshold_key(inputs: Inputs) -> list[Any]:
    """What determines a threshold besides the recognizer."""
    rule = inputs.experiment.evaluation.rule
    if rule.kind == "given":
        return [rule.kind, rule.value]
    pairs = hashlib.sha256()
    for column in (inputs.calibration.first, inputs.calibration.second, inputs.calibration.mated):
        pairs.update(np.ascontiguousarray(column).astype(np.int64).tobytes())
    return [rule.kind, rule.value, inputs.calibrating.hash, pairs.hexdigest()]
