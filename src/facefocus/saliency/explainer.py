"""What the program needs of a saliency method: what its maps depend on, and who makes them.

A method says what it `Needs`; its `Explainer` makes the maps of all methods of one family together,
so that they share their passes. Nothing outside of this folder asks which family that is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, UInt8

from facefocus.core.progress import Progress
from facefocus.faces.faceset import Identity
from facefocus.models.recognizer import Recognizer
from facefocus.saliency.objectives import Evidence

Options = Mapping[str, str]
#: ``hide(masks [h,w] or [n,h,w] bool) -> occluded frames [n,h,w,3] uint8``: a fill on some frames.
Hide = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Needs:
    """What the maps of a method depend on, and what it takes to make them.

    Attributes:
        layer: A layer.
        objective: An objective.
        attention: Every self-attention of the recognizer together.
        fill: What pixels are replaced with: a map for every fill.
        given_fill: A fill only where ``[[saliency]]`` names one.
        budget: The number of pixels that will be hidden: a map for every budget.
        pairs: Ordered pairs of a person's images; `max_pairs` limits them.
        draws: It is random and may be drawn several times.
        seed: The seed of the experiment.
        gradients: A white box.
        masks: Embeddings of every image under masks of the method's own.
        shared: One map for everybody, searched on people who are not explained.
        sources: On how many recognizers one map is made.
        photos: Whether it sees the person's photos, so that others can be held out from it.
            ``any``: its maps are there already, made from photos that nobody here knows.
    """

    layer: bool = False
    objective: bool = False
    attention: bool = False
    fill: bool = False
    given_fill: bool = False
    budget: bool = False
    pairs: bool = False
    draws: bool = False
    seed: bool = False
    gradients: bool = False
    masks: bool = False
    shared: bool = False
    sources: Literal["none", "one", "several"] = "one"
    photos: Literal["none", "own", "any"] = "own"


@dataclass(frozen=True)
class MapSpec:
    """What determines an identity map besides the recognizers and the photos.

    Attributes:
        label: The method's name as the experiment gives it; a preset's own.
        method: The method that makes the map.
        layer: The layer's name as asked; None where the method has no use for one.
        calls: The layer calls that the layer is in this recognizer, or that the method uses.
        fill: The fill that the map is made for; None where it serves every fill.
        every_fill: Whether it is tried under every fill, though it is made for one.
        budget: The budget that it is made for; None where it serves every budget.
        draw: Number of the draw of a random baseline.
        origin: On what a map was made that was made elsewhere.
    """

    label: str
    method: str
    options: tuple[tuple[str, str], ...]
    layer: str | None = None
    calls: tuple[int, ...] = ()
    objective: str | None = None
    evidence: Evidence = "positive"
    normalize: bool = True
    arcface_scale: float = 1.0
    max_pairs: int | None = None
    fill: str | None = None
    budget: float | None = None
    draw: int | None = None
    origin: str | None = None
    every_fill: bool = False

    @property
    def tried_fill(self) -> str | None:
        """The only fill that the map is tried under; None where it is tried under every fill."""
        return None if self.every_fill else self.fill


@dataclass(frozen=True)
class MapArrays:
    """Maps of identities in the frame and the number of pair maps they rest on.

    An identity is degenerate when all its pair maps are.

    Attributes:
        maps: Mean of the normalized pair maps; zeros where none is left; always finite.
        total: Pair maps, over all layers of a group.
        degenerate: Those of them that were left out of the average.
        ill_conditioned: Those in the average that are hardly reproducible: see `BEARABLE`.
    """

    maps: Float32[np.ndarray, "i h w"]
    total: Int[np.ndarray, " i"]
    degenerate: Int[np.ndarray, " i"]
    ill_conditioned: Int[np.ndarray, " i"]

    @classmethod
    def whole(cls, maps: np.ndarray, degenerate: np.ndarray) -> MapArrays:
        """Maps [i, H, W] that rest on no pair maps: one each, degenerate [i] or not."""
        total = np.ones(len(maps), np.int64)
        return cls(maps, total, np.asarray(degenerate).astype(np.int64), np.zeros_like(total))


@runtime_checkable
class Images(Protocol):
    """The photos and recognizers that maps are made of."""

    @property
    def seed(self) -> int:
        """The experiment's seed."""

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the frames."""

    @property
    def frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        """All frames of the face set."""

    def names(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The names of some images."""

    def hider(self, rows: np.ndarray, fill: str) -> Hide:
        """What hides masks on some images by a fill."""

    def pixels(self, budget: float) -> int:
        """The number of pixels that a budget hides."""

    def recognizer(self, name: str) -> Recognizer:
        """A source."""

    def clean(self, name: str) -> Float32[np.ndarray, "n d"]:
        """Embeddings of all explained images by a source; NaN for other rows."""

    def masked(self, name: str, row: int, masks: object) -> Float32[np.ndarray, "m d"]:
        """Embeddings of one image under a `facefocus.saliency.perturbation.MaskSet`."""

    def others(self) -> Sequence[Identity]:
        """The people of the face set who are not explained."""

    def everybody(self) -> Sequence[Identity]:
        """The people of the face set with two or more images."""

    def shared(self, spec: MapSpec, sources: Sequence[str]) -> Float32[np.ndarray, "h w"]:
        """The map of everybody under a spec of `facefocus.saliency.shared_mask`."""

    def given(self, digest: str) -> Mapping[str, np.ndarray]:
        """Maps [H, W] that were made elsewhere, by identity."""


@dataclass(frozen=True)
class Passes:
    """Images that go through a network.

    Attributes:
        inference: Forward passes without a graph.
        forward: Forward passes whose activations are kept.
        backward: Backward passes.
        alone: Passes of the same work with nothing shared: every map by itself.
        exact: Whether it is known before the work.
    """

    inference: int = 0
    forward: int = 0
    backward: int = 0
    alone: int = 0
    exact: bool = True

    def __add__(self, other: Passes) -> Passes:
        return Passes(
            self.inference + other.inference,
            self.forward + other.forward,
            self.backward + other.backward,
            self.alone + other.alone,
            self.exact and other.exact,
        )

    @property
    def all(self) -> int:
        """Forward and backward passes."""
        return self.inference + self.forward + self.backward


@dataclass(frozen=True)
class MapRequest:
    """Which maps an `Explainer` is asked for.

    Attributes:
        specs: Of methods of one family.
        sources: The recognizers that each map is made on; none for a baseline.
        people: Who is explained, and the rows of their images.
        images: The photos and recognizers.
    """

    specs: Sequence[MapSpec]
    sources: Sequence[str]
    people: Sequence[Identity]
    images: Images


#: Each spec with the maps of all people.
Maps = Iterator[tuple[MapSpec, MapArrays]]


class Explainer(ABC):
    """One family of methods."""

    @abstractmethod
    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """The maps of some people under each spec, in any order.

        Args:
            request: Specs, recognizers and people.
            progress: Called with passes done and in total.
        """

    def check(self, spec: MapSpec, frame: tuple[int, int]) -> None:  # noqa: B027
        """Refuse frames of a height and width that a map cannot be made for; none by default.

        Raises:
            UserError: It cannot.
        """

    def passes(self, request: MapRequest, every: Sequence[MapSpec]) -> Passes:
        """What `maps` runs on each source; nothing by default.

        Args:
            request: As for `maps`.
            every: All specs of this family on the same sources that are wanted, made or not: what
                a loop without sharing would run for.
        """
        return Passes()
