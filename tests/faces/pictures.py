"""Synthetic pictures and sources for the tests of this room."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.faces.detect import Face
from facefocus.faces.prepare import Entry, Pictures, PictureSource


def pixels(seed: int, height: int = 12, width: int = 10) -> np.ndarray:
    """Random RGB pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def source_of(files: Sequence[tuple[str, str, bytes]], stop_at: int | None = None) -> PictureSource:
    """A source of (identity, name, bytes) that raises KeyboardInterrupt at position `stop_at`."""
    entries = [Entry(identity, name, f"{identity}/{name}") for identity, name, _ in files]

    def stream(start: int) -> Iterator[Callable[[], bytes]]:
        for position in range(start, len(files)):
            if position == stop_at:
                raise KeyboardInterrupt
            yield partial(bytes, files[position][2])

    return PictureSource("pictures", "fingerprint", lambda: Pictures(entries, stream))


def people(count: int, images: int) -> list[tuple[str, str, bytes]]:
    """`count` people with `images` random crops each, in an order that is not sorted."""
    listed = [
        (f"p{person}", f"p{person}_{image:04d}", encoded(pixels(100 * person + image)))
        for image in range(images)
        for person in range(count)
    ]
    return listed[::-1]


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, but for the times in a face set's manifest."""
    return {
        path.relative_to(folder).as_posix(): re.sub(rb'"mtime_ns": \d+', b"", path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def face(x: float, y: float, w: float, h: float, score: float = 0.93, turn: int = 0) -> Face:
    return Face(np.array([x, y, w, h], np.float64), ARCFACE_TEMPLATE.copy(), score, turn)
