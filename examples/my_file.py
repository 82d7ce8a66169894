"""A recognizer from an ``.onnx`` or ``.pt2`` file, with the preprocessing that it needs.

``--model my_file.py:build`` then serves in every command and in experiments.
"""

from __future__ import annotations

from pathlib import Path

from facefocus import Recognizer, load_recognizer


def build() -> Recognizer:
    """The recognizer of ``mine.onnx`` beside this file."""
    file = Path(__file__).with_name("mine.onnx")
    return load_recognizer(str(file), {"size": [112, 112], "mean": 127.5, "std": 128})
