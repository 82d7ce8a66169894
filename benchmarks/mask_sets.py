"""How good a map is by its number of passes: ``docs/economical-masks.md``.

    python -m benchmarks.mask_sets --faces faces/lfw --pool pool/ [--people 2] [--photos 3]

For a few people with so many photos each, every photo is embedded under 20,000 masks of S-RISE and
of CorrRISE, and under the patches of xFace at every place. The map of all of them is what others
are compared with. Maps of fewer passes are made of parts of the same pool: plain, and with the
control variate; of xFace those of a coarser lattice, begun at the corner or at random. Stratified
places of CorrRISE's patches have a pool of their own. Embeddings are kept in the folder ``--pool``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64

from facefocus.core import seeds
from facefocus.evaluation.retention import retention
from facefocus.evaluation.statistics import mean_interval
from facefocus.evaluation.verification import normalize
from facefocus.faces.faceset import FaceSet, Identity, open_faceset, select_identities
from facefocus.models.backends import accelerate
from facefocus.models.recognizer import Recognizer
from facefocus.models.zoo import load
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.explainer import Options
from facefocus.saliency.identity import minmax_normalize
from facefocus.saliency.methods import METHODS, PerturbationMethod
from facefocus.saliency.perturbation import (
    GROUP,
    MaskSet,
    mask_set,
    masked_embeddings,
    similarities,
)
from facefocus.saliency.rise import PATCHES, patch_side
from facefocus.saliency.xface import SIDES, patches

#: Masks of the map that others are compared with, of stratified ones, and of those that are tried.
MASKS, STRATIFIED, COUNTS = 20_000, 2048, (128, 256, 512, 1024)
#: Parts of the pool that are tried for each number, and random lattices for each stride, at most.
PARTS = 8
#: Places from patch to patch.
STRIDES = (5, 7, 10, 14, 20, 28)
#: Share of the pixels that is hidden.
BUDGET = 0.05
#: The plain method, and the one with a control variate, whose masks are drawn alike.
PAIRED = {"s-rise": "s-rise-economical", "corr-rise": "corr-rise-economical"}
#: What is published: other maps are compared with that of so many passes, about.
PUBLISHED = {"s-rise": ("s-rise", 1024), "corr-rise": ("corr-rise", 512), "xface": ("xface", 1173)}
#: Strata along each side, in each of which lies one place of every patch in `GROUP` masks.
STRATA = 8


@dataclass(frozen=True, eq=False)
class Part:
    """Some groups of a larger set of masks."""

    whole: MaskSet
    first: int
    count: int

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width."""
        return self.whole.frame

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Of the whole set."""
        return self.whole.options

    def __iter__(self) -> Iterator[np.ndarray]:
        """Its groups."""
        first = self.first // GROUP
        return (self.whole.group(first + place) for place in range(-(-self.count // GROUP)))


class Quality(NamedTuple):
    """Of a map: correlation with the best one; mean mated cosine and recognition (at a cosine of
    0.3) with its first pixels black."""

    correlation: float
    cosine: float
    recognition: float


#: Name of what made a map, passes a photo, and how good it is.
Row = tuple[str, int, Quality]


@dataclass(frozen=True, eq=False)
class Photos:
    """A person's photos, embedded, and where their pool is."""

    faces: FaceSet
    person: Identity
    recognizer: Recognizer
    pool: Path

    @property
    def frames(self) -> np.ndarray:
        """The photos [n, H, W, 3]."""
        return np.asarray(self.faces.frames[self.person.rows])

    def kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """An array of the pool, made where it is not there."""
        path = self.pool / f"{name}.npy"
        if not path.exists():
            self.pool.mkdir(parents=True, exist_ok=True)
            np.save(path, make())
        found: np.ndarray = np.load(path)
        return found

    def clean(self) -> np.ndarray:
        """Embeddings of the photos."""
        name = f"clean-{self.person.name}"
        return self.kept(name, lambda: self.recognizer.embed(self.frames))

    def drawn(self, method: PerturbationMethod, count: int) -> list[tuple[MaskSet, np.ndarray]]:
        """Of each photo the masks of a method, and similarities to the others under them."""
        clean, found = self.clean(), []
        for place, row in enumerate(self.person.rows):
            masks = mask_set(
                method, (112, 112), str(self.faces.names[row]), seed=0,
                options={"masks": str(count)},
            )  # fmt: skip
            made = self.kept(
                f"{method.name}-{row}",
                lambda masks=masks, place=place: masked_embeddings(  # type: ignore[misc]
                    self.recognizer, self.frames[place], masks
                ),
            )
            found.append((masks, similarities(made, np.delete(clean, place, axis=0))))
        return found

    def quality(self, saliency: np.ndarray, best: np.ndarray) -> Quality:
        """Of a map, by the best one."""
        order = np.argsort(-saliency.ravel(), kind="stable")
        frames = self.frames.copy()
        frames.reshape(len(frames), -1, 3)[:, order[: pixel_count(BUDGET, 112, 112)]] = 0
        clean = normalize(self.clean())
        left = retention(clean, normalize(self.recognizer.embed(frames)), 0.3)
        return Quality(correlation(saliency, best), left.cosine, left.rate)


