from __future__ import annotations

from itertools import product
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from facefocus.evaluation.retention import retention
from facefocus.models.occluded_frames import occlude
from facefocus.models.recognizer import TorchRecognizer
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.occlusion.gap_fills import neighbor_means
from facefocus.occlusion.masks import top_pixels
from facefocus.saliency.explainer import Hide
from facefocus.saliency.learned_mask import (
    Learning,
    Loss,
    Pulls,
    Start,
    compressed,
    draw_moves,
    learn_mask,
    learn_masks,
    realigned,
    soft_mask,
    spread,
    through_soft_mask,
)
from facefocus.saliency.mated_gradients import directions_of
from facefocus.saliency.methods import METHODS
from facefocus.saliency.occlusion_gradient import occlusion_gradient_map
from facefocus.saliency.soft_fills import sees_mask, soft_gap_fill, surrogate_of
from tests.saliency.test_occlusion_gradient import by_hand, photos, red, shown, smooth
from tests.small import tiny_recognizer

FEW = Learning(steps=4)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def filler(fill: str, frames: np.ndarray) -> Hide:
    return hider(fill, frames, [fill_rng(0, str(number)) for number in range(len(frames))])


def hidden_by(made: np.ndarray, pixels: int) -> set[int]:
    return {int(pixel) for pixel in np.flatnonzero(made.ravel() > made.size - pixels)}


# What is learned ----------------------------------------------------------------------------------


def test_it_finds_the_mask_that_is_best_by_hand() -> None:
    # The embedding is (sum w_p x_p, 1000); both photos are 200 everywhere. Hiding pixels by 0 takes
    # w_p 200 from the first number, and the cosine to the other photo, which is clean, falls the
    # more the larger their sum of w: the best mask has the largest weights.
    weights = torch.tensor([3.0, 7.0, 1.0, 9.0, 4.0, 8.0, 2.0, 5.0])
    recognizer = by_hand(
        lambda x: torch.stack([(x * weights).sum(1), torch.full((len(x),), 1000.0)], 1), 8
    )
    frames = red([200] * 8, [199] * 8)
    for pixels, best in ((1, {3}), (3, {1, 3, 5}), (5, {1, 3, 4, 5, 7})):
        made = learn_mask(
            [recognizer],
            frames,
            shown(frames, np.zeros_like(frames)),
            pixels=pixels,
            rng=rng(),
            learning=Learning(steps=5),
        )
        assert hidden_by(made.map, pixels) == best
        assert sorted(made.map.ravel()) == list(range(1, 9))


def test_it_leaves_a_first_guess_that_is_wrong() -> None:
    # e = (k, 4 x3, 4 x4) with k = x0 x1 / 25 + x2: the cosine grows with k. Hiding one of the
    # first two by 0 takes the whole product; each seems to be worth 392 or more, pixel 2 only 90.
    def embed(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] * x[:, 1] / 25 + x[:, 2], 4 * x[:, 3], 4 * x[:, 4]], 1)

    recognizer = by_hand(embed, 5)
    frames = red([100, 98, 90, 100, 1], [100, 99, 90, 1, 100])
    hide = shown(frames, np.zeros_like(frames))
    first = occlusion_gradient_map([recognizer], frames, hide, steps=1, pixels=2, rng=rng())
    assert set(np.argsort(-first.map.ravel())[:2]) == {0, 1}
    made = learn_mask([recognizer], frames, hide, pixels=2, rng=rng())
    assert hidden_by(made.map, 2) in ({0, 2}, {1, 2})


@pytest.mark.parametrize("fill", ["black", "inpaint"])
def test_it_hides_better_than_its_first_guess(fill: str) -> None:
    recognizer, frames = smooth(), photos(4, seed=1)
    hide = filler(fill, frames)

    def left(made: np.ndarray) -> float:
        units = [recognizer.embed(x) for x in (hide(top_pixels(made, 24, rng())), frames)]
        first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in units)
        cosines = first @ second.T
        return float((cosines.sum() - np.trace(cosines)) / 12)

    lefts = [
        left(learn_mask([recognizer], frames, hide, pixels=24, rng=rng(), learning=learning).map)
        for learning in (Learning(steps=1), Learning(steps=15))
    ]
    assert lefts[1] < lefts[0] - 0.01


def test_a_person_is_learned_alone_whatever_the_others() -> None:
    recognizers = [tiny_recognizer(seed=0), tiny_recognizer(seed=1)]
    people = [photos(count, seed=count, side=32) for count in (2, 9, 7)]
    learning = Learning(steps=3, jitter="align-jpeg", left_out=2)

    def made(chosen: list[int]) -> list[np.ndarray]:
        maps = learn_masks(
            recognizers,
            [people[number] for number in chosen],
            [filler("mean", people[number]) for number in chosen],
            pixels=50,
            rngs=[rng(number) for number in chosen],
            learning=learning,
        )
        return [learned.map for learned in maps]

    together, alone = made([0, 1, 2]), [made([number])[0] for number in (2, 0, 1)]
    for number, own in zip((2, 0, 1), alone, strict=True):
        np.testing.assert_array_equal(together[number], own)


