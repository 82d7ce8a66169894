"""Contrastive excitation backprop of a triplet (Protocol: photo-maps)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from facefocus.core.errors import UserError
from facefocus.models.layers import placement
from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Options
from facefocus.saliency.mated_gradients import inputs_of
from facefocus.saliency.methods import METHODS, Choice
from facefocus.saliency.photo_maps import Photo, PhotoGradientMethod

#: Functions whose outputs hand their share to the inputs as it is, place by place: they move,
#: scale or bend single values.
_PASSING = {
    *("batch_norm", "relu", "relu_", "prelu", "relu6", "hardtanh", "leaky_relu", "dropout"),
    *("normalize",),
}
#: Functions whose own gradient hands shares on: they only move values, or choose among them.
_MOVING = {
    *("max_pool2d", "flatten", "view", "reshape", "cat", "concat", "permute", "transpose"),
    *("clone", "contiguous", "unsqueeze", "squeeze", "chunk", "split", "__getitem__", "pad"),
    *("to", "double", "float", "size", "dim", "type", "detach", "numel", "is_floating_point"),
    *("stride", "__get__"),
}
#: Sums of products with weights, or of equal parts.
_LINEAR = {"conv2d", "linear", "avg_pool2d", "adaptive_avg_pool2d", "mean"}
_ADDING = {"add", "add_", "__add__", "__iadd__", "__radd__"}
#: Of a tensor and a number, these scale.
_SCALING = {"mul", "__mul__", "__rmul__", "div", "__truediv__"}


def excitation_backprop(
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> Float[np.ndarray, "n h w"]:
    """Contrastive excitation backprop (Zhang et al., 2018; of triplets: Williford et al., 2020).

    An output hands its share to its inputs in proportion to what they excite: of y = sum of w x,
    P(x) = sum over y of P(y) (w x s)+ / sum of (w x s)+, s the sign of y; biases have no part in
    it. Where x and y are 0 or more this is the paper's w+ x; the sign extends it to networks
    whose activations can be negative (PReLU, sums without activation), of which the paper has
    none. Normalizations and activations pass shares on; sums divide theirs likewise; the largest of
    a pool has it all. The embedding's own shares are (e r)+, scaled to 1: r the reference, or
    the stranger, the most similar of up to 64 photos of other people.

    map = sum over the input's channels of (P of the reference - P of the stranger)+; with
    ``contrast = "false"``, of P of the reference alone.

    Args:
        recognizer: The source: convolutions, linear layers, batch normalizations, pools, sums and
            piecewise linear activations.
        photos: What is explained; each with a stranger.
        options: ``contrast``.
        calls: Not used.
        pixels: Not used.

    Raises:
        UserError: The network does something else.
    """
    device, _ = placement(recognizer.module)
    frames = torch.from_numpy(np.stack([photo.frame for photo in photos])).to(device)
    inputs = inputs_of(recognizer, frames).requires_grad_()
    with _Excitation(recognizer.name):
        e = recognizer.module(inputs.clone())
    mates, strangers = (
        torch.from_numpy(np.stack(embeddings)).to(e)
        for embeddings in zip(*((photo.reference, photo.stranger) for photo in photos), strict=True)
    )
    shares = []
    for others in (mates, strangers) if options["contrast"] == "true" else (mates,):
        prior = (e.detach() * others).relu()
        prior = prior / prior.sum(dim=1, keepdim=True)
        shares.append(torch.autograd.grad(e, inputs, prior, retain_graph=True)[0].double())
    excited = (shares[0] - shares[1]).relu() if len(shares) > 1 else shares[0]
    maps = recognizer.preprocessing.to_frame(
        excited.sum(dim=1).float(), (frames.shape[1], frames.shape[2])
    )
    in_frame: np.ndarray = maps.cpu().numpy()
    return in_frame


class _Excitation(TorchFunctionMode):
    """Gives every function inside the backward pass of excitation backprop."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the function, or raise where shares cannot pass it."""
        given, name = dict(kwargs or {}), getattr(func, "__name__", str(func))
        if not any(isinstance(arg, Tensor) and arg.requires_grad for arg in _tensors(args)):
            return func(*args, **given)
        if name in _LINEAR:
            x, rest = args[0], args[1:]
            weight = given.get("weight", rest[0] if rest else None)
            if not isinstance(weight, Tensor):
                return _apply(_Linear, x, None, lambda x, _: func(x, *rest, **given), None)
            free = {k: v for k, v in given.items() if k not in ("weight", "bias")}
            bias = given.get("bias", rest[1] if len(rest) > 1 else None)
            if bias is not None and name == "conv2d":
                bias = bias.view(-1, 1, 1)
            more = rest[2:]

            def weighted(x: Tensor, w: Tensor) -> Tensor:
                made: Tensor = func(x, w, None, *more, **free)
                return made

            return _apply(_Linear, x, weight, weighted, bias)
        if name in _ADDING and isinstance(args[1], Tensor) and not given:
            return _apply(_Sum, args[0], args[1])
        scales = name in _SCALING and not any(isinstance(arg, Tensor) for arg in args[1:])
        if name in _PASSING or scales:
            return _apply(_Same, args[0], lambda x: func(x, *args[1:], **given))
        if name in _MOVING:
            return func(*args, **given)
        raise UserError(
            f"The method 'excitation-backprop' has no rule for '{name}', which the recognizer"
            f" '{self._name}' runs. It follows convolutions, linear layers, batch normalizations,"
            " pools, sums, ReLU and PReLU."
        )