def _method(name: str) -> PerturbationMethod:
    method = METHODS[name]
    assert isinstance(method, PerturbationMethod)
    return method


def joined(maps: Sequence[Float[np.ndarray, "p pixels"]]) -> np.ndarray:
    """The identity map of the pair maps of every photo."""
    found = torch.from_numpy(np.concatenate(maps).reshape(-1, 112, 112))
    mean: np.ndarray = minmax_normalize(found)[0].numpy().mean(axis=0)
    return mean


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, over pixels."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def stratified_masks(
    rng: np.random.Generator, count: int, frame: tuple[int, int], options: Options
) -> Float32[np.ndarray, "g h w"]:
    """Masks of CorrRISE in sets of 64, over which each of the ten patches is in every stratum once.

    The order of strata is drawn for each patch on its own, so that a mask by itself has the same
    law as one of CorrRISE: ten independent places, each uniform.
    """
    assert count == STRATA**2
    strata = rng.permuted(np.tile(np.arange(count), (PATCHES, 1)), axis=1).T
    over = []
    for side, stratum in zip(frame, divmod(strata, STRATA), strict=True):
        size = patch_side(side)
        places = side - size + 1
        # `STRATA` times as fine as places are: every place has the same share of the strata.
        first = (stratum * places + rng.integers(0, places, strata.shape)) // STRATA
        beyond = np.arange(side) - first[..., None]
        over.append(((beyond >= 0) & (beyond < size)).astype(np.float32))
    return np.asarray(np.einsum("gpy,gpx->gyx", *over) == 0, np.float32)


#: The similarities and masks of a photo -> its pair maps.
Combine = Callable[[Float64[np.ndarray, "p n"], Part | MaskSet], np.ndarray]


def drawn_rows(photos: Photos, plain: str, parts: int) -> Iterator[Row]:
    """Of maps of parts of a pool, and of its whole."""
    method, fitted = _method(plain), _method(PAIRED[plain])
    pool = photos.drawn(method, MASKS)
    best = joined([method.combine(found, masks) for masks, found in pool])
    yield plain, MASKS, photos.quality(best, best)
    yield from part_rows(photos, plain, pool, method.combine, best, parts)
    yield from part_rows(photos, PAIRED[plain], pool, fitted.combine, best, parts)
    if plain == "corr-rise":
        spread = replace(method, name="corr-rise-stratified", draw=stratified_masks, draw_on=None)
        pool = photos.drawn(spread, STRATIFIED)
        yield from part_rows(photos, f"{plain}, stratified", pool, method.combine, best, parts)
        name = f"{PAIRED[plain]}, stratified"
        yield from part_rows(photos, name, pool, fitted.combine, best, parts)


