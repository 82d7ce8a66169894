"""The page of runs: an explorer in one folder that opens from disk, without network."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from facefocus.analysis.results import read_results, run_notes
from facefocus.analysis.summary import warnings
from facefocus.benchmark.result_columns import CONFIGURATION
from facefocus.benchmark.run_log import RunLog
from facefocus.core.errors import UserError, did_you_mean, one_line
from facefocus.core.files import any_path, replace_folder, resolved, writing
from facefocus.core.locations import located, recorded_faces, run_folders
from facefocus.faces.faceset import FaceSet, open_faceset
from facefocus.report.answer import artefact_note
from facefocus.report.document import Block, Chart, Heading, Live, Section
from facefocus.report.html_renderer import html_explorer
from facefocus.report.people_groups import groups_from_file, of_group
from facefocus.report.report_data import Report
from facefocus.report.section_registry import ordered_sections


@any_path
def write_report(
    run: Path,
    *,
    with_faces: bool = False,
    faces_dir: Path | None = None,
    persons: Sequence[str] = (),
    groups: Path | None = None,
) -> Path:
    """Write ``RUN/report/index.html`` and its data, replacing a report that is there.

    Args:
        run: The run's folder.
        with_faces: Show face pixels beside maps. Without it no output holds any.
        faces_dir: Where the face set lies, if not where the run found it.
        persons: People who are on the page with all their maps, besides a seeded choice.
        groups: A CSV file of groups of people: see `facefocus.evaluation.strata.read_group_file`.

    Returns:
        The path of the page.

    Raises:
        UserError: There are no results, a file cannot be read, or, with faces or with groups of
            images, the face set is not the one the run used.
    """
    with RunLog(run_folders(run)[0]).timed("page"):
        return write_reports(
            [run],
            run / "report",
            with_faces=with_faces,
            faces_dir=faces_dir,
            persons=persons,
            groups=groups,
        )


def write_reports(
    runs: Sequence[Path],
    out: Path,
    *,
    with_faces: bool = False,
    faces_dir: Path | None = None,
    persons: Sequence[str] = (),
    groups: Path | None = None,
    stratum: str | None = None,
    more: Callable[[Path], Sequence[Section | None]] = lambda folder: (),
    title: str = "",
    notes: Sequence[str] = (),
) -> Path:
    """Write one page of several runs.

    Args:
        runs: Their folders.
        out: The page's folder; a page that is there is replaced.
        with_faces: As for `write_report`.
        faces_dir: As for `write_report`.
        persons: As for `write_report`.
        groups: As for `write_report`.
        stratum: Of the people of this group alone; see the page's groups of people.
        more: Makes sections of all runs together, and their pictures in the folder it is given.
        title: Of the page; by default the experiments' names.
        notes: Sentences that stand above all.

    Returns:
        The path of the page.

    Raises:
        UserError: As `write_report`; or `out` is a folder of something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / "index.html").is_file():
        raise UserError(f"The page's folder must be new, empty or a page. Got '{out}'.")
    read = {name: (run, read_results(run)) for name, run in _names(runs).items()}
    asked = _asked(read, persons, groups, faces_dir)
    unfinished = [text for run in runs for text in run_notes(run)]

    def render(folder: Path) -> str:
        reports = []
        for name, (run, results) in read.items():
            faces = _face_sets(run, faces_dir) if with_faces else {}
            record, toml = provenance_of(run), _experiment(run)
            reports.append(Report(run, results, record, toml, folder, faces, called=name, **asked))
        first = [*notes, *unfinished]
        if stratum is not None:
            reports, first = [of_group(report, stratum) for report in reports], [
                f"Only people of the group '{stratum}' are shown.", *first,
            ]  # fmt: skip
        return explorer(reports, folder, more=more(folder), title=title, notes=first)

    return _write_page(out, render)


def results_of_group(
    runs: Sequence[Path], stratum: str, groups: Path | None = None
) -> pl.DataFrame:
    """The result rows of runs, of the people of one group alone.

    Args:
        runs: Their folders.
        stratum: The group, as the page names it.
        groups: As for `write_report`.

    Raises:
        UserError: There is no such group, or as `write_report`.
    """
    read = {name: (run, read_results(run)) for name, run in _names(runs).items()}
    asked = _asked(read, (), groups, None)
    rows = pl.concat(
        [
            of_group(Report(run, results, {}, "", run, called=name, **asked), stratum).results
            for name, (run, results) in read.items()
        ],
        how="diagonal",
    )
    return rows.unique((*CONFIGURATION, "identity"), keep="first", maintain_order=True)


def _asked(
    read: Mapping[str, tuple[Path, pl.DataFrame]],
    persons: Sequence[str],
    groups: Path | None,
    faces_dir: Path | None,
) -> dict[str, Any]:
    """What `Report` takes of the people that a user names, and of a file of groups."""
    people = {name for _, results in read.values() for name in results["identity"].unique()}
    for name in set(persons) - people:
        raise UserError(
            f"'--person' must be one of the run. Got '{name}'.{did_you_mean(name, people)}"
        )

    def face_sets() -> Iterator[FaceSet]:
        for run, _ in read.values():
            yield from _face_sets(run, faces_dir).values()

    grouped = None if groups is None else groups_from_file(groups, people, face_sets)
    return {"persons": persons, "groups": grouped}


