"""Maps of people as an object: from a method here, or from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from jaxtyping import Float32

from facefocus.core.errors import UserError
from facefocus.core.files import write_atomically
from facefocus.core.text import percent
from facefocus.saliency.functions import checked_map
from facefocus.saliency.given import digest_of_maps, read_maps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Maps that `IdentityMaps.plot` draws unless others are named.
PLOTTED = 12


@dataclass(frozen=True, eq=False)
class IdentityMaps(Mapping[str, np.ndarray]):
    """A map [H, W] for each identity; larger values are hidden first.

    Attributes:
        name: What the maps are called in tables.
        maps: By identity; zeros where degenerate.
        source: The recognizer that they were made on, None where it is not known.
        degenerate: Identities without a ranking: the map is flat or not finite.
        pair_maps: Of each identity the pair maps that its map rests on, those of them that were
            left out as degenerate, and those that are hardly reproducible.

    Example:
        >>> import numpy as np
        >>> maps = IdentityMaps.from_arrays({"Ada": np.eye(4)}, name="mine")
        >>> maps["Ada"].shape, maps.degenerate
        ((4, 4), frozenset())
    """

    name: str
    maps: Mapping[str, Float32[np.ndarray, "h w"]]
    source: str | None = None
    degenerate: frozenset[str] = frozenset()
    pair_maps: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls, maps: Mapping[str, np.ndarray], name: str, source: str | None = None
    ) -> IdentityMaps:
        """Maps that were made elsewhere.

        Args:
            maps: An array [H, W] for each identity, all of one shape.
            name: What they are called in tables.
            source: The recognizer that they were made on.

        Raises:
            UserError: No map, or arrays of different shapes.
        """
        if not maps:
            raise UserError(f"The maps of '{name}' must be at least one array [H, W]. Got none.")
        frame = np.shape(next(iter(maps.values())))
        if len(frame) != 2:
            raise UserError(f"A map of '{name}' must have two axes, [H, W]. Got {len(frame)}.")
        height, width = frame
        checked = {key: checked_map(values, (height, width), name) for key, values in maps.items()}
        flat = frozenset(key for key, (_, degenerate) in checked.items() if degenerate)
        return cls(name, {key: saliency for key, (saliency, _) in checked.items()}, source, flat)

    @classmethod
    def from_npz(cls, path: Path | str, name: str | None = None) -> IdentityMaps:
        """Maps from a file that `to_npz` or ``numpy.savez(path, **maps)`` wrote.

        Raises:
            UserError: It cannot be read or holds no map.
        """
        return cls.from_arrays(read_maps(Path(path)), name or Path(path).stem)

    def to_npz(self, path: Path | str) -> Path:
        """Write the maps, an array for each identity; an experiment takes the file as ``maps``."""
        target = Path(path)
        arrays = dict(self.maps)
        write_atomically(target, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
        return target

    @property
    def digest(self) -> str:
        """sha256 (hex) of the maps."""
        return digest_of_maps(self.maps)

    @property
    def table(self) -> pl.DataFrame:
        """A row for each identity, with whether it has a map and on how many pair maps it rests."""
        none = (0, 0, 0)
        rows = [
            (name, name not in self.degenerate, *self.pair_maps.get(name, none)) for name in self
        ]
        columns = ["identity", "has_map", "pair_maps", "degenerate", "ill_conditioned"]
        return pl.DataFrame(rows, schema=columns, orient="row")

    def plot(self, *identities: str) -> Figure:
        """The maps of some identities, by default of the first 12, as a figure."""
        from facefocus.core.notebook_figure import NotebookFigure

        names = list(identities or list(self)[:PLOTTED])
        across = min(len(names), 4)
        down = -(-len(names) // across)
        figure = NotebookFigure(figsize=(2.2 * across, 2.4 * down), layout="constrained")
        for name, axis in zip(
            names, figure.subplots(down, across, squeeze=False).flat, strict=False
        ):
            axis.imshow(self[name], cmap="viridis")
            axis.set_title(f"{name}{' (no map)' * (name in self.degenerate)}", fontsize=9)
        for axis in figure.axes:
            axis.set_axis_off()
        return figure

    def __getitem__(self, identity: str) -> Float32[np.ndarray, "h w"]:
        return self.maps[identity]

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        return f"IdentityMaps '{self.name}': {self._text()}"

    def _repr_html_(self) -> str:
        return f"<b>{escape(self.name)}</b>: {escape(self._text())}"

    def _text(self) -> str:
        height, width = next(iter(self.maps.values())).shape
        source = f", made on {self.source}" if self.source else ""
        none = percent(len(self.degenerate) / len(self), 0)
        return f"{len(self)} identities, {height}x{width}{source}, {none} without a map"