def test_photos_left_out_choose_the_step_and_teach_nothing() -> None:
    recognizer, frames = smooth(), photos(3, seed=3)
    plain, noise = filler("black", frames), photos(1, seed=9)[0]
    tried: list[list[np.ndarray]] = [[], []]

    def recorded(number: int) -> Hide:
        def hide(masks: np.ndarray) -> np.ndarray:
            tried[number].append(masks)
            hidden = plain(masks)
            if number:
                hidden[2] = noise  # whatever becomes of the photo that is left out
            return hidden

        return hide

    learning = Learning(steps=8, left_out=3)
    made = [
        learn_mask([recognizer], frames, recorded(number), pixels=20, rng=rng(), learning=learning)
        for number in (0, 1)
    ]
    np.testing.assert_array_equal(np.array(tried[0]), np.array(tried[1]))
    masks = tried[0][-8:]
    cosines = similarities(
        recognizer,
        torch.from_numpy(np.stack([plain(mask)[2] for mask in masks])),
        torch.from_numpy(frames),
    )
    best = masks[int(np.argmin(cosines))]
    np.testing.assert_array_equal(made[0].map > 256 - 20, best)
    # Where all steps do the same to it, the first one is kept.
    np.testing.assert_array_equal(made[1].map > 256 - 20, masks[0])


def similarities(recognizer: TorchRecognizer, hidden: Tensor, clean: Tensor) -> np.ndarray:
    """Mean cosine of hidden copies of the last photo to the other clean photos."""
    units = []
    for frames in (hidden, clean):
        embeddings = recognizer.module(recognizer.preprocessing(frames).double()).detach()
        units.append(embeddings / embeddings.norm(dim=1, keepdim=True))
    cosines: np.ndarray = (units[0] @ units[1][:-1].T).mean(dim=1).numpy()
    return cosines


def test_several_sources_are_lowered_together() -> None:
    # One knows only pixel 0, the other only pixel 1; hiding two of four hides from both.
    def knows(pixel: int) -> object:
        return lambda x: torch.stack([x[:, pixel] + 0.001 * x.sum(1), x[:, 3] * 0 + 50], 1)

    frames = red([90, 80, 70, 60], [91, 82, 73, 64])
    hide = shown(frames, np.zeros_like(frames))
    for sources, best in (([0], 0), ([1], 1)):
        recognizers = [by_hand(knows(pixel), 4) for pixel in sources]
        assert hidden_by(
            learn_mask(recognizers, frames, hide, pixels=1, rng=rng(), learning=FEW).map, 1
        ) == {best}
    both = [by_hand(knows(pixel), 4) for pixel in (0, 1)]
    assert hidden_by(learn_mask(both, frames, hide, pixels=2, rng=rng(), learning=FEW).map, 2) == {
        0,
        1,
    }


def test_one_photo_and_copies_of_one_have_no_map() -> None:
    recognizer = smooth()
    copies = np.repeat(photos(1), 3, axis=0)
    for frames in (photos(1), copies):
        made = learn_mask(
            [recognizer], frames, filler("black", frames), pixels=9, rng=rng(), learning=FEW
        )
        assert made.degenerate and not made.map.any()


@pytest.mark.parametrize("pixels", [0, 256])
def test_nothing_and_everything_can_be_hidden(pixels: int) -> None:
    frames = photos(2)
    made = learn_mask(
        [smooth()], frames, filler("black", frames), pixels=pixels, rng=rng(), learning=FEW
    )
    assert not made.degenerate and sorted(made.map.ravel()) == list(range(1, 257))


def test_a_coarse_grid_makes_smooth_masks() -> None:
    frames = photos(3, seed=5)
    learning = Learning(steps=3, grid=2)
    made = learn_mask(
        [smooth()], frames, filler("black", frames), pixels=64, rng=rng(), learning=learning
    )
    mask = made.map > 256 - 64
    # A plane that is cut: every row and column of the mask is one piece.
    for lines in (mask, mask.T):
        assert (np.count_nonzero(np.diff(lines.astype(int), axis=1), axis=1) <= 2).all()


