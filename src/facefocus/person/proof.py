"""What hiding does to the recognition of one person, on photos and recognizers never seen.

Protocol: person-proof. Photos are cut into two halves; the mask from one half is tried on the
other, and compared with clean photos of that other half, which it never saw either. Controls hide
as many pixels in the same way. Pure functions of masks and embeddings: nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from facefocus.core.seeds import generator
from facefocus.evaluation.photo_risk import photo_scores, share_found
from facefocus.evaluation.statistics import Interval, mean_intervals
from facefocus.evaluation.verification import normalize
from facefocus.faces.halves import halves, near_equal
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.shapes import random_mask

#: Draws of every control that is drawn.
DRAWS = 5

#: Least shift of the control `shifted`, as a share of the frame's shorter side, 8 of 112 pixels:
#: less would hide nearly the same.
LEAST_SHIFT = 1 / 14

#: Least share of the shifted mask that lies in the face.
INSIDE = 0.9

#: What the clean face is called among the conditions.
CLEAN = "clean"


@dataclass(frozen=True, eq=False)
class Fold:
    """Photos of which a mask is made, and photos on which it is tried; rows of the crops.

    Without enough photos there is one fold that is made of nothing and tried on all: only masks
    that know nothing of the person are proven then.
    """

    made_of: Int[np.ndarray, " a"]
    tried_on: Int[np.ndarray, " b"]


@dataclass(frozen=True, eq=False)
class Design:
    """Which photos make masks, and which are compared.

    Attributes:
        folds: Two, or one without enough photos.
        unseen: Which clean photo a hidden one is compared with, so that the mask saw neither.
        others: The same with all other photos of the person.
    """

    folds: tuple[Fold, ...]
    unseen: Bool[np.ndarray, "n n"]
    others: Bool[np.ndarray, "n n"]

    @property
    def alone(self) -> bool:
        """Whether there is a single photo: it is compared with itself, which is no recognition."""
        return len(self.unseen) == 1

    @property
    def crossed(self) -> bool:
        """Whether masks of the person's own photos can be tried on photos they never saw."""
        return len(self.folds) > 1


def make_design(frames: UInt8[np.ndarray, "n h w 3"], seed: int = 0) -> Design:
    """Cut the photos into halves that share no picture; near-equal photos are never compared."""
    groups = near_equal(frames)
    different = groups[:, None] != groups[None]
    everything = np.arange(len(frames))
    if len(frames) == 1:
        return Design((Fold(everything[:0], everything),), ~different, ~different)
    parts = halves(groups, generator(seed, "person halves"))
    if parts is None:
        return Design((Fold(everything[:0], everything),), different, different)
    half = np.isin(everything, parts[0])
    folds = Fold(parts[0], parts[1]), Fold(parts[1], parts[0])
    return Design(folds, different & (half[:, None] == half[None]), different)


@dataclass(frozen=True, eq=False)
class Judge:
    """A recognizer that judges, and what it decides by.

    Attributes:
        recognizer: It.
        seen: Whether masks were made on it.
        clean: Unit embeddings of the person's crops.
        strangers: Unit embeddings of other people's; None where there are none that count.
        people: Who these show.
        templates: By the number of photos, the template of each of them of at most so many, unit.
        pair: Thresholds for two photos, by the name of the rule.
        by_template: Thresholds for a photo and a template of so many photos: rule to threshold.
        origin: Where the thresholds come from; empty where there are none.
    """

    recognizer: Recognizer
    seen: bool
    clean: Float[np.ndarray, "n d"]
    strangers: Float[np.ndarray, "s d"] | None = None
    people: Shaped[np.ndarray, " s"] | None = None
    templates: Mapping[int, Float[np.ndarray, "p d"]] = field(default_factory=dict)
    pair: Mapping[str, float] = field(default_factory=dict)
    by_template: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    origin: str = ""

    @property
    def name(self) -> str:
        """The recognizer's."""
        return self.recognizer.name


@dataclass(frozen=True)
class Figure:
    """One number of the proof.

    Attributes:
        condition: What was hidden: ``clean``, ``chosen``, a candidate, a control.
        recognizer: Who judged.
        seen: Whether the mask was made on it.
        gallery: ``unseen``: compared with clean photos that the mask never saw; ``others``: with
            all other photos of the person.
        measure: ``cosine``, ``pair``, ``any``, ``template``, ``rank-1`` or ``false-match``.
        rule: Of the threshold; empty where the measure has none.
        value: A mean over photos: of cosines, or of shares.
        low: Lower end of its 95 % interval over photos; NaN where there is none.
        high: Upper end.
        photos: Number of photos.
    """

    condition: str
    recognizer: str
    seen: bool
    gallery: str
    measure: str
    rule: str
    value: float
    low: float
    high: float
    photos: int


