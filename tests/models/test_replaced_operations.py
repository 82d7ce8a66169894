"""The replacements give torch's own bits: outputs, gradients, and rows in any company."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facefocus.models.capture import capture
from facefocus.models.replaced_operations import ReplacedOperations
from tests.models import nets


def gradient_of(work: Callable[[Tensor], Tensor], x: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    out = work(leaf)
    return out.detach(), torch.autograd.grad(out, leaf, seed)[0]


SPECIAL = [0.0, -0.0, 1.0, -1.0, torch.inf, -torch.inf, torch.nan, 1e-45, -1e-45]


@pytest.mark.parametrize(
    "weight", [torch.tensor([0.25, -0.5, 1.5, 0.0, 1.0]), torch.tensor([0.25])], ids=["each", "one"]
)
@pytest.mark.parametrize("last", [torch.contiguous_format, torch.channels_last])
def test_prelu_has_torchs_bits(weight: Tensor, last: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 7, 6, generator=generator)
    x.view(-1)[: len(SPECIAL)] = torch.tensor(SPECIAL)
    seed = torch.randn(x.shape, generator=generator).contiguous(memory_format=last)
    x = x.contiguous(memory_format=last)

    def work(given: Tensor) -> Tensor:
        return F.prelu(given, weight)

    expected = gradient_of(work, x, seed)
    with ReplacedOperations():
        gradients = gradient_of(work, x, seed)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert torch.equal(ours.nan_to_num(123.0), theirs.nan_to_num(123.0))


def test_prelu_takes_no_time_for_its_frozen_weight_and_leaves_others_alone() -> None:
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    frozen, learning = torch.full((3,), 0.25), torch.full((3,), 0.25, requires_grad=True)
    with ReplacedOperations():
        assert type(F.prelu(x, frozen).grad_fn).__name__ == "_PreluBackward"
        assert type(F.prelu(x, learning).grad_fn).__name__ == "PreluKernelBackward0"
        assert F.prelu(x.detach(), frozen).grad_fn is None
        with torch.no_grad():
            assert F.prelu(x, frozen).grad_fn is None


@pytest.mark.parametrize("shape", [(3, 5, 7, 6), (16, 64, 28, 28), (2, 130, 1, 1), (4, 19)])
@pytest.mark.parametrize("last", [False, True])
def test_batch_norm_has_torchs_bits(shape: tuple[int, ...], last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, seed = (torch.randn(shape, generator=generator) for _ in range(2))
    x.view(-1)[: len(SPECIAL)] = torch.tensor(SPECIAL)
    weight, bias, mean = (torch.randn(shape[1], generator=generator) for _ in range(3))
    variance = torch.rand(shape[1], generator=generator) ** 4
    if last and len(shape) == 4:
        x, seed = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, seed))

    def work(given: Tensor) -> Tensor:
        return F.relu_(F.batch_norm(given, mean, variance, weight, bias, False, 0.1, 1e-5))

    expected = gradient_of(work, x, seed)
    with ReplacedOperations():
        gradients = gradient_of(work, x, seed)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert torch.equal(ours.nan_to_num(123.0), theirs.nan_to_num(123.0))
        assert ours.stride() == theirs.stride()


def test_batch_norm_is_left_alone_where_it_learns_or_counts() -> None:
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    frozen, learning = torch.ones(3), torch.ones(3, requires_grad=True)

    def norm(weight: Tensor, training: bool) -> str:
        zeros = torch.zeros(3)
        out = F.batch_norm(x, zeros, torch.ones(3), weight, zeros, training)
        return type(out.grad_fn).__name__

    with ReplacedOperations():
        assert norm(frozen, training=False) == "_BatchNormBackward"
        assert norm(frozen, training=True) == "NativeBatchNormBackward0"
        assert norm(learning, training=False) == "NativeBatchNormBackward0"


@pytest.mark.parametrize("threads", [1, 2])
def test_few_rows_of_a_linear_layer_have_the_bits_of_a_chunk(threads: int) -> None:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(512, 6272, generator=generator)
    bias = torch.randn(512, generator=generator)
    x = torch.randn(16, 6272, generator=generator)
    seed = torch.randn(16, 512, generator=generator)

    def work(given: Tensor) -> Tensor:
        return F.linear(given, weight, bias)

    with ReplacedOperations():
        whole = gradient_of(work, x, seed)
        for count in (1, 2, 5, 15):
            part = gradient_of(work, x[:count], seed[:count])
            assert torch.equal(part[0], whole[0][:count])
            assert torch.equal(part[1], whole[1][:count])
    assert torch.equal(gradient_of(work, x, seed)[0], whole[0])


def test_exported_programs_run_on_them_too() -> None:
    program, inputs = nets.exported(nets.inplace()), nets.images(3)
    got = capture(program, inputs, [1])
    plain = nets.inplace().eval()
    expected = capture(plain, inputs, [1])
    directions = torch.ones(3, 7)
    torch.testing.assert_close(got.gradients(directions)[1], expected.gradients(directions)[1])
