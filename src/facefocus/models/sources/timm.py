"""Backbones of timm with the user's weights: ``timm:NAME@FILE``.

The embedding is the output of the classification layer, whose width is that of the weights (timm's
``num_classes``), or the pooled features where the file has no such layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facefocus.core.errors import UserError, did_you_mean
from facefocus.models.preprocessing import Preprocessing, read_beside, required
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.sources import RecognizerSource, package
from facefocus.models.weights import Weights, load_into, read_weights


def load_timm(name: str, preprocessing: Preprocessing | None) -> TorchRecognizer:
    """A backbone of timm with weights from a file, ``FILE.toml`` beside it says how it reads faces.

    Raises:
        UserError: timm is not here or has no such backbone, no file is named, the weights do not
            fit, or the preprocessing is missing.
    """
    full = f"timm:{name}"
    backbone, _, file = name.partition("@")
    if not backbone or not file:
        raise UserError(
            f"The recognizer must be timm:NAME@FILE with the file of its weights. Got '{full}'."
        )
    timm = package("timm", "pip install timm", full)
    if not timm.is_model(backbone):
        near = did_you_mean(backbone, timm.list_models())
        raise UserError(f"timm has no backbone '{backbone}'.{near}")
    path = Path(file)
    weights = read_weights(path)
    reader = required(preprocessing or read_beside(path), file)
    options = {"num_classes": 1, "in_chans": 1 if reader.channels == "gray" else 3}
    try:
        module = timm.create_model(backbone, img_size=reader.size, **options)
    except TypeError:
        # Networks of convolutions take any size.
        module = timm.create_model(backbone, **options)
    width = _width(module, weights)
    module.reset_classifier(width)
    load_into(module, weights, architecture=full.partition("@")[0], catalog={})
    return TorchRecognizer(
        f"{backbone}-{path.stem}",
        module.eval().requires_grad_(False),
        reader,
        identity=f"timm {backbone}({width})",
    )


def _width(module: Any, weights: Weights) -> int:
    """Rows of the classification layer in the weights; 0 where there is none."""
    head = module.get_classifier()
    ends = tuple(f"{path}.weight" for path, part in module.named_modules() if part is head)
    rows = (
        len(value)
        for tensors in weights.mappings.values()
        for key, value in tensors.items()
        if key.endswith(ends)
    )
    return next(rows, 0)


TIMM = RecognizerSource("timm:NAME@FILE", load_timm, takes_reading=True)
