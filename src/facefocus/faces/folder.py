"""Faces from a folder with one sub-folder of pictures for each person."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from facefocus.errors import UserError
from facefocus.faces.images import UnusableImage, suffixes
from facefocus.faces.prepare import (
    MAX_FILE_BYTES,
    Entry,
    Pictures,
    PrepareReport,
    Source,
    prepare,
)
from facefocus.progress import Progress, silent


def prepare_folder(
    source: Path,
    out: Path,
    *,
    align: str = "yunet",
    detector: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Make a face set of ``source/Person Name/any picture``; its title is the folder's name.

    Images are called ``Person Name/file.jpg``. Every suffix that Pillow reads counts, in any case;
    other files, hidden ones and deeper folders are left alone, and the report says how many.

    Args:
        source: The folder.
        out: Where the face set goes.
        align: ``"yunet"``, or ``"none"`` for pictures that are aligned crops already.
        detector: YuNet's file, if not in the usual places.
        workers: Threads; None for one for each CPU.
        progress: Called as ``("prepare" | "write", images done, images)``.

    Raises:
        UserError: No folder, no pictures in it, or any reason `prepare` has.
    """
    check_folder(source)
    found, ignored = _listed(source)
    notes = [f"{ignored} files or folders that are no picture of a person were ignored."]
    return prepare(
        files_source(source, found, notes=notes if ignored else []),
        out,
        title=source.resolve().name,
        align=align,
        detector=detector,
        workers=workers,
        progress=progress,
    )


def check_folder(source: Path) -> None:
    """Refuse a source that is no folder.

    Raises:
        UserError: It does not exist or is a file.
    """
    if not source.is_dir():
        got = "a file" if source.exists() else "nothing there"
        raise UserError(f"The 'source' must be a folder. Got '{source}': {got}.")


def files_source(root: Path, entries: Sequence[Entry], *, notes: Sequence[str] = ()) -> Source:
    """The source of the given files below `root`, known by their paths and contents."""

    def load() -> Pictures:
        if not entries:
            raise UserError(
                f"The 'source' must hold one folder of pictures for each person. "
                f"Got '{root}', which holds none."
            )
        return Pictures(entries, stream=stream, notes=notes)

    def stream(start: int) -> Iterator[Callable[[], bytes]]:
        for entry in entries[start:]:
            yield partial(_read, root, entry)

    return Source(name=str(root), fingerprint=_fingerprint(root, entries), load=load)


def _listed(source: Path) -> tuple[list[Entry], int]:
    found: list[Entry] = []
    ignored = 0
    for person in visible(source):
        if not person.is_dir():
            ignored += 1
            continue
        for path in visible(person):
            if path.is_file() and path.suffix.lower() in suffixes():
                identity, file = printable(person.name), printable(path.name)
                found.append(Entry(identity, f"{identity}/{file}", f"{person.name}/{path.name}"))
            else:
                ignored += 1
    return found, ignored


def visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files such as macOS's ``._a.jpg``.

    Raises:
        UserError: The folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"The folder '{folder}' cannot be read: {error.strerror}.") from error


def printable(name: str) -> str:
    """A file name that can be stored as text, also where the disk's bytes are no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _read(root: Path, entry: Entry) -> bytes:
    path = root / entry.path
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UnusableImage(entry.name, f"larger than {MAX_FILE_BYTES // 2**20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise UnusableImage(entry.name, f"cannot be opened: {error.strerror}") from error


def _fingerprint(root: Path, entries: Sequence[Entry]) -> str:
    # Contents, not dates: a copied folder is the same source. Reading is cheap beside decoding.
    digest = hashlib.sha256()
    for entry in entries:
        try:
            with (root / entry.path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            content = str(error.strerror)
        digest.update(f"{printable(entry.path)}\0{content}\n".encode())
    return digest.hexdigest()
