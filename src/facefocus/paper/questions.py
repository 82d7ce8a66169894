"""The paper's questions, answered from runs: a document in which no figure is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from facefocus.analysis.audit import EARLY, Dependence, dependence, exactness, run_shares
from facefocus.analysis.labels import place_label
from facefocus.analysis.rate_matrix import fit_matrix, read_matrix
from facefocus.analysis.results import finished_runs, read_runs, run_notes
from facefocus.analysis.summary import CONTROLS, GUESSING, Row, guessing, summarize
from facefocus.benchmark.result_columns import COMPETES
from facefocus.benchmark.result_slices import Slice, default_slices
from facefocus.core.errors import UserError
from facefocus.core.text import number, percent
from facefocus.paper.leaderboard import Board, board_table, boards, winner
from facefocus.paper.paper_formats import NOT_RUN, printed_text, table_block
from facefocus.paper.paper_tables import CAMS, Cell, PaperTable, paper_table
from facefocus.paper.published import MODELS, SOURCE, shipped
from facefocus.report.answer import artefact_note
from facefocus.report.audit_blocks import exactness_cells, meaning
from facefocus.report.columns import interval
from facefocus.report.document import Block, Heading, Listing, Paragraph, plain_table
from facefocus.report.markdown_renderer import markdown_document

#: Methods whose maps of a pair depend on the gradient's direction only (Protocol: objectives).
PARALLEL = {"LayerCAM", "Grad-CAM"}

#: Rates of equal maps differ by less: a pair or two of all people.
ALIKE = 0.005


def results_document(paths: Sequence[Path]) -> str:
    """The paper's four questions answered on the recognizers of some runs, as Markdown.

    Raises:
        UserError: No run is finished, or it has no rows of exactly k pixels.
    """
    results = read_runs(paths)
    tables = {number: paper_table(results, number) for number in range(2, 16)}
    loose = _loose(results)
    sections = (
        _head(results, paths),
        _rq1(results, tables),
        _rq2(results, tables, loose),
        _rq3(results, tables, loose),
        _rq4(results, tables, loose),
        _exact(results),
        _beyond(results),
        _published(),
        _limits(results),
    )
    blocks = [block for section in sections for block in section]
    appendix = [*tables.values(), *map(board_table, boards(results))]
    return markdown_document([*blocks, Heading("Tables", 2), *map(table_block, appendix)])


def _loose(results: pl.DataFrame) -> dict[int, PaperTable]:
    """The tables that choose or rank, from masks of every pixel at or above the percentile."""
    if not (results["on_degenerate"] == "inclusive").any():
        return {}
    return {number: paper_table(results, number, policy="inclusive") for number in (7, 10, 12)}


# --- what was run ---------------------------------------------------------------------------------


def _head(results: pl.DataFrame, paths: Sequence[Path]) -> Iterator[Block]:
    faces = ", ".join(results["faces"].unique(maintain_order=True))
    targets = results["target"].unique(maintain_order=True)
    yield Heading(f"Results on {faces}", 1)
    yield from (Paragraph(line) for path in paths for line in run_notes(path))
    yield from (Paragraph(f"{name}: {GUESSING}") for name in guessing(results))
    yield Paragraph(
        f"The questions of {SOURCE}, asked of other recognizers: {', '.join(targets)}. Written by"
        " `facefocus report --what questions`; the figures come from the runs and from the paper's"
        " tables as shipped, none is typed."
    )
    headings = ("run", "identities", "rows", "backend", "software", "finished")
    runs = [run for path in paths for run in finished_runs(path)]
    yield plain_table(headings, list(map(_run_cells, runs)), names=6)
    limits = results.select("target", "faces", "threshold", "threshold_rule").unique(
        maintain_order=True
    )
    words = [f"{r[0]} on {r[1]} {number(r[2])} ({r[3]})" for r in limits.rows()]
    yield Paragraph(f"Thresholds, frozen before anything is hidden: {'; '.join(words)}.")
    yield from (Paragraph(text) for text in artefact_note(results))
    yield Paragraph(
        "A rate is the share of a person's mated pairs at or above the threshold, the hidden photo"
        " against clean ones; means are over identities, with 95 % intervals."
    )


def _run_cells(run: Path) -> list[str]:
    rows = pl.scan_parquet((run / "results.parquet").read_bytes())
    count, people = rows.select(pl.len(), pl.col("identity").n_unique()).collect().row(0)
    path = run / "provenance.json"
    try:
        record: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError:
        raise UserError(f"'{path}' cannot be read.") from None
    made = [str(record.get(name, "")) for name in ("backend", "facefocus", "finished")]
    return [run.name, str(people), str(count), made[0], f"facefocus {made[1]}", made[2]]


# --- the four questions ---------------------------------------------------------------------------


def _rq1(results: pl.DataFrame, tables: dict[int, PaperTable]) -> Iterator[Block]:
    yield Heading("RQ1. How many hidden pixels lower recognition?", 2)
    tests = [test for test in dependence(results) if test.row["on_degenerate"] == "none"]
    budgets = [test for test in tests if test.kind == "budget"]
    if not budgets:
        yield Paragraph("Not asked by these runs.")
        return
    kept = [budget for budget in budgets if budget.suspicious]
    worst = max(budgets, key=lambda test: test.drop)
    yield Paragraph(
        f"At {worst.values[-1]} the largest drop with own maps is {number(worst.drop)}"
        f" ({_where(worst.row)}: clean {number(worst.clean)}, {_rates(worst)}). Of"
        f" {len(budgets)} configurations {sum(test.p_holm < 0.05 for test in budgets)} depend on"
        f" the budget (Wilcoxon, Holm-corrected), and {len(kept)} have {percent(EARLY, 0)} or more"
        f" of their drop at {worst.values[0]} already."
    )
    yield Paragraph(
        "The paper's Grad-CAM has nearly all of its drop at the smallest budget (Table 2, FN_V:"
        f" {_printed(tables[2], 'FN_V', '0')} clean, {_printed(tables[2], 'FN_V', '0.5')} at 0.5 %,"
        f" {_printed(tables[2], 'FN_V', '5')} at 5 %). "
        + (
            "With exactly k pixels no configuration here does so."
            if not kept
            else f"Here these do so: {'; '.join(_where(test.row) for test in kept)}."
        )
    )
    fills = [test for test in tests if test.kind == "fill"]
    if fills:
        widest = max(fills, key=lambda test: test.difference.value)
        yield Paragraph(
            f"Fills: {sum(fill.p_holm < 0.05 for fill in fills)} of {len(fills)} configurations"
            " depend on the fill, blur aside (Friedman, Holm-corrected); the means differ by up to"
            f" {number(widest.difference.value)} ({_where(widest.row)}: {_rates(widest)})."
            f" {_printed_fills(tables[4])}"
        )
    yield Paragraph(_whole_faces(results, "rq1"))


def _printed_fills(table: PaperTable) -> str:
    """How far the fills of the paper's Table 4 are apart for the techniques that drop most."""
    parts = []
    for row in table.rows:
        printed = [
            cell.printed
            for name, cell in zip(table.columns, row.cells, strict=True)
            if name != "Blur" and isinstance(cell.printed, float)
        ]
        if row.labels[0] in ("Grad-CAM", "Grad-CAM++") and printed:
            parts.append(f"{row.labels[0]} {number(min(printed))} to {number(max(printed))}")
    return (
        f"The paper finds next to none (Table 4: {', '.join(parts)}); a face that is hidden whole"
        " is not recognized with any fill."
    )


