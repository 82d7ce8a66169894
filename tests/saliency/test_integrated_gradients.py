from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from tests.saliency.photos import cosine, map_of, noise, of_red, photo, red
from tests.small import tiny_recognizer


def test_by_hand() -> None:
    # From (0, 4) to (3, 4) the cosine to (1, 0) is 3 t / sqrt(9 t^2 + 16), and only the first pixel
    # moves: its slope at 3 t is 16 / (9 t^2 + 16)^1.5. Two parts: t = 1/4 and 3/4.
    explained = photo(red([3, 4]), [1.0, 0.0], red([0, 4]))
    saliency = map_of("integrated-gradients", of_red(lambda x: x, 2), explained, steps=2)
    slopes = [16 / (9 * t * t + 16) ** 1.5 for t in (0.25, 0.75)]
    np.testing.assert_allclose(saliency, [[3 * np.mean(slopes), 0.0]], rtol=1e-6)


def test_attributions_add_up_to_the_change_of_similarity() -> None:
    explained = photo(red([3, 4]), [1.0, 0.0], red([0, 4]))
    saliency = map_of("integrated-gradients", of_red(lambda x: x, 2), explained, steps=50)
    assert saliency.sum() == pytest.approx(0.6, abs=1e-4)


@pytest.mark.parametrize("content", [0, 130])
def test_captum_gives_the_same(content: int) -> None:
    recognizer, frame = tiny_recognizer(), noise()[0]
    reference = np.eye(8)[2] * 0.6 + np.eye(8)[5] * 0.3
    explained = photo(frame, reference, content)
    saliency = map_of("integrated-gradients", recognizer, explained, steps=16)

    def score(frames: Tensor) -> Tensor:
        return torch.stack([cosine(recognizer, frame, reference) for frame in frames])

    wanted, missed = IntegratedGradients(score).attribute(
        torch.from_numpy(frame[None]).float(),
        baselines=torch.full((1, *frame.shape), float(content)),
        n_steps=16,
        method="riemann_middle",
        return_convergence_delta=True,
    )
    np.testing.assert_allclose(saliency, wanted[0].sum(dim=2).numpy(), rtol=2e-3, atol=2e-7)
    # What is missing from the change of similarity is what captum misses.
    ends = np.stack([frame, np.full_like(frame, content)])
    similar = score(torch.from_numpy(ends).float()).tolist()
    assert saliency.sum() - (similar[0] - similar[1]) == pytest.approx(float(missed[0]), abs=1e-5)


def test_with_many_parts_they_add_up_in_a_network_with_kinks() -> None:
    recognizer, frame, reference = tiny_recognizer(), noise()[0], np.eye(8)[2]
    saliency = map_of("integrated-gradients", recognizer, photo(frame, reference, 130), steps=80)
    ends = torch.from_numpy(np.stack([frame, np.full_like(frame, 130)])).float()
    here, there = (float(cosine(recognizer, end, reference)) for end in ends)
    assert abs(saliency.sum() - (here - there)) < 1e-3 < abs(here - there) / 10
