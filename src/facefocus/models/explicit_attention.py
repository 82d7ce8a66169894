"""Attention as matrix products and a softmax, so that its probabilities can be seen.

Torch's fused attention never holds the probabilities, so nothing can read them or ask for their
gradient. Written out, they are one tensor [n, heads, t, t]. Embeddings and captures both run like
this: an image then has the same embedding in either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class ExplicitAttention(TorchFunctionMode):
    """Runs a network with its attention written out; all other operations stay as they are."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the call, written out where it is an attention."""
        written_out = _WRITTEN_OUT.get(func)
        result = written_out(*args, **(kwargs or {})) if written_out is not None else None
        return func(*args, **(kwargs or {})) if result is None else result


def _scaled_dot_product(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """softmax(q k^T scale + mask) v; None where tokens are dropped at random."""
    if dropout_p:
        return None
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1) @ value


def _multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    **others: Any,
) -> tuple[Tensor, Tensor | None] | None:
    """What `nn.MultiheadAttention` runs; None for what is no plain self-attention.

    Args are those of `F.multi_head_attention_forward`; tokens come first: [t, n, d].
    """
    masks = (bias_k, bias_v, key_padding_mask, attn_mask)
    if in_proj_weight is None or query is not key or key is not value or query.dim() != 3:
        return None
    if any(mask is not None for mask in masks) or add_zero_attn:
        return None
    if training and dropout_p:
        return None
    tokens, images, width = query.shape
    split = F.linear(query, in_proj_weight, in_proj_bias)
    split = split.view(tokens, images, 3, num_heads, width // num_heads).permute(2, 1, 3, 0, 4)
    scores = split[0] @ split[1].transpose(-2, -1) * (width // num_heads) ** -0.5
    weights = torch.softmax(scores, -1)
    mixed = (weights @ split[2]).permute(2, 0, 1, 3).reshape(tokens, images, width)
    out = F.linear(mixed, out_proj_weight, out_proj_bias)
    if not need_weights:
        return out, None
    return out, weights.mean(1) if average_attn_weights else weights


_WRITTEN_OUT: dict[object, Callable[..., Any]] = {
    F.scaled_dot_product_attention: _scaled_dot_product,
    torch.ops.aten.scaled_dot_product_attention: _scaled_dot_product,
    torch.ops.aten.scaled_dot_product_attention.default: _scaled_dot_product,
    F.multi_head_attention_forward: _multi_head,
}
