"""A vision transformer on the map of a small residual stem, the tokens joined in one linear layer.

The hybrid of Dosovitskiy et al. (2021), "An image is worth 16x16 words": tokens are the pixels of a
residual network's map; layer normalization comes before attention and before the multilayer
perceptron. The stem is a small `IResNet`. There is no class token: as in ArcFace's transformers,
all tokens of the last normalization go into the embedding, each with weights of its own, so that
where something is can count.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.models.iresnet import stage


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
        last = nn.Linear(expansion * width, width)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), last)
        # A new block changes nothing: training begins as that of the stem, which learns quickly.
        for layer in (self.attention.projection, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [n, t, width]."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class VisionTransformer(nn.Module):
    """Embedding [n, embedding] (not normalized) of images [n, 3, 16 h, 16 w].

    The stem has the modules, and their names, of an `IResNet` of depth 10 whose first convolution
    is strided, so that it can start from the weights of one.

    Args:
        depth: Blocks of attention.
        width: Channels of the stem's first stage; a token has four times as many.
        heads: Heads of each attention; they divide the channels of a token.
        expansion: Channels of a perceptron's middle as a multiple of a token's.
        embedding: Length of the embedding.
        grid: Rows and columns of tokens, 1/16 of the input.
    """

    def __init__(
        self,
        *,
        depth: int,
        width: int,
        heads: int,
        expansion: int = 4,
        embedding: int = 512,
        grid: tuple[int, int] = (7, 7),
    ) -> None:
        super().__init__()
        channels, tokens = 4 * width, grid[0] * grid[1]
        if channels % heads:
            raise ValueError(f"the heads must divide 4 times the width, {channels}, got {heads}")
        self.conv1 = nn.Conv2d(3, width, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.layer1 = stage(width, width, 1, 2)
        self.layer2 = stage(width, 2 * width, 1, 2)
        self.layer3 = stage(2 * width, channels, 1, 2)
        self.layer4 = stage(channels, channels, 1, 1)
        self.positions = nn.Parameter(torch.empty(1, tokens, channels))
        # Without memory, as where weights are loaded, this would import torch's compiler: seconds.
        if not self.positions.is_meta:
            nn.init.normal_(self.positions, std=0.02)
        self.blocks = nn.Sequential(*(Block(channels, heads, expansion) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels)
        self.join = nn.Linear(tokens * channels, embedding)
        self.features = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [n, embedding]."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        tokens = x.flatten(2).transpose(1, 2) + self.positions
        out: Tensor = self.features(self.join(self.norm(self.blocks(tokens)).flatten(1)))
        return out