def _names(runs: Sequence[Path]) -> dict[str, Path]:
    """Each run under its folder's name; where two are equal, with as much as tells them apart."""
    paths = [resolved(run).parts for run in runs]
    if len(set(paths)) < len(paths):
        raise UserError("Every run must be named once. Got one of them twice.")
    names = {}
    for parts, run in zip(paths, runs, strict=True):
        depth = next(n for n in count(1) if [p[-n:] for p in paths].count(parts[-n:]) == 1)
        names["/".join(parts[-depth:])] = run
    return names


def _write_page(out: Path, render: Callable[[Path], str]) -> Path:
    """Put a page and its files in `out`, whole or not at all."""
    folder = out.with_name(f".{out.name}-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with writing(out):
            folder.mkdir(parents=True)
            (folder / "index.html").write_text(render(folder), encoding="utf-8")
            replace_folder(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out / "index.html"


def _read_provenance(run: Path) -> dict[str, Any]:
    path = run / "provenance.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error


def provenance_of(run: Path) -> dict[str, Any]:
    """The provenance of a run; of all its variants, each under its name, and what all share."""
    records = {folder: _read_provenance(folder) for folder in run_folders(run)}
    if run in records:
        return records[run]
    last = list(records.values())[-1]
    shared = {name: last[name] for name in ("facefocus", "finished") if name in last}
    return shared | {folder.name: record for folder, record in records.items()}


def _experiment(run: Path) -> str:
    toml = run_folders(run)[0] / "experiment.toml"
    return toml.read_text(encoding="utf-8") if toml.is_file() else ""


def _face_sets(run: Path, faces_dir: Path | None) -> dict[Path, FaceSet]:
    """The face set of each run folder."""
    return {folder: _open_faces(folder, faces_dir) for folder in run_folders(run)}


def _open_faces(run: Path, faces_dir: Path | None) -> FaceSet:
    used = _read_provenance(run).get("faces")
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


# --- the explorer ---------------------------------------------------------------------------------


def explorer(
    reports: Sequence[Report],
    folder: Path,
    *,
    more: Sequence[Section | None] = (),
    title: str = "",
    notes: Sequence[str] = (),
) -> str:
    """The text of the page; its data go to `folder`.

    Args:
        reports: Of each run.
        folder: Where the page is being built.
        more: Further sections, after those of the registry.
        title: Of the page.
        notes: Sentences that stand above all.
    """
    from facefocus.report.explorer_files import write_files

    full = [report for report in reports if not report.summary.is_empty()]
    registered = ordered_sections() if full else []
    made = [_joined([entry.function(report) for report in full], full) for entry in registered]
    sections = [section for section in (*made, *more) if section is not None]
    findings = [f"{_of(report, full)}{text}" for entry in registered for report in full
                for text in entry.answers(report)]  # fmt: skip
    blocks = [block for section in sections for block in section.blocks]
    first = write_files(full, folder, _charts(blocks)) if full else {}
    shown = reports[0]
    return html_explorer(
        title or ", ".join(dict.fromkeys(report.title for report in reports)),
        sections,
        notes=[*notes, *_artefact_notes(full)],
        findings=findings,
        warnings=[
            f"{_of(report, full)}{text}" for report in full for text in warnings(report.summary)
        ],
        with_faces=any(report.faces and not report.drawn for report in reports),
        version=shown.provenance.get("facefocus", ""),
        finished=shown.provenance.get("finished", ""),
        **first,
    )


def _of(report: Report, reports: Sequence[Report]) -> str:
    return f"{report.name}: " if len(reports) > 1 else ""


def _artefact_notes(reports: Sequence[Report]) -> list[str]:
    rows = (
        pl.concat([report.summary.select("fill", "reading") for report in reports])
        if reports
        else None
    )
    return [] if rows is None else artefact_note(rows)


def _joined(made: Sequence[Section | None], reports: Sequence[Report]) -> Section | None:
    """One section of all runs: what follows the selectors or is alike once, else under names."""
    present = [
        (section, report)
        for section, report in zip(made, reports, strict=True)
        if section is not None
    ]
    if len(present) < 2:
        return present[0][0] if present else None
    live: dict[str, Block] = {}
    parts: list[tuple[str, list[Block]]] = []
    for section, report in present:
        own: list[Block] = []
        for block in section.blocks:
            if isinstance(block, Live):
                live[block.part] = block
            elif isinstance(block, Chart):
                live[block.name] = _with_rows(block, live.get(block.name))
            else:
                own.append(block)
        parts.append((report.name, own))
    first, shared = present[0][0], parts[0][1]
    alike = all(own == shared for _, own in parts)
    blocks = shared if alike else [
        block for name, own in parts if own for block in (Heading(name), *own)
    ]  # fmt: skip
    return Section(first.key, first.title, first.lead, [*live.values(), *blocks])


def _with_rows(chart: Chart, before: Block | None) -> Chart:
    """The chart with the rows of the runs before, too."""
    if not isinstance(before, Chart) or before.rows is None or chart.rows is None:
        return chart
    rows = pl.concat([before.rows, chart.rows], how="diagonal_relaxed")
    return Chart(**{**vars(chart), "rows": rows})


def _charts(blocks: Sequence[Block]) -> Iterator[Chart]:
    """All charts, those inside of others too."""
    for block in blocks:
        if isinstance(block, Chart):
            yield block
        yield from _charts(getattr(block, "blocks", ()))
