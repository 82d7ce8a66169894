"""Recognizers from ONNX files: ``FILE.onnx``."""

from __future__ import annotations

from facefocus.models.onnx import OnnxRecognizer, as_white_box
from facefocus.models.preprocessing import Preprocessing, read_beside
from facefocus.models.recognizer import Recognizer
from facefocus.models.sources import RecognizerSource, named_file


def load_onnx(name: str, preprocessing: Preprocessing | None) -> Recognizer:
    """An ONNX model: a white box in torch where that gives the same embeddings.

    Raises:
        UserError: No such file, or as `OnnxRecognizer`.
    """
    path = named_file(name, ONNX.form)
    return as_white_box(OnnxRecognizer(path, preprocessing or read_beside(path)), path)


ONNX = RecognizerSource("FILE.onnx", load_onnx, takes_reading=True)
