from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.signal import convolve2d

from facefocus.core.errors import UserError
from facefocus.saliency.methods import METHODS
from facefocus.saliency.xface import patches, xface
from facefocus.saliency.xface_economical import expected_patches, xface_economical
from tests.saliency.photos import photo

SIDE = 16


class Drawn(np.random.Generator):
    """A generator that draws the same two numbers again and again."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(np.random.PCG64(0))
        self.numbers = list(numbers)

    def integers(self, high: Any) -> Any:  # type: ignore[override]
        self.numbers.append(self.numbers.pop(0))
        assert self.numbers[-1] < high
        return self.numbers[-1]


def sums_of_products(frames: np.ndarray) -> np.ndarray:
    """A similarity that is not additive: left times right of each row of 32."""
    red = frames[..., 0] / 255
    products: np.ndarray = (red[:, :, :16] * red[:, :, 16:]).sum(axis=(1, 2))
    return products


def test_an_additive_similarity_gives_a_sum_of_box_sums() -> None:
    rng = np.random.default_rng(3)
    frame = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    worth = rng.standard_normal((SIDE, SIDE))

    def score(frames: np.ndarray) -> np.ndarray:
        similarity: np.ndarray = 0.25 + (worth * frames[..., 0]).sum(axis=(1, 2))
        return similarity

    # Of 16 pixels, patches are 1, 2 and 4 wide at a stride of 1.
    wanted = np.zeros((SIDE, SIDE))
    for side in (1, 2, 4):
        box = np.ones((side, side))
        drops = convolve2d(worth * frame[..., 0], box, mode="valid")
        wanted += convolve2d(drops / side**2, box, mode="full")
    saliency = xface(photo(frame, []), score, {"stride": "5"})
    np.testing.assert_allclose(saliency, wanted, rtol=1e-9, atol=1e-9)


def test_patches_of_a_common_frame() -> None:
    # 22, 20 and 17 places along each side.
    masks = patches((112, 112))
    assert len(masks) == 22**2 + 20**2 + 17**2
    assert masks[0, :7, :7].all() and masks[0].sum() == 49
    assert masks[1, :7, 5:12].all() and masks[22**2 + 20, 5:19, :14].all()


def test_a_lattice_has_the_expectation_of_every_place() -> None:
    """At a side of 32, patches are 2, 4 and 8 wide, and a stride of 10 is 3: 9 first places."""
    frame = np.random.default_rng(4).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    wanted = np.zeros((32, 32))
    for side in (2, 4, 8):
        for top, left in product(range(32 - side + 1), repeat=2):
            hidden = frame.copy()
            hidden[top : top + side, left : left + side] = 0
            drop = sums_of_products(frame[None])[0] - sums_of_products(hidden[None])[0]
            wanted[top : top + side, left : left + side] += drop / side**2
    maps, counts = [], []
    for first in product(range(3), repeat=2):
        explained = photo(frame, [])
        object.__setattr__(explained, "rng", Drawn(*first))
        maps.append(xface_economical(explained, sums_of_products, {"stride": "10"}))
        counts.append(len(patches((32, 32), 10, Drawn(*first))))
    np.testing.assert_allclose(np.mean(maps, axis=0) * 9, wanted, rtol=1e-9, atol=1e-9)
    assert round(np.mean(counts)) == expected_patches({"stride": "10"}, (32, 32))
    # (31^2 + 29^2 + 25^2) / 9
    assert expected_patches({"stride": "10"}, (32, 32)) == 270


def test_the_first_place_of_each_side_is_drawn_evenly() -> None:
    rng = np.random.default_rng(5)
    firsts: list[Counter[tuple[int, int]]] = [Counter(), Counter()]
    for _ in range(900):
        masks = patches((32, 32), 10, rng)
        for side, count in zip((2, 8), firsts, strict=True):
            mask = masks[masks.sum(axis=(1, 2)) == side**2][0]
            count[int(mask.any(axis=1).argmax()), int(mask.any(axis=0).argmax())] += 1
    for count in firsts:
        assert set(count) == set(product(range(3), repeat=2))
        # 100 each, give or take 4.5 standard deviations of 9.4.
        assert max(abs(drawn - 100) for drawn in count.values()) < 43


def test_two_photos_have_two_lattices_and_a_photo_the_same_one_again() -> None:
    frame = np.random.default_rng(6).integers(0, 256, (112, 112, 3), dtype=np.uint8)

    def made(seed: int) -> np.ndarray:
        def score(frames: np.ndarray) -> np.ndarray:
            brightness: np.ndarray = frames.mean(axis=(1, 2, 3)) / 255
            return brightness

        return xface_economical(photo(frame, [], seed=seed), score, {"stride": "28"})

    assert (made(0) == made(0)).all()
    assert not (made(0) == made(1)).all()


def test_a_stride_beyond_the_largest_side_is_refused() -> None:
    with pytest.raises(UserError, match=r"'stride'.*29"):
        METHODS["xface-economical"].resolve_options({"stride": "29"})
