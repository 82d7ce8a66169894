from __future__ import annotations

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.core import seeds
from facefocus.core.errors import UserError
from facefocus.faces.faceset import Identity
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import CHUNK, TorchRecognizer
from facefocus.saliency import identity as identity_module
from facefocus.saliency.explainer import MapArrays
from facefocus.saliency.identity import (
    CamConfig,
    cam_identity_maps,
    minmax_normalize,
    ordered_pairs,
)
from facefocus.saliency.methods import METHODS, GradientMethod
from facefocus.saliency.objectives import parse_objective

SIDE = 12
OBJECTIVES = ("cosine", "l1", "l2", "arcface(0)", "arcface(0.2)", "arcface(0.3)")


def people(*sizes: int) -> list[Identity]:
    ends = np.cumsum(sizes)
    return [
        Identity(f"P{number}", np.arange(end - size, end, dtype=np.int64))
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


def random_frames(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These tensors are small: threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    """Four convolutions (12x12, 6x6, 6x6, 3x3), smooth so that gradients are well behaved."""

    def __init__(self, activation: Callable[[Tensor], Tensor] = F.silu) -> None:
        super().__init__()
        self.activation = activation
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(3, 6, 3, padding=1),
                nn.Conv2d(6, 8, 3, stride=2, padding=1),
                nn.Conv2d(8, 8, 3, padding=1, groups=8),
                nn.Conv2d(8, 16, 3, stride=2, padding=1),
            ]
        )
        self.out = nn.Linear(16 * 9, 8)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = self.activation(conv(x))
        out: Tensor = self.out(x.flatten(1))
        return out


def recognizer(
    module: nn.Module, side: int = SIDE, mean: float = 127.5, std: float = 127.5
) -> TorchRecognizer:
    data = Preprocessing(
        size=(side, side), crop=None, channels="rgb", mean=(mean,) * 3, std=(std,) * 3
    )
    return TorchRecognizer("test", module.eval(), data, identity="test")


def small(activation: Callable[[Tensor], Tensor] = F.silu) -> TorchRecognizer:
    torch.manual_seed(0)
    return recognizer(Net(activation))


# By hand ------------------------------------------------------------------------------------------


