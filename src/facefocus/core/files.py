"""Writing files so that they are complete or absent, and reading a user's files."""

from __future__ import annotations

import errno
import functools
import inspect
import os
import re
import secrets
import shutil
import stat
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

from facefocus.core.errors import UserError, one_line

P = ParamSpec("P")
R = TypeVar("R")

#: Tables and lists in each other that any file here may have.
DEPTH = 16


def any_path(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: arguments annotated as a path may be text, too, as in a notebook.

    Those that are annotated as text or a path stay as they are: a store may be a URL.
    """
    signature = inspect.signature(function)
    named = [
        name
        for name, parameter in signature.parameters.items()
        if "Path" in (kind := str(parameter.annotation)) and not re.search(r"\bstr\b|\[", kind)
    ]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        for name in named:
            if isinstance(given.arguments.get(name), str | os.PathLike):
                given.arguments[name] = Path(given.arguments[name])
        return function(*given.args, **given.kwargs)

    return call


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """A user's TOML file; `what` it is, for the message.

    Raises:
        UserError: It cannot be read, or is no TOML.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        if _nested(data, DEPTH):
            raise RecursionError
        return data
    except OSError as error:
        raise UserError(f"Cannot read the {what} '{path}': {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not a TOML file: {one_line(error)}.") from None
    except RecursionError:
        raise UserError(f"'{path}' is nested too deeply to be read.") from None


def _nested(value: object, most: int) -> bool:
    """Whether there are more than `most` tables and lists in each other."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most < 0 or any(_nested(item, most - 1) for item in inside)


def resolved(path: Path) -> Path:
    """The absolute path, links followed.

    Raises:
        UserError: They lead nowhere: a loop.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError before Python 3.13
        raise UserError(f"Cannot follow the links of '{path}': they are a loop.") from None


def check_folder(path: Path, option: str) -> Path:
    """`path`, where a folder exists or can be made.

    Raises:
        UserError: It is a file, lies in one, or cannot be looked at: a loop of links, for one.
    """
    for ancestor in (path, *path.parents):
        try:
            mode = ancestor.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            reason = "a loop of links" if error.errno == errno.ELOOP else str(error.strerror)
            raise UserError(f"The '{option}' must be a folder. Got '{path}': {reason}.") from None
        if not stat.S_ISDIR(mode):
            where = "a file" if ancestor == path else f"'{ancestor}' is a file"
            raise UserError(f"The '{option}' must be a folder. Got '{path}': {where}.")
        break
    return path


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
    """Write a file completely or not at all; its folder is made if need be.

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


def replace_folder(folder: Path, out: Path) -> None:
    """Put `folder` in the place of `out`; what was there goes whole.

    Where that fails, what was there is put back.
    """
    old = folder.with_name(folder.name + "-old")
    if out.exists():
        out.rename(old)
    try:
        folder.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers left in a folder."""
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        try:
            age = time.time() - path.stat().st_mtime
            if match and (age > OLD or (age > STILL and not lives(int(match[1])))):
                path.unlink()
        except OSError:  # gone, or another user's
            continue


def lives(process: int) -> bool:
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
    r"""A name as text that can be stored and shown, whatever its bytes on the disk.

    Bytes that are not UTF-8 are written as ``\xNN``; all other names stay as they are.
    """
    try:
        data = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # Half a character, as Windows allows.
        data = name.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")
