"""Embeddings of clean photos: one store of them for every run, and for ``facefocus verify``.

They are kept in small groups of rows that depend on the face set alone, so that whoever needs a
photo finds it, whatever else was asked for when it was embedded. Photos of the verification list
are grouped apart from the others, which most runs need few of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int

from facefocus.benchmark.keys import VERSIONS, forward_of
from facefocus.benchmark.stages import ARTEFACT, STAGES, Stage, Task
from facefocus.core.progress import Progress, silent
from facefocus.core.store import Missing, Store, content_key
from facefocus.faces.faceset import FaceSet, Pairs
from facefocus.models.memory import out_of_memory
from facefocus.models.recognizer import Recognizer, halve, held_batches

if TYPE_CHECKING:
    from facefocus.benchmark.plan import Inputs
    from facefocus.benchmark.session import Session

#: Rows of an artefact: few, since all are embedded where one is needed.
GROUP = 8
#: Rows of a task, unless a batch is more: full batches, 10 MB.
ROWS = 256


@dataclass(frozen=True)
class EmbedTask(Task):
    """Embeddings of some rows by one recognizer.

    Attributes:
        parts: The key of each artefact, and its rows.
        calibrates: The rows are of the other face set that the threshold comes from.
    """

    stage: ClassVar[str] = "embed"

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

    @property
    def recognizers(self) -> tuple[str, ...]:
        """The one."""
        return (self.recognizer,)


def embed_tasks(
    name: str,
    recognizer: Recognizer,
    faces: FaceSet,
    listed: Pairs | None,
    wanted: Int[np.ndarray, " n"],
    *,
    calibrates: bool = False,
) -> list[EmbedTask]:
    """The tasks whose artefacts hold all wanted rows.

    Args:
        name: The recognizer's, as the experiment gives it.
        recognizer: The recognizer.
        faces: The photos.
        listed: The face set's own list of pairs.
        wanted: Rows.
        calibrates: See `EmbedTask`.
    """
    forward = forward_of(recognizer)
    asked = np.zeros(len(faces.frames), bool)
    asked[wanted] = True
    parts = [
        (_embed_key(recognizer, forward, faces, rows), rows)
        for rows in _groups(len(faces.frames), listed)
        if asked[list(rows)].any()
    ]
    step = max(ROWS, getattr(recognizer, "batch", 0)) // GROUP
    return [
        EmbedTask(name, tuple(parts[start : start + step]), calibrates)
        for start in range(0, len(parts), step)
    ]


def _groups(count: int, listed: Pairs | None) -> Iterator[tuple[int, ...]]:
    in_list = np.zeros(count, bool)
    if listed is not None:
        in_list[listed.first] = in_list[listed.second] = True
    for rows in (np.flatnonzero(in_list), np.flatnonzero(~in_list)):
        for start in range(0, len(rows), GROUP):
            yield tuple(rows[start : start + GROUP].tolist())


def _embed_key(
    recognizer: Recognizer, forward: list[str], faces: FaceSet, rows: Sequence[int]
) -> str:
    return content_key(
        "embeddings",
        version=VERSIONS["embed"],
        recognizer=recognizer.fingerprint,
        forward=forward,
        faces=faces.hash,
        rows=list(rows),
    )


def embed(
    recognizer: Recognizer, faces: FaceSet, store: Store, task: EmbedTask, progress: Progress
) -> None:
    """Make the artefacts of a task."""
    rows = np.array([row for _, group in task.parts for row in group])
    embeddings = recognizer.embed(np.asarray(faces.frames[rows]))
    start = 0
    for key, group in task.parts:
        store.save(key, {"rows": np.array(group), "embeddings": embeddings[start:][: len(group)]})
        start += len(group)
    progress("embed", len(rows), len(rows))


def embedding_table(
    store: Store, tasks: Sequence[EmbedTask], count: int
) -> Float32[np.ndarray, "n d"]:
    """The embeddings of `count` rows from the artefacts of some tasks; NaN where there is none.

    Raises:
        Missing: An artefact is not there.
    """
    parts, missing = [], []
    for key in (key for task in tasks for key in task.keys):
        try:
            parts.append(store.load(key))
        except Missing as error:
            missing.append(error)
    if missing:
        # After all were looked at, so that all that are damaged are made again together.
        raise missing[0]
    table = np.full((count, parts[0]["embeddings"].shape[1]), np.nan, np.float32)
    for part in parts:
        table[part["rows"]] = part["embeddings"]
    return table


def stored_embeddings(
    recognizer: Recognizer,
    faces: FaceSet,
    listed: Pairs | None,
    wanted: Int[np.ndarray, " n"],
    store: Store,
    progress: Progress = silent,
) -> Float32[np.ndarray, "n d"]:
    """Embeddings of the wanted rows, for whoever has no run; what is not stored is made.

    Raises:
        UserError: Memory does not suffice for a single image.
    """
    with held_batches(recognizer):
        return _stored(recognizer, faces, listed, wanted, store, progress)


def _stored(
    recognizer: Recognizer,
    faces: FaceSet,
    listed: Pairs | None,
    wanted: Int[np.ndarray, " n"],
    store: Store,
    progress: Progress,
) -> Float32[np.ndarray, "n d"]:
    while True:
        tasks = embed_tasks(recognizer.name, recognizer, faces, listed, wanted)
        missing = [task.without([key for key in task.keys if key in store]) for task in tasks]
        left = [task for task in missing if task is not None]
        done, total = 0, sum(task.cost for task in left)
        try:
            for task in left:
                with store.together():
                    embed(recognizer, faces, store, task, silent)
                done += task.cost
                progress("embed", done, total)
            table = embedding_table(store, tasks, len(faces.frames))
            return np.asarray(table[wanted])
        except Missing:
            continue
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            halve(recognizer)


def rows_of(pairs: Pairs) -> Int[np.ndarray, " n"]:
    """The rows of all images that some pairs name."""
    return np.unique(np.concatenate([pairs.first, pairs.second]))


def chosen_rows(inputs: Inputs) -> Int[np.ndarray, " n"]:
    """The rows of all images of the chosen people."""
    return np.unique(np.concatenate([person.rows for person in inputs.people]))


class EmbedStage(Stage):
    """Embeddings of clean photos, per recognizer and chunk of rows."""

    name = "embed"

    def plan(self, inputs: Inputs, planned: Mapping[str, Any]) -> tuple[list[Task], None]:
        """The chosen people and the verification pairs on every target."""
        targets = inputs.experiment.recognizers.targets
        rows = np.union1d(rows_of(inputs.pairs), chosen_rows(inputs))
        tasks: list[Task] = []
        for name in targets:
            recognizer = inputs.recognizers[name]
            tasks += embed_tasks(name, recognizer, inputs.faces, inputs.lists[0], rows)
        if inputs.calibrating is inputs.faces:
            return tasks, None
        faces, listed = inputs.calibrating, inputs.lists[1]
        setting = rows_of(inputs.calibration)
        for name in targets:
            recognizer = inputs.recognizers[name]
            tasks += embed_tasks(name, recognizer, faces, listed, setting, calibrates=True)
        return tasks, None

    def run(self, session: Session, task: EmbedTask, progress: Progress) -> None:
        """See `embed`."""
        recognizer = session.recognizers[task.recognizer]
        embed(recognizer, session.faces_of(task), session.store, task, progress)

    def size(self, session: Session, task: EmbedTask, lengths: Mapping[str, int]) -> int:
        """A vector an image."""
        return len(task.parts) * ARTEFACT + 4 * task.cost * lengths[task.recognizer]


STAGES.add("embed", EmbedStage())
