"""Pictures in folders and archives, and the verification lists beside them.

Archives are read as a stream; nothing is unpacked, so no path in them can reach the disk.
"""

from __future__ import annotations

import hashlib
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from facefocus.core import locations
from facefocus.core.errors import UserError, one_line
from facefocus.core.files import printable
from facefocus.faces.faceset import PairList
from facefocus.faces.images import UnusableImage, kind_of_file, suffixes
from facefocus.faces.lists import Naming, parse_list, read_list
from facefocus.faces.prepare import (
    MAX_FILE_BYTES,
    Entry,
    Pictures,
    PictureSource,
)

#: How deep pictures may lie in a folder: ``calfw/images&landmarks/images&landmarks/images``.
DEPTH = 5

#: The pictures among the files of a source, in the same order.
Choose = Callable[[Sequence[str]], Sequence[Entry]]


def _ignored_path(path: Path, picture: str) -> tuple[str, str]:
    """The kind of an unused path of a folder, and why it is unused; for `_ignored_notes`.

    Args:
        path: A file or whatever else.
        picture: Why it is not used if it is a picture.
    """
    if path.is_dir():
        return "folder", "deeper than pictures are looked for"
    if path.is_symlink() and not path.exists():
        return "link", "leads nowhere"
    if path.exists() and not path.is_file():
        return "device, pipe or socket", "not a file"
    return _ignored_file(path.name, picture)


def _ignored_file(name: str, picture: str) -> tuple[str, str]:
    """The kind of an unused file, and why it is unused; arguments as those of `_ignored_path`."""
    suffix = PurePosixPath(name).suffix.lower()
    why = picture if suffix in suffixes() else kind_of_file(suffix)
    return suffix or "file without a suffix", why


def _ignored_notes(ignored: Iterable[tuple[str, str]]) -> list[str]:
    """One sentence for each kind of file that is not used, the most frequent first.

    Args:
        ignored: What each of them is, and why it is not used.
    """
    counts = Counter((printable(what), why) for what, why in ignored)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"ignored {count} {what} ({why})" for (what, why), count in ordered]


def visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files such as macOS's ``._a.jpg``.

    Raises:
        UserError: The folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"The folder '{folder}' cannot be read: {error.strerror}.") from error


def picture_source(
    root: Path,
    choose: Choose,
    *,
    expected: str,
    unused: str,
    archives: bool = True,
    depth: int = DEPTH,
) -> PictureSource:
    """The chosen files of an archive, or of a folder and the folders in it.

    Args:
        root: The archive or folder.
        choose: Gets the paths of all visible files, in their order.
        expected: What must be there, for the message where no picture is.
        unused: Why a picture is not used, for the report.
        archives: Whether it may be an archive.
        depth: How deep in a folder pictures may lie.

    Raises:
        UserError: It is neither, or cannot be read.
    """
    if archives and root.is_file():
        return _archive_source(root, choose, expected=expected, unused=unused)
    if not root.is_dir():
        got = "a file" if root.exists() else "nothing there"
        raise UserError(f"The 'source' must be a folder. Got '{root}': {got}.")
    paths = {path.relative_to(root).as_posix(): path for path in _below(root, depth)}
    entries = choose([name for name, path in paths.items() if path.is_file()])
    used = {entry.path for entry in entries}
    rest = (path for name, path in paths.items() if name not in used)
    notes = _ignored_notes(_ignored_path(path, unused) for path in rest)

    def load() -> Pictures:
        if not entries:
            raise _no_pictures(root, expected)
        return Pictures(entries, stream=stream, notes=notes)

    def stream(start: int) -> Iterator[Callable[[], bytes]]:
        for entry in entries[start:]:
            yield partial(read_file, root, entry)

    return PictureSource(name=str(root), fingerprint=_fingerprint(root, entries), load=load)


def _no_pictures(root: Path, expected: str) -> UserError:
    return UserError(f"The 'source' must hold {expected}. Got '{root}', which holds none.")


