"""ONNX operations as calls of torch: a table from an operation's name to its function.

Convolution, layer normalization and softmax become the very calls that `calls` watches, so that a
graph made of these functions shows its layers as a torch module does. Definitions:
https://onnx.ai/onnx/operators, versions 7 to 24 of the default domain. A function gets the node and
its inputs (None for one that is left out) and returns its output, or a tuple of them. Every
function is compared with onnxruntime in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class UnknownOperation(Exception):
    """An operation, or a way of using one, that is not in the table; its text names it."""


@dataclass(frozen=True)
class Node:
    """One step of a graph.

    Attributes:
        operation: Name of the operation.
        name: The node's own name; may be empty.
        inputs: Names of its inputs; empty for one that is left out.
        outputs: Names of its outputs.
        attributes: Its attributes as Python values; tensors as torch tensors.
        opset: Version of the operations that the graph is written for.
    """

    operation: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default where it is left out."""
        return self.attributes.get(name, default)

    def refuse(self, what: str) -> UnknownOperation:
        """An error for a way of using the operation that the table does not have."""
        return UnknownOperation(f"{self.operation} with {what}")


Operation = Callable[..., Any]
#: The function of every operation: ``OPERATIONS["Add"](node, first, second)``.
OPERATIONS: dict[str, Operation] = {}


def _operation(*names: str) -> Callable[[Operation], Operation]:
    def add(function: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return add


def _integers(value: Tensor | Sequence[int] | None) -> list[int] | None:
    if isinstance(value, Tensor):
        return [int(item) for item in value.reshape(-1).tolist()]
    return None if value is None else list(value)


def _sides(x: Tensor) -> list[int]:
    """The shape as whole numbers, also where torch.jit traces and a side is a tensor."""
    return [int(side) for side in x.shape]


def _same_device(*values: Tensor) -> list[Tensor]:
    """Values computed from shapes lie on the CPU; they join the others where they meet them."""
    device = next((value.device for value in values if value.device.type != "cpu"), None)
    return [value if device is None else value.to(device) for value in values]


# Elementwise --------------------------------------------------------------------------------------

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tanh": torch.tanh,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Min": torch.minimum,
    "Max": torch.maximum,
    "Sum": torch.add,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
}


@_operation(*_UNARY)
def _unary(node: Node, x: Tensor) -> Tensor:
    return _UNARY[node.operation](x)


@_operation(*_BINARY)
def _binary(node: Node, *values: Tensor) -> Tensor:
    return reduce(_BINARY[node.operation], _same_device(*values))


@_operation("Mean")
def _mean(node: Node, *values: Tensor) -> Tensor:
    return reduce(torch.add, values) / len(values)


@_operation("Div")
def _div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    a, b = _same_device(a, b)
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc" if whole else None)


@_operation("Mod")
def _mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return (torch.fmod if node.get("fmod", 0) else torch.remainder)(*_same_device(a, b))


@_operation("Pow")
def _pow(node: Node, a: Tensor, b: Tensor) -> Tensor:
    # A square by a number is one product; by a tensor it is a logarithm and an exponential.
    exponent = b.item() if b.numel() == 1 and b.dim() == 0 else b
    result: Tensor = torch.pow(a, exponent)
    return result.to(a.dtype)


@_operation("Clip")
def _clip(node: Node, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    low, high = (node.get("min"), node.get("max")) if node.opset < 11 else (low, high)
    clipped: Tensor = x if low is None and high is None else torch.clamp(x, low, high)
    return clipped


@_operation("LeakyRelu")
def _leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@_operation("Elu")
def _elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.get("alpha", 1.0))


@_operation("Celu")
def _celu(node: Node, x: Tensor) -> Tensor:
    return F.celu(x, node.get("alpha", 1.0))


@_operation("Selu")
def _selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.6732632), node.get("gamma", 1.050701)
    return F.elu(x, alpha) * float(gamma)


@_operation("HardSigmoid")
def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return (x * float(node.get("alpha", 0.2)) + float(node.get("beta", 0.5))).clamp(0, 1)


@_operation("Gelu")
def _gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.get("approximate", "none"))


@_operation("Swish")
def _swish(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)


