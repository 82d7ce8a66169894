"""The paper's Tables 2 to 15, recomputed from result rows beside the printed figures.

A table has the paper's rows and columns; recognizers of the user's own are further rows. Every
figure is a mean over identities with its 95 % interval, of masks of methods' own on the
photos the map came from; every row ends with its audit. Where the paper averages over models, each
identity's mean over the recognizers is taken first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from facefocus.analysis.labels import changed_options
from facefocus.analysis.summary import GUESSING, INCLUSIVE, guessing
from facefocus.benchmark.result_columns import COMPETES
from facefocus.core.errors import UserError
from facefocus.core.text import number as text_of
from facefocus.core.text import p_value
from facefocus.evaluation.statistics import (
    Interval,
    compare_paired,
    holm,
    mean_intervals,
)
from facefocus.models import zoo
from facefocus.paper.published import DATA_SETS, MODELS, TECHNIQUES, Printed, Published, published

#: The three gradient methods of Tables 5 to 10, in the paper's order.
CAMS = ("LayerCAM", "Grad-CAM", "Grad-CAM++")

#: The losses of Table 9 in the words of result rows.
LOSSES = {
    ("L1", "-"): "l1",
    ("L2", "-"): "l2",
    ("Cosine", "-"): "cosine",
    ("ArcFace", "0.0"): "arcface(0)",
    **{("ArcFace", margin): f"arcface({margin})" for margin in ("0.1", "0.2", "0.3")},
}

#: Columns that Table 13 has here beside the paper's.
MORE_TESTS = ("Wilcoxon p", "d pooled")

#: What stands over p-values, which are corrected over the table.
_HOLM = {name: f"{name} (Holm)" for name in ("p-value", "Wilcoxon p")}

#: Settings of a map: what a table holds fixed, or chooses by least recognition.
SETTINGS = (
    "layer", "objective", "options", "evidence", "normalize", "arcface_scale", "max_pairs",
)  # fmt: skip

_OWN = pl.col("source") == pl.col("target")
_BLACK, _ONE_PERCENT = pl.col("fill") == "black", (pl.col("budget") - 0.01).abs() < 1e-9


@dataclass(frozen=True)
class Cell:
    """One cell: a figure or a word of ours, beside what is printed.

    Attributes:
        measured: Our figure; None where there is none.
        word: Ours where it is no figure: a layer, a loss, a p-value.
        printed: The paper's.
        bold: Whether the paper's rule makes ours bold.
        printed_bold: Whether it makes the printed one bold.
    """

    measured: Interval | None = None
    word: str | None = None
    printed: Printed | None = None
    bold: bool = False
    printed_bold: bool = False

    @property
    def missing(self) -> bool:
        """Whether the runs have nothing to say here."""
        return self.measured is None and self.word is None


@dataclass(frozen=True)
class Audit:
    """The audit (Protocol: audit) of a table's row; shares in 0..1, None where not measured."""

    degenerate: float | None
    area_mean: float | None
    area_max: float | None
    unaffected: float | None
    identities: int


