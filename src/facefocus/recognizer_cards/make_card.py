"""``facefocus card``: one page on what a recognizer needs of a face."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facefocus.benchmark.verify import list_scores
from facefocus.core.errors import UserError
from facefocus.core.files import any_path, write_atomically
from facefocus.core.locations import StoreAddress, store_dir
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.core.store import Store
from facefocus.evaluation.randomization import impostor_pairs
from facefocus.evaluation.strata import Stratum, photo_strata, read_groups
from facefocus.evaluation.verification import (
    VerificationReport,
    check_rule,
    guessing_warning,
    parse_rule,
    tells_apart,
    threshold,
    verification_pairs,
    verify,
)
from facefocus.faces.faceset import (
    FaceSet,
    Identity,
    open_faceset,
    read_index,
    read_pairs,
    select_identities,
)
from facefocus.faces.halves import halves, near_equal
from facefocus.faces.part_atlas import FACE_PARTS, parts, shares
from facefocus.models.backends import accelerate
from facefocus.models.lineage import Lineage
from facefocus.models.recognizer import CHUNK, Recognizer, hold_batches
from facefocus.models.score_only import ScoreRecognizer
from facefocus.models.zoo import lineage, load
from facefocus.recognizer_cards.card_conditions import (
    CLEAN,
    Condition,
    first_conditions,
    further_conditions,
)
from facefocus.recognizer_cards.card_figures import (
    ConditionRow,
    MapFigures,
    StratumRow,
    condition_rows,
    map_figures,
    numbered,
    stratum_rows,
)
from facefocus.recognizer_cards.card_scores import (
    CardMethod,
    Compared,
    compared,
    ordered_places,
)
from facefocus.saliency.methods import METHODS, PerturbationMethod

#: Non-mated pairs whose first photo is one person's, in the mean.
IMPOSTORS = 50
#: The rules of the two thresholds.
EER, STRICT = "eer", "fmr=1e-3"

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RecognizerCard:
    """All figures of a card.

    Attributes:
        model: The recognizer's name; `fingerprint` is its own.
        lineage: What it was trained on, and what it is.
        faces: The face set's title; `faces_hash` is its own.
        people, photos: How many there are.
        pairs: Mated pairs of the first table; `impostors` non-mated ones, 0 where none were scored.
        seed: Of all that was drawn.
        method: What made the maps.
        calls: Calls of a recognizer that gives scores only, in this job; None for others.
        report: On the verification pairs of the face set.
        thresholds: By rule.
        rows: The first table.
        further: The table on stability.
        maps: What the maps say; None where everybody's are flat.
        strata: By pose, quality and group.
        warnings: What must be known before any figure is read.
    """

    model: str
    fingerprint: str
    lineage: Lineage
    faces: str
    faces_hash: str
    people: int
    photos: int
    pairs: int
    impostors: int
    seed: int
    method: CardMethod
    calls: int | None
    report: VerificationReport
    thresholds: Mapping[str, float]
    rows: tuple[ConditionRow, ...]
    further: tuple[ConditionRow, ...]
    maps: MapFigures | None
    strata: tuple[StratumRow, ...]
    warnings: tuple[str, ...]


@any_path
def make_card(
    model: str | Recognizer,
    faces: Path | FaceSet,
    *,
    groups: Path | None = None,
    people: int = 60,
    photos: int = 4,
    method: str = "corr-rise",
    masks: int = 500,
    rate: float | int | None = None,
    seed: int = 0,
    backend: str = "auto",
    store: StoreAddress | None = None,
    preprocessing: Mapping[str, object] | None = None,
    progress: Progress = silent,
) -> RecognizerCard:
    """What a recognizer needs of a face, on the people of a face set.

    Args:
        model: A recognizer or its name; also one that gives scores only.
        faces: A face set, or the folder of a prepared one.
        groups: A CSV file of groups: see `facefocus.evaluation.strata.read_groups`.
        people: A sample of so many people with two photos or more, all where there are fewer.
        photos: At most so many photos of each.
        method: A perturbation method, which makes the maps.
        masks: How many masks of each photo.
        rate: Calls a second, at most, of a recognizer that gives scores only.
        seed: Of all that is drawn.
        backend: What runs the passes.
        store: Where results are looked for and kept; the shared store by default.
        preprocessing: How a recognizer from a file reads frames; see `zoo.load`.
        progress: Called with a stage, and work done and in total.

    Raises:
        UserError: The recognizer, the face set, the groups or an option is wrong, or there are too
            few pairs for a threshold.
    """
    faces = faces if isinstance(faces, FaceSet) else open_faceset(faces)
    side = _side(faces)
    listed = None if faces.folder is None else read_pairs(faces.folder)
    chosen_method = _method(method, masks)
    chosen = _people(faces, people, photos, seed)
    rows = np.concatenate([person.rows for person in chosen])
    strata = [] if groups is None else read_groups(groups, faces)
    strata += photo_strata(faces, [] if faces.folder is None else read_index(faces.folder), rows)
    recognizer = _recognizer(model, preprocessing, backend, faces, rate)
    kept = Store(store or store_dir())
    report, thresholds, warnings = _thresholds(recognizer, faces, listed, kept, seed, progress)
    side_by_side = compared(recognizer, faces, listed, kept, seed)
    pairs = _pairs(recognizer, faces, chosen, seed)
    first, further = first_conditions(side), [CLEAN, *further_conditions()]
    table = _scores(side_by_side, [*first, *further[1:]], pairs, progress)
    by_person = _maps(side_by_side, faces, chosen, chosen_method, seed, progress)
    return RecognizerCard(
        model=model if isinstance(model, str) else model.name,
        fingerprint=recognizer.fingerprint,
        lineage=lineage(model if isinstance(model, str) else model.name, recognizer),
        faces=faces.title,
        faces_hash=faces.hash,
        people=len(chosen),
        photos=len(rows),
        pairs=len(pairs.mated),
        impostors=len(pairs.strangers),
        seed=seed,
        method=chosen_method,
        calls=recognizer.calls if isinstance(recognizer, ScoreRecognizer) else None,
        report=report,
        thresholds=thresholds,
        rows=_condition_rows(first, table, pairs, thresholds),
        further=_condition_rows(further, table, pairs, thresholds),
        maps=_figures(by_person),
        strata=_stratum_rows(
            _with_both_sides(strata, rows), chosen, table["clean"], pairs, thresholds, by_person
        ),
        warnings=tuple(warnings),
    )


def _side(faces: FaceSet) -> int:
    height, width = faces.frames.shape[1:3]
    if height != width:
        raise UserError(
            f"The frames of a card must be square 'arcface112' crops. Got {height}x{width}. Prepare"
            " the faces with --crop arcface112."
        )
    parts(height)
    return int(height)


def _method(name: str, masks: int) -> CardMethod:
    method = METHODS[name]
    if not isinstance(method, PerturbationMethod):
        known = [each for each in METHODS if isinstance(METHODS[each], PerturbationMethod)]
        raise UserError(
            f"The 'method' of a card must be one of {', '.join(known)}, which every recognizer"
            f" serves. Got '{name}'."
        )
    chosen = method.resolve_options({"masks": str(masks)})
    return CardMethod(name, tuple(sorted(chosen.items())))


def _people(faces: FaceSet, count: int, photos: int, seed: int) -> list[Identity]:
    """A sample of people, or all: sorted by name, as identities are."""
    if count < 1:
        raise UserError(f"The 'people' of a card must be at least 1. Got {count}.")
    everybody = select_identities(faces, max_images=photos, seed=seed)
    if len(everybody) <= count:
        return everybody
    return select_identities(faces, count=count, max_images=photos, seed=seed)


def _recognizer(
    model: str | Recognizer,
    preprocessing: Mapping[str, object] | None,
    backend: str,
    faces: FaceSet,
    rate: float | int | None,
) -> Recognizer:
    loaded = load(model, preprocessing) if isinstance(model, str) else model
    if rate is not None:
        if not isinstance(loaded, ScoreRecognizer):
            raise UserError(
                f"The 'rate' is for recognizers that give scores only. '{loaded.name}' embeds."
                " Leave it out."
            )
        if not rate > 0:
            raise UserError(f"The 'rate' must be above 0 calls a second. Got {rate:g}.")
        loaded.calls_per_second = rate
    ready = accelerate(loaded, backend, None, np.asarray(faces.frames[:CHUNK]))
    hold_batches(ready)
    return ready


def _thresholds(
    recognizer: Recognizer,
    faces: FaceSet,
    listed: Any,
    store: Store,
    seed: int,
    progress: Progress,
) -> tuple[VerificationReport, dict[str, float], list[str]]:
    pairs = verification_pairs(faces, listed, seed)
    mated = int(pairs.mated.sum())
    check_rule(parse_rule(EER), mated, len(pairs.mated) - mated, faces.title)
    scores = list_scores(recognizer, faces, listed, pairs, store, progress)
    report = verify(scores, pairs.mated, pairs.fold)
    thresholds, warnings = {EER: report.threshold}, []
    if report.tmr_at_fmr_1e3 is not None:
        thresholds[STRICT] = threshold(scores[pairs.mated], scores[~pairs.mated], STRICT)
    else:
        warnings.append(
            f"There are {len(pairs.mated) - mated} non-mated pairs: a threshold at an FMR of 1e-3"
            " needs 1,000, so its column is missing."
        )
    if report.eer is not None and not tells_apart(report.eer):
        warnings.append(guessing_warning(recognizer.name, report.eer))
    return report, thresholds, warnings


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The pairs of a card, as rows of the face set, and whose first photo each has.

    Attributes:
        mated: Ordered pairs of one person's photos; `owners` are their people.
        strangers: Non-mated pairs, none where the recognizer gives scores only; `others` are the
            people of their first photos.
        scores_only: Whether the recognizer gives scores only.
    """

    mated: np.ndarray
    owners: np.ndarray
    strangers: np.ndarray
    others: np.ndarray
    scores_only: bool


