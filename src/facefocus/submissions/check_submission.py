"""``facefocus check``: whether results that were handed in are true (Protocol: submissions)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from facefocus.core.errors import UserError
from facefocus.core.files import any_path
from facefocus.core.locations import StoreAddress, resolved_store
from facefocus.core.progress import Progress, silent
from facefocus.faces.faceset import open_faceset
from facefocus.submissions.score_again import Checker
from facefocus.submissions.submission import read_submission
from facefocus.submissions.submission_figures import Finding, consistent, whole

#: What nobody can find without the photos.
WITHOUT_FACES = Finding(
    "not checked",
    "Without the face set (--faces) nothing is scored again. Who writes figures, masks and hashes"
    " anew, all together, is not found then.",
)

#: What nobody can find with them, either.
WITH_FACES = Finding(
    "not checked",
    "Of the people without masks in the file (nine of ten) figures are only checked against each"
    " other, as are all of the oracle and under nuisances.",
)


@any_path
def check_submission(
    path: Path,
    faces: Path | None = None,
    methods: Sequence[str] = (),
    *,
    store: StoreAddress | None = None,
    backend: str = "auto",
    progress: Progress = silent,
) -> list[Finding]:
    """Check a file of results; with the face set, score its masks again.

    Args:
        path: The file.
        faces: The face set that it is of.
        methods: Names of methods, or ``file.py:NAME``, whose maps are made again.
        store: Where what is computed is kept, so that a check that was stopped goes on; nothing of
            the store of runs is used, which may hold the very results that are checked.
        backend: What runs passes without gradients; "auto": what ran the submission's, where it
            runs here.
        progress: Called with what is done, and done and total.

    Raises:
        UserError: It is no submission, is not whole, or cannot be checked as asked.
    """
    if methods and faces is None:
        raise UserError("The '--method' needs the face set that the results are of: --faces.")
    submission = read_submission(path)
    findings = list(whole(submission))
    for part in submission.parts:
        findings += consistent(submission, part)
    if faces is None:
        return [*findings, WITHOUT_FACES]
    kept = tempfile.TemporaryDirectory() if store is None else nullcontext(resolved_store(store))
    with kept as address:
        opened = open_faceset(faces)
        for part in submission.parts:
            checker = Checker(submission, part, opened, address, backend, progress)
            findings += checker.findings(methods)
    return [*findings, WITH_FACES]
