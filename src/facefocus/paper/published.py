"""The paper's tables as printed, shipped as data (``published/``), with their source."""

from __future__ import annotations

import csv
import io
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCE = (
    'P. Borsukiewicz et al., "Faces in Focus: Evaluating Generalizability and Transferability of '
    'Facial Recognition Explainability Techniques for CNN-based Models"'
)

#: Recognizers, techniques and data sets in the order in which the paper's tables have them.
MODELS = ("IR50_I", "FN_C", "FN_V", "IR100", "IR18", "IR50", "IR50_S")
DATA_SETS = ("LFW", "CALFW", "CPLFW")
TECHNIQUES = {
    "Grad-CAM++": "grad-cam++",
    "Grad-CAM": "grad-cam",
    "S-RISE": "s-rise",
    "CorrRISE": "corr-rise",
    "LayerCAM": "layer-cam",
}

#: A cell: a figure, or a word such as a layer.
Printed = float | str


@dataclass(frozen=True)
class Published:
    """One table as printed.

    Attributes:
        number: As in the paper.
        caption: What it shows.
        labels: Headings of the columns that name a row.
        span: Heading over the other columns; empty where they have none in common.
        columns: Headings of the other columns.
        rows: Cells of each row, by its labels, in order.
        notes: Where printed figures do not agree with each other.
    """

    number: int
    caption: str
    labels: tuple[str, ...]
    span: str
    columns: tuple[str, ...]
    rows: dict[tuple[str, ...], tuple[Printed, ...]]
    notes: tuple[str, ...]

    def cell(self, labels: tuple[str, ...], column: str) -> Printed | None:
        """The printed cell; None where the paper has no such row or column."""
        row = self.rows.get(labels)
        return (
            None if row is None or column not in self.columns else row[self.columns.index(column)]
        )


@cache
def published() -> dict[int, Published]:
    """Tables 2 to 15 by number."""
    tables = tomllib.loads(
        (files(__package__) / "published_tables" / "tables.toml").read_text("utf-8")
    )
    return {int(number): _table(int(number), data) for number, data in tables.items()}


def shipped(name: str) -> str | None:
    """The text of a shipped file such as ``table14.csv``; None if there is none of this name."""
    known = {file.name: file for file in (files(__package__) / "published_tables").iterdir()}
    return known[name].read_text("utf-8") if name in known and name.endswith(".csv") else None


def _table(number: int, data: dict[str, object]) -> Published:
    listed = _matrix(str(data["file"])) if "file" in data else data["rows"]
    assert isinstance(listed, list)
    labels, columns = _texts(data["labels"]), _texts(data["columns"])
    rows = {tuple(map(str, row[: len(labels)])): tuple(row[len(labels) :]) for row in listed}
    return Published(
        number, str(data["caption"]), labels, str(data["span"]), columns, rows,
        _texts(data.get("notes", [])),
    )  # fmt: skip


def _texts(value: object) -> tuple[str, ...]:
    assert isinstance(value, list)
    return tuple(map(str, value))


def _matrix(name: str) -> list[list[Printed]]:
    rows = list(csv.reader(io.StringIO(shipped(name) or "")))
    return [[row[0], *map(float, row[1:])] for row in rows[1:]]
