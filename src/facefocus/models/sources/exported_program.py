"""Recognizers from programs of torch.export: ``FILE.pt2``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import nn

from facefocus.core.errors import UserError, one_line
from facefocus.models.archive import load_archive
from facefocus.models.preprocessing import Preprocessing, read_beside, required
from facefocus.models.recognizer import CHUNK, TorchRecognizer
from facefocus.models.sources import RecognizerSource, named_file
from facefocus.models.user_code import sha256


def load_program(name: str, preprocessing: Preprocessing | None) -> TorchRecognizer:
    """A white box from a ``.pt2`` file of ``torch.export.save``.

    Raises:
        UserError: No such program, one that takes a single batch size only, or no preprocessing.
    """
    path = named_file(name, PROGRAM.form)
    reader = required(preprocessing or read_beside(path), name)
    module = load_archive(path)
    _check_batches(module, reader, path)
    recognizer = TorchRecognizer(path.stem, module, reader, identity=f"program {sha256(path)}")
    recognizer.look()
    return recognizer


def _check_batches(module: nn.Module, reader: Preprocessing, path: Path) -> None:
    network = cast(Callable[[torch.Tensor], torch.Tensor], module)
    channels = 1 if reader.channels == "gray" else 3
    for count in (2, CHUNK):
        try:
            with torch.no_grad():
                network(torch.zeros(count, channels, *reader.size))
        # A graph that is none can fail in any way.
        except Exception as error:
            raise UserError(
                f"The program '{path}' does not run on {count} images of {channels}x"
                f"{reader.size[0]}x{reader.size[1]}: {one_line(error, 100)}. Export it with a "
                "dynamic batch: dynamic_shapes=({0: torch.export.Dim('batch', min=2)},)."
            ) from error


PROGRAM = RecognizerSource("FILE.pt2", load_program, takes_reading=True)
