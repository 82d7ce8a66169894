"""Weights from a file into a module: tensors only, every key and shape accounted for.

No code ever runs from a weights file: ``.safetensors`` holds tensors alone, and pickles are read by
torch's restricted loader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from facefocus.errors import UserError, one_line
from facefocus.models.pickles import PickleRefused, load_pickle

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
#: Names under which training scripts nest the weights.
_NESTS = ("state_dict", "model_state_dict", "model", "backbone", "net", "network", "weights")
#: What wrappers put before the keys of the network itself.
_PREFIXES = ("module.", "backbone.", "model.")
#: First key parts of classification layers: used in training, never for an embedding.
_CLASSIFIERS = ("logits", "classifier", "fc", "head", "margin", "arcface", "cosface", "weight")


@dataclass(frozen=True)
class Weights:
    """Tensors of a file, as float32.

    Attributes:
        path: Where they were read.
        tensors: By the file's own keys.
        notes: What was changed on reading, one sentence each.
    """

    path: Path
    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file meet the keys of an architecture.

    Attributes:
        tensors: By the architecture's keys, those that fit.
        notes: What was left out, one sentence each.
        problem: The first thing that does not fit, or an empty string.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    problem: str


def read_weights(path: Path) -> Weights:
    """The tensors of a weights file; half precision becomes float32.

    Raises:
        UserError: Not a file of weights, damaged, empty, or a pickle that holds more than tensors.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"The weights '{path}' must end in {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise UserError(f"The weights '{path}' do not exist.")
    loaded = _safetensors(path) if _is_safetensors(path) else _pickled(path)
    tensors = {
        key: value for key, value in loaded.items() if not key.endswith("num_batches_tracked")
    }
    if not tensors:
        raise UserError(f"The weights '{path}' hold no tensors.")
    half = [key for key, value in tensors.items() if _needs_widening(value)]
    for key in half:
        tensors[key] = tensors[key].float()
    notes = (f"{len(half)} tensors were converted to float32.",) if half else ()
    return Weights(path, tensors, notes)


def fit(tensors: Mapping[str, Tensor], module: nn.Module) -> Fit:
    """Match the tensors of a file with a module's state dict (which may be on the meta device).

    Wrapper prefixes are stripped only where the module does not have the key itself; extra
    classification layers are left out, and said so; anything else extra is a problem.
    """
    expected = shapes_of(module)
    roots = {key.partition(".")[0] for key in expected}
    found: dict[str, Tensor] = {}
    dropped: list[str] = []
    extra: list[str] = []
    for key, value in tensors.items():
        known = _known_key(key, expected)
        if known in expected:
            found[known] = value
        elif known.partition(".")[0] in _CLASSIFIERS and known.partition(".")[0] not in roots:
            dropped.append(key)
        else:
            extra.append(key)
    notes = (f"Classification layers were left out: {', '.join(dropped)}.",) if dropped else ()
    return Fit(found, notes, _problem(found, expected, extra))


def load_into(
    module: nn.Module,
    weights: Weights,
    *,
    architecture: str,
    catalog: Mapping[str, Callable[[], nn.Module]],
) -> tuple[str, ...]:
    """Copy weights into a module, strictly; returns notes on what was changed or left out.

    Args:
        module: Gets the weights; parameters and buffers may be uninitialized.
        weights: As read.
        architecture: What the module is, for messages.
        catalog: Makers of every architecture, by name; asked which one a misfit belongs to.

    Raises:
        UserError: A key or a shape does not fit; names the architecture that the file does fit.
    """
    fitted = fit(weights.tensors, module)
    if fitted.problem:
        others = [name for name in catalog if _fits(weights.tensors, catalog[name])]
        hint = f" It fits {' or '.join(others)}." if others else ""
        raise UserError(
            f"The weights '{weights.path}' do not fit {architecture}: {fitted.problem}.{hint}"
        )
    module.load_state_dict(fitted.tensors, strict=False)
    for key, value in module.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value.zero_()
    return weights.notes + fitted.notes


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a module's weights, batch counters left out."""
    return {
        key: tuple(value.shape)
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def _fits(tensors: Mapping[str, Tensor], make: Callable[[], nn.Module]) -> bool:
    with torch.device("meta"):
        module = make()
    return not fit(tensors, module).problem


def _known_key(key: str, expected: Mapping[str, object]) -> str:
    while key not in expected:
        prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None)
        if prefix is None:
            break
        key = key.removeprefix(prefix)
    return key


def _problem(
    found: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], extra: list[str]
) -> str:
    missing = [key for key in expected if key not in found]
    if missing:
        return f"{len(missing)} of its {len(expected)} tensors are missing, first '{missing[0]}'"
    for key, value in found.items():
        if tuple(value.shape) != expected[key]:
            return f"'{key}' must be {list(expected[key])}, got {list(value.shape)}"
    return f"{len(extra)} tensors are unknown to it, first '{extra[0]}'" if extra else ""


def _needs_widening(value: Tensor) -> bool:
    return value.is_floating_point() and value.dtype != torch.float32


def _is_safetensors(path: Path) -> bool:
    """By the name or, since files are renamed, by the JSON that follows an 8-byte length."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"The weights '{path}' are not a whole safetensors file: {one_line(error, 100)}."
        ) from error


def _pickled(path: Path) -> dict[str, Tensor]:
    if path.stat().st_size == 0:
        raise UserError(f"The weights '{path}' are empty.")
    try:
        with path.open("rb") as file:
            loaded = load_pickle(file)
    except PickleRefused as error:
        raise UserError(
            f"The weights '{path}' {error}. Nothing in them was run; a plain state dict or a "
            ".safetensors file is taken."
        ) from error
    return _state_dict(loaded, path)


def _state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    while isinstance(loaded, Mapping):
        tensors = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        nested = next((name for name in _NESTS if isinstance(loaded.get(name), Mapping)), None)
        if nested is None:
            break
        loaded = loaded[nested]
    raise UserError(f"The weights '{path}' hold no tensors by name (no state dict).")
