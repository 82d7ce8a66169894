from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from facefocus.evaluation.retention import retention
from facefocus.models.occluded_frames import occlude
from facefocus.occlusion import mask_search as oracle
from facefocus.occlusion.fills import hider
from facefocus.occlusion.mask_search import Embed, Oracle, search_masks
from tests.small import tiny_recognizer

#: What hiding a set of pixels takes away: hidden [n, h, w] bool -> [n], within [0, 1].
Loss = Callable[[np.ndarray], np.ndarray]


def embed_by(loss: Loss) -> Embed:
    """Unit embeddings whose cosine to a clean one is 1 - loss; white is clean, black hidden."""

    def embed(frames: np.ndarray) -> np.ndarray:
        x = 1 - loss(frames[..., 0] == 0)
        embeddings: np.ndarray = np.stack([x, np.sqrt(1 - x * x)], axis=1)
        return embeddings

    return embed


def additive(weights: np.ndarray) -> Loss:
    def loss(hidden: np.ndarray) -> np.ndarray:
        lost: np.ndarray = (hidden * weights).sum(axis=(1, 2))
        return lost

    return loss


def search(loss: Loss, shape: tuple[int, int], **options: Any) -> Oracle:
    frames = np.full((2, *shape, 3), 255, np.uint8)
    hide = hider("black", frames, [])
    clean = np.array([[1.0, 0.0], [1.0, 0.0]])
    arguments: dict[str, Any] = {"rng": np.random.default_rng(0), "rounds": 0, "block": 2}
    return search_masks(embed_by(loss), hide, clean, shape=shape, **{**arguments, **options})


