"""How good a map is by its number of passes: ``docs/economical-masks.md``.

    python -m benchmarks.mask_sets --faces faces/lfw --pool pool/ [--people 2] [--photos 3]

For a few people with so many photos each, every photo is embedded under 20,000 masks of S-RISE and
of CorrRISE, and under the patches of xFace at every place. The map of all of them is what others
are compared with. Maps of fewer passes are made of parts of the same pool: plain, and with the
control variate. Embeddings are kept in the folder ``--pool``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from facefocus.evaluation.retention import retention
from facefocus.evaluation.verification import normalize
from facefocus.faces.faceset import FaceSet, Identity, open_faceset, select_identities
from facefocus.models.backends import accelerate
from facefocus.models.recognizer import Recognizer
from facefocus.models.zoo import load
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.identity import minmax_normalize
from facefocus.saliency.methods import METHODS, PerturbationMethod
from facefocus.saliency.perturbation import (
    GROUP,
    MaskSet,
    mask_set,
    masked_embeddings,
    similarities,
)
from facefocus.saliency.xface import SIDES, patches

#: Masks of the map that others are compared with, and of those others.
MASKS, COUNTS = 20_000, (128, 256, 512, 1024)
#: Parts of the pool that are tried for each number, at most.
PARTS = 8
#: Places from patch to patch.
STRIDES = (5, 7, 10, 14)
#: Share of the pixels that is hidden.
BUDGET = 0.05
#: The plain method, and the one with a control variate, whose masks are drawn alike.
PAIRED = {"s-rise": "s-rise-economical", "corr-rise": "corr-rise-economical"}


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

    def drawn(self, method: str) -> list[tuple[MaskSet, np.ndarray]]:
        """Of each photo the masks of a method, and similarities to the others under them."""
        clean, found = self.clean(), []
        for place, row in enumerate(self.person.rows):
            masks = mask_set(
                _method(method), (112, 112), str(self.faces.names[row]), seed=0,
                options={"masks": str(MASKS)},
            )  # fmt: skip
            made = self.kept(
                f"{method}-{row}",
                lambda masks=masks, place=place: masked_embeddings(  # type: ignore[misc]
                    self.recognizer, self.frames[place], masks
                ),
            )
            found.append((masks, similarities(made, np.delete(clean, place, axis=0))))
        return found

    def hidden(self, saliency: np.ndarray) -> tuple[float, float]:
        """Mean mated cosine, and recognition at cosine 0.3, with the first pixels black."""
        order = np.argsort(-saliency.ravel(), kind="stable")
        frames = self.frames.copy()
        frames.reshape(len(frames), -1, 3)[:, order[: pixel_count(BUDGET, 112, 112)]] = 0
        clean = normalize(self.clean())
        left = retention(clean, normalize(self.recognizer.embed(frames)), 0.3)
        return left.cosine, left.rate


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


Row = tuple[str, int, float, float, float]


def drawn_rows(photos: Photos, plain: str) -> Iterator[Row]:
    """Name, passes, correlation, cosine and recognition of maps of parts of a pool."""
    pool = photos.drawn(plain)
    best = joined([_method(plain).combine(found, masks) for masks, found in pool])
    yield plain, MASKS, 1.0, *photos.hidden(best)
    for name in (plain, PAIRED[plain]):
        combine = _method(name).combine
        for count in COUNTS:
            for part in range(min(PARTS, MASKS // count)):
                made = joined(
                    [
                        combine(
                            found[:, part * count : (part + 1) * count],
                            Part(masks, part * count, count),
                        )
                        for masks, found in pool
                    ]
                )
                yield name, count, correlation(made, best), *photos.hidden(made)


def xface_rows(photos: Photos) -> Iterator[Row]:
    """The same of xFace by its stride, compared with a patch at every place."""
    every = patches((112, 112), 1)
    places = np.array([_place(mask) for mask in every])
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

    def of(stride: int) -> np.ndarray:
        wanted = (places[:, 1:] % stride == 0).all(axis=1)
        return joined([_summed(places[wanted], drops[wanted])[None] for drops in pool])

    best = of(1)
    yield "xface", len(every), 1.0, *photos.hidden(best)
    for stride in STRIDES:
        made = of(stride)
        passes = len(patches((112, 112), stride))
        yield f"xface, stride {stride}", passes, correlation(made, best), *photos.hidden(made)


def _place(mask: np.ndarray) -> tuple[int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return len(rows), int(rows[0]), int(columns[0])


def _summed(places: np.ndarray, drops: np.ndarray) -> np.ndarray:
    total = np.zeros((112, 112))
    for (side, top, left), drop in zip(places.tolist(), drops, strict=True):
        assert side in SIDES
        total[top : top + side, left : left + side] += drop / side**2
    return total.ravel()


def table(every: Sequence[Photos], methods: Sequence[str]) -> Iterator[str]:
    """Lines of a Markdown table: means over people and parts."""
    yield "| method | passes a photo | correlation | lowest | cosine after hiding | recognition |"
    yield "|---|---|---|---|---|---|"
    for method in methods:
        found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
        for photos in every:
            made: Any = xface_rows(photos) if method == "xface" else drawn_rows(photos, method)
            for name, passes, *values in made:
                found.setdefault((name, passes), []).append(tuple(values))
        for (name, passes), values in found.items():
            mean = np.mean(values, axis=0)
            yield (
                f"| {name} | {passes:,} | {mean[0]:.3f} | {min(v[0] for v in values):.3f}"
                f" | {mean[1]:.3f} | {mean[2]:.2f} |"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--model", default="mobilefacenet-ms1m")
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--method", nargs="+", default=[*PAIRED, "xface"])
    asked = parser.parse_args()
    faces = open_faceset(asked.faces)
    people = select_identities(faces, count=asked.people, images=(asked.photos,) * 2, seed=0)
    few = np.asarray(faces.frames[:16])
    recognizer = accelerate(load(asked.model), asked.backend, None, few)
    every = [Photos(faces, person, recognizer, asked.pool) for person in people]
    for line in table(every, asked.method):
        print(line, flush=True)


if __name__ == "__main__":
    main()
