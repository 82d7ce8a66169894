"""Attention rollout (Protocol: attention-methods)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facefocus.models.layers import TokenCall
from facefocus.saliency.methods import METHODS, AttentionMethod


def attention_rollout(
    attentions: Sequence[Tensor], gradients: Sequence[Tensor], calls: Sequence[TokenCall]
) -> Tensor:
    """Attention rollout (Abnar and Zuidema, 2020): how attention carries tokens to the embedding.

    With A the mean of an attention over its heads, half of a token is what it was and half what it
    attends to: (A + I) / 2. The product over all layers says what each token of the end is made
    of. The map is the mean of its rows of the tokens that the embedding reads: the class token's,
    or those of all patches. No objective and no gradient enter.

    Args:
        attentions: Probabilities [n, heads, t, t], query by key, of each attention.
        gradients: Not used.
        calls: Of each attention.

    Returns:
        [n, h, w].
    """
    rows = read_rows(attentions[-1], calls[-1])
    for attention in reversed(attentions):
        rows = (rows + times(rows, attention.mean(dim=1))) / 2
    return calls[-1].on_grid(rows[:, None, None])[:, 0]


def read_rows(attention: Tensor, call: TokenCall) -> Tensor:
    """For each image [n, t] equal weights of the tokens that the embedding reads, 0 elsewhere."""
    rows = torch.zeros_like(attention[:, 0, 0])
    rows[:, list(call.read)] = 1 / len(call.read)
    return rows


def times(rows: Tensor, matrices: Tensor) -> Tensor:
    """Rows [n, t] times matrices [n, t, t], in plain sums: the same in any batch."""
    return (rows[:, :, None] * matrices).sum(dim=1)


METHODS.add(
    "attention-rollout",
    AttentionMethod(
        "attention-rollout",
        attention_rollout,
        version=1,
        scale_invariant=True,
        uses_gradient=False,
    ),
)