@dataclass(frozen=True)
class TableRow:
    """Labels, cells and audit of one row; no audit where nothing was run."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    audit: Audit | None


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables, filled, or one like it.

    Attributes:
        number: As in the paper; 0 where it has none.
        caption: What it shows.
        labels: Headings of the columns that name a row.
        span: Heading over the others.
        columns: Their headings.
        rows: In the paper's order, then recognizers of the user's own.
        warnings: What must be known before any figure is read.
        notes: What the figures are means of, and what the runs cannot fill.
    """

    number: int
    caption: str
    labels: tuple[str, ...]
    span: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def paper_table(results: pl.DataFrame, number: int, *, policy: str = "none") -> PaperTable:
    """One of the paper's tables from result rows.

    Args:
        results: Of one run or of several (`read_runs`).
        number: 2 to 15.
        policy: ``on_degenerate`` of the rows.

    Raises:
        UserError: No such table, or no row of this policy.
    """
    if number not in _TABLES:
        raise UserError(f"The 'table' must be 2 to 15, or all. Got {number}.")
    material = _Material.of(results, policy)
    table = published()[number]
    more = MORE_TESTS if number == 13 else material.others() if number in _BY_MODEL else ()
    table = replace(table, columns=(*table.columns, *more))
    drafts = list(_TABLES[number](material, table))
    rows = _tests(drafts, table) if number == 13 else _figures(drafts, table)
    useless = [f"{name}: {GUESSING}" for name in guessing(material.rows)]
    warning = (*useless, INCLUSIVE) if policy == "inclusive" else tuple(useless)
    return PaperTable(
        number=number,
        caption=table.caption,
        labels=table.labels,
        span=table.span,
        columns=tuple(_HOLM.get(name, name) for name in table.columns),
        rows=tuple(_emphasized(rows, _BOLD[number]) if number in _BOLD else rows),
        warnings=warning,
        notes=(*_notes(material, drafts, number), *table.notes),
    )


# --- what the tables are made of ------------------------------------------------------------------


@dataclass(frozen=True)
class _Material:
    """Rows of methods' own masks on the photos the map came from, under one policy."""

    rows: pl.DataFrame
    data_sets: tuple[str, ...]

    @classmethod
    def of(cls, results: pl.DataFrame, policy: str) -> _Material:
        rows = results.filter(
            COMPETES,
            pl.col("control").is_null(),
            pl.col("split") == "same",
            pl.col("on_degenerate") == policy,
            pl.col("rate").is_not_null(),
        )
        if rows.is_empty():
            known = ", ".join(results["on_degenerate"].unique().sort())
            raise UserError(
                f"The runs have no rows with on_degenerate = '{policy}'. There are: {known}."
            )
        # Of each name once: there may be a million rows, and each name is looked up in files.
        recognizers = {*rows["source"].unique(), *rows["target"].unique()}
        names = {name: _paper_name(name) for name in recognizers}
        named = rows.with_columns(
            pl.col("source", "target").replace(names), pl.col("faces").str.to_uppercase()
        )
        return cls(named, tuple(named["faces"].unique(maintain_order=True)))

    def of_stage(self, stage: str, *which: pl.Expr) -> pl.DataFrame:
        """Rows that fit, of the stage that a table belongs to, else of the first that has any."""
        rows = self.rows.filter(*which)
        own = rows.filter(pl.col("experiment") == stage)
        if not own.is_empty():
            return own
        return rows.filter(pl.col("experiment") == pl.col("experiment").first())

    def data_set(self, wanted: str) -> str:
        """The data set of a table, or the first there is."""
        return wanted if wanted in self.data_sets else self.data_sets[0]

    def others(self) -> tuple[str, ...]:
        """Target recognizers that are none of the paper's, in order."""
        targets = self.rows["target"].unique(maintain_order=True).to_list()
        return tuple(name for name in targets if name not in MODELS)


def _paper_name(name: str) -> str:
    """The paper's abbreviation of a recognizer, its own name where it has none."""
    entry = zoo.entries().get(name)
    return next((alias for alias in entry.aliases if alias in MODELS), name) if entry else name


@dataclass(frozen=True)
class _Ask:
    """What one cell is to hold: the mean of a score over rows, or a word."""

    rows: pl.DataFrame | None = None
    score: str = "rate"
    word: str | None = None


@dataclass(frozen=True)
class _Draft:
    """A row before anything is computed; `setting_note` goes to the notes."""

    labels: tuple[str, ...]
    asks: tuple[_Ask, ...]
    setting_note: str = ""
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)


