"""How good a recognizer is on a face set: the figures its threshold comes from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facefocus.errors import UserError
from facefocus.evaluation.verification import (
    VerificationReport,
    guessing_warning,
    pair_scores,
    sample_pairs,
    tells_apart,
    verify,
)
from facefocus.faces.faceset import open_faceset, read_pairs
from facefocus.models.backends import accelerate
from facefocus.models.zoo import load
from facefocus.plan import SAMPLED_PAIRS
from facefocus.progress import Progress, silent
from facefocus.session import FRAMES_PER_STEP

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


def verify_recognizer(
    folder: Path,
    model: str,
    *,
    rule: str = "eer",
    seed: int = 0,
    backend: str = "auto",
    progress: Progress = silent,
) -> Verified:
    """Embed the images of the verification list and score its pairs.

    Raises:
        UserError: The face set or the recognizer cannot be loaded, or the rule is unknown.
    """
    faces, pairs = open_faceset(folder), read_pairs(folder)
    recognizer = accelerate(load(model), backend)
    listed = pairs is not None
    if pairs is None:
        pairs = sample_pairs(faces.identities, count=SAMPLED_PAIRS, seed=seed)
    rows = np.unique(np.concatenate([pairs.first, pairs.second]))
    if not len(rows):
        raise UserError(f"The face set '{folder}' has no pairs to verify.")
    parts = []
    for start in range(0, len(rows), FRAMES_PER_STEP):
        part = rows[start : start + FRAMES_PER_STEP]
        parts.append(recognizer.embed(np.asarray(faces.frames[part])))
        progress("embed", min(start + len(part), len(rows)), len(rows))
    first, second = (np.searchsorted(rows, side) for side in (pairs.first, pairs.second))
    scores = pair_scores(np.concatenate(parts), first, second)
    report = verify(scores, pairs.mated, pairs.fold, rule=rule)
    if not tells_apart(report.eer):
        log.warning(guessing_warning(model, report.eer))
    return Verified(model, faces.title, listed, pairs.missing, report)


def report_lines(verified: Verified) -> Iterator[str]:
    """One plain line a figure, accuracy first."""
    report = verified.report
    if report.folds is not None:
        yield f"accuracy {report.folds.mean:.4f} +- {report.folds.standard_error:.4f}"
        yield f"accuracy_threshold {np.mean(report.folds.thresholds):.4f}"
    yield f"eer {report.eer:.4f}"
    yield f"threshold {report.threshold:.4f} ({report.rule})"
    for name, value in (("1e-2", report.tmr_at_fmr_1e2), ("1e-3", report.tmr_at_fmr_1e3)):
        shown = "too few non-mated pairs" if value is None else f"{value:.4f}"
        yield f"tmr_at_fmr={name} {shown}"
    source = "listed" if verified.listed else "sampled"
    yield (
        f"pairs {report.mated + report.non_mated} ({report.mated} mated,"
        f" {report.non_mated} non-mated, {source}; {verified.missing} missing)"
    )
