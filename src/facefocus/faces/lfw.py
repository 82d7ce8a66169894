"""Labeled Faces in the Wild, as published: an archive or a folder, and its lists.

The official archives hold ``lfw*/Name/Name_0001.jpg``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from facefocus import locations
from facefocus.errors import UserError, one_line
from facefocus.faces.faceset import PairList
from facefocus.faces.folder import (
    archive_source,
    check_folder,
    files_source,
    visible,
)
from facefocus.faces.prepare import Entry, PrepareReport, Source, prepare
from facefocus.progress import Progress, silent

MISSING = "listed in pairs.txt but not in the source"

#: See `errata_names`.
_ERRATA = (
    "Recep_Tayyip_Erdogan_0004",
    "Anja_Paerson_0001",
    "Janica_Kostelic_0001",
    "Bart_Hendricks_0001",
    "Carlos_Beltran_0001",
    "Emmy_Rossum_0001",
    "Michael_Schumacher_0008",
    "Mahmoud_Abbas_0012",
)

_IMAGE = re.compile(r"(?P<identity>.+)_\d{4,}\.jpe?g", re.IGNORECASE)
_ERRATUM = re.compile(r"^\s*(?P<name>\S+_\d{4})\s+is\s+incorrect\b", re.MULTILINE)


def prepare_lfw(
    source: Path,
    out: Path,
    *,
    pairs: Path | None = None,
    align: str = "yunet",
    crop: str = "arcface112",
    detector: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Make the face set ``lfw``.

    Args:
        source: ``lfw.tgz``, ``lfw-funneled.tgz``, ``lfw-deepfunneled.tgz``, the same as a zip, or
            an unpacked folder.
        out: Where the face set goes.
        pairs: The official ``pairs.txt``; None looks beside the source, then among the data.
            Where there is none, the set has no verification list and the report says so.
        align: ``"yunet"``, or ``"none"`` for an archive of aligned crops.
        crop: ``"arcface112"`` or ``"facenet160"``, see `prepare`.
        detector: YuNet's file, if not in the usual places.
        workers: Threads; None for one for each CPU.
        progress: Called as ``("prepare" | "write", images done, images)``.

    Raises:
        UserError: The source or the list cannot be read, or any reason `prepare` has.
    """
    found = pairs or _pairs_file(source)
    listed = None if found is None else read_pair_list(found)
    notes = [] if found else ["No pairs.txt was found: the face set has no verification list."]
    opened = _source(source)
    return prepare(
        replace(opened, load=lambda: opened.load().completed(listed, MISSING, notes)),
        out,
        title="lfw",
        align=align,
        crop=crop,
        detector=detector,
        pairs=listed,
        workers=workers,
        progress=progress,
    )


# The pictures -------------------------------------------------------------------------------------


def _entry(path: str) -> Entry | None:
    """The image that a path ends with, or None for anything else."""
    parts = PurePosixPath(path).parts
    match = _IMAGE.fullmatch(parts[-1]) if len(parts) >= 2 else None
    if match is None or match["identity"] != parts[-2]:
        return None
    return Entry(parts[-2], PurePosixPath(path).stem, path)


def _entries(paths: Sequence[str]) -> list[Entry]:
    return [entry for path in paths if (entry := _entry(path))]


def _source(source: Path) -> Source:
    if source.is_file():
        return archive_source(source, _entries, expected="images like lfw/Name/Name_0001.jpg")
    check_folder(source)
    folders = [path for path in visible(source) if path.is_dir()]
    # The folder of the people, or the one above it, as unpacking leaves it.
    people = folders + [path for one in folders for path in visible(one) if path.is_dir()]
    paths = [path.relative_to(source).as_posix() for one in people for path in visible(one)]
    return files_source(source, _entries(paths))


# The lists ----------------------------------------------------------------------------------------


def _pairs_file(source: Path) -> Path | None:
    beside = [source.parent / "pairs.txt", source / "pairs.txt"]
    roots = [root / "lfw" / "pairs.txt" for root in locations.search_dirs()]
    return next((path for path in (*beside, *roots) if path.is_file()), None)


def read_pair_list(path: Path) -> PairList:
    """The official ``pairs.txt`` of View 2.

    The first line gives the number of folds and of mated pairs in each; then follow, fold by fold,
    as many mated pairs (``Name 1 4``) and as many non-mated ones (``Name 1 Other 2``).

    Raises:
        UserError: The file cannot be read or breaks that form; names the line.
    """
    try:
        data = path.read_bytes()
        lines = [line.split() for line in data.decode().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The 'pairs' file '{path}' cannot be read: {one_line(error)}.") from error
    while lines and not lines[-1]:
        lines.pop()
    folds, each = _header(path, lines[0] if lines else [])
    if len(lines) != 1 + 2 * folds * each:
        raise UserError(
            f"The 'pairs' file '{path}' must have {2 * folds * each} pairs after its first line. "
            f"Got {len(lines) - 1}."
        )
    parsed = [
        _pair(path, number, fields, mated=(number - 2) % (2 * each) < each)
        for number, fields in enumerate(lines[1:], start=2)
    ]
    return PairList(
        first=tuple(first for first, _ in parsed),
        second=tuple(second for _, second in parsed),
        mated=tuple(i % (2 * each) < each for i in range(len(parsed))),
        fold=tuple(i // (2 * each) for i in range(len(parsed))),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _header(path: Path, fields: list[str]) -> tuple[int, int]:
    if len(fields) != 2 or not all(field.isdecimal() and int(field) > 0 for field in fields):
        raise UserError(
            f"The 'pairs' file '{path}' must begin with the number of folds and of mated pairs in "
            f"each, such as '10 300'. Got '{' '.join(fields)}'."
        )
    return int(fields[0]), int(fields[1])


def _pair(path: Path, number: int, fields: list[str], *, mated: bool) -> tuple[str, str]:
    if len(fields) == (3 if mated else 4):
        first, i, second, j = [*fields[:2], fields[0], fields[2]] if mated else fields
        if i.isdecimal() and j.isdecimal():
            return f"{first}_{int(i):04d}", f"{second}_{int(j):04d}"
    form = "'Name 1 4'" if mated else "'Name 1 Other 2'"
    raise UserError(
        f"Line {number} of the 'pairs' file '{path}' must be of the form {form}. "
        f"Got '{' '.join(fields)}'."
    )


def known_errors(path: Path) -> tuple[str, ...]:
    """The images that the official ``errata.txt`` calls incorrect, in its order.

    Raises:
        UserError: The file cannot be read or names none.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"The errata '{path}' cannot be read: {error.strerror}.") from error
    names = _unique(match["name"] for match in _ERRATUM.finditer(text))
    if not names:
        raise UserError(f"The errata must say 'Name_0001 is incorrect'. Got '{path}', without one.")
    return names


def errata_names() -> tuple[str, ...]:
    """The images that the official ``errata.txt`` calls incorrect; no file is needed.

    Source: http://vis-www.cs.umass.edu/lfw/ (errata.txt, "The current known errors"). Its list of
    wrong mated pairs also names six pairs without saying which of the two images is wrong; those
    images are not among these.
    """
    return _ERRATA


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