def part_rows(
    photos: Photos,
    name: str,
    pool: Sequence[tuple[MaskSet, np.ndarray]],
    combine: Combine,
    best: np.ndarray,
    parts: int,
) -> Iterator[Row]:
    """Of maps of parts of a pool."""
    for count in COUNTS:
        for part in range(min(parts, pool[0][0].count // count)):
            first = part * count
            maps = [
                combine(found[:, first : first + count], Part(masks, first, count))
                for masks, found in pool
            ]
            yield name, count, photos.quality(joined(maps), best)


def xface_rows(photos: Photos, draws: int) -> Iterator[Row]:
    """Of xFace by its stride, compared with a patch at every place."""
    every = patches((112, 112), 1)
    places = np.array([_place(mask) for mask in every])
    at = {tuple(place): number for number, place in enumerate(places.tolist())}
    clean, pool = photos.clean(), []
    for number, row in enumerate(photos.person.rows):
        frame = photos.frames[number]

        def embedded(frame: np.ndarray = frame) -> np.ndarray:
            parts = np.array_split(every, -(-len(every) // 256))
            return np.concatenate(
                [photos.recognizer.embed(frame * ~part[..., None]) for part in parts]
            )

        made = photos.kept(f"xface-{row}", embedded)
        # One reference: the mean of the similarities to all other photos.
        others = np.delete(clean, number, axis=0)
        whole = similarities(clean[number : number + 1], others).mean()
        pool.append(whole - similarities(made, others).mean(axis=0))

    def of(lattices: Sequence[np.ndarray]) -> np.ndarray:
        tried = [[at[_place(mask)] for mask in lattice] for lattice in lattices]
        maps = [_summed(places[own], drops[own]) for own, drops in zip(tried, pool, strict=True)]
        return joined([found[None] for found in maps])

    best = of([every] * len(pool))
    yield "xface", len(every), photos.quality(best, best)
    names = [str(photos.faces.names[row]) for row in photos.person.rows]
    for stride in STRIDES:
        corner = patches((112, 112), stride)
        yield "xface", len(corner), photos.quality(of([corner] * len(pool)), best)
        # On average over all lattices.
        passes = round(len(every) / stride**2)
        for draw in range(draws):
            rngs = [seeds.generator(draw, "photo map", name) for name in names]
            made = of([patches((112, 112), stride, rng) for rng in rngs])
            yield "xface-economical", passes, photos.quality(made, best)


def _place(mask: np.ndarray) -> tuple[int, ...]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return len(rows), int(rows[0]), int(columns[0])


def _summed(places: np.ndarray, drops: np.ndarray) -> np.ndarray:
    total = np.zeros((112, 112))
    for (side, top, left), drop in zip(places.tolist(), drops, strict=True):
        assert side in SIDES
        total[top : top + side, left : left + side] += drop / side**2
    return total.ravel()


def rows_of(photos: Photos, method: str, parts: int) -> list[Row]:
    """Of one person's maps of a method."""
    of = xface_rows(photos, parts) if method == "xface" else drawn_rows(photos, method, parts)
    return list(of)


def table(people: Sequence[Sequence[Row]], published: tuple[str, int]) -> Iterator[str]:
    """Lines of a Markdown table: means over people, of whom each one's is over parts of the pool.

    Differences are those to the map of the published number of passes, of each person, with an
    interval for the mean over all people.
    """
    yield (
        "| method | passes a photo | correlation | people | difference to published |"
        " cosine after hiding | difference to published | recognition |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    means = [_means(rows) for rows in people]
    for name, passes in means[0]:
        own = np.array([mean[name, passes] for mean in means])
        less = own - np.array([mean[published] for mean in means])
        yield (
            f"| {name} | {passes:,} | {own[:, 0].mean():.4f}"
            f" | {own[:, 0].min():.4f} to {own[:, 0].max():.4f} | {_interval(less[:, 0])}"
            f" | {own[:, 1].mean():.4f} | {_interval(less[:, 1])} | {own[:, 2].mean():.3f} |"
        )


def _means(rows: Sequence[Row]) -> dict[tuple[str, int], np.ndarray]:
    """Of one person's parts."""
    found: dict[tuple[str, int], list[Quality]] = {}
    for name, passes, quality in rows:
        found.setdefault((name, passes), []).append(quality)
    return {place: np.mean(values, axis=0) for place, values in found.items()}


def _interval(values: np.ndarray) -> str:
    if not values.any():
        return "-"
    found = mean_interval(values)
    ends = "" if np.isnan(found.low) else f" [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{found.value:+.4f}{ends}"


def main() -> None:
    """Print a table for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--model", default="mobilefacenet-ms1m")
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--method", nargs="+", default=[*PAIRED, "xface"])
    parser.add_argument("--parts", type=int, default=PARTS)
    asked = parser.parse_args()
    faces = open_faceset(asked.faces)
    people = select_identities(faces, count=asked.people, images=(asked.photos,) * 2, seed=0)
    few = np.asarray(faces.frames[:16])
    recognizer = accelerate(load(asked.model), asked.backend, None, few)
    every = [Photos(faces, person, recognizer, asked.pool) for person in people]
    for method in asked.method:
        rows = [rows_of(photos, method, asked.parts) for photos in every]
        print("\n".join(table(rows, PUBLISHED[method])), flush=True)


if __name__ == "__main__":
    main()
