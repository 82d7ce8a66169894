"""Recognizers with seeded random weights, and drawn faces: speed does not depend on either."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from facefocus.faces.sources.synthetic import render_many
from facefocus.models.backends import accelerate
from facefocus.models.layers import placement
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.zoo import describe

#: What the table calls them, and the zoo.
NAMES = {
    "IResNet18": "IR18", "IResNet50": "IR50", "IResNet100": "IR100",
    "MobileFaceNet": "mobilefacenet-ms1m",
}  # fmt: skip


def network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return describe(NAMES[name]).build().eval()


def recognizer(name: str, backend: str = "torch") -> TorchRecognizer:
    """On the GPU if there is one, whatever the backend."""
    if backend == "torch" and torch.cuda.is_available():
        backend = "cuda"
    made = TorchRecognizer(name, network(name), describe(NAMES[name]).reader(), identity=name)
    accelerated = accelerate(made, backend)
    assert isinstance(accelerated, TorchRecognizer)
    return accelerated


@cache
def faces(people: int, photos: int) -> np.ndarray:
    """Drawn faces [people * photos, 112, 112, 3], person by person."""
    return render_many("all", 0, range(people), photos).frames


def inputs_of(box: TorchRecognizer, frames: np.ndarray) -> Tensor:
    """Preprocessed images, NCHW, where the network is."""
    device, _ = placement(box.module)
    with torch.no_grad():
        return box.preprocessing(torch.from_numpy(frames).to(device)).contiguous()


def module_at(box: TorchRecognizer, layer: int) -> nn.Module:
    """The module of a convolution call."""
    assert isinstance(box.module, nn.Module)
    return box.module.get_submodule(box.layers().calls[layer - 1].name)


def mobilefacenet() -> nn.Module:
    """For runs: ``benchmarks/networks.py:mobilefacenet``."""
    return network("MobileFaceNet")


mobilefacenet.preprocessing = describe(NAMES["MobileFaceNet"]).reader()  # type: ignore[attr-defined]