def _whole_faces(results: pl.DataFrame, stage: str) -> str:
    """Whether the percentile's rule hid whole faces in a stage: the paper's drops look like it."""
    rows = results.filter(pl.col("experiment") == stage)
    compared = [] if rows.is_empty() else exactness(rows)
    if not compared:
        return "Not asked: whether these maps, cut at the percentile, hide whole faces."
    hidden = [result for result in compared if result.whole]
    if not hidden:
        return (
            f"Cut at the percentile, none of these {len(compared)} sets of maps hides anybody's"
            " whole face. The paper's largest drops look like whole faces (see its Table 14 below);"
            " here there are none for such drops to come from."
        )
    most = max(hidden, key=lambda result: result.whole)
    return (
        f"Cut at the percentile, {len(hidden)} of these {len(compared)} sets of maps"
        f" {'hides whole faces,' if len(hidden) == 1 else 'hide whole faces, most'}"
        f" {_where(most.row)}: those of {percent(most.whole)} of the people, and recognition"
        f" is {number(most.inclusive)}; exactly k pixels of the same maps leave"
        f" {number(most.exact)} (clean {number(most.clean)})."
    )


def _rates(test: Dependence) -> str:
    return ", ".join(f"{v} {number(r)}" for v, r in zip(test.values, test.rates, strict=True))


