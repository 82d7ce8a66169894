"""Safe reading of a ``.pt2`` program: its archive is rebuilt from parts that run no code.

``torch.export.load`` trusts its file. Of an archive by somebody else torch 2.13

- unpickles, without its restriction, payloads that the index marks ``use_pickle`` or names
  ``custom_obj_*`` or ``opaque_obj_*``, and whatever else its restricted reader refuses: example
  inputs, state dicts and constants in one file (torch/export/pt2_archive/_package.py,
  ``deserialize_torch_artifact`` in torch/_export/serde/serialize.py);
- loads the libraries below ``data/aotinductor``;
- evaluates the expressions of sizes (``sympy.sympify``) and the guards as Python;
- takes any attribute of torch for an operation, as ``torch.os.system``;
- imports what a tree spec names (torch/utils/_pytree.py);
- writes names into Python source that it executes (torch/fx/graph.py).

So torch is never given the file. What is checked here is copied into a new archive; all else is
refused, or left out where no program needs it: example inputs, extra files, guards, traces.
"""

from __future__ import annotations

import json
import logging
import re
import stat
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facefocus.core.errors import UserError, one_line
from facefocus.models.pickles import PickleRefused, load_pickle

#: Entries that are copied, below the archive's own folder, and how they are checked.
_PLAIN = r"data/weights/weight_\d+|data/constants/tensor_\d+"
_PLAIN += r"|archive_(format|version)|(\.data/)?version|byteorder|\.data/serialization_id"
_GRAPH = r"models/model\.json|serialized_exported_program\.json"
_INDEX = r"data/(weights|constants)/model_(weights|constants)_config\.json"
#: Tensors in one pickle, by torch before 2.9.
_TENSORS = r"data/(weights|constants)/model\.pt|serialized_(state_dict|constants)\.pt"
_EXAMPLES = r"data/sample_inputs/model\.pt|serialized_example_inputs\.pt"
_IGNORED = r"extra(_files)?/.*"

#: Values of the graph that no embedding needs, and what replaces them.
_EMPTIED: Mapping[str, object] = {
    "metadata": {},
    "guards_code": [],
    "treespec_namedtuple_fields": {},
}
#: A text anywhere in the graph or an index: names, since they become Python source.
_NAME = re.compile(r"(?!(.*\.)?__)[\w.-]*", re.ASCII)
_VERSION = re.compile(r"[\w.+<=-]*", re.ASCII)
#: An argument of an operation, as "bilinear" or "bij,bjk->bik"; no quotes, since guards quote it.
_ARGUMENT = re.compile(r"[\w .,:>+-]*", re.ASCII)
#: Sizes that follow from the batch, as sympy prints them.
_SIZE = re.compile(
    r"(?:\b(?:Symbol|Integer|Add|Mul|Min|Max|FloorDiv|CeilDiv|CleanDiv|Mod|PythonMod|True|False"
    r"|ModularIndexing|Where|ToFloat|IntTrueDiv|TruncToInt|Float|Rational|precision"
    r"|Equality|Unequality|StrictLessThan|StrictGreaterThan|LessThan|GreaterThan"
    r"|positive|nonnegative|negative|integer|s\d+|u\d+)\b|'[su]\d+'|\b\d{1,18}\b|[-+*/(),= ])*",
    re.ASCII,
)
_OPERATION = re.compile(
    r"torch\.ops\.aten\.(?P<name>\w+)\.\w+"
    r"|_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|truediv|and_|or_|getitem)"
    r"|math\.(trunc|ceil|floor)|torch\.sym_(not|int|float|ite|max|min|sqrt)"
    r"|torch\.ops\.higher_order\.wrap_with_(set_grad_enabled|autocast)",
    re.ASCII,
)
#: Operations on files, and those that reach beyond a tensor's own memory.
_DENIED = {"from_file", "save", "set_", "resize_"}
#: What exported programs hold of the operations that begin with an underscore.
_PRIVATE = {
    "_adaptive_avg_pool2d", "_assert_scalar", "_assert_tensor_metadata", "_log_softmax",
    "_native_batch_norm_legit_no_training", "_native_batch_norm_legit_functional",
    "_scaled_dot_product_flash_attention_for_cpu", "_softmax", "_to_copy", "_unsafe_view",
}  # fmt: skip


class _Refused(Exception):
    """Why an archive is refused: the end of a sentence that begins with its name."""


def load_archive(path: Path) -> nn.Module:
    """The network in a file of ``torch.export.save``; no code of the file is run.

    Raises:
        UserError: The file is no such archive, or holds more than tensors and a graph of torch's
            own operations; names what.
    """
    log = logging.getLogger("torch.export")
    level = log.level
    # Torch logs the tracebacks of archives that it cannot read.
    log.setLevel(logging.CRITICAL)
    try:
        return torch.export.load(_rebuilt(path)).module()
    except _Refused as error:
        raise UserError(
            f"The program '{path}' was refused, and nothing in it was run: {error}."
        ) from None
    # A graph that is none can make torch fail in any way.
    except Exception as error:
        raise UserError(
            f"The program '{path}' cannot be read: {one_line(error, 100)}. It must be a file of "
            "torch.export.save."
        ) from error
    finally:
        log.setLevel(level)


