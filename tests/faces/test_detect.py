from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from facefocus.errors import UserError
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.faces.detect import DETECTOR_SHA256, Face, detector_model, main_face


def face(x: float, y: float, w: float, h: float, score: float = 0.9) -> Face:
    return Face(np.array([x, y, w, h], np.float64), ARCFACE_TEMPLATE.copy(), score)


def test_main_face_weighs_area_against_distance() -> None:
    # Centered 40x40: 1600. At the border 60x60, center (30, 30) off by (70, 70): 3600 - 19600.
    middle, corner = face(80, 80, 40, 40), face(0, 0, 60, 60)
    assert main_face([corner, middle], 200, 200) is middle
    # Off by (10, 0): 3600 - 200 beats 1600.
    large = face(80, 70, 60, 60)
    assert main_face([middle, large], 200, 200) is large
    # Width and height are not to be mixed up: the middle of a wide picture.
    left, right = face(30, 30, 40, 40), face(130, 30, 40, 40)
    assert main_face([left, right], 100, 300) is right


def test_equal_faces_are_told_by_score() -> None:
    low, high = face(10, 80, 40, 40, 0.4), face(150, 80, 40, 40, 0.8)
    assert main_face([low, high], 200, 200) is high
    assert main_face([high, low], 200, 200) is high


def test_another_file_than_yunet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "face_detection_yunet_2023mar.onnx"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError) as caught:
        detector_model(path)
    assert DETECTOR_SHA256 in str(caught.value)
    assert got in str(caught.value)


def test_an_absent_detector_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="No such file"):
        detector_model(tmp_path / "none.onnx")
    monkeypatch.setenv("FACEFOCUS_DATA", str(tmp_path))
    monkeypatch.setattr("facefocus.locations.cache_dir", lambda: tmp_path / "cache")
    with pytest.raises(UserError, match="YuNet was not found"):
        detector_model()
