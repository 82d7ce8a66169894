"""Inception-ResNet-v1 (Szegedy et al., 2016) as in FaceNet, in the key layout of the public port.

Every unit is convolution (no bias) -> batch norm (eps 1e-3) -> ReLU. A residual block adds the
scaled projection of its joined branches to its input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Channels of the stem's first convolution in the public models; others scale with it.
WIDTH = 32


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, outputs, h, w]."""
        return F.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """x + scale * projection of the branches, then ReLU unless it is the last block.

    Args:
        inputs: Channels in and out.
        branches: The parallel branches, in execution order.
        joined: Channels of all branches together.
        scale: Factor of the projection.
        last: Whether the ReLU is left out.
    """

    def __init__(
        self,
        inputs: int,
        branches: tuple[nn.Module, ...],
        joined: int,
        scale: float,
        *,
        last: bool = False,
    ) -> None:
        super().__init__()
        self.count = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self.conv2d = nn.Conv2d(joined, inputs, 1)
        self.scale = scale
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        parts = [self.get_submodule(f"branch{index}")(x) for index in range(self.count)]
        out: Tensor = x + self.scale * self.conv2d(torch.cat(parts, 1))
        return out if self.last else F.relu(out)


class Reduction(nn.Module):
    """Branches beside a max-pooling, all of one stride.

    Args:
        branches: The parallel branches, in execution order.
        stride: Of each branch's last convolution, and of the pooling.
        padding: Likewise.
    """

    def __init__(self, *branches: nn.Module, stride: int = 2, padding: int = 0) -> None:
        super().__init__()
        self.count = len(branches)
        self.stride, self.padding = stride, padding
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, branches and input, h / stride, w / stride]."""
        parts = [self.get_submodule(f"branch{index}")(x) for index in range(self.count)]
        return torch.cat([*parts, F.max_pool2d(x, 3, self.stride, self.padding)], 1)


class InceptionResnetV1(nn.Module):
    """Embedding [n, embedding], of unit length, of images [n, 3, 160, 160] or larger.

    Args:
        width: Channels of the stem's first convolution; 32 in the public models.
        embedding: Length of the embedding.
        repeats: Residual blocks of each of the three kinds, the closing one not counted.
        aligned: Pad every convolution and pooling, and leave the last reduction without stride:
            the last map is 1/16 of the input then, for small images (``align_feature_maps`` and
            ``output_stride=16`` of TF-Slim's Inception-ResNet-v2).
    """

    def __init__(
        self,
        *,
        width: int = WIDTH,
        embedding: int = 512,
        repeats: tuple[int, int, int] = (5, 10, 5),
        aligned: bool = False,
    ) -> None:
        super().__init__()
        #: Padding of 3x3 windows that the public models leave without.
        self.pad = pad = int(aligned)

        def c(public: int) -> int:
            return public * width // WIDTH

        self.conv2d_1a = Unit(3, c(32), 3, stride=2, padding=pad)
        self.conv2d_2a = Unit(c(32), c(32), 3, padding=pad)
        self.conv2d_2b = Unit(c(32), c(64), 3, padding=1)
        self.conv2d_3b = Unit(c(64), c(80), 1)
        self.conv2d_4a = Unit(c(80), c(192), 3, padding=pad)
        self.conv2d_4b = Unit(c(192), c(256), 3, stride=2, padding=pad)
        self.repeat_1 = nn.Sequential(*(_block35(c(256), c(32)) for _ in range(repeats[0])))
        self.mixed_6a = _mixed_6a(c(256), c(384), c(192), pad)
        channels = c(384) + 2 * c(256)
        self.repeat_2 = nn.Sequential(*(_block17(channels, c(128)) for _ in range(repeats[1])))
        self.mixed_7a = _mixed_7a(channels, c(256), c(384), stride=2 - pad, pad=pad)
        channels += c(384) + 2 * c(256)
        blocks = (_block8(channels, c(192), 0.20) for _ in range(repeats[2]))
        self.repeat_3 = nn.Sequential(*blocks)
        self.block8 = _block8(channels, c(192), 1.0, last=True)
        self.last_linear = nn.Linear(channels, embedding, bias=False)
        self.last_bn = nn.BatchNorm1d(embedding, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [n, embedding]."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_3b(F.max_pool2d(x, 3, 2, self.pad))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(x)))
        x = self.repeat_2(self.mixed_6a(x))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        x = self.last_bn(self.last_linear(x.mean((2, 3))))
        return F.normalize(x, dim=1)


def _block35(inputs: int, width: int) -> Residual:
    branches = (
        Unit(inputs, width, 1),
        nn.Sequential(Unit(inputs, width, 1), Unit(width, width, 3, padding=1)),
        nn.Sequential(
            Unit(inputs, width, 1),
            Unit(width, width, 3, padding=1),
            Unit(width, width, 3, padding=1),
        ),
    )
    return Residual(inputs, branches, 3 * width, 0.17)


def _block17(inputs: int, width: int) -> Residual:
    branches = (
        Unit(inputs, width, 1),
        nn.Sequential(
            Unit(inputs, width, 1),
            Unit(width, width, (1, 7), padding=(0, 3)),
            Unit(width, width, (7, 1), padding=(3, 0)),
        ),
    )
    return Residual(inputs, branches, 2 * width, 0.10)


def _block8(inputs: int, width: int, scale: float, *, last: bool = False) -> Residual:
    branches = (
        Unit(inputs, width, 1),
        nn.Sequential(
            Unit(inputs, width, 1),
            Unit(width, width, (1, 3), padding=(0, 1)),
            Unit(width, width, (3, 1), padding=(1, 0)),
        ),
    )
    return Residual(inputs, branches, 2 * width, scale, last=last)


def _mixed_6a(inputs: int, wide: int, narrow: int, pad: int) -> Reduction:
    return Reduction(
        Unit(inputs, wide, 3, stride=2, padding=pad),
        nn.Sequential(
            Unit(inputs, narrow, 1),
            Unit(narrow, narrow, 3, padding=1),
            Unit(narrow, inputs, 3, stride=2, padding=pad),
        ),
        padding=pad,
    )


def _mixed_7a(inputs: int, width: int, wide: int, *, stride: int, pad: int) -> Reduction:
    return Reduction(
        nn.Sequential(Unit(inputs, width, 1), Unit(width, wide, 3, stride=stride, padding=pad)),
        nn.Sequential(Unit(inputs, width, 1), Unit(width, width, 3, stride=stride, padding=pad)),
        nn.Sequential(
            Unit(inputs, width, 1),
            Unit(width, width, 3, padding=1),
            Unit(width, width, 3, stride=stride, padding=pad),
        ),
        stride=stride,
        padding=pad,
    )
