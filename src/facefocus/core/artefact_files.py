"""The files of a store: many artefacts in one, each with its checksum, and an index at the end.

A file is ``artefact | artefact | ... | index | tail``. An artefact is the bytes of an ``.npz`` and
the sha256 of its key and of these. The index has the key and the length of each; the tail has the
sha256 of the index, the number of artefacts and a mark. So one short read from the end says what a
file holds, one more gets an artefact, and every damaged byte is noticed.

Files lie in a folder, or in whatever else fsspec reaches: ``s3://``, ``gs://``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np

from facefocus.core.errors import UserError, one_line
from facefocus.core.files import sweep, write_atomically
from facefocus.core.locations import StoreAddress, is_url

#: A row of an index.
ROW = np.dtype([("key", "V32"), ("length", "<u8")])

_MARK = b"facefoc1"
_SUM = hashlib.sha256().digest_size
_TAIL = _SUM + 8 + len(_MARK)
#: Bytes from the end of a file that are read at once: the index of some 200 artefacts.
_END = 8192

ENDING = ".pack"


class Damaged(Exception):
    """A file or an artefact is not what was written."""


def sealed(key: str, data: bytes) -> bytes:
    """An artefact as it is in a file: its bytes, and the checksum that binds them to its key."""
    return data + hashlib.sha256(key.encode() + data).digest()


def opened(key: str, whole: bytes) -> bytes:
    """The inverse of `sealed`.

    Raises:
        Damaged: The checksum is another one.
    """
    if sealed(key, whole[:-_SUM]) != whole:
        raise Damaged
    return whole[:-_SUM]


def pack(artefacts: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Name and bytes of the file of some sealed artefacts.

    The name says what is in it, to the byte: who makes the same again writes the same file.
    """
    index = np.array([(bytes.fromhex(key), len(whole)) for key, whole in artefacts], ROW).tobytes()
    count = len(artefacts).to_bytes(8, "little")
    content = hashlib.sha256(index + b"".join(whole[-_SUM:] for _, whole in artefacts))
    tail = hashlib.sha256(index + count).digest() + count + _MARK
    data = b"".join([*(whole for _, whole in artefacts), index, tail])
    return content.hexdigest()[:40] + ENDING, data


def index_length(end: bytes) -> int:
    """How many bytes index and tail take, by the last bytes of a file.

    Raises:
        Damaged: These are not the last bytes of such a file.
    """
    if len(end) < _TAIL or not end.endswith(_MARK):
        raise Damaged
    return ROW.itemsize * int.from_bytes(end[-16:-8], "little") + _TAIL


def read_index(end: bytes) -> np.ndarray:
    """The index [n] of a file (`ROW`), by its last bytes; artefacts lie in this order.

    Raises:
        Damaged: It is not what was written, or `end` does not hold it all.
    """
    length = index_length(end)
    index, tail = end[-length:-_TAIL], end[-_TAIL:]
    if len(end) < length or hashlib.sha256(index + tail[_SUM:-8]).digest() != tail[:_SUM]:
        raise Damaged
    return np.frombuffer(index, ROW)


def unpacked(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The key and the sealed bytes of each artefact of a file, whole or not.

    Raises:
        Damaged: Nothing says where they are.
    """
    start = 0
    index = read_index(data) if name.endswith(ENDING) else _of_old(name, len(data))
    for key, length in index.tolist():
        yield key.hex(), data[start : start + length]
        start += length


def _of_old(name: str, length: int) -> np.ndarray:
    """The index of a file of the time when every artefact had its own: ``ab/abcd....npz``."""
    return np.array([(bytes.fromhex(Path(name).stem), length)], ROW)


class StoreFiles:
    """Where the files of a store lie: a folder, or a URL that fsspec understands.

    Raises:
        UserError: No installed package understands the URL.
    """

    def __init__(self, location: StoreAddress) -> None:
        self.name = str(location)
        self.folder = None if is_url(location) else Path(location)
        try:
            self._system, self._root = fsspec.core.url_to_fs(self.name)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"The store '{location}' cannot be opened: {one_line(error)}. For s3:// and gs://:"
                " pip install 'facefocus[bucket]'."
            ) from None

    def path(self, name: str) -> str:
        """The path of a file, as the file system has it."""
        return f"{self._root}/{name}"

    def old_names(self) -> list[str]:
        """The files of the time when every artefact had its own; nobody writes them any more."""
        if self.folder is None:
            return []
        paths = self.folder.glob("[0-9a-f][0-9a-f]/*.npz")
        names = (f"{path.parent.name}/{path.name}" for path in paths)
        return [name for name in names if re.fullmatch(r"(..)/\1[0-9a-f]{62}\.npz", name)]

    def names(self) -> set[str]:
        """The files that there are, but for the `old_names`."""
        with self._reachable():
            self._system.invalidate_cache()
            try:
                listed = self._system.ls(self._root, detail=False)
            except FileNotFoundError:
                return set()
        names = (str(path).rpartition("/")[2] for path in listed)
        return {name for name in names if re.fullmatch(rf"[0-9a-f]{{40}}\{ENDING}", name)}

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """A file, or a part of it.

        Raises:
            FileNotFoundError: There is none.
            Damaged: It cannot be read.
        """
        try:
            with self._reachable():
                return bytes(self._system.cat_file(self.path(name), start=start, end=end))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Damaged from error

    def indices(self, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray | None]]:
        """The index of each of some files: None of a damaged one; nothing of one that is gone."""
        for name, end in zip(names, self._ends(names), strict=True):
            try:
                if isinstance(end, Exception):
                    raise end
                if not name.endswith(ENDING):
                    yield name, _of_old(name, (Path(self._root) / name).stat().st_size)
                    continue
                if index_length(end) > len(end):
                    end = self.read(name, -index_length(end))
                yield name, read_index(end)
            except FileNotFoundError:
                continue
            except (Damaged, OSError):
                yield name, None

    def _ends(self, names: Sequence[str]) -> Iterable[bytes | Exception]:
        """The last bytes of some files, or what went wrong; those of a bucket all at once."""
        if self.folder is not None:
            return map(self._end, names)
        with self._reachable():
            paths = [self.path(name) for name in names]
            ends: list[bytes | Exception] = self._system.cat_ranges(
                paths, -_END, None, on_error="return"
            )
            return ends

    def _end(self, name: str) -> bytes | Exception:
        try:
            return self.read(name, -_END) if name.endswith(ENDING) else b""
        except (Damaged, FileNotFoundError) as error:
            return error

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            UserError: It cannot be written.
        """
        if self.folder is not None:
            # Not flushed, which takes longer than all else: checksums show what a power cut lost.
            write_atomically(self.folder / name, lambda file: file.write(data), flush=False)
            return
        with self._reachable():
            try:
                self._system.pipe_file(self.path(name), data)
            except FileNotFoundError as error:
                raise OSError(f"there is no such bucket: {one_line(error)}") from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            UserError: It cannot be removed.
        """
        try:
            with self._reachable():
                self._system.rm_file(self.path(name))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UserError(
                f"The file '{name}' of the store '{self.name}' cannot be removed:"
                f" {error.strerror or one_line(error)}. Name another store with --store."
            ) from None

    def sweep(self) -> None:
        """Remove what killed writers left behind."""
        if self.folder is not None:
            sweep(self.folder)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Context of talk with a bucket.

        Raises:
            UserError: It does not answer, or refuses.
        """
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            if self.folder is not None:
                raise
            raise UserError(
                f"The store '{self.name}' cannot be reached: {one_line(error)}. Nothing written"
                " before is lost."
            ) from error
