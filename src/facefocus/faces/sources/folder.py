"""Your own photographs: a folder with one sub-folder of pictures for each person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from facefocus.faces.images import suffixes
from facefocus.faces.prepare import Entry
from facefocus.faces.sources import FaceSource


def _entries(paths: Sequence[str]) -> list[Entry]:
    """The pictures ``Person Name/file.jpg``, of every suffix that Pillow reads."""
    pictures = [path for path in map(PurePosixPath, paths) if path.suffix.lower() in suffixes()]
    return [Entry(path.parts[0], str(path), str(path)) for path in pictures if len(path.parts) == 2]


def _image_name(path: str, number: int | None) -> tuple[str, str] | None:
    """Of a path in a list, the last two parts count: person and file."""
    parts = PurePosixPath(path).parts
    return (parts[-2], "/".join(parts[-2:])) if len(parts) > 1 and number is None else None


FOLDER = FaceSource(
    name="folder",
    help="Your own photographs: one sub-folder per person.",
    entries=_entries,
    image_name=_image_name,
    expected="one folder of pictures for each person",
    title=lambda path: path.resolve().name,
    unused="outside a person's folder",
    align="yunet",
    duplicates="once",
    archives=False,
    depth=2,
)
