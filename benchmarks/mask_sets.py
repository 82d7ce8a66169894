"""How good a map is by its number of passes: ``docs/economical-masks.md``.

    python -m benchmarks.mask_sets --faces faces/lfw --pool pool/ [--people 2] [--photos 3]

For a few people with so many photos each, every photo is embedded under masks of S-RISE and of
CorrRISE, and under the patches of xFace. The map of 20,000 masks, or of a patch at every third
place, is what others are compared with. Of S-RISE and CorrRISE those are made of 2,048 masks more,
plain and with the control variate, and of 2,048 masks of CorrRISE whose places are stratified; of
xFace of coarser lattices, begun at the corner or at random. What the photos' embeddings say is kept
in the folder ``--pool``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from facefocus.saliency.perturbation import GROUP, mask_set, masked_embeddings, similarities
from facefocus.saliency.rise import PATCHES, patch_side
from facefocus.saliency.xface import patches
from facefocus.saliency.xface_economical import expected_patches

#: Masks of the map that others are compared with, those that maps are tried with, and numbers of
#: the latter of which a map is made.
MASKS, TRIED, COUNTS = 20_000, 2048, (128, 256, 512, 1024)
#: Maps that are tried for each number, at most.
PARTS = 8
#: Places from patch to patch of lattices that begin at the corner; the first is what the others are
#: compared with. Of those that begin at random, and how many of each are tried.
STRIDES, RANDOM_STRIDES, LATTICES = (3, 5, 7, 10, 14, 20), (7, 10, 14, 20), 2
#: Share of the pixels that is hidden.
BUDGET = 0.05
#: The plain method, and the one with a control variate, whose masks are drawn alike.
PAIRED = {"s-rise": "s-rise-economical", "corr-rise": "corr-rise-economical"}
#: What is published: other maps are compared with that of so many passes, about.
PUBLISHED = {"s-rise": ("s-rise", 1024), "corr-rise": ("corr-rise", 512), "xface": ("xface", 1173)}
#: Strata along each side, in each of which lies one place of every patch in `GROUP` masks.
STRATA = 8


@dataclass(frozen=True, eq=False)
class Drawn:
    """Masks of one photo, held, and the similarities to its person's others under them."""

    values: Float32[np.ndarray, "n h w"]
    similarities: Float64[np.ndarray, "p n"]
    options: tuple[tuple[str, str], ...]

    def part(self, first: int, count: int) -> Drawn:
        """Some of them."""
        chosen = slice(first, first + count)
        return Drawn(self.values[chosen], self.similarities[:, chosen], self.options)

    @property
    def count(self) -> int:
        """Number of masks."""
        return len(self.values)

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.values.shape[1:]
        return height, width

    def __iter__(self) -> Iterator[np.ndarray]:
        """Its groups."""
        return (self.values[start : start + GROUP] for start in range(0, self.count, GROUP))


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
        array: np.ndarray = np.load(path)
        return array

    def clean(self) -> np.ndarray:
        """Embeddings of the photos."""
        name = f"clean-{self.person.name}"
        return self.kept(name, lambda: self.recognizer.embed(self.frames))

    def drawn(self, method: PerturbationMethod, count: int) -> Iterator[Drawn]:
        """Of each photo so many masks of a method."""
        clean = self.clean()
        for photo, row in enumerate(self.person.rows):
            masks = mask_set(
                method, (112, 112), str(self.faces.names[row]), seed=0,
                options={"masks": str(count)},
            )  # fmt: skip
            made = self.kept(
                f"{method.name}-{row}",
                lambda masks=masks, photo=photo: masked_embeddings(  # type: ignore[misc]
                    self.recognizer, self.frames[photo], masks
                ),
            )
            scores = similarities(made, np.delete(clean, photo, axis=0))
            yield Drawn(np.concatenate(list(masks)), scores, masks.options)

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
    pair_maps = torch.from_numpy(np.concatenate(maps).reshape(-1, 112, 112))
    mean: np.ndarray = minmax_normalize(pair_maps)[0].numpy().mean(axis=0)
    return mean


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's, over pixels."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


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
        positions = side - size + 1
        # `STRATA` times as fine as positions are: every position has the same share of the strata.
        first = (stratum * positions + rng.integers(0, positions, strata.shape)) // STRATA
        beyond = np.arange(side) - first[..., None]
        over.append(((beyond >= 0) & (beyond < size)).astype(np.float32))
    return np.asarray(np.einsum("gpy,gpx->gyx", *over) == 0, np.float32)


def drawn_rows(photos: Photos, plain: str, masks: int) -> Iterator[Row]:
    """Of a map of so many masks, and of maps of parts of those that are tried."""
    method, fitted = _method(plain), _method(PAIRED[plain])
    tried, maps = [], []
    for drawn in photos.drawn(method, TRIED + masks):
        tried.append(drawn.part(0, TRIED))
        maps.append(_map_of(method, drawn.part(TRIED, masks)))
    best = joined(maps)
    yield plain, masks, photos.quality(best, best)
    for made in (method, fitted):
        yield from part_rows(photos, made.name, made, tried, best)
    if plain == "corr-rise":
        spread = replace(method, name="corr-rise-stratified", draw=stratified_masks, draw_on=None)
        tried = list(photos.drawn(spread, TRIED))
        for made in (method, fitted):
            yield from part_rows(photos, f"{made.name}, stratified", made, tried, best)


