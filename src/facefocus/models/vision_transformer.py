"""A vision transformer with a convolutional stem and the tokens joined into one linear layer.

Blocks as of Dosovitskiy et al. (2021): layer normalization before attention and before the
multilayer perceptron. The stem is that of Xiao et al. (2021), "Early convolutions help transformers
see better": it halves the image with each convolution. There is no class token: as in ArcFace's
transformers, all tokens of the last normalization go into the embedding, each with weights of its
own, so that where something is can count.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Channels of the stem before its last convolution.
STEM = (16, 32)


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [n, t, width] of tokens [n, t, width]."""
        images, tokens, width = x.shape
        split = self.qkv(x).view(images, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.projection(mixed.transpose(1, 2).reshape(images, tokens, width))
        return out


class Block(nn.Module):
    """Attention, then a perceptron on each token; both are added to their input."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [n, t, width]."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class VisionTransformer(nn.Module):
    """Embedding [n, embedding] (not normalized) of images [n, 3, 8 h, 8 w].

    Args:
        depth: Blocks.
        width: Channels of a token.
        heads: Heads of each attention; they divide the width.
        expansion: Channels of a perceptron's middle as a multiple of the width.
        embedding: Length of the embedding.
        grid: Rows and columns of tokens, 1/8 of the input.
    """

    def __init__(
        self,
        *,
        depth: int,
        width: int,
        heads: int,
        expansion: int = 4,
        embedding: int = 512,
        grid: tuple[int, int] = (14, 14),
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"the heads must divide the width {width}, got {heads}")
        sizes = (3, *STEM, width)
        self.stem = nn.Sequential()
        for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            self.stem.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False))
            self.stem.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
            self.stem.add_module(f"relu{number}", nn.ReLU())
        self.positions = nn.Parameter(0.02 * torch.randn(1, grid[0] * grid[1], width))
        self.blocks = nn.Sequential(*(Block(width, heads, expansion) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(grid[0] * grid[1] * width, embedding)
        self.features = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [n, embedding]."""
        tokens = self.stem(x).flatten(2).transpose(1, 2) + self.positions
        out: Tensor = self.features(self.fc(self.norm(self.blocks(tokens)).flatten(1)))
        return out
