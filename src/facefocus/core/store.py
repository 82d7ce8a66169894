"""Content-addressed artefacts: nothing is computed twice.

An artefact is a set of named arrays under a key: the sha256 of everything that determines it.
Resuming, sharing a folder between machines and tabulating anew are the same look-up. A file is
written under a temporary name and renamed, and ends in a checksum: whatever happens to it on the
disk is noticed, and it is made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facefocus.core.errors import UserError
from facefocus.core.files import sweep, write_atomically

Arrays = dict[str, np.ndarray]


def content_key(kind: str, /, **parts: Any) -> str:
    """sha256 (hex) of the canonical JSON of `parts`, which must be plain data."""
    text = json.dumps({"kind": kind, **parts}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Missing(KeyError):
    """No artefact is stored under `key`, or it was removed."""

    @property
    def key(self) -> str:
        """Which."""
        return str(self.args[0])


#: Keys from which on it is quicker to list the store than to ask for each.
MANY = 20_000


class Store:
    """Artefacts in a folder, two levels deep: ``ab/abcdef....npz``, arrays and a checksum."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the artefact of `key` is, or would be."""
        return self.root / key[:2] / f"{key}.npz"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def held(self, keys: Collection[str]) -> set[str]:
        """Which of some keys there are: by the lists of its folders where there are many."""
        if len(keys) < MANY:
            return {key for key in keys if key in self}
        return {path.stem for path in self._artefacts()} & set(keys)

    def save(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep `arrays` under `key`.

        Raises:
            UserError: The folder cannot be written or the disk is full.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        data = buffer.getvalue()
        whole = data + _checksum(key, data)
        # Not flushed, which takes longer than all else: the checksum shows what a power cut lost.
        write_atomically(self.path(key), lambda file: file.write(whole), flush=False)

    def load(self, key: str) -> Arrays:
        """The arrays of `key`.

        Raises:
            Missing: There is none, or the file cannot be read or was damaged: it is removed then,
                so that it is made anew.
            UserError: A damaged file cannot be removed.
        """
        path = self.path(key)
        try:
            whole = path.read_bytes()
        except FileNotFoundError:
            raise Missing(key) from None
        except OSError:
            whole = b""
        data = whole[:-_SIZE]
        if whole[-_SIZE:] != _checksum(key, data):
            _remove(path)
            raise Missing(key)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def size(self) -> tuple[int, int]:
        """Number of artefacts and their bytes."""
        sizes = [path.stat().st_size for path in self._artefacts()]
        return len(sizes), sum(sizes)

    def clear(self) -> tuple[int, int]:
        """Remove all artefacts, and nothing else; their number and bytes.

        Raises:
            UserError: One cannot be removed.
        """
        size = self.size()
        for path in self._artefacts():
            _remove(path)
        for folder in self._folders():
            if not any(folder.iterdir()):
                folder.rmdir()
        return size

    def sweep(self) -> None:
        """Remove what killed writers left behind."""
        for folder in self._folders():
            sweep(folder)

    def _folders(self) -> Iterator[Path]:
        """The folders of artefacts; there may be other things beside them."""
        if self.root.is_dir():
            yield from (
                folder for folder in self.root.iterdir() if re.fullmatch("[0-9a-f]{2}", folder.name)
            )

    def _artefacts(self) -> Iterator[Path]:
        for folder in self._folders():
            yield from (file for file in folder.glob("*.npz") if file.stem.startswith(folder.name))


#: Bytes of a checksum, at the end of the file.
_SIZE = 32


def _checksum(key: str, data: bytes) -> bytes:
    return hashlib.sha256(key.encode() + data).digest()


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"The artefact '{path}' cannot be removed: {error.strerror}. Name another store with"
            " --store."
        ) from None
