"""The paper's backbones: facts of the public checkpoints, and a second way to compute them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.models.inception_resnet import InceptionResnetV1
from facefocus.models.iresnet import BLOCKS, IResNet
from facefocus.models.layers import ConvCall, trace_layers
from facefocus.models.mobilefacenet import MobileFaceNet
from facefocus.models.vision_transformer import VisionTransformer

State = dict[str, Tensor]


def make(name: str) -> nn.Module:
    with torch.device("meta"):
        if name == "inception_resnet_v1":
            return InceptionResnetV1()
        return IResNet(depth=int(name.removeprefix("iresnet")))  # type: ignore[arg-type]


def size(name: str) -> int:
    return 160 if name == "inception_resnet_v1" else 112


#: name: (parameters, tensors of the state dict, convolutions)
COUNTS = {
    "iresnet18": (24_025_600, 187, 21),
    "iresnet50": (43_590_848, 475, 53),
    "iresnet100": (65_156_160, 925, 103),
    "inception_resnet_v1": (23_482_624, 714, 132),
}

#: Some keys and shapes of the public checkpoints, the odd ones first.
SHAPES = {
    "iresnet18": {
        "prelu.weight": (64,),
        "layer1.0.downsample.0.weight": (64, 64, 1, 1),
        "layer2.0.bn1.weight": (64,),
        "layer2.0.bn2.weight": (128,),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "fc.weight": (512, 25088),
        "features.running_var": (512,),
    },
    "iresnet50": {"layer3.13.prelu.weight": (256,), "layer2.3.conv1.weight": (128, 128, 3, 3)},
    "iresnet100": {"layer3.29.conv2.weight": (256, 256, 3, 3), "layer2.12.bn3.bias": (128,)},
    "inception_resnet_v1": {
        "conv2d_3b.conv.weight": (80, 64, 1, 1),
        "repeat_1.4.branch2.2.conv.weight": (32, 32, 3, 3),
        "repeat_1.0.conv2d.bias": (256,),
        "mixed_6a.branch1.2.conv.weight": (256, 192, 3, 3),
        "repeat_2.9.branch1.1.conv.weight": (128, 128, 1, 7),
        "repeat_2.9.branch1.2.conv.weight": (128, 128, 7, 1),
        "mixed_7a.branch0.1.conv.weight": (384, 256, 3, 3),
        "mixed_7a.branch1.1.conv.weight": (256, 256, 3, 3),
        "repeat_3.0.branch1.1.conv.weight": (192, 192, 1, 3),
        "block8.conv2d.weight": (1792, 384, 1, 1),
        "last_linear.weight": (512, 1792),
        "last_bn.running_mean": (512,),
    },
}

#: Some convolutions of the public models: number, module, output.
CONVOLUTIONS = {
    "iresnet18": [(1, "conv1", 64, 112), (3, "layer1.0.conv2", 64, 56),
                  (4, "layer1.0.downsample.0", 64, 56), (12, "layer3.0.conv1", 256, 28),
                  (21, "layer4.1.conv2", 512, 7)],
    "iresnet50": [(53, "layer4.2.conv2", 512, 7)],
    "iresnet100": [(103, "layer4.2.conv2", 512, 7)],
    "inception_resnet_v1": [(1, "conv2d_1a.conv", 32, 79), (6, "conv2d_4b.conv", 256, 17),
                            (13, "repeat_1.0.conv2d", 256, 17),
                            (45, "mixed_6a.branch1.2.conv", 256, 8),
                            (50, "repeat_2.0.conv2d", 896, 8),
                            (97, "mixed_7a.branch0.1.conv", 384, 3),
                            (132, "block8.conv2d", 1792, 3)],
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_counts_keys_and_shapes(name: str) -> None:
    module = make(name)
    parameters, tensors, _ = COUNTS[name]
    state = module.state_dict()
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    assert len(state) == tensors
    for key, shape in SHAPES[name].items():
        assert tuple(state[key].shape) == shape, key


@pytest.mark.parametrize("name", COUNTS)
def test_convolutions_in_execution_order(name: str) -> None:
    side = size(name)
    table = trace_layers(make(name), (3, side, side))
    assert len(table.calls) == len(table.spatial) == COUNTS[name][2]
    for index, module, channels, height in CONVOLUTIONS[name]:
        call = table.calls[index - 1]
        assert isinstance(call, ConvCall)
        assert (call.name, call.channels, call.height, call.width) == (
            module, channels, height, height,
        )  # fmt: skip


def randomized(module: nn.Module) -> nn.Module:
    """Values that make every term of batch norm matter, its epsilon included."""
    generator = torch.Generator().manual_seed(11)
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) * 0.02 + 0.001)
        elif key.endswith("bias"):
            value.copy_(torch.randn(value.shape, generator=generator))
        elif value.dim() == 1:
            value.copy_(torch.rand(value.shape, generator=generator) * 0.2 + 0.1)
        elif value.dim() > 1:
            spread = (2 / value[0].numel()) ** 0.5 * 0.2
            value.copy_(torch.randn(value.shape, generator=generator) * spread)
    return module.double().eval()


def norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"].view(1, -1, *[1] * (x.dim() - 2))
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + eps) * weight + bias


def prelu(state: State, name: str, x: Tensor) -> Tensor:
    slope = state[f"{name}.weight"].view(1, -1, 1, 1)
    return torch.where(x > 0, x, slope * x)


def residual(state: State, at: str, x: Tensor, stride: int) -> Tensor:
    y = F.conv2d(norm(state, f"{at}.bn1", x, 1e-5), state[f"{at}.conv1.weight"], padding=1)
    y = prelu(state, f"{at}.prelu", norm(state, f"{at}.bn2", y, 1e-5))
    y = F.conv2d(y, state[f"{at}.conv2.weight"], stride=stride, padding=1)
    y = norm(state, f"{at}.bn3", y, 1e-5)
    if stride == 2:
        x = F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=2)
        x = norm(state, f"{at}.downsample.1", x, 1e-5)
    return x + y


def iresnet(
    state: State, x: Tensor, counts: tuple[int, ...], strides: tuple[int, ...] = (1, 2, 2, 2, 2)
) -> Tensor:
    x = F.conv2d(x, state["conv1.weight"], stride=strides[0], padding=1)
    x = prelu(state, "prelu", norm(state, "bn1", x, 1e-5))
    for stage, count in enumerate(counts, 1):
        for block in range(count):
            x = residual(state, f"layer{stage}.{block}", x, strides[stage] if block == 0 else 1)
    x = norm(state, "bn2", x, 1e-5).flatten(1) @ state["fc.weight"].T + state["fc.bias"]
    return norm(state, "features", x, 1e-5)


def test_iresnet_is_its_definition() -> None:
    module = randomized(IResNet(depth=18, width=4, embedding=6, final_size=(2, 3)))
    x = torch.randn(2, 3, 32, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = iresnet(module.state_dict(), x, BLOCKS[18])
        torch.testing.assert_close(module(x), expected)
    assert expected.std() > 1e-3


def test_a_strided_stem_takes_over_from_the_last_stage() -> None:
    module = randomized(IResNet(depth=10, width=4, embedding=6, final_size=(2, 3), stem_stride=2))
    assert tuple(module.state_dict()["layer4.0.conv2.weight"].shape) == (16, 16, 3, 3)
    x = torch.randn(2, 3, 32, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = iresnet(module.state_dict(), x, (1, 1, 1, 1), (2, 2, 2, 2, 1))
        torch.testing.assert_close(module(x), expected)
    assert expected.std() > 1e-3


def transformer(state: State, x: Tensor, depth: int, heads: int) -> Tensor:
    def centred(name: str, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    x = F.conv2d(x, state["conv1.weight"], stride=2, padding=1)
    x = prelu(state, "prelu", norm(state, "bn1", x, 1e-5))
    for number, stride in enumerate((2, 2, 2, 1), start=1):
        x = residual(state, f"layer{number}.0", x, stride)
    n, width = x.shape[:2]
    x = x.reshape(n, width, -1).mT + state["positions"]
    for block in range(depth):
        at = f"blocks.{block}"
        queries, keys, values = linear(f"{at}.attention.qkv", centred(f"{at}.norm1", x)).chunk(3, 2)
        mixed = []
        for part in torch.arange(width).chunk(heads):
            scores = queries[..., part] @ keys[..., part].mT / len(part) ** 0.5
            mixed.append(torch.exp(scores) / torch.exp(scores).sum(2, True) @ values[..., part])
        x = x + linear(f"{at}.attention.projection", torch.cat(mixed, 2))
        y = linear(f"{at}.mlp.0", centred(f"{at}.norm2", x))
        x = x + linear(f"{at}.mlp.2", y * (1 + torch.erf(y / 2**0.5)) / 2)
    return norm(state, "features", linear("join", centred("norm", x).reshape(n, -1)), 1e-5)


def test_the_vision_transformer_is_its_definition() -> None:
    options = {"depth": 2, "width": 3, "heads": 3, "expansion": 2, "embedding": 6}
    module = randomized(VisionTransformer(**options, grid=(3, 2)))
    x = torch.randn(2, 3, 48, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = transformer(module.state_dict(), x, 2, 3)
        torch.testing.assert_close(module(x), expected)
    assert expected.std() > 1e-3
    with pytest.raises(ValueError, match="heads must divide 4 times the width, 12, got 5"):
        VisionTransformer(depth=1, width=3, heads=5)


def inception(
    state: State, x: Tensor, repeats: tuple[int, int, int] = (5, 10, 5), *, aligned: bool = False
) -> Tensor:
    edge, stride7 = (1, 1) if aligned else (0, 2)

    def unit(name: str, x: Tensor, stride: int = 1, pad: int | tuple[int, int] = 0) -> Tensor:
        x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=pad)
        return norm(state, f"{name}.bn", x, 1e-3).clamp(min=0)

    def chain(name: str, x: Tensor, *steps: tuple[int, int | tuple[int, int]]) -> Tensor:
        for index, (stride, pad) in enumerate(steps):
            x = unit(f"{name}.{index}", x, stride, pad)
        return x

    def project(name: str, parts: list[Tensor]) -> Tensor:
        return F.conv2d(
            torch.cat(parts, 1), state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
        )

    x = unit("conv2d_2b", unit("conv2d_2a", unit("conv2d_1a", x, 2, edge), pad=edge), pad=1)
    x = unit("conv2d_3b", F.max_pool2d(x, 3, 2, edge))
    x = unit("conv2d_4b", unit("conv2d_4a", x, pad=edge), 2, edge)
    for at in (f"repeat_1.{index}" for index in range(repeats[0])):
        parts = [unit(f"{at}.branch0", x), chain(f"{at}.branch1", x, (1, 0), (1, 1)),
                 chain(f"{at}.branch2", x, (1, 0), (1, 1), (1, 1))]  # fmt: skip
        x = (x + 0.17 * project(at, parts)).clamp(min=0)
    last = (2, edge)
    parts = [unit("mixed_6a.branch0", x, *last), chain("mixed_6a.branch1", x, (1, 0), (1, 1), last)]
    x = torch.cat([*parts, F.max_pool2d(x, 3, *last)], 1)
    for at in (f"repeat_2.{index}" for index in range(repeats[1])):
        parts = [
            unit(f"{at}.branch0", x),
            chain(f"{at}.branch1", x, (1, 0), (1, (0, 3)), (1, (3, 0))),
        ]
        x = (x + 0.10 * project(at, parts)).clamp(min=0)
    last = (stride7, edge)
    parts = [chain(f"mixed_7a.branch{index}", x, (1, 0), last) for index in range(2)]
    parts.append(chain("mixed_7a.branch2", x, (1, 0), (1, 1), last))
    x = torch.cat([*parts, F.max_pool2d(x, 3, *last)], 1)
    closing = [(f"repeat_3.{index}", 0.20) for index in range(repeats[2])]
    for at, scale in [*closing, ("block8", 1.0)]:
        parts = [
            unit(f"{at}.branch0", x),
            chain(f"{at}.branch1", x, (1, 0), (1, (0, 1)), (1, (1, 0))),
        ]
        x = x + scale * project(at, parts)
        x = x if at == "block8" else x.clamp(min=0)
    x = norm(state, "last_bn", x.mean((2, 3)) @ state["last_linear.weight"].T, 1e-3)
    unit_length: Tensor = x / x.norm(dim=1, keepdim=True)
    return unit_length


def test_inception_resnet_is_its_definition() -> None:
    module = randomized(InceptionResnetV1(width=4, embedding=6))
    x = torch.randn(2, 3, 96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = inception(module.state_dict(), x)
        torch.testing.assert_close(module(x), expected)
    assert (expected[0] - expected[1]).abs().max() > 1e-6


def test_an_aligned_inception_pads_and_keeps_its_last_map() -> None:
    module = randomized(InceptionResnetV1(width=4, embedding=6, repeats=(1, 2, 1), aligned=True))
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = inception(module.state_dict(), x, (1, 2, 1), aligned=True)
        torch.testing.assert_close(module(x), expected)
    assert (expected[0] - expected[1]).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("make", "last"),
    [
        (lambda: IResNet(depth=10, width=16, stem_stride=2), ("layer4.0.conv2", 64)),
        (lambda: InceptionResnetV1(width=8, aligned=True), ("block8.conv2d", 448)),
        (lambda: MobileFaceNet(width=16, repeats=(1, 1, 1, 1, 1)), ("head.conv", 128)),
    ],
)
def test_small_networks_end_in_a_map_of_seven_by_seven(
    make: Callable[[], nn.Module], last: tuple[str, int]
) -> None:
    """Of 112x112 inputs, which is 1/16."""
    with torch.device("meta"):
        table = trace_layers(make(), (3, 112, 112))
    call = table.calls[table.resolve("N")[0] - 1]
    assert isinstance(call, ConvCall)
    assert (call.name, call.channels, call.height, call.width) == (*last, 7, 7)


def test_repeats_leave_out_bottlenecks_and_nothing_else() -> None:
    """Of the stages of 5, 1, 6, 1 and 2 bottlenecks, 1, 1, 2, 1 and 1 are built."""
    with torch.device("meta"):
        full, short = MobileFaceNet(), MobileFaceNet(repeats=(1, 1, 2, 1, 1))
    blocks = [0, 5, 6, 7, 12, 13]
    for own, public in enumerate(blocks):
        mine, theirs = short.blocks[own].state_dict(), full.blocks[public].state_dict()
        assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in theirs.items()}
    assert len(short.blocks) == len(blocks)


def test_width_scales_every_stage() -> None:
    with torch.device("meta"):
        narrow = IResNet(depth=50, width=16, embedding=128)
        thin = InceptionResnetV1(width=16, embedding=64)
    state = narrow.state_dict()
    assert tuple(state["layer4.2.conv2.weight"].shape) == (128, 128, 3, 3)
    assert tuple(state["fc.weight"].shape) == (128, 128 * 49)
    assert tuple(thin.state_dict()["block8.conv2d.weight"].shape) == (896, 192, 1, 1)
    assert tuple(thin.state_dict()["last_linear.weight"].shape) == (64, 896)