class ByHand(nn.Module):
    """Channels: red and green. e = (red[0, 0], red[1, 1] + green[0, 1] - green[1, 0])."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.out = nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.conv.weight[:] = torch.eye(3)[:2, :, None, None]
            self.out.weight[:] = torch.tensor(
                [[1.0, 0, 0, 0, 0, 0, 0, 0], [0.0, 0, 0, 1, 0, 1, -1, 0]]
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.conv(x).flatten(1))
        return out


def by_hand_frames() -> np.ndarray:
    frames = np.zeros((2, 2, 2, 3), np.uint8)
    frames[0, :, :, 0], frames[0, :, :, 1] = [[3, 0], [0, 4]], [[0, 5], [5, 2]]
    frames[1, :, :, 0] = [[5, 0], [0, 0]]
    return frames


# e_a = (3, 4), e_b = (5, 0). For a: direction ((1, 0) - .6 (.6, .8)) / 5 = (.128, -.096), so
#   g_red = [[.128, 0], [0, -.096]], g_green = [[0, -.096], [.096, 0]].
# For b: direction ((.6, .8) - .6 (1, 0)) / 5 = (0, .16), so
#   g_red = [[0, 0], [0, .16]], g_green = [[0, .16], [-.16, 0]].
# Grad-CAM: a: .008 red -> [[.75, 0], [0, 1]]; b: .04 red -> [[1, 0], [0, 0]].
# LayerCAM: a: [[.384, 0], [.48, 0]] -> [[.8, 0], [1, 0]]; b: all zero, degenerate.
# Grad-CAM++: a: red * .128/2.896 + green * .096/3.152
#   = [[.1325967, .1522843], [.1522843, .2377094]] -> [[0, .1872993], [.1872993, 1]];
#   b: red * .16/2.8 -> [[1, 0], [0, 0]].
# normalized: a: red * .128 + green * .096 = [[.384, .48], [.48, .704]] -> [[0, .3], [.3, 1]].
@pytest.mark.parametrize(
    ("method", "options", "expected", "degenerate"),
    [
        ("grad-cam", (), [[0.875, 0.0], [0.0, 0.5]], 0),
        ("layer-cam", (), [[0.8, 0.0], [1.0, 0.0]], 1),
        ("grad-cam++", (), [[0.5, 0.09364965], [0.09364965, 0.5]], 0),
        ("grad-cam++", (("variant", "normalized"),), [[0.5, 0.15], [0.15, 0.5]], 0),
    ],
)
def test_identity_map_by_hand(
    method: str,
    options: tuple[tuple[str, str], ...],
    expected: list[list[float]],
    degenerate: int,
) -> None:
    config = CamConfig(method, "N", options=options)
    model = recognizer(ByHand(), side=2, mean=0.0, std=1.0)
    by_config = cam_identity_maps(
        model, by_hand_frames(), people(2), [config], max_pairs=None, seed=0
    )
    np.testing.assert_allclose(by_config[config].maps[0], expected, atol=1e-6)
    assert (by_config[config].total[0], by_config[config].degenerate[0]) == (2, degenerate)


# Against the definition ---------------------------------------------------------------------------


def slow_pair_map(module: nn.Module, config: CamConfig, layer: int, pair: Tensor) -> Tensor | None:
    """The normalized map of one ordered pair at one layer, by definition.

    Protocol: class-activation-maps, identity-maps.
    """
    kept: list[Tensor] = []
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    with convs[layer - 1].register_forward_hook(lambda _m, _i, out: kept.append(out)):
        e = module(pair)
    objective = parse_objective(
        config.objective,
        normalize=config.normalize,
        scale=config.arcface_scale,
        evidence=config.evidence,
    )
    value = objective.value(e[:1], e[1:].detach())
    g = torch.autograd.grad(value.sum(), kept[0])[0][0]
    a = kept[0][0].detach()
    if config.method == "grad-cam":
        cam = (g.mean((1, 2))[:, None, None] * a).sum(0)
    elif config.method == "layer-cam":
        cam = (g.clamp(min=0) * a).sum(0)
    else:
        total = a.sum((1, 2), keepdim=True)
        variant = dict(config.options).get("variant", "equation")
        epsilon = 1e-6 if variant == "epsilon" else 0.0
        alpha = (g**2 / (2 * g**2 + total * g**3 + epsilon)).where(g > 0, 0.0)
        if variant == "normalized":
            sums = alpha.sum((1, 2), keepdim=True)
            alpha = (alpha / sums).where(sums != 0, 0.0)
        weights = (alpha * g.clamp(min=0)).sum((1, 2))
        cam = (weights[:, None, None] * a).sum(0)
    cam = cam.clamp(min=0)
    return None if cam.max() == cam.min() else (cam - cam.min()) / (cam.max() - cam.min())


def slow_identity(
    pair_map: Callable[..., Tensor | None], config: CamConfig, pairs: np.ndarray
) -> tuple[np.ndarray, int]:
    framed, degenerate = [], 0
    for layer in LAYERS[config.layer]:
        single = dataclasses.replace(config, layer=str(layer))
        maps = [pair_map(single, layer, *pair.tolist()) for pair in pairs]
        left = [m for m in maps if m is not None]
        degenerate += len(maps) - len(left)
        if left:
            mean = torch.stack(left).mean(0)[None, None]
            size = (SIDE, SIDE)
            framed.append(F.interpolate(mean, size, mode="bilinear", align_corners=False)[0, 0])
    whole = torch.stack(framed).mean(0) if framed else torch.zeros(SIDE, SIDE)
    return whole.numpy(), degenerate


LAYERS = {"1": [1], "2": [2], "N": [4], "middle": [1, 2, 3], "all": [1, 2, 3, 4]}


def every_config() -> list[CamConfig]:
    methods: list[tuple[str, tuple[tuple[str, str], ...]]] = [("grad-cam", ()), ("layer-cam", ())]
    methods += [("grad-cam++", (("variant", v),)) for v in ("equation", "epsilon", "normalized")]
    configs = [
        CamConfig(method, layer, objective, options)
        for method, options in methods
        for layer in LAYERS
        for objective in (OBJECTIVES if layer == "2" else ("cosine", "l1"))
    ]
    for method, options in methods:
        configs += [
            CamConfig(method, "2", "l1", options, normalize=False),
            CamConfig(method, "2", "l2", options, normalize=False),
            CamConfig(method, "2", "l2", options, evidence="negative"),
            CamConfig(method, "middle", "cosine", options, evidence="negative"),
            CamConfig(method, "2", "arcface(0.2)", options, arcface_scale=64.0),
        ]
    return configs


@pytest.mark.parametrize(("sizes", "max_pairs"), [((2, 3), None), ((2, 3, 5), 7)])
def test_shared_passes_equal_the_definition(sizes: tuple[int, ...], max_pairs: int | None) -> None:
    model, frames, whom = small(), random_frames(sum(sizes)), people(*sizes)
    module = model.module
    assert isinstance(module, nn.Module)
    images = model.preprocessing(torch.from_numpy(frames))

    # Remembered only because groups and single layers ask for the same.
    @functools.cache
    def pair_map(config: CamConfig, layer: int, image: int, reference: int) -> Tensor | None:
        return slow_pair_map(module, config, layer, images[[image, reference]])

    configs = every_config()
    if max_pairs is not None:
        configs = configs[::7]
    by_config = cam_identity_maps(model, frames, whom, configs, max_pairs=max_pairs, seed=4)
    assert list(by_config) == configs
    for position, identity in enumerate(whom):
        rng = seeds.generator(4, "pairs", identity.name)
        pairs = ordered_pairs(len(identity.rows), max_pairs, rng)
        for config in configs:
            expected, degenerate = slow_identity(pair_map, config, identity.rows[pairs])
            got = by_config[config]
            assert got.total[position] == len(pairs) * len(LAYERS[config.layer])
            assert got.degenerate[position] == degenerate
            np.testing.assert_allclose(
                got.maps[position], expected, atol=2e-4, err_msg=f"{config} {identity.name}"
            )


def test_angular_objectives_share_grad_cam_and_layer_cam_but_not_grad_cam_plus_plus() -> None:
    model, frames = small(), random_frames(5)
    angular = [name for name in OBJECTIVES if name != "l1"]

    def maps(method: str) -> list[np.ndarray]:
        configs = [CamConfig(method, "2", objective) for objective in angular]
        by_config = cam_identity_maps(model, frames, people(5), configs, max_pairs=None, seed=0)
        return [by_config[config].maps for config in configs]

    for method in ("grad-cam", "layer-cam"):
        for other in maps(method)[1:]:
            np.testing.assert_allclose(other, maps(method)[0], atol=1e-5)
    cosine, l2, *_ = maps("grad-cam++")
    assert np.abs(cosine - l2).max() > 1e-3


def test_the_gradient_of_each_angular_objective_gives_the_same_map_without_sharing() -> None:
    # The claim itself, from separate autograd passes: nothing of cam_identity_maps takes part.
    model, frames = small(), random_frames(2)
    module = model.module
    assert isinstance(module, nn.Module)
    pair = model.preprocessing(torch.from_numpy(frames))
    for method in ("grad-cam", "layer-cam"):
        first = slow_pair_map(module, CamConfig(method, "2", "cosine"), 2, pair)
        for objective in ("l2", "arcface(0.1)", "arcface(0.3)"):
            other = slow_pair_map(module, CamConfig(method, "2", objective), 2, pair)
            torch.testing.assert_close(other, first, atol=1e-5, rtol=0)


# Independence -------------------------------------------------------------------------------------

MIXED = [
    CamConfig("grad-cam", "all"),
    CamConfig("grad-cam++", "2", "l2"),
    CamConfig("layer-cam", "1", "l1"),
]


def maps_of(by_config: dict[CamConfig, MapArrays], position: int) -> list[np.ndarray]:
    return [by_config[config].maps[position] for config in MIXED]


@pytest.mark.parametrize("max_pairs", [None, 5])
def test_an_identity_does_not_depend_on_its_company_order_or_threads(
    max_pairs: int | None,
) -> None:
    # Not silu: torch computes exp by another formula in the last few elements of a tensor, so a
    # network with such an activation and odd sizes may differ in the last bit by place in a chunk.
    model, whom = small(F.leaky_relu), people(4, 9, 2, 7, 3, 5, 11)
    frames = random_frames(41)

    def run(chosen: Sequence[Identity]) -> dict[CamConfig, MapArrays]:
        return cam_identity_maps(model, frames, chosen, MIXED, max_pairs=max_pairs, seed=1)

    together = run(whom)
    backwards = run(whom[::-1])
    torch.set_num_threads(2)
    other_threads = run(whom)
    torch.set_num_threads(1)
    for position, identity in enumerate(whom):
        expected = maps_of(together, position)
        for by_config, at in (
            (run([identity]), 0),
            (backwards, len(whom) - 1 - position),
            (other_threads, position),
        ):
            for wanted, other in zip(expected, maps_of(by_config, at), strict=True):
                np.testing.assert_array_equal(wanted, other)
        assert all(np.ptp(saliency) > 0 for saliency in expected)


def test_configurations_do_not_depend_on_each_other() -> None:
    model, frames, whom = small(), random_frames(8), people(3, 5)
    together = cam_identity_maps(model, frames, whom, MIXED, max_pairs=None, seed=1)
    for config in MIXED:
        # Alone, the pass stops at another layer; the numbers stay.
        alone = cam_identity_maps(model, frames, whom, [config], max_pairs=None, seed=1)
        np.testing.assert_array_equal(alone[config].maps, together[config].maps)


def test_one_forward_pass_per_image_and_one_backward_per_round_and_family(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, frames = small(), random_frames(20)
    captured: list[int] = []
    original = model.capture

    def counting(frames: np.ndarray, layers: Sequence[int]) -> object:
        captured.append(len(frames))
        return original(frames, layers)

    monkeypatch.setattr(model, "capture", counting)
    steps: list[tuple[str, int, int]] = []
    cam_identity_maps(
        model,
        frames,
        people(5, 6, 9),
        every_config()[:-25] + MIXED,
        max_pairs=None,
        seed=0,
        progress=lambda *step: steps.append(step),
    )
    # 20 images: the 9 and the 6 and one more, then four; 8 and 4 rounds; families cosine and l1.
    assert captured == [CHUNK, 20 - CHUNK]
    assert steps == [("backward passes", n, 24) for n in range(1, 25)]


# On a GPU, with the network on the processor: everything but the speed ----------------------------


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(identity_module, "_is_gpu", lambda device: True)


def test_maps_are_the_same_bytes_in_the_way_of_a_gpu(as_on_gpu: Callable[[], None]) -> None:
    """Chunks of one size, of which some images have fewer partners than others and some none."""
    model, whom, frames = small(F.leaky_relu), people(4, 9, 2, 7), random_frames(22)
    configs = [*MIXED, CamConfig("layer-cam", "all", "l2", evidence="negative")]

    def run() -> dict[CamConfig, MapArrays]:
        return cam_identity_maps(model, frames, whom, configs, max_pairs=None, seed=1)

    plain = run()
    as_on_gpu()
    for config, maps in run().items():
        for field in dataclasses.fields(MapArrays):
            np.testing.assert_array_equal(
                getattr(maps, field.name), getattr(plain[config], field.name), str(config)
            )


def test_on_a_gpu_every_pass_has_as_many_images_whoever_is_explained(
    as_on_gpu: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_gpu()
    model, frames = small(), random_frames(22)
    shapes: set[tuple[int, ...]] = set()
    plain = METHODS["grad-cam"]
    assert isinstance(plain, GradientMethod)

    def seen(activation: Tensor, gradient: Tensor, options: object) -> Tensor:
        shapes.add((len(activation), len(gradient)))
        return plain.function(activation, gradient, options)  # type: ignore[arg-type]

    monkeypatch.setitem(METHODS._entries, "grad-cam", dataclasses.replace(plain, function=seen))
    for sizes in ((2,), (3, 2), (9, 13)):
        cam_identity_maps(
            model, frames, people(*sizes), [CamConfig("grad-cam", "2")], max_pairs=None, seed=0
        )
    assert shapes == {(CHUNK, CHUNK)}


def test_maps_are_brought_from_a_gpu_once_a_chunk_and_the_next_is_begun_before(
    as_on_gpu: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings, the signs of all factors, and three sums of each of eight streams."""
    as_on_gpu()
    events: list[str] = []
    plain, model = Tensor.cpu, small()
    capture = model.capture

    def cpu(values: Tensor) -> Tensor:
        # Not those of the tests' own checks of shapes.
        if sys._getframe(1).f_globals["__name__"] == identity_module.__name__:
            events.append(sys._getframe(1).f_code.co_name)
        return plain(values)

    def capturing(*given: Any) -> Any:
        events.append("capture")
        return capture(*given)

    monkeypatch.setattr(Tensor, "cpu", cpu)
    monkeypatch.setattr(model, "capture", capturing)
    configs = [CamConfig(method, "all", "l2") for method in ("grad-cam", "grad-cam++")]
    begun, brought = ["capture", "_chunk_sums", "_factors"], ["_on_processor"] * 3 * 8
    for sizes, chunks in (((2,), 1), ((6,), 1), ((16, 16, 5), 3)):
        events.clear()
        whom, frames = people(*sizes), random_frames(sum(sizes))
        cam_identity_maps(model, frames, whom, configs, max_pairs=None, seed=0)
        assert events == [*begun, *(begun + brought) * (chunks - 1), *brought]


