"""What configurations are called: their layers, and the settings that tell them apart."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from facefocus.analysis.summary import Row, competes
from facefocus.benchmark.result_columns import COMPETES, MADE_FOR
from facefocus.core.text import NOTHING
from facefocus.saliency.methods import METHODS

#: Columns that say which run a number belongs to; shown only where they vary.
DETAILS = {
    "experiment": "Experiment", "faces": "Faces", "source": "Source", "options": "Options",
    "objective": "Objective", "evidence": "Evidence", "normalize": "Normalized",
    "arcface_scale": "ArcFace s", "max_pairs": "Pairs at most", "split": "Images",
    "on_degenerate": "Degenerate maps", "compare": "Compared", "threshold_rule": "Threshold rule",
    "seed": "Seed",
}  # fmt: skip

#: Settings that a method may have no use for: they tell apart only rows of one method.
_OWN_SETTINGS = ("options", "objective", "evidence", "normalize", "arcface_scale", "max_pairs")


def varying(summary: pl.DataFrame) -> list[str]:
    """The names of `DETAILS` that tell these rows apart, baselines and oracle aside.

    The map's recognizer counts where it is not the target recognizer; options and objective
    where one method has several, since each method has its own. Options also count where a map is
    made for one fill and tried under others.
    """
    mapped = summary.filter(COMPETES)
    names = []
    for name in DETAILS:
        if name == "source":
            varies = mapped.filter(pl.col("source") != pl.col("target")).height > 0
        elif name in _OWN_SETTINGS:
            varies = any(part[name].n_unique() > 1 for part in mapped.partition_by("method"))
            if name == "options":
                varies |= bool(mapped[name].str.contains(MADE_FOR, literal=True).any())
        else:
            varies = mapped[name].n_unique() > 1
        if varies:
            names.append(name)
    return names


def measured(summary: pl.DataFrame, name: str) -> bool:
    """Whether any method's row has a figure called `name`."""
    there = name in summary.columns
    return there and bool(summary.filter(COMPETES)[name].is_not_null().any())


def layer_label(row: Row) -> str:
    """``N/2 (24)``: the layer as asked and what it resolved to, where that says more."""
    layer, calls = row["layer"], row["layer_calls"]
    if layer is None:
        return NOTHING
    return layer if calls in (None, layer) else f"{layer} ({calls})"


def layer_order(row: Row) -> float:
    """Depth of a row's layer: its first convolution call, -1 without a layer."""
    first = str(row["layer_calls"] or row["layer"] or "").split(",")[0]
    return float(first) if first.isdigit() else -1.0


def layer_depth(row: Row) -> tuple[bool, float]:
    """Sorts layers from shallow to deep, groups of layers last."""
    return "," in str(row["layer_calls"] or ""), layer_order(row)


def series_label(row: Row, names: Iterable[str]) -> str:
    """The method and whatever of `names` (from `varying`) tells this row from its neighbors.

    The map's recognizer is left out where it is the target recognizer.
    """
    return ", ".join([row["method"], *settings_in_words(row, names)])


def settings_in_words(row: Row, names: Iterable[str]) -> list[str]:
    """The values of `names` in words; the map's recognizer only where it is another."""
    values = {name: row[name] for name in names}
    if "source" in values and (not competes(row) or row["source"] == row["target"]):
        del values["source"]
    words = []
    for name, value in values.items():
        if name == "options":
            words += changed_options(row)
        elif value not in (None, ""):
            words.append(f"from {value.replace('+', ' + ')}" if name == "source" else str(value))
    return words


def changed_options(row: Row) -> list[str]:
    """The options of a row that are not its method's defaults: ``["steps=25"]``.

    Last, where the map is made for one fill and tried under others: ``"made for blur"``.
    """
    # Those of a user's file are not looked at: a report runs no code.
    known = METHODS[row["method"]].options if row["method"] in list(METHODS) else {}
    usual = {f"{name}={option.default}" for name, option in known.items()}
    options = (row["options"] or "").split()
    # The hash of maps that were made elsewhere says nothing to a reader: their name does.
    changed = [text for text in options if text not in usual and not text.startswith("maps=")]
    return [text.replace(MADE_FOR, "made for ") for text in changed]


def place_label(row: Row, names: Iterable[str]) -> str:
    """The series and its layer: ``layer-cam @ N/2``."""
    layer = f" @ {row['layer']}" if row["layer"] else ""
    return ", ".join([f"{row['method']}{layer}", *settings_in_words(row, names)])
