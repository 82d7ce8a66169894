"""dlib's ResNet as a recognizer: ``--model dlib_recognizer.py:build``, ``--unseen`` likewise.

Trained by Davis King (2017) on VGG face, FaceScrub and photos from the web, with a loss of its own:
neither data nor family nor loss are those of the recognizers that come with facefocus, so it is a
judge that none of them is kin to. 128 numbers, meant to be compared by distance below 0.6; the
cosine serves as well. A black box; about ten images a second on one core. Weights: CC0.

    pip install face_recognition_models dlib-bin --no-deps
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from facefocus import UserError

INSTALL = "pip install face_recognition_models dlib-bin --no-deps"
#: The square that `dlib.get_face_chip_details` cuts around a face (150 pixels, padding 0.25), in
#: pixels of an aligned crop of 112: center (x, y) and side. Medians of 118 crops of LFW, in which
#: dlib's own five points were found. It ends 10 pixels below the crop, whose edge is repeated.
CENTER, WIDTH, CHIP = (55.84, 72.27), 99.78, 150


def chip(frame: np.ndarray) -> np.ndarray:
    """What dlib's network reads of an aligned crop, uint8 [150, 150, 3]."""
    scale = CHIP / WIDTH * 112 / len(frame)
    middle = np.array(CENTER) * len(frame) / 112
    matrix = np.column_stack([np.eye(2) * scale, (CHIP - 1) / 2 - scale * middle])
    return cv2.warpAffine(frame, matrix, (CHIP, CHIP), borderMode=cv2.BORDER_REPLICATE)


class DlibResNet:
    """`facefocus.Recognizer` around dlib's network; see its documentation for what it was given."""

    name = "dlib-resnet"

    def __init__(self, network: object, sha256: str) -> None:
        self._network = network
        #: Changes with the weights, and with how crops become chips.
        self.fingerprint = f"dlib {sha256} chip 1"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        """Embeddings [n, 128] of aligned crops, RGB uint8 [n, h, w, 3]."""
        if not len(frames):
            return np.zeros((0, 128), np.float32)
        vectors = self._network.compute_face_descriptor([chip(frame) for frame in frames])
        return np.array(vectors, dtype=np.float32)


def build() -> DlibResNet:
    """The recognizer, from the weights of the package face_recognition_models."""
    package = find_spec("face_recognition_models")
    if package is None or find_spec("dlib") is None:
        lacking = "dlib-bin" if package else "face_recognition_models"
        raise UserError(f"The package '{lacking}' is not installed. Run: {INSTALL}")
    import dlib

    folder = Path(package.submodule_search_locations[0]) / "models"
    weights = folder / "dlib_face_recognition_resnet_model_v1.dat"
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    return DlibResNet(dlib.face_recognition_model_v1(str(weights)), sha256)
