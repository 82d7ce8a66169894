"""A file from the web into a folder: resumed where it broke off, verified where a hash is known."""

from __future__ import annotations

import http.client
import logging
import urllib.error
import urllib.request
from pathlib import Path

import pooch

from facefocus.errors import UserError, one_line
from facefocus.progress import Progress, silent

_BLOCK = 1 << 20


def download(url: str, path: Path, *, sha256: str | None, progress: Progress = silent) -> Path:
    """Fetch `url` into `path`, whose folder is made; nothing is left there unless it is whole.

    A broken download stays beside it as ``.part`` and is resumed by the next call.

    Raises:
        UserError: The server cannot be reached or refuses, or the hash differs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")

    def fetch(source: str, target: object, _: object) -> None:
        _resume(source, part, progress)
        part.replace(str(target))

    # pooch announces downloads on the console; here the caller's progress does.
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        pooch.retrieve(url, known_hash=sha256, fname=path.name, path=path.parent, downloader=fetch)
    except ValueError as error:
        raise UserError(
            f"The file of '{url}' is not the expected one: its sha256 is not {sha256}. It was "
            "deleted; fetch it again or ask its publisher."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"'{url}' could not be fetched: {one_line(error)}. The same command goes on where it "
            "stopped."
        ) from error
    finally:
        logger.setLevel(level)
    return path


def _resume(url: str, part: Path, progress: Progress) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not have:
            raise
        # The server has no more than is here: the part is whole, or of another file.
        part.unlink()
        _resume(url, part, progress)
        return
    with response:
        resumed = response.status == 206
        done = have if resumed else 0
        left = response.headers.get("Content-Length")
        total = done + int(left) if left else 0
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                done += len(block)
                progress("fetch", done, total)
    if total and done != total:
        raise OSError(f"the connection broke after {done} of {total} bytes")
