from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from facefocus.core.errors import UserError
from facefocus.models.layers import GROUPS, NAMES, ConvCall, LayerTable, trace_layers
from facefocus.models.mobilefacenet import MobileFaceNet
from facefocus.models.squeezenet import SqueezeNet
from tests.models import nets


def table_of(spatial: int, after: int = 0) -> LayerTable:
    """`spatial` calls, then `after` calls whose output is 1x1."""
    return LayerTable(
        tuple(
            ConvCall(
                i,
                "c",
                8,
                *((4, 4) if i <= spatial else (1, 1)),
                (3, 3),
                (1, 1),
                1,
                i <= spatial,
                False,
            )
            for i in range(1, spatial + after + 1)
        )
    )


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        # N of the paper's four backbones: fractions floor.
        (21, (1, 2, 3, 5, 10, 15, 19, 20, 21)),
        (53, (1, 2, 3, 13, 26, 39, 51, 52, 53)),
        (103, (1, 2, 3, 25, 51, 77, 101, 102, 103)),
        (132, (1, 2, 3, 33, 66, 99, 130, 131, 132)),
    ],
)
def test_names_of_the_papers_layers(count: int, expected: tuple[int, ...]) -> None:
    table = table_of(count)
    assert tuple(table.resolve(name)[0] for name in NAMES) == expected
    assert table.resolve("input") == expected[:3]
    assert table.resolve("middle") == expected[3:6]
    assert table.resolve("output") == expected[6:]
    assert table.resolve("all") == tuple(range(1, count + 1))
    assert table.resolve("7") == (7,)


def test_n_is_the_last_spatial_call_and_integers_count_all() -> None:
    table = table_of(8, after=2)
    assert table.resolve("N") == (8,)
    assert table.resolve("N/2") == (4,)
    assert table.resolve("10") == (10,)
    assert table.resolve("all") == tuple(range(1, 9))


