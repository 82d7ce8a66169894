"""Recognizers from ONNX files: white boxes in torch, or black boxes in onnxruntime."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from facefocus.core.errors import UserError, one_line
from facefocus.core.notices import notice
from facefocus.core.text import number
from facefocus.faces.sources.synthetic import render
from facefocus.models.onnx_graph import OnnxGraph, read_graph, read_model, weight_files
from facefocus.models.onnx_operations import UnknownOperation
from facefocus.models.outputs import Adapted, embedding_in, find_embedding
from facefocus.models.preprocessing import Layout, Preprocessing, required
from facefocus.models.probe import probe_frames
from facefocus.models.recognizer import (
    CHUNK,
    Recognizer,
    TorchRecognizer,
    check_finite,
    check_frames,
    chunks,
)
from facefocus.models.user_code import sha256

#: Types of input that are served, by onnxruntime's names.
_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}
#: Least cosine between the embeddings of a graph in torch and those of the file's own program.
AGREEMENT = 0.99999
#: Largest difference of a value in torch, relative to its length, that a report passes over.
_SAME = 1e-3
#: Largest relative difference of an image's embedding beside another image and alone.
_ALIKE = 0.01


@dataclass(frozen=True)
class _Input:
    """The image input of a model: its name, type and layout, and its number of images if fixed."""

    name: str
    dtype: str
    nhwc: bool
    batch: int | None


class OnnxRecognizer:
    """Embeddings of an ONNX model with one image input, by onnxruntime.

    Runs on one thread and in a fixed order, on chunks of one size, so that the same frames give
    the same bits however they are grouped. Its fingerprint has no probe: the file, and those that
    it names for its weights, are all that determines the embeddings.

    Args:
        path: The model.
        preprocessing: How frames become its input, and which output counts; an ONNX file does not
            say.

    Raises:
        UserError: onnxruntime is missing, or the file is no such model; says what to write in the
            file beside it.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing | None) -> None:
        self.name = path.stem
        self.preprocessing = required(preprocessing, str(path))
        self._path = path
        self._session = _session(path)
        self._input = _input_of(self._session, self.preprocessing, path)
        text = f"{files_digest(path)}\n{self.preprocessing.canonical}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.precision = f"onnxruntime {version('onnxruntime')} float32"
        self.output, self._batch = self._look()
        self.nhwc = self._input.nhwc
        #: How many images the file is made for; None for any number.
        self.fixed = None if self._batch == CHUNK and self._input.batch is None else self._batch

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Raw embeddings of RGB frames.

        Raises:
            UserError: `frames` are not uint8 RGB, an embedding is not finite, or the model cannot
                be run on them.
        """
        check_frames(frames)
        parts = [self._embed(chunk, self.output) for chunk in chunks(frames, self._batch)]
        embeddings: np.ndarray = np.concatenate(parts)[: len(frames)]
        check_finite(embeddings, self.name)
        return embeddings

    def _look(self) -> tuple[str, int]:
        """Name of the output that is the embedding, and how many images are run together."""
        frames, fixed = probe_frames(), self._input.batch
        if fixed is not None:
            return self._find(next(chunks(frames[:fixed], fixed))), fixed
        try:
            output = self._find(frames[:2])
        except UserError as error:
            try:
                output = self._find(frames[:1])
            except UserError:
                raise error from None
            trouble = "cannot be run on several images at once"
        else:
            together = self._embed(frames[:2], output)[1]
            try:
                alone = self._embed(frames[1:2], output)[0]
            except UserError:
                # An exporter wrote down the two images that it was shown.
                notice(f"The model '{self._path}' runs on two images only: two at a time.")
                return output, 2
            if np.linalg.norm(together - alone) <= _ALIKE * np.linalg.norm(alone):
                return output, CHUNK
            trouble = "gives an image another embedding beside another image"
        notice(f"The model '{self._path}' {trouble}: it is run on one at a time.")
        return output, 1

    def _find(self, frames: np.ndarray) -> str:
        output = find_embedding(
            self._run(frames), len(frames), self.preprocessing.output, str(self._path)
        )
        return str(output)

    def _embed(self, frames: np.ndarray, output: str) -> Float32[np.ndarray, "n d"]:
        """Embeddings of exactly these frames."""
        return embedding_in(self._run(frames, [output]), output).float().numpy()

    def _run(self, frames: np.ndarray, outputs: list[str] | None = None) -> dict[str, Tensor]:
        """The outputs of these names, or all, by name."""
        inputs = self.preprocessing(torch.from_numpy(frames))
        inputs = inputs.permute(0, 2, 3, 1) if self._input.nhwc else inputs
        given = inputs.contiguous().numpy()
        given = (given.round() if self._input.dtype == "uint8" else given).astype(self._input.dtype)
        try:
            values = self._session.run(outputs, {self._input.name: given})
        except Exception as error:
            raise UserError(_failure(error, self._path, len(frames))) from error
        names = outputs or [output.name for output in self._session.get_outputs()]
        pairs = zip(names, values, strict=True)
        return {
            name: torch.from_numpy(value) for name, value in pairs if isinstance(value, np.ndarray)
        }


def files_digest(path: Path) -> str:
    """sha256 (hex) of an ONNX file and of the files that it names for its weights.

    Raises:
        UserError: It is no ONNX file, or names a file that does not lie beside it.
    """
    beside = (path.parent / name for name in weight_files(read_graph(path)))
    return " ".join(sha256(file) for file in [path, *beside] if file.is_file())


@runtime_checkable
class Program(Protocol):
    """A file that is run as it is.

    Attributes:
        name: Of the recognizer.
        preprocessing: How frames become its input.
        output: Name of the output that is the embedding.
        fixed: How many images the file is made for; None for any number.
        nhwc: Whether channels come last.
    """

    name: str
    preprocessing: Preprocessing
    output: str
    fixed: int | None
    nhwc: bool
    fingerprint: str

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Raw embeddings."""
        ...


