"""Small networks whose layers and gradients can be followed by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (3, 16, 12)


class Residual(nn.Module):
    """Adds into a convolution's own output in place, as networks without batch norm do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        y = self.second(x)
        y += x
        out: Tensor = self.fc(torch.relu_(y).mean((2, 3)))
        return out


def inplace(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Three convolutions; in-place ReLU right after the first and the third."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.PReLU(6),
        nn.Conv2d(6, 5, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d((2, 2)),
        nn.Flatten(),
        nn.Linear(20, 7),
    ).to(dtype)


def smooth() -> nn.Sequential:
    """Two convolutions in float64 without kinks, for finite differences."""
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=4),
        nn.Tanh(),
        nn.Conv2d(2, 3, 2),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(3 * 3 * 2, 4),
    ).double()


def residual() -> nn.Module:
    torch.manual_seed(3)
    return Residual()


def functional() -> Callable[[Tensor], Tensor]:
    """Two convolutions without any module; weights need gradients."""
    generator = torch.Generator().manual_seed(4)
    first = torch.randn(4, 3, 3, 3, generator=generator, requires_grad=True)
    second = torch.randn(5, 4, 3, 3, generator=generator, requires_grad=True)

    def network(x: Tensor) -> Tensor:
        x = torch.tanh(F.conv2d(x, first, stride=2))
        x = torch.conv2d(x, weight=second, padding="same")
        return x.pow(2).mean((2, 3))

    return network


def exported(module: nn.Module) -> nn.Module:
    """The module as the graph that torch.export makes of it, for any batch of two or more."""
    module.eval()
    batch = torch.export.Dim("batch", min=2, max=1024)
    program = torch.export.export(module, (torch.randn(4, *SHAPE),), dynamic_shapes=({0: batch},))
    return program.module()


def scripted(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


def images(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *SHAPE, generator=generator, dtype=dtype)
