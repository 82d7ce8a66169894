from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from facefocus.core.errors import UserError
from facefocus.occlusion.controls import (
    CONTROLS,
    blended,
    blocks_within,
    draw,
    partners,
    random_blocks,
    random_pixels,
    shifted,
)

SHAPES = st.tuples(st.integers(1, 30), st.integers(1, 30))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", list(CONTROLS))
@given(mask=hnp.arrays(bool, SHAPES), seed=st.integers(0, 1000))
def test_every_control_has_exactly_the_area(name: str, mask: np.ndarray, seed: int) -> None:
    control = CONTROLS[name](mask, rng(seed))
    assert control.shape == mask.shape
    assert np.count_nonzero(control) == np.count_nonzero(mask)
    np.testing.assert_array_equal(control, CONTROLS[name](mask, rng(seed)))


def test_shifted_is_the_same_shape_elsewhere() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[0, 0] = mask[1, 2] = mask[3, 4] = True
    moved = {shifted(mask, rng(seed)).tobytes() for seed in range(500)}
    every = {np.roll(mask, (dy, dx), (0, 1)).tobytes() for dy in range(4) for dx in range(5)}
    assert moved == every - {mask.tobytes()}


def test_random_pixels_are_uniform() -> None:
    mask = np.zeros((5, 5), dtype=bool)
    mask[0] = True
    hits = sum(random_pixels(mask, rng(seed)).astype(int) for seed in range(2500))
    # 500 expected for each pixel, standard deviation sqrt(2500 * 0.2 * 0.8) = 20.
    np.testing.assert_allclose(hits, 500, atol=90)


def test_one_block_is_a_square_of_a_fourteenth() -> None:
    mask = np.zeros((112, 112), dtype=bool)
    mask.flat[:64] = True
    control = random_blocks(mask, rng(3))
    rows, columns = (np.flatnonzero(control.any(axis=axis)) for axis in (1, 0))
    assert len(rows) == len(columns) == 8
    assert control[np.ix_(rows, columns)].all()


def test_blocks_are_whole_but_for_the_last() -> None:
    mask = np.zeros((112, 112), dtype=bool)
    mask.flat[:1254] = True
    control = random_blocks(mask, rng(0))
    # Pixels that some full 8 x 8 block of the torus inside the control covers.
    corner = np.ones_like(control)
    for dy in range(8):
        for dx in range(8):
            corner &= np.roll(control, (-dy, -dx), (0, 1))
    covered = np.zeros_like(control)
    for dy in range(8):
        for dx in range(8):
            covered |= np.roll(corner, (dy, dx), (0, 1))
    assert np.count_nonzero(control & ~covered) < 64


def test_draws_differ_by_number_person_and_seed() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[:3, :3] = True
    five = np.stack([draw("pixels", mask, i, seed=1, identity="Ada") for i in range(5)])
    assert len({control.tobytes() for control in five}) == 5
    assert np.all(np.count_nonzero(five, axis=(1, 2)) == 9)
    np.testing.assert_array_equal(draw("pixels", mask, 1, seed=1, identity="Ada"), five[1])
    assert np.any(draw("pixels", mask, 0, seed=1, identity="Bob") != five[0])
    assert np.any(draw("pixels", mask, 0, seed=2, identity="Ada") != five[0])
    with pytest.raises(UserError, match="No control is called 'pixel'"):
        draw("pixel", mask, 0, seed=0, identity="Ada")


@given(st.integers(2, 40), st.integers(0, 1000))
def test_partners_are_derangements(people: int, seed: int) -> None:
    chosen = partners(people, people - 1, rng(seed))
    assert np.all(chosen != np.arange(people))
    for row in chosen:
        assert sorted(row.tolist()) == list(range(people))
    for column in chosen.T:
        assert len(set(column.tolist())) == people - 1


def test_partners_begin_again_after_everyone() -> None:
    chosen = partners(3, 4, rng())
    np.testing.assert_array_equal(chosen[2:], chosen[:2])


def test_partners_are_seeded_and_uniform() -> None:
    np.testing.assert_array_equal(partners(9, 2, rng(5)), partners(9, 2, rng(5)))
    first = [int(partners(4, 1, rng(seed))[0, 0]) for seed in range(1200)]
    # 400 expected for each of the three others, standard deviation 16.3.
    np.testing.assert_allclose(np.bincount(first), [0, 400, 400, 400], atol=75)


def test_blocks_within_are_exact_and_touch_nothing_else() -> None:
    free = np.zeros((112, 112), dtype=bool)
    free[20:90, 5:60] = True
    free[40:50, 10:50] = False
    chosen = blocks_within(free, 900, np.random.default_rng(0))
    assert np.count_nonzero(chosen) == 900
    assert not (chosen & ~free).any()
    # In blocks of 8 x 8: nearly every chosen pixel has a chosen neighbor to its right or left.
    beside = np.roll(chosen, 1, axis=1) | np.roll(chosen, -1, axis=1)
    assert np.count_nonzero(chosen & beside) > 0.97 * 900


def test_blocks_within_can_fill_all_that_is_free() -> None:
    free = np.random.default_rng(1).random((30, 40)) < 0.3
    count = int(free.sum())
    assert np.array_equal(blocks_within(free, count, np.random.default_rng(0)), free)
    with pytest.raises(ValueError, match=f"{count + 1} pixels are wanted, {count} are free"):
        blocks_within(free, count + 1, np.random.default_rng(0))


def test_a_blend_by_hand() -> None:
    own = np.array([[0.1, 7.0], [7.0, -2.0]])  # ranks 2, 3.5, 3.5, 1 of 4: (rank - 1) / 3
    others = np.array([[4.0, 3.0], [2.0, 1.0]])  # 1, 2/3, 1/3, 0
    # Two photos weigh 2 / 8, eighteen 18 / 24.
    for photos, weight in ((2, 0.25), (18, 0.75)):
        blend = blended(own, others, photos)
        rest = 1 - weight
        expected = [
            [weight / 3 + rest, weight * 5 / 6 + rest * 2 / 3],
            [weight * 5 / 6 + rest / 3, 0.0],
        ]
        np.testing.assert_allclose(blend, expected, rtol=1e-12)


def test_a_blend_with_a_flat_map_orders_as_the_other() -> None:
    flat, others = np.ones((2, 3)), np.array([[1.0, 5.0, 3.0], [0.0, 4.0, 2.0]])
    assert blended(flat, others, 6).ravel().argsort().tolist() == others.ravel().argsort().tolist()
