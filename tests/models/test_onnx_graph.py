"""ONNX files as white boxes: the layers, gradients and maps of the torch module they came from."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.models import zoo
from facefocus.models.backends import accelerate
from facefocus.models.onnx_graph import OnnxGraph, read_model
from facefocus.models.preprocessing import from_mapping
from facefocus.models.recognizer import Recognizer, TorchRecognizer, WhiteBox, is_white_box
from facefocus.testing import check_recognizer
from tests.models.nets import inplace
from tests.models.transformers import EdgeFace, MobileVit, Swin, seeded

pytest.importorskip("onnxruntime")

SIZE = (16, 12)
READING: dict[str, Any] = {"size": list(SIZE), "mean": 127.5, "std": 128, "channels": "rgb"}


def exported(
    module: nn.Module, path: Path, *, batch: int | None = None, kept: bool = True, opset: int = 17
) -> Path:
    """The module as an ONNX file: for any number of images, or for exactly `batch`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modes = torch.onnx.TrainingMode
        torch.onnx.export(
            module.eval(),
            (torch.zeros(batch or 2, 3, *SIZE),),
            path,
            dynamo=False,
            input_names=["image"],
            dynamic_axes={} if batch else {"image": {0: "n"}},
            # Else the exporter merges batch normalizations into convolutions.
            training=modes.PRESERVE if kept else modes.EVAL,
            opset_version=opset,
        )
    return path


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


def in_torch(module: nn.Module) -> TorchRecognizer:
    return TorchRecognizer("torch", module.eval(), from_mapping(READING), identity="")


def loaded(path: Path, **changes: Any) -> WhiteBox:
    recognizer: Recognizer = zoo.load(str(path), READING | changes)
    assert is_white_box(recognizer)
    return recognizer


def test_layers_activations_and_gradients_are_those_of_the_torch_module(tmp_path: Path) -> None:
    module = inplace()
    graph, torch_box = loaded(exported(module, tmp_path / "net.onnx")), in_torch(module)
    rows = [
        [(c.name, c.channels, c.height, c.spatial) for c in box.layers().calls]
        for box in (graph, torch_box)
    ]
    assert rows[0] == rows[1] and [row[0] for row in rows[0]] == ["0", "2", "5"]
    np.testing.assert_allclose(graph.embed(frames(5)), torch_box.embed(frames(5)), atol=1e-6)
    with graph.capture(frames(5), [1, 2, 3]) as a, torch_box.capture(frames(5), [1, 2, 3]) as b:
        directions = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
        gradients, wanted = a.gradients(directions), b.gradients(directions)
        for layer in (1, 2, 3):
            torch.testing.assert_close(a.activations[layer], b.activations[layer])
            torch.testing.assert_close(gradients[layer], wanted[layer])


def test_it_keeps_what_is_asked_of_any_white_box(tmp_path: Path) -> None:
    path = exported(inplace(), tmp_path / "net.onnx", kept=False)
    results = check_recognizer(loaded(path), again=lambda: loaded(path))
    assert not [result for result in results if not result.passed]
    assert {"capture", "gradients"} <= {result.name for result in results}


