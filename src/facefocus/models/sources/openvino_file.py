"""Recognizers from OpenVINO models: ``FILE.xml`` or ``openvino:FILE.xml``."""

from __future__ import annotations

from facefocus.models.openvino import OpenVinoRecognizer
from facefocus.models.preprocessing import Preprocessing, read_beside
from facefocus.models.sources import RecognizerSource, named_file


def load_openvino(name: str, preprocessing: Preprocessing | None) -> OpenVinoRecognizer:
    """An OpenVINO model: a black box.

    Raises:
        UserError: No such file, or as `OpenVinoRecognizer`.
    """
    path = named_file(name, OPENVINO.form)
    return OpenVinoRecognizer(path, preprocessing or read_beside(path))


OPENVINO = RecognizerSource("openvino:FILE.xml", load_openvino, takes_reading=True)
