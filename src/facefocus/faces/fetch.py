"""Downloads of Labeled Faces in the Wild: from mirrors, resumed where broken off, verified.

Pooch keeps the files: it knows what is there already, checks sha256 and moves a file to its place
only when it is whole. It cannot resume, so the transfer itself is this module's: bytes that came
stay in ``NAME.part``, and the next try asks the server for the rest (HTTP range requests,
RFC 9110 section 14).
"""

from __future__ import annotations

import logging
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
import urllib3

from facefocus import locations
from facefocus.errors import UserError, did_you_mean, one_line
from facefocus.progress import Progress, silent

#: Tries for each mirror; only a try that brought new bytes is followed by another.
ATTEMPTS = 5

#: Seconds until a server must have answered, and between two pieces of its answer.
TIMEOUT = (15.0, 60.0)

_BLOCK = 2**18
_FIGSHARE = "https://ndownloader.figshare.com/files/"
_OFFICIAL = "http://vis-www.cs.umass.edu/lfw/"


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded.

    Attributes:
        name: What it is called here.
        urls: Mirrors, tried in this order.
        sha256: Of the published file; None where none is published.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None


#: The archives by what was done to their images. The hashes and figshare's copies are those that
#: scikit-learn pins (sklearn.datasets.fetch_lfw_people); for deep-funneled there is no pin.
LFW_ARCHIVES = {
    "deepfunneled": RemoteFile("lfw-deepfunneled.tgz", (f"{_OFFICIAL}lfw-deepfunneled.tgz",), None),
    "funneled": RemoteFile(
        "lfw-funneled.tgz",
        (f"{_FIGSHARE}5976015", f"{_OFFICIAL}lfw-funneled.tgz"),
        "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
    ),
    "original": RemoteFile(
        "lfw.tgz",
        (f"{_FIGSHARE}5976018", f"{_OFFICIAL}lfw.tgz"),
        "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
    ),
}
LFW_PAIRS = RemoteFile(
    "pairs.txt",
    (f"{_FIGSHARE}5976006", f"{_OFFICIAL}pairs.txt"),
    "ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592",
)


@dataclass(frozen=True)
class Fetched:
    """A file that is there now.

    Attributes:
        path: Where.
        sha256: Of its contents.
        verified: Whether that is the published one; False where none is published.
    """

    path: Path
    sha256: str
    verified: bool

    def line(self) -> str:
        """One plain line."""
        state = "verified" if self.verified else "not verified: no sha256 of it is published"
        return f"file {self.path} sha256 {self.sha256} ({state})"


@dataclass(frozen=True)
class FetchReport:
    """The archive of images and its list of pairs, side by side as `prepare_lfw` looks for them."""

    archive: Fetched
    pairs: Fetched

    def lines(self) -> Iterator[str]:
        """The report as plain lines."""
        yield self.archive.line()
        yield self.pairs.line()


def fetch_lfw(
    out: Path | None = None, *, which: str = "deepfunneled", progress: Progress = silent
) -> FetchReport:
    """Download Labeled Faces in the Wild and its ``pairs.txt``.

    Files that are there and whole are not downloaded again.

    Args:
        out: The folder of both files; None for ``lfw`` in the user's cache.
        which: ``"deepfunneled"``, ``"funneled"`` or ``"original"``.
        progress: Called as ``(file name, bytes done, bytes)``.

    Raises:
        UserError: No mirror can be reached, none has the published file, or `out` cannot be
            written; what came is kept, and the next call goes on from there.
    """
    if which not in LFW_ARCHIVES:
        raise UserError(
            f"The 'which' must be one of {', '.join(LFW_ARCHIVES)}. Got '{which}'."
            + did_you_mean(which, LFW_ARCHIVES)
        )
    folder = out or locations.cache_dir() / "lfw"
    # The small file first: a wrong folder or a missing network shows at once.
    pairs = fetch_file(LFW_PAIRS, folder, progress=progress)
    return FetchReport(fetch_file(LFW_ARCHIVES[which], folder, progress=progress), pairs)


def fetch_file(file: RemoteFile, folder: Path, *, progress: Progress = silent) -> Fetched:
    """Download one file into a folder, or find it there.

    A file of the right name with another hash than the published one is replaced.

    Args:
        file: What to get.
        folder: Made if need be.
        progress: Called as ``(file name, bytes done, bytes)``.

    Raises:
        UserError: See `fetch_lfw`.
    """
    failures = []
    for url in file.urls:
        transfer = _Transfer(file, folder, progress)
        try:
            with _quiet_pooch():
                path = pooch.retrieve(
                    url, known_hash=file.sha256, fname=file.name, path=folder, downloader=transfer
                )
        except _Broken as error:
            failures.append(f"{url} ({error})")
        except ValueError:
            # Pooch has removed the file: it is not the published one.
            failures.append(f"{url} (its sha256 must be {file.sha256}, got {transfer.got})")
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise UserError(f"Cannot write '{folder / file.name}': {reason}.") from error
        else:
            sha256 = pooch.file_hash(path)
            return Fetched(Path(path), sha256, verified=file.sha256 is not None)
    raise UserError(_all_failed(file, folder, failures))