def test_openvino_runs_the_graph_as_torch_does(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    graph = loaded(exported(Transformer(), tmp_path / "net.onnx", batch=1))
    fast = accelerate(loaded(tmp_path / "net.onnx"), "openvino")
    np.testing.assert_allclose(fast.embed(frames(3)), graph.embed(frames(3)), atol=1e-4)


class Transformer(nn.Module):
    """A class token before 12 patches, one block of attention, and layer normalizations."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.first, self.last = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def count(self, x: Tensor) -> int:
        return x.shape[0]

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(self.count(x), -1, -1), x], 1)
        n, t, d = x.shape
        qkv = self.qkv(self.first(x)).reshape(n, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        normed: Tensor = self.last(x)
        return F.gelu(normed[:, 0])


class Counted(Transformer):
    """The exporter writes the number of images down as a constant."""

    def count(self, x: Tensor) -> int:
        return len(x)


def test_a_file_that_runs_on_the_two_images_of_its_export_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = Counted()
    graph = loaded(exported(module, tmp_path / "two.onnx"))
    np.testing.assert_allclose(graph.embed(frames(5)), in_torch(module).embed(frames(5)), atol=1e-5)
    assert "runs on two images only" in caplog.text


@pytest.mark.parametrize(("batch", "opset"), [(None, 14), (None, 17), (1, 14), (4, 17)])
def test_a_transformer_from_any_operation_set_and_for_any_number_of_images(
    batch: int | None, opset: int, tmp_path: Path
) -> None:
    """Before version 17, a layer normalization is written as nine operations; they become one."""
    module = Transformer()
    path = exported(module, tmp_path / "net.onnx", batch=batch, opset=opset)
    graph = loaded(path)
    np.testing.assert_allclose(graph.embed(frames(5)), in_torch(module).embed(frames(5)), atol=1e-5)
    names = [[call.name for call in box.layers().calls] for box in (graph, in_torch(module))]
    assert names[0] == names[1] == ["patches", "first", "qkv", "last"]
    network = OnnxGraph(read_model(path), read_model(path).graph.output[0].name, batch)
    operations = [node.operation for node in network.nodes]
    assert operations.count("LayerNormalization") == 2
    assert "Sqrt" not in [node.operation for node in network.nodes if node.opset < 17][-5:]
    assert operations.count("Softmax") == 1


class OneImage(Swin):
    """The exporter writes the number of images down beside computed sides of the grid."""

    def count(self, x: Tensor) -> int:
        return len(x)


@pytest.mark.parametrize(
    ("make", "batch"), [(Swin, None), (OneImage, 1), (MobileVit, None), (EdgeFace, 1)]
)
def test_tokens_lie_as_in_the_torch_module(
    make: type[nn.Module], batch: int | None, tmp_path: Path
) -> None:
    module = seeded(make)
    graph, torch_box = (
        loaded(exported(module, tmp_path / "net.onnx", batch=batch)),
        in_torch(module),
    )
    np.testing.assert_allclose(graph.embed(frames(5)), torch_box.embed(frames(5)), atol=1e-5)
    assert graph.layers() == torch_box.layers()


def test_a_merged_batch_normalization_still_gives_the_embeddings(tmp_path: Path) -> None:
    module = inplace()
    graph = loaded(exported(module, tmp_path / "net.onnx", kept=False))
    assert [call.name for call in graph.layers().calls] == ["0", "2", "5"]
    np.testing.assert_allclose(graph.embed(frames(5)), in_torch(module).embed(frames(5)), atol=1e-5)


def test_weights_on_another_type_follow_the_module(tmp_path: Path) -> None:
    path = exported(Transformer(), tmp_path / "net.onnx")
    network = OnnxGraph(read_model(path), read_model(path).graph.output[0].name).double()
    images = torch.randn(2, 3, *SIZE, dtype=torch.float64)
    assert network(images).dtype == torch.float64
    torch.testing.assert_close(network(images), Transformer().double()(images))


def test_a_shape_that_fits_counts_no_images() -> None:
    """In a file for one image: the largest pixel of all, as [1, 1], times each image."""
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["largest"], keepdims=0),
        helper.make_node("Reshape", ["largest", "shape"], ["matrix"]),
        helper.make_node("Mul", ["image", "matrix"], ["out"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("image", "out")]
    shape = numpy_helper.from_array(np.array([1, 1]), "shape")
    graph = helper.make_graph(nodes, "made", ends[:1], ends[1:], [shape])
    images = torch.arange(12.0).view(3, 4)
    opset = [helper.make_opsetid("", 17)]
    network = OnnxGraph(helper.make_model(graph, opset_imports=opset), "out", 1)
    assert torch.equal(network(images), images * 11)


def test_weights_are_named_by_the_module_that_the_newer_exporter_tells() -> None:
    node = helper.make_node("MatMul", ["image", "val_13"], ["out"], "node_MatMul_12")
    scopes = "['', 'blocks', 'blocks.0', 'blocks.0.qkv', 'linear']"
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    weight = numpy_helper.from_array(np.ones((4, 2), np.float32), "val_13")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, side])
        for name, side in (("image", 4), ("out", 2))
    ]
    model = helper.make_model(helper.make_graph([node], "made", ends[:1], ends[1:], [weight]))
    names = [name for name, _ in OnnxGraph(model, "out").named_parameters()]
    assert names == ["blocks.0.qkv.weight1"]


def test_it_is_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x00\x01 no model")
    with pytest.raises(UserError, match=r"net.onnx' is no ONNX file"):
        read_model(tmp_path / "net.onnx")
