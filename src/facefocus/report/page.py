"""The page of a run: one folder that opens from disk, without network."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from facefocus.analysis.results import read_results, unfinished_note
from facefocus.analysis.summary import (
    warnings,
)
from facefocus.core.errors import UserError, one_line
from facefocus.core.files import any_path, replace_folder, writing
from facefocus.core.locations import located, recorded_faces, run_folders
from facefocus.faces.faceset import FaceSet, open_faceset
from facefocus.report.answer import answer
from facefocus.report.document import Section
from facefocus.report.html_renderer import html_page
from facefocus.report.report_data import Report
from facefocus.report.section_registry import ordered_sections


@any_path
def write_report(run: Path, *, with_faces: bool = False, faces_dir: Path | None = None) -> Path:
    """Write ``RUN/report/index.html`` with its pictures, replacing a report that is there.

    Args:
        run: The run's folder.
        with_faces: Show face pixels in the gallery. Without it no output holds any.
        faces_dir: Where the face set lies, if not where the run found it.

    Returns:
        The path of the page.

    Raises:
        UserError: There are no results, a file cannot be read, or, with faces, the face set is not
            the one the run used.
    """
    results = read_results(run)
    runs = run_folders(run)
    records = {folder: _read_provenance(folder) for folder in runs}
    recorded = records[run] if run in records else _merged(records)
    faces = (
        {folder: _open_faces(folder, records[folder], faces_dir) for folder in runs}
        if with_faces
        else {}
    )
    toml = runs[0] / "experiment.toml"
    text = toml.read_text(encoding="utf-8") if toml.is_file() else ""
    return write_page(
        run, lambda folder: _render(Report(run, results, recorded, text, folder, faces))
    )


def write_page(run: Path, render: Callable[[Path], str]) -> Path:
    """Put a page and its pictures in ``RUN/report``, whole or not at all.

    Args:
        run: The run's folder.
        render: Makes the page's text, and its pictures in the folder it is given.

    Returns:
        The path of the page.

    Raises:
        UserError: The folder cannot be written or the disk is full; a page that is there stays.
    """
    folder = run / f".report-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with writing(run / "report"):
            folder.mkdir()
            (folder / "index.html").write_text(render(folder), encoding="utf-8")
            replace_folder(folder, run / "report")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return run / "report" / "index.html"


def _read_provenance(run: Path) -> dict[str, Any]:
    path = run / "provenance.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error


def _merged(records: Mapping[Path, dict[str, Any]]) -> dict[str, Any]:
    """The provenance of all variants, each under its name, and what is one for all."""
    last = list(records.values())[-1]
    shared = {name: last[name] for name in ("facefocus", "finished") if name in last}
    return shared | {folder.name: record for folder, record in records.items()}


def _open_faces(run: Path, recorded: Mapping[str, Any], faces_dir: Path | None) -> FaceSet:
    used = recorded.get("faces")
    if not isinstance(used, dict) or "hash" not in used:
        raise UserError("Faces need a run that records its face set. Got none in provenance.json.")
    if faces_dir is None and not used.get("path"):
        raise UserError("The run does not record where its faces lie. Name their folder.")
    folder = faces_dir or recorded_faces(run) or located(used["path"], run)
    faces = open_faceset(folder)
    if faces.hash != used["hash"]:
        raise UserError(
            f"The faces must be those of the run, with hash {used['hash']}. "
            f"Got '{folder}' with {faces.hash}."
        )
    return faces


def _render(report: Report) -> str:
    rows = report.summary
    if rows.is_empty():
        return render_page(report, [], answer(report.results, rows, []), [])
    registered = ordered_sections()
    answers = [
        *unfinished_note(report.run),
        *(sentence for entry in registered for sentence in entry.answers(report)),
        *answer(report.results, rows, report.slices),
    ]
    sections = [entry.function(report) for entry in registered]
    return render_page(report, sections, answers, warnings(rows))


def render_page(
    report: Report,
    sections: Sequence[Section | None],
    answers: Sequence[str],
    warned: Sequence[str],
    *,
    title: str | None = None,
) -> str:
    """The text of a page.

    Args:
        report: What it is of.
        sections: In order; those that have nothing to say are None.
        answers: Paragraphs at the top.
        warned: What must be known before any number is read.
        title: Of the page; the report's own by default.
    """
    return html_page(
        title or report.title,
        [section for section in sections if section is not None],
        answer=answers,
        warnings=warned,
        with_faces=bool(report.faces) and not report.drawn,
        version=report.provenance.get("facefocus", ""),
        finished=report.provenance.get("finished", ""),
    )
