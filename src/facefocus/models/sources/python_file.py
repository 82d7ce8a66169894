"""Recognizers from a Python file: ``file.py:function``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from facefocus.core.errors import UserError, did_you_mean
from facefocus.models.calls import refuse_script
from facefocus.models.foreign import ForeignRecognizer, foreign
from facefocus.models.preprocessing import Preprocessing, own_reading, required
from facefocus.models.recognizer import TorchRecognizer, is_recognizer
from facefocus.models.score_only import ScoreRecognizer, compares_two
from facefocus.models.sources import RecognizerSource, named_file
from facefocus.models.user_code import OwnCode, own_code


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
    if not file or not name:
        raise UserError(f"The recognizer must be {PYTHON.form}. Got '{spec}'.")
    path = named_file(file, PYTHON.form)
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


PYTHON = RecognizerSource("FILE.py:FUNCTION", load_factory, takes_reading=True)
