"""The page of a run: one folder that opens from disk, without network."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from facefocus.errors import UserError, one_line
from facefocus.faces.faceset import FaceSet, open_faceset
from facefocus.report.answer import answer
from facefocus.report.page import Report
from facefocus.report.sections import SECTIONS
from facefocus.report.summary import (
    warnings,
)
from facefocus.report.tables import read_results


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
    recorded = _read_provenance(run)
    faces = _open_faces(recorded, faces_dir) if with_faces else None
    toml = run / "experiment.toml"
    folder = run / f".report-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        text = toml.read_text(encoding="utf-8") if toml.is_file() else ""
        page = _render(Report(run, results, recorded, text, folder, faces))
        (folder / "index.html").write_text(page, encoding="utf-8")
        _replace(folder, run / "report")
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


def _open_faces(recorded: Mapping[str, Any], faces_dir: Path | None) -> FaceSet:
    used = recorded.get("faces")
    if not isinstance(used, dict) or "hash" not in used:
        raise UserError("Faces need a run that records its face set. Got none in provenance.json.")
    if faces_dir is None and not used.get("path"):
        raise UserError("The run does not record where its faces lie. Name their folder.")
    folder = faces_dir if faces_dir is not None else Path(used["path"])
    faces = open_faceset(folder)
    if faces.hash != used["hash"]:
        raise UserError(
            f"The faces must be those of the run, with hash {used['hash']}. "
            f"Got '{folder}' with {faces.hash}."
        )
    return faces


def _render(report: Report) -> str:
    sections = [] if report.summary.is_empty() else [build(report) for build in SECTIONS]
    rows = report.summary
    shown = None if rows.is_empty() else report.shown
    environment = Environment(
        loader=PackageLoader("facefocus.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tie"] = _tie
    return environment.get_template("report.html.j2").render(
        title=report.title,
        answer=answer(rows, shown),
        warnings=warnings(rows),
        sections=[section for section in sections if section is not None],
        with_faces=report.faces is not None,
        version=report.provenance.get("facefocus", ""),
        finished=report.provenance.get("finished", ""),
    )


def _tie(text: str) -> str:
    """The text with its percent signs kept on the line of their numbers."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _replace(folder: Path, report: Path) -> None:
    """Put `folder` in the place of `report`; what was there goes whole, older face pictures too."""
    old = folder.with_name(folder.name + "-old")
    if report.exists():
        report.rename(old)
    folder.rename(report)
    shutil.rmtree(old, ignore_errors=True)
