"""From a saliency map to a mask of exactly k pixels (Protocol: masks)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from facefocus.core.errors import UserError, did_you_mean

#: What an identity without a usable map gets; `inclusive` is a rule for every identity.
OnDegenerate = Literal["none", "skip", "random", "inclusive"]
#: (map [h, w], counts, generator for ties) -> masks [b, h, w] of exactly these counts, nested.
Shaped = Callable[[np.ndarray, Sequence[int], np.random.Generator], np.ndarray]


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of one identity, one for each budget.

    Attributes:
        masks: True where the face is hidden.
        areas: Hidden pixels of each mask.
        requested: Pixels that each budget asked for.
        degenerate: The identity has no usable map.
        skipped: The identity is to be left out of every mean, and counted.
    """

    masks: Bool[np.ndarray, "b h w"]
    areas: Int[np.ndarray, " b"]
    requested: Int[np.ndarray, " b"]
    degenerate: bool
    skipped: bool


def pixel_count(budget: float, height: int, width: int) -> int:
    """Pixels in a share `budget` of a frame, halves rounded up.

    The share is read as the decimal number it prints as: 0.145 of 100 pixels is 14.5, hence 15,
    although the nearest binary fraction lies just below.

    Raises:
        UserError: `budget` is outside [0, 1].

    Example:
        >>> pixel_count(0.01, 112, 112)
        125
    """
    if not 0 <= budget <= 1:
        percent = f" Did you mean {budget / 100:g}?" if 1 < budget <= 100 else ""
        raise UserError(f"The 'budget' of [occlusion] must be in [0, 1]. Got {budget:g}.{percent}")
    pixels = Decimal(repr(float(budget))) * height * width
    return int(pixels.to_integral_value(rounding=ROUND_HALF_UP))


def ranking(
    saliency: Float[np.ndarray, "h w"], rng: np.random.Generator
) -> Int[np.ndarray, " pixels"]:
    """Flat pixel indices from most to least salient, ties in random order.

    A stable sort without the random order would favor one corner wherever a map is flat. Cutting
    this one order at different lengths gives nested masks.

    Raises:
        ValueError: The map holds a value that is not finite.
    """
    values = finite(saliency)
    order = rng.permutation(values.size)
    return order[np.argsort(-values[order], kind="stable")]


