from __future__ import annotations

import numpy as np
import pytest

from facefocus.evaluation import insertion_deletion as pairwise
from facefocus.evaluation.insertion_deletion import PairCurves, pair_curves
from facefocus.occlusion.fills import hider

#: 2 x 5 pixels: one pixel for each step of 10 %.
SHAPE = (2, 5)


def embed(frames: np.ndarray) -> np.ndarray:
    """Sees only the red of the top left pixel: (1, 1) where it is full, (0, 1) where black."""
    seen = frames[:, 0, 0, 0].astype(np.float32) / 255
    return np.stack([seen, np.ones_like(seen)], axis=1)


def frames_of(*reds: int) -> np.ndarray:
    frames = np.full((len(reds), *SHAPE, 3), 90, dtype=np.uint8)
    frames[:, 0, 0, 0] = reds
    return frames


def map_with_rank(rank: int) -> np.ndarray:
    """A map in which the top left pixel is the `rank`-th most salient, from 1."""
    saliency = np.empty(10)
    saliency[0] = -rank
    saliency[1:] = [-r for r in range(1, 11) if r != rank]
    return saliency.reshape(SHAPE)


def curves(first: list[int], second: list[int], mated: list[bool], ranks: list[int]) -> PairCurves:
    frames = frames_of(255, 255, 0)
    return pair_curves(
        embed,
        frames,
        np.array(first),
        np.array(second),
        np.array(mated),
        maps=np.stack([map_with_rank(rank) for rank in ranks]),
        hider=lambda rows: hider("black", frames[rows], []),
        threshold=0.9,  # (1, 1) . (0, 1) is 0.707
        rngs=[np.random.default_rng(i) for i in range(len(first))],
    )


def test_one_mated_pair_by_hand() -> None:
    result = curves([0], [1], [True], [1])
    assert result.shares.tolist() == [i / 10 for i in range(11)]
    assert result.deletion.tolist() == [1] + [0] * 10
    assert result.insertion.tolist() == [0] + [1] * 10
    # Trapezoids: half of the first step; all but half of the first step.
    assert result.deletion_area == pytest.approx(0.05, abs=1e-15)
    assert result.insertion_area == pytest.approx(0.95, abs=1e-15)
    assert result.right.tolist() == [[[True] + [False] * 10], [[False] + [True] * 10]]


def test_a_map_that_misses_the_pixel() -> None:
    result = curves([0], [1], [True], [4])
    assert result.deletion.tolist() == [1] * 4 + [0] * 7
    assert result.insertion.tolist() == [0] * 4 + [1] * 7
    assert result.deletion_area == pytest.approx(0.35, abs=1e-15)


def test_only_the_probe_is_changed_and_all_pairs_count() -> None:
    # A mated pair; a non-mated pair that becomes alike once the probe's pixel is hidden.
    result = curves([0, 0], [1, 2], [True, False], [1, 6])
    assert result.deletion.tolist() == [1] + [0.5] * 5 + [0] * 5
    assert result.insertion.tolist() == [0] + [0.5] * 5 + [1] * 5


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_the_grouping_has_no_influence(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ([0, 0, 1, 2, 0], [1, 2, 0, 0, 1], [True, False, True, False, True])
    expected = curves(*arguments, [3, 5, 1, 10, 7])
    monkeypatch.setattr(pairwise, "CHUNK", chunk)
    result = curves(*arguments, [3, 5, 1, 10, 7])
    np.testing.assert_array_equal(result.deletion, expected.deletion)
    np.testing.assert_array_equal(result.insertion, expected.insertion)


def test_what_hides_a_pixel_is_the_fill() -> None:
    frames = frames_of(255, 255)
    result = pair_curves(
        embed,
        frames,
        np.array([0]),
        np.array([1]),
        np.array([True]),
        maps=map_with_rank(1)[None],
        hider=lambda rows: lambda masks: frames[rows],
        threshold=0.9,
        rngs=[np.random.default_rng(0)],
        steps=3,
    )
    assert result.shares.tolist() == [0, 0.5, 1]
    assert result.deletion.tolist() == result.insertion.tolist() == [1, 1, 1]
    assert result.deletion_area == result.insertion_area == 1.0