# Measures -----------------------------------------------------------------------------------------

#: (measure, rule) to a value for each photo.
Measures = dict[tuple[str, str], np.ndarray]

#: Measures that are true or false of a photo.
COUNTED = ("any", "template", "rank-1")


def measured(
    judge: Judge,
    hidden: Float[np.ndarray, "draws n d"],
    compared: Bool[np.ndarray, "n n"],
    gallery: Float[np.ndarray, "n d"] | None = None,
) -> Measures:
    """Every measure of hidden photos by one judge, (measure, rule) to a value for each photo.

    Values of several draws are averaged for each photo; NaN for photos that are compared with
    nothing.

    Args:
        judge: The recognizer.
        hidden: Embeddings of the person's photos, hidden, in one draw or several.
        compared: Which photo of the gallery each is compared with.
        gallery: Embeddings of the person's photos as they are found there; clean by default.
    """
    unit_gallery = judge.clean if gallery is None else normalize(gallery)
    values = [_of_draw(judge, normalize(draw), compared, unit_gallery) for draw in hidden]
    alone = ~compared.any(axis=1)
    means = {key: np.mean([value[key] for value in values], axis=0) for key in values[0]}
    return {key: np.where(alone, np.nan, value) for key, value in means.items()}


def _of_draw(
    judge: Judge,
    hidden: Float[np.ndarray, "n d"],
    compared: Bool[np.ndarray, "n n"],
    gallery: Float[np.ndarray, "n d"],
) -> Measures:
    scores = hidden @ gallery.T
    counts = np.maximum(compared.sum(axis=1), 1)
    means = {("cosine", ""): (scores * compared).sum(axis=1) / counts}
    for rule, level in judge.pair.items():
        means["pair", rule] = ((scores >= level) & compared).sum(axis=1) / counts
        means["any", rule] = ((scores >= level) & compared).any(axis=1).astype(float)
        if judge.strangers is not None:
            means["false-match", rule] = (hidden @ judge.strangers.T >= level).mean(axis=1)
    return means | _by_template(judge, hidden, compared, gallery)


def _by_template(
    judge: Judge,
    hidden: Float[np.ndarray, "n d"],
    compared: Bool[np.ndarray, "n n"],
    gallery: Float[np.ndarray, "n d"],
) -> Measures:
    """Matches by the person's template and rank-1 of each photo; templates differ in size."""
    measures: Measures = {}
    sizes = compared.sum(axis=1)
    for size in np.unique(sizes[sizes > 0]).tolist():
        rows = np.flatnonzero(sizes == size)
        # Few people may give the rates of templates and not those of pairs.
        levels = judge.by_template.get(size, {})
        rules = [rule for rule in levels if rule in judge.pair]
        if not rules:
            continue
        scores = photo_scores(
            hidden[rows], gallery, compared=compared[rows], others=judge.templates.get(size)
        )
        for rule in rules:
            risk = scores.risk(threshold=judge.pair[rule], template_threshold=levels[rule])
            matches = {("template", rule): risk.template, ("rank-1", ""): risk.rank_one}
            for key, match in matches.items():
                if match is not None:
                    measures.setdefault(key, np.full(len(hidden), np.nan))[rows] = match
    # A rule that only some sizes of templates have is no figure of all photos.
    return {key: value for key, value in measures.items() if np.isfinite(value[sizes > 0]).all()}


def intervals_of(
    values: Sequence[Float[np.ndarray, " n"]], measures: Sequence[str]
) -> list[Interval]:
    """The mean over photos with its interval: exact for counts of photos, else of a mean.

    Args:
        values: For each figure, the value of each photo; NaN for photos that do not count.
        measures: The measure of each figure.
    """
    intervals: dict[int, Interval] = {}
    means: dict[bool, list[int]] = {True: [], False: []}
    for number, (photos, measure) in enumerate(zip(values, measures, strict=True)):
        used = photos[np.isfinite(photos)]
        if not used.size or (measure in COUNTED and np.isin(used, (0, 1)).all()):
            intervals[number] = share_found(used.astype(bool))
        else:
            means[measure != "cosine"].append(number)
    for share, numbers in means.items():
        if numbers:
            rows = np.stack([values[number] for number in numbers])
            intervals.update(zip(numbers, mean_intervals(rows, share=share), strict=True))
    return [intervals[number] for number in range(len(values))]


