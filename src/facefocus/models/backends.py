"""Backends for passes without gradients: torch, OpenVINO on a CPU, or a GPU.

A backend is checked against torch on clean faces before its first result, and refused if they
disagree.
Gradients always come from torch, so maps and masks never depend on the backend.
"""

from __future__ import annotations

import copy
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from facefocus.core.errors import UserError, did_you_mean, one_line
from facefocus.core.notices import notice
from facefocus.models.calls import as_found
from facefocus.models.explicit_attention import ExplicitAttention
from facefocus.models.gpu_batch import LARGEST, LARGEST_GRAPH, kept_batch, measured_rates
from facefocus.models.memory import (
    budget_of,
    capture_bytes,
    forward_bytes,
    images_within,
    out_of_memory,
)
from facefocus.models.probe import FRAMES, probe_frames
from facefocus.models.recognizer import CHUNK, Forward, Recognizer, TorchRecognizer, allowed_by
from facefocus.models.replaced_operations import ReplacedOperations

#: What can be asked for; ``auto`` is the first of `PREFERRED` that is present.
BACKENDS = ("auto", "torch", "openvino", "openvino-bf16", "cuda", "cuda-tf32", "cuda-half")
PREFERRED = ("cuda", "openvino", "torch")
#: Why `auto` takes what it takes.
WHY_PREFERRED = "the fastest here in float32; fewer bits only where they are asked for"

#: Least cosine between a backend's embedding and torch's, by precision.
AGREEMENT = {"float32": 0.9999, "tf32": 0.999, "bfloat16": 0.999, "float16": 0.999}
_PRECISION = {"openvino-bf16": "bfloat16", "cuda-tf32": "tf32", "cuda-half": "float16"}

#: How torch warns of what it calls deprecated: 2.14 by the second.
DEPRECATED = (DeprecationWarning, FutureWarning)

#: Raise when networks are compiled in another way: last bits of embeddings may differ then.
PROGRAM = 2
#: The same of networks on a GPU.
CUDA_PROGRAM = 3

#: Images that a thread of OpenVINO runs at once where their values outweigh the weights. Measured
#: on one thread against 16: MobileFaceNet 1.05 to 1.07 times as fast, a narrow one 1.2, SqueezeNet
#: 1.04; with many weights slower (IResNet18 0.97, IResNet50 in bfloat16 0.9).
PER_THREAD = 4


def precision_of_backend(backend: str) -> str:
    """The type a backend computes in: ``float32``, ``tf32``, ``bfloat16`` or ``float16``."""
    return _PRECISION.get(backend, "float32")


def absent(backend: str) -> str | None:
    """Why a backend cannot be used on this machine, or None."""
    if backend.startswith("openvino") and find_spec("openvino") is None:
        return "needs: pip install openvino"
    if backend.startswith("cuda") and not torch.cuda.is_available():
        return "needs a GPU that this torch can use, and finds none"
    return None


