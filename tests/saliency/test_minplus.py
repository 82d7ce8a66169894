from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from facefocus.saliency.minplus import greedy_ranks, minplus, squares
from tests.saliency.photos import photo

#: One pixel to a square.
FRAME = np.full((8, 8, 3), 200, np.uint8)
PARTS = squares((8, 8), 8)


def of_shown(value: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A similarity of which of the 64 squares are shown."""
    return lambda frames: np.array([value(frame[..., 0].ravel() > 0) for frame in frames])


@pytest.mark.parametrize("removing", [True, False])
def test_what_adds_up_is_taken_in_order(removing: bool) -> None:
    worth = np.random.default_rng(0).permutation(64).astype(float)
    score = of_shown(lambda shown: float((shown * worth).sum()))
    ranks = greedy_ranks(photo(FRAME, []), score, PARTS, 5, removing=removing)
    assert ranks.tolist() == (worth + 1).astype(int).tolist()


def test_what_stands_in_for_each_other_is_told_apart_by_the_two_games() -> None:
    # One of squares 3 and 7 is enough for .6; 20 alone brings .3.
    def value(shown: np.ndarray) -> float:
        return 0.6 * bool(shown[3] or shown[7]) + 0.3 * bool(shown[20])

    score, explained = of_shown(value), photo(FRAME, [])
    # Removal: 20 costs most at first; then 3 or 7 cost nothing, so the first square goes, 0;
    # none of the others costs anything alone, so the next is 1, ...
    minus = greedy_ranks(explained, score, PARTS, 3, removing=True)
    assert [minus[20], minus[0], minus[1]] == [64, 63, 62]
    # Aggregation: 3 brings .6, then 20 brings .3, then all bring nothing: the first.
    plus = greedy_ranks(explained, score, PARTS, 3, removing=False)
    assert [plus[3], plus[20], plus[0]] == [64, 63, 62]
    both = minplus(explained, score, {"game": "both", "rounds": "3", "grid": "8"})
    np.testing.assert_allclose(both.ravel(), (minus + plus) / 2)
    single = minplus(explained, score, {"game": "plus", "rounds": "1", "grid": "8"})
    # S1: what each brings alone: 3 and 7 alike, then 20.
    assert single.ravel()[[3, 7, 20]].tolist() == [64, 63, 62]


def test_values_are_interpolated_between_the_centers_of_squares() -> None:
    frame = np.full((16, 16, 3), 200, np.uint8)
    score = of_shown(lambda shown: float(shown.reshape(16, 16)[:2, :2].sum()))
    saliency = minplus(photo(frame, []), score, {"game": "minus", "rounds": "1", "grid": "8"})
    # The first square is 64, those beside it by place: 63 right, 56 below, 55 across.
    assert saliency[0, 0] == 64
    assert saliency[1, 1] == pytest.approx(
        0.75 * (0.75 * 64 + 0.25 * 63) + 0.25 * (0.75 * 56 + 0.25 * 55)
    )
