"""The figures of a run for a manuscript: ``facefocus report RUN --format svg``, or ``png``.

Every drawing takes summary rows (`summary.summarize`) and a width in inches, and returns a figure
that `figures.save` writes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from facefocus.analysis.labels import layer_depth, place_label, series_label, varying
from facefocus.analysis.results import read_runs
from facefocus.analysis.standing import margins
from facefocus.analysis.summary import Row, summarize
from facefocus.benchmark.result_columns import COMPETES, CONFIGURATION
from facefocus.benchmark.result_slices import Slice, default_slices
from facefocus.core.text import number, percent
from facefocus.evaluation.transfer import Transfer
from facefocus.evaluation.transfer import transfer as transfer_matrices
from facefocus.report import figures
from facefocus.report.columns import leading
from facefocus.report.figures import GRID, INK, PAPER, folded, legend, looks, styled

#: With more lines than this in one panel, bands would hide each other: only lines are drawn.
BANDS = 4

#: A cell of the heat map narrower than this, in inches, has room for no number.
CELL = 0.48

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1, 1.5)))


# ---------------------------------------------------------------------------- budget curves


@styled
def budget_curves(
    summary: pl.DataFrame, *, width: float, no_better: Collection[float] = ()
) -> Figure:
    """Recognition against the budget with 95 % bands, one panel per layer.

    Args:
        summary: Rows of one recognizer and one fill.
        width: In inches.
        no_better: Budgets to shade: the best method is not shown to take more than random pixels
            or a blob in the middle.
    """
    controls = summary.filter(~COMPETES)
    panels = _layers(summary.filter(COMPETES)) or [summary.clear()]
    names = varying(summary)
    look = looks(summary["method"])
    dash = _dashes(summary, names)
    across = max(1, min(len(panels), int(width // 3.2)))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(width, 0.55 + 2.5 * down), layout="constrained")
    axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    handles: dict[str, Artist] = {}
    for axis, rows in zip(axes, panels, strict=False):
        for part in (controls, rows):
            handles.update(_curves(axis, part, names, look, dash))
        handles["clean"] = _clean_line(axis, summary)
        axis.set_title(folded(_layer_title(rows), 40) if rows.height else "")
        axis.set_ylim(top=1.01)
        budgets = sorted(summary["budget"].unique())
        _budget_axis(axis, budgets)
        handles.update(_shade(axis, budgets, no_better))
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[::across]:
        axis.set_ylabel("Recognition rate")
    legend(figure, handles, width)
    return figure


def _layers(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows of each layer, shallow to deep, those without a layer first, groups last."""
    parts = rows.partition_by("layer", maintain_order=True)
    return sorted(parts, key=lambda part: layer_depth(part.row(0, named=True)))


def _layer_title(rows: pl.DataFrame) -> str:
    """What the rows of one layer are called; with its calls, where all sources have the same."""
    layer = rows["layer"][0]
    if layer is None:
        return "whole network"
    calls = set(rows["layer_calls"]) - {None, layer}
    words = f" ({calls.pop().replace(',', ', ')})" if len(calls) == 1 else ""
    return f"layer {layer}{words}"


def _curves(
    axis: Axes,
    rows: pl.DataFrame,
    names: Sequence[str],
    look: dict[str, tuple[str, str]],
    dash: dict[str, Any],
) -> dict[str, Line2D]:
    """Draw one line per series."""
    series: dict[str, list[Row]] = {}
    for row in rows.sort("budget").iter_rows(named=True):
        if row["rate"] is not None:
            series.setdefault(series_label(row, names), []).append(row)
    handles = {}
    for label, points in series.items():
        color, marker = look[points[0]["method"]]
        x = [100 * point["budget"] for point in points]
        low, high = ([_end(point, side) for point in points] for side in ("low", "high"))
        if len(series) <= BANDS:
            axis.fill_between(x, low, high, color=color, alpha=0.14, linewidth=0)
        (handles[label],) = axis.plot(
            x, [point["rate"] for point in points], color=color, marker=marker, markersize=5,
            linestyle=dash[label], label=label,
        )  # fmt: skip
    return handles


