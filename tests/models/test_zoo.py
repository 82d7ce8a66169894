from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from facefocus.core.errors import UserError
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.models import zoo
from facefocus.models.recognizer import TorchRecognizer

PARAMETERS = {
    "mobilefacenet-ms1m": 999_936,
    "mobilefacenet-casia": 1_003_136,
    "mobilefacenet-casia-112x96": 999_552,
    "squeezenet-vggface2": 722_502,
}

VALID = """
[x]
title = "X"
architecture = "squeezenet"
options = {}
preprocessing = { size = [128, 128], channels = "gray", mean = 0, std = 1 }
training = "T"
data = "real"
source = "S"
license = "L"
commercial = "no"
file = "x.pth"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEFOCUS_DATA", str(tmp_path))
    monkeypatch.setattr("facefocus.core.locations.cache_dir", lambda: tmp_path / "cache")
    (tmp_path / "models").mkdir()
    return tmp_path


BOXES = [name for name in zoo.names() if zoo.describe(name).black_box]


@pytest.mark.parametrize("name", [name for name in zoo.names() if name not in BOXES])
def test_every_network_builds(name: str) -> None:
    entry = zoo.describe(name)
    with torch.device("meta"):
        module = entry.build()
    reader = entry.reader()
    channels = 1 if reader.channels == "gray" else 3
    out = module.eval()(torch.zeros(2, channels, *reader.size, device="meta"))
    assert out.shape == (2, 32) if entry.embedded else out.shape in ((2, 128), (2, 512))
    if name in PARAMETERS:
        assert sum(parameter.numel() for parameter in module.parameters()) == PARAMETERS[name]


def test_every_black_box_has_a_link_and_a_reading() -> None:
    assert len(BOXES) == 11
    for name in BOXES:
        entry = zoo.describe(name)
        assert entry.url and entry.sha256 and not entry.options
        assert entry.reader().size in ((112, 112), (128, 128))
        suffix = {".onnx": ("onnx", "openvino"), ".xml": ("openvino",)}[Path(entry.file).suffix]
        assert entry.architecture in suffix
        assert [path.suffix for path in map(Path, [p.file for p in entry.parts])] == (
            [".bin"] if entry.file.endswith(".xml") else []
        )


def test_the_frame_of_retail_0095_is_arcfaces_middle_columns() -> None:
    """Its template as its README gives it (open_model_zoo), in shares of its square input."""
    theirs = [(0.31556875, 0.46157411), (0.68262292, 0.46157411), (0.5002625, 0.64050536),
              (0.34947188, 0.82469196), (0.65343646, 0.82469196)]  # fmt: skip
    crop = zoo.describe("face-reidentification-retail-0095").reader().crop
    assert crop is not None
    top, left, height, width = crop
    ours = (ARCFACE_TEMPLATE - [left, top]) / [width, height]
    np.testing.assert_allclose(ours, theirs, atol=0.002)


def test_readers_are_those_of_the_data_sheet() -> None:
    ms1m = zoo.describe("mobilefacenet-ms1m").reader()
    np.testing.assert_allclose(np.array(ms1m.mean) / 255, (0.485, 0.456, 0.406))
    np.testing.assert_allclose(np.array(ms1m.std) / 255, (0.229, 0.224, 0.225))
    casia = zoo.describe("mobilefacenet-casia").reader()
    assert (casia.size, casia.crop, casia.mean, casia.std) == (
        (112, 112), None, (127.5,) * 3, (127.5,) * 3,
    )  # fmt: skip
    narrow = zoo.describe("mobilefacenet-casia-112x96").reader()
    assert (narrow.size, narrow.crop, narrow.std) == ((112, 96), (0, 8, 112, 96), (128.0,) * 3)
    gray = zoo.describe("squeezenet-vggface2").reader()
    assert (gray.size, gray.crop, gray.channels) == ((128, 128), (4, 4, 104, 104), "gray")
    assert (gray.mean, gray.std) == ((0.0,), (1.0,))


def test_a_recognizer_is_loaded_from_the_data_folder(folder: Path) -> None:
    torch.manual_seed(0)
    entry = zoo.describe("squeezenet-vggface2")
    module = entry.build().eval()
    save_file(module.state_dict(), folder / "models" / entry.file)
    before = torch.get_rng_state()
    recognizer = zoo.load("squeezenet-vggface2")
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(recognizer, TorchRecognizer)
    frames = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = module(entry.reader()(torch.from_numpy(frames))).numpy()
    np.testing.assert_allclose(recognizer.embed(frames), expected, rtol=1e-4, atol=1e-3)
    assert recognizer.name == "squeezenet-vggface2"
    assert isinstance(recognizer.module, torch.nn.Module)
    assert not any(parameter.requires_grad for parameter in recognizer.module.parameters())
    assert recognizer.fingerprint == zoo.load("squeezenet-vggface2").fingerprint


def test_weights_of_another_recognizer_are_recognized(folder: Path) -> None:
    other = zoo.describe("mobilefacenet-ms1m").build()
    wanted = zoo.describe("mobilefacenet-casia")
    save_file(other.state_dict(), folder / "models" / wanted.file)
    with pytest.raises(
        UserError, match=r"do not fit mobilefacenet\(\): .* It fits mobilefacenet-ms1m"
    ):
        zoo.load("mobilefacenet-casia")


def test_unknown_and_missing_are_told_apart(folder: Path) -> None:
    with pytest.raises(UserError, match=r"No recognizer .* Did you mean 'mobilefacenet-casia'"):
        zoo.load("mobilefacenet-cassia")
    with pytest.raises(UserError, match=r"weights of 'mobilefacenet-casia' was|were not found"):
        zoo.load("mobilefacenet-casia")


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('title = "X"', "", "title"),
        ('title = "X"', 'titel = "X"', "titel|title"),
        ('commercial = "no"', 'commercial = "maybe"', "commercial"),
        ("options = {}", "options = 3", "options"),
    ],
)
def test_wrong_entries_are_named(old: str, new: str, field: str) -> None:
    assert list(zoo.read_entries(VALID)) == ["x"]
    with pytest.raises(UserError, match=f"'({field})'.* recognizer 'x'"):
        zoo.read_entries(VALID.replace(old, new))
