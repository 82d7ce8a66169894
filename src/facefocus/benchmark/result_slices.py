"""The budget, fill and split that a first look at results shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from facefocus.benchmark.result_columns import with_readings
from facefocus.core.errors import UserError
from facefocus.core.text import budget_text


def photos_in_words(split: str) -> str:
    """On which photos hiding is tried: ``held-out photos``.

    Example:
        >>> photos_in_words("same"), photos_in_words("frontal-to-turned")
        ('photos the map came from', 'frontal to turned photos')
    """
    usual = {"same": "photos the map came from", "heldout": "held-out photos"}
    return usual.get(split, f"{split.replace('-', ' ')} photos")


@dataclass(frozen=True)
class Slice:
    """One budget, one fill and one split: what a first look shows.

    `reading` says what a drop under the fill shows (Protocol: fills).
    """

    budget: float
    fill: str
    split: str = "same"
    reading: str = "artefact"

    def of(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows of this slice, of methods' own masks."""
        return self.at(table, "budget", "fill", "split")

    def at(self, table: pl.DataFrame, *names: str) -> pl.DataFrame:
        """The rows of methods' own masks that are equal to this slice in `names`."""
        equal = [pl.col(name) == getattr(self, name) for name in names]
        return table.filter(pl.col("control").is_null(), *equal)

    @property
    def filled(self) -> str:
        """``black (artefact)``: the fill and what a drop under it shows."""
        return f"{self.fill} ({self.reading})"

    def __str__(self) -> str:
        photos = "" if self.split == "same" else f", {photos_in_words(self.split)}"
        return f"{budget_text(self.budget)} of the pixels, fill {self.filled}{photos}"


#: The fill of a first look, where there is one, by reading; in the order in which they are shown.
_FIRST_FILLS = {"artefact": "black", "information": "inpaint"}


def default_slices(table: pl.DataFrame) -> list[Slice]:
    """What a first look shows: one slice for each reading of the table, artefact first.

    Budget 1 %, fill black (``inpaint`` for information) and split ``same`` where there are; else
    the smallest or the first. Never split ``half``, which is a reference for held-out photos.

    Args:
        table: Result rows or their summary.

    Raises:
        UserError: The table is empty.
    """
    if table.is_empty():
        raise UserError("The results must have at least one row. Got an empty table.")
    table = with_readings(table)
    budgets = table["budget"].unique().sort().to_list()
    budget = next((budget for budget in budgets if np.isclose(budget, 0.01)), budgets[0])
    splits = [split for split in ("same", "heldout") if split in set(table["split"])]
    split = [*splits, *table.filter(pl.col("split") != "half")["split"]][0]
    slices = []
    for reading, first in _FIRST_FILLS.items():
        fills = table.filter(pl.col("reading") == reading)["fill"].unique(maintain_order=True)
        if len(fills):
            fill = first if first in fills else fills[0]
            slices.append(Slice(budget, fill, split, reading))
    return slices


def default_slice(table: pl.DataFrame) -> Slice:
    """The first of `default_slices`.

    Raises:
        UserError: The table is empty.
    """
    return default_slices(table)[0]
