"""Content-addressed artefacts: what was computed once is never computed again.

An artefact is a set of named arrays under a key: the sha256 of everything that determines it.
Resuming, sharing a folder between machines and tabulating anew are the same look-up. A file is
written under a temporary name, flushed to disk and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facefocus.files import write_atomically

Arrays = dict[str, np.ndarray]


def content_key(kind: str, /, **parts: Any) -> str:
    """sha256 (hex) of the canonical JSON of `parts`, which must be plain data."""
    text = json.dumps({"kind": kind, **parts}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """Artefacts in a folder, two levels deep: ``ab/abcdef....npz``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the artefact of `key` is, or would be."""
        return self.root / key[:2] / f"{key}.npz"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def save(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep `arrays` under `key`.

        Raises:
            UserError: The folder cannot be written or the disk is full.
        """
        write_atomically(self.path(key), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]

    def load(self, key: str) -> Arrays:
        """The arrays of `key`.

        Raises:
            KeyError: There is none, or the file was damaged from outside (it is removed, so that
                the next run makes it anew).
        """
        path = self.path(key)
        try:
            # Opened here, because np.load leaves a file open that turns out to be no archive.
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise KeyError(key) from None
        except (zipfile.BadZipFile, ValueError, EOFError, OSError):
            path.unlink(missing_ok=True)
            raise KeyError(key) from None