def _rebuilt(path: Path) -> BytesIO:
    """A new archive of the checked entries of another."""
    rebuilt = BytesIO()
    with zipfile.ZipFile(rebuilt, "w", zipfile.ZIP_STORED) as archive:
        for name, data in _entries(path).items():
            kept = _checked(name, data)
            if kept is not None:
                archive.writestr(name, kept)
    rebuilt.seek(0)
    return rebuilt


def _entries(path: Path) -> dict[str, bytes]:
    """The files of an archive by name."""
    contents = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _Refused(f"it holds a link, '{info.filename}'")
            if info.compress_type != zipfile.ZIP_STORED:
                raise _Refused(
                    f"'{info.filename}' in it is compressed, which torch.export.save never does"
                )
            contents[info.filename] = archive.read(info)
    return contents


def _checked(name: str, data: bytes) -> bytes | None:
    """The new archive's content for an entry; None where it is left out."""
    # Archives since torch 2.8 have one folder, called after the file, in which everything lies.
    inner = name if name.startswith(("serialized_", "extra_files/")) else name.partition("/")[2]
    inner = inner or name
    if re.fullmatch(_PLAIN, inner):
        return data
    if re.fullmatch(_GRAPH, inner):
        return _copied(data, _graph)
    if re.fullmatch(_INDEX, inner):
        return _copied(data, _index)
    if re.fullmatch(_TENSORS + "|" + _EXAMPLES, inner):
        try:
            load_pickle(BytesIO(data))
        except PickleRefused as error:
            raise _Refused(f"'{inner}' in it {error}") from None
        # Torch reads an empty file as no example inputs.
        return b"" if re.fullmatch(_EXAMPLES, inner) else data
    if re.fullmatch(_IGNORED, inner):
        return None
    if inner.startswith(("code/", "constants.pkl")):
        raise _Refused(
            "it is TorchScript. Export the module itself with torch.export, or name the file as .pt"
        )
    if inner.startswith("data/aotinductor/"):
        raise _Refused(f"it holds compiled code, '{inner}'. Save it with torch.export.save")
    raise _Refused(f"'{inner}' in it is neither tensors nor the graph of one program")


def _copied(data: bytes, check: Callable[[Any], object]) -> bytes:
    try:
        return json.dumps(check(json.loads(data))).encode()
    except (ValueError, RecursionError) as error:
        raise _Refused(f"its graph cannot be read ({one_line(error, 60)})") from None


def _graph(model: Any) -> object:
    if not isinstance(model, dict) or "graph_module" not in model:
        raise _Refused("its model.json is not the graph of torch.export")
    return _clean(model)


def _index(index: Any) -> object:
    payloads = index.get("config") if isinstance(index, dict) else None
    if not isinstance(payloads, dict):
        raise _Refused("its index of tensors is not one of torch.export")
    for key, payload in payloads.items():
        if not isinstance(payload, dict) or payload.get("use_pickle") is not False:
            raise _Refused(
                f"its index marks '{key}' as a pickle (use_pickle), which runs code when it is read"
            )
        if not re.fullmatch(r"(weight|tensor)_\d+", str(payload.get("path_name"))):
            raise _Refused(f"'{key}' in its index is no tensor but '{payload.get('path_name')}'")
    return _clean(index)


def _clean(value: Any, key: str = "") -> object:
    """A copy of a part of the graph, every text of it checked for its form.

    Args:
        value: Anything that JSON holds.
        key: Of the mapping that holds it, or that holds its list.
    """
    if isinstance(value, dict):
        return {
            _text(name, "name"): _EMPTIED.get(name) if name in _EMPTIED else _clean(item, name)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_clean(item, key) for item in value]
    return _text(value, key) if isinstance(value, str) else value


def _text(text: str, key: str) -> str:
    if key in ("target", "as_operator"):
        match = _OPERATION.fullmatch(text)
        name = (match["name"] or "") if match else ""
        if not match or name in _DENIED or (name.startswith("_") and name not in _PRIVATE):
            raise _Refused(f"its graph has the operation '{text}', which is not one of a network")
    elif key in ("in_spec", "out_spec"):
        _check_tree(text)
    else:
        form = {
            "expr_str": _SIZE,
            "as_string": _ARGUMENT,
            "as_strings": _ARGUMENT,
            "torch_version": _VERSION,
            "as_float": _VERSION,
        }.get(key, _NAME)
        if not form.fullmatch(text) or "**" in text:
            raise _Refused(f"its graph has the {key or 'text'} '{one_line(Exception(text), 60)}'")
    return text


def _check_tree(text: str) -> None:
    """Raise unless inputs or outputs are tuples, lists and plain dictionaries of tensors."""

    def check(spec: Any) -> None:
        kind, context = spec["type"], spec["context"]
        plain = kind in (None, "builtins.tuple", "builtins.list") and context in (None, "null")
        if kind == "builtins.dict":
            keys = json.loads(context)
            plain = isinstance(keys, list) and all(_NAME.fullmatch(key) for key in keys)
        if not plain:
            raise _Refused(f"its inputs or outputs are of the type '{kind}'")
        for child in spec["children_spec"]:
            check(child)

    try:
        _, tree = json.loads(text)
        check(tree)
    except (KeyError, TypeError, ValueError) as error:
        raise _Refused("its inputs and outputs are not described as torch.export does") from error
