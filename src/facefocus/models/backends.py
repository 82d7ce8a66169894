"""What runs passes without gradients: plain torch, or OpenVINO where it is installed.

A backend is checked against torch on the first frames it sees, and refused if they disagree.
Gradients always come from torch, so maps and masks never depend on the backend.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from facefocus.errors import UserError, did_you_mean, one_line
from facefocus.models.recognizer import Recognizer, TorchRecognizer

BACKENDS = ("auto", "torch", "openvino", "openvino-bf16")

#: Least cosine between a backend's embedding and torch's, by precision.
AGREEMENT = {"float32": 0.9999, "bfloat16": 0.999}

#: Raise when networks are compiled in another way: last bits of embeddings may differ then.
PROGRAM = 2


def accelerate(recognizer: Recognizer, backend: str = "auto") -> Recognizer:
    """The recognizer with its inference on a backend; black boxes stay as they are.

    Args:
        recognizer: A freshly loaded recognizer.
        backend: ``auto`` (OpenVINO where installed, else torch), ``torch``, ``openvino`` or
            ``openvino-bf16`` (half the bits, up to three times as fast).

    Raises:
        UserError: No such backend, or it is not installed.
    """
    if backend not in BACKENDS:
        raise UserError(
            f"The 'backend' must be one of {', '.join(BACKENDS)}. Got '{backend}'."
            + did_you_mean(backend, BACKENDS)
        )
    present = find_spec("openvino") is not None
    if backend.startswith("openvino") and not present:
        raise UserError(f"The backend '{backend}' needs: pip install 'facefocus[fast]'.")
    if backend == "torch" or not present or not _convertible(recognizer):
        return recognizer
    assert isinstance(recognizer, TorchRecognizer)
    precision = "bfloat16" if backend == "openvino-bf16" else "float32"
    recognizer.forward = OpenVino(recognizer, precision)
    recognizer.precision = f"openvino {version('openvino')} program {PROGRAM} {precision}"
    return recognizer


def _convertible(recognizer: Recognizer) -> bool:
    return isinstance(recognizer, TorchRecognizer) and isinstance(recognizer.module, nn.Module)


class OpenVino:
    """A network compiled by OpenVINO for one batch shape when it is first called."""

    def __init__(self, recognizer: TorchRecognizer, precision: str = "float32") -> None:
        self._name, self._precision = recognizer.name, precision
        self._module = recognizer.module
        self._reference: Callable[[Tensor], Tensor] = recognizer.forward
        self._compiled: Any = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Embeddings [n, d] of preprocessed images [n, C, h, w].

        Raises:
            UserError: The network cannot be converted, or its embeddings differ from torch's.
        """
        if self._compiled is None:
            self._compiled = _compile(self._module, inputs, self._name, self._precision)
            self._check(inputs)
        return torch.from_numpy(self._compiled(inputs.contiguous().numpy())[0])

    def _check(self, inputs: Tensor) -> None:
        expected, got = self._reference(inputs), self(inputs)
        cosine = float(nn.functional.cosine_similarity(expected, got).min())
        least = AGREEMENT[self._precision]
        if not cosine >= least:
            raise UserError(
                f"OpenVINO's embeddings of '{self._name}' differ from torch's: least cosine"
                f" {cosine:.6f}, {least} is needed. Use --backend torch."
            )


def _compile(module: Any, inputs: Tensor, name: str, precision: str) -> Any:
    """The module as an OpenVINO program for inputs of this very shape."""
    # OpenVINO reports its imports to its makers unless this package is missing; nothing leaves
    # the user's machine, so it is.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    was_training = module.training
    try:
        module.eval()
        with warnings.catch_warnings():
            # OpenVINO reads modules through torch.jit.trace, which torch calls deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            decoder = TorchScriptPythonDecoder(module, example_input=inputs.contiguous())
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
        model.reshape(list(inputs.shape))
        _prelu_as_maximum(model)
        hint = {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision]}
        return openvino.Core().compile_model(model, "CPU", hint)
    except RuntimeError as error:
        raise UserError(
            f"OpenVINO cannot run '{name}': {one_line(error)} Use --backend torch."
        ) from error
    finally:
        module.train(was_training)


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
