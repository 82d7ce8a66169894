"""Which preprocessing separates people best: a proposal for a file that does not say its own.

A recognizer given other channels or another range than in training still embeds, only worse. The
plausible ways of reading a face are tried on a face set and compared by how far the cosines of one
person's images lie above those of different people's. Figures, not a decision: nothing here is used
by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from facefocus.core.errors import UserError
from facefocus.core.progress import Progress, silent
from facefocus.evaluation.verification import eer, normalize
from facefocus.faces.faceset import FaceSet, open_faceset, select_identities
from facefocus.models.onnx_graph import input_sides, read_graph
from facefocus.models.preprocessing import Channels, Preprocessing
from facefocus.models.zoo import load

#: Sides of inputs that recognizers have; those that the file refuses are left out.
SIZES = (112, 160, 128, 224)
#: Mean and std that recognizers were trained with, in 0-255. (x - 127.5) / 128 gives
#: nearly the same embeddings as the first, so it is left out.
RANGES: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((127.5,), (127.5,)),
    ((0.0,), (255.0,)),
    ((0.0,), (1.0,)),
    ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
)
#: People, and images of each, that proposals are compared on.
PEOPLE, IMAGES = 20, 4


@dataclass(frozen=True)
class Proposal:
    """One way of reading a face, and how well it separates people.

    Attributes:
        preprocessing: The way.
        separation: Mean cosine of two images of one person less that of two people's, in units of
            the deviation of both (d').
        error: Standard error of how much less it separates than the best, by leaving out one
            person after the other; 0 for the best.
        eer: Equal error rate of the same pairs.
    """

    preprocessing: Preprocessing
    separation: float
    error: float
    eer: float

    def worse_than(self, best: Proposal) -> bool:
        """Whether it separates less than the best by more than two standard errors."""
        return best.separation - self.separation > 2 * self.error

    @property
    def line(self) -> str:
        """What to write in the file beside the model."""
        reader = self.preprocessing
        values = {"size": list(reader.size), "channels": reader.channels}
        for name in ("mean", "std"):
            numbers = [round(value, 4) for value in getattr(reader, name)]
            values[name] = numbers[0] if len(set(numbers)) == 1 else numbers
        shown = (f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in values.items())
        return ", ".join(shown)


def propose_preprocessing(
    name: str, faces: Path | FaceSet, progress: Progress = silent
) -> list[Proposal]:
    """Ways of reading a face for a recognizer of a file, the one that separates people best first.

    Args:
        name: A file of a source that takes a preprocessing.
        faces: A face set, or the folder of a prepared one: up to 20 people with 2 to 4 images.
        progress: Called as ``("ways of reading", done, of)``.

    Raises:
        UserError: The file takes none of the ways that are tried, or the face set has too few
            people.
    """
    faces = faces if isinstance(faces, FaceSet) else open_faceset(faces)
    count = min(max(len(select_identities(faces)), 3), PEOPLE)
    people = select_identities(faces, count=count, max_images=IMAGES)
    rows = [row for person in people for row in person.rows]
    owners = np.array([person.name for person in people for _ in person.rows])
    frames = np.asarray(faces.frames[rows])
    scored: list[tuple[Preprocessing, np.ndarray]] = []
    refusal: UserError | None = None
    ways = list(_ways(*_taken(name)))
    for done, reader in enumerate(ways):
        try:
            scored.append((reader, normalize(load(name, reader).embed(frames))))
        except UserError as error:
            refusal = refusal or error
        progress("ways of reading", done + 1, len(ways))
    if not scored:
        assert refusal is not None
        raise refusal
    return _ranked(scored, owners)


def _taken(name: str) -> tuple[Sequence[tuple[int, int]], Sequence[Channels]]:
    """The sizes and channels that a file may take; an ONNX file often says which."""
    sizes: Sequence[tuple[int, int]] = [(side, side) for side in SIZES]
    channels: Sequence[Channels] = ("rgb", "bgr", "gray")
    if Path(name).suffix.lower() != ".onnx":
        return sizes, channels
    sides = input_sides(read_graph(Path(name)))
    if len(sides) != 4:
        return sizes, channels
    last = sides[3] in (1, 3) and sides[1] not in (1, 3)
    depth, size = (sides[3], sides[1:3]) if last else (sides[1], sides[2:])
    if min(size) > 0:
        sizes = [(size[0], size[1])]
    return sizes, {1: channels[2:], 3: channels[:2]}.get(depth, channels)


def _ways(sizes: Sequence[tuple[int, int]], orders: Sequence[Channels]) -> Iterator[Preprocessing]:
    for size in sizes:
        for channels in orders:
            count = 1 if channels == "gray" else 3
            for mean, std in RANGES:
                if len(mean) in (1, count):
                    means, stds = (v * count if len(v) == 1 else v for v in (mean, std))
                    # In the order of the channels that the network is given.
                    turn = -1 if channels == "bgr" else 1
                    yield Preprocessing(size, None, channels, means[::turn], stds[::turn])


def _ranked(
    scored: Sequence[tuple[Preprocessing, np.ndarray]], owners: Shaped[np.ndarray, " n"]
) -> list[Proposal]:
    people = np.unique(owners)
    separations = [_separation(units, owners) for _, units in scored]
    best = int(np.argmax(separations))
    # Leaving out each person gives the error of a difference: the same faces for both.
    left = np.array(
        [
            [_separation(units[kept], owners[kept]) for kept in (owners != p for p in people)]
            for _, units in scored
        ]
    )
    losses = left[best] - left
    spread = losses - losses.mean(1, keepdims=True)
    errors = np.sqrt((len(people) - 1) / len(people) * np.square(spread).sum(1))
    proposals = [
        Proposal(reader, separations[i], float(errors[i]), eer(*_cosines(units, owners)))
        for i, (reader, units) in enumerate(scored)
    ]
    return sorted(proposals, key=lambda proposal: -proposal.separation)


def _cosines(
    units: Float[np.ndarray, "n d"], owners: Shaped[np.ndarray, " n"]
) -> tuple[np.ndarray, np.ndarray]:
    """Of pairs of one person's images, and of two people's."""
    first, second = np.triu_indices(len(units), 1)
    cosines = (units[first] * units[second]).sum(1)
    same = owners[first] == owners[second]
    return cosines[same], cosines[~same]


def _separation(units: Float[np.ndarray, "n d"], owners: Shaped[np.ndarray, " n"]) -> float:
    mated, others = _cosines(units, owners)
    deviation = np.sqrt((mated.var() + others.var()) / 2)
    return float((mated.mean() - others.mean()) / max(deviation, np.finfo(np.float64).tiny))
