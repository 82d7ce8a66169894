from __future__ import annotations

import numpy as np

from tests.saliency.photos import Linear, map_of, noise, photo


def test_the_definition_in_numpy() -> None:
    network, (frame, other) = Linear(5, 4, 4), noise(4, 2)
    reference = network.unit(other)
    products = network.unit(frame) * reference
    bound = float(np.sort(products)[2])  # the third of five: three for a match, two against
    threshold = int(np.ceil(bound * 5 * 100))
    assert 0 <= threshold <= 100
    saliency = map_of("xssab", network.recognizer, photo(frame, reference), threshold=threshold)
    for_match = products >= threshold / 100 / 5
    assert 0 < for_match.sum() < 5
    slopes = network.slopes(frame) * reference[:, None, None]
    parts = [np.abs(slopes[chosen].sum(axis=0)) / 3 for chosen in (for_match, ~for_match)]
    np.testing.assert_allclose(saliency, parts[0] - parts[1], rtol=1e-4, atol=1e-8)