def test_cells_are_hidden_whole_but_for_the_last() -> None:
    frames = photos(3, seed=6)
    learning = Learning(steps=3, cells=4)
    tried: list[np.ndarray] = []
    plain = filler("black", frames)

    def recorded(masks: np.ndarray) -> np.ndarray:
        tried.append(masks)
        return plain(masks)

    made = learn_mask([smooth()], frames, recorded, pixels=3 * 16 + 5, rng=rng(), learning=learning)
    for mask in (*tried[-3:], made.map > 256 - 53):
        counts = mask.reshape(4, 4, 4, 4).sum(axis=(1, 3))
        assert sorted(counts.ravel())[-5:] == [0, 5, 16, 16, 16]


def test_what_is_refused() -> None:
    frames = photos(2)
    hide = filler("black", frames)
    for learning, text in (
        (Learning(steps=0), "steps must be at least 1"),
        (Learning(grid=-1), "grid must be at least 0"),
        (Learning(left_out=1), "every photo would be left out"),
    ):
        with pytest.raises(ValueError, match=text):
            learn_mask([smooth()], frames, hide, pixels=9, rng=rng(), learning=learning)
    with pytest.raises(ValueError, match=r"must be in 0\.\.256"):
        learn_mask([smooth()], frames, hide, pixels=257, rng=rng())
    assert learn_masks([], [], [], pixels=1, rngs=[]) == []


def test_the_method() -> None:
    method = METHODS["learned-mask"]
    options = method.resolve_options({})
    assert options == {
        "steps": "40", "grid": "0", "cells": "0", "jitter": "none", "left_out": "0",
        "loss": "mean", "start": "gradient",
    }  # fmt: skip
    needs = method.needs(method.resolve_options({"steps": "1"}))
    assert needs.budget and needs.fill and needs.seed and needs.sources == "several"


# The soft mask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("pixels", [1, 7, 29])
def test_the_soft_mask_has_its_area_and_its_gradient(temperature: float, pixels: int) -> None:
    theta, effects = rng(1).normal(size=(5, 6)), rng(2).normal(size=(5, 6))
    soft = soft_mask(theta, pixels, temperature)
    assert soft.sum() == pytest.approx(pixels)
    np.testing.assert_array_equal(np.argsort(soft, axis=None), np.argsort(theta, axis=None))
    slopes = through_soft_mask(effects, soft, temperature)
    step = 1e-5
    for pixel in np.ndindex(5, 6):
        sides = []
        for sign in (1, -1):
            moved = theta.copy()
            moved[pixel] += sign * step
            sides.append(float((effects * soft_mask(moved, pixels, temperature)).sum()))
        np.testing.assert_allclose(
            slopes[pixel], (sides[0] - sides[1]) / (2 * step), rtol=1e-4, atol=1e-7
        )


def test_spread_is_bilinear() -> None:
    np.testing.assert_array_equal(spread(7, 0), np.eye(7))
    wanted = cv2.resize(rng().random((3, 3)), (9, 9), interpolation=cv2.INTER_LINEAR)
    enlarged = spread(9, 3) @ rng().random((3, 3)) @ spread(9, 3).T
    np.testing.assert_allclose(enlarged, wanted, atol=1e-12)


# Jitter -------------------------------------------------------------------------------------------


