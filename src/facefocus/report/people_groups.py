"""Groups of people, and what hiding takes in each: by photos, recognition, pose, or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.analysis.standing import best
from facefocus.analysis.summary import Row
from facefocus.benchmark.result_columns import COMPETES, CONFIGURATION
from facefocus.core.errors import UserError, did_you_mean
from facefocus.evaluation.statistics import FEWEST, holm, mean_intervals
from facefocus.evaluation.strata import (
    HALF_PROFILE,
    YAW,
    difference_p,
    read_group_file,
    require_known,
)
from facefocus.faces.faceset import FaceSet
from facefocus.report.explorer_data import KEYS, labels, named_configurations, own_or_transferred
from facefocus.report.report_data import Report

#: What groups by recognition with nothing hidden are called.
CLEAN = "clean recognition"


def groups_from_file(
    path: Path, people: Iterable[str], face_sets: Callable[[], Iterable[FaceSet]]
) -> pl.DataFrame:
    """The group of each person under each grouping of a CSV file: see `read_group_file`.

    Args:
        path: The file.
        people: Who was scored.
        face_sets: Opens what the photos come from: only where the file names images.

    Returns:
        Columns ``identity`` and ``stratum``, the grouping with the group; null for people whose
        photos are in several groups of a grouping.

    Raises:
        UserError: The file is wrong, or names nobody of `people`.
    """
    kind, groupings = read_group_file(path)
    scored = set(people)
    owners = {name: name for name in scored}
    if kind == "image":
        owners = {
            str(image): str(who)
            for faces in face_sets()
            for image, who in zip(faces.names, faces.identities, strict=True)
            if who in scored
        }
    require_known(path, kind, groupings, set(owners), "these runs")
    rows = [
        (owners[name], grouping, f"{grouping}: {group}")
        for grouping, groups in groupings.items()
        for name, group in groups.items()
        if name in owners
    ]
    table = pl.DataFrame(rows, ["identity", "grouping", "stratum"], orient="row")
    strata = table.group_by("identity", "grouping", maintain_order=True).agg(
        pl.when(pl.col("stratum").n_unique() == 1).then(pl.col("stratum").first())
    )
    return strata.sort("stratum", "identity", nulls_last=True).drop("grouping")


def strata_rows(report: Report) -> pl.DataFrame:
    """The drop of each group of people under the named configurations, with its interval.

    Groups of fewer than `FEWEST` people have no row.
    """
    groups = all_groups(report)
    named = named_configurations(report).filter(COMPETES)
    rows = report.results.filter(
        pl.col("control").is_null(), pl.col("split") != "half", pl.col("rate").is_not_null()
    )
    rows = rows.with_columns(labels(rows, report.summary), maps=own_or_transferred())
    rows = rows.filter(pl.col("label").is_in(named["label"].implode()), pl.col("maps") == "own")
    rows = rows.join(groups, on=["faces", "target", "identity"], maintain_order="right")
    keys = [*KEYS[1:], "label", "method", "stratum"]
    drops = rows.group_by(keys, maintain_order=True).agg(drop=pl.col("clean_rate") - pl.col("rate"))
    drops = drops.filter(pl.col("drop").list.len() >= FEWEST)
    listed = drops["drop"].to_list()
    values = np.full((len(listed), max(map(len, listed), default=0)), np.nan)
    for line, group_drops in zip(values, listed, strict=True):
        line[: len(group_drops)] = group_drops
    intervals = mean_intervals(values)
    about = drops.select(pl.lit(report.name).alias("run"), *keys)
    return about.with_columns(
        pl.Series(name, getattr(intervals, name), pl.Float64).fill_nan(None)
        for name in ("value", "low", "high")
    )


def _people(report: Report) -> pl.DataFrame:
    """A row for each person of each data set and recognizer."""
    return report.results.group_by("faces", "target", "identity", maintain_order=True).agg(
        pl.col("images").max().cast(pl.Float64), pl.col("clean_rate").mean()
    )


def _thirds(report: Report) -> pl.DataFrame:
    """Thirds of the people by their photos, and by recognition with nothing hidden."""
    about = _people(report)
    if report.people is not None:
        values = report.people.drop("images")
        about = about.join(values, on=["faces", "identity"], how="left", maintain_order="left")
    strata = [about.select("faces", "target", "identity", pl.lit("").alias("stratum")).clear()]
    words = {"images": "photos", "clean_rate": CLEAN}
    columns = [name for name in about.columns if name not in ("faces", "target", "identity", YAW)]
    parts = about.partition_by("faces", "target", maintain_order=True)
    for name, part in product(columns, parts):
        known = part.filter(pl.col(name).is_not_null())
        low, high = known[name].quantile(1 / 3), known[name].quantile(2 / 3)
        if low is None or high is None or low == high or known["identity"].n_unique() < 2 * FEWEST:
            continue
        value = pl.col(name)
        thirds = {f"up to {low:.3g}": value <= low,
                  f"{low:.3g} to {high:.3g}": (value > low) & (value <= high),
                  f"above {high:.3g}": value > high}  # fmt: skip
        strata += [
            known.filter(inside).select(
                "faces",
                "target",
                "identity",
                pl.lit(f"{words.get(name, name)}: {text}").alias("stratum"),
            )
            for text, inside in thirds.items()
        ]
    return pl.concat(strata)


def _given(report: Report) -> Iterator[pl.DataFrame]:
    """The groups of the user's file."""
    if report.groups is not None:
        people = _people(report).select("faces", "target", "identity")
        yield people.join(report.groups.drop_nulls(), on="identity", maintain_order="right").select(
            "faces", "target", "identity", "stratum"
        )


