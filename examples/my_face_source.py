"""A face source of your own: one file, one registration.

Pictures called ``NUMBER-person.jpg``, all in one folder or archive. Run:
python examples/my_face_source.py album/ faces/album
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

from facefocus.faces.prepare import Entry
from facefocus.faces.sources import SOURCES, FaceSource, prepare_faces


def entries(paths: Sequence[str]) -> list[Entry]:
    """The pictures among all files, in the same order: who each shows, its name, its path."""
    matches = {path: re.fullmatch(r"\d+-(\w+)\.jpg", PurePosixPath(path).name) for path in paths}
    return [
        Entry(match[1], PurePosixPath(path).stem, path) for path, match in matches.items() if match
    ]


def image_name(path: str, number: int | None) -> tuple[str, str] | None:
    """Who an image of a verification list shows, and its name as in `entries`."""
    name = PurePosixPath(path).stem
    return (name.partition("-")[2], name) if "-" in name else None


ALBUM = FaceSource(
    name="album",
    help="An album: pictures like 0001-ada.jpg in one folder or archive.",
    entries=entries,
    image_name=image_name,
    expected="pictures like 0001-ada.jpg",
    unused="not called like 0001-ada.jpg",
    lists=("album-pairs.txt",),
)
# In a package: [project.entry-points."facefocus.face_sources"] album = "my_face_source:ALBUM"
SOURCES.add("album", ALBUM)

if __name__ == "__main__":
    report = prepare_faces("album", *sys.argv[1:])
    print(f"{report.folder}: {report.images} images of {report.people} people")
