"""Photos of people under masks, as a recognizer embeds them: full batches, whosever photos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from facefocus.benchmark.people import Person
from facefocus.evaluation.nuisances import NUISANCES, nuisance_rng, seen_under
from facefocus.models.occluded_frames import ContentHide, OccludedFrames
from facefocus.models.recognizer import MakeFrames, device_of, embed_made, in_parts
from facefocus.occlusion.fills import Fill, fill_rng, hider, reading
from facefocus.saliency.explainer import Hide

if TYPE_CHECKING:
    from facefocus.benchmark.session import Session


@dataclass(frozen=True)
class Job:
    """One mask on all photos of one person, under a nuisance or none: embedded once.

    Attributes:
        person: Number among some people; their test photos.
        mask: Packed; hides nothing of clean photos.
    """

    person: int
    mask: bytes
    nuisance: str | None = None

    @property
    def changes(self) -> bool:
        """Whether the photos are others than the clean ones."""
        nuisance = None if self.nuisance is None else NUISANCES[self.nuisance].change
        return nuisance is not None or any(self.mask)


class OccludedPhotos:
    """The test photos of some people under a fill.

    Jobs come person by person, so what hides masks on one person's photos is kept.
    """

    def __init__(self, session: Session, target: str, people: Sequence[Person], fill: str) -> None:
        self._session, self._people, self._fill = session, people, fill
        self._recognizer = session.recognizers[target]
        self._kept: tuple[int, dict[str | Fill, Hide]] = -1, {}

    def embedded(self, jobs: Sequence[Job]) -> Iterator[Float32[np.ndarray, "m d"] | None]:
        """Embeddings of the photos of each job, in order; None where they are the clean ones.

        Batches are filled with the photos of one job after another.
        """
        changed = [job for job in jobs if job.changes]
        counts = [len(self._people[job.person].tests) for job in changed]
        seen = all(job.nuisance is None for job in changed) and reading(self._fill) == "artefact"
        make = self._on_device(changed, counts) if seen else self._on_host(changed, counts)
        parts = _parts(embed_made(self._recognizer, sum(counts), make), counts)
        for job in jobs:
            yield next(parts) if job.changes else None

    def _on_device(self, jobs: Sequence[Job], counts: Sequence[int]) -> MakeFrames:
        """Where a fill does not see the mask: photos and contents are sent once, then masks."""
        hiders: list[ContentHide] = []
        first: dict[int, int] = {}
        for job in jobs:
            if job.person not in first:
                first[job.person] = sum(len(hide.frames) for hide in hiders)
                hide = self._hide(job.person, self._fill)
                assert isinstance(hide, ContentHide)
                hiders.append(hide)
        if not jobs:
            return self._on_host(jobs, counts)
        photos = OccludedFrames(hiders, device_of(self._recognizer))
        rows = [first[job.person] + np.arange(m) for job, m in zip(jobs, counts, strict=True)]
        row, which = np.concatenate(rows), np.repeat(np.arange(len(jobs)), counts)

        def make(start: int, stop: int) -> UInt8[torch.Tensor, "b h w 3"]:
            numbers = which[start:stop]
            some = jobs[numbers[0] : numbers[-1] + 1]
            masks = np.stack([np.frombuffer(job.mask, np.uint8) for job in some])
            return photos.under(row[start:stop], masks, numbers - numbers[0])

        return make

    def _on_host(self, jobs: Sequence[Job], counts: Sequence[int]) -> MakeFrames:
        """Where a fill sees the mask, or photos are changed besides: frames are made by OpenCV."""
        return in_parts(counts, lambda number: torch.from_numpy(self._seen(jobs[number])))

    def _seen(self, job: Job) -> UInt8[np.ndarray, "m h w 3"]:
        """All photos of a job."""
        height, width = self._session.frame
        bits = np.unpackbits(np.frombuffer(job.mask, np.uint8), count=height * width)
        mask = bits.reshape(height, width).astype(bool)
        hide = partial(self._hide, job.person)
        if job.nuisance is None:
            return hide(self._fill)(mask)
        rows = self._people[job.person].tests
        seed, names = self._session.experiment.seed, self._session.faces.names
        return seen_under(
            job.nuisance,
            np.asarray(self._session.faces.frames[rows]),
            mask,
            self._fill,
            hide=hide,
            rngs=[nuisance_rng(seed, job.nuisance, str(names[row])) for row in rows],
        )

    def _hide(self, person: int, fill: str | Fill) -> Hide:
        if self._kept[0] != person:
            self._kept = (person, {})
        if fill not in self._kept[1]:
            self._kept[1][fill] = hider_of(self._session, self._people[person].tests, fill)
        return self._kept[1][fill]


def hider_of(session: Session, rows: np.ndarray, fill: str | Fill) -> Hide:
    """What hides masks on some photos by a fill."""
    frames = np.asarray(session.faces.frames[rows])
    rngs = [fill_rng(session.experiment.seed, str(session.faces.names[row])) for row in rows]
    return hider(fill, frames, rngs)


def _parts(
    blocks: Iterable[Float32[np.ndarray, "b d"]], counts: Sequence[int]
) -> Iterator[Float32[np.ndarray, "m d"]]:
    """Rows that come in blocks, in parts of other lengths."""
    waiting, left = iter(blocks), np.empty((0, 0), np.float32)
    for count in counts:
        while len(left) < count:
            block = next(waiting)
            left = np.concatenate([left, block]) if len(left) else block
        yield left[:count]
        left = left[count:]
