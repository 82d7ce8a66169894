"""Fills that see the mask: each gap is filled from its surroundings (Protocol: fills).

What they put in a gap depends on no hidden pixel, so what a recognizer loses under them it knew
from these pixels. A frame without any visible pixel becomes mid-gray.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import cv2
import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, UInt8

from facefocus.occlusion.fills import FILLS, GapFill
from facefocus.saliency.explainer import Hide

#: Telea's radius as a share of the frame's shorter side: 3 of 112 pixels.
INPAINT_RADIUS = 3 / 112

#: Standard deviation of the noise on imputed pixels, as a share of the range 0 to 255.
NOISE = 0.01

#: Weights of the pixels beside a pixel, and of those across.
BESIDE, ACROSS = 1 / 6, 1 / 12

#: What a frame is where nothing of it is left to fill from.
GRAY = 128

#: ``gap(rows of the frames, mask [h,w]) -> content [rows, hidden pixels, 3]``.
_Gap = Callable[[slice, np.ndarray], np.ndarray]


def _inpaint(frames: UInt8[np.ndarray, "n h w 3"], rngs: Sequence[np.random.Generator]) -> Hide:
    """Telea's fast marching inpainting (2004), radius 3 of 112 pixels, by OpenCV."""
    radius = INPAINT_RADIUS * min(frames.shape[1:3])

    def gap(rows: slice, mask: np.ndarray) -> np.ndarray:
        hidden = mask.astype(np.uint8)
        # OpenCV's gradients read some hidden pixels: they must not tell what was there.
        shown = np.where(mask[..., None], np.uint8(0), frames[rows])
        fill = partial(
            cv2.inpaint, inpaintMask=hidden, inpaintRadius=radius, flags=cv2.INPAINT_TELEA
        )
        return np.stack(list(_in_threads(fill, shown)))[:, mask]

    return _hide(frames, gap)


def _in_threads(
    fill: Callable[[np.ndarray], np.ndarray], frames: UInt8[np.ndarray, "n h w 3"]
) -> Iterable[np.ndarray]:
    """Each frame filled, on as many threads as torch has: OpenCV holds no lock meanwhile."""
    count = min(torch.get_num_threads(), len(frames))
    return _threads(count, os.getpid()).map(fill, frames) if count > 1 else map(fill, frames)


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process: one that was forked has none of its parent's."""
    return ThreadPoolExecutor(count)


def _linear(frames: UInt8[np.ndarray, "n h w 3"], rngs: Sequence[np.random.Generator]) -> Hide:
    """Noisy linear imputation (Rong et al., ICML 2022): `neighbor_means` with Gaussian noise.

    Noise of 0.01 of the range, drawn once for each frame, whatever the mask; rounded to bytes.
    """
    noise = np.stack([rng.normal(0, NOISE * 255, frames.shape[1:]) for rng in rngs])

    def gap(rows: slice, mask: np.ndarray) -> np.ndarray:
        filled = neighbor_means(frames[rows], mask) + noise[rows][:, mask]
        content: np.ndarray = np.clip(np.rint(filled), 0, 255).astype(np.uint8)
        return content

    return _hide(frames, gap)


FILLS.add("inpaint", GapFill(_inpaint))
FILLS.add("linear", GapFill(_linear))


def neighbor_means(
    frames: UInt8[np.ndarray, "n h w 3"], mask: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "n hidden 3"]:
    """Every hidden pixel as the weighted mean of its 8 neighbors, hidden ones included.

    Weights are 1/6 beside and 1/12 across; neighbors outside the frame have none, and the others
    keep their proportion. One sparse linear system for all frames, solved exactly.

    Args:
        frames: RGB; hidden pixels are not read.
        mask: True where a pixel is hidden; some pixel must be visible.

    Example:
        >>> frames = np.zeros((1, 1, 4, 3), np.uint8)
        >>> frames[0, 0, 3] = 90
        >>> mask = np.array([[False, True, True, False]])
        >>> neighbor_means(frames, mask)[0, :, 0].round(6).tolist()
        [30.0, 60.0]
    """
    count, (height, width) = len(frames), mask.shape
    hidden = np.flatnonzero(mask)
    numbers = np.full(mask.size, -1)
    numbers[hidden] = np.arange(hidden.size)
    shown = np.where(mask[..., None], 0, frames).reshape(count, mask.size, 3)
    known = np.zeros((hidden.size, count, 3))
    totals = np.zeros(hidden.size)
    rows, columns, weights = [], [], []
    for weight, inside, neighbors in _neighbors(hidden, height, width):
        totals[inside] += weight
        known[inside] += weight * shown[:, neighbors].transpose(1, 0, 2)
        both = numbers[neighbors] >= 0
        rows.append(inside[both])
        columns.append(numbers[neighbors[both]])
        weights.append(np.full(both.sum(), -weight))
    system = scipy.sparse.csc_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
        shape=(hidden.size, hidden.size),
    )
    # Symmetric and diagonally dominant: no pivoting is needed.
    factors = scipy.sparse.linalg.splu(
        (system + scipy.sparse.diags(totals)).tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    solved = factors.solve(known.reshape(hidden.size, -1))
    means: np.ndarray = solved.reshape(hidden.size, count, 3).transpose(1, 0, 2)
    return means


def _neighbors(
    pixels: np.ndarray, height: int, width: int
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """For each of the 8 directions: the weight, places in `pixels` with a neighbor, and these."""
    rows, columns = np.divmod(pixels, width)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            if not (down or right):
                continue
            beside = (rows + down, columns + right)
            inside = np.flatnonzero(
                (beside[0] >= 0) & (beside[0] < height) & (beside[1] >= 0) & (beside[1] < width)
            )
            weight = ACROSS if down and right else BESIDE
            yield weight, inside, (beside[0] * width + beside[1])[inside]


def _hide(frames: UInt8[np.ndarray, "n h w 3"], gap: _Gap) -> Hide:
    """`Hide` of what fills the gaps of one mask; each frame is filled on its own."""

    def hide(masks: np.ndarray) -> np.ndarray:
        occluded = np.array(frames)
        pixels = occluded.reshape(len(frames), -1, 3)
        if masks.ndim == 2:
            parts = [(slice(None), masks)]
        else:
            parts = [(slice(row, row + 1), mask) for row, mask in enumerate(masks)]
        for rows, mask in parts:
            if mask.all():
                pixels[rows] = GRAY
            elif mask.any():
                pixels[rows][:, mask.ravel()] = gap(rows, mask)
        return occluded

    return hide
