"""LeGrad (Protocol: attention-methods)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facefocus.models.layers import TokenCall
from facefocus.saliency.methods import METHODS, AttentionMethod


def legrad(
    attentions: Sequence[Tensor], gradients: Sequence[Tensor], calls: Sequence[TokenCall]
) -> Tensor:
    """LeGrad (Bousselham et al., 2024): how much more attention to a patch would help.

    The mean over all attentions, heads and queries of relu(g), by key. The authors take at each
    layer the gradient of a score read from that layer by the network's own head; here all are
    gradients of the one objective, which is that of the embedding.

    Args:
        attentions: Probabilities [n, heads, t, t]: not used.
        gradients: g, query by key, of each attention.
        calls: Of each attention.

    Returns:
        [n, h, w].
    """
    layers = [
        call.on_grid(gradient.relu().where(gradient.isfinite(), torch.nan)).mean(dim=1)
        for call, gradient in zip(calls, gradients, strict=True)
    ]
    return torch.stack(layers).mean(dim=0)


METHODS.add("legrad", AttentionMethod("legrad", legrad, version=1, scale_invariant=True))
