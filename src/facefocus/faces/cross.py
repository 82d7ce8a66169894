"""Cross-Age LFW and Cross-Pose LFW, as published: a folder or archive of flat images, and lists.

CALFW (Zheng et al. 2017, arXiv:1708.08197) has ``images/Name_0001.jpg``, CPLFW (Zheng and Deng
2018) ``images/Name_1.jpg``. Beside them lie the authors' aligned images and landmark files, which
are left alone: every set is aligned here, in one way.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from facefocus import locations
from facefocus.errors import UserError, one_line
from facefocus.faces.faceset import PairList
from facefocus.faces.folder import (
    archive_source,
    check_folder,
    files_source,
    members,
    visible,
)
from facefocus.faces.images import UnusableImage, suffixes
from facefocus.faces.prepare import Entry, Pictures, PrepareReport, Source, prepare
from facefocus.progress import Progress, silent

FOLDS = 10

#: sha256 of the published ``pairs_CALFW.txt`` (the list of September 2018).
CALFW_PAIRS_SHA256 = "871a2f047d57754bd8ed176b9bbcdb42a7b9ba03cd839702c0a28dfdebc9f8fc"

_PAIRS = 6000
_EXPECTED = (
    "one folder 'images' of pictures like Name_1.jpg, unpacked where it is an archive in an archive"
)

#: How deep pictures may lie in a folder: ``calfw/images&landmarks/images&landmarks/images``.
_DEPTH = 5

_REGULAR = re.compile(r"(?P<identity>.+)_(?P<number>\d+)")
#: Four images of CPLFW have names such as ``A_B_3jpg.jpg``, ``A_B_3.jip.jpg`` and ``A_B-2.jpg``.
_ODD = re.compile(r"(?P<identity>.+)[_-](?P<number>\d+)(?:\.?[A-Za-z]+)?")


@dataclass(frozen=True)
class _Published:
    """What is known of a set; `folds` says whether its list gives the folds of mated pairs."""

    title: str
    list_name: str
    folds: bool
    images: int
    people: int | None
    sha256: str | None


# Numbers of the authors; the paper on this benchmark swaps the two numbers of images.
_CALFW = _Published("calfw", "pairs_CALFW.txt", True, 12_174, 4_025, CALFW_PAIRS_SHA256)
# Its people are given as "about 3,930", and no hash of its list is published.
_CPLFW = _Published("cplfw", "pairs_CPLFW.txt", False, 11_652, None, None)


def prepare_calfw(
    source: Path,
    out: Path,
    *,
    pairs: Path | None = None,
    align: str = "yunet",
    crop: str = "arcface112",
    detector: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Make the face set ``calfw``.

    Images are taken from the folder ``images``, wherever it lies in the source; where there is
    none, from the only folder of pictures, and the report says so. Images that the list names and
    the source lacks are in the index with a reason. What differs from the published numbers is a
    note of the report, not an error.

    Args:
        source: The archive (tar, tgz or zip) or an unpacked folder.
        out: Where the face set goes.
        pairs: ``pairs_CALFW.txt``; None looks in the source, beside it, then among the data. Where
            there is none, the set has no verification list and the report says so.
        align: ``"yunet"``, or ``"none"`` for a source of aligned crops.
        crop: ``"arcface112"`` or ``"facenet160"``, see `prepare`.
        detector: YuNet's file, if not in the usual places.
        workers: Threads; None for one for each CPU.
        progress: Called as ``("prepare" | "write", images done, images)``.

    Raises:
        UserError: The source or the list cannot be read, or any reason `prepare` has.
    """
    opened, listed = _opened(_CALFW, source, pairs)
    return prepare(
        opened,
        out,
        title=_CALFW.title,
        align=align,
        crop=crop,
        detector=detector,
        pairs=listed,
        workers=workers,
        progress=progress,
    )