def _where(row: Row) -> str:
    return f"{place_label(row, ('objective',))} on {row['target']}"


def _printed(table: PaperTable, model: str, column: str) -> str:
    row = next(row for row in table.rows if row.labels[0] == model)
    return printed_text(row.cells[table.columns.index(column)].printed)


def _rq2(
    results: pl.DataFrame, tables: dict[int, PaperTable], loose: dict[int, PaperTable]
) -> Iterator[Block]:
    yield Heading("RQ2. Which layers?", 2)
    if not any(row.cells[1].word for row in tables[7].rows):
        yield Paragraph("Not asked by these runs.")
        return
    yield Listing(list(_bests(tables[7], loose.get(7), "layer", "Layer")))
    yield Paragraph(_whole_faces(results, "rq2"))


def _bests(table: PaperTable, loose: PaperTable | None, what: str, label: str) -> Iterator[str]:
    """Sentences on the first column of Table 7 or 10: ours beside the paper's."""
    for technique in CAMS:
        rate, word = _first(table, technique, label)
        if word.word is None:
            yield f"{technique}: not run."
            continue
        same = "the same as" if word.word == word.printed else "not"
        yield (
            f"{technique}: {what} {word.word}, rate {_figure(rate)}; {same} the paper's"
            f" {word.printed} ({printed_text(rate.printed)})."
            + _by_percentile(loose, technique, label)
        )


def _first(table: PaperTable, technique: str, label: str) -> tuple[Cell, Cell]:
    """The rate of a technique's best setting, and the setting."""
    rate, word = (
        next(row for row in table.rows if row.labels == (technique, part)).cells[0]
        for part in ("Recognition", label)
    )
    return rate, word


def _by_percentile(table: PaperTable | None, technique: str, label: str) -> str:
    if table is None:
        return ""
    rate, word = _first(table, technique, label)
    return "" if word.word is None else f" At the percentile: {word.word}, {_figure(rate)}."


def _figure(cell: Cell) -> str:
    if cell.measured is None:
        return NOT_RUN
    return cell.measured.text()


def _rq3(
    results: pl.DataFrame, tables: dict[int, PaperTable], loose: dict[int, PaperTable]
) -> Iterator[Block]:
    yield Heading("RQ3. Which loss?", 2)
    spreads = list(_spreads(tables[9]))
    if not spreads:
        yield Paragraph("Not asked by these runs.")
        return
    yield Listing(list(_bests(tables[10], loose.get(10), "loss", "Loss")))
    yield Listing(spreads)
    yield Paragraph(_whole_faces(results, "rq3"))


def _spreads(table: PaperTable) -> Iterator[str]:
    """How far losses are apart for each technique of Table 9 that has several."""
    for index, technique in enumerate(table.columns):
        column = [(row.labels, row.cells[index].measured) for row in table.rows]
        rates = {labels: ours.value for labels, ours in column if ours is not None}
        if len(rates) < 2:
            continue
        angle = [rate for labels, rate in rates.items() if labels[0] != "L1"]
        spread, whole = max(angle) - min(angle), max(rates.values()) - min(rates.values())
        note = ""
        if technique in PARALLEL:
            # Not to the last bit: a resize or a tie may fall the other way by a rounding.
            note = (
                ", as expected: these losses are functions of one angle, and its maps do not depend"
                " on the scale of the gradient"
                if spread < ALIKE
                else ", which is not expected: these losses are functions of one angle"
            )
        yield (
            f"{technique}: cosine, L2 and the four ArcFace losses differ by"
            f" {number(spread)}{note}; all seven by {number(whole)}."
        )


