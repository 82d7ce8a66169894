"""Where tokens lie in the image, found by changing parts of the image (Protocol: tokens).

Nothing is taken from names or counts alone: an image's rows, then its columns, are replaced band by
band, and a token lies where its value changes most. Tokens that no change reaches are no patches:
class and register tokens, before anything is mixed into them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

#: Bands of rows and of columns; with the unchanged image, as many images as a pass has.
ROWS, COLUMNS = 7, 8
#: Least correlation between where tokens change and where a grid has them: where a number of
#: tokens is met first, and later, when tokens have been mixed.
ORDERED, STILL_ORDERED = 0.8, 0.3
#: Squared change, as a share of a token's squared size, up to which it has not changed.
_UNCHANGED = 1e-10


@dataclass(frozen=True)
class TokenGrid:
    """Tokens as patches of the image, row by row.

    Attributes:
        height: Rows of patches.
        width: Columns of patches.
        extra: Indices of the tokens that are no patches, ascending.
    """

    height: int
    width: int
    extra: tuple[int, ...] = ()

    def patches(self, tokens: int) -> list[int]:
        """Indices of the patches among so many tokens, row by row."""
        return [index for index in range(tokens) if index not in set(self.extra)]


def probe_images(like: Float[Tensor, "n c h w"]) -> Float[Tensor, "16 c h w"]:
    """An image of noise; it with other noise in each band of rows; the same of columns.

    Args:
        like: Gives the shape of an image, the type and the device.
    """
    shape = like.shape[1:]
    numbers = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    first, other = numbers.to(like)
    images = [first]
    for axis, bands in ((1, ROWS), (2, COLUMNS)):
        edges = [round(band * shape[axis] / bands) for band in range(bands + 1)]
        for low, high in pairwise(edges):
            changed = first.clone()
            span = changed.narrow(axis, low, high - low)
            span.copy_(other.narrow(axis, low, high - low))
            images.append(changed)
    return torch.stack(images)


def find_grid(tokens: Float[Tensor, "16 t d"], shape: tuple[int, int] | None) -> TokenGrid | None:
    """How tokens that are met first lie in the image; None where no grid fits.

    Args:
        tokens: Of `probe_images`.
        shape: Rows and columns where the tokens come as a grid.
    """
    changes = _changes(tokens)
    moved = changes.sum(axis=0) > _UNCHANGED
    extra = tuple(np.flatnonzero(~moved).tolist())
    count = int(moved.sum())
    shapes = [shape] if shape else [(h, count // h) for h in range(2, count // 2 + 1)]
    grids = [TokenGrid(*shape, extra) for shape in shapes if shape[0] * shape[1] == count]
    fits = [_fit(changes, grid) for grid in grids]
    best = int(np.argmax(fits)) if fits else -1
    return grids[best] if fits and fits[best] >= ORDERED else None


def still_fits(tokens: Float[Tensor, "16 t d"], grid: TokenGrid) -> bool:
    """Whether tokens lie as a grid has them, though they have been mixed."""
    return _fit(_changes(tokens), grid) >= STILL_ORDERED


def _changes(tokens: Float[Tensor, "16 t d"]) -> Float[np.ndarray, "15 t"]:
    """Squared change of each token by each band, as a share of its squared size."""
    values = tokens.double()
    sizes = values[:1].square().sum(2).clamp_min(torch.finfo(torch.float32).tiny)
    changes: np.ndarray = ((values[1:] - values[:1]).square().sum(2) / sizes).cpu().numpy()
    return changes


def _fit(changes: Float[np.ndarray, "15 t"], grid: TokenGrid) -> float:
    """The smaller correlation, of rows and of columns, between the grid and the changes."""
    patches = grid.patches(changes.shape[1])
    if len(patches) != grid.height * grid.width or min(grid.height, grid.width) < 2:
        return 0.0
    positions = np.indices((grid.height, grid.width)).reshape(2, -1)
    bands = np.split(changes[:, patches], [ROWS])
    return min(_agreement(part, position) for part, position in zip(bands, positions, strict=True))


def _agreement(changes: Float[np.ndarray, "b p"], positions: np.ndarray) -> float:
    """Correlation of the positions with the mean bands, each weighted by how much it changes."""
    totals = changes.sum(axis=0)
    centers = np.arange(len(changes)) @ changes / np.where(totals > 0, totals, 1)
    if np.ptp(centers) == 0:
        return 0.0
    return float(np.corrcoef(centers, positions)[0, 1])
