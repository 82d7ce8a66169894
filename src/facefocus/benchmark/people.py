"""Who is explained, from which photos, and tried on which; a few people at a time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from facefocus.benchmark.experiment import Experiment, Faces
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.evaluation.strata import HALF_PROFILE, photo_yaw
from facefocus.faces.faceset import FaceSet, Identity, read_index, select_identities
from facefocus.faces.halves import LEAST, halves, near_equal
from facefocus.faces.sources.lfw import errata_names

#: People per block: few enough that a killed process loses seconds, enough for full chunks.
PEOPLE_PER_BLOCK = 16

#: People who are scored before the first look at results: few, since a bad method shows at once.
ROUND = 8

#: Fewest photos of a person that can be held out.
HELDOUT_IMAGES = 2 * LEAST

#: Splits by pose: which photos the maps come from, and on which hiding is tried.
CROSS_POSE = ("frontal-to-turned", "turned-to-frontal")


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
            maps from the halves of ``heldout``, effects on the same half; one of `CROSS_POSE`.
        fold: Which half the maps come from; 0 where there is one fold only.
        round: After how many looks at results it is computed; 0 without ``[stop]``.
    """

    index: int
    split: str
    fold: int
    people: tuple[Person, ...]
    round: int = 0

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


def make_blocks(experiment: Experiment, faces: FaceSet) -> tuple[Block, ...]:
    """The people of an experiment in blocks, those of the held-out folds after the others.

    With ``[stop]``, one round of people after the other.

    Raises:
        UserError: Too few people, or nobody whose photos can be held out.
    """
    chosen = _people(experiment, faces)
    folds = _folds(experiment, faces, chosen)
    for (split, _), people in folds.items():
        if not people:
            raise _nobody(split)
        # People with equally many photos share a block, so that chunks of a backward pass are full.
        people.sort(key=lambda person: (len(person.rows), person.name))
    blocks: list[Block] = []
    for number, names in enumerate(rounds(experiment, [person.name for person in chosen])):
        for (split, fold), everyone in folds.items():
            people = [person for person in everyone if person.name in names]
            for start in range(0, len(people), PEOPLE_PER_BLOCK):
                part = tuple(people[start : start + PEOPLE_PER_BLOCK])
                blocks.append(Block(len(blocks), split, fold, part, number))
    return tuple(blocks)


def rounds(experiment: Experiment, names: Sequence[str]) -> list[dict[str, None]]:
    """The people who are scored between two looks at the results, in the order of their draw.

    All at once without ``[stop]``.
    """
    if experiment.stop is None:
        return [dict.fromkeys(names)]
    order = generator(experiment.seed, "rounds").permutation(sorted(names)).tolist()
    ends = round_ends(len(order))
    starts = [0, *ends[:-1]]
    return [dict.fromkeys(order[a:b]) for a, b in zip(starts, ends, strict=True)]


