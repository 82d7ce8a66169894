"""Rollout, gradient rollout and LeGrad against numpy, and what they share with other methods."""

from __future__ import annotations

from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
from torch import nn

import facefocus as ff
from facefocus.core.errors import UserError
from facefocus.faces.faceset import Identity
from facefocus.models.capture import capture
from facefocus.models.layers import TokenCall, trace_layers
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.token_grids import TokenGrid
from facefocus.saliency.attention_rollout import attention_rollout
from facefocus.saliency.cam import layer_cam
from facefocus.saliency.explainer import Images, MapRequest, MapSpec
from facefocus.saliency.gradient_rollout import gradient_rollout
from facefocus.saliency.identity import CAMS, cam_identity_maps, minmax_normalize
from facefocus.saliency.legrad import legrad
from facefocus.saliency.methods import METHODS, AttentionMethod
from facefocus.saliency.pair_level import PairFrames, check_layer, pair_level_maps, pair_method
from facefocus.saliency.streams import CamConfig, plan_streams
from tests.models.transformers import GRID, HEADS, SHAPE, Swin, Vit, images, seeded
from tests.small import tiny_recognizer

METHODS_HERE = ("attention-rollout", "gradient-rollout", "legrad")


def calls(
    tokens: int, grid: TokenGrid, read: tuple[int, ...], heads: int = 1, layers: int = 2
) -> list[TokenCall]:
    return [
        TokenCall(i, "a", "attention", heads * tokens, tokens, 1, 0, False, grid, read)
        for i in range(1, layers + 1)
    ]


def tensors(*values: Any) -> list[torch.Tensor]:
    """Each [t, t] as [1, 1, t, t]."""
    return [torch.tensor(value, dtype=torch.float64)[None, None] for value in values]


# By hand: a class token and two patches -----------------------------------------------------------

