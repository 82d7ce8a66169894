"""The built-in views of a run's page, in the order in which a reader asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from facefocus.analysis.summary import COMPETES
from facefocus.core.text import NOTHING, budget_text, number
from facefocus.evaluation.statistics import FEWEST, mean_intervals
from facefocus.report import charts
from facefocus.report.answer import checks
from facefocus.report.audit_blocks import audit_blocks
from facefocus.report.columns import columns
from facefocus.report.document import (
    Chart,
    Checks,
    Code,
    Details,
    Facts,
    Live,
    Paragraph,
    Section,
)
from facefocus.report.explorer_data import (
    KEYS,
    PEOPLE,
    labels,
    layer_order,
    named_configurations,
    own_or_transferred,
)
from facefocus.report.explorer_data import people as people_table
from facefocus.report.report_data import Report
from facefocus.report.section_registry import section

_SEE_TABLE = "The leaderboard has the numbers."


@section("leaderboard", place=10)
def leaderboard(report: Report) -> Section | None:
    """Every method and layer under the selected settings."""
    if report.summary.is_empty():
        return None
    lead = (
        "Means over people with 95 % intervals. The rank is among the rows of the same settings"
        " when people are resampled, with 95 % of its values: a method is no winner where it is"
        " not sure."
    )
    notes = {column.title: column.note for column in columns(report.summary)}
    blocks = [Live("leaderboard"), Details("What the columns mean", [Facts(notes)])]
    return Section("leaderboard", "Leaderboard", lead, blocks)


def _several(report: Report, name: str) -> bool:
    """Whether methods were tried at several values of a column."""
    rows = report.summary.filter(COMPETES)
    return bool(rows.height and rows[name].drop_nulls().n_unique() > 1)


@section("layers", place=30)
def layers(report: Report) -> Section | None:
    """Layer by method."""
    if not _several(report, "layer"):
        return None
    chart = Chart(
        "layers",
        charts.matrix("layer", "method", "Layer", "Method"),
        f"The selected score for each layer and method; darker hides better. {_SEE_TABLE}",
        "Each cell is the best of its method and layer. A click opens it in the leaderboard.",
        each=("layer", "method"),
        click={"view": "=leaderboard", "find": "label"},
    )
    return Section("layers", "Layers", "", [chart])


@section("budgets", place=40)
def budgets(report: Report) -> Section | None:
    """Scores against the budget."""
    if not _several(report, "budget"):
        return None
    chart = Chart(
        "budgets",
        charts.curves(),
        f"The selected score against the budget, a line for each of the best methods. {_SEE_TABLE}",
        "Bands are 95 % intervals. Shaded budgets: even the best method is not shown to take more"
        " recognition than random pixels, or than a blob in the middle.",
        free=("budget",),
        top=6,
    )
    return Section("budgets", "Budgets", "", [chart])


@section("fills", place=50)
def fills(report: Report) -> Section | None:
    """Scores by what hides."""
    if not _several(report, "fill"):
        return None
    readings = report.summary.select("reading", "fill").unique(maintain_order=True)
    words = {"artefact": "shows what upsets the recognizer", "information": "shows what it knew"}
    named = (
        f"{', '.join(readings.filter(reading=kind)['fill'])} {text}"
        for kind, text in words.items()
        if kind in set(readings["reading"])
    )
    chart = Chart(
        "fills",
        charts.intervals(offset="fill"),
        f"The selected score under each fill for the best methods. {_SEE_TABLE}",
        f"What the hidden pixels are painted with: {'; '.join(named)}. The two are never averaged.",
        free=("fill",),
        top=5,
    )
    return Section("fills", "Fills", "", [chart])


@section("losses", place=60)
def losses(report: Report) -> Section | None:
    """Scores by the loss that maps explain."""
    if not _several(report, "objective"):
        return None
    chart = Chart(
        "losses",
        charts.intervals(offset="objective", within="method"),
        f"The selected score for each loss and method. {_SEE_TABLE}",
        "Each method at its best layer under each loss: picked among several, so it looks slightly"
        " too good.",
        each=("objective", "method"),
    )
    return Section("losses", "Losses", "", [chart])


@section("transfer", place=80)
def transfer(report: Report) -> Section | None:
    """Masks from one recognizer, tried on another."""
    rows = report.summary.filter(COMPETES)
    if rows.filter(pl.col("source") != pl.col("target")).is_empty():
        return None
    chart = Chart(
        "transfer",
        charts.matrix("target", "source", "Tried on", "Maps from"),
        f"The selected score for each pair of recognizers; darker hides better. {_SEE_TABLE}",
        "Each cell is the best of its pair. A click opens the pair.",
        free=("target", "maps"),
        each=("target", "source"),
        click={"target": "target", "maps": "source", "view": "=leaderboard"},
    )
    return Section("transfer", "Transfer", "", [chart])


@section("people", place=90)
def people(report: Report) -> Section | None:
    """Each person: recognition clean and hidden, maps and masks."""
    if report.results.is_empty():
        return None
    lead = (
        "A mean does not show people: some lose everything, some nothing. A click on a mark, or the"
        " list, opens a person. Masks are those that were scored."
    )
    shown = people_table(report)
    chart = Chart(
        "scatter",
        charts.scatter(),
        "Recognition of each person clean and hidden. The list below has the people.",
        f"{shown['identity'].n_unique()} of {report.results['identity'].n_unique()} people (a"
        f" seeded choice of at most {PEOPLE}) and {shown['label'].n_unique()} configurations are in"
        f" this page. All others: {_all_people(report)}",
        rows=shown,
        click={"person": "identity"},
    )
    return Section("people", "People", lead, [chart, Live("people")])


def _all_people(report: Report) -> str:
    """The command that gives the figures of every person."""
    read = f"polars.read_parquet('{report.run.name}/results.parquet')"
    return f"python -c \"import polars; print({read}.filter(identity='NAME'))\""


@section("strata", place=100)
def strata(report: Report) -> Section | None:
    """Whether the effect depends on who is hidden."""
    if report.summary.is_empty() or report.results["identity"].n_unique() < 2 * FEWEST:
        return None
    rows = _strata_rows(report)
    if rows.is_empty():
        return None
    chart = Chart(
        "strata",
        charts.intervals(offset="stratum"),
        "Drop of recognition in groups of people, for the named configurations.",
        "Drop of recognition in thirds of the people: by how many photos they have, by how well"
        " they are recognized with nothing hidden"
        + (", and by pose." if report.faces else "; with --with-faces by pose as well."),
        rows=rows,
        top=3,
    )
    return Section("strata", "Groups of people", "", [chart])


def _groups(report: Report) -> pl.DataFrame:
    """Which group each person of each data set and recognizer is in: a row for each."""
    about = report.results.group_by("faces", "target", "identity", maintain_order=True).agg(
        pl.col("images").max().cast(pl.Float64), pl.col("clean_rate").mean()
    )
    found = []
    for name, words in (("images", "photos"), ("clean_rate", "clean recognition")):
        low, high = about[name].quantile(1 / 3), about[name].quantile(2 / 3)
        if low is None or high is None or low == high:
            continue
        third = (
            pl.when(pl.col(name) <= low).then(pl.lit(f"{words}: up to {low:.3g}"))
            .when(pl.col(name) <= high).then(pl.lit(f"{words}: {low:.3g} to {high:.3g}"))
            .otherwise(pl.lit(f"{words}: above {high:.3g}"))
        )  # fmt: skip
        found.append(about.select("faces", "target", "identity", third.alias("stratum")))
    return pl.concat([*found, *_poses(report)]) if found else about.clear()


def _poses(report: Report) -> list[pl.DataFrame]:
    """Groups by mean yaw, of face sets that are open and hold landmarks."""
    from facefocus.evaluation.strata import HALF_PROFILE, pose
    from facefocus.faces.faceset import LANDMARK_COLUMNS, read_index

    found = []
    for faces in report.faces.values():
        folder = faces.folder
        index = (
            [] if folder is None else [one for one in read_index(folder) if one["row"] is not None]
        )
        if not index or any(one["left_eye_x"] is None for one in index):
            continue
        points = np.array([[one[name] for name in LANDMARK_COLUMNS] for one in index], np.float64)
        yaw = pose(points.reshape(-1, 5, 2)).yaw
        turned = pl.DataFrame({"identity": [one["identity"] for one in index], "yaw": np.abs(yaw)})
        mean = turned.group_by("identity").agg(pl.col("yaw").mean())
        name = (
            pl.when(pl.col("yaw") < HALF_PROFILE).then(pl.lit(f"pose: yaw below {HALF_PROFILE:g}"))
            .otherwise(pl.lit(f"pose: yaw of {HALF_PROFILE:g} or more"))
        )  # fmt: skip
        people = report.results.select("faces", "target", "identity").unique(maintain_order=True)
        found.append(
            people.filter(faces=faces.title).join(mean, on="identity", maintain_order="left")
            .select("faces", "target", "identity", name.alias("stratum"))
        )  # fmt: skip
    return found


def _strata_rows(report: Report) -> pl.DataFrame:
    groups = _groups(report)
    if groups.is_empty():
        return pl.DataFrame()
    named = named_configurations(report).filter(COMPETES)
    rows = report.results.filter(
        pl.col("control").is_null(), pl.col("split") != "half", pl.col("rate").is_not_null()
    )
    rows = rows.with_columns(labels(rows, report.summary), maps=own_or_transferred())
    rows = rows.filter(pl.col("label").is_in(named["label"].implode()), pl.col("maps") == "own")
    rows = rows.join(groups, on=["faces", "target", "identity"], maintain_order="left")
    keys = [*KEYS[1:], "label", "method", "stratum"]
    drops = rows.group_by(keys, maintain_order=True).agg(drop=pl.col("clean_rate") - pl.col("rate"))
    drops = drops.filter(pl.col("drop").list.len() >= FEWEST)
    listed = drops["drop"].to_list()
    values = np.full((len(listed), max(map(len, listed), default=0)), np.nan)
    for line, one in zip(values, listed, strict=True):
        line[: len(one)] = one
    found = mean_intervals(values)
    about = drops.select(pl.lit(report.name).alias("run"), *keys)
    return about.with_columns(
        pl.Series(name, getattr(found, name), pl.Float64).fill_nan(None)
        for name in ("value", "low", "high")
    )


@section("audit", place=110)
def audit(report: Report) -> Section | None:
    """Whether the numbers can be trusted."""
    if report.summary.is_empty():
        return None
    lead = "What is marked 'look' does not make a number wrong, but limits it."
    blocks: list[Any] = [Checks(checks(report.summary))]
    if more := audit_blocks(report.results):
        blocks.append(Details("Whole faces: budget, fill, percentile, transfer", more))
    return Section("audit", "Audit", lead, blocks)


@section("provenance", place=120)
def provenance(report: Report) -> Section | None:
    """What was done, by which versions, on which machine; the experiment file."""
    if report.summary.is_empty():
        return None
    blocks: list[Any] = [Facts(_done(report))]
    if report.experiment:
        blocks.append(Details("The experiment file, as it was run", [Code(report.experiment)]))
    if report.provenance:
        blocks.append(Facts(report.provenance))
    else:
        blocks.append(Paragraph("The run does not record what made it."))
    lead = (
        "Pixels that a method calls important are hidden; the recognizer then compares the hidden "
        "face with the person's other images. Recognition is the share of those pairs at or above "
        "the threshold."
    )
    return Section("provenance", "Provenance", lead, blocks)


def _done(report: Report) -> dict[str, str]:
    rows = report.summary
    faces = report.provenance.get("faces")
    frames = f" ({faces['frames']} images)" if isinstance(faces, dict) and "frames" in faces else ""
    limits = rows.select("target", "threshold_rule", "threshold").unique(maintain_order=True)
    return {
        "Faces": _listed(rows["faces"]) + frames,
        "Identities": str(report.results["identity"].n_unique()),
        "Target recognizers": _listed(rows["target"]),
        "Source recognizers": _listed(rows["source"].drop_nulls()) or NOTHING,
        "Methods": _listed(rows["method"]),
        "Layers": ", ".join(layer_order(rows)) or NOTHING,
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


def _listed(values: pl.Series) -> str:
    return ", ".join(map(str, values.unique(maintain_order=True)))
