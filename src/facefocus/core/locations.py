"""Where the program searches for files that it does not ship: faces, detectors, weights.

Order: ``$FACEFOCUS_DATA``; else a ``shared/data`` folder beside the working directory's project;
then the user's cache. Nothing is created by looking.

And how a path is written into a file that may be shown to others: `private`, `relative`.
"""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from facefocus.core.errors import UserError
from facefocus.core.files import resolved

#: Where a store is: a folder, or a URL as ``s3://bucket/store``.
StoreAddress = str | Path


def cache_dir() -> Path:
    """The user's cache folder for downloads; made by whoever writes to it."""
    return Path(platformdirs.user_cache_dir("facefocus", appauthor=False))


def store_dir() -> StoreAddress:
    """Where artefacts are kept unless it is said: $FACEFOCUS_STORE, or the user's cache."""
    named = os.environ.get("FACEFOCUS_STORE")
    return resolved_store(named) if named else (cache_dir() / "store").resolve()


def is_url(address: StoreAddress) -> bool:
    """Whether an address is no folder."""
    return re.match(r"[a-z][a-z0-9+.-]*://", str(address)) is not None


def resolved_store(address: StoreAddress) -> StoreAddress:
    """An address that is the same from everywhere: the absolute path of a folder, or the URL.

    Raises:
        UserError: The path is a loop of links.
    """
    return str(address).rstrip("/") if is_url(address) else resolved(Path(address))


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


def private(text: str, folder: str | None = None) -> str:
    """`text` with the home folder as ``~`` and the user's name in any other path as ``$USER``.

    What is written to files may be shown to others. `expanded` is the way back.

    Args:
        text: Any text with paths in it.
        folder: Named by its last part wherever it is named by an absolute path.
    """
    if folder is not None and Path(folder).is_absolute():
        text = text.replace(folder, Path(folder).name)
    home = Path.home()
    for own in {home, home.resolve()} - {Path(home.anchor)}:
        text = re.sub(rf"{re.escape(str(own))}(?![\w.-])", "~", text)
    user = _user()
    return re.sub(rf"(?<=[/\\]){re.escape(user)}(?![\w.-])", "$USER", text) if user else text


def expanded(text: str) -> str:
    """The inverse of `private`, for the same user."""
    home = str(Path.home())
    text = re.sub(r"^((?:\w+:)?)~(?=[/\\]|$)", lambda match: match[1] + home, text)
    return text.replace("$USER", _user() or "$USER")


def relative(path: Path, base: Path) -> str:
    """How a file in the folder `base` names `path`: without an absolute path or a user's name.

    Both can be moved together. `located` is the way back.
    """
    target, start, home = resolved(path), resolved(base), resolved(Path.home())
    if target.is_relative_to(home) and not start.is_relative_to(home):
        return private(str(target))
    try:
        return private(os.path.relpath(target, start))
    except ValueError:  # on another drive
        return target.name


def located(text: str, base: Path) -> Path:
    """The inverse of `relative`: the path."""
    return resolved(base / expanded(text))


def recorded_faces(run: Path) -> Path | None:
    """Where the faces of a run lie, as its run.json says; None where that cannot be read."""
    try:
        return located(json.loads((run / "run.json").read_text(encoding="utf-8"))["faces"], run)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return None
