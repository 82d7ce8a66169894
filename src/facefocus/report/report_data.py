"""What the sections of a run's page read: results, galleries, faces, and a folder for pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from facefocus.analysis.labels import settings_in_words
from facefocus.analysis.summary import Row, summarize
from facefocus.benchmark.person_values import read_person_values
from facefocus.benchmark.result_columns import MAP
from facefocus.benchmark.result_slices import Slice, default_slices
from facefocus.benchmark.stored_masks import STORED_MASKS, read_masks
from facefocus.core.locations import run_folders
from facefocus.faces.faceset import FaceSet
from facefocus.report import figures
from facefocus.report.document import Picture

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


def stored_people(
    run: Path, people: Collection[str], named: pl.DataFrame | None, faces: FaceSet | None = None
) -> Iterator[tuple[str, Gallery]]:
    """Maps and masks of each of some people, as far as the run's store still has them.

    Args:
        run: A run folder without variants.
        people: Whose.
        named: The maps that are read, a row of `MAP` each; None: all.
        faces: As of `Gallery`.
    """
    from facefocus.benchmark.run import recorded_store

    store = recorded_store(run) if people and (run / STORED_MASKS).is_file() else None
    if store is None:
        return
    index = pl.read_parquet((run / STORED_MASKS).read_bytes())
    if named is not None:
        index = index.join(named, on=list(MAP), how="semi", nulls_equal=True, maintain_order="left")
    for part in index.partition_by("block", maintain_order=True):
        rows, maps, masks = read_masks(store, part, people, partly=True)
        for own in rows.partition_by("identity", maintain_order=True):
            yield own["identity"][0], Gallery(own, maps, masks, {}, faces)


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
        summarized: `summary`, where it was computed before.
        called: The run's name on the page; by default that of its folder.
        persons: People whose maps are shown under every configuration.
        groups: Of a file of the user's: see `people_groups.groups_from_file`.
    """

    run: Path
    results: pl.DataFrame
    provenance: Mapping[str, Any]
    experiment: str
    folder: Path
    faces: Mapping[Path, FaceSet] = field(default_factory=dict)
    summarized: pl.DataFrame | None = None
    called: str = ""
    persons: Sequence[str] = ()
    groups: pl.DataFrame | None = None
    _names: list[str] = field(default_factory=list)

    @cached_property
    def summary(self) -> pl.DataFrame:
        """One row per configuration of methods' own masks."""
        return summarize(self.results) if self.summarized is None else self.summarized

    @cached_property
    def people(self) -> pl.DataFrame | None:
        """Pose and quality of each person's photos, from the run's folders; None of older runs."""
        return read_person_values(run_folders(self.run))

    @property
    def name(self) -> str:
        """What tells this run from others on its page."""
        return self.called or self.run.resolve().name

    @property
    def slices(self) -> list[Slice]:
        """Budget and fill of the first look, for each reading."""
        return default_slices(self.summary)

    @cached_property
    def shown(self) -> Slice:
        """The first of `slices`."""
        return self.slices[0]

    @cached_property
    def galleries(self) -> dict[Path, Gallery]:
        """The gallery of each of the run's folders, one a variant."""
        galleries = {run: read_gallery(run, self.faces.get(run)) for run in run_folders(self.run)}
        return {run: gallery for run, gallery in galleries.items() if gallery is not None}

    @property
    def drawn(self) -> bool:
        """Whether all faces are known to be nobody's: they come with their truth."""
        return all(gallery.planted for gallery in self.galleries.values())

    @property
    def title(self) -> str:
        """The experiment's name, or the folder's."""
        if self.results.is_empty():
            return self.run.resolve().name
        return ", ".join(self.results["experiment"].unique(maintain_order=True).to_list())

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
    positions = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[position] for position in positions]


def tile_rows(part: pl.DataFrame) -> list[tuple[str, Row]]:
    """Title and row of each distinct map of an identity: other images of it share the map."""
    rows = part.unique(MAP, keep="first", maintain_order=True)
    varies = [
        name
        for name in MAP
        if name not in ("source", "layer", "layer_calls")
        and any(part[name].n_unique() > 1 for part in rows.partition_by("method"))
    ]
    titled = []
    for row in rows.iter_rows(named=True):
        words = [f"layer {row['layer']}"] if row["layer"] else []
        words += settings_in_words(row, varies)
        titled.append(("\n".join(filter(None, (row["method"], ", ".join(words)))), row))
    return titled
