"""The results of a run as an object: tables, pictures and files of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import polars as pl

from facefocus.analysis.labels import place_label, varying
from facefocus.analysis.ranking import RANKS, ranked
from facefocus.analysis.results import read_results
from facefocus.analysis.summary import summarize
from facefocus.analysis.surviving_share import read_robustness, surviving_shares
from facefocus.benchmark.collect import write_run
from facefocus.benchmark.early_stopping import read_stop
from facefocus.benchmark.experiment import toml_of
from facefocus.benchmark.result_columns import COMPETES
from facefocus.benchmark.result_slices import Slice, default_slice, default_slices
from facefocus.benchmark.run import describe
from facefocus.benchmark.session import Session
from facefocus.core.errors import UserError
from facefocus.core.files import write_atomically
from facefocus.core.provenance import now
from facefocus.core.text import with_bounds
from facefocus.report import figures
from facefocus.report.document import Table, plain_table
from facefocus.report.latex_renderer import latex_document
from facefocus.report.markdown_renderer import markdown_document
from facefocus.report.page import write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Columns of a table that is read, in a document or a notebook.
_SHOWN = ("target", "method", "layer", "budget", "fill", "reading", "clean_rate", "rate",
          "drop")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Results:
    """What hiding did.

    Attributes:
        rows: A row for each identity and configuration: the columns of ``results.parquet``.
        folder: The run folder that they come from; None where they were made in memory.
        session: The session that made them in memory.

    Example:
        >>> import facefocus as ff
        >>> faces = ff.load_faces("synthetic-eyes", people=2)
        >>> maps = ff.explain("iresnet-mini-eyes", faces, "layer-cam", layer="1")
        >>> results = ff.evaluate(maps, "iresnet-mini-eyes", faces, budget=0.05)
        >>> results
        Results: 2 identities, 2 configurations on iresnet-mini-eyes
        >>> sorted(results.table["method"])
        ['layer-cam', 'random']
    """

    rows: pl.DataFrame
    folder: Path | None = None
    session: Session | None = None

    @classmethod
    def of_run(cls, folder: Path) -> Results:
        """The results of a run folder.

        Raises:
            UserError: It is no run folder, or is not finished.
        """
        return cls(read_results(folder), folder)

    @cached_property
    def table(self) -> pl.DataFrame:
        """A row for each configuration, with means, intervals, controls and audit."""
        return summarize(self.rows)

    @cached_property
    def ranking(self) -> pl.DataFrame:
        """The methods by their drop of recognition, with ranks over resampled people.

        Of the first target, of each reading by itself, at one budget and fill (`shown`).
        ``first_share`` is the share of resamplings in which a method comes first; ``rank_low`` and
        ``rank_high`` hold 95 % of its ranks. Null where there are too few people.

        Raises:
            UserError: No method competes.
        """
        rankings = [self._ranked(shown) for shown in default_slices(self.table)]
        table = pl.concat([ranks for ranks in rankings if ranks.height] or rankings[:1])
        if table.is_empty():
            raise UserError("There is no method to rank: no map has a score.")
        return table

    @cached_property
    def robustness(self) -> pl.DataFrame:
        """A row for each configuration and nuisance, with recognition and the surviving share.

        Raises:
            UserError: Nothing was tried under a nuisance, or the run's table cannot be read.
        """
        rows = None if self.folder is None else read_robustness([self.folder])
        if rows is None:
            raise UserError(
                "There is no robustness: nothing was tried under a nuisance. Run an experiment with"
                ' [robustness], e.g. nuisances = ["median-3", "inpaint-told", "jpeg-50"].'
            )
        return surviving_shares(rows)

    def _ranked(self, shown: Slice) -> pl.DataFrame:
        """`ranking` of one slice."""
        rows = self._first(shown).filter(COMPETES, pl.col("drop").is_not_null())
        names = varying(rows)
        labels = pl.Series("name", [place_label(row, names) for row in rows.to_dicts()], pl.String)
        table = ranked(self.rows, rows).insert_column(0, labels).sort("drop", descending=True)
        return table.select("reading", "name", "drop", "drop_low", "drop_high", *RANKS)

    @property
    def shown(self) -> Slice:
        """The budget and the fill of pictures and rankings; 1 % and black, if they were tried."""
        return default_slice(self.table)

    def plot(self, *, width: float = 8.0) -> Figure:
        """The drop of recognition of every configuration on the first target, with intervals.

        Under the fill `shown`.

        Args:
            width: In inches.
        """
        return figures.drop_intervals(self._first(self.shown), width=width)

    def report(self, folder: str | Path | None = None, *, with_faces: bool = False) -> Path:
        """Write the report page; returns its path.

        Args:
            folder: Where the run goes that the page is of; of no effect for a run folder's results.
            with_faces: Show face pixels; without it no file holds any.

        Raises:
            UserError: A folder is needed and none is named, or it cannot be written.
        """
        if self.folder is not None:
            return write_report(self.folder, with_faces=with_faces)
        if folder is None or self.session is None:
            raise UserError("These results are in memory. Name a folder: report('page/').")
        run = Path(folder)
        provenance = {**describe(self.session), "started": now(), "finished": now()}
        write_run(self.session, run, provenance, toml_of(self.session.experiment))
        return write_report(run, with_faces=with_faces)

    def to_parquet(self, path: str | Path) -> Path:
        """Write `rows`."""
        return _written(path, lambda file: self.rows.write_parquet(file))

    def to_csv(self, path: str | Path) -> Path:
        """Write `table` with full precision."""
        return _written(path, lambda file: self.table.write_csv(file))

    def to_markdown(self) -> str:
        """`table` as a Markdown table: means with intervals."""
        return markdown_document([self._document()])

    def to_latex(self) -> str:
        """`table` as a LaTeX table: means with intervals."""
        return latex_document([self._document()])

    def __repr__(self) -> str:
        return f"Results: {self._text()}"

    def _repr_html_(self) -> str:
        table = self._document()
        head = "".join(f"<th>{escape(column.title)}</th>" for column in table.columns)
        lines = (
            "".join(f"<td>{escape(cell)}</td>" for cell in row) for row in map(list, table.rows)
        )
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<p>{escape(self._text())}</p><table><tr>{head}</tr>{body}</table>"

    def _text(self) -> str:
        targets = ", ".join(self.table["target"].unique(maintain_order=True))
        people = str(self.rows["identity"].n_unique())
        if self.folder is not None and (stop := read_stop(self.folder)) is not None:
            people += f" of {stop['of']}"
        return f"{people} identities, {len(self.table)} configurations on {targets}"

    def _first(self, shown: Slice) -> pl.DataFrame:
        rows = shown.of(self.table)
        return rows.filter(pl.col("target") == rows["target"][0])

    def _document(self) -> Table:
        """The table for readers."""
        rows = [[_cell(row, name) for name in _SHOWN] for row in self.table.to_dicts()]
        names = [name.replace("_", " ") for name in _SHOWN]
        return plain_table(names, rows, "Means over identities with 95 % intervals", names=5)


def _written(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    target = Path(path)
    write_atomically(target, write)
    return target


def _cell(row: dict[str, object], name: str) -> str:
    value = row[name]
    if value is None:
        return "-"
    if isinstance(value, float) and f"{name}_low" in row:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        assert low is None or isinstance(low, float)
        assert high is None or isinstance(high, float)
        return with_bounds(value, low, high)
    return f"{value:g}" if isinstance(value, float) else str(value)
