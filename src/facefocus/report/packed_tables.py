"""Tables as script files: a page that is opened from disk cannot fetch, but it can load scripts.

A file holds one call, ``facefocus.put(NAME, TEXT)``; the text is base64 of gzip of a JSON line
(`rows`, `columns` and what else belongs to them) and of the columns, one after the other, as
little-endian integers: the place in a list of labels, or a figure in units of its last digit. The
ends of an interval, NAME_low and NAME_high, are what lies between them and NAME, in units of its
last shown digit.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from facefocus.core.text import visible

#: Digits that are kept of a figure, and of a share that is shown as a percentage.
DIGITS, SHARE_DIGITS = 4, 6

#: In the place of a figure that is not there: the least integer of its type.
_LEAST = {"int16": -(2**15), "int32": -(2**31)}


def script(name: str, table: pl.DataFrame, *, arrays: bytes = b"", **more: Any) -> str:
    """The script file of a table.

    Args:
        name: What the page's script asks for.
        table: Columns of text, truth values and integers become codes, those of floats figures;
            a float column ``budget`` is a code as well.
        arrays: More bytes, after the columns.
        more: What else the header says.

    Example:
        >>> script("x", pl.DataFrame({"method": ["a", "b", "a"], "rate": [0.5, None, 1.0]}))[:23]
        'facefocus.put("x", "H4s'
    """
    made = [
        _codes(one) if _coded(one) else _end(one, table) or _figures(one)
        for one in table.iter_columns()
    ]
    head = {"rows": table.height, "columns": [about for about, _ in made], **more}
    raw = b"".join([_json(head).encode(), b"\n", *(data for _, data in made), arrays])
    text = base64.b64encode(gzip.compress(raw, 7, mtime=0)).decode()
    return f'facefocus.put({json.dumps(name)}, "{text}");\n'


def plain_script(name: str, value: Any) -> str:
    """The script file of what is read at once: the page's own description."""
    return f"facefocus.put({json.dumps(name)}, {_json(value)});\n"


def _json(value: Any) -> str:
    # ASCII: the escapes of a control character are seven letters of text, see `visible`.
    return json.dumps(_visible(value), allow_nan=False, default=str)


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value, lines=True)
    if isinstance(value, Mapping):
        return {visible(str(key)): _visible(one) for key, one in value.items()}
    return [_visible(one) for one in value] if isinstance(value, list | tuple) else value


def _coded(column: pl.Series) -> bool:
    return column.name == "budget" or not column.dtype.is_float()


def _codes(column: pl.Series) -> tuple[dict[str, Any], bytes]:
    labels = column.unique(maintain_order=True)
    places = labels.to_frame().with_row_index("place")
    found = column.to_frame().join(
        places, on=column.name, how="left", nulls_equal=True, maintain_order="left"
    )["place"]
    kind = "uint8" if len(labels) < 256 else "uint16" if len(labels) < 65_536 else "uint32"
    about = {"name": column.name, "type": kind, "labels": labels.to_list()}
    return about, found.to_numpy().astype(f"<{np.dtype(kind).str[1:]}").tobytes()


def _end(column: pl.Series, table: pl.DataFrame) -> tuple[dict[str, Any], bytes] | None:
    """An end of an interval by its distance from the middle; None for any other column."""
    middle = re.sub("_(low|high)$", "", column.name)
    if middle == column.name or middle not in table.columns or _digits(middle) != DIGITS:
        return None
    ends, middles = (np.rint(_units(one) / 10) for one in (column, table[middle]))
    distances = ends - middles
    if not np.array_equal(np.isfinite(distances), np.isfinite(ends)):
        return None
    return _integers({"name": column.name, "digits": DIGITS, "from": middle}, distances)


def _figures(column: pl.Series) -> tuple[dict[str, Any], bytes]:
    return _integers({"name": column.name, "digits": _digits(column.name)}, _units(column))


def _digits(name: str) -> int:
    return SHARE_DIGITS if name.endswith("_share") else DIGITS


def _units(column: pl.Series) -> np.ndarray:
    """The figures of a column in units of their last digit, NaN where there is none."""
    digits = _digits(column.name)
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    units = np.rint(values * 10.0**digits)
    known = np.isfinite(units)
    # What is shown has three digits. A figure that ends in a five is moved to where Python rounds
    # the exact one, so that the page shows the same digits as every other table.
    if digits == DIGITS:
        for place in np.flatnonzero(known & (np.abs(units) % 10 == 5)):
            up = round(float(values[place]), 3) * 10.0**digits > units[place]
            units[place] += 1 if up else -1
    units[~known] = np.nan
    return np.asarray(units)


def _integers(about: dict[str, Any], units: np.ndarray) -> tuple[dict[str, Any], bytes]:
    known = np.isfinite(units)
    kind = "int16" if np.abs(units[known]).max(initial=0) < 32_768 else "int32"
    whole = np.where(known, units, _LEAST[kind])
    return about | {"type": kind}, whole.astype(f"<{np.dtype(kind).str[1:]}").tobytes()
