from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter

from facefocus.core.errors import UserError
from facefocus.models.occluded_frames import occlude
from facefocus.occlusion.fills import FILLS, fill_rng, hider, reading
from facefocus.occlusion.gap_fills import neighbor_means

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 24, 20, 3), dtype=np.uint8)
NAMES = ("Ada_0001", "Ada_0002", "Bob_0001")


def content(name: str, frames: np.ndarray = FRAMES, seed: int = 0) -> np.ndarray:
    rngs = [fill_rng(seed, image) for image in NAMES[: len(frames)]]
    return hider(name, frames, rngs)(np.ones(frames.shape[1:3], bool))


def test_fills_and_their_readings() -> None:
    artefacts = ["black", "white", "mean", "random", "blur"]
    assert list(FILLS) == [*artefacts, "inpaint", "linear"]
    assert [name for name in FILLS if reading(name) == "artefact"] == artefacts


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
    alone = hider("random", FRAMES[2:], [fill_rng(0, NAMES[2])])(np.ones((24, 20), bool))
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
    hidden = occlude(FRAMES, mask, content("white"))
    assert np.all(hidden[:, 3, 4] == 255)
    np.testing.assert_array_equal(hidden[:, ~mask], FRAMES[:, ~mask])
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
        hider("random", FRAMES, [fill_rng(0, "one")])


def test_unknown_fill() -> None:
    with pytest.raises(UserError, match="No fill is called 'grey'"):
        FILLS["grey"]


# Fills that see the mask --------------------------------------------------------------------------


def mask_of(shape: tuple[int, int], *pixels: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for pixel in pixels:
        mask[pixel] = True
    return mask


def test_one_hidden_pixel_is_the_weighted_mean_of_its_neighbors() -> None:
    """Beside 1/6 each, across 1/12 each: (60 + 0 + 0 + 120) / 6 + (24 + 12) / 12 = 33."""
    frames = np.zeros((1, 3, 3, 3), np.uint8)
    frames[0, :, :, 0] = [[24, 60, 0], [0, 255, 0], [0, 120, 12]]
    means = neighbor_means(frames, mask_of((3, 3), (1, 1)))
    assert means[0, 0].tolist() == pytest.approx([33, 0, 0])


def test_at_the_border_the_neighbors_left_keep_their_proportion() -> None:
    """A corner has 1/6, 1/6 and 1/12: (60 / 6 + 30 / 6 + 90 / 12) / (5 / 12) = 54."""
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[0, :, :, 1] = [[255, 60], [30, 90]]
    assert neighbor_means(frames, mask_of((2, 2), (0, 0)))[0, 0, 1] == pytest.approx(54)


def test_two_hidden_pixels_hold_each_other() -> None:
    """In a row of 0 ? ? 90: a = b / 2 and b = (a + 90) / 2, so a = 30 and b = 60."""
    frames = np.zeros((1, 1, 4, 3), np.uint8)
    frames[0, 0, 3] = 90
    means = neighbor_means(frames, mask_of((1, 4), (0, 1), (0, 2)))
    np.testing.assert_allclose(means[0], [[30] * 3, [60] * 3], atol=1e-12)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.95])
def test_the_system_is_solved_exactly(share: float) -> None:
    """Against a dense solver, in another form: a mean over a window with the pixel itself out."""
    mask = np.random.default_rng(3).random((24, 20)) < share
    means = neighbor_means(FRAMES, mask)
    kernel = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    rows = []
    for pixel in np.flatnonzero(mask):
        spike = np.zeros((24, 20))
        spike.flat[pixel] = 1
        rows.append(convolve(spike, kernel, mode="constant").ravel())
    weights = np.array(rows)
    weights /= weights.sum(axis=1, keepdims=True)
    hidden = mask.ravel()
    for number, frame in enumerate(FRAMES.reshape(3, -1, 3).astype(float)):
        known = weights[:, ~hidden] @ frame[~hidden]
        expected = np.linalg.solve(np.eye(hidden.sum()) - weights[:, hidden], known)
        np.testing.assert_allclose(means[number], expected, atol=1e-9)


def test_linear_has_seeded_noise_of_a_hundredth_of_the_range() -> None:
    frames = np.full((1, 112, 112, 3), 100, np.uint8)
    mask = np.random.default_rng(0).random((112, 112)) < 0.5
    hide = hider("linear", frames, [fill_rng(0, "Ada_0001")])
    noise = hide(mask)[0, mask].astype(float) - 100
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert noise.std() == pytest.approx(np.sqrt(2.55**2 + 1 / 12), rel=0.02)  # rounded to bytes
    part = mask.copy()
    part[:56] = False  # another mask draws no other noise
    np.testing.assert_array_equal(hide(part)[0, part], hide(mask)[0, part])
    other = hider("linear", frames, [fill_rng(1, "Ada_0001")])
    assert np.mean(other(mask)[0, mask] == hide(mask)[0, mask]) < 0.3


def test_inpaint_is_telea_with_radius_3_of_112() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    mask = mask_of((112, 112), *[(row, column) for row in range(40, 50) for column in range(60)])
    filled = hider("inpaint", frames, [fill_rng(0, name) for name in "ab"])(mask)
    for frame, inpainted in zip(frames.copy(), filled, strict=True):
        frame[mask] = 0  # OpenCV reads some hidden pixels
        theirs = cv2.inpaint(frame, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA)
        np.testing.assert_array_equal(inpainted, theirs)


def test_a_plain_face_hides_nothing_and_a_hidden_frame_is_gray() -> None:
    """What the surroundings tell is told: nothing is lost with a pixel like its neighbors."""
    frames = np.full((2, 16, 16, 3), 77, np.uint8)
    mask = np.random.default_rng(1).random((16, 16)) < 0.5
    rngs = [fill_rng(0, name) for name in "ab"]
    # OpenCV's own arithmetic is off by up to 3 of 255 on a plain frame.
    filled = hider("inpaint", frames, rngs)(mask)
    np.testing.assert_allclose(filled.astype(int), frames.astype(int), atol=3)
    for fill in ("inpaint", "linear"):
        assert (hider(fill, frames, rngs)(np.ones((16, 16), bool)) == 128).all()
        np.testing.assert_array_equal(hider(fill, frames, rngs)(np.zeros((16, 16), bool)), frames)


def test_linear_is_the_imputer_of_pytorch_grad_cam() -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="pytorch-grad-cam is absent")
    torch = pytest.importorskip("torch")
    mask = np.random.default_rng(5).random((24, 20)) < 0.4
    frame = torch.from_numpy(FRAMES[0]).permute(2, 0, 1).float()
    imputed = road.NoisyLinearImputer(noise=0)(frame, torch.from_numpy((~mask).astype(np.float32)))
    theirs = imputed.permute(1, 2, 0).numpy()[mask]
    np.testing.assert_allclose(neighbor_means(FRAMES[:1], mask)[0], theirs, atol=1e-3)


def test_inpaint_has_the_same_bytes_on_any_number_of_threads() -> None:
    frames = np.random.default_rng(3).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    mask = np.random.default_rng(4).random((24, 24)) < 0.3
    rngs = [fill_rng(0, str(number)) for number in range(5)]
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made.append(hider("inpaint", frames, rngs)(mask))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(made[0], made[1])
    alone = [cv2.inpaint(np.where(mask[..., None], 0, frame).astype(np.uint8),
                         mask.astype(np.uint8), 3 / 112 * 24, cv2.INPAINT_TELEA)
             for frame in frames]  # fmt: skip
    np.testing.assert_array_equal(made[1][:, mask], np.stack(alone)[:, mask])
