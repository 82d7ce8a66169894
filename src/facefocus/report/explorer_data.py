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
from facefocus.analysis.ranking import FIRST_P, RANKS, ranked
from facefocus.analysis.standing import best, margins
from facefocus.analysis.summary import RISKS
from facefocus.benchmark.result_columns import COMPETES, CONFIGURATION, HELDOUT_ORACLE, MAP, ORACLE
from facefocus.benchmark.result_slices import Slice
from facefocus.core.locations import run_folders
from facefocus.core.seeds import generator
from facefocus.report.answer import answer_to
from facefocus.report.report_data import Gallery, Report, stored_people, tile_rows

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

#: Pixels that a side of a shown map has at most, and its shades: maps are smooth, masks are not.
SIDE, LEVELS = 56, 64

#: Bytes of a mask of 112 x 112 pixels, and of all maps and masks of a run before they are packed:
#: the page has fewer people with maps where these do not suffice for all.
MASK_BYTES, MAPS_BYTES = 1_568, 40_000_000


def labels(rows: pl.DataFrame, varied: pl.DataFrame) -> pl.Series:
    """What each row is called: method, layer, and what else tells it from the rows of `varied`."""
    names = [n for n in varying(varied) if n not in ("experiment", "faces", "source", "split")]
    columns = [*dict.fromkeys(("method", "layer", "source", "target", *names))]
    made = rows.select(columns).unique(maintain_order=True)
    texts = pl.Series("label", [place_label(row, names) for row in made.to_dicts()], pl.String)
    labelled = rows.select(columns).join(
        made.with_columns(texts), on=columns, how="left", nulls_equal=True, maintain_order="left"
    )
    return labelled["label"]


def own_or_transferred() -> pl.Expr:
    """``own`` where a map is of the recognizer that is tried, or of none; else ``transferred``."""
    own = (pl.col("source") == pl.col("target")) | ~COMPETES
    return pl.when(own).then(pl.lit("own")).otherwise(pl.lit("transferred"))


def board(report: Report) -> pl.DataFrame:
    """The rows of the leaderboard and of most charts: every configuration of methods' own masks."""
    rows = _with_own_shares(_with_ranks(report))
    kind = pl.when(COMPETES).then(pl.lit("method")).otherwise(
        pl.when(pl.col("method").is_in([ORACLE, HELDOUT_ORACLE])).then(pl.lit("oracle"))
        .otherwise(pl.lit("baseline"))
    )  # fmt: skip
    ends = [f"{name}{end}" for name in (*_MEANS, *RISKS) for end in ("", "_low", "_high")]
    names = ("clean_rate", "clean_cosine", *ends, *_AUDIT, *RANKS, FIRST_P, "own_share")
    figures = [name for name in names if name in rows.columns and rows[name].is_not_null().any()]
    return rows.select(
        pl.lit(report.name).alias("run"),
        *KEYS[1:], "reading", "source", own_or_transferred().alias("maps"), "method", "layer",
        labels(rows, report.summary), "objective", "on_degenerate", kind.alias("kind"),
        *figures, *_COUNTS, "warning",
    )  # fmt: skip


def _slices(report: Report) -> list[tuple[Any, ...]]:
    """Data set, target, split, fill, reading and budget of every slice that has a method."""
    rows = report.summary.filter(COMPETES)
    settings = rows.select("faces", "target", "split", "fill", "reading", "budget")
    listed = settings.unique(maintain_order=True).rows()
    if len(listed) <= SLICES:
        return listed
    firsts = {(shown.split, shown.fill, shown.budget) for shown in report.slices}
    return [row for row in listed if (row[2], row[3], row[5]) in firsts]


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
    parts = []
    for _, shown, rows, results in _parts(report):
        part = shown.of(rows).filter(COMPETES)
        if results.height:
            parts.append(ranked(results, part).select(*CONFIGURATION, *RANKS, FIRST_P))
    rows = report.summary
    if not parts:
        return rows.with_columns(pl.lit(None, pl.Float64).alias(name) for name in (*RANKS, FIRST_P))
    return rows.join(
        pl.concat(parts), on=CONFIGURATION, how="left", nulls_equal=True, maintain_order="left"
    )