def _rq4(
    results: pl.DataFrame, tables: dict[int, PaperTable], loose: dict[int, PaperTable]
) -> Iterator[Block]:
    yield Heading("RQ4. Which method, and does it transfer?", 2)
    unwarned = [board for board in boards(results) if board.warning is None]
    if not unwarned:
        yield Paragraph("Not asked by these runs.")
        return
    yield Listing([_order(board) for board in unwarned])
    order = _in_order(tables[12])
    printed = [row.labels[0] for row in tables[12].rows]
    if order:
        verdict = "the paper's order" if order == printed else "not the paper's order"
        yield Paragraph(
            f"Over own and other recognizers' maps (Table 12): {', '.join(order)}; {verdict}"
            f" ({', '.join(printed)}). Methods that need many passes have fewer identities."
            + (f" At the percentile: {', '.join(_in_order(loose[12]))}." if loose else "")
        )
    yield Paragraph(_whole_faces(results, "rq4"))


def _order(board: Board) -> str:
    standing = "; ".join(
        f"{method} {drop.text()}" for method, drop in zip(board.methods, board.drop, strict=True)
    )
    words = winner(board)
    return (
        f"{board.title} ({board.people} identities), drops: {standing}. {words[0].upper()}"
        f"{words[1:]}"
    )


def _in_order(table: PaperTable) -> list[str]:
    """Techniques of Table 12 by the first column that has any figure, least recognition first."""
    for index in range(len(table.columns)):
        rows = [row for row in table.rows if row.cells[index].measured is not None]
        if rows:
            return [
                row.labels[0] for row in sorted(rows, key=lambda line: _value(line.cells[index]))
            ]
    return []


def _value(cell: Cell) -> float:
    return float("inf") if cell.measured is None else cell.measured.value


# --- where the answers differ, and why ------------------------------------------------------------


def _exact(results: pl.DataFrame) -> Iterator[Block]:
    yield Heading("Exactly k pixels against the percentile", 2)
    compared = exactness(results)
    if not compared:
        yield Paragraph("Not asked by these runs.")
        return
    apart = [pair for pair in compared if pair.difference.low > 0]
    yield Paragraph(
        f"{len(compared)} configurations were cut both ways from the same maps: exactly k pixels,"
        f" and every pixel at or above the percentile, as is common. In {len(apart)} of them the"
        " second rule takes more, and its interval says so."
    )
    worst = sorted(compared, key=lambda pair: -pair.difference.value)[:5]
    values = ("clean", "exactly k", "percentile", "difference", "area", "whole face", "its drop")
    yield plain_table(
        ("configuration", *values),
        [[_where(pair.row), *exactness_cells(pair, "")] for pair in worst],
    )
    shares = [
        hiding for hiding in run_shares(results) if hiding.row["on_degenerate"] == "inclusive"
    ]
    if not any(any(share.measured) for share in shares):
        yield Paragraph("No mask of the transfer runs hid a whole face, by either rule.")
    hidden = []
    for hiding in (share for share in shares if any(share.measured)):
        pairs = ", ".join(
            f"{name} {number(share)} (in fact {number(whole)})"
            for name, share, whole in zip(
                hiding.matrix.sources, hiding.fit.share, hiding.measured, strict=True
            )
        )
        hidden.append(
            f"{place_label(hiding.row, ('objective',))}, percentile: share of identities that would"
            f" have to lose the whole face: {pairs}."
        )
    if hidden:
        yield Listing(hidden)


