from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from facefocus.core.errors import UserError
from facefocus.occlusion.fills import FILLS, fill_rng, occlude

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 24, 20, 3), dtype=np.uint8)
NAMES = ("Ada_0001", "Ada_0002", "Bob_0001")


def content(name: str, frames: np.ndarray = FRAMES, seed: int = 0) -> np.ndarray:
    return FILLS[name](frames, [fill_rng(seed, image) for image in NAMES[: len(frames)]])


def test_the_five_fills() -> None:
    assert list(FILLS) == ["black", "white", "mean", "random", "blur"]


def test_black_and_white() -> None:
    assert np.all(content("black") == 0)
    assert np.all(content("white") == 255)


def test_mean_is_per_image_and_channel_with_halves_up() -> None:
    frames = np.zeros((2, 1, 2, 3), dtype=np.uint8)
    frames[0, 0] = [[0, 10, 255], [1, 13, 255]]  # means 0.5, 11.5, 255
    frames[1, 0] = [[2, 0, 7], [3, 0, 8]]  # means 2.5 (not to the even 2), 0, 7.5
    filled = content("mean", frames)
    assert filled[0].tolist() == [[[1, 12, 255], [1, 12, 255]]]
    assert filled[1].tolist() == [[[3, 0, 8], [3, 0, 8]]]


def test_mean_matches_numpy() -> None:
    expected = np.floor(FRAMES.mean(axis=(1, 2)) + 0.5)
    np.testing.assert_array_equal(content("mean")[:, 5, 5], expected)


def test_random_depends_on_run_and_image_alone() -> None:
    together = content("random")
    alone = FILLS["random"](FRAMES[2:], [fill_rng(0, NAMES[2])])
    np.testing.assert_array_equal(together[2], alone[0])
    assert np.mean(together[0] == together[1]) < 0.02
    assert np.mean(together == content("random", seed=1)) < 0.02


def test_random_is_uniform_over_bytes_and_independent_over_channels() -> None:
    frames = np.zeros((1, 200, 200, 3), dtype=np.uint8)
    filled = content("random", frames)[0].reshape(-1, 3).astype(float)
    assert filled.min() == 0
    assert filled.max() == 255
    # Mean 127.5, standard deviation 73.9 over 40,000 pixels: 5 standard errors.
    np.testing.assert_allclose(filled.mean(axis=0), 127.5, atol=5 * 73.9 / 200)
    np.testing.assert_allclose(filled.std(axis=0), 73.9, atol=1.0)
    assert np.abs(np.corrcoef(filled.T) - np.eye(3)).max() < 0.025


@pytest.mark.parametrize("shape", [(112, 112), (24, 20), (20, 41), (3, 3)])
def test_blur_is_scipys_gaussian_of_the_shorter_side(shape: tuple[int, int]) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    sigma = 0.04 * min(shape)
    exact = gaussian_filter(
        frames.astype(np.float64), (0, sigma, sigma, 0), mode="reflect", truncate=4.0
    )
    blurred = content("blur", frames).astype(float)
    # Rounded from float32: within half a level and what float32 adds to it.
    np.testing.assert_allclose(blurred, exact, atol=0.5 + 1e-3)


def test_blur_keeps_a_flat_image() -> None:
    frames = np.full((1, 30, 30, 3), 201, dtype=np.uint8)
    np.testing.assert_array_equal(content("blur", frames), frames)


def test_occlude_with_one_mask_and_with_one_for_each() -> None:
    mask = np.zeros((24, 20), dtype=bool)
    mask[3, 4] = True
    one = occlude(FRAMES, mask, content("white"))
    assert np.all(one[:, 3, 4] == 255)
    np.testing.assert_array_equal(one[:, ~mask], FRAMES[:, ~mask])
    masks = np.zeros((3, 24, 20), dtype=bool)
    masks[1, 5, 6] = True
    each = occlude(FRAMES, masks, content("black"))
    assert np.all(each[1, 5, 6] == 0)
    np.testing.assert_array_equal(each[[0, 2]], FRAMES[[0, 2]])
    assert each.dtype == np.uint8


@pytest.mark.parametrize("name", list(FILLS))
def test_fills_leave_their_input_alone(name: str) -> None:
    frames = FRAMES.copy()
    frames.flags.writeable = False
    filled = content(name, frames)
    assert filled.dtype == np.uint8
    assert filled.shape == frames.shape
    assert not np.shares_memory(filled, frames)
    np.testing.assert_array_equal(frames, FRAMES)


def test_a_fill_needs_a_generator_for_each_frame() -> None:
    with pytest.raises(ValueError, match="shorter"):
        FILLS["random"](FRAMES, [fill_rng(0, "one")])


def test_unknown_fill() -> None:
    with pytest.raises(UserError, match="No fill is called 'grey'"):
        FILLS["grey"]
