"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from facefocus.errors import UserError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under `path` complete and on the disk, or not at all.

    Raises:
        OSError: The folder is not there, cannot be written, or is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all, in a folder that is made if need be.

    Args:
        path: Where it is to be.
        write: Called with the open binary file.

    Raises:
        UserError: The folder cannot be written or the disk is full; what was there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            write(file)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        message = f"Cannot write '{path}': {reason}. Nothing written before is lost."
        raise UserError(message) from error


def printable(name: str) -> str:
    r"""A name that can be stored and shown as text, whatever bytes the disk has for it.

    Bytes that are not UTF-8 are written as ``\xNN``; all other names stay as they are.
    """
    try:
        data = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # Half a character, as Windows allows.
        data = name.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")