def accelerate(
    recognizer: Recognizer,
    backend: str = "auto",
    memory: int | None = None,
    sample: UInt8[np.ndarray, "n h w 3"] | None = None,
) -> Recognizer:
    """The recognizer with its inference on a backend; black boxes stay as they are.

    Args:
        recognizer: A freshly loaded recognizer. On a GPU, gradients are taken there as well.
        backend: ``auto`` (a GPU, else OpenVINO where it runs this recognizer as torch does, else
            torch), ``torch``, ``openvino``, ``openvino-bf16`` (half the bits, up to three times
            as fast), ``cuda``, ``cuda-tf32`` (float32 whose products have 10 bits) or
            ``cuda-half``.
        memory: Bytes that a pass may take; by default a batch is 16 images, and on a GPU what half
            of its memory allows. There it is the least batch that reaches 95 % of the best rate, of
            passes with and without gradients each: see `facefocus.models.gpu_batch`. Batches are
            part of the keys of what is stored: see `facefocus.benchmark.keys`.
        sample: Clean faces on which the backend is compared with torch. By default, whatever it
            is given first: that must be clean faces too, since masked ones, whose embeddings are
            short of meaning, agree less in half precision.

    Raises:
        UserError: No such backend, or it is not present.
    """
    if backend not in BACKENDS:
        raise UserError(
            f"The 'backend' must be one of {', '.join(BACKENDS)}. Got '{backend}'."
            + did_you_mean(backend, BACKENDS)
        )
    why = absent(backend)
    if why is not None:
        raise UserError(f"The backend '{backend}' {why}.")
    if not isinstance(recognizer, TorchRecognizer) or not isinstance(recognizer.module, nn.Module):
        return recognizer
    chosen = chosen_backend(backend)
    most, most_graph = (LARGEST, LARGEST_GRAPH) if chosen.startswith("cuda") else (CHUNK, CHUNK)
    if memory is not None:
        table = recognizer.layers()
        recognizer.batch = images_within(memory, forward_bytes(table), most)
        recognizer.graph_batch = images_within(memory, capture_bytes(table, [1]), most_graph)
    precision = precision_of_backend(chosen)
    if chosen.startswith("openvino"):
        engine: Forward = OpenVino(recognizer, precision)
        checked = Checked("OpenVINO", engine, recognizer, precision, sample)
        if backend == "auto":
            try:
                checked.check()
            except UserError as error:
                notice(f"The recognizer '{recognizer.name}' runs on torch. {error}")
                return recognizer
        recognizer.forward = checked
        recognizer.precision = f"openvino {version('openvino')} program {PROGRAM} {precision}"
    elif chosen.startswith("cuda"):
        to_gpu(recognizer.module)
        plain, graph = recognizer.forward, with_gradients(recognizer)
        batch, graph_batch = recognizer.batch, recognizer.graph_batch
        if memory is None:
            budget = budget_of(None)
            batch = images_within(budget, taken_bytes(recognizer, plain), most)
            graph_batch = images_within(budget, taken_bytes(recognizer, graph), most_graph)
        recognizer.precision = f"torch {torch.__version__} cuda program {CUDA_PROGRAM} {precision}"
        gradients = f"torch {torch.__version__} gradients"
        recognizer.graph_batch = batch_by_rate(recognizer, graph, gradients, graph_batch)
        once = Cuda(recognizer.module, precision)
        recognizer.batch = batch_by_rate(recognizer, once, recognizer.precision, batch)
        engine = Cuda(recognizer.module, precision)
        recognizer.forward = Checked("CUDA", engine, recognizer, precision, sample)
    return recognizer


def chosen_backend(backend: str) -> str:
    """The backend that `backend` means on this machine: ``auto`` is the fastest exact one."""
    if backend != "auto":
        return backend
    return next(name for name in PREFERRED if absent(name) is None)


def backend_reason(backend: str) -> str:
    """Which backend runs passes without gradients here, and why that one.

    Example:
        >>> backend_reason("torch")
        'torch, as asked for'
    """
    if backend != "auto":
        return f"{backend}, as asked for"
    return f"{chosen_backend(backend)} (auto): {WHY_PREFERRED}"


