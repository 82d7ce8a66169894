"""The built-in sections of a run's page, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import UInt8

from facefocus.analysis.labels import layer_depth, measured, place_label, settings_in_words, varying
from facefocus.analysis.ranking import ranked
from facefocus.analysis.standing import Margin, best, margins
from facefocus.analysis.summary import COMPETES, CONTROLS, Row, drops
from facefocus.benchmark.result_columns import CONFIGURATION, MAP
from facefocus.core.text import NOTHING, budget_text, number
from facefocus.evaluation.statistics import Interval, rank_agreement
from facefocus.evaluation.transfer import transfer as transfer_matrices
from facefocus.faces.faceset import FaceSet
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.report import figures
from facefocus.report.answer import checks, place
from facefocus.report.audit_blocks import audit_blocks
from facefocus.report.columns import (
    COMPARISONS,
    HELDOUT_PEOPLE,
    RELATIVE,
    columns,
    comparison_columns,
    figure_columns,
    leaderboard_columns,
    leading,
    share_column,
    with_holm,
)
from facefocus.report.document import (
    Checks,
    Code,
    Column,
    Details,
    Facts,
    Heading,
    Link,
    Picture,
    Section,
    Table,
)
from facefocus.report.report_data import Report, spread
from facefocus.report.section_registry import each_reading, section
from facefocus.report.summary_blocks import slice_note
from facefocus.report.summary_table import summary_table, to_csv

#: How many of the people who lose most are named.
LISTED = 5

#: Panels of the transfer figure, and rows of the table of everything (the file has them all).
PANELS, ROWS = 8, 500

#: Pictures of people's maps, over all recognizers.
PICTURES = 8

#: Lines of a chart: more are not told apart.
LINES = 8


@section("experiment", place=10)
def experiment(report: Report) -> Section | None:
    """What was done, in a few facts."""
    rows = report.summary
    faces = report.provenance.get("faces")
    frames = f" ({faces['frames']} images)" if isinstance(faces, dict) and "frames" in faces else ""
    limits = rows.select("target", "threshold_rule", "threshold").unique(maintain_order=True)
    facts = {
        "Faces": _listed(rows["faces"]) + frames,
        "Identities": str(report.results["identity"].n_unique()),
        "Target recognizers": _listed(rows["target"]),
        "Source recognizers": _listed(rows["source"].drop_nulls()) or NOTHING,
        "Methods": _listed(rows["method"]),
        "Layers": ", ".join(_layers(rows)) or NOTHING,
        "Budgets": ", ".join(budget_text(budget) for budget in rows["budget"].unique().sort()),
        "Fills": "; ".join(
            f"{reading}: {_listed(rows.filter(reading=reading)['fill'])}"
            for reading in rows["reading"].unique(maintain_order=True)
        ),
        "Compared with": _listed(rows["compare"]),
        "Thresholds": "; ".join(
            f"{row['target']}: {number(row['threshold'])} ({row['threshold_rule']})"
            for row in limits.iter_rows(named=True)
        ),
    }
    blocks: list[Any] = [Facts(facts)]
    if report.experiment:
        blocks.append(Details("The experiment file, as it was run", [Code(report.experiment)]))
    lead = (
        "Pixels that a method calls important are hidden; the recognizer then compares the hidden "
        "face with the person's other images. Recognition is the share of those pairs at or above "
        "the threshold."
    )
    return Section("experiment", "What was done", lead, blocks)


def _listed(values: pl.Series) -> str:
    return ", ".join(map(str, values.unique(maintain_order=True)))


def _layers(rows: pl.DataFrame) -> list[str]:
    """The layers of the rows, shallow to deep; groups of layers last."""
    named = rows.filter(pl.col("layer").is_not_null()).to_dicts()
    return list(dict.fromkeys(row["layer"] for row in sorted(named, key=layer_depth)))


@section("audit", place=30)
def audit(report: Report) -> Section | None:
    """Whether the numbers can be trusted."""
    if report.summary.is_empty():
        return None
    lead = "Read this first. What is marked 'look' does not make a number wrong, but limits it."
    blocks: list[Any] = [Checks(checks(report.summary))]
    if more := audit_blocks(report.results):
        blocks.append(Details("Whole faces: budget, fill, percentile, transfer", more))
    return Section("audit", "Can the numbers be trusted?", lead, blocks)


@section("winner", place=40)
@each_reading
def winner(report: Report) -> Section | None:
    """Which method lowers recognition most, at one budget and fill."""
    if report.summary.is_empty():
        return None
    blocks: list[Any] = []
    for target, rows in report.targets():
        part = report.shown.of(rows)
        board = ranked(report.results, part)
        scores = leaderboard_columns(board)
        caption = f"{target}: {report.shown}; baselines first, then largest drop"
        blocks += [*report.heading(target), _leading_table(board, caption, scores)]
        if measured(board, "rank"):
            blocks.append(_ranks(report, target, leading(board)))
        if part["layer"].drop_nulls().len():
            blocks.append(_heatmap(report, target, part))
    blocks.append(_column_notes(report.summary))
    return Section(
        "winner",
        "Which method lowers recognition most?",
        slice_note(report.summary, report.shown),
        blocks,
    )


def _leading_table(
    rows: pl.DataFrame, caption: str, scores: Sequence[Column] | None = None
) -> Table:
    """The leading rows of one recognizer, budget, fill and split."""
    few = leading(rows)
    left = f" (of {rows.height} rows the first {few.height})" if few.height < rows.height else ""
    return summary_table(
        few, caption=caption + left, omit=("Target", "Budget", "Fill", "Reading"), scores=scores
    )


def _ranks(report: Report, target: str, rows: pl.DataFrame) -> Picture:
    panels = (
        figures.Panel("Drop of the recognition rate", (("drop", "drop"),)),
        figures.Panel("Rank (1 = largest drop)", (("rank", "rank"),), zero=False),
    )
    return report.picture(
        lambda width: figures.intervals(rows, panels, width=width),
        "ranks",
        alt=f"Drop of recognition of {target} and rank of every method, with 95 % intervals. "
        "The table above has the numbers.",
        caption="How sure the order is: mean and 95 % interval of the drop, and of the rank of "
        "each method among all when the people are resampled.",
        kind="svg",
    )


def _heatmap(report: Report, target: str, part: pl.DataFrame) -> Picture:
    top = best(part)
    words = f" Largest: {place(top)}, {number(top['drop'], signed=True)}." if top else ""
    return report.picture(
        lambda width: figures.layer_heatmap(part, width=width),
        "layers",
        alt=f"Heat map of the drop of recognition of {target} by layer and method.{words} "
        "The table above has the numbers.",
        caption=f"Drop of the recognition rate, {report.shown}. Darker is larger.",
        kind="svg",
    )


def _column_notes(summary: pl.DataFrame) -> Details:
    notes = {column.title: column.note for column in columns(summary)}
    return Details("What the columns mean", [Facts(notes)])


@section("effect", place=50)
@each_reading
def effect(report: Report) -> Section | None:
    """How much: budgets and fills, beyond the controls, as a share of the oracle."""
    if report.summary.is_empty():
        return None
    blocks: list[Any] = []
    for target, rows in report.targets():
        found: list[Any] = []
        series = leading(report.shown.of(rows), LINES)
        filled = _like(report.shown.at(rows, "fill", "split"), series)
        if filled["budget"].n_unique() > 1:
            found.append(
                _curves(report, target, filled, _no_better(report.shown.at(rows, "fill", "split")))
            )
        if rows["fill"].n_unique() > 1:
            found.append(_fills(report, target, rows))
        found += _beyond(report, target, report.shown.of(rows))
        found += _margins(target, rows)
        blocks += [*report.heading(target), *found] if found else []
    if not blocks:
        return None
    lead = (
        "Bands and bars are 95 % intervals of the mean over identities. A method is "
        "credited only with what it takes beyond its controls."
    )
    return Section("effect", "By how much?", lead, blocks)


def _no_better(rows: pl.DataFrame) -> set[float]:
    """Budgets at which a map-free rival takes as much as the best method."""
    return {margin.top["budget"] for margin in margins(rows) if not margin.shown}


def _margins(target: str, rows: pl.DataFrame) -> list[Table]:
    """The best method of every fill and budget beside random pixels and a blob in the middle."""
    found = margins(rows)
    if not found:
        return []

    def fact(title: str, note: str, cell: Callable[[Margin], str]) -> Column:
        return Column(title, note, cell, numeric=False)

    columns = [
        fact("Fill", "What the hidden pixels are replaced with.", lambda row: row.top["fill"]),
        fact("Photos", "Split.", lambda row: row.top["split"]),
        fact("Budget", "Pixels hidden.", lambda row: budget_text(row.top["budget"])),
        fact("Best method", "Of largest drop.", lambda row: place(row.top)),
        fact("Against", "What needs no map.", lambda row: row.rival),
        Column("Takes more by", "Drop less the other's.", lambda row: row.more.text(signed=True)),
        fact("Shown", "The interval is above 0.", lambda row: "yes" if row.shown else "no"),
    ]
    caption = f"{target}: where random pixels or a blob in the middle take as much"
    mark = {True: "", False: "flagged"}
    return [Table(caption, columns, found, mark=lambda row: mark[row.shown])]


def _like(rows: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """The rows of the same series as some others, at any budget and fill."""
    return rows.join(
        series.select(_SERIES).unique(), on=_SERIES, how="semi", nulls_equal=True,
        maintain_order="left",
    )  # fmt: skip


def _beyond(report: Report, target: str, part: pl.DataFrame) -> list[Any]:
    """What is left of the drop beyond controls, and its share of the oracle's."""
    names = [name for name in CONTROLS.values() if name != "specificity" and measured(part, name)]
    shared = measured(part, "oracle_share")
    if not names and not shared:
        return []
    rows = with_holm(part.filter(COMPETES), names)
    few = leading(rows)
    panels = []
    if names:
        title = COMPARISONS[names[0]][0]
        panels.append(
            figures.Panel("Drop of recognition", (("drop", "drop"), (names[0], title.lower())))
        )
    if shared:
        panels.append(figures.Panel("Share of the oracle's drop", (("oracle_share", "share"),)))
    picture = report.picture(
        lambda width: figures.intervals(few, panels, width=width),
        "beyond",
        alt=f"Drop of recognition of {target}, drop beyond controls and share of the oracle, for "
        "every method, with 95 % intervals. The table below has the numbers.",
        caption=f"{report.shown}. Excess is the drop beyond the same mask shifted at random; in "
        "the share of the oracle, random pixels are 0 and the greedy search is 1."
        if shared
        else f"{report.shown}. Excess is the drop beyond the same mask shifted at random.",
        kind="svg",
    )
    caption = f"{target}: drop beyond controls"
    return [picture, *_measured_tables(rows, names, caption, shared=True)]


