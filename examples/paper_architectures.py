"""The paper's four architectures with seeded random weights: for trying things without weights.

facefocus run experiments/quick.toml    # after: source = "examples/paper_architectures.py:ir18"
facefocus models check examples/paper_architectures.py:facenet
"""

from __future__ import annotations

import torch
from torch import nn

from facefocus.models.preprocessing import Preprocessing
from facefocus.models.zoo import describe


def _random(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return describe(name).build()


def _reading(name: str) -> Preprocessing:
    return describe(name).reader()


def ir18() -> nn.Module:
    """IResNet18."""
    return _random("IR18")


def ir50() -> nn.Module:
    """IResNet50."""
    return _random("IR50")


def ir100() -> nn.Module:
    """IResNet100."""
    return _random("IR100")


def facenet() -> nn.Module:
    """Inception-ResNet-v1."""
    return _random("FN_V")


for _build, _name in ((ir18, "IR18"), (ir50, "IR50"), (ir100, "IR100"), (facenet, "FN_V")):
    _build.preprocessing = _reading(_name)  # type: ignore[attr-defined]
