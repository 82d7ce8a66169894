from __future__ import annotations

import numpy as np

from tests.saliency.photos import map_of, of_red, photo, red


def test_by_hand() -> None:
    # The gradient of the cosine of e = (a, b) to (1, 0) is (b^2, -a b) / |e|^3.
    frame = red([3, 4])
    saliency = map_of("smoothgrad", of_red(lambda x: x, 2), photo(frame, [1.0, 0.0]), samples=3)
    rng, spread = np.random.default_rng(0), 0.15 * (77 - 3)
    total = np.zeros(2)
    for _ in range(3):
        a, b = (frame + spread * rng.standard_normal(frame.shape, np.float32))[0, :, 0]
        total += np.array([b * b, -a * b]) / (a * a + b * b) ** 1.5
    np.testing.assert_allclose(saliency[0], np.abs(total / 3), rtol=1e-4)


def test_other_draws_give_other_maps_and_the_same_draw_the_same() -> None:
    recognizer, frame = of_red(lambda x: x, 2), red([30, 140])
    first, again, other = (
        map_of("smoothgrad", recognizer, photo(frame, [1.0, 0.0], seed=seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
