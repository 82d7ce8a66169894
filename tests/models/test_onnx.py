from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from facefocus.core.errors import UserError
from facefocus.models import zoo
from facefocus.models.onnx_operations import OPERATIONS
from facefocus.models.recognizer import is_recognizer, is_white_box, white_box

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


def test_what_torch_cannot_run_is_a_black_box_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["map"]),
        helper.make_node("Flatten", ["map"], ["rows"]),
        helper.make_node("Shrink", ["rows"], ["embedding"], bias=0.5, lambd=0.0),
    ]
    path = built(tmp_path / "shrunk.onnx", nodes)
    recognizer = zoo.load(str(path), READING)
    assert is_recognizer(recognizer) and not is_white_box(recognizer)
    linear = expected_of(frames(3))
    expected = linear - 0.5 * np.sign(linear)
    np.testing.assert_allclose(recognizer.embed(frames(3)), expected, atol=1e-5)
    assert "stays a black box, without gradients: torch has no Shrink here" in caplog.text
    with pytest.raises(UserError, match="'shrunk' is a black box: it gives embeddings only"):
        white_box(recognizer, "the method 'gradcam'")


def test_a_graph_that_differs_from_onnxruntime_is_not_used_and_the_node_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["map"], name="first"),
        helper.make_node("Tanh", ["map"], ["bent"], name="bend"),
        helper.make_node("Flatten", ["bent"], ["embedding"], name="last"),
    ]
    path = built(tmp_path / "bent.onnx", nodes)
    assert is_white_box(zoo.load(str(path), READING))
    monkeypatch.setitem(OPERATIONS, "Tanh", lambda node, x: torch.sin(x))
    recognizer = zoo.load(str(path), READING)
    assert not is_white_box(recognizer)
    np.testing.assert_allclose(
        recognizer.embed(frames(3)), np.tanh(expected_of(frames(3))), atol=1e-5
    )
    assert "the first difference is at Tanh 'bend'" in caplog.text


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
    with pytest.raises(UserError, match=r'output = "out0" or output = "out1"\.$'):
        zoo.load(str(model(tmp_path / "two.onnx", outputs=2)), READING)
    second = zoo.load(str(tmp_path / "two.onnx"), READING | {"output": "out1"})
    assert second.embed(frames(2)).shape == (2, 4)
    with pytest.raises(UserError, match=r"'.*absent.onnx' does not exist"):
        zoo.load(str(tmp_path / "absent.onnx"), READING)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(UserError, match="is no ONNX file") as caught:
        zoo.load(str(tmp_path / "text.onnx"), READING)
    assert "\n" not in str(caught.value)


def built(path: Path, nodes: list[onnx.NodeProto], **changes: Any) -> Path:
    """A model of some nodes from "image" to "embedding"; weights are called "weight"."""
    given: dict[str, Any] = {
        "input": [TensorProto.FLOAT, ["n", 3, 16, 12]],
        "outputs": {"embedding": ["n", 4]},
        **changes,
    }
    weight = numpy_helper.from_array(WEIGHT.astype(changes.get("weights", np.float32)), "weight")
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("image", *given["input"])],
        [
            helper.make_tensor_value_info(name, changes.get("type", TensorProto.FLOAT), shape)
            for name, shape in given["outputs"].items()
        ],
        [weight, *changes.get("constants", [])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def expected_of(given: np.ndarray) -> np.ndarray:
    planes = (given.transpose(0, 3, 1, 2).astype(np.float64) - 127.5) / 128
    embeddings: np.ndarray = np.einsum("nchw,dchw->nd", planes, WEIGHT.astype(np.float64))
    return embeddings


CONV = helper.make_node("Conv", ["image", "weight"], ["embedding"])


def last_channels(tmp_path: Path, sides: list[Any]) -> Path:
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight"], ["map"]),
        helper.make_node("Flatten", ["map"], ["embedding"]),
    ]
    return built(tmp_path / "nhwc.onnx", nodes, input=[TensorProto.FLOAT, ["n", *sides]])


def test_channels_that_come_last_are_seen_or_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(last_channels(tmp_path, [16, 12, 3]))
    np.testing.assert_allclose(
        zoo.load(path, READING).embed(frames(19)), expected_of(frames(19)), atol=1e-5
    )
    assert "their channels come last" in " ".join(caplog.messages)
    with pytest.raises(UserError, match=r"write size = \[16, 12\]\.$"):
        zoo.load(path, READING | {"size": [112, 112]})
    last_channels(tmp_path, ["h", "w", "c"])
    recognizer = zoo.load(path, READING | {"layout": "nhwc"})
    assert is_white_box(recognizer)
    np.testing.assert_allclose(recognizer.embed(frames(3)), expected_of(frames(3)), atol=1e-5)


@pytest.mark.parametrize(
    ("lines", "reading"),
    [
        ("size = [16, 12]", READING | {"size": [20, 20]}),
        ('channels = "rgb"', READING | {"channels": "gray"}),
        ('layout = "nchw"', READING | {"layout": "nhwc"}),
        ('dtype = "float32"', READING | {"dtype": "float16"}),
    ],
)
def test_the_lines_that_a_message_names_then_work(
    tmp_path: Path, lines: str, reading: dict[str, object]
) -> None:
    path = model(tmp_path / "linear.onnx")
    with pytest.raises(UserError, match=re.escape(f"linear.toml', write {lines}.")):
        zoo.load(str(path), reading)
    mended = reading | tomllib.loads(lines)
    assert zoo.load(str(path), mended).embed(frames(2)).shape == (2, 4)


