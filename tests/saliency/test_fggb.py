from __future__ import annotations

import numpy as np
import pytest

from tests.saliency.photos import Linear, map_of, noise, photo


@pytest.mark.parametrize("part", ["both", "positive", "negative"])
def test_the_definition_in_numpy(part: str) -> None:
    network, (frame, other) = Linear(5, 4, 4), noise(4, 2)
    reference = network.unit(other)
    saliency = map_of("fggb", network.recognizer, photo(frame, reference), threshold=30, part=part)
    wanted = np.zeros((4, 4))
    for k, slope in enumerate(network.slopes(frame)):
        size = np.abs(slope) / np.linalg.norm(slope)
        factor = network.unit(frame)[k] * reference[k] - 0.3 / 5
        share = {"both": factor, "positive": max(factor, 0), "negative": max(-factor, 0)}[part]
        wanted += size * share
    np.testing.assert_allclose(saliency, wanted, rtol=1e-4, atol=1e-7)
    assert np.ptp(wanted) > 0.01


def test_the_mean_of_references_gives_the_mean_of_maps() -> None:
    network, (frame, *others) = Linear(5, 4, 4), noise(4, 3)
    units = [network.unit(other) for other in others]
    whole, *each = (
        map_of("fggb", network.recognizer, photo(frame, reference))
        for reference in (np.mean(units, axis=0), *units)
    )
    np.testing.assert_allclose(whole, np.mean(each, axis=0), rtol=1e-6, atol=1e-9)
