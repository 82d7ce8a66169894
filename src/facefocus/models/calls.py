"""Layer calls seen as they execute, and a module left exactly as it was found.

Layers are convolutions, layer normalizations of tokens, and the probabilities of self-attention.

Calls, not modules: the same code serves any ``nn.Module``, functional code and the programs of
``torch.export`` (ARCHITECTURE, "Conv calls, not modules").
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from facefocus.core.errors import UserError
from facefocus.models.outputs import Adapted

#: Anything that maps images [n, C, h, w] to embeddings [n, d].
Network = Callable[[Tensor], Tensor]

_PLAIN = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_GENERAL = (*_PLAIN[:6], "transposed", "output_padding", "groups")
#: Every callable that runs a convolution, with the order of its arguments.
_SIGNATURES: dict[object, tuple[str, ...]] = {
    torch.conv2d: _PLAIN,
    torch.ops.aten.conv2d: _PLAIN,
    torch.ops.aten.conv2d.default: _PLAIN,
    torch.ops.aten.conv2d.padding: _PLAIN,
    torch.convolution: _GENERAL,
    torch.ops.aten.convolution: _GENERAL,
    torch.ops.aten.convolution.default: _GENERAL,
}


_NORM = ("input", "normalized_shape", "weight", "bias", "eps")
#: Every callable that normalizes layers, with the order of its arguments.
_NORMS: dict[object, tuple[str, ...]] = {
    F.layer_norm: _NORM,
    torch.layer_norm: _NORM,
    torch.ops.aten.layer_norm: _NORM,
    torch.ops.aten.layer_norm.default: _NORM,
    torch.ops.aten.native_layer_norm: _NORM,
    torch.ops.aten.native_layer_norm.default: _NORM,
}
#: Every callable that runs a softmax; its second argument is the axis.
_SOFTMAXES = {
    *(F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax),
    *(torch.ops.aten.softmax, torch.ops.aten.softmax.int),
    *(torch.ops.aten._softmax, torch.ops.aten._softmax.default),
}
#: Every callable that runs a linear layer; its weight names the attention that follows.
_LINEARS = {F.linear, torch.ops.aten.linear, torch.ops.aten.linear.default}


@dataclass(frozen=True)
class Seen:
    """One convolution call: its place in execution order and what it ran with."""

    index: int
    weight: Tensor
    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class SeenTokens:
    """One call on tokens.

    Attributes:
        index: Its place in execution order among the calls on tokens, from 1.
        kind: A layer normalization of tokens [b, t, d] or [b, h, w, d], or the softmax of
            self-attention [b, heads, t, t].
        weight: Of the normalization; of the last linear layer before an attention.
        convolutions: How many convolutions ran before.
    """

    index: int
    kind: Literal["norm", "attention"]
    weight: Tensor | None
    convolutions: int


class LayerCalls(TorchFunctionMode):
    """Calls `visit` on every layer call; its result goes on.

    That is every two-dimensional, not transposed convolution, every layer normalization over the
    last axis of tokens, and every softmax of self-attention: see `SeenTokens`.

    Args:
        visit: Gets the call and its raw output; returns what the network sees.
    """

    def __init__(self, visit: Callable[[Seen | SeenTokens, Tensor], Tensor]) -> None:
        super().__init__()
        self.convolutions = self.tokens = 0
        self._visit = visit
        self._weight: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run the call, and visit it when it is a layer's."""
        out = func(*args, **(kwargs or {}))
        if func in _SIGNATURES:
            return self._convolution(_named(_SIGNATURES[func], args, kwargs), out)
        if func in _NORMS:
            return self._norm(_named(_NORMS[func], args, kwargs), out)
        if func in _SOFTMAXES:
            return self._softmax(_named(("input", "dim"), args, kwargs), out)
        if func in _LINEARS:
            weight = _named(("input", "weight"), args, kwargs).get("weight")
            self._weight = weight if isinstance(weight, Tensor) else None
        return out

    def _convolution(self, given: Mapping[str, object], out: object) -> object:
        if not isinstance(out, Tensor) or out.dim() != 4 or given.get("transposed", False):
            return out
        self.convolutions += 1
        return self._visit(_seen(self.convolutions, given), out)

    def _norm(self, given: Mapping[str, object], out: object) -> object:
        # aten's own also returns the means and deviations.
        first, rest = (out[0], out[1:]) if isinstance(out, tuple) else (out, None)
        over, weight = given.get("normalized_shape"), given.get("weight")
        if not isinstance(first, Tensor) or first.dim() not in (3, 4):
            return out
        if not isinstance(over, Sequence) or len(over) != 1:
            return out
        visited = self._on_tokens("norm", weight if isinstance(weight, Tensor) else None, first)
        return visited if rest is None else (visited, *rest)

    def _softmax(self, given: Mapping[str, object], out: object) -> object:
        if not isinstance(out, Tensor) or out.dim() != 4 or given.get("dim") not in (-1, 3):
            return out
        if out.shape[2] != out.shape[3] or out.shape[3] == 1:
            return out
        return self._on_tokens("attention", self._weight, out)

    def _on_tokens(
        self, kind: Literal["norm", "attention"], weight: Tensor | None, out: Tensor
    ) -> Tensor:
        self.tokens += 1
        return self._visit(SeenTokens(self.tokens, kind, weight, self.convolutions), out)


