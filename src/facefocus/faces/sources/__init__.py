"""Face sources: what an archive or a folder of photographs looks like, and one way to prepare it.

A new source is one file with a `FaceSource` and one registration: ``SOURCES.add("mine", MINE)``, or
an entry point of the group ``facefocus.face_sources``. Face sets that are made of another one, with
a truth, are a `DerivedSource` in `DERIVED` (group ``facefocus.derived_face_sources``). Drawn faces
need no photographs and are made by `facefocus.faces.sources.synthetic`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Unpack, runtime_checkable

from facefocus.core.errors import UserError
from facefocus.core.files import any_path
from facefocus.core.locations import search_dirs
from facefocus.core.progress import Progress, silent
from facefocus.core.registry import Registry
from facefocus.faces.archives import DEPTH, find_list, picture_source
from facefocus.faces.duplicates import Duplicates
from facefocus.faces.faceset import MANIFEST, FaceSet, PairList, open_faceset
from facefocus.faces.lists import Naming
from facefocus.faces.prepare import Entry, Options, PrepareReport, prepare, report_of


def _no_notes(entries: Sequence[Entry], pairs: PairList | None, name: str) -> Iterable[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class FaceSource:
    """What one kind of archive or folder of photographs looks like.

    Attributes:
        name: What it is called in `SOURCES` and on the command line.
        help: One line for users.
        entries: The pictures among the paths of all visible files, in the same order.
        image_name: Who an image of a verification list shows and what it is called, see
            `lists.Naming`.
        expected: What a source must hold, for the message where no picture is.
        unused: Why a picture is not used, for the report.
        title: What the face set is called, from the path of the source; None for `name`.
        lists: File names that its verification list may have, the likeliest first. It is looked
            for in the source, beside it, then among the data; where there is none, the report says
            so. Without names, only a list that the user names is read.
        notes: Sentences for the report, from the pictures, the list and the name of its file.
        align: Default of `prepare_faces`.
        duplicates: What becomes of the same photo under several names where there is no list.
        archives: Whether it may be an archive, too, not only a folder.
        depth: How deep in a folder pictures may lie.
        locate: Finds the photographs where the user names none, or raises `UserError`.
    """

    name: str
    help: str
    entries: Callable[[Sequence[str]], Sequence[Entry]]
    image_name: Naming
    expected: str
    unused: str
    title: Callable[[Path], str] | None = None
    lists: tuple[str, ...] = ()
    notes: Callable[[Sequence[Entry], PairList | None, str], Iterable[str]] = _no_notes
    align: str = "auto"
    duplicates: Duplicates = "report"
    archives: bool = True
    depth: int = DEPTH
    locate: Callable[[], Path] | None = None


#: Every face source by its name.
SOURCES: Registry[FaceSource] = Registry("face source")
SOURCES.add("lfw", "facefocus.faces.sources.lfw:LFW")
SOURCES.add("calfw", "facefocus.faces.sources.cross:CALFW")
SOURCES.add("cplfw", "facefocus.faces.sources.cross:CPLFW")
SOURCES.add("folder", "facefocus.faces.sources.folder:FOLDER")


@runtime_checkable
class MakeFaces(Protocol):
    """Writes a face set that is made of another one."""

    def __call__(
        self, faces: FaceSet, out: Path, *, count: int | None, seed: int, progress: Progress
    ) -> bool:
        """Write it to the folder `out`; whether it had to be made.

        Args:
            faces: The other one, from a folder.
            out: New, or the same set from before.
            count: How many pairs or people, at most; None for all.
            seed: Of every draw.
            progress: Called with images done and in total.
        """


@dataclass(frozen=True, kw_only=True)
class DerivedSource:
    """A face set that is made of one that is prepared already.

    Attributes:
        name: What it is called in `DERIVED` and on the command line.
        help: One line for users.
        make: Makes it.
        seed: The default seed.
    """

    name: str
    help: str
    make: MakeFaces
    seed: int = 0


#: Every derived face source by its name.
DERIVED: Registry[DerivedSource] = Registry("derived face source")
DERIVED.add("patch-lfw", "facefocus.faces.sources.patch_lfw:PATCH_LFW")
DERIVED.add("transplant", "facefocus.faces.sources.transplant:TRANSPLANT")


@any_path
def derive_faces(
    source: str | DerivedSource,
    path: Path | None = None,
    out: Path | None = None,
    *,
    count: int | None = None,
    seed: int | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Make a face set of one that is prepared already.

    Args:
        source: A name of `DERIVED`, or a source that is not registered.
        path: The folder of the other face set; None for ``faces/lfw``.
        out: The folder; None for ``faces/NAME``.
        count: How many pairs or people, at most; None for all.
        seed: Of every draw; None for the source's own.
        progress: Called as ``("write", images done, images)``.

    Raises:
        UserError: No such source, no such face set or one that it cannot be made of, or `out`
            cannot be written or holds something else.
    """
    kind = DERIVED[source] if isinstance(source, str) else source
    if count is not None and count < 1:
        raise UserError(f"The 'count' must be at least 1. Got {count}.")
    folder = out or Path("faces") / kind.name
    new = kind.make(
        open_faceset(path or _prepared_lfw(kind.name)),
        folder,
        count=count,
        seed=kind.seed if seed is None else seed,
        progress=progress,
    )
    return report_of(folder, already_complete=not new)