def _pairs(recognizer: Recognizer, faces: FaceSet, people: list[Identity], seed: int) -> _Pairs:
    mated = np.concatenate([person.rows[ordered_places(len(person.rows))] for person in people])
    scores_only = isinstance(recognizer, ScoreRecognizer)
    strangers = np.empty((0, 2), np.int64)
    if not scores_only:
        strangers = impostor_pairs(people, IMPOSTORS * len(people), seed=seed)
    owners, others = (numbered(faces.identities[part[:, 0]]) for part in (mated, strangers))
    return _Pairs(mated, owners, strangers, others, scores_only)


def _condition_rows(
    conditions: Sequence[Condition],
    table: Mapping[str, np.ndarray],
    pairs: _Pairs,
    thresholds: Mapping[str, float],
) -> tuple[ConditionRow, ...]:
    scores = np.stack([table[each.name] for each in conditions])
    mated, non_mated = np.split(scores, [len(pairs.mated)], axis=1)
    beside = (None, None) if pairs.scores_only else (non_mated, pairs.others)
    return tuple(condition_rows(conditions, mated, pairs.owners, thresholds, *beside))


def _stratum_rows(
    strata: list[Stratum],
    people: list[Identity],
    clean: np.ndarray,
    pairs: _Pairs,
    thresholds: Mapping[str, float],
    by_person: Mapping[str, list[np.ndarray]],
) -> tuple[StratumRow, ...]:
    mated, non_mated = np.split(clean, [len(pairs.mated)])
    rows = stratum_rows(
        strata,
        [person.name for person in people],
        pairs.mated,
        mated,
        pairs.owners,
        thresholds,
        _face_shares(by_person),
        None if pairs.scores_only else (pairs.strangers, non_mated, pairs.others),
    )
    return tuple(rows)