def _measured_tables(
    rows: pl.DataFrame,
    names: Sequence[str],
    caption: str,
    *,
    first: Sequence[str] = ("drop",),
    shared: bool = False,
) -> list[Any]:
    """Figures called `first`, comparisons `names` and, if `shared`, shares of the oracle.

    Of recognition, and folded of the cosine.
    """
    tables = []
    for front, what in (("", "recognition rate"), ("cosine_", "mean mated cosine")):
        scores = figure_columns(*((*_SHOWN[name], f"{front}{name}") for name in first))
        scores += [HELDOUT_PEOPLE] if "heldout_drop" in first else []
        scores += comparison_columns(names, front=front)
        if shared and measured(rows, f"{front}oracle_share"):
            scores.append(share_column(front))
        tables.append(_leading_table(rows, f"{caption}, {what}", scores))
    rate, cosine = tables
    return [rate, Details("The same for the mean mated cosine", [cosine])]


#: Title and note of the figures of the comparing tables, of rate and of cosine.
_SHOWN = {
    "drop": ("Drop", "Clean minus hidden."),
    "half_drop": (
        "Drop, own half",
        "Maps from half of a person's photos, on that half; people who are in both only.",
    ),
    "heldout_drop": ("Drop, held-out", "The same maps on the other half, which they never saw."),
}


