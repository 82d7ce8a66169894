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

FORMATS: dict[str, Any] = {file_format.name: file_format for file_format in file_formats.formats()}


def kind(value: Any) -> str:
    """The type of a value of JSON, as the manual calls it."""
    if isinstance(value, list):
        return "list of " + " or ".join(sorted({kind(element) for element in value}))
    names = {bool: "true or false", int: "int", float: "number", str: "text", dict: "object"}
    return "null" if value is None else names[type(value)]


def fits(value: Any, documented: str) -> bool:
    """Whether a value is of a type, such as ``list of number or null``."""
    if isinstance(value, list) and documented.startswith("list of "):
        return all(fits(element, documented.removeprefix("list of ")) for element in value)
    if isinstance(value, bool):
        return "true or false" in documented
    kinds = (
        documented.removeprefix("list of ").split(" or ")
        if value is None
        else documented.split(" or ")
    )
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
        for element in inner if step.endswith("[]") else [inner]:
            yield from values_at(element, rest)


def unsaid(data: Any, paths: list[list[str]]) -> Iterator[str]:
    """The keys of which the manual says nothing."""
    if not isinstance(data, dict) or ([] in paths and len(paths) == 1):
        return
    for key, inner in data.items():
        below = [path[1:] for path in paths if path and path[0].removesuffix("[]") in (key, "*")]
        if not below:
            yield key
        for element in inner if isinstance(inner, list) else [inner]:
            yield from (f"{key}.{more}" for more in unsaid(element, below))


def check_json(name: str, *contents: Any, never: Collection[str] | None = ()) -> None:
    """Values have the types that are said; all fields are said, and are there unless in `never`.

    With None, any may be missing.
    """
    fields = FORMATS[name].fields
    paths = {field: field.split(".") for field in fields}
    for data in contents:
        assert list(unsaid(data, list(paths.values()))) == [], name
    for field, (documented, _) in fields.items():
        values = [value for data in contents for value in values_at(data, paths[field])]
        assert [value for value in values if not fits(value, documented)] == [], f"{name}: {field}"
        assert never is None or bool(values) != (field in never), f"{name}: {field}"


def check_table(name: str, table: pl.DataFrame, *more: str) -> None:
    documented = {
        column: documented
        for title in (name, *more)
        for column, (documented, _) in FORMATS[title].fields.items()
    }
    assert {column: str(dtype) for column, dtype in table.schema.items()} == documented


def check_arrays(name: str, arrays: Any) -> None:
    fields = FORMATS[name].fields
    if "*" not in fields:
        assert set(arrays) == set(fields), name
    for array_name in arrays:
        documented, axes = fields.get(array_name, fields.get("*", ("", "")))[0].split(" [")
        array = arrays[array_name]
        dtype = "text" if array.dtype.kind == "U" else str(array.dtype)
        count = len([axis for axis in axes.rstrip("]").split(",") if axis])
        assert (dtype, array.ndim) == (documented, count), f"{name}: {array_name}"


def loaded(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
