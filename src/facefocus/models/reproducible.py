"""The same bits on any number of threads.

Torch divides a tensor among threads and computes what is left over at the end of a part by another
formula: exp-like operations (sigmoid, softplus, gelu, ...) then differ in their last bits. Matrix
products and sums over everything add in another order for another number of threads. Such
operations run on one thread here. Those that take the time - convolutions, frozen normalizations,
piecewise linear activations, pooling, plain arithmetic - keep all threads: the tests compare them,
forward and backward, on 1, 2, 4, 8 and 16. Convolutions take a power of two: on three threads, two
share an image, and their gradients add in another order.

OpenVINO's programs and onnxruntime's are not seen here: the former give the same bits on any number
of threads, measured on the same networks; the latter run on one thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import local
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from facefocus.models.calls import ENOUGH

_ATEN = torch.ops.aten
_CONVOLUTIONS = {_ATEN.conv2d, _ATEN.convolution, _ATEN.convolution_backward}
#: Give the same bits on any number of threads: single roundings, and sums along whole axes.
_FREE = {
    *(_ATEN.batch_norm, _ATEN.native_batch_norm, _ATEN.prelu, _ATEN._prelu_kernel),
    *(_ATEN._prelu_kernel_backward, _ATEN.relu, _ATEN.relu_, _ATEN.threshold_backward),
    *(_ATEN.add, _ATEN.add_, _ATEN.sub, _ATEN.mul, _ATEN.mul_, _ATEN.div, _ATEN.div_),
    *(_ATEN.gt, _ATEN.where, _ATEN.cat, _ATEN.clone, _ATEN.copy_, _ATEN.to, _ATEN._to_copy),
    *(_ATEN.amin, _ATEN.amax, _ATEN.max_pool2d, _ATEN.max_pool2d_with_indices),
    *(_ATEN.max_pool2d_with_indices_backward, _ATEN.avg_pool2d, _ATEN.adaptive_avg_pool2d),
    *(_ATEN._adaptive_avg_pool2d, _ATEN.upsample_bilinear2d, _ATEN._upsample_bilinear2d_aa),
    *(_ATEN.empty, _ATEN.zeros, _ATEN.new_zeros, _ATEN.zeros_like, _ATEN.flatten, _ATEN.index),
    *(_ATEN.lift_fresh, _ATEN.detach_, _ATEN.resolve_conj, _ATEN.resolve_neg, _ATEN.new_empty),
}
_SUMS = {_ATEN.sum, _ATEN.mean}
#: Elementwise, but torch does not tag them so.
_ELEMENTWISE = {_ATEN.silu_backward, _ATEN.elu_backward, _ATEN.mish_backward}
#: Elements that a vector loop of torch takes at once, or a multiple of it.
_VECTOR = 64
#: Longest first axis that can be images.
_IMAGES = 256


@contextmanager
def reproducible(device: torch.device | None = None) -> Iterator[None]:
    """Context in which torch's results do not depend on this process's number of threads.

    Args:
        device: Where the work is done; nothing is changed on another device than a CPU.
    """
    off = device is not None and device.type != "cpu"
    with nullcontext() if off or getattr(_here, "active", False) else _Steady():  # type: ignore[no-untyped-call]
        yield


#: Whether this thread is inside already: modes belong to threads.
_here = local()


class _Steady(TorchDispatchMode):  # type: ignore[no-untyped-call]
    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch imports its compiler, seconds, for the first operation.
        return False

    def __enter__(self) -> Any:
        _here.active = True
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        _here.active = False
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation on as many threads as it may have."""
        given = kwargs or {}
        kind = _KINDS.get(func) or _KINDS.setdefault(func, _kind(func))
        before = torch.get_num_threads()
        if kind == "free" or (before == 1 and kind == "other"):
            return func(*args, **given)
        wanted = _threads(kind, args, before)
        try:
            if wanted != before:
                torch.set_num_threads(wanted)
            if kind == "elementwise":
                return _elementwise(func, args, given)
            return func(*args, **given)
        finally:
            if wanted != before:
                torch.set_num_threads(before)


#: The kind of every operation that was met.
_KINDS: dict[Any, str] = {}


def _kind(func: Any) -> str:
    packet = getattr(func, "overloadpacket", None)
    # Operations of higher order run others, which come here on their own.
    if packet is None or func.is_view or packet in _FREE:
        return "free"
    if packet in _CONVOLUTIONS:
        return "convolution"
    if packet in _SUMS:
        return "sum"
    elementwise = torch.Tag.pointwise in func.tags or packet in _ELEMENTWISE
    return "elementwise" if elementwise else "other"


def _threads(kind: str, args: tuple[Any, ...], most: int) -> int:
    """How many threads an operation may have where `most` are there."""
    if kind == "convolution":
        power = 1 << (min(most, ENOUGH).bit_length() - 1)
        # On one thread, fewer than ENOUGH images take other kernels; on several, none is shared.
        images = len(args[0])
        return power if images >= ENOUGH or (power > 1 and images % power == 0) else 2
    if kind == "sum" and len(args) > 1 and args[1] and len(args[1]) < args[0].dim():
        return most
    return 1


def _elementwise(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Image by image where the last elements of a tensor would be computed otherwise."""
    first = args[0] if args else None
    if not (
        isinstance(first, Tensor)
        and first.dim() > 1
        and 0 < len(first) <= _IMAGES
        and first[0].numel() % _VECTOR
    ):
        return func(*args, **kwargs)
    parts = []
    for image in range(len(first)):
        single = slice(image, image + 1)
        own = [
            arg[single] if isinstance(arg, Tensor) and arg.shape[:1] == first.shape[:1] else arg
            for arg in args
        ]
        parts.append(func(*own, **kwargs))
    return first if func._schema.is_mutable else torch.cat(parts)