def _curves(
    report: Report, target: str, rows: pl.DataFrame, no_better: Collection[float]
) -> Picture:
    shaded = (
        " Shaded: the best method is not shown to take more than random pixels, or than a blob in"
        " the middle."
        if no_better
        else ""
    )
    return report.picture(
        lambda width: figures.budget_curves(rows, width=width, no_better=no_better),
        "budgets",
        alt=f"Recognition rate of {target} against the budget, one panel per layer, one line per "
        "method, beside clean faces and random pixels. The numbers are in the last table.",
        caption=f"Recognition against the budget, fill {report.shown.filled}, of at most {LINES} "
        "configurations of largest drop. "
        f"A line that is not below that of random pixels is no better than random pixels.{shaded}",
        kind="svg",
    )


def _fills(report: Report, target: str, rows: pl.DataFrame) -> Picture:
    chosen = leading(_best_layers(report.shown.of(rows)), LINES)
    series = _like(report.shown.at(rows, "budget", "split"), chosen)
    return report.picture(
        lambda width: figures.fills(series, width=width),
        "fills",
        alt=f"Recognition rate of {target} under each fill, for each method at its best layer.",
        caption=f"What the hidden pixels are painted with, at {budget_text(report.shown.budget)}; "
        f"each method at the layer with its largest drop under {report.shown.filled}.",
        kind="svg",
    )