@_operation("PRelu")
def _prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    sides, own = _sides(x), _sides(slope)
    channels = sides[1] if x.dim() > 1 else 1
    # [C, 1, 1] by the definition; MXNet wrote [C], which the definition would put along the rows.
    by_channel = own == [channels, *[1] * (x.dim() - 2)]
    written_plain = own == [channels] and sides[-1] != channels
    if slope.numel() == 1 or by_channel or written_plain:
        return torch.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, slope * x, x)


@_operation("Where")
def _where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    condition, a, b = _same_device(condition, a, b)
    return torch.where(condition, a, b)


@_operation("Dropout")
def _dropout(node: Node, x: Tensor, *unused: Tensor) -> Tensor:
    return x


#: Types by their number in ONNX. Every float is of the graph's own type, float32 unless converted.
_TYPES = {
    **{1: torch.float32, 10: torch.float32, 11: torch.float32, 16: torch.float32},
    **{2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64},
    9: torch.bool,
}


@_operation("Cast")
def _cast(node: Node, x: Tensor) -> Tensor:
    wanted = _TYPES.get(node.get("to"))
    if wanted is None:
        raise node.refuse(f"type {node.get('to')}")
    return x if wanted.is_floating_point and x.is_floating_point() else x.to(wanted)


@_operation("CastLike")
def _cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


