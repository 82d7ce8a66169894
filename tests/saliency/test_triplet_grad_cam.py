from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.saliency.photos import map_of, noise, photo
from tests.small import TinyNet, tiny_recognizer


def by_definition(method: str, frame: np.ndarray, mate: np.ndarray, stranger: np.ndarray) -> Tensor:
    """The map at the second convolution, from the objective as it is written."""
    recognizer = tiny_recognizer()
    net = recognizer.module
    assert isinstance(net, TinyNet)
    x = recognizer.preprocessing(torch.from_numpy(frame[None]))
    a = net.second(torch.relu(net.first(x))).detach().requires_grad_()
    e = net.out(torch.relu(net.third(torch.relu(a))).flatten(1))[0].double()
    cosines = [e @ torch.from_numpy(other) / e.norm() for other in (mate, stranger)]
    (g,) = torch.autograd.grad(cosines[0] - cosines[1], a)
    if method == "triplet-grad-cam":
        weights = g.mean(dim=(2, 3), keepdim=True)
    else:
        alphas = 1 / (2 + a.sum(dim=(2, 3), keepdim=True) * g)
        weights = (alphas * g.relu()).sum(dim=(2, 3), keepdim=True)
    cam = (weights * a).sum(dim=1, keepdim=True).relu()
    cam = (cam - cam.min()) / (cam.max() - cam.min())
    return F.interpolate(cam, (32, 32), mode="bilinear", align_corners=False)[0, 0].detach()


@pytest.mark.parametrize("method", ["triplet-grad-cam", "triplet-grad-cam++"])
def test_the_definition(method: str) -> None:
    recognizer, frames = tiny_recognizer(), noise(count=3)
    e = recognizer.embed(frames).astype(np.float64)
    mate, stranger = (row / np.linalg.norm(row) for row in e[1:])
    explained = photo(frames[0], mate, stranger=stranger)
    saliency = map_of(method, recognizer, explained, calls=[2])
    wanted = by_definition(method, frames[0], mate, stranger).numpy()
    np.testing.assert_allclose(saliency, wanted, atol=2e-4)
    # Of two layers: the mean of their scaled maps.
    other = map_of(method, recognizer, explained, calls=[3])
    np.testing.assert_allclose(
        map_of(method, recognizer, explained, calls=[2, 3]), (saliency + other) / 2, atol=1e-6
    )
    assert not np.allclose(saliency, other, atol=0.1)


def test_a_stranger_who_equals_the_mates_leaves_nothing() -> None:
    recognizer, frames = tiny_recognizer(), noise(count=2)
    mate = np.eye(8)[1]
    explained = photo(frames[0], mate, stranger=mate)
    assert not map_of("triplet-grad-cam", recognizer, explained, calls=[2]).any()
