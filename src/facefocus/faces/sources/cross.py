"""Cross-Age LFW and Cross-Pose LFW, as published: a folder or archive of flat images, and lists.

CALFW (Zheng et al. 2017, arXiv:1708.08197) has ``images/Name_0001.jpg``, CPLFW (Zheng and Deng
2018) ``images/Name_1.jpg``. Beside them lie the authors' aligned images and landmark files, which
are left alone: every set is aligned here, in one way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Unpack

from facefocus.core.files import any_path
from facefocus.faces.faceset import PairList
from facefocus.faces.images import suffixes
from facefocus.faces.lists import Naming
from facefocus.faces.prepare import Entry, Options, PrepareReport, Source, prepare
from facefocus.faces.sources.folder import find_list, picture_source

#: sha256 of the published ``pairs_CALFW.txt`` (the list of September 2018).
CALFW_PAIRS_SHA256 = "871a2f047d57754bd8ed176b9bbcdb42a7b9ba03cd839702c0a28dfdebc9f8fc"

_PAIRS = 6000
_EXPECTED = (
    "one folder 'images' of pictures like Name_1.jpg, unpacked where it is an archive in an archive"
)

_REGULAR = re.compile(r"(?P<identity>.+)_(?P<number>\d+)")
#: Four images of CPLFW have names such as ``A_B_3jpg.jpg``, ``A_B_3.jip.jpg`` and ``A_B-2.jpg``.
_ODD = re.compile(r"(?P<identity>.+)[_-](?P<number>\d+)(?:\.?[A-Za-z]+)?")


@dataclass(frozen=True)
class _Published:
    """What is known of a set; its images are numbered with at least so many digits.

    The first of its lists is the published one, the second that of the sets of aligned crops.
    """

    title: str
    lists: tuple[str, str]
    digits: int
    images: int
    people: int | None
    sha256: str | None


# Numbers of the authors; the paper on this benchmark swaps the two numbers of images.
_CALFW = _Published(
    "calfw", ("pairs_CALFW.txt", "calfw_ann.txt"), 4, 12_174, 4_025, CALFW_PAIRS_SHA256
)
# Its people are given as "about 3,930", and no hash of its list is published.
_CPLFW = _Published("cplfw", ("pairs_CPLFW.txt", "cplfw_ann.txt"), 1, 11_652, None, None)


@any_path
def prepare_calfw(
    source: Path,
    out: Path,
    *,
    pairs: Path | None = None,
    align: str = "auto",
    **options: Unpack[Options],
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
        align: ``"yunet"``, ``"none"`` for aligned crops, or ``"auto"``, see `prepare`.
        options: As those of `prepare`.

    Raises:
        UserError: The source or the list cannot be read, or any reason `prepare` has.
    """
    opened, listed = _opened(_CALFW, source, pairs)
    return prepare(
        opened,
        out,
        title=_CALFW.title,
        align=align,
        pairs=listed,
        **options,
    )


@any_path
def prepare_cplfw(
    source: Path,
    out: Path,
    *,
    pairs: Path | None = None,
    align: str = "auto",
    **options: Unpack[Options],
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
        pairs=listed,
        **options,
    )


# The pictures -------------------------------------------------------------------------------------


def _opened(
    published: _Published, source: Path, pairs: Path | None
) -> tuple[Source, PairList | None]:
    """The source with all that is to be said about it, and its list."""
    opened = picture_source(
        source, _entries, expected=_EXPECTED, otherwise="not where the set has its pictures"
    )
    naming = _naming(published)
    listed, name = find_list(pairs, source, published.lists, published.title, naming)

    def notes(entries: Sequence[Entry]) -> list[str]:
        said = [*_notes_on_images(published, entries)]
        return said if listed is None else [*said, *_notes_on_list(published, listed, name)]

    return opened.listed(listed, name, notes), listed


def _entries(paths: Sequence[str]) -> list[Entry]:
    """The pictures of the set among all files, in the same order."""
    pictures = [path for path in map(PurePosixPath, paths) if path.suffix.lower() in suffixes()]
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


def _notes_on_list(published: _Published, listed: PairList, name: str) -> Iterator[str]:
    if len(listed.first) != _PAIRS:
        yield f"{_PAIRS:,} pairs expected, {len(listed.first):,} found in {name}."
    if published.sha256 not in (None, listed.sha256):
        yield (
            f"{name} is not the published list: its sha256 is {listed.sha256}, that of the "
            f"published one {published.sha256}."
        )


def _naming(published: _Published) -> Naming:
    """Who an image shows and what it is called, for lists of any form."""

    def named(path: str, number: int | None) -> tuple[str, str] | None:
        if number is not None:
            return path, f"{path}_{number:0{published.digits}d}"
        return _identity_and_name(PurePosixPath(path).stem)

    return named


calfw_name = _naming(_CALFW)
cplfw_name = _naming(_CPLFW)
