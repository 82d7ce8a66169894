"""Figures draw the table's numbers, with colors of their own, and change nothing around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from facefocus.analysis.summary import summarize
from facefocus.benchmark.result_slices import default_slice
from facefocus.evaluation.transfer import transfer
from facefocus.paper import manuscript_figures
from facefocus.report import figures
from facefocus.report.columns import standing
from tests.report.fabricated import realistic, row, table, write_run


@pytest.fixture(scope="module")
def results() -> pl.DataFrame:
    return realistic(8)


@pytest.fixture(scope="module")
def summary(results: pl.DataFrame) -> pl.DataFrame:
    return summarize(results)


def array(values: Any) -> Any:
    """As an array, whatever matplotlib declares it as."""
    return np.asarray(values)


def texts(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_colors_are_fixed_for_known_methods_and_distinct_for_others() -> None:
    alone = figures.looks(["layer-cam"])
    many = figures.looks(["zeta", "grad-cam", "LayerCAM", "layer-cam", "alpha", "random"])
    assert alone["layer-cam"] == many["layer-cam"] == many["LayerCAM"]
    del many["LayerCAM"]
    assert len(set(many.values())) == len(many)
    assert many == figures.looks(reversed(list(many)))


def test_budget_curves_draw_the_means_of_each_layer(summary: pl.DataFrame) -> None:
    rows = summary.filter(pl.col("fill") == "black")
    figure = manuscript_figures.budget_curves(rows, width=11.0)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in shown] == [
        "layer 1", "layer N/2 (24)", "layer N (48)",
    ]  # fmt: skip
    expected = rows.filter((pl.col("method") == "layer-cam") & (pl.col("layer") == "N/2"))
    (line,) = [curve for curve in shown[1].lines if curve.get_label() == "layer-cam"]
    assert np.allclose(line.get_xdata(), [1, 3, 10])
    assert np.allclose(line.get_ydata(), expected.sort("budget")["rate"])
    assert to_hex(line.get_color()) == "#009e73"
    assert all("random" in [curve.get_label() for curve in axis.lines] for axis in shown)
    bands = [array(band.get_paths()[0].vertices)[:, 1] for band in shown[1].collections]
    assert any(np.isclose(band.min(), min(expected["rate_low"].to_list())) for band in bands)


def test_budgets_at_which_no_map_is_better_are_shaded_halfway_to_their_neighbors(
    summary: pl.DataFrame,
) -> None:
    rows = summary.filter(pl.col("fill") == "black")
    figure = manuscript_figures.budget_curves(rows, width=11.0, no_better={0.03})
    (span,) = figure.axes[0].patches
    left, right = (span.get_extents().transformed(figure.axes[0].transData.inverted())).intervalx
    assert np.allclose([left, right], [np.sqrt(1 * 3), np.sqrt(3 * 10)])
    (names,) = figure.legends
    assert "random pixels or a blob take as much" in [text.get_text() for text in names.get_texts()]
    assert not manuscript_figures.budget_curves(rows, width=11.0).axes[0].patches


def test_a_series_has_the_same_dashes_in_every_panel_and_in_the_legend() -> None:
    shown = {"N": ("positive", "negative"), "1": ("negative",)}
    rows = [row(layer=layer, layer_calls={"N": "48", "1": "1"}[layer], evidence=evidence,
                budget=budget)
            for layer, kinds in shown.items() for evidence in kinds
            for budget in (0.01, 0.03)]  # fmt: skip
    figure = manuscript_figures.budget_curves(summarize(table(rows)), width=11.0)
    drawn: dict[str, set[str]] = {}
    for axis in figure.axes:
        for line in axis.lines:
            drawn.setdefault(str(line.get_label()), set()).add(str(line._dash_pattern))  # type: ignore[attr-defined]
    (names,) = figure.legends
    handles = {
        text.get_text(): str(line._dash_pattern)  # type: ignore[attr-defined]
        for text, line in zip(names.get_texts(), names.get_lines(), strict=True)
    }
    series = [label for label in drawn if label in handles and label.startswith("grad-cam")]
    assert len(series) == 2
    assert all(drawn[label] == {handles[label]} for label in series)
    assert handles[series[0]] != handles[series[1]]


def test_a_label_is_broken_between_words_or_after_a_hyphen() -> None:
    assert figures.folded("layer-cam of-somebody", 20) == "layer-cam\nof-somebody"
    assert figures.folded("layer-cam occlusion-gradient", 12).split("\n") == [
        "layer-cam", "occlusion-", "gradient",
    ]  # fmt: skip
    assert figures.folded("one two three four five six seven", 9) == "one two\nthree\nfour..."


def test_narrow_curves_stand_one_above_the_other(summary: pl.DataFrame) -> None:
    figure = manuscript_figures.budget_curves(summary.filter(pl.col("fill") == "black"), width=3.6)
    columns = {round(axis.get_position().x0, 6) for axis in figure.axes}
    assert len(figure.axes) == 3 and len(columns) == 1
    assert figure.get_figwidth() == pytest.approx(3.6)


def test_heat_map_shows_drops_and_missing_maps(summary: pl.DataFrame) -> None:
    rows = default_slice(summary).of(summary)
    axis = manuscript_figures.layer_heatmap(rows, width=8.0).axes[0]
    (cell,) = rows.filter(
        (pl.col("method") == "grad-cam++") & (pl.col("layer") == "N/2")
    ).to_dicts()
    shown = array(axis.images[0].get_array())
    assert shown[1, 1] == pytest.approx(cell["drop"])
    share = round(100 * cell["degenerate_share"])
    assert f"{cell['drop']:+.3f}\n{share} % no map" in texts(axis)
    assert len(texts(axis)) == 9  # random pixels have no layer


def test_heat_map_shows_a_layer_that_is_another_call_in_each_recognizer() -> None:
    """`N` is call 48 of one source and 49 of the other: one column, both drops in it."""
    rows = [
        row(source=source, layer="N", layer_calls=calls, rate=rate)
        for source, calls, rate in (("a", "48", 0.7), ("b", "49", 0.6))
    ]
    axis = manuscript_figures.layer_heatmap(summarize(table(rows)), width=8.0).axes[0]
    assert len(texts(axis)) == 2
    assert np.isfinite(array(axis.images[0].get_array())).all()
    ticks = [*axis.get_xticklabels(), *axis.get_yticklabels()]
    assert "layer N" in [tick.get_text() for tick in ticks]


def test_fills_draw_every_mean(summary: pl.DataFrame) -> None:
    rows = summary.filter((pl.col("budget") == 0.01) & pl.col("layer").is_in(["1"]))
    axis = manuscript_figures.fills(rows, width=8.0).axes[0]
    drawn = {
        float(array(line.get_xdata())[0]) for line in axis.lines if line.get_marker() != "None"
    }
    assert set(rows["rate"]) == drawn
    ticks = [label.get_text() for label in axis.get_yticklabels()]
    assert ticks == ["black", "white", "mean", "random", "blur"]


def test_configurations_without_a_score_leave_gaps_not_errors() -> None:
    none = row(rate=None, cosine=None, degenerate=True, on_degenerate="skip")
    summary = summarize(table([none]))
    assert "no score\n100 % no map" in texts(
        manuscript_figures.layer_heatmap(summary, width=8.0).axes[0]
    )
    drawn = manuscript_figures.budget_curves(summary, width=8.0).axes[0]
    assert not [line for line in drawn.lines if line.get_marker() != "None"]


def test_intervals_draw_every_mean_and_its_ends(summary: pl.DataFrame) -> None:
    rows = default_slice(summary).of(summary)
    axis = figures.drop_intervals(rows, width=8.0).axes[0]
    ordered = sorted(rows.to_dicts(), key=standing)
    drawn = [line for line in axis.lines if line.get_marker() == "o"]
    assert [array(line.get_xdata())[0] for line in drawn] == [record["drop"] for record in ordered]
    bars = [array(line.get_xdata()) for line in axis.lines[:-1] if line.get_marker() == "None"]
    assert np.allclose(bars, [[record["drop_low"], record["drop_high"]] for record in ordered])
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[:2] == ["random", "layer-cam @ 1"]


def test_rows_are_as_high_as_their_labels() -> None:
    rows = [row(source="a-recognizer+another-recognizer", options="x" * 20), row(layer="1")]
    axis = figures.drop_intervals(summarize(table(rows)), width=3.6).axes[0]
    lines = [label.get_text().count("\n") + 1 for label in axis.get_yticklabels()]
    first, second = axis.get_yticks()
    assert max(lines) == 4 and second - first >= 0.15 * (lines[0] + lines[1]) / 2


def test_transfer_panels_share_their_axes_and_frame_the_white_box() -> None:
    square = pl.DataFrame(
        {"source": ["a", "b", "a", "b"], "target": ["a", "a", "b", "b"],
         "rate": [0.5, 0.75, 0.9, 0.6], "clean_rate": [1.0] * 4}
    )  # fmt: skip
    joint = square[:2].with_columns(source=pl.Series(["a", "a+b"]))
    drawn = manuscript_figures.transfer_maps(
        {"m": transfer(square), "n": transfer(joint)}, width=8.0
    )
    first, second = drawn.axes
    assert sorted(texts(first)) == [
        "+0.100\n25 %",
        "+0.250\n50 %",
        "+0.400\n100 %",
        "+0.500\n100 %",
    ]
    shown = array(first.images[0].get_array())
    np.testing.assert_allclose(shown, [[0.5, 0.1], [0.25, 0.4], [np.nan] * 2])
    np.testing.assert_allclose(
        array(second.images[0].get_array()), [[0.5, np.nan], [np.nan] * 2, [0.25, np.nan]]
    )
    assert (len(first.patches), len(second.patches)) == (2, 1)
    assert [label.get_text() for label in first.get_yticklabels()] == ["a", "b", "a + b"]


def test_a_long_legend_has_room(tmp_path: Path) -> None:
    rows = [row(method=f"a-method-with-a-long-name-{index}", budget=budget)
            for index in range(12) for budget in (0.01, 0.03)]  # fmt: skip
    figure = manuscript_figures.budget_curves(summarize(table(rows)), width=3.6)
    figures.save(figure, tmp_path / "curves.svg")  # a collapsed layout warns, which is an error
    assert figure.get_figheight() > 0.55 + 2.5 + 11 * 0.2 - 1e-9


def pixels(figure: Figure, path: Path) -> np.ndarray:
    figures.save(figure, path)
    image: np.ndarray = np.asarray(mpl.image.imread(path))
    return (image[..., :3] * 255).round().astype(np.uint8)


def test_outline_has_its_features_where_aligned_faces_have_them(tmp_path: Path) -> None:
    figure = Figure(figsize=(1.12, 1.12))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(np.zeros((112, 112, 3), np.uint8))
    axis.set_axis_off()
    figures.draw_outline(axis, 112, 112, color="#ffffff")
    drawn = pixels(figure, tmp_path / "outline.png").max(2)
    scale = drawn.shape[0] / 112
    for x, y in ((41.5, 92.4), (70.7, 92.2), (38.3, 48.2), (73.5, 48.0)):  # mouth corners, irises
        near = drawn[round((y - 2) * scale) : round((y + 2) * scale)]
        assert near[:, round((x - 2) * scale) : round((x + 2) * scale)].max() > 100
    assert drawn[: round(scale * 20), : round(scale * 10)].max() == 0


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_same_rows_give_the_same_bytes(summary: pl.DataFrame, tmp_path: Path, kind: str) -> None:
    rows = default_slice(summary).of(summary)
    for name in ("first", "second"):
        figures.save(manuscript_figures.layer_heatmap(rows, width=5.0), tmp_path / f"{name}.{kind}")
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("first", "second"))
    assert first == second


def test_png_has_two_pixels_for_each_shown(summary: pl.DataFrame, tmp_path: Path) -> None:
    image = pixels(manuscript_figures.layer_heatmap(default_slice(summary).of(summary), width=5.0),
                   tmp_path / "x.png")  # fmt: skip
    assert image.shape[1] == 2 * 96 * 5


def test_settings_around_are_neither_read_nor_changed(summary: pl.DataFrame) -> None:
    with mpl.rc_context({"font.size": 40.0, "axes.grid": False}):
        before = dict(mpl.rcParams)
        figure = manuscript_figures.layer_heatmap(default_slice(summary).of(summary), width=5.0)
        assert dict(mpl.rcParams) == before
    assert figure.axes[0].texts[0].get_fontsize() == 8.5


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_figures_of_a_run_are_written_for_each_reading(tmp_path: Path, kind: str) -> None:
    results = realistic(6).filter(pl.col("budget") < 0.05, pl.col("fill").is_in(["black", "mean"]))
    other = results.filter(pl.col("fill") == "mean").with_columns(
        fill=pl.lit("inpaint"), reading=pl.lit("information")
    )
    run = write_run(tmp_path / "run", pl.concat([results, other]))
    written = manuscript_figures.write_figures([run], tmp_path / "out", kind)
    stem = "lfw-mobilefacenet-casia"
    assert [path.name for path in written] == [
        *(f"{stem}-{name}-artefact.{kind}" for name in ("drops", "layers", "budgets", "fills")),
        *(f"{stem}-{name}-information.{kind}" for name in ("drops", "layers", "budgets")),
    ]
    assert all(path.stat().st_size > 5_000 for path in written)
