from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.zoo import load
from tests.saliency.photos import map_of, noise, photo, red


class TwoLayers(nn.Module):
    """e = V prelu(W x) with x the red values less 100, and a skip around the activation."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        super().__init__()
        self.first = nn.Linear(first.shape[1], first.shape[0])
        self.second = nn.Linear(second.shape[1], second.shape[0], bias=False)
        self.act = nn.PReLU()
        self.first.weight.data = torch.from_numpy(first).float()
        self.second.weight.data = torch.from_numpy(second).float()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x[:, 0].flatten(1))
        e: Tensor = self.second(self.act(h) + h)
        return e


def linear_shares(w: np.ndarray, x: np.ndarray, b: np.ndarray, p: np.ndarray) -> np.ndarray:
    """What w x + b hands to each x of its shares p: the definition, entry by entry."""
    y, shares = w @ x + b, np.zeros_like(x)
    for j in range(len(y)):
        sign = 1 if y[j] >= 0 else -1
        excite = [max(w[j, i] * x[i] * sign, 0) for i in range(len(x))]
        if sum(excite) > 0:
            shares += p[j] * np.array(excite) / sum(excite)
    return shares


@pytest.mark.parametrize("contrast", ["true", "false"])
def test_the_definition_in_numpy(contrast: str) -> None:
    rng = np.random.default_rng(2)
    w, v = rng.standard_normal((6, 4)), rng.standard_normal((5, 6))
    module = TwoLayers(w, v).requires_grad_(False).eval()
    b = module.first.bias.numpy().astype(float)
    reading = Preprocessing((1, 4), None, "rgb", (100.0,) * 3, (1.0,) * 3)
    box = TorchRecognizer("two", module, reading, identity="two")

    x = np.array([30, 120, 99, 210]) - 100.0
    h = w @ x + b
    acted = np.where(h >= 0, h, 0.25 * h)
    e = v @ (acted + h)
    mate, stranger = e * [1, 0.5, 0, -1, 2], e * [0, 1, 3, -1, 0.1]
    explained = photo(red([30, 120, 99, 210]), mate, stranger=stranger)
    saliency = map_of("excitation-backprop", box, explained, contrast=contrast)
    shares = []
    for other in (mate, stranger):
        prior = np.maximum(e * other, 0)
        p = linear_shares(v, acted + h, np.zeros(5), prior / prior.sum())
        # Both terms of the sum have its sign: they divide p by size, and the activation passes on.
        shares.append(linear_shares(w, x, b, p * acted / (acted + h) + p * h / (acted + h)))
    wanted = np.maximum(shares[0] - shares[1], 0) if contrast == "true" else shares[0]
    np.testing.assert_allclose(saliency[0], wanted, rtol=1e-4, atol=1e-6)


def test_shares_add_up_to_one_in_a_real_network() -> None:
    box, frames = load("iresnet-mini-eyes"), noise(112, 2)
    assert isinstance(box, TorchRecognizer)
    e = box.embed(frames).astype(np.float64)
    mate = e[1] / np.linalg.norm(e[1])
    explained = photo(frames[0], mate, stranger=mate)
    saliency = map_of("excitation-backprop", box, explained, contrast="false")
    assert saliency.min() >= 0 and saliency.sum() == pytest.approx(1, abs=2e-2)
    # A stranger like the mates leaves nothing.
    assert not map_of("excitation-backprop", box, explained).any()


def test_a_network_that_it_cannot_follow_is_refused() -> None:
    class Gated(TwoLayers):
        def forward(self, x: Tensor) -> Tensor:
            e: Tensor = super().forward(x).sigmoid()
            return e

    module = Gated(np.ones((2, 4)), np.ones((2, 2))).requires_grad_(False).eval()
    reading = Preprocessing((1, 4), None, "rgb", (100.0,) * 3, (1.0,) * 3)
    box = TorchRecognizer("gated", module, reading, identity="gated")
    with pytest.raises(UserError, match="no rule for 'sigmoid', which the recognizer 'gated'"):
        map_of(
            "excitation-backprop", box, photo(red([1, 2, 3, 4]), [1.0, 0.0], stranger=[0.0, 1.0])
        )
