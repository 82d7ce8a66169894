"""The pieces of a plan as plain data: who is explained, what is made, and under which key.

Everything here can be sent to another process. What is computed from it stands in `making` and
`scoring`; how it is found in `plan`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from facefocus.faces.faceset import Identity
from facefocus.saliency.objectives import Evidence


@dataclass(frozen=True, eq=False)
class Person:
    """Who is explained.

    Attributes:
        rows: Photos that the map comes from.
        tests: Photos on which hiding is tried: the same ones, or those held out.
    """

    name: str
    rows: np.ndarray
    tests: np.ndarray

    @property
    def identity(self) -> Identity:
        """The person as the saliency methods take them."""
        return Identity(self.name, self.rows)


@dataclass(frozen=True, eq=False)
class Block:
    """A few people who are computed together.

    Attributes:
        index: Number of the block in its plan.
        split: ``same``: maps and effects on the same photos; ``heldout``: on two halves; ``half``:
            maps from the halves of ``heldout``, effects on the same half.
        fold: Which half the maps come from; 0 where there is one fold only.
    """

    index: int
    split: str
    fold: int
    people: tuple[Person, ...]

    @cached_property
    def mapped(self) -> str:
        """Hash of whose maps come from which photos."""
        return photos_hash((person.name, person.rows) for person in self.people)

    @cached_property
    def tested(self) -> str:
        """Hash of on which photos hiding is tried."""
        return photos_hash((person.name, person.tests) for person in self.people)

    @property
    def images(self) -> int:
        """Photos that maps come from."""
        return sum(len(person.rows) for person in self.people)

    @property
    def tests(self) -> int:
        """Photos on which hiding is tried."""
        return sum(len(person.tests) for person in self.people)

    def pairs(self, most: int | None) -> int:
        """Ordered mated pairs that maps come from, at most `most` of a person."""
        counts = [len(person.rows) * (len(person.rows) - 1) for person in self.people]
        return sum(count if most is None else min(count, most) for count in counts)


def photos_hash(parts: Iterable[tuple[str, np.ndarray]]) -> str:
    """Hash of names and rows."""
    digest = hashlib.sha256()
    for name, rows in parts:
        digest.update(f"{name}\0{rows.tolist()}\0".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class MapSpec:
    """What determines an identity map besides the recognizers and the photos.

    Attributes:
        label: The method's name as the experiment gives it; a preset's own.
        method: The method that makes the map.
        layer: The layer's name as asked; None where the method has no use for one.
        calls: The convolution calls that the layer is in this recognizer.
        fill: The fill that the map is made for; None where it serves every fill.
        budget: The budget that it is made for; None where it serves every budget.
        draw: Number of the draw of a random baseline.
    """

    label: str
    method: str
    options: tuple[tuple[str, str], ...]
    layer: str | None = None
    calls: tuple[int, ...] = ()
    objective: str | None = None
    evidence: Evidence = "positive"
    normalize: bool = True
    arcface_scale: float = 1.0
    max_pairs: int | None = None
    fill: str | None = None
    budget: float | None = None
    draw: int | None = None


@dataclass(frozen=True)
class MapOutput:
    """One map artefact: the maps of a block under one spec.

    Attributes:
        sources: The recognizers that the maps are made on; none for a baseline.
    """

    key: str
    sources: tuple[str, ...]
    spec: MapSpec

    @property
    def source(self) -> str | None:
        """The sources as one name, None for a baseline."""
        return "+".join(self.sources) or None


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
class EmbedTask:
    """Embeddings of some rows by one recognizer.

    Attributes:
        parts: The key of each artefact, and its rows.
        calibrates: The rows are of the other face set that the threshold comes from.
    """

    recognizer: str
    parts: tuple[tuple[str, tuple[int, ...]], ...]
    calibrates: bool = False

    @property
    def cost(self) -> int:
        """Forward passes."""
        return sum(len(rows) for _, rows in self.parts)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all it makes."""
        return tuple(key for key, _ in self.parts)

    def without(self, present: Collection[str]) -> EmbedTask | None:
        """What is left of it when the keys in `present` exist."""
        left = tuple(part for part in self.parts if part[0] not in present)
        return replace(self, parts=left) if left else None


@dataclass(frozen=True)
class MaskedTask:
    """Embeddings of one photo under every mask of a perturbation method."""

    key: str
    recognizer: str
    row: int
    method: str
    options: tuple[tuple[str, str], ...]

    @property
    def cost(self) -> int:
        """Forward passes."""
        return int(dict(self.options)["masks"])

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all it makes."""
        return (self.key,)

    def without(self, present: Collection[str]) -> MaskedTask | None:
        """What is left of it when the keys in `present` exist."""
        return None if self.key in present else self


@dataclass(frozen=True)
class MapTask:
    """All maps of a block that are made on the same recognizers."""

    sources: tuple[str, ...]
    block: Block
    outputs: tuple[MapOutput, ...]

    @property
    def cost(self) -> int:
        """Roughly, in passes: one per photo, one per ordered pair and objective."""
        graded = {(out.spec.objective, out.spec.max_pairs) for out in self.outputs}
        pairs = sum(self.block.pairs(most) for objective, most in graded if objective)
        steps = sum(int(dict(out.spec.options).get("steps", "0")) for out in self.outputs)
        return self.block.images * (1 + 2 * steps * len(self.sources)) + pairs

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all it makes."""
        return tuple(output.key for output in self.outputs)

    def without(self, present: Collection[str]) -> MapTask | None:
        """What is left of it when the keys in `present` exist."""
        left = tuple(output for output in self.outputs if output.key not in present)
        return replace(self, outputs=left) if left else None


@dataclass(frozen=True)
class ScoreTask:
    """All scores of a block on one target under one fill."""

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
class OracleTask:
    """The oracle of one person on one target under one fill.

    Attributes:
        person: `rows` are the photos that it is searched on. Where `tests` are others, the mask
            that is found is tried on them, too.
        rivals: Every mask that was scored on the photos `rows`; none of them beats the bound.
    """

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

    def without(self, present: Collection[str]) -> OracleTask | None:
        """What is left of it when the keys in `present` exist."""
        return None if self.key in present else self


#: Masks that the oracle tries for one person, in rough mean.
ORACLE_TRIES = 830

Task = EmbedTask | MaskedTask | MapTask | ScoreTask | OracleTask

#: The stages in order; each needs what the ones before it made.
STAGES: dict[str, type[Task]] = {
    "embed": EmbedTask,
    "masked": MaskedTask,
    "maps": MapTask,
    "scores": ScoreTask,
    "oracle": OracleTask,
}


def stage_of(task: Task) -> str:
    """The name of a task's stage."""
    return next(name for name, kind in STAGES.items() if isinstance(task, kind))
