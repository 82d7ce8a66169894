"""Masks from one recognizer, tried on another (Protocol: transfer)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

COLUMNS = ("source", "target", "rate", "clean_rate")


@dataclass(frozen=True, eq=False)
class Transfer:
    """Recognition under masks from each source, scored by each target.

    Attributes:
        sources: Recognizers the maps come from, in the order of the table.
        targets: Recognizers the scores come from, in the order of the table.
        rate: Recognition rate under occlusion; NaN where the table has no row.
        drop: Clean rate minus that rate.
        relative: Drop as a share of the white-box drop, the one from the target's own maps;
            NaN where the target is no source, or its own maps do no harm (drop <= 0) or none
            that is significantly above zero.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    rate: Float[np.ndarray, "sources targets"]
    drop: Float[np.ndarray, "sources targets"]
    relative: Float[np.ndarray, "sources targets"]


def transfer(table: pl.DataFrame) -> Transfer:
    """Matrices from a table with one row for each (source, target).

    Args:
        table: Columns `source`, `target`, `rate` (macro-averaged recognition rate under
            occlusion) and `clean_rate` (the same identities without). Where there is a column
            `drop_low`, the lower end of the drop's interval, a white-box drop must have it above
            zero to be divided by.

    Raises:
        ValueError: A column is missing, or a (source, target) comes twice: select one method,
            layer, budget and fill first, since their mean would have no meaning.
    """
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"The table lacks the columns {', '.join(missing)}.")
    if table.select("source", "target").is_duplicated().any():
        raise ValueError("The table must have one row for each (source, target).")
    sources, targets = (tuple(table[side].unique(maintain_order=True)) for side in COLUMNS[:2])
    rate = np.full((len(sources), len(targets)), np.nan)
    drop = rate.copy()
    sure = np.ones_like(rate, dtype=bool)
    for row in table.iter_rows(named=True):
        cell = sources.index(row["source"]), targets.index(row["target"])
        rate[cell], drop[cell] = row["rate"], row["clean_rate"] - row["rate"]
        low = row.get("drop_low")
        sure[cell] = low is None or low > 0
    divisor = np.where(sure, drop, 0.0)
    own = [
        divisor[sources.index(name), j] if name in sources else 0 for j, name in enumerate(targets)
    ]
    white_box = np.array([value if value > 0 else np.nan for value in own])
    return Transfer(sources, targets, rate, drop, drop / white_box)
