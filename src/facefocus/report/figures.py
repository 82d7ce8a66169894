"""What all static pictures share - style, colors, legends, the outline of a face - and intervals.

Every function takes summary rows (`summary.summarize`) and a width in inches, and returns a figure
that `save` writes; one CSS pixel is 1/96 inch. Backend and global settings are left alone.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve
from matplotlib.transforms import Affine2D

from facefocus.analysis.labels import place_label, varying
from facefocus.core.notebook_figure import NotebookFigure
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


def folded(label: str, limit: int, *, lines: int = 3) -> str:
    """A label on a few lines of at most `limit` characters, cut where longer.

    A word that is longer than a line is broken after a hyphen, and within only if it has none.
    """
    long = any(len(word) > limit for word in label.split())
    return textwrap.fill(label, limit, max_lines=lines, placeholder="...", break_on_hyphens=long)


# ---------------------------------------------------------------------------- intervals


@styled
def drop_intervals(summary: pl.DataFrame, *, width: float) -> Figure:
    """The drop of recognition of each configuration, with its 95 % interval.

    Args:
        summary: Rows of one recognizer, budget, fill and split.
        width: In inches.
    """
    rows, names = sorted(summary.to_dicts(), key=standing), varying(summary)
    labels = [folded(place_label(row, names), 40 if width > 6 else 20, lines=4) for row in rows]
    # One unit of y is an inch: a row is as high as its label needs.
    heights = np.array([max(0.15 * (text.count("\n") + 1), 0.2) for text in labels])
    ends = (heights + 0.06).cumsum()
    total = float(ends[-1]) if len(ends) else 0.3
    figure = NotebookFigure(figsize=(width, 0.65 + total), layout="constrained")
    axis, look = figure.subplots(), looks(summary["method"])
    for y, row in zip(ends - heights / 2, rows, strict=True):
        color = look[row["method"]][0]
        if row["drop_low"] is not None:
            axis.plot([row["drop_low"], row["drop_high"]], [y, y], color=color, linewidth=1.5)
        if row["drop"] is not None:
            axis.plot(row["drop"], y, marker="o", markersize=5.5, color=color)
    axis.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.set_title("Drop of recognition")
    axis.grid(axis="y", visible=False)
    axis.set_yticks(ends - heights / 2, labels)
    axis.set_ylim(total + 0.06, 0)
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