def test_float16_and_embeddings_of_four_axes_just_work(tmp_path: Path) -> None:
    half = built(
        tmp_path / "half.onnx",
        [CONV],
        input=[TensorProto.FLOAT16, ["n", 3, 16, 12]],
        outputs={"embedding": ["n", 4, 1, 1]},
        type=TensorProto.FLOAT16,
        weights=np.float16,
    )
    white = zoo.load(str(half), READING)
    assert is_white_box(white) and len(white.layers().calls) == 1
    got = white.embed(frames(5))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected_of(frames(5)), atol=0.02)


def test_pixels_as_they_are(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "weight"], ["map"]),
        helper.make_node("Flatten", ["map"], ["embedding"]),
    ]
    path = str(built(tmp_path / "u.onnx", nodes, input=[TensorProto.UINT8, ["n", 3, 16, 12]]))
    with pytest.raises(UserError, match=r'u.toml\', write dtype = "uint8" and no mean and no std'):
        zoo.load(path, READING)
    for reading in ({"size": [16, 12], "dtype": "uint8"}, READING | {"mean": 0, "std": 1}):
        white = zoo.load(path, reading)
        got = white.embed(frames(5))
        np.testing.assert_allclose((got - 127.5 * WEIGHT.sum((1, 2, 3))) / 128,
                                   expected_of(frames(5)), atol=1e-3)  # fmt: skip
    # Pixels are rounded; the gradient passes as if they were not.
    assert is_white_box(white)
    image = torch.full((1, 3, 16, 12), 7.4, requires_grad=True)
    out = white.module(image)
    (gradient,) = torch.autograd.grad(out[0, 0], image)
    np.testing.assert_allclose(out.detach().numpy()[0], 7 * WEIGHT.sum((1, 2, 3)), atol=1e-3)
    np.testing.assert_allclose(gradient[0].numpy(), WEIGHT[0])
    with pytest.raises(UserError, match=r"must be 0 and 1 for the 'dtype' uint8.* leave them out"):
        zoo.load(path, READING | {"dtype": "uint8"})


def test_the_output_with_the_norm_beside_it_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["map"]),
        helper.make_node("Flatten", ["map"], ["embedding"]),
        helper.make_node("ReduceL2", ["embedding"], ["norm"], axes=[1]),
    ]
    outputs = {"norm": ["n", 1], "embedding": ["n", 4]}
    recognizer = zoo.load(str(built(tmp_path / "two.onnx", nodes, outputs=outputs)), READING)
    assert is_white_box(recognizer)
    np.testing.assert_allclose(recognizer.embed(frames(5)), expected_of(frames(5)), atol=1e-5)
    assert '"embedding" is taken for the embedding' in " ".join(caplog.messages)


@pytest.mark.parametrize("back", [[1, 4], [-1, 4]])
def test_a_reshape_that_is_fixed_to_one_image_is_run_on_one_at_a_time(
    tmp_path: Path, back: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """With [-1, 4] no error is raised, but softmax runs over all images together."""
    shapes = {"one": [1, -1], "back": back}
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["map"]),
        helper.make_node("Reshape", ["map", "one"], ["row"]),
        helper.make_node("Softmax", ["row"], ["soft"]),
        helper.make_node("Reshape", ["soft", "back"], ["embedding"]),
    ]
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in shapes.items()]
    path = str(built(tmp_path / "fixed.onnx", nodes, constants=constants))
    white = zoo.load(path, READING)
    assert is_white_box(white)
    got = white.embed(frames(5))
    exponentials = np.exp(expected_of(frames(5)))
    expected = exponentials / exponentials.sum(1, keepdims=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert "it is run on one at a time" in " ".join(caplog.messages)


def test_weights_in_files_beside_the_model_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = model(tmp_path / "linear.onnx")
    inside = zoo.load(str(path), READING).embed(frames(2))
    (tmp_path / "of").mkdir()
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location="of/m.data", size_threshold=0
    )
    data = tmp_path / "of" / "m.data"
    first = zoo.load(str(path), READING)
    assert is_white_box(first)
    np.testing.assert_array_equal(first.embed(frames(2)), inside)
    weights = np.frombuffer(data.read_bytes(), np.float32) + 1
    data.write_bytes(weights.astype(np.float32).tobytes())
    assert zoo.load(str(path), READING).fingerprint != first.fingerprint


def test_a_model_that_memory_does_not_suffice_for_is_a_message(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["map"]),
        helper.make_node("Expand", ["map", "huge"], ["much"]),
        helper.make_node("ReduceMean", ["much"], ["mean"], axes=[0, 4], keepdims=0),
        helper.make_node("Flatten", ["mean"], ["embedding"]),
    ]
    huge = numpy_helper.from_array(np.array([1, 1, 4, 1, 2**45], np.int64), "huge")
    path = built(tmp_path / "huge.onnx", nodes, constants=[huge])
    with pytest.raises(UserError, match=r"Memory does not suffice to run the model .*huge.onnx'"):
        zoo.load(str(path), READING)


@pytest.mark.parametrize("name", ["../m.data", "/tmp/m.data", "link/m.data"])
def test_weights_that_do_not_lie_beside_the_model_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "of"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    (tmp_path / "m.data").write_bytes(WEIGHT.tobytes())
    path = model(folder / "linear.onnx")
    made = onnx.load(path)
    (tensor,) = made.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    path.write_bytes(made.SerializeToString())
    with pytest.raises(
        UserError, match=f"takes weights from '{name}', which must lie in the folder"
    ):
        zoo.load(str(path), READING)


def test_without_onnxruntime_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(tmp_path / "linear.onnx")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "facefocus.models.onnx.find_spec",
        lambda name: None if name == "onnxruntime" else find(name),
    )
    with pytest.raises(UserError, match=r"needs: pip install onnxruntime onnx\.$"):
        zoo.load(str(path), READING)
