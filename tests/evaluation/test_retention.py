from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from facefocus.evaluation.retention import macro_average, retention


def directions(*degrees: float) -> np.ndarray:
    """Raw embeddings of unequal lengths at these angles."""
    angles = np.radians(degrees)
    lengths = np.arange(1.0, len(degrees) + 1)
    return np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], axis=1)


CLEAN = directions(0, 60, 90)
OCCLUDED = directions(30, 60, 180)
ROOT = math.sqrt(3) / 2


def test_against_clean_images_by_hand() -> None:
    # Angles of (occluded, clean): 30-60, 30-90, 60-0, 60-90, 180-0, 180-60.
    cosines = [ROOT, 0.5, 0.5, ROOT, -1.0, -0.5]
    result = retention(CLEAN, OCCLUDED, 0.6)
    assert result.cosine == pytest.approx(sum(cosines) / 6, abs=1e-15)
    assert result.rate == 2 / 6
    # 0-60, 0-90, 60-90, each both ways.
    assert result.clean_cosine == pytest.approx((0.5 + 0 + ROOT) / 3, abs=1e-15)
    assert result.clean_rate == 1 / 3
    assert result.pairs == 6


def test_both_sides_occluded_by_hand() -> None:
    # 30-60, 30-180, 60-180.
    result = retention(CLEAN, OCCLUDED, 0.6, compare="both")
    assert result.cosine == pytest.approx((ROOT - ROOT - 0.5) / 3, abs=1e-15)
    assert result.rate == 1 / 3
    assert result.clean_rate == 1 / 3


def test_a_score_at_the_threshold_is_a_match() -> None:
    clean = np.array([[1.0, 0.0], [0.6, 0.8]])
    assert retention(clean, clean, 0.6).rate == 1.0
    assert retention(clean, clean, float(np.nextafter(0.6, 1))).rate == 0.0


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_scikit_learn_agrees(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    clean, occluded = rng.normal(0.5, 1, (2, m, 8)).astype(np.float32)
    result = retention(clean, occluded, 0.2)
    scores = cosine_similarity(occluded.astype(float), clean.astype(float))
    pairs = [scores[a, b] for a in range(m) for b in range(m) if a != b]
    assert result.cosine == pytest.approx(np.mean(pairs), abs=1e-12)
    assert result.rate == np.mean(np.array(pairs) >= 0.2)
    assert result.pairs == len(pairs)


@pytest.mark.parametrize("m", [2, 3, 10, 200])
def test_untouched_images_keep_their_figures_to_the_last_bit(m: int) -> None:
    clean = np.random.default_rng(m).normal(size=(m, 128)).astype(np.float32)
    result = retention(clean, clean.copy(), 0.0)
    assert result.cosine == result.clean_cosine
    assert result.rate == result.clean_rate
    both = retention(clean, clean.copy(), 0.0, compare="both")
    assert both.cosine == both.clean_cosine


def test_the_order_of_the_images_has_no_influence() -> None:
    rng = np.random.default_rng(0)
    clean, occluded = rng.normal(size=(2, 30, 64)).astype(np.float32)
    expected = retention(clean, occluded, 0.05)
    for _ in range(5):
        order = rng.permutation(30)
        assert retention(clean[order], occluded[order], 0.05) == expected


def test_an_embedding_of_zeros_matches_nothing() -> None:
    result = retention(CLEAN, np.zeros((3, 2)), 0.1)
    assert (result.cosine, result.rate) == (0.0, 0.0)


def test_two_images_at_least_and_finite() -> None:
    with pytest.raises(ValueError, match="at least 2 images"):
        retention(CLEAN[:1], OCCLUDED[:1], 0.5)
    with pytest.raises(ValueError, match="finite"):
        retention(CLEAN, np.full((3, 2), np.nan), 0.5)


def test_macro_average_counts_every_identity_once() -> None:
    assert macro_average([1.0, 0.5, 0.0, 0.5]) == 0.5
    assert macro_average([0.1] * 10) == 0.1
    # Summed left to right this is 0.
    assert macro_average([1e16, 1.0, -1e16, 1.0]) == 0.5
    with pytest.raises(ValueError, match="no values"):
        macro_average([])