def as_white_box(program: Program, path: Path) -> Recognizer:
    """The recognizer of an ONNX file as a graph in torch; `program` itself where that cannot be.

    The graph is taken where its embeddings of a few faces are those of the program (cosine above
    `AGREEMENT`). A notice says why one stays a black box: which operation is missing, or which is
    the first node whose value differs from onnxruntime's.
    """
    faces = agreement_faces()
    try:
        white = _in_torch(program, path)
        pairs = zip(white.embed_reference(faces), program.embed(faces), strict=True)
        cosine = min(_cosine(first, second) for first, second in pairs)
        if cosine > AGREEMENT:
            return white
        reason = (
            f"in torch, its embeddings have a least cosine of {number(cosine, 6)} with those of the"
            f" file's own program{_first_difference(white, path)}"
        )
    except UnknownOperation as unknown:
        reason = f"torch has no {unknown} here"
    # A graph in a form that nobody thought of can fail in any way.
    except Exception as error:
        reason = f"in torch, it fails: {one_line(error, 120)}"
    notice(f"The model '{path}' stays a black box, without gradients: {reason.rstrip('.')}.")
    return program


def agreement_faces() -> UInt8[np.ndarray, "n 112 112 3"]:
    """The built-in frames and two drawn faces."""
    drawn = [render("all", 0, person, 0).frame for person in range(2)]
    return np.concatenate([probe_frames(), np.stack(drawn)])


def _in_torch(program: Program, path: Path) -> TorchRecognizer:
    model = read_model(path)
    outputs = [output.name for output in model.graph.output]
    # OpenVINO may know its only output by another name.
    output = program.output if program.output in outputs else outputs[0]
    graph = OnnxGraph(model, output, program.fixed)
    layout: Layout = "nhwc" if program.nhwc else "nchw"
    reader = dataclasses.replace(program.preprocessing, dtype=None, output=None, layout=layout)
    identity = f"onnx graph 1 of {files_digest(path)}"
    white = TorchRecognizer(program.name, graph, reader, identity=identity)
    white.look()
    return white


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first.astype(np.float64), second.astype(np.float64)
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), np.finfo(np.float64).tiny))


def _first_difference(white: TorchRecognizer, path: Path) -> str:
    """The first node whose value differs from onnxruntime's; empty where onnxruntime fails."""
    import onnx
    import onnxruntime

    graph = white.module.network if isinstance(white.module, Adapted) else white.module
    assert isinstance(graph, OnnxGraph)
    model = read_model(path)
    inputs = white.preprocessing(torch.from_numpy(agreement_faces()[: graph.images or 1]))
    given = inputs.permute(0, 2, 3, 1) if white.preprocessing.layout == "nhwc" else inputs
    with torch.no_grad():
        values = dict(graph.values(given.contiguous()))
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in values if name not in known
    )
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), _session_options())
        entry = session.get_inputs()[0]
        image = given.contiguous().numpy().astype(_TYPES[entry.type])
        names = [output.name for output in session.get_outputs()]
        expected = dict(zip(names, session.run(None, {entry.name: image}), strict=True))
    # Its errors have no base but Exception; the notice goes without the node then.
    except Exception:
        return ""
    for node in graph.nodes:
        for name in node.outputs:
            if name in values and not _alike(values[name].numpy(), expected[name]):
                return f"; the first difference is at {node.operation} '{node.name or name}'"
    return ""