def round_ends(people: int) -> list[int]:
    """How many people are scored at each look: `ROUND` more, later an eighth more.

    So looking stays cheap.

    Example:
        >>> round_ends(60)
        [8, 16, 24, 32, 40, 48, 60]
    """
    ends = [0]
    while ends[-1] < people:
        end = ends[-1] + ROUND * max(1, ends[-1] // ROUND**2)
        ends.append(people if people - end < ROUND else end)
    return ends[1:]


def _nobody(split: str) -> UserError:
    """Nobody has the photos that a split takes."""
    if split in CROSS_POSE:
        return UserError(
            f"The 'split' of [evaluation] can be cross-pose only for people with {LEAST} or more"
            f" frontal photos (yaw below {HALF_PROFILE:g} degrees) and as many turned ones. None of"
            " those chosen has as many."
        )
    return UserError(
        "The 'split' of [evaluation] can be heldout only for people with"
        f" {HELDOUT_IMAGES} or more photos that make two halves without near-equal photos"
        " across them. None of those chosen has as many."
    )


def _people(experiment: Experiment, faces: FaceSet) -> list[Person]:
    chosen = chosen_people(experiment.faces, faces, experiment.seed)
    return [Person(person.name, person.rows, person.rows) for person in chosen]


def chosen_people(wanted: Faces, faces: FaceSet, seed: int) -> list[Identity]:
    """The people of a face set whom an experiment is about, sorted by name.

    Raises:
        UserError: A name is unknown, or there are fewer people than asked for.
    """
    errata = set(errata_names()) & set(faces.names.tolist()) if wanted.exclude_errata else set()
    return select_identities(
        faces,
        people=wanted.people,
        count=wanted.identities,
        images=wanted.images,
        max_images=wanted.max_images,
        exclude=errata,
        seed=seed,
    )


def people_beside(faces: FaceSet, names: Collection[str]) -> list[Identity]:
    """The people of a face set with two or more images, but for some, sorted by name."""
    known, counts = np.unique(faces.identities, return_counts=True)
    order = np.argsort(faces.identities, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    identities = [
        Identity(str(name), np.sort(order[start : start + count]))
        for name, start, count in zip(known, starts, counts, strict=True)
    ]
    left_out = set(names)
    return [person for person in identities if len(person.rows) > 1 and person.name not in left_out]


def _folds(
    experiment: Experiment, faces: FaceSet, chosen: Sequence[Person]
) -> dict[tuple[str, int], list[Person]]:
    """The people of each (split, fold).

    Held-out photos have a reference: the same maps, tried on the very photos they came from.
    """
    folds: dict[tuple[str, int], list[Person]] = {}
    for split in experiment.evaluation.split:
        if split == "same":
            folds[split, 0] = list(chosen)
            continue
        if split == "cross-pose":
            sides = by_pose(faces, [person.identity for person in chosen])
            for name, made, tried in zip(CROSS_POSE, (0, 1), (1, 0), strict=True):
                folds[name, 0] = [
                    Person(who, cut[made], cut[tried]) for who, cut in sides.items()
                ]  # fmt: skip
            continue
        named = (
            (person.name, halves_of(faces, person.identity, experiment.seed)) for person in chosen
        )
        both = [(name, *cut) for name, cut in named if cut is not None]
        folds["heldout", 0] = [Person(name, first, second) for name, first, second in both]
        folds["heldout", 1] = [Person(name, second, first) for name, first, second in both]
        folds["half", 0] = [Person(name, first, first) for name, first, _ in both]
        folds["half", 1] = [Person(name, second, second) for name, _, second in both]
    return folds


def by_pose(faces: FaceSet, people: Sequence[Identity]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows of the frontal and of the turned photos of each person who has enough of both.

    A turned photo that is near-equal to a frontal one is left out.

    Raises:
        UserError: The face set holds no landmarks.
    """
    index = [] if faces.folder is None else read_index(faces.folder)
    yaw = photo_yaw(index, np.concatenate([person.rows for person in people]))
    if yaw is None:
        raise UserError(
            "The 'split' of [evaluation] can be cross-pose only for a face set with landmarks."
            f" Some photos of '{faces.title}' have none: prepare it from photographs."
        )
    by_person = {}
    ends = np.cumsum([len(person.rows) for person in people])[:-1]
    for person, turned in zip(people, np.split(yaw >= HALF_PROFILE, ends), strict=True):
        groups = near_equal(np.asarray(faces.frames[person.rows]))
        apart = turned & ~np.isin(groups, groups[~turned])
        sides = person.rows[~turned], person.rows[apart]
        if min(map(len, sides)) >= LEAST:
            by_person[person.name] = sides
    return by_person


def halves_of(faces: FaceSet, person: Identity, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows of the two halves of a person's photos; None for whom they cannot be held out."""
    rows = person.rows
    if len(rows) < HELDOUT_IMAGES:
        return None
    groups = near_equal(np.asarray(faces.frames[rows]))
    cut = halves(groups, generator(seed, "halves", person.name))
    return None if cut is None else (rows[cut[0]], rows[cut[1]])


def everybody(blocks: Sequence[Block]) -> tuple[Person, ...]:
    """All chosen people with all photos that are used of them, sorted by name."""
    rows: dict[str, list[np.ndarray]] = defaultdict(list)
    for person in (person for block in blocks for person in block.people):
        rows[person.name] += [person.rows, person.tests]
    known = {name: np.unique(np.concatenate(parts)) for name, parts in sorted(rows.items())}
    return tuple(Person(name, own, own) for name, own in known.items())
