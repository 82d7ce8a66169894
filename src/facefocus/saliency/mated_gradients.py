"""The gradient of a person's similarity with respect to the aligned crops' own pixels.

What methods share that ask what hiding pixels does: references, passes over images of several
people at a time, and how several sources become one map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facefocus.core.progress import Progress
from facefocus.models.calls import as_found
from facefocus.models.layers import placement
from facefocus.models.recognizer import CHUNK, WhiteBox
from facefocus.models.replaced_operations import ReplacedOperations
from facefocus.models.reproducible import reproducible
from facefocus.saliency.methods import OcclusionMap
from facefocus.saliency.objectives import RESOLUTION

#: Number of a person, and of one of the person's images.
ImageIndex = tuple[int, int]
#: (frames of a full chunk, their references [n, d], which image each is) -> maps [n, H, W].
ImageMaps = Callable[[np.ndarray, Tensor, Sequence[ImageIndex]], np.ndarray]
#: What is made of one image.
Made = TypeVar("Made")


def cosine_gradient(
    recognizer: WhiteBox, at: Tensor, inputs: Tensor, references: Float[Tensor, "n d"]
) -> Tensor:
    """Gradient of each image's mean cosine to its person's other images with respect to `at`."""
    embeddings = recognizer.module(inputs)
    directions = directions_of(embeddings.detach().double(), references)
    gradients: tuple[Tensor, ...] = torch.autograd.grad(embeddings, at, directions.to(embeddings))
    return gradients[0]


def directions_of(e: Float[Tensor, "n d"], r: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Gradient of e / |e| . r with respect to e; zero where it is only rounding.

    It is so for copies of one image: e is parallel to r there.
    """
    norms = torch.linalg.vector_norm(e, dim=1, keepdim=True)
    u = e / norms
    tangent = r - (u * r).sum(dim=1, keepdim=True) * u
    sizes, whole = (torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (tangent, r))
    # Not "greater": what is NaN has to stay so.
    directions: Tensor = (tangent / norms).where(~(sizes <= RESOLUTION * whole), 0.0)
    return directions


def inputs_of(recognizer: WhiteBox, frames: Tensor) -> Tensor:
    """What the recognizer's module takes for frames in 0-255; differentiable for float frames."""
    _, dtype = placement(recognizer.module)
    inputs = recognizer.preprocessing(frames).to(dtype)
    return inputs.contiguous(memory_format=torch.channels_last)


def references_of(
    recognizer: WhiteBox,
    people: Sequence[np.ndarray],
    mates: Sequence[np.ndarray] | None = None,
) -> list[Float[Tensor, "_ d"]]:
    """For each image of each person, the mean of the other images' unit embeddings, float64.

    The cosine to that mean is the mean cosine. The module itself makes them, not `embed`, so that
    maps do not depend on what else embeds. With `mates`, all images of a person have the mean of
    that person's mates.
    """
    return means_of_others(units_of(recognizer, people if mates is None else mates), people, mates)


def means_of_others(
    units: Sequence[Float[Tensor, "_ d"]],
    people: Sequence[np.ndarray],
    mates: Sequence[np.ndarray] | None,
) -> list[Float[Tensor, "_ d"]]:
    """The same of unit embeddings that are known: those of `mates`, where they are given."""
    if mates is not None:
        means = [own.mean(dim=0, keepdim=True) for own in units]
        return [mean.repeat(len(own), 1) for mean, own in zip(means, people, strict=True)]
    return [(own.sum(dim=0, keepdim=True) - own) / max(len(own) - 1, 1) for own in units]


def units_of(recognizer: WhiteBox, people: Sequence[np.ndarray]) -> list[Float[Tensor, "_ d"]]:
    """The unit embeddings of each person's images, float64."""
    device, _ = placement(recognizer.module)
    parts = []
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        as_found(recognizer.module),
        reproducible(device),
    ):
        for images in chunks_of(recognizer, people):
            frames = torch.from_numpy(stacked(people, images)).to(device)
            parts.append(recognizer.module(inputs_of(recognizer, frames)).double())
    counts = [len(frames) for frames in people]
    embeddings = torch.cat(parts)[: sum(counts)]
    units = embeddings / torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    return list(torch.split(units, counts))