#: What tells one line of a chart from another.
_SERIES = [
    name
    for name in CONFIGURATION
    if name not in ("target", "layer_calls", "control", "budget", "fill", "reading", "threshold")
]


def _best_layers(rows: pl.DataFrame) -> pl.DataFrame:
    """Of every series the layer with the largest drop, baselines as they are."""
    others = [name for name in _SERIES if name != "layer"]
    largest = rows.sort("drop", descending=True, nulls_last=True, maintain_order=True)
    return largest.unique(others, keep="first", maintain_order=True)


@section("heldout", place=60)
@each_reading
def heldout(report: Report) -> Section | None:
    """Whether the effect holds on photos that the map never saw."""
    blocks: list[Any] = []
    for target, rows in report.targets():
        part = report.shown.of(rows).filter(COMPETES & pl.col("heldout_drop").is_not_null())
        if part.is_empty():
            continue
        tested = with_holm(part, ["heldout_loss"])
        caption = f"{target}: same photos against held-out"
        tables = _measured_tables(
            tested, ["heldout_loss"], caption, first=("half_drop", "heldout_drop")
        )
        picture = _heldout_picture(report, target, leading(part))
        blocks += [*report.heading(target), picture, *_agreement(report, part), *tables]
    if not blocks:
        return None
    lead = (
        f"{report.shown}. Maps from one half of a person's photos, tried on the other half, both "
        "ways; beside it the same maps, tried on the half that they came from."
    )
    return Section("heldout", "Does it hold on photos the map never saw?", lead, blocks)


def _heldout_picture(report: Report, target: str, rows: pl.DataFrame) -> Picture:
    panels = [
        figures.Panel(
            title,
            ((f"{front}half_drop", "the map's own photos"), (f"{front}heldout_drop", "held-out")),
        )
        for front, title in (("", "Drop of recognition"), ("cosine_", "Drop of the mean cosine"))
    ]
    return report.picture(
        lambda width: figures.intervals(rows, panels, width=width),
        "heldout",
        alt=f"Drop of recognition and cosine of {target} on the map's own photos and on held-out "
        "photos, for every method, with 95 % intervals. The table below has the numbers.",
        caption="Filled: photos that the map came from; hollow: photos that it never saw.",
        kind="svg",
    )


def _agreement(report: Report, part: pl.DataFrame) -> list[Facts]:
    """Whether the methods come in the same order on both kinds of photos."""
    half, held = (part.with_columns(split=pl.lit(split)) for split in ("half", "heldout"))
    facts = {}
    for cosine, measure in ((False, "recognition"), (True, "cosine")):
        same, other = (drops(report.results, rows, cosine=cosine) for rows in (half, held))
        whole = ~np.isnan(same + other).any(axis=0)
        if part.height < 2 or whole.sum() < 2:
            return []
        tau = rank_agreement(same[:, whole], other[:, whole], kind="kendall")
        rho = rank_agreement(same[:, whole], other[:, whole], kind="spearman")
        facts[f"Same order of methods, by drop of {measure}"] = (
            f"Kendall's tau {_bounds(tau)}, Spearman's rho {_bounds(rho)} "
            f"({part.height} configurations, {whole.sum()} identities)"
        )
    return [Facts(facts)]


