"""The truth table, figure and note, from made-up results whose answers are known."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import spearmanr

from facefocus.analysis.summary import summarize
from facefocus.benchmark.collect import SCHEMA, TRUTH_SCHEMA
from facefocus.core.errors import UserError
from facefocus.core.text import NOTHING
from facefocus.planted.truth import (
    agreement,
    best_of_methods,
    finds,
    sentence,
    truth_summary,
    worlds,
)
from facefocus.planted.truth_report import _label, write_note
from facefocus.report import figures
from facefocus.report.page import write_report
from facefocus.report.report_data import spread
from tests.report.fabricated import PROVENANCE, row, write_run
from tests.report.test_page import Page

PEOPLE = tuple(f"synthetic-{number:04}" for number in range(6))
#: Share of the frame that is planted.
AREA = {"eyes": 0.08, "marks": 0.02}
#: Mean ROC AUC of each method and layer, the same in both worlds but for 0.05.
AUC = {("grad-cam", "1"): 0.5, ("grad-cam", "N"): 0.6, ("layer-cam", "1"): 0.9,
       ("layer-cam", "N"): 0.8, ("random", None): 0.5}  # fmt: skip


def planted(worlds_: tuple[str, ...] = ("eyes", "marks"), **changes: Any) -> pl.DataFrame:
    """A run in which layer-cam finds the part best, and grad-cam takes most."""
    draw = np.random.default_rng(0)
    rows = []
    for world in worlds_:
        for (method, layer), auc in AUC.items():
            for budget in (0.01, 0.05):
                for name in PEOPLE:
                    score = auc - 0.05 * (world == "marks") * (auc > 0.5) + draw.normal(0, 0.01)
                    share = AREA[world] + (score - 0.5) * 0.5
                    rows.append(
                        row(
                            **{
                                "experiment": f"made-{world}",
                                "faces": f"synthetic-{world}",
                                "source": f"net-{world}" if layer else None,
                                "target": f"net-{world}",
                                "method": method,
                                "layer": layer,
                                "layer_calls": {"1": "1", "N": "9", None: None}[layer],
                                "budget": budget,
                                "identity": name,
                                "rate": 0.2 + 0.5 * auc + draw.normal(0, 0.01),
                                "cosine": 0.1 + 0.3 * auc + draw.normal(0, 0.01),
                                "truth_auc": score,
                                "truth_auc_best": 0.99,
                                "truth_share": share,
                                "truth_share_best": min(1.0, AREA[world] / budget),
                                "truth_pointing": float(auc > 0.7),
                                "truth_pointing_best": 1.0,
                                "truth_chance": AREA[world],
                            }
                            | changes
                        )
                    )
    return pl.DataFrame(rows, schema=SCHEMA | TRUTH_SCHEMA, orient="row")


def at_one_percent(results: pl.DataFrame) -> pl.DataFrame:
    rows = results.filter(pl.col("budget") == 0.01)
    return truth_summary(rows, summarize(rows))


def test_masks_of_another_rule_are_never_taken_for_those_of_exactly_k_pixels() -> None:
    """Rows of the percentile's rule stand first in a table, and have the same ROC AUC."""
    exact = planted(("eyes",)).filter(pl.col("budget") == 0.01)
    loose = exact.with_columns(on_degenerate=pl.lit("inclusive"), truth_share=pl.lit(0.99))
    both = pl.concat([loose, exact])
    mixed, alone = (truth_summary(part, summarize(part)) for part in (both, exact))
    assert mixed.equals(alone)
    only = truth_summary(loose, summarize(loose))
    assert np.allclose(only["truth_share"], 0.99) and len(only) == len(alone) == len(AUC)