def _dashes(rows: pl.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """The dashes of every series, the same in all panels; those of one method differ."""
    series: dict[str, list[str]] = {}
    for row in rows.iter_rows(named=True):
        labels = series.setdefault(row["method"], [])
        if (label := series_label(row, names)) not in labels:
            labels.append(label)
    return {
        label: DASHES[index % len(DASHES)]
        for labels in series.values()
        for index, label in enumerate(labels)
    }


def _end(row: Row, side: str) -> float:
    """An end of the rate's interval, or the rate where one identity gives none."""
    end = row[f"rate_{side}"]
    return float(row["rate"] if end is None else end)


def _clean_line(axis: Axes, rows: pl.DataFrame) -> Line2D:
    for clean in rows["clean_rate"].drop_nulls().unique():
        axis.axhline(clean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    return Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)))


def _shade(axis: Axes, budgets: Sequence[float], no_better: Collection[float]) -> dict[str, Artist]:
    """Shade some budgets, each half of the way to its neighbors on the logarithmic axis."""
    logs = np.log(budgets)
    steps = np.diff(logs) / 2 if len(logs) > 1 else np.array([0.35])
    lows = np.exp(logs - np.concatenate([steps[:1], steps])[: len(logs)])
    highs = np.exp(logs + np.concatenate([steps, steps[-1:]])[: len(logs)])
    spans = [
        axis.axvspan(100 * low, 100 * high, color=INK, alpha=0.08, linewidth=0, zorder=0)
        for budget, low, high in zip(budgets, lows, highs, strict=True)
        if budget in no_better
    ]
    if not spans:
        return {}
    axis.set_xlim(100 * lows[0], 100 * highs[-1])
    return {"random pixels or a blob take as much": spans[0]}


def _budget_axis(axis: Axes, budgets: Sequence[float]) -> None:
    axis.set_xscale("log")
    axis.set_xticks([100 * budget for budget in budgets])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axis.set_xlabel("Budget (share of pixels hidden)")


# ---------------------------------------------------------------------------- heat map


@styled
def layer_heatmap(summary: pl.DataFrame, *, width: float) -> Figure:
    """Drop of recognition, layer by method; cells say where identities had no map.

    Args:
        summary: Rows of one recognizer, budget and fill.
        width: In inches.
    """
    rows = summary.filter(pl.col("layer").is_not_null())
    names = varying(rows)
    cells = {
        (_layer_title(part), series_label(row, names)): row
        for part in _layers(rows)
        for row in part.iter_rows(named=True)
    }
    layers = list(dict.fromkeys(layer for layer, _ in cells))
    methods = sorted({method for _, method in cells})
    # The longer list goes down: there is room for its labels.
    wide = width > 6
    lying = len(methods) > (max(6, len(layers)) if wide else len(layers))
    down, across = (methods, layers) if lying else (layers, methods)
    grid = [[cells.get((x, y) if lying else (y, x)) for x in across] for y in down]
    figure = Figure(figsize=(width, 0.9 + 0.5 * len(down)), layout="constrained")
    axis = figure.subplots()
    room = (width - (2.5 if wide else 1.3)) / max(1, len(across))
    drops = np.array([[_drop(row) for row in line] for line in grid])
    image = _heat(axis, drops, grid if room > CELL else [])
    steep = room < CELL
    labels = [folded(name, 18 if steep else max(10, int(13 * room))) for name in across]
    axis.set_xticks(range(len(across)), labels, rotation=90 if steep else 0)
    axis.set_yticks(range(len(down)), [folded(name, 30 if wide else 20) for name in down])
    axis.xaxis.tick_top()
    axis.grid(False)
    axis.spines[:].set_visible(False)
    if wide or steep:
        figure.colorbar(image, ax=axis, label="Drop of recognition", shrink=0.9, pad=0.01)
    return figure


def _heat(axis: Axes, drops: Float[np.ndarray, "y x"], grid: Sequence[Sequence[Row | None]]) -> Any:
    """Color the cells and write into them what `grid` holds, if anything."""
    known = drops[np.isfinite(drops)]
    top = max(float(known.max()), 1e-3) if known.size else 1.0
    image = axis.imshow(drops, cmap="Blues", vmin=min(0.0, *known, 0.0), vmax=top, aspect="auto")
    for y, line in enumerate(grid):
        for x, row in enumerate(line):
            dark = np.isfinite(drops[y, x]) and drops[y, x] > 0.55 * top
            axis.text(x, y, _cell_text(row), ha="center", va="center", linespacing=1.25,
                      color=PAPER if dark else INK)  # fmt: skip
    return image


