"""IResNet (Duta et al., 2020) as trained by ArcFace, in the key layout of the public checkpoints.

A block is batch norm -> convolution -> batch norm -> PReLU -> convolution -> batch norm, added to
its input without an activation; the stride lies in the second convolution.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

#: Blocks of the four stages, by depth.
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


class Block(nn.Module):
    """Residual block; the skip is a strided 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, outputs, h, w]."""
        out = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        out = self.bn3(self.conv2(out))
        # After the branch: the public models run this convolution third, which fixes its number.
        skip: Tensor = self.downsample(x)
        joined: Tensor = skip + out
        return joined


class IResNet(nn.Module):
    """Embedding [n, embedding] (not normalized) of images [n, 3, 16 k, 16 l].

    Args:
        depth: 10, 18, 50 or 100.
        width: Channels of the first stage; 64 in the public models. All others scale with it.
        embedding: Length of the embedding.
        final_size: Height and width of the last map, 1/16 of the input.
        stem_stride: 2 halves the map in the first convolution, where the public models do it in
            the last stage, which then keeps its input's size and channels: a quarter of the work
            and a last map of the same size.
    """

    def __init__(
        self,
        *,
        depth: Literal[10, 18, 50, 100],
        width: int = 64,
        embedding: int = 512,
        final_size: tuple[int, int] = (7, 7),
        stem_stride: Literal[1, 2] = 1,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        counts = BLOCKS[depth]
        self.layer1 = stage(width, width, counts[0], 2)
        self.layer2 = stage(width, 2 * width, counts[1], 2)
        self.layer3 = stage(2 * width, 4 * width, counts[2], 2)
        last = 8 * width // stem_stride
        self.layer4 = stage(4 * width, last, counts[3], 2 // stem_stride)
        self.bn2 = nn.BatchNorm2d(last)
        self.fc = nn.Linear(last * final_size[0] * final_size[1], embedding)
        self.features = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [n, embedding]."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: Tensor = self.features(self.fc(torch.flatten(self.bn2(x), 1)))
        return out


def stage(inputs: int, outputs: int, count: int, stride: int) -> nn.Sequential:
    """Blocks of one stage; the first has the stride."""
    first = Block(inputs, outputs, stride)
    return nn.Sequential(first, *(Block(outputs, outputs, stride=1) for _ in range(count - 1)))
