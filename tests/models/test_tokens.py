"""Layers of transformers: where tokens lie, and what a capture of them gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.models.capture import capture
from facefocus.models.explicit_attention import ExplicitAttention
from facefocus.models.layers import LayerTable, TokenCall, trace_layers
from facefocus.models.token_grids import TokenGrid
from tests.models.transformers import (
    GRID,
    HEADS,
    SHAPE,
    WIDTH,
    EdgeFace,
    MobileVit,
    Swin,
    Vit,
    images,
    seeded,
)

#: What a block of `Vit` runs, after its convolution.
KINDS = ["norm", "attention", "norm"]


def table_of(make: type[nn.Module], **options: Any) -> LayerTable:
    return trace_layers(seeded(make, **options), SHAPE)


@pytest.mark.parametrize("attention", ["fused", "softmax", "module"])
def test_a_class_token_is_found_and_left_out(attention: str) -> None:
    table = table_of(Vit, attention=attention)
    calls = table.tokens
    assert [call.kind for call in calls] == [*KINDS, *KINDS, "norm"]
    assert [call.index for call in calls] == list(range(2, 9))
    assert all(call.grid == TokenGrid(*GRID, (0,)) for call in calls)
    assert [call.name for call in calls][::2] == [
        "blocks.0.norm1", "blocks.0.norm2", "blocks.1.attention", "norm",
    ]  # fmt: skip
    # Only the class token is read, so what comes after the last attention has no patches to show.
    assert [call.spatial for call in calls] == [True] * 5 + [False] * 2
    assert "reads none" in calls[-1].note
    assert (calls[1].read, calls[4].read) == (tuple(range(13)), (0,))
    assert table.kind == "norm"
    assert table.spatial == (2, 4, 5)
    assert table.resolve("N") == (5,)
    assert table.resolve("attention:all") == (3, 6)
    assert (calls[0].channels, calls[1].channels) == (WIDTH, HEADS * 13)


@pytest.mark.parametrize(
    ("before", "after", "extra"), [(0, 0, ()), (3, 0, (0, 1, 2)), (1, 2, (0, 13, 14))]
)
@pytest.mark.parametrize("pool", ["mean", "all"])
def test_registers_are_found_wherever_they_are(
    before: int, after: int, extra: tuple[int, ...], pool: str
) -> None:
    table = table_of(Vit, before=before, after=after, pool=pool)
    assert all(call.grid == TokenGrid(*GRID, extra) for call in table.tokens)
    assert table.resolve("N") == (8,)
    patches = tuple(range(before, before + 12))
    assert table.tokens[4].read == patches


def test_tokens_in_another_order_are_not_taken_for_rows() -> None:
    columns_first = [row * 3 + column for column in range(3) for row in range(4)]
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    for order in (columns_first, shuffled):
        calls = table_of(Vit, order=order).tokens
        assert not any(call.spatial for call in calls)
        assert "no order of rows and columns" in calls[0].note


def test_windows_are_no_layer_and_the_grid_around_them_is() -> None:
    table = table_of(Swin)
    norms = [call for call in table.tokens if call.kind == "norm"]
    assert [call.grid for call in norms] == [TokenGrid(4, 4)] * 3
    windowed = [call for call in table.tokens if call.kind == "attention"]
    assert [(call.windows, call.tokens, call.spatial) for call in windowed] == [(4, 4, False)] * 2
    assert table.kind == "norm"
    assert table.resolve("all") == (2, 4, 6)
    with pytest.raises(UserError, match=r"no map can be made at the recognizer's 2: .*windows"):
        table.attention("legrad")
    with pytest.raises(
        UserError, match=r"No map can be made at the layer '3' \(qkv.0\): .*windows"
    ):
        table.resolve("3")


def test_attentions_of_different_grids_do_not_go_together() -> None:
    calls = tuple(
        TokenCall(i, "a", "attention", side**2, side**2, 1, 0, False, TokenGrid(side, side))
        for i, side in ((1, 4), (2, 2))
    )
    with pytest.raises(UserError, match=r"different grids of patches: 4x4, 2x2\. Use grad-cam"):
        LayerTable(calls).attention("legrad")
    assert LayerTable(calls[:1]).attention("legrad") == (1,)


def test_the_patches_of_windows_have_the_values_of_the_grid() -> None:
    network = seeded(Swin)
    table = trace_layers(network, SHAPE)
    x = images(3)
    got = capture(network, x, [2], table=table)
    plain = network.norms[0](network.patches(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[operator, index]
    assert torch.equal(table.calls[1].on_grid(got.activations[2]), plain)


@pytest.mark.parametrize("make", [MobileVit, EdgeFace])
def test_hybrids_keep_their_convolutions_as_layers(make: type[nn.Module]) -> None:
    table = table_of(make)
    assert table.kind == "conv"
    convolutions = sum(call.kind == "conv" for call in table.calls)
    assert [call.kind for call in table.calls[:convolutions]] == ["conv"] * convolutions
    assert table.resolve("all") == tuple(range(1, convolutions + 1))
    # Neither attention among places of squares nor among channels shows places of the image.
    assert not any(call.spatial for call in table.tokens if call.kind == "attention")
    if make is EdgeFace:
        assert table.resolve("norm:N") == (3,)
        assert table.tokens[0].grid == TokenGrid(*GRID)


def test_calls_are_listed_as_they_run() -> None:
    table = table_of(MobileVit)
    assert [(call.index, call.kind) for call in table.in_order()] == [
        (1, "conv"), (2, "conv"), (4, "norm"), (5, "attention"), (3, "conv"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nrom:N", r"The 'kind' of a layer must be one of conv, norm, attention. Got 'nrom'"),
        ("norm:1", r"'1' is of the kind conv, not norm. Spatial calls of the kind norm: 2, 4, 5"),
        ("conv:N/2", r"'conv:N/2' does not exist in this recognizer of 1 convolutions, 5 layer"),
        ("7", r"No map can be made at the layer '7' .*the embedding reads none of its patches"),
        ("N/3", r"'N/3' is unknown. Expected an integer 1..8, N/2?"),
    ],
)
def test_wrong_names_say_what_exists(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        table_of(Vit).resolve(name)


def test_groups_of_a_transformer() -> None:
    table = table_of(Vit, pool="all", before=0)
    assert table.resolve("input") == (2, 4, 5)
    assert table.resolve("output") == (5, 7, 8)
    assert table.resolve("conv:all") == (1,)
    with pytest.raises(UserError, match="'conv:input' does not exist"):
        table.resolve("conv:input")


def by_hand(network: nn.Module, x: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
    """Embeddings and outputs 2 to 8 of `Vit` by plain operations, with their graph."""
    assert isinstance(network, Vit)
    kept: dict[int, Tensor] = {}

    def keep(index: int, value: Tensor) -> Tensor:
        kept[index] = value.requires_grad_() if value.is_leaf else value
        return value

    patches = network.patches(x).flatten(2).transpose(1, 2) + network.positions
    tokens = torch.cat([network.first.expand(len(x), -1, -1), patches], dim=1)
    for number, block in enumerate(network.blocks):
        own = block.attention
        y = keep(2 + 3 * number, block.norm1(tokens))  # type: ignore[operator]
        q, k, v = F.linear(y, own.in_proj_weight, own.in_proj_bias).chunk(3, -1)  # type: ignore[union-attr, arg-type]
        q, k, v = (z.reshape(len(x), 13, HEADS, -1).transpose(1, 2) for z in (q, k, v))
        weights = keep(3 + 3 * number, torch.softmax(q @ k.mT / 2, -1))
        tokens = tokens + own.out_proj((weights @ v).transpose(1, 2).flatten(2))  # type: ignore[union-attr, operator]
        tokens = tokens + torch.tanh(block.mlp(keep(4 + 3 * number, block.norm2(tokens))))  # type: ignore[operator]
    return network.head(keep(8, network.norm(tokens))[:, 0]), kept


@pytest.mark.parametrize("attention", ["fused", "softmax", "module"])
def test_outputs_and_gradients_are_those_of_a_plain_graph(attention: str) -> None:
    network = seeded(Vit, attention=attention).double()
    x, directions = images(3, torch.float64), images(3, torch.float64)[:, 0, 0, :5]
    wanted, kept = by_hand(network, x)
    pulls = torch.autograd.grad(wanted, list(kept.values()), directions)
    got = capture(network, x, list(kept), table=trace_layers(network, SHAPE))
    torch.testing.assert_close(got.embeddings, wanted.detach())
    gradients = got.gradients(directions)
    for (index, output), pull in zip(kept.items(), pulls, strict=True):
        torch.testing.assert_close(got.activations[index], output.detach())
        torch.testing.assert_close(gradients[index], pull)


def test_places_of_a_grid() -> None:
    """Patch r, c of [n, t, d] is token 1 + 3 r + c; an attention's is a key, by head and query."""
    calls = table_of(Vit).tokens
    norm, attention = torch.randn(2, 13, WIDTH), torch.randn(2, HEADS, 13, 13)
    features, weights = calls[0].on_grid(norm), calls[1].on_grid(attention)
    assert (features.shape, weights.shape) == ((2, WIDTH, 4, 3), (2, HEADS * 13, 4, 3))
    for row, column in ((0, 0), (2, 1), (3, 2)):
        token = 1 + 3 * row + column
        assert torch.equal(features[:, :, row, column], norm[:, token])
        assert torch.equal(weights[:, 1 * 13 + 4, row, column], attention[:, 1, 4, token])


