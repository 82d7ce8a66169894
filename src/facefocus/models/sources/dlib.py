"""dlib's ResNet: ``dlib``, from the packages dlib-bin and face_recognition_models.

Trained by Davis King (2017) on VGG face, FaceScrub and photos from the web, with a loss of its own:
neither data nor family nor loss are those of the other recognizers, so it is a judge that none of
them is kin to. 128 numbers, meant to be compared by distance below 0.6; the cosine serves as well.
A black box; about ten images a second on one core. Weights: CC0.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from facefocus.core.errors import UserError, one_line
from facefocus.models.foreign import ForeignRecognizer
from facefocus.models.lineage import Lineage
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import check_frames
from facefocus.models.sources import RecognizerSource, package
from facefocus.models.user_code import sha256

INSTALL = "pip install face_recognition_models dlib-bin --no-deps"
WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
#: The square that `dlib.get_face_chip_details` cuts around a face (150 pixels, padding 0.25), in
#: pixels of an aligned crop of 112: center (x, y) and side. Medians of 118 crops of LFW, in which
#: dlib's own five points were found. It ends 10 pixels below the crop, whose edge is repeated.
CENTER, WIDTH, CHIP = (55.84, 72.27), 99.78, 150
LINEAGE = Lineage(
    training="VGG face, FaceScrub and the web",
    data="real",
    family="dlib ResNet-29",
    loss="metric loss",
    year=2017,
)


def chip(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "150 150 3"]:
    """What dlib's network reads of an aligned crop."""
    scale = CHIP / WIDTH * 112 / len(frame)
    middle = np.array(CENTER) * len(frame) / 112
    matrix = np.column_stack([np.eye(2) * scale, (CHIP - 1) / 2 - scale * middle])
    cut: np.ndarray = cv2.warpAffine(frame, matrix, (CHIP, CHIP), borderMode=cv2.BORDER_REPLICATE)
    return cut


class DlibResNet:
    """dlib's network as a recognizer.

    Args:
        network: A ``dlib.face_recognition_model_v1``.
        digest: sha256 of its weights.
    """

    name = "dlib-resnet"
    lineage = LINEAGE

    def __init__(self, network: Any, digest: str) -> None:
        self._network = network
        #: Changes with the weights, and with how crops become chips.
        self.fingerprint = f"dlib {digest} chip 1"

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n 128"]:
        """Embeddings of aligned RGB crops."""
        check_frames(frames)
        if not len(frames):
            return np.zeros((0, 128), np.float32)
        vectors = self._network.compute_face_descriptor([chip(frame) for frame in frames])
        return np.array(vectors, dtype=np.float32)


def load_dlib(name: str, preprocessing: Preprocessing | None) -> ForeignRecognizer:
    """dlib's ResNet, from the weights of the package face_recognition_models.

    Raises:
        UserError: A package is not installed, or its weights are damaged.
    """
    if name:
        raise UserError(f"dlib has one recognizer: 'dlib'. Got 'dlib:{name}'.")
    spec = find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"The recognizer 'dlib' needs: {INSTALL}.")
    dlib = package("dlib", INSTALL, "dlib")
    weights = Path(spec.submodule_search_locations[0]) / "models" / WEIGHTS
    try:
        network = dlib.face_recognition_model_v1(str(weights))
    except RuntimeError as error:
        raise UserError(
            f"The weights '{weights}' of 'dlib' cannot be read: {one_line(error, 120)}. Get them"
            f" by: {INSTALL} --force-reinstall."
        ) from error
    recognizer = ForeignRecognizer(DlibResNet(network, sha256(weights)))
    recognizer.look()
    return recognizer


DLIB = RecognizerSource("dlib", load_dlib, lineages={"": LINEAGE})
