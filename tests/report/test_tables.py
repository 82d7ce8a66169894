"""Summaries against values worked out by hand; every rendering with its audit."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.analysis import labels
from facefocus.analysis.results import read_results, read_runs
from facefocus.analysis.summary import INCLUSIVE, OVER, SKIP, summarize
from facefocus.benchmark.result_columns import SETTING
from facefocus.benchmark.result_slices import default_slice, default_slices
from facefocus.core.errors import UserError
from facefocus.core.text import NOTHING
from facefocus.report import columns
from facefocus.report.html_renderer import html_document
from facefocus.report.latex_renderer import latex_document
from facefocus.report.markdown_renderer import markdown_document
from facefocus.report.summary_blocks import summary_blocks
from facefocus.report.summary_table import summary_table, to_csv
from facefocus.report.text_renderer import WIDTH, text_document
from tests.report.fabricated import large, realistic, row, table, write_run

PEOPLE = ("Ada", "Bo", "Cy", "Di")


@pytest.fixture(scope="module")
def small() -> pl.DataFrame:
    """Four people; Di has no map, Bo one flat pair map; random pixels beside, in other order."""
    rates = {"Ada": 0.5, "Bo": 0.75, "Cy": 0.25, "Di": 1.0}
    chance = {"Ada": 1.0, "Bo": 0.75, "Cy": 0.75, "Di": 0.5}
    mapped = [
        row(
            identity=name,
            rate=rates[name],
            cosine=0.6 if name == "Di" else 0.4,
            masked_pixels=0.0 if name == "Di" else 125.0,
            masked_share=0.0 if name == "Di" else 0.01,
            maps=10,
            maps_degenerate={"Di": 10, "Bo": 1}.get(name, 0),
            maps_ill_conditioned={"Bo": 4, "Cy": 2}.get(name, 0),
            degenerate=name == "Di",
        )
        for name in PEOPLE
    ]
    random = [row(method="random", identity=name, rate=chance[name]) for name in reversed(PEOPLE)]
    other = [row(method="random", identity=name, rate=0.0, fill="white") for name in PEOPLE]
    return summarize(table([*other, *mapped, *random]))


def row_of(summary: pl.DataFrame, method: str, fill: str = "black") -> dict[str, object]:
    rows = summary.filter((pl.col("method") == method) & (pl.col("fill") == fill))
    assert rows.height == 1
    return rows.row(0, named=True)


def test_means_are_macro_averages_over_identities(small: pl.DataFrame) -> None:
    got = row_of(small, "grad-cam")
    assert got["rate"] == pytest.approx((0.5 + 0.75 + 0.25 + 1.0) / 4)
    assert got["clean_rate"] == 1.0
    assert got["drop"] == pytest.approx(0.375)
    assert got["cosine"] == pytest.approx(0.45)
    assert got["clean_cosine"] == pytest.approx(0.6)


def test_random_control_is_paired_by_identity_and_by_fill(small: pl.DataFrame) -> None:
    got = row_of(small, "grad-cam")
    differences = np.array([0.5, 0.0, 0.5, -0.5])
    assert got["beyond_random"] == pytest.approx(differences.mean())
    assert row_of(small, "random")["beyond_random"] is None


def test_seed_changes_intervals_only() -> None:
    results = realistic(12).filter(pl.col("budget") == 0.01, pl.col("fill") == "black")
    first, second = summarize(results, seed=0), summarize(results, seed=1)
    assert first["rate"].equals(second["rate"])
    assert not first["rate_low"].equals(second["rate_low"])


def test_audit_by_hand(small: pl.DataFrame) -> None:
    got = row_of(small, "grad-cam")
    assert (got["identities"], got["scored"], got["images"], got["pairs"]) == (4, 4, 16, 48)
    assert got["degenerate_share"] == 0.25
    assert got["maps_degenerate_share"] == pytest.approx(11 / 40)
    assert got["maps_ill_conditioned_share"] == pytest.approx(6 / 40)
    assert got["area_mean"] == pytest.approx(0.0075)
    assert got["area_max"] == 0.01
    assert got["over_budget_share"] == 0.0
    assert got["unaffected_share"] == 0.25  # Di alone
    assert row_of(small, "random")["maps_degenerate_share"] is None


def test_unaffected_needs_both_scores_equal() -> None:
    rows = [
        row(identity="Ada", rate=1.0, cosine=0.59),  # same rate, other cosine
        row(identity="Bo", rate=0.5, cosine=0.6),  # same cosine, other rate
        row(identity="Cy", rate=1.0, cosine=0.6),
    ]
    assert summarize(table(rows))["unaffected_share"][0] == pytest.approx(1 / 3)


def test_over_budget_is_counted_and_warned_of() -> None:
    rows = [row(identity="Ada", masked_pixels=126.0), row(identity="Bo")]
    summary = summarize(table(rows))
    assert summary["over_budget_share"][0] == 0.5
    assert summary["warning"][0] == OVER


def test_skipped_identities_stay_in_the_audit_and_out_of_the_means() -> None:
    gone = row(identity="Bo", rate=None, cosine=None, degenerate=True, on_degenerate="skip")
    rows = [row(identity="Ada", on_degenerate="skip", clean_rate=0.9, rate=0.5), gone]
    got = summarize(table(rows)).row(0, named=True)
    assert (got["identities"], got["scored"]) == (2, 1)
    assert got["degenerate_share"] == 0.5
    assert (got["clean_rate"], got["rate"]) == (0.9, 0.5)  # not Bo's clean rate of 1.0
    assert (got["rate_low"], got["rate_high"]) == (None, None)
    assert got["warning"] == SKIP


def test_method_without_any_score_has_no_numbers_but_an_audit() -> None:
    none = {"rate": None, "cosine": None, "degenerate": True, "on_degenerate": "skip"}
    got = summarize(table([row(identity=name, **none) for name in PEOPLE]))
    assert got["rate"].to_list() == [None]
    assert got["unaffected_share"].to_list() == [None]
    assert got["degenerate_share"].to_list() == [1.0]
    assert NOTHING in as_page(got)


def test_null_layers_and_sources_make_one_configuration() -> None:
    rows = [row(method="random", identity=name) for name in PEOPLE]
    assert summarize(table(rows)).height == 1


def test_no_rows_make_an_empty_summary_with_the_same_columns(small: pl.DataFrame) -> None:
    empty = summarize(table([]))
    assert empty.schema == small.schema
    with pytest.raises(UserError, match="at least one row"):
        summary_blocks(empty)


def test_missing_column_is_named() -> None:
    with pytest.raises(UserError, match="must have the column 'masked_share'"):
        summarize(table([row()]).drop("masked_share"))


# ------------------------------------------------------------------------------------- formats


def test_interval() -> None:
    whole = {"rate": 0.8861, "rate_low": 0.8607, "rate_high": 0.9096}
    assert columns.interval(whole, "rate") == "0.886 [0.861, 0.910]"
    single = {"rate": 0.5, "rate_low": None, "rate_high": None}
    assert columns.interval(single, "rate") == "0.500"


def rendered(summary: pl.DataFrame, width: int = 110) -> str:
    return text_document(summary_blocks(summary), width)


def as_page(summary: pl.DataFrame, **options: Any) -> str:
    return html_document([summary_table(summary, **options)], "tables")


def everywhere(summary: pl.DataFrame) -> dict[str, str]:
    return {
        "text": rendered(summary, 400),
        "html": as_page(summary),
        "csv": to_csv(summary),
    }


def test_every_rendering_has_the_audit(small: pl.DataFrame) -> None:
    titles = [column.title for column in columns.columns(small) if column.audit]
    assert titles == ["Scored", "No map", "Flat maps", "Ill-conditioned", "Area mean", "Area max",
                      "Over budget", "Same scores"]  # fmt: skip
    renderings = everywhere(small)
    assert all(title in renderings["html"] for title in titles)
    assert all(name in renderings["csv"] for name in ("degenerate_share", "area_max"))
    assert (
        "identities without a map" in renderings["text"]
        and "0.75/1 %" in renderings["text"]
        and "25 %" in renderings["text"]
    )
    # What the caption says may be left out; the audit may not.
    assert "Same scores" in as_page(small, omit=("Same scores", "Fill"))
    assert ">Fill<" not in as_page(small, omit=("Same scores", "Fill"))


def test_inclusive_is_warned_of_in_every_rendering() -> None:
    rows = [row(identity=name, on_degenerate="inclusive", masked_pixels=12544.0) for name in PEOPLE]
    for kind, text in everywhere(summarize(table(rows))).items():
        assert "flat map hides the whole face" in text, kind
    clean = summarize(table([row(identity=name) for name in PEOPLE]))
    for kind, text in everywhere(clean).items():
        assert "Warning" not in text and INCLUSIVE not in text, kind


def test_terminal_shows_one_slice_beside_clean_and_random() -> None:
    text = rendered(summarize(realistic(12)))
    lines = [line.split()[0] for line in text.splitlines() if " [0" in line or " [+" in line]
    assert lines[:2] == ["clean", "random"]
    assert len(lines) == 2 + 9  # one budget and fill of 15
    assert "…" not in text and max(map(len, text.splitlines())) <= 110
    assert "Shown: 1 % of the pixels, fill black" in text
    assert "budgets 1 %, 3 %, 10 %; fills black, white, mean, random, blur" in text


def test_default_slice_falls_back_to_the_smallest_budget_and_first_fill() -> None:
    rows = [row(budget=budget, fill=fill) for fill in ("white", "mean") for budget in (0.1, 0.05)]
    shown = default_slice(summarize(table(rows)))
    assert (shown.budget, shown.fill) == (0.05, "white")


def test_columns_appear_only_where_they_tell_rows_apart() -> None:
    plain = summarize(table([row(), row(method="s-rise", objective=None)]))
    assert labels.varying(plain) == []
    several = summarize(
        table([row(), row(objective="l2"), row(split="heldout"), row(source="other")])
    )
    assert labels.varying(several) == ["source", "objective", "split"]


def test_csv_has_full_precision(small: pl.DataFrame) -> None:
    read = list(csv.DictReader(io.StringIO(to_csv(small))))
    got = next(record for record in read if record["method"] == "grad-cam")
    assert float(got["maps_degenerate_share"]) == 11 / 40
    assert list(got)[-1] == "warning"


def test_p_values_are_named_uncorrected(small: pl.DataFrame) -> None:
    head = to_csv(small).splitlines()[0].split(",")
    p_values = [name for name in head if "_t_p" in name or "wilcoxon_p" in name]
    assert p_values and all(name.endswith("_p_uncorrected") for name in p_values)


def test_names_cannot_break_a_format() -> None:
    summary = summarize(table([row(method="<b>a|b</b>&_%", layer='"N"', target="\x1b[2J")]))
    page = as_page(summary)
    assert "<b>" not in page and "&lt;b&gt;a|b&lt;/b&gt;&amp;_%" in page
    for kind, text in everywhere(summary).items():
        assert "\x1b" not in text and r"\x1b[2J" in text, kind


def test_rows_come_with_baselines_first_then_by_drop() -> None:
    rows = [row(layer="1", rate=0.9), row(layer="2", rate=0.2), row(method="random")]
    listed = columns.ordered(summarize(table(rows)))
    assert [(record["method"], record["layer"]) for record in listed] == [
        ("random", None), ("grad-cam", "2"), ("grad-cam", "1"),
    ]  # fmt: skip


def test_a_long_table_starts_with_baselines_and_the_largest_drops() -> None:
    rows = [row(layer=str(index), rate=1 - index / 100) for index in range(40)]
    none = row(layer="41", rate=None, cosine=None, on_degenerate="skip")
    summary = summarize(table([row(method="random"), *rows, none]))
    few = columns.leading(summary)
    assert few["method"].to_list().count("random") == 1
    assert sorted(few["layer"].drop_nulls().cast(pl.Int64)) == list(range(25, 40))
    assert "26 more with smaller drops are not shown" in rendered(summary)
    assert to_csv(summary).count("grad-cam") == 41  # files leave nothing out


def test_terminal_shows_excess_and_specificity_within_its_width() -> None:
    summary = summarize(large(6))
    text = rendered(summary, WIDTH)
    assert max(map(len, text.splitlines())) <= WIDTH and "…" not in text
    assert "Excess" in text and "Specificity" in text and "Beyond random" not in text
    top = summary.filter(
        pl.col("options") == "steps=25", pl.col("source") == pl.col("target"),
        pl.col("split") == "same", pl.col("budget") == 0.01, pl.col("fill") == "black",
    ).row(0, named=True)  # fmt: skip
    assert columns.interval(top, "excess", signed=True) in text
    assert columns.interval(top, "specificity", signed=True) in text
    assert text.count("occlusion-gradient") <= 2 * columns.LEADING and "population" not in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_cuts_no_number_and_keeps_the_names(width: int) -> None:
    summary = summarize(large(6))
    text = rendered(summary, width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    shown = default_slice(summary).of(summary)
    few = columns.leading(shown, 10)  # of each of the two recognizers
    for record in few.to_dicts():
        assert record["method"] in text
        for name in ("rate", "excess", "specificity"):
            if record[name] is not None:
                signed = name != "rate"
                assert columns.interval(record, name, signed=signed) in text, (
                    record["method"],
                    name,
                )
    assert text.count("mean/max") == 2 and "continued" in text


def test_slices_hold_one_split_and_no_controls() -> None:
    rows = [row(), row(split="heldout"), row(control="shifted"), row(budget=0.03), row(fill="blur")]
    results = table(rows)
    shown = default_slice(results)
    assert (shown.budget, shown.fill, shown.split) == (0.01, "black", "same")
    assert shown.of(results).height == 1
    assert shown.at(results, "fill", "split")["budget"].to_list() == [0.01, 0.03]
    assert default_slice(results.filter(pl.col("split") == "heldout")).split == "heldout"


def test_results_of_earlier_versions_get_their_reading_when_read(tmp_path: Path) -> None:
    fills = ("black", "inpaint", "a-fill-of-others", "linear")
    results = table([row(fill=fill, identity="Ada") for fill in fills])
    old = results.drop("reading")
    read = read_results(write_run(tmp_path / "run", old))
    assert read["reading"].to_list() == ["artefact", "information", "artefact", "information"]
    assert read.columns == results.columns
    assert read.columns.index("reading") == read.columns.index("fill") + 1
    assert read_runs([tmp_path / "run"]).equals(read)
    # Tables in memory, too; and whoever leaves out the fill keeps the reading.
    assert (
        summarize(old).select("fill", "reading").rows() == results.select("fill", "reading").rows()
    )
    assert "reading" in SETTING


def test_a_first_look_has_a_slice_of_each_reading() -> None:
    fills = ("white", "linear", "inpaint", "mean")
    results = table([row(fill=fill, budget=budget) for fill in fills for budget in (0.05, 0.1)])
    first, second = default_slices(results)
    assert (first.budget, first.fill, first.reading) == (0.05, "white", "artefact")
    assert (second.budget, second.fill, second.reading) == (0.05, "inpaint", "information")
    assert str(second) == "5 % of the pixels, fill inpaint (information)"
    (only,) = default_slices(results.filter(fill="linear"))
    assert (only.fill, only.reading) == ("linear", "information")


def test_terminal_markdown_and_latex_show_both_readings() -> None:
    rates = {"black": {"grad-cam": 0.1, "random": 0.5}, "inpaint": {"grad-cam": 0.7, "random": 0.7}}
    summary = summarize(
        table(
            row(identity=f"p{number}", fill=fill, method=method, rate=rate + 0.01 * more)
            for fill, methods in rates.items()
            for method, rate in methods.items()
            for number, more in enumerate((0, 1, 2, 1, 0, 2) if method == "grad-cam" else (0,) * 6)
        )
    )
    for render in (text_document, markdown_document, latex_document):
        shown = " ".join(render(summary_blocks(summary)).replace("\\%", "%").split())
        shown = shown.replace("\\,%", " %").replace("~%", " %")
        assert "fill black (artefact)" in shown and "fill inpaint (information)" in shown
        assert "net, fill inpaint (information): at 1 %, even the best method is not" in shown
        assert "net, fill black (artefact): at" not in shown


def test_labels_name_the_recognizer_only_where_it_is_another() -> None:
    own, far = row(), row(source="other", options="steps=25")
    assert labels.place_label(own, ["source", "options"]) == "grad-cam @ N"
    assert labels.place_label(far, ["source", "options"]) == "grad-cam @ N, from other, steps=25"


def test_labels_leave_out_what_is_a_methods_default() -> None:
    asked = row(method="corr-rise", layer=None, options="fill=black masks=200 rank=false")
    assert labels.series_label(asked, ["options"]) == "corr-rise, masks=200"
    usual = row(method="grad-cam++", options="variant=equation")
    assert labels.place_label(usual, ["options"]) == "grad-cam++ @ N"


def test_oracle_stands_with_the_baselines() -> None:
    rows = [row(rate=0.9), row(method="oracle", rate=0.1), row(method="random")]
    listed = columns.ordered(summarize(table(rows)))
    assert [record["method"] for record in listed] == ["random", "oracle", "grad-cam"]
