"""The photos and recognizers that maps are made of: of a session, or of one call in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from facefocus.benchmark.people import people_beside
from facefocus.benchmark.stages.perturb import masked_key
from facefocus.benchmark.stages.share import shared_key
from facefocus.faces.faceset import FaceSet, Identity
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.explainer import Hide, MapSpec
from facefocus.saliency.perturbation import MaskSet, masked_embeddings
from facefocus.saliency.shared_mask import search

if TYPE_CHECKING:
    from facefocus.benchmark.session import Session


class MemoryImages:
    """Images whose embeddings are made when they are asked for.

    See `facefocus.saliency.explainer.Images`.

    Args:
        faces: The face set.
        sources: The recognizers by name.
        seed: Of everything that is drawn.
        rows: The explained images.
    """

    def __init__(
        self, faces: FaceSet, sources: Mapping[str, Recognizer], seed: int, rows: np.ndarray
    ) -> None:
        self._faces, self._sources, self._rows = faces, sources, rows
        self.seed, self.frames = seed, faces.frames
        self.frame = (self.frames.shape[1], self.frames.shape[2])
        self._clean: dict[str, np.ndarray] = {}

    def names(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """See `Images`."""
        return [str(self._faces.names[row]) for row in rows]

    def hider(self, rows: np.ndarray, fill: str) -> Hide:
        """See `Images`."""
        rngs = [fill_rng(self.seed, name) for name in self.names(rows)]
        return hider(fill, np.asarray(self.frames[rows]), rngs)

    def pixels(self, budget: float) -> int:
        """See `Images`."""
        return pixel_count(budget, *self.frame)

    def recognizer(self, name: str) -> Recognizer:
        """See `Images`."""
        return self._sources[name]

    def clean(self, name: str) -> np.ndarray:
        """See `Images`."""
        if name not in self._clean:
            embeddings = self._sources[name].embed(np.asarray(self.frames[self._rows]))
            table = np.full((len(self.frames), embeddings.shape[1]), np.nan, np.float32)
            table[self._rows] = embeddings
            self._clean[name] = table
        return self._clean[name]

    def masked(self, name: str, row: int, masks: object) -> np.ndarray:
        """See `Images`."""
        assert isinstance(masks, MaskSet)
        hide = None if masks.fill is None else self.hider(np.array([row]), masks.fill)
        frame = np.asarray(self.frames[row])
        return masked_embeddings(self._sources[name], frame, masks, hide=hide)

    def others(self) -> Sequence[Identity]:
        """See `Images`."""
        return people_beside(self._faces, self._faces.identities[self._rows].tolist())

    def everybody(self) -> Sequence[Identity]:
        """See `Images`."""
        return people_beside(self._faces, [])

    def shared(self, spec: MapSpec, sources: Sequence[str]) -> np.ndarray:
        """See `Images`."""
        return search(spec, sources, self)

    def given(self, digest: str) -> Mapping[str, np.ndarray]:
        """See `Images`; there are none."""
        raise KeyError(digest)


class SessionImages(MemoryImages):
    """The images of a session: what the store holds is read from it."""

    def __init__(self, session: Session) -> None:
        rows = np.empty(0, np.int64)
        super().__init__(session.faces, session.recognizers, session.experiment.seed, rows)
        self._session = session

    def clean(self, name: str) -> np.ndarray:
        """See `Images`."""
        return self._session.embeddings(name)

    def masked(self, name: str, row: int, masks: object) -> np.ndarray:
        """See `Images`."""
        assert isinstance(masks, MaskSet)
        key = masked_key(self.recognizer(name), self._faces, row, masks)
        return self._session.store.load(key)["embeddings"]

    def others(self) -> Sequence[Identity]:
        """See `Images`."""
        return people_beside(self._faces, [person.name for person in self._session.plan.people])

    def shared(self, spec: MapSpec, sources: Sequence[str]) -> np.ndarray:
        """See `Images`."""
        key = shared_key(self, self._faces, spec, sources)
        return self._session.store.load(key)["map"]

    def given(self, digest: str) -> Mapping[str, np.ndarray]:
        """See `Images`."""
        return next(m for d, m in self._session.given.values() if d.startswith(digest))
