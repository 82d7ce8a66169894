"""Labeled Faces in the Wild, as published: an archive or a folder, and its lists.

The official archives hold ``lfw*/Name/Name_0001.jpg``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from facefocus.core.errors import UserError
from facefocus.faces.downloads import find_lfw
from facefocus.faces.images import suffixes
from facefocus.faces.prepare import Entry
from facefocus.faces.sources import FaceSource

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

_IMAGE = re.compile(r"(?P<identity>.+)_(?P<number>\d{4,})(?:_(?P<face>\d+))?")


def _named(stem: str) -> tuple[str, str, int] | None:
    """Person, name and face of a picture by its file's name without suffix: ``Name_0001_0``."""
    match = _IMAGE.fullmatch(stem.replace(" ", "_"))
    if match is None:
        return None
    person = match["identity"]
    return person, f"{person}_{match['number']}", int(match["face"] or 0)


def _entries(paths: Sequence[str]) -> list[Entry]:
    """The pictures in folders of their people; of several faces cut from one photo the first."""
    faces: list[tuple[int, Entry]] = []
    for path in map(PurePosixPath, paths):
        named = _named(path.stem) if path.suffix.lower() in suffixes() else None
        if named and named[0] == path.parent.name.replace(" ", "_"):
            person, name, face = named
            faces.append((face, Entry(person, name, str(path))))
    first: dict[str, int] = {}
    for face, entry in faces:
        first[entry.name] = min(face, first.get(entry.name, face))
    return [entry for face, entry in faces if face == first[entry.name]]


def _image_name(path: str, number: int | None) -> tuple[str, str] | None:
    """Who an image of a list shows and what it is called, see `lists.Naming`."""
    if number is not None:
        person = path.replace(" ", "_")
        return person, f"{person}_{number:04d}"
    named = _named(PurePosixPath(path).stem)
    return named and named[:2]


def errata_names() -> tuple[str, ...]:
    """The images that the official ``errata.txt`` calls incorrect; no file is needed.

    Source: http://vis-www.cs.umass.edu/lfw/ (errata.txt, "The current known errors"). Its list of
    wrong mated pairs also names six pairs without saying which of the two images is wrong; those
    images are not among these.
    """
    return _ERRATA


def _locate() -> Path:
    """What ``fetch lfw`` got, or scikit-learn's copy."""
    path = find_lfw()
    if path is None:
        raise UserError(
            "LFW is not here. Get it by: facefocus fetch lfw - or name its archive or folder by "
            "--source."
        )
    return path


LFW = FaceSource(
    name="lfw",
    help="Labeled Faces in the Wild: original, funneled or deep-funneled, archive or folder.",
    entries=_entries,
    image_name=_image_name,
    expected="images like lfw/Name/Name_0001.jpg",
    unused="not of the form Name/Name_0001.jpg, or a further face of one photo",
    # The official one, Kaggle's, and that of the sets of aligned crops.
    lists=("pairs.txt", "pairs.csv", "lfw_ann.txt"),
    locate=_locate,
)
