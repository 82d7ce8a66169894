"""Backends: same embeddings as torch, told apart in keys, refused when they disagree."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.faces.faceset import Identity
from facefocus.faces.sources.synthetic import render_many
from facefocus.models import backends
from facefocus.models.backends import (
    AGREEMENT,
    Checked,
    accelerate,
    folded,
    in_precision,
    precision_of_backend,
    product_precision,
)
from facefocus.models.recognizer import TorchRecognizer, is_white_box
from facefocus.models.zoo import load
from facefocus.saliency.identity import cam_identity_maps
from facefocus.saliency.streams import CamConfig
from tests.small import SIDE, TinyNet, tiny_recognizer

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="the extra 'fast' (OpenVINO) is not installed"
)
FRAMES = np.random.default_rng(0).integers(0, 256, (21, SIDE, SIDE, 3), dtype=np.uint8)


@needs_openvino
def test_openvino_gives_torchs_embeddings_and_says_what_it_is() -> None:
    plain, fast = tiny_recognizer(), accelerate(tiny_recognizer(), "openvino")
    expected, got = plain.embed(FRAMES), fast.embed(FRAMES)
    cosine = (expected * got).sum(1) / np.linalg.norm(expected, axis=1)
    assert np.allclose(cosine / np.linalg.norm(got, axis=1), 1, atol=1e-5)
    assert plain.precision.startswith("torch ")
    assert fast.precision.startswith("openvino ")  # type: ignore[attr-defined]
    assert plain.fingerprint == fast.fingerprint


@needs_openvino
@pytest.mark.parametrize("kind", [DeprecationWarning, FutureWarning])
def test_what_torch_calls_deprecated_is_no_word_to_users(
    monkeypatch: pytest.MonkeyPatch, kind: type[Warning]
) -> None:
    """Versions of torch differ in how they warn of torch.jit.trace; warnings fail a test."""
    trace = torch.jit.trace

    def warning(*args: Any, **kwargs: Any) -> Any:
        warnings.warn("deprecated", kind, stacklevel=1)
        return trace(*args, **kwargs)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(torch.jit, "trace", warning)
    box = accelerate(tiny_recognizer("net"), "openvino")
    assert box.embed(FRAMES[:1]).shape[0] == 1


def test_a_backend_is_judged_on_frames_and_never_on_filling() -> None:
    """Rounding may change black frames most, which no photo is."""
    (inputs,) = tiny_recognizer().batches(FRAMES[:3])
    assert torch.equal(inputs[3:], inputs[2:3].expand_as(inputs[3:]))


@needs_openvino
def test_openvino_results_do_not_depend_on_grouping() -> None:
    fast = accelerate(tiny_recognizer(), "openvino")
    whole = fast.embed(FRAMES)
    order = np.random.default_rng(1).permutation(len(FRAMES))
    assert np.array_equal(fast.embed(FRAMES[order]), whole[order])
    parts = [fast.embed(part) for part in np.split(FRAMES, [1, 3, 20])]
    assert np.array_equal(np.concatenate(parts), whole)


@needs_openvino
@pytest.mark.parametrize("slopes", [[-0.5, 0.0, 0.25, 1.0], [0.2, 1.5, 0.0, 3.0], [0.3]])
def test_prelu_keeps_its_values_in_openvino(slopes: list[float]) -> None:
    prelu = nn.PReLU(len(slopes))
    prelu.weight.data = torch.tensor(slopes)
    prelu.requires_grad_(False)
    values = torch.linspace(-3, 3, 2 * 4 * 6).reshape(2, 4, 2, 3)
    program = backends._compile(nn.Sequential(nn.Identity(), prelu), values, "float32")
    by_hand = np.where(values > 0, values, values * torch.tensor(slopes).reshape(1, -1, 1, 1))
    computed = program(np.moveaxis(values.numpy(), 1, -1))[0]
    np.testing.assert_allclose(computed, by_hand, rtol=1e-6)


@needs_openvino
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_gives_the_same_bits_for_any_number_of_images_at_once(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = load("mobilefacenet-mini-all")
    assert isinstance(recognizer, TorchRecognizer)
    given = list(recognizer.batches(render_many("all", 0, range(5), 4).frames))
    outputs = {}
    # Those that there are: on one thread, on two or three, on more.
    for most in (4, 8, 16):
        monkeypatch.setattr(backends.OpenVino, "_most", most)
        outputs[most] = list(backends.OpenVino(recognizer, precision)(given))
        assert [len(part) for part in outputs[most]] == [16, 16]
    for most in (4, 8):
        assert torch.equal(torch.cat(outputs[most]), torch.cat(outputs[16])), most


@needs_openvino
@pytest.mark.parametrize(("threads", "most"), [(1, 4), (2, 8), (3, 8), (4, 16), (16, 16)])
def test_a_network_of_few_weights_runs_few_images_at_once(
    threads: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    # 53,664 weights for 0.5 million values; 663,680 for 0.3 million.
    assert engine_of("mobilefacenet-mini-all")._most == most
    assert engine_of("inception-mini-all")._most == 16


def engine_of(name: str) -> backends.OpenVino:
    recognizer = load(name)
    assert isinstance(recognizer, TorchRecognizer)
    return backends.OpenVino(recognizer)


@needs_openvino
def test_openvino_is_not_let_to_report_home() -> None:
    code = (
        "import sys, numpy as np;"
        "from facefocus.models.backends import accelerate;"
        "from tests.small import tiny_recognizer;"
        "frames = np.zeros((1, 32, 32, 3), np.uint8);"
        "accelerate(tiny_recognizer(), 'openvino').embed(frames);"
        "print(sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


@needs_openvino
def test_the_module_is_left_as_it_was() -> None:
    recognizer = tiny_recognizer()
    assert isinstance(recognizer.module, TinyNet)
    recognizer.module.train()
    accelerate(recognizer, "openvino").embed(FRAMES[:1])
    assert recognizer.module.training and recognizer.module.first.training


def test_a_backend_that_disagrees_is_refused_with_the_figure() -> None:
    recognizer = tiny_recognizer()
    expected = recognizer.embed(FRAMES[:16])
    rows = expected.astype(np.float64)
    least = (rows.sum(1) / np.linalg.norm(rows, axis=1) / math.sqrt(8)).min()

    def wrong(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        return (torch.ones(len(inputs), 8) for inputs in batches)

    recognizer.forward = Checked("Wrong", wrong, recognizer, "float32")
    message = r"Wrong's embeddings of 'tiny' differ .*least cosine (\S+), 0\.9999 is needed"
    with pytest.raises(UserError, match=message) as caught:
        recognizer.embed(FRAMES)
    match = re.search(message, str(caught.value))
    assert match and float(match.group(1)) == pytest.approx(least, abs=2e-6)


def test_a_backend_is_checked_on_the_sample_whatever_comes_first() -> None:
    recognizer = tiny_recognizer()
    black = recognizer.embed(FRAMES[:1] * 0)
    plain = recognizer.forward

    def wrong_on_black(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for part in plain(batches):
            is_black = torch.isclose(part, torch.from_numpy(black)).all(dim=1, keepdim=True)
            yield torch.where(is_black, -part, part)

    checked = Checked("Odd", wrong_on_black, recognizer, "float32", FRAMES[:16])
    recognizer.forward = checked
    np.testing.assert_allclose(recognizer.embed(FRAMES[:1] * 0), -black, rtol=1e-6)
    assert checked.cosine is not None and checked.cosine > 0.99999
    recognizer.forward = Checked("Odd", wrong_on_black, tiny_recognizer(), "float32")
    with pytest.raises(UserError, match="Odd's embeddings of 'tiny' differ"):
        recognizer.embed(FRAMES[:1] * 0)


class Counting:
    """An engine that runs its images one by one, and notes how many come together.

    Fewer than `least` get other last bits, as kernels for small batches give them.
    """

    def __init__(self, recognizer: TorchRecognizer, least: int = 1) -> None:
        self.plain, self.least, self.sizes = recognizer.forward, least, list[int]()

    def allows(self, size: int) -> bool:
        return True

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for inputs in batches:
            self.sizes.append(len(inputs))
            made = torch.cat(list(self.plain(torch.split(inputs, 1))))
            yield made if len(inputs) >= self.least else torch.nextafter(made, made + 1)


def counted(batch: int, least: int = 1) -> tuple[TorchRecognizer, Counting]:
    """A recognizer on such an engine, of which every smaller batch was tried."""
    recognizer = tiny_recognizer()
    engine = Counting(recognizer, least)
    recognizer.batch = batch
    recognizer.forward = Checked("Counting", engine, recognizer, "float32", FRAMES[:16])
    recognizer.embed(FRAMES[:1])
    engine.sizes.clear()
    recognizer.passes = recognizer.padded = 0
    return recognizer, engine


@pytest.mark.parametrize("batch", [16, 64])
def test_at_most_a_twentieth_of_what_is_embedded_together_only_fills_up(batch: int) -> None:
    recognizer, _ = counted(batch)
    frames = np.resize(FRAMES, (150, SIDE, SIDE, 3))
    for count in (1, 2, 3, 15, 16, 17, 21, 32, 63, 65, 100, 127, 150):
        recognizer.passes = recognizer.padded = 0
        recognizer.embed(frames[:count])
        assert recognizer.passes - recognizer.padded == count
        assert recognizer.padded <= 0.05 * recognizer.passes


def test_what_is_left_runs_in_halves_of_a_batch_with_the_bits_of_a_full_one() -> None:
    recognizer, engine = counted(64)
    frames = np.resize(FRAMES, (100, SIDE, SIDE, 3))
    got = recognizer.embed(frames)
    assert engine.sizes == [64, 32, 8]
    np.testing.assert_array_equal(got, tiny_recognizer_one_by_one(frames))
    engine.sizes.clear()
    for count in (32, 64, 61):
        recognizer.embed(frames[:count])
    assert engine.sizes == [32, 64, 64]


def test_a_smaller_batch_with_other_bits_is_never_used() -> None:
    recognizer, engine = counted(64, least=32)
    frames = np.resize(FRAMES, (100, SIDE, SIDE, 3))
    expected = tiny_recognizer_one_by_one(frames)
    for count in (1, 5, 40, 100):
        np.testing.assert_array_equal(recognizer.embed(frames[:count]), expected[:count])
    assert set(engine.sizes) == {64, 32}
    none, engine = counted(64, least=64)
    np.testing.assert_array_equal(none.embed(frames), expected)
    assert engine.sizes == [64, 64]


def tiny_recognizer_one_by_one(frames: np.ndarray) -> np.ndarray:
    recognizer = tiny_recognizer()
    recognizer.batch = 1
    return recognizer.embed(frames)


def test_a_smaller_batch_is_tried_once_and_not_where_memory_ends() -> None:
    recognizer, engine = counted(64)
    recognizer.embed(FRAMES[:1])
    assert engine.sizes == [1]
    short, narrow = counted(32), Counting(tiny_recognizer())

    def forward(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for inputs in batches:
            if len(inputs) < 32:
                raise torch.OutOfMemoryError("out of memory")
            yield from narrow([inputs])

    forward.allows = narrow.allows  # type: ignore[attr-defined]
    recognizer = short[0]
    recognizer.forward = Checked("Full", forward, recognizer, "float32", FRAMES[:16])
    recognizer.embed(FRAMES[:3])
    assert set(narrow.sizes) == {32} and recognizer.batch == 32


@needs_openvino
def test_openvino_fills_up_no_more_than_a_request() -> None:
    recognizer = load("mobilefacenet-mini-all")
    assert isinstance(recognizer, TorchRecognizer)
    frames = render_many("all", 0, range(5), 4).frames
    fast = accelerate(recognizer, "openvino", sample=frames[:16])
    assert isinstance(fast, TorchRecognizer)
    whole = fast.embed(frames)
    assert isinstance(fast.forward, Checked) and fast.forward.allows(4)
    assert not fast.forward.allows(2)
    fast.passes = fast.padded = 0
    parts = [fast.embed(part) for part in np.split(frames, [1, 6])]
    assert (fast.passes, fast.padded) == (4 + 8 + 16, 3 + 3 + 2)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


class Odd(TinyNet):
    """Ends in an operation that OpenVINO does not know."""

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = torch.special.i0(super().forward(x))
        return outputs


def odd() -> TorchRecognizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TorchRecognizer("odd", Odd(), tiny_recognizer().preprocessing, identity="odd")


@needs_openvino
def test_auto_falls_back_to_torch_where_openvino_cannot_convert(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recognizer = accelerate(odd(), "auto")
    assert recognizer.precision.startswith("torch ")  # type: ignore[attr-defined]
    np.testing.assert_array_equal(recognizer.embed(FRAMES), odd().embed(FRAMES))
    (message,) = caplog.messages
    assert re.match(r"The recognizer 'odd' runs on torch\. OpenVINO cannot run .*::i0", message)
    with pytest.raises(UserError, match=r"OpenVINO cannot run 'odd': .* Use --backend torch\."):
        accelerate(odd(), "openvino").embed(FRAMES)


@needs_openvino
def test_auto_falls_back_to_torch_where_openvino_disagrees(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(AGREEMENT, "float32", 1.1)
    recognizer = accelerate(tiny_recognizer("unlike"), "auto", sample=FRAMES[:16])
    assert recognizer.precision.startswith("torch ")  # type: ignore[attr-defined]
    assert "'unlike' runs on torch. OpenVINO's embeddings" in caplog.messages[0]


@needs_openvino
def test_batches_keep_their_order_while_two_requests_take_turns() -> None:
    fast = accelerate(tiny_recognizer(), "openvino")
    frames = np.random.default_rng(2).integers(0, 256, (16 * 7, SIDE, SIDE, 3), dtype=np.uint8)
    got, expected = fast.embed(frames), tiny_recognizer().embed(frames)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert isinstance(fast, TorchRecognizer) and isinstance(fast.forward, Checked)
    assert fast.forward.cosine is not None and fast.forward.cosine >= 0.9999


def test_half_precision_runs_on_a_copy() -> None:
    module = tiny_recognizer().module
    assert isinstance(module, nn.Module)
    half = in_precision(module, torch.bfloat16)
    images = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    got, expected = half(images.bfloat16()).float(), module(images)
    assert {value.dtype for value in module.parameters()} == {torch.float32}
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}
    assert F.cosine_similarity(got, expected).min() > 0.999


class Normalized(nn.Module):
    """A normalization after a convolution, which it can be part of, and one before."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.conv, self.after = (
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
        )
        for norm in (self.before, self.after):
            assert norm.running_mean is not None and norm.running_var is not None
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.after(self.conv(self.before(x))).flatten(1)
        return made


