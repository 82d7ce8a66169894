"""Recognizers of uniface: ``uniface:NAME``, from the files in the user's folder."""

from __future__ import annotations

import os
from pathlib import Path

from facefocus.core.errors import UserError
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import Recognizer
from facefocus.models.sources import RecognizerSource, check_name
from facefocus.models.sources.onnx_file import load_onnx

#: Its recognizers that can be fetched here as well, by the names of its files.
FETCHED = {
    "mobilenetv1_025": "uniface-mobilenetv1-025",
    "mobilenetv2": "uniface-mobilenetv2",
    "mobilenetv3_small": "uniface-mobilenetv3-small",
    "sphere20": "uniface-sphere20",
    "arcface_mnet": "insightface-w600k-mbf",
    "arcface_resnet": "insightface-w600k-r50",
    "adaface_ir_18": "adaface-ir18",
    "adaface_ir_101": "adaface-ir101",
}
#: Those that only uniface gets, and its class of names that each is of.
OTHERS = {
    "mobilenetv3_large": "MobileFaceWeights",
    "sphere36": "SphereFaceWeights",
    "adaface_ir_50": "AdaFaceWeights",
    "edgeface_xxs": "EdgeFaceWeights",
    "edgeface_xs_gamma_06": "EdgeFaceWeights",
    "edgeface_s_gamma_05": "EdgeFaceWeights",
    "edgeface_base": "EdgeFaceWeights",
}
NAMES = (*FETCHED, *OTHERS)


def load_uniface(name: str, preprocessing: Preprocessing | None) -> Recognizer:
    """A recognizer of uniface: 112 x 112, mean and std 127.5, RGB; AdaFace's take BGR.

    Its file is looked for in uniface's folder, then among the recognizers that were fetched here.

    Raises:
        UserError: uniface has no such recognizer, or its file is not here.
    """
    check_name(name, NAMES, UNIFACE.form)
    folder = Path(os.environ.get("UNIFACE_CACHE_DIR", "~/.uniface/models")).expanduser()
    path = folder / f"{name}.onnx"
    if not path.is_file():
        return _fetched(name, path)
    adaface = name.startswith("adaface")
    reader = Preprocessing(
        (112, 112),
        channels="bgr" if adaface else "rgb",
        mean=(127.5,) * 3,
        std=(127.5,) * 3,
        # AdaFace's files give the embedding and its norm.
        output=0 if adaface else None,
    )
    return load_onnx(str(path), reader)


def _fetched(name: str, path: Path) -> Recognizer:
    """The same file where it was fetched by facefocus."""
    from facefocus.models.zoo import describe, load

    own = FETCHED.get(name)
    if own and describe(own).present():
        return load(own)
    remedy = f"facefocus fetch {own}"
    if not own:
        asked = f"constants.{OTHERS[name]}('{name}')"
        remedy = (
            'pip install uniface, then python -c "from uniface import constants, model_store;'
            f' model_store.verify_model_weights({asked})"'
        )
    raise UserError(f"The file '{path}' of 'uniface:{name}' does not exist. Get it by: {remedy}.")


UNIFACE = RecognizerSource("uniface:NAME", load_uniface, lineages=FETCHED)