# Controls -----------------------------------------------------------------------------------------


def shifted_within(
    mask: Bool[np.ndarray, "h w"], face: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """The same mask shifted within the face, on the torus of its box.

    For pixels that miss the face, before the shift or after it, the nearest free ones of the face
    are taken: the control is not the weaker for hiding less of it, nor the stronger for scattering.

    Args:
        mask: Any mask.
        face: Where the face is.
        rng: Draws a shift of at least `LEAST_SHIFT` that leaves `INSIDE` of the mask in the face,
            each equally likely; where there is none, one that leaves most.
    """
    rows, columns = (np.flatnonzero(face.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside, least = mask[box], round(LEAST_SHIFT * min(mask.shape))
    # Pixels that land in the face, of every shift: a correlation on the torus.
    spectra = np.conj(np.fft.fft2(inside)) * np.fft.fft2(face[box])
    kept = np.rint(np.fft.ifft2(spectra).real)
    down, right = np.ogrid[: inside.shape[0], : inside.shape[1]]
    far = np.maximum(
        np.minimum(down, inside.shape[0] - down), np.minimum(right, inside.shape[1] - right)
    )
    kept[far < least] = -1
    shifts = np.argwhere(kept >= min(INSIDE * inside.sum(), kept.max()))
    moved = np.roll(inside, shifts[rng.integers(len(shifts))].tolist(), axis=(0, 1))
    control = np.zeros_like(mask)
    control[box] = moved & face[box]
    # First on what is free of the face; of a mask larger than the face the rest goes beside it.
    for free in (face & ~control, ~face):
        missing = int(mask.sum()) - int(control.sum())
        pixels = rng.permutation(np.flatnonzero(free))
        away = scipy.ndimage.distance_transform_edt(~control).ravel()[pixels]
        control.flat[pixels[np.argsort(away, kind="stable")[:missing]]] = True
    return control


def control_masks(
    masks: Bool[np.ndarray, "n h w"],
    folds: Sequence[Fold],
    face: Bool[np.ndarray, "h w"],
    shape: str,
    others: Sequence[Bool[np.ndarray, "h w"]],
    seed: int = 0,
) -> dict[str, Bool[np.ndarray, "draws n h w"]]:
    """Masks of the same area that know less: ``shifted``, ``random``, and ``other`` people's.

    Args:
        masks: The mask of each photo; one for all photos of a fold.
        folds: The folds.
        face: Where the face is.
        shape: Of the masks.
        others: Masks of other people, made in the same way; none without a gallery.
        seed: Of all draws.
    """
    drawn: dict[str, np.ndarray] = {
        name: np.zeros((DRAWS, *masks.shape), bool) for name in ("shifted", "random")
    }
    for number, fold in enumerate(folds):
        mask = masks[fold.tried_on[0]]
        for draw in range(DRAWS):
            rng = generator(seed, "person control", number, draw)
            drawn["shifted"][draw, fold.tried_on] = shifted_within(mask, face, rng)
            drawn["random"][draw, fold.tried_on] = random_mask(shape, int(mask.sum()), face, rng)
    if others:
        drawn["other"] = np.stack([np.broadcast_to(mask, masks.shape) for mask in others])
    return drawn


# Choosing -----------------------------------------------------------------------------------------


def choose(
    scores: Float[np.ndarray, "candidates n"], folds: Sequence[Fold]
) -> Int[np.ndarray, " n"]:
    """Which candidate counts for each photo: the one that is best on the *other* half.

    Picking the best on the very photos that judge it would flatter it. Without a second half the
    best on all photos is taken, and whoever shows the figure has to say so.

    Args:
        scores: Mean similarity of each photo under each candidate; less is better. NaN where a
            photo has none.
        folds: The folds.

    Example:
        >>> folds = Fold(np.array([0]), np.array([1])), Fold(np.array([1]), np.array([0]))
        >>> choose(np.array([[0.1, 0.9], [0.2, 0.3]]), folds).tolist()
        [1, 0]
    """
    chosen = np.zeros(scores.shape[1], np.int64)
    for fold in folds:
        deciding = fold.made_of if len(fold.made_of) else fold.tried_on
        chosen[fold.tried_on] = int(np.argmin(np.nanmean(scores[:, deciding], axis=1)))
    return chosen
