"""The pictures of a report: curves, heat map, fills, identities and the gallery of maps.

Every function takes summary rows (`summary.summarize`) and a width in inches, and returns a figure
that `save` writes; one CSS pixel is 1/96 inch. Backend and global settings are left alone.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Curve
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import Affine2D

from facefocus.analysis.labels import layer_depth, place_label, series_label, varying
from facefocus.analysis.summary import COMPETES, Row
from facefocus.core.text import number, percent
from facefocus.evaluation.transfer import Transfer
from facefocus.report.columns import standing

P = ParamSpec("P")

INK, MUTED, GRID, PAPER = "#1f2937", "#6b7280", "#e5e7eb", "#ffffff"

STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "text.color": INK, "text.parse_math": False,
    "axes.edgecolor": "#9ca3af", "axes.labelcolor": INK, "axes.titlesize": 9.5,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.grid": True,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.8, "axes.labelsize": 8.5, "grid.color": GRID, "grid.linewidth": 0.8,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.major.size": 0, "ytick.major.size": 0, "legend.frameon": False, "lines.linewidth": 1.8,
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "hatch.linewidth": 0.6,
    "svg.fonttype": "path", "svg.hashsalt": "facefocus",
}  # fmt: skip

#: Color and marker of the known methods (Okabe and Ito's palette, told apart by any eye).
METHODS = {
    "gradcam": ("#0072B2", "o"), "gradcam++": ("#D55E00", "s"), "layercam": ("#009E73", "^"),
    "srise": ("#CC79A7", "D"), "corrrise": ("#E69F00", "v"), "occlusiongradient": ("#111827", "*"),
    "gradientxinput": ("#56B4E9", "P"), "hirescam": ("#8B5E3C", "X"), "leam": ("#7A4FBF", "h"),
    "eigencam": ("#B8A800", "<"),
    "random": ("#8a8f98", "x"), "centergaussian": ("#8a8f98", "+"), "oracle": ("#4b5563", "d"),
}  # fmt: skip
#: For methods that others add, in the order of their names.
OTHERS = (("#A3123F", ">"), ("#0F766E", "p"), ("#4338CA", "8"), ("#B45309", "H"), ("#65A30D", "d"))

#: With more lines than this in one panel, bands would hide each other: only lines are drawn.
BANDS = 4

#: A cell of the heat map narrower than this, in inches, has room for no number.
CELL = 0.48

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1, 1.5)))


def looks(methods: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Color and marker of each method: fixed for known ones, by name's order for the others."""
    known = {name: METHODS.get(re.sub(r"[^a-z+]", "", name.lower())) for name in set(methods)}
    others = sorted(name for name, look in known.items() if look is None)
    spare = {name: OTHERS[index % len(OTHERS)] for index, name in enumerate(others)}
    return {name: look or spare[name] for name, look in known.items()}


@contextmanager
def _style() -> Iterator[None]:
    # Defaults first: a user's matplotlibrc must not change a report. They leave the backend alone.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under this module's style and nobody else's."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return inside


def save(figure: Figure, path: Path) -> None:
    """Write an SVG, or a PNG at twice its shown size, with the same bytes every time."""
    nothing = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with _style():
        figure.savefig(path, dpi=192, metadata=nothing)


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


