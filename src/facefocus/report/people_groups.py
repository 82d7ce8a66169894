"""Groups of people, and what hiding takes in each: by photos, recognition, pose, or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.analysis.summary import COMPETES
from facefocus.evaluation.statistics import FEWEST, mean_intervals
from facefocus.evaluation.strata import HALF_PROFILE, pose, read_group_file, require_known
from facefocus.faces.faceset import LANDMARK_COLUMNS, FaceSet, read_index
from facefocus.report.explorer_data import KEYS, labels, named_configurations, own_or_transferred
from facefocus.report.report_data import Report


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
    found = table.group_by("identity", "grouping", maintain_order=True).agg(
        pl.when(pl.col("stratum").n_unique() == 1).then(pl.col("stratum").first())
    )
    return found.sort("stratum", "identity", nulls_last=True).drop("grouping")


def strata_rows(report: Report) -> pl.DataFrame:
    """The drop of each group of people under the named configurations, with its interval.

    Groups of fewer than `FEWEST` people have no row.
    """
    groups = pl.concat([_thirds(report), *_poses(report), *_given(report)])
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
    for line, one in zip(values, listed, strict=True):
        line[: len(one)] = one
    found = mean_intervals(values)
    about = drops.select(pl.lit(report.name).alias("run"), *keys)
    return about.with_columns(
        pl.Series(name, getattr(found, name), pl.Float64).fill_nan(None)
        for name in ("value", "low", "high")
    )


def _people(report: Report) -> pl.DataFrame:
    """A row for each person of each data set and recognizer."""
    return report.results.group_by("faces", "target", "identity", maintain_order=True).agg(
        pl.col("images").max().cast(pl.Float64), pl.col("clean_rate").mean()
    )


def _thirds(report: Report) -> pl.DataFrame:
    """Thirds of the people by their number of photos, and by recognition with nothing hidden."""
    about = _people(report)
    found = [about.select("faces", "target", "identity", pl.lit("").alias("stratum")).clear()]
    for name, words in (("images", "photos"), ("clean_rate", "clean recognition")):
        low, high = about[name].quantile(1 / 3), about[name].quantile(2 / 3)
        if low is None or high is None or low == high or about["identity"].n_unique() < 2 * FEWEST:
            continue
        value = pl.col(name)
        thirds = {f"up to {low:.3g}": value <= low,
                  f"{low:.3g} to {high:.3g}": (value > low) & (value <= high),
                  f"above {high:.3g}": value > high}  # fmt: skip
        found += [
            about.filter(inside).select(
                "faces", "target", "identity", pl.lit(f"{words}: {text}").alias("stratum")
            )
            for text, inside in thirds.items()
        ]
    return pl.concat(found)


def _given(report: Report) -> Iterator[pl.DataFrame]:
    """The groups of the user's file."""
    if report.groups is not None:
        people = _people(report).select("faces", "target", "identity")
        yield people.join(report.groups.drop_nulls(), on="identity", maintain_order="right").select(
            "faces", "target", "identity", "stratum"
        )


def _poses(report: Report) -> Iterator[pl.DataFrame]:
    """Groups by mean yaw, of face sets that are open and hold landmarks."""
    for faces in report.faces.values():
        index = [] if faces.folder is None else read_index(faces.folder)
        index = [one for one in index if one["row"] is not None]
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
        people = _people(report).filter(faces=faces.title)
        yield people.join(mean, on="identity", maintain_order="left").select(
            "faces", "target", "identity", name.alias("stratum")
        )
