"""The real recognizers of ../shared/data: they load strictly and are what the data sheet says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from facefocus.core import locations
from facefocus.models import zoo
from facefocus.models.recognizer import TorchRecognizer

pytestmark = pytest.mark.real

#: (parameters, convolutions, spatial ones, size of the embedding)
FACTS = {
    "mobilefacenet-ms1m": (999_936, 51, 49, 128),
    "mobilefacenet-casia": (1_003_136, 50, 48, 128),
    "mobilefacenet-casia-112x96": (999_552, 50, 48, 128),
    "squeezenet-vggface2": (722_502, 26, 26, 512),
}


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def load(name: str) -> TorchRecognizer:
    folder = locations.data_dir()
    file = zoo.describe(name).file
    if folder is None or not (folder / "models" / file).is_file():
        pytest.skip(f"The real weights {file} are not here.")
    recognizer = zoo.load(name)
    assert isinstance(recognizer, TorchRecognizer)
    return recognizer


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", FACTS)
def test_counts_and_finite_embeddings(name: str) -> None:
    recognizer = load(name)
    parameters, convolutions, spatial, length = FACTS[name]
    assert isinstance(recognizer.module, torch.nn.Module)
    assert sum(parameter.numel() for parameter in recognizer.module.parameters()) == parameters
    assert len(recognizer.layers().calls) == convolutions
    assert len(recognizer.layers().spatial) == spatial
    embeddings = recognizer.embed(frames(5))
    assert embeddings.shape == (5, length)
    assert np.isfinite(embeddings).all()


@pytest.mark.parametrize("name", FACTS)
def test_grouping_changes_no_bit(name: str) -> None:
    recognizer = load(name)
    given = frames(19)
    whole = recognizer.embed(given)
    order = np.random.default_rng(2).permutation(19)
    assert np.array_equal(recognizer.embed(given[order]), whole[order])
    assert np.array_equal(recognizer.embed(given[:1]), whole[:1])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", FACTS)
def test_captured_gradients_do_not_depend_on_company(
    name: str, threads: Callable[[int], None], count: int
) -> None:
    recognizer = load(name)
    threads(count)
    layers = recognizer.layers().resolve("N/2")
    given = frames(4)
    together = recognizer.capture(given, layers)
    gradients = together.gradients(together.embeddings)
    np.testing.assert_array_equal(together.embeddings.numpy(), recognizer.embed(given))
    alone = recognizer.capture(given[2:3], layers)
    for index, gradient in alone.gradients(alone.embeddings).items():
        assert torch.equal(gradient[0], gradients[index][2])
        assert torch.equal(alone.activations[index][0], together.activations[index][2])


def keys(name: str, kind: str) -> list[list[str]]:
    folder = locations.data_dir()
    path = None if folder is None else folder / "models" / "keys" / f"{name}{kind}.txt"
    if path is None or not path.is_file():
        pytest.skip(f"The facts about the public {name} are not here.")
    return [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("iresnet18", "IR18"),
        ("iresnet50", "IR50"),
        ("iresnet100", "IR100"),
        ("inception_resnet_v1", "FN_V"),
    ],
)
def test_public_checkpoints_fit_key_by_key(file: str, name: str) -> None:
    expected = {
        key: () if shape == "scalar" else tuple(map(int, shape.split("x")))
        for key, shape in keys(file, "")
        if not key.startswith("logits.")
    }
    with torch.device("meta"):
        state = zoo.describe(name).build().state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == expected
    rows = [
        [str(call.index), call.name, f"{call.channels}x{call.height}x{call.width}"]
        for call in zoo.layers(name).calls
    ]
    assert rows == keys(file, ".convs")


@pytest.mark.parametrize("name", ["mobilefacenet-casia-112x96", "squeezenet-vggface2"])
def test_an_onnx_export_embeds_alike(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    recognizer = load(name)
    assert isinstance(recognizer.module, torch.nn.Module)
    entry = zoo.describe(name)
    channels = 1 if recognizer.preprocessing.channels == "gray" else 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            recognizer.module,
            (torch.zeros(2, channels, *recognizer.preprocessing.size),),
            tmp_path / "model.onnx",
            input_names=["image"],
            output_names=["embedding"],
            dynamic_axes={"image": {0: "n"}, "embedding": {0: "n"}},
            dynamo=False,
        )
    black = zoo.load(str(tmp_path / "model.onnx"), entry.preprocessing)
    ours, theirs = recognizer.embed(frames(5)), black.embed(frames(5))
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.9999
