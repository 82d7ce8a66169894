"""Which method finds the planted part: the truth scores of a run on synthetic faces.

Protocol: planted-truth. `truth_summary` adds the scores to summary rows; all else here reads that
table. A world is a face set; its planted part is what the recognizers of that world go by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from facefocus.analysis.labels import place_label, varying
from facefocus.analysis.summary import Row, competes, drops, values
from facefocus.benchmark.result_columns import COMPETES, CONFIGURATION
from facefocus.core.text import NOTHING, budget_text, number, percent
from facefocus.evaluation.localization import COLUMNS
from facefocus.evaluation.statistics import Interval, mean_interval, mean_intervals, rank_agreement
from facefocus.planted import truth_figures
from facefocus.report import charts
from facefocus.report.columns import LEADING, figure_columns, interval
from facefocus.report.document import Chart, Column, Facts, Heading, Picture, Section
from facefocus.report.explorer_data import labels
from facefocus.report.report_data import Report, spread
from facefocus.report.section_registry import section
from facefocus.report.summary_table import summary_table

#: People whose maps are shown, of each world.
SHOWN = 2


def truth_summary(results: pl.DataFrame, summary: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """The rows of `summary` that have a truth, once for each map, with the scores' means.

    The truth of a map does not depend on the target recognizer: of the rows of several
    targets the one on the map's own recognizer is kept, else the first; of several rules for
    degenerate maps that of exactly k pixels (`one_policy`). Each score has its mean
    over identities and the ends of its 95 % interval; ``*_best`` and ``truth_chance`` likewise.

    Args:
        results: One row per identity and configuration.
        summary: From `summary.summarize`, without controls.
        seed: Seed of the intervals over identities.
    """
    if "truth_share" not in results.columns:
        return summary.clear()
    summary = one_policy(summary)
    columns = [name for name in CONFIGURATION if name not in ("target", "threshold")]
    own = (pl.col("source") == pl.col("target")).fill_null(False)
    rows = summary.sort(own, descending=True, maintain_order=True)
    rows = rows.unique(columns, keep="first", maintain_order=True)
    scores: dict[str, np.ndarray] = {}
    for name in COLUMNS:
        ends = mean_intervals(values(results, rows, name), share=True, seed=seed)
        scores |= {name: ends.value, f"{name}_low": ends.low, f"{name}_high": ends.high}
    figures = pl.DataFrame(scores, schema=dict.fromkeys(scores, pl.Float64)).fill_nan(None)
    table = pl.concat([rows, figures], how="horizontal")
    return table.filter(pl.col("truth_share").is_not_null() & pl.col("truth_auc").is_not_null())


def one_policy(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of one rule for degenerate maps: that of exactly k pixels, or else the first."""
    known = rows["on_degenerate"].unique(maintain_order=True).to_list()
    chosen = "none" if "none" in known or not known else known[0]
    return rows.filter(pl.col("on_degenerate") == chosen)


