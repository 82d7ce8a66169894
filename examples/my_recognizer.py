"""A recognizer of your own: ``--model my_recognizer.py:build``."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MyNet(nn.Module):
    """Any network from images [n, 3, 112, 112] to embeddings [n, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=4, padding=1),
        )
        self.embed = nn.Linear(16 * 7 * 7, 64)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings, not normalized."""
        return self.embed(self.convolutions(images).flatten(1))


def build() -> nn.Module:
    """The network with its weights; here drawn with a fixed seed, yours come from a file."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MyNet()


# How it reads a frame: its input's size, then (pixel - mean) / std in 0-255. The words are those of
# mine.toml: what is left out is the whole frame, RGB.
build.preprocessing = {"size": [112, 112], "mean": 127.5, "std": 128}
