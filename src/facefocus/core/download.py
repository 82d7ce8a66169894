"""Download a published file: from mirrors, resumed after a break, verified by its hash.

Pooch keeps the files: it knows what is there already, checks sha256 and moves a file to its place
only when it is whole. It cannot resume, so the transfer itself is this module's: bytes that came
stay in ``NAME.part``, and the next try asks the server for the rest (HTTP range requests,
RFC 9110 section 14). Proxies are those of the environment.

Where the publisher states no hash, that of the first download is kept beside the file, in
``NAME.sha256``, and every later download must have it: trust on first use.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
import urllib3

from facefocus.core.errors import UserError, one_line
from facefocus.core.files import write_atomically
from facefocus.core.progress import Progress, silent

#: Tries for each mirror; only a try that brought new bytes is followed by another.
ATTEMPTS = 5

#: Seconds until a server must have answered, and between two pieces of its answer.
TIMEOUT = (15.0, 60.0)

_BLOCK = 2**18


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded.

    Attributes:
        name: What it is called here.
        urls: Mirrors, tried in this order.
        sha256: Of the published file; None where none is published.
        pinned_by: Who gives that hash, where it is not the publisher.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None = None
    pinned_by: str = ""


@dataclass(frozen=True)
class Fetched:
    """A file that is on the disk now.

    Attributes:
        path: Where.
        sha256: Of its contents.
        trust: Why that is the right one, for people.
    """

    path: Path
    sha256: str
    trust: str

    def line(self) -> str:
        """One plain line."""
        return f"file {self.path} sha256 {self.sha256} ({self.trust})"


def fetch_file(file: RemoteFile, folder: Path, *, progress: Progress = silent) -> Fetched:
    """Download one file into a folder, or find it there.

    A file of the right name with another hash than the published one is replaced.

    Args:
        file: What to get.
        folder: Made if need be.
        progress: Called as ``(file name, bytes done, bytes)``.

    Raises:
        UserError: No mirror can be reached, none has the right file, or the folder cannot be
            written; the part that arrived is kept, and the next call continues from there.
    """
    note = folder / f"{file.name}.sha256"
    pin, trust = file.sha256, f"as {file.pinned_by} has it" if file.pinned_by else "as published"
    if pin is None and note.is_file():
        pin = note.read_text(encoding="utf-8", errors="replace").partition(" ")[0]
        trust = "as at the first download; the publisher states none"
    failures = []
    for url in file.urls:
        transfer = _Transfer(file.name, pin, folder, progress)
        try:
            with _quiet_pooch():
                path = pooch.retrieve(
                    url, known_hash=pin, fname=file.name, path=folder, downloader=transfer
                )
        except _Broken as error:
            failures.append(f"{url} ({error})")
        except ValueError:
            # Pooch has removed the file: it is not the expected one.
            failures.append(f"{url} (its sha256 must be {pin}, got {transfer.got})")
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise UserError(f"Cannot write '{folder / file.name}': {reason}.") from error
        else:
            sha256 = pooch.file_hash(path)
            if pin is None:
                _keep(note, sha256, file.name)
                trust = f"the publisher states none: kept in {note.name}, and checked from now on"
            return Fetched(Path(path), sha256, trust)
    raise UserError(_all_failed(file, folder, failures, note if file.sha256 is None else None))


def _keep(note: Path, sha256: str, name: str) -> None:
    content = f"{sha256}  {name}\n".encode()
    write_atomically(note, lambda target: target.write(content))


def _all_failed(file: RemoteFile, folder: Path, failures: Sequence[str], note: Path | None) -> str:
    kept = " The part that arrived is kept; the next try continues from there." * (
        _part(folder, file.name).exists()
    )
    if note is not None and note.is_file():
        kept += f" If its publisher has replaced it, delete '{note}' to trust the new one."
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
    """A downloader for pooch that continues where an earlier one stopped.

    Args:
        name: Of the file.
        sha256: That it must have; None where that is not known.
        folder: Where the part is kept.
        progress: Called as ``(file name, bytes done, bytes)``.
    """

    def __init__(self, name: str, sha256: str | None, folder: Path, progress: Progress) -> None:
        self._name = name
        self._sha256 = sha256
        self._part = _part(folder, name)
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
        if self._sha256 is None and _is_page(self._part):
            # With nothing to verify it by, at least not the page of a login or an error.
            self._part.unlink()
            raise _Broken("the answer is a web page, not the file")
        self._part.replace(output_file)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _transfer(self, url: str) -> None:
        """Write the missing bytes to the partial file, or all where the server sends no part."""
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
                raise _Broken("the server sent another part than requested")
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
        if start and self._sha256 is not None:
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
                self._progress(self._name, done, max(done, total))
            file.flush()
            os.fsync(file.fileno())
        if done < total:
            # urllib3 1 ends without a word, urllib3 2 has raised by now.
            raise _Broken(f"broken off after {done} of {total} bytes")


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


_CONTENT_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+|\*)")


def _content_range(response: requests.Response, part: str) -> int | None:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    digits = match[part] if match else None
    return int(digits) if digits and digits.isdecimal() else None


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return one_line(error, limit=120)
