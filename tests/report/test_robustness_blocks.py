"""What a run says on nuisances and repair: no more than its intervals support."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from facefocus.analysis.summary import summarize
from facefocus.analysis.surviving_share import surviving_shares
from facefocus.benchmark.stages.robustness import ROBUSTNESS
from facefocus.cli.console import print_summary
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.report.page import write_report
from facefocus.report.report_data import Report
from facefocus.report.robustness_blocks import robustness, robustness_answer
from facefocus.report.run_result import Results
from tests.report.fabricated import robust, robust_table, row, table


def scores(clean_under: float, hidden_under: float, hidden: float, count: int) -> np.ndarray:
    noise = generator(0, "test").uniform(-0.02, 0.02, (count, 4))
    means = np.array([0.97, hidden, clean_under, hidden_under])
    return np.asarray(means + noise - noise.mean(axis=0))


def made(
    count: int = 12, hidden: float = 0.05, **under: tuple[float, float]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Result rows and robustness rows of one method: clean and hidden under each nuisance."""
    parts = [
        robust(name.replace("_", "-"), scores(*values, hidden, count))
        for name, values in under.items()
    ]
    results = [
        row(identity=record["identity"], clean_rate=record["clean_rate"], rate=record["rate"])
        for record in parts[0]
    ]
    return table(results), robust_table(*parts)


def answer_of(results: pl.DataFrame, rows: pl.DataFrame) -> list[str]:
    return robustness_answer(results, summarize(results), surviving_shares(rows))


def test_a_mask_that_repair_undoes_is_said_so_with_the_worst_first() -> None:
    sentences = answer_of(
        *made(median_3=(0.96, 0.64), inpaint_told=(0.97, 0.95), jpeg_50=(0.97, 0.06))
    )
    assert len(sentences) == 1
    assert sentences[0].startswith(
        "Repair undoes it: who is hidden by grad-cam (layer N) from net (1 % of the pixels, fill"
        " black (artefact)) is recognized again. Recognition is 0.970 clean and 0.050"
        " hidden; hidden, it is 0.950 after inpaint-told (0.022 ["
    )
    assert "0.640 after median-3 (0.348 [" in sentences[0]
    assert "jpeg" not in sentences[0]


def test_a_nuisance_that_is_no_repair_is_not_called_repair() -> None:
    (sentence,) = answer_of(*made(shift_2=(0.96, 0.7), median_3=(0.96, 0.05)))
    assert sentence.startswith("A nuisance undoes it: who") and "0.700 after shift-2" in sentence


def test_what_holds_is_said_with_what_survives_least() -> None:
    (sentence,) = answer_of(*made(jpeg_50=(0.97, 0.06), half=(0.96, 0.2)))
    assert sentence.startswith("It holds: hidden by grad-cam")
    assert "each of the 2 nuisances" in sentence and "least survives half (0.826 [" in sentence


def test_a_share_about_one_half_supports_neither() -> None:
    results, rows = made(half=(0.97, 0.51))
    spread = generator(1, "test").uniform(-0.3, 0.3, rows.height)
    rows = rows.with_columns(nuisance_rate=pl.col("nuisance_rate") + spread - spread.mean())
    (sentence,) = answer_of(results, rows)
    assert sentence.startswith("Not shown to hold: hidden by grad-cam")


def test_without_a_drop_or_with_few_people_nothing_is_claimed() -> None:
    (none,) = answer_of(*made(hidden=0.97, median_3=(0.97, 0.97)))
    assert none.startswith("Nothing to hold: hiding by grad-cam") and "Repair" not in none
    (few,) = answer_of(*made(count=4, median_3=(0.97, 0.9)))
    assert few.startswith("Not known whether it holds") and few.endswith("no interval.")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    results, rows = made(median_3=(0.96, 0.64), jpeg_50=(0.97, 0.06))
    results.write_parquet(tmp_path / "results.parquet")
    rows.write_parquet(tmp_path / ROBUSTNESS)
    return tmp_path


def test_the_page_says_it_above_its_views_and_has_one(run: Path) -> None:
    page = write_report(run).read_text()
    assert "Does it hold?" in page
    assert page.index("Repair undoes it") < page.index("<main>")
    results = pl.read_parquet(run / "results.parquet")
    (run / ROBUSTNESS).unlink()
    assert robustness(Report(run, results, {}, "", run)) is None


def test_the_terminal_shows_a_column_for_each_nuisance(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary(run)
    out = capsys.readouterr().out
    assert out.startswith("Repair undoes it")
    assert "median-3" in out and "0.640 (0.35)" in out and "0.060 (0.99)" in out
    (run / ROBUSTNESS).unlink()
    print_summary(run)
    assert "median-3" not in capsys.readouterr().out


def test_results_have_the_surviving_shares_as_a_table(run: Path) -> None:
    results = Results.of_run(run)
    shares = dict(results.robustness.select("nuisance", "surviving").iter_rows())
    assert shares == {
        "median-3": pytest.approx(0.32 / 0.92),
        "jpeg-50": pytest.approx(0.91 / 0.92),
    }
    with pytest.raises(UserError, match=r"Run an experiment with \[robustness\]"):
        Results(results.rows).robustness  # noqa: B018
