from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefocus.faces.align import (
    ARCFACE_TEMPLATE,
    box_crop,
    crop,
    similarity_transform,
)
from tests.faces.pictures import pixels


def by_lstsq(points: np.ndarray, template: np.ndarray) -> np.ndarray:
    """The same fit as a linear system in (a, b, tx, ty): x' = ax - by + tx, y' = bx + ay + ty."""
    x, y = points.T
    unit, zero = np.ones_like(x), np.zeros_like(x)
    system = np.concatenate(
        [np.stack([x, -y, unit, zero], axis=1), np.stack([y, x, zero, unit], axis=1)]
    )
    a, b, tx, ty = np.linalg.lstsq(system, template.T.ravel(), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


def moved(points: np.ndarray, scale: float, angle: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.asarray(points @ np.array([[c, -s], [s, c]]).T + shift)


def test_template_is_the_published_one() -> None:
    assert ARCFACE_TEMPLATE.tolist() == [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]


@given(
    scale=st.floats(0.05, 20.0),
    angle=st.floats(-3.1, 3.1),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_a_known_transform_is_recovered(
    scale: float, angle: float, shift: tuple[float, float]
) -> None:
    transform = similarity_transform(ARCFACE_TEMPLATE, moved(ARCFACE_TEMPLATE, scale, angle, shift))
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    np.testing.assert_allclose(transform, [[c, -s, shift[0]], [s, c, shift[1]]], atol=1e-9)


@given(seed=st.integers(0, 10_000))
def test_noisy_landmarks_give_the_least_squares_solution(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, 250, (5, 2))
    transform = similarity_transform(points, ARCFACE_TEMPLATE)
    np.testing.assert_allclose(transform, by_lstsq(points, ARCFACE_TEMPLATE), atol=1e-8)


def test_mirrored_landmarks_give_no_reflection() -> None:
    mirrored = ARCFACE_TEMPLATE * (-1.0, 1.0)
    linear = similarity_transform(mirrored, ARCFACE_TEMPLATE)[:, :2]
    assert np.linalg.det(linear) > 0.0
    # A scaled rotation: columns of equal length at a right angle, no shear.
    np.testing.assert_allclose(linear.T @ linear, np.linalg.det(linear) * np.eye(2), atol=1e-12)


def test_landmarks_of_one_point_are_refused() -> None:
    with pytest.raises(ValueError, match="two different"):
        similarity_transform(np.ones((5, 2)), ARCFACE_TEMPLATE)
    with pytest.raises(ValueError, match="finite"):
        similarity_transform(np.full((5, 2), np.nan), ARCFACE_TEMPLATE)


def test_crop_by_the_identity_is_the_picture_and_black_beyond() -> None:
    image = pixels(1, 5, 7)
    frame = crop(image, np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]), 12)
    assert np.array_equal(frame[1:6, 2:9], image)
    frame[1:6, 2:9] = 0
    assert not frame.any()


def test_crop_is_bilinear() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 100
    half = crop(image, np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), 3)
    assert half[0, :, 0].tolist() == [0, 50, 100]


def test_a_large_source_is_averaged_and_not_sampled() -> None:
    # A pattern of single pixels, at a fifth of the size: its mean everywhere, not stripes.
    image = np.zeros((500, 500, 3), np.uint8)
    image[::5] = 250
    frame = crop(image, np.array([[0.2, 0.0, 0.0], [0.0, 0.2, 0.0]]), 100)
    assert (frame[1:-1, 1:-1] == 50).all()


@pytest.mark.parametrize("side", [900, 1003])
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_shrinking_first_moves_nothing(side: int, angle: float) -> None:
    # A bright spot must stay where the matrix puts its center; leaving out the half-pixel rule
    # would move it by (8 - 1) / 2 * 0.12 = 0.42 pixels of the frame.
    center = np.array([0.55 * side, 0.45 * side])
    y, x = np.mgrid[:side, :side]
    distance = (x - center[0]) ** 2 + (y - center[1]) ** 2
    spot = np.round(250 * np.exp(-distance / (2 * 60.0**2))).astype(np.uint8)
    c, s = 0.12 * np.cos(angle), 0.12 * np.sin(angle)
    matrix = np.array([[c, -s, 20.0], [s, c, -10.0]])
    frame = crop(np.stack([spot] * 3, axis=2), matrix, 112)[:, :, 0].astype(float)
    v, u = np.mgrid[:112, :112]
    centroid = np.array([(u * frame).sum(), (v * frame).sum()]) / frame.sum()
    np.testing.assert_allclose(centroid, matrix[:, :2] @ center + matrix[:, 2], atol=0.03)


def ramp(height: int, width: int) -> np.ndarray:
    """Red is the column and green the row of every pixel."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([x, y, 0 * x], axis=2)


def test_a_box_is_extended_by_the_margin_and_scaled_to_a_square() -> None:
    # 91 x 45.5 pixels: the margin of 44/182 adds 22 and 11, half on either end.
    frame = box_crop(ramp(120, 240), np.array([70.0, 30.0, 91.0, 45.5])).astype(float)
    assert frame.shape == (160, 160, 3)
    # Column i is centered on left + (i + 0.5) * width / 160 - 0.5 of the picture.
    position = np.arange(160) + 0.5
    columns = 59.0 + position * 113.0 / 160 - 0.5
    rows = 24.5 + position * 56.5 / 160 - 0.5
    np.testing.assert_allclose(frame[80, :, 0], columns, atol=0.51)
    np.testing.assert_allclose(frame[:, 80, 1], rows, atol=0.51)


def test_a_box_is_cut_off_where_the_picture_ends() -> None:
    frame = box_crop(ramp(120, 240), np.array([-20.0, 60.0, 91.0, 91.0])).astype(float)
    position = np.arange(160) + 0.5
    # From column 0 to 71 + 11, and from row 60 - 11 to 120.
    np.testing.assert_allclose(frame[80, 2:, 0], (position * 82.0 / 160 - 0.5)[2:], atol=0.51)
    np.testing.assert_allclose(frame[:-2, 80, 1], (49 + position * 71 / 160 - 0.5)[:-2], atol=0.51)


def test_a_large_box_is_averaged_and_not_sampled() -> None:
    image = np.zeros((1600, 1600, 3), np.uint8)
    image[::2] = 200
    frame = box_crop(image, np.array([300.0, 300.0, 900.0, 900.0]))
    assert abs(frame.astype(int) - 100).max() <= 2


@pytest.mark.parametrize("corner", [-500.0, 500.0])
def test_a_box_beyond_the_picture_is_its_last_pixel(corner: float) -> None:
    image = pixels(1, 30, 40)
    frame = box_crop(image, np.array([corner, corner, 50.0, 50.0]))
    last = image[0, 0] if corner < 0 else image[-1, -1]
    # Its middle; the rest blends into its neighbors.
    assert abs(frame[79:81, 79:81].astype(int) - last).max() <= 2
