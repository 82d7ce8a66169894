"""Pictures of the paper's tables: losses beside the printed ones, and ranks over resamples."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from facefocus.core.text import percent
from facefocus.paper.leaderboard import Board
from facefocus.paper.paper_tables import PaperTable
from facefocus.report.figures import INK, MUTED, PAPER, folded, legend, looks, styled


@styled
def losses(table: PaperTable, *, width: float) -> Figure:
    """Table 9: average recognition under every loss, a panel for each technique.

    Filled with its interval: ours. Hollow: the paper's.

    Args:
        table: Table 9, filled.
        width: In inches.
    """
    names = [" ".join(filter(lambda part: part != "-", row.labels)) for row in table.rows]
    wide = width > 6
    count = len(table.columns)
    figure = Figure(
        figsize=(width, 0.95 + 0.27 * len(names) * (1 if wide else count)), layout="constrained"
    )
    axes = figure.subplots(*((1, count) if wide else (count, 1)), sharey=True, squeeze=False)
    look = looks(table.columns)
    positions = np.arange(len(names))
    for axis, column in zip(axes.ravel(), table.columns, strict=True):
        color, marker = look[column]
        for position, row in zip(positions, table.rows, strict=True):
            cell = row.cells[table.columns.index(column)]
            if isinstance(cell.printed, float):
                axis.plot(cell.printed, position, marker=marker, markersize=6, color=MUTED,
                          markerfacecolor=PAPER, linestyle="none")  # fmt: skip
            if cell.measured is not None:
                axis.plot([cell.measured.low, cell.measured.high], [position, position],
                          color=color, linewidth=1.5)  # fmt: skip
                axis.plot(cell.measured.value, position, marker=marker, markersize=6, color=color)
        axis.set_title(column)
        axis.set_xlabel("Average recognition")
        axis.grid(axis="y", visible=False)
        axis.margins(x=0.12)
        axis.locator_params(axis="x", nbins=4)
    axes[0, 0].set_yticks(positions, names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    style: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 6}
    legend(
        figure,
        {
            "ours, 95 % interval": Line2D([], [], color=INK, **style),
            "the paper": Line2D([], [], color=MUTED, markerfacecolor=PAPER, **style),
        },
        width,
    )
    return figure


@styled
def rank_shares(board: Board, *, width: float) -> Figure:
    """How often each method has each rank when identities are resampled.

    Args:
        board: Methods, best mean rank first.
        width: In inches.
    """
    count = len(board.methods)
    figure = Figure(figsize=(min(width, 2.6 + 0.75 * count), 0.8 + 0.38 * count),
                    layout="constrained")  # fmt: skip
    axis = figure.subplots()
    axis.imshow(board.ranks.shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (y, x), share in np.ndenumerate(board.ranks.shares):
        if share >= 0.005:
            axis.text(x, y, percent(float(share), 0), ha="center", va="center",
                      color=PAPER if share > 0.55 else INK)  # fmt: skip
    axis.set_xticks(range(count), [str(rank + 1) for rank in range(count)])
    axis.set_yticks(range(count), [folded(name, 22) for name in board.methods])
    axis.set_xlabel("Rank by drop of recognition (1 = largest)")
    axis.grid(False)
    axis.spines[:].set_visible(False)
    return figure