def settle(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of one setting of the map: that of least recognition, the first of equals."""
    if rows.is_empty():
        return rows
    settings = rows.group_by(SETTINGS, maintain_order=True).agg(pl.col("rate").mean().round(12))
    best = settings.sort("rate", maintain_order=True).head(1)
    return rows.join(best.select(SETTINGS), on=SETTINGS, how="semi", nulls_equal=True)


def _method(technique: str) -> pl.Expr:
    return pl.col("method") == TECHNIQUES[technique]


def _last(technique: str) -> pl.Expr:
    """The last convolution and cosine for a CAM; anything for the others."""
    if technique not in CAMS:
        return pl.lit(True)
    return (pl.col("layer") == "N") & (pl.col("objective") == "cosine")


def setting(rows: pl.DataFrame) -> str:
    """The layer, loss and options of some rows of one setting, in words."""
    if rows.is_empty():
        return ""
    first = rows.row(0, named=True)
    setting_note = [f"layer {first['layer']}"] if first["layer"] else []
    setting_note += [str(first["objective"])] if first["objective"] else []
    return ", ".join([*setting_note, *changed_options(first)])


# --- the tables -----------------------------------------------------------------------------------


def _budgets(rows: pl.DataFrame, table: Published) -> tuple[_Ask, ...]:
    """A cell for each share of hidden pixels; 0 is the clean rate, which is in every row."""
    asks = []
    for column in table.columns:
        share = float(column) / 100
        if share == 0:
            asks.append(_Ask(rows.filter(pl.col("budget") == pl.col("budget").min()), "clean_rate"))
        else:
            asks.append(_Ask(rows.filter((pl.col("budget") - share).abs() < 1e-9)))
    return tuple(asks)


def _table_2(material: _Material, table: Published) -> Iterator[_Draft]:
    wanted = pl.col("faces") == material.data_set("LFW")
    rows = material.of_stage("rq1", wanted, _OWN, _BLACK, _method("Grad-CAM"), _last("Grad-CAM"))
    for model in (*MODELS, *material.others()):
        yield _Draft((model,), _budgets(rows.filter(pl.col("target") == model), table))


def _table_3(material: _Material, table: Published) -> Iterator[_Draft]:
    rows = material.of_stage("rq1", pl.col("faces") == material.data_set("LFW"), _OWN, _BLACK)
    models = dict.fromkeys(label for label, _ in table.rows)
    for model in (*models, *material.others()):
        for technique in ("LayerCAM", "Grad-CAM", "Grad-CAM++", "CorrRISE", "S-RISE"):
            own = rows.filter(pl.col("target") == model, _method(technique), _last(technique))
            yield _Draft((model, technique), _budgets(own, table))


def _table_4(material: _Material, table: Published) -> Iterator[_Draft]:
    wanted = pl.col("faces") == material.data_set("LFW")
    rows = material.of_stage("rq1", wanted, _OWN, _ONE_PERCENT)
    for (technique,) in table.rows:
        own = rows.filter(_method(technique), _last(technique))
        asks = [_Ask(own.filter(pl.col("fill") == fill.lower())) for fill in table.columns]
        yield _Draft((technique,), tuple(asks))


def _cosines(material: _Material, table: Published) -> Iterator[_Draft]:
    """Tables 5 and 6: layers and groups."""
    rows = _layers(material, material.data_set("LFW"))
    models = dict.fromkeys(label for label, _ in table.rows)
    for model in (*models, *material.others()):
        for technique in CAMS:
            own = rows.filter(pl.col("target") == model, _method(technique))
            asks = [_Ask(own.filter(pl.col("layer") == layer), "cosine") for layer in table.columns]
            yield _Draft((model, technique), tuple(asks))


def _layers(material: _Material, data_set: str) -> pl.DataFrame:
    return material.of_stage(
        "rq2", pl.col("faces") == data_set, _OWN, _BLACK, _ONE_PERCENT,
        pl.col("objective") == "cosine",
    )  # fmt: skip


def _ranked(rows: pl.DataFrame, field: str) -> list[str]:
    """Settings by average recognition, least first."""
    if rows.is_empty():
        return []
    means = rows.group_by(field, maintain_order=True).agg(pl.col("rate").mean().round(12))
    return means.sort("rate", maintain_order=True)[field].to_list()


def _table_7(material: _Material, table: Published) -> Iterator[_Draft]:
    rows = _layers(material, material.data_set("LFW"))
    for technique in CAMS:
        own = rows.filter(_method(technique))
        best = (_ranked(own, "layer") + [""] * 3)[:3]
        asks = [_Ask(own.filter(pl.col("layer") == layer)) for layer in best]
        yield _Draft((technique, "Recognition"), tuple(asks))
        words = [_Ask(word=layer or None) for layer in best]
        yield _Draft((technique, "Layer"), tuple(words))


def _best_of(field: str, label: str) -> Callable[[_Material, Published], Iterator[_Draft]]:
    """Tables 8 and 10: the best layer, or loss, of each technique on each data set."""

    def drafts(material: _Material, table: Published) -> Iterator[_Draft]:
        for technique in CAMS:
            asks, words = [], []
            for data_set in table.columns:
                rows = (_layers if field == "layer" else _losses)(material, data_set)
                own = rows.filter(_method(technique))
                best = next(iter(_ranked(own, field)), None)
                asks.append(_Ask(own.filter(pl.col(field).is_in([best] if best else []))))
                words.append(_Ask(word=best))
            yield _Draft((technique, "Recognition"), tuple(asks))
            yield _Draft((technique, label), tuple(words))

    return drafts


def _losses(material: _Material, data_set: str) -> pl.DataFrame:
    """Rows of every loss, of each technique at one layer: its best one."""
    rows = material.of_stage("rq3", pl.col("faces") == data_set, _OWN, _BLACK, _ONE_PERCENT)
    kept = []
    for technique in CAMS:
        own = rows.filter(_method(technique))
        layers = _ranked(own, "layer")
        kept.append(own.filter(pl.col("layer") == layers[0]) if layers else own)
    return pl.concat(kept)


def _table_9(material: _Material, table: Published) -> Iterator[_Draft]:
    rows = _losses(material, material.data_set("LFW"))
    for labels in table.rows:
        own = rows.filter(pl.col("objective") == LOSSES[labels[0], labels[1]])
        parts = [own.filter(_method(technique)) for technique in table.columns]
        setting_note = "; ".join(
            f"{name} at layer {part['layer'][0]}"
            for name, part in zip(table.columns, parts, strict=True)
            if part.height
        )
        yield _Draft(labels, tuple(map(_Ask, parts)), setting_note)


def _table_11(material: _Material, table: Published) -> Iterator[_Draft]:
    for data_set in DATA_SETS:
        rows = _losses(material, data_set) if data_set in material.data_sets else None
        asks = [
            _Ask()
            if rows is None
            else _Ask(_settle_with_method(rows.filter(pl.col("target") == model)))
            for model in table.columns
        ]
        yield _Draft((data_set,), tuple(asks))


def _settle_with_method(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the method and setting of least recognition."""
    if rows.is_empty():
        return rows
    keys = ["method", *SETTINGS]
    means = rows.group_by(keys, maintain_order=True).agg(pl.col("rate").mean().round(12))
    best = means.sort("rate", maintain_order=True).head(1)
    return rows.join(best.select(keys), on=keys, how="semi", nulls_equal=True)


def _transferred(material: _Material, data_set: str, technique: str, *which: pl.Expr) -> Any:
    """RQ4's rows of one technique: every source on every target, at one setting."""
    rows = material.of_stage("rq4", pl.col("faces") == data_set, _ONE_PERCENT, _method(technique))
    black = settle(rows.filter(_BLACK))
    chosen = black.select(SETTINGS).unique()
    settled = rows.join(chosen, on=SETTINGS, how="semi", nulls_equal=True)
    return settled.filter(*which)


def _table_12(material: _Material, table: Published) -> Iterator[_Draft]:
    for (technique,) in table.rows:
        parts = [_transferred(material, name, technique, _BLACK) for name in table.columns]
        setting_note = "; ".join(
            f"{technique} on {name}: {setting(part)}"
            for name, part in zip(table.columns, parts, strict=True)
            if setting(part)
        )
        yield _Draft((technique,), tuple(map(_Ask, parts)), setting_note)


def _table_13(material: _Material, table: Published) -> Iterator[_Draft]:
    data_set = material.data_set("LFW")
    for (technique,) in table.rows:
        rows = _transferred(material, data_set, technique, _BLACK)
        setting_note = f"{technique}: {setting(rows)}" if setting(rows) else ""
        yield _Draft((technique,), (), setting_note, rows)


def _table_14(material: _Material, table: Published) -> Iterator[_Draft]:
    rows = _transferred(material, material.data_set("CPLFW"), "Grad-CAM++", _BLACK)
    for source in (*MODELS, *material.others()):
        own = rows.filter(pl.col("source") == source)
        asks = [_Ask(own.filter(pl.col("target") == target)) for target in table.columns]
        yield _Draft((source,), tuple(asks), f"Grad-CAM++: {setting(rows)}" if asks else "")


def _table_15(material: _Material, table: Published) -> Iterator[_Draft]:
    data_set = material.data_set("LFW")
    for (technique,) in table.rows:
        rows = _transferred(material, data_set, technique)
        asks = [_Ask(rows.filter(pl.col("fill") == fill.lower())) for fill in table.columns]
        setting_note = f"{technique}: {setting(rows)}" if setting(rows) else ""
        yield _Draft((technique,), tuple(asks), setting_note)


#: Tables whose columns are recognizers: the user's own are further columns.
_BY_MODEL = (11, 14)

_TABLES: dict[int, Callable[[_Material, Published], Iterator[_Draft]]] = {
    2: _table_2,
    3: _table_3,
    4: _table_4,
    5: _cosines,
    6: _cosines,
    7: _table_7,
    8: _best_of("layer", "Layer"),
    9: _table_9,
    10: _best_of("objective", "Loss"),
    11: _table_11,
    12: _table_12,
    13: _table_13,
    14: _table_14,
    15: _table_15,
}


# --- figures and tests ----------------------------------------------------------------------------


def person_means(rows: pl.DataFrame, score: str) -> dict[str, float]:
    """Each identity's mean over recognizers; own maps and other recognizers' count half each."""
    kinds = rows.group_by("identity", _OWN.alias("own"), maintain_order=True)
    means = kinds.agg(pl.col(score).mean()).group_by("identity").agg(pl.col(score).mean())
    return dict(means.select("identity", score).rows())


def _figures(drafts: Sequence[_Draft], table: Published) -> list[TableRow]:
    """Every draft with its means, intervals and audit; a table is of rates or of cosines."""
    asks = [ask for draft in drafts for ask in draft.asks]
    share = all(ask.score != "cosine" for ask in asks)
    intervals = iter(_intervals([_values(ask) for ask in asks], share=share))
    rows = []
    for draft in drafts:
        cells = [
            Cell(next(intervals), ask.word, _printed(table, draft.labels, column))
            for ask, column in zip(draft.asks, table.columns, strict=True)
        ]
        used = [ask.rows for ask in draft.asks if ask.rows is not None and ask.rows.height]
        rows.append(TableRow(draft.labels, tuple(cells), audit_of(used)))
    return rows


def _values(ask: _Ask) -> dict[str, float]:
    empty = ask.rows is None or ask.rows.is_empty()
    return {} if empty or ask.rows is None else person_means(ask.rows, ask.score)


def _intervals(values: Sequence[dict[str, float]], *, share: bool = True) -> list[Interval | None]:
    """Mean and interval over the identities of each; None for none."""
    people = sorted({name for value in values for name in value})
    if not people:
        return [None] * len(values)
    grid = np.array([[value.get(name, np.nan) for name in people] for value in values])
    return [
        interval if np.isfinite(interval.value) else None
        for interval in mean_intervals(grid, share=share)
    ]


def _printed(table: Published, labels: tuple[str, ...], column: str) -> Printed | None:
    row = table.rows.get(labels, ())
    position = table.columns.index(column)
    return row[position] if position < len(row) else None


def audit_of(parts: Sequence[pl.DataFrame]) -> Audit | None:
    """The audit of some result rows together; None of none."""
    if not parts:
        return None
    rows = pl.concat(parts)
    same = (pl.col("rate") == pl.col("clean_rate")) & (pl.col("cosine") == pl.col("clean_cosine"))
    audit = rows.select(
        degenerate=pl.col("degenerate").mean(),
        area_mean=pl.col("masked_share").mean(),
        area_max=pl.col("masked_share").max(),
        unaffected=same.mean(),
        identities=pl.col("identity").n_unique(),
    ).row(0, named=True)
    return Audit(**audit)


def _tests(drafts: Sequence[_Draft], table: Published) -> list[TableRow]:
    """Table 13: recognition hidden against clean, per identity; Holm over the table."""
    tests, figures = [], _intervals([person_means(d.rows, "rate") for d in drafts])
    for draft in drafts:
        hidden, clean = (person_means(draft.rows, name) for name in ("rate", "clean_rate"))
        people = sorted(hidden)
        both = [np.array([side[name] for name in people]) for side in (clean, hidden)]
        tests.append(compare_paired(*both) if people else None)
    known = [test for test in tests if test is not None]
    corrected = {
        id(test): pair
        for test, *pair in zip(
            known, holm([test.t_p for test in known]), holm([test.wilcoxon_p for test in known]),
            strict=True,
        )
    }  # fmt: skip
    rows = []
    for draft, test, figure in zip(drafts, tests, figures, strict=True):
        words: list[str | None] = [None] * 4
        if test is not None:
            t_p, wilcoxon_p = corrected[id(test)]
            words = [p_value(t_p), text_of(test.d_z), p_value(wilcoxon_p), text_of(test.d_pooled)]
        contents: list[tuple[Interval | None, str | None]] = [
            (figure, None), *((None, word) for word in words),
        ]  # fmt: skip
        cells = [
            Cell(value, word, _printed(table, draft.labels, column))
            for (value, word), column in zip(contents, table.columns, strict=True)
        ]
        used = [draft.rows] if draft.rows.height else []
        rows.append(TableRow(draft.labels, tuple(cells), audit_of(used)))
    return rows


# --- the paper's bold -----------------------------------------------------------------------------

_Grid = np.ndarray
_Labels = Sequence[tuple[str, ...]]


def _below(bound: float) -> Callable[[_Grid, _Labels], np.ndarray]:
    return lambda grid, labels: grid < bound


def _lowest_of_column(grid: _Grid, labels: _Labels) -> np.ndarray:
    return np.asarray(grid == np.where(np.isnan(grid), np.inf, grid).min(axis=0))


def _lowest_of_row(grid: _Grid, labels: _Labels) -> np.ndarray:
    return np.asarray(grid == np.where(np.isnan(grid), np.inf, grid).min(axis=1, keepdims=True))


def _lowest_of_model(grid: _Grid, labels: _Labels) -> np.ndarray:
    """Lowest of each model and column, but for the column of clean faces."""
    bold = np.zeros(grid.shape, bool)
    models = [label[0] for label in labels]
    for model in set(models):
        own = np.array([name == model for name in models])
        bold[own] = _lowest_of_column(grid[own], labels)
    bold[:, 0] = False
    return bold


def _first_of_figures(grid: _Grid, labels: _Labels) -> np.ndarray:
    bold = np.zeros(grid.shape, bool)
    bold[:, 0] = np.isfinite(grid[:, 0])
    return bold


#: Which figures are bold: as the captions say, and where they say it loosely by the nearest rule.
#: Table 2: under the caption's 0.79. Table 3: the largest drop of each model. Tables 5 and 6: the
#: lowest of each row. Table 7: rank 1. Table 9: the best loss of each technique. Table 11: above
#: 0.5. Table 14: below 0.5. The others have none.
_BOLD: dict[int, Callable[[_Grid, _Labels], np.ndarray]] = {
    2: _below(0.79),
    3: _lowest_of_model,
    5: _lowest_of_row,
    6: _lowest_of_row,
    7: _first_of_figures,
    9: _lowest_of_column,
    11: lambda grid, labels: grid > 0.5,
    14: _below(0.5),
}


def _emphasized(
    rows: Sequence[TableRow], rule: Callable[[_Grid, _Labels], np.ndarray]
) -> list[TableRow]:
    """The rows with the rule applied to our figures, and to the printed ones."""
    labels = [row.labels for row in rows]
    ours = np.array(
        [[cell.measured.value if cell.measured else np.nan for cell in r.cells] for r in rows]
    )
    theirs = np.array(
        [[c.printed if isinstance(c.printed, float) else np.nan for c in r.cells] for r in rows]
    )
    bold, printed_bold = rule(ours, labels), rule(theirs, labels)
    return [
        replace(
            row,
            cells=tuple(
                replace(cell, bold=bool(bold[i, j]), printed_bold=bool(printed_bold[i, j]))
                for j, cell in enumerate(row.cells)
            ),
        )
        for i, row in enumerate(rows)
    ]


# --- notes ----------------------------------------------------------------------------------------

#: The data set of tables that have one.
_DATA_SET = {
    **dict.fromkeys((2, 3, 4, 5, 6, 7, 9, 13, 15), "LFW"),
    14: "CPLFW",
}
#: Tables whose figures are means over recognizers, and over what.
_AVERAGED = {
    **dict.fromkeys((4, 7, 8, 9, 10), "Means over {} with their own maps: {}."),
    **dict.fromkeys(
        (12, 13, 15),
        "Means over all pairs of {}, own maps and other recognizers' maps half each: {}.",
    ),
}


def _notes(material: _Material, drafts: Sequence[_Draft], number: int) -> Iterator[str]:
    used = [ask.rows for draft in drafts for ask in draft.asks if ask.rows is not None]
    used += [draft.rows for draft in drafts]
    rows = pl.concat([part for part in used if not part.is_empty()] or [material.rows.clear()])
    if rows.is_empty():
        yield "The runs have none of these settings: no figure of this table could be made."
        return
    yield "Ours, with 95 % intervals over identities; the paper's in brackets."
    wanted = _DATA_SET.get(number)
    faces = rows["faces"].unique(maintain_order=True).to_list()
    if wanted and wanted not in faces:
        yield f"Our faces are {', '.join(faces)}; the paper's are {wanted}."
    absent = [name for name in DATA_SETS if name not in material.data_sets]
    if number in (8, 10, 11, 12) and absent:
        yield f"Not run: {', '.join(absent)}."
    targets = rows["target"].unique(maintain_order=True).to_list()
    if number in _AVERAGED:
        count = f"{len(targets)} recognizer{'s' if len(targets) > 1 else ''}"
        yield _AVERAGED[number].format(count, ", ".join(targets))
    elif missing := [name for name in MODELS if name not in targets]:
        yield f"Not run: {', '.join(missing)}."
    setting_note = [draft.setting_note for draft in drafts if draft.setting_note]
    if setting_note:
        yield "; ".join(dict.fromkeys(setting_note)) + "."
    if number == 13:
        yield (
            "Paired per identity; 'p-value' of the t test and 'Wilcoxon p' corrected by Holm over "
            "this table; 'Cohen d' is d_z, mean difference by deviation of the differences, and "
            "'d pooled' by the pooled deviation. The paper does not say which it prints."
        )