def _alike(value: np.ndarray, wanted: np.ndarray) -> bool:
    if value.shape != wanted.shape:
        return False
    a, b = value.astype(np.float64), wanted.astype(np.float64)
    return bool(np.linalg.norm(a - b) <= _SAME * max(float(np.linalg.norm(b)), 1e-12))


def _session(path: Path) -> Any:
    if find_spec("onnxruntime") is None:
        raise UserError(f"The recognizer '{path}' needs: pip install onnxruntime onnx.")
    import onnxruntime

    read_graph(path)
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=_session_options(), providers=["CPUExecutionProvider"]
        )
    # Its errors have no base but Exception.
    except Exception as error:
        if _no_memory(error):
            raise UserError(_failure(error, path, 1)) from error
        raise UserError(
            f"The model '{path}' is no ONNX model that onnxruntime can run: {one_line(error, 200)}"
        ) from error


def _session_options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Sums in one order give one result: a single thread, and kernels that promise it.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # What goes wrong is raised, too.
    options.log_severity_level = 4
    return options


def _no_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "bad_alloc" in text or "allocate memory" in text


def _failure(error: Exception, path: Path, count: int) -> str:
    if _no_memory(error):
        return (
            f"Memory does not suffice to run the model '{path}' on {count} images at once. Close"
            " other programs, or give fewer '--workers'."
        )
    return f"The model '{path}' cannot be run on {count} images: {one_line(error)}"


def _input_of(session: Any, reader: Preprocessing, path: Path) -> _Input:
    """The image input; an error names what does not fit and the lines that correct it."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise UserError(
            f"The model '{path}' must have one image input [n, C, h, w]. Got {_shapes(inputs)}."
        )
    shape, dtype = list(inputs[0].shape), _TYPES.get(inputs[0].type)
    fixed = [side if isinstance(side, int) and side > 0 else None for side in shape]
    layout = reader.layout
    if layout == "nchw" and fixed[1] not in (1, 3) and fixed[3] in (1, 3):
        layout = "nhwc"
        notice(f"The model '{path}' takes images as {shape}: their channels come last.")
    channels = 1 if reader.channels == "gray" else 3
    wanted = [channels, *reader.size] if layout == "nchw" else [*reader.size, channels]
    lines = []
    if any(got not in (None, want) for got, want in zip(fixed[1:], wanted, strict=True)):
        lines = _lines_for(fixed, reader)
    if dtype == "uint8" and reader.dtype != dtype and (any(reader.mean) or set(reader.std) != {1}):
        lines += ['dtype = "uint8"', "no mean and no std: it takes pixels as they are"]
    elif reader.dtype not in (None, dtype):
        lines += [f'dtype = "{dtype}"']
    if lines or dtype is None:
        remedy = f" In '{path.with_suffix('.toml')}', write {' and '.join(lines)}." if lines else ""
        raise UserError(
            f"The preprocessing of '{path}' gives {reader.dtype or 'float'} images"
            f" {_written(['n', *wanted])}, but the model takes {inputs[0].type} {shape}.{remedy}"
        )
    return _Input(str(inputs[0].name), dtype, layout == "nhwc", fixed[0])


def _lines_for(fixed: list[int | None], reader: Preprocessing) -> list[str]:
    """Lines of the file beside a model that make images fit its input's sides, where known."""
    first = fixed[1] in (1, 3)
    if not first and fixed[3] not in (1, 3):
        return []
    lines = [] if first == (reader.layout == "nchw") or not first else ['layout = "nchw"']
    height, width = fixed[2:] if first else fixed[1:3]
    size = (height or reader.size[0], width or reader.size[1])
    if size != reader.size:
        lines.append(f"size = [{size[0]}, {size[1]}]")
    gray = (fixed[1] if first else fixed[3]) == 1
    if gray != (reader.channels == "gray"):
        lines.append(f'channels = "{"gray" if gray else "rgb"}"')
    return lines


def _written(sides: list[object]) -> str:
    return f"[{', '.join(map(str, sides))}]"


def _shapes(values: Any) -> str:
    return ", ".join(f"{value.name} {value.shape}" for value in values) or "none"
