"""MobileFaceNet (Chen et al., 2018) in the key layout of the public weight files.

A *unit* is convolution (no bias) -> batch norm -> activation; every module name below is the
prefix of that unit's keys in a state dict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["prelu", "relu6", "relu", "none"]

#: (expansion, output channels, repeats, stride of the first) of the bottleneck stages.
STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
#: Bottlenecks of each stage in the paper.
REPEATS = tuple(repeats for _, _, repeats, _ in STAGES)


def _activation(kind: Activation, channels: int) -> nn.Module:
    makers: dict[Activation, Callable[[], nn.Module]] = {
        "prelu": lambda: nn.PReLU(channels),
        "relu6": nn.ReLU6,
        "relu": nn.ReLU,
        "none": nn.Identity,
    }
    return makers[kind]()


class Unit(nn.Module):
    """Convolution, batch norm, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        activation: Activation,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = _activation(activation, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, outputs, h, w]."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class Bottleneck(nn.Module):
    """Inverted residual: 1x1 expand, 3x3 depthwise, 1x1 project without activation."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, activation: Activation
    ) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = Unit(inputs, width, 1, activation)
        self.depthwise = Unit(width, width, 3, activation, stride=stride, padding=1, groups=width)
        self.project = Unit(width, outputs, 1, "none")
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, outputs, h, w]."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.skip else out


class MobileFaceNet(nn.Module):
    """Embedding [n, embedding] (not normalized) of images [n, 3, h, w].

    Args:
        activation: Activation of the bottlenecks and the head.
        stem_activation: Activation of the stem's depthwise and pointwise units.
        stem_pointwise: Whether a 1x1 unit follows the stem's depthwise one.
        embed_bias: Whether the last convolution has a bias.
        final_size: Height and width of the last spatial map, 1/16 of the input.
        width: Channels of the first stages; 64 in the paper. All others scale with it.
        embedding: Length of the embedding.
        repeats: Bottlenecks of each stage.
    """

    def __init__(
        self,
        *,
        activation: Activation = "prelu",
        stem_activation: Activation = "prelu",
        stem_pointwise: bool = False,
        embed_bias: bool = False,
        final_size: tuple[int, int] = (7, 7),
        width: int = 64,
        embedding: int = 128,
        repeats: tuple[int, ...] = REPEATS,
    ) -> None:
        super().__init__()
        self.stem = Unit(3, width, 3, activation, stride=2, padding=1)
        self.stem_depthwise = Unit(width, width, 3, stem_activation, padding=1, groups=width)
        self.stem_pointwise = (
            Unit(width, width, 1, stem_activation) if stem_pointwise else nn.Identity()
        )
        blocks: list[nn.Module] = []
        inputs = width
        for (expansion, outputs, _, first_stride), count in zip(STAGES, repeats, strict=True):
            scaled = outputs * width // 64
            for repeat in range(count):
                stride = first_stride if repeat == 0 else 1
                blocks.append(Bottleneck(inputs, scaled, expansion, stride, activation))
                inputs = scaled
        self.blocks = nn.Sequential(*blocks)
        features = 8 * width
        self.head = Unit(inputs, features, 1, activation)
        self.gdc = Unit(features, features, final_size, "none", groups=features)
        self.embed = Unit(features, embedding, 1, "none", bias=embed_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [n, embedding]."""
        x = self.stem_pointwise(self.stem_depthwise(self.stem(x)))
        x = self.gdc(self.head(self.blocks(x)))
        return torch.flatten(self.embed(x), 1)
