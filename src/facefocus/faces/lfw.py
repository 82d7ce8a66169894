"""Labeled Faces in the Wild, as published: an archive or a folder, and its lists.

The official archives hold ``lfw*/Name/Name_0001.jpg``. They are read as a stream; nothing is
unpacked, so no path in them can reach the disk.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from facefocus import locations
from facefocus.errors import UserError, one_line
from facefocus.faces.faceset import IndexRow, PairList
from facefocus.faces.folder import check_folder, files_source, printable, visible
from facefocus.faces.images import UnusableImage
from facefocus.faces.prepare import (
    MAX_FILE_BYTES,
    Entry,
    Pictures,
    PrepareReport,
    Source,
    prepare,
)
from facefocus.progress import Progress, silent

MISSING = "listed in pairs.txt but not in the source"

_IMAGE = re.compile(r"(?P<identity>.+)_\d{4,}\.jpe?g", re.IGNORECASE)
_ERRATUM = re.compile(r"^\s*(?P<name>\S+_\d{4})\s+is\s+incorrect\b", re.MULTILINE)


def prepare_lfw(
    source: Path,
    out: Path,
    *,
    pairs: Path | None = None,
    align: str = "yunet",
    detector: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Make the face set ``lfw``.

    Args:
        source: ``lfw.tgz``, ``lfw-funneled.tgz``, ``lfw-deepfunneled.tgz`` or an unpacked folder.
        out: Where the face set goes.
        pairs: The official ``pairs.txt``; None looks beside the source, then among the data.
            Where there is none, the set has no verification list and the report says so.
        align: ``"yunet"``, or ``"none"`` for an archive of aligned crops.
        detector: YuNet's file, if not in the usual places.
        workers: Threads; None for one for each CPU.
        progress: Called as ``("prepare" | "write", images done, images)``.

    Raises:
        UserError: The source or the list cannot be read, or any reason `prepare` has.
    """
    found = pairs or _pairs_file(source)
    listed = None if found is None else read_pair_list(found)
    notes = [] if found else ["No pairs.txt was found: the face set has no verification list."]
    opened = _archive_source(source) if source.is_file() else _folder_source(source)
    return prepare(
        replace(opened, load=lambda: _completed(opened.load(), listed, notes)),
        out,
        title="lfw",
        align=align,
        detector=detector,
        pairs=listed,
        workers=workers,
        progress=progress,
    )


def _completed(pictures: Pictures, pairs: PairList | None, notes: Sequence[str]) -> Pictures:
    """The pictures, and a row for every image that the list names and the source lacks."""
    named = {*pairs.first, *pairs.second} if pairs else set()
    missing = sorted(named - {entry.name for entry in pictures.entries})
    rows = [IndexRow(name.rpartition("_")[0], name, "", reason=MISSING) for name in missing]
    return replace(pictures, refused=[*pictures.refused, *rows], notes=[*pictures.notes, *notes])


# The pictures -------------------------------------------------------------------------------------


def _entry(path: str) -> Entry | None:
    """The image that a path ends with, or None for anything else."""
    parts = PurePosixPath(path).parts
    match = _IMAGE.fullmatch(parts[-1]) if len(parts) >= 2 else None
    if match is None or match["identity"] != parts[-2]:
        return None
    return Entry(printable(parts[-2]), printable(PurePosixPath(path).stem), path)


def _folder_source(source: Path) -> Source:
    check_folder(source)
    folders = [path for path in visible(source) if path.is_dir()]
    # The folder of the people, or the one above it, as unpacking leaves it.
    people = folders + [path for one in folders for path in visible(one) if path.is_dir()]
    paths = [path.relative_to(source).as_posix() for one in people for path in visible(one)]
    return files_source(source, [entry for path in paths if (entry := _entry(path))])