def test_normalizations_become_part_of_the_convolutions_before_them() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Normalized().eval().requires_grad_(False)
        images = torch.randn(2, 3, 8, 8)
    made = folded(module)
    assert [sum(isinstance(x, nn.BatchNorm2d) for x in m.modules()) for m in (module, made)] == [
        2,
        1,
    ]
    torch.testing.assert_close(made(images), module(images), rtol=1e-5, atol=1e-5)
    assert made is not module and module.after(torch.ones(1, 4, 1, 1)).shape == (1, 4, 1, 1)


def test_a_network_whose_code_depends_on_values_stays_as_it_is() -> None:
    class Choosing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    module = Choosing()
    assert folded(module) is module


def test_products_have_the_bits_of_a_precision_and_then_their_own_again() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, matmul.allow_fp16_reduced_precision_reduction
    for precision, wanted in (("tf32", True), ("float32", False), ("float16", False)):
        with product_precision(precision):
            assert (cudnn.allow_tf32, matmul.allow_tf32) == (wanted, wanted)
            assert not matmul.allow_fp16_reduced_precision_reduction
    after = cudnn.allow_tf32, matmul.allow_tf32, matmul.allow_fp16_reduced_precision_reduction
    assert after == before


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="'cuda-half' needs a GPU that this torch can use"):
        accelerate(tiny_recognizer(), "cuda-half")


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@needs_gpu
@pytest.mark.parametrize("backend", ["cuda", "cuda-tf32", "cuda-half"])
def test_a_gpu_gives_the_embeddings_of_a_cpu(backend: str) -> None:
    expected = tiny_recognizer().embed(FRAMES)
    fast = accelerate(tiny_recognizer(), backend)
    got = torch.from_numpy(fast.embed(FRAMES))
    least = AGREEMENT[precision_of_backend(backend)]
    assert F.cosine_similarity(got, torch.from_numpy(expected)).min() > least