# Degenerate maps ----------------------------------------------------------------------------------


def test_minmax_by_hand() -> None:
    maps = torch.tensor(
        [
            [[1.0, 3.0], [2.0, 5.0]],
            [[4.0, 4.0], [4.0, 4.0]],
            [[0.0, 0.0], [0.0, 0.0]],
            [[0.0, math.nan], [1.0, 2.0]],
            [[0.0, math.inf], [1.0, 2.0]],
            [[0.0, -math.inf], [1.0, 2.0]],
            [[0.0, 1e-30], [0.0, 2e-30]],
        ]
    )
    normalized, usable = minmax_normalize(maps)
    assert usable.tolist() == [True, False, False, False, False, False, True]
    assert normalized[0].tolist() == [[0.0, 0.5], [0.25, 1.0]]
    assert normalized[1:6].abs().max().item() == 0.0
    assert normalized[6].tolist() == [[0.0, 0.5], [0.0, 1.0]]


def odd_map(activation: Tensor, gradient: Tensor, options: object) -> Tensor:
    """By the mean of the image: a ramp, a constant, zeros, NaN or infinity somewhere."""
    ramp = torch.arange(activation[0, 0].numel()).reshape(activation.shape[2:]).float()
    kinds: list[Callable[[], Tensor]] = [
        lambda: ramp,
        lambda: torch.full_like(ramp, 3.0),
        lambda: torch.zeros_like(ramp),
        lambda: torch.where(ramp == 1, torch.nan, ramp),
        lambda: torch.where(ramp == 1, torch.inf, ramp),
    ]
    levels = activation.mean(dim=(1, 2, 3)).round().int().tolist()
    return torch.stack([kinds[level]() for level in levels])


