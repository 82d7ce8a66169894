"""Decisions while pixels are given back, of a network that knows one pixel, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from facefocus.evaluation.pixel_replacement import (
    SHARES,
    decision_errors,
    replacement_decisions,
)

#: (red of the upper left pixel, 1): like the reference (255, 1) only where it is red.
REFERENCE = np.full((1, 2, 2, 3), 255, np.uint8)


def embed(frames: np.ndarray) -> np.ndarray:
    red = frames[:, 0, 0, 0].astype(np.float64) / 255
    return np.stack([red, np.full(len(red), 0.1)], axis=1)


def decisions(red: int, original: int, values: list[float]) -> list[bool]:
    edited, before = REFERENCE.copy(), REFERENCE.copy()
    edited[0, 0, 0, 0], before[0, 0, 0, 0] = red, original
    decided = replacement_decisions(
        embed,
        edited,
        before,
        REFERENCE,
        maps=np.array(values).reshape(1, 2, 2),
        threshold=0.9,
        rngs=[np.random.default_rng(0)],
        shares=(0.25, 0.5, 0.75, 1.0),
    )
    return [bool(decision) for decision in decided[0]]


def test_where_it_matches_the_largest_values_are_given_back_first() -> None:
    assert decisions(255, 0, [0.9, 0.1, 0.2, 0.3]) == [True, False, False, False, False]
    assert decisions(255, 0, [0.1, 0.9, 0.8, 0.7]) == [True, True, True, True, False]
    assert decisions(255, 0, [0.5, 0.9, 0.2, 0.7]) == [True, True, True, False, False]


def test_where_it_does_not_match_the_least_values_are_given_back_first() -> None:
    assert decisions(0, 255, [0.1, 0.9, 0.8, 0.7]) == [False, True, True, True, True]
    assert decisions(0, 255, [0.9, 0.1, 0.2, 0.3]) == [False, False, False, False, True]


def test_ties_are_given_back_in_random_order_and_none_is_dropped() -> None:
    pixels = 16
    frames = np.zeros((40, 4, 4, 3), np.uint8)
    back = replacement_decisions(
        # The share of the pixels that are white is what is seen.
        lambda images: np.stack(
            [images.mean(axis=(1, 2, 3)) / 255, np.full(len(images), 1.0)], axis=1
        ),
        frames,
        np.full_like(frames, 255),
        np.full_like(frames, 255),
        maps=np.ones((40, 4, 4)),
        # cos((s, 1), (1, 1)) = (s + 1) / sqrt(2 (s^2 + 1)) at s = 1/2: from half the pixels on.
        threshold=1.5 / np.sqrt(2.5) - 1e-9,
        rngs=[np.random.default_rng(pair) for pair in range(40)],
        shares=(7 / pixels, 8 / pixels, 1.0),
    )
    assert not back[:, :2].any() and back[:, 2:].all()


def test_the_error_of_a_pair_leaves_out_how_it_began() -> None:
    matches = np.array([[False, True, True, False, True], [True, False, True, False, False]])
    assert decision_errors(matches, np.array([True, False])).tolist() == [0.25, 0.25]
    assert decision_errors(matches, np.array([False, True])).tolist() == [0.75, 0.75]


def test_shares_go_from_5_to_95_percent_by_5() -> None:
    assert (len(SHARES), SHARES[0], SHARES[-1]) == (19, 0.05, 0.95)


def test_a_map_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        decisions(0, 255, [np.nan, 0, 0, 0])
