"""What a little more hiding of each pixel does to a photo, under any fill (Protocol: learned-mask).

A mask is 0 or 1, and a fill in bytes has no derivative. A *soft* mask s in [0, 1] shows
(1 - s) x + s c: of a content fill, c is its content; of a fill that sees the mask, c is a smooth
continuation of what is shown.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from facefocus.saliency.explainer import Hide

#: ``surrogate(gradients [m,h,w,3], soft mask [h,w]) -> [h,w]``: the derivative of the sum over
#: photos of gradients * photo under the soft mask, with respect to the soft mask.
Surrogate = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Sweeps in which every pixel takes the mean of its neighbors where it is hidden, after a first
#: estimate from coarser and coarser means.
SWEEPS = 20
#: How much a coarse estimate weighs against what is shown at a finer level.
COARSE = 1e-3
#: Weights of the 8 neighbors, those of the fill `linear`.
_WEIGHTS = ((1 / 12, 1 / 6, 1 / 12), (1 / 6, 0.0, 1 / 6), (1 / 12, 1 / 6, 1 / 12))


def sees_mask(hide: Hide, shape: tuple[int, int]) -> bool:
    """Whether what a fill puts in a pixel depends on what else is hidden.

    Args:
        hide: A fill on some frames.
        shape: Height and width of the frames.
    """
    half = np.zeros(shape, dtype=bool)
    half[: (shape[0] + 1) // 2] = True
    return not np.array_equal(hide(half)[:, half], hide(np.ones(shape, dtype=bool))[:, half])


def surrogate_of(hide: Hide, frames: UInt8[np.ndarray, "m h w 3"]) -> Surrogate:
    """The derivative of a fill on some frames with respect to a soft mask.

    Args:
        hide: The fill on these frames.
        frames: RGB.
    """
    shape = (frames.shape[1], frames.shape[2])
    if not sees_mask(hide, shape):
        change = hide(np.ones(shape, dtype=bool)).astype(np.float64) - frames
        return lambda gradients, soft: (gradients * change).sum(axis=(0, 3))
    images = torch.from_numpy(np.array(frames)).double().permute(0, 3, 1, 2)

    def through_gaps(gradients: np.ndarray, soft: np.ndarray) -> np.ndarray:
        with torch.inference_mode(False), torch.enable_grad():
            mask = torch.from_numpy(soft).double().requires_grad_()
            along = torch.from_numpy(gradients).double().permute(0, 3, 1, 2)
            total = (soft_gap_fill(images, mask) * along).sum()
            (slopes,) = torch.autograd.grad(total, mask)
        effects: np.ndarray = slopes.numpy()
        return effects

    return through_gaps


def soft_gap_fill(
    images: Float[Tensor, "m c h w"], soft: Float[Tensor, "h w"], sweeps: int = SWEEPS
) -> Float[Tensor, "m c h w"]:
    """Images whose pixels are continued smoothly as far as a soft mask hides them; differentiable.

    First each pixel gets the mean of what is shown about it, from the finest level of a pyramid
    at which something is. Then every sweep replaces it by (1 - s) x + s (mean of its neighbors,
    weighted as in the fill `linear`). With s of 0 and 1 and many sweeps it is that fill without
    its noise. Where everything is hidden, it is 0.

    Args:
        images: Any channels.
        soft: 0 where a pixel is shown, 1 where it is hidden.
        sweeps: How often neighbors are averaged.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.0, 0.0, 90.0]]]], dtype=torch.float64)
        >>> soft = torch.tensor([[0.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
        >>> soft_gap_fill(image, soft, sweeps=100)[0, 0, 0].round(decimals=3).tolist()
        [0.0, 30.0, 60.0, 90.0]
    """
    shown = 1 - soft[None, None]
    kernel = images.new_tensor(_WEIGHTS)[None, None]
    share = F.conv2d(torch.ones_like(shown), kernel, padding=1)
    filled = shown * images + soft * _from_coarse(shown * images, shown)
    for _ in range(sweeps):
        means = F.conv2d(filled.flatten(0, 1)[:, None], kernel, padding=1).view_as(filled) / share
        filled = shown * images + soft * means
    return filled


def _from_coarse(values: Tensor, weights: Tensor) -> Tensor:
    """Means of values by their weights, where these are small, from means over larger squares."""
    sides = values.shape[2:]
    if max(sides) == 1:
        return values / weights.clamp_min(1e-12)
    pooled = [F.avg_pool2d(part, 2, ceil_mode=True) for part in (values, weights)]
    coarse = F.interpolate(_from_coarse(*pooled), sides, mode="bilinear", align_corners=False)
    return (values + COARSE * coarse) / (weights + COARSE)
