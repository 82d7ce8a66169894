"""Scores of pairs of photos under a condition, and maps, of recognizers of every kind.

A recognizer that embeds is asked once for every photo and condition; one that gives scores only,
once for every pair. Both are kept in the store, so that a card that was interrupted goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float32, Float64, Int, UInt8

from facefocus.benchmark.keys import forward_of, libraries
from facefocus.benchmark.stages.embed import stored_embeddings
from facefocus.benchmark.stages.perturb import masked_key
from facefocus.core.store import Missing, Store, content_key
from facefocus.evaluation.verification import pair_scores
from facefocus.faces.faceset import FaceSet, Pairs
from facefocus.models.recognizer import Recognizer
from facefocus.models.score_only import ScoreRecognizer
from facefocus.recognizer_cards.card_conditions import Condition
from facefocus.saliency.perturbation import (
    MaskSet,
    masked_embeddings,
    masks_of,
    perturbation_identity_map,
    scored_identity_map,
)

#: Photos of an artefact.
GROUP = 64
#: Called with what has been done since the last call: photos, or pairs.
Done = Callable[[int], None]


@dataclass(frozen=True)
class CardMethod:
    """How maps are made: a perturbation method and its options."""

    name: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Compared(ABC):
    """A recognizer on a face set.

    Attributes:
        faces: The face set.
        seed: Of all that is drawn.
        store: Where results are kept.
    """

    faces: FaceSet
    seed: int
    store: Store

    @abstractmethod
    def scores(
        self, condition: Condition, pairs: Int[np.ndarray, "p 2"], done: Done
    ) -> Float64[np.ndarray, " p"]:
        """Score of each pair: the first photo under the condition, the second clean."""

    @abstractmethod
    def cost(self, pairs: Int[np.ndarray, "p 2"]) -> int:
        """What `scores` counts for one condition."""

    @abstractmethod
    def person_map(
        self, rows: Int[np.ndarray, " m"], pairs: Int[np.ndarray, "p 2"], method: CardMethod
    ) -> tuple[Float32[np.ndarray, "h w"], int, int]:
        """The map of some photos of a person, from ordered pairs of places in `rows`.

        See `facefocus.saliency.perturbation.identity_map_of`.
        """

    def changed(
        self, condition: Condition, rows: Int[np.ndarray, " n"]
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Photos under a condition."""
        names = [str(name) for name in self.faces.names[rows]]
        return condition.changed(np.asarray(self.faces.frames[rows]), names, self.seed)

    def masks(self, rows: Int[np.ndarray, " n"], method: CardMethod) -> list[MaskSet]:
        """The masks of each photo."""
        side = (self.faces.frames.shape[1], self.faces.frames.shape[2])
        names = [str(name) for name in self.faces.names[rows]]
        return [masks_of(method.name, method.options, side, name, self.seed) for name in names]


@dataclass(frozen=True, eq=False)
class Embedded(Compared):
    """A recognizer that embeds.

    Attributes:
        recognizer: It.
        listed: The face set's own list of pairs, by which its clean embeddings are kept.
    """

    recognizer: Recognizer
    listed: Pairs | None

    def scores(
        self, condition: Condition, pairs: Int[np.ndarray, "p 2"], done: Done
    ) -> Float64[np.ndarray, " p"]:
        """See `Compared`."""
        probes, references = np.unique(pairs[:, 0]), np.unique(pairs[:, 1])
        changed = self._embeddings(condition, probes, done)
        clean = stored_embeddings(self.recognizer, self.faces, self.listed, references, self.store)
        first = np.searchsorted(probes, pairs[:, 0])
        second = len(probes) + np.searchsorted(references, pairs[:, 1])
        return pair_scores(np.concatenate([changed, clean]), first, second)

    def cost(self, pairs: Int[np.ndarray, "p 2"]) -> int:
        """See `Compared`."""
        return len(np.unique(pairs[:, 0]))

    def _embeddings(self, condition: Condition, rows: np.ndarray, done: Done) -> np.ndarray:
        if condition.name == "clean":
            done(len(rows))
            return stored_embeddings(self.recognizer, self.faces, self.listed, rows, self.store)
        parts = []
        for start in range(0, len(rows), GROUP):
            group = rows[start : start + GROUP]
            parts.append(self._group(condition, group))
            done(len(group))
        return np.concatenate(parts)

    def _group(self, condition: Condition, rows: np.ndarray) -> np.ndarray:
        key = content_key(
            "changed photos",
            recognizer=self.recognizer.fingerprint,
            forward=forward_of(self.recognizer),
            libraries=libraries(),
            faces=self.faces.hash,
            rows=rows.tolist(),
            condition=condition.determined_by(),
            seed=self.seed,
        )
        try:
            return self.store.load(key)["embeddings"]
        except Missing:
            made = self.recognizer.embed(self.changed(condition, rows))
            self.store.save(key, {"embeddings": made})
            return made

    def person_map(
        self, rows: Int[np.ndarray, " m"], pairs: Int[np.ndarray, "p 2"], method: CardMethod
    ) -> tuple[Float32[np.ndarray, "h w"], int, int]:
        """See `Compared`; embeddings under masks are those that a run keeps, too."""
        masks = self.masks(rows, method)
        masked = [self._masked(int(row), own) for row, own in zip(rows, masks, strict=True)]
        clean = stored_embeddings(self.recognizer, self.faces, self.listed, rows, self.store)
        return perturbation_identity_map(masks, masked, clean, pairs)

    def _masked(self, row: int, masks: MaskSet) -> np.ndarray:
        key = masked_key(self.recognizer, self.faces, row, masks)
        try:
            return self.store.load(key)["embeddings"]
        except Missing:
            made = masked_embeddings(self.recognizer, np.asarray(self.faces.frames[row]), masks)
            self.store.save(key, {"embeddings": made})
            return made


@dataclass(frozen=True, eq=False)
class Scored(Compared):
    """A recognizer that gives scores only, and keeps them itself."""

    recognizer: ScoreRecognizer

    def scores(
        self, condition: Condition, pairs: Int[np.ndarray, "p 2"], done: Done
    ) -> Float64[np.ndarray, " p"]:
        """See `Compared`."""
        parts = []
        for start in range(0, len(pairs), GROUP):
            first, second = pairs[start : start + GROUP].T
            changed = self.changed(condition, first)
            parts.append(self.recognizer.scores(changed, np.asarray(self.faces.frames[second])))
            done(len(first))
        return np.concatenate(parts)

    def cost(self, pairs: Int[np.ndarray, "p 2"]) -> int:
        """See `Compared`."""
        return len(pairs)

    def person_map(
        self, rows: Int[np.ndarray, " m"], pairs: Int[np.ndarray, "p 2"], method: CardMethod
    ) -> tuple[Float32[np.ndarray, "h w"], int, int]:
        """See `Compared`."""
        frames = np.asarray(self.faces.frames[rows])
        masks, nothing = self.masks(rows, method), [None] * len(rows)
        return scored_identity_map(masks, self.recognizer, frames, pairs, nothing)


def compared(
    recognizer: Recognizer, faces: FaceSet, listed: Pairs | None, store: Store, seed: int
) -> Compared:
    """A recognizer of any kind on a face set."""
    if isinstance(recognizer, ScoreRecognizer):
        recognizer.store = store
        return Scored(faces, seed, store, recognizer)
    return Embedded(faces, seed, store, recognizer, listed)


def ordered_places(count: int) -> Int[np.ndarray, "p 2"]:
    """All ordered pairs of different places below `count`."""
    return np.array(list(permutations(range(count), 2)), np.int64).reshape(-1, 2)
