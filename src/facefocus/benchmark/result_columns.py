"""The columns of a results table that name a configuration, and the methods with a part of it."""

from __future__ import annotations

import polars as pl

from facefocus.occlusion.fills import FILLS, reading

#: The columns of a results table that tell one configuration from another.
CONFIGURATION = (
    "experiment", "faces", "source", "target", "method", "options", "layer", "layer_calls",
    "objective", "evidence", "normalize", "arcface_scale", "max_pairs", "split", "control",
    "budget", "fill", "reading", "on_degenerate", "compare", "threshold_rule", "threshold", "seed",
)  # fmt: skip

#: Those of them that tell one map from another.
MAP = (
    "source", "method", "options", "layer", "layer_calls", "objective", "evidence", "normalize",
    "arcface_scale", "max_pairs",
)  # fmt: skip

#: In ``options``, after those of the method: the fill that a map is made for where it is tried
#: under others, too.
MADE_FOR = "made_for="

#: What a configuration and its random-pixel control must have in common: all but the map.
SETTING = tuple(name for name in CONFIGURATION if name not in (*MAP, "control"))

#: The method whose rows are the random-pixel control.
RANDOM = "random"

#: The method whose map is everybody's: no person's own.
SHARED_MASK = "shared-mask"

#: The method whose map is a blob in the middle of the frame.
CENTER = "center-gaussian"

#: The bound (Protocol: oracle), searched on the photos that it is tried on; and the same search on
#: the photos that the maps come from, tried on held-out ones.
ORACLE, HELDOUT_ORACLE = "oracle", "oracle-heldout"

#: Methods that compete; baselines have no source, and the oracles are searches, no methods.
COMPETES = pl.col("source").is_not_null() & ~pl.col("method").is_in([ORACLE, HELDOUT_ORACLE])


def with_readings(table: pl.DataFrame) -> pl.DataFrame:
    """`table` with the column `reading` after `fill`: what a drop under this fill shows.

    Tables of earlier versions lack it, and get it here. They may name a fill that is not
    installed: it is an artefact, as all fills were that never saw the mask.

    Example:
        >>> with_readings(pl.DataFrame({"fill": ["black", "inpaint"]}))["reading"].to_list()
        ['artefact', 'information']
    """
    if "reading" in table.columns and not table["reading"].has_nulls():
        return table
    kinds = {
        fill: reading(fill) if fill in FILLS else "artefact" for fill in table["fill"].unique()
    }
    readings = pl.col("fill").replace_strict(kinds, default=None, return_dtype=pl.String)
    if "reading" in table.columns:
        return table.with_columns(reading=pl.coalesce("reading", readings))
    after = table.columns.index("fill") + 1
    return table.select(*table.columns[:after], readings.alias("reading"), *table.columns[after:])
