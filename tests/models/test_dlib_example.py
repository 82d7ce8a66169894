"""``examples/dlib_recognizer.py``: how crops become dlib's chips, and what it says without dlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from facefocus.core.errors import UserError
from facefocus.models.zoo import load
from facefocus.testing import check_recognizer

EXAMPLE = Path(__file__).parents[2] / "examples" / "dlib_recognizer.py"
INSTALLED = all(map(importlib.util.find_spec, ("dlib", "face_recognition_models")))


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dlib_recognizer", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("side", [112, 224])
def test_a_chip_is_the_square_that_dlib_cuts(example: ModuleType, side: int) -> None:
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    ramp = np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)
    chip = example.chip(ramp)
    assert chip.shape == (150, 150, 3)
    # The chip's middle shows (55.84, 72.27) of 112; 30 pixels are 30 * 99.78 / 150 = 19.956 of 112.
    for pixel, place in ((74, 55.84 - 0.5 * 0.6652), (44, 55.84 - 30.5 * 0.6652)):
        assert chip[74, pixel, 0] == pytest.approx(place * side / 112, abs=1)
    assert chip[74, 74, 1] == pytest.approx((72.27 - 0.5 * 0.6652) * side / 112, abs=1)
    # Below the crop its edge is repeated.
    assert chip[149, 74, 1] == side - 1


@pytest.mark.skipif(INSTALLED, reason="dlib is installed")
def test_without_dlib_the_message_names_the_line_to_install() -> None:
    with pytest.raises(UserError, match="Run: pip install face_recognition_models dlib-bin"):
        load(f"{EXAMPLE}:build")


@pytest.mark.skipif(not INSTALLED, reason="dlib-bin and face_recognition_models are not installed")
def test_it_keeps_what_the_program_relies_on() -> None:
    results = check_recognizer(load(f"{EXAMPLE}:build"))
    assert [result for result in results if not result.passed] == []
