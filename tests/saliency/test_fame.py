from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from tests.saliency.photos import Linear, map_of, noise, photo


def moved_by_hand(
    network: Linear, frame: np.ndarray, reference: np.ndarray, steps: int
) -> np.ndarray:
    red = frame[..., 0].astype(float)
    for _ in range(steps):
        slope = (network.slopes(red[..., None]) * reference[:, None, None]).sum(axis=0)
        red = np.clip(red - slope / np.abs(slope).max(), 0, 255)
    return red


def test_the_definition_in_numpy() -> None:
    network, (frame, other) = Linear(5, 6, 6), noise(6, 2)
    frame[0, :3, 0] = [0, 255, 1]  # these meet the ends of the range
    reference = network.unit(other)
    moved = moved_by_hand(network, frame, reference, 4)
    wanted = 0.299 * np.abs(moved - frame[..., 0])
    explained = photo(frame, reference)
    saliency = map_of("fame", network.recognizer, explained, steps=4, blur="false")
    np.testing.assert_allclose(saliency, wanted, rtol=1e-3, atol=1e-4)
    assert wanted.max() > 0.299


def test_the_blur_is_that_of_the_fill() -> None:
    network, (frame, other) = Linear(5, 28, 28), noise(28, 2)
    explained = photo(frame, network.unit(other))
    sharp = map_of("fame", network.recognizer, explained, steps=2, blur="false")
    saliency = map_of("fame", network.recognizer, explained, steps=2)
    wanted = gaussian_filter(sharp, 0.04 * 28, mode="reflect", truncate=4)
    np.testing.assert_allclose(saliency, wanted, rtol=1e-6, atol=1e-9)
