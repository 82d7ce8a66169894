"""Embeddings of clean photos: one store of them for every run, and for ``facefocus verify``.

They are kept in small groups of rows that depend on the face set alone, so that whoever needs a
photo finds it, whatever else was asked for when it was embedded. Photos of the verification list
are grouped apart from the others, which most runs need few of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int

from facefocus.benchmark.keys import VERSIONS, forward_of
from facefocus.benchmark.tasks import EmbedTask
from facefocus.core.progress import Progress, silent
from facefocus.core.store import Missing, Store, content_key
from facefocus.faces.faceset import FaceSet, Pairs
from facefocus.models.memory import out_of_memory
from facefocus.models.recognizer import Recognizer, halve, hold_batches

#: Rows of an artefact: few, since all are embedded where one is needed.
GROUP = 8
#: Rows of a task, and frames that are gathered before they are embedded: full batches, 10 MB.
FRAMES_PER_STEP = 256


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
    parts = [
        (_embed_key(recognizer, forward, faces, rows), rows)
        for rows in _groups(len(faces.frames), listed)
        if np.isin(rows, wanted).any()
    ]
    step = FRAMES_PER_STEP // GROUP
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
    hold_batches(recognizer)
    while True:
        tasks = embed_tasks(recognizer.name, recognizer, faces, listed, wanted)
        missing = [task.without([key for key in task.keys if key in store]) for task in tasks]
        left = [task for task in missing if task is not None]
        done, total = 0, sum(task.cost for task in left)
        try:
            for task in left:
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
