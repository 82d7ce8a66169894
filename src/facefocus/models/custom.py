"""Recognizers from the user's files: an exported program, or a function in a Python file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from facefocus.core.errors import UserError, did_you_mean, one_line
from facefocus.core.notices import notice
from facefocus.models.archive import load_archive
from facefocus.models.calls import refuse_script
from facefocus.models.foreign import ForeignRecognizer, foreign
from facefocus.models.preprocessing import Preprocessing, own_reading, scale_doubt
from facefocus.models.recognizer import CHUNK, TorchRecognizer, is_recognizer
from facefocus.models.score_only import ScoreRecognizer, compares_two
from facefocus.models.user_code import OwnCode, own_code, sha256

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
    recognizer = TorchRecognizer(path.stem, module, reader, identity=f"program {sha256(path)}")
    recognizer.look()
    return recognizer


def load_factory(
    spec: str, preprocessing: Preprocessing | None
) -> TorchRecognizer | ForeignRecognizer | ScoreRecognizer:
    """A recognizer from ``file.py:function``; the file's code is run.

    The function takes no argument and returns a network, or a whole `Recognizer`. Preprocessing
    is the one given or the attribute ``preprocessing`` of the network or of the function. Or it
    takes two images and returns their score; its attribute ``calls_per_second`` limits its calls.

    Raises:
        UserError: No such file or function, its code raises, or its result is no recognizer.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"The file of the recognizer '{spec}' does not exist: '{path}'.")
    code = own_code(path, name)
    make = getattr(code.namespace, name, None)
    if not callable(make):
        known = [key for key, value in vars(code.namespace).items() if callable(value)]
        raise UserError(
            f"The file '{path}' has no function called '{name}'.{did_you_mean(name, known)}"
        )
    with code.active():
        made: TorchRecognizer | ForeignRecognizer | ScoreRecognizer
        if compares_two(make):
            made = _score_recognizer(make, code, spec, preprocessing)
        else:
            made = _recognizer(make(), make, code, spec, preprocessing)
        made.look()
    # Only now: files may be read, and neighbours imported, in the first pass.
    made.identify(f"{name} of {code.digest}")
    return made


def _score_recognizer(
    function: Any, code: OwnCode, spec: str, preprocessing: Preprocessing | None
) -> ScoreRecognizer:
    if preprocessing is not None:
        raise UserError(f"The preprocessing of '{spec}' is its own and cannot be given.")
    file, _, name = spec.rpartition(":")
    return ScoreRecognizer(
        f"{Path(file).stem}.{name}",
        function,
        identity="",
        calls_per_second=getattr(function, "calls_per_second", None),
        around=code.visible,
    )


def _recognizer(
    made: object,
    make: object,
    code: OwnCode,
    spec: str,
    preprocessing: Preprocessing | None,
) -> TorchRecognizer | ForeignRecognizer | ScoreRecognizer:
    if is_recognizer(made) and preprocessing is not None:
        raise UserError(f"The preprocessing of '{spec}' is its own and cannot be given.")
    if isinstance(made, TorchRecognizer):
        made.run_in(code.visible)
        return made
    if isinstance(made, ScoreRecognizer):
        return made
    if is_recognizer(made):
        return foreign(made, code.visible)
    if not callable(made):
        raise UserError(f"'{spec}' must return a network. Got {type(made).__name__}.")
    own = getattr(made, "preprocessing", None) or getattr(make, "preprocessing", None)
    if isinstance(own, Mapping):
        own = None if preprocessing else own_reading(own, f"the 'preprocessing' of '{spec}'")
    if own is not None and not isinstance(own, Preprocessing):
        raise UserError(
            f"The 'preprocessing' of '{spec}' must be a dict or a Preprocessing. Got {own!r}."
        )
    reader = required(preprocessing or own, spec)
    refuse_script(made)
    if isinstance(made, nn.Module):
        made.eval()
    file, _, name = spec.rpartition(":")
    label = f"{Path(file).stem}.{name}"
    return TorchRecognizer(label, made, reader, identity="", around=code.visible)


def required(preprocessing: Preprocessing | None, what: str) -> Preprocessing:
    """The preprocessing, which the user must give.

    Raises:
        UserError: There is none.
    """
    if preprocessing is None:
        beside = Path(what).with_suffix(".toml")
        lines = (
            f"in '{beside}', with lines such as size = [112, 112] and mean = 127.5 and std = 128"
        )
        if ".py:" in what:
            file, _, name = what.rpartition(":")
            values = '{"size": [112, 112], "mean": 127.5, "std": 128}'
            lines = f"by a line of '{file}', such as: {name}.preprocessing = {values}"
        raise UserError(f"The recognizer '{what}' {NEEDED}, {lines}")
    doubt = scale_doubt(preprocessing)
    if doubt is not None:
        notice(f"The preprocessing of '{what}': {doubt}")
    return preprocessing


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
