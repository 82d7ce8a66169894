"""Drawn photographs for the tests of this room, and a recognizer that knows people by color."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from facefocus.core import locations
from facefocus.faces.detect import DETECTOR_FILE
from facefocus.faces.sources.synthetic import render

RED, GREEN, BLUE = (1.0, 0.6, 0.6), (0.6, 1.0, 0.6), (0.6, 0.6, 1.0)


class Colors:
    """A recognizer whose embedding is the mean color, less gray."""

    name, fingerprint = "colors", "colors 1"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        means = frames.mean(axis=(1, 2))
        return np.asarray(means - 0.95 * means.min(axis=1, keepdims=True), np.float32)


def detector() -> Path:
    """YuNet's file; the test is skipped where it is not here."""
    root = locations.data_dir()
    if root is None or not (root / DETECTOR_FILE).is_file():
        pytest.skip(f"{DETECTOR_FILE} is not in ../shared/data or $FACEFOCUS_DATA")
    return root / DETECTOR_FILE


def crop(person: int, photo: int, tint: tuple[float, float, float] = RED) -> np.ndarray:
    """A drawn face of 112x112 pixels, tinted."""
    frame = render("all", 1, person, photo).frame.astype(np.float64) * np.array(tint)
    return np.asarray(np.rint(frame), np.uint8)


def portrait(face: np.ndarray, scale: float = 2.0, edge: int = 60) -> np.ndarray:
    """The face enlarged, in the middle of a gray picture."""
    large = cv2.resize(face, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.pad(
        np.asarray(large, np.uint8), ((edge, edge), (edge, edge), (0, 0)), constant_values=127
    )


def save(path: Path, picture: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **options)
    return path
