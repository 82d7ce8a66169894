"""Which pixels to hide, from the gradient of a person's similarity (Protocol: occlusion-gradient).

The maps of the other methods say where a network looks. These say what hiding a pixel does, to
first order, under the very fill that will hide it: the question that occlusion asks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from facefocus.core.progress import Progress, silent
from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Hide, Options
from facefocus.saliency.mated_gradients import (
    ImageIndex,
    ImageMaps,
    as_map,
    chunks_of,
    combined,
    cosine_gradient,
    counter,
    inputs_of,
    is_ranking,
    mean_maps,
    references_of,
)
from facefocus.saliency.methods import METHODS, FrameGradientMethod, OcclusionMap, Whole

__all__ = [
    "OcclusionMap",
    "gradient_x_input_maps",
    "occlusion_gradient_map",
    "occlusion_gradient_maps",
]


def occlusion_gradient_map(
    recognizers: Sequence[WhiteBox],
    frames: UInt8[np.ndarray, "m h w 3"],
    hide: Hide,
    *,
    steps: int,
    pixels: int,
    rng: np.random.Generator,
    block: int = 1,
) -> OcclusionMap:
    """The map of one person; see `occlusion_gradient_maps`."""
    (made,) = occlusion_gradient_maps(
        recognizers, [frames], [hide], steps=steps, pixels=pixels, rngs=[rng], block=block
    )
    return made


def occlusion_gradient_maps(
    recognizers: Sequence[WhiteBox],
    people: Sequence[UInt8[np.ndarray, "_ h w 3"]],
    hiders: Sequence[Hide],
    *,
    steps: int,
    pixels: int,
    rngs: Sequence[np.random.Generator],
    block: int = 1,
    progress: Progress = silent,
    mates: Sequence[np.ndarray] | None = None,
) -> list[OcclusionMap]:
    """How much hiding each pixel lowers a person's mean mated similarity, to first order.

    s_p = mean over images of sum_c g_pc (x_pc - content_pc), with g the gradient of the image's
    mean cosine to all other clean images with respect to its frame in 0-255. Hiding a set of
    pixels changes the mean similarity by minus the sum of their s_p, to first order.

    The frame is divided into square blocks, of one pixel by default; every pixel of a block has
    the mean s_p of the block. Content is what the fill puts in a block where the block and what
    is hidden by now are hidden: under a fill that sees the mask, a block is filled from beyond
    it, and the larger it is the less of it is left.

    With one step the map is s itself, whatever `pixels`. With more, each step hides its share of
    `pixels` and takes the gradient on the occluded frames. The map then holds ranks, H * W down
    to 1: pixels in the order in which they were hidden, then the others by the last gradient. A
    step whose gradient is degenerate goes by the one before.

    A person's map does not depend on the other people, their order or the number of threads.

    Args:
        recognizers: The sources. The maps of several are scaled to unit L2 norm and averaged in
            every step; a degenerate one is left out.
        people: All frames of each person, RGB; a person with a single image has no similarity,
            and so a degenerate map.
        hiders: What hides masks on each person's frames by the fill.
        steps: How often the gradient is taken, at least 1.
        pixels: How many pixels will be hidden.
        rngs: One generator per person, for ties.
        block: Side of a block in pixels.
        progress: Called per backward pass, each for one batch of images.
        mates: What each person's images are compared with; without, their other images.

    Raises:
        ValueError: `steps` or `block` below 1, or more `pixels` than the frame has.
    """
    _check(people, steps, pixels, block)
    if not people:
        return []
    references = [references_of(recognizer, people, mates) for recognizer in recognizers]
    rankings = [
        _Ranking(frames.shape[1] * frames.shape[2], rng)
        for frames, rng in zip(people, rngs, strict=True)
    ]
    occluded = list(people)
    sizes = step_sizes(pixels, steps)
    rounds = sum(len(chunks_of(recognizer, people)) for recognizer in recognizers)
    tick = counter(progress, len(sizes) * rounds)
    for size in sizes:
        contents = [
            content_of_blocks(hide, ranking.hidden(frames.shape[1:3]), block)
            for hide, ranking, frames in zip(hiders, rankings, people, strict=True)
        ]
        effects = [
            mean_maps(recognizer, occluded, own, _effects(recognizer, contents), tick)
            for recognizer, own in zip(recognizers, references, strict=True)
        ]
        for person, ranking in enumerate(rankings):
            scores = combined([maps[person] for maps in effects])
            ranking.take(scores if scores is None else block_means(scores, block), size)
            occluded[person] = hiders[person](ranking.hidden(people[person].shape[1:3]))
    return [
        ranking.result(frames.shape[1:3], as_ranks=steps > 1)
        for ranking, frames in zip(rankings, people, strict=True)
    ]


def content_of_blocks(
    hide: Hide, hidden: Bool[np.ndarray, "h w"], block: int
) -> UInt8[np.ndarray, "m h w 3"]:
    """What a fill puts in each block of a grid where that block and `hidden` are hidden.

    Four times a quarter of the blocks is hidden, none beside another: under a fill that sees the
    mask, each is filled from the pixels around it.

    Args:
        hide: Hides masks on m frames.
        hidden: What is hidden besides.
        block: Side of a block in pixels; those at the right and lower border may be narrower.
    """
    rows, columns = (np.arange(side) // block % 2 for side in hidden.shape)
    content = hide(hidden)
    for row in (0, 1):
        for column in (0, 1):
            quarter = np.logical_and.outer(rows == row, columns == column)
            content[:, quarter] = hide(hidden | quarter)[:, quarter]
    return content


def block_means(values: Float[np.ndarray, "h w"], block: int) -> Float[np.ndarray, "h w"]:
    """The mean of each block of a grid, in all its pixels."""
    if block == 1:
        return values
    starts = [np.arange(0, side, block) for side in values.shape]
    sums = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    sizes = [np.diff(start, append=side) for start, side in zip(starts, values.shape, strict=True)]
    means = sums / np.outer(*sizes)
    spread: np.ndarray = means.repeat(sizes[0], axis=0).repeat(sizes[1], axis=1)
    return spread


def step_sizes(pixels: int, steps: int) -> list[int]:
    """How many pixels each step hides: `pixels` in all, shares that differ by one at most.

    Steps that would hide nothing are left out; one is always left.
    """
    ends = [(2 * pixels * step + steps) // (2 * steps) for step in range(1, steps + 1)]
    sizes = np.diff(ends, prepend=0)
    return [int(size) for size in sizes if size > 0] or [0]


class _Ranking:
    """The order in which a person's pixels are hidden, grown step by step."""

    def __init__(self, pixels: int, rng: np.random.Generator) -> None:
        self._tie_order = rng.permutation(pixels)
        self._free = np.ones(pixels, dtype=bool)
        self._chosen: list[np.ndarray] = []
        self._scores: np.ndarray | None = None
        self._degenerate = False

    def hidden(self, shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        """The pixels taken by now."""
        return ~self._free.reshape(shape)

    def take(self, scores: Float[np.ndarray, "h w"] | None, count: int) -> None:
        """Take the `count` best of the pixels left; none once the person is degenerate."""
        if scores is not None and (self._scores is None or is_ranking(scores.ravel()[self._free])):
            self._scores = scores.ravel()
        self._degenerate |= self._scores is None
        if self._degenerate:
            return
        taken = self._left()[:count]
        self._free[taken] = False
        self._chosen.append(taken)

    def _left(self) -> Int[np.ndarray, " left"]:
        """The pixels left, best first, ties in random order."""
        assert self._scores is not None
        order = self._tie_order[self._free[self._tie_order]]
        return order[np.argsort(-self._scores[order], kind="stable")]

    def result(self, shape: tuple[int, int], *, as_ranks: bool) -> OcclusionMap:
        """The scores of the last step, or ranks."""
        if self._degenerate or not as_ranks:
            return as_map(None if self._degenerate else self._scores, shape)
        order = np.concatenate([*self._chosen, self._left()])
        ranks = np.empty(order.size)
        ranks[order] = np.arange(order.size, 0, -1)
        return as_map(ranks, shape)


# Gradients ----------------------------------------------------------------------------------------


def _effects(recognizer: WhiteBox, contents: Sequence[np.ndarray]) -> ImageMaps:
    """Maps sum_c g_pc (x_pc - content_pc) of images: to first order, what hiding p takes away."""

    def maps(frames: np.ndarray, references: Tensor, images: Sequence[ImageIndex]) -> np.ndarray:
        pixels = torch.from_numpy(frames).to(references.device, torch.float32).requires_grad_()
        gradient = cosine_gradient(recognizer, pixels, inputs_of(recognizer, pixels), references)
        content = np.stack([contents[person][image] for person, image in images])
        hidden = frames.astype(np.float64) - content
        effects: np.ndarray = (gradient.double().cpu().numpy() * hidden).sum(axis=3)
        return effects

    return maps


def _check(people: Sequence[np.ndarray], steps: int, pixels: int, block: int) -> None:
    for frames in people:
        limit = frames.shape[1] * frames.shape[2]
        if not 0 <= pixels <= limit:
            raise ValueError(f"The pixels to hide must be in 0..{limit}. Got {pixels}.")
    for name, value in (("steps", steps), ("block", block)):
        if value < 1:
            raise ValueError(f"The {name} must be at least 1. Got {value}.")


# Methods ------------------------------------------------------------------------------------------


def gradient_x_input_maps(
    recognizers: Sequence[WhiteBox],
    people: Sequence[UInt8[np.ndarray, "_ h w 3"]],
    *,
    progress: Progress = silent,
    mates: Sequence[np.ndarray] | None = None,
) -> list[OcclusionMap]:
    """Gradient times input (Shrikumar et al., 2016), the mean over a person's images.

    sum over channels of input * gradient of the image's mean cosine to the person's other images,
    both at the network's preprocessed input, signed, then taken back to the frame. It is what an
    occlusion gradient would be whose fill is the color that the preprocessing makes 0.

    Args:
        recognizers: The sources; several are combined as in `occlusion_gradient_maps`.
        people: All frames of each person, RGB.
        progress: Called per backward pass, each for one batch of images.
        mates: As for `occlusion_gradient_maps`.
    """
    if not people:
        return []
    tick = counter(progress, sum(len(chunks_of(recognizer, people)) for recognizer in recognizers))
    made = [
        mean_maps(
            recognizer,
            people,
            references_of(recognizer, people, mates),
            _products(recognizer),
            tick,
        )
        for recognizer in recognizers
    ]
    return [
        as_map(combined([maps[person] for maps in made]), frames.shape[1:3])
        for person, frames in enumerate(people)
    ]


def _products(recognizer: WhiteBox) -> ImageMaps:
    """Maps sum_c input * gradient of images, in the frame."""

    def maps(frames: np.ndarray, references: Tensor, images: Sequence[ImageIndex]) -> np.ndarray:
        pixels = torch.from_numpy(frames).to(references.device)
        inputs = inputs_of(recognizer, pixels).requires_grad_()
        # A copy goes in, since a network may overwrite its input.
        gradient = cosine_gradient(recognizer, inputs, inputs.clone(), references)
        products = (gradient * inputs.detach()).sum(dim=1).float()
        framed = recognizer.preprocessing.to_frame(products, frames.shape[1:3])
        in_frame: np.ndarray = framed.double().cpu().numpy()
        return in_frame

    return maps


def _occlusion_gradient(
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
    return occlusion_gradient_maps(
        recognizers,
        people,
        hiders,
        steps=int(options["steps"]),
        block=int(options["block"]),
        pixels=pixels,
        rngs=rngs,
        progress=progress,
        mates=mates,
    )


def _gradient_x_input(
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
    return gradient_x_input_maps(recognizers, people, progress=progress, mates=mates)


for _method in (
    FrameGradientMethod(
        "occlusion-gradient",
        _occlusion_gradient,
        version=1,
        needs_fill=True,
        options={"steps": Whole("1", 1), "block": Whole("1", 1)},
        rounds=lambda options, pixels: len(step_sizes(pixels, int(options["steps"]))),
    ),
    FrameGradientMethod("gradient-x-input", _gradient_x_input, version=1, needs_fill=False),
):
    METHODS.add(_method.name, _method)
