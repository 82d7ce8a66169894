"""Photos and recognizers whose gradients are known, for tests of methods that explain one photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from facefocus.models.occluded_frames import occlude
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer
from facefocus.saliency.methods import METHODS
from facefocus.saliency.photo_maps import Photo, PhotoGradientMethod, gradient_maps


class OfRed(nn.Module):
    """Any function of the values of the red channel [n, pixels]."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.function(x[:, 0].flatten(1))
        return embedding


def of_red(function: Callable[[Tensor], Tensor], width: int, height: int = 1) -> TorchRecognizer:
    """A recognizer of frames [height, width] that embeds by a function of their red values."""
    plain = Preprocessing((height, width), None, "rgb", (0.0,) * 3, (1.0,) * 3)
    return TorchRecognizer("of-red", OfRed(function), plain, identity="function")


def red(values: Sequence[Sequence[int]] | Sequence[int]) -> np.ndarray:
    """A frame with these red values and arbitrary green and blue."""
    rows = np.atleast_2d(np.array(values))
    frame = np.full((*rows.shape, 3), 77, np.uint8)
    frame[..., 0] = rows
    return frame


def photo(
    frame: np.ndarray,
    reference: Sequence[float] | np.ndarray,
    content: np.ndarray | int = 0,
    seed: int = 0,
    stranger: Sequence[float] | np.ndarray | None = None,
) -> Photo:
    """A photo whose fill puts `content` in the place of hidden pixels."""
    filled = np.broadcast_to(np.asarray(content, np.uint8), frame.shape)
    return Photo(
        frame=frame,
        reference=np.asarray(reference, np.float64),
        rng=np.random.default_rng(seed),
        hide=lambda masks: occlude(frame[None], masks, filled[None]),
        unit=None if stranger is None else np.asarray(stranger, np.float64),
        gallery=None if stranger is None else np.asarray([stranger], np.float64),
    )


def noise(side: int = 32, count: int = 1, seed: int = 0) -> np.ndarray:
    """Random frames [count, side, side, 3]."""
    size = (count, side, side, 3)
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def map_of(
    method: str, recognizer: TorchRecognizer, explained: Photo, *, pixels: int = 0,
    calls: Sequence[int] = (), **options: object,
) -> np.ndarray:  # fmt: skip
    """The map of one photo, not yet scaled."""
    registered = METHODS[method]
    assert isinstance(registered, PhotoGradientMethod)
    chosen = registered.resolve_options({name: str(value) for name, value in options.items()})
    (made,) = gradient_maps(
        registered, recognizer, [explained], options=chosen, calls=calls, pixels=pixels
    )
    return made


def cosine(recognizer: TorchRecognizer, frame: Tensor, reference: np.ndarray) -> Tensor:
    """The similarity of a float frame [h, w, 3] to a unit reference, differentiable."""
    e = recognizer.module(recognizer.preprocessing(frame[None]))[0].double()
    similar: Tensor = (e / e.norm() * torch.from_numpy(reference)).sum()
    return similar


class Linear:
    """Embeds frames [height, width] by a matrix of their red values; with numpy beside torch."""

    def __init__(self, length: int, height: int, width: int, seed: int = 0) -> None:
        self.matrix = np.random.default_rng(seed).standard_normal((length, height * width))
        weights = torch.from_numpy(self.matrix)
        self.recognizer = of_red(lambda x: x.double() @ weights.T, width, height)

    def unit(self, frame: np.ndarray) -> np.ndarray:
        """The unit embedding of a frame [h, w, 3]."""
        e = self.matrix @ frame[..., 0].astype(float).ravel()
        normalized: np.ndarray = e / np.linalg.norm(e)
        return normalized

    def slopes(self, frame: np.ndarray) -> np.ndarray:
        """The gradient of each feature of the unit embedding with respect to red [d, h, w]."""
        e = self.matrix @ frame[..., 0].astype(float).ravel()
        u, size = e / np.linalg.norm(e), np.linalg.norm(e)
        gradient: np.ndarray = (np.eye(len(e)) - np.outer(u, u)) @ self.matrix / size
        return gradient.reshape(len(e), *frame.shape[:2])
