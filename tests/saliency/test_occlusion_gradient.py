from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.models.occluded_frames import occlude
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer
from facefocus.occlusion.fills import hider
from facefocus.occlusion.masks import top_pixels
from facefocus.saliency.explainer import Hide, Needs
from facefocus.saliency.mated_gradients import combined
from facefocus.saliency.methods import METHODS, FrameGradientMethod, Method, OcclusionMap
from facefocus.saliency.occlusion_gradient import (
    block_means,
    content_of_blocks,
    gradient_x_input_maps,
    occlusion_gradient_map,
    occlusion_gradient_maps,
    step_sizes,
)
from tests.small import tiny_recognizer

SIDE = 16
WHOLE = Preprocessing(
    size=(SIDE, SIDE), crop=None, channels="rgb", mean=(127.5,) * 3, std=(127.5,) * 3
)
#: Rows 2 to 13 and columns 4 to 15 of a 16 x 16 frame, at another size and in gray.
GRAY = Preprocessing(
    size=(10, 9), crop=(14, 28, 84, 84), channels="gray", mean=(90.0,), std=(50.0,)
)
BGR = Preprocessing(
    size=(SIDE, SIDE), crop=None, channels="bgr", mean=(100.0, 110.0, 120.0), std=(60.0, 50.0, 40.0)
)
READINGS = [WHOLE, GRAY, BGR]


