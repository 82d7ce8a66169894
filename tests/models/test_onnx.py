from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from facefocus.errors import UserError
from facefocus.models import zoo
from facefocus.models.recognizer import Recognizer, WhiteBox, white_box

pytest.importorskip("onnxruntime")

READING = {"size": [16, 12], "mean": 127.5, "std": 128}
WEIGHT = np.random.default_rng(0).normal(size=(4, 3, 16, 12)).astype(np.float32) / 24


def model(path: Path, batch: int | str = "n", outputs: int = 1) -> Path:
    """One convolution over the whole input, flattened: a linear map of the image."""
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["map"]),
        *(helper.make_node("Flatten", ["map"], [f"out{index}"]) for index in range(outputs)),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 16, 12])],
        [
            helper.make_tensor_value_info(f"out{index}", TensorProto.FLOAT, [batch, 4])
            for index in range(outputs)
        ],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)
    return path


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 16, 12, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", ["n", 1, 5])
def test_embeddings_are_the_models_own(tmp_path: Path, batch: int | str) -> None:
    recognizer = zoo.load(str(model(tmp_path / "linear.onnx", batch)), READING)
    assert recognizer.name == "linear"
    given = frames(19)
    planes = (given.transpose(0, 3, 1, 2).astype(np.float64) - 127.5) / 128
    expected = np.einsum("nchw,dchw->nd", planes, WEIGHT.astype(np.float64))
    got = recognizer.embed(given)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)
    order = np.random.default_rng(1).permutation(19)
    assert np.array_equal(recognizer.embed(given[order]), got[order])
    assert np.array_equal(recognizer.embed(given[:1]), got[:1])
    assert recognizer.embed(given[:0]).shape == (0, 4)


def test_it_is_a_black_box(tmp_path: Path) -> None:
    recognizer = zoo.load(str(model(tmp_path / "linear.onnx")), READING)
    assert isinstance(recognizer, Recognizer)
    assert not isinstance(recognizer, WhiteBox)
    with pytest.raises(UserError, match="'linear' is a black box: it gives embeddings only"):
        white_box(recognizer, "the method 'gradcam'")


def test_the_fingerprint_covers_file_and_preprocessing(tmp_path: Path) -> None:
    path = str(model(tmp_path / "linear.onnx"))
    first = zoo.load(path, READING).fingerprint
    assert zoo.load(path, READING).fingerprint == first
    assert zoo.load(path, READING | {"mean": 0}).fingerprint != first
    model(Path(path), batch=2)
    assert zoo.load(path, READING).fingerprint != first


def test_models_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "linear.onnx")
    with pytest.raises(UserError, match="needs its preprocessing"):
        zoo.load(str(path))
    with pytest.raises(UserError, match=r"float images \[n, 3, 20, 20\], but the model takes"):
        zoo.load(str(path), READING | {"size": [20, 20]})
    with pytest.raises(UserError, match=r"float images \[n, 1, 16, 12\]"):
        zoo.load(str(path), READING | {"channels": "gray"})
    with pytest.raises(UserError, match="one image input and one output"):
        zoo.load(str(model(tmp_path / "two.onnx", outputs=2)), READING)
    with pytest.raises(UserError, match=r"'.*absent.onnx' does not exist"):
        zoo.load(str(tmp_path / "absent.onnx"), READING)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(UserError, match="is no ONNX model") as caught:
        zoo.load(str(tmp_path / "text.onnx"), READING)
    assert "\n" not in str(caught.value)


def test_without_onnxruntime_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(tmp_path / "linear.onnx")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "facefocus.models.onnx.find_spec",
        lambda name: None if name == "onnxruntime" else find(name),
    )
    with pytest.raises(UserError, match=r"pip install 'facefocus\[onnx\]'"):
        zoo.load(str(path), READING)


class Converter(ModuleType):
    """Stands for the package onnx2torch: here it cannot be imported, as it needs torchvision."""

    def convert(self, path: str) -> torch.nn.Module:
        weight = numpy_helper.to_array(onnx.load(path).graph.initializer[0])
        convolution = torch.nn.Conv2d(3, 4, (16, 12), bias=False)
        convolution.weight.data = torch.from_numpy(weight.copy())
        return torch.nn.Sequential(convolution, torch.nn.Flatten())


def test_a_converted_model_is_a_white_box_with_the_same_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(tmp_path / "linear.onnx")
    monkeypatch.setitem(sys.modules, "onnx2torch", Converter("onnx2torch"))
    converted = zoo.load(f"onnx2torch:{path}", READING)
    assert isinstance(converted, WhiteBox) and len(converted.layers().calls) == 1
    black = zoo.load(str(path), READING)
    np.testing.assert_allclose(converted.embed(frames(5)), black.embed(frames(5)), atol=1e-5)
    assert converted.fingerprint != black.fingerprint


@pytest.mark.parametrize("error", [ImportError("No module"), RuntimeError("nms does not exist")])
def test_a_missing_or_broken_onnx2torch_is_explained(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr("facefocus.models.onnx.importlib.import_module", fail)
    with pytest.raises(UserError, match=r"needs the package onnx2torch, which needs a torchvision"):
        zoo.load(f"onnx2torch:{model(tmp_path / 'linear.onnx')}", READING)
