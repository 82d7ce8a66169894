"""The paper's tables: what is shipped agrees with itself, and ours are the means they say."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from facefocus.analysis.summary import INCLUSIVE
from facefocus.core.errors import UserError
from facefocus.core.text import percent
from facefocus.paper import paper_figures, paper_formats
from facefocus.paper import paper_tables as paper
from facefocus.paper.leaderboard import boards
from facefocus.paper.paper_formats import table_block
from facefocus.paper.paper_tables import PaperTable, TableRow, paper_table
from facefocus.paper.published import MODELS, published
from facefocus.report.html_renderer import html_document
from facefocus.report.latex_renderer import latex_document, latex_lines
from facefocus.report.markdown_renderer import markdown_document
from facefocus.saliency.objectives import parse_objective
from tests.paper.paper_rows import (
    CAMS,
    CLEAN,
    LAYERS,
    LOSSES,
    PEOPLE,
    frailty,
    stages,
)

PAPER = Path(os.environ.get("FACEFOCUS_DATA", "../shared/data")) / "../paper/faces-in-focus.txt"


@pytest.fixture(scope="module")
def results() -> pl.DataFrame:
    return stages()


def line(table: PaperTable, *labels: str) -> TableRow:
    return next(row for row in table.rows if row.labels == labels)


def figures(table: PaperTable, *labels: str) -> list[float | None]:
    return [cell.measured.value if cell.measured else None for cell in line(table, *labels).cells]


# --- as shipped -----------------------------------------------------------------------------------


def printed(number: int, *labels: str) -> list[float]:
    return [cell for cell in published()[number].rows[labels] if isinstance(cell, float)]


def test_every_row_has_a_cell_in_every_column() -> None:
    assert list(published()) == list(range(2, 16))
    for table in published().values():
        assert all(len(cells) == len(table.columns) for cells in table.rows.values())


def test_what_two_tables_print_is_the_same_in_both() -> None:
    for model in ("IR50_I", "FN_V"):
        two = published()[2]
        three = [two.cell((model,), column) for column in published()[3].columns]
        assert printed(3, model, "Grad-CAM") == three
    for technique in CAMS_BY_NAME:
        first = printed(7, technique, "Recognition")[0]
        assert printed(8, technique, "Recognition")[0] == first
        position = published()[9].columns.index(technique)
        losses = [float(cells[position]) for cells in published()[9].rows.values()]
        assert printed(10, technique, "Recognition")[0] == min(losses)
        assert float(published()[9].rows["Cosine", "-"][position]) == first
    for labels in published()[12].rows:
        same = printed(12, *labels)[0]
        assert printed(13, *labels)[0] == printed(15, *labels)[0] == same


CAMS_BY_NAME = ("LayerCAM", "Grad-CAM", "Grad-CAM++")


def test_printed_averages_are_those_of_the_printed_figures() -> None:
    two, four = published()[2], published()[4]
    position = two.columns.index("1")
    mean = np.mean([float(cells[position]) for cells in two.rows.values()])
    assert round(float(mean), 3) == four.cell(("Grad-CAM",), "Black") == 0.91
    grid = np.array(list(published()[14].rows.values()), float)
    own, others = grid.trace() / 7, (grid.sum() - grid.trace()) / 42
    # Table 12's figure is none of the plain averages, but the mean of two: its note says so.
    assert [round(x, 3) for x in (grid.mean(), others, own)] == [0.380, 0.382, 0.367]
    assert round((own + others) / 2, 3) == published()[12].cell(("Grad-CAM++",), "CPLFW")


def test_notes_of_contradictions_quote_the_tables() -> None:
    assert (printed(4, "Grad-CAM")[-1], printed(4, "Grad-CAM++")[-1]) == (0.910, 0.771)
    seven = published()[7]
    assert seven.rows["Grad-CAM", "Layer"][0] == "N" and seven.rows["Grad-CAM++", "Layer"][1] == "N"
    assert printed(7, "Grad-CAM", "Recognition")[0] == 0.929
    assert printed(7, "Grad-CAM++", "Recognition")[1] == 0.826
    assert printed(8, "LayerCAM", "Recognition")[1:] == [0.836, 0.804]
    assert printed(10, "LayerCAM", "Recognition")[1:] == [0.869, 0.807]


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper's text is not here")
def test_every_figure_stands_in_the_papers_text() -> None:
    written: dict[int, list[str]] = {}
    number = 0
    for text in PAPER.read_text(encoding="utf-8").splitlines():
        if start := re.match(r"Table (\d+)\.", text):
            number = int(start[1])
        elif "\t" in text:
            written.setdefault(number, []).extend(re.findall(r"(?<![\w.<])[01]\.\d{3}(?!\d)", text))
    for number, table in published().items():
        shipped = [f"{c:.3f}" for row in table.rows.values() for c in row if isinstance(c, float)]
        assert shipped == written[number], number


# --- ours -----------------------------------------------------------------------------------------


def test_table_2_has_the_clean_rate_and_every_budget(results: pl.DataFrame) -> None:
    table = paper_table(results, 2)
    drops = [0, 0.5, 1, 2, 3, 5]
    assert figures(table, "mine") == pytest.approx([CLEAN - 0.05 * share for share in drops])
    assert figures(table, "FN_V") == pytest.approx([CLEAN - 0.025 * share for share in drops])
    assert figures(table, "IR100") == [None] * 6
    assert [row.labels[0] for row in table.rows] == [*MODELS, "mine"]
    assert line(table, "IR100").cells[1].printed == 0.975


def test_a_recognizer_of_the_paper_is_known_by_the_zoos_name(results: pl.DataFrame) -> None:
    cell = line(paper_table(results, 3), "FN_V", "Grad-CAM++").cells[1]
    assert cell.measured is not None
    assert cell.measured.value == pytest.approx(CLEAN - 0.1 * 0.5)
    assert cell.printed == 0.549


def test_averages_are_over_recognizers_with_their_own_maps(results: pl.DataFrame) -> None:
    # The second recognizer loses half of what the first does: the mean is three quarters.
    table = paper_table(results, 4)
    assert figures(table, "S-RISE") == pytest.approx(
        [CLEAN - 0.03 * 0.75 * fill for fill in (1.1, 1.2, 0.1, 0.9, 1.0)]
    )
    assert "2 recognizers" in " ".join(table.notes)


def test_intervals_are_those_of_scipys_t(results: pl.DataFrame) -> None:
    cell = line(paper_table(results, 2), "mine").cells[2]
    rates = np.array([CLEAN - 0.05 * frailty(index) for index in range(len(PEOPLE))])
    interval = stats.t.interval(0.95, len(rates) - 1, loc=rates.mean(), scale=stats.sem(rates))
    assert cell.measured is not None
    assert (cell.measured.low, cell.measured.high) == pytest.approx(interval, abs=3e-4)


def test_cosine_by_layer_and_group(results: pl.DataFrame) -> None:
    assert figures(paper_table(results, 5), "mine", "Grad-CAM") == pytest.approx(
        [0.6 - 0.05 * LAYERS[layer] for layer in ("N/4", "N/2", "3N/4", "N-1")]
    )
    assert figures(paper_table(results, 6), "mine", "LayerCAM") == pytest.approx(
        [0.6 - 0.01 * LAYERS[layer] for layer in ("input", "middle", "output", "all")]
    )


def test_the_three_best_layers_come_in_order(results: pl.DataFrame) -> None:
    table = paper_table(results, 7)
    words = [cell.word for cell in line(table, "Grad-CAM", "Layer").cells]
    assert words == sorted(LAYERS, key=lambda layer: -LAYERS[layer])[:3] == ["N-1", "N", "output"]
    assert figures(table, "Grad-CAM", "Recognition") == pytest.approx(
        [CLEAN - 0.05 * 0.75 * more for more in (2.0, 1.6, 1.5)]
    )
    bold = [cell.bold for cell in line(table, "Grad-CAM", "Recognition").cells]
    assert bold == [True, False, False]


def test_losses_and_the_best_of_them(results: pl.DataFrame) -> None:
    table = paper_table(results, 9)
    for labels, loss in {("L1", "-"): "l1", ("ArcFace", "0.2"): "arcface(0.2)"}.items():
        drops = [drop * 0.75 * LOSSES[loss] for drop in CAMS.values()]
        assert figures(table, *labels) == pytest.approx([CLEAN - drop for drop in drops])
    bold = [[cell.bold for cell in row.cells] for row in table.rows]
    assert [sum(column) for column in zip(*bold, strict=True)] == [1, 1, 1]
    assert all(bold[5])
    ten = paper_table(results, 10)
    assert [cell.word for cell in line(ten, "LayerCAM", "Loss").cells] == [
        "arcface(0.2)",
        None,
        None,
    ]


def test_lowest_of_all_losses_has_further_recognizers_as_columns(results: pl.DataFrame) -> None:
    table = paper_table(results, 11)
    assert table.columns == (*published()[11].columns, "mine")
    assert figures(table, "LFW")[-1] == pytest.approx(CLEAN - 0.1 * 1.7)
    assert line(table, "LFW").cells[-1].bold
    assert figures(table, "CPLFW") == [None] * 8


def test_own_and_other_recognizers_maps_count_half_each(results: pl.DataFrame) -> None:
    # Own maps: 3/4 of the drop in the mean; other recognizers' a third of that: the half of both.
    mean = 0.75 * (1 + 1 / 3) / 2
    table = paper_table(results, 12)
    assert figures(table, "S-RISE") == [pytest.approx(CLEAN - 0.03 * mean), None, None]
    fifteen = figures(paper_table(results, 15), "S-RISE")
    assert fifteen == pytest.approx([CLEAN - 0.03 * mean * f for f in (1.0, 1.1, 0.9, 1.2)])


def test_transfer_is_source_by_target_and_says_which_faces(results: pl.DataFrame) -> None:
    table = paper_table(results, 14)
    row = dict(zip(table.columns, line(table, "FN_V").cells, strict=True))
    assert row["mine"].measured is not None and row["FN_V"].measured is not None
    assert row["mine"].measured.value == pytest.approx(CLEAN - 0.1 / 3)
    assert row["FN_V"].measured.value == pytest.approx(CLEAN - 0.1 * 0.5)
    assert row["FN_V"].printed == 0.051 and row["FN_V"].printed_bold and not row["FN_V"].bold
    assert "Our faces are LFW; the paper's are CPLFW." in table.notes


def test_table_13_is_scipys_tests_and_statsmodels_correction(results: pl.DataFrame) -> None:
    # Break the proportion of drops, so that the tests of methods differ.
    odd = results.with_columns(
        rate=pl.when(pl.col("method") == "s-rise", pl.col("identity") < "p04")
        .then(pl.col("clean_rate") + 0.01)
        .otherwise("rate")
    )
    table = paper_table(odd, 13)
    rows = odd.filter(pl.col("experiment") == "rq4", pl.col("fill") == "black")
    tests = {}
    for name, method in (("Grad-CAM++", "grad-cam++"), ("S-RISE", "s-rise")):
        own = rows.filter(pl.col("method") == method)
        halves = own.group_by("identity", pl.col("source") == pl.col("target")).agg(
            (pl.col("clean_rate") - pl.col("rate")).mean().alias("drop")
        )
        tests[name] = halves.group_by("identity").agg(pl.col("drop").mean())["drop"].to_numpy()
    drops = tests["S-RISE"]
    cells = dict(zip(table.columns, line(table, "S-RISE").cells, strict=True))
    assert cells["Cohen d"].word == f"{drops.mean() / drops.std(ddof=1):.3f}"
    assert cells["Cohen d"].printed == 0.130
    p = [stats.ttest_1samp(tests["Grad-CAM++"], 0).pvalue] * 4 + [
        stats.ttest_1samp(drops, 0).pvalue
    ]
    assert cells["p-value (Holm)"].word == f"{multipletests(p, method='holm')[1][-1]:.3f}"


def test_a_table_that_no_run_can_fill_says_so(results: pl.DataFrame) -> None:
    table = paper_table(results.filter(pl.col("method") == "s-rise"), 9)
    assert all(cell.missing for row in table.rows for cell in row.cells)
    assert "no figure of this table" in " ".join(table.notes)


def test_audit_of_a_row_is_that_of_its_cells(results: pl.DataFrame) -> None:
    whole = results.with_columns(
        masked_share=pl.when(pl.col("identity") == "p00").then(1.0).otherwise("masked_share"),
        degenerate=pl.col("identity") == "p00",
    )
    audit = line(paper_table(whole, 15), "LayerCAM").audit
    assert audit is not None
    assert audit.degenerate == pytest.approx(1 / 8)
    assert audit.area_mean == pytest.approx((1.0 + 7 * 0.01) / 8)
    assert (audit.area_max, audit.unaffected, audit.identities) == (1.0, 0.0, 8)


def test_inclusive_tables_carry_their_warning_in_every_format() -> None:
    both = stages(policy="inclusive")
    with pytest.raises(UserError, match="on_degenerate = 'none'"):
        paper_table(both, 2)
    table = paper_table(both, 2, policy="inclusive")
    assert table.warnings == (INCLUSIVE,)
    for form in paper_formats.FORMATS.values():
        shown = form([table]).replace(r"\textgreater{}", ">").replace("&gt;", ">")
        assert INCLUSIVE.split(":")[0].split(" takes")[1] in shown


# --- formats --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(results: pl.DataFrame) -> list[PaperTable]:
    return [paper_table(results, number) for number in published()]


def test_csv_has_a_line_a_cell_with_full_precision(everything: list[PaperTable]) -> None:
    tables = everything
    lines = list(csv.DictReader(io.StringIO(paper_formats.to_csv(tables))))
    assert len(lines) == sum(len(row.cells) for table in tables for row in table.rows)
    mine = next(record for record in lines if (record["table"], record["row"]) == ("2", "mine"))
    assert float(mine["value"]) == pytest.approx(CLEAN, abs=1e-12)
    assert float(next(o for o in lines if o["row"] == "FN_C")["published"]) == 0.949


def test_markdown_rows_have_as_many_cells_as_headings(everything: list[PaperTable]) -> None:
    for table in everything:
        rows = [
            written
            for written in markdown_document([table_block(table)]).splitlines()
            if written[:1] == "|"
        ]
        assert len({len(re.findall(r"(?<!\\)\|", written)) for written in rows}) == 1
        assert len(rows) == len(table.rows) + 2


def test_names_cannot_break_html_or_latex(results: pl.DataFrame) -> None:
    evil = r"<script>alert(1)</script>&\input{x}_%$#"
    named = results.with_columns(pl.col("source", "target").replace({"mine": evil}))
    block = table_block(paper_table(named, 2))
    page = html_document([block], "tables")
    assert "<script>" not in page
    latex = latex_document([block])
    assert r"\input" not in latex and r"\textbackslash{}input\{x\}\_\%\$\#" in latex

    class Balanced(HTMLParser):
        depth = 0

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.depth += tag != "meta"

        def handle_endtag(self, tag: str) -> None:
            self.depth -= 1

    parser = Balanced()
    parser.feed(page)
    assert parser.depth == 0


def test_latex_rows_have_as_many_cells_as_columns(everything: list[PaperTable]) -> None:
    for table in everything:
        latex = "\n".join(latex_lines(table_block(table)))
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", latex)
        assert columns is not None
        body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert len(body) == len(table.rows)
        for row in body:
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns[1]) - 1 and row.endswith(r"\\")
        assert latex.count("{") == latex.count("}")
        assert rf"\setcounter{{table}}{{{table.number - 1}}}" in latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
def test_latex_compiles(everything: list[PaperTable], tmp_path: Path) -> None:
    (tmp_path / "all.tex").write_text(latex_document([table_block(table) for table in everything]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("table", "form", "message"),
    [("16", "text", "2 to 15, all or leaderboard. Got '16'"), ("leaderbord", "text", "leaderboard"),
     ("2", "latx", "Did you mean 'latex'")],
)  # fmt: skip
def test_what_there_is_not_is_named(
    results: pl.DataFrame, table: str, form: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        paper_formats.render(results, table, form)


def test_leaderboard_is_in_the_order_of_the_effects(results: pl.DataFrame) -> None:
    text = paper_formats.render(results, "leaderboard", "markdown")
    own = text.split("**Leaderboard")[1]
    positions = [own.index(f"| {name} ") for name in
              ("grad-cam++", "grad-cam", "s-rise", "corr-rise", "layer-cam")]  # fmt: skip
    assert positions == sorted(positions)
    assert "own maps" in own and "100 %" in own


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [11.0, 3.6])
def test_losses_draw_ours_and_the_papers(everything: list[PaperTable], width: float) -> None:
    table = everything[9 - 2]
    figure = paper_figures.losses(table, width=width)
    assert len(figure.axes) == 3
    for position, axis in enumerate(figure.axes):
        drawn = [np.asarray(line.get_xdata(), float) for line in axis.lines]
        points = [float(xs[0]) for xs in drawn if len(xs) == 1]
        cells = [row.cells[position] for row in table.rows]
        wanted = [cell.measured.value for cell in cells if cell.measured]
        wanted += [cell.printed for cell in cells if isinstance(cell.printed, float)]
        assert len(points) == 14 and sorted(points) == pytest.approx(sorted(wanted))


def test_ranks_are_written_into_their_cells(results: pl.DataFrame) -> None:
    board = boards(results)[0]
    axis = paper_figures.rank_shares(board, width=11.0).axes[0]
    written = [percent(share, 0) for share in board.ranks.shares.ravel() if share >= 0.005]
    assert [text.get_text() for text in axis.texts] == written
    assert [label.get_text() for label in axis.get_yticklabels()] == list(board.methods)
    assert np.allclose(board.ranks.shares.sum(axis=0), 1)


def test_rows_of_another_comparison_have_a_board_of_their_own(results: pl.DataFrame) -> None:
    other = results.with_columns(compare=pl.lit("both"), rate=pl.lit(0.0))
    together = boards(pl.concat([results, other]))
    alone = boards(results)
    assert [board.title for board in together] == [
        *(board.title for board in alone), *(f"{board.title}, compare = both" for board in alone)
    ]  # fmt: skip
    for board, same in zip(together, alone, strict=False):
        assert (board.rate, board.random) == (same.rate, same.random)


def test_the_losses_of_table_9_are_in_the_form_that_experiments_have() -> None:
    losses = list(paper.LOSSES.values())
    assert [parse_objective(loss).name for loss in losses] == losses