def top_pixels(
    saliency: Float[np.ndarray, "h w"], k: int, rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """Mask of exactly the `k` most salient pixels, ties broken at random.

    Raises:
        ValueError: The map holds a value that is not finite, or `k` is not in [0, h * w].

    Example:
        >>> saliency = np.array([[0.1, 0.9], [0.8, 0.2]])
        >>> top_pixels(saliency, 2, np.random.default_rng(0))
        array([[False,  True],
               [ True, False]])
    """
    mask: np.ndarray = nested_masks(saliency, [k], rng)[0]
    return mask


def nested_masks(
    saliency: Float[np.ndarray, "h w"], counts: Sequence[int], rng: np.random.Generator
) -> Bool[np.ndarray, "b h w"]:
    """Masks of exactly the `counts[i]` most salient pixels; one random order breaks all ties.

    The same sets as `cut` makes of `ranking` with an equal generator, without the sort.

    Raises:
        ValueError: The map holds a value that is not finite, or a count is not in [0, h * w].
    """
    values = finite(saliency)
    order = rng.permutation(values.size)
    masks = np.zeros((len(counts), values.size), dtype=bool)
    for mask, count in zip(masks, counts, strict=True):
        check_count(count, values.size)
        if count == 0:
            continue
        least = np.partition(values, values.size - count)[values.size - count]
        np.greater(values, least, out=mask)
        tied = order[values[order] == least]
        mask[tied[: count - np.count_nonzero(mask)]] = True
    return masks.reshape(len(counts), *saliency.shape)


def cut(
    order: Int[np.ndarray, " pixels"], counts: Sequence[int], shape: tuple[int, int]
) -> Bool[np.ndarray, "b h w"]:
    """Nested masks: the first `counts[i]` pixels of one `ranking`, on a frame of `shape`.

    Raises:
        ValueError: A count is not in [0, h * w].
    """
    masks = np.zeros((len(counts), order.size), dtype=bool)
    for mask, count in zip(masks, counts, strict=True):
        check_count(count, order.size)
        mask[order[:count]] = True
    return masks.reshape(len(counts), *shape)


def inclusive(
    saliency: Float[np.ndarray, "h w"], budgets: Sequence[float]
) -> Bool[np.ndarray, "b h w"]:
    """The naive rule ``map >= percentile(map, 100 (1 - budget))``, kept to measure its artefact.

    Every pixel tied with the percentile is taken: a flat map selects the whole face, a sparse one
    everything outside its support once the budget exceeds the support (Protocol: audit).

    Raises:
        ValueError: The map holds a value that is not finite.
    """
    values = finite(saliency).reshape(saliency.shape)
    levels = np.percentile(values, [100.0 * (1.0 - budget) for budget in budgets])
    masks: np.ndarray = values >= levels[:, None, None]
    return masks


def mask_of(
    saliency: Float[np.ndarray, "h w"],
    *,
    degenerate: bool,
    budgets: Sequence[float],
    on_degenerate: str = "none",
    rng: np.random.Generator,
    shaped: Shaped | None = None,
) -> Masks:
    """The masks of one identity, nested over budgets.

    A degenerate identity is treated as a flat map, whatever `saliency` holds. It gets no mask
    (``none``), none and a mark to leave it out (``skip``), random pixels (``random``), or the
    whole face (``inclusive``). ``inclusive`` applies its naive rule to sound maps as well; the
    other three hide exactly k pixels of these, the largest or as `shaped` says.

    Raises:
        UserError: `on_degenerate` is unknown or a budget is outside [0, 1].
        ValueError: The map of an identity that is not degenerate holds a value that is not finite.
    """
    _check_policy(on_degenerate)
    height, width = saliency.shape
    requested = [pixel_count(budget, height, width) for budget in budgets]
    values = np.zeros((height, width)) if degenerate else saliency
    if on_degenerate == "inclusive":
        masks = inclusive(values, budgets)
    elif degenerate and on_degenerate in ("none", "skip"):
        masks = np.zeros((len(requested), height, width), dtype=bool)
    else:
        masks = (shaped or nested_masks)(values, requested, rng)
    return Masks(
        masks=masks,
        areas=np.count_nonzero(masks, axis=(1, 2)),
        requested=np.array(requested, dtype=np.int64),
        degenerate=degenerate,
        skipped=degenerate and on_degenerate == "skip",
    )


def pack(masks: Bool[np.ndarray, "*n h w"]) -> UInt8[np.ndarray, " bytes"]:
    """Masks as compressed bits: about a tenth of a bit per pixel where a hundredth is hidden."""
    return np.frombuffer(zlib.compress(np.packbits(masks).tobytes()), np.uint8)


def unpack(
    packed: UInt8[np.ndarray, " bytes"], shape: tuple[int, ...]
) -> Bool[np.ndarray, "*n h w"]:
    """What `pack` was given, in its `shape`."""
    bits = np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8)
    return np.unpackbits(bits, count=math.prod(shape)).astype(bool).reshape(shape)


def _check_policy(on_degenerate: str) -> None:
    known = get_args(OnDegenerate)
    if on_degenerate not in known:
        raise UserError(
            f"The 'on_degenerate' of [occlusion] must be one of {', '.join(known)}. "
            f"Got '{on_degenerate}'.{did_you_mean(on_degenerate, known)}"
        )


def check_count(count: int, pixels: int) -> None:
    """Raise unless a number of pixels to hide is in [0, `pixels`].

    Raises:
        ValueError: It is not.
    """
    if not 0 <= count <= pixels:
        raise ValueError(f"k must be in [0, {pixels}]. Got {count}.")


def finite(saliency: Float[np.ndarray, "h w"]) -> Float[np.ndarray, " pixels"]:
    """A map's values as float64, flat.

    Raises:
        ValueError: One of them is not finite.
    """
    # float64 keeps the order of every narrower float and makes negation and percentiles exact.
    values = saliency.ravel().astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("A saliency map must be finite; mark the identity degenerate instead.")
    return values