def _drop(row: Row | None) -> float:
    return np.nan if row is None or row["drop"] is None else float(row["drop"])


def _cell_text(row: Row | None) -> str:
    if row is None:
        return ""
    words = "no score" if row["drop"] is None else number(row["drop"], signed=True)
    none = row["degenerate_share"]
    return f"{words}\n{percent(none, 0)} no map" if none else words


# ---------------------------------------------------------------------------- transfer


@styled
def transfer_maps(transfers: Mapping[str, Transfer], *, width: float) -> Figure:
    """Drop of recognition, source by target, one panel per method; framed where they are one.

    Args:
        transfers: Title of each panel and its matrices.
        width: In inches.
    """
    sources, targets = (
        list(
            dict.fromkeys(
                name for transfer in transfers.values() for name in getattr(transfer, side)
            )
        )
        for side in ("sources", "targets")
    )
    room = max(1, int((width - 1.7) / (1.05 * len(targets) + 0.15)))
    across = min(len(transfers), room)
    down = -(-len(transfers) // across)
    size = min(width, 1.7 + across * max(2.3, 1.05 * len(targets) + 0.15))
    figure = Figure(figsize=(size, 0.2 + down * (0.75 + 0.5 * len(sources))), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    top = max(
        (float(np.nanmax(transfer.drop, initial=1e-3)) for transfer in transfers.values()),
        default=1e-3,
    )
    tight = (size - 1.7) / across < 0.75 * len(targets)
    for axis, (title, transfer) in zip(axes, transfers.items(), strict=False):
        _transfer_panel(axis, transfer, sources, targets, top, tight=tight)
        axis.set_title(folded(title, 18 if width < 6 else max(18, 13 * len(targets))), pad=6)
    for axis in axes[len(transfers) :]:
        axis.set_visible(False)
    for axis in axes[max(0, len(transfers) - across) : len(transfers)]:
        axis.tick_params(axis="x", labelbottom=True)
    figure.supxlabel("target recognizer", fontsize=8.5)
    figure.supylabel("source recognizer", fontsize=8.5)
    return figure


def _transfer_panel(
    axis: Axes,
    transfer: Transfer,
    sources: Sequence[str],
    targets: Sequence[str],
    top: float,
    *,
    tight: bool,
) -> None:
    drops = np.full((len(sources), len(targets)), np.nan)
    for (i, j), drop in np.ndenumerate(transfer.drop):
        y, x = sources.index(transfer.sources[i]), targets.index(transfer.targets[j])
        drops[y, x] = drop
        relative = float(transfer.relative[i, j])
        words = "" if np.isnan(drop) else number(drop, signed=True)
        words += "" if np.isnan(relative) else f"\n{percent(relative, 0)}"
        axis.text(x, y, words, ha="center", va="center", linespacing=1.25,
                  fontsize=6.5 if tight else 8.5,
                  color=PAPER if drop > 0.55 * top else INK)  # fmt: skip
        if transfer.sources[i] == transfer.targets[j]:
            axis.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fill=False, edgecolor=INK,
                                     linewidth=1.2))  # fmt: skip
    axis.imshow(drops, cmap="Blues", vmin=0.0, vmax=top, aspect="auto")
    names = [folded(name, 20 if tight else 14) for name in targets]
    axis.set_xticks(range(len(targets)), names, rotation=90 if tight else 0)
    axis.set_yticks(range(len(sources)), [folded(name.replace("+", " + "), 20) for name in sources])
    axis.grid(False)
    axis.spines[:].set_visible(False)


# ---------------------------------------------------------------------------- fills


