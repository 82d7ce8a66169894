"""Tables as script files: a page that is opened from disk cannot fetch, but it can load scripts.

A file holds one call, ``facefocus.put(NAME, TEXT)``; the text is base64 of gzip of a JSON line
(`rows`, `columns` and what else belongs to them) and of the columns, one after the other. A value
is an integer: the place in a list of labels, or a figure in units of its last digit; the least one
stands for none. All first bytes of a column come first, then all second ones. A column with `sum`
is kept by what it differs from a weighted sum of columns before it: what is near 0, packs well.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from facefocus.core.text import visible

#: Digits that are kept of a figure: those that are shown; and of a share shown as a percentage.
DIGITS, SHARE_DIGITS = 3, 6


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
    columns, data = [], []
    figures: dict[str, np.ndarray] = {}
    for column in table.iter_columns():
        about: dict[str, Any] = {"name": column.name}
        if column.name == "budget" or not column.dtype.is_float():
            about["labels"], values = _codes(column)
        else:
            about["digits"], values = _digits(column.name), _units(column)
            about["sum"] = _near(column.name, values, figures)
            figures[column.name] = values
            values = values - sum(figures[other] * weight for other, weight in about["sum"].items())
        about["bytes"], planes = _planes(values)
        columns.append(about)
        data.append(planes)
    head = {"rows": table.height, "columns": columns, **more}
    raw = b"".join([_json(head).encode(), b"\n", *data, arrays])
    text = base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode()
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
        return {visible(str(key)): _visible(entry) for key, entry in value.items()}
    return [_visible(entry) for entry in value] if isinstance(value, list | tuple) else value


def _codes(column: pl.Series) -> tuple[list[Any], np.ndarray]:
    """The different values of a column, and the place of each row's among them."""
    labels = column.unique(maintain_order=True)
    codes = labels.to_frame().with_row_index("place")
    coded = column.to_frame().join(
        codes, on=column.name, how="left", nulls_equal=True, maintain_order="left"
    )
    return labels.to_list(), coded["place"].cast(pl.Float64).to_numpy()


def _digits(name: str) -> int:
    percentage = name.endswith("_share") and name != "oracle_share"
    return SHARE_DIGITS if percentage or name.startswith("area_") else DIGITS


def _units(column: pl.Series) -> np.ndarray:
    """The figures of a column in units of their last digit, NaN where there is none."""
    digits = _digits(column.name)
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    units = values * 10.0**digits
    whole = np.rint(units)
    # Where the product ends in a half, Python rounds the exact figure, as every other table does.
    for index in np.flatnonzero(np.abs(np.abs(units - whole) - 0.5) < 1e-6):
        whole[index] = np.rint(round(float(values[index]), digits) * 10.0**digits)
    whole[~np.isfinite(whole)] = np.nan
    return np.asarray(whole)


def _near(name: str, values: np.ndarray, figures: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Weights of columns whose sum is near this one; none where one lacks what the other has.

    A drop is clean recognition less that hidden; an interval reaches about as far up as down.
    """
    middle = name.removesuffix("_low").removesuffix("_high")
    weights = {"clean_rate": 1, "rate": -1} if name == "drop" else {}
    if name.endswith("_low"):
        weights = {middle: 1}
    elif name.endswith("_high"):
        weights = {middle: 2, f"{middle}_low": -1}
    missing = np.isnan(values)
    alike = all(
        other in figures
        and _digits(other) == _digits(name)
        and np.array_equal(np.isnan(figures[other]), missing)
        for other in weights
    )
    return weights if alike else {}


def _planes(values: np.ndarray) -> tuple[int, bytes]:
    """Bytes of each value, and all of their bytes: the first of all rows first."""
    known = np.isfinite(values)
    most = np.abs(values[known]).max(initial=0)
    size = next(width for width in (1, 2, 4) if most < 2 ** (8 * width - 1))
    whole = np.where(known, values, -(2 ** (8 * size - 1))).astype(f"<i{size}")
    return size, whole.view(np.uint8).reshape(-1, size).T.tobytes()