@dataclass(frozen=True)
class _Archive:
    """The images of a tar archive, in the order in which they lie in it."""

    path: Path

    def images(self) -> Iterator[tuple[Entry, tarfile.TarFile, tarfile.TarInfo]]:
        with self._readable(), tarfile.open(self.path, "r:*") as archive:
            for member in archive:
                entry = _entry(member.name) if member.isreg() else None
                if entry is not None:
                    yield entry, archive, member

    def load(self) -> Pictures:
        entries = [entry for entry, _, _ in self.images()]
        if not entries:
            raise UserError(
                f"The 'source' must hold images like lfw/Name/Name_0001.jpg. "
                f"Got '{self.path}', which holds none."
            )
        return Pictures(entries, stream=self.stream)

    def stream(self, start: int) -> Iterator[Callable[[], bytes]]:
        for position, (entry, archive, member) in enumerate(self.images()):
            if position < start:
                continue
            if member.size > MAX_FILE_BYTES:
                yield partial(_refuse, entry)
                continue
            file = archive.extractfile(member)
            yield partial(bytes, b"" if file is None else file.read())

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            raise UserError(
                f"The 'source' must be a complete tar archive or a folder. "
                f"Got '{self.path}': {one_line(error)}."
            ) from error


def _refuse(entry: Entry) -> bytes:
    raise UnusableImage(entry.name, f"larger than {MAX_FILE_BYTES // 2**20} MiB")


def _archive_source(source: Path) -> Source:
    try:
        with source.open("rb") as file:
            fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"The 'source' '{source}' cannot be read: {error.strerror}.") from error
    return Source(name=str(source), fingerprint=fingerprint, load=_Archive(source).load)


# The lists ----------------------------------------------------------------------------------------


def _pairs_file(source: Path) -> Path | None:
    beside = [source.parent / "pairs.txt", source / "pairs.txt"]
    roots = [root / "lfw" / "pairs.txt" for root in locations.search_dirs()]
    return next((path for path in (*beside, *roots) if path.is_file()), None)


def read_pair_list(path: Path) -> PairList:
    """The official ``pairs.txt`` of View 2.

    The first line gives the number of folds and of mated pairs in each; then follow, fold by fold,
    as many mated pairs (``Name 1 4``) and as many non-mated ones (``Name 1 Other 2``).

    Raises:
        UserError: The file cannot be read or breaks that form; names the line.
    """
    try:
        data = path.read_bytes()
        lines = [line.split() for line in data.decode().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The 'pairs' file '{path}' cannot be read: {one_line(error)}.") from error
    while lines and not lines[-1]:
        lines.pop()
    folds, each = _header(path, lines[0] if lines else [])
    if len(lines) != 1 + 2 * folds * each:
        raise UserError(
            f"The 'pairs' file '{path}' must have {2 * folds * each} pairs after its first line. "
            f"Got {len(lines) - 1}."
        )
    parsed = [
        _pair(path, number, fields, mated=(number - 2) % (2 * each) < each)
        for number, fields in enumerate(lines[1:], start=2)
    ]
    return PairList(
        first=tuple(first for first, _ in parsed),
        second=tuple(second for _, second in parsed),
        mated=tuple(i % (2 * each) < each for i in range(len(parsed))),
        fold=tuple(i // (2 * each) for i in range(len(parsed))),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _header(path: Path, fields: list[str]) -> tuple[int, int]:
    if len(fields) != 2 or not all(field.isdecimal() and int(field) > 0 for field in fields):
        raise UserError(
            f"The 'pairs' file '{path}' must begin with the number of folds and of mated pairs in "
            f"each, such as '10 300'. Got '{' '.join(fields)}'."
        )
    return int(fields[0]), int(fields[1])


def _pair(path: Path, number: int, fields: list[str], *, mated: bool) -> tuple[str, str]:
    if len(fields) == (3 if mated else 4):
        first, i, second, j = [*fields[:2], fields[0], fields[2]] if mated else fields
        if i.isdecimal() and j.isdecimal():
            return f"{first}_{int(i):04d}", f"{second}_{int(j):04d}"
    form = "'Name 1 4'" if mated else "'Name 1 Other 2'"
    raise UserError(
        f"Line {number} of the 'pairs' file '{path}' must be of the form {form}. "
        f"Got '{' '.join(fields)}'."
    )


def known_errors(path: Path) -> tuple[str, ...]:
    """The images that the official ``errata.txt`` calls incorrect, in its order.

    Raises:
        UserError: The file cannot be read or names none.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"The errata '{path}' cannot be read: {error.strerror}.") from error
    names = _unique(match["name"] for match in _ERRATUM.finditer(text))
    if not names:
        raise UserError(f"The errata must say 'Name_0001 is incorrect'. Got '{path}', without one.")
    return names


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
