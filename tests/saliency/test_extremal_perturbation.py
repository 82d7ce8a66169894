from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import Tensor

from facefocus.saliency.extremal_perturbation import (
    POINTS,
    SIGMA,
    SMOOTH,
    area_template,
    smooth_mask,
)
from tests.saliency.photos import Linear, map_of, noise, of_red, photo

SIDE = 28  # that on which the mask becomes smooth: no pixel is interpolated


def bumps() -> np.ndarray:
    """The bump of each point [points, 28, 28], drawn one by one."""
    rows, columns = (np.indices((SMOOTH, SMOOTH)) + 0.5) / SMOOTH
    centers = [((i + 0.5) / POINTS, (j + 0.5) / POINTS) for i in range(14) for j in range(14)]
    return np.stack(
        [np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / (2 * SIGMA**2)) for r, c in centers]
    )


def test_the_mask_is_a_smooth_maximum() -> None:
    points = np.random.default_rng(0).random(POINTS**2)
    values = points[:, None, None] * bumps()
    wanted = (values * softmax(values * 20, axis=0)).sum(axis=0)
    mask = smooth_mask(torch.from_numpy(points[None]).float(), (SIDE, SIDE))[0]
    np.testing.assert_allclose(mask.numpy(), wanted, rtol=1e-4, atol=1e-6)
    assert area_template((2, 2), 1).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("game", ["delete", "preserve"])
def test_two_steps_of_descent(game: str) -> None:
    network, (frame, other) = Linear(5, SIDE, SIDE), noise(SIDE, 2)
    reference = torch.from_numpy(network.unit(other))
    around = torch.from_numpy(bumps()).flatten(1)
    red, weights = torch.from_numpy(frame[..., 0]).double(), torch.from_numpy(network.matrix)

    def objective(points: Tensor, weight: float) -> Tensor:
        values = points[:, None] * around
        mask = (values * torch.softmax(values * 20, dim=0)).sum(dim=0)
        shown = 1 - mask if game == "delete" else mask
        e = weights @ (shown * red.flatten() + (1 - shown) * 60)
        similar = F.cosine_similarity(e, reference, dim=0) * reference.norm()
        # An area of 0 pixels: all are held to 0, whatever their order, in which many are equal.
        held = weight * (mask**2).mean()
        total: Tensor = held + 64 * (similar if game == "delete" else -similar)
        return total

    points, moment = torch.full((POINTS**2,), 0.5).double(), torch.zeros(POINTS**2).double()
    for weight in (300.0, 300 * 1.0035**800):
        points = points.requires_grad_()
        (slope,) = torch.autograd.grad(objective(points, weight), points)
        moment = 0.9 * moment + slope
        points = (points.detach() - 0.01 * moment).clamp(0, 1)
    values = points[:, None] * around
    mask = (values * torch.softmax(values * 20, dim=0)).sum(dim=0).reshape(SIDE, SIDE)
    explained = photo(frame, reference.numpy(), 60)
    saliency = map_of(
        "extremal-perturbation", network.recognizer, explained, pixels=0, steps=2, game=game
    )
    np.testing.assert_allclose(saliency, mask.numpy(), rtol=1e-3, atol=1e-4)


def test_it_finds_the_square_that_counts() -> None:
    counts = np.zeros((SIDE, SIDE), bool)
    counts[6:12, 14:20] = True
    inside = torch.from_numpy(counts.ravel())

    def embed(x: Tensor) -> Tensor:
        return torch.stack([x[:, inside].mean(dim=1), 100 + 0 * x[:, 0]], dim=1)

    frame = np.full((SIDE, SIDE, 3), 200, np.uint8)
    saliency = map_of(
        "extremal-perturbation",
        of_red(embed, SIDE, SIDE),
        photo(frame, [1.0, 0.0]),
        pixels=int(counts.sum()),
        steps=12,
    )
    largest = np.argsort(-saliency.ravel(), kind="stable")[: counts.sum()]
    assert counts.ravel()[largest].mean() > 0.9
    assert abs(saliency.sum() - counts.sum()) < 0.5 * counts.sum()