def _all_failed(file: RemoteFile, folder: Path, failures: Sequence[str]) -> str:
    kept = " What came so far is kept; the next try goes on from there." * (
        _part(folder, file.name).exists()
    )
    return (
        f"'{file.name}' cannot be downloaded. Tried {', '.join(failures)}.{kept} "
        f"Or get it by other means and put it at '{folder / file.name}'."
    )


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Pooch says on standard error what it does; the library is silent."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


# One transfer -------------------------------------------------------------------------------------


class _Broken(Exception):
    """A transfer failed for a reason of the network or the server; one line."""


def _part(folder: Path, name: str) -> Path:
    return folder / f"{name}.part"


class _Transfer:
    """A downloader for pooch that goes on where an earlier one stopped.

    Args:
        file: What is downloaded.
        folder: Where the part is kept.
        progress: Called as ``(file name, bytes done, bytes)``.
    """

    def __init__(self, file: RemoteFile, folder: Path, progress: Progress) -> None:
        self._file = file
        self._part = _part(folder, file.name)
        # Which version of the file the part is of, as the server calls it (RFC 9110, 13.1.5).
        self._version = self._part.with_name(f"{self._part.name}.version")
        self._progress = progress
        self.got = ""

    def __call__(self, url: str, output_file: str, _: object, check_only: bool = False) -> None:
        """Download `url` to `output_file`, as pooch wants it.

        Raises:
            _Broken: It cannot be downloaded; the part stays.
        """
        for attempt in range(1, ATTEMPTS + 1):
            before = self._size()
            try:
                self._transfer(url)
                break
            except (requests.RequestException, urllib3.exceptions.HTTPError, _Broken) as error:
                if attempt == ATTEMPTS or self._size() <= before:
                    raise _Broken(_reason(error)) from error
        self._version.unlink(missing_ok=True)
        self.got = pooch.file_hash(str(self._part))
        if self._file.sha256 is None and not tarfile.is_tarfile(self._part):
            # With nothing to verify it by, at least not the page of a login or an error.
            self._part.unlink()
            raise _Broken("what came is no archive")
        self._part.replace(output_file)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _transfer(self, url: str) -> None:
        """Write what is missing to the part, or everything where that cannot be had."""
        start = self._size()
        headers = self._range(start)
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                # The part is the whole file already, or of another file.
                if _content_range(response, "total") != start:
                    self._part.unlink()
                    self._transfer(url)
                return
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            if resumed and _content_range(response, "start") != start:
                raise _Broken("the server sent another part than asked for")
            if not resumed:
                start = 0
            self._keep_version(response)
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdecimal() else 0
            self._write(response, start, total)

    def _range(self, start: int) -> dict[str, str]:
        # Never compressed on the way: the hash and the range are those of the file itself.
        headers = {"Accept-Encoding": "identity"}
        version = self._version.read_text() if self._version.exists() else ""
        if start and self._file.sha256 is not None:
            # Mirrors name versions differently; the hash will tell whether the halves fit.
            headers["Range"] = f"bytes={start}-"
        elif start and version:
            headers |= {"Range": f"bytes={start}-", "If-Range": version}
        return headers

    def _keep_version(self, response: requests.Response) -> None:
        tag = response.headers.get("ETag", "")
        if tag.startswith("W/"):
            tag = ""  # Weak tags do not tell bytes apart.
        self._version.write_text(tag or response.headers.get("Last-Modified", ""))

    def _write(self, response: requests.Response, start: int, total: int) -> None:
        done = start
        with self._part.open("ab" if start else "wb") as file:
            for block in response.raw.stream(_BLOCK, decode_content=False):
                file.write(block)
                done += len(block)
                self._progress(self._file.name, done, max(done, total))
            file.flush()
            os.fsync(file.fileno())
        if done < total:
            # urllib3 1 ends without a word, urllib3 2 has raised by now.
            raise _Broken(f"broken off after {done} of {total} bytes")


_CONTENT_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+|\*)")


def _content_range(response: requests.Response, part: str) -> int | None:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    found = match[part] if match else None
    return int(found) if found and found.isdecimal() else None


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return one_line(error, limit=120)