def _bounds(found: Interval) -> str:
    return found.text()


@section("person", place=70)
@each_reading
def person(report: Report) -> Section | None:
    """Whether a mask is its person's own."""
    blocks: list[Any] = []
    for target, rows in report.targets():
        part = report.shown.of(rows).filter(COMPETES)
        if not measured(part, "specificity"):
            continue
        tested = with_holm(part, ["specificity"])
        picture = _person_picture(report, target, leading(part))
        tables = _measured_tables(tested, ["specificity"], f"{target}: own and other masks")
        blocks += [*report.heading(target), picture, *tables]
    lead = (
        "A mask may cover what matters in every face and not what matters in this one. Then the "
        "masks of other people take as much."
    )
    return Section("person", "Is it this person's mask?", lead, blocks) if blocks else None


def _person_picture(report: Report, target: str, rows: pl.DataFrame) -> Picture:
    panels = [
        figures.Panel(title, ((f"{front}specificity", "specificity"),))
        for front, title in (("", "Of recognition"), ("cosine_", "Of the mean cosine"))
    ]
    return report.picture(
        lambda width: figures.intervals(rows, panels, width=width),
        "specificity",
        alt=f"Drop of {target} by the own mask minus the drop by other people's masks, for every "
        "method, with 95 % intervals. The table below has the numbers.",
        caption=f"{report.shown}. What the own mask takes beyond other people's masks; at zero, "
        "any person's mask does as well.",
        kind="svg",
    )


@section("transfer", place=80)
@each_reading
def transfer(report: Report) -> Section | None:
    """Whether masks made on one recognizer work on another."""
    rows = report.shown.of(report.summary).filter(COMPETES & pl.col("rate").is_not_null())
    if rows.filter(pl.col("source") != pl.col("target")).is_empty():
        return None
    parts = rows.partition_by(_ACROSS, maintain_order=True)
    parts = sorted(
        (part for part in parts if part.height > 1),
        key=lambda part: max(part["drop"].to_list()),
        reverse=True,
    )
    if not parts:
        return None
    shown = _one_layer_each(parts)[:PANELS]
    found = {_transfer_title(part, shown): transfer_matrices(part) for part in shown}
    caption = f"{report.shown}; the {len(shown)} methods of largest drop, each at its best layer"
    table = summary_table(
        pl.concat([_relative(part) for part in shown]),
        caption=caption,
        omit=("Budget", "Fill", "Reading", "Cosine", "Beyond random"),
        scores=[*leaderboard_columns(rows)[:3], RELATIVE],
    )
    file = "transfer.csv" if report.level == 3 else f"transfer-{report.shown.reading}.csv"
    (report.folder / file).write_text(
        to_csv(pl.concat([_relative(part) for part in parts])), encoding="utf-8"
    )
    picture = report.picture(
        lambda width: figures.transfer_maps(found, width=width),
        "transfer",
        alt="Heat maps of the drop of recognition by source and target "
        "recognizer, one per method. The table below has the numbers.",
        caption=f"{caption}. Drop, and under it its share of the drop by the target recognizer's "
        "own maps (framed).",
        kind="svg",
    )
    lead = "Maps of a source recognizer, tried on a target recognizer that may be unknown."
    return Section(
        "transfer",
        "Does it work on another recognizer?",
        lead,
        [
            picture,
            table,
            Link(file, f"All {len(parts)} methods and layers: {file}"),
        ],
    )


#: What the cells of one transfer matrix have in common; layers resolve anew in every recognizer.
_ACROSS = [name for name in CONFIGURATION
           if name not in ("source", "target", "layer_calls", "threshold")]  # fmt: skip