# Chunks -------------------------------------------------------------------------------------------


def mean_maps(
    recognizer: WhiteBox,
    people: Sequence[np.ndarray],
    references: Sequence[Tensor],
    maps: ImageMaps,
    tick: Callable[[], None],
) -> Float[np.ndarray, "people h w"]:
    """Mean over each person's images of their maps; chunks hold images of several people."""
    sums = np.zeros((len(people), *people[0].shape[1:3]))
    # One after the other: a person's sum is then the same wherever its images lie.
    for (person, _), image_map in made_of_images(recognizer, people, references, maps, tick):
        sums[person] += image_map
    counts = np.array([len(frames) for frames in people])
    means: np.ndarray = sums / counts[:, None, None]
    return means


def made_of_images(
    recognizer: WhiteBox,
    people: Sequence[np.ndarray],
    references: Sequence[Tensor],
    make: Callable[[np.ndarray, Tensor, Sequence[ImageIndex]], Iterable[Made]],
    tick: Callable[[], None],
) -> Iterator[tuple[ImageIndex, Made]]:
    """What `make` gives for each image, with its index; in order of people and images."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        as_found(recognizer.module),
        ReplacedOperations(),
        reproducible(placement(recognizer.module)[0]),
        np.errstate(invalid="ignore"),  # what is not finite is found in the sums
    ):
        for images in chunks_of(recognizer, people):
            chunk_references = torch.stack([references[person][image] for person, image in images])
            made = make(stacked(people, images), chunk_references, images)
            yield from zip(real_images(images), made, strict=False)
            tick()


def chunks_of(recognizer: WhiteBox, people: Sequence[np.ndarray]) -> list[list[ImageIndex]]:
    """As many images each as a pass may have; the last are filled up with the last image."""
    size = getattr(recognizer, "graph_batch", CHUNK)
    images = [
        (person, image) for person, frames in enumerate(people) for image in range(len(frames))
    ]
    images += images[-1:] * (-len(images) % size)
    return [images[start : start + size] for start in range(0, len(images), size)]


def real_images(images: Sequence[ImageIndex]) -> list[ImageIndex]:
    """Without the filling."""
    return list(dict.fromkeys(images))


def stacked(people: Sequence[np.ndarray], images: Sequence[ImageIndex]) -> np.ndarray:
    """The frames of some images."""
    return np.stack([people[person][image] for person, image in images])


def counter(progress: Progress, total: int) -> Callable[[], None]:
    """Reports one more backward pass of `total` each time it is called."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress("backward passes", done, total)

    return tick


def combined(maps: Sequence[Float[np.ndarray, "h w"]]) -> Float[np.ndarray, "h w"] | None:
    """One map of several sources: the mean of the usable ones at unit L2 norm; one stays as is.

    None where no source has a usable map: finite and not all equal.
    """
    if len(maps) == 1:
        return maps[0] if is_ranking(maps[0]) else None
    units = [raw / np.sqrt(np.square(raw).sum()) for raw in maps if is_ranking(raw)]
    mean: np.ndarray | None = np.mean(units, axis=0) if units else None
    return mean


def is_ranking(values: np.ndarray) -> bool:
    """Whether a map orders pixels: finite and not all equal."""
    return bool(np.isfinite(values).all() and values.min() < values.max())


def as_map(values: np.ndarray | None, shape: tuple[int, int]) -> OcclusionMap:
    """`values` in the frame, or a degenerate map where there are none."""
    if values is None:
        return OcclusionMap(np.zeros(shape, np.float32), degenerate=True)
    return OcclusionMap(values.reshape(shape).astype(np.float32), degenerate=False)
