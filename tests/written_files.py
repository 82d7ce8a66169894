"""Compares files that are written with what the manual says of them (docs/file_formats.py)."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
file_formats: Any = importlib.import_module("file_formats")

EVENTS: dict[str, str] = file_formats.EVENTS
FileFormat: Any = file_formats.FileFormat

SAID: dict[str, Any] = {one.name: one for one in file_formats.formats()}


def kind(value: Any) -> str:
    """The type of a value of JSON, as the manual calls it."""
    if isinstance(value, list):
        return "list of " + " or ".join(sorted({kind(one) for one in value}))
    names = {bool: "true or false", int: "int", float: "number", str: "text", dict: "object"}
    return "null" if value is None else names[type(value)]


def fits(value: Any, said: str) -> bool:
    """Whether a value is of a type, such as ``list of number or null``."""
    if isinstance(value, list) and said.startswith("list of "):
        return all(fits(one, said.removeprefix("list of ")) for one in value)
    if isinstance(value, bool):
        return "true or false" in said
    kinds = said.removeprefix("list of ").split(" or ") if value is None else said.split(" or ")
    return kind(value) in kinds or (isinstance(value, int) and "number" in kinds)


def values_at(data: Any, path: list[str]) -> Iterator[Any]:
    """All values of a path such as ``["verdicts[]", "*", "rate"]``."""
    if not path:
        yield data
        return
    if not isinstance(data, dict):
        return
    step, rest = path[0], path[1:]
    name = step.removesuffix("[]")
    for inner in data.values() if name == "*" else [data[name]] if name in data else []:
        for one in inner if step.endswith("[]") else [inner]:
            yield from values_at(one, rest)


def unsaid(data: Any, paths: list[list[str]]) -> Iterator[str]:
    """The keys of which the manual says nothing."""
    if not isinstance(data, dict) or ([] in paths and len(paths) == 1):
        return
    for key, inner in data.items():
        below = [path[1:] for path in paths if path and path[0].removesuffix("[]") in (key, "*")]
        if not below:
            yield key
        for one in inner if isinstance(inner, list) else [inner]:
            yield from (f"{key}.{more}" for more in unsaid(one, below))


def check_json(name: str, *found: Any, never: Collection[str] | None = ()) -> None:
    """Values have the types that are said; all fields are said, and are there unless in `never`.

    With None, any may be missing.
    """
    fields = SAID[name].fields
    paths = {field: field.split(".") for field in fields}
    for data in found:
        assert list(unsaid(data, list(paths.values()))) == [], name
    for field, (said, _) in fields.items():
        values = [value for data in found for value in values_at(data, paths[field])]
        assert [value for value in values if not fits(value, said)] == [], f"{name}: {field}"
        assert never is None or bool(values) != (field in never), f"{name}: {field}"


def check_table(name: str, table: pl.DataFrame, *more: str) -> None:
    said = {column: said for one in (name, *more) for column, (said, _) in SAID[one].fields.items()}
    assert {column: str(dtype) for column, dtype in table.schema.items()} == said


def check_arrays(name: str, arrays: Any) -> None:
    fields = SAID[name].fields
    if "*" not in fields:
        assert set(arrays) == set(fields), name
    for array_name in arrays:
        said, axes = fields.get(array_name, fields.get("*", ("", "")))[0].split(" [")
        array = arrays[array_name]
        dtype = "text" if array.dtype.kind == "U" else str(array.dtype)
        count = len([axis for axis in axes.rstrip("]").split(",") if axis])
        assert (dtype, array.ndim) == (said, count), f"{name}: {array_name}"


def loaded(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
