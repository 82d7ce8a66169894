"""Recognizers from OpenVINO models: black boxes."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from facefocus.core.errors import UserError, one_line
from facefocus.models.onnx import files_digest
from facefocus.models.preprocessing import INTERFACE, Preprocessing, required
from facefocus.models.recognizer import CHUNK, check_finite, check_frames, chunks
from facefocus.models.user_code import sha256

#: The packages that run a kind of file.
_RUNTIMES = {"onnx": ("onnxruntime", "onnx"), "openvino": ("openvino",)}


def missing_package(kind: str) -> str:
    """The command that installs what runs ``onnx`` or ``openvino`` files; empty if it is here."""
    needed = _RUNTIMES[kind]
    return "" if all(map(find_spec, needed)) else f"pip install {' '.join(needed)}"


class OpenVinoRecognizer:
    """Embeddings of an OpenVINO model with one image input [n, C, h, w] and one output.

    Also runs ONNX files that onnxruntime refuses, as those with ``spatial = 0`` that MXNet wrote.
    In float32, on one thread and on batches of one size: the same frames give the same bits.

    Args:
        path: An ``.xml`` with the ``.bin`` beside it, or an ``.onnx`` file.
        preprocessing: How frames become its input.

    Raises:
        UserError: OpenVINO is missing, or the file is no such model.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing | None) -> None:
        self.name = path.stem
        self.preprocessing = required(preprocessing, str(path))
        reader = self.preprocessing
        unused = [name for name, usual in INTERFACE.items() if getattr(reader, name) != usual]
        if unused:
            raise UserError(
                f"The '{unused[0]}' of the preprocessing of '{path}' is for ONNX files that"
                " onnxruntime runs, and for networks in torch. Leave it out."
            )
        self._model, self._batch, self.fixed = _compiled(path, self.preprocessing)
        self.nhwc = False
        self.output = min(self._model.output().get_names(), default="")
        if path.suffix.lower() == ".xml":
            files = "\n".join(map(sha256, (path, path.with_suffix(".bin"))))
        else:
            files = files_digest(path)
        text = f"{files}\n{self.preprocessing.canonical}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.precision = f"openvino {version('openvino')} float32"

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Raw embeddings of RGB frames.

        Raises:
            UserError: `frames` are not uint8 RGB, or an embedding is not finite.
        """
        check_frames(frames)
        parts = []
        for chunk in chunks(frames, self._batch):
            inputs = self.preprocessing(torch.from_numpy(chunk)).contiguous().numpy()
            parts.append(np.asarray(self._model(inputs)[0]).reshape(len(inputs), -1))
        embeddings: np.ndarray = np.concatenate(parts)[: len(frames)].astype(np.float32)
        check_finite(embeddings, self.name)
        return embeddings


def _compiled(path: Path, reader: Preprocessing) -> tuple[Any, int, int | None]:
    """The model, the number of images that a pass has, and the one that the file is made for."""
    if missing := missing_package("openvino"):
        raise UserError(f"The recognizer '{path}' needs: {missing}.")
    for file in (path, path.with_suffix(".bin") if path.suffix.lower() == ".xml" else path):
        if not file.is_file():
            raise UserError(f"The model '{file}' does not exist.")
    # As in `backends`: OpenVINO then reports nothing to its makers.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    wanted = (1 if reader.channels == "gray" else 3, *reader.size)
    try:
        # OpenVINO would try other readers, which print what they do not understand.
        if path.suffix.lower() == ".xml" and b"<net" not in path.read_bytes()[:1000]:
            raise ValueError("it holds no <net>")
        core = openvino.Core()
        model = core.read_model(path)
        shape = model.input().get_partial_shape()
        fixed = shape[0].get_length() if shape[0].is_static else None
        batch = fixed or CHUNK
        if not shape.compatible(openvino.PartialShape([batch, *wanted])):
            raise ValueError(f"its input is {shape}")
        model.reshape([batch, *wanted])
        hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        compiled = core.compile_model(model, "CPU", hints)
        model.output()
    except (RuntimeError, ValueError) as error:
        size = "x".join(map(str, wanted))
        raise UserError(
            f"The model '{path}' is no OpenVINO model with one input of {size} and one output: "
            f"{one_line(error, 120)}"
        ) from error
    return compiled, batch, fixed
