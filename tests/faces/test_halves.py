from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefocus.faces.halves import NEAR_EQUAL, halves, near_equal


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photos(count: int, side: int = 24) -> np.ndarray:
    made: np.ndarray = rng(4).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return made


def test_near_equal_photos_are_those_that_correlate_by_numpy() -> None:
    """A photo, itself brighter, with little and with much noise, and two of other pictures."""
    first, other, third = photos(3)
    noise = rng(5).normal(size=first.shape)
    like = [(0.8 * first + 40 + size * noise).astype(np.uint8) for size in (0, 6, 40)]
    made = np.stack([first, other, *like, third])
    gray = made.astype(np.float64).mean(axis=3).reshape(len(made), -1)
    near = np.corrcoef(gray) > NEAR_EQUAL
    assert near.sum() == len(made) + 6  # the first three, each with the two others
    labels = near_equal(made)
    np.testing.assert_array_equal(labels[:, None] == labels, near)


def test_a_chain_of_near_equal_photos_is_one_group() -> None:
    start, end = photos(2).astype(np.float64)
    steps = [((1 - s) * start + s * end).astype(np.uint8) for s in np.linspace(0, 1, 12)]
    made = np.stack(steps)
    assert np.corrcoef(made[[0, -1]].reshape(2, -1))[0, 1] < 0.5
    assert len(set(near_equal(made))) == 1


def test_crops_of_one_color_are_compared_by_their_bytes() -> None:
    made = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (7, 9, 7)])
    labels = near_equal(made)
    assert labels[0] == labels[2] != labels[1]


def test_steps_change_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    made = photos(5)[[0, 1, 2, 3, 4, 1, 0]]
    whole = near_equal(made)
    monkeypatch.setattr("facefocus.faces.halves._STEP", 2)
    np.testing.assert_array_equal(near_equal(made), whole)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=14), st.integers(0, 1000))
def test_halves_keep_groups_whole_and_are_as_even_as_can_be(labels: list[int], seed: int) -> None:
    groups = np.array(labels)
    sizes = np.unique(groups, return_counts=True)[1].tolist()
    sums = {sum(some) for n in range(len(sizes) + 1) for some in combinations(sizes, n)}
    best = max((s for s in sums if 2 <= s <= len(labels) // 2), default=None)
    cut = halves(groups, rng(seed))
    if cut is None:
        assert best is None
        return
    first, second = cut
    assert len(first) == best
    assert sorted([*first, *second]) == list(range(len(labels)))
    assert not set(groups[first]) & set(groups[second])
    assert first.tolist() == sorted(first) and second.tolist() == sorted(second)


def test_single_photos_are_cut_in_every_way_equally_often() -> None:
    counts: dict[bytes, int] = {}
    for seed in range(1200):
        cut = halves(np.arange(4), rng(seed))
        assert cut is not None
        counts[cut[0].tobytes()] = counts.get(cut[0].tobytes(), 0) + 1
    assert len(counts) == 6  # 200 expected of each pair, standard deviation 13
    np.testing.assert_allclose(list(counts.values()), 200, atol=55)


def test_which_of_equal_groups_come_first_is_drawn() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    drawn = {tuple(cut[0]) for seed in range(60) if (cut := halves(groups, rng(seed)))}
    assert len(drawn) == 6
