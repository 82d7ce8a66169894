"""Pictures of truth scores: methods by world, and maps under the outline of what is planted."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facefocus.analysis.labels import place_label, varying
from facefocus.analysis.summary import Row, competes
from facefocus.benchmark.result_columns import MAP
from facefocus.report.figures import (
    INK,
    PAPER,
    draw_outline,
    looks,
    styled,
)
from facefocus.report.report_data import Gallery

#: In inches: a tile with its gap (about), the gap, a line of title.
TILE, GAP, LINE = 1.1, 0.035, 0.14

#: What is outlined: pixels that are planted in at least so many of a person's photos.
OUTLINED = 0.5
#: Of the maps, in inches: two lines of title.
TITLE = 0.08 + 2 * LINE
_OUTLINE, _HALO = "#00e5ff", "#0b1220"


@styled
def bars(by_world: Mapping[str, pl.DataFrame], *, width: float) -> Figure:
    """ROC AUC and share in the part, one line of panels per world, a bar for each method.

    Args:
        by_world: By world, rows of `truth.truth_summary`, one per method.
        width: In inches.
    """
    wide = width > 6
    look = looks(name for rows in by_world.values() for name in rows["method"])
    longest = max(rows.height for rows in by_world.values())
    shape = (len(by_world), 2) if wide else (2 * len(by_world), 1)
    high = (0.5 + 0.24 * longest) * shape[0]
    figure = Figure(figsize=(width, high), layout="constrained")
    axes = figure.subplots(*shape, squeeze=False).ravel()
    for line, (world, rows) in enumerate(by_world.items()):
        left, right = axes[2 * line], axes[2 * line + 1]
        first = rows.row(0, named=True)
        _bars(left, rows, "truth_auc", 0.5, first["truth_auc_best"], look)
        _bars(right, rows, "truth_share", first["truth_chance"], first["truth_share_best"], look)
        left.set_title(f"World '{world}': ROC AUC")
        right.set_title(f"World '{world}': share in the part")
        right.tick_params(axis="y", labelleft=not wide)
    return figure


def _bars(
    axis: Axes,
    rows: pl.DataFrame,
    name: str,
    chance: float,
    best: float,
    look: Mapping[str, tuple[str, str]],
) -> None:
    """A bar from chance to each method's mean, with its interval; the best possible dashed."""
    names = varying(rows)
    ordered = rows.sort("truth_auc", descending=True, maintain_order=True).to_dicts()
    for y, row in enumerate(ordered):
        color = look[row["method"]][0]
        alpha = 0.85 if competes(row) else 0.4
        axis.barh(y, row[name] - chance, left=chance, height=0.66, color=color, alpha=alpha)
        if row[f"{name}_low"] is not None:
            axis.plot([row[f"{name}_low"], row[f"{name}_high"]], [y, y], color=INK, linewidth=1.2)
    axis.axvline(chance, color=INK, linewidth=1)
    axis.axvline(best, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.set_yticks(range(len(ordered)), [_label(row, names) for row in ordered])
    axis.set_ylim(len(ordered) - 0.4, -0.6)
    ends = [row[f"{name}_low"] for row in ordered if row[f"{name}_low"] is not None]
    low = min([chance, *(row[name] for row in ordered), *ends])
    axis.set_xlim(max(-0.02, low - 0.04), 1.02)
    axis.grid(axis="y", visible=False)


def _label(row: Row, names: Sequence[str]) -> str:
    return textwrap.shorten(place_label(row, names), 46, placeholder="...")


# --- maps -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Line:
    """One person's maps.

    Attributes:
        planted: The planted share of each pixel.
        face: A photo, where faces may be shown.
        tiles: Title and map of each method; None where the person has none.
    """

    planted: Float[np.ndarray, "h w"]
    face: UInt8[np.ndarray, "h w 3"] | None
    tiles: Sequence[tuple[str, Float[np.ndarray, "h w"] | None]]


def line(gallery: Gallery, identity: str, best: pl.DataFrame) -> Line:
    """The maps of one person that `best` names (rows of `truth.truth_summary`)."""
    names = varying(best)
    tiles = []
    for row in best.iter_rows(named=True):
        same = [pl.col(name).eq_missing(pl.lit(row[name])) for name in MAP]
        rows = gallery.at(row["budget"], row["fill"]).filter(identity=identity)
        for map_row in rows.filter(*same).head(1).iter_rows(named=True):
            shown = None if map_row["degenerate"] else gallery.maps[map_row["map"]]
            tiles.append((place_label(row, names).replace(" @ ", "\nlayer "), shown))
    image = gallery.rows.filter(identity=identity)["image"][0]
    face = None if gallery.faces is None else np.asarray(gallery.faces.frames[image])
    return Line(gallery.planted[identity], face, tiles)


@styled
def maps(lines: Sequence[Line], *, width: float) -> Figure:
    """A line of maps per person, first the face with what is planted in it; columns wrap.

    Args:
        lines: All with the same tiles.
        width: In inches.
    """
    room = max(2, round((width - GAP) / TILE))
    count = len(lines[0].tiles)
    # Each person's first tile is repeated when the maps wrap, so that it stands beside all.
    turns = max(1, -(-count // (room - 1)))
    step = max(1, -(-count // turns))
    side = (width - GAP) / room - GAP
    down = len(lines) * (side + GAP) + TITLE
    high = turns * down + GAP
    figure = Figure(figsize=((step + 1) * (side + GAP) + GAP, high))
    wide = figure.get_figwidth()
    for turn in range(turns):
        for number, line in enumerate(lines):
            shown = line.tiles[turn * step : (turn + 1) * step]
            for column, tile in enumerate([("planted", None), *shown]):
                left = GAP + column * (side + GAP)
                top = turn * down + TITLE + number * (side + GAP)
                axis = figure.add_axes(
                    (left / wide, 1 - (top + side) / high, side / wide, side / high)
                )
                axis.set_axis_off()
                _draw(axis, line, tile[1], first=column == 0)
                if number == 0:
                    _title(axis, tile[0])
    return figure


def _title(axis: Axes, title: str) -> None:
    words = "\n".join(textwrap.shorten(part, 20, placeholder="...") for part in title.split("\n"))
    axis.set_title(words, fontsize=8, fontweight="normal", loc="center", pad=3)


def _draw(axis: Axes, line: Line, saliency: np.ndarray | None, *, first: bool) -> None:
    """The face or a drawn outline, or a map; over it where identity is planted."""
    height, width = line.planted.shape
    if first and line.face is not None:
        axis.imshow(line.face)
    elif first or saliency is None:
        axis.imshow(np.full((height, width, 3), 244, np.uint8))
        draw_outline(axis, height, width, color="#94a3b8")
    else:
        axis.imshow(saliency, cmap="magma", interpolation="nearest")
    if not first and saliency is None:
        axis.text(width / 2, height / 2, "no map", ha="center", va="center", fontsize=8, color=INK,
                  bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 2.5})  # fmt: skip
    # A part that moves from photo to photo may be in no pixel of half of them.
    level = min(OUTLINED, 0.5 * float(line.planted.max()))
    if level > 0:
        for color, thick in ((_HALO, 2.2), (_OUTLINE, 1.0)):
            axis.contour(line.planted, levels=[level - 1e-9], colors=color, linewidths=thick)
