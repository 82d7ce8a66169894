"""A mask learned by gradient descent on what hiding does (Protocol: learned-mask).

One number theta for each pixel, or for each point of a coarser grid, orders the pixels for all
photos and all recognizers. Every step hides exactly the k largest by the real fill, takes the
gradient of the mean mated cosine there, and moves theta through a soft mask of the same area.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
import scipy
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int, UInt8
from torch import Tensor

from facefocus.core.progress import Progress, silent
from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Hide, Options
from facefocus.saliency.mated_gradients import (
    ImageIndex,
    as_map,
    chunks_of,
    counter,
    directions_of,
    inputs_of,
    is_ranking,
    made_of_images,
    means_of_others,
    units_of,
)
from facefocus.saliency.methods import METHODS, Choice, FrameGradientMethod, OcclusionMap, Whole
from facefocus.saliency.soft_fills import surrogate_of

Jitter = Literal["none", "align", "align-jpeg"]

#: Temperature of the soft mask in the first and in the last step.
HOT, COLD = 1.0, 0.1
#: What a mask is to lower, of a hidden photo's cosines to the person's other photos: their mean,
#: which is that to the template as well; the largest; or how many match.
Loss = Literal["mean", "nearest", "count"]
#: What theta begins with.
Start = Literal["gradient", "random"]

#: Width of the soft largest cosine and of the soft count, and the cosine from which a pair counts
#: as a match: maps are made before the threshold of a run is known.
WIDTH, MATCH = 0.05, 0.25
#: Adam's step; theta begins with a standard deviation of 1.
RATE = 0.2
#: A new alignment: shifts as a share of the side (3 of 112 px), scale, turn in degrees, up to.
SHIFT, SCALE, TURN = 3 / 112, 0.03, 4.0
#: Qualities of JPEG, lowest and highest.
QUALITY = (50, 95)


@dataclass(frozen=True)
class Learning:
    """How a mask is learned.

    Attributes:
        steps: Steps of Adam.
        grid: Points of theta along each side, with bilinear values between them; 0: every pixel.
        cells: Cells along each side, all pixels of a cell with one theta; 0: as `grid` says.
        jitter: What befalls hidden photos before they are embedded: nothing, a new alignment
            (drawn for each photo and step), or JPEG besides.
        left_out: With n, every n-th photo is left out of the loss, and the mask of the step that
            hides these photos best is kept; 0 for none, and the mask of the last step.
        loss: What is lowered.
        start: What theta begins with: what hiding each pixel does to first order, or noise.
    """

    steps: int = 40
    grid: int = 0
    cells: int = 0
    jitter: Jitter = "none"
    left_out: int = 0
    loss: Loss = "mean"
    start: Start = "gradient"


def learn_mask(
    recognizers: Sequence[WhiteBox],
    frames: UInt8[np.ndarray, "m h w 3"],
    hide: Hide,
    *,
    pixels: int,
    rng: np.random.Generator,
    learning: Learning = Learning(),
) -> OcclusionMap:
    """The map of one person, whose `pixels` largest values are the mask; see `learn_masks`.

    Example:
        >>> from facefocus.models.zoo import load
        >>> from facefocus.occlusion.fills import fill_rng, hider
        >>> rng = np.random.default_rng(0)
        >>> photos = rng.integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
        >>> hide = hider("black", photos, [fill_rng(0, str(number)) for number in range(3)])
        >>> few = Learning(steps=2)
        >>> source = load("iresnet-mini-eyes")
        >>> made = learn_mask([source], photos, hide, pixels=125, rng=rng, learning=few)
        >>> int((made.map > 112 * 112 - 125).sum())
        125
    """
    (made,) = learn_masks(
        recognizers, [frames], [hide], pixels=pixels, rngs=[rng], learning=learning
    )
    return made


def learn_masks(
    recognizers: Sequence[WhiteBox],
    people: Sequence[UInt8[np.ndarray, "_ h w 3"]],
    hiders: Sequence[Hide],
    *,
    pixels: int,
    rngs: Sequence[np.random.Generator],
    learning: Learning = Learning(),
    progress: Progress = silent,
    mates: Sequence[np.ndarray] | None = None,
) -> list[OcclusionMap]:
    """Maps whose `pixels` largest values lower people's mean mated similarity most.

    What is lowered is the mean, over a person's photos and over `recognizers`, of the cosine of
    the hidden photo to the mean of the person's other clean embeddings (each of length 1); with
    another `learning.loss`, its soft largest cosine to one of them, or how many match. Theta begins
    with what hiding each pixel does on the clean photos, to first order. The map holds
    ranks, H * W down to 1. It is degenerate where that first gradient orders no pixels: for one
    photo, or copies of one.

    A person's map does not depend on the other people, their order or the number of threads.

    Args:
        recognizers: The sources.
        people: All frames of each person, RGB.
        hiders: What hides masks on each person's frames by the fill. One that sees the mask is
            differentiated through `soft_fills`; every step tries its mask under the true fill.
        pixels: How many pixels will be hidden.
        rngs: One generator per person, for ties and jitter.
        learning: Steps, grid, jitter and photos that are left out.
        progress: Called per backward pass, each for one batch of images.
        mates: What each person's images are compared with; without, their other images.

    Raises:
        ValueError: More `pixels` than the frame has, or a number of `learning` out of range.
    """
    _check(people, pixels, learning)
    if not people:
        return []
    units = [units_of(recognizer, people if mates is None else mates) for recognizer in recognizers]
    references = [means_of_others(own, people, mates) for own in units]
    pulls = [
        None if learning.loss == "mean" else Pulls(learning.loss, own, mates is None)
        for own in units
    ]
    learners = [
        _Learner(frames, hide, pixels, rng, learning)
        for frames, hide, rng in zip(people, hiders, rngs, strict=True)
    ]
    rounds = sum(len(chunks_of(recognizer, people)) for recognizer in recognizers)
    tick = counter(progress, (learning.steps + 1) * rounds)
    for step in range(learning.steps + 1):
        hidden = [learner.hidden() for learner in learners]
        jitters = [learner.jitter(step) for learner in learners]
        by_recognizer = [
            _gradients(recognizer, hidden, own, pull, jitters, tick)
            for recognizer, own, pull in zip(recognizers, references, pulls, strict=True)
        ]
        for person, learner in enumerate(learners):
            own = [source[person] for source in by_recognizer]
            gradients, cosines = (np.mean(part, axis=0) for part in zip(*own, strict=True))
            learner.take(gradients, cosines, step)
    return [learner.result() for learner in learners]


class _Learner:
    """What is learned of one person, step by step."""

    def __init__(
        self,
        frames: np.ndarray,
        hide: Hide,
        pixels: int,
        rng: np.random.Generator,
        learning: Learning,
    ) -> None:
        self._frames, self._hide, self._pixels = frames, hide, pixels
        self._rng, self._learning = rng, learning
        self._shape = (frames.shape[1], frames.shape[2])
        self._ties = rng.permutation(self._shape[0] * self._shape[1])
        self._surrogate = surrogate_of(hide, frames)
        self._teaches = np.ones(len(frames), dtype=bool)
        if learning.left_out:
            self._teaches[learning.left_out - 1 :: learning.left_out] = False
        self._spread = [
            blocks(side, learning.cells) if learning.cells else spread(side, learning.grid)
            for side in self._shape
        ]
        self._theta: Tensor | None = None
        self._best: tuple[float, Tensor] | None = None

    def hidden(self) -> UInt8[np.ndarray, "m h w 3"]:
        """The photos under the mask of now: none before the first gradient."""
        if self._theta is None:
            return self._frames
        mask = np.zeros(self._ties.size, dtype=bool)
        mask[self._order(self._theta)[: self._pixels]] = True
        return self._hide(mask.reshape(self._shape))

    def jitter(self, step: int) -> _Jitter:
        """What befalls the photos in a step: nothing in the first, which hides nothing."""
        kind, count = self._learning.jitter, len(self._frames)
        if kind == "none" or step == 0:
            return None, None
        moves = draw_moves(count, self._rng)
        if kind == "align":
            return moves, None
        return moves, self._rng.integers(QUALITY[0], QUALITY[1] + 1, count)

    def take(
        self,
        gradients: Float32[np.ndarray, "m h w 3"],
        cosines: Float64[np.ndarray, " m"],
        step: int,
    ) -> None:
        """Learn from the gradient of each photo's cosine at the mask of now."""
        gradients[~self._teaches] = 0
        if self._theta is None:
            self._begin(gradients)
            return
        if not self._teaches.all():
            judged = float(cosines[~self._teaches].mean())
            if self._best is None or judged < self._best[0]:
                self._best = judged, self._theta.clone()
        if step == self._learning.steps or not 0 < self._pixels < self._ties.size:
            return
        temperature = HOT * (COLD / HOT) ** ((step - 1) / max(self._learning.steps - 1, 1))
        soft = soft_mask(self._values(self._theta), self._pixels, temperature)
        slopes = through_soft_mask(self._surrogate(gradients, soft), soft, temperature)
        # A step whose gradient says nothing changes nothing.
        if is_ranking(slopes):
            rows, columns = self._spread
            self._theta.grad = torch.from_numpy(rows.T @ slopes @ columns)
            self._adam.step()

    def _begin(self, gradients: np.ndarray) -> None:
        rows, columns = self._spread
        even = np.full(self._shape, self._pixels / self._ties.size)
        effects = -self._surrogate(gradients, even)
        start = rows.T @ effects @ columns
        if is_ranking(start):
            if self._learning.start == "random":
                start = self._rng.standard_normal(start.shape)
            self._theta = torch.from_numpy((start - start.mean()) / start.std())
            self._adam = torch.optim.Adam([self._theta], lr=RATE)

    def _values(self, theta: Tensor) -> Float64[np.ndarray, "h w"]:
        rows, columns = self._spread
        values: np.ndarray = rows @ theta.numpy() @ columns.T
        return values

    def _order(self, theta: Tensor) -> np.ndarray:
        """Flat pixels, those hidden first in front, ties at random."""
        values = self._values(theta).ravel()[self._ties]
        return self._ties[np.argsort(-values, kind="stable")]

    def result(self) -> OcclusionMap:
        """Ranks: those of the best step on photos left out, or of the last step."""
        if self._theta is None:
            return as_map(None, self._shape)
        order = self._order(self._theta if self._best is None else self._best[1])
        ranks = np.empty(order.size)
        ranks[order] = np.arange(order.size, 0, -1)
        return as_map(ranks, self._shape)