FIRST = [[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.6, 0.0, 0.4]]
SECOND = [[0.0, 0.4, 0.6], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
CLASS = calls(3, TokenGrid(1, 2, (0,)), (0,))


def test_rollout_by_hand() -> None:
    # Class row of (SECOND + I) / 2: [.5, .2, .3]. Times (FIRST + I) / 2, whose rows are
    # [.6, .25, .15], [0, 1, 0], [.3, 0, .7]: patches .5 * .25 + .2 = .325, .5 * .15 + .3 * .7.
    saliency = attention_rollout(tensors(FIRST, SECOND), [], CLASS)
    np.testing.assert_allclose(saliency, [[[0.325, 0.285]]], rtol=1e-12)


def test_gradient_rollout_by_hand() -> None:
    # E_2 has the class row [0, .4 * 2, 0] (a negative product counts 0), E_1 the class row
    # [0, .5, 0] and of the first patch [0, 0, 0]: (I + E_2)(I + E_1) - I = E_1 + E_2 + E_2 E_1.
    g1 = [[-1.0, 1.0, 0.0], [9.0, 0.5, 9.0], [0.0, 0.0, 0.0]]
    g2 = [[0.0, 2.0, -3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    # E_1 patch 1: [0 * 9, 1 * .5, 0 * 9] = [0, .5, 0]; E_2 E_1 class row: .8 * .5 = .4 at patch 1.
    saliency = gradient_rollout(tensors(FIRST, SECOND), tensors(g1, g2), CLASS)
    np.testing.assert_allclose(saliency, [[[0.5 + 0.8 + 0.4, 0.0]]], rtol=1e-12)


def test_legrad_by_hand() -> None:
    # Means over three queries of the positive gradients: (1 + 4) / 3, 2 / 3; then 3 / 3, 0.
    g1 = [[9.0, 1.0, 2.0], [9.0, 4.0, -5.0], [9.0, -1.0, 0.0]]
    g2 = [[9.0, 3.0, -1.0], [9.0, 0.0, 0.0], [9.0, 0.0, 0.0]]
    saliency = legrad(tensors(FIRST, SECOND), tensors(g1, g2), CLASS)
    np.testing.assert_allclose(saliency, [[[(5 / 3 + 1) / 2, (2 / 3) / 2]]], rtol=1e-12)


# A whole transformer in numpy ---------------------------------------------------------------------


def _norm(x: np.ndarray) -> np.ndarray:
    centered = x - x.mean(-1, keepdims=True)
    whole: np.ndarray = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
    return whole


class NumpyVit:
    """`Vit` of one image in numpy; the probabilities of any attention can be replaced."""

    def __init__(self, network: nn.Module, image: np.ndarray) -> None:
        self.weights = {key: value.numpy() for key, value in network.state_dict().items()}
        w = self.weights
        cells = image.reshape(3, 4, 4, 3, 4).transpose(1, 3, 0, 2, 4).reshape(12, -1)
        patches = cells @ w["patches.weight"].reshape(8, -1).T + w["patches.bias"]
        self.tokens = np.concatenate([w["first"][0], patches + w["positions"][0], w["last"][0]])

    def run(self, replaced: dict[int, np.ndarray] | None = None) -> tuple[np.ndarray, list[Any]]:
        """All tokens of the last normalization, and the probabilities of each attention."""
        w, x, seen = self.weights, self.tokens, []
        for block in range(2):
            own = f"blocks.{block}.attention."
            split = _norm(x) @ w[own + "in_proj_weight"].T + w[own + "in_proj_bias"]
            q, k, v = (
                z.reshape(len(x), HEADS, 4).transpose(1, 0, 2) for z in np.split(split, 3, 1)
            )
            scores = q @ k.transpose(0, 2, 1) / 2
            p = np.exp(scores - scores.max(-1, keepdims=True))
            p = (replaced or {}).get(block, p / p.sum(-1, keepdims=True))
            seen.append(p)
            mixed = (p @ v).transpose(1, 0, 2).reshape(len(x), 8)
            x = x + mixed @ w[own + "out_proj.weight"].T + w[own + "out_proj.bias"]
            mlp = _norm(x) @ w[f"blocks.{block}.mlp.weight"].T + w[f"blocks.{block}.mlp.bias"]
            x = x + np.tanh(mlp)
        return _norm(x), seen

    def score(self, pool: str, reference: np.ndarray, replaced: Any = None) -> float:
        """Cosine of the embedding and a reference."""
        tokens = self.run(replaced)[0]
        pooled = tokens[0] if pool == "class" else tokens[1:13].mean(0)
        e = pooled @ self.weights["head.weight"].T + self.weights["head.bias"]
        return float(e @ reference / np.linalg.norm(e) / np.linalg.norm(reference))

    def gradients(self, pool: str, reference: np.ndarray, step: float = 1e-5) -> list[np.ndarray]:
        """Of the score with respect to every probability, by differences."""
        gradients = []
        for block, p in enumerate(self.run()[1]):
            slopes = np.zeros_like(p)
            for index in np.ndindex(*p.shape):
                ends = []
                for sign in (1, -1):
                    changed = p.copy()
                    changed[index] += sign * step
                    ends.append(self.score(pool, reference, {block: changed}))
                slopes[index] = (ends[0] - ends[1]) / (2 * step)
            gradients.append(slopes)
        return gradients


def in_numpy(method: str, p: list[np.ndarray], g: list[np.ndarray], rows: list[int]) -> np.ndarray:
    """The definitions, with whole matrices; patches are tokens 1 to 12."""
    identity = np.eye(p[0].shape[-1])
    if method == "legrad":
        row: np.ndarray = np.mean([np.maximum(x, 0).mean((0, 1)) for x in g], axis=0)
        return row[1:13].reshape(GRID)
    product = identity
    for a, slopes in zip(p, g, strict=True):
        if method == "attention-rollout":
            product = (a.mean(0) + identity) / 2 @ product
        else:
            product = product + np.maximum(slopes * a, 0).mean(0) @ product
    whole: np.ndarray = product[rows].mean(0)
    return whole[1:13].reshape(GRID)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_all_three_are_those_of_a_transformer_in_numpy(pool: str) -> None:
    network = seeded(Vit, pool=pool, before=1, after=1).double()
    table = trace_layers(network, SHAPE)
    indices = table.attention("legrad")
    attentions = [table.calls[index - 1] for index in indices]
    assert all(isinstance(call, TokenCall) for call in attentions)
    x, reference = images(2, torch.float64), np.array([0.3, -1.0, 0.5, 0.2, 0.9])
    got = capture(network, x, indices, table=table)
    e = got.embeddings.clone().requires_grad_()
    cosine = torch.cosine_similarity(e, torch.tensor(reference)[None])
    (directions,) = torch.autograd.grad(cosine.sum(), e)
    pulls, cosine = got.gradients(directions), cosine.detach()
    for image in (1,):
        own = NumpyVit(network, x[image].numpy())
        assert own.score(pool, reference) == pytest.approx(float(cosine[image]), abs=1e-12)
        p, g = own.run()[1], own.gradients(pool, reference)
        for index, probabilities, slopes in zip(indices, p, g, strict=True):
            np.testing.assert_allclose(got.activations[index][image], probabilities, atol=1e-12)
            np.testing.assert_allclose(pulls[index][image], slopes, atol=1e-8)
        for name in METHODS_HERE:
            method = METHODS[name]
            assert isinstance(method, AttentionMethod)
            raw = [[values[index] for index in indices] for values in (got.activations, pulls)]
            saliency = method.maps_at(attentions, raw[0], raw[1], {})[0][image].numpy()
            wanted = in_numpy(name, p, g, [0] if pool == "class" else list(range(1, 13)))
            # Gradient rollout leaves the identity out: a constant.
            np.testing.assert_allclose(saliency - saliency.min(), wanted - wanted.min(), atol=1e-8)


def test_a_swin_uses_the_attentions_of_whole_images_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network: Any = seeded(Swin, whole=True).double()
    x = images(2, torch.float64)
    table = trace_layers(network, SHAPE)
    (index,) = table.attention("legrad")
    assert "The method 'legrad' uses 1 of the recognizer's 3 attentions: at qkv.0" in caplog.text
    assert "windows" in caplog.text
    call = table.calls[index - 1]
    assert isinstance(call, TokenCall) and call.read == tuple(range(16))
    direction = torch.tensor([0.3, -1.0, 0.5, 0.2, 0.9], dtype=torch.float64).expand(2, -1)
    got = capture(network, x, [index], table=table)
    raw = [got.activations[index]], [got.gradients(direction)[index]]

    # What follows the windows, in plain operations.
    before: list[torch.Tensor] = []
    network.all_norm.register_forward_pre_hook(lambda _, given: before.append(given[0]))
    network(x)
    q, k, v = (
        part.reshape(2, 16, HEADS, -1).transpose(1, 2)
        for part in network.all_qkv(network.all_norm(before[0])).chunk(3, -1)
    )
    p = torch.softmax(q @ k.mT / 2, -1).requires_grad_()
    tokens = before[0] + (p @ v).transpose(1, 2).flatten(2)
    out = network.head(network.norms[2](tokens).mean(1))
    (g,) = torch.autograd.grad(out, p, direction)
    wanted = {
        "attention-rollout": (p.mean(1) + torch.eye(16)).mean(1) / 2,
        "gradient-rollout": (g * p).relu().mean((1, 2)),
        "legrad": g.relu().mean((1, 2)),
    }
    for name, values in wanted.items():
        method = METHODS[name]
        assert isinstance(method, AttentionMethod)
        saliency = method.maps_at([call], *raw, {})[0]
        torch.testing.assert_close(saliency, values.detach().reshape(2, 4, 4))


def test_layer_cam_of_tokens_around_windows() -> None:
    """At the norm before shifted windows: sum over d of relu(g) a, rectified, on the 4x4 grid."""
    network: Any = seeded(Swin).double()
    x = images(2, torch.float64)
    table = trace_layers(network, SHAPE)
    index = next(call.index for call in table.tokens if call.name == "norms.1")
    direction = torch.tensor([0.3, -1.0, 0.5, 0.2, 0.9], dtype=torch.float64).expand(2, -1)
    got = capture(network, x, [index], table=table)
    call, values, pulls = table.calls[index - 1], got.activations, got.gradients(direction)
    saliency = layer_cam(call.on_grid(values[index]), call.on_grid(pulls[index]), {})

    leaf: list[torch.Tensor] = []

    def cut(_: object, __: object, out: torch.Tensor) -> torch.Tensor:
        leaf.append(out.detach().requires_grad_())
        return leaf[0]

    network.norms[1].register_forward_hook(cut)
    (g,) = torch.autograd.grad(network(x), leaf, direction)
    assert leaf[0].shape == (2, 4, 4, 8)
    torch.testing.assert_close(saliency, (g.relu() * leaf[0]).sum(-1).relu().detach())


# With other methods -------------------------------------------------------------------------------

SIDES = SHAPE[1:]
FRAMES = np.random.default_rng(3).integers(0, 256, (7, *SIDES, 3), dtype=np.uint8)
PEOPLE = [Identity("a", np.arange(3)), Identity("b", np.arange(3, 7))]


def transformer(**options: Any) -> TorchRecognizer:
    reading = Preprocessing(SIDES, None, "rgb", (127.5,) * 3, (60.0,) * 3)
    return TorchRecognizer("vit", seeded(Vit, **options), reading, identity="vit")


def made(box: TorchRecognizer, configs: list[CamConfig], people: list[Identity] = PEOPLE) -> Any:
    return cam_identity_maps(box, FRAMES, people, configs, max_pairs=None, seed=0)


def test_identity_maps_are_means_of_normalized_pair_maps() -> None:
    box = transformer()
    table = box.layers()
    indices = table.attention("legrad")
    maps = made(box, [CamConfig(name, "", "cosine") for name in METHODS_HERE])
    sums: dict[str, list[torch.Tensor]] = {name: [] for name in METHODS_HERE}
    for a in range(3):
        for b in range(3):
            if a == b:
                continue
            with box.capture(FRAMES[[a]], indices) as captured:
                e = captured.embeddings.clone().requires_grad_()
                reference = torch.from_numpy(box.embed(FRAMES[[b]]))
                (direction,) = torch.autograd.grad(torch.cosine_similarity(e, reference).sum(), e)
                pulls = captured.gradients(direction)
            raw = [[values[index] for index in indices] for values in (captured.activations, pulls)]
            for name in METHODS_HERE:
                method = METHODS[name]
                assert isinstance(method, AttentionMethod)
                rows = [table.calls[index - 1] for index in indices]
                sums[name].append(minmax_normalize(method.maps_at(rows, raw[0], raw[1], {})[0])[0])
    for name, config in zip(METHODS_HERE, maps, strict=True):
        mean = torch.cat(sums[name]).mean(0, keepdim=True)
        wanted = box.preprocessing.to_frame(mean, SIDES)[0]
        np.testing.assert_allclose(maps[config].maps[0], wanted, atol=1e-5)
        assert (maps[config].total.tolist(), maps[config].degenerate.sum()) == ([6, 12], 0)


def test_a_person_has_the_same_map_alone_and_with_other_methods() -> None:
    box = transformer(attention="fused")
    configs = [CamConfig(name, "", "l1") for name in METHODS_HERE]
    cams = [CamConfig("layer-cam", layer, "l1") for layer in ("N", "attention:N", "conv:1")]
    together = made(box, [*configs, *cams])
    for config in configs:
        alone = made(box, [config], PEOPLE[1:])
        assert together[config].maps[1].tobytes() == alone[config].maps[0].tobytes()
        assert np.ptp(together[config].maps[1]) > 0


def test_one_backward_pass_serves_all_and_rollout_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = transformer()
    box.layers()
    passes = []
    plain = torch.autograd.grad

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(1)
        return plain(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    cams = [CamConfig("layer-cam", "N"), CamConfig("grad-cam", "attention:all")]
    made(box, [*cams, *(CamConfig(name, "") for name in METHODS_HERE)])
    assert len(passes) == 3, "as many as the largest number of partners"
    passes.clear()
    made(box, [CamConfig("attention-rollout", "", "")])
    assert not passes


def test_an_image_against_itself_is_degenerate_for_gradients_only() -> None:
    box = transformer()
    frames = FRAMES.copy()
    frames[1] = frames[0]
    configs = [CamConfig(name, "", "l2") for name in METHODS_HERE]
    maps = cam_identity_maps(
        box, frames, [Identity("a", np.arange(2))], configs, max_pairs=None, seed=0
    )
    assert [int(maps[config].degenerate[0]) for config in configs] == [0, 2, 2]


def test_gradient_rollout_sees_the_scale_of_the_gradient() -> None:
    plan = plan_streams(
        [CamConfig("gradient-rollout", "", o) for o in ("cosine", "arcface(0.3)")],
        transformer().layers(),
    )
    (method,) = plan.methods.values()
    assert not method.scale_invariant
    assert len(plan.objectives) == 2


def test_a_kind_of_layer_can_be_chosen() -> None:
    box, faces = transformer(), ff.load_faces("synthetic-eyes", people=2)
    chosen = ff.explain(box, faces, "layer-cam", layer="N/2", kind="attention", max_images=2)
    named = ff.explain(box, faces, "layer-cam", layer="attention:N/2", max_images=2)
    plain = ff.explain(box, faces, "layer-cam", layer="N/2", max_images=2)
    person = next(iter(chosen))
    assert np.array_equal(chosen[person], named[person])
    assert not np.array_equal(chosen[person], plain[person])
    assert ff.explain(box, faces, "legrad", max_images=2)[person].shape == (112, 112)


def test_pairs() -> None:
    box = transformer()
    names, rows = np.array([f"i{n}" for n in range(7)]), np.arange(3)
    pairs = PairFrames(FRAMES, names, rows, rows + 1, np.ones(3, bool))
    for name in METHODS_HERE:
        choice = pair_method(name, "N")
        assert choice.layer is None
        check_layer(choice, box)
        pair_maps = pair_level_maps(choice, box, pairs, 0, lambda *_: None)
        assert pair_maps.maps.shape == (3, *SIDES)
        assert pair_maps.degenerate == 0
        with pytest.raises(UserError, match="needs self-attention"):
            check_layer(choice, tiny_recognizer())


def test_a_network_without_attention_is_refused_with_what_works() -> None:
    with pytest.raises(UserError) as caught:
        made(tiny_recognizer(), [CamConfig("legrad", "")])
    assert str(caught.value) == (
        "The method 'legrad' needs self-attention of the image's patches, and the recognizer runs "
        "none in its 3 convolutions. Use grad-cam, layer-cam, hires-cam, occlusion-gradient, "
        "s-rise or corr-rise, which need none."
    )


def test_passes_are_counted() -> None:
    specs = [
        MapSpec("legrad", "legrad", (), calls=(3, 6), objective="cosine"),
        MapSpec("attention-rollout", "attention-rollout", (), calls=(3, 6)),
    ]
    request = MapRequest(specs, ["vit"], PEOPLE, create_autospec(Images, seed=0, instance=True))
    passes = CAMS.passes(request, specs)
    assert passes.backward == 6 + 12
