"""Pictures in folders and archives, and faces from a folder with a sub-folder for each person.

Archives are read as a stream; nothing is unpacked, so no path in them can reach the disk.
"""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from facefocus.errors import UserError, one_line
from facefocus.faces.images import UnusableImage, suffixes
from facefocus.faces.prepare import (
    MAX_FILE_BYTES,
    Entry,
    Pictures,
    PrepareReport,
    Source,
    prepare,
)
from facefocus.progress import Progress, silent


def prepare_folder(
    source: Path,
    out: Path,
    *,
    align: str = "yunet",
    crop: str = "arcface112",
    detector: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Make a face set of ``source/Person Name/any picture``; its title is the folder's name.

    Images are called ``Person Name/file.jpg``. Every suffix that Pillow reads counts, in any case;
    other files, hidden ones and deeper folders are left alone, and the report says how many.

    Args:
        source: The folder.
        out: Where the face set goes.
        align: ``"yunet"``, or ``"none"`` for pictures that are aligned crops already.
        crop: ``"arcface112"`` or ``"facenet160"``, see `prepare`.
        detector: YuNet's file, if not in the usual places.
        workers: Threads; None for one for each CPU.
        progress: Called as ``("prepare" | "write", images done, images)``.

    Raises:
        UserError: No folder, no pictures in it, or any reason `prepare` has.
    """
    check_folder(source)
    found, ignored = _listed(source)
    notes = [f"{ignored} files or folders that are no picture of a person were ignored."]
    return prepare(
        files_source(source, found, notes=notes if ignored else []),
        out,
        title=source.resolve().name,
        align=align,
        crop=crop,
        detector=detector,
        workers=workers,
        progress=progress,
    )


def check_folder(source: Path) -> None:
    """Refuse a source that is no folder.

    Raises:
        UserError: It does not exist or is a file.
    """
    if not source.is_dir():
        got = "a file" if source.exists() else "nothing there"
        raise UserError(f"The 'source' must be a folder. Got '{source}': {got}.")


def files_source(
    root: Path,
    entries: Sequence[Entry],
    *,
    expected: str = "one folder of pictures for each person",
    notes: Sequence[str] = (),
) -> Source:
    """The source of the given files below `root`, known by their paths and contents.

    Args:
        root: Where the entries' paths begin.
        entries: The pictures.
        expected: What a folder without any must hold, for the message.
        notes: Sentences for the user.
    """

    def load() -> Pictures:
        if not entries:
            raise UserError(f"The 'source' must hold {expected}. Got '{root}', which holds none.")
        return Pictures(entries, stream=stream, notes=notes)

    def stream(start: int) -> Iterator[Callable[[], bytes]]:
        for entry in entries[start:]:
            yield partial(_read, root, entry)

    return Source(name=str(root), fingerprint=_fingerprint(root, entries), load=load)


def _listed(source: Path) -> tuple[list[Entry], int]:
    found: list[Entry] = []
    ignored = 0
    for person in visible(source):
        if not person.is_dir():
            ignored += 1
            continue
        for path in visible(person):
            if path.is_file() and path.suffix.lower() in suffixes():
                identity, file = printable(person.name), printable(path.name)
                found.append(Entry(identity, f"{identity}/{file}", f"{person.name}/{path.name}"))
            else:
                ignored += 1
    return found, ignored


def visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files such as macOS's ``._a.jpg``.

    Raises:
        UserError: The folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"The folder '{folder}' cannot be read: {error.strerror}.") from error


def printable(name: str) -> str:
    """A file name that can be stored as text, also where the disk's bytes are no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _read(root: Path, entry: Entry) -> bytes:
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

#: The pictures among the files of a source, in the same order.
Choose = Callable[[Sequence[str]], Sequence[Entry]]


def archive_source(path: Path, choose: Choose, *, expected: str) -> Source:
    """The source of the chosen files of a zip or tar archive, known by the archive's contents.

    Args:
        path: The archive.
        choose: Gets the paths of all files, in the order in which they lie in the archive.
        expected: What an archive without any picture must hold, for the message.

    Raises:
        UserError: The file cannot be read.
    """

    def load() -> Pictures:
        entries = choose([name for name, _, _ in members(path)])
        if not entries:
            raise UserError(f"The 'source' must hold {expected}. Got '{path}', which holds none.")
        return Pictures(entries, stream=partial(_streamed, path, entries))

    try:
        with path.open("rb") as file:
            fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"The 'source' '{path}' cannot be read: {error.strerror}.") from error
    return Source(name=str(path), fingerprint=fingerprint, load=load)


def members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """The files of a zip or tar archive: path, size in bytes, and a function that reads one.

    Read a file before going on to the next: a compressed archive knows no way back.

    Raises:
        UserError: No archive, or an incomplete or protected one; from the functions too.
    """
    with _readable(path):
        # A tar that holds a zip would pass for a zip, since those are known by their end.
        if not tarfile.is_tarfile(path) and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                for info in zipped.infolist():
                    if not info.is_dir():
                        yield info.filename, info.file_size, partial(_read_zip, path, zipped, info)
            return
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                if member.isreg():
                    yield member.name, member.size, partial(_read_tar, path, archive, member)


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
