"""Truth scores against scikit-learn, cases worked by hand, and brute force over all masks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from facefocus.evaluation.localization import (
    best_shares,
    chance,
    map_share,
    mask_shares,
    overlap,
    planted_share,
    pointing,
    roc_auc,
)

#: Two photos of 2 x 3 pixels: the part is two pixels wide and moves by one.
PHOTOS = np.array([[[1, 1, 0], [0, 0, 0]], [[0, 1, 1], [0, 0, 0]]], dtype=bool)
PLANTED = np.array([[0.5, 1.0, 0.5], [0.0, 0.0, 0.0]])


def test_the_planted_share_is_over_the_persons_photos_and_any_part() -> None:
    other = np.zeros((3, 2, 3), dtype=bool)
    other[1, 1, 2] = True
    parts = {"eyes": np.concatenate([PHOTOS, np.ones((1, 2, 3), dtype=bool)]), "nose": other}
    assert planted_share(parts, np.array([0])).tolist() == [[1, 1, 0], [0, 0, 0]]
    assert planted_share(parts, np.array([0, 1])).tolist() == [[0.5, 1, 0.5], [0, 0, 0.5]]
    for parts_, rows in ((parts, []), ({}, [0])):
        with pytest.raises(ValueError, match="at least one part and one photo"):
            planted_share(parts_, np.array(rows, dtype=np.int64))


def test_share_of_masks_by_hand() -> None:
    masks = np.zeros((4, 2, 3), dtype=bool)
    masks[0, 0, 1] = True  # in the part in both photos
    masks[1, 0, :2] = True  # 1 of 2 and 2 of 2: 3 of 4
    masks[2, 1] = True  # beside it
    assert mask_shares(masks, PLANTED).tolist() == [1.0, 0.75, 0.0, pytest.approx(2 / 6)]
    assert chance(PLANTED) == pytest.approx(2 / 6)


def test_the_whole_frame_and_random_masks_score_chance() -> None:
    rng = np.random.default_rng(0)
    planted = rng.integers(0, 5, (8, 9)) / 4
    drawn = np.zeros((4000, 72), dtype=bool)
    for mask in drawn:
        mask[rng.choice(72, 10, replace=False)] = True
    shares = mask_shares(drawn.reshape(-1, 8, 9), planted)
    assert shares.mean() == pytest.approx(chance(planted), abs=3 * shares.std() / 4000**0.5)
    whole = mask_shares(np.ones((1, 8, 9), dtype=bool), planted)
    assert whole[0] == pytest.approx(chance(planted))


def test_the_best_share_is_that_of_the_best_of_all_masks() -> None:
    planted = np.random.default_rng(1).integers(0, 4, (3, 3)) / 3
    for count in range(1, 10):
        every = [sum(chosen) / count for chosen in combinations(planted.ravel(), count)]
        assert best_shares(planted, [count])[0] == pytest.approx(max(every))
    assert best_shares(planted, [0])[0] == chance(planted)
    for count in (-1, 10):
        with pytest.raises(ValueError, match=r"must be in \[0, 9\]"):
            best_shares(planted, [count])


def test_the_auc_of_one_photo_by_hand() -> None:
    """Planted values 3 and 1 against 2 and 1: above 2 of 2, and level with 1 of 2."""
    saliency = np.array([[3.0, 2.0], [1.0, 1.0]])
    planted = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert roc_auc(saliency, planted) == pytest.approx((1 + 1 + 0 + 0.5) / 4)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_the_auc_is_scikit_learns_over_the_pixels_of_all_photos(
    photos: int, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((photos, 7, 6)) < rng.uniform(0.1, 0.9)
    saliency = rng.integers(0, levels, (7, 6)).astype(np.float32) / 7
    area = roc_auc(saliency, masks.mean(axis=0))
    if masks.all() or not masks.any():
        assert np.isnan(area)
        return
    pooled = np.broadcast_to(saliency, masks.shape).ravel()
    assert area == pytest.approx(roc_auc_score(masks.ravel(), pooled), abs=1e-12)


def test_no_map_has_a_larger_auc_than_the_planted_share() -> None:
    rng = np.random.default_rng(2)
    best = roc_auc(PLANTED, PLANTED)
    # By hand: of 4 planted and 8 other pixels of the two photos, the pairs with the levels
    # (1, 0.5), (1, 0), (0.5, 0) are won and those within a level are level.
    inside, outside = np.array([2, 2, 0]), np.array([0, 2, 6])  # levels 1, 0.5, 0
    wins = inside[0] * (outside[1] + outside[2]) + inside[1] * (outside[1] / 2 + outside[2])
    assert best == pytest.approx(wins / (4 * 8))
    assert max(roc_auc(rng.random((2, 3)), PLANTED) for _ in range(2000)) <= best


def test_the_pointing_game_by_hand_ties_at_their_mean() -> None:
    saliency = np.array([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0]])
    assert pointing(saliency, PLANTED) == 1.0
    assert pointing(np.array([[9.0, 5.0, 0.0], [0.0, 0.0, 0.0]]), PLANTED) == 0.5
    assert pointing(np.array([[0.0, 5.0, 0.0], [0.0, 0.0, 5.0]]), PLANTED) == 0.5
    assert pointing(PLANTED, PLANTED) == PLANTED.max()


def test_a_flat_map_scores_chance_everywhere() -> None:
    flat = np.zeros((2, 3))
    assert roc_auc(flat, PLANTED) == 0.5
    assert pointing(flat, PLANTED) == chance(PLANTED)


def test_a_map_that_is_not_finite_is_refused() -> None:
    bad = np.array([[np.nan, 1.0, 0.0], [0.0, 0.0, 0.0]])
    for score in (roc_auc, pointing):
        with pytest.raises(ValueError, match="must be finite"):
            score(bad, PLANTED)


def test_the_share_of_a_map_counts_from_its_least_value() -> None:
    truth = np.array([[True, False], [False, True]])
    # Above -1: 0, 4, 2, 2.
    assert map_share(np.array([[-1.0, 3.0], [1.0, 1.0]]), truth) == 0.25
    assert map_share(np.ones((2, 2)), truth) == 0.5
    with pytest.raises(ValueError, match="finite"):
        map_share(np.array([[np.inf, 0.0], [0.0, 0.0]]), truth)


def test_the_overlap_is_of_as_many_pixels_as_the_truth() -> None:
    truth = np.array([[True, True, True, False], [False, False, False, False]])
    saliency = np.array([[9.0, 8.0, 1.0, 7.0], [0.0, 0.0, 0.0, 0.0]])
    # The three largest share two pixels with the truth: 2 of 4.
    assert overlap(saliency, truth, np.random.default_rng(0)) == 0.5
    assert overlap(truth.astype(float), truth, np.random.default_rng(0)) == 1.0
    # A flat map's three pixels are random: all of C(8, 3) = 56 choices alike.
    chances = [overlap(np.zeros((2, 4)), truth, np.random.default_rng(s)) for s in range(1000)]
    wanted = (15 * (2 / 4) + 30 * (1 / 5) + 1.0) / 56
    assert np.mean(chances) == pytest.approx(wanted, abs=0.02)
    assert np.isnan(overlap(saliency, np.zeros((2, 4), bool), np.random.default_rng(0)))