def test_realigned_is_what_opencv_makes() -> None:
    frame = cv2.GaussianBlur(photos(1, side=48)[0], (0, 0), 2).astype(np.float32)[:, :40]
    move = np.array([[0.05, -0.03, 0.03, np.deg2rad(4)]])
    moved = realigned(torch.from_numpy(frame[None]), move)[0].numpy()
    # OpenCV turns counterclockwise.
    matrix = cv2.getRotationMatrix2D((19.5, 23.5), -4, 1.03)
    matrix[:, 2] += np.array([-0.03 * 40, 0.05 * 48])
    wanted = cv2.warpAffine(frame, matrix, (40, 48), borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(moved - wanted).max() < 1.0  # OpenCV rounds places to 1/32 of a pixel
    assert np.abs(frame - wanted).max() > 10


def test_moves_are_within_their_bounds() -> None:
    moves = np.abs(draw_moves(2000, rng()))
    assert (moves.max(axis=0) * [112, 112, 100, 180 / np.pi] <= [3, 3, 3, 4]).all()
    assert (moves.mean(axis=0) * [112, 112, 100, 180 / np.pi] > [1.4, 1.4, 1.4, 1.8]).all()


def test_compression_keeps_a_flat_frame_and_changes_noise() -> None:
    flat, noise = np.full((1, 16, 16, 3), 77.0), photos(1).astype(np.float64)
    assert np.abs(compressed(flat, np.array([50])) - 77).max() <= 1
    assert np.abs(compressed(noise, np.array([50])) - noise).mean() > 5


# Fills --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["black", "mean", "random", "blur"])
def test_content_fills_do_not_see_the_mask(fill: str) -> None:
    frames = photos(2)
    assert not sees_mask(filler(fill, frames), (16, 16))
    gradients = rng(4).normal(size=frames.shape)
    content = filler(fill, frames)(np.ones((16, 16), bool)).astype(float)
    wanted = (gradients * (content - frames)).sum(axis=(0, 3))
    effects = surrogate_of(filler(fill, frames), frames)(gradients, np.full((16, 16), 0.3))
    np.testing.assert_allclose(effects, wanted)


@pytest.mark.parametrize("fill", ["inpaint", "linear"])
def test_a_soft_gap_fill_has_the_gradient_of_itself(fill: str) -> None:
    frames = photos(2, side=12)
    assert sees_mask(filler(fill, frames), (12, 12))
    gradients, soft = rng(4).normal(size=frames.shape), rng(5).uniform(0.05, 0.95, (12, 12))
    effects = surrogate_of(filler(fill, frames), frames)(gradients, soft)
    images = torch.from_numpy(frames).double().permute(0, 3, 1, 2)
    along = torch.from_numpy(gradients).permute(0, 3, 1, 2)

    def total(at: np.ndarray) -> float:
        return float((soft_gap_fill(images, torch.from_numpy(at)) * along).sum())

    for pixel in [(0, 0), (5, 7), (11, 3), (6, 6)]:
        sides = []
        for sign in (1, -1):
            moved = soft.copy()
            moved[pixel] += sign * 1e-5
            sides.append(total(moved))
        np.testing.assert_allclose(
            effects[pixel], (sides[0] - sides[1]) / 2e-5, rtol=1e-4, atol=1e-3
        )


def test_a_hard_gap_is_filled_as_by_the_linear_fill() -> None:
    frames, mask = photos(2, side=20), np.zeros((20, 20), bool)
    mask[4:13, 6:15] = mask[0:3, 0:4] = True
    images = torch.from_numpy(frames).double().permute(0, 3, 1, 2)
    soft = torch.from_numpy(mask.astype(np.float64))
    wanted = neighbor_means(frames, mask)
    for sweeps, most in ((20, 8.0), (2000, 1e-6)):
        filled = soft_gap_fill(images, soft, sweeps).permute(0, 2, 3, 1).numpy()
        assert np.abs(filled[:, mask] - wanted).max() < most
        np.testing.assert_array_equal(filled[:, ~mask], frames[:, ~mask])


def test_nothing_hidden_tells() -> None:
    frames, mask = photos(2, side=16), np.zeros((16, 16), bool)
    mask[3:12, 3:14] = True
    others = occlude(frames, mask, 255 - frames)
    soft = torch.from_numpy(mask.astype(np.float64))
    first, second = (
        soft_gap_fill(torch.from_numpy(given).double().permute(0, 3, 1, 2), soft)
        for given in (frames, others)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", ["nearest", "count"])
def test_other_losses_pull_as_their_gradient_does(loss: Loss) -> None:
    e = torch.from_numpy(rng(1).standard_normal((3, 6)))
    units = e / e.norm(dim=1, keepdim=True)
    hidden = torch.from_numpy(rng(2).standard_normal((1, 6))).requires_grad_()
    cosines = units[[0, 2]] @ (hidden[0] / hidden[0].norm())
    written = {
        "nearest": 0.05 * torch.logsumexp(cosines / 0.05, dim=0),
        "count": torch.sigmoid((cosines - 0.25) / 0.05).mean(),
    }[loss]
    (wanted,) = torch.autograd.grad(written, hidden)
    # The hidden photo is the second one: it is not compared with itself.
    pulls = Pulls(loss, [units], own=True).of(hidden.detach(), [(0, 1)])
    directions = directions_of(hidden.detach(), pulls)
    torch.testing.assert_close(directions, wanted)
    # With mates of its own it is compared with all of them.
    every = units @ (hidden[0] / hidden[0].norm())
    weights = torch.softmax(every.detach() / 0.05, dim=0)
    if loss == "nearest":
        of_mates = Pulls(loss, [units], own=False).of(hidden.detach(), [(0, 1)])
        torch.testing.assert_close(of_mates[0], (weights[:, None] * units).sum(dim=0))


def test_a_start_from_noise_and_other_losses_hide_too() -> None:
    recognizer, frames = smooth(), photos(4, 16)
    hide, pixels = filler("black", frames), 40
    clean = recognizer.embed(frames)

    def left(learning: Learning) -> float:
        made = learn_mask([recognizer], frames, hide, pixels=pixels, rng=rng(), learning=learning)
        hidden = recognizer.embed(hide(top_pixels(made.map, pixels, rng())))
        return retention(clean, hidden, 0.5).cosine

    first = left(Learning(steps=1, start="random"))
    for start, loss in product(get_args(Start), get_args(Loss)):
        assert left(Learning(steps=15, start=start, loss=loss)) < first
