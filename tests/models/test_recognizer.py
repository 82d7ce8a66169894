from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.models.mobilefacenet import MobileFaceNet
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.probe import probe_code, probe_frames
from facefocus.models.recognizer import (
    CHUNK,
    TorchRecognizer,
    check_frames,
    is_recognizer,
    is_white_box,
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
    module = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten())
    with torch.no_grad():
        planes = READER(torch.from_numpy(probe_frames()))
        code = probe_code(module(planes).numpy())
    digest = hashlib.sha256(f"tiny()\n{READER.canonical}\n".encode())
    for key in ("0.bias", "0.weight"):
        value = module.state_dict()[key]
        digest.update(f"{key} torch.float32 {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().astype("<f4").tobytes())
    digest.update(f"{code}\n".encode())
    assert recognizer(module).fingerprint == digest.hexdigest()


def test_probe_frames_are_the_same_everywhere() -> None:
    digest = hashlib.sha256(probe_frames().tobytes()).hexdigest()
    assert digest == "8fa956ee2f6dc50948f79245458f85e1522878ede9b9b70da05ccaa18fe96813"


def test_the_code_of_the_probe_is_signs_and_moves_with_the_embeddings_only() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((4, 64)).astype(np.float32)
    code = probe_code(embeddings)
    assert len(code) == 4 * 16 // 4
    assert code == probe_code(7 * embeddings)
    flipped = probe_code(-embeddings)
    assert int(code, 16) ^ int(flipped, 16) == 2**64 - 1

    def moved(relative: float) -> float:
        """Share of recognizers whose code another rounding of this size changes."""
        changed = 0
        for _ in range(200):
            base = rng.standard_normal((4, 64))
            noise = rng.standard_normal((4, 64)) * relative
            changed += probe_code(base) != probe_code(base + noise)
        return changed / 200

    assert moved(1e-6) == 0
    assert moved(0.2) > 0.95


def test_what_is_not_in_the_weights_changes_the_fingerprint_by_the_probe() -> None:
    def network(factor: float) -> Callable[[Tensor], Tensor]:
        weight = torch.randn(6, 3, 16, 12, generator=torch.Generator().manual_seed(0))
        return lambda x: F.conv2d(torch.sin(factor * x), weight).flatten(1)

    first, again, other = (
        TorchRecognizer("f", network(factor), READER, identity="f").fingerprint
        for factor in (1.0, 1.0, 3.0)
    )
    assert first == again != other


class Returning(nn.Module):
    """A network with a choice of what it returns."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.body, self.what = nets.inplace(), what

    def forward(self, x: Tensor) -> object:
        embedding = self.body(x)
        norm = embedding.norm(dim=1, keepdim=True)
        return {
            "tuple": (norm, embedding / norm),
            "dict": {"norm": norm, "embedding": embedding},
            "one": {"embedding": embedding},
            "rank4": embedding[:, :, None, None],
            "row": embedding[:, None],
            "several": {"embedding": embedding, "logits": embedding @ embedding.new_ones(7, 9)},
            "none": (norm, embedding.argmax(1)),
            "flat": embedding.flatten(),
        }[self.what]


def returning(what: str, output: int | str | None = None) -> TorchRecognizer:
    reader = replace(READER, output=output)
    return TorchRecognizer(what, Returning(what), reader, identity=what)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("tuple", "'tuple' returns 0 float32 [4, 1], 1 float32 [4, 7]: 1 is taken"),
        ("dict", '"embedding" is taken for the embedding'),
        ("one", None),
        ("rank4", None),
        ("row", None),
    ],
)
def test_the_obvious_embedding_is_taken(
    what: str, message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    net = returning(what)
    net.look()
    assert message in caplog.messages[0] if message else not caplog.messages
    plain = recognizer()
    expected = plain.embed(frames(5))
    if what == "tuple":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(net.embed(frames(5)), expected, rtol=1e-5, atol=1e-6)
    assert [call.name for call in net.layers().calls] == ["body.0", "body.2", "body.5"]
    ours, theirs = (box.capture(frames(5), [2]) for box in (net, plain))
    if what != "tuple":
        directions = torch.ones(5, 7)
        torch.testing.assert_close(ours.gradients(directions), theirs.gradients(directions))


def test_several_outputs_need_a_line_and_the_line_works() -> None:
    with pytest.raises(UserError, match=r'output = "embedding" or output = "logits"\.$'):
        returning("several").look()
    expected = recognizer().embed(frames(5))
    for output in ("embedding", 0):
        net = returning("several", output)
        net.look()
        np.testing.assert_allclose(net.embed(frames(5)), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match=r"The 'output' .* Got 'features' of \"embedding\" float32"):
        returning("several", "features").look()


@pytest.mark.parametrize("what", ["none", "flat"])
def test_a_network_without_an_embedding_says_what_it_returns(what: str) -> None:
    with pytest.raises(UserError, match=rf"'{what}' returns .* must return embeddings"):
        returning(what).look()


def test_channels_may_come_last() -> None:
    module = nets.inplace().eval()
    last = TorchRecognizer(
        "last", lambda x: module(x.permute(0, 3, 1, 2)), replace(READER, layout="nhwc"), identity=""
    )
    np.testing.assert_allclose(
        last.embed(frames(5)), recognizer().embed(frames(5)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_a_fingerprint_of_its_weights(dtype: torch.dtype) -> None:
    ours = recognizer(nets.inplace().to(dtype))
    cosines = F.cosine_similarity(
        torch.from_numpy(ours.embed(frames(5))), torch.from_numpy(recognizer().embed(frames(5)))
    )
    assert cosines.min() > 0.99
    assert ours.fingerprint == recognizer(nets.inplace().to(dtype)).fingerprint
    assert ours.fingerprint != recognizer().fingerprint


def test_weights_that_are_no_numbers_are_named() -> None:
    broken = nets.inplace()
    with torch.no_grad():
        broken.get_parameter("2.weight")[1, :, 0, 0] = torch.nan
    with pytest.raises(UserError, match=r"not finite: 2 of 108 values of '2\.weight' are NaN"):
        recognizer(broken).look()
    scaled = replace(READER, std=(1e-38,) * 3)
    with pytest.raises(UserError, match="not finite: all weights are finite"):
        TorchRecognizer("scaled", nets.inplace(), scaled, identity="").look()


def compiled() -> nn.Module:
    return cast(nn.Module, torch.compile(nets.inplace(), backend="eager"))


@pytest.mark.parametrize("make", [compiled, lambda: nn.Sequential(compiled(), nn.Identity())])
def test_compiled_modules_show_their_layers_and_gradients(make: Callable[[], nn.Module]) -> None:
    ours, plain = recognizer(make()), recognizer()
    assert np.array_equal(ours.embed(frames(5)), plain.embed(frames(5)))
    names = [call.name.removeprefix("0.") for call in ours.layers().calls]
    assert [name or "0" for name in names] == [call.name for call in plain.layers().calls]
    with ours.capture(frames(5), [1, 3]) as a, plain.capture(frames(5), [1, 3]) as b:
        for directions in (torch.ones(5, 7), torch.arange(7.0).expand(5, 7)):
            torch.testing.assert_close(a.gradients(directions), b.gradients(directions))


def test_asking_what_a_recognizer_is_runs_nothing_of_it() -> None:
    class Broken(BlackBox):
        @property
        def fingerprint(self) -> str:  # type: ignore[override]
            raise AssertionError("a fingerprint was taken")

    assert is_recognizer(Broken()) and not is_white_box(Broken())
    assert not is_recognizer(Broken)


def test_black_boxes_are_told_from_white_ones() -> None:
    white, black = recognizer(), BlackBox()
    assert is_white_box(white)
    assert is_recognizer(black)
    assert not is_white_box(black)
    assert white_box(white, "anything") is white
    with pytest.raises(UserError, match=r"'oracle' is a black box.*the method 'gradcam' needs"):
        white_box(black, "the method 'gradcam'")