class Checked:
    """What runs a network, compared with torch before its first result.

    Attributes:
        cosine: Least cosine between its embeddings and torch's; None before the first batch.

    Args:
        title: What to call it.
        engine: What runs the network.
        recognizer: Whose network it is, with torch's own pass still in place.
        precision: The type it computes in.
        sample: The frames to compare on, the first batch of them; None for whatever comes first.
    """

    def __init__(
        self,
        title: str,
        engine: Forward,
        recognizer: TorchRecognizer,
        precision: str,
        sample: UInt8[np.ndarray, "n h w 3"] | None = None,
    ) -> None:
        self._title, self._engine, self._reference = title, engine, recognizer.forward
        self._recognizer, self._precision, self._sample = recognizer, precision, sample
        self.cosine: float | None = None
        self._same: dict[tuple[int, int], bool] = {}

    def allows(self, size: int) -> bool:
        """Whether a smaller batch gives the bits of a full one: tried once, on `models.probe`.

        Not before the first comparison with torch, nor where the engine itself allows none.

        Raises:
            UserError: As a call.
        """
        if self.cosine is None and self._sample is not None:
            self.check()
        if self.cosine is None or not allowed_by(self._engine)(size):
            return False
        tried = self._recognizer.batch, size
        if tried not in self._same:
            self._same[tried] = self._gives_same(*tried)
        return self._same[tried]

    def _gives_same(self, batch: int, size: int) -> bool:
        frames = probe_frames()[np.arange(batch) % FRAMES]
        try:
            with torch.inference_mode():
                (full,) = self._engine(self._recognizer.batches(frames))
                (some,) = self._engine(inputs[:size] for inputs in self._recognizer.batches(frames))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return False  # what it takes stays free for the full batch
        return torch.equal(full[:size], some)

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Embeddings of each batch.

        Raises:
            UserError: The network cannot be run, or its embeddings differ from torch's.
        """
        waiting = iter(batches)
        if self.cosine is None:
            if self._sample is None:
                yield self._checked(next(waiting))
            else:
                self.check()
        yield from self._engine(waiting)

    def check(self) -> None:
        """Compare now, on the sample or else on the frames of `models.probe`.

        Raises:
            UserError: The network cannot be run, or its embeddings differ from torch's.
        """
        sample = np.repeat(probe_frames(), 4, 0) if self._sample is None else self._sample
        self._checked(next(self._recognizer.batches(sample)))

    def _checked(self, inputs: Tensor) -> Tensor:
        (expected,) = self._reference([inputs])
        if not expected.isfinite().all():
            # The recognizer itself is at fault, and says so.
            return expected
        name = self._recognizer.name
        try:
            (got,) = self._engine([inputs])
        # Converters fail in any way on what they do not know.
        except Exception as error:
            if out_of_memory(error):
                raise
            # OpenVINO's reason stands last, behind places in its own code.
            reason = one_line(error, 2000).rpartition("-- ")[2][:200].rstrip(".")
            raise UserError(
                f"{self._title} cannot run '{name}': {reason}. Use --backend torch."
            ) from error
        cosine = float(nn.functional.cosine_similarity(expected.float(), got.float()).min())
        least = AGREEMENT[self._precision]
        if not cosine >= least:
            raise UserError(
                f"{self._title}'s embeddings of '{name}' differ from torch's:"
                f" least cosine {cosine:.6f}, {least} is needed. Use --backend torch."
            )
        self.cosine = cosine
        return got


# OpenVINO -----------------------------------------------------------------------------------------


class OpenVino:
    """A network compiled by OpenVINO for each shape of images that it sees.

    Two requests take turns: while one runs, the next images are prepared. A network with fewer
    weights than values of its layers runs `PER_THREAD` images at a time, whose values then stay in
    the caches; others read their weights for the whole batch at once. The bits are the same.
    """

    def __init__(self, recognizer: TorchRecognizer, precision: str = "float32") -> None:
        self._recognizer, self._precision = recognizer, precision
        self._requests: dict[torch.Size, list[Any]] = {}

    def allows(self, size: int) -> bool:
        """Whether a smaller batch is whole requests: another shape takes longer to compile than
        a batch that is not full takes."""
        return size >= self._most

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Embeddings of batches of one shape, a power of two images each."""
        counts: deque[int] = deque()

        def parts() -> Iterator[Tensor]:
            for inputs in batches:
                pieces = torch.split(inputs, min(self._most, len(inputs)))
                counts.append(len(pieces))
                yield from pieces

        embedded = self._run(parts())
        for first in embedded:
            yield torch.cat([first, *islice(embedded, counts.popleft() - 1)])

    def _run(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        running: deque[Any] = deque()
        turns: Iterator[Any] | None = None
        try:
            for inputs in parts:
                turns = turns or cycle(self._compiled(inputs))
                request = next(turns)
                if request in running:
                    yield _result(running.popleft())
                request.start_async([_channels_last(inputs)])
                running.append(request)
            while running:
                yield _result(running.popleft())
        finally:
            for request in running:
                request.wait()

    def _compiled(self, inputs: Tensor) -> list[Any]:
        if inputs.shape not in self._requests:
            compiled = _compile(self._recognizer.module, inputs, self._precision)
            self._requests[inputs.shape] = [compiled.create_infer_request() for _ in range(2)]
        return self._requests[inputs.shape]

    @cached_property
    def _most(self) -> int:
        """Images of a request."""
        module = self._recognizer.module
        try:
            values = sum(call.size for call in self._recognizer.layers().calls)
        except UserError:  # its layers cannot be seen
            return CHUNK
        assert isinstance(module, nn.Module)
        if sum(weights.numel() for weights in module.parameters()) >= values:
            return CHUNK
        most = PER_THREAD * torch.get_num_threads()
        return min(CHUNK, 1 << (most.bit_length() - 1))


def _channels_last(inputs: Tensor) -> np.ndarray:
    """Images [n, h, w, C]: as they lie in memory already."""
    return inputs.permute(0, 2, 3, 1).contiguous().numpy()


def _result(request: Any) -> Tensor:
    request.wait()
    return torch.from_numpy(request.get_output_tensor(0).data.copy())


def _compile(module: Any, inputs: Tensor, precision: str) -> Any:
    """The module as an OpenVINO program for inputs of this very shape, given channels last.

    Its kernels take images in that order: given in another, each batch is put in order twice.
    """
    # OpenVINO reports its imports to its makers unless this package is missing; nothing leaves
    # the user's machine, so it is.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.preprocess import PrePostProcessor

    with as_found(module), warnings.catch_warnings():
        # OpenVINO reads modules through torch.jit.trace, which torch calls deprecated, and which
        # warns of shapes that become constants: the program is for one shape.
        for kind in (*DEPRECATED, torch.jit.TracerWarning):  # type: ignore[attr-defined]
            warnings.simplefilter("ignore", kind)
        # torch would trace and run it twice more to check the trace: `Checked` compares results.
        once = {"check_trace": False}
        decoder = TorchScriptPythonDecoder(
            module, example_input=inputs.contiguous(), trace_kwargs=once
        )
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape(list(inputs.shape))
    _prelu_as_maximum(model)
    order = PrePostProcessor(model)
    order.input().tensor().set_layout(openvino.Layout("NHWC"))
    order.input().model().set_layout(openvino.Layout("NCHW"))
    hints = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        # As many as torch has: workers share the cores.
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Bound to cores, the threads of every worker would get the same first ones.
        "ENABLE_CPU_PINNING": torch.get_num_threads() >= (os.cpu_count() or 1),
    }
    return openvino.Core().compile_model(order.build(), "CPU", hints)


