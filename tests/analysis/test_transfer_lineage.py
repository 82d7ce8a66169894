"""Transfer by lineage, on rows made up by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from facefocus.analysis.transfer_lineage import by_lineage, lineages_of
from facefocus.models.lineage import Lineage
from facefocus.report.document import Block, Chart, Facts, Table
from facefocus.report.lineage_view import lineage
from facefocus.report.report_data import Report
from tests.report.fabricated import row, table

#: Recognizers a and b share all, c shares b's family, d shares nothing.
KNOWN = {
    "a": Lineage("data one", "real", "net one"),
    "b": Lineage("data one", "real", "net one"),
    "c": Lineage("data two", "real", "net one"),
    "d": Lineage("data three", "synthetic", "net two"),
}
#: Drop on target a by maps of each recognizer.
DROPS = {"a": 0.8, "b": 0.6, "c": 0.4, "d": 0.1}
PEOPLE = [f"P{number}" for number in range(6)]


def rows(**changes: Any) -> pl.DataFrame:
    """Drops on target a; each person a little more or less, alike on all."""
    return table(
        row(source=source, target="a", identity=name, clean_rate=1.0, rate=1 - drop + wiggle,
            **changes)
        for source, drop in DROPS.items()
        for name, wiggle in zip(PEOPLE, (-0.05, -0.03, -0.01, 0.01, 0.03, 0.05), strict=True)
    )  # fmt: skip


def test_drops_by_kinship_are_means_over_people() -> None:
    kinships = by_lineage(rows(), KNOWN)
    assert kinships["lineage"].to_list() == ["white box", "same", "sibling", "unseen"]
    assert kinships["drop"].to_list() == pytest.approx([0.8, 0.6, 0.4, 0.1])
    assert kinships["kept"].to_list() == pytest.approx([1.0, 0.75, 0.5, 0.125])
    assert kinships["pairs"].to_list() == [1, 1, 1, 1] and kinships["scored"].to_list() == [6] * 4
    assert (kinships["drop_low"] < kinships["drop"]).all() and (
        kinships["drop_high"] > kinships["drop"]
    ).all()


def test_a_person_counts_once_however_many_pairs_there_are() -> None:
    other = rows().with_columns(target=pl.lit("b"), rate=pl.col("rate") / 2)
    both = pl.concat([rows(), other])
    kinships = by_lineage(both, KNOWN)
    # Target b's own maps are the source b: .6 of a's rows become 1 - (1 - .6) / 2 = .8 there.
    white, same, sibling, unseen = kinships.iter_rows(named=True)
    assert white["drop"] == pytest.approx((0.8 + 0.8) / 2)
    assert same["drop"] == pytest.approx((0.6 + 0.9) / 2)
    assert sibling["drop"] == pytest.approx((0.4 + 0.7) / 2)
    assert unseen["drop"] == pytest.approx((0.1 + 0.55) / 2)
    assert unseen["kept"] == pytest.approx(0.325 / 0.8)
    assert (unseen["pairs"], unseen["targets"], unseen["scored"]) == (2, 2, 6)
    apart = by_lineage(both, KNOWN, each_target=True).filter(lineage="unseen")
    assert apart["target"].to_list() == ["a", "b"]
    assert apart["drop"].to_list() == pytest.approx([0.1, 0.55])


def test_who_misses_a_pair_is_left_out() -> None:
    missing = (pl.col("source") == "d") & (pl.col("identity") == "P0")
    kinships = by_lineage(rows().with_columns(rate=pl.when(~missing).then("rate")), KNOWN)
    unseen = kinships.filter(lineage="unseen").row(0, named=True)
    assert unseen["scored"] == 5
    assert unseen["drop"] == pytest.approx(0.1 - 0.01)  # without the one whose drop is .05 more
    assert kinships.filter(lineage="sibling")["scored"].item() == 6


def test_controls_half_blocks_and_baselines_do_not_count() -> None:
    more = pl.concat(
        [
            rows(),
            rows(control="shifted"),
            rows(split="half"),
            table(row(method="random", target="a", identity=name) for name in PEOPLE),
        ]
    )
    assert by_lineage(more, KNOWN).equals(by_lineage(rows(), KNOWN))


def test_joint_maps_are_as_near_as_their_nearest_source() -> None:
    joint = rows().filter(pl.col("source") == "d").with_columns(source=pl.lit("c+d"))
    assert by_lineage(joint, KNOWN)["lineage"].to_list() == ["sibling"]
    assert by_lineage(joint, KNOWN)["kept"].to_list() == [None]
    # They are no row of the maps that are made on one recognizer.
    both = by_lineage(pl.concat([rows(), joint]), KNOWN)
    kinships = both.filter(lineage="sibling").select("sources", "pairs", "drop").rows()
    assert kinships == [(1, 1, pytest.approx(0.4)), (2, 1, pytest.approx(0.1))]


def test_real_and_synthetic_training_data_are_contrasted() -> None:
    contrasts = by_lineage(rows(), KNOWN, by="training")
    drops = dict(contrasts.select("training", "drop").rows())
    assert drops == pytest.approx(
        {"real, white box": 0.8, "real to real": 0.5, "synthetic to real": 0.1}
    )


def test_what_a_run_records_of_its_recognizers_comes_first() -> None:
    record = {"recognizers": {"a": {"lineage": {"training": "ours", "family": "net"}}}}
    results = rows().with_columns(target=pl.lit("mobilefacenet-casia"))
    for provenance in (record, {"variant": record}):
        lineages = lineages_of(provenance, results)
        assert lineages["a"] == Lineage("ours", family="net")
        assert lineages["mobilefacenet-casia"].training == "CASIA-WebFace"
        assert lineages["b"] == Lineage()
    assert lineages_of({"recognizers": [{"name": "a"}]}, results)["a"] == Lineage()


def test_the_view_shows_both_contrasts_where_there_are_any(tmp_path: Path) -> None:
    recorded = {name: {"lineage": vars(stated)} for name, stated in KNOWN.items()}
    report = Report(tmp_path, rows(), {"recognizers": recorded}, "", tmp_path)
    blocks = _blocks(report)
    chart, words, kin, _, kinds = blocks
    assert isinstance(chart, Chart) and chart.rows is not None
    assert chart.rows["stratum"].unique(maintain_order=True).to_list() == [
        "white box", "same", "sibling", "unseen",
    ]  # fmt: skip
    assert isinstance(kin, Table) and isinstance(kinds, Table) and isinstance(words, Facts)
    (drop,) = [column for column in kin.columns if column.title == "Drop"]
    assert [str(drop.cell(record))[:5] for record in kin.rows] == [
        "0.800",
        "0.600",
        "0.400",
        "0.100",
    ]
    assert len(kinds.rows) == 3 and "unseen" in words.items
    own = rows().filter(pl.col("source") == "a")
    assert not _blocks(Report(tmp_path, own, {}, "", tmp_path))
    # Masks of every pixel above a percentile are not compared: with these alone there is no view.
    loose = rows().with_columns(on_degenerate=pl.lit("inclusive"))
    assert not _blocks(Report(tmp_path, loose, {"recognizers": recorded}, "", tmp_path))
    real = rows().filter(pl.col("source") != "d")
    assert len(_blocks(Report(tmp_path, real, {"recognizers": recorded}, "", tmp_path))) == 3


def _blocks(report: Report) -> Sequence[Block]:
    shown = lineage(report)
    return [] if shown is None else shown.blocks
