from __future__ import annotations

import numpy as np
import pytest

from facefocus.occlusion.masks import top_pixels
from facefocus.occlusion.shapes import Score, cells, patches, pixels

COUNTS = (0, 1, 48, 49, 50, 125, 627, 1254, 2509, 12544)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def smooth(seed: int = 0) -> np.ndarray:
    """A map with hills."""
    y, x = np.mgrid[:112, :112]
    hills = rng(seed).uniform(10, 100, (5, 2))
    made: np.ndarray = np.sum(
        [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 200) for a, b in hills], axis=0
    )
    return made


def left_of(saliency: np.ndarray) -> Score:
    """What a recognizer would keep that needs nothing but the map."""
    return lambda masks: -(masks * saliency).sum(axis=(1, 2))


def test_pixels_are_the_largest() -> None:
    assert pixels is top_pixels


@pytest.mark.parametrize("k", COUNTS)
def test_every_shape_hides_exactly_k_pixels(k: int) -> None:
    saliency = smooth()
    for mask in (
        cells(saliency, k, rng()),
        patches(saliency, k, lambda masks: rng(1).random(len(masks))),
    ):
        assert mask.dtype == bool and mask.shape == (112, 112)
        assert np.count_nonzero(mask) == k


def test_cells_are_whole_squares_of_seven_but_for_the_last() -> None:
    saliency = rng().random((112, 112))
    mask = cells(saliency, 3 * 49 + 10, rng())
    hidden = mask.reshape(16, 7, 16, 7).swapaxes(1, 2).reshape(256, 7, 7)
    counts = hidden.sum(axis=(1, 2))
    means = saliency.reshape(16, 7, 16, 7).mean(axis=(1, 3)).ravel()
    best = np.argsort(-means)
    assert counts[best[:4]].tolist() == [49, 49, 49, 10] and counts[best[4:]].sum() == 0
    # Row by row: a whole row of seven, then three.
    assert np.argwhere(hidden[best[3]]).tolist() == [[0, x] for x in range(7)] + [
        [1, x] for x in range(3)
    ]


def test_cells_of_another_frame_may_be_narrower_at_the_border() -> None:
    # 32 / 16 = 2 pixels: in 33 x 35 the last row and column of cells are 1 wide.
    saliency = np.zeros((33, 35))
    saliency[32, 34] = 1
    mask = cells(saliency, 1, rng())
    assert np.argwhere(mask).tolist() == [[32, 34]]


def test_equal_cells_are_taken_at_random() -> None:
    flat = np.zeros((32, 32))
    first = [tuple(np.argwhere(cells(flat, 4, rng(seed)))[0]) for seed in range(8)]
    assert len(set(first)) > 4


def test_patches_are_a_few_rectangles_of_a_least_size() -> None:
    saliency, k = smooth(3), 1254
    mask = patches(saliency, k, left_of(saliency))
    # 1254 / 6 = 209: rectangles of 15 x 14, 21 x 10 or 10 x 21.
    inside = np.zeros_like(mask)
    for sides in ((15, 14), (21, 10), (10, 21)):
        for top, left in np.ndindex(112 - sides[0] + 1, 112 - sides[1] + 1):
            window = np.s_[top : top + sides[0], left : left + sides[1]]
            inside[window] |= mask[window].all()
    # All but what the last one was trimmed to.
    assert np.count_nonzero(mask & ~inside) <= 15 * 14
    rows = cells(saliency, k, rng())
    assert (mask * saliency).sum() > 0.75 * (rows * saliency).sum()


def test_patches_are_chosen_by_the_score_and_not_by_the_map() -> None:
    saliency = np.zeros((32, 32))
    saliency[4:8, 4:8] = 1.0
    saliency[20:24, 20:24] = 0.9
    for place in (4, 20):
        wanted = np.zeros((32, 32))
        wanted[place : place + 4, place : place + 4] = 1
        mask = patches(saliency, 16, left_of(wanted), blocks=1)
        np.testing.assert_array_equal(mask, wanted > 0)
    # Without a choice, the map decides.
    mask = patches(saliency, 16, left_of(wanted), blocks=1, shortlist=1)
    assert mask[4:8, 4:8].all()


def test_one_percent_in_patches_by_hand() -> None:
    # Frame of 32: least side 2. k = 10 in at most 3: 10 / 3 = 3.3, so 2 x 2; then 6 / 2 = 3, 2 x 2;
    # the last one has to bring 2 of 2 x 2, its upper row.
    saliency = np.zeros((32, 32))
    for value, (top, left) in zip((3, 2, 1), ((2, 2), (10, 10), (20, 20)), strict=True):
        saliency[top : top + 2, left : left + 2] = value
    mask = patches(saliency, 10, left_of(saliency), blocks=3)
    expected = np.zeros((32, 32), bool)
    expected[2:4, 2:4] = expected[10:12, 10:12] = expected[20, 20:22] = True
    np.testing.assert_array_equal(mask, expected)


def test_what_is_refused() -> None:
    saliency = np.zeros((16, 16))
    for k in (-1, 257):
        with pytest.raises(ValueError, match=r"k must be in \[0, 256\]"):
            cells(saliency, k, rng())
        with pytest.raises(ValueError, match=r"k must be in \[0, 256\]"):
            patches(saliency, k, left_of(saliency))
    saliency[0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        cells(saliency, 1, rng())
    with pytest.raises(ValueError, match="blocks must be at least 1"):
        patches(np.zeros((16, 16)), 1, left_of(saliency), blocks=0)
