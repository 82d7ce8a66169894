"""Recognizers of other packages by one line; a package that is not installed is a small stand-in.

A stand-in has what its source uses of the package, as recorded from frbench 1.1.3, facenet-pytorch
2.6.0, timm 1.0.31 and dlib 20.0.1; the real ones were run as ``docs/recognizers.md`` says.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.core.registry import Registry
from facefocus.models import sources, zoo
from facefocus.models.recognizer import TorchRecognizer, is_white_box
from facefocus.models.sources import SOURCES, RecognizerSource, source_of
from facefocus.models.sources.dlib import chip
from facefocus.testing import check_recognizer

#: A pickle that would run a program.
HOSTILE = b"cposix\nsystem\n(Vtrue\ntR."
DLIB = all(map(importlib.util.find_spec, ("dlib", "face_recognition_models")))


def frames(count: int, side: int = 112) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def planes(images: np.ndarray, mean: Any, std: Any, *, bgr: bool = False) -> Tensor:
    """What a network is given, by the formula alone."""
    given = images[..., ::-1] if bgr else images
    scaled = (given.astype(np.float64) - mean) / std
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy()).float()


class Small(nn.Module):
    """Any network: one convolution, pooled, and a layer of classes."""

    def __init__(self, width: int = 6, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 5, 4)
        self.head = nn.Linear(4, width) if width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        return out


def onnx_file(path: Path, *, side: int = 112, prefix: str = "") -> Path:
    """A convolution over the whole image; with a prefix, subtraction and product before it."""
    weight = np.random.default_rng(1).normal(size=(4, 3, side, side)).astype(np.float32) / side
    constants = [numpy_helper.from_array(weight, "weight")]
    nodes, start = [], "image"
    if prefix:
        for name, operation, value in (("minus", "Sub", 127.5), ("mul", "Mul", 1 / 128)):
            constants.append(numpy_helper.from_array(np.array([value], np.float32), name))
            made = f"{name}0"
            nodes.append(helper.make_node(operation, [start, name], [made], name=f"_{made}"))
            start = made
    nodes += [
        helper.make_node("Conv", [start, "weight"], ["map"]),
        helper.make_node("Flatten", ["map"], ["embedding"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, side, side])
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph(nodes, "made", [image], [out], constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def linear(given: Tensor) -> np.ndarray:
    side = given.shape[-1]
    weight = np.random.default_rng(1).normal(size=(4, 3, side, side)).astype(np.float32) / side
    embeddings: np.ndarray = np.einsum("nchw,dchw->nd", given.numpy(), weight)
    return embeddings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("UNIFACE_CACHE_DIR", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, name: str, **parts: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(parts)
    module.__spec__ = ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.mark.parametrize(
    ("name", "form", "rest"),
    [
        ("frbench:a/b/c", "frbench:BACKBONE/LOSS/DATA", "a/b/c"),
        ("timm:vit@~/x.pth", "timm:NAME@FILE", "vit@~/x.pth"),
        ("dlib", "dlib", ""),
        ("openvino:a/b.xml", "openvino:FILE.xml", "a/b.xml"),
        ("a/b.XML", "openvino:FILE.xml", "a/b.XML"),
        ("a/b.onnx", "FILE.onnx", "a/b.onnx"),
        ("a.py:build", "FILE.py:FUNCTION", "a.py:build"),
    ],
)
def test_a_name_tells_its_source(name: str, form: str, rest: str) -> None:
    source = source_of(name)
    assert source is not None and (source[0].form, source[1]) == (form, rest)


def test_other_names_have_no_source() -> None:
    assert source_of("mobilefacenet-ms1m") is None and source_of("tim:vit@x") is None
    with pytest.raises(UserError, match=r"mean 'timm'\? .*named as well: .*insightface:PACK"):
        zoo.load("tim:vit@x")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.onnx", "FILE.onnx"),
        ("a.pt2", "FILE.pt2"),
        ("openvino:a.xml", "openvino:FILE.xml"),
        ("openvino:", "openvino:FILE.xml"),
        ("a.py:build", "FILE.py:FUNCTION"),
        ("a.py", "FILE.py:FUNCTION"),
        ("a.py:", "FILE.py:FUNCTION"),
    ],
)
def test_a_file_that_is_not_there(name: str, form: str) -> None:
    """Said before anything else: what the file would need does not matter."""
    with pytest.raises(UserError, match=f"^The recognizer must be {form}. "):
        zoo.load(name)


def test_a_python_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_bytes(HOSTILE + b"\0")
    with pytest.raises(UserError, match=r"own.py' is no Python file: source code .* null bytes"):
        zoo.load(f"{tmp_path / 'own.py'}:build")


def test_a_source_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name, value = "mine", "a_package:SOURCE"

    mine = TorchRecognizer("m", Small(), zoo.describe("sface").reader(), identity="m")
    install(monkeypatch, "a_package", SOURCE=RecognizerSource("mine:NAME", lambda *_: mine))
    monkeypatch.setattr("facefocus.core.registry.entry_points", lambda group: [Entry])
    monkeypatch.setattr(sources, "SOURCES", Registry("recognizer source"))
    assert zoo.load("mine:x") is mine
    with pytest.raises(UserError, match="preprocessing of 'mine:x' is its own"):
        zoo.load("mine:x", {"size": [112, 112], "mean": 0, "std": 1})


# Files in folders of other packages ---------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "own"])
def test_the_recognition_model_of_an_insightface_pack(home: Path, prefix: str) -> None:
    pack = home / ".insightface" / "models" / "buffalo_x"
    onnx_file(pack / "w600k.onnx", prefix=prefix)
    onnx_file(pack / "1k3d68.onnx", side=64)
    recognizer = zoo.load("insightface:buffalo_x")
    assert is_white_box(recognizer)
    expected = linear(planes(frames(3), 127.5, 128 if prefix else 127.5))
    np.testing.assert_allclose(recognizer.embed(frames(3)), expected, atol=1e-4)
    with pytest.raises(UserError, match=r"which has buffalo_x\. Did you mean 'buffalo_x'\?"):
        zoo.load("insightface:buffalo_x0")
    with pytest.raises(UserError, match=r"Did you mean 'antelopev2'\? Get one by: pip install ins"):
        zoo.load("insightface:antelope")
    (pack / "w600k.onnx").unlink()
    with pytest.raises(UserError, match=r"must hold one recognition model.* Got none"):
        zoo.load("insightface:buffalo_x")


@pytest.mark.parametrize(
    ("name", "file", "bgr"),
    [
        ("uniface:sphere36", "sphere36", False),
        ("uniface:adaface_ir_50", "adaface_ir_50", True),
        ("adaface:ir_50", "adaface_ir_50", True),
    ],
)
def test_files_of_uniface(home: Path, name: str, file: str, bgr: bool) -> None:
    with pytest.raises(UserError, match=f"{file}.onnx' of 'uniface:{file}' does not exist"):
        zoo.load(name)
    onnx_file(home / ".uniface" / "models" / f"{file}.onnx")
    expected = linear(planes(frames(3), 127.5, 127.5, bgr=bgr))
    np.testing.assert_allclose(zoo.load(name).embed(frames(3)), expected, atol=1e-4)


def test_what_uniface_and_adaface_do_not_have(home: Path) -> None:
    with pytest.raises(UserError, match="facefocus fetch uniface-sphere20"):
        zoo.load("uniface:sphere20")
    with pytest.raises(UserError, match=r"verify_model_weights\(constants.SphereFaceWeights\('sph"):
        zoo.load("uniface:sphere36")
    with pytest.raises(UserError, match="Did you mean 'sphere20'"):
        zoo.load("uniface:sphere21")
    with pytest.raises(UserError, match=r"adaface:NAME with a NAME of ir_18, ir_50, ir_101"):
        zoo.load("adaface:ir_19")


# Packages -----------------------------------------------------------------------------------------


class Preprocessor:
    def __init__(self, template: Tensor) -> None:
        self.template, self.channel, self.size = template, "bgr", (112, 112)
        self.mean = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
        self.std = torch.tensor([0.5, 0.6, 0.7]).view(1, 3, 1, 1)


class FR:
    template = torch.zeros(5, 2)

    def __init__(self, backbone: str, loss: str, data: str, *, eager_load: bool) -> None:
        assert eager_load
        self.backbone = Small().train()
        self.preprocessor = Preprocessor(FR.template)


@pytest.fixture
def frbench(home: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    settings: list[dict[str, object]] = []

    @contextmanager
    def configure_scoped(**given: object) -> Iterator[None]:
        settings.append(given)
        yield

    return install(
        monkeypatch,
        "frbench",
        FR=FR,
        CACHE=str(home),
        ARCFACE_112_TEMPLATE=torch.zeros(5, 2),
        configure_scoped=configure_scoped,
        settings=settings,
    )


def test_a_backbone_of_frbench(
    frbench: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"Get them by: frbench-download small_arcface_ms1m\.$"):
        zoo.load("frbench:small/arcface/ms1m")
    entry = {"target_name": "s", "contents": {"weight": "w.pth"}}
    (home / "manifest.json").write_text(json.dumps({"small_arcface_ms1m": entry}))
    with pytest.raises(UserError, match=r"has no 'smal_arcface_ms1m'\. Did you mean"):
        zoo.load("frbench:smal/arcface/ms1m")
    with pytest.raises(UserError, match="Get them by"):
        zoo.load("frbench:small/arcface/ms1m")
    (home / "s").mkdir()
    torch.save(Small().state_dict(), home / "s" / "w.pth")
    recognizer = zoo.load("frbench:small/arcface/ms1m")
    given = planes(
        frames(3), 255 * np.array([0.5, 0.4, 0.3]), 255 * np.array([0.5, 0.6, 0.7]), bgr=True
    )
    expected = Small().eval()(given).detach().numpy()
    np.testing.assert_allclose(recognizer.embed(frames(3)), expected, atol=1e-5)
    assert {"update_check": False} in frbench.settings
    monkeypatch.setattr(FR, "template", torch.ones(5, 2))
    with pytest.raises(UserError, match="aligned to a template of its own"):
        zoo.load("frbench:small/arcface/ms1m")
    monkeypatch.setattr(frbench, "FR", Mock(side_effect=KeyError("backbone")))
    with pytest.raises(UserError, match="FRBench cannot load 'frbench:small/arcface/ms1m': 'back"):
        zoo.load("frbench:small/arcface/ms1m")
    (home / "s" / "w.pth").write_bytes(HOSTILE)
    with pytest.raises(UserError, match=r"w.pth' would run code .*posix.system"):
        zoo.load("frbench:small/arcface/ms1m")
    (home / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest.json' is damaged: remove it"):
        zoo.load("frbench:small/arcface/ms1m")
    for name in ("frbench:small/arcface", "frbench:", "frbench:a//b"):
        with pytest.raises(UserError, match=r"must be frbench:BACKBONE/LOSS/DATA"):
            zoo.load(name)


def test_facenet_of_facenet_pytorch(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "facenet_pytorch", InceptionResnetV1=Small)
    with pytest.raises(UserError, match=r"InceptionResnetV1\('vggface2'\)\"\.$"):
        zoo.load("facenet-pytorch:vggface2")
    folder = home / ".cache" / "torch" / "checkpoints"
    folder.mkdir(parents=True)
    # As the published file, with a layer of classes that gives no embedding.
    logits = {"logits.weight": torch.ones(9, 6), "logits.bias": torch.ones(9)}
    weights, path = Small(seed=3), folder / "20180402-114759-vggface2.pt"
    torch.save(weights.state_dict() | logits, path)
    embeddings = zoo.load("facenet-pytorch:vggface2").embed(frames(3, 160))
    expected = weights.eval()(planes(frames(3, 160), 127.5, 128)).detach().numpy()
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    path.write_bytes(HOSTILE)
    with pytest.raises(UserError, match=r"vggface2.pt' would run code .*posix.system"):
        zoo.load("facenet-pytorch:vggface2")
    with pytest.raises(UserError, match="Did you mean 'vggface2'"):
        zoo.load("facenet-pytorch:vggface")


class Timm(Small):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.head = nn.Linear(4, num_classes) if num_classes else nn.Identity()


@pytest.mark.parametrize("width", [6, 0])
def test_a_backbone_of_timm_with_weights_of_a_file(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create_model(name: str, num_classes: int, in_chans: int, **more: Any) -> nn.Module:
        if "img_size" in more:
            raise TypeError("no img_size")
        return Timm(num_classes)

    install(
        monkeypatch,
        "timm",
        create_model=create_model,
        is_model=lambda name: name == "small",
        list_models=lambda: ["small"],
    )
    trained, path = Small(width, seed=5), tmp_path / "w.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, path)
    with pytest.raises(UserError, match=r"w.toml', with lines such as size = \[112, 112\]"):
        zoo.load(f"timm:small@{path}")
    path.with_suffix(".toml").write_text(
        'size = [112, 112]\nmean = 127.5\nstd = 127.5\nchannels = "rgb"\ncrop = [0, 0, 112, 112]\n'
    )
    recognizer = zoo.load(f"timm:small@{path}")
    expected = trained.eval()(planes(frames(3), 127.5, 127.5)).detach().numpy()
    np.testing.assert_allclose(recognizer.embed(frames(3)), expected, atol=1e-5)
    with pytest.raises(UserError, match=r"timm has no backbone 'smal'\. Did you mean 'small'"):
        zoo.load(f"timm:smal@{path}")
    with pytest.raises(UserError, match="must be timm:NAME@FILE"):
        zoo.load("timm:small")


@pytest.mark.parametrize(
    ("name", "module", "line"),
    [
        ("frbench:a/b/c", "frbench", "pip install frbench"),
        ("facenet-pytorch:vggface2", "facenet_pytorch", "pip install facenet-pytorch --no-deps"),
        ("timm:a@b.pth", "timm", "pip install timm"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_the_line_that_installs_it(
    name: str, module: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"The recognizer '{name}' needs: {line}"):
        zoo.load(name)


# dlib ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [112, 224])
def test_a_chip_is_the_square_that_dlib_cuts(side: int) -> None:
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    ramp = np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)
    made = chip(ramp)
    assert made.shape == (150, 150, 3)
    # The chip's middle shows (55.84, 72.27) of 112; 30 pixels are 30 * 99.78 / 150 = 19.956 of 112.
    for pixel, position in ((74, 55.84 - 0.5 * 0.6652), (44, 55.84 - 30.5 * 0.6652)):
        assert made[74, pixel, 0] == pytest.approx(position * side / 112, abs=1)
    assert made[74, 74, 1] == pytest.approx((72.27 - 0.5 * 0.6652) * side / 112, abs=1)
    # Below the crop its edge is repeated.
    assert made[149, 74, 1] == side - 1


@pytest.mark.skipif(DLIB, reason="dlib is installed")
def test_without_dlib_the_message_names_the_line_to_install() -> None:
    with pytest.raises(UserError, match="needs: pip install face_recognition_models dlib-bin"):
        zoo.load("dlib")


@pytest.mark.skipif(DLIB, reason="the real one is tested")
def test_a_stand_in_for_dlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def __init__(self, path: str) -> None:
            if Path(path).read_text() != "weights":
                raise RuntimeError("Unexpected end of file")

        def compute_face_descriptor(self, chips: list[np.ndarray]) -> list[list[float]]:
            return [[float(value) for value in chip[75, 75]] + [0.0] * 125 for chip in chips]

    folder = tmp_path / "face_recognition_models"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "models" / "dlib_face_recognition_resnet_model_v1.dat").write_text("weights")
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, "dlib", face_recognition_model_v1=Model)
    recognizer = zoo.load("dlib")
    flat = np.zeros((2, 112, 112, 3), np.uint8) + np.array([7, 8, 9], np.uint8)
    assert recognizer.embed(flat)[:, :4].tolist() == [[7, 8, 9, 0]] * 2
    assert recognizer.embed(flat[:0]).shape[0] == 0
    (folder / "models" / "dlib_face_recognition_resnet_model_v1.dat").write_text("wei")
    with pytest.raises(UserError, match=r"of 'dlib' cannot be read: Unexpected end .*--force-rei"):
        zoo.load("dlib")
    with pytest.raises(UserError, match="dlib has one recognizer"):
        zoo.load("dlib:other")


@pytest.mark.skipif(not DLIB, reason="dlib-bin and face_recognition_models are not installed")
def test_dlib_keeps_what_the_program_relies_on() -> None:
    results = check_recognizer(zoo.load("dlib"))
    assert [result for result in results if not result.passed] == []


def test_every_source_can_be_imported() -> None:
    assert all(isinstance(SOURCES[name], RecognizerSource) for name in SOURCES)