class Level(nn.Module):
    """One convolution that shows red; the embedding has the image's level in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        with torch.no_grad():
            self.conv.weight[:] = torch.tensor([1.0, 0, 0])[None, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        red = self.conv(x).mean(dim=(1, 2, 3))
        return torch.stack([red + 1, torch.ones_like(red)], dim=1)


def test_degenerate_maps_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = METHODS._entries
    monkeypatch.setitem(entries, "odd", GradientMethod("odd", odd_map, 1, True))
    # Levels 0 to 4 by kind. P0: a ramp and all four bad kinds; P1: bad ones only; P2: sound.
    levels = [0, 1, 2, 3, 4, 1, 3, 0, 0]
    frames = np.zeros((9, 2, 2, 3), np.uint8)
    frames[..., 0] = np.array(levels)[:, None, None]
    whom = people(5, 2, 2)
    config = CamConfig("odd", "1")
    model = recognizer(Level(), side=2, mean=0.0, std=1.0)
    arrays = cam_identity_maps(model, frames, whom, [config], max_pairs=None, seed=0)[config]
    assert arrays.total.tolist() == [20, 2, 2]
    # P2's images are equal, so its gradient does not exist; this method does not look at it, but
    # the objective's scale is finite for cosine, so its maps stay.
    assert arrays.degenerate.tolist() == [16, 2, 0]
    ramp = [[0.0, 1 / 3], [2 / 3, 1.0]]
    np.testing.assert_allclose(arrays.maps[0], ramp, atol=1e-7)
    assert arrays.maps[1].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_ill_conditioned_maps_are_counted_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels: 0 and 5 ramps, whose pixels may change by 2 % of the range in 5; 1 is a constant."""

    def bounded(activation: Tensor, gradient: Tensor, options: object) -> tuple[Tensor, Tensor]:
        levels = activation.mean(dim=(1, 2, 3)).round()
        ramp = torch.arange(4.0).reshape(2, 2)
        made = torch.stack([ramp * (level != 1) for level in levels])
        return made, torch.where(levels == 0, 0.02, 0.06)

    method = GradientMethod("odd", lambda *of: bounded(*of)[0], 1, True, {}, bounded)
    monkeypatch.setitem(METHODS._entries, "odd", method)
    levels = [0, 1, 5, 5, 0, 0]
    frames = np.zeros((6, 2, 2, 3), np.uint8)
    frames[..., 0] = np.array(levels)[:, None, None]
    config = CamConfig("odd", "1")
    model = recognizer(Level(), side=2, mean=0.0, std=1.0)
    arrays = cam_identity_maps(model, frames, people(4, 2), [config], max_pairs=None, seed=0)[
        config
    ]
    assert arrays.total.tolist() == [12, 2]
    assert arrays.degenerate.tolist() == [3, 0]
    assert arrays.ill_conditioned.tolist() == [6, 0]
    np.testing.assert_allclose(arrays.maps[0], [[0.0, 1 / 3], [2 / 3, 1.0]], atol=1e-7)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equal_images_are_degenerate(objective: str) -> None:
    frames = np.repeat(random_frames(1), 3, axis=0)
    configs = [CamConfig(name, "2", objective) for name in ("grad-cam", "grad-cam++", "layer-cam")]
    by_config = cam_identity_maps(small(), frames, people(3), configs, max_pairs=None, seed=0)
    for maps in by_config.values():
        assert (maps.total[0], maps.degenerate[0]) == (6, 6)
        assert maps.maps.max() == 0.0


