"""What the interactive page shows of a run, as tables: the leaderboard's rows, answers, people."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from facefocus.analysis.labels import layer_depth, place_label, varying
from facefocus.analysis.ranking import RANKS, ranked
from facefocus.analysis.results import Slice
from facefocus.analysis.standing import best, margins
from facefocus.analysis.summary import COMPETES
from facefocus.benchmark.result_columns import CONFIGURATION, HELDOUT_ORACLE, ORACLE
from facefocus.core.seeds import generator
from facefocus.report.answer import answer_to
from facefocus.report.report_data import Gallery, Report, tile_rows

#: What the selectors of the page choose, besides score and maps.
KEYS = ("run", "faces", "target", "split", "budget", "fill")

#: Figures of a row: means with intervals, then the audit.
_MEANS = ("rate", "drop", "cosine", "excess", "specificity", "oracle_share", "heldout_drop")
_AUDIT = ("degenerate_share", "maps_degenerate_share", "maps_ill_conditioned_share",
          "area_mean", "area_max", "over_budget_share", "unaffected_share")  # fmt: skip
_COUNTS = ("scored", "identities")

#: Named configurations and people of the people view; points of its chart.
CONFIGURATIONS, PEOPLE, POINTS = 20, 200, 400_000

#: Slices of which ranks and answers are computed from the results: all, up to this many; beyond
#: it those of the first look.
SLICES = 400

#: Pixels that a side of a shown map has at most: maps are smooth, masks are not.
SIDE = 56


def labels(rows: pl.DataFrame, varied: pl.DataFrame) -> pl.Series:
    """What each row is called: method, layer, and what else tells it from the rows of `varied`."""
    names = [n for n in varying(varied) if n not in ("experiment", "faces", "source", "split")]
    columns = [*dict.fromkeys(("method", "layer", "source", "target", *names))]
    made = rows.select(columns).unique(maintain_order=True)
    texts = pl.Series("label", [place_label(row, names) for row in made.to_dicts()], pl.String)
    found = rows.select(columns).join(
        made.with_columns(texts), on=columns, how="left", nulls_equal=True, maintain_order="left"
    )
    return found["label"]


def own_or_transferred() -> pl.Expr:
    """``own`` where a map is of the recognizer that is tried, or of none; else ``transferred``."""
    own = (pl.col("source") == pl.col("target")) | ~COMPETES
    return pl.when(own).then(pl.lit("own")).otherwise(pl.lit("transferred"))


def board(report: Report) -> pl.DataFrame:
    """The rows of the leaderboard and of most charts: every configuration of methods' own masks."""
    rows = _with_ranks(report)
    kind = pl.when(COMPETES).then(pl.lit("method")).otherwise(
        pl.when(pl.col("method").is_in([ORACLE, HELDOUT_ORACLE])).then(pl.lit("oracle"))
        .otherwise(pl.lit("baseline"))
    )  # fmt: skip
    ends = [f"{name}{end}" for name in _MEANS for end in ("", "_low", "_high")]
    figures = [one for one in ("clean_rate", "clean_cosine", *ends, *_AUDIT, *RANKS)
               if rows[one].is_not_null().any()]  # fmt: skip
    return rows.select(
        pl.lit(report.name).alias("run"),
        *KEYS[1:], "reading", "source", own_or_transferred().alias("maps"), "method", "layer",
        labels(rows, report.summary), "objective", "on_degenerate", kind.alias("kind"),
        *figures, *_COUNTS, "warning",
    )  # fmt: skip


def _slices(report: Report) -> list[tuple[Any, ...]]:
    """Data set, target, split, fill, reading and budget of every slice that has a method."""
    rows = report.summary.filter(COMPETES)
    found = rows.select("faces", "target", "split", "fill", "reading", "budget")
    listed = found.unique(maintain_order=True).rows()
    if len(listed) <= SLICES:
        return listed
    firsts = {(one.split, one.fill, one.budget) for one in report.slices}
    return [one for one in listed if (one[2], one[3], one[5]) in firsts]


