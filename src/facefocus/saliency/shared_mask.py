"""One mask for everybody, searched with the fill in the loop (Protocol: shared-mask).

It is searched on people of the face set who are not explained: it has seen no photo that it is
tried on. Only embeddings are used: the recognizer may be a black box, the fill anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy
from jaxtyping import Bool, Float, Float32, Int

from facefocus.core.errors import UserError
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.faces.faceset import Identity
from facefocus.models.recognizer import Recognizer
from facefocus.saliency.baselines import center_gaussian
from facefocus.saliency.explainer import (
    Explainer,
    Hide,
    Images,
    MapArrays,
    MapRequest,
    Maps,
    MapSpec,
    Needs,
    Options,
)
from facefocus.saliency.methods import METHODS, Option, Whole, _MethodBase

#: Share of the non-mated pairs whose cosine reaches the threshold of the soft count.
NON_MATED = 0.01
#: Cosine from the threshold at which a pair counts 1 / (1 + e) or the rest of 1.
WIDTH = 0.05
#: Fewest people that a mask for everybody is searched on.
FEWEST_PEOPLE = 8
#: A bump's standard deviation as a share of the side, and its height as a share of the field's
#: range at first.
BUMP, HEIGHT = (3 / 112, 24 / 112), (0.05, 0.5)
#: Bumps of a step, at most.
BUMPS = 3
#: Share of the steps that try first fields: the center Gaussian, and other Gaussians of the middle
#: column, from the best of which the climb begins.
STARTS = 0.1
#: Rows of their centers and standard deviations along each side, as shares of it.
START_ROW, START_SPREAD = (0.25, 0.75), (0.08, 0.5)

#: ``cost(mask [h, w]) -> what is to be lowered``.
Cost = Callable[[Bool[np.ndarray, "h w"]], float]


def climb(
    cost: Cost,
    shape: tuple[int, int],
    pixels: int,
    *,
    steps: int,
    rng: np.random.Generator,
    progress: Progress = silent,
) -> Float32[np.ndarray, "h w"]:
    """The field whose `pixels` largest values are the mask of lowest cost that was found.

    The first steps try a Gaussian each. Then hill climbing from the best: a step adds one to three
    Gaussian bumps, up or down, half of them mirrored at the middle column as faces are, and stays
    where the cost falls.

    Args:
        cost: Of a mask of exactly `pixels` pixels.
        shape: Height and width of the frame.
        pixels: How many pixels will be hidden.
        steps: Masks that are tried.
        rng: For the Gaussians.
        progress: Called per step.

    Returns:
        Ranks in (0, 1]: no two pixels are equal.

    Example:
        >>> goal = np.zeros((8, 8), bool)
        >>> goal[:2] = True
        >>> rng = np.random.default_rng(0)
        >>> made = climb(lambda mask: -float(mask[goal].sum()), (8, 8), 8, steps=200, rng=rng)
        >>> int(top_pixels(made, 8)[goal].sum())
        8
    """
    values = center_gaussian(shape, rng).astype(np.float64)
    mask = top_pixels(values, pixels)
    least = cost(mask)
    for step in range(steps):
        tried = _start(shape, rng) if step < STARTS * steps else values + _bumps(shape, rng)
        moved = top_pixels(tried, pixels)
        # An equal mask is no step, but the field may drift to where the next one changes it.
        reached = least if np.array_equal(moved, mask) else cost(moved)
        if reached < least:
            values, mask, least = tried, moved, reached
        progress("shared mask", step + 1, steps)
    ranks = np.empty(values.size, np.float32)
    ranks[np.argsort(-values.ravel(), kind="stable")] = np.arange(values.size, 0, -1)
    return ranks.reshape(values.shape) / np.float32(values.size)


def top_pixels(values: Float[np.ndarray, "h w"], pixels: int) -> Bool[np.ndarray, "h w"]:
    """The mask of exactly the `pixels` largest values, of equal ones the first."""
    mask = np.zeros(values.size, bool)
    mask[np.argsort(-values.ravel(), kind="stable")[:pixels]] = True
    return mask.reshape(values.shape)


def _start(shape: tuple[int, int], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """A Gaussian of height 1 on the middle column."""
    middle = rng.uniform(*START_ROW) * shape[0], (shape[1] - 1) / 2
    least, most = map(math.log, START_SPREAD)
    spreads = [math.exp(rng.uniform(least, most)) * side for side in shape]
    down, across = (
        np.exp(-0.5 * ((np.arange(side) - center) / spread) ** 2)
        for side, center, spread in zip(shape, middle, spreads, strict=True)
    )
    return np.outer(down, across)


def _bumps(shape: tuple[int, int], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    height, width = shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    total = np.zeros(shape)
    for _ in range(int(rng.integers(1, BUMPS + 1))):
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        spread = np.exp(rng.uniform(math.log(BUMP[0]), math.log(BUMP[1]), 2)) * shape
        size = rng.choice([-1, 1]) * rng.uniform(*HEIGHT)
        down = np.exp(-0.5 * ((rows - row) / spread[0]) ** 2)
        centers = (column, width - 1 - column) if rng.random() < 0.5 else (column,)
        for center in centers:
            total += size * down * np.exp(-0.5 * ((columns - center) / spread[1]) ** 2)
    return total


@dataclass(frozen=True, eq=False)
class People:
    """Clean embeddings of some people by one recognizer.

    Attributes:
        units: [people, photos, d], each of length 1.
        threshold: The cosine that `NON_MATED` of the pairs of different people reach.
    """

    units: Float[np.ndarray, "p m d"]
    threshold: float

    @classmethod
    def of(cls, embeddings: Float[np.ndarray, "n d"], photos: int) -> People:
        """Those whose embeddings lie one after another, as many `photos` of each."""
        units = units_of(embeddings).reshape(-1, photos, embeddings.shape[1])
        cosines = np.einsum("aid,bjd->aibj", units, units)
        different = ~np.eye(len(units), dtype=bool)
        non_mated = cosines.transpose(0, 2, 1, 3)[different]
        return cls(units, float(np.quantile(non_mated, 1 - NON_MATED)))

    def matched(self, hidden: Float[np.ndarray, "n d"]) -> float:
        """Share of the ordered mated pairs (hidden, clean) over the threshold, counted softly.

        A pair of cosine c counts 1 / (1 + exp((threshold - c) / `WIDTH`)).
        """
        units = units_of(hidden).reshape(self.units.shape)
        cosines = np.einsum("pid,pjd->pij", units, self.units)
        other = ~np.eye(cosines.shape[1], dtype=bool)
        return float(scipy.special.expit((cosines[:, other] - self.threshold) / WIDTH).mean())


def units_of(embeddings: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Embeddings at length 1; zeros stay."""
    wide = embeddings.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1.0)


