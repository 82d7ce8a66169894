"""Comparisons with controls, held-out photos and the oracle, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.analysis.summary import drops, summarize
from facefocus.benchmark.identification import PHOTO_RISKS
from facefocus.benchmark.result_columns import COMPETES
from facefocus.core.errors import UserError
from facefocus.evaluation.statistics import compare_paired, mean_interval, ratio_intervals
from facefocus.report.document import Facts, Table
from facefocus.report.identification_view import identification
from facefocus.report.report_data import Report
from tests.report.fabricated import row, table

PEOPLE = ("Ada", "Bo", "Cy", "Di")
#: Recognition of the four under every mask; clean is 1.
RATES = {
    None: (0.50, 0.50, 0.75, 0.25),
    "shifted": (0.75, 1.00, 0.75, 0.75),
    "other": (0.50, 0.75, 0.50, 0.50),
    "population": (0.50, 0.50, 0.75, 0.50),
    "pixels": (1.00, 1.00, 1.00, 0.75),
    "blocks": (0.75, 0.75, 0.75, 0.75),
}
RANDOM = (0.75, 1.00, 1.00, 0.75)
ORACLE = (0.00, 0.25, 0.50, 0.25)


def rows() -> list[dict[str, Any]]:
    """The cosine is the rate's 0.6th part less 0.1 per control, so that both are told apart."""

    def each(rates: tuple[float, ...], **changes: Any) -> list[dict[str, Any]]:
        return [
            row(identity=name, rate=rate, cosine=0.6 * rate, clean_cosine=0.6, **changes)
            for name, rate in zip(PEOPLE, rates, strict=True)
        ]

    made = [record for control, rates in RATES.items() for record in each(rates, control=control)]
    made += each(RANDOM, method="random") + each(ORACLE, method="oracle", layer=None)
    # Only two people have held-out photos, and other clean scores there.
    made += [
        row(identity="Ada", split="heldout", clean_rate=1.0, rate=0.75, cosine=0.5),
        row(identity="Bo", split="heldout", clean_rate=0.75, rate=0.5, cosine=0.4),
        # The same maps, of half the photos, on the photos that they came from.
        row(identity="Ada", split="half", clean_rate=1.0, rate=0.375, cosine=0.25),
        row(identity="Bo", split="half", clean_rate=0.75, rate=0.375, cosine=0.3),
    ]
    return made


@pytest.fixture(scope="module")
def got() -> dict[str, Any]:
    summary = summarize(table(reversed(rows())))
    own = summary.filter(COMPETES & (pl.col("split") == "same"))
    assert own.height == 1
    return own.row(0, named=True)


@pytest.mark.parametrize(
    ("name", "differences"),
    [
        ("drop", (0.5, 0.5, 0.25, 0.75)),
        ("beyond_random", (0.25, 0.5, 0.25, 0.5)),
        ("excess", (0.25, 0.5, 0.0, 0.5)),
        ("specificity", (0.0, 0.25, -0.25, 0.25)),
        ("beyond_population", (0.0, 0.0, 0.0, 0.25)),
        ("beyond_pixels", (0.5, 0.5, 0.25, 0.5)),
        ("beyond_blocks", (0.25, 0.25, 0.0, 0.5)),
        ("half_drop", (0.625, 0.375)),
        ("heldout_drop", (0.25, 0.25)),
        ("heldout_loss", (0.375, 0.125)),
    ],
)
def test_differences_by_hand(
    got: dict[str, Any], name: str, differences: tuple[float, ...]
) -> None:
    assert got[name] == pytest.approx(np.mean(differences), abs=1e-11)
    assert got[f"{name}_low"] is got[f"{name}_high"] is None  # of four people
    if f"{name}_t_p" in got:
        test = compare_paired(np.array(differences), np.zeros(len(differences)))
        assert got[f"{name}_t_p"] == pytest.approx(test.t_p, abs=1e-12)
        assert got[f"{name}_wilcoxon_p"] == pytest.approx(test.wilcoxon_p, abs=1e-12)


