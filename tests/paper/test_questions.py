"""The paper's questions answered from made-up stages whose answers are known."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from facefocus.paper.questions import results_document
from tests.paper.paper_rows import NETS, PEOPLE, stages

#: Grad-CAM++'s last layer has no map for half of the people.
FLAT = (
    (pl.col("experiment") == "rq2")
    & (pl.col("method") == "grad-cam++")
    & (pl.col("layer") == "N")
    & pl.col("identity").is_in(PEOPLE[:4])
)


def document(folder: Path, *parts: pl.DataFrame) -> str:
    pl.concat(parts).write_parquet(folder / "results.parquet")
    return results_document([folder])


def section(text: str, title: str) -> str:
    return text.split(f"## {title}")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def exact() -> pl.DataFrame:
    """Nothing is hidden of those without a map."""
    rate = pl.when(FLAT).then("clean_rate").otherwise("rate")
    return stages().with_columns(rate.alias("rate"), degenerate=FLAT)


@pytest.fixture(scope="module")
def text(exact: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Both rules: the percentile hides the whole face of those without a map."""
    loose = stages(policy="inclusive").with_columns(
        rate=pl.when(FLAT).then(0.0).otherwise("rate"),
        masked_share=pl.when(FLAT).then(1.0).otherwise("masked_share"),
        degenerate=FLAT,
    )
    return document(tmp_path_factory.mktemp("both"), exact, loose)


@pytest.fixture(scope="module")
def halved(exact: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Exactly k pixels alone, with maps of half the photos for some people."""
    few = exact.filter(pl.col("experiment") == "rq4", pl.col("identity").is_in(PEOPLE[:6]))
    halves = [few.with_columns(split=pl.lit(split)) for split in ("half", "heldout")]
    return document(tmp_path_factory.mktemp("halved"), exact, *halves)


def test_the_best_layer_by_each_rule_stands_beside_the_papers(text: str) -> None:
    line = next(
        line for line in section(text, "RQ2").splitlines() if line.startswith("- Grad-CAM++: ")
    )
    # N-1 takes 0.1 x 2 of the first recognizer and half of that of the second.
    assert line.startswith("- Grad-CAM++: layer N-1, rate 0.810 [")
    # Four people at 0; the others, of frailty 1.2 in the mean, lose 0.16 and 0.08 times that.
    rates = [4 * (0.96 - lost * 1.2) / 8 for lost in (0.16, 0.08)]
    assert sum(rates) / 2 == pytest.approx(0.408)
    assert " At the percentile: N, 0.408 [" in line


def test_whole_faces_explain_the_percentiles_answer(text: str) -> None:
    answer = section(text, "RQ2").strip().splitlines()[-1]
    assert answer == (
        "Cut at the percentile, 2 of these 78 sets of maps hide whole faces, most grad-cam++ @ N,"
        f" cosine on {NETS[0]}: those of 50 % of the people, and recognition is 0.384; exactly k"
        " pixels of the same maps leave 0.864 (clean 0.960)."
    )
    for stage, count in (("RQ3", 42), ("RQ4", 10)):
        answer = f"Cut at the percentile, none of these {count} sets of maps hides anybody's whole"
        assert answer in section(text, stage)


def test_the_order_of_methods_by_each_rule(text: str) -> None:
    line = next(line for line in section(text, "RQ4").splitlines() if "(Table 12)" in line)
    order = "Grad-CAM++, Grad-CAM, S-RISE, CorrRISE, LayerCAM"
    assert f"(Table 12): {order}; the paper's order ({order})." in line
    assert line.endswith(f"At the percentile: {order}.")


def test_the_papers_fills_stand_beside_ours(text: str) -> None:
    answer = "Table 4: Grad-CAM 0.908 to 0.911, Grad-CAM++ 0.767 to 0.771"
    assert answer in section(text, "RQ1")


def test_without_the_percentile_nothing_is_said_of_it(halved: str) -> None:
    assert "At the percentile" not in halved
    assert "Not asked: whether these maps, cut at the percentile," in section(halved, "RQ2")


def test_a_question_that_no_run_asks_is_not_answered(exact: pl.DataFrame, tmp_path: Path) -> None:
    text = document(tmp_path, exact.filter(pl.col("experiment") == "rq1"))
    for question in ("RQ2", "RQ3"):
        assert section(text, question).splitlines()[2] == "Not asked by these runs."


def test_held_out_drops_stand_beside_those_of_the_same_maps_own_half(halved: str) -> None:
    lines = section(halved, "Held-out photos").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| configuration"))
    titles = [cell.strip() for cell in lines[start].split("|")]
    line = next(line for line in lines if line.startswith(f"| s-rise on {NETS[0]}"))
    cells = dict(zip(titles, (cell.strip() for cell in line.split("|")), strict=True))
    assert cells["drop"].startswith("+0.030 [")
    # The first six are of frailty 0.9 in the mean; their halves' rows are made the same.
    assert cells["maps from half the photos, on that half"].startswith("+0.027 [")
    assert cells["the same maps, on the other half"].startswith("+0.027 [")
