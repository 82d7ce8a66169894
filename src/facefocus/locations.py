"""Where files that the package does not ship are looked for: faces, detectors, weights.

Order: ``$FACEFOCUS_DATA``; else a ``shared/data`` folder beside the working directory's project;
then the user's cache. Nothing is created by looking.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from facefocus.errors import UserError


def cache_dir() -> Path:
    """The user's cache folder for downloads; made by whoever writes to it."""
    return Path(platformdirs.user_cache_dir("facefocus", appauthor=False))


def data_dir() -> Path | None:
    """``$FACEFOCUS_DATA``, or ``../shared/data`` where that exists, or None.

    Raises:
        UserError: ``$FACEFOCUS_DATA`` is set but no folder.
    """
    named = os.environ.get("FACEFOCUS_DATA")
    if named:
        if not Path(named).is_dir():
            raise UserError(f"$FACEFOCUS_DATA must be a folder. Got '{named}'.")
        return Path(named)
    beside = Path("..") / "shared" / "data"
    return beside if beside.is_dir() else None


def search_dirs() -> Iterator[Path]:
    """The roots in the order they are searched."""
    data = data_dir()
    if data is not None:
        yield data
    yield cache_dir()


def run_folders(run: Path) -> list[Path]:
    """A run folder itself, or those of the variants that lie in it, by name."""
    inside = sorted(path.parent for path in run.glob("*/run.json"))
    return inside if inside and not (run / "run.json").is_file() else [run]


def find(relative: str, what: str, hint: str) -> Path:
    """The first existing file called `relative` under the search roots.

    Args:
        relative: Path below a root, e.g. ``"models/face_detection_yunet_2023mar.onnx"``.
        what: What the file is, for the message.
        hint: How to get it, for the message; a full sentence.

    Raises:
        UserError: It is under none of the roots; names them and gives the hint.
    """
    roots = list(search_dirs())
    for root in roots:
        if (root / relative).is_file():
            return root / relative
    looked = ", ".join(str(root / relative) for root in roots)
    raise UserError(f"{what} was not found. Looked for {looked}. {hint}")