def _scores(
    recognizer: Compared, conditions: list[Condition], pairs: _Pairs, progress: Progress
) -> dict[str, np.ndarray]:
    """Scores of mated and then of non-mated pairs under each condition."""
    both = np.concatenate([pairs.mated, pairs.strangers])
    total = len(conditions) * recognizer.cost(both)
    finished = 0

    def done(count: int) -> None:
        nonlocal finished
        finished += count
        progress("photos", finished, total)

    return {each.name: recognizer.scores(each, both, done) for each in conditions}


def _maps(
    recognizer: Compared,
    faces: FaceSet,
    people: list[Identity],
    method: CardMethod,
    seed: int,
    progress: Progress,
) -> dict[str, list[np.ndarray]]:
    """Of each person the maps of both halves of the photos, or one of all; none that is flat."""
    made: dict[str, list[np.ndarray]] = {}
    for number, person in enumerate(people, 1):
        same = near_equal(np.asarray(faces.frames[person.rows]))
        cut = halves(same, generator(seed, "halves", person.name))
        own = [person.rows] if cut is None else [person.rows[half] for half in cut]
        made[person.name] = []
        for rows in own:
            mean, total, flat = recognizer.person_map(rows, ordered_places(len(rows)), method)
            if total > flat:
                made[person.name].append(mean)
        progress("maps", number, len(people))
    return made


def _figures(by_person: Mapping[str, list[np.ndarray]]) -> MapFigures | None:
    return map_figures(list(by_person.values())) if any(by_person.values()) else None


def _face_shares(by_person: Mapping[str, list[np.ndarray]]) -> dict[str, float]:
    known = {name: shares(np.mean(own, axis=0)) for name, own in by_person.items() if own}
    return {name: sum(own[part] for part in FACE_PARTS) for name, own in known.items()}


def _with_both_sides(strata: list[Stratum], rows: np.ndarray) -> list[Stratum]:
    """Those that hold some of the photos; a grouping of a single group divides nothing."""
    held = [stratum for stratum in strata if stratum.photos[rows].any()]
    counts = [stratum.grouping for stratum in held]
    return [stratum for stratum in held if counts.count(stratum.grouping) > 1]


def write_card(card: RecognizerCard, out: Path) -> Path:
    """Write ``index.html`` and its pictures, ``card.json`` and ``population.npz`` to a folder.

    Returns:
        The page.

    Raises:
        UserError: The folder cannot be written.
    """
    from facefocus.recognizer_cards.card_page import card_page, card_pictures, plain

    pictures = card_pictures(card, out)
    text = json.dumps(plain(card), indent=2, ensure_ascii=False) + "\n"
    write_atomically(out / "card.json", lambda file: file.write(text.encode()))
    if card.maps is not None:
        population = card.maps.population.astype(np.float32)
        write_atomically(
            out / "population.npz", lambda file: np.savez_compressed(file, population=population)
        )
    page = card_page(card, pictures)
    write_atomically(out / "index.html", lambda file: file.write(page.encode()))
    return out / "index.html"
