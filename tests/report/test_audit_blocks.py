"""The audit of runs and of matrices from files: what it finds, and what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from facefocus.analysis.audit import dependence, exactness, run_shares
from facefocus.analysis.rate_matrix import fit_matrix, read_matrix
from facefocus.core.errors import UserError
from facefocus.paper.published import shipped
from facefocus.report.audit_blocks import (
    audit_blocks,
    audit_document,
    matrix_blocks,
    meaning,
    verdict,
)
from facefocus.report.text_renderer import text_document
from tests.report.fabricated import PIXELS, row, table

PEOPLE = [f"p{number:03d}" for number in range(60)]
NETS = ("one", "two", "three")
#: Share of the people whose map is flat on each source.
FLAT = {"one": 0.1, "two": 0.3, "three": 0.5}
#: Clean recognition, and recognition of a black face, by each target.
CLEAN = {"one": 0.95, "two": 0.9, "three": 0.85}
BLACK = {"one": 0.0, "two": 0.05, "three": 0.1}


def of_run(results: pl.DataFrame) -> str:
    return text_document(audit_blocks(results, absent=True))


def rows(policy: str, **more: Any) -> list[dict[str, Any]]:
    """Grad-CAM on all pairs of recognizers; a map is flat for the first people of a source."""
    made = []
    for source in NETS:
        for target in NETS:
            for number, name in enumerate(PEOPLE):
                flat = number < FLAT[source] * len(PEOPLE)
                whole = flat and policy == "inclusive"
                share = 1.0 if whole else 0.0 if flat else 0.01
                budget = more.get("budget", 0.01)
                wobble = 0.02 * np.sin(number)
                made.append(
                    row(
                        source=source, target=target, identity=name, on_degenerate=policy,
                        clean_rate=CLEAN[target] + wobble,
                        rate=BLACK[target] if whole else CLEAN[target] + wobble,
                        degenerate=flat, maps_degenerate=12 * flat, masked_share=share,
                        masked_pixels=share * PIXELS, budget_pixels=round(budget * PIXELS), **more,
                    )
                )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def both() -> pl.DataFrame:
    return table([*rows("none"), *rows("inclusive")])


def test_the_shares_that_were_hidden_whole_are_found_and_counted(both: pl.DataFrame) -> None:
    exact, inclusive = run_shares(both)
    assert inclusive.measured == pytest.approx(tuple(FLAT.values()))
    assert inclusive.fit.share == pytest.approx(list(FLAT.values()), abs=0.005)
    assert (inclusive.fit.low < list(FLAT.values())).all()
    assert (inclusive.fit.high > list(FLAT.values())).all()
    # Faces that were hidden whole are in the run, so what recognizers do with them is known.
    assert inclusive.matrix.hidden == pytest.approx(list(BLACK.values()))
    assert "Fits" in next(iter(meaning(inclusive.matrix, inclusive.fit)))
    assert exact.measured == (0, 0, 0)
    assert exact.fit.share == pytest.approx([0, 0, 0])
    assert "too little to fit" in next(iter(meaning(exact.matrix, exact.fit)))


def test_the_same_maps_cut_both_ways_by_hand(both: pl.DataFrame) -> None:
    by_source = {cut.row["source"]: cut for cut in exactness(both)}
    assert set(by_source) == set(NETS)
    wobble = [0.02 * np.sin(number) for number in range(len(PEOPLE))]
    for name, cut in by_source.items():
        lost = [
            CLEAN[name] + wobble[number] - BLACK[name] for number in range(round(FLAT[name] * 60))
        ]
        assert cut.exact == pytest.approx(cut.clean)
        assert cut.difference.value == pytest.approx(sum(lost) / 60)
        assert cut.area == pytest.approx(FLAT[name] + 0.01 * (1 - FLAT[name]))
        assert cut.whole == pytest.approx(FLAT[name])
        assert cut.by_whole == pytest.approx(1)


def budgets(early: bool) -> pl.DataFrame:
    """A drop that is there from the start, or one that grows with the budget."""
    draw = np.random.default_rng(0)
    made = []
    for number, name in enumerate(PEOPLE):
        for budget in (0.005, 0.01, 0.05):
            drop = 0.3 * (number % 3 == 0) if early else 4 * budget * (1 + number / 60)
            for fill, tint in (("black", 0.0), ("white", 0.05), ("mean", 0.1), ("blur", 0.2)):
                more = 0.0 if early else tint
                rate = 0.95 - drop + more + draw.normal(0, 1e-4)
                made.append(
                    row(identity=name, budget=budget, fill=fill, clean_rate=0.95, rate=rate)
                )
    return table(made)


def test_a_drop_that_is_there_at_the_smallest_budget_is_pointed_out() -> None:
    tests = dependence(budgets(early=True))
    on_budget = next(test for test in tests if test.kind == "budget")
    assert on_budget.values == ("0.5 %", "1 %", "5 %")
    assert on_budget.early == pytest.approx(1, abs=0.01)
    assert on_budget.suspicious and verdict(on_budget).startswith("look: ")
    assert "look: " in of_run(budgets(early=True))


def test_a_drop_that_grows_is_not_and_the_tests_are_scipys() -> None:
    rows_ = budgets(early=False)
    tests = {test.kind: test for test in dependence(rows_)}
    assert tests["budget"].early == pytest.approx(0.1, abs=0.01)
    assert verdict(tests["budget"]).startswith("depends on the budget")
    black = rows_.filter(pl.col("fill") == "black").pivot("budget", index="identity", values="rate")
    wilcoxon = stats.wilcoxon(black["0.005"].to_numpy(), black["0.05"].to_numpy())
    # 60 untied differences: both take the normal form.
    assert tests["budget"].p == pytest.approx(wilcoxon.pvalue)
    by_fill = rows_.filter(pl.col("budget") == 0.01).pivot("fill", index="identity", values="rate")
    friedman = stats.friedmanchisquare(
        *(by_fill[name].to_numpy() for name in ("black", "white", "mean"))
    )
    assert tests["fill"].values == ("black", "white", "mean")
    assert tests["fill"].p == pytest.approx(friedman.pvalue)
    assert verdict(tests["fill"]).startswith("depends on the fill")


def test_what_was_not_run_is_said_not_guessed() -> None:
    text = of_run(table(row(identity=name) for name in PEOPLE[:3]))
    assert "no method was run from two recognizers on two" in text
    assert text.count("Not tried") == 4
    assert audit_blocks(table(row(identity=name) for name in PEOPLE[:3])) == []


def test_blocks_have_a_table_for_every_question(both: pl.DataFrame) -> None:
    tables = [text_document([block]) for block in audit_blocks(both) if block.kind == "table"]
    assert len(tables) == 2  # exact against inclusive, and the shares
    assert all("10 %" in text for text in tables)


# --- matrices from files --------------------------------------------------------------------------


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "matrix.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_with_clean_and_hidden_lines(tmp_path: Path) -> None:
    name = write(tmp_path, "model,a,b\nclean,0.9,0.8\nhidden,0.1,0\nx,0.5,0.4\ny,0.7,0.6\n\n")
    matrix = read_matrix(name)
    fit = fit_matrix(matrix)
    assert (matrix.sources, matrix.targets) == (("x", "y"), ("a", "b"))
    assert fit.share == pytest.approx([0.5, 0.25])
    text = text_document(matrix_blocks(matrix))
    assert re.search(r"x +0.500", text) and "(given)" in text


def test_the_papers_matrix_is_shipped_and_has_a_line_for_each_recognizer() -> None:
    text = text_document(audit_document(None, "table14.csv", shipped=shipped))
    line = next(line for line in text.splitlines() if "FN_V" in line and "[" in line)
    name, share, low, high, most = line.replace("[", "").replace("]", "").split()
    assert (name, share, most) == ("FN_V", "0.947", "1.000")
    assert 0.93 < float(low.strip(",")) < 0.947 < float(high) < 0.96
    assert "Fits: residuals root mean square 0.003" in text
    assert "Clean rates are not given" in text and "at most" in text


def test_a_matrix_that_masks_made_is_not_fitted(tmp_path: Path) -> None:
    # Each recognizer is hurt by its own maps alone.
    name = write(tmp_path, "m,a,b,c\na,0.3,0.9,0.9\nb,0.9,0.3,0.9\nc,0.9,0.9,0.3\n")
    matrix = read_matrix(name)
    assert next(iter(meaning(matrix, fit_matrix(matrix)))).startswith("Does not fit")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name each target recognizer once"),
        ("m,a,a\nx,0.5,0.4\n", "must name each target recognizer once"),
        ("m,a,b\nx,0.5\ny,0.2,0.3\n", "Line 'x' of .* must have 2 rates. Got 1."),
        ("m,a,b\nx,0.5,75.9\ny,0.2,0.3\n", r"column 'b' .* must be in \[0, 1\]. Got 75.9. Did you"),
        ("m,a,b\nx,0.5,much\ny,0.2,0.3\n", r"must be a number in \[0, 1\]. Got 'much'."),
        ("m,a,b\nx,0.5,nan\ny,0.2,0.3\n", r"must be in \[0, 1\]. Got nan."),
        ("m,a,b\nx,0.5,0.4\nx,0.2,0.3\n", "must name every line once. Got 'x'."),
        ("m,a,b\nx,0.5,0.4\n", "at least 2 source"),
        ("m,a,b\nx,0.5,\ny,0.2,\n", "must have a rate for 'b'. Got none."),
        ("m,a,b\nhidden,0,0\nx,0.5,0.4\n", "needs a line 'clean'"),
        ("m,a,b\nclean,0.9,\nx,0.5,0.4\ny,0.2,0.3\n", "'clean' of .* must have a rate in every"),
        ('m,a,b\nx,"0.5,0.4\n', "must have 2 rates"),
    ],
)
def test_what_is_no_matrix_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_matrix(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="Cannot read the matrix"):
        read_matrix(str(tmp_path / "x.csv"))
    with pytest.raises(UserError, match="There is no matrix"):
        read_matrix(str(tmp_path / "none.csv"))
    for run, matrix in ((None, None), (tmp_path, "table14.csv")):
        with pytest.raises(UserError, match="Name a run, or a matrix"):
            audit_document(run, matrix, shipped=shipped)


def test_budgets_however_small_are_compared() -> None:
    """Polars writes 2e-05 otherwise than Python does."""
    people = [f"p{number}" for number in range(8)]
    rows = [
        row(identity=name, budget=budget, rate=rate + 0.001 * number)
        for number, name in enumerate(people)
        for budget, rate in ((2e-5, 0.9), (5e-5, 0.8), (0.01, 0.3))
    ]
    (test,) = dependence(table(rows))
    assert test.values == ("0.002 %", "0.005 %", "1 %")
    assert test.rates == pytest.approx((0.9035, 0.8035, 0.3035))


def test_a_matrix_that_shares_nobody_is_left_out() -> None:
    rows = [
        row(identity=f"{source}{target}{number}", source=source, target=target)
        for source in "ab"
        for target in "ab"
        for number in range(6)
    ]
    assert run_shares(table(rows)) == []
    assert "with anybody in all four" in of_run(table(rows))
