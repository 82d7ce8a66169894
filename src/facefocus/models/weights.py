"""Weights from a file into a module: tensors only, every key and shape accounted for.

No code ever runs from a weights file: ``.safetensors`` holds tensors alone, and pickles are read by
torch's restricted loader. Training scripts nest weights under names of their own and wrappers put
prefixes before their keys, so the weights are the mapping and the prefix that fit best.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from facefocus.core.errors import UserError, one_line
from facefocus.models.pickles import PickleRefused, load_pickle

#: How names of weights files end; what a file is, its content says.
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".th", ".pth.tar", ".pt.tar")
#: Parts that wrappers of torch put anywhere into keys.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
#: First key parts of classification layers: used in training, never for an embedding.
_CLASSIFIERS = {
    "logits", "classifier", "fc", "head", "margin", "arcface", "cosface", "weight", "kernel",
    "metric_fc", "loss", "criterion",
}  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """Tensors of a file.

    Attributes:
        path: Where they were read.
        mappings: Tensors by the file's own keys, by the place of the mapping that holds them:
            ``""`` for the file itself, ``"state_dict"`` for what it holds under that name.
    """

    path: Path
    mappings: dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Fit:
    """The tensors of a file, matched with an architecture's keys.

    Attributes:
        tensors: By the architecture's keys, those that fit; half precision as float32.
        notes: What was changed or left out, one sentence each.
        problem: The first thing that does not fit, or an empty string.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    problem: str


def is_weights(path: Path) -> bool:
    """Whether a file's name is that of a weights file, which alone is no recognizer."""
    return path.name.lower().endswith(SUFFIXES)


def read_weights(path: Path) -> Weights:
    """The tensors of a weights file.

    Raises:
        UserError: Not a file of weights, damaged, empty, or a pickle that would run code.
    """
    if not path.is_file():
        raise UserError(f"The weights '{path}' do not exist.")
    if path.stat().st_size == 0:
        raise UserError(f"The weights '{path}' are empty.")
    loaded = _safetensors(path) if _is_safetensors(path) else _pickled(path)
    mappings = _mappings(loaded)
    if not mappings:
        keys = list(loaded) if isinstance(loaded, Mapping) else []
        own = f" Their own first keys: {_named(map(str, keys))}." if keys else ""
        raise UserError(f"The weights '{path}' hold no tensors by name (no state dict).{own}")
    return Weights(path, mappings)


