"""Finding the face that a picture is of, with YuNet.

OpenCV expects BGR; `FaceDetector.detect` is the one place where channels are swapped.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from facefocus import locations
from facefocus.errors import UserError
from facefocus.faces.images import resized

DETECTOR_FILE = "models/face_detection_yunet_2023mar.onnx"
DETECTOR_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
SCORE_THRESHOLD = 0.3

#: Faces are looked for on a copy whose longer side has at most this many pixels: YuNet was trained
#: on faces of about 10 to 300 pixels and finds parts of faces in larger pictures.
DETECTION_SIDE = 640

_logging = threading.Lock()


@dataclass(frozen=True, eq=False)
class Face:
    """One detected face, in pixels of the picture.

    Attributes:
        box: x and y of the top left corner, width, height; may reach beyond the picture.
        landmarks: (x, y) of the five points, in the order of `align.ARCFACE_TEMPLATE`.
        score: The detector's confidence, 0 to 1.
    """

    box: Float64[np.ndarray, "4"]
    landmarks: Float64[np.ndarray, "5 2"]
    score: float


def detector_model(path: Path | None = None) -> bytes:
    """The YuNet model's bytes, from `path` or from the usual places, checked.

    Raises:
        UserError: Not found, not readable, or a different file than landmarks are defined by.
    """
    if path is None:
        path = locations.find(
            DETECTOR_FILE,
            "The face detector YuNet",
            "Give its path with --detector, or the folder above it as $FACEFOCUS_DATA.",
        )
    try:
        model = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The 'detector' must be the file of YuNet. Got '{path}': {error.strerror}."
        ) from error
    got = hashlib.sha256(model).hexdigest()
    if got != DETECTOR_SHA256:
        raise UserError(
            f"The 'detector' must be face_detection_yunet_2023mar.onnx with sha256 "
            f"{DETECTOR_SHA256}. Got '{path}' with {got}."
        )
    return model


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV 5 prints a warning on stderr for every network it makes; the library is silent.

    The level is one for the process, so threads take turns.
    """
    with _logging:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            yield
        finally:
            cv2.utils.logging.setLogLevel(level)


class FaceDetector:
    """YuNet through OpenCV. Holds state while it runs: use one for each thread.

    Args:
        model: The bytes that `detector_model` returns.
    """

    def __init__(self, model: bytes) -> None:
        with _quiet_opencv():
            self._network = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(model, np.uint8),
                np.empty(0, np.uint8),
                (DETECTION_SIDE, DETECTION_SIDE),
                score_threshold=SCORE_THRESHOLD,
            )

    def detect(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """All faces of an RGB picture with a score of at least `SCORE_THRESHOLD`."""
        height, width = image.shape[:2]
        scale = min(1.0, DETECTION_SIDE / max(height, width))
        small = resized(image, scale) if scale < 1.0 else image
        self._network.setInputSize((small.shape[1], small.shape[0]))
        found = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        if found is None:
            return []
        step = np.array([width / small.shape[1], height / small.shape[0]])
        return [_face(np.asarray(row, np.float64), step) for row in found]


def _face(row: Float64[np.ndarray, "15"], step: Float64[np.ndarray, "2"]) -> Face:
    box = row[:4] * np.tile(step, 2)
    # Landmarks are pixel centers: the same half-pixel rule as in `align.crop`.
    landmarks = (row[4:14].reshape(5, 2) + 0.5) * step - 0.5
    return Face(box=box, landmarks=landmarks, score=float(row[14]))


def main_face(faces: Sequence[Face], height: int, width: int) -> Face:
    """The face a portrait is of: large and in the middle.

    Largest box area minus twice the squared distance of the box's center from the picture's
    center, all in pixels; of equals the one with the higher score.
    """

    def rank(face: Face) -> tuple[float, float]:
        x, y, w, h = face.box
        offset = (x + w / 2 - width / 2) ** 2 + (y + h / 2 - height / 2) ** 2
        return float(w * h - 2.0 * offset), face.score

    return max(faces, key=rank)
