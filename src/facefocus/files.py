"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from facefocus.errors import UserError

#: Seconds that a temporary file is left alone: what a live process writes is younger, and one of
#: another machine, whose processes cannot be asked, is younger than a day.
STILL, OLD = 60, 86_400
_TEMPORARY = re.compile(r"\..*\.(\d+)\.[0-9a-f]{8}\.tmp", re.DOTALL)


@contextmanager
def atomic_file(path: Path, *, flush: bool = True) -> Iterator[BinaryIO]:
    """A file that appears under `path` complete, or not at all.

    Args:
        path: Where it is to be.
        flush: Whether it is on the disk before it appears; else a power cut can damage it.

    Raises:
        OSError: The folder is not there, cannot be written, or is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if flush:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, flush: bool = True
) -> None:
    """Write a file whole or not at all, in a folder that is made if need be.

    Args:
        path: Where it is to be.
        write: Called with the open binary file.
        flush: As for `atomic_file`.

    Raises:
        UserError: The folder cannot be written or the disk is full; what was there stays.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, flush=flush) as file:
            write(file)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into one sentence.

    Raises:
        UserError: The folder cannot be written or the disk is full.
    """
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        message = f"Cannot write '{path}': {reason}. Nothing written before is lost."
        raise UserError(message) from error


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers left in a folder and below it."""
    for path in folder.rglob(".*.tmp"):
        found = _TEMPORARY.fullmatch(path.name)
        try:
            age = time.time() - path.stat().st_mtime
            if found and (age > OLD or (age > STILL and not _lives(int(found[1])))):
                path.unlink()
        except OSError:  # gone, or another user's
            continue


def _lives(process: int) -> bool:
    """Whether a process of this machine runs; True where that cannot be asked."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def printable(name: str) -> str:
    r"""A name that can be stored and shown as text, whatever bytes the disk has for it.

    Bytes that are not UTF-8 are written as ``\xNN``; all other names stay as they are.
    """
    try:
        data = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # Half a character, as Windows allows.
        data = name.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")
