from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefocus.core.errors import UserError
from facefocus.faces.faceset import BOX_COLUMNS, LANDMARK_COLUMNS
from facefocus.faces.sheet import draw_tile, write_pages

GREEN = np.array([0, 230, 90])
FRAMES = np.full((1, 112, 112, 3), (10, 20, 200), np.uint8)


def row(**values: Any) -> dict[str, Any]:
    box = dict(zip(BOX_COLUMNS, (100.0, 200.0, 100.0, 150.0), strict=True))
    coordinates = (120, 220, 180, 225, 150, 250, 130, 280, 170, 285)
    points = dict(zip(LANDMARK_COLUMNS, map(float, coordinates), strict=True))
    plain = {"name": "Al/1.jpg", "row": 0, "reason": None, "check": None, "score": 0.93}
    return {**plain, **box, **points, **values}


def drawn(**values: Any) -> np.ndarray:
    photo = np.full((896, 448, 3), 128, np.uint8)
    return np.asarray(draw_tile(photo, row(**values), FRAMES))


def red_text(tile: np.ndarray) -> bool:
    text = tile[240:].astype(int)
    return bool((text[..., 0] - text[..., 1] > 100).any())


def test_a_tile_shows_photo_box_and_crop() -> None:
    # 896 x 448 on 224 x 112: a quarter, 8 pixels from the corner.
    tile = drawn()
    marked = (tile[:232, :232] == GREEN).all(axis=2)
    y, x = np.nonzero(marked)
    assert (x.min(), x.max()) == (8 + 25, 8 + 50)
    assert (y.min(), y.max()) == (8 + 50, 8 + 87)
    assert marked[8 + 55, 8 + 30]
    assert marked[8 + 71, 8 + 42]
    assert (tile[20:100, 250:340] == FRAMES[0, 0, 0]).all()
    assert not red_text(tile)


def test_what_is_to_be_looked_at_is_red() -> None:
    assert red_text(drawn(check="a low score"))
    nobody = drawn(row=None, reason="no face found", score=None, box_x=None)
    assert red_text(nobody)
    assert not (nobody[:232] == GREEN).all(axis=2).any()


def test_a_box_beyond_the_photo_is_cut_and_long_names_are_shortened() -> None:
    tile = drawn(box_x=-500.0, box_width=5000.0, name="x" * 500)
    assert tile.shape == drawn().shape


def test_pages_are_numbered(tmp_path: Path) -> None:
    tiles = [Image.new("RGB", (360, 274), (n, 0, 0)) for n in range(30)]
    pages = write_pages(tiles, tmp_path / "new" / "sheet.png")
    assert [page.name for page in pages] == ["sheet.png", "sheet-2.png"]
    first, second = (np.asarray(Image.open(page)) for page in pages)
    # 24 tiles in 4 columns, then 6.
    assert (first.shape, second.shape) == ((6 * 274, 4 * 360, 3), (2 * 274, 4 * 360, 3))
    assert (first[0, 0, 0], first[274, 360, 0], second[274, 0, 0]) == (0, 5, 28)
    assert (second[-1, -1] == 255).all()
    with pytest.raises(UserError, match="Cannot write"):
        write_pages(tiles, tmp_path / "new" / "sheet.png" / "a.png")
