"""The other people: without them there is no threshold, no template, no false match.

A set of faces is no stranger to a recognizer that was trained on another kind of faces: drawn
people are nobody to a recognizer of real ones. Only faces of the kind it was trained on count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from facefocus.benchmark.stages.embed import stored_embeddings
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.core.store import Store
from facefocus.evaluation.photo_risk import person_templates, thresholds
from facefocus.evaluation.verification import normalize, sample_pairs
from facefocus.faces.faceset import FaceSet, read_pairs
from facefocus.faces.halves import near_equal
from facefocus.faces.sources.synthetic import TRUTH
from facefocus.models.recognizer import Recognizer
from facefocus.models.zoo import entries

#: Photos of other people that are embedded at most, and of each of them: enough for an FMR of
#: 1e-3 by templates, and seconds of work.
PHOTOS, EACH = 800, 10

#: People with so many photos are taken first: templates need several.
SEVERAL = 5

#: Pairs of each kind that set the thresholds.
PAIRS = 20_000


@dataclass(frozen=True, eq=False)
class Strangers:
    """Photos of people who are not the person.

    Attributes:
        frames: Aligned crops.
        people: Who each shows.
        title: What the set is called.
        hash: Of the whole set that they come from.
        kind: ``real``, or ``synthetic`` for drawn people.
        rows: Their rows in that set.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    people: Shaped[np.ndarray, " n"]
    title: str
    hash: str
    kind: str
    rows: Int[np.ndarray, " n"]

    @cached_property
    def names(self) -> list[str]:
        """Who they are, sorted."""
        return sorted(set(self.people.tolist()))

    def serves(self, recognizer: Recognizer) -> bool:
        """Whether they are of the kind of faces that a recognizer was trained on."""
        return self.kind == faces_of(recognizer)

    def without(self, names: Sequence[str]) -> Strangers:
        """All but some people."""
        kept = ~np.isin(self.people, list(names))
        return Strangers(
            self.frames[kept], self.people[kept], self.title, self.hash, self.kind, self.rows[kept]
        )


def faces_of(recognizer: Recognizer) -> str:
    """The kind of faces a recognizer was trained on: ``real`` unless its card says otherwise."""
    known = entries().get(recognizer.name)
    return "synthetic" if known is not None and known.data == "synthetic" else "real"


def card_thresholds(recognizer: Recognizer) -> dict[str, float]:
    """Thresholds for pairs that a recognizer's card gives, by the names of `RULES`."""
    known = entries().get(recognizer.name)
    level = None if known is None else known.pair_threshold
    return {} if level is None else {"EER": level}


def choose_strangers(faces: FaceSet) -> Strangers:
    """A seeded choice of a face set's people, the same for whoever is explained.

    People with several photos come first; each gives at most `EACH` photos.
    """
    people, owner = np.unique(faces.identities, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=len(people))
    ends = np.cumsum(counts)
    drawn = generator(0, "strangers", faces.hash).permutation(len(people))
    rows: list[int] = []
    for person in sorted(drawn.tolist(), key=lambda person: -min(int(counts[person]), SEVERAL)):
        own = order[ends[person] - counts[person] : ends[person]][:EACH].tolist()
        if len(rows) + len(own) > PHOTOS:
            break
        rows += own
    chosen = np.sort(np.array(rows, dtype=np.int64))
    drawn_faces = faces.title.startswith("synthetic") or (
        faces.folder is not None and (faces.folder / TRUTH).is_file()
    )
    return Strangers(
        np.asarray(faces.frames[chosen]),
        faces.identities[chosen],
        faces.title,
        faces.hash,
        "synthetic" if drawn_faces else "real",
        chosen,
    )


def stranger_embeddings(
    recognizer: Recognizer,
    faces: FaceSet,
    strangers: Strangers,
    store: Store,
    progress: Progress = silent,
) -> Float[np.ndarray, "n d"]:
    """Unit embeddings of the strangers, who are of `faces`.

    They are kept where a run and ``facefocus verify`` keep theirs: whoever needs a photo finds it.
    """
    listed = None if faces.folder is None else read_pairs(faces.folder)
    embeddings = stored_embeddings(recognizer, faces, listed, strangers.rows, store, progress)
    progress("strangers", len(embeddings), len(embeddings))
    return normalize(embeddings)


def who_is_the_person(
    strangers: Strangers,
    frames: UInt8[np.ndarray, "m h w 3"],
    own: Sequence[Float[np.ndarray, "m d"]],
    others: Sequence[Float[np.ndarray, "n d"]],
) -> list[str]:
    """Names under which the person is among the strangers.

    Whoever has a picture that is near-equal to one of the person's, or whose template is for every
    recognizer as similar to the person's photos, on average, as one non-mated pair in a thousand
    is (where there are too few pairs for that: as the threshold of equal error rate asks).

    Args:
        strangers: Photos of other people, as it is thought.
        frames: The person's crops.
        own: Unit embeddings of these by each recognizer.
        others: Unit embeddings of the strangers by each.
    """
    if not own:
        return []
    alike: Bool[np.ndarray, " people"] = np.ones(len(strangers.names), bool)
    for mine, theirs in zip(own, others, strict=True):
        templates = person_templates(theirs, strangers.people)
        levels = pair_thresholds(theirs, strangers.people)
        level = levels.get("FMR 1e-3", levels.get("EER", np.inf))
        alike &= (mine @ templates.T).mean(axis=0) >= level
    names = {name for name, same in zip(strangers.names, alike, strict=True) if same}
    # Near-equal pictures have near-equal embeddings: only those are compared pixel by pixel.
    close = np.unique(np.nonzero(own[0] @ others[0].T > 0.9)[1])
    if close.size:
        groups = near_equal(np.concatenate([frames, strangers.frames[close]]))
        mine, theirs = groups[: len(frames)], groups[len(frames) :]
        names |= set(strangers.people[close[np.isin(theirs, mine)]].tolist())
    return sorted(names)


def pair_thresholds(
    embeddings: Float[np.ndarray, "n d"], people: Shaped[np.ndarray, " n"]
) -> dict[str, float]:
    """The threshold of each of `RULES` that pairs of photos can give, by its name."""
    pairs = sample_pairs(people, count=PAIRS, seed=0)
    scores = np.einsum("pd,pd->p", embeddings[pairs.first], embeddings[pairs.second])
    return thresholds(scores[pairs.mated], scores[~pairs.mated])