def _poses(report: Report) -> Iterator[pl.DataFrame]:
    """Groups by mean yaw, where the face set held landmarks."""
    if report.people is not None and YAW in report.people.columns:
        turned = report.people.filter(pl.col(YAW).is_not_null()).select("faces", "identity", YAW)
        name = (
            pl.when(pl.col(YAW) < HALF_PROFILE).then(pl.lit(f"pose: yaw below {HALF_PROFILE:g}"))
            .otherwise(pl.lit(f"pose: yaw of {HALF_PROFILE:g} or more"))
        )  # fmt: skip
        people = _people(report)
        yield people.join(turned, on=["faces", "identity"], maintain_order="left").select(
            "faces", "target", "identity", name.alias("stratum")
        )


def all_groups(report: Report) -> pl.DataFrame:
    """The group of each person under each grouping: faces, target, identity, stratum."""
    return pl.concat([_thirds(report), *_poses(report), *_given(report)])


def of_group(report: Report, name: str) -> Report:
    """The same report of the people of one group.

    Raises:
        UserError: There is no such group; names the nearest.
    """
    groups = all_groups(report)
    known = groups["stratum"].drop_nulls().unique(maintain_order=True).to_list()
    if name not in known:
        raise UserError(
            f"'--stratum' must be a group of people of '{report.name}'. Got '{name}'."
            f"{did_you_mean(name, known)} There are: {'; '.join(known) or 'none'}."
            + ("" if known else f" Groups take {2 * FEWEST} people, or a file with --groups.")
        )
    inside = groups.filter(stratum=name)
    results = report.results.join(
        inside, on=["faces", "target", "identity"], how="semi", maintain_order="left"
    )
    return replace(report, results=results, summarized=None)


def compared_groups(report: Report) -> Iterator[tuple[Row, pl.DataFrame]]:
    """For each data set and recognizer the best method of the first look, and its groups.

    Yields:
        The method's row of the summary, and a row for each group: `stratum`, `people`, means and
        intervals of `clean_rate`, `rate` and `drop`, and `p`: whether the drop of its people
        differs from that of the others, by permutations, corrected by Holm over the groups; null
        with fewer than `FEWEST_COMPARED` people in it or beside it, and of groups by clean
        recognition, which bounds the drop.
    """
    groups = all_groups(report).partition_by("faces", "target", as_dict=True)
    for (faces, target), rows in report.summary.partition_by(
        "faces", "target", as_dict=True
    ).items():
        top = best(report.shown.of(rows).filter(pl.col("source") == pl.col("target")))
        if top is not None and (faces, target) in groups:
            compared = _of_groups(report, top, groups[faces, target])
            if compared.height:
                yield top, compared


def _of_groups(report: Report, top: Row, groups: pl.DataFrame) -> pl.DataFrame:
    configuration = pl.DataFrame([top], schema=report.summary.schema).select(CONFIGURATION)
    scored = report.results.join(configuration, on=CONFIGURATION, how="semi", nulls_equal=True)
    scored = scored.filter(pl.col("rate").is_not_null())
    drop = dict(scored.select("identity", pl.col("clean_rate") - pl.col("rate")).rows())
    rows = []
    for (stratum,), part in groups.partition_by(
        "stratum", as_dict=True, maintain_order=True
    ).items():
        people = [name for name in part["identity"] if name in drop]
        if len(people) < FEWEST:
            continue
        inside = {name: drop[name] for name in people}
        others = {name: value for name, value in drop.items() if name not in inside}
        rates = scored.filter(pl.col("identity").is_in(people))
        figures: Row = {"stratum": stratum, "people": len(people)}
        for name, values, share in (
            ("clean_rate", rates["clean_rate"], True),
            ("rate", rates["rate"], True),
            ("drop", rates["clean_rate"] - rates["rate"], False),
        ):
            mean = mean_intervals(values.to_numpy()[None], share=share)
            ends = (mean.value[0], mean.low[0], mean.high[0])
            figures |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        # A drop is at most the clean rate: that groups by it differ says little.
        tested = not stratum.startswith(CLEAN)
        p = difference_p(inside, others) if tested else float("nan")
        rows.append(figures | {"p": p})
    table = pl.DataFrame(rows).fill_nan(None) if rows else pl.DataFrame()
    if rows and table["p"].is_not_null().any():
        known = table["p"].is_not_null().to_numpy()
        corrected = np.full(len(table), np.nan)
        corrected[known] = holm(table["p"].drop_nulls().to_list())
        table = table.with_columns(p=pl.Series(corrected).fill_nan(None))
    return table
