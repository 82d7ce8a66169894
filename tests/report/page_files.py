"""What a page's script files hold, read as its script reads them."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Packed:
    """A table's name, header, rows, and the bytes after them."""

    name: str
    head: dict[str, Any]
    table: pl.DataFrame
    rest: bytes


def read_page(path: Path) -> dict[str, Any]:
    """The page's description of itself."""
    return dict(json.loads(_argument(path)[1]))


def read_packed(path: Path) -> Packed:
    """A table of a page."""
    name, text = _argument(path)
    raw = gzip.decompress(base64.b64decode(json.loads(text)))
    line, _, rest = raw.partition(b"\n")
    head = json.loads(line)
    columns: dict[str, pl.Series] = {}
    whole: dict[str, np.ndarray] = {}
    for about in head["columns"]:
        kind = np.dtype(f"<i{about['bytes']}")
        size = kind.itemsize * head["rows"]
        planes = np.frombuffer(rest[:size], np.uint8).reshape(kind.itemsize, -1)
        values = np.ascontiguousarray(planes.T).view(kind).reshape(-1)
        rest = rest[size:]
        if "labels" in about:
            columns[about["name"]] = pl.Series([about["labels"][code] for code in values])
        else:
            numbers = values.astype(float)
            numbers[values == np.iinfo(kind).min] = np.nan
            numbers += sum(whole[column] * weight for column, weight in about["sum"].items())
            whole[about["name"]] = numbers
            columns[about["name"]] = pl.Series(numbers / 10.0 ** about["digits"], nan_to_null=True)
    return Packed(name, head, pl.DataFrame(columns), rest)


def _argument(path: Path) -> tuple[str, str]:
    match = re.fullmatch(r'facefocus\.put\("([^"]+)", (.*)\);\n', path.read_text(), re.DOTALL)
    assert match, path
    return match[1], match[2]
