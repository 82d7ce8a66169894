"""Whether what a mask does lasts: nuisances, repair, the painted photograph (Protocol: robustness).

Tried as in the proof: each photo under the mask from the other half.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from facefocus.core.progress import Progress, silent
from facefocus.evaluation.nuisances import NUISANCES, gives_itself_away, nuisance_rng, seen_under
from facefocus.evaluation.statistics import Interval, ratio_intervals
from facefocus.evaluation.verification import normalize
from facefocus.faces.detect import FaceDetector, detector_model
from facefocus.occlusion.fills import fill_rng
from facefocus.occlusion.painting import paint, write_picture
from facefocus.person.photos import Photo
from facefocus.person.proof import Design, Judge, Measures, measured
from facefocus.person.redetect import SAVED, Redetected, redetect
from facefocus.person.trials import CHOSEN, Crops, Outcome, Team

#: What happens to aligned crops, and what each is called.
ON_CROPS = {
    "mask-shift-1": "a shift of the mask by 1 pixel",
    "mask-shift-2": "a shift of the mask by 2 pixels",
    "mask-shift-3": "a shift of the mask by 3 pixels",
    "align": "another alignment: up to 3 px, 3 %, 4 degrees",
    "jpeg-90": "JPEG, quality 90",
    "jpeg-75": "JPEG, quality 75",
    "jpeg-50": "JPEG, quality 50",
    "half": "half the resolution",
    "gallery": "hiding the photos it is compared with, too",
    "median-3": "repair by a median of 3x3",
    "median-5": "repair by a median of 5x5",
    "inpaint-guessed": "repair by filling in, hidden places guessed",
    "inpaint-told": "repair by filling in, hidden places known",
}

#: Those that ask nothing more than a slip or a free program: who is undone by one is not protected.
SLIPS = ("mask-shift-1", "mask-shift-2", "mask-shift-3")
REPAIRS = ("median-3", "median-5", "inpaint-guessed", "inpaint-told")

#: What happens to painted photographs.
ON_PHOTOS = {
    SAVED: "painting on the photograph, detected and aligned again",
    "jpeg-50": "the same, saved as JPEG of quality 50",
    "half": "the same, at half the resolution",
}

#: How a row of `ON_PHOTOS` is called among nuisances, and the one of the photograph as it is.
PHOTOGRAPH = "photograph "
PAINTED = PHOTOGRAPH + SAVED

#: Least share of the effect that has to survive.
SURVIVES = 0.5


@dataclass(frozen=True)
class Robustness:
    """What is left of the effect on one recognizer under one nuisance.

    Attributes:
        nuisance: Its name; with `PHOTOGRAPH` before it, on painted photographs.
        title: In words.
        recognizer: Who judged.
        seen: Whether the mask was made on it.
        clean: Mean similarity, nothing hidden, under the nuisance.
        hidden: The same, hidden.
        surviving: Share of the drop that survives: the nuisance's own loss is not credited.
        measures: Other measures, hidden, under the nuisance: (measure, rule) to the mean.
        photos: Photos that were compared.
        undetected: Photos in which the face was no longer found.
        moved: Mean distance in pixels of the crop by which landmarks moved; NaN on crops.
    """

    nuisance: str
    title: str
    recognizer: str
    seen: bool
    clean: float
    hidden: float
    surviving: Interval
    measures: Mapping[tuple[str, str], float]
    photos: int
    undetected: int = 0
    moved: float = float("nan")


@dataclass(frozen=True, eq=False)
class CleanSide:
    """What was measured of a person's clean photos under nuisances: once for all masks.

    Attributes:
        measures: By nuisance and recognizer.
        photos: What was found again, by photo.
    """

    measures: dict[tuple[str, str], Measures] = field(default_factory=dict)
    photos: dict[str, dict[str, Redetected]] = field(default_factory=dict)


def crop_robustness(
    team: Team,
    crops: Crops,
    design: Design,
    outcome: Outcome,
    side: CleanSide,
    progress: Progress = silent,
) -> list[Robustness]:
    """The chosen masks under every nuisance of `ON_CROPS`; `side` is read and filled."""
    rows = []
    for number, (name, title) in enumerate(ON_CROPS.items()):
        progress("robustness", number, len(ON_CROPS))
        if name == "inpaint-guessed" and not gives_itself_away(crops.fill):
            continue
        # What only moves the mask, or hides the other side, does nothing to clean photos.
        spares = NUISANCES[name].change is None
        missing = any((name, judge.name) not in side.measures for judge in team.judges)
        bare = np.zeros_like(outcome.masks)
        clean = _seen(crops, bare, name, design) if missing and not spares else None
        hidden = _seen(crops, outcome.masks, name, design)
        for judge in team.judges:
            probes = normalize(judge.recognizer.embed(hidden))
            gallery = probes if NUISANCES[name].gallery else None
            if (name, judge.name) not in side.measures:
                usual = judge.clean if clean is None else judge.recognizer.embed(clean)
                side.measures[name, judge.name] = measured(judge, usual[None], design.unseen)
            after = measured(judge, probes[None], design.unseen, gallery)
            before = side.measures[name, judge.name]
            rows.append(_row(name, title, judge, outcome, before, after))
    progress("robustness", len(ON_CROPS), len(ON_CROPS))
    return rows


def _seen(
    crops: Crops, masks: Bool[np.ndarray, "n h w"], nuisance: str, design: Design
) -> UInt8[np.ndarray, "n h w 3"]:
    """All crops as they are seen under a nuisance, each with the mask of its fold."""
    rngs = [nuisance_rng(crops.seed, nuisance, name) for name in crops.names]
    seen = np.empty_like(crops.frames)
    for fold in design.folds:
        rows, part = fold.tried_on, crops.part(fold.tried_on)
        seen[rows] = seen_under(
            nuisance,
            part.frames,
            masks[rows[0]],
            crops.fill,
            hide=part.hide,
            rngs=[rngs[row] for row in rows],
        )
    return seen


def _row(
    nuisance: str,
    title: str,
    judge: Judge,
    outcome: Outcome,
    before: Measures,
    after: Measures,
    undetected: int = 0,
    moved: float = np.nan,
) -> Robustness:
    """One row from the values of each photo; those without one do not count."""
    usual = outcome.values["clean", judge.name, judge.seen]["cosine", ""]
    plain = outcome.values[CHOSEN, judge.name, judge.seen]["cosine", ""]
    clean, hidden = before["cosine", ""], after["cosine", ""]
    there = np.isfinite(hidden) & np.isfinite(clean)
    drop, left = (usual - plain)[there], (clean - hidden)[there]
    none = Interval(np.nan, np.nan, np.nan)
    surviving = next(iter(ratio_intervals(left[None], drop[None]))) if there.any() else none
    return Robustness(
        nuisance,
        title,
        judge.name,
        judge.seen,
        float(np.mean(clean[there])) if there.any() else np.nan,
        float(np.mean(hidden[there])) if there.any() else np.nan,
        surviving,
        {key: float(np.mean(value[there])) for key, value in after.items() if there.any()},
        int(there.sum()),
        undetected,
        moved,
    )


# Painted photographs ------------------------------------------------------------------------------


def photo_robustness(
    team: Team,
    crops: Crops,
    photos: Sequence[Photo],
    design: Design,
    outcome: Outcome,
    side: CleanSide,
    progress: Progress = silent,
) -> list[Robustness]:
    """The masks painted on the photographs, saved, detected and aligned again.

    `side` is read and filled.
    """
    detector = FaceDetector(detector_model(None))
    again: list[dict[str, Redetected]] = []
    with tempfile.TemporaryDirectory(prefix="facefocus-") as folder:
        for row, photo in enumerate(photos):
            rng = fill_rng(crops.seed, photo.name)
            painted = paint(photo.pixels, photo.matrix, outcome.masks[row], crops.fill, rng)
            if photo.name not in side.photos:
                side.photos[photo.name] = _again(folder, photo.pixels, photo, detector, crops.seed)
            again.append(_again(folder, painted, photo, detector, crops.seed))
            progress("photographs", row + 1, len(photos))
    clean = [side.photos[photo.name] for photo in photos]

    def figure(name: str, title: str, judge: Judge) -> Robustness:
        pair = [each[name] for each in clean], [each[name] for each in again]
        return _of_photos(name, title, judge, *pair, design, outcome, side)

    return [
        figure(name, title, judge) for name, title in ON_PHOTOS.items() for judge in team.judges
    ]


def _again(
    folder: str,
    picture: UInt8[np.ndarray, "h w 3"],
    photo: Photo,
    detector: FaceDetector,
    seed: int,
) -> dict[str, Redetected]:
    """What is found in a picture of a photo, saved and read, under each of `ON_PHOTOS`."""
    file = Path(folder) / "again.png"
    write_picture(file, picture)
    return redetect(file, photo, detector, tuple(ON_PHOTOS), seed)


def _of_photos(
    nuisance: str,
    title: str,
    judge: Judge,
    clean: Sequence[Redetected],
    again: Sequence[Redetected],
    design: Design,
    outcome: Outcome,
    side: CleanSide,
) -> Robustness:
    key = PHOTOGRAPH + nuisance, judge.name
    if key not in side.measures:
        side.measures[key] = measured_again(judge, clean, design)
    moved = [
        float(np.linalg.norm(photo.shift, axis=1).mean())
        for photo in again
        if photo.shift is not None
    ]
    return _row(
        PHOTOGRAPH + nuisance,
        title,
        judge,
        outcome,
        side.measures[key],
        measured_again(judge, again, design),
        undetected=sum(not photo.detected for photo in again),
        moved=float(np.mean(moved)) if moved else np.nan,
    )


def measured_again(judge: Judge, again: Sequence[Redetected], design: Design) -> Measures:
    """Measures of crops that were found again; NaN where no face was found."""
    there = np.array([photo.detected for photo in again])
    embeddings: Float[np.ndarray, "n d"] = np.zeros_like(judge.clean)
    if there.any():
        crops = np.stack([photo.crop for photo in again if photo.crop is not None])
        embeddings[there] = normalize(judge.recognizer.embed(crops))
    values = measured(judge, embeddings[None], design.unseen)
    return {key: np.where(there, value, np.nan) for key, value in values.items()}
