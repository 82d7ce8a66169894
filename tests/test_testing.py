"""Every check must be able to fail: each broken plug-in here breaks one promise."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facefocus import testing
from facefocus.core.registry import Registry
from facefocus.evaluation.nuisances import NUISANCES, Nuisance
from facefocus.models.capture import Capture
from facefocus.models.layers import LayerTable
from facefocus.models.recognizer import TorchRecognizer
from facefocus.occlusion.fills import FILLS, GapFill
from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import (
    METHODS,
    Baseline,
    Choice,
    FrameGradientMethod,
    GradientMethod,
    Masks,
    Method,
    OcclusionMap,
    PerturbationMethod,
    Preset,
)
from facefocus.testing import (
    CheckResult,
    check_fill,
    check_method,
    check_nuisance,
    check_recognizer,
)
from tests.small import TinyNet, tiny_recognizer


def failed(results: list[CheckResult]) -> set[str]:
    for result in results:
        assert result.detail and "\n" not in result.detail
    return {result.name for result in results if not result.passed}


def detail(results: list[CheckResult], name: str) -> str:
    return next(result.detail for result in results if result.name == name)


# Black boxes --------------------------------------------------------------------------------------


class Plain:
    """A linear map of blocks of 8x8 pixels, each image summed on its own."""

    name = "plain"
    fingerprint = "1"

    def __init__(self, seed: int = 0) -> None:
        self.weights = np.random.default_rng(seed).normal(size=(6, 14 * 14 * 3))

    def embed(self, frames: np.ndarray) -> np.ndarray:
        blocks = frames.reshape(len(frames), 14, 8, 14, 8, 3).mean((2, 4), dtype=np.float64)
        rows = [(self.weights * row).sum(axis=1) for row in blocks.reshape(len(frames), -1)]
        return np.array(rows, np.float32).reshape(len(frames), 6)


class Nameless(Plain):
    name = ""


class Double(Plain):
    def embed(self, frames: np.ndarray) -> np.ndarray:
        embeddings: np.ndarray = np.asarray(super().embed(frames), np.float64)
        return embeddings


class Transposed(Plain):
    def embed(self, frames: np.ndarray) -> np.ndarray:
        embeddings: np.ndarray = super().embed(frames)[:, :, None]
        return embeddings


class BlackIsNothing(Plain):
    def embed(self, frames: np.ndarray) -> np.ndarray:
        embeddings = super().embed(frames)
        embeddings[~frames.any(axis=(1, 2, 3))] = np.nan
        return embeddings


class Drifting(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.calls = count()

    def embed(self, frames: np.ndarray) -> np.ndarray:
        factor = np.float32(1 + 3e-7 * (next(self.calls) % 2))
        embeddings: np.ndarray = super().embed(frames) * factor
        return embeddings


class Sociable(Plain):
    def embed(self, frames: np.ndarray) -> np.ndarray:
        embeddings = super().embed(frames)
        embeddings -= embeddings.mean(axis=0) / 10
        return embeddings


class Writing(Plain):
    def embed(self, frames: np.ndarray) -> np.ndarray:
        embeddings = super().embed(frames)
        frames //= 2
        return embeddings


class Blind(Plain):
    def embed(self, frames: np.ndarray) -> np.ndarray:
        lengths = (1 + frames[:, :1, 0, 0]).astype(np.float32)
        return np.repeat(lengths, 6, axis=1)


class Forgetful(Plain):
    calls = 0

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return str(self.calls)

    def embed(self, frames: np.ndarray) -> np.ndarray:
        self.calls += 1
        return super().embed(frames)


class HalfOpen(Plain):
    def capture(self, frames: np.ndarray, layers: Collection[int]) -> None:
        raise NotImplementedError


class Raising(Plain):
    def embed(self, frames: np.ndarray) -> np.ndarray:
        raise KeyError("weights\nlost")


class Fewer(Plain):
    """Drops what it finds no face in."""

    def embed(self, frames: np.ndarray) -> np.ndarray:
        return super().embed(frames[frames.any(axis=(1, 2, 3))])


class Zero(Plain):
    def embed(self, frames: np.ndarray) -> np.ndarray:
        embeddings: np.ndarray = super().embed(frames)
        return np.where(frames.std((1, 2, 3))[:, None] < 60, embeddings, np.float32(0))


class Learning(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))


class Gray(Plain):
    def embed(self, frames: np.ndarray) -> np.ndarray:
        gray = frames.astype(np.int64).sum(axis=3, keepdims=True) // 3
        return super().embed(np.repeat(gray, 3, axis=3))


def test_whether_colors_count_is_said() -> None:
    colored, gray = check_recognizer(Plain()), check_recognizer(Gray())
    assert failed(gray) == set()
    assert detail(gray, "colors") == "swapping red and blue changes nothing: it sees no color"
    assert "changes an embedding by up to" in detail(colored, "colors")


def test_a_sound_black_box_passes_bit_for_bit() -> None:
    results = check_recognizer(Plain(), again=Plain)
    assert [result.name for result in results if result.passed] == [
        "interface",
        "embeddings",
        "finite",
        "evaluation mode",
        "deterministic",
        "grouping",
        "pure",
        "distinct",
        "colors",
        "fingerprint",
        "black box",
        "made again",
    ]
    assert failed(results) == set()
    assert detail(results, "embeddings") == "float32 [17, 6]"
    assert detail(results, "grouping") == "bit for bit"


class SmoothNet(TinyNet):
    """Softplus, which torch computes otherwise at the ends of the parts of threads."""

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.softplus(self.first(x))
        x = nn.functional.softplus(self.second(x)).relu()
        embedding: Tensor = self.out(self.third(x).flatten(1))
        return embedding


def test_bit_for_bit_holds_for_threads_and_is_not_said_where_it_does_not() -> None:
    sound = tiny_recognizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = SmoothNet().eval().requires_grad_(False)
    box = TorchRecognizer("smooth", module, sound.preprocessing, identity="smooth")
    results = check_recognizer(box)
    assert failed(results) == set() and detail(results, "grouping") == "bit for bit"

    class Threaded(Plain):
        def embed(self, frames: np.ndarray) -> np.ndarray:
            last = np.float32(1e-7 * torch.get_num_threads())
            return super().embed(frames) * (1 + last)

    assert detail(check_recognizer(Threaded()), "grouping").startswith("to ")


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (object(), "interface", "it lacks name, fingerprint, embed"),
        (Nameless(), "interface", "name must be a text"),
        (Double(), "embeddings", "must be float32 [17, 6], got float64 [17, 6]"),
        (Transposed(), "embeddings", "must be float32 [17, 2], got float32 [17, 6, 1]"),
        (BlackIsNothing(), "finite", "an embedding of a black picture"),
        (Drifting(), "deterministic", "other embeddings the second time"),
        (Sociable(), "grouping", "in smaller groups: the result differs by"),
        (Writing(), "pure", "the frames were changed"),
        (Blind(), "distinct", "two different pictures are 0.0e+00 apart"),
        (Zero(), "distinct", "an embedding is zero"),
        (Learning(), "evaluation mode", "'1' are in training mode: call eval()"),
        (Forgetful(), "fingerprint", "changed after embedding"),
        (HalfOpen(), "black box", "it has capture but lacks module, preprocessing, layers"),
    ],
)
def test_a_broken_recognizer_fails_its_check(broken: object, check: str, words: str) -> None:
    results = check_recognizer(broken)
    assert failed(results) - {"distinct"} <= {check}
    assert check in failed(results)
    assert words in detail(results, check) or check == "grouping"


def test_a_row_for_every_frame() -> None:
    results = check_recognizer(Fewer())
    assert {"embeddings", "grouping"} <= failed(results)
    assert detail(results, "embeddings") == "17 frames gave 16 embeddings: each needs its own row"


def test_what_a_recognizer_raises_is_a_finding() -> None:
    results = check_recognizer(Raising())
    assert {"embeddings", "finite", "grouping"} <= failed(results)
    raised = r"raised '.*test_testing\.py' line \d+ in embed: KeyError: 'weights\\nlost'"
    assert re.fullmatch(raised, detail(results, "embeddings"))


def test_a_recognizer_with_random_weights_is_not_made_again() -> None:
    seeds = count(1)
    results = check_recognizer(Plain(), again=lambda: Plain(next(seeds)))
    assert failed(results) == {"made again"}
    assert detail(results, "made again") == "its embeddings differ"
    results = check_recognizer(Plain(), again=lambda: Nameless().weights)
    assert detail(results, "made again") == "it is a ndarray the second time"


# White boxes --------------------------------------------------------------------------------------


def test_a_sound_white_box_passes() -> None:
    results = check_recognizer(tiny_recognizer(), again=tiny_recognizer)
    assert failed(results) == set()
    assert detail(results, "layers") == "3 convolutions, 3 of them spatial"
    assert detail(results, "gradients") == "layers 1, 2, 3"
    assert len(results) == 16


def test_statistics_in_0_to_1_are_a_finding() -> None:
    box = tiny_recognizer()
    box.preprocessing = replace(box.preprocessing, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert "Did you mean mean = [127.5, 127.5, 127.5]" in detail(
        check_recognizer(box), "statistics"
    )


class Hollow(TorchRecognizer):
    def layers(self) -> LayerTable:
        return LayerTable(())


class Growing(nn.Module):
    """Runs its second convolution once more in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TinyNet()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        for _ in range(self.passes):
            self.net.second(self.net.first(x))
        out: Tensor = self.net(x)
        return out