def test_an_exported_program_has_the_modules_table_and_values() -> None:
    network = seeded(Vit, attention="fused")
    batch = torch.export.Dim("batch", min=2, max=1024)
    program = torch.export.export(network, (images(4),), dynamic_shapes=({0: batch},)).module()
    table, own = trace_layers(program, SHAPE), trace_layers(network, SHAPE)
    assert [(c.index, c.kind, c.spatial) for c in table.calls] == [
        (c.index, c.kind, c.spatial) for c in own.calls
    ]
    theirs = capture(program, images(3), [3, 5], table=table)
    ours = capture(network, images(3), [3, 5], table=own)
    for index in (3, 5):
        torch.testing.assert_close(theirs.activations[index], ours.activations[index])


@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": "bool"}, {"attn_mask": "float"},
     {"enable_gqa": True}],
)  # fmt: skip
def test_attention_written_out_is_torchs(options: dict[str, Any]) -> None:
    query, key, value = (torch.randn(2, 4, 5, 3, dtype=torch.float64) for _ in range(3))
    if options.get("enable_gqa"):
        key, value = key[:, :2], value[:, :2]
    mask = {"bool": torch.rand(5, 5) < 0.7, "float": torch.randn(5, 5, dtype=torch.float64)}
    mask["bool"].fill_diagonal_(True)
    given = {
        **options,
        **({"attn_mask": mask[options["attn_mask"]]} if "attn_mask" in options else {}),
    }
    wanted = F.scaled_dot_product_attention(query, key, value, **given)
    with ExplicitAttention():
        attended = F.scaled_dot_product_attention(query, key, value, **given)
    torch.testing.assert_close(attended, wanted)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("weights", [True, False])
def test_multi_head_attention_written_out_is_torchs(first: bool, weights: bool) -> None:
    module = nn.MultiheadAttention(8, 2, batch_first=first).eval().double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    wanted = module(x, x, x, need_weights=weights, average_attn_weights=False)
    with ExplicitAttention():
        attended = module(x, x, x, need_weights=weights, average_attn_weights=False)
        other = module(x, x[:2] if not first else x[:, :2], x[:2] if not first else x[:, :2])
    torch.testing.assert_close(attended[0], wanted[0])
    assert (attended[1] is None) == (not weights)
    if weights:
        torch.testing.assert_close(attended[1], wanted[1])
    assert other[0].shape == x.shape, "attention to other tokens is left to torch"
