"""Frames with pixels hidden, made where they are embedded: on a GPU from photos that lie there.

A frame is 37 KB, a mask as bits 1.6 KB. The bytes are the same on every device: nothing is computed
but copies of bytes, and products in float32 that are rounded as IEEE 754 says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, UInt8
from torch import Tensor

#: Masks that a frame is multiplied by at once on a processor.
FEW = 8


def occlude(
    frames: UInt8[np.ndarray, "n h w 3"],
    masks: Bool[np.ndarray, "h w"] | Bool[np.ndarray, "n h w"],
    content: UInt8[np.ndarray, "n h w 3"],
) -> UInt8[np.ndarray, "n h w 3"]:
    """Frames with `content` where a mask is True; one mask for all frames or one for each.

    Example:
        >>> frames = np.full((1, 2, 2, 3), 200, np.uint8)
        >>> mask = np.array([[True, False], [False, False]])
        >>> occlude(frames, mask, np.zeros_like(frames))[0, ..., 0]
        array([[  0, 200],
               [200, 200]], dtype=uint8)
    """
    if masks.ndim == 3:
        return np.where(masks[..., None], content, frames)
    # A mask of few pixels: several times as fast as choosing for every channel of every pixel.
    hidden = np.flatnonzero(masks)
    occluded = np.array(frames)
    pixels = occluded.reshape(len(frames), masks.size, -1)
    pixels[:, hidden] = content.reshape(pixels.shape)[:, hidden]
    return occluded


@dataclass(frozen=True, eq=False)
class ContentHide:
    """`Hide` of a content fill: what it puts into some frames, whatever the mask.

    Attributes:
        frames: RGB [n, h, w, 3].
        content: The same, all hidden.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    content: UInt8[np.ndarray, "n h w 3"]

    def __call__(self, masks: Bool[np.ndarray, "*n h w"]) -> UInt8[np.ndarray, "n h w 3"]:
        """See `occlude`."""
        return occlude(self.frames, masks, self.content)


class OccludedFrames:
    """Photos and what replaces their pixels, on a device; any of them under any mask.

    Args:
        hiders: What hides pixels of the photos, part after part.
        device: Where photos and contents are kept.

    Example:
        >>> frames = np.full((1, 2, 4, 3), 200, np.uint8)
        >>> hide = ContentHide(frames, np.zeros_like(frames))
        >>> photos = OccludedFrames([hide], torch.device("cpu"))
        >>> mask = np.array([[True, False, False, False], [False] * 4])
        >>> photos.under(np.array([0]), np.packbits(mask)[None], np.array([0]))[0, :, :, 0].tolist()
        [[0, 200, 200, 200], [200, 200, 200, 200]]
    """

    def __init__(self, hiders: Sequence[ContentHide], device: torch.device) -> None:
        self._frames, self._content = (
            torch.from_numpy(np.concatenate(parts)).to(device)
            for parts in ([hide.frames for hide in hiders], [hide.content for hide in hiders])
        )

    def under(
        self,
        rows: Int[np.ndarray, " b"],
        masks: UInt8[np.ndarray, "k bytes"],
        which: Int[np.ndarray, " b"],
    ) -> UInt8[Tensor, "b h w 3"]:
        """The photos `rows`, photo i with the pixels of mask ``which[i]`` hidden.

        Args:
            rows: Numbers of photos.
            masks: As `np.packbits` of each mask [h, w]: 1 where a pixel is hidden.
            which: The mask of each photo.
        """
        if self._frames.device.type == "cpu":
            return self._scattered(rows, masks, which)
        return self._chosen(rows, masks[which])

    def _scattered(self, rows: np.ndarray, masks: np.ndarray, which: np.ndarray) -> Tensor:
        """On a processor: a mask hides few pixels, and only these are touched."""
        made, content = self._frames.numpy()[rows], self._content.numpy()
        pixels, content = made.reshape(len(rows), -1, 3), content.reshape(len(content), -1, 3)
        for number, mask in enumerate(masks):
            hidden = np.flatnonzero(np.unpackbits(mask, count=pixels.shape[1]))
            own = np.flatnonzero(which == number)[:, None]
            pixels[own, hidden] = content[rows[own], hidden]
        return torch.from_numpy(made)

    def _chosen(self, rows: np.ndarray, masks: np.ndarray) -> Tensor:
        """On any device: a choice for every pixel."""
        device, shape = self._frames.device, self._frames.shape[1:3]
        indices = sent(torch.from_numpy(np.asarray(rows, np.int64)), device)
        hidden = unpacked(sent(torch.from_numpy(masks), device), shape)
        return torch.where(hidden[..., None], self._content[indices], self._frames[indices])


def unpacked(
    packed: UInt8[Tensor, "n bytes"], shape: tuple[int, ...] | torch.Size
) -> Bool[Tensor, "n h w"]:
    """Masks of `np.packbits`, row by row, in their `shape`.

    Example:
        >>> unpacked(torch.tensor([[0b10100000]], dtype=torch.uint8), (1, 3)).tolist()
        [[[True, False, True]]]
    """
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    bits = ((packed[..., None] >> shifts) & 1).bool().flatten(1)
    return bits[:, : shape[0] * shape[1]].reshape(len(packed), *shape)


def multiplied(
    frame: UInt8[Tensor, "h w 3"], masks: Float32[Tensor, "n h w"]
) -> UInt8[Tensor, "n h w 3"]:
    """The frame multiplied by each mask in 0-255, rounded to the nearest (ties to even).

    Example:
        >>> frame = torch.full((1, 2, 3), 5, dtype=torch.uint8)
        >>> multiplied(frame, torch.tensor([[[1.0, 0.5]]]))[0, 0, :, 0].tolist()
        [5, 2]
    """
    made = torch.empty(*masks.shape, 3, dtype=torch.uint8, device=masks.device)
    # On a processor a few at a time, which stay in its cache, and in rows that are one piece.
    step, rows = len(masks) if masks.is_cuda else FEW, frame.float().flatten(1)
    for start in range(0, len(masks), max(step, 1)):
        some = masks[start : start + step, :, :, None].expand(-1, -1, -1, 3).flatten(2)
        made[start : start + step] = some.mul_(rows).round_().view(-1, *frame.shape)
    return made


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; to a GPU from pinned memory, so that nothing waits for the copy."""
    if device.type != "cuda" or values.device.type != "cpu" or values.requires_grad:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