@_operation("DequantizeLinear")
def _dequantize(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    shape = [1] * x.dim()
    if scale.numel() > 1:
        shape[node.get("axis", 1)] = -1
    centered = x.float() - (0 if zero is None else zero.float().reshape(shape))
    return centered * scale.reshape(shape if scale.numel() > 1 else [])


# Convolution, normalization, pooling --------------------------------------------------------------


def _pads(node: Node, x: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows and columns to add before and after each spatial axis."""
    axes = len(kernel)
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        given = node.get("pads") if mode == "NOTSET" else None
        pads = given or [0] * (2 * axes)
        return pads[:axes], pads[axes:]
    before, after = [], []
    steps, gaps = node.get("strides", [1] * axes), node.get("dilations", [1] * axes)
    for side, width, step, gap in zip(_sides(x)[2:], kernel, steps, gaps, strict=True):
        total = max((-(-side // step) - 1) * step + (width - 1) * gap + 1 - side, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before, after


def _padded(x: Tensor, pads: tuple[list[int], list[int]], value: float) -> tuple[Tensor, list[int]]:
    """The images with what torch's own padding cannot add, and what it adds."""
    before, after = pads
    if before == after:
        return x, before
    both = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    return F.pad(x, both, value=value), [0] * len(before)


@_operation("Conv")
def _conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axes = weight.dim() - 2
    convolve: Any = {1: torch.conv1d, 2: torch.conv2d}.get(axes)
    if convolve is None:
        raise node.refuse(f"{axes} axes")
    x, padding = _padded(x, _pads(node, x, _sides(weight)[2:]), 0.0)
    steps, gaps = node.get("strides", [1] * axes), node.get("dilations", [1] * axes)
    return convolve(x, weight, bias, steps, padding, gaps, node.get("group", 1))  # type: ignore[no-any-return]


@_operation("ConvTranspose")
def _conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    before, after = _pads(node, x, _sides(weight)[2:])
    odd = node.get("auto_pad", "NOTSET") != "NOTSET" or node.get("output_shape") is not None
    if odd or before != after or weight.dim() != 4:
        raise node.refuse("a given output shape, uneven padding, or other than two axes")
    return torch.conv_transpose2d(
        x,
        weight,
        bias,
        node.get("strides", [1, 1]),
        before,
        node.get("output_padding", [0, 0]),
        node.get("group", 1),
        node.get("dilations", [1, 1]),
    )


@_operation("BatchNormalization")
def _batch_norm(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    if node.get("training_mode", 0):
        raise node.refuse("training_mode = 1")
    eps = node.get("epsilon", 1e-5)
    if mean.dim() == 1:
        return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, eps)
    # spatial = 0 with statistics of every place.
    return (x - mean) / torch.sqrt(variance + eps) * scale + bias


@_operation("LayerNormalization")
def _layer_norm(node: Node, x: Tensor, scale: Tensor | None, bias: Tensor | None = None) -> Tensor:
    shape = _sides(x)[node.get("axis", -1) :]
    # As they are where they fit: the weight itself tells which layer this is.
    weight, shift = (
        part if part is None or _sides(part) == shape else part.expand(shape)
        for part in (scale, bias)
    )
    return F.layer_norm(x, shape, weight, shift, node.get("epsilon", 1e-5))


@_operation("InstanceNormalization")
def _instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@_operation("GroupNormalization")
def _group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    # Before version 21, scale and bias were those of groups.
    weight, shift = (
        part.repeat_interleave(_sides(x)[1] // _sides(part)[0]) for part in (scale, bias)
    )
    return F.group_norm(x, node.get("num_groups"), weight, shift, node.get("epsilon", 1e-5))


@_operation("LpNormalization")
def _lp_normalization(node: Node, x: Tensor) -> Tensor:
    return F.normalize(x, node.get("p", 2), node.get("axis", -1))


@_operation("LRN")
def _local_response_norm(node: Node, x: Tensor) -> Tensor:
    return F.local_response_norm(
        x, node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    )


@_operation("MaxPool")
def _max_pool(node: Node, x: Tensor) -> Tensor:
    kernel = node.get("kernel_shape")
    if len(kernel) != 2:
        raise node.refuse(f"{len(kernel)} axes")
    x, padding = _padded(x, _pads(node, x, kernel), -math.inf)
    steps, gaps = node.get("strides", [1, 1]), node.get("dilations", [1, 1])
    return F.max_pool2d(x, kernel, steps, padding, gaps, bool(node.get("ceil_mode", 0)))


@_operation("AveragePool")
def _average_pool(node: Node, x: Tensor) -> Tensor:
    kernel = node.get("kernel_shape")
    if len(kernel) != 2 or set(node.get("dilations", [1])) != {1}:
        raise node.refuse("dilations, or other than two axes")
    rest = (kernel, node.get("strides", [1, 1]))
    ceil, outside = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    wide, padding = _padded(x, pads := _pads(node, x, kernel), 0.0)
    mean = F.avg_pool2d(wide, *rest, padding, ceil, outside)
    if wide is x or outside:
        return mean
    inside, _ = _padded(torch.ones_like(x[:1, :1]), pads, 0.0)
    return mean / F.avg_pool2d(inside, *rest, padding, ceil, outside)


@_operation("GlobalAveragePool")
def _global_average_pool(node: Node, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1) if x.dim() == 4 else x.flatten(2).mean(2, keepdim=True)


@_operation("GlobalMaxPool")
def _global_max_pool(node: Node, x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


# Products and sums --------------------------------------------------------------------------------


@_operation("Gemm")
def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.t() if node.get("transA", 0) else a
    weight = b if node.get("transB", 0) else b.t()
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if alpha == beta == 1 and c is not None and c.numel() == _sides(weight)[0]:
        return F.linear(a, weight, c.reshape(-1))
    product = F.linear(a, weight) * float(alpha)
    return product if c is None else product + c * float(beta)


@_operation("MatMul")
def _matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return F.linear(a, b.t()) if a.dim() == b.dim() == 2 else torch.matmul(a, b)


@_operation("Einsum")
def _einsum(node: Node, *values: Tensor) -> Tensor:
    return torch.einsum(node.get("equation"), *values)


@_operation("Attention")
def _attention(
    node: Node, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *more: Tensor
) -> Tensor:
    if q.dim() != 4 or more or node.get("softcap", 0) or node.get("qk_matmul_output_mode", 0):
        raise node.refuse("heads that are not an axis, earlier keys, or a soft cap")
    causal = bool(node.get("is_causal", 0))
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        mask,
        is_causal=causal,
        scale=node.get("scale"),
        enable_gqa=q.shape[1] != k.shape[1],
    )


@_operation("CumSum")
def _cumulative_sum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    dim = int(axis)
    x = x.flip(dim) if node.get("reverse", 0) else x
    sums = x.cumsum(dim) - x if node.get("exclusive", 0) else x.cumsum(dim)
    return sums.to(x.dtype).flip(dim) if node.get("reverse", 0) else sums.to(x.dtype)


@_operation("Softmax", "LogSoftmax")
def _softmax(node: Node, x: Tensor) -> Tensor:
    function: Any = torch.softmax if node.operation == "Softmax" else torch.log_softmax
    if node.opset >= 13:
        return function(x, node.get("axis", -1))  # type: ignore[no-any-return]
    # Of all that follows the axis, as one row.
    axis = node.get("axis", 1) % x.dim()
    if axis == x.dim() - 1:
        return function(x, -1)  # type: ignore[no-any-return]
    return function(x.flatten(axis), -1).view(x.shape)  # type: ignore[no-any-return]


def _product(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceMax": torch.amax,
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keep),
    "ReduceMin": torch.amin,
    "ReduceProd": _product,
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
}


@_operation(*_REDUCTIONS)
def _reduce(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _integers(node.get("axes", axes))
    if not chosen:
        if node.get("noop_with_empty_axes", 0):
            return x
        chosen = list(range(x.dim()))
    return _REDUCTIONS[node.operation](x, chosen, bool(node.get("keepdims", 1)))


# Shapes -------------------------------------------------------------------------------------------


@_operation("Constant")
def _constant(node: Node) -> Tensor:
    ((kind, value),) = node.attributes.items()
    types = {"value_float": torch.float32, "value_floats": torch.float32}
    if kind != "value" and not kind.startswith(("value_int", "value_float")):
        raise node.refuse(kind)
    plain: Tensor = torch.as_tensor(value, dtype=None if kind == "value" else types.get(kind))
    return plain


@_operation("ConstantOfShape")
def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = node.get("value", torch.zeros(1))
    filled: Tensor = value.reshape(()).expand(_integers(shape) or []).clone()
    return filled


@_operation("Shape")
def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(_sides(x)[node.get("start", 0) : node.get("end")])


@_operation("Size")
def _size(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.numel())


@_operation("Range")
def _range(node: Node, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


@_operation("Reshape")
def _reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    sides = _integers(shape) or []
    if not node.get("allowzero", 0):
        own = _sides(x)
        sides = [own[axis] if side == 0 else side for axis, side in enumerate(sides)]
    return x.reshape(sides)


@_operation("Flatten")
def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    return x.reshape(math.prod(_sides(x)[: axis % x.dim() if axis < 0 else axis]), -1)


@_operation("Transpose")
def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm", list(reversed(range(x.dim())))))


@_operation("Squeeze")
def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _integers(node.get("axes", axes))
    return x.squeeze() if chosen is None else x.squeeze(chosen)


@_operation("Unsqueeze")
def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _integers(node.get("axes", axes)) or []
    for axis in sorted(axis % (x.dim() + len(chosen)) for axis in chosen):
        x = x.unsqueeze(axis)
    return x


@_operation("Concat")
def _concat(node: Node, *values: Tensor) -> Tensor:
    return torch.cat(_same_device(*values), node.get("axis"))


@_operation("Split")
def _split(node: Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = node.get("axis", 0)
    chosen = _integers(node.get("split", sizes))
    # Parts of one size, the last one smaller where they do not fit.
    return torch.split(x, chosen or -(-_sides(x)[axis] // len(node.outputs)), axis)


@_operation("Slice")
def _slice(node: Node, x: Tensor, *given: Tensor | None) -> Tensor:
    if node.opset < 10:
        starts, ends, axes = (node.get(name) for name in ("starts", "ends", "axes"))
        steps = None
    else:
        starts, ends, axes, steps = [*map(_integers, given), None, None][:4]
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[index] if axes else index
        step = steps[index] if steps else 1
        chosen = range(_sides(x)[axis])[start:end:step]
        if step > 0:
            x = x[(*[slice(None)] * (axis % x.dim()), slice(chosen.start, chosen.stop, step))]
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), device=x.device))
    return x


@_operation("Gather")
def _gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    if indices.dim() == 0 and indices.device.type == "cpu":
        return x.select(axis, int(indices))
    own = _sides(x)
    positions = torch.remainder(indices.reshape(-1).to(x.device), own[axis])
    sides = [*own[:axis], *_sides(indices), *own[axis + 1 :]]
    return x.index_select(axis, positions).reshape(sides)


@_operation("GatherElements")
def _gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    return torch.gather(x, axis, torch.remainder(indices.to(x.device), _sides(x)[axis]))


@_operation("Expand")
def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    sides = torch.broadcast_shapes(x.shape, tuple(_integers(shape) or ()))  # type: ignore[no-untyped-call]
    return x.expand(sides)


@_operation("Tile")
def _tile(node: Node, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(_integers(repeats) or [])


@_operation("Trilu")
def _trilu(node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    return (torch.triu if node.get("upper", 1) else torch.tril)(x, 0 if k is None else int(k))


@_operation("DepthToSpace")
def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    block, (n, c, h, w) = node.get("blocksize"), _sides(x)
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


@_operation("SpaceToDepth")
def _space_to_depth(node: Node, x: Tensor) -> Tensor:
    block, (n, c, h, w) = node.get("blocksize"), _sides(x)
    parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


@_operation("Pad")
def _pad(
    node: Node,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    given = _integers(node.get("pads", pads)) or []
    chosen = _integers(axes) or list(range(x.dim()))
    amount = {axis % x.dim(): given[i :: len(chosen)] for i, axis in enumerate(chosen)}
    both = [width for axis in reversed(range(x.dim())) for width in amount.get(axis, [0, 0])]
    while both[-2:] == [0, 0]:
        both = both[:-2]
    mode = {"edge": "replicate", "wrap": "circular"}.get(kind := node.get("mode", "constant"), kind)
    if mode != "constant":
        return F.pad(x, both, mode) if both else x
    return F.pad(x, both, value=float(node.get("value", 0.0) if value is None else value))


@_operation("Resize", "Upsample")
def _resize(node: Node, x: Tensor, *given: Tensor | None) -> Tensor:
    scales, sizes = _scales_and_sizes(node, x, given)
    mode = node.get("mode", "nearest")
    usual = "half_pixel" if node.operation == "Resize" and node.opset >= 11 else "asymmetric"
    transform = node.get("coordinate_transformation_mode", usual)
    if mode == "nearest":
        for axis in range(x.dim()):
            side = _sides(x)[axis]
            if sizes[axis] != side:
                indices = _nearest(node, transform, side, sizes[axis], scales[axis])
                x = x.index_select(axis, torch.tensor(indices, device=x.device))
        return x
    words = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}
    plain = x.dim() == 4 and sizes[:2] == _sides(x)[:2] and not node.get("antialias", 0)
    pairs = zip(scales, _sides(x), sizes, strict=True)
    exact = all(abs(scale * side - size) < 1e-4 for scale, side, size in pairs)
    if transform not in words or not plain or not exact or node.get("exclude_outside", 0):
        raise node.refuse(f"mode {mode} and {transform} in this way")
    name = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    return F.interpolate(x, sizes[2:], mode=name, align_corners=words[transform])


def _scales_and_sizes(
    node: Node, x: Tensor, given: Sequence[Tensor | None]
) -> tuple[list[float], list[int]]:
    """How much larger each axis becomes, and its side then."""
    # Resize since 11: region of interest, scales, sizes; before it and in Upsample: scales.
    inputs = given if node.operation == "Resize" and node.opset >= 11 else (None, *given)
    scales, sizes = [*inputs[1:], None, None][:2]
    if node.get("axes") or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.refuse("axes, or a policy for the aspect ratio")
    if sizes is not None and sizes.numel():
        sides = _integers(sizes) or []
        # A file that is fixed to one image says so here, too: images stay as many as they are.
        sides[0] = _sides(x)[0]
        return [size / side for size, side in zip(sides, _sides(x), strict=True)], sides
    factors = node.get("scales") if scales is None else [float(s) for s in scales.tolist()]
    return factors, [math.floor(s * side) for s, side in zip(factors, _sides(x), strict=True)]


def _nearest(node: Node, transform: str, side: int, size: int, scale: float) -> list[int]:
    """Which element each of the new ones is."""
    coordinates: dict[str, Callable[[int], float]] = {
        "asymmetric": lambda i: i / scale,
        "half_pixel": lambda i: (i + 0.5) / scale - 0.5,
        "pytorch_half_pixel": lambda i: (i + 0.5) / scale - 0.5 if size > 1 else 0.0,
        "align_corners": lambda i: i * (side - 1) / (size - 1) if size > 1 else 0.0,
    }
    usual = "round_prefer_floor" if node.operation == "Resize" and node.opset >= 11 else "floor"
    rounds: dict[str, Callable[[float], int]] = {
        "round_prefer_floor": lambda x: math.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: math.floor(x + 0.5),
        "floor": math.floor,
        "ceil": math.ceil,
    }
    if transform not in coordinates:
        raise node.refuse(f"mode nearest and {transform}")
    turn = rounds[node.get("nearest_mode", usual)]
    return [min(max(turn(coordinates[transform](i)), 0), side - 1) for i in range(size)]