def random_weights(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    weights: np.ndarray = np.random.default_rng(seed).random(shape)
    weights /= weights.sum()
    return weights


def block_masks(shape: tuple[int, int], side: int) -> list[np.ndarray]:
    masks = []
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            mask = np.zeros(shape, bool)
            mask[top : top + side, left : left + side] = True
            masks.append(mask)
    return masks


# Greedy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_best_union_of_blocks_where_effects_add_up(number: int) -> None:
    weights = random_weights((6, 6))
    unions = [np.any(some, axis=0) for some in combinations(block_masks((6, 6), 2), number)]
    best = max(unions, key=lambda mask: float((mask * weights).sum()))
    searched = search(additive(weights), (6, 6), counts=[4 * number])
    np.testing.assert_array_equal(searched.masks[0], best)
    assert searched.cosines[0] == pytest.approx(1 - (best * weights).sum(), abs=1e-12)
    assert (
        searched.clean == 1
        and searched.greedy[0] == searched.cosines[0]
        and np.isnan(searched.seeds[0])
    )


def covering(rows: np.ndarray, columns: np.ndarray) -> Loss:
    """A row or a column is lost with its first hidden pixel: effects overlap, never grow."""

    def loss(hidden: np.ndarray) -> np.ndarray:
        lost: np.ndarray = hidden.any(axis=2) @ rows + hidden.any(axis=1) @ columns
        return lost

    return loss


@pytest.mark.parametrize("seed", range(5))
def test_old_effects_are_bounds_so_lazy_greedy_is_plain_greedy(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "BATCH", 2)
    values = np.random.default_rng(seed).random((2, 10))
    loss = covering(*(values / values.sum()))
    hidden = np.zeros((10, 10), bool)
    blocks = block_masks((10, 10), 2)
    expected, tries = [], 0
    for _ in range(7):
        hidden = max(
            (hidden | block for block in blocks), key=lambda mask: float(loss(mask[None])[0])
        )
        expected.append(hidden)
        tries += len(blocks)
    searched = search(loss, (10, 10), counts=[4 * n for n in range(1, 6)], lookahead=len(blocks))
    np.testing.assert_array_equal(searched.masks, expected[:5])
    assert searched.embeddings < 2 * tries


def test_only_effects_measured_anew_decide() -> None:
    """The second best block by itself adds nothing to the best; one candidate anew shows it."""
    rows = np.array([0.4, 0.4, 0.1, 0.1]) / 2
    loss = covering(rows, np.array([0.3, 0.2, 0.25, 0.25]) / 2)
    searched = search(loss, (4, 4), counts=[8], lookahead=4)
    # Both top blocks share the heavy rows: after the first, the opposite corner adds most.
    expected = np.zeros((4, 4), bool)
    expected[:2, :2] = expected[2:, 2:] = True
    mirrored = expected[:, ::-1]
    assert any(np.array_equal(searched.masks[0], wanted) for wanted in (expected, mirrored))
    blind = search(loss, (4, 4), counts=[8], lookahead=0)
    np.testing.assert_array_equal(blind.masks[0][:2], True)


def test_areas_are_exact_and_masks_nested_on_any_frame() -> None:
    counts = [0, 1, 3, 5, 6, 17, 35]
    searched = search(additive(random_weights((7, 5))), (7, 5), counts=counts[::-1], block=3)
    assert searched.masks.sum(axis=(1, 2)).tolist() == counts[::-1]
    for larger, smaller in zip(searched.masks, searched.masks[1:], strict=False):
        assert not (smaller & ~larger).any()
    assert searched.cosines[-1] == searched.clean


@pytest.mark.parametrize("side", [np.s_[:, 0], np.s_[:, 1], np.s_[0, :], np.s_[1, :]])
def test_the_last_block_is_cut_from_its_best_side(side: Any) -> None:
    weights = np.full((2, 2), 0.1)
    weights[side] = 0.3
    searched = search(additive(weights), (2, 2), counts=[2])
    expected = np.zeros((2, 2), bool)
    expected[side] = True
    np.testing.assert_array_equal(searched.masks[0], expected)


def test_candidates_leave_the_race_after_the_first_look_but_never_too_many() -> None:
    rows = np.array([0.4, 0.4, 0.1, 0.1]) / 2
    loss = covering(rows, np.array([0.3, 0.2, 0.25, 0.25]) / 2)
    searched = search(loss, (4, 4), counts=[8], candidates=2)
    np.testing.assert_array_equal(searched.masks[0][:2], True)
    assert search(loss, (4, 4), counts=[16], candidates=1).masks.all()


def test_a_flat_objective_favors_no_corner() -> None:
    chosen = {
        search(
            lambda hidden: np.zeros(len(hidden)),
            (8, 8),
            counts=[4],
            rng=np.random.default_rng(seed),
        )
        .masks[0]
        .tobytes()
        for seed in range(20)
    }
    assert len(chosen) > 5


# Seeds and swaps ----------------------------------------------------------------------------------


def mask_of(shape: tuple[int, int], *pixels: int) -> np.ndarray:
    mask = np.zeros(shape[0] * shape[1], bool)
    mask[list(pixels)] = True
    return mask.reshape(shape)


def test_a_better_seed_wins_and_a_worse_one_does_not() -> None:
    weights = np.full((4, 4), 0.02)
    weights.ravel()[[0, 3, 12, 15]] = 0.15  # one in each block
    corners, others = mask_of((4, 4), 0, 3, 12, 15), mask_of((4, 4), 1, 2, 4, 8)
    empty = mask_of((4, 4))
    seeds = np.stack([[others, corners, empty]])
    searched = search(additive(weights), (4, 4), counts=[4], seeds=seeds)
    np.testing.assert_array_equal(searched.masks[0], corners)
    assert searched.cosines[0] == searched.seeds[0] == pytest.approx(0.4, abs=1e-12)
    assert searched.greedy[0] == pytest.approx(1 - 0.15 - 3 * 0.02, abs=1e-12)
    worse = search(additive(weights), (4, 4), counts=[4], seeds=seeds[:, [0, 2]])
    assert worse.cosines[0] == worse.greedy[0] < worse.seeds[0] == pytest.approx(0.92, abs=1e-12)


def test_seeds_without_a_pixel_are_none() -> None:
    seeds = np.zeros((1, 3, 4, 4), bool)
    searched = search(additive(random_weights((4, 4))), (4, 4), counts=[5], seeds=seeds)
    assert searched.masks.sum() == 5 and np.isnan(searched.seeds[0])


def test_a_seed_of_fewer_pixels_may_be_the_best() -> None:
    """More pixels than the corner's one bring the face back."""

    def loss(hidden: np.ndarray) -> np.ndarray:
        lost: np.ndarray = 0.8 * hidden[:, 0, 0] * (hidden.sum(axis=(1, 2)) == 1)
        return lost

    seeds = np.stack([[mask_of((4, 4), 0), mask_of((4, 4), 5, 6, 7, 8)]])
    searched = search(loss, (4, 4), counts=[4], seeds=seeds)
    np.testing.assert_array_equal(searched.masks[0], mask_of((4, 4), 0))
    assert searched.cosines[0] == searched.seeds[0] == pytest.approx(0.2, abs=1e-12)


@pytest.mark.parametrize("both", [False, True])
def test_the_best_of_all_masks_of_one_block_for_either_comparison(both: bool) -> None:
    """Hiding block i turns photo p by an angle of its own: who is hidden alike stays alike."""
    angles = np.array([[0.3, 0.0, 0.5, 1.2], [0.3, 0.0, 0.7, 1.2], [0.3, 0.0, -0.9, 1.2]])

    def embed(frames: np.ndarray) -> np.ndarray:
        photo = frames[:, 1, 1, 2].astype(int)  # its number, which no fill changes
        hidden = frames[:, ::2, ::2, 0].reshape(len(frames), 4) == 0
        turned = (angles[photo] * hidden).sum(axis=1)
        embeddings: np.ndarray = np.stack([np.cos(turned), np.sin(turned)], axis=1)
        return embeddings

    frames = np.full((3, 4, 4, 3), 255, np.uint8)
    frames[:, 1, 1, 2] = range(3)
    content = np.zeros_like(frames)
    content[:, 1, 1, 2] = range(3)
    clean = embed(frames)
    scores = []
    for block in block_masks((4, 4), 2):
        left = retention(clean, embed(occlude(frames, block, content)), 0.5,
                         compare="both" if both else "clean")  # fmt: skip
        scores.append(left.cosine)
    searched = search_masks(
        embed, lambda mask: occlude(frames, mask, content), clean, shape=(4, 4), counts=[4],
        rng=np.random.default_rng(0), block=2, rounds=0, both=both,
    )  # fmt: skip
    best = int(np.argmin(scores))
    assert best == (2 if both else 3)
    np.testing.assert_array_equal(searched.masks[0], block_masks((4, 4), 2)[best])
    assert searched.cosines[0] == pytest.approx(scores[best], abs=1e-12)


def test_swaps_join_what_is_best_of_two_seeds() -> None:
    """Four heavy pixels, two in either seed: one round finds all four."""
    weights = np.full((4, 4), 0.02)
    weights.ravel()[[0, 3, 12, 15]] = 0.15
    seeds = np.stack([[mask_of((4, 4), 0, 3, 5, 6), mask_of((4, 4), 12, 15, 9, 10)]])
    searched = search(additive(weights), (4, 4), counts=[4], seeds=seeds, rounds=1)
    np.testing.assert_array_equal(searched.masks[0], mask_of((4, 4), 0, 3, 12, 15))
    assert searched.cosines[0] == pytest.approx(0.4, abs=1e-12)


def test_swaps_only_ever_improve() -> None:
    weights = random_weights((8, 8), seed=3)
    rng = np.random.default_rng(4)
    seeds = np.stack([[mask_of((8, 8), *rng.permutation(64)[:20])] for _ in range(1)])
    left = [
        search(additive(weights), (8, 8), counts=[20], seeds=seeds, rounds=rounds).cosines[0]
        for rounds in range(5)
    ]
    assert left == sorted(left, reverse=True) and left[4] < left[0]
    assert left[4] >= 1 - np.sort(weights.ravel())[-20:].sum() - 1e-12


# A real network -----------------------------------------------------------------------------------


def search_tiny() -> tuple[Oracle, list[int]]:
    recognizer = tiny_recognizer()
    rng = np.random.default_rng(7)
    frames = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    asked: list[int] = []

    def embed(some: np.ndarray) -> np.ndarray:
        asked.append(len(some))
        return recognizer.embed(some)

    searched = search_masks(
        embed,
        hider("black", frames, []),
        recognizer.embed(frames),
        shape=(32, 32),
        counts=[10, 103],
        rng=np.random.default_rng(1),
        rounds=2,
    )
    for mask, cosine in zip(searched.masks, searched.cosines, strict=True):
        hidden = recognizer.embed(occlude(frames, mask, np.zeros_like(frames)))
        left = retention(recognizer.embed(frames), hidden, 0.5)
        assert cosine == pytest.approx(left.cosine, abs=1e-12)
        assert searched.clean == pytest.approx(left.clean_cosine, abs=1e-12)
    return searched, asked


def test_cosines_are_those_of_retention_and_every_embedding_is_counted() -> None:
    searched, asked = search_tiny()
    assert searched.embeddings == sum(asked) and max(asked) <= 256
    assert searched.masks.sum(axis=(1, 2)).tolist() == [10, 103]
    assert (searched.cosines <= searched.greedy).all() and (searched.cosines < searched.clean).all()


@pytest.mark.parametrize("frames", [1, 20])
def test_how_many_frames_are_embedded_at_once_changes_no_bit(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = search_tiny()
    monkeypatch.setattr(oracle, "FRAMES", frames)
    searched, asked = search_tiny()
    assert max(asked) <= max(frames, 3)
    np.testing.assert_array_equal(searched.masks, expected.masks)
    np.testing.assert_array_equal(searched.cosines, expected.cosines)
    assert searched.embeddings == expected.embeddings


# Mistakes -----------------------------------------------------------------------------------------


def test_wrong_arguments() -> None:
    loss = additive(random_weights((4, 4)))
    with pytest.raises(ValueError, match=r"in \[0, 16\]\. Got 17"):
        search(loss, (4, 4), counts=[17])
    seeds = np.stack([[mask_of((4, 4), 1, 2)]])
    with pytest.raises(ValueError, match=r"must hide at most 1 pixels\. Got 2"):
        search(loss, (4, 4), counts=[1], seeds=seeds)
    with pytest.raises(ValueError, match="finite"):
        search(lambda hidden: np.full(len(hidden), np.nan), (4, 4), counts=[3])
    photo = np.zeros((1, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 2"):
        search_masks(
            embed_by(loss), hider("black", photo, []), np.ones((1, 2)), shape=(4, 4), counts=[1],
            rng=np.random.default_rng(0),
        )  # fmt: skip
