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
from facefocus.models.onnx import OnnxRecognizer
from facefocus.models.onnx_graph import OnnxGraph, read_model
from facefocus.models.recognizer import TorchRecognizer, is_white_box
from tests.real.test_faces import data

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
def test_an_onnx_export_embeds_alike_and_shows_the_same_layers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    recognizer = load(name)
    assert isinstance(recognizer.module, torch.nn.Module)
    entry = zoo.describe(name)
    channels = 1 if recognizer.preprocessing.channels == "gray" else 3
    path = tmp_path / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            recognizer.module,
            (torch.zeros(2, channels, *recognizer.preprocessing.size),),
            path,
            input_names=["image"],
            output_names=["embedding"],
            dynamic_axes={"image": {0: "n"}, "embedding": {0: "n"}},
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )
    white = zoo.load(str(path), entry.preprocessing)
    black = OnnxRecognizer(path, entry.reader())
    assert is_white_box(white)
    wanted = recognizer.embed(frames(5))
    for embedded in (white.embed(frames(5)), black.embed(frames(5))):
        lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(embedded, axis=1)
        assert ((wanted * embedded).sum(1) / lengths).min() > 0.99999
    rows = [
        [(call.name, call.channels, call.height, call.width) for call in box.layers().calls]
        for box in (white, recognizer)
    ]
    assert rows[0] == rows[1]
    (last,) = white.layers().resolve("N")
    with white.capture(frames(2), [last]) as ours, recognizer.capture(frames(2), [last]) as theirs:
        other = theirs.embeddings.roll(1, 0)
        pairs = [
            (ours.activations[last], theirs.activations[last]),
            (ours.gradients(other)[last], theirs.gradients(other)[last]),
        ]
    for found_values, values in pairs:
        assert (found_values - values).norm() < 1e-4 * values.norm()


def test_the_graph_of_the_detector_gives_what_onnxruntime_gives() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = data("models/face_detection_yunet_2023mar.onnx")
    session = onnxruntime.InferenceSession(str(path))
    entry = session.get_inputs()[0]
    image = np.random.default_rng(0).uniform(0, 255, entry.shape).astype(np.float32)
    model = read_model(path)
    for name, wanted in zip(
        [output.name for output in session.get_outputs()],
        session.run(None, {entry.name: image}),
        strict=True,
    ):
        computed = OnnxGraph(model, name)(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(computed, wanted, rtol=1e-3, atol=1e-4)