def test_a_small_budget_makes_small_batches_and_equal_embeddings() -> None:
    # The largest output is 6 x 32 x 32 floats: 24 KB, five times that per image.
    small = accelerate(tiny_recognizer(), "torch", memory=4 * 5 * 4 * 6 * 32 * 32)
    assert isinstance(small, TorchRecognizer) and small.batch == 4
    expected = tiny_recognizer().embed(FRAMES)
    np.testing.assert_allclose(small.embed(FRAMES), expected, rtol=1e-4, atol=1e-5)


def test_auto_is_torch_where_openvino_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert accelerate(tiny_recognizer()).precision.startswith("torch ")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="pip install"):
        accelerate(tiny_recognizer(), "openvino")


def test_an_unknown_backend_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'openvino'"):
        accelerate(tiny_recognizer(), "openvinoo")


@needs_openvino
def test_maps_do_not_depend_on_the_backend() -> None:
    people = [Identity("p", np.arange(4)), Identity("q", np.arange(4, 9))]
    config = CamConfig("grad-cam++", "N")
    maps = [
        cam_identity_maps(recognizer, FRAMES, people, [config], max_pairs=None, seed=0)[config].maps
        for recognizer in (tiny_recognizer(), accelerate(tiny_recognizer(), "openvino-bf16"))
        if is_white_box(recognizer)
    ]
    plain, fast = maps
    assert np.array_equal(plain, fast)
