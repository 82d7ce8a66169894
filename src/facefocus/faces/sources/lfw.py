"""Labeled Faces in the Wild, as published: an archive or a folder, and its lists.

The official archives hold ``lfw*/Name/Name_0001.jpg``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Unpack

from facefocus.core.errors import UserError
from facefocus.core.files import any_path
from facefocus.faces.images import suffixes
from facefocus.faces.prepare import Entry, Options, PrepareReport, prepare
from facefocus.faces.sources.folder import find_list, picture_source

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

#: Lists by the names under which they lie beside the pictures: the official one, Kaggle's, and that
#: of the sets of aligned crops.
_LISTS = ("pairs.txt", "pairs.csv", "lfw_ann.txt")
_IMAGE = re.compile(r"(?P<identity>.+)_(?P<number>\d{4,})(?:_(?P<face>\d+))?")
_ERRATUM = re.compile(r"^\s*(?P<name>\S+_\d{4})\s+is\s+incorrect\b", re.MULTILINE)


@any_path
def prepare_lfw(
    source: Path,
    out: Path,
    *,
    pairs: Path | None = None,
    align: str = "auto",
    **options: Unpack[Options],
) -> PrepareReport:
    """Make the face set ``lfw``.

    Args:
        source: ``lfw.tgz``, ``lfw-funneled.tgz``, ``lfw-deepfunneled.tgz``, the same as a zip, or
            an unpacked folder.
        out: Where the face set goes.
        pairs: ``pairs.txt`` or a list of any form that `lists` reads; None looks in the source,
            beside it, then among the data. Where there is none, the set has no verification list
            and the report says so.
        align: ``"yunet"``, ``"none"`` for aligned crops, or ``"auto"``, see `prepare`.
        options: As those of `prepare`.

    Raises:
        UserError: The source or the list cannot be read, or any reason `prepare` has.
    """
    opened = picture_source(
        source,
        _entries,
        expected="images like lfw/Name/Name_0001.jpg",
        otherwise="not of the form Name/Name_0001.jpg, or a further face of one photo",
    )
    listed, name = find_list(pairs, source, _LISTS, "lfw", lfw_name)
    return prepare(
        opened.listed(listed, name),
        out,
        title="lfw",
        align=align,
        pairs=listed,
        **options,
    )


# The pictures -------------------------------------------------------------------------------------


def _named(stem: str) -> tuple[str, str, int] | None:
    """Person, name and face of a picture by its file's name without suffix: ``Name_0001_0``."""
    match = _IMAGE.fullmatch(stem.replace(" ", "_"))
    if match is None:
        return None
    person = match["identity"]
    return person, f"{person}_{match['number']}", int(match["face"] or 0)


def _entries(paths: Sequence[str]) -> list[Entry]:
    """The pictures in folders of their people; of several faces cut from one photo the first."""
    found = []
    for path in map(PurePosixPath, paths):
        named = _named(path.stem) if path.suffix.lower() in suffixes() else None
        if named and named[0] == path.parent.name.replace(" ", "_"):
            person, name, face = named
            found.append((face, Entry(person, name, str(path))))
    first: dict[str, int] = {}
    for face, entry in found:
        first[entry.name] = min(face, first.get(entry.name, face))
    return [entry for face, entry in found if face == first[entry.name]]


def lfw_name(path: str, number: int | None) -> tuple[str, str] | None:
    """Who an image of a list shows and what it is called, see `lists.Naming`."""
    if number is not None:
        person = path.replace(" ", "_")
        return person, f"{person}_{number:04d}"
    named = _named(PurePosixPath(path).stem)
    return named and named[:2]


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