def _parts(report: Report) -> Iterator[tuple[dict[str, Any], Slice, pl.DataFrame, pl.DataFrame]]:
    """Of every slice, for own and for others' maps: its keys, summary rows and result rows."""
    keys = ["faces", "target"]
    summaries = report.summary.partition_by(keys, as_dict=True)
    of_slice = ["faces", "target", "split", "fill", "budget"]
    own = report.results.filter(pl.col("control").is_null())
    results = own.partition_by(of_slice, as_dict=True)
    for faces, target, split, fill, reading, budget in _slices(report):
        rows = summaries[faces, target].with_columns(maps=own_or_transferred())
        part = results.get((faces, target, split, fill, budget), report.results.clear())
        about = {"run": report.name, "faces": faces, "target": target, "split": split,
                 "budget": budget, "fill": fill}  # fmt: skip
        for maps in ("own", "transferred"):
            chosen = rows.filter((pl.col("maps") == maps) | ~COMPETES).drop("maps")
            shown = Slice(budget, fill, split, reading)
            if shown.of(chosen).filter(COMPETES).height:
                yield about | {"maps": maps}, shown, chosen, part


def _with_ranks(report: Report) -> pl.DataFrame:
    """The summary with `RANKS`: own maps among themselves, and those of others."""
    found = []
    for _, shown, rows, results in _parts(report):
        part = shown.of(rows).filter(COMPETES)
        if results.height:
            found.append(ranked(results, part).select(*CONFIGURATION, *RANKS))
    rows = report.summary
    if not found:
        return rows.with_columns(pl.lit(None, pl.Float64).alias(name) for name in RANKS)
    return rows.join(
        pl.concat(found), on=CONFIGURATION, how="left", nulls_equal=True, maintain_order="left"
    )


def answers(report: Report) -> pl.DataFrame:
    """For every slice, and own or others' maps: the answer, and the sentences after it.

    ``no_more``: even the best method is not shown to take more than random pixels, or than a blob
    in the middle.
    """
    lines = []
    for about, shown, rows, results in _parts(report):
        first, *more = answer_to(results, rows, shown)
        no_more = not all(margin.shown for margin in margins(shown.of(rows)))
        lines.append(
            about
            | {"reading": shown.reading, "answer": first, "more": "\n".join(more)}
            | {"no_more": no_more}
        )
    names = (*KEYS, "maps", "reading", "answer", "more")
    schema: dict[str, Any] = dict.fromkeys(names, pl.String)
    schema |= {"budget": pl.Float64, "no_more": pl.Boolean}
    return pl.DataFrame(lines, schema=schema, orient="row")


# --- people ---------------------------------------------------------------------------------------


def named_configurations(report: Report) -> pl.DataFrame:
    """At most `CONFIGURATIONS` own maps by largest drop, every method's best first; and random."""
    rows = pl.concat([shown.of(report.summary) for shown in report.slices])
    rows = rows.with_columns(labels(rows, report.summary))
    own = rows.filter(COMPETES & (pl.col("source") == pl.col("target")))
    own = own if own.height else rows.filter(COMPETES)
    largest = own.sort("drop", descending=True, nulls_last=True, maintain_order=True)
    firsts = largest.unique(("target", "method"), keep="first", maintain_order=True)
    order = pl.concat([firsts, largest]).unique("label", keep="first", maintain_order=True)
    baselines = rows.filter(~COMPETES).unique("label", maintain_order=True).head(2)
    return pl.concat([order.head(CONFIGURATIONS - baselines.height), baselines])


def people(report: Report) -> pl.DataFrame:
    """Recognition of people clean and hidden: named configurations, a seeded choice of people."""
    names = report.results["identity"].unique().sort().to_list()
    if len(names) > PEOPLE:
        picked = generator(0, "people").choice(len(names), PEOPLE, replace=False)
        names = [names[place] for place in sorted(picked)]
    rows = report.results.filter(
        pl.col("control").is_null(), pl.col("rate").is_not_null(), pl.col("split") != "half",
        pl.col("identity").is_in(names),
    )  # fmt: skip
    rows = rows.with_columns(labels(rows, report.summary), maps=own_or_transferred())
    rows = rows.filter(
        pl.col("label").is_in(named_configurations(report)["label"].implode()),
        pl.col("maps") == "own",
    )
    first = pl.any_horizontal(
        *((pl.col("fill") == one.fill) & (pl.col("budget") == one.budget) for one in report.slices)
    )
    rows = rows.sort(first, descending=True, maintain_order=True).head(POINTS)
    return rows.select(
        pl.lit(report.name).alias("run"), *KEYS[1:], "label", "method", "identity",
        clean="clean_rate", hidden="rate",
    )  # fmt: skip