class Smooth(nn.Module):
    """Float64 and without kinks, for finite differences."""

    def __init__(self, reading: Preprocessing) -> None:
        super().__init__()
        height, width = reading.size
        self.first = nn.Conv2d(len(reading.mean), 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.out = nn.Linear(6 * ((height + 1) // 2) * ((width + 1) // 2), 5)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        embedding: Tensor = self.out(x.flatten(1))
        return embedding


def smooth(reading: Preprocessing = WHOLE, seed: int = 0) -> TorchRecognizer:
    torch.manual_seed(seed)
    return TorchRecognizer(f"smooth-{seed}", Smooth(reading), reading, identity=str(seed))


class Function(nn.Module):
    """A function of the red channel of the frame."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        assert callable(self.function)
        embedding: Tensor = self.function(x[:, 0].flatten(1))
        return embedding


def by_hand(function: object, width: int) -> TorchRecognizer:
    plain = Preprocessing(
        size=(1, width), crop=None, channels="rgb", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    return TorchRecognizer("by-hand", Function(function), plain, identity="function")


def photos(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def red(*rows: Sequence[int]) -> np.ndarray:
    """Frames of one row each, with the given red values and arbitrary green and blue."""
    frames = np.full((len(rows), 1, len(rows[0]), 3), 77, np.uint8)
    frames[..., 0] = np.array(rows)[:, None]
    return frames


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def shown(frames: np.ndarray, content: np.ndarray) -> Hide:
    """What puts `content` in the place of hidden pixels."""
    return lambda masks: occlude(frames, masks, content)


def gradient_map(
    recognizers: Sequence[TorchRecognizer],
    frames: np.ndarray,
    content: np.ndarray,
    *,
    steps: int = 1,
    pixels: int = 0,
    seed: int = 0,
) -> OcclusionMap:
    return occlusion_gradient_map(
        recognizers, frames, shown(frames, content), steps=steps, pixels=pixels, rng=rng(seed)
    )


def similarities(recognizer: TorchRecognizer, frames: Tensor, clean: Tensor) -> Tensor:
    """Mean cosine of each frame to all other clean frames, pair by pair."""
    network, read = recognizer.module, recognizer.preprocessing
    embeddings = network(read(frames).double())
    references = network(read(clean).double()).detach()
    means = []
    for a in range(len(frames)):
        others = [
            torch.cosine_similarity(embeddings[a], references[b], dim=0)
            for b in range(len(frames))
            if b != a
        ]
        means.append(torch.stack(others).mean())
    return torch.stack(means)


def expected_effects(
    recognizer: TorchRecognizer, frames: np.ndarray, clean: np.ndarray, content: np.ndarray
) -> np.ndarray:
    """The definition (Protocol: occlusion-gradient) in the simplest way."""
    x = torch.from_numpy(frames).float().requires_grad_()
    (g,) = torch.autograd.grad(
        similarities(recognizer, x, torch.from_numpy(clean).float()).sum(), x
    )
    effects: np.ndarray = (g.double().numpy() * (frames.astype(float) - content)).sum(3).mean(0)
    return effects


# One step -----------------------------------------------------------------------------------------


def test_by_hand() -> None:
    # e_A = (3, 4), u_A = (.6, .8), e_B = (1, 0). The gradient of the cosine with respect to e_A is
    # ((1, 0) - .6 (.6, .8)) / 5 = (.128, -.096); to e_B it is ((.6, .8) - .6 (1, 0)) / 1 = (0, .8).
    recognizer, frames = by_hand(lambda x: x, 2), red([3, 4], [1, 0])
    outcome = gradient_map([recognizer], frames, np.zeros_like(frames))
    # A: 3 * .128 and 4 * -.096, B: 1 * 0 and 0 * .8.
    np.testing.assert_allclose(outcome.map, [[0.192, -0.192]], rtol=1e-6)
    assert outcome.map.dtype == np.float32 and not outcome.degenerate
    # Only red counts. A: 3 * .128 and (4 - 2) * -.096, B: (1 - 9) * 0 and (0 - 5) * .8.
    outcome = gradient_map([recognizer], frames, red([0, 2], [9, 5]))
    np.testing.assert_allclose(outcome.map, [[0.192, (-0.192 - 4) / 2]], rtol=1e-6)


@pytest.mark.parametrize("reading", READINGS)
def test_it_is_the_slope_toward_the_fill(reading: Preprocessing) -> None:
    recognizer, frames, content = smooth(reading), photos(4, seed=1), photos(4, seed=2)
    saliency = gradient_map([recognizer], frames, content).map
    clean, toward = torch.from_numpy(frames).float(), torch.from_numpy(content).float()
    step = 2.0**-5
    for row, column in [(3, 5), (8, 8), (12, 14), (2, 4), (6, 11)]:

        def moved(share: float, row: int = row, column: int = column) -> float:
            x = clean.clone()
            x[:, row, column] += share * (toward - clean)[:, row, column]
            return float(similarities(recognizer, x, clean).mean().detach())

        slope = (moved(step) - moved(-step)) / (2 * step)
        # Moving toward the fill lowers the similarity where the map is positive.
        np.testing.assert_allclose(saliency[row, column], -slope, rtol=2e-3, atol=1e-7)
    assert np.abs(saliency).max() > 1e-5


def test_what_the_recognizer_never_sees_has_no_effect() -> None:
    saliency = gradient_map([smooth(GRAY)], photos(3), photos(3, seed=5)).map
    seen = np.zeros((SIDE, SIDE), bool)
    seen[2:14, 4:16] = True
    assert (saliency[~seen] == 0).all() and (saliency[seen] != 0).all()


def test_hiding_one_pixel_does_what_the_map_says() -> None:
    # The fill is so near the face that the network is linear in between.
    recognizer, frames = smooth(), photos(3, seed=7) // 2 + 50
    content = frames + rng(8).integers(-3, 4, frames.shape).astype(np.uint8)
    saliency = gradient_map([recognizer], frames, content).map
    clean = torch.from_numpy(frames).float()
    before = similarities(recognizer, clean, clean).mean().detach()
    drops = np.empty((SIDE, SIDE))
    for row, column in np.ndindex(SIDE, SIDE):
        hidden = clean.clone()
        hidden[:, row, column] = torch.from_numpy(content).float()[:, row, column]
        after = similarities(recognizer, hidden, clean).mean().detach()
        drops[row, column] = float(before - after)
    assert np.abs(saliency - drops).max() < 0.03 * np.abs(drops).max()


@pytest.mark.parametrize("reading", READINGS)
def test_one_step_is_the_definition_whatever_the_budget(reading: Preprocessing) -> None:
    recognizer, frames, content = smooth(reading), photos(5, seed=3), photos(5, seed=4)
    expected = expected_effects(recognizer, frames, frames, content)
    for pixels in (0, 7, SIDE * SIDE):
        saliency = gradient_map([recognizer], frames, content, pixels=pixels, seed=pixels).map
        np.testing.assert_allclose(saliency, expected, rtol=1e-4, atol=1e-9)


# Steps --------------------------------------------------------------------------------------------


def test_steps_share_the_budget() -> None:
    assert step_sizes(125, 25) == [5] * 25
    assert step_sizes(10, 3) == [3, 4, 3]  # 3.33 -> 3, 6.67 -> 7, 10
    assert step_sizes(7, 2) == [4, 3]  # 3.5 -> 4
    assert step_sizes(2, 5) == [1, 1]
    assert step_sizes(0, 4) == [0]
    for pixels in range(1, 60):
        for steps in (1, 2, 7, 25, 80):
            sizes = step_sizes(pixels, steps)
            assert sum(sizes) == pixels and min(sizes) > 0 and max(sizes) - min(sizes) <= 1


def stepwise(
    recognizers: Sequence[TorchRecognizer],
    frames: np.ndarray,
    content: np.ndarray,
    sizes: list[int],
) -> tuple[list[int], np.ndarray]:
    """The pixels in order of choice, and the last combined scores."""
    occluded, chosen, mean = frames.copy(), list[int](), np.empty(0)
    for size in sizes:
        maps = [
            expected_effects(recognizer, occluded, frames, content) for recognizer in recognizers
        ]
        mean = np.mean([m / np.linalg.norm(m) for m in maps], axis=0).ravel()
        best = [p for p in np.argsort(-mean) if p not in chosen][:size]
        chosen += [int(p) for p in best]
        occluded.reshape(len(frames), -1, 3)[:, chosen] = content.reshape(len(frames), -1, 3)[
            :, chosen
        ]
    return chosen, mean


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize(("steps", "sizes"), [(2, [6, 5]), (4, [3, 3, 2, 3]), (11, [1] * 11)])
def test_steps_look_again_at_the_occluded_frames(
    sources: int, steps: int, sizes: list[int]
) -> None:
    recognizers = [smooth(WHOLE, 7), smooth(BGR, 8)][:sources]
    frames, content = photos(3, seed=9), photos(3, seed=10)
    chosen, last = stepwise(recognizers, frames, content, sizes)
    saliency = gradient_map(recognizers, frames, content, steps=steps, pixels=11).map
    order = np.argsort(-saliency.ravel())
    assert order[:11].tolist() == chosen
    # The others follow by the last gradient, and nobody is ranked twice.
    rest = [p for p in np.argsort(-last) if p not in chosen]
    assert order[11:].tolist() == rest
    assert sorted(saliency.ravel().tolist()) == list(range(1, SIDE * SIDE + 1))
    mask = top_pixels(saliency, 11, rng(5))
    assert set(np.flatnonzero(mask).tolist()) == set(chosen)


def test_looking_again_hides_more() -> None:
    recognizer, frames = smooth(), photos(4, seed=11)
    content = np.zeros_like(frames)

    def left(steps: int) -> float:
        mask = top_pixels(
            gradient_map([recognizer], frames, content, steps=steps, pixels=50).map, 50, rng()
        )
        hidden = np.where(mask[None, :, :, None], content, frames)
        x, clean = (torch.from_numpy(images).float() for images in (hidden, frames))
        return float(similarities(recognizer, x, clean).mean().detach())

    assert left(50) < left(1) < 0.95


def test_a_step_without_a_gradient_goes_by_the_one_before() -> None:
    # With pixel 0 hidden the embedding is constant.
    def function(x: Tensor) -> Tensor:
        open_ = torch.relu(x[:, :1] - 1)
        return torch.cat([open_ * (x @ torch.tensor([[3.0], [2.0], [1.0], [0.5]])), 1e3 + 0 * x], 1)

    recognizer, frames = by_hand(function, 4), red([9, 8, 7, 6], [20, 19, 5, 4])
    content = np.zeros_like(frames)
    first = gradient_map([recognizer], frames, content).map[0]
    order = np.argsort(-np.abs(first))
    assert order[0] == 0
    saliency = gradient_map([recognizer], frames, content, steps=4, pixels=4).map[0]
    np.testing.assert_array_equal(np.argsort(-saliency), np.argsort(-first))


def test_ties_are_drawn_and_the_draw_is_seeded() -> None:
    recognizer, frames = smooth(GRAY), photos(3)
    content = frames.copy()
    content[:, 8, 8] = 0  # all others have no effect
    maps = [
        gradient_map([recognizer], frames, content, steps=2, pixels=20, seed=seed).map
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    tops = [set(np.flatnonzero(saliency > SIDE * SIDE - 20).tolist()) for saliency in maps]
    assert tops[0] != tops[2] and [len(top) for top in tops] == [20, 20, 20]


# Several sources ----------------------------------------------------------------------------------


def test_sources_count_alike_whatever_their_scale() -> None:
    # Norms 5 and 10: (.6, .8, 0) and (0, .6, -.8), mean (.3, .7, -.4).
    small, large = np.array([[3.0, 4.0, 0.0]]), np.array([[0.0, 6.0, -8.0]])
    broken, flat = np.full((1, 3), np.nan), np.zeros((1, 3))
    for maps, expected in [
        ([small, large], np.array([[0.3, 0.7, -0.4]])),
        ([small], small),
        ([small, broken], small / 5),
        ([flat, large], large / 10),
    ]:
        outcome = combined(maps)
        assert outcome is not None
        np.testing.assert_allclose(outcome, expected)
    assert combined([flat, broken, flat + 2]) is None


def test_several_sources_are_averaged() -> None:
    first, second = smooth(WHOLE, 1), smooth(GRAY, 2)
    frames, content = photos(4, seed=5), photos(4, seed=6)
    units = []
    for recognizer in (first, second):
        effects = expected_effects(recognizer, frames, frames, content)
        units.append(effects / np.sqrt((effects**2).sum()))
    saliency = gradient_map([first, second], frames, content).map
    np.testing.assert_allclose(saliency, (units[0] + units[1]) / 2, rtol=1e-3, atol=1e-7)


# Degenerate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3])
def test_no_gradient_no_ranking(steps: int) -> None:
    broken = smooth()
    assert isinstance(broken.module, Smooth)
    # A recognizer that is loaded with such weights is refused: here they turn bad afterwards.
    assert broken.fingerprint
    with torch.no_grad():
        broken.module.out.weight[0, 0] = torch.nan
    frames = photos(3)
    cases = {
        "the fill is the face": (smooth(), frames, frames),
        "a single image": (smooth(), frames[:1], np.zeros_like(frames[:1])),
        "copies of one image": (smooth(), frames[[0, 0, 0]], np.zeros_like(frames)),
        "not finite": (broken, frames, np.zeros_like(frames)),
    }
    for name, (recognizer, images, content) in cases.items():
        outcome = gradient_map([recognizer], images, content, steps=steps, pixels=9)
        assert outcome.degenerate, name
        np.testing.assert_array_equal(outcome.map, np.zeros((SIDE, SIDE), np.float32))


def test_an_infinite_slope_is_no_ranking_and_no_warning() -> None:
    recognizer, frames = by_hand(torch.sqrt, 3), red([0, 4, 9], [1, 0, 2])
    outcome = gradient_map([recognizer], frames, np.zeros_like(frames))  # infinity times 0
    assert outcome.degenerate and not outcome.map.any()


# Grouping, threads, state -------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3])
def test_company_order_and_threads_change_no_bit(steps: int) -> None:
    recognizers = [tiny_recognizer(), tiny_recognizer("other", 1)]
    people = [photos(count, seed=count, side=32) for count in (2, 5, 17, 3)]
    contents = [photos(len(p), seed=50 + i, side=32) for i, p in enumerate(people)]

    def maps(which: Sequence[int]) -> list[np.ndarray]:
        made = occlusion_gradient_maps(
            recognizers,
            [people[i] for i in which],
            [shown(people[i], contents[i]) for i in which],
            steps=steps,
            pixels=40,
            rngs=[rng(i) for i in which],
        )
        assert not any(outcome.degenerate for outcome in made)
        return [outcome.map for outcome in made]

    whole = maps([0, 1, 2, 3])
    for saliency, expected in zip(maps([3, 2, 1, 0]), whole[::-1], strict=True):
        np.testing.assert_array_equal(saliency, expected)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for i in (0, 2):
                np.testing.assert_array_equal(maps([i])[0], whole[i])
    finally:
        torch.set_num_threads(threads)


def test_everything_is_left_as_it_was_found() -> None:
    recognizer, frames = tiny_recognizer(), photos(3, side=32)
    content = np.zeros_like(frames)
    assert isinstance(recognizer.module, nn.Module)
    recognizer.module.train().requires_grad_(True)
    before, frames_before = gradient_map([recognizer], frames, content).map, frames.copy()
    with torch.inference_mode():
        inside = gradient_map([recognizer], frames, content, steps=2, pixels=6).map
    np.testing.assert_array_equal(
        gradient_map([recognizer], frames, content, steps=2, pixels=6).map, inside
    )
    np.testing.assert_array_equal(gradient_map([recognizer], frames, content).map, before)
    np.testing.assert_array_equal(frames, frames_before)
    assert recognizer.module.training
    assert all(p.requires_grad and p.grad is None for p in recognizer.module.parameters())


def test_references_come_from_the_module_not_from_another_backend() -> None:
    recognizer, frames = tiny_recognizer(), photos(3, side=32)
    expected = gradient_map([recognizer], frames, np.zeros_like(frames)).map
    recognizer.forward = lambda batches: (torch.ones(len(inputs), 8) for inputs in batches)
    np.testing.assert_array_equal(
        gradient_map([recognizer], frames, np.zeros_like(frames)).map, expected
    )


def test_progress_counts_backward_passes() -> None:
    calls: list[tuple[str, int, int]] = []
    people = [photos(20, side=32), photos(13, seed=1, side=32)]  # 33 images: 3 chunks
    occlusion_gradient_maps(
        [tiny_recognizer(), tiny_recognizer("other", 1)],
        people,
        [hider("black", p, []) for p in people],
        steps=2,
        pixels=4,
        rngs=[rng(), rng()],
        progress=lambda *call: calls.append(call),
    )
    assert calls == [("backward passes", done, 12) for done in range(1, 13)]
    assert occlusion_gradient_maps([], [], [], steps=1, pixels=0, rngs=[]) == []


def test_wrong_arguments_are_refused() -> None:
    recognizer, frames = tiny_recognizer(), photos(2, side=32)
    content = np.zeros_like(frames)
    with pytest.raises(ValueError, match=r"steps must be at least 1\. Got 0"):
        gradient_map([recognizer], frames, content, steps=0)
    with pytest.raises(ValueError, match=r"in 0\.\.1024\. Got 1025"):
        gradient_map([recognizer], frames, content, pixels=1025)
    with pytest.raises(ValueError, match=r"block must be at least 1\. Got 0"):
        occlusion_gradient_map(
            [recognizer], frames, shown(frames, content), steps=1, pixels=0, rng=rng(), block=0
        )


# Blocks -------------------------------------------------------------------------------------------


def test_blocks_have_the_mean_of_their_pixels() -> None:
    values = rng().random((5, 7))
    means = block_means(values, 3)
    assert means[0, 0] == means[2, 2] == pytest.approx(values[:3, :3].mean())
    assert means[4, 6] == pytest.approx(values[3:, 6:].mean())
    np.testing.assert_array_equal(block_means(values, 1), values)


@pytest.mark.parametrize("fill", ["inpaint", "linear"])
def test_the_content_of_a_block_is_what_the_fill_puts_there_alone(fill: str) -> None:
    frames = photos(2, side=16)
    hidden = np.zeros((16, 16), bool)
    hidden[2:4, 9:13] = True
    hide = hider(fill, frames, [rng(1), rng(2)])
    content = content_of_blocks(hide, hidden, 4)
    far = np.zeros((16, 16), bool)
    far[12:, :4] = True  # no other block of its quarter and nothing hidden is near
    np.testing.assert_array_equal(content[:, 12:, :4], hide(far)[:, 12:, :4])


def test_under_a_fill_that_sees_the_mask_effects_are_those_of_whole_blocks() -> None:
    """A map of 4 x 4 blocks: to first order, what filling each in takes from the similarity."""
    recognizer, frames = smooth(), photos(3, seed=4)
    hide = hider("linear", frames, [np.random.default_rng(0) for _ in frames])
    made = occlusion_gradient_map(
        [recognizer], frames, hide, steps=1, pixels=0, rng=rng(), block=4
    ).map
    clean = torch.from_numpy(frames).float()
    for top, left in [(0, 0), (4, 8), (12, 12)]:
        mask = np.zeros((16, 16), bool)
        mask[top : top + 4, left : left + 4] = True
        filled = torch.from_numpy(hide(mask)).float()
        with torch.no_grad():
            before = similarities(recognizer, clean, clean)
            step = clean + 1e-4 * (filled - clean)  # first order
            lost = 1e4 * (before - similarities(recognizer, step, clean))
        assert 16 * made[top, left] == pytest.approx(float(lost.mean()), rel=1e-2, abs=1e-5)


# Registry -----------------------------------------------------------------------------------------


def test_the_registered_method_runs_in_steps() -> None:
    method = METHODS["occlusion-gradient"]
    assert isinstance(method, FrameGradientMethod) and isinstance(method, Method)
    assert (method.kind, method.needs_fill, method.version) == ("frame-gradient", True, 1)
    default, many = method.resolve_options({}), method.resolve_options({"steps": "3"})
    assert default == {"steps": "1", "block": "1"} and many == {"steps": "3", "block": "1"}
    assert method.needs(default) == Needs(fill=True, seed=True, gradients=True, sources="several")
    assert method.needs(many) == replace(method.needs(default), budget=True)
    recognizer, frames = smooth(), photos(3)
    content = np.zeros_like(frames)
    for options, steps in [(default, 1), (many, 3)]:
        (outcome,) = method.function(
            [recognizer],
            [frames],
            [shown(frames, content)],
            pixels=9,
            rngs=[rng()],
            options=options,
        )
        expected = gradient_map([recognizer], frames, content, steps=steps, pixels=9).map
        np.testing.assert_array_equal(outcome.map, expected)


@pytest.mark.parametrize("steps", ["0", "-1", "2.5", "", "many", "03", "²"])
def test_steps_are_a_whole_number(steps: str) -> None:
    method = METHODS["occlusion-gradient"]
    assert isinstance(method, FrameGradientMethod)
    with pytest.raises(UserError, match=rf"whole number from 1 to 1000000\. Got '{steps}'"):
        method.resolve_options({"steps": steps})


# Gradient times input -----------------------------------------------------------------------------


def test_gradient_times_input_by_hand() -> None:
    # As in `test_by_hand`; the input is the frame itself, so 0 is black.
    recognizer, frames = by_hand(lambda x: x, 2), red([3, 4], [1, 0])
    (outcome,) = gradient_x_input_maps([recognizer], [frames])
    np.testing.assert_allclose(outcome.map, [[0.192, -0.192]], rtol=1e-6)


def test_gradient_times_input_hides_with_the_color_that_the_network_takes_for_zero() -> None:
    frames = photos(4, seed=3)
    content = np.broadcast_to(np.array([120, 110, 100], np.uint8), frames.shape).copy()  # BGR mean
    (outcome,) = gradient_x_input_maps([smooth(BGR)], [frames])
    expected = gradient_map([smooth(BGR)], frames, content).map
    np.testing.assert_allclose(outcome.map, expected, rtol=1e-3, atol=1e-8)


def test_gradient_times_input_is_taken_back_to_the_frame() -> None:
    recognizer, people = smooth(GRAY), [photos(3, seed=1), photos(2, seed=2)]
    made = gradient_x_input_maps([recognizer], people)
    for frames, outcome in zip(people, made, strict=True):
        x = recognizer.preprocessing(torch.from_numpy(frames)).double().requires_grad_()
        units = nn.functional.normalize(recognizer.module(x), dim=1)
        cosines = units @ units.detach().T
        others = 1 - torch.eye(len(frames), dtype=torch.float64)
        (g,) = torch.autograd.grad((cosines * others).sum() / (len(frames) - 1), x)
        products = (g * x.detach()).sum(1).float()
        expected = recognizer.preprocessing.to_frame(products, (SIDE, SIDE)).mean(0)
        np.testing.assert_allclose(outcome.map, expected.numpy(), rtol=1e-4, atol=1e-8)


def test_gradient_times_input_is_registered() -> None:
    method = METHODS["gradient-x-input"]
    assert isinstance(method, FrameGradientMethod)
    assert not method.needs_fill and not method.needs(method.resolve_options({})).budget
    recognizer, frames = smooth(), photos(3)
    (outcome,) = method.function([recognizer], [frames], [], pixels=0, rngs=[], options={})
    np.testing.assert_array_equal(outcome.map, gradient_x_input_maps([recognizer], [frames])[0].map)
    assert gradient_x_input_maps([recognizer], []) == []
    (flat,) = gradient_x_input_maps([recognizer], [frames[:1]])
    assert flat.degenerate and not flat.map.any()