def _prepared_lfw(name: str) -> Path:
    folders = [root / "faces" / "lfw" for root in (Path(), *search_dirs())]
    for folder in folders:
        if (folder / MANIFEST).is_file():
            return folder
    raise UserError(
        f"'{name}' is made of a prepared face set, and faces/lfw is not here. Prepare LFW by"
        " 'facefocus prepare lfw', or name another face set by --source."
    )


@any_path
def prepare_faces(
    source: str | FaceSource,
    path: Path | None = None,
    out: Path | None = None,
    *,
    pairs: Path | None = None,
    align: str | None = None,
    keep_duplicates: bool = False,
    **options: Unpack[Options],
) -> PrepareReport:
    """Make a face set of an archive or a folder of photographs.

    Args:
        source: A name of `SOURCES`, or a source that is not registered.
        path: The archive (tar, tgz or zip) or folder; None where the source finds its own.
        out: Folder of the face set; None for ``faces/TITLE``.
        pairs: A verification list of any form that `lists` reads; None looks for the source's own.
            Images that the list names and the source lacks are in the index with a reason.
        align: ``"yunet"``, ``"none"`` for aligned crops, or ``"auto"``, see `prepare`; None for
            the source's own.
        keep_duplicates: Let the same photo under several names count as often. Without it, the
            source decides; with a list, which names the photos, each counts as often as it is
            there.
        options: As those of `prepare`.

    Raises:
        UserError: No such source; no path; the photographs or the list cannot be read; or any
            reason `prepare` has.

    Example:
        >>> from PIL import Image
        >>> from facefocus.faces.sources.synthetic import render
        >>> for person in range(2):
        ...     folder = Path("photos") / f"Person {person}"
        ...     folder.mkdir(parents=True)
        ...     for photo in range(2):
        ...         frame = render("all", 1, person, photo).frame
        ...         Image.fromarray(frame).save(folder / f"{photo}.png")
        >>> report = prepare_faces("folder", "photos", align="none")
        >>> str(report.folder), report.images, report.people
        ('faces/photos', 4, 2)
    """
    kind = SOURCES[source] if isinstance(source, str) else source
    path = _located(kind, path)
    pictures = picture_source(
        path,
        kind.entries,
        expected=kind.expected,
        unused=kind.unused,
        archives=kind.archives,
        depth=kind.depth,
    )
    listed, name = None, ""
    if pairs is not None or kind.lists:
        listed, name = find_list(pairs, path, kind.lists, kind.name, kind.image_name)
    title = kind.title(path) if kind.title else kind.name
    own = kind.duplicates if listed is None else "report"
    return prepare(
        pictures.listed(listed, name, lambda entries: kind.notes(entries, listed, name)),
        out or Path("faces") / title,
        title=title,
        align=align or kind.align,
        pairs=listed,
        duplicates="keep" if keep_duplicates else own,
        **options,
    )


def _located(source: FaceSource, path: Path | None) -> Path:
    if path is not None:
        return path
    if source.locate is None:
        raise UserError(
            f"The face source '{source.name}' needs the archive or folder of its photographs. "
            "Got none. Name it by --source."
        )
    return source.locate()
