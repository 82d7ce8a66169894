"""One run of a folder at a time.

The lock is the operating system's: it ends with the process that holds it, whatever that dies of,
also when the folder is shared by several machines.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from facefocus.core.errors import UserError
from facefocus.core.files import write_atomically, writing
from facefocus.core.provenance import now

#: Names in a run folder: the lock, and who holds it.
LOCK, OWNER = ".lock", ".owner.json"


@contextmanager
def locked_run(run: Path) -> Iterator[None]:
    """Context in which nobody else works on the run folder; it is made if need be.

    Raises:
        UserError: Somebody else does, or the folder cannot be written.
    """
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(run / LOCK)
        try:
            # Whoever asks whether somebody works here holds it for a moment.
            lock.acquire(timeout=1)
        except filelock.Timeout:
            raise UserError(
                f"The run '{run}' is being worked on{_owner(run)}. Wait for it, or stop it first."
            ) from None
    try:
        about = {"host": platform.node(), "process": os.getpid(), "since": now()}
        write_atomically(run / OWNER, lambda file: file.write(json.dumps(about).encode()))
        yield
    finally:
        (run / OWNER).unlink(missing_ok=True)
        lock.release()


def worked_on(run: Path) -> bool | None:
    """Whether somebody works on the run folder; None where that cannot be asked."""
    if not (run / LOCK).exists():
        return False
    try:
        with filelock.FileLock(run / LOCK).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return None


def _owner(run: Path) -> str:
    try:
        about = json.loads((run / OWNER).read_text(encoding="utf-8"))
        return f" by process {about['process']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError):
        return ""