def galleries(report: Report) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each person's maps and masks: what the header of a file says, and its bytes."""
    named = set(named_configurations(report)["label"]) if report.summary.height else set()
    for gallery in report.galleries:
        for part in gallery.rows.partition_by("identity", maintain_order=True):
            yield _person(report, gallery, part, named)


def _person(
    report: Report, gallery: Gallery, part: pl.DataFrame, named: set[str]
) -> tuple[dict[str, Any], bytes]:
    """Of one person: tiles of `named` configurations first, at most `CONFIGURATIONS` in all."""
    kept = [(title, row) for title, row in tile_rows(part)][: 3 * CONFIGURATIONS]
    kept.sort(key=lambda item: item[0].replace("\n", " @ ").replace("layer ", "") not in named)
    tiles, arrays = [], []
    for title, row in kept[:CONFIGURATIONS]:
        masks = part.filter(map=row["map"]).unique("budget", maintain_order=True)
        arrays.append(_shrunk(gallery.maps[row["map"]]))
        tile = {"title": title.replace("\n", ", "), "source": row["source"],
                "none": row["degenerate"], "budgets": masks["budget"].to_list(),
                "pixels": []}  # fmt: skip
        for place in masks["index"]:
            mask = gallery.masks[place].astype(bool)
            tile["pixels"].append(int(mask.sum()))
            arrays.append(np.packbits(mask.reshape(-1), bitorder="little"))
        tiles.append(tile)
    who, image = part["identity"][0], int(part["image"][0])
    height, width = gallery.masks.shape[1:]
    about = {"run": report.name, "identity": who, "faces": part["faces"][0], "tiles": tiles,
             "height": height, "width": width, "map": arrays[0].shape if arrays else (0, 0),
             "face": _face(gallery, image), "left": max(0, len(kept) - CONFIGURATIONS)}  # fmt: skip
    return about, b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def _shrunk(values: np.ndarray) -> np.ndarray:
    """A map from its least to its largest value as bytes, at most `SIDE` pixels wide."""
    step = -(-max(values.shape) // SIDE)
    height, width = (side // step * step for side in values.shape)
    cells = values[:height, :width].reshape(height // step, step, width // step, step)
    small = cells.mean(axis=(1, 3), dtype=np.float64)
    least, most = float(small.min()), float(small.max())
    shown = 255 * (small - least) / ((most - least) or 1.0)
    return np.asarray(np.rint(shown).astype(np.uint8))


def _face(gallery: Gallery, image: int) -> str | None:
    """The clean photo as an address that holds it; None where no face may be shown."""
    if gallery.faces is None:
        return None
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(gallery.faces.frames[image])).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def layer_order(rows: pl.DataFrame) -> list[str]:
    """The layers of some summary rows, shallow to deep; groups of layers last."""
    named = rows.filter(pl.col("layer").is_not_null())
    few = named.unique(("layer", "layer_calls"), maintain_order=True).to_dicts()
    return list(dict.fromkeys(row["layer"] for row in sorted(few, key=layer_depth)))


def first_look(report: Report) -> Mapping[str, Any]:
    """The selectors' first values: the recognizer and slice of the first answer."""
    shown = report.slices[0]
    top = best(shown.of(report.summary))
    rows = (
        report.summary if top is None else report.summary.filter(pl.col("target") == top["target"])
    )
    return {"run": report.name, "faces": rows["faces"][0], "target": rows["target"][0],
            "split": shown.split, "budget": shown.budget, "fill": shown.fill}  # fmt: skip
