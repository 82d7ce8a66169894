"""What a process holds while it works on a run: face set, recognizers, store, plan.

State lives here, at the rim; `making` and `scoring` only read it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.identification import Gallery
from facefocus.benchmark.people import Block
from facefocus.benchmark.plan import Made, Plan, make_plan
from facefocus.benchmark.run_log import Spent
from facefocus.benchmark.stages import Task
from facefocus.core.errors import UserError
from facefocus.core.locations import StoreAddress, expanded
from facefocus.core.store import Arrays, Store
from facefocus.evaluation.randomization import impostor_pairs
from facefocus.evaluation.verification import eer, pair_cosines, threshold
from facefocus.faces.faceset import FaceSet, open_faceset, read_pairs
from facefocus.faces.sources.synthetic import TRUTH, read_truth
from facefocus.models.backends import accelerate
from facefocus.models.memory import TOO_LITTLE
from facefocus.models.recognizer import CHUNK, Recognizer, TorchRecognizer, hold_batches
from facefocus.models.score_only import ScoreRecognizer, refused
from facefocus.models.zoo import load
from facefocus.occlusion.controls import mean_of_others, run_sums
from facefocus.saliency.given import check_given, digest_of_maps, read_maps

if TYPE_CHECKING:
    from facefocus.benchmark.collect import TruthScores
    from facefocus.benchmark.stages.embed import EmbedTask
    from facefocus.benchmark.stages.explain import MapOutput

#: Non-mated pairs of a person that are scored with and without occlusion, in the mean.
IMPOSTORS = 50

#: Maps of a whole population kept at once: what shared controls look up again and again.
POPULATIONS = 4


@dataclass(frozen=True)
class SessionSpec:
    """What a worker process needs to open its own session.

    Attributes:
        memory: Bytes that a pass may take: see `facefocus.models.backends.accelerate`.
        calibration: The other face set that the threshold comes from, if there is one.
        batches: Images of a pass, and of one with its graph, of some recognizers; by default as
            many as `memory` allows.
    """

    experiment: str
    faces: Path
    store: StoreAddress
    backend: str
    memory: int | None = None
    calibration: Path | None = None
    batches: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Held:
    """Objects that a session takes as they are, instead of opening them by name.

    Attributes:
        faces: The face set.
        recognizers: By the names that the experiment gives them.
        maps: Maps that were made elsewhere, by the names that the experiment gives them.
    """

    faces: FaceSet
    recognizers: Mapping[str, Recognizer]
    maps: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class OperatingPoint:
    """Where a recognizer decides, and its equal error rate on the verification pairs.

    The rate is None where the face set has no mated or no non-mated pair.
    """

    threshold: float
    eer: float | None


@dataclass(frozen=True, eq=False)
class Population:
    """Maps of everybody in a fold and round who has one, in the order of their names.

    Attributes:
        maps: One map [H, W] each.
        rows: Row of each person by name.
    """

    maps: np.ndarray
    rows: dict[str, int]

    def mean_without(self, name: str) -> np.ndarray:
        """The mean map [H, W] of everybody but one, who may have none; there must be somebody."""
        if name not in self.rows:
            mean: np.ndarray = self.maps.mean(axis=0, dtype=np.float64)
            return mean
        return mean_of_others(self.maps, self.rows[name], self._sums)

    @cached_property
    def _sums(self) -> np.ndarray:
        return run_sums(self.maps)


class Session:
    """A face set, the recognizers and the store, opened once per process.

    Raises:
        UserError: The face set or a recognizer cannot be loaded.
    """

    def __init__(
        self, spec: SessionSpec, held: Held | None = None, plan: Plan | None = None
    ) -> None:
        self.spec, self.held = spec, held
        if plan is not None:
            self.__dict__["plan"] = plan  # a worker is given it
        self.experiment = parse_experiment(json.loads(spec.experiment))
        self.faces: FaceSet = open_faceset(spec.faces) if held is None else held.faces
        self.store = Store(spec.store)
        #: What it took to open it, by part, where somebody looked at the clock.
        self.opening: dict[str, Spent] = {}
        self._embeddings: dict[tuple[str, bool], np.ndarray] = {}
        self._operating: dict[str, OperatingPoint] = {}
        self._populations: dict[str, Population] = {}
        self._galleries: dict[str, Gallery] = {}

    @cached_property
    def impostors(self) -> dict[str, np.ndarray]:
        """Non-mated pairs [p, 2] of every chosen person: own photo, another person's photo."""
        people = [person.identity for person in self.plan.people]
        pairs = impostor_pairs(people, IMPOSTORS * len(people), seed=self.experiment.seed)
        owner = np.full(len(self.faces.frames), -1)
        for number, person in enumerate(people):
            owner[person.rows] = number
        whose = owner[pairs[:, 0]]
        bounds = np.cumsum(np.bincount(whose, minlength=len(people)))[:-1]
        parts = np.split(pairs[np.argsort(whose, kind="stable")], bounds)
        return {person.name: part for person, part in zip(people, parts, strict=True)}

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the frames."""
        height, width = self.faces.frames.shape[1:3]
        return height, width

    @cached_property
    def planted(self) -> dict[str, np.ndarray] | None:
        """Where identity is planted: a mask [n, H, W] of each part; None where nobody knows.

        Raises:
            UserError: There is a truth, but it cannot be read or is not of these faces.
        """
        folder = self.faces.folder
        if folder is None or not (folder / TRUTH).is_file():
            return None
        parts = read_truth(folder)
        if any(masks.shape != self.faces.frames.shape[:3] for masks in parts.values()):
            raise UserError(
                f"'{folder / TRUTH}' must be of the frames beside it. Got another number"
                " or size. Make the faces again."
            )
        return parts

    @cached_property
    def recognizers(self) -> dict[str, Recognizer]:
        """Every source and target, by the name the experiment uses."""
        wanted = self.experiment.recognizers
        together = [
            name for saliency in self.experiment.saliency for name in saliency.sources or ()
        ]
        names = dict.fromkeys((*wanted.source, *wanted.targets, *together))
        reading = wanted.preprocessing
        # A resumed run may embed masked faces first, so clean ones are named for the check.
        backend, memory, clean = self.spec.backend, self.spec.memory, self.faces.frames[:CHUNK]
        held = {} if self.held is None else self.held.recognizers
        recognizers = {
            name: accelerate(
                held[name] if name in held else load(name, reading.get(name)),
                backend,
                memory,
                clean,
            )
            for name in names
        }
        for name, batch, graph_batch in self.spec.batches:
            if isinstance(recognizer := recognizers.get(name), TorchRecognizer):
                recognizer.batch, recognizer.graph_batch = batch, graph_batch
        for recognizer in recognizers.values():
            if isinstance(recognizer, ScoreRecognizer):
                raise refused(recognizer.name)
            hold_batches(recognizer)
        return recognizers

    @property
    def batches(self) -> tuple[tuple[str, int, int], ...]:
        """The batches of all recognizers that have any: see `SessionSpec`."""
        return tuple(
            (name, recognizer.batch, recognizer.graph_batch)
            for name, recognizer in self.recognizers.items()
            if isinstance(recognizer, TorchRecognizer)
        )

    @property
    def images(self) -> tuple[int, int]:
        """Images that went through passes without gradients so far, and how many only as filling.

        Those of black boxes are not counted.
        """
        boxes = [box for box in self.recognizers.values() if isinstance(box, TorchRecognizer)]
        return sum(box.passes for box in boxes), sum(box.padded for box in boxes)

    def with_less(self, task: Task) -> SessionSpec:
        """The spec of a session in which the passes of a task take half the memory.

        Raises:
            UserError: They run a single image already, or none of their recognizers has batches.
        """
        graph, names = task.graph, task.recognizers
        batches = {name: [batch, graph_batch] for name, batch, graph_batch in self.batches}
        known = [name for name in names if name in batches and batches[name][graph] > 1]
        if not known:
            raise UserError(TOO_LITTLE)
        for name in known:
            batches[name][graph] //= 2
        halved = tuple((name, both[0], both[1]) for name, both in batches.items())
        return replace(self.spec, batches=halved)

    @cached_property
    def plan(self) -> Plan:
        """The plan of this session's experiment."""
        return self._planned(())

    def begun(self, left_out: Sequence[Collection[Made]]) -> Session:
        """This session with a plan of its first rounds: see `make_plan`."""
        part = copy(self)
        part.__dict__["plan"] = self._planned(left_out)
        return part

    def _planned(self, left_out: Sequence[Collection[Made]]) -> Plan:
        folder, other = self.faces.folder, self.spec.calibration
        pairs = None if folder is None else read_pairs(folder)
        calibration = None if other is None else (self.calibrating, read_pairs(other))
        return make_plan(
            self.experiment, self.faces, pairs, self.recognizers, calibration, self.given, left_out
        )

    @cached_property
    def given(self) -> dict[str, tuple[str, dict[str, np.ndarray]]]:
        """Maps that were made elsewhere, by their names in the experiment: hash, and by identity.

        Raises:
            UserError: A file cannot be read, or holds maps of another size or of nobody here.
        """
        names = dict.fromkeys(
            saliency.maps for saliency in self.experiment.saliency if saliency.maps
        )
        return {name: self._given(name) for name in names}

    def _given(self, name: str) -> tuple[str, dict[str, np.ndarray]]:
        held = {} if self.held is None else self.held.maps
        maps = dict(held[name]) if name in held else read_maps(Path(expanded(name)))
        check_given(maps, name, self.frame, self.faces.identities)
        return digest_of_maps(maps), maps

    @cached_property
    def truths(self) -> TruthScores | None:
        """The truth scores of masks and maps, where it is known where identity is planted."""
        from facefocus.benchmark.collect import TruthScores

        return None if self.planted is None else TruthScores(self, self.planted)

    @cached_property
    def calibrating(self) -> FaceSet:
        """The face set that the threshold comes from."""
        other = self.spec.calibration
        return self.faces if other is None else open_faceset(other)

    def faces_of(self, task: EmbedTask) -> FaceSet:
        """The face set that an embed task is about."""
        return self.calibrating if task.calibrates else self.faces

    def embeddings(self, recognizer: str, *, calibrate: bool = False) -> np.ndarray:
        """Clean embeddings [n, d] of one recognizer, from the embed artefacts.

        Row i belongs to frame i; frames that the plan has no use for are NaN. With `calibrate`,
        of the other face set that the threshold comes from.
        """
        if (recognizer, calibrate) not in self._embeddings:
            from facefocus.benchmark.stages.embed import EmbedTask, embedding_table

            tasks = [task for task in self.plan.tasks if isinstance(task, EmbedTask)]
            wanted = [
                task
                for task in tasks
                if (task.recognizer, task.calibrates) == (recognizer, calibrate)
            ]
            count = len((self.calibrating if calibrate else self.faces).frames)
            table = embedding_table(self.store, wanted, count)
            self._embeddings[recognizer, calibrate] = table
        return self._embeddings[recognizer, calibrate]

    def operating(self, recognizer: str) -> OperatingPoint:
        """The frozen threshold of one recognizer (Protocol: thresholds)."""
        if recognizer not in self._operating:
            rule = self.experiment.evaluation.rule
            mated, other = pair_cosines(self.embeddings(recognizer), self.plan.pairs)
            rate = eer(mated, other) if len(mated) and len(other) else None
            if self.spec.calibration is not None:
                embeddings = self.embeddings(recognizer, calibrate=True)
                mated, other = pair_cosines(embeddings, self.plan.calibration)
            self._operating[recognizer] = OperatingPoint(threshold(mated, other, rule), rate)
        return self._operating[recognizer]

    def threshold(self, recognizer: str) -> float:
        """The threshold of `operating`."""
        return self.operating(recognizer).threshold

    def gallery(self, recognizer: str) -> Gallery:
        """The clean photos of everybody, as one recognizer sees them."""
        if recognizer not in self._galleries:
            self._galleries[recognizer] = Gallery(self, recognizer)
        return self._galleries[recognizer]

    def population(self, block: Block, output: MapOutput) -> Population:
        """The maps of everybody in the block's fold and round under the spec of `output`."""
        if output.key not in self._populations:
            if len(self._populations) >= POPULATIONS:
                self._populations.clear()
            population, keys = self._everybody(block, output)
            self._populations.update(dict.fromkeys(keys, population))
        return self._populations[output.key]

    def _everybody(self, block: Block, output: MapOutput) -> tuple[Population, list[str]]:
        output_index = self.plan.planned["maps"][block.index].index(output)
        maps: dict[str, np.ndarray] = {}
        keys = []
        for other in self.plan.blocks:
            fold = block.split, block.fold, block.round
            if (other.split, other.fold, other.round) != fold:
                continue
            keys.append(self.plan.planned["maps"][other.index][output_index].key)
            made = self.store.load(keys[-1])
            for index, person in enumerate(other.people):
                if not is_degenerate(made, index):
                    maps[person.name] = made["maps"][index]
        names = sorted(maps)
        stacked = np.stack([maps[name] for name in names]) if names else np.zeros((0, *self.frame))
        return Population(stacked, {name: row for row, name in enumerate(names)}), keys


def is_degenerate(made: Arrays, index: int) -> bool:
    """Whether person `index` of a map artefact has no map left (Protocol: identity-maps)."""
    return bool(made["degenerate"][index] == made["total"][index])
