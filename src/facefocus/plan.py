"""From an experiment to tasks: what there is to compute, each piece under its content key.

Three stages, each feeding the next:

- *embed*: embeddings of clean photos, per recognizer and chunk of rows;
- *maps*: identity maps, per recognizer and block of identities - all layers, methods and
  objectives of a block share their forward and backward passes;
- *scores*: what hiding does, per target, block and fill - equal masks are embedded once.

A task holds the keys of everything it makes. Whatever the store has already is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from facefocus.evaluation.verification import sample_pairs
from facefocus.experiment import Experiment, Saliency
from facefocus.faces.faceset import FaceSet, Identity, Pairs, select_identities
from facefocus.models.recognizer import Recognizer, WhiteBox, white_box
from facefocus.saliency.methods import METHODS, GradientMethod, Method
from facefocus.saliency.objectives import Evidence
from facefocus.store import content_key

#: Photos per embed task, and identities per block: small enough that a killed process loses
#: seconds, large enough that a chunk of a forward pass is full.
ROWS_PER_TASK = 1024
IDENTITIES_PER_BLOCK = 16

#: Mated and non-mated pairs drawn for the threshold of a face set that has no pair list.
SAMPLED_PAIRS = 3000

#: Raise when a stage's arithmetic changes, so that old artefacts are not taken for new ones.
EMBED_VERSION = 1
MAPS_VERSION = 1
SCORES_VERSION = 1


@dataclass(frozen=True)
class MapSpec:
    """What determines an identity map besides the recognizer and the photos."""

    method: str
    layer: str | None
    calls: tuple[int, ...]
    objective: str | None
    options: tuple[tuple[str, str], ...]
    evidence: Evidence
    normalize: bool
    arcface_scale: float
    max_pairs: int | None
    draw: int | None


@dataclass(frozen=True)
class Block:
    """A few identities that are computed together."""

    index: int
    identities: tuple[Identity, ...]

    @cached_property
    def digest(self) -> str:
        """Hash of who is in it and with which photos."""
        digest = hashlib.sha256()
        for person in self.identities:
            digest.update(f"{person.name}\0{person.rows.tolist()}\0".encode())
        return digest.hexdigest()

    @property
    def images(self) -> int:
        """Photos of all its identities."""
        return sum(len(person.rows) for person in self.identities)

    @property
    def pairs(self) -> int:
        """Ordered mated pairs of all its identities."""
        return sum(len(person.rows) * (len(person.rows) - 1) for person in self.identities)


@dataclass(frozen=True)
class MapOutput:
    """One map artefact: the maps of a block under one spec, made on `source`."""

    key: str
    source: str | None
    spec: MapSpec


@dataclass(frozen=True)
class ScoreOutput:
    """One score artefact: a map artefact's masks under one fill and one policy, on one target."""

    key: str
    maps: MapOutput
    fill: str
    on_degenerate: str