# The soft mask ------------------------------------------------------------------------------------


def soft_mask(
    theta: Float[np.ndarray, "h w"], pixels: int, temperature: float
) -> Float64[np.ndarray, "h w"]:
    """sigmoid((theta - b) / T), b such that the sum is `pixels`.

    Raises:
        ValueError: `pixels` is not between 0 and the number of values.

    Example:
        >>> soft_mask(np.array([[0.0, 2.0]]), 1, 1.0).round(4)
        array([[0.2689, 0.7311]])
    """
    if not 0 < pixels < theta.size:
        raise ValueError(f"A soft mask needs pixels between 0 and {theta.size}. Got {pixels}.")
    # Each value alone would need b = theta - T logit(share): the common b lies in between.
    offset = temperature * math.log(pixels / (theta.size - pixels))
    least, most = theta.min() - offset, theta.max() - offset
    if least == most:
        return np.full(theta.shape, pixels / theta.size)
    b = scipy.optimize.brentq(
        lambda b: scipy.special.expit((theta - b) / temperature).sum() - pixels, least, most
    )
    soft: np.ndarray = scipy.special.expit((theta - b) / temperature)
    return soft


def through_soft_mask(
    effects: Float[np.ndarray, "h w"], soft: Float[np.ndarray, "h w"], temperature: float
) -> Float64[np.ndarray, "h w"]:
    """The gradient with respect to theta of what has gradient `effects` at the soft mask.

    b moves with theta, so that the sum stays: d s_p / d theta_q = r_p (1[p = q] - r_q / sum r)
    with r = s (1 - s) / T.

    Example:
        >>> soft = soft_mask(np.array([[0.0, 2.0]]), 1, 1.0)
        >>> through_soft_mask(np.array([[1.0, 0.0]]), soft, 1.0).round(4)
        array([[ 0.0983, -0.0983]])
    """
    rates = soft * (1 - soft) / temperature
    total = rates.sum()
    # All 0 or 1 to the last bit: nothing moves.
    mean = (rates * effects).sum() / total if total > 0 else 0.0
    slopes: np.ndarray = rates * (effects - mean)
    return slopes


