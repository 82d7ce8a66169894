"""Transfer matrices from anywhere: recognition rates, source by target recognizer."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from facefocus.analysis.whole_faces import HiddenFit, fit_hidden
from facefocus.core.errors import UserError

#: Rows of a matrix that hold no source recognizer: nothing hidden, and the whole face hidden.
CLEAN, HIDDEN = "clean", "hidden"


@dataclass(frozen=True, eq=False)
class RateMatrix:
    """Recognition rates, source by target recognizer; NaN for an empty cell."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    rates: Float[np.ndarray, "sources targets"]
    clean: Float[np.ndarray, " targets"] | None = None
    hidden: Float[np.ndarray, " targets"] | None = None


def read_matrix(name: str, text: str | None = None) -> RateMatrix:
    """A matrix from the CSV file called `name`, or from `text` where there is no such file.

    The first line names the target recognizers, the first cell of every other line the
    source recognizer. Lines called ``clean`` and ``hidden`` may give the rates with nothing and
    with the whole face hidden.

    Raises:
        UserError: The file cannot be read or is no such matrix; says where.
    """
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else text
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the matrix '{name}': {type(error).__name__}.") from None
    if text is None:
        raise UserError(
            f"There is no matrix '{name}'. 'table14.csv', the paper's, is always there."
        )
    try:
        lines = [line for line in csv.reader(io.StringIO(text)) if any(map(str.strip, line))]
    except csv.Error as error:
        raise UserError(f"The matrix '{name}' is no CSV: {error}.") from None
    return _matrix(name, lines)


def _matrix(name: str, lines: Sequence[Sequence[str]]) -> RateMatrix:
    targets = tuple(cell.strip() for cell in lines[0][1:]) if lines else ()
    if not targets or "" in targets or len(set(targets)) < len(targets):
        raise UserError(
            f"The matrix '{name}' must name each target recognizer once in its first line."
        )
    rows: dict[str, list[float]] = {}
    for line in lines[1:]:
        label = line[0].strip()
        if not label or label in rows:
            raise UserError(f"The matrix '{name}' must name every line once. Got '{label}'.")
        if len(line) != len(targets) + 1:
            raise UserError(
                f"Line '{label}' of '{name}' must have {len(targets)} rates. Got {len(line) - 1}."
            )
        rows[label] = [
            _rate(cell, f"Line '{label}', column '{column}' of '{name}'")
            for cell, column in zip(line[1:], targets, strict=True)
        ]
    known = {label: np.array(rows.pop(label)) for label in (CLEAN, HIDDEN) if label in rows}
    return _usable(name, RateMatrix(
        tuple(rows), targets, np.array(list(rows.values())).reshape(len(rows), len(targets)),
        known.get(CLEAN), known.get(HIDDEN),
    ))  # fmt: skip


def _rate(cell: str, where: str) -> float:
    if not cell.strip():
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        raise UserError(f"{where} must be a number in [0, 1]. Got '{cell}'.") from None
    if not 0 <= value <= 1:
        hint = f" Did you mean {value / 100:g}?" if 1 < value <= 100 else ""
        raise UserError(f"{where} must be in [0, 1]. Got {cell.strip()}.{hint}")
    return value


def _usable(name: str, matrix: RateMatrix) -> RateMatrix:
    known = np.isfinite(matrix.rates)
    least = 2 if matrix.hidden is None else 1
    if min(matrix.rates.shape) < least:
        raise UserError(
            f"The matrix '{name}' must have at least {least} source and target recognizers."
            f" Got {matrix.rates.shape[0]} and {matrix.rates.shape[1]}."
        )
    for names, has in ((matrix.sources, known.any(axis=1)), (matrix.targets, known.any(axis=0))):
        if not has.all():
            empty = names[int(np.argmin(has))]
            raise UserError(f"The matrix '{name}' must have a rate for '{empty}'. Got none.")
    for label, row in ((CLEAN, matrix.clean), (HIDDEN, matrix.hidden)):
        if row is not None and np.isnan(row).any():
            raise UserError(f"The line '{label}' of '{name}' must have a rate in every column.")
    if matrix.hidden is not None and matrix.clean is None:
        raise UserError(f"The line '{HIDDEN}' of '{name}' needs a line '{CLEAN}' beside it.")
    return matrix


def fit_matrix(matrix: RateMatrix) -> HiddenFit:
    """`evaluation.audit.fit_hidden` of a matrix."""
    return fit_hidden(matrix.rates, clean=matrix.clean, hidden=matrix.hidden)
