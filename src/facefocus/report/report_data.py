"""What the sections of a run's page read: results, galleries, faces, and a folder for pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from facefocus.analysis.results import Slice, default_slices
from facefocus.analysis.summary import summarize
from facefocus.benchmark.result_columns import with_readings
from facefocus.core.locations import run_folders
from facefocus.faces.faceset import FaceSet
from facefocus.report import figures
from facefocus.report.document import Heading, Picture

#: Widths in inches of the two versions of every figure: 96 CSS pixels each.
WIDE, NARROW = 11.0, 3.6


@dataclass(frozen=True, eq=False)
class Gallery:
    """Maps and masks of a few people of one run.

    Attributes:
        rows: One for each mask: whose, by which method, for which budget and fill (null: for every
            fill); `map` is its map's place in `maps`, and `index` its own in `masks`.
        maps: Maps [n, H, W].
        masks: The masks [m, H, W] that were scored.
        planted: By identity, the planted share [H, W]; empty where nobody knows it.
        faces: The face set where faces may be shown.
    """

    rows: pl.DataFrame
    maps: np.ndarray
    masks: np.ndarray
    planted: Mapping[str, np.ndarray]
    faces: FaceSet | None

    def at(self, budget: float, fill: str) -> pl.DataFrame:
        """The rows of the budget nearest to `budget`, of maps that serve `fill`."""
        distance = (pl.col("budget") - budget).abs()
        rows = self.rows.filter(distance == distance.min())
        return rows.filter(pl.col("fill").is_null() | (pl.col("fill") == fill))


def read_gallery(run: Path, faces: FaceSet | None = None) -> Gallery | None:
    """The gallery of a run without variants; None where it has none, or an older form of it."""
    if not (run / "gallery.parquet").is_file() or not (run / "gallery.npz").is_file():
        return None
    rows = pl.read_parquet((run / "gallery.parquet").read_bytes())
    if "map" not in rows.columns:
        return None
    with np.load(run / "gallery.npz", allow_pickle=False) as arrays:
        planted = arrays.get("planted", ())
        people = rows["identity"].unique(maintain_order=True)
        return Gallery(
            rows=rows,
            maps=arrays["maps"],
            masks=arrays["masks"],
            planted=dict(zip(people, planted, strict=False)),
            faces=faces,
        )


@dataclass(frozen=True)
class Report:
    """What the sections read, and the folder their pictures go to.

    Attributes:
        run: The run's folder; that of all variants where there are any.
        results: Its result rows.
        provenance: What made them; empty where not recorded.
        experiment: The experiment file's text; empty where not recorded.
        folder: Where the page is being built.
        faces: The face set of each run folder, where faces may be shown; nothing shows no face
            pixel anywhere.
        summarized: `everything`, where it was computed before.
        level: Of headings: one below that of a reading, where there are two.
    """

    run: Path
    results: pl.DataFrame
    provenance: Mapping[str, Any]
    experiment: str
    folder: Path
    faces: Mapping[Path, FaceSet] = field(default_factory=dict)
    summarized: pl.DataFrame | None = None
    level: int = 3
    _names: list[str] = field(default_factory=list)

    @cached_property
    def summary(self) -> pl.DataFrame:
        """One row per configuration of methods' own masks."""
        return self.everything.filter(pl.col("control").is_null())

    @cached_property
    def everything(self) -> pl.DataFrame:
        """One row per configuration, controls too."""
        if self.summarized is not None:
            return self.summarized
        return summarize(self.results, controls=True)

    @property
    def slices(self) -> list[Slice]:
        """Budget and fill of the first look, for each reading."""
        return default_slices(self.summary)

    @cached_property
    def shown(self) -> Slice:
        """The first of `slices`: the only one in a report of one reading."""
        return self.slices[0]

    def readings(self) -> list[Report]:
        """The same report of each reading alone, artefact first: no figure mixes them."""
        if self.summary.is_empty():
            return []
        results, slices = with_readings(self.results), self.slices
        found = []
        for shown in slices:
            alone = pl.col("reading") == shown.reading
            rows, summarized = results.filter(alone), self.everything.filter(alone)
            level = self.level + (len(slices) > 1)
            found.append(replace(self, results=rows, summarized=summarized, level=level))
        return found

    @cached_property
    def galleries(self) -> list[Gallery]:
        """The galleries of the run, one of each variant."""
        found = [read_gallery(run, self.faces.get(run)) for run in run_folders(self.run)]
        return [gallery for gallery in found if gallery is not None]

    @property
    def drawn(self) -> bool:
        """Whether all faces are known to be nobody's: they come with their truth."""
        return all(gallery.planted for gallery in self.galleries)

    @property
    def title(self) -> str:
        """The experiment's name, or the folder's."""
        if self.results.is_empty():
            return self.run.resolve().name
        return ", ".join(self.results["experiment"].unique(maintain_order=True).to_list())

    def targets(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Each target recognizer and its summary rows."""
        for part in self.summary.partition_by("target", maintain_order=True):
            yield part["target"][0], part

    def heading(self, target: str) -> list[Heading]:
        """The recognizer's name where there are several."""
        return [Heading(target, self.level)] if self.summary["target"].n_unique() > 1 else []

    def picture(
        self, draw: Callable[[float], Figure], name: str, *, alt: str, caption: str, kind: str
    ) -> Picture:
        """Draw a figure at both widths and write it; `kind` is ``"svg"`` or ``"png"``."""
        stem = f"{len(self._names) + 1:02}-{name}"
        self._names.append(stem)
        images = self.folder / "images"
        images.mkdir(exist_ok=True)
        written = []
        for width, ending in ((WIDE, ""), (NARROW, "-narrow")):
            figure = draw(width)
            path = images / f"{stem}{ending}.{kind}"
            figures.save(figure, path)
            across, down = (96 * figure.get_size_inches()).round().astype(int).tolist()
            written.append((f"images/{path.name}", across, down))
        return Picture(written[0], alt, caption, narrow=written[1])


def spread(items: Sequence[str], count: int) -> list[str]:
    """`count` of the items, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]
