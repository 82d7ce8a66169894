"""Sizes and budgets; what a pass takes, counted; halves where an allocation fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.faces.faceset import Identity
from facefocus.models.backends import accelerate
from facefocus.models.memory import (
    capture_bytes,
    forward_bytes,
    images_within,
    in_halves,
    out_of_memory,
    parse_size,
)
from facefocus.models.recognizer import TorchRecognizer, halve, hold_batches
from facefocus.models.vision_transformer import VisionTransformer
from facefocus.models.zoo import describe
from facefocus.saliency.identity import cam_identity_maps
from facefocus.saliency.streams import CamConfig
from tests.small import SIDE, tiny_recognizer

FRAMES = np.random.default_rng(3).integers(0, 256, (21, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("512 MiB", 2**29), ("1.5G", 3 * 2**29), ("800k", 819200), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "0", "-1G", "4 apples", "4PiB"])
def test_no_size(text: str) -> None:
    with pytest.raises(UserError, match=r"'memory' must be a size such as 4GiB\. Got '"):
        parse_size(text)


def test_a_power_of_two_fits() -> None:
    assert [images_within(budget, 10, 16) for budget in (1000, 160, 159, 40, 39, 1)] == [
        16, 16, 8, 4, 2, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["mobilefacenet-ms1m", "mobilefacenet-casia", "IR18", "FN_V"])
@pytest.mark.parametrize("layer", ["1", "N/2"])
def test_what_a_capture_takes_is_estimated_from_above(name: str, layer: str) -> None:
    """Every tensor that the graph keeps, counted once, and the gradients."""
    entry = describe(name)
    module = entry.build().eval()
    box = TorchRecognizer(name, module, entry.reader(), identity=name)
    layers = box.layers().resolve(layer)
    took = kept_by_a_capture(box, layers)
    estimated = capture_bytes(box.layers(), layers)
    # What runs before the graph begins takes a few outputs at once, too.
    assert took <= estimated <= max(4 * took, forward_bytes(box.layers()))


def kept_by_a_capture(box: TorchRecognizer, layers: Sequence[int]) -> float:
    """Bytes of an image's graph and outputs."""
    module = box.module
    assert isinstance(module, nn.Module)
    own = {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    count = 16
    frames = np.zeros((count, 112, 112, 3), np.uint8)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        captured = box.capture(frames, layers)
    outputs = sum(4 * activation.numel() for activation in captured.activations.values())
    return (sum(kept.values()) + outputs) / count


def test_what_a_capture_of_tokens_takes_is_estimated_from_above() -> None:
    """At the first convolution and at every attention, with all that lies between."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = VisionTransformer(depth=2, width=6, heads=2, embedding=8).eval()
    reader = describe("IR18").reader()
    box = TorchRecognizer("vit", module, reader, identity="vit")
    layers = [1, *box.layers().attention("legrad")]
    took = kept_by_a_capture(box, layers)
    estimated = capture_bytes(box.layers(), layers)
    assert took <= estimated <= 4 * took


def test_what_says_that_memory_is_out() -> None:
    assert out_of_memory(MemoryError())
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    message = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    assert out_of_memory(RuntimeError(message))
    assert out_of_memory(RuntimeError("Exception from src/inference: std::bad_alloc"))
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("out of memory"))


def limited(most: int) -> tuple[list[int], Callable[[Sequence[int]], list[int]]]:
    tried: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        tried.append(len(items))
        if len(items) > most:
            raise MemoryError
        return [2 * item for item in items]

    return tried, work


def test_work_goes_on_in_halves() -> None:
    tried, work = limited(3)
    parts = list(in_halves(work, list(range(10))))
    assert [doubled for part in parts for doubled in part] == [2 * item for item in range(10)]
    assert tried == [10, 5, 3, 2, 5, 3, 2]
    with pytest.raises(UserError, match="does not suffice for a single image"):
        list(in_halves(limited(0)[1], [1, 2]))


def test_other_errors_are_not_taken_for_it() -> None:
    def broken(items: Sequence[int]) -> int:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(in_halves(broken, [1, 2]))


def test_embedding_halves_its_batches_for_good_where_memory_does_not_suffice() -> None:
    expected = tiny_recognizer().embed(FRAMES)
    box, seen = tiny_recognizer(), list[int]()
    plain = box.forward

    def small(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for inputs in batches:
            seen.append(len(inputs))
            if len(inputs) > 5 or seen == [16, 8, 4, 4, 4]:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            yield from plain([inputs])

    box.forward = small
    np.testing.assert_allclose(box.embed(FRAMES), expected, rtol=1e-4, atol=1e-5)
    # The third batch of four fails once more: what was embedded before is not embedded again.
    assert seen == [16, 8, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2]
    assert box.batch == 2


def test_a_held_batch_is_not_halved() -> None:
    box = tiny_recognizer()
    hold_batches(box)

    def never(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        raise MemoryError
        yield

    box.forward = never
    with pytest.raises(MemoryError):
        box.embed(FRAMES)
    assert box.batch == 16
    halve(box)
    assert box.batch == 8 and box.graph_batch == 16


def test_embedding_fails_where_a_single_image_does_not_fit() -> None:
    box = tiny_recognizer()

    def never(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        raise MemoryError
        yield

    box.forward = never
    with pytest.raises(MemoryError):
        box.embed(FRAMES)
    assert box.batch == 1


PEOPLE = [
    Identity("p", np.arange(4)),
    Identity("q", np.arange(4, 13)),
    Identity("r", np.arange(13, 21)),
]
CONFIGS = [CamConfig("grad-cam", "1"), CamConfig("grad-cam++", "N", "l1")]


def test_maps_do_not_depend_on_how_much_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = cam_identity_maps(tiny_recognizer(), FRAMES, PEOPLE, CONFIGS, max_pairs=None, seed=0)
    box, captured = tiny_recognizer(), list[int]()
    plain = box.capture

    def small(frames: np.ndarray, layers: Sequence[int]) -> object:
        captured.append(len(frames))
        if len(frames) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(frames, layers)

    monkeypatch.setattr(box, "capture", small)
    halved = cam_identity_maps(box, FRAMES, PEOPLE, CONFIGS, max_pairs=None, seed=0)
    assert captured == [16, 8, 4, 4, 8, 4, 4, 5]
    smaller = tiny_recognizer()
    smaller.graph_batch = 4
    budgeted = cam_identity_maps(smaller, FRAMES, PEOPLE, CONFIGS, max_pairs=None, seed=0)
    for config in CONFIGS:
        for made in (halved[config], budgeted[config]):
            assert made.total.tolist() == expected[config].total.tolist() == [12, 72, 56]
            assert made.degenerate.tolist() == expected[config].degenerate.tolist()
            np.testing.assert_allclose(made.maps, expected[config].maps, atol=1e-5)


def test_a_budget_makes_smaller_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    each = capture_bytes(tiny_recognizer().layers(), [1])
    box, captured = accelerate(tiny_recognizer(), "torch", memory=5 * each), list[int]()
    assert isinstance(box, TorchRecognizer)
    plain = box.capture

    def counting(frames: np.ndarray, layers: Sequence[int]) -> object:
        captured.append(len(frames))
        return plain(frames, layers)

    monkeypatch.setattr(box, "capture", counting)
    cam_identity_maps(box, FRAMES, PEOPLE, CONFIGS, max_pairs=None, seed=0)
    assert captured == [4, 4, 4, 4, 4, 1]
