"""What a person risks who hides photos: matches by photo, not by pair (Protocol: photo-risk).

A pair rate of 0.2 hides nobody who has ten photos in the gallery. Each function takes embeddings
and gives, for each hidden photo, whether somebody who looks for the person finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int, Shaped

from facefocus.core.seeds import generator
from facefocus.evaluation.statistics import LEVEL, Interval
from facefocus.evaluation.verification import (
    SAMPLED_PAIRS,
    even_shares,
    normalize,
    parse_rule,
    threshold,
)

#: Where recognizers decide, by name (Protocol: thresholds): they are deployed at low false match
#: rates.
RULES = {"EER": "eer", "FMR 1e-3": "fmr=1e-3"}

#: People who must have more photos than a template, so that a threshold can be set for it.
LEAST_PEOPLE = 5


@dataclass(frozen=True, eq=False)
class PhotoRisk:
    """Which hidden photos of a person are found.

    Attributes:
        any: Matched by at least one clean gallery photo of the person.
        template: Matched by the person's template.
        rank_one: The person's template is the nearest of everybody's, or as near as it; None
            without templates of other people.
    """

    any: Bool[np.ndarray, " n"]
    template: Bool[np.ndarray, " n"]
    rank_one: Bool[np.ndarray, " n"] | None


@dataclass(frozen=True, eq=False)
class PhotoScores:
    """How near hidden photos of a person are to those in a gallery, of whom `risk` decides.

    Attributes:
        pairs: Cosine of each hidden photo and each gallery photo of the person.
        compared: Which of them count.
        template: Cosine of each hidden photo and the person's template.
        nearest: The largest cosine of a hidden photo and a template of somebody else; None
            without templates of other people.
    """

    pairs: Float[np.ndarray, "n g"]
    compared: Bool[np.ndarray, "n g"]
    template: Float[np.ndarray, " n"]
    nearest: Float[np.ndarray, " n"] | None

    def risk(self, *, threshold: float, template_threshold: float) -> PhotoRisk:
        """Which photos are found, at thresholds.

        Args:
            threshold: Of pairs of photos.
            template_threshold: Of a photo and a template, for templates of as many photos as
                `compared` has in a row (`template_scores`).
        """
        return PhotoRisk(
            any=((self.pairs >= threshold) & self.compared).any(axis=1),
            template=self.template >= template_threshold,
            rank_one=None if self.nearest is None else self.template >= self.nearest,
        )


def photo_scores(
    hidden: Float[np.ndarray, "n d"],
    gallery: Float[np.ndarray, "g d"],
    *,
    compared: Bool[np.ndarray, "n g"] | None = None,
    others: Float[np.ndarray, "k d"] | None = None,
) -> PhotoScores:
    """How near each hidden photo of one person is to a gallery of their clean photos.

    Args:
        hidden: Raw embeddings of the hidden photos.
        gallery: Raw embeddings of the person's clean photos.
        compared: Which gallery photos a hidden photo is compared with: never the clean version of
            itself. All by default.
        others: Templates of other people, of unit length (`template`, `person_templates`): of
            thousands, so they are not normalized again at every call.

    Raises:
        ValueError: A hidden photo is compared with no gallery photo, or not with as many as the
            others; or an embedding is not finite.

    Example:
        >>> hidden, gallery = np.array([[1.0, 0.0]]), np.array([[1.0, 0.5], [1.0, -1.0]])
        >>> risk = photo_scores(hidden, gallery).risk(threshold=0.8, template_threshold=0.99)
        >>> risk.any.tolist(), risk.template.tolist(), risk.rank_one
        ([True], [False], None)
    """
    if compared is None:
        compared = np.ones((len(hidden), len(gallery)), bool)
    sizes = compared.sum(axis=1)
    if not sizes.all() or (sizes != sizes[:1]).any():
        raise ValueError(
            "Every hidden photo must be compared with equally many gallery photos, 1 or more."
            f" Got {np.unique(sizes).tolist()}."
        )
    probes = normalize(hidden)
    nearest = None
    if others is not None:
        nearest = np.einsum("nd,kd->nk", probes, others).max(axis=1, initial=-np.inf)
    return PhotoScores(
        # Not `@`: BLAS takes other routines, with other last bits, for other numbers of photos.
        pairs=np.einsum("nd,gd->ng", probes, normalize(gallery)),
        compared=compared,
        template=(probes * np.stack([template(gallery[row]) for row in compared])).sum(axis=1),
        nearest=nearest,
    )


def template(embeddings: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " d"]:
    """A person's template: the mean of the normalized embeddings, normalized.

    Raises:
        ValueError: There is no embedding, or one is not finite.

    Example:
        >>> template(np.array([[2.0, 0.0], [0.0, 1.0]])).round(4).tolist()
        [0.7071, 0.7071]
    """
    if not len(embeddings):
        raise ValueError("A template needs at least 1 embedding. Got none.")
    mean: np.ndarray = normalize(normalize(embeddings).mean(axis=0, keepdims=True))[0]
    return mean


def person_templates(
    embeddings: Float[np.ndarray, "n d"],
    people: Shaped[np.ndarray, " n"],
    most: int | None = None,
) -> Float[np.ndarray, "people d"]:
    """The normalized mean of each person's unit embeddings, by ascending name.

    Of the first `most` only: templates of more photos are nearer to everybody, and have to be as
    large as those that they are ranked beside.
    """
    _, owner = np.unique(people, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(owner.max() + 1))
    numbers = np.arange(len(owner)) - starts[owner[order]]
    rows = order if most is None else order[numbers < most]
    sums = np.zeros((owner.max() + 1, embeddings.shape[1]))
    np.add.at(sums, owner[rows], embeddings[rows])
    return normalize(sums)


def template_scores(
    embeddings: Float[np.ndarray, "n d"],
    identities: Shaped[np.ndarray, " n"],
    size: int,
    *,
    seed: int = 0,
) -> tuple[Float[np.ndarray, " mated"], Float[np.ndarray, " non_mated"]]:
    """Scores of photos against templates of `size` photos, which set a threshold for templates.

    Mated: a photo against `size` other photos of the person, of whoever has so many; everybody
    gives equally many scores, as far as their photos reach. Non-mated: one template of everybody
    who has `size` photos, against photos of other people. Of either `SAMPLED_PAIRS`, or all where
    there are fewer. Give both to `facefocus.evaluation.verification.threshold`; either may be
    empty.

    Args:
        embeddings: Raw embeddings of clean photos.
        identities: Identity of each, str [n].
        size: Photos of a template.
        seed: Draws the photos of templates and the sample.

    Raises:
        ValueError: `size` is below 1, or an embedding is not finite.

    Example:
        >>> embeddings = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> same, other = template_scores(embeddings, np.array(["a", "a", "b", "b"]), 1)
        >>> same.round(2).tolist(), len(other)
        ([1.0, 1.0, 1.0, 1.0], 4)
    """
    if size < 1:
        raise ValueError(f"A template needs at least 1 embedding. Got {size}.")
    unit = normalize(embeddings)
    people, owner = np.unique(identities, return_inverse=True)
    rows = [np.flatnonzero(owner == person) for person in range(len(people))]
    with_template = [person for person, own in enumerate(rows) if len(own) >= size]
    if not with_template:
        return np.array([]), np.array([])
    draw = [generator(seed, "templates", str(name)) for name in people]

    def drawn(person: int, photos: np.ndarray) -> np.ndarray:
        return template(unit[draw[person].permutation(photos)[:size]])

    templates = np.stack([drawn(person, rows[person]) for person in with_template])
    usable = np.array([len(own) if len(own) > size else 0 for own in rows])
    shares = even_shares(usable, SAMPLED_PAIRS, generator(seed, "mated templates"))
    mated = [
        float((unit[row] * drawn(person, own[own != row])).sum())
        for person, own in enumerate(rows)
        for row in draw[person].permutation(own)[: shares[person]]
    ]
    strangers = _strangers(with_template, rows, generator(seed, "non-mated templates"))
    non_mated = (templates[strangers[:, 0]] * unit[strangers[:, 1]]).sum(axis=1)
    return np.array(mated), non_mated


def template_thresholds(
    embeddings: Float[np.ndarray, "n d"],
    people: Shaped[np.ndarray, " n"],
    size: int,
    rules: Mapping[str, str] = RULES,
) -> dict[str, float]:
    """The threshold of each rule for a photo and a template of `size` photos, by its name.

    Where fewer than `LEAST_PEOPLE` have more photos than that, for the largest templates that as
    many can be tried with: beyond a few photos the size changes little.
    """
    counts = np.sort(np.unique(people, return_counts=True)[1])
    most = int(counts[-LEAST_PEOPLE]) - 1 if len(counts) >= LEAST_PEOPLE else 0
    usable = min(size, most)
    return thresholds(*template_scores(embeddings, people, usable), rules) if usable else {}


def thresholds(
    mated: Float[np.ndarray, " m"],
    non_mated: Float[np.ndarray, " k"],
    rules: Mapping[str, str] = RULES,
) -> dict[str, float]:
    """The threshold of each rule that so many scores can give, by its name."""
    if not (len(mated) and len(non_mated)):
        return {}
    by_rule = {}
    for name, text in rules.items():
        rule = parse_rule(text)
        # An FMR of 1e-3 takes 1000 pairs.
        if rule.kind != "fmr" or rule.value is None or len(non_mated) >= round(1 / rule.value):
            by_rule[name] = threshold(mated, non_mated, rule)
    return by_rule


def _strangers(
    with_template: list[int], rows: list[np.ndarray], rng: np.random.Generator
) -> Int[np.ndarray, "p 2"]:
    """Pairs of a template and another person's photo: both people, then the photo, uniformly."""
    photos = sum(len(own) for own in rows)
    total = sum(photos - len(rows[person]) for person in with_template)
    if total <= 4 * SAMPLED_PAIRS:
        # Too few for drawing until enough are new: list them all.
        every = [
            (template_row, int(row))
            for template_row, person in enumerate(with_template)
            for other, own in enumerate(rows)
            if other != person
            for row in own
        ]
        return rng.permutation(np.array(every, np.int64).reshape(-1, 2))[:SAMPLED_PAIRS]
    seen: dict[tuple[int, int], None] = {}
    while len(seen) < SAMPLED_PAIRS:
        template_row = int(rng.integers(len(with_template)))
        other = (with_template[template_row] + int(rng.integers(1, len(rows)))) % len(rows)
        seen[template_row, int(rng.choice(rows[other]))] = None
    return np.array(list(seen), np.int64)


def share_found(matched: Bool[np.ndarray, " n"]) -> Interval:
    """The share of photos that are found, with the exact interval of Clopper and Pearson (1934).

    Over photos, since pairs that share a photo are not independent. NaN without any photo.

    Example:
        >>> share_found(np.array([True, False, False, False])).text()
        '0.250 [0.006, 0.806]'
    """
    if not len(matched):
        return Interval(np.nan, np.nan, np.nan)
    exact = scipy.stats.binomtest(int(matched.sum()), len(matched)).proportion_ci(
        LEVEL, method="exact"
    )
    return Interval(float(matched.mean()), float(exact.low), float(exact.high))
