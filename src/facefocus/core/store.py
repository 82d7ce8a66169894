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
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from facefocus.core.errors import UserError
from facefocus.core.files import sweep, write_atomically
from facefocus.core.progress import Progress, silent

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


@dataclass(frozen=True)
class Merged:
    """What became of the artefacts of a store that was merged into another.

    Attributes:
        new: That were taken over.
        same: That were here, byte for byte.
        different: That were here with other bytes, and stayed as they were: made by something that
            no key names.
        damaged: That were left out.
    """

    new: int
    same: int
    different: int
    damaged: int


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
        whole = self._read(key)
        if whole is None:
            _remove(self.path(key))
            raise Missing(key)
        with np.load(io.BytesIO(whole[:-_SIZE]), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def _read(self, key: str) -> bytes | None:
        """The file of `key`, with its checksum; None where it cannot be read or was damaged.

        Raises:
            Missing: There is none.
        """
        try:
            whole = self.path(key).read_bytes()
        except FileNotFoundError:
            raise Missing(key) from None
        except OSError:
            return None
        return whole if whole[-_SIZE:] == _checksum(key, whole[:-_SIZE]) else None

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

    def __iter__(self) -> Iterator[str]:
        """The keys of all artefacts, in no order."""
        return (path.stem for path in self._artefacts())

    def verify(self, progress: Progress = silent) -> list[str]:
        """Read all artefacts; returns the keys of those that were damaged, which are removed.

        Raises:
            UserError: A damaged one cannot be removed.
        """
        keys, damaged = sorted(self), []
        for done, key in enumerate(keys, start=1):
            try:
                self.load(key)
            except Missing:
                damaged.append(key)
            progress("verify", done, len(keys))
        return damaged

    def merge(self, other: Store, progress: Progress = silent) -> Merged:
        """Take over the artefacts of another store; what is here already stays as it is.

        Damaged ones are left out; one of this store is replaced.

        Raises:
            UserError: The folder cannot be written or the disk is full.
        """
        keys, counts = sorted(other), Counter[str]()
        for done, key in enumerate(keys, start=1):
            progress("merge", done, len(keys))
            counts[self._take_over(key, other._read(key))] += 1
        return Merged(*(counts[field.name] for field in fields(Merged)))

    def _take_over(self, key: str, theirs: bytes | None) -> str:
        if theirs is None:
            return "damaged"
        own = self._read(key) if key in self else None
        if own is None:
            write_atomically(self.path(key), lambda file: file.write(theirs), flush=False)
            return "new"
        return "same" if own == theirs else "different"

    def remove(self, keys: Iterable[str]) -> None:
        """Remove some artefacts.

        Raises:
            UserError: One cannot be removed.
        """
        for key in keys:
            _remove(self.path(key))

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
