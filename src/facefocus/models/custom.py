"""Recognizers that the user brings: an exported program, or a function in a Python file."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import nn

from facefocus.errors import UserError, did_you_mean, one_line
from facefocus.models.archive import load_archive
from facefocus.models.calls import refuse_script
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import CHUNK, Recognizer, TorchRecognizer

#: What to tell a user whose recognizer does not say how it reads frames.
NEEDED = "needs its preprocessing: size, mean and std, and crop and channels where they matter"


def load_program(path: Path, preprocessing: Preprocessing | None) -> TorchRecognizer:
    """A white box from a ``.pt2`` file of ``torch.export.save``.

    Raises:
        UserError: No such program, one that takes a single batch size only, or no preprocessing.
    """
    reader = required(preprocessing, str(path))
    module = load_archive(path)
    _check_batches(module, reader, path)
    return TorchRecognizer(path.stem, module, reader, identity=f"program {sha256(path)}")


def load_factory(spec: str, preprocessing: Preprocessing | None) -> Recognizer:
    """A recognizer from ``file.py:function``; the file's code is run.

    The function takes no argument and returns a network, or a whole `Recognizer`. Preprocessing
    is the one given or the attribute ``preprocessing`` of the network or of the function.

    Raises:
        UserError: No such file or function, or its result is no recognizer.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"The file of the recognizer '{spec}' does not exist: '{path}'.")
    namespace = _run(path)
    make = getattr(namespace, name, None)
    if not callable(make):
        known = [key for key, value in vars(namespace).items() if callable(value)]
        raise UserError(
            f"The file '{path}' has no function called '{name}'.{did_you_mean(name, known)}"
        )
    made = make()
    if isinstance(made, Recognizer):
        return made
    if not callable(made):
        raise UserError(f"'{spec}' must return a network. Got {type(made).__name__}.")
    own = getattr(made, "preprocessing", None) or getattr(make, "preprocessing", None)
    if own is not None and not isinstance(own, Preprocessing):
        raise UserError(f"The 'preprocessing' of '{spec}' must be a Preprocessing. Got {own!r}.")
    reader = required(preprocessing or own, spec)
    refuse_script(made)
    if isinstance(made, nn.Module):
        made.eval()
    identity = f"{name} of {sha256(path)}"
    return TorchRecognizer(f"{path.stem}.{name}", made, reader, identity=identity)


def required(preprocessing: Preprocessing | None, what: str) -> Preprocessing:
    """The preprocessing, which only its user can know.

    Raises:
        UserError: There is none.
    """
    if preprocessing is None:
        place = "the attribute 'preprocessing' of its function"
        if ".py:" not in what:
            place = f"'{Path(what).with_suffix('.toml')}'"
        raise UserError(f"The recognizer '{what}' {NEEDED}, in {place}.")
    return preprocessing


def sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"facefocus_custom_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"The file '{path}' is no Python file.")
    namespace = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(namespace)
    except (SyntaxError, ImportError) as error:
        raise UserError(f"The file '{path}' cannot be run: {one_line(error)}.") from error
    return namespace


def _check_batches(module: nn.Module, reader: Preprocessing, path: Path) -> None:
    network = cast(Callable[[torch.Tensor], torch.Tensor], module)
    channels = 1 if reader.channels == "gray" else 3
    for count in (2, CHUNK):
        try:
            with torch.no_grad():
                network(torch.zeros(count, channels, *reader.size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"The program '{path}' does not run on {count} images of {channels}x"
                f"{reader.size[0]}x{reader.size[1]}: {one_line(error, 100)}. Export it with a "
                "dynamic batch: dynamic_shapes=({0: torch.export.Dim('batch', min=2)},)."
            ) from error