def _named(
    names: tuple[str, ...], args: tuple[object, ...], kwargs: Mapping[str, object] | None
) -> dict[str, object]:
    return dict(zip(names, args, strict=False)) | dict(kwargs or {})


def _seen(index: int, given: Mapping[str, object]) -> Seen:
    weight, groups = given["weight"], given.get("groups", 1)
    if not isinstance(weight, Tensor) or not isinstance(groups, int):
        raise TypeError("A convolution ran with a weight or groups of an unknown kind.")
    height, width = weight.shape[2:]
    return Seen(index, weight, (height, width), _pair(given.get("stride", 1)), groups)


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if isinstance(value, Sequence) and len(value) in (1, 2):
        return int(value[0]), int(value[-1])
    raise TypeError(f"A convolution ran with a stride of an unknown kind: {value!r}.")


@contextmanager
def as_found(network: Network) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; every flag as it was afterwards.

    Frozen parameters leave nothing that needs a gradient before the first captured output, so
    autograd records no graph there. The flags are set one by one because exported programs refuse
    ``eval()`` and modules may override it. What is compiled runs as it was written: compiled code
    hides its convolutions and has no second backward pass.
    """
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    parameters = list(network.parameters()) if isinstance(network, nn.Module) else []
    training = [module for module in modules if module.training]
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for module in training:
            module.training = False
        for parameter in learning:
            parameter.requires_grad_(False)
        with _as_written():
            yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


def _as_written() -> AbstractContextManager[object]:
    """Context in which compiled modules run as they were written."""
    # The compiler takes seconds to import, and nothing is compiled before it is.
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]


#: Fewest images for which torch runs oneDNN's convolutions even on a single thread.
ENOUGH = 16


def filled(count: int) -> int:
    """How many images a pass of `count` must be filled up to for its bits not to depend on it.

    Torch leaves oneDNN for its own kernels, which differ in the last bits, for one image, and on a
    single thread for fewer than sixteen; oneDNN adds in another order where threads share an
    image. Measured: 2, 4, 6, ... images on two threads, 16 on one thread and 50 on either give
    every image the same bits, forward and backward; 3 images on two threads do not always.
    """
    threads = torch.get_num_threads()
    step = threads if threads > 1 and ENOUGH % threads == 0 else ENOUGH
    return max(1, -(-count // step)) * step if count < ENOUGH else count


def refuse_script(network: Network) -> None:
    """Raise for TorchScript, whose convolutions run where nothing can see them.

    Raises:
        UserError: The network, or a part of it, is TorchScript.
    """
    parts: list[object] = [network]
    if isinstance(network, nn.Module):
        parts.extend(network.modules())
    if any(isinstance(part, torch.jit.ScriptModule | torch.jit.ScriptFunction) for part in parts):
        raise UserError(
            "The recognizer is TorchScript, which hides its convolutions. Give the nn.Module it "
            "was made from or a torch.export program (.pt2) instead."
        )


def module_names(network: Network) -> dict[int, str]:
    """The path of the module that owns each parameter, by the parameter's ``id``.

    Weights tell which module a call belongs to without a hook on any module.
    """
    if isinstance(network, Adapted):
        network = network.network
    if not isinstance(network, nn.Module):
        return {}
    return {
        id(parameter): path.rpartition(".")[0].replace("_orig_mod.", "") or "conv2d"
        for path, parameter in network.named_parameters(remove_duplicate=False)
    }
