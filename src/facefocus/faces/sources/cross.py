"""Cross-Age LFW and Cross-Pose LFW, as published: a folder or archive of flat images, and lists.

CALFW (Zheng et al. 2017, arXiv:1708.08197) has ``images/Name_0001.jpg``, CPLFW (Zheng and Deng
2018) ``images/Name_1.jpg``. Beside them lie the authors' aligned images and landmark files, which
are left alone: every set is aligned here, in one way. Images are taken from the folder ``images``,
wherever it lies in the source; where there is none, from the only folder of pictures, and the
report says so. Images with odd names are called as the others are: ``A_B-2.jpg`` is ``A_B_2``. What
differs from the published numbers is a note of the report, not an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath

from facefocus.faces.faceset import PairList
from facefocus.faces.images import suffixes
from facefocus.faces.prepare import Entry
from facefocus.faces.sources import FaceSource

#: sha256 of the published ``pairs_CALFW.txt`` (the list of September 2018).
CALFW_PAIRS_SHA256 = "871a2f047d57754bd8ed176b9bbcdb42a7b9ba03cd839702c0a28dfdebc9f8fc"

_PAIRS = 6000
_UNUSED = "not where the set has its pictures"
_EXPECTED = (
    "one folder 'images' of pictures like Name_1.jpg, unpacked where it is an archive in an archive"
)

_REGULAR = re.compile(r"(?P<identity>.+)_(?P<number>\d+)")
#: Four images of CPLFW have names such as ``A_B_3jpg.jpg``, ``A_B_3.jip.jpg`` and ``A_B-2.jpg``.
_ODD = re.compile(r"(?P<identity>.+)[_-](?P<number>\d+)(?:\.?[A-Za-z]+)?")


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


def _notes(
    entries: Sequence[Entry],
    pairs: PairList | None,
    name: str,
    *,
    images: int,
    people: int | None = None,
    sha256: str | None = None,
) -> Iterator[str]:
    """What differs from the published numbers `images`, `people` and from the published list."""
    folders = {PurePosixPath(entry.path).parent.name for entry in entries}
    if folders != {"images"}:
        # Empty where the pictures lie in the source itself.
        where = min(folders) or "the source itself"
        yield f"No folder 'images' was found: the pictures are those of '{where}'."
    if len(entries) != images:
        yield f"{images:,} images expected, {len(entries):,} found."
    shown = len({entry.identity for entry in entries})
    if people not in (None, shown):
        yield f"{people:,} people expected, {shown:,} found."
    if pairs is None:
        return
    if len(pairs.first) != _PAIRS:
        yield f"{_PAIRS:,} pairs expected, {len(pairs.first):,} found in {name}."
    if sha256 not in (None, pairs.sha256):
        yield (
            f"{name} is not the published list: its sha256 is {pairs.sha256}, that of the "
            f"published one {sha256}."
        )


def _image_name(path: str, number: int | None, *, digits: int) -> tuple[str, str] | None:
    """Who an image shows and what it is called; its number has at least so many digits."""
    if number is not None:
        return path, f"{path}_{number:0{digits}d}"
    return _identity_and_name(PurePosixPath(path).stem)


# The numbers are the authors'; the paper on this benchmark swaps the two numbers of images. Of the
# lists, the first is the published one, the second that of the sets of aligned crops.
CALFW = FaceSource(
    name="calfw",
    help="Cross-Age LFW, archive or folder.",
    entries=_entries,
    image_name=partial(_image_name, digits=4),
    expected=_EXPECTED,
    unused=_UNUSED,
    lists=("pairs_CALFW.txt", "calfw_ann.txt"),
    notes=partial(_notes, images=12_174, people=4_025, sha256=CALFW_PAIRS_SHA256),
)
# Its people are given as "about 3,930", and no hash of its list is published.
CPLFW = FaceSource(
    name="cplfw",
    help="Cross-Pose LFW, archive or folder.",
    entries=_entries,
    image_name=partial(_image_name, digits=1),
    expected=_EXPECTED,
    unused=_UNUSED,
    lists=("pairs_CPLFW.txt", "cplfw_ann.txt"),
    notes=partial(_notes, images=11_652),
)