def test_dead_convolutions_are_degenerate() -> None:
    class Dead(Net):
        def forward(self, x: Tensor) -> Tensor:
            shown = self.convs[1](F.relu(self.convs[0](x) - 1e4))
            # The gradient of relu is zero everywhere; the embedding still differs by image.
            out: Tensor = (
                F.relu(shown - 1e4).mean(dim=(2, 3)) + x.mean(dim=(2, 3)).repeat(1, 3)[:, :8]
            )
            return out

    torch.manual_seed(0)
    configs = [
        CamConfig(name, "all", objective)
        for name in ("grad-cam", "grad-cam++", "layer-cam")
        for objective in OBJECTIVES
    ]
    by_config = cam_identity_maps(
        recognizer(Dead()), random_frames(5), people(2, 3), configs, max_pairs=None, seed=0
    )
    for maps in by_config.values():
        assert maps.total.tolist() == [4, 12]
        assert maps.degenerate.tolist() == [4, 12]
        assert maps.maps.tolist() == np.zeros((2, SIDE, SIDE)).tolist()


def test_a_group_averages_the_layers_that_have_a_map() -> None:
    class Pooled(Net):
        """Nothing passes its third convolution, so the maps there are zero."""

        def forward(self, x: Tensor) -> Tensor:
            x = F.silu(self.convs[1](F.silu(self.convs[0](x))))
            dead = F.relu(self.convs[2](x) - 1e4)
            out: Tensor = dead.mean(dim=(2, 3)) + x.mean(dim=(2, 3))
            return out

    torch.manual_seed(0)
    model = recognizer(Pooled())
    layers = [CamConfig("grad-cam", name) for name in ("1", "2", "3", "input")]
    by_config = cam_identity_maps(
        model, random_frames(4), people(4), layers, max_pairs=None, seed=0
    )
    first, second, third, group = (by_config[config] for config in layers)
    assert third.degenerate[0] == third.total[0] == 12
    assert (group.total[0], group.degenerate[0]) == (36, first.degenerate[0] + 12)
    np.testing.assert_allclose(group.maps, (first.maps + second.maps) / 2, atol=1e-7)