def _one_layer_each(parts: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """Of each method the first part."""
    others = [name for name in _ACROSS if name != "layer"]
    first: dict[tuple[Any, ...], pl.DataFrame] = {}
    for part in parts:
        first.setdefault(part.select(others).row(0), part)
    return list(first.values())


def _transfer_title(part: pl.DataFrame, shown: Sequence[pl.DataFrame]) -> str:
    row = part.row(0, named=True)
    names = varying(pl.concat(shown))
    return place_label(row, [name for name in names if name != "source"])


def _relative(part: pl.DataFrame) -> pl.DataFrame:
    """The rows of one matrix with the drop relative to the target's white-box drop."""
    found = transfer_matrices(part)
    relative = [
        found.relative[found.sources.index(row["source"]), found.targets.index(row["target"])]
        for row in part.iter_rows(named=True)
    ]
    return part.with_columns(pl.Series("relative", relative, pl.Float64).fill_nan(None))


@section("where", place=90)
@each_reading
def where(report: Report) -> Section | None:
    """The maps and masks of a few people."""
    sources = [gallery.rows["source"].drop_nulls() for gallery in report.galleries]
    several = len(set().union(*sources)) > 1
    # Of many recognizers, or of both readings, a few people each: nobody looks at dozens.
    parts = max(1, len(set().union(*sources))) * (1 if report.level == 3 else 2)
    people = max(1, PICTURES // parts)
    blocks: list[Any] = []
    budget = report.shown.budget
    for gallery in report.galleries:
        rows = gallery.at(report.shown.budget, report.shown.fill)
        if rows.is_empty():
            continue
        budget = rows["budget"][0]
        named = rows["identity"].unique(maintain_order=True).to_list()
        few = rows.filter(pl.col("identity").is_in(spread(named, people)))
        for part in people_shown(few):
            who, source = part["identity"][0], part["source"].drop_nulls()
            many = several and source.len()
            blocks.append(Heading(f"{who}, maps from {source[0]}" if many else who))
            tiles = [
                figures.Tile(
                    title,
                    gallery.maps[row["map"]],
                    gallery.masks[row["index"]],
                    row["degenerate"],
                )
                for title, row in tile_rows(part)
            ]
            blocks.append(_gallery(report, gallery.faces, who, part, tiles, budget))
    shown = "the faces" if report.faces else "a drawn outline: no face is shown"
    lead = (
        f"Above, each method's map of a person (bright: important); below, what is hidden at "
        f"{budget_text(budget)}. Both on {shown}."
    )
    return Section("where", "Where do they look?", lead, blocks) if blocks else None


def people_shown(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """The maps of each person and recognizer; those of baselines beside the first recognizer's."""
    first = pl.col("source").drop_nulls().first().over("identity")
    shown = rows.with_columns(by=pl.coalesce("source", first))
    parts = shown.partition_by("identity", "by", maintain_order=True)
    return [part.sort(pl.col("source").is_null(), maintain_order=True) for part in parts]


def tile_rows(part: pl.DataFrame) -> list[tuple[str, Row]]:
    """Title and row of each distinct map of an identity: other images of it share the map."""
    rows = part.unique(MAP, keep="first", maintain_order=True)
    varies = [
        name
        for name in MAP
        if name not in ("source", "layer", "layer_calls")
        and any(part[name].n_unique() > 1 for part in rows.partition_by("method"))
    ]
    titled = []
    for row in rows.iter_rows(named=True):
        words = [f"layer {row['layer']}"] if row["layer"] else []
        words += settings_in_words(row, varies)
        titled.append(("\n".join(filter(None, (row["method"], ", ".join(words)))), row))
    return titled


def _gallery(
    report: Report,
    faces: FaceSet | None,
    who: str,
    part: pl.DataFrame,
    tiles: Sequence[figures.Tile],
    budget: float,
) -> Picture:
    face, hidden = _frames(report, faces, int(part["image"][0]), tiles)
    none = [tile.title.replace("\n", ", ") for tile in tiles if tile.degenerate]
    without = f" No map: {'; '.join(none)}." if none else ""
    if part["on_degenerate"][0] != "none":
        without += f" Masks by on_degenerate = {part['on_degenerate'][0]}."
    return report.picture(
        lambda width: figures.gallery(tiles, width=width, face=face, hidden=hidden),
        "gallery",
        alt=f"Maps and masks of {who}: {len(tiles)} method and layer choices.{without}",
        caption=f"{who}: maps above, {budget_text(budget)} hidden below.{without}",
        kind="png",
    )


def _frames(
    report: Report, faces: FaceSet | None, image: int, tiles: Sequence[figures.Tile]
) -> tuple[UInt8[np.ndarray, "h w 3"] | None, list[UInt8[np.ndarray, "h w 3"]]]:
    """The clean frame and what each tile's mask leaves of it; nothing without a face set."""
    if faces is None:
        return None, []
    frame = np.asarray(faces.frames[image])
    seed = int(report.results["seed"][0]) if report.results.height else 0
    rng = fill_rng(seed, str(faces.names[image]))
    hide = hider(report.shown.fill, frame[None], [rng])
    return frame, [hide(tile.mask)[0] for tile in tiles]


@section("whom", place=100)
@each_reading
def whom(report: Report) -> Section | None:
    """How the effect is spread over people."""
    if report.results["identity"].n_unique() < 2:
        return None
    blocks: list[Any] = []
    for target, rows in report.targets():
        first = report.shown.of(rows)
        part = _like(
            report.shown.of(report.results.filter(pl.col("target") == target)), leading(first)
        )
        if part["rate"].drop_nulls().is_empty():
            continue
        blocks += [*report.heading(target), _spread(report, target, part)]
        top = best(first)
        if top is not None:
            blocks.append(_extremes(part, top))
    lead = "A mean does not show people: some lose everything, some nothing."
    return Section("whom", "On whom?", lead, blocks) if blocks else None


def _spread(report: Report, target: str, part: pl.DataFrame) -> Picture:
    return report.picture(
        lambda width: figures.identities(part, width=width),
        "identities",
        alt=f"Drop of the recognition rate of {target} for every identity, one row per method and "
        "layer, largest mean first.",
        caption=f"One dot per identity, {report.shown}. Thick bar: middle half; upright line: "
        "median; diamond: mean.",
        kind="svg",
    )


def _extremes(part: pl.DataFrame, top: Row) -> Facts:
    keys = [*_SERIES, "layer_calls"]
    best_row = pl.DataFrame(
        [{key: top[key] for key in keys}], schema={k: part.schema[k] for k in keys}
    )
    rows = part.join(best_row, on=keys, how="semi", nulls_equal=True, maintain_order="left")
    drops = (
        rows.filter(pl.col("rate").is_not_null())
        .with_columns(drop=pl.col("clean_rate") - pl.col("rate"))
        .sort("drop", "identity", descending=[True, False])
    )
    spared = drops.filter(pl.col("drop") <= 0).height
    worst = drops.head(LISTED).iter_rows(named=True)
    return Facts(
        {
            f"Lose most: {place(top)}": ", ".join(
                f"{row['identity']} {number(row['drop'], signed=True)}" for row in worst
            ),
            "Lose nothing": f"{spared} of {drops.height} identities",
        }
    )


@section("numbers", place=110)
def everything(report: Report) -> Section | None:
    """Every configuration in one table."""
    if report.summary.is_empty():
        return None
    (report.folder / "summary.csv").write_text(to_csv(report.everything), encoding="utf-8")
    rows = report.summary
    count = f"{rows.height} configurations"
    if rows.height > ROWS:
        count = f"The first {ROWS} of {count}"
    return Section(
        "numbers",
        "All numbers",
        "Every budget, fill, method and layer, each with its audit.",
        [
            Link("summary.csv", "The same with full precision: summary.csv"),
            Details(f"{count}; a click on a heading sorts", [summary_table(rows.head(ROWS))]),
        ],
    )


@section("provenance", place=120)
def provenance(report: Report) -> Section | None:
    """Versions, hashes, machine."""
    if not report.provenance:
        return None
    lead = "What made these numbers: the same inputs on the same kind of machine give them again."
    return Section("provenance", "Provenance", lead, [Facts(report.provenance)])
