"""The columns that every table of a report is made of, and numbers as text.

A number is never shown without its audit (Protocol: audit): whatever renders a table takes its
columns from `columns`, which always ends with the audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from facefocus.analysis.labels import DETAILS, layer_label, layer_order, measured, varying
from facefocus.analysis.summary import Row, competes
from facefocus.benchmark.result_columns import COMPETES, HELDOUT_ORACLE, ORACLE
from facefocus.core.text import NOTHING, budget_text, number, percent, with_bounds
from facefocus.report.document import Column

# ---------------------------------------------------------------------------- numbers as text


def interval(row: Row, name: str, *, signed: bool = False) -> str:
    """``0.886 [0.861, 0.910]``: the mean called `name` of a summary row and its 95 % interval."""
    return with_bounds(row[name], row[f"{name}_low"], row[f"{name}_high"], signed=signed)


# ---------------------------------------------------------------------------- columns and rows


def _named(title: str, name: str, note: str) -> Column:
    def cell(row: Row) -> str:
        return NOTHING if row[name] in (None, "") else str(row[name])

    return Column(title, note, cell, lambda row: row[name], numeric=False)


def _mean(title: str, name: str, note: str, *, signed: bool = False) -> Column:
    return Column(
        title, note, lambda row: interval(row, name, signed=signed), lambda row: row[name]
    )


def _share(title: str, name: str, note: str, digits: int = 1) -> Column:
    return Column(
        title, note, lambda row: percent(row[name], digits), lambda row: row[name], audit=True
    )


_AUDIT_COLUMNS = (
    Column(
        "Scored",
        "Identities that were scored, of all.",
        lambda row: f"{row['scored']}/{row['identities']}",
        lambda row: row["scored"],
        audit=True,
    ),
    _share("No map", "degenerate_share", "Share of identities whose maps are all flat or invalid."),
    _share("Flat maps", "maps_degenerate_share", "Share of pair maps that carry no ranking."),
    _share(
        "Ill-conditioned",
        "maps_ill_conditioned_share",
        "Share of pair maps that may change by more than 1 % of their range where gradients are off"
        " by a millionth (ill-conditioned): they may differ on another machine.",
    ),
    _share("Area mean", "area_mean", "Mean share of the frame that was hidden.", 2),
    _share("Area max", "area_max", "Largest share of the frame hidden of any identity.", 2),
    _share("Over budget", "over_budget_share", "Share of identities with more hidden than asked."),
    _share(
        "Same scores", "unaffected_share", "Share of scored identities that lost nothing at all."
    ),
)

_SCORE_COLUMNS = (
    Column(
        "Clean",
        "Recognition of the same identities with nothing hidden.",
        lambda row: number(row["clean_rate"]),
        lambda row: row["clean_rate"],
    ),
    _mean("Recognition", "rate", "Share of mated pairs at or above the threshold, hidden."),
    _mean("Drop", "drop", "Clean recognition minus recognition hidden.", signed=True),
    _mean(
        "Beyond random",
        "beyond_random",
        "How much lower than with random pixels of the same number, paired by identity.",
        signed=True,
    ),
    _mean("Cosine", "cosine", "Mean cosine of mated pairs, hidden."),
)


#: Shown only where they were measured.
_MEASURED_COLUMNS = {
    "beyond_center": _mean(
        "Beyond center",
        "beyond_center",
        "How much lower than with a blob in the middle (center-gaussian), paired by identity.",
        signed=True,
    ),
    "excess": _mean(
        "Excess",
        "excess",
        "Drop beyond the control of equal area and shape: the same mask shifted at random.",
        signed=True,
    ),
    "specificity": _mean(
        "Specificity",
        "specificity",
        "Drop by the person's own mask minus the drop by other people's masks.",
        signed=True,
    ),
    "heldout_drop": _mean(
        "Held-out drop",
        "heldout_drop",
        "Drop on photos that the map never saw, of the people who have such a row.",
        signed=True,
    ),
    "oracle_share": _mean(
        "Share of oracle",
        "oracle_share",
        "(Drop - random drop) / (oracle drop - random drop): random is 0, the oracle is 1.",
    ),
    "any_rate": _mean(
        "Any photo",
        "any_rate",
        "Share of hidden photos that match one or more of the person's clean photos.",
    ),
    "template_rate": _mean(
        "Template", "template_rate", "Share of hidden photos that match the person's template."
    ),
    "rank_one": _mean(
        "Rank-1",
        "rank_one",
        "Share of hidden photos to which the person's template is the nearest of everybody's.",
    ),
}


#: What each figure means, by the title of its column.
NOTES = {
    column.title: column.note
    for column in (*_SCORE_COLUMNS, *_MEASURED_COLUMNS.values(), *_AUDIT_COLUMNS)
}


def columns(summary: pl.DataFrame, scores: Sequence[Column] | None = None) -> list[Column]:
    """The columns that tell these rows apart, the scores, and always the audit.

    Args:
        summary: From `summarize`.
        scores: The scores; by default recognition, drop, cosine and every comparison there is.
    """
    if scores is None:
        more = [column for name, column in _MEASURED_COLUMNS.items() if measured(summary, name)]
        scores = [*_SCORE_COLUMNS, *more]
    details = [_named(DETAILS[name], name, f"The row's '{name}'.") for name in varying(summary)]
    return [
        _named("Target", "target", "The target recognizer: it compares the hidden face."),
        Column(
            "Budget",
            "Share of the frame's pixels that may be hidden.",
            lambda row: budget_text(row["budget"]),
            lambda row: row["budget"],
        ),
        _named("Fill", "fill", "What the hidden pixels are replaced with."),
        _named(
            "Reading",
            "reading",
            "Artefact: a drop shows what upsets the recognizer. Information: what it knew.",
        ),
        _named("Method", "method", "What ranked the pixels."),
        Column(
            "Layer",
            "Convolution asked for (and the calls it means).",
            layer_label,
            layer_order,
            numeric=False,
        ),
        *details,
        *scores,
        *_AUDIT_COLUMNS,
    ]


def ordered(summary: pl.DataFrame) -> list[Row]:
    """The rows by recognizer, budget and fill; within these by `standing`."""

    def key(row: Row) -> tuple[Any, ...]:
        return (row["target"], row["budget"], row["fill"], *standing(row))

    return sorted(summary.to_dicts(), key=key)


def standing(row: Row) -> tuple[bool, bool, float]:
    """Sorts the rows of one recognizer: baselines, the oracle, then methods, largest drop first."""
    drop = row["drop"] if row["drop"] is not None else -np.inf
    return competes(row), row["method"] in (ORACLE, HELDOUT_ORACLE), -drop


#: So many methods and layers are shown at first; a table that fills screens is read by nobody.
LEADING = 15


def leading(summary: pl.DataFrame, count: int = LEADING) -> pl.DataFrame:
    """Baselines, the oracle and the `count` methods of largest drop, of each recognizer."""
    drops = pl.col("drop").fill_null(float("-inf")).rank("ordinal", descending=True)
    return summary.filter(~COMPETES | (drops.over("target", COMPETES) <= count))


def figure_columns(*parts: tuple[str, str, str]) -> list[Column]:
    """Columns of means with intervals: title, note and name of each."""
    return [_mean(title, name, note, signed=True) for title, note, name in parts]
