"""Recognizers of FRBench: ``frbench:BACKBONE/LOSS/DATA``.

FRBench averages the embeddings of a crop and of its mirror image unless told otherwise; here it is
asked for the crop alone (its ``tta=()``), so that a map explains one pass.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from facefocus.core.errors import UserError, did_you_mean, one_line
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.sources import RecognizerSource, package
from facefocus.models.weights import read_weights


def load_frbench(name: str, preprocessing: Preprocessing | None) -> TorchRecognizer:
    """A pretrained backbone of the package frbench, as its own configuration reads faces.

    Raises:
        UserError: The name has no three parts, the package or the weights are not here, or the
            backbone wants faces aligned in a way of its own.
    """
    full = f"frbench:{name}"
    parts = name.split("/")
    if len(parts) != 3 or not all(parts):
        raise UserError(
            f"The recognizer must be frbench:BACKBONE/LOSS/DATA, as frbench:swinv2-t/arcface/ms1m."
            f" Got '{full}'."
        )
    frbench = package("frbench", "pip install frbench", full)
    # Nothing leaves the machine: no look for news, no download.
    with frbench.configure_scoped(update_check=False):
        _check_files(Path(frbench.CACHE), "_".join(parts), full)
        try:
            pipeline = frbench.FR(*parts, eager_load=True)
        # A configuration or weights of another kind can fail in any way.
        except Exception as error:
            raise UserError(f"FRBench cannot load '{full}': {one_line(error)}") from error
    reader = pipeline.preprocessor
    width, height = reader.size[1], reader.size[0]
    template = reader.template.cpu() * 112 / torch.tensor([width, height])
    if not torch.allclose(template, frbench.ARCFACE_112_TEMPLATE, atol=0.5):
        raise UserError(
            f"The recognizer '{full}' wants faces aligned to a template of its own, which differs"
            " from ArcFace's. Name it by a function: FILE.py:FUNCTION, with a 'crop'."
        )
    return TorchRecognizer(
        "-".join(parts),
        pipeline.backbone.eval().requires_grad_(False),
        Preprocessing(
            size=(int(height), int(width)),
            channels=reader.channel,
            mean=tuple(255 * float(value) for value in reader.mean.flatten()),
            std=tuple(255 * float(value) for value in reader.std.flatten()),
        ),
        identity=f"frbench {'/'.join(parts)}",
    )


def _check_files(cache: Path, asset: str, full: str) -> None:
    """Raise unless a backbone's files are here and its weights can be read."""
    manifest = cache / "manifest.json"
    missing = UserError(
        f"The weights of '{full}' are not in '{cache}'. Get them by: frbench-download {asset}."
    )
    if not manifest.is_file():
        raise missing
    try:
        entries = json.loads(manifest.read_text("utf-8"))
    except ValueError as error:
        raise UserError(
            f"FRBench's list '{manifest}' is damaged: remove it. List them by: frbench-download"
            " --list."
        ) from error
    if asset not in entries:
        near = did_you_mean(asset, list(entries))
        raise UserError(f"FRBench has no '{asset}'.{near} List them by: frbench-download --list.")
    folder, contents = cache / entries[asset]["target_name"], entries[asset]["contents"]
    if not all((folder / file).is_file() for file in contents.values()):
        raise missing
    # Says what is wrong with a damaged or hostile file.
    read_weights(folder / contents["weight"])


FRBENCH = RecognizerSource("frbench:BACKBONE/LOSS/DATA", load_frbench)
