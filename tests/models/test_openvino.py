"""Black boxes in OpenVINO: its own models, and ONNX files that onnxruntime refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from facefocus.core.errors import UserError
from facefocus.models import zoo
from facefocus.models.onnx import as_white_box
from facefocus.models.openvino import OpenVinoRecognizer
from facefocus.models.preprocessing import from_mapping
from facefocus.models.recognizer import is_white_box

READING = {"size": [6, 6], "mean": 127.5, "std": 128}
WORDS = "size = [6, 6]\nmean = 127.5\nstd = 128\n"


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)


def inputs(count: int) -> torch.Tensor:
    return from_mapping(READING)(torch.from_numpy(frames(count)))


def kernel() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(4, 3, 6, 6)).astype(np.float32)


def model(path: Path, *, batch: int = 1, outputs: int = 1) -> Path:
    """One convolution over the whole input: [n, 3, 6, 6] to [n, 4, 1, 1]."""
    from openvino import opset13 as ops

    x = ops.parameter([batch, 3, 6, 6], np.float32)
    y = ops.convolution(x, ops.constant(kernel()), [1, 1], [0, 0], [0, 0], [1, 1])
    results = [ops.result(y) for _ in range(outputs)]
    openvino.save_model(openvino.Model(results, [x], "m"), path, compress_to_fp16=False)
    path.with_suffix(".toml").write_text(WORDS)
    return path


@pytest.mark.parametrize("batch", [1, -1])
def test_a_model_embeds_whatever_its_batch(tmp_path: Path, batch: int) -> None:
    box = zoo.load(str(model(tmp_path / "mine.xml", batch=batch)))
    expected = F.conv2d(inputs(20), torch.from_numpy(kernel())).flatten(1).numpy()
    embedded = box.embed(frames(20))
    np.testing.assert_allclose(embedded, expected, rtol=1e-5, atol=1e-5)
    assert np.array_equal(box.embed(frames(20)[7:9]), embedded[7:9])
    assert box.name == "mine" and isinstance(box, OpenVinoRecognizer)
    assert box.embed(frames(0)).shape == (0, 4)


def test_the_weights_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = str(model(tmp_path / "mine.xml"))
    first = zoo.load(path).fingerprint
    assert zoo.load(path).fingerprint == first
    assert zoo.load(path, READING | {"std": 1}).fingerprint != first
    weights = tmp_path / "mine.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    assert zoo.load(path).fingerprint != first


def test_batch_norms_with_spatial_0_run(tmp_path: Path) -> None:
    """As MXNet exported ArcFace's ResNet100: onnxruntime refuses them when they are run."""
    draw = np.random.default_rng(2)
    values = {name: draw.uniform(0.5, 1.5, 3).astype(np.float32) for name in "sbmv"}
    values["slope"] = draw.uniform(0.1, 0.9, (3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("BatchNormalization", ["data", *"sbmv"], ["n"], epsilon=1e-5, spatial=0),
        helper.make_node("PRelu", ["n", "slope"], ["p"]),
        helper.make_node("Flatten", ["p"], ["fc1"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 6, 6])],
        [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 108])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)])
    file.ir_version = 4
    onnx.save(file, tmp_path / "r100.onnx")
    box = OpenVinoRecognizer(tmp_path / "r100.onnx", from_mapping(READING))
    s, b, m, v, slope = (torch.from_numpy(value) for value in values.values())
    normed = F.batch_norm(inputs(2), m, v, s, b, False, 0.0, 1e-5)
    expected = torch.where(normed > 0, normed, normed * slope).flatten(1).numpy()
    np.testing.assert_allclose(box.embed(frames(2)), expected, rtol=1e-4, atol=1e-5)
    white = as_white_box(box, tmp_path / "r100.onnx")
    assert is_white_box(white)
    np.testing.assert_allclose(white.embed(frames(2)), expected, rtol=1e-4, atol=1e-5)


def test_weights_beside_an_onnx_file_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "weight"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 1, 1])],
        [numpy_helper.from_array(kernel(), "weight")],
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path, data = tmp_path / "a.onnx", tmp_path / "a.data"
    onnx.save_model(file, path, save_as_external_data=True, location=data.name, size_threshold=0)
    first = OpenVinoRecognizer(path, from_mapping(READING)).fingerprint
    data.write_bytes((np.frombuffer(data.read_bytes(), np.float32) + 1).tobytes())
    assert OpenVinoRecognizer(path, from_mapping(READING)).fingerprint != first


@pytest.mark.parametrize("word", [{"layout": "nhwc"}, {"output": 1}, {"dtype": "float16"}])
def test_words_that_it_has_no_use_for_are_refused(tmp_path: Path, word: dict[str, object]) -> None:
    path = str(model(tmp_path / "mine.xml"))
    with pytest.raises(UserError, match=rf"The '{next(iter(word))}' of .* Leave it out\."):
        zoo.load(path, READING | word)


def test_what_is_no_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(model(tmp_path / "mine.xml"))
    with pytest.raises(UserError, match=r"no OpenVINO model with one input of 3x8x8"):
        zoo.load(path, READING | {"size": [8, 8]})
    with pytest.raises(UserError, match=r"two.xml' is no OpenVINO model with one .* one output"):
        zoo.load(str(model(tmp_path / "two.xml", outputs=2)))
    (tmp_path / "text.xml").write_text("<html/>")
    (tmp_path / "text.bin").touch()
    with pytest.raises(UserError, match=r"text.xml' is no OpenVINO model"):
        zoo.load(str(tmp_path / "text.xml"), READING)
    (tmp_path / "mine.bin").unlink()
    with pytest.raises(UserError, match=r"The model '.*mine.bin' does not exist"):
        zoo.load(path)
    monkeypatch.setattr("facefocus.models.openvino.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs: pip install openvino"):
        zoo.load(path)
