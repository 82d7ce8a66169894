from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefocus.core.errors import UserError
from facefocus.faces import align
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.occlusion.fills import FILLS, fill_rng, hider
from facefocus.occlusion.mask_files import read_mask, write_mask
from facefocus.occlusion.painting import mask_pixels, overlay, paint, write_picture


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    """From a photo whose face is `scale` times as large, turned, its crop's middle at (x, y)."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    return np.column_stack([turn, 55.5 - turn @ [x, y]])


def blocks() -> np.ndarray:
    """Three blocks of a crop: one at its border, one off its middle, one of a single pixel."""
    mask = np.zeros((112, 112), bool)
    mask[:10, 20:40] = True
    mask[50:70, 30:75] = True
    mask[90, 90] = True
    return mask


@pytest.mark.parametrize("degrees", [0, 17, 90, 200])
@pytest.mark.parametrize("scale", [2.7, 5.3])
def test_aligned_again_the_painted_pixels_are_the_mask_to_half_a_pixel(
    scale: float, degrees: float
) -> None:
    matrix = similarity(scale, degrees, 480, 520)
    photo = np.full((1000, 1000, 3), 255, np.uint8)
    inside = align.crop(photo, matrix)[..., 0] == 255
    dark = 1 - align.crop(paint(photo, matrix, blocks()), matrix)[..., 0] / 255
    # Where a pixel of the photo is large, one at an edge may lie on the other side.
    assert (((dark > 0.5) != blocks()) & inside).sum() <= 4
    part = np.s_[45:75, 25:80]
    middles = [np.argwhere(mask[part]).mean(axis=0) for mask in (dark > 0.5, blocks())]
    assert np.abs(middles[0] - middles[1]).max() < 0.1
    # Half a pixel aside, whole edges of the blocks are wrong.
    for shift in ([0.6, 0.0], [0.0, -0.6]):
        aside = matrix + np.column_stack([np.zeros((2, 2)), shift])
        moved = align.crop(paint(photo, aside, blocks()), matrix)[..., 0] < 128
        assert ((moved != blocks()) & inside).sum() > 15


def test_a_pixel_of_the_photo_lies_where_its_center_lies() -> None:
    # Against a slow way: every pixel by itself, in exact halves.
    matrix = np.array([[0.25, -0.5, 3.0], [0.5, 0.25, -1.0]])
    got = mask_pixels(matrix, (9, 11), 4)
    for y in range(9):
        for x in range(11):
            u = np.floor(0.25 * x - 0.5 * y + 3.0 + 0.5)
            v = np.floor(0.5 * x + 0.25 * y - 1.0 + 0.5)
            expected = v * 4 + u if 0 <= u < 4 and 0 <= v < 4 else -1
            assert got[y, x] == expected
    assert (got >= 0).any()


def test_nothing_outside_the_mask_changes() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    matrix = similarity(1.9, 12, 130, 150)
    for fill in FILLS:
        painted = paint(photo, matrix, blocks(), fill)
        hidden = overlay(photo, matrix, blocks(), fill)[..., 3] == 255
        assert np.array_equal(painted[~hidden], photo[~hidden])
        assert hidden.mean() == pytest.approx(1.9**2 * blocks().sum() / photo[..., 0].size, rel=0.1)


@pytest.mark.parametrize("fill", ["mean", "blur", "random", "white"])
def test_fills_that_see_no_mask_have_the_colors_of_the_crop(fill: str) -> None:
    crop = np.random.default_rng(1).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    # Two pixels of the photo for each of the crop, each way.
    photo = np.kron(crop, np.ones((2, 2, 1), np.uint8))
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])
    expected = hider(fill, crop[None], [fill_rng(3, "a")])(blocks())[0]
    painted = paint(photo, half, blocks(), fill, fill_rng(3, "a"))
    assert np.array_equal(painted, np.kron(expected, np.ones((2, 2, 1), np.uint8)))


@pytest.mark.parametrize("fill", ["inpaint", "linear"])
def test_fills_that_see_the_mask_fill_from_the_photo_and_know_no_hidden_pixel(fill: str) -> None:
    # A slope of gray: what belongs in a gap is known.
    slope = np.repeat(np.arange(224)[None], 224, axis=0).astype(np.uint8)
    photo = np.pad(np.stack([slope] * 3, axis=2), ((10, 10), (10, 10), (0, 0)))
    half = np.array([[0.5, 0, -5.25], [0, 0.5, -5.25]])
    mask = np.zeros((112, 112), bool)
    mask[40:44, 50:54] = True
    painted = paint(photo, half, mask, fill)
    hidden = np.zeros(photo.shape[:2], bool)
    hidden[90:98, 110:118] = True
    assert np.array_equal(painted[~hidden], photo[~hidden])
    assert np.abs(painted[hidden].astype(int) - photo[hidden]).max() < 12
    other = photo.copy()
    other[hidden] = 255
    assert np.array_equal(paint(other, half, mask, fill), painted)


def test_the_overlay_laid_on_the_photo_is_the_painted_photo_and_shows_nothing_of_it() -> None:
    photo = np.random.default_rng(2).integers(1, 256, (200, 200, 3), dtype=np.uint8)
    matrix = similarity(1.5, 30, 90, 100)
    alone = overlay(photo, matrix, blocks(), "black")
    assert not alone[..., :3].any()
    laid = Image.fromarray(photo).convert("RGBA")
    laid.alpha_composite(Image.fromarray(alone))
    assert np.array_equal(np.asarray(laid.convert("RGB")), paint(photo, matrix, blocks()))


def test_a_face_beyond_the_edge_is_painted_as_far_as_there_is_a_photo() -> None:
    photo = np.full((50, 50, 3), 200, np.uint8)
    everything = np.ones((112, 112), bool)
    # The crop's pixels 30 to 79 each way.
    matrix = np.array([[1.0, 0, 30], [0, 1.0, 30]])
    assert not paint(photo, matrix, everything).any()
    aside = np.array([[1.0, 0, 200], [0, 1.0, 30]])
    assert (paint(photo, aside, everything) == 200).all()


def test_a_saved_picture_holds_pixels_alone(tmp_path: Path) -> None:
    photo = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    write_picture(tmp_path / "new" / "a.png", photo)
    with Image.open(tmp_path / "new" / "a.png") as saved:
        assert np.array_equal(np.asarray(saved), photo)
        assert saved.info == {}
        assert not saved.getexif()
    data = (tmp_path / "new" / "a.png").read_bytes()
    chunks = set()
    at = 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.add(data[at + 4 : at + 8])
        at += 12 + size
    assert chunks == {b"IHDR", b"IDAT", b"IEND"}


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mask.npz", "mask.png"])
def test_a_mask_comes_back_from_its_file(tmp_path: Path, name: str) -> None:
    write_mask(tmp_path / name, blocks())
    assert np.array_equal(read_mask(tmp_path / name), blocks())


def arrays(**changed: object) -> bytes:
    buffer = io.BytesIO()
    good = {"mask": blocks(), "crop": "arcface112", "landmarks": ARCFACE_TEMPLATE}
    kept = {key: value for key, value in {**good, **changed}.items() if value is not None}
    np.savez(buffer, **kept)  # type: ignore[arg-type]
    return buffer.getvalue()


def picture(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (arrays(crop="facenet160"), "made for the crop 'facenet160'. Make it anew"),
        (arrays(mask=np.ones((160, 160), bool)), "made for a crop of 160x160 pixels"),
        (arrays(landmarks=ARCFACE_TEMPLATE + 4), "whose landmarks are aligned elsewhere"),
        (arrays(mask=np.ones((112, 112))), "values of type float64 instead of bool"),
        (arrays(mask=np.zeros((112, 112), bool)), "one that hides nothing"),
        (arrays(crop=None), "a file without the array"),
        (arrays()[:300], "a damaged file"),
        (b"hello", "a file that is not a picture in a known format"),
        (picture(np.zeros((100, 90), np.uint8)), "made for a crop of 100x90 pixels"),
        (picture(np.full((112, 112), 77, np.uint8)), "with colors or grays"),
        (picture(np.zeros((112, 112), np.uint8)), "one that hides nothing"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "mask"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_mask(path)
    assert message in str(caught.value)
    with pytest.raises(UserError, match="Cannot read the mask"):
        read_mask(tmp_path / "nothing.npz")
