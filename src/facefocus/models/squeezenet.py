"""SqueezeNet 1.1 (Iandola et al., 2016) as a face recognizer on gray images, batch norm folded in.

Module names are the prefixes of the keys of the public weight file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: (squeezed, expanded by each half) channels of the fire modules.
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
#: A max-pooling follows these fire modules.
POOLED = (1, 3)


class Plain(nn.Module):
    """A convolution with bias, without activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, outputs, h, w]."""
        out: Tensor = self.conv(x)
        return out


class Fire(nn.Module):
    """1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, 2 * expanded, h, w]."""
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1(x)), F.relu(self.expand3(x))], 1)


class SqueezeNet(nn.Module):
    """Embedding [n, 512] (non-negative, not normalized) of gray images [n, 1, 128, 128]."""

    def __init__(self) -> None:
        super().__init__()
        self.gray = Plain(1, 3, 1)
        self.stem = Plain(3, 64, 3, stride=2)
        fires: list[nn.Module] = []
        inputs = 64
        for squeezed, expanded in FIRES:
            fires.append(Fire(inputs, squeezed, expanded))
            inputs = 2 * expanded
        self.fire = nn.ModuleList(fires)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [n, 512]."""
        x = _pool(F.relu(self.stem(self.gray(x))))
        for index, fire in enumerate(self.fire):
            x = fire(x)
            if index in POOLED:
                x = _pool(x)
        return torch.flatten(F.avg_pool2d(x, 7), 1)


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2, ceil_mode=True)