def test_nobody_and_a_person_of_one_image() -> None:
    config = CamConfig("grad-cam", "N")
    nobody = cam_identity_maps(small(), random_frames(1), [], [config], max_pairs=None, seed=0)
    assert nobody[config].maps.shape == (0, SIDE, SIDE)
    alone = cam_identity_maps(
        small(), random_frames(1), people(1), [config], max_pairs=None, seed=0
    )
    assert (alone[config].total[0], alone[config].degenerate[0]) == (0, 0)
    assert alone[config].maps.max() == 0.0


# Pairs --------------------------------------------------------------------------------------------


def test_all_ordered_pairs() -> None:
    pairs = ordered_pairs(3, None, np.random.default_rng(0))
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]
    for few in (6, 7):
        assert ordered_pairs(3, few, np.random.default_rng(0)).tolist() == pairs.tolist()
    for none in (0, 1):
        assert ordered_pairs(none, None, np.random.default_rng(0)).tolist() == []


@pytest.mark.parametrize("max_pairs", [1, 3, 5, 12, 19])
def test_a_sample_of_pairs_is_balanced_and_distinct(max_pairs: int) -> None:
    for seed in range(20):
        pairs = ordered_pairs(5, max_pairs, np.random.default_rng(seed))
        assert len(pairs) == len({tuple(pair) for pair in pairs.tolist()}) == max_pairs
        assert (pairs[:, 0] != pairs[:, 1]).all()
        assert pairs.min() >= 0 and pairs.max() < 5
        assert pairs.tolist() == sorted(pairs.tolist())
        assert np.ptp(np.bincount(pairs[:, 0], minlength=5)) <= 1