@dataclass(frozen=True)
class EmbedTask:
    """Embeddings of some rows by one recognizer."""

    key: str
    recognizer: str
    rows: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Forward passes."""
        return len(self.rows)


@dataclass(frozen=True)
class MapTask:
    """All maps of a block that are made on one recognizer (None: they need none)."""

    recognizer: str | None
    block: Block
    outputs: tuple[MapOutput, ...]

    @property
    def cost(self) -> int:
        """Roughly, in passes: one per photo, one per ordered pair and objective."""
        objectives = {output.spec.objective for output in self.outputs} - {None}
        return self.block.images + self.block.pairs * len(objectives)


@dataclass(frozen=True)
class ScoreTask:
    """All scores of a block on one target under one fill."""

    recognizer: str
    block: Block
    fill: str
    outputs: tuple[ScoreOutput, ...]
    budgets: tuple[float, ...]

    @property
    def cost(self) -> int:
        """Forward passes, if no two masks were equal."""
        return self.block.images * len(self.outputs) * len(self.budgets)


Task = EmbedTask | MapTask | ScoreTask


@dataclass(frozen=True)
class Plan:
    """Everything an experiment needs, in order of dependence.

    Attributes:
        blocks: The chosen identities, in blocks.
        pairs: The verification pairs that set the thresholds.
        tasks: Embed tasks, then map tasks, then score tasks.
        scores: The wanted score artefacts of each (target, block index); several may share a key.
    """

    experiment: Experiment
    blocks: tuple[Block, ...]
    pairs: Pairs
    tasks: tuple[Task, ...]
    scores: Mapping[tuple[str, int], tuple[ScoreOutput, ...]]

    @property
    def identities(self) -> tuple[Identity, ...]:
        """All chosen identities, sorted by name."""
        people = [person for block in self.blocks for person in block.identities]
        return tuple(sorted(people, key=lambda person: person.name))

    def keys(self) -> dict[str, list[str]]:
        """The keys of each stage: what `facefocus status` looks for."""
        stages: dict[str, list[str]] = {"embed": [], "maps": [], "scores": []}
        for task in self.tasks:
            stages[stage_of(task)] += task_keys(task)
        return stages


def stage_of(task: Task) -> str:
    """``embed``, ``maps`` or ``scores``."""
    return {EmbedTask: "embed", MapTask: "maps", ScoreTask: "scores"}[type(task)]


def task_keys(task: Task) -> list[str]:
    """The keys of everything a task makes."""
    return [task.key] if isinstance(task, EmbedTask) else [out.key for out in task.outputs]


def missing(task: Task, has: Iterable[str]) -> Task | None:
    """What is left of `task` when the keys in `has` exist, or None."""
    present = set(has)
    if isinstance(task, EmbedTask):
        return None if task.key in present else task
    if isinstance(task, MapTask):
        maps = tuple(out for out in task.outputs if out.key not in present)
        return replace(task, outputs=maps) if maps else None
    scores = tuple(out for out in task.outputs if out.key not in present)
    return replace(task, outputs=scores) if scores else None


def make_plan(
    experiment: Experiment,
    faces: FaceSet,
    pairs: Pairs | None,
    recognizers: Mapping[str, Recognizer],
) -> Plan:
    """Work out all tasks; nothing is computed.

    Args:
        experiment: What to do.
        faces: The photos.
        pairs: The verification list of the face set; a seeded sample of pairs where it has none.
        recognizers: Every source and target, loaded, by the name the experiment uses.

    Raises:
        UserError: Too few identities, an unknown layer, or a gradient method on a black box.
    """
    blocks = _blocks(experiment, faces)
    if pairs is None:
        pairs = sample_pairs(faces.identities, count=SAMPLED_PAIRS, seed=experiment.seed)
    outputs = _map_outputs(experiment, faces, recognizers, blocks)
    embed = _embed_tasks(experiment, faces, pairs, recognizers, blocks)
    scores = _scores(experiment, faces, pairs, recognizers, outputs)
    maps = (
        MapTask(recognizer, blocks[index], _unique(found))
        for (recognizer, index), found in outputs.items()
    )
    tasks = (
        ScoreTask(target, blocks[index], fill, _unique(of_fill), experiment.occlusion.budget)
        for (target, index), found in scores.items()
        for fill in experiment.occlusion.fill
        if (of_fill := [output for output in found if output.fill == fill])
    )
    return Plan(experiment, blocks, pairs, (*embed, *maps, *tasks), scores)


def _unique(outputs: Sequence[Any]) -> tuple[Any, ...]:
    """One output per key: specs that come to the same thing are computed once."""
    return tuple({output.key: output for output in outputs}.values())


def _blocks(experiment: Experiment, faces: FaceSet) -> tuple[Block, ...]:
    wanted = experiment.faces
    people = select_identities(
        faces,
        count=wanted.identities,
        images=wanted.images,
        max_images=wanted.max_images,
        seed=experiment.seed,
    )
    # People with equally many photos share a block, so that chunks of a backward pass are full.
    people = sorted(people, key=lambda person: (len(person.rows), person.name))
    size = IDENTITIES_PER_BLOCK
    return tuple(
        Block(index, tuple(people[start : start + size]))
        for index, start in enumerate(range(0, len(people), size))
    )


def precision_of(recognizer: Recognizer) -> str:
    """What runs the forward passes, as it enters every key that depends on it."""
    return str(getattr(recognizer, "precision", "float32"))


def _embed_tasks(
    experiment: Experiment,
    faces: FaceSet,
    pairs: Pairs,
    recognizers: Mapping[str, Recognizer],
    blocks: Sequence[Block],
) -> list[EmbedTask]:
    """Rows of the verification list first: their chunks are the same in every experiment."""
    listed = np.unique(np.concatenate([pairs.first, pairs.second]))
    chosen = np.concatenate([person.rows for block in blocks for person in block.identities])
    others = np.setdiff1d(chosen, listed)
    tasks = []
    for name in experiment.recognizers.targets:
        recognizer = recognizers[name]
        for rows in (*_chunks(listed), *_chunks(others)):
            key = content_key(
                "embeddings",
                version=EMBED_VERSION,
                recognizer=recognizer.fingerprint,
                precision=precision_of(recognizer),
                faces=faces.hash,
                rows=rows,
            )
            tasks.append(EmbedTask(key, name, tuple(rows)))
    return tasks


def _chunks(rows: np.ndarray) -> Iterator[list[int]]:
    for start in range(0, len(rows), ROWS_PER_TASK):
        yield [int(row) for row in rows[start : start + ROWS_PER_TASK]]


def _specs(saliency: Saliency, recognizer: Recognizer) -> Iterator[MapSpec]:
    """All maps of one ``[saliency]`` table on one source."""
    for name in saliency.method:
        method = METHODS[name]
        if isinstance(method, GradientMethod):
            white_box(recognizer, f"the method '{name}'")
        places = _layers(saliency, recognizer) if method.needs_layer else [(None, ())]
        objectives = saliency.objective if method.needs_objective else (None,)
        draws = range(saliency.draws) if method.kind == "baseline" else (None,)
        for (layer, calls), objective, draw in product(places, objectives, draws):
            yield MapSpec(
                method=name,
                layer=layer,
                calls=calls,
                objective=objective,
                options=_options(saliency, method),
                evidence=saliency.evidence,
                normalize=saliency.normalize,
                arcface_scale=saliency.arcface_scale,
                max_pairs=saliency.max_pairs,
                draw=draw,
            )


def _layers(saliency: Saliency, recognizer: Recognizer) -> list[tuple[str, tuple[int, ...]]]:
    """The layers asked for, with the convolution calls they are in this recognizer."""
    assert isinstance(recognizer, WhiteBox)
    table = recognizer.layers()
    return [(layer, table.resolve(layer)) for layer in saliency.layer]


def _options(saliency: Saliency, method: Method) -> tuple[tuple[str, str], ...]:
    """The fields of ``[saliency]`` that this method takes as its options."""
    names = method.options if isinstance(method, GradientMethod) else ()
    return tuple((name, str(getattr(saliency, name))) for name in names)


def _map_outputs(
    experiment: Experiment,
    faces: FaceSet,
    recognizers: Mapping[str, Recognizer],
    blocks: Sequence[Block],
) -> dict[tuple[str | None, int], list[MapOutput]]:
    outputs: dict[tuple[str | None, int], list[MapOutput]] = {}
    for name in experiment.recognizers.source:
        recognizer = recognizers[name]
        for saliency in experiment.saliency:
            for spec in _specs(saliency, recognizer):
                source = None if METHODS[spec.method].kind == "baseline" else name
                for block in blocks:
                    found = outputs.setdefault((source, block.index), [])
                    key = _map_key(experiment, faces, recognizer, block, spec)
                    output = MapOutput(key, source, spec)
                    if output not in found:
                        found.append(output)
    return outputs


def _map_key(
    experiment: Experiment, faces: FaceSet, recognizer: Recognizer, block: Block, spec: MapSpec
) -> str:
    method = METHODS[spec.method]
    determined = asdict(spec)
    del determined["layer"]  # its calls say it, under whatever name
    drawn = method.kind == "baseline" or spec.max_pairs is not None
    return content_key(
        "maps",
        version=[MAPS_VERSION, method.version],
        recognizer=None if method.kind == "baseline" else recognizer.fingerprint,
        faces=faces.hash,
        people=block.digest,
        spec=determined,
        seed=experiment.seed if drawn else None,
    )


def _scores(
    experiment: Experiment,
    faces: FaceSet,
    pairs: Pairs,
    recognizers: Mapping[str, Recognizer],
    outputs: Mapping[tuple[str | None, int], Sequence[MapOutput]],
) -> dict[tuple[str, int], tuple[ScoreOutput, ...]]:
    listed = hashlib.sha256()
    for column in (pairs.first, pairs.second, pairs.mated):
        listed.update(np.ascontiguousarray(column).astype(np.int64).tobytes())
    common = {
        "version": SCORES_VERSION,
        "faces": faces.hash,
        "budgets": experiment.occlusion.budget,
        "evaluation": experiment.evaluation.model_dump(mode="json"),
        "pairs": listed.hexdigest(),
        "seed": experiment.seed,
    }
    scores: dict[tuple[str, int], list[ScoreOutput]] = {}
    for target in experiment.recognizers.targets:
        recognizer = recognizers[target]
        for (_, index), found in outputs.items():
            for maps in found:
                for fill in experiment.occlusion.fill:
                    for policy in experiment.occlusion.on_degenerate:
                        key = content_key(
                            "scores",
                            maps=maps.key,
                            target=recognizer.fingerprint,
                            precision=precision_of(recognizer),
                            fill=fill,
                            on_degenerate=policy,
                            **common,
                        )
                        output = ScoreOutput(key, maps, fill, policy)
                        scores.setdefault((target, index), []).append(output)
    return {place: tuple(found) for place, found in scores.items()}