class Cut(TinyNet):
    """Its gradient ends before the first convolution."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).detach()
        x = torch.relu(self.third(torch.relu(self.second(x))))
        out: Tensor = self.out(x.flatten(1))
        return out


class Lying(TorchRecognizer):
    def capture(self, frames: Any, layers: Collection[int]) -> Capture:
        captured = super().capture(frames, layers)
        captured.embeddings = captured.embeddings * 1.01
        return captured


class Careless(TorchRecognizer):
    """Does something to its module at every capture."""

    harm: Callable[[nn.Module], object] = staticmethod(lambda module: None)

    def capture(self, frames: Any, layers: Collection[int]) -> Capture:
        assert isinstance(self.module, nn.Module)
        type(self).harm(self.module)
        return super().capture(frames, layers)


class Lenient(TorchRecognizer):
    def capture(self, frames: Any, layers: Collection[int]) -> Capture:
        return super().capture(frames, [max(index, 1) for index in layers])


def remade(
    kind: type[TorchRecognizer] = TorchRecognizer, network: type[nn.Module] = TinyNet
) -> TorchRecognizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = network().eval().requires_grad_(False)
    return kind("broken", module, tiny_recognizer().preprocessing, identity="broken")


def gradient_left(module: nn.Module) -> None:
    weight = module.get_parameter("first.weight")
    weight.grad = torch.ones_like(weight)


def weight_moved(module: nn.Module) -> None:
    module.get_parameter("first.weight").data.mul_(1 + 1e-6)


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (remade(Hollow), "layers", "the table of layers is empty"),
        (remade(network=Growing), "layers", "change from one pass to the next"),
        (remade(network=Cut), "gradients", "the gradient at layer 1 is zero"),
        (remade(Lying), "capture", "differ from those of embed by 1.0e-02"),
        (remade(Lenient), "left as found", "a layer 0, which does not exist, was captured"),
    ],
)
def test_a_broken_white_box_fails_its_check(
    broken: TorchRecognizer, check: str, words: str
) -> None:
    results = check_recognizer(broken)
    assert words in detail(results, check)
    if check != "layers":  # without a table of layers the others cannot pass
        assert failed(results) == {check}


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda module: module.first.train(), "the mode of 'first'"),
        (lambda module: module.out.bias.requires_grad_(), "requires_grad of 'out.bias'"),
        (gradient_left, "the gradient of 'first.weight'"),
        (lambda module: module.third.register_forward_hook(print), "a hook of 'third'"),
        (weight_moved, "the value of 'first.weight'"),
    ],
)
def test_a_capture_that_leaves_traces_is_found(
    harm: Callable[[nn.Module], object], words: str
) -> None:
    broken = remade(type("Harmful", (Careless,), {"harm": staticmethod(harm)}))
    # The other checks capture too; here the first to do so is the one that looks.
    trial = testing._Trial(broken)
    check = testing._result("left", testing._WhiteTrial(broken, trial).left_as_found)
    assert not check.passed
    assert check.detail == f"after a capture, {words} was not as before"


# Gradient methods ---------------------------------------------------------------------------------

CALLS = count()


def cam(activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
    return (activation * gradient).sum(dim=1)


def with_batch(activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
    saliency = cam(activation, gradient, options)
    return saliency / saliency.abs().max()


def writing(activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
    return activation.mul_(gradient).sum(dim=1)


def counting(activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
    return cam(activation, gradient, options) * (1 + 3e-7 * (next(CALLS) % 2))


def inventing(activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
    ramp = torch.arange(24.0).reshape(6, 4)
    return cam(activation, gradient, options).nan_to_num() + ramp * 1e-9


def shifted(activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
    return cam(activation, gradient + 0.1 * gradient.sign(), options)


def dividing(activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
    if not gradient.any():
        raise ZeroDivisionError("no gradient")
    return cam(activation, gradient, options)


def moody(activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
    return cam(activation, gradient, options)[: 2 if options["mood"] == "bad" else 3]


def gradient_method(function: Any, **changes: Any) -> GradientMethod:
    return replace(GradientMethod("own", function, 1, True), **changes)


@pytest.mark.parametrize(
    ("function", "check", "words"),
    [
        (lambda a, g, o: a, "map", "must be floats [3, 6, 4], got float32 [3, 5, 6, 4]"),
        (lambda a, g, o: cam(a, g, o) / 0, "map", "finite input is not finite"),
        (with_batch, "each on its own", "one alone: the result differs"),
        (counting, "deterministic", "two calls with the same input differ"),
        (writing, "pure", "the activation was changed"),
        (inventing, "degenerate input", "zeros: the map ranks pixels all the same"),
        (dividing, "degenerate input", "ZeroDivisionError: no gradient"),
        (shifted, "scale invariant", "times the gradient moves the scaled map by"),
    ],
)
def test_a_broken_gradient_method_fails_its_check(function: Any, check: str, words: str) -> None:
    results = check_method(gradient_method(function))
    assert words in detail(results, check)
    if check != "map":  # another shape fails elsewhere too
        assert failed(results) - {"scale invariant"} | {check} == {check}


def test_scale_invariance_is_only_asked_of_those_who_declare_it() -> None:
    assert failed(check_method(gradient_method(cam))) == set()
    results = check_method(gradient_method(shifted, scale_invariant=False))
    assert failed(results) == set() and len(results) == 6


def test_every_choice_of_an_option_is_tried() -> None:
    mood = {"mood": Choice("good", ("good", "bad"))}
    results = check_method(gradient_method(moody, options=mood))
    assert detail(results, "map").endswith("got float32 [2, 6, 4] (mood=bad)")
    results = check_method(gradient_method(cam, options=mood))
    assert detail(results, "map").endswith("finite (2 variants)")
    results = check_method(gradient_method(cam, options={"mood": Choice("so", ("good",))}))
    assert "the default of 'mood' must be one of good" in detail(results, "description")


# Other kinds of methods ---------------------------------------------------------------------------


class Odd:
    name = "odd"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Odd(), "it is no method: it lacks version, kind"),
        (gradient_method(cam, version=0), "its version must be 1 or more"),
        (Preset("own", "no-cam", "N", "cosine"), "there is no method 'no-cam'"),
        (Preset("own", "random", "N", "cosine"), "'random' is no gradient method"),
        (Preset("own", "grad-cam", "N", "cosin"), "Did you mean 'cosine'"),
    ],
)
def test_a_method_that_is_not_what_it_says(broken: object, words: str) -> None:
    results = check_method(broken)
    assert [result.name for result in results] == ["description"]
    assert words in results[0].detail


def test_a_method_must_be_registered_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Registry[Method] = Registry("method")
    registry.add("other", gradient_method(cam))
    monkeypatch.setattr(testing, "METHODS", registry)
    results = check_method("other")
    assert detail(results, "description") == "it is registered as 'other' but named 'own'"


@pytest.mark.parametrize(
    ("function", "check", "words"),
    [
        (lambda shape, rng: rng.random(shape), "map", "loat32"),
        (lambda shape, rng: np.full(shape, np.nan, np.float32), "map", "not finite"),
        (
            lambda shape, rng: np.full(shape, next(CALLS), np.float32),
            "deterministic",
            "two calls with the same input differ",
        ),
    ],
)
def test_a_broken_baseline_fails_its_check(function: Any, check: str, words: str) -> None:
    results = check_method(Baseline("own", function, 1))
    assert check in failed(results)
    assert words in detail(results, check)


def draw(rng: np.random.Generator, number: int, frame: tuple[int, int], options: Options) -> Any:
    return rng.random((number, *frame), dtype=np.float32)


def combine(similarities: np.ndarray, masks: Masks) -> np.ndarray:
    blocks = np.concatenate(list(masks)).reshape(masks.count, -1).astype(np.float64)
    return np.stack([(row[:, None] * blocks).sum(axis=0) for row in similarities])


def combine_writing(similarities: np.ndarray, masks: Masks) -> np.ndarray:
    similarities -= 1
    return combine(similarities, masks)


PERTURBATION = METHODS["s-rise"]


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"draw": lambda *a: 2 * draw(*a)}, "masks", "must lie in [0, 1], got"),
        ({"draw": lambda *a: draw(*a)[1:]}, "masks", "masks must be float32 [64, 48, 40]"),
        (
            {"draw": lambda *a: draw(*a) * np.float32(1 - 0.1 * (next(CALLS) % 2))},
            "masks deterministic",
            "two calls",
        ),
        (
            {"combine": lambda s, m: combine(s, m).astype(np.float32)},
            "map",
            "must be float64 [3, 1920]",
        ),
        ({"combine": lambda s, m: combine(s - s.mean(axis=0), m)}, "each on its own", "one alone"),
        ({"combine": combine_writing}, "pure", "the similarities were changed"),
    ],
)
def test_a_broken_perturbation_method_fails_its_check(
    changes: dict[str, Any], check: str, words: str
) -> None:
    assert isinstance(PERTURBATION, PerturbationMethod)
    sound = replace(PERTURBATION, draw=draw, combine=combine)
    if check == "masks":
        assert failed(check_method(sound)) == set()
    results = check_method(replace(sound, **changes))
    assert check in failed(results)
    assert words in detail(results, check)


def frame_maps(
    recognizers: Any, people: Sequence[np.ndarray], hiders: Any, **_: Any
) -> list[OcclusionMap]:
    return [OcclusionMap(frames.mean((0, 3)).astype(np.float32), False) for frames in people]


def frame_counting(recognizers: Any, people: Any, hiders: Any, **_: Any) -> list[OcclusionMap]:
    shift = np.float32(1e-4 * (next(CALLS) % 2))
    return [OcclusionMap(outcome.map + shift, False) for outcome in frame_maps(None, people, None)]


def frame_mixing(recognizers: Any, people: Any, hiders: Any, **_: Any) -> list[OcclusionMap]:
    whole = np.concatenate(list(people))
    return [OcclusionMap(whole.mean((0, 3)).astype(np.float32), False) for _ in people]


def frame_writing(recognizers: Any, people: Any, hiders: Any, **_: Any) -> list[OcclusionMap]:
    maps = frame_maps(None, people, None)
    people[0][:] = 0
    return maps


@pytest.mark.parametrize(
    ("function", "check", "words"),
    [
        (lambda r, p, c, **_: frame_maps(r, p[:1], c), "map", "1 map for each of 2 people, got 1"),
        (frame_counting, "deterministic", "two calls"),
        (frame_mixing, "each on its own", "one alone"),
        (frame_writing, "pure", "the frames were changed"),
    ],
)
def test_a_broken_frame_method_fails_its_check(function: Any, check: str, words: str) -> None:
    if check == "pure":
        assert failed(check_method(FrameGradientMethod("own", frame_maps, 1, False))) == set()
    results = check_method(FrameGradientMethod("own", function, 1, False))
    assert check in failed(results)
    assert words in detail(results, check)


def test_a_plain_function_of_a_file_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    sound = "def own(images, recognizer):\n    return images.mean((0, 3))\n"
    file.write_text("from itertools import count\nCALLS = count()\n" + sound)
    assert failed(check_method(f"{file}:own")) == set()
    file.write_text(
        file.read_text().replace("(0, 3))", "(0, 3)) + next(CALLS) * images[0, ..., 0]")
    )
    assert "deterministic" in failed(check_method(f"{file}:own"))


# Fills --------------------------------------------------------------------------------------------


def fill_writing(frames: np.ndarray, rngs: Any) -> np.ndarray:
    frames[...] = 0
    return frames


def fill_alike(frames: np.ndarray, rngs: Any) -> np.ndarray:
    mean = frames.mean(axis=0).astype(np.uint8)
    return np.broadcast_to(mean, frames.shape).copy()


def fill_with_one_generator(frames: np.ndarray, rngs: Any) -> np.ndarray:
    return np.asarray(rngs[0].integers(0, 256, frames.shape, dtype=np.uint8))


@pytest.mark.parametrize(
    ("function", "check", "words"),
    [
        (lambda frames, rngs: frames / 2, "content", "must be uint8 [4, 20, 16, 3], got float64"),
        (
            lambda frames, rngs: np.full_like(frames, next(CALLS) % 256),
            "deterministic",
            "two calls",
        ),
        (fill_alike, "each on its own", "filled otherwise than among others"),
        (fill_with_one_generator, "each on its own", "filled otherwise than among others"),
        (fill_writing, "pure", "the frames were changed"),
    ],
)
def test_a_broken_fill_fails_its_check(function: Any, check: str, words: str) -> None:
    results = check_fill(function)
    assert check in failed(results)
    assert words in detail(results, check)
    if check in ("content", "pure"):
        assert failed(results) == {check}


def gap_of(values: Any) -> GapFill:
    """A fill that sees the mask: ``values(frames, mask)`` are the occluded frames."""
    return GapFill(lambda frames, rngs: lambda mask: values(frames, mask))


@pytest.mark.parametrize(
    ("values", "check"),
    [
        (lambda frames, mask: np.where(mask[..., None], frames // 2, frames), "hidden pixels"),
        (lambda frames, mask: np.where(mask[..., None], 0, frames // 2 * 2), "visible pixels"),
        (lambda frames, mask: np.where(mask[..., None], mask.mean() * 9, frames), "each mask"),
    ],
)
def test_a_broken_fill_that_sees_the_mask_fails_its_check(values: Any, check: str) -> None:
    made = gap_of(lambda frames, mask: np.asarray(values(frames, mask)).astype(np.uint8))
    assert check in failed(check_fill(made))


def changed(values: Any) -> Nuisance:
    """A nuisance: ``values(seen, rngs)`` become of the hidden photos."""
    return Nuisance(change=lambda seen, rngs: np.asarray(values(seen, rngs)))


@pytest.mark.parametrize(
    ("values", "check"),
    [
        (lambda seen, rngs: seen.frames / 2, "content"),
        (lambda seen, rngs: np.full_like(seen.frames, next(CALLS) % 256), "deterministic"),
        (lambda seen, rngs: fill_alike(seen.frames, rngs), "each on its own"),
        (lambda seen, rngs: fill_with_one_generator(seen.frames, rngs), "each on its own"),
    ],
)
def test_a_broken_nuisance_fails_its_check(values: Any, check: str) -> None:
    assert check in failed(check_nuisance(changed(values)))


def test_everything_built_in_passes() -> None:
    for name in NUISANCES:
        assert failed(check_nuisance(name)) == set(), name
    for name in METHODS:
        assert failed(check_method(name)) == set(), name
    for name in FILLS:
        assert failed(check_fill(name)) == set(), name
