"""Attention rollout, weighted by gradients (Protocol: attention-methods)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facefocus.models.layers import TokenCall
from facefocus.saliency.attention_rollout import read_rows, times
from facefocus.saliency.methods import METHODS, AttentionMethod


def gradient_rollout(
    attentions: Sequence[Tensor], gradients: Sequence[Tensor], calls: Sequence[TokenCall]
) -> Tensor:
    """Relevance of patches (Chefer, Gur and Wolf, 2021, ICCV, equations 5 and 6).

    R begins as the identity; each attention adds E R, with E the mean over heads of relu(g * A):
    R = (I + E_L) ... (I + E_1). The map is the mean of the rows of R - I of the tokens that the
    embedding reads. The identity says nothing: it is 0 for the class token's row and the same for
    every patch where all are read.

    Args:
        attentions: Probabilities A [n, heads, t, t], query by key, of each attention.
        gradients: g of the objective itself, its scale included.
        calls: Of each attention.

    Returns:
        [n, h, w].
    """
    begin = read_rows(attentions[-1], calls[-1])
    added = torch.zeros_like(begin)
    for attention, gradient in zip(reversed(attentions), reversed(gradients), strict=True):
        products = gradient * attention
        weights = products.relu().where(products.isfinite(), torch.nan).mean(dim=1)
        added = added + times(begin + added, weights)
    return calls[-1].on_grid(added[:, None, None])[:, 0]


METHODS.add(
    "gradient-rollout",
    AttentionMethod("gradient-rollout", gradient_rollout, version=1, scale_invariant=False),
)