def _with_own_shares(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of others' maps with ``own_share``: their drop as a share of that by the target's own.

    Null where the same configuration was not tried with the target's own maps, or where the drop
    by these is not above 0 for sure.
    """
    alike = [name for name in CONFIGURATION
             if name not in ("source", "layer_calls", "threshold")]  # fmt: skip
    own = rows.filter(pl.col("source") == pl.col("target"), pl.col("drop_low") > 0)
    own = own.select(*alike, own_drop="drop").unique(alike, maintain_order=True)
    joined = rows.join(own, on=alike, how="left", nulls_equal=True, maintain_order="left")
    other = pl.col("source") != pl.col("target")
    return joined.with_columns(own_share=pl.when(other).then(pl.col("drop") / pl.col("own_drop")))


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


def seeded_people(report: Report, most: int = PEOPLE) -> list[str]:
    """At most so many people: whom the user named, then a seeded choice; fewer are among more."""
    names = report.results["identity"].unique().sort()
    order = generator(0, "people").permutation(len(names))
    asked = [name for name in report.persons if name in set(names)]
    return list(dict.fromkeys([*asked, *names[order]]))[: max(most, len(asked))]


def people(report: Report) -> pl.DataFrame:
    """Recognition of people clean and hidden: named configurations, a seeded choice of people."""
    rows = report.results.filter(
        pl.col("control").is_null(), pl.col("rate").is_not_null(), pl.col("split") != "half",
        pl.col("identity").is_in(seeded_people(report)),
    )  # fmt: skip
    rows = rows.with_columns(labels(rows, report.summary), maps=own_or_transferred())
    rows = rows.filter(
        pl.col("label").is_in(named_configurations(report)["label"].implode()),
        pl.col("maps") == "own",
    )
    first = pl.any_horizontal(
        *(
            (pl.col("fill") == shown.fill) & (pl.col("budget") == shown.budget)
            for shown in report.slices
        )
    )
    rows = rows.sort(first, descending=True, maintain_order=True).head(POINTS)
    return rows.select(
        pl.lit(report.name).alias("run"), *KEYS[1:], "label", "method", "identity",
        clean="clean_rate", hidden="rate",
    )  # fmt: skip


def galleries(report: Report) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each person's maps and masks: what the header of a file says, and its bytes.

    From the run's store, as far as it still has them: of people the user named all, of a seeded
    choice those of the named configurations. Else from the gallery of the run folder.
    """
    named = named_configurations(report)
    folders = run_folders(report.run)
    each = named.height * (SIDE**2 + report.summary["budget"].n_unique() * MASK_BYTES)
    chosen = seeded_people(report, min(PEOPLE, MAPS_BYTES // max(1, len(folders) * each)))
    asked = set(report.persons)
    for folder in folders:
        gallery, faces = report.galleries.get(folder), report.faces.get(folder)
        rows = gallery.rows.partition_by("identity", as_dict=True) if gallery else {}
        shown = set(report.results["identity"])
        kept = {str(name): part for (name,), part in rows.items() if name in shown}
        others, maps = {*chosen, *kept} - asked, named.select(MAP).unique()
        for names, wanted, most in ((asked, None, None), (others, maps, CONFIGURATIONS)):
            for name, stored in stored_people(folder, names, wanted, faces):
                kept.pop(name, None)
                yield _person(report, stored, stored.rows, named, most)
        for part in kept.values():
            assert gallery is not None
            yield _person(report, gallery, part, named, CONFIGURATIONS)


def _person(
    report: Report, gallery: Gallery, part: pl.DataFrame, named: pl.DataFrame, most: int | None
) -> tuple[dict[str, Any], bytes]:
    """Of one person: tiles of `named` configurations first, at most `most` in all.

    The bytes are each tile's map, every cell by its difference from the one to its left, and its
    packed masks, each by its difference from the smaller one: what differs little, packs well.
    """
    first = set(named["label"])
    kept = tile_rows(part)
    kept.sort(key=lambda item: item[0].replace("\n", " @ ").replace("layer ", "") not in first)
    tiles, arrays, shape = [], [], (0, 0)
    for title, row in kept[:most]:
        masks = part.filter(map=row["map"]).unique("budget").sort("budget")
        small = _shrunk(gallery.maps[row["map"]])
        shape = small.shape
        arrays.append(np.diff(small, axis=1, prepend=np.uint8(0)))
        cut = gallery.masks[masks["index"].to_numpy()].astype(bool)
        bits = np.packbits(cut.reshape(len(cut), -1), axis=1, bitorder="little")
        arrays.append(bits ^ np.pad(bits, ((1, 0), (0, 0)))[:-1])
        tiles.append({"title": title.replace("\n", ", "), "source": row["source"],
                      "none": row["degenerate"], "budgets": masks["budget"].to_list(),
                      "pixels": cut.sum(axis=(1, 2)).tolist()})  # fmt: skip
    faces, height_width = part["faces"][0], gallery.masks.shape[1:]
    tried = report.summary.filter(pl.col("method").is_in([ORACLE, HELDOUT_ORACLE]).not_())
    left = tried.filter(faces=faces).select(MAP).n_unique() - len(tiles)
    about = {"run": report.name, "identity": part["identity"][0], "faces": faces, "tiles": tiles,
             "height": height_width[0], "width": height_width[1], "map": shape,
             "face": _face(gallery, int(part["image"][0])), "left": max(0, left)}  # fmt: skip
    return about, b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def _shrunk(values: np.ndarray) -> np.ndarray:
    """A map from its least to its largest value in `LEVELS`, at most `SIDE` pixels wide."""
    step = -(-max(values.shape) // SIDE)
    height, width = (side // step * step for side in values.shape)
    cells = values[:height, :width].reshape(height // step, step, width // step, step)
    small = cells.mean(axis=(1, 3), dtype=np.float64)
    least, most = float(small.min()), float(small.max())
    shown = (LEVELS - 1) * (small - least) / ((most - least) or 1.0)
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
