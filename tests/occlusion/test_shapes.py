from __future__ import annotations

import numpy as np
import pytest
import scipy

from facefocus.occlusion.masks import top_pixels
from facefocus.occlusion.patch_layout import LAYOUTS, MOVES, Score, patches
from facefocus.occlusion.shapes import cells, pixels, random_mask

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
        patches(saliency, k, rng(), lambda masks: rng(1).random(len(masks))),
        patches(saliency, k, rng()),
        *(random_mask(shape, k, saliency > 0.5, rng()) for shape in ("pixels", "cells", "patches")),
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


def in_rectangles(mask: np.ndarray, sides: list[tuple[int, int]]) -> np.ndarray:
    """Pixels of a mask that lie in a window of given sides that is hidden whole."""
    inside = np.zeros_like(mask)
    for height, width in sides:
        for top, left in np.ndindex(112 - height + 1, 112 - width + 1):
            window = np.s_[top : top + height, left : left + width]
            inside[window] |= mask[window].all()
    return inside


def test_patches_are_a_few_rectangles_of_a_least_size() -> None:
    saliency, k = smooth(3), 1254
    mask = patches(saliency, k, rng())
    # 1254 / 6 = 209: rectangles of 15 x 14, 21 x 10 or 10 x 21; all but what the last is cut to.
    inside = in_rectangles(mask, [(15, 14), (21, 10), (10, 21)])
    assert np.count_nonzero(mask & ~inside) <= 15 * 14
    rows = cells(saliency, k, rng())
    assert (mask * saliency).sum() > 0.75 * (rows * saliency).sum()


def test_patches_are_chosen_by_the_score_and_not_by_the_map() -> None:
    saliency = np.zeros((32, 32))
    saliency[4:8, 4:8] = 1.0
    wanted = np.zeros((32, 32))
    wanted[20:24, 20:24] = 1
    # Without a choice, the map decides.
    assert patches(saliency, 16, rng(), rectangles=1)[4:8, 4:8].all()
    masks = [patches(saliency, 16, rng(n), left_of(wanted), rectangles=1) for n in range(8)]
    # 144 of some 2,000 places are tried, half of the moves near the best one yet.
    assert np.mean([(mask * wanted).sum() for mask in masks]) > 12


def test_a_search_ends_lower_than_all_that_it_started_from() -> None:
    saliency, wanted, scores = smooth(1), smooth(2), []

    def score(masks: np.ndarray) -> np.ndarray:
        scores.extend(left_of(wanted)(masks).tolist())
        return left_of(wanted)(masks)

    mask = patches(saliency, 1254, rng(), score)
    assert len(scores) == LAYOUTS + MOVES
    assert left_of(wanted)(mask[None])[0] == min(scores) < min(scores[:LAYOUTS])
    # The map's own layout is one of those that it starts from.
    assert scores[0] == left_of(wanted)(patches(saliency, 1254, rng())[None])[0]
    np.testing.assert_array_equal(mask, patches(saliency, 1254, rng(), score))


def test_one_percent_in_patches_by_hand() -> None:
    # Frame of 32: least side 2. k = 10 in at most 3: 10 / 3 = 3.3, so 2 x 2; then 6 / 2 = 3, 2 x 2;
    # the last one has to bring 2 of 2 x 2, its upper row.
    saliency = np.zeros((32, 32))
    for value, (top, left) in zip((3, 2, 1), ((2, 2), (10, 10), (20, 20)), strict=True):
        saliency[top : top + 2, left : left + 2] = value
    mask = patches(saliency, 10, rng(), rectangles=3)
    expected = np.zeros((32, 32), bool)
    expected[2:4, 2:4] = expected[10:12, 10:12] = expected[20, 20:22] = True
    np.testing.assert_array_equal(mask, expected)


def test_patches_have_their_centers_in_the_region() -> None:
    region = np.zeros((112, 112), bool)
    region[30:80, 30:80] = True
    for mask in (
        patches(np.eye(112)[::-1], 627, rng(), region=region),
        patches(smooth(), 627, rng(), lambda masks: rng(1).random(len(masks)), region=region),
        random_mask("patches", 627, region, rng()),
    ):
        # 627 / 6: 11 x 10, 15 x 7 or 8 x 14, of which less than 8 lies beside it.
        assert not mask[:22].any() and not mask[88:].any()
        assert not mask[:, :22].any() and not mask[:, 88:].any()


def test_a_random_mask_has_the_shape() -> None:
    region = np.zeros((112, 112), bool)
    region[21:84, 24:80] = True
    scattered = random_mask("pixels", 500, region, rng())
    assert not (scattered & ~region).any()
    hidden = random_mask("cells", 5 * 49, region, rng()).reshape(16, 7, 16, 7).sum(axis=(1, 3))
    # Columns 21 to 27 have four of seven pixels in the region, 77 to 83 three.
    assert sorted(hidden[hidden > 0].tolist()) == [49] * 5 and not hidden[:, 11].any()
    assert not hidden[:3].any() and not hidden[12:].any() and not hidden[:, :3].any()
    drawn = [random_mask("patches", 1254, region, rng(n)) for n in range(4)]
    for mask in drawn:
        assert scipy.ndimage.label(mask)[1] <= 6
        # Nothing is narrower than 7 but for what the last one was cut to.
        opened = scipy.ndimage.binary_opening(mask, np.ones((7, 7)))
        assert np.count_nonzero(mask & ~opened) <= 30
    assert len({mask.tobytes() for mask in drawn}) == 4


def test_random_cells_are_equally_likely() -> None:
    """Chi squared of 4 of the 8 x 8 cells in 400 draws, beside its 99.9 % point."""
    region = np.ones((32, 32), bool)
    drawn = np.stack([random_mask("cells", 16, region, rng(n)) for n in range(400)])
    counts = drawn.reshape(400, 16, 2, 16, 2).all(axis=(2, 4)).sum(axis=0)
    expected = 400 * 4 / 256
    assert ((counts - expected) ** 2 / expected).sum() < scipy.stats.chi2.ppf(0.999, 255)


def test_what_is_refused() -> None:
    saliency = np.zeros((16, 16))
    for k in (-1, 257):
        with pytest.raises(ValueError, match=r"k must be in \[0, 256\]"):
            cells(saliency, k, rng())
        with pytest.raises(ValueError, match=r"k must be in \[0, 256\]"):
            patches(saliency, k, rng())
    saliency[0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        cells(saliency, 1, rng())
    with pytest.raises(ValueError, match="rectangles must be at least 1"):
        patches(np.zeros((16, 16)), 1, rng(), rectangles=0)