def test_cosines_by_hand(got: dict[str, Any]) -> None:
    assert got["cosine_excess"] == pytest.approx(0.6 * 0.3125)
    assert got["cosine_specificity"] == pytest.approx(0.6 * 0.0625)
    assert got["cosine_oracle_share"] == pytest.approx(0.6)
    assert got["cosine_heldout_drop"] == pytest.approx(0.15)  # 0.6 to 0.5 and 0.4
    assert got["cosine_half_drop"] == pytest.approx((0.35 + 0.3) / 2)
    assert got["cosine_heldout_loss"] == pytest.approx((0.25 + 0.1) / 2)
    assert got["heldout_identities"] == 2


def test_share_of_the_oracle_is_a_ratio_of_means(got: dict[str, Any]) -> None:
    # Drops 0.5, random 0.125, oracle 0.75: 0.375 / 0.625.
    assert got["oracle_share"] == pytest.approx(0.6)


def test_every_figure_has_the_interval_of_the_statistics() -> None:
    """Twelve people in the place of each of the four, of other rates each."""
    draw = np.random.default_rng(0)
    made = [
        record
        | {
            "identity": f"{record['identity']}-{number}",
            "rate": record["rate"] * draw.uniform(0.8, 1),
        }
        for record in rows()
        for number in range(3)
        if record["split"] == "same"
    ]
    results = table(made)
    (summary,) = summarize(results).filter(COMPETES).to_dicts()
    rates = {
        name: results.filter(which).sort("identity")["rate"].to_numpy()
        for name, which in (
            ("own", COMPETES & pl.col("control").is_null()),
            ("shifted", pl.col("control") == "shifted"),
            ("random", pl.col("method") == "random"),
            ("oracle", pl.col("method") == "oracle"),
        )
    }
    top, bottom = rates["random"] - rates["own"], rates["random"] - rates["oracle"]
    expected = {
        "rate": mean_interval(rates["own"], share=True),
        "clean_rate": mean_interval(np.ones(12), share=True),
        "drop": mean_interval(1 - rates["own"]),
        "excess": mean_interval(rates["shifted"] - rates["own"]),
        "beyond_random": mean_interval(top),
        "oracle_share": next(iter(ratio_intervals(top[None], bottom[None]))),
    }
    for name, interval in expected.items():
        got = [summary[f"{name}{end}"] for end in ("", "_low", "_high")]
        assert got == pytest.approx([interval.value, interval.low, interval.high], abs=1e-11), name


def test_random_is_zero_and_the_oracle_one() -> None:
    shares = {
        record["method"]: (
            record["oracle_share"],
            record["oracle_share_low"],
            record["oracle_share_high"],
        )
        for record in summarize(table(rows())).filter(pl.col("split") == "same").to_dicts()
    }
    assert shares["random"] == (0.0, None, None)
    assert shares["oracle"] == (1.0, None, None)


def test_oracle_that_does_no_more_than_random_gives_no_share() -> None:
    made = [record | {"rate": 0.9} if record["method"] == "oracle" else record for record in rows()]
    assert summarize(table(made))["oracle_share"].is_null().all()


def test_controls_are_rows_only_where_asked_for() -> None:
    results = table(rows())
    assert summarize(results)["control"].is_null().all()
    with_controls = summarize(results, controls=True)
    assert with_controls["control"].to_list().count("shifted") == 1
    shifted = with_controls.filter(pl.col("control") == "shifted").row(0, named=True)
    assert shifted["drop"] == pytest.approx(0.1875)
    # A control is compared with nothing.
    assert shifted["excess"] is shifted["beyond_random"] is shifted["oracle_share"] is None
    assert with_controls.filter(pl.col("control").is_null()).equals(summarize(results))


def test_controls_are_matched_to_their_own_configuration() -> None:
    made = [row(identity=name, layer="1", rate=0.5) for name in PEOPLE]
    made += [row(identity=name, layer="2", rate=0.5) for name in PEOPLE]
    made += [row(identity=name, layer="2", rate=0.75, control="shifted") for name in PEOPLE]
    made += [
        row(identity=name, layer="1", rate=1.0, control="shifted", split="heldout")
        for name in PEOPLE
    ]
    excess = dict(summarize(table(made)).select("layer", "excess").iter_rows())
    assert excess == {"1": None, "2": 0.25}


