"""A mask of the aligned crop, painted on the photograph it belongs to (Protocol: painting).

The mask goes back through the alignment, in the photograph's own resolution.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from PIL import Image

from facefocus.core.files import write_atomically
from facefocus.faces.align import crop
from facefocus.occlusion.fills import FILLS, Fill, GapFill, fill_rng

#: Rows of a photo that are looked at together: bounds the memory, changes no result.
_ROWS = 256


def mask_pixels(
    matrix: Float64[np.ndarray, "2 3"], size: tuple[int, int], side: int
) -> Int64[np.ndarray, "h w"]:
    """For each pixel of a photo, the flat index of the crop's pixel that it lies in, or -1.

    A pixel of the crop is a square about its center. The alignment takes a quadrilateral of the
    photo to it; a pixel of the photo lies in the one that its center lies in.

    Args:
        matrix: Takes (x, y, 1) of the photo to the crop; pixel centers at whole numbers.
        size: Height and width of the photo.
        side: Of the crop.

    Example:
        >>> half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])
        >>> mask_pixels(half, (4, 6), 2).tolist()[:2]
        [[0, 0, 1, 1, -1, -1], [0, 0, 1, 1, -1, -1]]
    """
    height, width = size
    inside = np.full(size, -1)
    across = np.arange(width)
    for top in range(0, height, _ROWS):
        down = np.arange(top, min(top + _ROWS, height))[:, None]
        x, y = (
            np.floor(row[0] * across + row[1] * down + row[2] + 0.5).astype(np.int64)
            for row in matrix
        )
        there = (x >= 0) & (x < side) & (y >= 0) & (y < side)
        inside[top : top + _ROWS][there] = (y * side + x)[there]
    return inside


def paint(
    photo: UInt8[np.ndarray, "h w 3"],
    matrix: Float64[np.ndarray, "2 3"],
    mask: Bool[np.ndarray, "side side"],
    fill: str | Fill = "black",
    rng: np.random.Generator | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The photo with a mask of its aligned crop painted on it.

    A fill that sees no mask (constant, mean, random, blur) is made on the aligned crop, as in an
    experiment, and each hidden quadrilateral gets its pixel's color. A fill that sees the mask
    (inpaint, linear) fills the gaps from the photo's own pixels, inside the upright box around the
    crop; its lengths are shares of that box's shorter side.

    Args:
        photo: Upright RGB, in its own resolution.
        matrix: Takes (x, y, 1) of the photo to the crop.
        mask: True where the crop is hidden.
        fill: A fill or its name.
        rng: What the fill draws by; seed 0 by default.

    Raises:
        UserError: No fill has this name.

    Example:
        >>> photo = np.full((4, 4, 3), 200, np.uint8)
        >>> half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])
        >>> mask = np.array([[True, False], [False, False]])
        >>> paint(photo, half, mask)[..., 0].tolist()
        [[0, 0, 200, 200], [0, 0, 200, 200], [200, 200, 200, 200], [200, 200, 200, 200]]
    """
    return _painted(photo, matrix, mask, fill, rng)[0]


def overlay(
    photo: UInt8[np.ndarray, "h w 3"],
    matrix: Float64[np.ndarray, "2 3"],
    mask: Bool[np.ndarray, "side side"],
    fill: str | Fill = "black",
    rng: np.random.Generator | None = None,
) -> UInt8[np.ndarray, "h w 4"]:
    """What `paint` puts on the photo, alone: RGBA, wholly transparent black where nothing is.

    Laid on the photo it gives what `paint` gives; it shows no pixel of the photo.
    """
    painted, hidden = _painted(photo, matrix, mask, fill, rng)
    alpha = np.where(hidden, 255, 0).astype(np.uint8)[..., None]
    return np.concatenate([np.where(hidden[..., None], painted, 0).astype(np.uint8), alpha], axis=2)


def _painted(
    photo: UInt8[np.ndarray, "h w 3"],
    matrix: Float64[np.ndarray, "2 3"],
    mask: Bool[np.ndarray, "side side"],
    fill: str | Fill,
    rng: np.random.Generator | None,
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """The painted photo, and where it was painted."""
    height, width = photo.shape[:2]
    side = len(mask)
    inside = mask_pixels(matrix, (height, width), side)
    hidden = np.append(mask.ravel(), False)[inside]  # the last one for -1: outside the crop
    painted = photo.copy()
    if not hidden.any():
        return painted, hidden
    fill = FILLS[fill] if isinstance(fill, str) else fill
    rngs = [rng or fill_rng(0, "painting")]
    if isinstance(fill, GapFill):
        rows, columns = (np.flatnonzero((inside >= 0).any(axis=axis)) for axis in (1, 0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        filled = fill.prepare(photo[box][None], rngs)(hidden[box])[0]
        painted[box][hidden[box]] = filled[hidden[box]]
    else:
        content = fill(crop(photo, matrix, side)[None], rngs)[0].reshape(-1, 3)
        painted[hidden] = content[inside[hidden]]
    return painted, hidden


def write_picture(path: Path, picture: UInt8[np.ndarray, "h w c"]) -> None:
    """Save RGB or RGBA pixels as a PNG file that holds nothing but them.

    No EXIF, place, time, color profile, comment or preview goes in: only pixels come here.

    Raises:
        UserError: The folder cannot be written, or the disk is full.
    """
    write_atomically(path, lambda file: Image.fromarray(picture).save(file, "PNG"))


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture file in pixels."""
    with Image.open(path) as picture:
        return picture.size