def prepare_cplfw(
    source: Path,
    out: Path,
    *,
    pairs: Path | None = None,
    align: str = "yunet",
    crop: str = "arcface112",
    detector: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Make the face set ``cplfw``; all arguments as those of `prepare_calfw`.

    Images with odd names are called as the others are: ``A_B-2.jpg`` is ``A_B_2``.

    Raises:
        UserError: The source or the list cannot be read, or any reason `prepare` has.
    """
    opened, listed = _opened(_CPLFW, source, pairs)
    return prepare(
        opened,
        out,
        title=_CPLFW.title,
        align=align,
        crop=crop,
        detector=detector,
        pairs=listed,
        workers=workers,
        progress=progress,
    )


# The pictures -------------------------------------------------------------------------------------


def _opened(
    published: _Published, source: Path, pairs: Path | None
) -> tuple[Source, PairList | None]:
    """The source with all that is to be said about it, and its list."""
    if source.is_file():
        opened = archive_source(source, _entries, expected=_EXPECTED)
    else:
        check_folder(source)
        paths = [path.relative_to(source).as_posix() for path in _files(source, _DEPTH)]
        opened = files_source(source, _entries(paths), expected=_EXPECTED)
    listed = _pair_list(published, source, pairs)

    def load() -> Pictures:
        pictures = opened.load()
        reason = f"listed in {published.list_name} but not in the source"
        notes = [*_notes_on_images(published, pictures.entries), *_notes_on_list(published, listed)]
        return pictures.completed(listed, reason, notes)

    return replace(opened, load=load), listed


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for path in visible(folder):
        if path.is_file():
            yield path
        elif depth > 1 and path.is_dir():
            yield from _files(path, depth - 1)


def _entries(paths: Sequence[str]) -> list[Entry]:
    """The pictures of the set among all files, in the same order."""
    pictures = [path for path in map(PurePosixPath, paths) if _is_picture(path)]
    folders = _image_folders({path.parent for path in pictures})
    chosen = [path for path in pictures if path.parent in folders]
    regular = {path.stem for path in chosen if _REGULAR.fullmatch(path.stem)}
    entries = []
    for path in chosen:
        named = _identity_and_name(path.stem)
        if named is None:
            continue
        identity, name = named
        if name != path.stem and name in regular:
            name = path.stem  # Two files, two images: the odd one keeps its odd name.
        entries.append(Entry(identity, name, str(path)))
    return entries


def _is_picture(path: PurePosixPath) -> bool:
    # macOS adds a folder __MACOSX with a file ._x.jpg for every x.jpg to its archives.
    return path.suffix.lower() in suffixes() and not path.name.startswith(".")


def _image_folders(folders: set[PurePosixPath]) -> set[PurePosixPath]:
    named = {folder for folder in folders if folder.name == "images"}
    if named:
        return named
    others = {folder for folder in folders if "align" not in folder.name.lower()}
    alone = others or folders
    return alone if len(alone) == 1 else set()


def _identity_and_name(stem: str) -> tuple[str, str] | None:
    """The person and the image's name from a file's name without suffix, odd ones too."""
    match = _REGULAR.fullmatch(stem) or _ODD.fullmatch(stem)
    if match is None:
        return None
    return match["identity"], f"{match['identity']}_{match['number']}"


def _notes_on_images(published: _Published, entries: Sequence[Entry]) -> Iterator[str]:
    folders = {PurePosixPath(entry.path).parent.name for entry in entries}
    if folders != {"images"}:
        # Empty where the pictures lie in the source itself.
        where = min(folders) or "the source itself"
        yield f"No folder 'images' was found: the pictures are those of '{where}'."
    if len(entries) != published.images:
        yield f"{published.images:,} images expected, {len(entries):,} found."
    people = len({entry.identity for entry in entries})
    if published.people not in (None, people):
        yield f"{published.people:,} people expected, {people:,} found."


# The lists ----------------------------------------------------------------------------------------


def _pair_list(published: _Published, source: Path, pairs: Path | None) -> PairList | None:
    name = published.list_name
    if pairs is None and source.is_file():
        for member, _, read in members(source):
            if PurePosixPath(member).name == name:
                return _parsed(published, _read_member(source, member, read), f"{source}/{member}")
    within = [] if source.is_file() else [p for p in _files(source, _DEPTH) if p.name == name]
    roots = [root / published.title / name for root in locations.search_dirs()]
    places = [*within, source.parent / name, *roots]
    found = pairs or next((path for path in places if path.is_file()), None)
    return None if found is None else _read(published, found)


def _read_member(source: Path, member: str, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except UnusableImage as error:
        message = f"The 'pairs' file '{source}/{member}' cannot be read: {error.reason}."
        raise UserError(message) from error


def _read(published: _Published, path: Path) -> PairList:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"The 'pairs' file '{path}' cannot be read: {error.strerror}.") from error
    return _parsed(published, data, str(path))


def _notes_on_list(published: _Published, listed: PairList | None) -> Iterator[str]:
    name = published.list_name
    if listed is None:
        yield f"No {name} was found: the face set has no verification list."
        return
    if len(listed.first) != _PAIRS:
        yield f"{_PAIRS:,} pairs expected, {len(listed.first):,} found in {name}."
    if published.sha256 not in (None, listed.sha256):
        yield (
            f"{name} is not the published list: its sha256 is {listed.sha256}, that of the "
            f"published one {published.sha256}."
        )


def read_calfw_pairs(path: Path) -> PairList:
    """The official ``pairs_CALFW.txt``, with or without a header line.

    Two lines for each pair, ``Name_0001.jpg 3``. The number is 1 to 10 for mated pairs, their fold,
    and 0 for non-mated ones, whose folds the list does not give: in the order of the list they are
    dealt out to the ten folds in equal parts, 300 each in the published list.

    Raises:
        UserError: The file cannot be read or breaks that form; names the line.
    """
    return _read(_CALFW, path)


def read_cplfw_pairs(path: Path) -> PairList:
    """The official ``pairs_CPLFW.txt``, with or without a header line.

    Two lines for each pair, ``Name_1.jpg 1``, with 1 for mated pairs and 0 for non-mated ones. The
    list gives no folds: in its order, the pairs of either kind are dealt out to ten folds in equal
    parts, 300 + 300 each in the published list.

    Raises:
        UserError: The file cannot be read or breaks that form; names the line.
    """
    return _read(_CPLFW, path)


@dataclass(frozen=True)
class _Line:
    number: int
    name: str
    token: int


def _parsed(published: _Published, data: bytes, where: str) -> PairList:
    lines = _lines(data, where, largest=FOLDS if published.folds else 1)
    if not lines or len(lines) % 2:
        raise UserError(
            f"The 'pairs' file '{where}' must have two lines for each pair. Got {len(lines)} lines."
        )
    first, second = lines[::2], lines[1::2]
    for a, b in zip(first, second, strict=True):
        if a.token != b.token:
            raise UserError(
                f"Lines {a.number} and {b.number} of the 'pairs' file '{where}' must end with the "
                f"same number, since they are one pair. Got {a.token} and {b.token}."
            )
    tokens = [line.token for line in first]
    mated = [token > 0 for token in tokens]
    folds = _dealt(mated)
    if published.folds:
        folds = [token - 1 if token else fold for token, fold in zip(tokens, folds, strict=True)]
    return PairList(
        first=tuple(line.name for line in first),
        second=tuple(line.name for line in second),
        mated=tuple(mated),
        fold=tuple(folds),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _lines(data: bytes, where: str, *, largest: int) -> list[_Line]:
    try:
        texts = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"The 'pairs' file '{where}' cannot be read: {one_line(error)}.") from error
    numbered = [(number, text.split()) for number, text in enumerate(texts, start=1)]
    if numbered and numbered[0][1] and not numbered[0][1][-1].isdecimal():
        del numbered[0]  # The header line.
    return [_line(number, fields, where, largest) for number, fields in numbered if fields]


def _line(number: int, fields: list[str], where: str, largest: int) -> _Line:
    named = _identity_and_name(PurePosixPath(fields[0]).stem)
    if len(fields) == 2 and fields[1].isdecimal() and int(fields[1]) <= largest and named:
        return _Line(number, named[1], int(fields[1]))
    raise UserError(
        f"Line {number} of the 'pairs' file '{where}' must be of the form 'Name_1.jpg 1', "
        f"with a number from 0 to {largest}. Got '{' '.join(fields)}'."
    )


def _dealt(mated: Sequence[bool]) -> list[int]:
    """Each pair's fold: the pairs of either kind, in order, cut into `FOLDS` equal parts."""
    totals, seen = Counter(mated), Counter[bool]()
    folds = []
    for kind in mated:
        folds.append(seen[kind] * FOLDS // totals[kind])
        seen[kind] += 1
    return folds