def _beyond(results: pl.DataFrame) -> Iterator[Block]:
    """Same photos against held-out ones, and methods against controls of their own shape."""
    yield Heading("Held-out photos, and controls of the same shape", 2)
    with_control = results.filter(pl.col("experiment").is_in(_controlled(results)))
    if with_control.is_empty():
        yield Paragraph("Not asked by these runs.")
        return
    summary = summarize(with_control)
    for shown in default_slices(summary):
        yield from _beyond_at(summary, shown)


def _beyond_at(summary: pl.DataFrame, shown: Slice) -> Iterator[Block]:
    """`_beyond` under one fill."""
    rows = shown.of(summary).filter(
        COMPETES, pl.col("source") == pl.col("target"), pl.col("on_degenerate") == "none"
    )
    yield Paragraph(f"{str(shown)[0].upper()}{str(shown)[1:]}.")
    names = ["drop", *(n for n in CONTROLS.values() if rows[n].is_not_null().any())]
    names += [n for n in ("half_drop", "heldout_drop") if rows[n].is_not_null().any()]
    titles = {"drop": "drop", "excess": "beyond the shifted mask",
              "specificity": "beyond other people's masks",
              "half_drop": "maps from half the photos, on that half",
              "heldout_drop": "the same maps, on the other half"}  # fmt: skip
    yield plain_table(
        ("configuration", "n", *(titles.get(name, name) for name in names)),
        [
            (_where(row), str(row["scored"]), *(interval(row, n, signed=True) for n in names))
            for row in rows.sort("target", "drop", descending=[False, True]).iter_rows(named=True)
        ],
    )
    beats = [r for r in rows.iter_rows(named=True) if (r.get("excess_low") or -1) > 0]
    own = [r for r in rows.iter_rows(named=True) if (r.get("specificity_low") or -1) > 0]
    yield Paragraph(
        f"{len(beats)} of {rows.height} are shown to beat the same mask at a random place, and"
        f" {len(own)} to beat other people's masks, without which nothing shows that a mask is this"
        " person's own."
    )


def _controlled(results: pl.DataFrame) -> list[str]:
    controlled = results.filter(pl.col("control").is_not_null() | (pl.col("split") == "heldout"))
    return controlled["experiment"].unique().to_list()


def _published() -> Iterator[Block]:
    """What the paper's own Table 14 looks like to the same audit."""
    matrix = read_matrix("table14.csv", shipped("table14.csv"))
    fit = fit_matrix(matrix)
    yield Heading("The paper's Table 14", 2)
    shares = ", ".join(
        f"{name} {number(share)}" for name, share in zip(matrix.sources, fit.share, strict=True)
    )
    yield Paragraph(f"{' '.join(meaning(matrix, fit))} Shares: {shares}.")


def _limits(results: pl.DataFrame) -> Iterator[Block]:
    targets = results["target"].unique(maintain_order=True).to_list()
    absent = [name for name in MODELS if not _is_paper(name, targets)]
    yield Heading("What these runs cannot show", 2)
    limits = []
    if absent:
        limits.append(
            f"The paper's {', '.join(absent)} were not run: their weights were not here. Nothing"
            " above says what they do; a difference from the paper may be one of recognizers."
        )
    absent_sets = [n for n in ("lfw", "calfw", "cplfw") if n not in set(results["faces"])]
    if absent_sets:
        limits.append(f"Nothing was run on {', '.join(absent_sets).upper()}.")
    people = results["identity"].n_unique()
    limits += [
        f"{people} identities; the paper has 1,680 of LFW, and 500 for S-RISE and CorrRISE.",
        "The tables choose the best layer and loss on the identities they are then reported on, as"
        " in the paper: their drops are slightly too large. The leaderboards choose on one half of"
        " the identities and report on the other; but for maps of other recognizers a study"
        " chooses settings beforehand, on own maps of the same people.",
        "Whether the paper hid whole faces cannot be known from its tables: that Table 14 looks"
        " like it is all that is shown.",
    ]
    yield Listing(limits)


def _is_paper(name: str, targets: Sequence[str]) -> bool:
    from facefocus.models import zoo

    return name in targets or zoo.full_name(name) in targets
