"""Where each artefact of a store is: sorted arrays, for there can be millions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

#: New artefacts are kept apart until there are so many, since sorting takes longer than looking.
_NEW = 4096
_PART = np.dtype([("file", "<i4"), ("start", "<u8"), ("length", "<u8")])


class Part(NamedTuple):
    """A part of a file."""

    file: str
    start: int
    length: int


class ArtefactIndex:
    """Which file holds the artefact of a key, and where in it."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._new: dict[bytes, tuple[int, int, int]] = {}
        self._keys = np.empty(0, "S32")
        self._parts = np.empty(0, _PART)

    @property
    def files(self) -> Collection[str]:
        """The names of the files."""
        return self._numbers.keys()

    def find(self, key: str) -> Part | None:
        """Where an artefact is; None where no file holds it."""
        raw = bytes.fromhex(key)
        if raw in self._new:
            return self._part(self._new[raw])
        wanted = np.array(raw, "S32")
        row = int(self._keys.searchsorted(wanted))
        while row < len(self._keys) and self._keys[row] == wanted:
            if self._parts["file"][row] >= 0:
                return self._part(self._parts[row].item())
            row += 1
        return None

    def _part(self, row: tuple[int, int, int]) -> Part:
        return Part(self._names[row[0]], row[1], row[2])

    def add(self, indices: Sequence[tuple[str, np.ndarray]]) -> None:
        """Add files with their indices (`artefact_files.ROW`)."""
        for name, _ in indices:
            self.forget(name)
        if len(self._new) + sum(len(rows) for _, rows in indices) <= _NEW:
            for name, rows in indices:
                parts = self._parts_of(name, rows).tolist()
                self._new |= dict(zip(rows["key"].tolist(), parts, strict=True))
            return
        listed = (np.ascontiguousarray(rows["key"]).view("S32") for _, rows in indices)
        keys = [self._keys, _keys(self._new), *listed]
        parts = [self._parts, np.array(list(self._new.values()), _PART)]
        parts += [self._parts_of(name, rows) for name, rows in indices]
        self._keys = np.concatenate(keys)
        order = np.argsort(self._keys, kind="stable")
        self._keys, self._parts = self._keys[order], np.concatenate(parts)[order]
        self._new.clear()

    def _parts_of(self, name: str, rows: np.ndarray) -> np.ndarray:
        self._numbers[name] = len(self._names)
        self._names.append(name)
        parts = np.empty(len(rows), _PART)
        parts["file"], parts["length"] = self._numbers[name], rows["length"]
        parts["start"] = np.cumsum(rows["length"]) - rows["length"]
        return parts

    def forget(self, name: str) -> None:
        """Leave out a file, if it is known."""
        number = self._numbers.pop(name, None)
        if number is not None:
            self._parts["file"][self._parts["file"] == number] = -1
            self._new = {raw: part for raw, part in self._new.items() if part[0] != number}

    def held(self, keys: Collection[str]) -> set[str]:
        """Which of some keys there are."""
        # In order: sorted keys are then searched five times as fast, ten times as fast as `isin`.
        raw = sorted(map(bytes.fromhex, keys))
        live, wanted = self._keys[self._parts["file"] >= 0], _keys(raw)
        first, last = (live.searchsorted(wanted, side) for side in ("left", "right"))
        here = (last > first).tolist()
        return {
            key.hex() for key, known in zip(raw, here, strict=True) if known or key in self._new
        }

    def __iter__(self) -> Iterator[str]:
        """All keys, sorted."""
        for raw in np.unique(self._live()).astype("V32").tolist():
            yield raw.hex()

    def _live(self) -> np.ndarray:
        live: np.ndarray = np.concatenate([self._keys[self._parts["file"] >= 0], _keys(self._new)])
        return live

    def artefacts_and_bytes(self) -> tuple[int, int]:
        """How many artefacts there are, and what they take."""
        lengths = self._parts["length"][self._parts["file"] >= 0]
        size = int(lengths.sum()) + sum(length for *_, length in self._new.values())
        return len(np.unique(self._live())), size


def _keys(raw: Iterable[bytes]) -> np.ndarray:
    return np.array(list(raw), "S32")