def test_every_pair_is_drawn_equally_often() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros((4, 4))
    for _ in range(3000):
        counts[tuple(ordered_pairs(4, 5, rng).T)] += 1
    # 5 of 12 pairs: 1250 each, standard deviation 27.
    off = counts[~np.eye(4, dtype=bool)]
    assert np.abs(off - 1250).max() < 4.5 * 27


# Mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            CamConfig("random", "N"),
            "one of .*grad-cam.* Got 'random', which is of the kind baseline",
        ),
        (CamConfig("gradcam", "N"), "No method is called 'gradcam'.*Did you mean 'grad-cam'"),
        (CamConfig("grad-cam", "N", options=(("variant", "x"),)), "has no option 'variant'"),
        (CamConfig("grad-cam", "N", "cos"), "No objective is called 'cos'"),
        (CamConfig("grad-cam", "99"), "The layer '99' does not exist"),
    ],
)
def test_a_bad_configuration_is_a_user_error(config: CamConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cam_identity_maps(small(), random_frames(2), people(2), [config], max_pairs=None, seed=0)


def test_max_pairs_must_be_positive() -> None:
    config = CamConfig("grad-cam", "N")
    with pytest.raises(UserError, match=r"The 'max_pairs' must be at least 1\. Got 0\."):
        cam_identity_maps(small(), random_frames(2), people(2), [config], max_pairs=0, seed=0)