def part_rows(
    photos: Photos,
    name: str,
    method: PerturbationMethod,
    tried: Sequence[Drawn],
    best: np.ndarray,
) -> Iterator[Row]:
    """Of maps of parts of the masks that are tried."""
    for count in COUNTS:
        for part in range(min(PARTS, TRIED // count)):
            maps = [_map_of(method, drawn.part(part * count, count)) for drawn in tried]
            yield name, count, photos.quality(joined(maps), best)


def _map_of(method: PerturbationMethod, drawn: Drawn) -> np.ndarray:
    return method.combine(drawn.similarities, drawn)


def xface_rows(photos: Photos) -> Iterator[Row]:
    """Of xFace by its lattice."""
    rows = photos.person.rows
    tried = list(lattices([str(photos.faces.names[row]) for row in rows]))
    pool = []
    for number, row in enumerate(rows):
        squares = sorted({square for _, _, each in tried for square in each[number]})
        drops = photos.kept(
            f"xface-{row}",
            lambda number=number, squares=squares: drops_at(photos, number, squares),  # type: ignore[misc]
        )
        pool.append(dict(zip(squares, drops.tolist(), strict=True)))

    def joined_lattices(each: Sequence[Sequence[Place]]) -> np.ndarray:
        return joined([_summed(own, drops)[None] for own, drops in zip(each, pool, strict=True)])

    best = joined_lattices(tried[0][2])
    for name, passes, each in tried:
        yield name, passes, photos.quality(joined_lattices(each), best)


#: Side, top and left of a patch.
Place = tuple[int, int, int]


def lattices(names: Sequence[str]) -> Iterator[tuple[str, int, list[list[Place]]]]:
    """Name, passes a photo on average, and the places of patches in each photo."""
    frame = (112, 112)
    for stride in STRIDES:
        corner = [_square(mask) for mask in patches(frame, stride)]
        yield "xface", len(corner), [corner] * len(names)
    for stride in RANDOM_STRIDES:
        for draw in range(LATTICES):
            rngs = [seeds.generator(draw, "photo map", name) for name in names]
            each = [[_square(mask) for mask in patches(frame, stride, rng)] for rng in rngs]
            yield "xface-economical", expected_patches({"stride": str(stride)}, frame), each


def drops_at(photos: Photos, number: int, squares: Sequence[Place]) -> Float64[np.ndarray, " n"]:
    """What a photo's mean similarity to the others loses by each patch."""
    frame, clean, made = photos.frames[number], photos.clean(), []
    for start in range(0, len(squares), GROUP):
        hidden = np.repeat(frame[None], len(squares[start : start + GROUP]), axis=0)
        for copy, (side, top, left) in zip(hidden, squares[start:], strict=False):
            copy[top : top + side, left : left + side] = 0
        made.append(photos.recognizer.embed(hidden))
    others = np.delete(clean, number, axis=0)
    whole = similarities(clean[number : number + 1], others).mean()
    return np.asarray(whole - similarities(np.concatenate(made), others).mean(axis=0))


def _square(mask: np.ndarray) -> Place:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return len(rows), int(rows[0]), int(columns[0])


def _summed(squares: Sequence[Place], drops: Mapping[Place, float]) -> np.ndarray:
    total = np.zeros((112, 112))
    for side, top, left in squares:
        total[top : top + side, left : left + side] += drops[side, top, left] / side**2
    return total.ravel()


def rows_of(photos: Photos, method: str, masks: int) -> list[Row]:
    """Of one person's maps of a method."""
    return list(xface_rows(photos) if method == "xface" else drawn_rows(photos, method, masks))


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
    qualities: dict[tuple[str, int], list[Quality]] = {}
    for name, passes, quality in rows:
        qualities.setdefault((name, passes), []).append(quality)
    return {part: np.mean(values, axis=0) for part, values in qualities.items()}


def _interval(values: np.ndarray) -> str:
    if not values.any():
        return "-"
    interval = mean_interval(values)
    ends = "" if np.isnan(interval.low) else f" [{interval.low:+.4f}, {interval.high:+.4f}]"
    return f"{interval.value:+.4f}{ends}"


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
    parser.add_argument("--masks", type=int, default=MASKS)
    asked = parser.parse_args()
    faces = open_faceset(asked.faces)
    people = select_identities(faces, count=asked.people, images=(asked.photos,) * 2, seed=0)
    few = np.asarray(faces.frames[:16])
    recognizer = accelerate(load(asked.model), asked.backend, None, few)
    every = [Photos(faces, person, recognizer, asked.pool) for person in people]
    for method in asked.method:
        rows = [rows_of(photos, method, asked.masks) for photos in every]
        print("\n".join(table(rows, PUBLISHED[method])), flush=True)


if __name__ == "__main__":
    main()
