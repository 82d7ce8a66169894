"""Which of several faces is a person's, by the person's other photos (Protocol: main-face)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, UInt8

from facefocus.core.progress import Progress, silent
from facefocus.faces.faceset import IndexRow
from facefocus.faces.parts import FrameLocation, Photo

#: Why somebody should look at an image.
SEVERAL = "several faces it may be of"
AGREES = "a face chosen by agreement, not the likeliest"

#: The best face has to agree more than the next by this much of mean cosine. Recognizers' mated and
#: non-mated cosines lie further apart: by about .25 for one whose embeddings are all positive.
MARGIN = 0.1

#: A person's face is compared with at most this many other photos.
MOST_OTHERS = 32


@runtime_checkable
class Judge(Protocol):
    """Any recognizer: it decides whose face it is."""

    @property
    def name(self) -> str:
        """For the report."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes with whatever may change an embedding."""
        ...

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """One embedding for each frame."""
        ...


@runtime_checkable
class Frames(Protocol):
    """Where the frames of photos are kept: `parts.Parts`, or memory."""

    def frame(self, location: FrameLocation) -> UInt8[np.ndarray, "h w 3"]:
        """The frame at a location."""
        ...


def others_of(faces: Sequence[int], photo: int) -> list[int]:
    """The photos that a photo of the same person is compared with.

    Photos with a single face where there are any, since they are of nobody else; else all.

    Args:
        faces: How many faces each photo of the person may be of.
        photo: The place of the photo among them.
    """
    alone = [index for index, count in enumerate(faces) if count == 1 and index != photo]
    rest = [index for index in range(len(faces)) if index != photo]
    return (alone or rest)[:MOST_OTHERS]


def agreeing(
    faces: Float[np.ndarray, "faces d"], others: Sequence[Float[np.ndarray, "_ d"]]
) -> int | None:
    """Which face of a photo agrees with the others: the highest mean cosine, by a `MARGIN`.

    Of another photo with several faces the one counts that is most alike.

    Args:
        faces: Embeddings of the photo's faces.
        others: Those of other photos of the person.

    Returns:
        The face, or None where none agrees clearly more than the next.
    """
    if not others:
        return None
    cosines = [(_unit(faces) @ _unit(other).T).max(axis=1) for other in others]
    agreement = np.mean(cosines, axis=0)
    order = np.argsort(-agreement, kind="stable")
    clear = len(order) < 2 or agreement[order[0]] - agreement[order[1]] >= MARGIN
    return int(order[0]) if clear else None


def _unit(embeddings: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, np.finfo(np.float32).tiny))


def settled(
    photos: Sequence[Photo], frames: Frames, judge: Judge, progress: Progress = silent
) -> Photo:
    """The face that counts of each photo: the one that agrees with the person's other photos.

    Args:
        photos: All photos, sorted by identity.
        frames: Has their frames.
        judge: Embeds them.
        progress: Called as ``("agree", photos done, photos)``.
    """
    placed: Photo = []
    for _, group in groupby(photos, key=lambda photo: photo[0][0].identity):
        person = list(group)
        usable = [photo for photo in person if photo[0][1] is not None]
        chosen = iter(_agreeing(usable, frames, judge))
        placed += [photo[0] if photo[0][1] is None else next(chosen) for photo in person]
        progress("agree", len(placed), len(photos))
    return placed


def _agreeing(photos: Sequence[Photo], frames: Frames, judge: Judge) -> Photo:
    """The same for the usable photos of one person; only needed faces are embedded."""
    counts = [len(photo) for photo in photos]
    others = {i: others_of(counts, i) for i, count in enumerate(counts) if count > 1}
    compared = {i: rest for i, rest in others.items() if rest}
    needed = sorted({*compared, *chain.from_iterable(compared.values())})
    if not needed:
        return [photo[0] for photo in photos]
    faces = [
        frames.frame(location) for i in needed for _, location in photos[i] if location is not None
    ]
    bounds = np.cumsum([counts[i] for i in needed])[:-1]
    embeddings = dict(zip(needed, np.split(judge.embed(np.stack(faces)), bounds), strict=True))
    return [
        _chosen(photo, agreeing(embeddings[i], [embeddings[j] for j in compared[i]]))
        if i in compared
        else photo[0]
        for i, photo in enumerate(photos)
    ]


def _chosen(photo: Photo, face: int | None) -> tuple[IndexRow, FrameLocation | None]:
    if face is None:
        return photo[0]
    row, location = photo[face]
    check = tuple(why for why in row.check if why != SEVERAL)
    return replace(row, check=(*check, AGREES) if face else check), location
