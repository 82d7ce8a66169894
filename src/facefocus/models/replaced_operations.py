"""Operations of torch, replaced by ones with the same bits and less work.

`prelu` computes the gradient of its weights even where they are frozen, one element at a time:
measured here on IResNet18, 22 % of all the time that maps at nine layers take. `batch_norm` by
frozen statistics takes 2 to 10 times as long for its gradient as the two products that it is: 20 %
of the time of MobileFaceNet's gradients. Their replacements give the same bits. `linear` adds in
another order for fewer rows than a chunk has, so it is filled up: images then have the same
embedding and gradients whatever images are beside them, and a few images need no full chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from facefocus.models.calls import ENOUGH

_PRELU = (torch.prelu, torch.ops.aten.prelu, torch.ops.aten.prelu.default)
_BATCH_NORM = (torch.batch_norm, torch.ops.aten.batch_norm, torch.ops.aten.batch_norm.default)
_LINEAR = (F.linear, torch.ops.aten.linear, torch.ops.aten.linear.default)


class ReplacedOperations(TorchFunctionMode):
    """Runs a frozen network with the replacements; all other operations stay as they are."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the call or its replacement.

        Keyword arguments are looked into where torch's own modules give some.
        """
        given = kwargs or {}
        replacement = _BY_NAME.get(func) or (None if given else _REPLACEMENTS.get(func))
        result = replacement(*args, **given) if replacement is not None else None
        return func(*args, **given) if result is None else result


def _prelu(x: Tensor, weight: Tensor) -> Tensor | None:
    if weight.requires_grad or not (x.requires_grad and torch.is_grad_enabled()):
        return None
    result: Tensor = _Prelu.apply(x, weight)  # type: ignore[no-untyped-call]
    return result


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Tensor | None:
    if training or weight is None or bias is None or mean is None or variance is None:
        return None
    if weight.requires_grad or bias.requires_grad:
        return None
    # Elsewhere torch rounds in another way.
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return None
    if not (x.requires_grad and torch.is_grad_enabled()):
        return None
    result: Tensor = _BatchNorm.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, mean, variance, eps
    )
    return result


def _functional_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """`F.batch_norm`, by its own argument names: what torch's modules call."""
    return _batch_norm(
        input, weight, bias, running_mean, running_var, training, momentum, eps, True
    )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    if x.dim() != 2 or not 0 < len(x) < ENOUGH:
        return None
    filler = x.new_zeros(ENOUGH - len(x), x.shape[1])
    return F.linear(torch.cat([x, filler]), weight, bias)[: len(x)]


_REPLACEMENTS: dict[object, Callable[..., Tensor | None]] = {
    **dict.fromkeys(_PRELU, _prelu),
    **dict.fromkeys(_BATCH_NORM, _batch_norm),
    **dict.fromkeys(_LINEAR, _linear),
}

_BY_NAME: dict[object, Callable[..., Tensor | None]] = {F.batch_norm: _functional_batch_norm}


class _Prelu(torch.autograd.Function):
    """prelu without a gradient of its weight; keeps the slope of every element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        # prelu of 1 and -1 with the weight's opposite: 1 or the weight. `where` takes longer.
        signs = (x > 0).to(x.dtype).mul_(2).sub_(1)
        ctx.save_for_backward(torch.prelu(signs, -weight))
        return torch.prelu(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradient * slope, None


class _BatchNorm(torch.autograd.Function):
    """batch_norm by frozen statistics, without gradients of its weights."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        # As torch does: in double precision, then rounded, and the factors one after the other.
        deviation = (1 / (variance.double() + eps).sqrt()).float()
        ctx.save_for_backward(deviation.view(shape), weight.view(shape))
        return torch.batch_norm(x, weight, bias, mean, variance, False, 0.0, eps, False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        deviation, weight = ctx.saved_tensors
        return (gradient * deviation).mul_(weight), None, None, None, None, None
