"""Contact sheets: photos, each with its main face marked and the aligned crop beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw, ImageFont

from facefocus.core.files import write_atomically
from facefocus.faces.faceset import BOX_COLUMNS, LANDMARK_COLUMNS

#: Sides of a photo and of a crop on the sheet, and the height of the text below; pixels.
_PHOTO, _FRAME, _TEXT, _GAP = 224, 112, 34, 8
_TILE = (_PHOTO + _FRAME + 3 * _GAP, _PHOTO + _TEXT + 2 * _GAP)

_COLUMNS, _ROWS = 4, 6
#: Photos that are drawn at most: 20 pages.
MOST_DRAWN = 20 * _COLUMNS * _ROWS

_WARNING, _PLAIN, _MARK = (190, 30, 30), (70, 70, 70), (0, 230, 90)


def remark(row: Mapping[str, Any]) -> str | None:
    """Why somebody should look at an image, from its row in the index."""
    return row["reason"] or row.get("check")


def draw_tile(
    photo: UInt8[np.ndarray, "h w 3"],
    row: Mapping[str, Any],
    frames: UInt8[np.ndarray, "n a b 3"],
) -> Image.Image:
    """A photo with box and landmarks, and the crop beside it, over two lines of text.

    Args:
        photo: The picture as it was decoded.
        row: Its row in the index of the face set.
        frames: All frames of the set.
    """
    tile = Image.new("RGB", _TILE, "white")
    draw = ImageDraw.Draw(tile)
    small = Image.fromarray(photo)
    small.thumbnail((_PHOTO, _PHOTO))
    tile.paste(small, (_GAP, _GAP))
    if row.get("box_x") is not None:
        _mark(draw, row, np.array(small.size) / photo.shape[1::-1])
    if row["row"] is not None:
        crop = Image.fromarray(np.asarray(frames[row["row"]]))
        crop.thumbnail((_FRAME, _FRAME))
        tile.paste(crop, (2 * _GAP + _PHOTO, _GAP))
    font = ImageFont.load_default(12)
    score = "" if row["score"] is None else f"score {row['score']:.2f}"
    second = ": ".join(text for text in (score, remark(row)) if text)
    color = _WARNING if remark(row) else _PLAIN
    for line, text in enumerate((row["name"], second)):
        position = (_GAP, _PHOTO + 2 * _GAP + line * _TEXT // 2)
        draw.text(position, _fitted(text, font), fill=color, font=font)
    return tile


def _mark(
    draw: ImageDraw.ImageDraw, row: Mapping[str, Any], scale: Float64[np.ndarray, "2"]
) -> None:
    """Draw box and landmarks, kept on the photo whatever lies beyond its edge."""
    box = np.array([row[column] for column in BOX_COLUMNS])
    low, high = box[:2] * scale, (box[:2] + box[2:]) * scale
    low, high = (np.clip(corner, 0, _PHOTO - 1) + _GAP for corner in (low, high))
    draw.rectangle([*low, *high], outline=_MARK, width=2)
    points = np.array([row[column] for column in LANDMARK_COLUMNS]).reshape(-1, 2)
    for x, y in points * scale + _GAP:
        draw.ellipse([x - 1, y - 1, x + 1, y + 1], fill=_MARK)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The end of a text that is too wide; a file name's end is more informative than its start."""
    room = _TILE[0] - 2 * _GAP
    if font.getlength(text) <= room:
        return text
    while font.getlength("..." + text) > room:
        text = text[1:]
    return "..." + text


def write_pages(tiles: Sequence[Image.Image], path: Path) -> list[Path]:
    """Write tiles as PNG pages: ``sheet.png``, ``sheet-2.png``, ...

    Raises:
        UserError: A page cannot be written.
    """
    size = _COLUMNS * _ROWS
    pages = [tiles[start : start + size] for start in range(0, len(tiles), size)]
    paths = [
        path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        for number in range(1, len(pages) + 1)
    ]
    for page, file in zip(pages, paths, strict=True):
        rows = -(-len(page) // _COLUMNS)
        columns = min(_COLUMNS, len(page))
        sheet = Image.new("RGB", (columns * _TILE[0], rows * _TILE[1]), "white")
        for position, tile in enumerate(page):
            row, column = divmod(position, _COLUMNS)
            sheet.paste(tile, (column * _TILE[0], row * _TILE[1]))
        write_atomically(file, partial(sheet.save, format="PNG"))
    return paths
