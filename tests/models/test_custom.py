from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.errors import UserError
from facefocus.models import zoo
from facefocus.models.preprocessing import from_mapping
from facefocus.models.recognizer import TorchRecognizer, WhiteBox, white_box
from facefocus.registry import Registry
from tests.models import nets

READING = {"size": [16, 12], "mean": 127.5, "std": 128}


def frames(count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 16, 12, 3), dtype=np.uint8)


def reference() -> TorchRecognizer:
    return TorchRecognizer("r", nets.inplace(), from_mapping(READING), identity="r")


def export(path: Path, *, dynamic: bool = True) -> Path:
    batch = torch.export.Dim("batch", min=2, max=1024)
    program = torch.export.export(
        nets.inplace().eval(),
        (torch.randn(4, *nets.SHAPE),),
        dynamic_shapes=({0: batch},) if dynamic else None,
    )
    torch.export.save(program, path)
    return path


def test_an_exported_program_is_a_white_box(tmp_path: Path) -> None:
    path = export(tmp_path / "mine.pt2")
    recognizer = zoo.load(str(path), READING)
    assert recognizer.name == "mine"
    box = white_box(recognizer, "a test")
    np.testing.assert_allclose(
        box.embed(frames()), reference().embed(frames()), rtol=1e-5, atol=1e-6
    )
    assert [call.name for call in box.layers().calls] == ["0", "2", "5"]
    ours, theirs = (one.capture(frames(), [1, 2, 3]) for one in (box, reference()))
    directions = torch.ones(5, 7)
    for index, gradient in theirs.gradients(directions).items():
        torch.testing.assert_close(ours.gradients(directions)[index], gradient)
        torch.testing.assert_close(ours.activations[index], theirs.activations[index])
    assert recognizer.fingerprint == zoo.load(str(path), READING).fingerprint
    assert recognizer.fingerprint != zoo.load(str(path), READING | {"std": 1}).fingerprint


def test_programs_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs its preprocessing: size, mean and std"):
        zoo.load(str(export(tmp_path / "mine.pt2")))
    static = export(tmp_path / "static.pt2", dynamic=False)
    with pytest.raises(UserError, match=r"does not run on 2 images .* dynamic batch"):
        zoo.load(str(static), READING)
    with pytest.raises(UserError, match=r"does not run on 2 images of 3x20x20"):
        zoo.load(str(tmp_path / "mine.pt2"), READING | {"size": [20, 20]})


@pytest.mark.parametrize("content", [b"", b"text", bytes(3000), None])
def test_files_that_are_no_programs(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.pt2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad.pt2' cannot be read") as caught:
        zoo.load(str(path), READING)
    assert "\n" not in str(caught.value)


FACTORY = """
from tests.models import nets
from facefocus.models.preprocessing import from_mapping

def build():
    return nets.inplace()

def reading():
    return nets.inplace()
reading.preprocessing = from_mapping({"size": [16, 12], "mean": 127.5, "std": 128})

def owned():
    module = nets.inplace()
    module.preprocessing = from_mapping({"size": [16, 12], "mean": 127.5, "std": 128})
    return module

def function():
    return nets.functional()

def script():
    return nets.scripted(nets.inplace())

def nothing():
    return 3

class Whole:
    name = "whole"
    fingerprint = "0"
    def embed(self, frames):
        return frames.mean((1, 2)).astype("float32")
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FACTORY)
    return path


@pytest.mark.parametrize(
    ("name", "reading"), [("build", READING), ("reading", None), ("owned", None)]
)
def test_a_function_that_makes_a_network(
    factory: Path, name: str, reading: dict[str, object] | None
) -> None:
    recognizer = zoo.load(f"{factory}:{name}", reading)
    assert recognizer.name == f"mine.{name}"
    assert isinstance(recognizer, WhiteBox)
    assert isinstance(recognizer.module, nn.Module)
    assert not recognizer.module.training
    assert np.array_equal(recognizer.embed(frames()), reference().embed(frames()))


def test_functional_code_and_whole_recognizers(factory: Path) -> None:
    recognizer = zoo.load(f"{factory}:function", READING)
    assert recognizer.embed(frames()).shape == (5, 5)
    assert len(white_box(recognizer, "a test").layers().calls) == 2
    whole = zoo.load(f"{factory}:Whole")
    np.testing.assert_allclose(whole.embed(frames()), frames().mean((1, 2)), rtol=1e-6)
    with pytest.raises(UserError, match="'whole' is a black box"):
        white_box(whole, "a test")


def test_the_code_is_part_of_the_fingerprint(factory: Path) -> None:
    first = zoo.load(f"{factory}:reading").fingerprint
    assert zoo.load(f"{factory}:reading").fingerprint == first
    assert zoo.load(f"{factory}:owned").fingerprint != first
    factory.write_text(FACTORY + "\n# changed\n")
    assert zoo.load(f"{factory}:reading").fingerprint != first


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("build", "needs its preprocessing"),
        ("bild", r"no function called 'bild'. Did you mean 'build'"),
        ("nothing", "must return a network. Got int"),
        ("script", "TorchScript, which hides"),
    ],
)
def test_wrong_functions_are_named(factory: Path, name: str, message: str) -> None:
    reading = READING if name == "script" else None
    with pytest.raises(UserError, match=message):
        zoo.load(f"{factory}:{name}", reading)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist: .*absent.py"):
        zoo.load(f"{tmp_path}/absent.py:build")
    (tmp_path / "broken.py").write_text("def build(:\n")
    with pytest.raises(UserError, match=r"broken.py' cannot be run: .*"):
        zoo.load(f"{tmp_path}/broken.py:build")
    with pytest.raises(UserError, match=r"The weights 'some/weights.safetensors' do not exist"):
        zoo.load("some/weights.safetensors")
    with pytest.raises(UserError, match="preprocessing of 'IR50' is its own"):
        zoo.load("IR50", READING)


class Plugin:
    name = "plugged"
    fingerprint = "1"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        return np.ones((len(frames), 2), np.float32)


@pytest.mark.parametrize("value", ["Plugin", "PLUGGED"])
def test_other_packages_bring_recognizers(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("plugged", f"{__name__}:{value}", "facefocus.recognizers")
    monkeypatch.setattr(
        "facefocus.registry.entry_points",
        lambda group: [entry] if group == "facefocus.recognizers" else [],
    )
    monkeypatch.setattr(zoo, "PLUGINS", Registry("recognizer"))
    assert zoo.load("plugged").embed(frames(2)).tolist() == [[1, 1], [1, 1]]
    with pytest.raises(UserError, match="Did you mean 'plugged'"):
        zoo.load("pluged")


PLUGGED = Plugin()


def test_a_network_on_which_nothing_is_spatial_still_embeds(tmp_path: Path) -> None:
    weight = torch.ones(2, 3, 16, 12) / 576

    def network(x: Tensor) -> Tensor:
        return F.conv2d(x, weight).flatten(1)

    recognizer = TorchRecognizer("flat", network, from_mapping(READING), identity="flat")
    expected = (frames().mean((1, 2, 3)) - 127.5) / 128
    np.testing.assert_allclose(recognizer.embed(frames())[:, 0], expected, rtol=1e-4, atol=1e-5)
    assert recognizer.layers().spatial == ()
    with pytest.raises(UserError, match="1 convolutions, 0 of them spatial"):
        recognizer.layers().resolve("N")