def fit(mappings: Mapping[str, Mapping[str, Tensor]], module: nn.Module) -> Fit:
    """Match the tensors of a file with a module's state dict (which may be on the meta device).

    Args:
        mappings: As in `Weights`. The one of them, and the prefix of its keys, that have most of
            the module's keys are taken; of equals the first.
        module: Any network.

    Returns:
        The fit: extra classification layers, numbers, and whatever is beside the prefix are left
        out, and said so; anything else extra is a problem.
    """
    expected = {
        key: value
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    counts = {branch: _prefixes(tensors, expected) for branch, tensors in mappings.items()}
    best = {branch: max(count.values(), default=0) for branch, count in counts.items()}
    branch = max(best, key=lambda name: best[name])
    prefix = max(counts[branch], key=lambda name: counts[branch][name], default="")
    same = [name for name in best if best[name] == best[branch] and name != branch]
    roots = {key.partition(".")[0] for key in expected}
    fitted: dict[str, Tensor] = {}
    left: list[str] = []
    extra: list[str] = []
    for key, value in mappings[branch].items():
        own = _plain(key)
        inner = own.removeprefix(prefix)
        root = inner.partition(".")[0]
        if own.startswith(prefix) and inner in expected:
            fitted[inner] = value
        elif own.startswith(prefix) and value.dim() and root not in _CLASSIFIERS - roots:
            extra.append(key)
        else:
            left.append(key)
    notes = [f"Left out, since the network has no such tensors: {_named(left)}."] if left else []
    if same and fitted:
        notes.append(f"'{branch}' was used; {_named(same)} would fit as well.")
    half = [key for key, value in fitted.items() if _needs_widening(value)]
    if half:
        notes.append(f"{len(half)} tensors were converted to float32.")
        fitted |= {key: fitted[key].float() for key in half}
    return Fit(fitted, tuple(notes), _problem(fitted, expected, extra))


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
    fitted = fit(weights.mappings, module)
    if fitted.problem:
        others = fitting(weights, catalog)
        hint = f" It fits {' or '.join(others)}." if others else ""
        if not fitted.tensors and not others:
            largest = max(weights.mappings.values(), key=len)
            hint = f" The file's own first keys: {_named(largest)}."
        raise UserError(
            f"The weights '{weights.path}' do not fit {architecture}: {fitted.problem}.{hint}"
        )
    module.load_state_dict(fitted.tensors, strict=False)
    for key, value in module.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value.zero_()
    return fitted.notes


def fitting(weights: Weights, catalog: Mapping[str, Callable[[], nn.Module]]) -> list[str]:
    """The names in `catalog`, makers of networks, whose networks the weights fit."""

    def made(make: Callable[[], nn.Module]) -> nn.Module:
        with torch.device("meta"):
            return make()

    return [name for name in catalog if not fit(weights.mappings, made(catalog[name])).problem]


def _prefixes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Counter[str]:
    """Possible prefixes of a network's keys, and how many keys and shapes each matches."""
    counts: Counter[str] = Counter()
    for key, value in tensors.items():
        parts = _plain(key).split(".")
        for start in range(len(parts)):
            inner = ".".join(parts[start:])
            if inner in expected:
                prefix = "".join(f"{part}." for part in parts[:start])
                counts[prefix] += 1 + (value.shape == expected[inner].shape)
    return counts


def _plain(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _problem(fitted: Mapping[str, Tensor], expected: Mapping[str, Tensor], extra: list[str]) -> str:
    missing = [key for key in expected if key not in fitted]
    if missing:
        return f"{len(missing)} of its {len(expected)} tensors are missing, first '{missing[0]}'"
    for key, value in fitted.items():
        if value.shape != expected[key].shape:
            return f"'{key}' must be {list(expected[key].shape)}, got {list(value.shape)}"
        if expected[key].is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            return (
                f"'{key}' is {kind}: quantized weights cannot be used without their scale. Get the "
                "file in float32 or float16"
            )
        if not value.isfinite().all():
            return f"'{key}' holds values that are not finite"
    return f"{len(extra)} tensors are unknown to it, first '{extra[0]}'" if extra else ""


def _named(names: Iterable[str], most: int = 3) -> str:
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(f"'{one_line(Exception(name), 60)}'" for name in every[:most]) + more


def _needs_widening(value: Tensor) -> bool:
    return value.is_floating_point() and value.dtype != torch.float32


def _mappings(loaded: object) -> dict[str, dict[str, Tensor]]:
    """The tensors by name of every mapping in a file, at any depth, in the file's order."""
    mappings: dict[str, dict[str, Tensor]] = {}
    waiting: list[tuple[str, object]] = [("", loaded)]
    # A pickle can hold a mapping that holds itself.
    seen: set[int] = set()
    while waiting:
        branch, value = waiting.pop()
        if id(value) in seen or not isinstance(value, Mapping | list | tuple):
            continue
        seen.add(id(value))
        pairs: Sequence[tuple[object, object]]
        pairs = list(value.items() if isinstance(value, Mapping) else enumerate(value))
        tensors = {
            key: item
            for key, item in pairs
            if isinstance(key, str)
            and isinstance(item, Tensor)
            and not key.endswith("num_batches_tracked")
        }
        if tensors:
            mappings[branch] = tensors
        waiting.extend((f"{branch}.{key}".strip("."), item) for key, item in reversed(pairs))
    return mappings


def _is_safetensors(path: Path) -> bool:
    """By the name or, since files are renamed, by the JSON that follows an 8-byte length."""
    with path.open("rb") as file:
        return path.suffix.lower() == ".safetensors" or file.read(9)[8:] == b"{"


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"The weights '{path}' are not a whole safetensors file: {one_line(error, 100)}."
        ) from error


def _pickled(path: Path) -> object:
    refuse_torchscript(path)
    try:
        with path.open("rb") as file:
            return load_pickle(file)
    except PickleRefused as error:
        raise UserError(
            f"The weights '{path}' {error}. Nothing in them was run; a plain state dict or a "
            ".safetensors file is taken."
        ) from error


def refuse_torchscript(path: Path) -> None:
    """Raise for a file of ``torch.jit.save``, which holds a program.

    Raises:
        UserError: Says what it is, and how to make a black box of it.
    """
    inner: set[str] = set()
    # Damaged archives fail in many ways; what they are is said by whoever reads them.
    with suppress(Exception), zipfile.ZipFile(path) as archive:
        inner = {name.partition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in inner and "data.pkl" in inner:
        onnx = path.with_suffix(".onnx").name
        raise UserError(
            f"The file '{path}' is TorchScript, a program that hides its layers. As a black box, "
            'export it to ONNX: python -c "import torch; torch.onnx.export(torch.jit.load('
            f"'{path}'), torch.zeros(1, 3, 112, 112), '{onnx}', dynamo=False, input_names=['x'], "
            "dynamic_axes={'x': {0: 'n'}})\" - and name '" + onnx + "'. Weights of an architecture "
            f"that is known here come out by torch.save(torch.jit.load('{path}').state_dict(), "
            "'weights.pth')."
        )