def worlds(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Each world's name and rows; the smallest planted part first, the hardest to hit by chance."""
    parts = table.partition_by("faces", maintain_order=True)
    named = [(part["faces"][0].removeprefix("synthetic-"), part) for part in parts]
    return sorted(named, key=lambda item: (min(item[1]["truth_chance"].to_list()), item[0]))


def best_of_methods(table: pl.DataFrame) -> pl.DataFrame:
    """Of each method, with its options, the row of largest AUC: its best layer and objective."""
    ranked = table.sort("truth_auc", descending=True, maintain_order=True)
    return ranked.unique(("method", "options"), keep="first", maintain_order=True)


def finds(row: Row) -> bool:
    """Whether a map is better than chance, by the whole of it or by its top.

    The interval of the AUC lies above 0.5, or that of the share above the planted area: a signed
    map may find the part with its largest values and order all others by noise.
    """
    whole, top = row["truth_auc_low"], row["truth_share_low"]
    return whole is not None and (whole > 0.5 or top > row["truth_chance"])


def blind(rows: pl.DataFrame) -> list[str]:
    """The methods that at no layer and objective of `rows` are better than chance."""
    seen = {row["method"] for row in rows.filter(COMPETES).to_dicts() if finds(row)}
    methods = rows.filter(COMPETES)["method"].unique(maintain_order=True)
    return [method for method in methods if method not in seen]


# --- sentences ------------------------------------------------------------------------------------


def answer(report: Report) -> list[str]:
    """One sentence or two on each world: who finds the planted part, and who does not."""
    return [sentence(name, rows, report.results) for name, rows in worlds(_shown(report))]


def sentence(world: str, rows: pl.DataFrame, results: pl.DataFrame) -> str:
    """What the rows of one world, budget, fill and split come to.

    Args:
        world: Its name.
        rows: From `truth_summary`.
        results: The result rows that they were made from.
    """
    methods = best_of_methods(rows.filter(COMPETES)).to_dicts()
    if not methods:
        return f"In world '{world}' no method was tried."
    lost = blind(rows)
    top = next((row for row in methods if row["method"] not in lost), methods[0])
    where = f"In world '{world}', where identity lives in {percent(top['truth_chance'], 1)} of the"
    if len(lost) == len({row["method"] for row in methods}):
        return (
            f"{where} pixels, no method is shown to find them: at most, {_label(top, rows)} has a"
            f" ROC AUC of {interval(top, 'truth_auc')}, and chance has 0.5."
        )
    others = f" Not better than chance at any layer tried: {', '.join(lost)}." if lost else ""
    tied = rival(top, rows, results)
    verdict = "finds them best" if tied is None else f"finds them, and so may {_label(tied, rows)}"
    return (
        f"{where} pixels, {_label(top, rows)} {verdict}: ROC AUC"
        f" {interval(top, 'truth_auc')} (chance 0.5, best possible {number(top['truth_auc_best'])})"
        f"; of the {budget_text(top['budget'])} that it ranks highest"
        f" {percent(top['truth_share'], 0)} lie in them (chance {percent(top['truth_chance'], 0)},"
        f" best possible {percent(top['truth_share_best'], 0)}).{others}"
    )


def rival(top: Row, rows: pl.DataFrame, results: pl.DataFrame) -> Row | None:
    """The next method by ROC AUC, if its AUC is not shown to be below that of `top`."""
    best = best_of_methods(rows.filter(COMPETES)).filter(pl.col("method") != top["method"])
    if best.is_empty():
        return None
    own = rows.filter(*(pl.col(name).eq_missing(pl.lit(top[name])) for name in CONFIGURATION))
    first, second = (values(results, part[:1], "truth_auc")[0] for part in (own, best))
    both = np.isfinite(first) & np.isfinite(second)
    if both.any() and mean_interval(first[both] - second[both]).low > 0:
        return None
    return best.row(0, named=True)


def _label(row: Row, rows: pl.DataFrame) -> str:
    """Method and layer, and the map's recognizer where there are several."""
    several = rows["source"].drop_nulls().n_unique() > 1
    return place_label(row, varying(rows)) + (f" on {row['source']}" if several else "")


def agreement(
    results: pl.DataFrame, rows: pl.DataFrame, *, cosine: bool = False, score: str = "truth_auc"
) -> Interval:
    """Whether methods that find the truth are those that hurt: Spearman's rho of their means.

    Over the configurations `rows` of one world, budget, fill and split. NaN where fewer than two
    rows or people have both.
    """
    scores = values(results, rows, score)
    lost = drops(results, rows, cosine=cosine)
    both = ~np.isnan(scores + lost)
    people = both.any(axis=0)
    scores, lost = scores[:, people], lost[:, people]
    if min(scores.shape) < 2 or np.isnan(scores + lost).any():
        return Interval(np.nan, np.nan, np.nan)
    return rank_agreement(scores, lost, kind="spearman")


# --- the section ----------------------------------------------------------------------------------


@section("truth", position=20, answers=answer)
def truth(report: Report) -> Section | None:
    """The first table of a run on synthetic faces: does the map find the planted part?"""
    by_world = worlds(_shown(report))
    if not by_world:
        return None
    blocks: list[Any] = [_chart(report)]
    for name, rows in by_world:
        blocks += [Heading(f"World '{name}'"), *_world(report, name, rows)]
    lead = (
        "These faces are drawn, so it is known where identity lives. Every pixel of every photo "
        "counts; a person without a map scores chance."
    )
    return Section("truth", "Truth", lead, blocks)


def _shown(report: Report) -> pl.DataFrame:
    """The truth table of the first look: one budget, fill and split."""
    if report.summary.is_empty():
        return report.summary.clear()
    return truth_summary(report.results, report.shown.of(report.summary))


def _world(report: Report, name: str, rows: pl.DataFrame) -> list[Any]:
    methods = rows.filter(COMPETES).sort("truth_auc", descending=True, maintain_order=True)
    few = pl.concat([rows.filter(~COMPETES), methods.head(LEADING)])
    left = f" (of {rows.height} rows the first {few.height})" if few.height < rows.height else ""
    caption = f"World '{name}': {report.shown}; largest ROC AUC first{left}"
    table = summary_table(
        few,
        caption=caption,
        omit=("Target", "Budget", "Fill", "Reading"),
        scores=truth_columns(rows),
        order=lambda row: (competes(row), -row["truth_auc"]),
    )
    blocks: list[Any] = [table, _agreement_facts(report, name)]
    picture = _maps(report, name, rows)
    return [*([picture] if picture else []), *blocks]


def truth_columns(rows: pl.DataFrame) -> list[Column]:
    """The truth scores between chance and what is possible, and the drop beside them."""
    part = "the planted parts, over all photos"
    inside = "Pixels inside the planted parts against all others; chance is 0.5."
    hit = f"Whether the map's maximum lies in {part}; ties at their mean."
    source = Column(
        "Source",
        "The recognizer that the map was made on, and whose drop is shown.",
        lambda row: row["source"] or NOTHING,
        lambda row: row["source"],
        numeric=False,
    )
    return [
        *([source] if rows["source"].drop_nulls().n_unique() > 1 else []),
        _mean("ROC AUC", "truth_auc", inside),
        _plain("Best AUC", "truth_auc_best", "The largest ROC AUC that a map can have."),
        _mean("Share in part", "truth_share", f"Share of the hidden pixels inside {part}."),
        _plain("Chance", "truth_chance", "Share and pointing of pixels taken at random."),
        _plain("Best share", "truth_share_best", "The largest share at this budget."),
        _mean("Pointing", "truth_pointing", hit),
        _plain("Best pointing", "truth_pointing_best", "The largest there is."),
        *figure_columns(("Drop", "Clean minus hidden recognition rate.", "drop")),
    ]


def _mean(title: str, name: str, note: str) -> Column:
    return Column(title, note, lambda row: interval(row, name), lambda row: row[name])


def _plain(title: str, name: str, note: str) -> Column:
    return Column(title, note, lambda row: number(row[name]), lambda row: row[name])


def _agreement_facts(report: Report, name: str) -> Facts:
    """Whether the order by drop, under each reading, is the order by truth."""
    facts = {}
    for shown in report.slices:
        rows = truth_summary(report.results, shown.of(report.summary))
        methods = dict(worlds(rows))[name].filter(COMPETES & (pl.col("source") == pl.col("target")))
        for cosine, what in ((False, "recognition"), (True, "mean cosine")):
            title = f"Order by drop of {what} ({shown.filled}) against order by ROC AUC"
            order = agreement(report.results, methods, cosine=cosine)
            facts[title] = bounds(order, methods.height)
    return Facts(facts)


def bounds(rho: Interval, count: int) -> str:
    """Spearman's rho with its interval, as text."""
    if np.isnan(rho.value):
        return NOTHING
    return f"Spearman's rho {rho.text()} ({count} configurations)"


def _chart(report: Report) -> Chart:
    """ROC AUC of every method under every budget and fill, of each world."""
    rows = truth_summary(report.results, report.summary)
    rows = rows.with_columns(labels(rows, report.summary))
    shown = rows.select(
        pl.lit(report.name).alias("run"),
        *("faces", "split", "budget", "fill", "method", "label"),
        value="truth_auc",
        low="truth_auc_low",
        high="truth_auc_high",
    )
    return Chart(
        "truth",
        charts.intervals(),
        "ROC AUC of pixels in the planted part, of the best methods, with 95 % intervals. The"
        " tables below have the numbers.",
        "How well a map finds the planted part of the selected faces: ROC AUC over pixels; chance"
        " is 0.5. Own and others' maps alike.",
        rows=shown.unique(maintain_order=True),
        top=20,
    )


def _maps(report: Report, world: str, rows: pl.DataFrame) -> Picture | None:
    """Maps of a few people under the outline of what is planted, each method at its best layer."""
    known = (gallery for gallery in report.galleries.values() if gallery.planted)
    gallery = next(
        (gallery for gallery in known if gallery.rows["faces"][0] == rows["faces"][0]), None
    )
    if gallery is None:
        return None
    best = best_of_methods(rows.filter(COMPETES))
    lines = [truth_figures.line(gallery, who, best) for who in spread(list(gallery.planted), SHOWN)]
    return report.picture(
        lambda width: truth_figures.maps(lines, width=width),
        "planted",
        alt=f"Maps of {len(lines)} people in world '{world}' with the outline of what is planted; "
        "the table has the numbers.",
        caption="Outlined: where identity is planted, in at least half of the person's photos, or "
        "else most often. Bright: what the method calls important, at its best layer.",
        kind="png",
    )