def add_planted_gallery(folder: Path, world: str) -> None:
    """Maps of two people with a planted disc in the middle."""
    y, x = np.mgrid[:112, :112]
    disc = ((x - 56) ** 2 + (y - 56) ** 2 < 200).astype(np.float64)
    listed = [(name, *key) for name in PEOPLE[:2] for key in AUC if key[1]]
    rows = [
        row(faces=f"synthetic-{world}", identity=name, source=f"net-{world}", method=method,
            layer=layer, layer_calls="1", fill=None)
        | {"index": index, "map": index, "image": 0, "degenerate": index == 0}
        for index, (name, method, layer) in enumerate(listed)
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "gallery.parquet")
    maps = np.stack([disc + x / 300 for _ in rows]).astype(np.float32)
    np.savez(
        folder / "gallery.npz", maps=maps, masks=maps > 1.2, planted=np.stack([disc, disc / 2]),
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def blank() -> Iterator[None]:
    """Empty pictures but for the planted outlines: most of a page's time goes to pictures."""
    save = figures.save

    def planted_alone(figure: Figure, path: Path) -> None:
        save(figure, path) if path.stem.endswith("-planted") else path.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", planted_alone)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two variants, one world each."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    results = planted()
    for world in AREA:
        part = results.filter(pl.col("faces") == f"synthetic-{world}")
        variant = write_run(folder / world, part, PROVENANCE | {"identities": 6})
        add_planted_gallery(variant, world)
        (variant / "run.json").write_text("{}")
    write_report(folder)
    return folder


# ------------------------------------------------------------------------------------- the table


def test_means_are_over_identities_and_a_map_counts_once_for_all_targets() -> None:
    results = planted(("eyes",))
    other = results.filter(pl.col("layer").is_not_null()).with_columns(target=pl.lit("net-other"))
    table = at_one_percent(pl.concat([other, results]))
    assert table.height == len(AUC)
    assert table.filter(pl.col("layer").is_not_null())["target"].unique().to_list() == ["net-eyes"]
    for line in table.iter_rows(named=True):
        part = results.filter(
            pl.col("method") == line["method"],
            pl.col("layer").eq_missing(pl.lit(line["layer"])),
            pl.col("budget") == 0.01,
        )
        assert line["truth_auc"] == pytest.approx(part["truth_auc"].mean())
        assert line["truth_auc_low"] <= line["truth_auc"] <= line["truth_auc_high"]
        assert line["truth_chance"] == pytest.approx(AREA["eyes"])


def test_results_without_truth_have_no_table_no_section_and_no_sentence(tmp_path: Path) -> None:
    plain = planted(("eyes",)).drop(*TRUTH_SCHEMA)
    assert at_one_percent(plain).is_empty()
    page = Page(write_report(write_run(tmp_path / "run", plain)))
    assert "truth" not in [section["id"] for section in page.all("section")]
    assert "In world" not in page.text
    with pytest.raises(UserError, match="must be on synthetic faces, whose truth is known"):
        write_note(tmp_path / "run", tmp_path / "note.md")


def test_the_smallest_planted_part_comes_first() -> None:
    assert [name for name, _ in worlds(at_one_percent(planted()))] == ["marks", "eyes"]


def test_the_best_layer_of_each_method_is_that_of_largest_auc() -> None:
    best = best_of_methods(at_one_percent(planted(("eyes",))))
    layers = {line["method"]: line["layer"] for line in best.iter_rows(named=True)}
    assert layers == {"layer-cam": "1", "grad-cam": "N", "random": None}


def test_only_what_lies_above_chance_with_its_interval_finds_the_part() -> None:
    at_chance = {"truth_auc_low": 0.5, "truth_share_low": 0.08, "truth_chance": 0.08}
    assert not finds(at_chance)
    assert finds(at_chance | {"truth_auc_low": 0.51})
    assert finds(at_chance | {"truth_share_low": 0.09})
    assert not finds(at_chance | {"truth_auc_low": None, "truth_share_low": None})


def test_the_sentence_names_the_best_and_who_finds_nothing() -> None:
    rows = at_one_percent(planted(("eyes",)))
    text = sentence("eyes", rows, planted(("eyes",)))
    top = rows.filter(pl.col("method") == "layer-cam", pl.col("layer") == "1").row(0, named=True)
    assert "where identity lives in 8 % of the pixels, layer-cam @ 1 finds them best" in text
    assert f"ROC AUC {top['truth_auc']:.3f}" in text and "Not better than chance" not in text
    chance = {"truth_auc": 0.5, "truth_share": 0.05}
    level = planted(("eyes",), **chance)
    none = sentence("eyes", at_one_percent(level), level)
    assert "no method is shown to find them" in none
    cam = pl.when(pl.col("method") == "grad-cam")
    flat = planted(("eyes",)).with_columns(
        cam.then(value).otherwise(name).alias(name) for name, value in chance.items()
    )
    assert "Not better than chance at any layer tried: grad-cam." in sentence(
        "eyes", at_one_percent(flat), flat
    )


def test_who_is_not_told_from_the_next_is_not_the_best() -> None:
    draw = np.random.default_rng(0)
    results = planted(("eyes",)).with_columns(
        pl.when(pl.col("source").is_null())
        .then("truth_auc")
        .otherwise(pl.Series(draw.normal(0.8, 0.05, 5 * 2 * len(PEOPLE))))
        .alias("truth_auc")
    )
    text = sentence("eyes", at_one_percent(results), results)
    assert "best:" not in text and "finds them, and so may" in text


def test_agreement_is_scipys_spearman_of_the_means_over_people() -> None:
    results = planted(("eyes",)).filter(pl.col("budget") == 0.01)
    rows = at_one_percent(results).filter(pl.col("layer").is_not_null())
    rho = agreement(results, rows)
    lost = (rows["clean_rate"] - rows["rate"]).to_list()
    assert rho.value == pytest.approx(spearmanr(rows["truth_auc"], lost).statistic)
    # Made up so that what finds the part better takes less.
    assert rho.value < 0 and rho.low <= rho.value <= rho.high
    assert np.isnan(agreement(results, rows.head(1)).value)


def test_spread_takes_both_ends() -> None:
    assert spread(list("abcdefg"), 3) == ["a", "d", "g"] and spread(["a"], 3) == ["a"]


# ------------------------------------------------------------------------------------- the page


def test_the_first_table_of_the_page_is_the_truth(run: Path) -> None:
    page = Page(run / "report" / "index.html")
    ids = [section["id"] for section in page.all("section")]
    assert ids[:2] == ["leaderboard", "truth"]
    first = page.source.index("<table")
    assert page.source.index('id="truth"') < first < page.source.index('id="audit"')
    assert "In world 'marks', where identity lives in 2\N{NO-BREAK SPACE}% of" in page.text
    assert page.text.index("World 'marks'") < page.text.index("World 'eyes'")
    notes = [head["title"] for head in page.all("th")[:15]]
    assert "Pixels inside the planted parts against all others; chance is 0.5." in notes
    names = sorted(path.name for path in (run / "report" / "images").glob("*.png"))
    assert sum("planted" in name for name in names) == 4  # two worlds, two widths


def test_the_variants_of_a_run_share_one_page_with_all_their_records(run: Path) -> None:
    page = Page(run / "report" / "index.html")
    assert "made-eyes, made-marks" in page.text
    assert page.text.count("ab12" * 16) == 2  # the provenance of each


def test_a_planted_outline_is_drawn_over_the_maps(run: Path) -> None:
    path = min((run / "report" / "images").glob("*-planted.png"))
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    cyan = (pixels[..., 0] < 60) & (pixels[..., 1] > 200) & (pixels[..., 2] > 220)
    assert cyan.sum() > 200


# ------------------------------------------------------------------------------------- the note


def test_every_figure_of_the_note_is_computed(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs" / "note.md"
    assert write_note(run, out) == out
    text = out.read_text()
    results = planted()
    rows = at_one_percent(results)
    best = rows.filter(pl.col("method") == "layer-cam", pl.col("layer") == "1")
    line = next(line for line in text.splitlines() if line.startswith("| layer-cam @ 1 |"))
    by_world = {name: part["truth_auc"][0] for name, part in worlds(best)}
    assert list(by_world) == ["marks", "eyes"]
    for value in (*by_world.values(), np.mean(list(by_world.values()))):
        assert f"{value:.3f}" in line
    assert "above chance in every one of them: layer-cam, grad-cam; in none: no method" in text
    assert "Largest ROC AUC: grad-cam at N, layer-cam at 1." in text
    for picture in re.findall(r"\]\((images/\S+)\)", text):
        assert (out.parent / picture).is_file()
    assert text.count("images/") == 3  # methods, and maps of two worlds


def test_budgets_are_given_between_chance_and_the_best_mask(run: Path, tmp_path: Path) -> None:
    text = write_note(run, tmp_path / "note.md").read_text()
    rows = planted().filter(
        pl.col("method") == "layer-cam", pl.col("layer") == "1", pl.col("budget") == 0.05
    )
    means = rows.group_by("faces").agg(pl.col("^truth_.*$").mean())
    gained = (means["truth_share"] - means["truth_chance"]) / (
        means["truth_share_best"] - means["truth_chance"]
    )
    part = text[text.index("## Budgets") :]
    line = next(line for line in part.splitlines() if line.startswith("| layer-cam"))
    wanted = [float(np.mean(values.to_list())) for values in (gained, means["truth_share"])]
    assert "{:.3f} ({:.3f})".format(*wanted) in line.split("|")[3]


def test_people_without_a_map_are_counted_in_the_note(tmp_path: Path) -> None:
    flat = (pl.col("method") == "grad-cam") & (pl.col("layer") == "N")
    nobody = flat & (pl.col("identity") == PEOPLE[0])
    results = planted(("eyes",)).with_columns(
        degenerate=nobody,
        maps_degenerate=pl.when(nobody).then(12).otherwise(0),
        truth_auc=pl.when(nobody).then(0.5).otherwise("truth_auc"),
    )
    run = write_run(tmp_path / "run", results, PROVENANCE | {"identities": 6})
    text = write_note(run, tmp_path / "note.md").read_text()
    part = text[text.index("## Degenerate") :]
    assert "Of 4 configurations (objective cosine, or none) 1 have pair maps that are flat" in part
    assert f"| grad-cam @ N | eyes | 16.7 % | 16.7 % | {_auc(results, flat):.3f} |" in part
    assert f"| {_auc(results, flat & ~nobody):.3f} |" in part


def _auc(results: pl.DataFrame, which: pl.Expr) -> float:
    rows = results.filter(which & (pl.col("budget") == 0.01))
    return float(np.mean(rows["truth_auc"].to_list()))


def test_a_world_with_maps_from_several_recognizers_has_no_note(tmp_path: Path) -> None:
    both = [planted(("eyes",)), planted(("eyes",), source="net-2", target="net-2")]
    run = write_run(tmp_path / "run", pl.concat(both), json.loads(json.dumps(PROVENANCE)))
    with pytest.raises(UserError, match=r"must be from one recognizer\. Got 2 in 'eyes'"):
        write_note(run, tmp_path / "note.md")


def test_a_method_with_several_options_is_told_apart_by_what_is_not_its_default() -> None:
    row = {"method": "occlusion-gradient", "layer": None, "objective": None}
    assert _label({**row, "options": "steps=1"}) == "occlusion-gradient"
    assert _label({**row, "options": "steps=25"}) == "occlusion-gradient, steps=25"
    cam = {"method": "grad-cam++", "layer": "N", "objective": "l1", "options": "variant=epsilon"}
    assert _label(cam) == "grad-cam++ @ N, l1, variant=epsilon"
    unknown = {"method": "elsewhere", "layer": "1", "objective": "cosine", "options": "a=1"}
    assert _label(unknown) == "elsewhere @ 1, a=1"


def of_method(name: str) -> pl.Expr:
    return pl.col("method") == name


@pytest.mark.parametrize(
    ("results", "section", "line"),
    [
        (
            planted().filter(~(of_method("grad-cam") & (pl.col("layer") == "1"))),
            "## Layers",
            f"| grad-cam | {NOTHING} | 0.5",
        ),
        (
            pl.concat(
                [
                    planted(),
                    planted().filter(of_method("grad-cam")).with_columns(objective=pl.lit("l1")),
                ]
            ),
            "## Losses",
            f"| {NOTHING} |",
        ),
        (
            planted().filter(~(of_method("layer-cam") & (pl.col("budget") == 0.05))),
            "## Budgets",
            f" | {NOTHING} |",
        ),
    ],
    ids=["layers", "objectives", "budgets"],
)
def test_methods_need_not_have_the_same_layers_objectives_and_budgets(
    tmp_path: Path, results: pl.DataFrame, section: str, line: str
) -> None:
    run = write_run(tmp_path / "run", results, PROVENANCE | {"identities": 6})
    text = write_note(run, tmp_path / "note.md").read_text()
    assert line in text.split(section)[1].split("## ")[0]


def test_methods_without_objectives_have_none_named(tmp_path: Path) -> None:
    results = planted().with_columns(objective=pl.lit(None, pl.String))
    run = write_run(tmp_path / "run", results, PROVENANCE | {"identities": 6})
    opening = write_note(run, tmp_path / "note.md").read_text().split("Layers ")[1].split(".")[0]
    assert "objectives" not in opening and "; budgets" in opening