@styled
def fills(summary: pl.DataFrame, *, width: float) -> Figure:
    """Recognition under every fill, with 95 % intervals, clean as a line.

    Args:
        summary: Rows of one recognizer and budget, one series per method (its best layer).
        width: In inches.
    """
    kinds = summary["fill"].unique(maintain_order=True).to_list()
    names = varying(summary)
    series: dict[str, list[Row]] = {}
    for row in summary.iter_rows(named=True):
        series.setdefault(place_label(row, names), []).append(row)
    look = looks(summary["method"])
    room = max(0.62, 0.11 * len(series))
    figure = Figure(figsize=(width, 0.9 + room * len(kinds)), layout="constrained")
    axis = figure.subplots()
    handles = {}
    used: dict[str, int] = {}
    for index, (label, rows) in enumerate(series.items()):
        shift = (index - (len(series) - 1) / 2) * 0.7 / max(len(series), 1)
        color, marker = look[rows[0]["method"]]
        used[marker] = used.get(marker, 0) + 1
        face = color if used[marker] % 2 else PAPER  # series of one method: filled, hollow, ...
        for row in (candidate for candidate in rows if candidate["rate"] is not None):
            y = kinds.index(row["fill"]) + shift
            axis.plot([_end(row, "low"), _end(row, "high")], [y, y], color=color, linewidth=1.4)
            axis.plot(
                row["rate"], y, color=color, marker=marker, markersize=6, markerfacecolor=face
            )
        handles[label] = Line2D(
            [], [], color=color, marker=marker, linewidth=1.4, markerfacecolor=face
        )
    for clean in summary["clean_rate"].drop_nulls().unique():
        axis.axvline(clean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    handles["clean"] = Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.set_yticks(range(len(kinds)), [folded(kind, 16) for kind in kinds])
    axis.set_ylim(len(kinds) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.hlines(np.arange(len(kinds) - 1) + 0.5, 0, 1, transform=axis.get_yaxis_transform(),
                color=GRID, linewidth=0.8)  # fmt: skip
    axis.set_xlabel("Recognition rate")
    legend(figure, handles, width)
    return figure


# ---------------------------------------------------------------------------- a run's figures

#: Width of a figure in inches, and lines of a chart.
WIDTH, LINES = 7.0, 8

#: What tells one line of a chart from another, and what the cells of a transfer matrix share.
_SERIES = [name for name in CONFIGURATION if name not in
           ("target", "layer_calls", "control", "budget", "fill", "reading",
            "threshold")]  # fmt: skip
_ACROSS = [name for name in CONFIGURATION
           if name not in ("source", "target", "layer_calls", "threshold")]  # fmt: skip


def write_figures(runs: Sequence[Path], out: Path, kind: str) -> list[Path]:
    """Write the figures of runs: of each data set, recognizer and reading, and of transfer.

    Args:
        runs: Run folders.
        out: The folder they go to; made where it is not there.
        kind: ``"svg"`` or ``"png"``.

    Returns:
        The files, in order.
    """
    summary = summarize(read_runs(runs))
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for shown in default_slices(summary):
        for name, figure in _figures(summary, shown):
            stem = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{name}-{shown.reading}")
            figures.save(figure, path := out / f"{stem}.{kind}")
            written.append(path)
    return written


def _figures(summary: pl.DataFrame, shown: Slice) -> Iterator[tuple[str, Figure]]:
    own = summary.filter((pl.col("source") == pl.col("target")) | ~COMPETES)
    for rows in own.partition_by("faces", "target", maintain_order=True):
        part, name = shown.of(rows), f"{rows['faces'][0]}-{rows['target'][0]}"
        if part.filter(COMPETES).is_empty():
            continue
        yield f"{name}-drops", figures.drop_intervals(leading(part), width=WIDTH)
        if part["layer"].drop_nulls().len():
            yield f"{name}-layers", layer_heatmap(part, width=WIDTH)
        few = leading(part, LINES).select(_SERIES).unique()
        series = rows.join(few, on=_SERIES, how="semi", nulls_equal=True, maintain_order="left")
        budgets = shown.at(series, "fill", "split")
        if budgets["budget"].n_unique() > 1:
            shaded = {margin.top["budget"] for margin in margins(budgets) if not margin.shown}
            yield f"{name}-budgets", budget_curves(budgets, width=WIDTH, no_better=shaded)
        by_fill = shown.at(series, "budget", "split").filter(reading=shown.reading)
        if by_fill["fill"].n_unique() > 1:
            yield f"{name}-fills", fills(by_fill, width=WIDTH)
    rows = shown.of(summary).filter(COMPETES & pl.col("rate").is_not_null())
    panels = [panel for panel in rows.partition_by(_ACROSS, maintain_order=True)
              if panel["target"].n_unique() > 1]  # fmt: skip
    panels.sort(key=lambda panel: -max(panel["drop"].to_list()))
    transfers = {
        place_label(panel.row(0, named=True), []): transfer_matrices(panel)
        for panel in panels[::-1]
    }
    if transfers:
        last = dict(list(transfers.items())[-LINES:])
        yield "transfer", transfer_maps(last, width=WIDTH)
