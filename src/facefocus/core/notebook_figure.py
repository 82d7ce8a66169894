"""A figure that a notebook shows: matplotlib's own only show where pyplot was imported."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that is no part of pyplot's state, and yet shown by a notebook.

    Example:
        >>> NotebookFigure(figsize=(1, 1))._repr_png_()[1:4]
        b'PNG'
    """

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