def _apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    return function.apply(*args)  # type: ignore[no-untyped-call]


def _tensors(args: Sequence[Any]) -> list[Any]:
    return [each for arg in args for each in (arg if isinstance(arg, list | tuple) else [arg])]


class _Same(torch.autograd.Function):
    """Any function of single values; its shares are those of its inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """The function itself."""
        return run(x.clone())

    @staticmethod
    def backward(ctx: Any, *shares: Any) -> Any:
        """The shares as they are."""
        return shares[0], None


class _Linear(torch.autograd.Function):
    """y = sum of w x + b, or a mean of x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        run: Callable[[Tensor, Any], Tensor],
        bias: Tensor | None,
    ) -> Tensor:
        """The function itself."""
        y = run(x, weight)
        if bias is not None:
            y = y + bias
        ctx.save_for_backward(x, weight, y)
        ctx.run = run
        return y

    @staticmethod
    def backward(ctx: Any, *shares: Any) -> Any:
        """To each input by what it excites in the direction of y."""
        x, weight, y = ctx.saved_tensors
        with torch.enable_grad():
            up, down = (part.detach().requires_grad_() for part in (x.relu(), (-x).relu()))
            if weight is None:
                along, against = ctx.run(up, None), ctx.run(down, None)
            else:
                plus, minus = weight.relu(), (-weight).relu()
                along = ctx.run(up, plus) + ctx.run(down, minus)
                against = ctx.run(up, minus) + ctx.run(down, plus)
            excited = torch.where(y >= 0, along, against)
        excitation = excited.detach()
        each = torch.where(excitation > 0, shares[0] / excitation, 0.0)
        parts = torch.autograd.grad(excited, (up, down), each)
        return up.detach() * parts[0] + down.detach() * parts[1], None, None, None


class _Sum(torch.autograd.Function):
    """a + b."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """The sum."""
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, *shares: Any) -> Any:
        """To each by what it adds in the direction of the sum."""
        a, b = ctx.saved_tensors
        sign = torch.where(a + b >= 0, 1.0, -1.0)
        own = [(part * sign).relu() for part in (a, b)]
        whole = own[0] + own[1]
        each = torch.where(whole > 0, shares[0] / whole, 0.0)
        return own[0] * each, own[1] * each


METHODS.add(
    "excitation-backprop",
    PhotoGradientMethod(
        "excitation-backprop",
        excitation_backprop,
        version=1,
        # A backward pass of shares runs every layer four times forward and backward.
        passes=lambda options: (1, 8 if options["contrast"] == "true" else 4),
        options={"contrast": Choice("true", ("true", "false"))},
        gallery=True,
    ),
)