def test_a_one_by_one_call_in_the_middle_is_passed_over() -> None:
    calls = table_of(6).calls
    middle = calls[:2] + table_of(0, 3).calls[2:3] + calls[3:]
    table = LayerTable(middle)
    assert table.spatial == (1, 2, 4, 5, 6)
    assert table.resolve("N/2") == (2,)
    assert table.resolve("3N/4") == (4,)  # floor(3.75) = 3rd spatial call
    assert table.names_of(3) == ["3"]
    assert table.names_of(4) == ["3N/4", "N-2"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0", "'0' does not exist in this recognizer of 10 convolutions, 8 of them spatial"),
        ("11", "'11' does not exist .* Expected an integer 1..10"),
        ("n/2", "'n/2' is unknown.* Did you mean 'N/2'"),
        ("midle", "'midle' is unknown.* Did you mean 'middle'"),
        ("-1", "'-1' is unknown"),
        ("²", "'²' is unknown"),
    ],
)
def test_unknown_names_say_what_exists(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        table_of(8, after=2).resolve(name)


def test_a_tiny_network_lacks_some_names() -> None:
    table = table_of(2)
    assert table.resolve("N-1") == (1,)
    for name in ("N/4", "N-2", "3", "middle"):
        with pytest.raises(UserError, match="does not exist in this recognizer of 2"):
            table.resolve(name)


@pytest.mark.parametrize("spatial", [0, 1, 2, 3, 4, 8])
def test_a_message_offers_only_what_is_then_taken(spatial: int) -> None:
    table = table_of(spatial, after=1)
    with pytest.raises(UserError) as caught:
        table.resolve("99")
    offered = str(caught.value).split("Expected ")[1].rstrip(".").split(", ")
    integers, *names = offered
    for name in (*re.findall(r"\d+", integers), *names):
        assert table.resolve(name)
    for name in {*NAMES[3:], *GROUPS, "all"} - set(names):
        with pytest.raises(UserError, match="does not exist"):
            table.resolve(name)
    with pytest.raises(UserError) as caught:
        table.resolve("n/2")
    assert ("Did you mean 'N/2'" in str(caught.value)) == (spatial >= 2)


def test_rows_say_what_ran() -> None:
    table = trace_layers(nets.inplace(), nets.SHAPE)
    assert table.calls == (
        ConvCall(1, "0", 4, 16, 12, (3, 3), (1, 1), 1, True, True),
        ConvCall(2, "2", 6, 8, 6, (3, 3), (2, 2), 2, True, False),
        ConvCall(3, "5", 5, 8, 6, (1, 1), (1, 1), 1, True, True),
    )


def test_an_addition_in_place_overwrites() -> None:
    table = trace_layers(nets.residual(), nets.SHAPE)
    assert [call.overwritten for call in table.calls] == [False, True]
    assert [call.name for call in table.calls] == ["first", "second"]


def test_functional_code_and_keyword_arguments() -> None:
    table = trace_layers(nets.functional(), nets.SHAPE)
    assert [(call.name, call.stride, call.channels) for call in table.convolutions] == [
        ("conv2d", (2, 2), 4),
        ("conv2d", (1, 1), 5),
    ]


def test_an_exported_program_has_the_modules_table() -> None:
    module = nets.inplace().eval()
    expected = trace_layers(module, nets.SHAPE).convolutions
    got = trace_layers(nets.exported(module), nets.SHAPE).convolutions
    assert [(c.name, c.channels, c.height, c.stride, c.groups) for c in got] == [
        (c.name, c.channels, c.height, c.stride, c.groups) for c in expected
    ]


def test_transposed_and_one_dimensional_convolutions_do_not_count() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.up = nn.ConvTranspose2d(4, 4, 2)
            self.line = nn.Conv1d(4, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.up(self.conv(x))
            x = torch.convolution(
                x, torch.ones(4, 4, 2, 2), None, [1, 1], [0, 0], [1, 1], True, [0, 0], 1
            )
            out: torch.Tensor = self.line(x.flatten(2)).mean(2)
            return out

    assert [call.name for call in trace_layers(Mixed(), nets.SHAPE).calls] == ["conv"]


def test_low_level_calls_count() -> None:
    weight = torch.ones(2, 3, 3, 3)

    def network(x: torch.Tensor) -> torch.Tensor:
        a = torch.ops.aten.conv2d(x, weight, None, [2])
        b = torch.convolution(x, weight, None, [2, 1], [0, 0], [1, 1], False, [0, 0], 1)
        c = torch.ops.aten.convolution.default(
            x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1
        )
        out: torch.Tensor = a.mean((2, 3)) + b.mean((2, 3)) + c.mean((2, 3))
        return out

    strides = [call.stride for call in trace_layers(network, nets.SHAPE).convolutions]
    assert strides == [(2, 2), (2, 1), (1, 1)]


def test_networks_without_visible_convolutions_are_refused() -> None:
    with pytest.raises(UserError, match="TorchScript, which hides its convolutions"):
        trace_layers(nets.scripted(nets.inplace()), nets.SHAPE)
    part = nn.Sequential(nets.scripted(nets.smooth().float()))
    with pytest.raises(UserError, match="TorchScript"):
        trace_layers(part, nets.SHAPE)
    with pytest.raises(UserError, match="ran no two-dimensional convolution"):
        trace_layers(nn.Sequential(nn.Flatten(), nn.Linear(576, 2)), nets.SHAPE)


@pytest.mark.parametrize(
    ("options", "width", "total"),
    [({}, 112, 50), ({"stem_pointwise": True}, 112, 51), ({"final_size": (7, 6)}, 96, 50)],
)
def test_mobilefacenet_table(options: dict[str, object], width: int, total: int) -> None:
    table = trace_layers(MobileFaceNet(**options), (3, 112, width))  # type: ignore[arg-type]
    assert len(table.calls) == total
    assert [call.name for call in table.calls if not call.spatial] == ["gdc.conv", "embed.conv"]
    last = table.calls[table.resolve("N")[0] - 1]
    assert (last.name, last.channels, last.height, last.width) == ("head.conv", 512, 7, width // 16)
    first = table.convolutions[0]
    assert (first.name, first.height, first.width, first.stride) == (
        "stem.conv", 56, width // 2, (2, 2),
    )  # fmt: skip
    assert table.convolutions[1].groups == 64
    assert not any(call.overwritten for call in table.calls)


def test_squeezenet_table() -> None:
    table = trace_layers(SqueezeNet(), (1, 128, 128))
    sizes = [(call.name, call.channels, call.height) for call in table.calls]
    assert len(sizes) == 26
    assert sizes[:5] == [
        ("gray.conv", 3, 128), ("stem.conv", 64, 63), ("fire.0.squeeze", 16, 31),
        ("fire.0.expand1", 64, 31), ("fire.0.expand3", 64, 31),
    ]  # fmt: skip
    assert sizes[8][2] == 15
    assert sizes[-1] == ("fire.7.expand3", 256, 7)