def _below(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """All that is visible in a folder and in the folders in it, sorted within each."""
    for path in visible(folder):
        if depth > 1 and path.is_dir():
            yield from _below(path, depth - 1)
        else:
            yield path


def find_list(
    pairs: Path | None, source: Path, names: Sequence[str], title: str, naming: Naming
) -> tuple[PairList | None, str]:
    """A verification list and the name of its file; None, and the first of `names`, without one.

    Args:
        pairs: The list; None looks for one of `names` in the source, beside it, and in the folder
            `title` among the data.
        source: The pictures.
        names: Names that a list may have, the likeliest first.
        title: What the face set is called.
        naming: Who an image shows and what it is called.

    Raises:
        UserError: A list cannot be read or is none, see `lists.parse_list`.
    """
    if pairs is not None:
        return read_list(pairs, naming), pairs.name
    within: dict[str, Path] = {}
    if source.is_file():
        inside = _inside_archive(source, names)
        for name in (name for name in names if name in inside):
            where, data = inside[name]
            return parse_list(data, where, naming), name
    elif source.is_dir():
        within = {path.name: path for path in reversed(list(_below(source)))}
    folders = [source.parent, *(root / title for root in locations.search_dirs())]
    candidates = [within, *({name: folder / name for name in names} for folder in folders)]
    for by_name in candidates:
        for path in (by_name[name] for name in names if name in by_name):
            if path.is_file():
                return read_list(path, naming), path.name
    return None, names[0]


def _inside_archive(source: Path, names: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """The files of these names in an archive: where each lies, and its contents."""
    lists: dict[str, tuple[str, bytes]] = {}
    for member, _, read in members(source):
        name = PurePosixPath(member).name
        if name in names and name not in lists:
            where = f"{source}/{member}"
            try:
                lists[name] = where, read()
            except UnusableImage as error:
                message = f"The 'pairs' file '{where}' cannot be read: {error.reason}."
                raise UserError(message) from error
    return lists


def read_file(root: Path, entry: Entry) -> bytes:
    """The bytes of a picture in a folder.

    Raises:
        UnusableImage: It cannot be opened, or is larger than `MAX_FILE_BYTES`.
    """
    path = root / entry.path
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UnusableImage(entry.name, f"larger than {MAX_FILE_BYTES // 2**20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise UnusableImage(entry.name, f"cannot be opened: {error.strerror}") from error


def _fingerprint(root: Path, entries: Sequence[Entry]) -> str:
    # Contents, not dates: a copied folder is the same source. Reading is cheap beside decoding.
    digest = hashlib.sha256()
    for entry in entries:
        try:
            with (root / entry.path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            content = str(error.strerror)
        digest.update(f"{printable(entry.path)}\0{content}\n".encode())
    return digest.hexdigest()


# Archives -----------------------------------------------------------------------------------------


def _archive_source(path: Path, choose: Choose, *, expected: str, unused: str) -> PictureSource:
    """The source of the chosen files of a zip or tar archive, known by the archive's contents."""

    def load() -> Pictures:
        listed = list(_members(path))
        files = [member.name for member in listed if member.kind == _FILE]
        entries = choose([name for name in files if _shown(name)])
        if not entries:
            raise _no_pictures(path, expected)
        used = {entry.path for entry in entries}
        rest = (member for member in listed if member.name not in used)
        shown = (member for member in rest if _shown(member.name))
        notes = _ignored_notes(_ignored_member(member, unused) for member in shown)
        return Pictures(entries, stream=partial(_streamed, path, entries), notes=notes)

    try:
        with path.open("rb") as file:
            fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"The 'source' '{path}' cannot be read: {error.strerror}.") from error
    return PictureSource(name=str(path), fingerprint=fingerprint, load=load)


_FILE = "file"


class _Member(NamedTuple):
    """One member of an archive: `kind` says what it is if it is no file."""

    name: str
    size: int
    read: Callable[[], bytes]
    kind: str


def _shown(name: str) -> bool:
    # macOS adds a folder __MACOSX with a file ._x.jpg for every x.jpg to its archives.
    parts = PurePosixPath(name).parts
    return not any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)


def _ignored_member(member: _Member, picture: str) -> tuple[str, str]:
    if member.kind != _FILE:
        return member.kind, "not a file"
    return _ignored_file(member.name, picture)


def members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """The files of a zip or tar archive: path, size in bytes, and a function that reads one.

    Read a file before the next one: a compressed archive can only be read forward.

    Raises:
        UserError: No archive, or an incomplete or protected one; from the functions too.
    """
    for member in _members(path):
        if member.kind == _FILE:
            yield member.name, member.size, member.read


def _members(path: Path) -> Iterator[_Member]:
    """What an archive holds except folders."""
    with _readable(path):
        # A tar that holds a zip would pass for a zip, since those are known by their end.
        is_tar = tarfile.is_tarfile(path)
        if not is_tar and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                for info in zipped.infolist():
                    if not info.is_dir():
                        link = stat.S_ISLNK(info.external_attr >> 16)
                        read = partial(_read_zip, path, zipped, info)
                        kind = "link" if link else _FILE
                        yield _Member(_plain(info.filename), info.file_size, read, kind)
            return
        if not is_tar:
            raise tarfile.ReadError("neither")
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                if not member.isdir():
                    read = partial(_read_tar, path, archive, member)
                    yield _Member(_plain(member.name), member.size, read, _tar_kind(member))


def _plain(name: str) -> str:
    """A path as pathlib writes it: some archives have ``./lfw/Name`` for ``lfw/Name``."""
    return str(PurePosixPath(name))


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.isreg():
        return _FILE
    return "link" if member.issym() or member.islnk() else "device or pipe"


def _read_zip(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with _readable(path):
        try:
            return archive.read(info)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
            # Every file of a zip is packed on its own: the others may be whole.
            raise UnusableImage(info.filename, "damaged or incomplete") from error


def _read_tar(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with _readable(path):
        file = archive.extractfile(member)
        return b"" if file is None else file.read()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    # A RuntimeError is how zipfile says that there is a password or an unknown compression.
    except (
        *(tarfile.TarError, zipfile.BadZipFile, RuntimeError),
        *(EOFError, zlib.error, lzma.LZMAError, OSError),
    ) as error:
        raise UserError(
            f"The 'source' must be a complete archive (tar, tgz or zip) or a folder. "
            f"Got '{path}': {one_line(error)}."
        ) from error


def _streamed(path: Path, entries: Sequence[Entry], start: int) -> Iterator[Callable[[], bytes]]:
    wanted = {entry.path for entry in entries}
    chosen = (member for member in members(path) if member[0] in wanted)
    for name, size, read in islice(chosen, start, None):
        if size > MAX_FILE_BYTES:
            reason = f"larger than {MAX_FILE_BYTES // 2**20} MiB"
            yield partial(_refuse, UnusableImage(name, reason))
            continue
        try:
            data = read()
        except UnusableImage as error:
            yield partial(_refuse, error)
        else:
            yield partial(bytes, data)


def _refuse(error: UnusableImage) -> bytes:
    raise error
