"""Small stand-ins that whole-pipeline tests share: a few painted people and a tiny recognizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from facefocus.core.seeds import generator
from facefocus.faces.faceset import (
    FaceSet,
    IndexRow,
    PairList,
    make_faceset,
    open_faceset,
    write_faceset,
)
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer

if TYPE_CHECKING:
    from facefocus.benchmark.worker_pool import Pool

#: Photos of each person: blocks and chunks then hold people of unlike sizes.
PHOTOS = (2, 3, 5, 2, 4, 3, 2, 2, 3, 6, 2, 3, 4, 2, 2, 3, 2, 5)
SIDE = 32


class TinyNet(nn.Module):
    """Three convolutions and a linear layer: [n, 3, 32, 32] -> [n, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.third = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.out = nn.Linear(8 * 64, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.third(torch.relu(self.second(x))))
        embedding: Tensor = self.out(x.flatten(1))
        return embedding


def tiny_recognizer(name: str = "tiny", seed: int = 0) -> TorchRecognizer:
    """A recognizer with seeded random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = TinyNet().eval().requires_grad_(False)
    reading = Preprocessing(
        size=(SIDE, SIDE), crop=None, channels="rgb", mean=(127.5,) * 3, std=(127.5,) * 3
    )
    return TorchRecognizer(name, module, reading, identity=f"tiny-{seed}")


def paint_faceset(folder: Path, *, listed: bool = False) -> Path:
    """A face set of 18 painted people: a pattern for each, with noise for each photo.

    With `listed`, it has a verification list of 36 pairs of 36 of its 55 photos.
    """
    rows, frames = [], []
    for person, photos in enumerate(PHOTOS):
        pattern = generator(0, "pattern", person).integers(40, 215, (8, 8, 3))
        for photo in range(photos):
            noise = generator(0, "noise", person, photo).integers(-35, 36, (SIDE, SIDE, 3))
            big = np.kron(pattern, np.ones((4, 4, 1), np.int64))
            frames.append((big + noise).clip(0, 255).astype(np.uint8))
            name = f"p{person:02d}_{photo}"
            rows.append(IndexRow(identity=f"p{person:02d}", name=name, path=name))
    folder.mkdir(parents=True)
    pairs = _list() if listed else None
    write_faceset(folder, title="painted", rows=rows, frames=frames, size=(SIDE, SIDE), pairs=pairs)
    return folder


def aligned_faceset(folder: Path) -> FaceSet:
    """The same people in crops of 112 x 112 pixels, in memory."""
    small = open_faceset(paint_faceset(folder))
    frames = np.stack([cv2.resize(np.asarray(frame), (112, 112)) for frame in small.frames])
    return make_faceset(frames, small.identities.tolist(), small.names.tolist(), "painted")


@contextmanager
def workers_here(count: int) -> Iterator[Pool]:
    """Workers that are threads of this process: they see what a test has patched."""
    # Here, because processes that load the tiny recognizer need none of it.
    import dask
    import distributed

    from facefocus.benchmark.clusters import DASK
    from facefocus.benchmark.worker_pool import Pool

    pool, connect = Pool(f"local:{count}"), cast(Any, distributed.Client)
    with (
        dask.config.set(DASK),
        connect(
            n_workers=count, threads_per_worker=1, processes=False, memory_limit=0,
            dashboard_address="127.0.0.1:0", set_as_default=False, silence_logs=False,
        ) as client,
    ):  # fmt: skip
        pool._client = client
        yield pool
        pool._client = None


def _list() -> PairList:
    """The first photos of each person against the second, and against the next person's first."""
    count = len(PHOTOS)
    first = [f"p{person:02d}_0" for person in range(count)]
    second = [f"p{person:02d}_1" for person in range(count)]
    return PairList(
        first=(*first, *first),
        second=(*second, *first[1:], first[0]),
        mated=(*[True] * count, *[False] * count),
        fold=(*[number % 3 for number in range(count)],) * 2,
        sha256="0",
    )
