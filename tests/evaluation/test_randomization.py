from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.evaluation.randomization import (
    impostor_pairs,
    map_rank_correlation,
    randomization_test,
    randomized,
    weight_layers,
)
from facefocus.faces.faceset import Identity
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer
from facefocus.saliency.streams import CamConfig
from tests.models.nets import inplace
from tests.small import TinyNet, tiny_recognizer


def recognizer_of(module: nn.Module, side: tuple[int, int]) -> TorchRecognizer:
    reading = Preprocessing(
        size=side, crop=None, channels="rgb", mean=(127.5,) * 3, std=(127.5,) * 3
    )
    return TorchRecognizer("net", module, reading, identity="net")


# Randomized networks ------------------------------------------------------------------------------


class Backwards(nn.Module):
    """Layers that are made in another order than they run in, one of them without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.randn(2, 5))
        self.unused = nn.Linear(3, 3)
        self.late = nn.Linear(4, 5)
        self.early = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.early(x)).mean((2, 3))
        embedding: Tensor = self.late(x) @ self.projection.t()
        return embedding


def test_layers_come_in_the_order_in_which_they_run() -> None:
    net = recognizer_of(Backwards().eval(), (8, 8))
    assert weight_layers(net) == [
        ("early.weight",),
        ("late.weight", "late.bias"),
        ("projection",),
    ]


def test_norms_and_activations_are_no_layers() -> None:
    net = recognizer_of(inplace().eval(), (16, 12))
    names = [(f"{index}.weight", f"{index}.bias") for index in (0, 2, 5, 9)]
    assert weight_layers(net) == names


def state_of(recognizer: TorchRecognizer) -> dict[str, np.ndarray]:
    assert isinstance(recognizer.module, nn.Module)
    return {name: value.numpy().copy() for name, value in recognizer.module.state_dict().items()}


def test_only_the_last_layers_are_permuted_and_the_original_is_left_alone() -> None:
    net = tiny_recognizer()
    before = state_of(net)
    half = randomized(net, 0.5, seed=3)
    after = state_of(half)
    assert half.fingerprint != net.fingerprint
    for name, values in before.items():
        np.testing.assert_array_equal(values, state_of(net)[name])
        moved = not np.array_equal(after[name], values)
        assert moved == name.startswith(("third", "out"))
        np.testing.assert_array_equal(np.sort(after[name], axis=None), np.sort(values, axis=None))


def test_deeper_cascades_permute_the_top_alike_and_the_seed_decides() -> None:
    net = tiny_recognizer()
    top, whole = state_of(randomized(net, 0.25, seed=3)), state_of(randomized(net, 1.0, seed=3))
    np.testing.assert_array_equal(top["out.weight"], whole["out.weight"])
    assert not np.array_equal(top["first.weight"], whole["first.weight"])
    other = state_of(randomized(net, 0.25, seed=4))
    assert not np.array_equal(top["out.weight"], other["out.weight"])
    again = state_of(randomized(net, 0.25, seed=3))
    np.testing.assert_array_equal(top["out.weight"], again["out.weight"])


def test_shares_are_rounded_up_to_layers() -> None:
    net = tiny_recognizer()
    before = state_of(net)
    for share, layers in ((0.0, 0), (0.01, 1), (0.25, 1), (0.26, 2), (1.0, 4)):
        after = state_of(randomized(net, share, seed=0))
        moved = [
            name
            for name in before
            if name.endswith("weight") and not np.array_equal(before[name], after[name])
        ]
        assert len(moved) == layers


def test_wrong_shares_and_networks_without_weights() -> None:
    with pytest.raises(UserError, match=r"must be in \[0, 1\]\. Got 50\. Did you mean 0\.5\?"):
        randomized(tiny_recognizer(), 50.0, seed=0)
    with pytest.raises(UserError, match="no layer with weights"):
        weight_layers(recognizer_of(nn.Flatten(), (8, 8)))
    reading = tiny_recognizer().preprocessing
    function = TorchRecognizer("function", TinyNet().forward, reading, identity="")
    with pytest.raises(UserError, match="no torch module"):
        randomized(function, 0.5, seed=0)


def test_rank_correlation_is_scipys_ties_and_all() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 5, (4, 6, 7)).astype(np.float32)
    b = rng.integers(0, 5, (4, 6, 7)).astype(np.float32)
    correlations = map_rank_correlation(a, b)
    expected = [stats.spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(correlations.values, expected, rtol=0, atol=1e-12)
    assert correlations.degenerate == 0
    assert correlations.mean == pytest.approx(np.mean(expected), abs=1e-12)


def test_degenerate_maps_have_no_correlation_and_are_counted() -> None:
    good = np.arange(12.0).reshape(3, 4)
    broken = good.copy()
    broken[1, 1] = np.inf
    a = np.stack([good, np.zeros((3, 4)), good, good])
    b = np.stack([-(good**3), good, broken, np.exp(good)])
    correlations = map_rank_correlation(a, b)
    np.testing.assert_array_equal(np.isnan(correlations.values), [False, True, True, False])
    assert correlations.values[[0, 3]].tolist() == [-1.0, 1.0]
    assert correlations.degenerate == 2 and correlations.mean == 0.0
    assert map_rank_correlation(a[1:2], b[1:2]).mean is None


def test_maps_that_look_at_the_destroyed_layers_change_and_others_do_not() -> None:
    net = tiny_recognizer()
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    people = [Identity("a", np.array([0, 1])), Identity("b", np.array([2, 3, 4]))]
    gradient, principal = CamConfig("grad-cam", "1"), CamConfig("eigen-cam", "1")
    outcomes = randomization_test(
        net, frames, people, [gradient, principal], shares=(0.0, 0.5, 1.0), max_pairs=None, seed=0
    )
    alike = {(outcome.config, outcome.share): outcome.correlations for outcome in outcomes}
    assert [outcome.layers for outcome in outcomes] == [0, 0, 2, 2, 4, 4]
    assert alike[gradient, 0.0].values.tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
    # The first layer's principal component knows nothing of the upper half; the gradient does.
    assert alike[principal, 0.5].values.tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
    assert max(alike[gradient, 0.5].values) < 0.9
    assert max(alike[principal, 1.0].values) < 0.9


def test_a_network_that_says_nothing_gives_no_correlation() -> None:
    net = tiny_recognizer()
    assert isinstance(net.module, TinyNet)
    nn.init.zeros_(net.module.third.weight)
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    people = [Identity("a", np.array([0, 1]))]
    (outcome,) = randomization_test(
        net, frames, people, [CamConfig("grad-cam", "1")], shares=(0.25,), max_pairs=None, seed=0
    )
    assert outcome.correlations.degenerate == 1 and outcome.correlations.mean is None


# Impostors ----------------------------------------------------------------------------------------


def people_of(*sizes: int) -> list[Identity]:
    ends = np.cumsum([0, *sizes])
    return [
        Identity(f"p{i}", np.arange(start, stop)) for i, (start, stop) in enumerate(pairwise(ends))
    ]


def test_impostor_pairs_are_non_mated_and_spread_over_people() -> None:
    people = people_of(2, 5, 3, 4)
    owner = np.repeat(np.arange(4), [2, 5, 3, 4])
    pairs = impostor_pairs(people, 30, seed=0)
    assert len({tuple(pair) for pair in pairs.tolist()}) == 30
    assert (owner[pairs[:, 0]] != owner[pairs[:, 1]]).all()
    assert sorted(np.bincount(owner[pairs[:, 0]]).tolist()) == [7, 7, 8, 8]
    np.testing.assert_array_equal(pairs, impostor_pairs(people, 30, seed=0))
    assert not np.array_equal(pairs, impostor_pairs(people, 30, seed=1))


def test_too_few_impostors_are_all_taken() -> None:
    pairs = impostor_pairs(people_of(2, 1), 100, seed=0)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 2), (1, 2), (2, 0), (2, 1)]
    assert impostor_pairs(people_of(3), 10, seed=0).shape == (0, 2)
