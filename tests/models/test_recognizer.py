from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facefocus.errors import UserError
from facefocus.models.mobilefacenet import MobileFaceNet
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import (
    CHUNK,
    Recognizer,
    TorchRecognizer,
    WhiteBox,
    check_frames,
    white_box,
)
from tests.models import nets

READER = Preprocessing((16, 12), None, "rgb", (127.5,) * 3, (128.0,) * 3)


def recognizer(module: nn.Module | None = None) -> TorchRecognizer:
    return TorchRecognizer("tiny", module or nets.inplace(), READER, identity="tiny()")


def frames(count: int, size: tuple[int, int] = (16, 12)) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *size, 3), dtype=np.uint8)


class BlackBox:
    name = "oracle"
    fingerprint = "0"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        return np.zeros((len(frames), 2), np.float32)


def test_embeddings_are_the_modules_own() -> None:
    module = nets.inplace().train()
    given = frames(5)
    planes = torch.from_numpy((given.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128)
    with torch.no_grad():
        expected = nets.inplace().eval()(planes).numpy()
    got = recognizer(module).embed(given)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert module.training, "the user's module keeps its mode"
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_embeddings_do_not_depend_on_grouping_or_order() -> None:
    torch.manual_seed(0)
    reader = Preprocessing((48, 48), None, "rgb", (127.5,) * 3, (127.5,) * 3)
    module = MobileFaceNet(width=16, final_size=(3, 3))
    net = TorchRecognizer("m", module, reader, identity="m")
    given = frames(33, (56, 56))
    whole = net.embed(given)
    for count in (1, 5, 16):
        parts = [net.embed(given[start : start + count]) for start in range(0, 33, count)]
        assert np.array_equal(np.concatenate(parts), whole)
    order = np.random.default_rng(0).permutation(33)
    assert np.array_equal(net.embed(given[order]), whole[order])
    captured = net.capture(given[:3], [5]).embeddings.numpy()
    np.testing.assert_array_equal(captured, whole[:3])
    np.testing.assert_array_equal(net.capture(given[:1], [5]).embeddings.numpy(), whole[:1])


def test_every_pass_runs_on_one_chunk_of_channels_last_inputs() -> None:
    net = recognizer()
    seen: list[tuple[int, ...]] = []

    def forward(inputs: Tensor) -> Tensor:
        assert inputs.is_contiguous(memory_format=torch.channels_last)
        assert not torch.is_grad_enabled()
        seen.append(tuple(inputs.shape))
        return inputs.mean((2, 3))

    net.forward = lambda batches: map(forward, batches)
    got = net.embed(frames(33))
    assert seen == [(CHUNK, 3, 16, 12)] * 3
    np.testing.assert_allclose(got, (frames(33).mean((1, 2)) - 127.5) / 128, rtol=1e-4, atol=1e-5)
    assert net.embed(frames(0)).shape == (0, 3)


def test_memory_mapped_frames(tmp_path: object) -> None:
    path = f"{tmp_path}/frames.npy"
    np.save(path, frames(5))
    mapped = np.load(path, mmap_mode="r")
    net = recognizer()
    assert np.array_equal(net.embed(mapped), net.embed(frames(5)))
    assert torch.equal(
        net.capture(mapped, [1]).activations[1], net.capture(frames(5), [1]).activations[1]
    )


def test_float_frames_are_captured_like_bytes() -> None:
    net, given = recognizer(), frames(3)
    from_bytes, from_floats = (
        net.capture(value, net.layers().resolve("N-1"))
        for value in (given, torch.from_numpy(given).float())
    )
    assert torch.equal(from_bytes.embeddings, from_floats.embeddings)
    directions = torch.ones(3, 7)
    assert torch.equal(from_bytes.gradients(directions)[2], from_floats.gradients(directions)[2])


def test_not_finite_embeddings_are_counted() -> None:
    net = recognizer()

    def broken(inputs: Tensor) -> Tensor:
        out = inputs.mean((2, 3))
        out[1, 0] = torch.nan
        out[4, 2] = torch.inf
        return out

    net.forward = lambda batches: map(broken, batches)
    with pytest.raises(UserError, match="'tiny' gave embeddings that are not finite for 3 of 18"):
        net.embed(frames(18))


@pytest.mark.parametrize("wrong", [frames(2).astype(np.float32), frames(2)[0], frames(2)[..., :1]])
def test_wrong_frames_are_named(wrong: np.ndarray) -> None:
    with pytest.raises(UserError, match="must be uint8 RGB"):
        check_frames(wrong)


def test_fingerprint_covers_weights_identity_and_preprocessing() -> None:
    first = recognizer().fingerprint
    assert first == recognizer().fingerprint
    assert len(first) == 64
    changed = nets.inplace()
    with torch.no_grad():
        changed.get_parameter("0.weight")[0, 0, 0, 0] += 1e-6
    others = {
        recognizer(changed).fingerprint,
        TorchRecognizer("tiny", nets.inplace(), READER, identity="other").fingerprint,
        TorchRecognizer(
            "tiny", nets.inplace(), replace(READER, std=(1.0,) * 3), identity="tiny()"
        ).fingerprint,
    }
    assert len(others | {first}) == 4
    renamed = TorchRecognizer("another", nets.inplace(), READER, identity="tiny()")
    assert renamed.fingerprint == first, "a name determines no embedding"


def test_fingerprint_is_the_documented_hash() -> None:
    module = nn.Sequential(nn.Conv2d(3, 1, 1))
    digest = hashlib.sha256(f"tiny()\n{READER.canonical}\n".encode())
    for key in ("0.bias", "0.weight"):
        value = module.state_dict()[key]
        digest.update(f"{key} torch.float32 {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().astype("<f4").tobytes())
    assert recognizer(module).fingerprint == digest.hexdigest()


def test_black_boxes_are_told_from_white_ones() -> None:
    white, black = recognizer(), BlackBox()
    assert isinstance(white, WhiteBox)
    assert isinstance(black, Recognizer)
    assert not isinstance(black, WhiteBox)
    assert white_box(white, "anything") is white
    with pytest.raises(UserError, match=r"'oracle' is a black box.*the method 'gradcam' needs"):
        white_box(black, "the method 'gradcam'")
