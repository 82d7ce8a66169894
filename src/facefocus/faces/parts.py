"""The finished chunks of an unfinished face set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from facefocus.core.files import atomic_file
from facefocus.faces.faceset import IndexRow


@dataclass(frozen=True, eq=False)
class Made:
    """The rows and frames of one picture.

    Attributes:
        rows: The faces that it may be of, the likeliest first; or one row with a reason.
        frames: Their crops; none where the picture is unusable.
    """

    rows: tuple[IndexRow, ...]
    frames: tuple[UInt8[np.ndarray, "h w 3"], ...] = ()


@dataclass(frozen=True)
class FrameLocation:
    """Where a frame lies: chunk and position among the chunk's frames."""

    chunk: int
    slot: int


#: The faces that a picture may be of, the likeliest first, with their frames; or a single row with
#: a reason and no frame.
Photo = list[tuple[IndexRow, FrameLocation | None]]


@dataclass(frozen=True)
class Parts:
    """Finished chunks: bare pixels in ``00000.frames``, rows in ``00000.json``, written last.

    Attributes:
        folder: Where they lie.
        size: Height and width of the frames.
    """

    folder: Path
    size: tuple[int, int]

    def done(self) -> int:
        """How many chunks from the first on are complete."""
        return next(chunk for chunk in count() if not self._file(chunk, "json").exists())

    def write(self, chunk: int, made: Sequence[Made]) -> None:
        """Write the rows and frames of a chunk."""
        with atomic_file(self._file(chunk, "frames")) as file:
            for frame in (frame for photo in made for frame in photo.frames):
                file.write(np.ascontiguousarray(frame).data)
        with atomic_file(self._file(chunk, "json")) as file:
            listed = [[asdict(row) for row in photo.rows] for photo in made]
            file.write(json.dumps(listed).encode())

    def photos(self) -> Iterator[Photo]:
        """The pictures of all complete chunks, in the order in which they were made."""
        for chunk in range(self.done()):
            slot = 0
            for listed in json.loads(self._file(chunk, "json").read_bytes()):
                rows = [_row(row) for row in listed]
                if rows[0].reason is not None:
                    yield [(rows[0], None)]
                    continue
                yield [(row, FrameLocation(chunk, slot + face)) for face, row in enumerate(rows)]
                slot += len(rows)

    def frame(self, location: FrameLocation) -> UInt8[np.ndarray, "h w 3"]:
        """The frame at a location."""
        size = self.size[0] * self.size[1] * 3
        with self._file(location.chunk, "frames").open("rb") as file:
            file.seek(location.slot * size)
            data = file.read(size)
        return np.frombuffer(data, np.uint8).reshape(*self.size, 3)

    def _file(self, chunk: int, suffix: str) -> Path:
        return self.folder / f"{chunk:05d}.{suffix}"


def _row(values: dict[str, object]) -> IndexRow:
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return IndexRow(**{**values, **lists})  # type: ignore[arg-type]
