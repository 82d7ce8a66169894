"""What a hidden pixel is replaced with (Protocol: fills).

There are two kinds, and two readings of what hiding shows. A content fill makes the content of
whole frames and never sees a mask: a constant, noise, a blur. A network may be upset by it whether
or not anything was known from the pixels behind it (reading ``artefact``). A `GapFill` sees the
mask and fills the gap from its surroundings: what is then lost was known from the hidden pixels
(reading ``information``). Other packages add fills through the entry-point group
``facefocus.fills``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import UInt8

from facefocus.core.registry import Registry
from facefocus.core.seeds import generator
from facefocus.models.occluded_frames import ContentHide
from facefocus.saliency.explainer import Hide

#: ``fill(frames [n,h,w,3] uint8, one generator per frame) -> content [n,h,w,3] uint8``.
ContentFill = Callable[[np.ndarray, Sequence[np.random.Generator]], np.ndarray]


@dataclass(frozen=True)
class GapFill:
    """A fill that sees the mask: each gap is filled from its surroundings.

    Attributes:
        prepare: (frames [n,h,w,3] uint8, one generator per frame) -> `Hide`. It hides any mask on
            these frames; what it puts there depends on no pixel that the mask hides.
    """

    prepare: Callable[[np.ndarray, Sequence[np.random.Generator]], Hide]


Fill = ContentFill | GapFill

FILLS: Registry[Fill] = Registry("fill", load=("facefocus.occlusion.gap_fills",))

#: What a drop under a fill shows.
Reading = Literal["artefact", "information"]
READINGS: tuple[Reading, ...] = get_args(Reading)

#: Standard deviation of the blur as a share of the frame's shorter side.
BLUR_SIGMA = 0.04


def fill_rng(seed: int, image_name: str) -> np.random.Generator:
    """The generator for the fill of one image: depends on the run's seed and the name alone."""
    return generator(seed, "fill", image_name)


def reading(fill: str | Fill) -> Reading:
    """Whether a drop under a fill is read as an artefact or as lost information.

    Raises:
        UserError: No fill has this name.

    Example:
        >>> reading("black"), reading("inpaint")
        ('artefact', 'information')
    """
    fill = FILLS[fill] if isinstance(fill, str) else fill
    return "information" if isinstance(fill, GapFill) else "artefact"


def hider(
    fill: str | Fill,
    frames: UInt8[np.ndarray, "n h w 3"],
    rngs: Sequence[np.random.Generator],
) -> Hide:
    """What hides masks on `frames` by a fill: a function of one mask for all or one for each.

    Args:
        fill: A fill or its name.
        frames: RGB.
        rngs: `fill_rng` of each frame.

    Raises:
        UserError: No fill has this name.

    Example:
        >>> frames = np.full((1, 3, 3, 3), 200, np.uint8)
        >>> mask = np.zeros((3, 3), bool)
        >>> mask[1, 1] = True
        >>> hide = hider("inpaint", frames, [fill_rng(0, "Ada_0001")])
        >>> hide(mask)[0, 1, 1].tolist()
        [200, 200, 200]
    """
    fill = FILLS[fill] if isinstance(fill, str) else fill
    if isinstance(fill, GapFill):
        return fill.prepare(frames, rngs)
    return ContentHide(frames, fill(frames, rngs))


@FILLS.register("black")
def black(
    frames: UInt8[np.ndarray, "n h w 3"], rngs: Sequence[np.random.Generator]
) -> UInt8[np.ndarray, "n h w 3"]:
    """All 0."""
    return np.zeros_like(frames)


@FILLS.register("white")
def white(
    frames: UInt8[np.ndarray, "n h w 3"], rngs: Sequence[np.random.Generator]
) -> UInt8[np.ndarray, "n h w 3"]:
    """All 255."""
    return np.full_like(frames, 255)


@FILLS.register("mean")
def mean(
    frames: UInt8[np.ndarray, "n h w 3"], rngs: Sequence[np.random.Generator]
) -> UInt8[np.ndarray, "n h w 3"]:
    """The mean color of each image, every channel rounded with halves up."""
    pixels = frames.shape[1] * frames.shape[2]
    sums = frames.sum(axis=(1, 2), dtype=np.int64)
    # Whole numbers only: the rounding is exact.
    color = ((2 * sums + pixels) // (2 * pixels)).astype(np.uint8)
    return np.broadcast_to(color[:, None, None, :], frames.shape).copy()


@FILLS.register("random")
def random(
    frames: UInt8[np.ndarray, "n h w 3"], rngs: Sequence[np.random.Generator]
) -> UInt8[np.ndarray, "n h w 3"]:
    """Uniform on 0..255, independent for each pixel and channel."""
    content = np.empty_like(frames)
    for target, rng in zip(content, rngs, strict=True):
        target[...] = rng.integers(0, 256, size=target.shape, dtype=np.uint8)
    return content


@FILLS.register("blur")
def blur(
    frames: UInt8[np.ndarray, "n h w 3"], rngs: Sequence[np.random.Generator]
) -> UInt8[np.ndarray, "n h w 3"]:
    """The image under a Gaussian of 4 % of its shorter side, cut at 4 sigma, rounded.

    The image is mirrored at its border, edge pixel repeated (``reflect`` in scipy.ndimage).
    """
    sigma = BLUR_SIGMA * min(frames.shape[1:3])
    width = 2 * int(4 * sigma + 0.5) + 1
    content = np.empty_like(frames)
    for target, frame in zip(content, frames, strict=True):
        # float32, since OpenCV rounds the kernel itself when it is given bytes.
        smooth = cv2.GaussianBlur(
            frame.astype(np.float32), (width, width), sigma, borderType=cv2.BORDER_REFLECT
        )
        target[...] = np.clip(np.rint(smooth), 0, 255).astype(np.uint8)
    return content
