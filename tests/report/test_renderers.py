"""The same blocks in every format: nothing of a name becomes markup."""

from __future__ import annotations

from facefocus.core.text import NOTHING
from facefocus.report.document import (
    Cell,
    Facts,
    Heading,
    Listing,
    Paragraph,
    Picture,
    Table,
    plain_table,
)
from facefocus.report.html_renderer import html_document
from facefocus.report.latex_renderer import latex_document
from facefocus.report.markdown_renderer import markdown_document
from facefocus.report.text_renderer import text_document

TABLE = plain_table(
    {"a": "", "b": "what b is"},
    [("x|y<b>", Cell("0.5", "[0.4, 0.6]", "0.7", bold=True)), ("z", "0.886 [0.861, 0.910]")],
    "Two_rows",
)
BLOCKS = [Heading("One & two", 1), Paragraph("50 % <i>."), Listing(["first", "second"]), TABLE]


def test_markdown_escapes_bars_and_marks_what_is_bold() -> None:
    lines = markdown_document([TABLE]).splitlines()
    assert lines[2:] == [
        "| a | b |",
        "|:---|---:|",
        "| x\\|y&lt;b&gt; | **0.5** [0.4, 0.6] (0.7) |",
        "| z | 0.886 [0.861, 0.910] |",
    ]


def test_every_block_stands_in_every_format() -> None:
    for text in (
        markdown_document(BLOCKS), html_document(BLOCKS, "t"), latex_document(BLOCKS),
        text_document(BLOCKS),
    ):  # fmt: skip
        for word in ("One", "two", "second", "0.861", "rows"):
            assert word in text
    assert "<i>" not in html_document(BLOCKS, "t") and 'title="what b is"' in html_document(
        BLOCKS, "t"
    )
    assert r"\textless{}i\textgreater{}" in latex_document(BLOCKS)
    assert "*0.5* [0.4, 0.6] (0.7)" in text_document(BLOCKS)


def test_two_columns_may_have_the_same_heading() -> None:
    assert markdown_document([plain_table(["", "n", "n"], [("r", "1", "2")])]).splitlines() == [
        "|  | n | n |", "|:---|---:|---:|", "| r | 1 | 2 |",
    ]  # fmt: skip


def test_facts_and_pictures_in_markdown() -> None:
    blocks = [Facts({"a": None, "b": {"c": "1"}}), Picture(("images/x.png", 1, 1), "an image")]
    assert markdown_document(blocks).splitlines() == [
        f"- **a**: {NOTHING}", "- **b**:", "  - **c**: 1", "", "![an image](images/x.png)",
    ]  # fmt: skip


def test_a_table_without_rows_is_a_table() -> None:
    assert isinstance(TABLE, Table) and "a" in text_document([plain_table(["a"], [])])


def test_facts_within_facts_are_indented_and_no_mapping_is_printed() -> None:
    facts = [Facts({"setting": {"any photo": "1.000", "rank-1": "0.500"}, "plain": 3})]
    assert text_document(facts).splitlines() == [
        "setting:", "  any photo: 1.000", "  rank-1: 0.500", "plain: 3",
    ]  # fmt: skip
    latex = latex_document(facts)
    assert (
        latex.count(r"\begin{itemize}") == 2 and "{'" not in latex and "any photo: 1.000" in latex
    )