def climb_of_people(
    recognizers: Sequence[Recognizer],
    hide: Hide,
    people: Sequence[People],
    shape: tuple[int, int],
    pixels: int,
    *,
    steps: int,
    rng: np.random.Generator,
    progress: Progress = silent,
) -> Float32[np.ndarray, "h w"]:
    """The map whose `pixels` largest values hide some people best; see `climb`.

    What is lowered is the mean over the recognizers of `People.matched`.

    Args:
        recognizers: The sources.
        hide: What hides a mask on all photos of these people.
        people: Their clean embeddings, by each recognizer.
        shape: Height and width of the frame.
        pixels: How many pixels will be hidden.
        steps: Masks that are tried.
        rng: For the Gaussians.
        progress: Called per step.
    """

    def cost(mask: np.ndarray) -> float:
        frames = hide(mask)
        sources = zip(recognizers, people, strict=True)
        return float(np.mean([clean.matched(source.embed(frames)) for source, clean in sources]))

    return climb(cost, shape, pixels, steps=steps, rng=rng, progress=progress)


# --- as a method ----------------------------------------------------------------------------------


def rows_of_others(
    others: Sequence[Identity], options: Options, seed: int
) -> Int[np.ndarray, " n"]:
    """The rows of the photos that a mask is searched on: of each person drawn as many.

    Args:
        others: People of the face set who are not explained.
        options: Of the method.
        seed: The experiment's.

    Raises:
        UserError: Fewer than `FEWEST_PEOPLE` of them have enough photos.
    """
    photos, most = int(options["photos"]), int(options["people"])
    fit = [person for person in others if len(person.rows) >= photos]
    if len(fit) < FEWEST_PEOPLE:
        raise UserError(
            f"The method 'shared-mask' needs at least {FEWEST_PEOPLE} people of the face set with"
            f" {photos} images each whom the experiment does not explain: it never sees those whom"
            f" it hides. Got {len(fit)}. Choose fewer people in [faces], or leave the method out."
        )
    rng = generator(seed, "shared-mask", "people")
    chosen = [fit[index] for index in sorted(rng.permutation(len(fit))[:most].tolist())]
    return np.concatenate([rng.permutation(person.rows)[:photos] for person in chosen])


def search(
    spec: MapSpec, sources: Sequence[str], images: Images, progress: Progress = silent
) -> Float32[np.ndarray, "h w"]:
    """The map of everybody under a spec: see `climb_of_people`."""
    options = dict(spec.options)
    rows = rows_of_others(images.others(), options, images.seed)
    assert spec.fill is not None and spec.budget is not None
    recognizers = [images.recognizer(name) for name in sources]
    frames = np.asarray(images.frames[rows])
    photos = int(options["photos"])
    return climb_of_people(
        recognizers,
        images.hider(rows, spec.fill),
        [People.of(recognizer.embed(frames), photos) for recognizer in recognizers],
        images.frame,
        images.pixels(spec.budget),
        steps=int(options["steps"]),
        rng=generator(images.seed, "shared-mask", *sources, spec.fill, str(spec.budget)),
        progress=progress,
    )


def searched_photos(options: Options) -> int:
    """Photos that a search embeds, at most."""
    return int(options["people"]) * int(options["photos"]) * (1 + int(options["steps"]))


class _SharedMasks(Explainer):
    """See `facefocus.saliency.explainer.Explainer`."""

    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """The same map for everybody."""
        people = len(request.people)
        for spec in request.specs:
            shared = request.images.shared(spec, request.sources)
            yield spec, MapArrays.whole(np.stack([shared] * people), np.zeros(people))


#: The explainer of the one method.
SHARED_MASKS = _SharedMasks()


@dataclass(frozen=True)
class SharedMask(_MethodBase):
    """The method; see `facefocus.saliency.methods.Method`."""

    name: str = "shared-mask"
    version: int | str = 2
    options: Mapping[str, Option] = field(
        default_factory=lambda: {
            "steps": Whole("600", 1, 100_000),
            "people": Whole("48", FEWEST_PEOPLE, 10_000),
            "photos": Whole("2", 2, 100),
        }
    )

    kind: ClassVar[str] = "black-box"
    made_by: ClassVar[str] = "facefocus.saliency.shared_mask:SHARED_MASKS"

    def needs(self, options: Options) -> Needs:
        """See `Method`: a map for every fill and budget, of no photo of the person."""
        return Needs(fill=True, budget=True, seed=True, shared=True, sources="several",
                     photos="none")  # fmt: skip


METHODS.add("shared-mask", SharedMask())
