"""Recognizer sources: where a recognizer comes from, by the form of its name.

``PREFIX:NAME`` asks the package or folder of that prefix, ``NAME.SUFFIX`` is a file. A new source
is one file with a `RecognizerSource` and one registration: ``SOURCES.add("mine", MINE)`` for
``mine:NAME``, or an entry point of the group ``facefocus.recognizer_sources``. A source imports the
user's own package and downloads nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facefocus.core.errors import UserError, did_you_mean, one_line
from facefocus.core.registry import Registry
from facefocus.models.lineage import Lineage
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import Recognizer


@dataclass(frozen=True)
class RecognizerSource:
    """How recognizers of one origin are loaded.

    Attributes:
        form: How one is named, for messages: ``"insightface:PACK"``.
        load: Makes the recognizer from what follows the prefix, or from the file, and from the
            preprocessing that the user gave; None for the source's own.
        takes_reading: Whether a preprocessing may be given.
        lineages: Where those come from of whom it is known, by what follows the prefix; a name is
            that of a recognizer of the zoo with the same weights.
    """

    form: str
    load: Callable[[str, Preprocessing | None], Recognizer]
    takes_reading: bool = False
    lineages: Mapping[str, Lineage | str] = field(default_factory=dict)


#: Every recognizer source by its prefix, or by the suffix of its files.
SOURCES: Registry[RecognizerSource] = Registry("recognizer source")
SOURCES.add(".py", "facefocus.models.sources.python_file:PYTHON")
SOURCES.add(".pt2", "facefocus.models.sources.exported_program:PROGRAM")
SOURCES.add(".onnx", "facefocus.models.sources.onnx_file:ONNX")
SOURCES.add(".xml", "facefocus.models.sources.openvino_file:OPENVINO")
SOURCES.add("openvino", "facefocus.models.sources.openvino_file:OPENVINO")
SOURCES.add("frbench", "facefocus.models.sources.frbench:FRBENCH")
SOURCES.add("insightface", "facefocus.models.sources.insightface:INSIGHTFACE")
SOURCES.add("uniface", "facefocus.models.sources.uniface:UNIFACE")
SOURCES.add("adaface", "facefocus.models.sources.adaface:ADAFACE")
SOURCES.add("facenet-pytorch", "facefocus.models.sources.facenet_pytorch:FACENET")
SOURCES.add("timm", "facefocus.models.sources.timm:TIMM")
SOURCES.add("dlib", "facefocus.models.sources.dlib:DLIB")


def source_of(name: str) -> tuple[RecognizerSource, str] | None:
    """The source that a recognizer's name asks for, and what it asks of it; None for no source.

    Example:
        >>> source, rest = source_of("insightface:buffalo_l")
        >>> source.form, rest
        ('insightface:PACK', 'buffalo_l')
    """
    prefix, _, rest = name.partition(":")
    if prefix in SOURCES:
        return SOURCES[prefix], rest
    suffix = ".py" if ".py:" in name else Path(name).suffix.lower()
    return (SOURCES[suffix], name) if suffix in SOURCES else None


def load_from_source(name: str, preprocessing: Preprocessing | None) -> Recognizer | None:
    """The recognizer of a name that asks a source for it; None for any other name.

    Raises:
        UserError: The source has no such recognizer, or lacks something; says the remedy.
    """
    asked = source_of(name)
    if asked is None:
        return None
    source, rest = asked
    if preprocessing is not None and not source.takes_reading:
        raise UserError(f"The preprocessing of '{name}' is its own and cannot be given.")
    return source.load(rest, preprocessing)


def named_file(name: str, form: str) -> Path:
    """The file that names a recognizer.

    Raises:
        UserError: There is no such file.
    """
    path = Path(name)
    if not path.is_file():
        raise UserError(f"The recognizer must be {form}. The file '{name}' does not exist.")
    return path


def check_name(name: str, known: Collection[str], form: str) -> None:
    """Check that a source has a recognizer of this name.

    Raises:
        UserError: It has none; names all that it has.
    """
    if name not in known:
        raise UserError(
            f"The recognizer must be {form} with a NAME of {', '.join(known)}. Got '{name}'."
            + did_you_mean(name, known)
        )


def package(name: str, install: str, recognizer: str) -> Any:
    """A package of the user's, imported.

    Args:
        name: Of its module.
        install: The command that installs it.
        recognizer: What needs it, for the message.

    Raises:
        UserError: It is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A package may be there and lack another one.
        lacking = "" if error.name == name else f" '{name}' lacks '{error.name}'."
        raise UserError(f"The recognizer '{recognizer}' needs: {install}.{lacking}") from error
    # What stands in a package that does not fit may fail in any way.
    except Exception as error:
        raise UserError(
            f"The recognizer '{recognizer}' needs the package '{name}', which cannot be imported:"
            f" {one_line(error, 120)}."
        ) from error