def _prelu_as_maximum(model: Any) -> None:
    """Write PReLU as max(x, slope x), which it is for slopes up to 1, in an OpenVINO model.

    OpenVINO has no fast depthwise convolution followed by a PReLU in bfloat16: MobileFaceNet runs
    1.2 times as fast without it, other networks as fast as before.
    """
    from openvino import opset13

    for node in list(model.get_ops()):
        if node.get_type_name() != "PRelu":
            continue
        slopes = node.input_value(1).get_node()
        if slopes.get_type_name() != "Constant" or (slopes.data > 1).any():
            continue
        x = node.input_value(0)
        # One slope for each channel [K], against x [n, K, ...].
        shape = (1, -1, *(1 for _ in x.get_partial_shape()[2:]))
        scaled = opset13.multiply(x, opset13.constant(slopes.data.reshape(shape)))
        node.output(0).replace(opset13.maximum(x, scaled).output(0))


# GPU ----------------------------------------------------------------------------------------------


def to_gpu(module: nn.Module) -> None:
    """Move a network to the GPU, channels last; float32 there has all its bits.

    Convolutions in TF32, torch's default, would give other masks than a CPU; gradients that are
    added in any order, others in every run.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    module.to("cuda").to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def taken_bytes(recognizer: TorchRecognizer, passes: Forward) -> int:
    """Bytes of the GPU that a pass takes for each image: asked of it, not worked out."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.inference_mode():
        for _ in passes([inputs_at_once(recognizer, CHUNK)]):
            pass
    return max(1, (torch.cuda.max_memory_allocated() - before) // CHUNK)


def inputs_at_once(recognizer: TorchRecognizer, count: int) -> Tensor:
    """So many images, preprocessed, where the network is: those of `models.probe` in turn."""
    frames = probe_frames()[np.arange(count) % FRAMES]
    # No more at once than a pass may have now: there may be no memory for all.
    return torch.cat(list(recognizer.batches(frames)))[:count]


def with_gradients(recognizer: TorchRecognizer) -> Forward:
    """Passes forward and backward through the whole network, as those of captures run."""

    def passes(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for inputs in batches:
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                as_found(recognizer.module),
                ReplacedOperations(),
                ExplicitAttention(),
            ):
                given = inputs.clone().requires_grad_()
                (made,) = torch.autograd.grad(recognizer.module(given).sum(), given)
            yield made

    return passes


def batch_by_rate(recognizer: TorchRecognizer, passes: Forward, engine: str, most: int) -> int:
    """The batch of a recognizer on a GPU, at most `most`: see `models.gpu_batch`.

    Args:
        recognizer: On the GPU.
        passes: Run its network, and are not used again: they may keep what they recorded.
        engine: What they are.
        most: What the memory allows.
    """

    def measure() -> dict[int, float]:
        return measured_rates(passes, inputs_at_once(recognizer, most), min(CHUNK, most))

    return kept_batch(
        measure,
        card=torch.cuda.get_device_name(),
        engine=engine,
        network=recognizer.fingerprint,
        most=most,
    )


class Cuda:
    """A network on the GPU, recorded as a CUDA graph for each shape of batch that it sees.

    A graph is launched as one: a network of a hundred small kernels is not bound by launching
    them. Batch normalizations are part of the convolutions before them. Nothing waits for the
    GPU: embeddings are on their way when the next batch is sent.
    """

    def __init__(self, module: nn.Module, precision: str) -> None:
        self._precision = precision
        self._dtype = torch.float16 if precision == "float16" else torch.float32
        self._module = in_precision(folded(module), self._dtype)
        self._graphs: dict[torch.Size, tuple[Any, Tensor, Tensor]] = {}

    def allows(self, size: int) -> bool:
        """Every smaller batch can be recorded."""
        return True

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Embeddings of each batch; the GPU's memory keeps inputs and outputs of the graphs."""
        for inputs in batches:
            if inputs.shape not in self._graphs:
                with product_precision(self._precision):
                    self._graphs[inputs.shape] = self._record(inputs.to(self._dtype))
            graph, given, made = self._graphs[inputs.shape]
            given.copy_(inputs)
            graph.replay()
            yield made.clone()

    def _record(self, inputs: Tensor) -> tuple[Any, Tensor, Tensor]:
        given = inputs.clone(memory_format=torch.channels_last)
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with as_found(self._module), torch.cuda.stream(beside):
            for _ in range(3):  # cuDNN chooses its kernels before they are recorded
                self._module(given)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with as_found(self._module), torch.cuda.graph(graph):
            made = self._module(given)
        return graph, given, made


@contextmanager
def product_precision(precision: str) -> Iterator[None]:
    """Context in which a GPU's convolutions and matrix products have the bits of a precision.

    ``tf32``: factors of 10 bits; else all that the type has. Products in half precision are summed
    in float32.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (
        cudnn.allow_tf32, matmul.allow_tf32, matmul.allow_fp16_reduced_precision_reduction,
    )  # fmt: skip
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, matmul.allow_fp16_reduced_precision_reduction = before


def folded(module: nn.Module) -> nn.Module:
    """A copy of a network whose batch normalizations are part of the convolutions before them.

    The network itself where it cannot be taken apart: its code depends on values.
    """
    with warnings.catch_warnings():
        # What it imports calls what torch calls deprecated.
        for kind in DEPRECATED:
            warnings.simplefilter("ignore", kind)
        from torch.fx.experimental.optimization import fuse

    try:
        with as_found(module):
            fused = fuse(copy.deepcopy(module))
    except Exception:  # tracing fails in any way on what it does not know
        return module
    return fused


def in_precision(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a network in another type, channels last; the network stays as it is."""
    made: nn.Module = copy.deepcopy(module).to(dtype)
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
