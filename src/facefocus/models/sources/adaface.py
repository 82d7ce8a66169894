"""AdaFace from its public ONNX files: ``adaface:ir_18``, ``adaface:ir_50``, ``adaface:ir_101``.

The authors' own code is a repository, no package: name it by ``FILE.py:FUNCTION``.
"""

from __future__ import annotations

from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import Recognizer
from facefocus.models.sources import RecognizerSource, check_name
from facefocus.models.sources.uniface import load_uniface

NAMES = ("ir_18", "ir_50", "ir_101")


def load_adaface(name: str, preprocessing: Preprocessing | None) -> Recognizer:
    """AdaFace, from uniface's folder or fetched here: 112 x 112, BGR, mean and std 127.5.

    Raises:
        UserError: No such recognizer, or its file is not here.
    """
    check_name(name, NAMES, ADAFACE.form)
    return load_uniface(f"adaface_{name}", preprocessing)


ADAFACE = RecognizerSource("adaface:NAME", load_adaface)
