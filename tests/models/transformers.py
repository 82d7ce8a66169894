"""Small networks of tokens: where each token lies is known."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Of an image, and of its grid of patches of 4x4.
SHAPE, GRID = (3, 16, 12), (4, 3)
WIDTH, HEADS = 8, 2


def attend(qkv: Tensor, fused: bool = False) -> Tensor:
    """Tokens [n, t, 8] of queries, keys and values [n, t, 24], with two heads."""
    n, t, _ = qkv.shape
    q, k, v = qkv.view(n, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
    if fused:
        mixed = F.scaled_dot_product_attention(q, k, v)
    else:
        mixed = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
    return mixed.transpose(1, 2).reshape(n, t, WIDTH)


class Block(nn.Module):
    """Normalization, attention, normalization, perceptron."""

    def __init__(self, attention: Literal["fused", "softmax", "module"]) -> None:
        super().__init__()
        self.how = attention
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        if self.how == "module":
            x = x + self.attention(y, y, y, need_weights=False)[0]
        else:
            own = self.attention
            mixed = attend(F.linear(y, own.in_proj_weight, own.in_proj_bias), self.how == "fused")
            x = x + own.out_proj(mixed)
        out: Tensor = x + torch.tanh(self.mlp(self.norm2(x)))
        return out


class Vit(nn.Module):
    """Two blocks; tokens that are no patches before and after the patches."""

    def __init__(
        self,
        *,
        before: int = 1,
        after: int = 0,
        pool: Literal["class", "mean", "all"] = "class",
        attention: Literal["fused", "softmax", "module"] = "softmax",
        order: list[int] | None = None,
    ) -> None:
        super().__init__()
        count = GRID[0] * GRID[1]
        self.before, self.after, self.pool = before, after, pool
        self.order = order or list(range(count))
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.first = nn.Parameter(torch.randn(1, before, WIDTH))
        self.last = nn.Parameter(torch.randn(1, after, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, count, WIDTH))
        self.blocks = nn.Sequential(Block(attention), Block(attention))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH * (count if pool == "all" else 1), 5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        n = x.shape[0]
        extra = [token.expand(n, -1, -1) for token in (self.first, self.last)]
        tokens = torch.cat([extra[0], patches[:, self.order], extra[1]], dim=1)
        tokens = self.norm(self.blocks(tokens))
        if self.pool == "class":
            pooled = tokens[:, 0]
        else:
            patches = tokens[:, self.before : tokens.shape[1] - self.after]
            pooled = patches.mean(1) if self.pool == "mean" else patches.flatten(1)
        out: Tensor = self.head(pooled)
        return out


class Swin(nn.Module):
    """Attention in windows of 2x2 of a grid of 4x4, shifted by one in the second block.

    With `whole`, a third block attends to all, as the last stage of a Swin does.
    """

    def __init__(self, whole: bool = False) -> None:
        super().__init__()
        self.whole = whole
        self.patches = nn.Conv2d(3, WIDTH, (4, 3), (4, 3))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.qkv = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.all_norm, self.all_qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def count(self, x: Tensor) -> int:
        return x.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).permute(0, 2, 3, 1)
        for shift, (norm, qkv) in enumerate(zip(self.norms, self.qkv, strict=False)):
            y = norm(tokens).roll((-shift, -shift), (1, 2))
            # Of no effect here; its sides are computed, as in timm's network.
            y = F.pad(y, (0, 0, 0, y.shape[2] % 2, 0, y.shape[1] % 2))
            n, (h, w, d) = self.count(x), y.shape[1:]
            y = y.view(n, h // 2, 2, w // 2, 2, d).transpose(2, 3).reshape(-1, 4, d)
            y = attend(qkv(y)).view(n, h // 2, w // 2, 2, 2, d).transpose(2, 3)
            tokens = tokens + y.reshape(n, h, w, d).roll((shift, shift), (1, 2))
        tokens = tokens.flatten(1, 2)
        if self.whole:
            tokens = tokens + attend(self.all_qkv(self.all_norm(tokens)))
        out: Tensor = self.head(self.norms[2](tokens).mean(1))
        return out


class MobileVit(nn.Module):
    """Convolutions, and attention among the pixels at the same place of each square of 2x2."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, WIDTH, 3, 2, 1), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)])
        self.norm, self.qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.last, self.head = nn.Conv2d(WIDTH, WIDTH, 1), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = torch.relu(conv(x))
        n, d, h, w = x.shape
        y = x.view(n, d, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1).reshape(n * 4, -1, d)
        y = y + attend(self.qkv(self.norm(y)))
        y = y.view(n, 2, 2, h // 2, w // 2, d).permute(0, 5, 3, 1, 4, 2).reshape(n, d, h, w)
        out: Tensor = self.head(self.last(y).mean((2, 3)))
        return out


class EdgeFace(nn.Module):
    """Convolutions, normalization of [n, h, w, d], and attention among channels (XCA)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, 4)
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH)
        self.norm, self.qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.stem(x))
        y = self.norm(x.permute(0, 2, 3, 1)).flatten(1, 2)
        n, t, d = y.shape
        q, k, v = self.qkv(y).view(n, t, 3, HEADS, d // HEADS).permute(2, 0, 3, 4, 1).unbind(0)
        y = y + ((q @ k.transpose(2, 3)).softmax(-1) @ v).permute(0, 3, 1, 2).reshape(n, t, d)
        out: Tensor = self.head(y.mean(1) + x.mean((2, 3)))
        return out


def seeded(make: type[nn.Module], **options: object) -> nn.Module:
    """A network with seeded weights, evaluated and frozen."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make(**options).eval().requires_grad_(False)


def images(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *SHAPE, generator=generator, dtype=dtype)
