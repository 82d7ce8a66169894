"""Margin softmax heads: what makes photos of a person gather and people part while training.

Both take the cosines between embeddings and one learned direction for each person, make the right
person's harder to reach by a margin, and scale everything; the cross entropy of the result is the
loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

#: ``head(cosines [n, c], labels [n], margin, scale) -> logits [n, c]``.
Head = Callable[[Tensor, Tensor, float, float], Tensor]

#: Keeps the arc cosine's slope finite.
_EDGE = 1e-6


def cosface(
    cosines: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], margin: float, scale: float
) -> Float[Tensor, "n c"]:
    """s (cos t - m) for the right person, s cos t for the others.

    Wang et al., CosFace, CVPR 2018, equation 4.
    """
    return scale * (cosines - margin * _right(cosines, labels))


def arcface(
    cosines: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], margin: float, scale: float
) -> Float[Tensor, "n c"]:
    """s cos(t + m) for the right person, s cos t for the others; m in radians.

    Deng et al., ArcFace, CVPR 2019, equation 3. Beyond t = pi - m, where cos(t + m) would rise
    again, it goes on falling as cos t - m sin m, as in the authors' code.
    """
    own = cosines.gather(1, labels[:, None]).clamp(-1 + _EDGE, 1 - _EDGE)
    harder = torch.cos(torch.acos(own) + margin)
    beyond = own - margin * math.sin(margin)
    harder = torch.where(own > math.cos(math.pi - margin), harder, beyond)
    return scale * torch.where(_right(cosines, labels) > 0, harder, cosines)


#: Heads by the names they have in a recipe.
HEADS: dict[str, Head] = {"cosface": cosface, "arcface": arcface}


def _right(cosines: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> Float[Tensor, "n c"]:
    """1 at each row's label, 0 elsewhere."""
    return torch.zeros_like(cosines).scatter_(1, labels[:, None], 1.0)
