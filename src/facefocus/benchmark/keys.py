"""What enters the keys of artefacts besides what was asked for (Protocol: keys).

A key names everything that can change the bytes stored under it, so none of this is asked for. The
number of threads changes none (`facefocus.models.reproducible`).
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import cv2
import torch

from facefocus.evaluation.nuisances import NUISANCES
from facefocus.models.layers import placement
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.fills import FILLS, GapFill

#: Raise when a stage's arithmetic changes, so that old artefacts are not taken for new ones.
VERSIONS = {
    "embed": 2, "masked": 2, "shared": 1, "maps": 3, "scores": 5, "oracle": 4, "robustness": 1,
}  # fmt: skip


def forward_of(recognizer: Recognizer) -> list[str]:
    """What runs passes without gradients: engine, torch (which prepares frames), device, batch."""
    engine = str(getattr(recognizer, "precision", "float32"))
    batch = getattr(recognizer, "batch", None)
    return [engine, f"torch {torch.__version__}", _device(recognizer), f"batch {batch}"]


def gradients_of(recognizer: Recognizer) -> list[str]:
    """What runs passes with gradients, and those of their references: always torch."""
    module: Any = getattr(recognizer, "module", None)
    batches = [getattr(recognizer, name, None) for name in ("graph_batch", "batch")]
    return [
        f"torch {torch.__version__} {placement(module)[1]}",
        _device(recognizer),
        f"batches {batches[0]} and {batches[1]}",
    ]


def _device(recognizer: Recognizer) -> str:
    """The kind of device: the processor's instructions, or the name of the GPU."""
    module: Any = getattr(recognizer, "module", None)
    # A black box has no module that torch could place: it runs on the processor.
    device = torch.device("cpu") if module is None else placement(module)[0]
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


@cache
def libraries() -> tuple[str, ...]:
    """The libraries that draw, hide, rank and score outside of torch."""
    return f"numpy {version('numpy')}", f"scipy {version('scipy')}", f"opencv {cv2.__version__}"


def fill_of(name: str) -> str:
    """A fill, with its code where another package or a notebook brings it."""
    fill = FILLS[name]
    return _with_code(name, fill.prepare if isinstance(fill, GapFill) else fill)


def nuisance_of(name: str) -> str:
    """A nuisance, with its code where another package or a notebook brings it."""
    nuisance = NUISANCES[name]
    return _with_code(name, nuisance.change or nuisance.move or nuisance_of)


def _with_code(name: str, function: Callable[..., Any]) -> str:
    function = function.func if isinstance(function, partial) else function
    if function.__module__.startswith("facefocus."):
        return name
    try:
        code = inspect.getsource(function)
    except (OSError, TypeError):
        return name
    return f"{name} {hashlib.sha256(code.encode()).hexdigest()}"
