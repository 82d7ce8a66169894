"""Content-addressed artefacts: nothing is computed twice.

An artefact is a set of named arrays under a key: the sha256 of everything that determines it.
Resuming, sharing a store between machines and tabulating anew are the same look-up. What a task
makes is one file, written once (`artefact_files`); the indices of its files tell a store where an
artefact is. Whatever happens to a file is noticed, and what it held is made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from facefocus.core.artefact_files import (
    ENDING,
    Damaged,
    StoreFiles,
    opened,
    pack,
    read_index,
    sealed,
    unpacked,
)
from facefocus.core.artefact_index import ArtefactIndex, Part
from facefocus.core.locations import StoreAddress
from facefocus.core.notices import notice
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


class StoreSize(NamedTuple):
    """How much a store holds."""

    artefacts: int
    files: int
    bytes: int


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


#: A task that takes longer, or makes more, is written in several files: seconds, and bytes.
#: So a process that is killed loses a minute, and a task's results never fill the memory.
LONG, LARGE = 60.0, 64 * 2**20


class Store:
    """Artefacts in a folder, or in a bucket: ``s3://bucket/store``.

    Args:
        location: The folder, or the URL. Nothing is read before the first artefact is asked for.
        patience: Seconds that an artefact is waited for which another machine has written: a shared
            folder shows it late.

    Raises:
        UserError: No installed package understands the URL.
    """

    def __init__(self, location: StoreAddress, patience: float = 0.0) -> None:
        self.location, self.patience = location, patience
        self._files = StoreFiles(location)
        self._index: ArtefactIndex | None = None
        self._gathered: dict[str, bytes] = {}
        self._gathering, self._began, self._bytes = False, 0.0, 0

    def __contains__(self, key: str) -> bool:
        """Whether there was an artefact of `key` when the store was last looked at."""
        return self._indexed().find(key) is not None

    def held(self, keys: Collection[str]) -> set[str]:
        """Which of some keys there are."""
        self.look()
        return self._indexed().held(keys)

    def look(self) -> list[str]:
        """Take note of what others wrote or removed; returns the names of damaged files.

        These are removed: what they held is made again.

        Raises:
            UserError: One cannot be removed.
        """
        damaged = self._take_note()
        for name in damaged:
            self._files.remove(name)
            notice("A file of the store was damaged. What it held is made again.")
        return damaged

    def _take_note(self) -> list[str]:
        names = self._files.names()
        if self._index is None:
            self._index = ArtefactIndex()
            names |= set(self._files.old_names())
        known = self._index.files
        for name in [name for name in known if name.endswith(ENDING) and name not in names]:
            self._index.forget(name)
        indices = list(self._files.indices([name for name in sorted(names) if name not in known]))
        self._index.add([(name, rows) for name, rows in indices if rows is not None])
        return [name for name, rows in indices if rows is None]

    def _indexed(self) -> ArtefactIndex:
        if self._index is None:
            self.look()
        assert self._index is not None
        return self._index

    def save(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep `arrays` under `key`: in a file of their own, or with others (`together`).

        Raises:
            UserError: The store cannot be written or the disk is full.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        self._gather(key, sealed(key, buffer.getvalue()))

    def _gather(self, key: str, whole: bytes) -> None:
        if not self._gathered:
            self._began, self._bytes = time.monotonic(), 0
        self._gathered[key] = whole
        self._bytes += len(whole)
        late = time.monotonic() - self._began > LONG
        if not self._gathering or late or self._bytes > LARGE:
            self._write()

    def _write(self) -> None:
        if self._gathered:
            name, data = pack(list(self._gathered.items()))
            self._files.write(name, data)
            self._indexed().add([(name, read_index(data))])
            self._gathered = {}

    @contextmanager
    def together(self) -> Iterator[None]:
        """Context whose artefacts go to one file, which is written at the end.

        Raises:
            UserError: As `save`.
        """
        self._gathering = True
        try:
            yield
            self._write()
        finally:
            self._gathering, self._gathered = False, {}

    def load(self, key: str) -> Arrays:
        """The arrays of `key`.

        Raises:
            Missing: There is none, or it cannot be read or was damaged: it is removed then, so that
                it is made anew.
            UserError: A damaged one cannot be removed.
        """
        data = opened(key, self._gathered[key]) if key in self._gathered else self._read(key)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def _read(self, key: str) -> bytes:
        while part := self._find(key):
            try:
                whole = self._files.read(part.file, part.start, part.start + part.length)
                return opened(key, whole)
            except FileNotFoundError:  # somebody removed it, or what else was in it
                self._indexed().forget(part.file)
            except Damaged:
                self._leave_out(part.file, {key})
                break
        raise Missing(key)

    def _find(self, key: str) -> Part | None:
        """Where an artefact is; others may have written it since the store was looked at."""
        until = time.monotonic() + self.patience
        while (part := self._indexed().find(key)) is None:
            self.look()
            if (part := self._indexed().find(key)) is not None or time.monotonic() >= until:
                break
            time.sleep(1.0)
        return part

    def _leave_out(self, name: str, unwanted: Collection[str]) -> list[str]:
        """Write a file anew without some artefacts and without damaged ones; returns these.

        Raises:
            UserError: It cannot be written or removed.
        """
        kept, damaged = [], []
        try:
            for key, whole in unpacked(name, self._files.read(name)):
                if not _is_whole(key, whole):
                    damaged.append(key)
                elif key not in unwanted:
                    kept.append((key, whole))
        except (Damaged, FileNotFoundError):
            kept = []
        if kept:
            other, data = pack(kept)
            if other == name:
                return []
            self._files.write(other, data)
            self._indexed().add([(other, read_index(data))])
        self._files.remove(name)
        self._indexed().forget(name)
        return damaged

    def size(self) -> StoreSize:
        """How much there is."""
        self.look()
        artefacts, size = self._indexed().artefacts_and_bytes()
        return StoreSize(artefacts, len(self._indexed().files), size)

    def bytes_of(self, keys: Iterable[str]) -> int:
        """What some artefacts take."""
        parts = (self._indexed().find(key) for key in keys)
        return sum(part.length for part in parts if part is not None)

    def clear(self) -> StoreSize:
        """Remove all artefacts, and nothing else; how much there was.

        Raises:
            UserError: One cannot be removed.
        """
        size = self.size()
        for name in list(self._indexed().files):
            self._files.remove(name)
            self._indexed().forget(name)
        return size

    def __iter__(self) -> Iterator[str]:
        """The keys of all artefacts, sorted."""
        self.look()
        return iter(self._indexed())

    def verify(self, progress: Progress = silent) -> list[str]:
        """Read all artefacts; returns the keys of those that were damaged, which are removed.

        Of a file whose index is damaged, its name.

        Raises:
            UserError: A damaged one cannot be removed.
        """
        damaged = self.look()
        files = sorted(self._indexed().files)
        for done, name in enumerate(files, start=1):
            damaged += self._leave_out(name, ())
            progress("verify", done, len(files))
        return damaged

    def merge(self, other: Store, progress: Progress = silent) -> Merged:
        """Take over the artefacts of another store; what is here already stays as it is.

        Damaged ones are left out; one of this store is replaced. Artefacts that had a file each are
        put together.

        Raises:
            UserError: The store cannot be written or the disk is full.
        """
        self.look()
        counts = Counter(damaged=len(other._take_note()))
        files = sorted(other._indexed().files)
        with self.together():
            for done, name in enumerate(files, start=1):
                progress("merge", done, len(files))
                try:
                    for key, whole in unpacked(name, other._files.read(name)):
                        counts[self._take_over(key, whole)] += 1
                except (Damaged, FileNotFoundError):
                    counts["damaged"] += 1
        return Merged(*(counts[field.name] for field in fields(Merged)))

    def _take_over(self, key: str, theirs: bytes) -> str:
        if not _is_whole(key, theirs):
            return "damaged"
        if key in self or key in self._gathered:
            try:
                own = self._gathered[key] if key in self._gathered else sealed(key, self._read(key))
                return "same" if own == theirs else "different"
            except Missing:  # it was damaged
                pass
        self._gather(key, theirs)
        return "new"

    def remove(self, keys: Iterable[str]) -> None:
        """Remove some artefacts.

        Raises:
            UserError: One cannot be removed, or what else is in its file not written anew.
        """
        unwanted: dict[str, set[str]] = {}
        for key in keys:
            if (part := self._indexed().find(key)) is not None:
                unwanted.setdefault(part.file, set()).add(key)
        for name, file_keys in unwanted.items():
            self._leave_out(name, file_keys)

    def sweep(self) -> None:
        """Remove what killed writers left behind."""
        self._files.sweep()


def _is_whole(key: str, whole: bytes) -> bool:
    try:
        opened(key, whole)
    except Damaged:
        return False
    return True
