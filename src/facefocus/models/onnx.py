"""Recognizers from ONNX files: black boxes in onnxruntime, white boxes through onnx2torch."""

from __future__ import annotations

import hashlib
import importlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from facefocus.errors import UserError, one_line
from facefocus.models.custom import required, sha256
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import (
    CHUNK,
    TorchRecognizer,
    check_finite,
    check_frames,
    chunks,
)


class OnnxRecognizer:
    """Embeddings of an ONNX model with one image input [n, C, h, w] and one output [n, d].

    Runs on one thread and in a fixed order, on chunks of one size, so that the same frames give
    the same bits however they are grouped.

    Args:
        path: The model.
        preprocessing: How frames become its input; an ONNX file does not say.

    Raises:
        UserError: onnxruntime is missing, or the file is no such model.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing | None) -> None:
        self.name = path.stem
        self.preprocessing = required(preprocessing, str(path))
        self._session = _session(path)
        self._input, self._batch = _check_shapes(self._session, self.preprocessing, path)
        text = f"{sha256(path)}\n{self.preprocessing.canonical}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.precision = f"onnxruntime {version('onnxruntime')} float32"

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Raw embeddings of RGB frames.

        Raises:
            UserError: `frames` are not uint8 RGB, or an embedding is not finite.
        """
        check_frames(frames)
        parts = []
        for chunk in chunks(frames, self._batch):
            inputs = self.preprocessing(torch.from_numpy(chunk)).contiguous().numpy()
            parts.append(self._session.run(None, {self._input: inputs})[0])
        embeddings: np.ndarray = np.concatenate(parts)[: len(frames)].astype(np.float32)
        check_finite(embeddings, self.name)
        return embeddings


#: What an ONNX file is called when it is to become a white box.
CONVERTED = "onnx2torch:"


def load_converted(path: Path, preprocessing: Preprocessing | None) -> TorchRecognizer:
    """An ONNX model as a white box in torch, where the package onnx2torch works.

    Raises:
        UserError: onnx2torch cannot be imported (it needs torchvision, which this package never
            does), or cannot convert the model.
    """
    reader = required(preprocessing, str(path))
    if not path.is_file():
        raise UserError(f"The model '{path}' does not exist.")
    try:
        onnx2torch = importlib.import_module("onnx2torch")
    except (ImportError, RuntimeError) as error:
        # A torchvision that does not belong to the torch that is here fails with RuntimeError.
        raise UserError(
            f"The model '{path}' as a white box needs the package onnx2torch, which needs a"
            f" torchvision that fits torch {torch.__version__}: {one_line(error, 120)}. Without it,"
            f" name the file alone: a black box, for s-rise, corr-rise and as a target."
        ) from error
    try:
        module = onnx2torch.convert(str(path))
    except (NotImplementedError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"onnx2torch cannot convert the model '{path}': {one_line(error, 120)}."
        ) from error
    module.eval().requires_grad_(False)
    return TorchRecognizer(path.stem, module, reader, identity=f"onnx2torch of {sha256(path)}")


def _session(path: Path) -> Any:
    if find_spec("onnxruntime") is None:
        raise UserError(f"The recognizer '{path}' needs: pip install 'facefocus[onnx]'.")
    import onnxruntime

    if not path.is_file():
        raise UserError(f"The model '{path}' does not exist.")
    options = onnxruntime.SessionOptions()
    # Sums in one order give one result: a single thread, and kernels that promise it.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    errors = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except (errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument,
            errors.NotImplemented, errors.NoSuchFile) as error:  # fmt: skip
        raise UserError(
            f"The model '{path}' is no ONNX model that onnxruntime can run: {one_line(error, 120)}"
        ) from error


def _check_shapes(session: Any, reader: Preprocessing, path: Path) -> tuple[str, int]:
    """Name of the input, and the number of images that a pass must have."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise UserError(
            f"The model '{path}' must have one image input and one output [n, d]. Got "
            f"{_shapes(inputs)} and {_shapes(outputs)}."
        )
    channels = 1 if reader.channels == "gray" else 3
    wanted, given = [channels, *reader.size], list(inputs[0].shape)
    fits = len(given) == 4 and all(
        not isinstance(got, int) or got == want for got, want in zip(given[1:], wanted, strict=True)
    )
    if not fits or inputs[0].type != "tensor(float)":
        raise UserError(
            f"The preprocessing of '{path}' gives float images [n, {channels}, {reader.size[0]}, "
            f"{reader.size[1]}], but the model takes {inputs[0].type} {given}."
        )
    return str(inputs[0].name), given[0] if isinstance(given[0], int) else CHUNK


def _shapes(values: Any) -> str:
    return ", ".join(f"{value.name} {value.shape}" for value in values)
