from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.faces.detect import Face, FaceDetector, detector_model
from facefocus.occlusion.painting import paint, write_picture
from facefocus.person import redetect as redetection
from facefocus.person.photos import Photo, read_people
from facefocus.person.redetect import HALF, SAVED, VARIANTS, find_again, redetect
from tests.person.portraits import crop, detector, portrait, save

NOTHING = np.zeros((112, 112), bool)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Photo:
    folder = tmp_path_factory.mktemp("Ada")
    for number in range(2):
        save(folder / f"{number}.png", portrait(crop(1, number), 3.0))
    return read_people(folder, detector=detector())[0].photos[0]


@pytest.fixture(scope="module")
def yunet() -> FaceDetector:
    return FaceDetector(detector_model(detector()))


def painted(photo: Photo, mask: np.ndarray, folder: Path) -> Path:
    file = folder / "hidden.png"
    write_picture(file, paint(photo.pixels, photo.matrix, mask))
    return file


def test_an_empty_mask_moves_nothing(photo: Photo, yunet: FaceDetector, tmp_path: Path) -> None:
    again = redetect(painted(photo, NOTHING, tmp_path), photo, yunet)
    assert tuple(again) == VARIANTS
    same = again[SAVED]
    assert same.detected
    assert same.faces == 1
    assert same.crop is not None
    assert same.shift is not None
    assert np.array_equal(same.crop, photo.crop)
    assert not same.shift.any()
    for variant in VARIANTS[1:]:
        redetected = again[variant]
        assert redetected.crop is not None
        assert redetected.shift is not None
        assert 0 < np.abs(redetected.shift).mean() < 3
        assert not np.array_equal(redetected.crop, photo.crop)
    # Of half the size: what the crop shows is blurred, and lies in the same place.
    half = again[HALF].crop
    assert half is not None
    assert np.corrcoef(half.ravel(), photo.crop.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("factor", [1, 2])
def test_the_shift_is_in_pixels_of_the_crop(monkeypatch: pytest.MonkeyPatch, factor: int) -> None:
    """A face three times as large as in the crop and turned; what is found lies (6, -3) off."""
    turn = np.array([[0.0, -1 / 3], [1 / 3, 0.0]])
    where = (ARCFACE_TEMPLATE - [200, -20]) @ np.linalg.inv(turn).T
    pixels = np.zeros((600 // factor, 600 // factor, 3), np.uint8)
    matrix = np.column_stack([turn, [200, -20]])
    photo = Photo(
        "a", Path("a"), "", (600, 600), np.zeros((112, 112, 3), np.uint8), matrix, where, 1
    )
    near, far = (
        Face(np.array([0.0, 0, 90, 90]), (where + off + 0.5) / factor - 0.5, 0.9)
        for off in ([6, -3], [30, 0])
    )
    strange = Face(near.box, near.landmarks + 40, 0.95)
    monkeypatch.setattr(redetection, "find_faces", lambda *_: [strange, far, near])
    redetected = find_again(pixels, photo, object.__new__(FaceDetector))
    assert redetected.faces == 3
    # Right in the photo is down in the crop, up in the photo is right: (3 / 3, 6 / 3).
    assert redetected.shift is not None
    assert np.allclose(redetected.shift, [1.0, 2.0])
    monkeypatch.setattr(redetection, "find_faces", lambda *_: [strange])
    assert find_again(pixels, photo, object.__new__(FaceDetector)).detected == (factor == 1)


def test_a_face_that_is_no_longer_found_has_no_crop(
    photo: Photo, yunet: FaceDetector, tmp_path: Path
) -> None:
    (gone,) = redetect(painted(photo, ~NOTHING, tmp_path), photo, yunet, [SAVED]).values()
    assert not gone.detected
    assert gone.crop is None
    assert gone.shift is None


def test_another_face_is_not_taken_for_the_persons(
    photo: Photo, yunet: FaceDetector, tmp_path: Path
) -> None:
    hidden = paint(photo.pixels, photo.matrix, ~NOTHING, "mean")
    beside = np.concatenate([hidden, portrait(crop(2, 0), 3.0)], axis=1)
    wide = Photo(**{**vars(photo), "size": beside.shape[:2]})
    redetected = find_again(beside, wide, yunet)
    assert redetected.faces == 1
    assert not redetected.detected
