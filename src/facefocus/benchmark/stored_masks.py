"""Where the store has the maps and masks of a run, so that whoever shows them makes none anew."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32

from facefocus.benchmark.result_columns import MAP
from facefocus.core.store import Missing, Store
from facefocus.occlusion.masks import unpack

#: The index's file in a run folder.
STORED_MASKS = "stored-masks.parquet"

#: A row of the index: people of one block under one map, their masks on the first target that
#: these were tried on. `fill` is null where map and masks serve every fill; `images` has a photo
#: of each person; `maps` and `scores` are keys of the store.
INDEX: dict[str, Any] = {
    "block": pl.Int64, "people": pl.List(pl.String), "images": pl.List(pl.Int64),
    "maps": pl.String, "scores": pl.String, "budgets": pl.List(pl.Float64), "faces": pl.String,
    "fill": pl.String, "on_degenerate": pl.String, **dict.fromkeys(MAP, pl.String),
    "normalize": pl.Boolean, "arcface_scale": pl.Float64, "max_pairs": pl.Int64,
}  # fmt: skip

#: A row of what is read: one mask, with the places of its map and its own among the arrays.
ROWS: dict[str, Any] = {
    "index": pl.Int64, "map": pl.Int64, "image": pl.Int64, "degenerate": pl.Boolean,
    "faces": pl.String, "identity": pl.String, "budget": pl.Float64, "fill": pl.String,
    "on_degenerate": pl.String, **{name: INDEX[name] for name in MAP},
}  # fmt: skip


def read_masks(
    store: Store, index: pl.DataFrame, people: Collection[str], *, partly: bool = False
) -> tuple[pl.DataFrame, Float32[np.ndarray, "m h w"], Bool[np.ndarray, "n h w"]]:
    """Maps and masks of some people: the very ones that were scored.

    Args:
        store: Of the run.
        index: Rows of its index.
        people: Whose.
        partly: Leave out what the store no longer has.

    Returns:
        A row for each mask (`ROWS`), the maps and the masks.

    Raises:
        Missing: The store lacks one of them, unless `partly`.
    """
    rows: list[dict[str, Any]] = []
    maps: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for row in index.iter_rows(named=True):
        wanted = [person for person, name in enumerate(row["people"]) if name in people]
        if not wanted:
            continue
        try:
            made, scored = store.load(row["maps"]), store.load(row["scores"])
        except Missing:
            if partly:
                continue
            raise
        cut = unpack(scored["masks"], (*scored["cosine"].shape, *made["maps"].shape[1:]))
        for person in wanted:
            # As `session.is_degenerate`, which needs torch.
            flat = bool(made["degenerate"][person] == made["total"][person])
            about = {"map": len(maps), "identity": row["people"][person], "degenerate": flat}
            about |= {"image": row["images"][person]}
            about |= {name: row[name] for name in ("faces", "fill", "on_degenerate", *MAP)}
            maps.append(made["maps"][person])
            for budget, mask in zip(row["budgets"], cut[person], strict=True):
                rows.append(about | {"index": len(masks), "budget": budget})
                masks.append(mask)
    frame = maps[0].shape if maps else (1, 1)
    table = pl.DataFrame(rows, schema=ROWS, orient="row")
    return (
        table,
        np.asarray(maps, np.float32).reshape(-1, *frame),
        np.asarray(masks, bool).reshape(-1, *frame),
    )
