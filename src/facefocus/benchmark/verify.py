"""How good a recognizer is on a face set: the figures its threshold comes from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from facefocus.benchmark.run import calibration_faces
from facefocus.benchmark.stages.embed import stored_embeddings
from facefocus.core.errors import UserError
from facefocus.core.files import any_path
from facefocus.core.locations import StoreAddress, store_dir
from facefocus.core.progress import Progress, silent
from facefocus.core.store import Store
from facefocus.core.text import percent
from facefocus.evaluation.verification import (
    VerificationReport,
    check_rule,
    guessing_warning,
    pair_scores,
    parse_rule,
    tells_apart,
    threshold,
    verification_pairs,
    verify,
)
from facefocus.faces.faceset import FaceSet, Pairs, open_faceset, read_pairs
from facefocus.models.backends import accelerate
from facefocus.models.recognizer import Recognizer
from facefocus.models.score_only import ScoreRecognizer
from facefocus.models.zoo import load

#: With fewer mated pairs than this, the figures come with a warning.
FEW_MATED = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verified:
    """A verification report and what it was made from.

    Attributes:
        listed: Whether the pairs are the face set's own list, or a seeded sample.
        missing: Pairs of the list that could not be used: an image of theirs is not in the set.
    """

    recognizer: str
    faces: str
    listed: bool
    missing: int
    report: VerificationReport


@any_path
def verify_recognizer(
    faces: Path | FaceSet,
    model: str | Recognizer,
    *,
    rule: str = "eer",
    seed: int = 0,
    backend: str = "auto",
    store: StoreAddress | None = None,
    preprocessing: Mapping[str, object] | None = None,
    progress: Progress = silent,
) -> Verified:
    """Embed the images of the verification list and score its pairs.

    Args:
        faces: A face set, or the folder of a prepared one.
        model: A recognizer, or its name.
        rule: Where the threshold comes from, see `parse_rule`.
        seed: Of the pairs that are drawn where a face set has no list.
        backend: What runs the passes.
        store: Where embeddings are looked for and kept; the shared store by default.
        preprocessing: How a recognizer from a file reads frames; see `zoo.load`.
        progress: Called as ``("embed", images done, images)``.

    Raises:
        UserError: A face set or the recognizer cannot be loaded, the rule is unknown, or there are
            too few pairs for it.
    """
    faces = faces if isinstance(faces, FaceSet) else open_faceset(faces)
    wanted = parse_rule(rule)
    listed = None if faces.folder is None else read_pairs(faces.folder)
    pairs = verification_pairs(faces, listed, seed)
    other = calibration_faces(wanted, Path("faces"), progress)
    setting, deciding = faces, pairs
    other_list = None
    if other is not None:
        setting, other_list = open_faceset(other), read_pairs(other)
        deciding = verification_pairs(setting, other_list, seed)
    if not len(pairs.mated):
        raise UserError(
            f"'{faces.title}' has no pair to verify. Prepare it again, with two images or more."
        )
    mated = int(deciding.mated.sum())
    check_rule(wanted, mated, len(deciding.mated) - mated, setting.title)
    # After all that may be wrong with the rule: to load a recognizer takes time.
    recognizer = load(model, preprocessing) if isinstance(model, str) else model
    name = model if isinstance(model, str) else model.name
    recognizer = accelerate(recognizer, backend)
    kept = Store(store or store_dir())
    scores, level = list_scores(recognizer, faces, listed, pairs, kept, progress), None
    if wanted.kind == "given":
        level = wanted.value
    elif other is not None:
        deciding_scores = list_scores(recognizer, setting, other_list, deciding, kept, progress)
        level = threshold(deciding_scores[deciding.mated], deciding_scores[~deciding.mated], wanted)
    report = verify(scores, pairs.mated, pairs.fold, rule=wanted.shown, level=level)
    for warning in _warnings(name, report):
        log.warning(warning)
    return Verified(name, faces.title, listed is not None, pairs.missing, report)


def list_scores(
    recognizer: Recognizer,
    faces: FaceSet,
    listed: Pairs | None,
    pairs: Pairs,
    store: Store,
    progress: Progress,
) -> Float[np.ndarray, " p"]:
    """Cosine of each pair; of a recognizer that gives scores only, its score.

    Args:
        recognizer: Any.
        faces: The face set.
        listed: Its own list, by which embeddings are kept.
        pairs: The pairs: the list, or a sample.
        store: Where embeddings or scores are kept.
        progress: Called as `verify_recognizer` says.

    Raises:
        UserError: As the recognizer.
    """
    if isinstance(recognizer, ScoreRecognizer):
        recognizer.store = store
        rows = np.stack([pairs.first, pairs.second], axis=1)
        return recognizer.row_scores(faces.frames, rows, progress)
    rows = np.unique(np.concatenate([pairs.first, pairs.second]))
    embeddings = stored_embeddings(recognizer, faces, listed, rows, store, progress)
    first, second = (np.searchsorted(rows, side) for side in (pairs.first, pairs.second))
    return pair_scores(embeddings, first, second)


def _warnings(model: str, report: VerificationReport) -> Iterator[str]:
    if report.eer is not None and not tells_apart(report.eer):
        yield guessing_warning(model, report.eer)
    if 0 < report.mated < FEW_MATED:
        # Nobody of n missed: the exact one-sided 95 % bound of the rate (Clopper-Pearson).
        bound = 1 - 0.05 ** (1 / report.mated)
        yield (
            f"Only {report.mated} mated pairs: under {FEW_MATED}, every rate is rough. If none of"
            f" them is missed, up to {percent(bound, 0)} may be."
        )