def test_random_pixels_and_oracle_are_those_of_the_same_rule() -> None:
    """A percentile's mask is no control of exactly k pixels, and is bounded by no oracle of k."""
    made = rows()
    kept = ("grad-cam", "random", "oracle")
    made += [
        record | {"on_degenerate": "inclusive", "rate": 0.0, "masked_pixels": 12544.0}
        for record in made
        if record["method"] in kept and record["control"] is None and record["split"] == "same"
    ]
    by_rule = {
        record["on_degenerate"]: record
        for record in summarize(table(reversed(made))).filter(COMPETES, pl.col("split") == "same")
        .to_dicts()
    }  # fmt: skip
    assert by_rule["none"]["beyond_random"] == pytest.approx(0.375)
    assert by_rule["none"]["oracle_share"] == pytest.approx(0.6)
    assert (
        by_rule["inclusive"]["beyond_random"] == 0 and by_rule["inclusive"]["oracle_share"] is None
    )


def test_people_without_a_score_are_on_neither_side() -> None:
    made = [record for record in rows() if record["split"] == "same"]
    skipped = [
        record | {"rate": None, "cosine": None}
        if record["identity"] == "Di" and not index
        else record
        for index, record in ((record["control"], record) for record in made)
        if record["method"] == "grad-cam"
    ]
    (summary,) = summarize(table(skipped)).to_dicts()
    assert summary["scored"] == 3
    assert summary["excess"] == pytest.approx((0.25 + 0.5 + 0.0) / 3)


def test_an_identity_twice_is_refused() -> None:
    with pytest.raises(UserError, match="an identity once per configuration"):
        summarize(table([row(), row(rate=0.1)]))


def test_settings_of_a_map_tell_configurations_apart() -> None:
    made = [row(), row(normalize=False), row(arcface_scale=64.0), row(max_pairs=10)]
    assert summarize(table(made)).height == 4


def test_drops_stand_in_the_order_of_the_rows_and_of_names() -> None:
    results = table(rows())
    summary = summarize(results).filter(COMPETES)
    dropped = drops(results, summary)
    same = summary["split"].to_list().index("same")
    np.testing.assert_allclose(dropped[same], [0.5, 0.5, 0.25, 0.75])
    np.testing.assert_allclose(dropped[1 - same], [0.25, 0.25, np.nan, np.nan])


def test_identification_has_means_and_intervals_where_it_was_asked_for() -> None:
    people = [f"P{number}" for number in range(8)]
    rows = table(row(identity=name) for name in people)
    figures = {"any_rate": [1.0, 0.5] * 4, "clean_any_rate": [1.0] * 8, "rank_one": [0.25] * 8}
    asked = rows.with_columns(pl.Series(name, values) for name, values in figures.items())
    (summary,) = summarize(asked).to_dicts()
    assert (summary["any_rate"], summary["clean_any_rate"], summary["rank_one"]) == (
        0.75,
        1.0,
        0.25,
    )
    assert summary["any_rate_low"] < 0.75 < summary["any_rate_high"] <= 1
    assert summarize(asked).select(summarize(rows).columns).equals(summarize(rows))
    assert "any_rate" not in summarize(rows).columns


def test_the_order_by_photos_is_compared_with_the_order_by_pairs(tmp_path: Path) -> None:
    rates = {"1": 0.2, "N/2": 0.5, "N": 0.8}
    rows = [
        row(layer=layer, identity=f"P{number}", rate=rate + 0.01 * number,
            clean_rate=1.0)
        for layer, rate in rates.items() for number in range(8)
    ]  # fmt: skip
    results = table(rows)
    photo = [{"1": 0.9, "N/2": 0.6, "N": 0.3}[record["layer"]] for record in rows]
    names = (f"{front}{name}" for name in PHOTO_RISKS for front in ("", "clean_"))
    results = results.with_columns(pl.Series(name, photo) for name in names)
    results = results.with_columns(gallery_people=pl.lit(8))
    section = identification(Report(tmp_path, results, {}, "", tmp_path))
    assert section is not None
    tables, _, facts = section.blocks
    assert isinstance(tables, Table) and isinstance(facts, Facts)
    assert [record["layer"] for record in tables.rows] == ["1", "N/2", "N"]
    assert "In the gallery: 8 people." in tables.notes[0] and "any photo 0.900" in tables.notes[0]
    (orders,) = facts.items.values()
    assert orders["Any photo"].startswith("-1.000 [")
    assert identification(Report(tmp_path, table(rows), {}, "", tmp_path)) is None