def spread(side: int, points: int) -> Float64[np.ndarray, "side points"]:
    """Weights of some points along a side in each pixel, bilinear, corners not aligned.

    Args:
        side: Pixels.
        points: Points; 0 for one in each pixel.

    Example:
        >>> spread(4, 2).tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    each = torch.eye(points or side, dtype=torch.float64)[None]
    weights = F.interpolate(each, side, mode="linear", align_corners=False)
    by_pixel: np.ndarray = weights[0].T.numpy().copy()
    return by_pixel


def blocks(side: int, count: int) -> Float64[np.ndarray, "side count"]:
    """Which of `count` blocks of equal width along a side each pixel is in: 1 there, 0 elsewhere.

    Example:
        >>> blocks(4, 2).tolist()
        [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    membership: np.ndarray = np.eye(count)[np.arange(side) * count // side]
    return membership


# Jitter -------------------------------------------------------------------------------------------

#: Of each photo of a person: down, right, scale, turn [m, 4], and the quality of JPEG [m].
_Jitter = tuple[np.ndarray | None, np.ndarray | None]


def draw_moves(count: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 4"]:
    """New alignments, uniform: down, right (shares of the side), scale - 1, turn in radians."""
    most = [SHIFT, SHIFT, SCALE, math.radians(TURN)]
    moves: np.ndarray = rng.uniform(-1, 1, (count, 4)) * most
    return moves


def realigned(
    frames: Float[Tensor, "n h w 3"], moves: Float[np.ndarray, "n 4"]
) -> Float[Tensor, "n h w 3"]:
    """Frames moved, scaled and turned about their center; bilinear, edges repeated; differentiable.

    Args:
        frames: Any values.
        moves: Of each: how far its content goes down and right as shares of the sides, by how
            much it grows, and by how many radians it turns clockwise.

    Example:
        >>> frame = torch.zeros(1, 2, 2, 3)
        >>> frame[0, 0, 0] = 7
        >>> realigned(frame, np.array([[0.0, 0.5, 0.0, 0.0]]))[0, 0, :, 0].tolist()
        [7.0, 7.0]
    """
    count, height, width, channels = frames.shape
    down, right, grown, turn = np.asarray(moves, dtype=np.float64).T
    cosine, sine = np.cos(turn) / (1 + grown), np.sin(turn) / (1 + grown)
    # Where each pixel comes from, in coordinates that run from -1 to 1 on both axes.
    across, along = sine * height / width, sine * width / height
    matrices = np.stack(
        [
            np.stack([cosine, across, -2 * (cosine * right + across * down)], axis=1),
            np.stack([-along, cosine, -2 * (cosine * down - along * right)], axis=1),
        ],
        axis=1,
    )
    size = [count, channels, height, width]
    grid = F.affine_grid(torch.from_numpy(matrices).to(frames), size, align_corners=False)
    moved = F.grid_sample(
        frames.permute(0, 3, 1, 2),
        grid,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return moved.permute(0, 2, 3, 1)


def compressed(
    frames: Float[np.ndarray, "n h w 3"], qualities: Int[np.ndarray, " n"]
) -> Float32[np.ndarray, "n h w 3"]:
    """RGB frames after JPEG at a quality each."""
    made = []
    for frame, quality in zip(frames, qualities, strict=True):
        pixels = np.clip(np.rint(frame), 0, 255).astype(np.uint8)[..., ::-1]
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        made.append(decoded[..., ::-1])
    return np.stack(made).astype(np.float32)


# Gradients ----------------------------------------------------------------------------------------


class Pulls:
    """Toward what the gradient of a loss pulls a photo's unit embedding.

    Attributes are those of its loss: of cosines c_j to the other photos r_j the pull is
    sum_j w_j r_j, with w_j the derivative of the loss by c_j.
    """

    def __init__(self, loss: Loss, units: Sequence[Tensor], own: bool) -> None:
        self._loss, self._units, self._own = loss, units, own

    def of(self, embeddings: Float[Tensor, "n d"], images: Sequence[ImageIndex]) -> Tensor:
        """The pull [n, d] on each image; a photo is never compared with itself."""
        pulls = []
        for e, (person, image) in zip(embeddings, images, strict=True):
            others = self._units[person]
            if self._own:
                others = torch.cat([others[:image], others[image + 1 :]])
            cosines = (others * (e / torch.linalg.vector_norm(e))).sum(dim=1)
            if self._loss == "nearest":
                weights = torch.softmax(cosines / WIDTH, dim=0)
            else:
                matched = torch.sigmoid((cosines - MATCH) / WIDTH)
                weights = matched * (1 - matched) / WIDTH / max(len(others), 1)
            pulls.append((weights[:, None] * others).sum(dim=0))
        return torch.stack(pulls)


def _gradients(
    recognizer: WhiteBox,
    hidden: Sequence[UInt8[np.ndarray, "_ h w 3"]],
    references: Sequence[Tensor],
    pulls: Pulls | None,
    jitters: Sequence[_Jitter],
    tick: Callable[[], None],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each person, the gradient of each photo's loss, and the cosine to its reference."""
    by_person = [(np.zeros(frames.shape, np.float32), np.zeros(len(frames))) for frames in hidden]

    def make(
        frames: np.ndarray, own: Tensor, images: Sequence[ImageIndex]
    ) -> list[tuple[np.ndarray, float]]:
        pixels = torch.from_numpy(frames).float().requires_grad_()
        seen = _jittered(pixels, jitters, images)
        embeddings = recognizer.module(inputs_of(recognizer, seen.to(own.device)))
        wide = embeddings.detach().double()
        toward = own if pulls is None else pulls.of(wide, images)
        directions = directions_of(wide, toward).to(embeddings)
        (gradients,) = torch.autograd.grad(embeddings, pixels, directions)
        cosines = (wide * own).sum(dim=1) / torch.linalg.vector_norm(wide, dim=1)
        return list(zip(gradients.numpy(), cosines.tolist(), strict=True))

    for (person, image), (gradient, cosine) in made_of_images(
        recognizer, hidden, references, make, tick
    ):
        by_person[person][0][image] = gradient
        by_person[person][1][image] = cosine
    return by_person


def _jittered(pixels: Tensor, jitters: Sequence[_Jitter], images: Sequence[ImageIndex]) -> Tensor:
    """Frames as they are embedded; the gradient of JPEG is taken to be 1."""
    moves = _at([own for own, _ in jitters], images)
    qualities = _at([own for _, own in jitters], images)
    if not moves:
        return pixels
    seen = realigned(pixels, np.stack(moves))
    if not qualities:
        return seen
    plain = seen.detach()
    return seen + (torch.from_numpy(compressed(plain.numpy(), np.array(qualities))) - plain)


def _at(drawn: Sequence[np.ndarray | None], images: Sequence[ImageIndex]) -> list[Any]:
    """What was drawn for each image; nothing where nothing was."""
    of_images = [(drawn[person], image) for person, image in images]
    return [own[image] for own, image in of_images if own is not None]


def _check(people: Sequence[np.ndarray], pixels: int, learning: Learning) -> None:
    for frames in people:
        limit = frames.shape[1] * frames.shape[2]
        if not 0 <= pixels <= limit:
            raise ValueError(f"The pixels to hide must be in 0..{limit}. Got {pixels}.")
    for name, least in (("steps", 1), ("grid", 0), ("cells", 0), ("left_out", 0)):
        value = getattr(learning, name)
        if value < least:
            raise ValueError(f"The {name} must be at least {least}. Got {value}.")
    if learning.left_out == 1:
        raise ValueError("With left_out = 1 every photo would be left out. Use 2 or more, or 0.")


# The method ---------------------------------------------------------------------------------------


def _learned_mask(
    recognizers: Sequence[WhiteBox],
    people: Sequence[np.ndarray],
    hiders: Sequence[Hide],
    *,
    pixels: int,
    rngs: Sequence[np.random.Generator],
    options: Options,
    progress: Progress = silent,
    mates: Sequence[np.ndarray] | None = None,
) -> list[OcclusionMap]:
    learning = Learning(
        steps=int(options["steps"]),
        grid=int(options["grid"]),
        cells=int(options["cells"]),
        jitter=next(kind for kind in get_args(Jitter) if kind == options["jitter"]),
        left_out=int(options["left_out"]),
        loss=next(kind for kind in get_args(Loss) if kind == options["loss"]),
        start=next(kind for kind in get_args(Start) if kind == options["start"]),
    )
    return learn_masks(
        recognizers,
        people,
        hiders,
        pixels=pixels,
        rngs=rngs,
        learning=learning,
        progress=progress,
        mates=mates,
    )


METHODS.add(
    "learned-mask",
    FrameGradientMethod(
        "learned-mask",
        _learned_mask,
        version=1,
        needs_fill=True,
        needs_budget=True,
        options={
            "steps": Whole("40", 1, 10_000),
            "grid": Whole("0", 0, 10_000),
            "cells": Whole("0", 0, 10_000),
            "jitter": Choice("none", get_args(Jitter)),
            "left_out": Choice("0", ("0", "2", "3", "4")),
            "loss": Choice("mean", get_args(Loss)),
            "start": Choice("gradient", get_args(Start)),
        },
        rounds=lambda options, pixels: int(options["steps"]) + 1,
    ),
)