def legend(figure: Figure, handles: Mapping[str, Artist], width: float) -> None:
    """A legend above the axes; the figure grows by its lines after the first."""
    labels = [folded(label, 40) for label in handles]
    longest = max((len(line) for label in labels for line in label.split("\n")), default=1)
    across = max(1, min(len(handles), int(width / (0.7 + 0.075 * longest))))
    tall = max((label.count("\n") + 1 for label in labels), default=1)
    lines = -(-len(labels) // across) * tall
    figure.set_figheight(figure.get_figheight() + 0.2 * (lines - 1))
    figure.legend(
        handles.values(), labels, loc="outside upper left", ncols=across, handlelength=3.6,
        columnspacing=1.6,
    )  # fmt: skip


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


def folded(label: str, limit: int, *, lines: int = 3) -> str:
    """A label on a few lines of at most `limit` characters, cut where longer.

    A word that is longer than a line is broken after a hyphen, and within only if it has none.
    """
    long = any(len(word) > limit for word in label.split())
    return textwrap.fill(label, limit, max_lines=lines, placeholder="...", break_on_hyphens=long)


# ---------------------------------------------------------------------------- intervals


@dataclass(frozen=True)
class Panel:
    """One panel of `intervals`.

    Attributes:
        title: Above it.
        figures: Names of summary columns with an interval, and what the legend calls them; the
            first is drawn filled, the second hollow.
        zero: Whether zero is a value to see it against.
    """

    title: str
    figures: tuple[tuple[str, str], ...]
    zero: bool = True


@styled
def intervals(summary: pl.DataFrame, panels: Sequence[Panel], *, width: float) -> Figure:
    """Means with 95 % intervals: a row per configuration, the same rows in every panel.

    Args:
        summary: Rows of one recognizer, budget, fill and split, each with the panels' columns.
        panels: Side by side, or one above the other where it is narrow.
        width: In inches.
    """
    rows = sorted(summary.to_dicts(), key=standing)
    names = varying(summary)
    wide = width > 6
    shape = (1, len(panels)) if wide else (len(panels), 1)
    pair = max(len(panel.figures) for panel in panels) > 1
    labels = [folded(place_label(row, names), 40 if wide else 20, lines=4) for row in rows]
    # One unit of y is an inch: a row is as high as its label needs.
    heights = np.array([max(0.15 * (text.count("\n") + 1), 0.2 + 0.05 * pair) for text in labels])
    ends = (heights + 0.06).cumsum()
    places = ends - heights / 2
    total = float(ends[-1]) if len(ends) else 0.3
    figure = Figure(figsize=(width, (0.65 + total) * shape[0] + 0.3 * pair), layout="constrained")
    axes = figure.subplots(*shape, sharey=True, squeeze=False).ravel()
    look = looks(summary["method"])
    for axis, panel in zip(axes, panels, strict=True):
        for y, row in zip(places, rows, strict=True):
            _interval_marks(axis, row, panel, float(y), look[row["method"]][0])
        if panel.zero:
            axis.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axis.set_title(folded(panel.title, 42))
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", labelleft=not wide or axis is axes[0])
    axes[0].set_yticks(places, labels)
    axes[0].set_ylim(total + 0.06, 0)
    if pair:
        legend(figure, _hollow_legend(panels), width)
    return figure


def _interval_marks(axis: Axes, row: Row, panel: Panel, y: float, color: str) -> None:
    for index, (name, _) in enumerate(panel.figures):
        value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
        at = y + (index - (len(panel.figures) - 1) / 2) * 0.1
        if value is None:
            continue
        if low is not None and high is not None:
            axis.plot([low, high], [at, at], color=color, linewidth=1.5, alpha=1 - 0.35 * index)
        axis.plot(value, at, marker="o", markersize=5.5, markeredgecolor=color, markeredgewidth=1.4,
                  markerfacecolor=PAPER if index else color)  # fmt: skip


def _hollow_legend(panels: Sequence[Panel]) -> dict[str, Line2D]:
    words = {
        (index, text)
        for panel in panels
        if len(panel.figures) > 1
        for index, (_, text) in enumerate(panel.figures)
    }
    return {
        text: Line2D([], [], color=INK, marker="o", markersize=5.5, linewidth=1.5,
                     markerfacecolor=PAPER if index else INK)
        for index, text in sorted(words)
    }  # fmt: skip


# ---------------------------------------------------------------------------- transfer


@styled
def transfer_maps(found: Mapping[str, Transfer], *, width: float) -> Figure:
    """Drop of recognition, source by target, one panel per method; framed where they are one.

    Args:
        found: Title of each panel and its matrices.
        width: In inches.
    """
    sources, targets = (
        list(dict.fromkeys(name for transfer in found.values() for name in getattr(transfer, side)))
        for side in ("sources", "targets")
    )
    room = max(1, int((width - 1.7) / (1.05 * len(targets) + 0.15)))
    across = min(len(found), room)
    down = -(-len(found) // across)
    size = min(width, 1.7 + across * max(2.3, 1.05 * len(targets) + 0.15))
    figure = Figure(figsize=(size, 0.2 + down * (0.75 + 0.5 * len(sources))), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    top = max(
        (float(np.nanmax(transfer.drop, initial=1e-3)) for transfer in found.values()), default=1e-3
    )
    tight = (size - 1.7) / across < 0.75 * len(targets)
    for axis, (title, transfer) in zip(axes, found.items(), strict=False):
        _transfer_panel(axis, transfer, sources, targets, top, tight=tight)
        axis.set_title(folded(title, 18 if width < 6 else max(18, 13 * len(targets))), pad=6)
    for axis in axes[len(found) :]:
        axis.set_visible(False)
    for axis in axes[max(0, len(found) - across) : len(found)]:
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


# ---------------------------------------------------------------------------- outline

#: A face as Bezier strokes in the 112 x 112 frame, features where the ArcFace template has them:
#: each stroke is a start and then (control, control, end) triples.
STROKES: tuple[tuple[tuple[float, float], ...], ...] = (
    # head, from the left temple down round the chin and back over the forehead
    ((14, 52), (13, 80), (28, 124), (56, 124), (84, 124), (99, 80), (98, 52), (98, 18), (80, 1),
     (56, 1), (32, 1), (14, 18), (14, 52)),
    # eyes
    ((29, 52.3), (33, 46.5), (42, 46), (47, 53), (42, 56.5), (34, 57), (29, 52.3)),
    ((83, 52.1), (79, 46.3), (70, 45.8), (65, 52.8), (70, 56.3), (78, 56.8), (83, 52.1)),
    # irises
    ((38.3, 48.2), (43.1, 48.2), (43.1, 55.2), (38.3, 55.2), (33.5, 55.2), (33.5, 48.2),
     (38.3, 48.2)),
    ((73.5, 48), (78.3, 48), (78.3, 55), (73.5, 55), (68.7, 55), (68.7, 48), (73.5, 48)),
    # brows
    ((25, 41), (31, 35.5), (40, 35.5), (47.5, 40.5)),
    ((87, 40.8), (81, 35.3), (72, 35.3), (64.5, 40.3)),
    # nose
    ((52.5, 55), (52, 63), (46.5, 70), (47, 74.5), (48, 78.5), (53, 76), (56, 79), (59, 76),
     (64, 78.5), (65, 74.5)),
    # mouth: upper lip, lower lip, line between
    ((41.5, 92.4), (47, 89), (52, 86), (56, 88.2), (60, 86), (65, 89), (70.7, 92.2), (65, 101),
     (47, 101), (41.5, 92.4)),
    ((41.5, 92.4), (48, 92), (64, 92), (70.7, 92.2)),
)  # fmt: skip


def draw_outline(axis: Axes, height: int, width: int, *, color: str) -> None:
    """Draw a schematic face over a picture of a frame: it shows where, and shows nobody."""
    scale = Affine2D().scale(width / 112, height / 112).translate(-0.5, -0.5) + axis.transData
    for stroke in STROKES:
        codes = [Curve.MOVETO] + [Curve.CURVE4] * (len(stroke) - 1)
        axis.add_patch(
            PathPatch(
                Curve(stroke, codes), facecolor="none", edgecolor=color, linewidth=0.9, alpha=0.8,
                transform=scale, clip_on=True,
            )
        )  # fmt: skip
