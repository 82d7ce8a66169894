from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.models.capture import _padded, capture
from tests.models import nets


def by_hand(module: nn.Sequential, layers: tuple[int, ...], inputs: Tensor, directions: Tensor):  # type: ignore[no-untyped-def]
    """Outputs and gradients at children of a Sequential, by torch's ordinary retained graph."""
    module.eval()
    kept: dict[int, Tensor] = {}
    x = inputs
    for index, child in enumerate(module):
        x = child(x.clone()) if index - 1 in kept else child(x)
        if index in layers:
            x.retain_grad()
            kept[index] = x
    torch.autograd.backward((x * directions).sum())
    return [kept[index].detach() for index in layers], [kept[index].grad for index in layers]


def directions_for(count: int, length: int, seed: int = 9) -> Tensor:
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed))


def test_outputs_and_gradients_are_those_of_a_plain_graph() -> None:
    inputs, directions = nets.images(3), directions_for(3, 7)
    expected_outputs, expected = by_hand(nets.inplace(), (0, 2, 5), inputs, directions)
    got = capture(nets.inplace(), inputs, [1, 2, 3])
    gradients = got.gradients(directions)
    assert list(got.activations) == list(gradients) == [1, 2, 3]
    for index, out, gradient in zip((1, 2, 3), expected_outputs, expected, strict=True):
        torch.testing.assert_close(got.activations[index], out, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(gradients[index], gradient, rtol=1e-5, atol=1e-8)
    assert (got.activations[1] < 0).any(), "the raw output, before the in-place ReLU"


@pytest.mark.parametrize("layers", [[1], [2], [3], [1, 3], [2, 3], [3, 1, 2]])
def test_any_choice_of_layers_gives_the_same_values(layers: list[int]) -> None:
    inputs, directions = nets.images(3), directions_for(3, 7)
    whole = capture(nets.inplace(), inputs, [1, 2, 3])
    some = capture(nets.inplace(), inputs, layers)
    assert torch.equal(some.embeddings, whole.embeddings)
    gradients, expected = some.gradients(directions), whole.gradients(directions)
    assert list(gradients) == sorted(layers)
    for index in layers:
        assert torch.equal(some.activations[index], whole.activations[index])
        assert torch.equal(gradients[index], expected[index])


@pytest.mark.parametrize(("layer", "tail"), [(1, 1), (2, 3)])
def test_gradients_are_finite_differences(layer: int, tail: int) -> None:
    network = nets.smooth()
    inputs = nets.images(2, dtype=torch.float64)
    directions = directions_for(2, 4).double()
    got = capture(network, inputs, [layer])
    gradient = got.gradients(directions)[layer]
    activation, step = got.activations[layer], 1e-6
    rest = network[tail:]
    with torch.no_grad():
        for position in product(*map(range, activation.shape)):
            ahead, behind = activation.clone(), activation.clone()
            ahead[position] += step
            behind[position] -= step
            slope = ((rest(ahead) - rest(behind)) * directions).sum() / (2 * step)
            assert gradient[position].item() == pytest.approx(slope.item(), abs=1e-8)


def test_gradients_are_linear_and_can_be_asked_many_times() -> None:
    got = capture(nets.inplace(), nets.images(2), [2])
    left, right = directions_for(2, 7, 1), directions_for(2, 7, 2)
    first = got.gradients(left)[2]
    torch.testing.assert_close(
        got.gradients(3 * left - right)[2],
        3 * first - got.gradients(right)[2],
        rtol=1e-4,
        atol=1e-6,
    )
    assert torch.equal(got.gradients(left)[2], first)
    assert (got.gradients(torch.zeros(2, 7))[2] == 0).all()


def test_each_image_has_its_own_gradient() -> None:
    got = capture(nets.inplace(), nets.images(3), [2])
    directions = directions_for(3, 7)
    directions[1] = 0
    gradient = got.gradients(directions)[2]
    assert (gradient[1] == 0).all()
    assert gradient[0].abs().max() > 0
    assert gradient[2].abs().max() > 0


def test_addition_in_place_on_a_captured_output() -> None:
    """y = conv(x); y += x; relu_(y); mean; fc: the gradient is W'd / (h w) where y + x > 0."""
    network = nets.residual()
    assert isinstance(network, nets.Residual)
    inputs, directions = nets.images(2), directions_for(2, 5)
    got = capture(network, inputs, [1, 2])
    with torch.no_grad():
        first = network.first(inputs)
        second = network.second(torch.tanh(first))
        active = (second + torch.tanh(first)) > 0
        pulled = (directions @ network.fc.weight)[:, :, None, None] / (8 * 6)
    torch.testing.assert_close(got.activations[2], second)
    torch.testing.assert_close(got.gradients(directions)[2], active * pulled)
    again = capture(network, inputs, [2])
    torch.testing.assert_close(again.gradients(directions)[2], active * pulled)


def test_functional_code() -> None:
    network, inputs = nets.functional(), nets.images(3)
    got = capture(network, inputs, [2])
    assert torch.equal(got.embeddings, network(inputs).detach())
    out = got.activations[2]
    directions = directions_for(3, 5)
    expected = 2 * out * directions[:, :, None, None] / out[0, 0].numel()
    torch.testing.assert_close(got.gradients(directions)[2], expected)


def test_an_exported_program_gives_the_modules_values() -> None:
    module = nets.inplace().eval()
    program = nets.exported(nets.inplace())
    inputs, directions = nets.images(3), directions_for(3, 7)
    expected, got = capture(module, inputs, [1, 2, 3]), capture(program, inputs, [1, 2, 3])
    torch.testing.assert_close(got.embeddings, expected.embeddings)
    theirs, ours = expected.gradients(directions), got.gradients(directions)
    for index in (1, 2, 3):
        torch.testing.assert_close(got.activations[index], expected.activations[index])
        torch.testing.assert_close(ours[index], theirs[index])


def test_torchscript_is_refused() -> None:
    with pytest.raises(UserError, match=r"TorchScript.*torch\.export program"):
        capture(nets.scripted(nets.inplace()), nets.images(2), [1])


def test_nothing_is_recorded_before_the_earliest_layer() -> None:
    """Outputs before the strided second convolution have 16 rows, everything after it 8."""
    for network in (nets.inplace(), nets.inplace().requires_grad_(False)):
        saved: list[int] = []

        def pack(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.shape[2] if tensor.dim() == 4 else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            capture(network, nets.images(2), [2])
        assert 8 in saved
        assert 16 not in saved


@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_alone_has_the_values_it_has_in_company(threads: int) -> None:
    torch.set_num_threads(threads)
    inputs, directions = nets.images(5), directions_for(5, 7)
    whole = capture(nets.inplace(), inputs, [1, 2])
    for index in range(5):
        part = slice(index, index + 1)
        alone = capture(nets.inplace(), inputs[part], [1, 2])
        assert alone.embeddings.shape == (1, 7)
        assert torch.equal(alone.embeddings, whole.embeddings[part])
        for layer, gradient in alone.gradients(directions[part]).items():
            assert torch.equal(alone.activations[layer], whole.activations[layer][part])
            assert torch.equal(gradient, whole.gradients(directions)[layer][part])


def test_captures_on_a_gpu_have_as_many_images_as_any_may_have() -> None:
    images = torch.empty(3, 3, 8, 8, device="meta", dtype=torch.float32)
    assert _padded(images, 64).shape == (64, 3, 8, 8)
    assert _padded(images, 3).shape == (3, 3, 8, 8)
    assert len(_padded(torch.zeros(3, 3, 8, 8), 64)) <= 16


def test_a_layer_without_influence_has_gradient_zero() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Conv2d(3, 2, 3)
            self.unused = nn.Conv2d(3, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.unused(x)
            out: Tensor = self.used(x).mean((2, 3))
            return out

    gradients = capture(Aside(), nets.images(2), [1, 2]).gradients(torch.ones(2, 2))
    assert (gradients[1] == 0).all()
    torch.testing.assert_close(gradients[2], torch.full((2, 2, 14, 10), 1 / 140))


def test_closing_frees_the_graph() -> None:
    with capture(nets.inplace(), nets.images(2), [1]) as got:
        got.gradients(torch.ones(2, 7))
    assert got.embeddings.shape == (2, 7)
    with pytest.raises(UserError, match="closed"):
        got.gradients(torch.ones(2, 7))


@pytest.mark.parametrize(
    ("layers", "message"),
    [([0], "must be in 1..3. Got 0"), ([2, 4], "must be in 1..3. Got 4"), ([], "Got none")],
)
def test_wrong_layers_are_named(layers: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        capture(nets.inplace(), nets.images(2), layers)


def test_wrong_directions_are_named() -> None:
    with pytest.raises(UserError, match=r"shape \(2, 7\). Got \(2, 6\)"):
        capture(nets.inplace(), nets.images(2), [1]).gradients(torch.ones(2, 6))


def test_networks_that_hide_their_gradients_are_refused() -> None:
    network = nets.inplace()
    with pytest.raises(UserError, match="turns gradients off"):
        capture(torch.no_grad()(network.forward), nets.images(2), [1])
    with pytest.raises(UserError, match=r"\[n, d\], n = 16 here. Got \(16, 5, 1, 1\)"):
        capture(lambda x: network[:7](x).mean((2, 3), keepdim=True), nets.images(16), [1])

    def tiled(x: Tensor) -> Tensor:
        out: Tensor = network(torch.cat([x, x]))
        return out[: len(x)]

    with pytest.raises(UserError, match="ran on a batch of 32 for 16 images"):
        capture(tiled, nets.images(16), [1])


def test_inference_mode_outside_does_not_matter() -> None:
    network = nets.inplace()
    expected = capture(network, nets.images(2), [1]).gradients(torch.ones(2, 7))[1]
    with torch.inference_mode():
        got = capture(network, nets.images(2), [1])
        assert torch.is_inference_mode_enabled()
    assert torch.equal(got.gradients(torch.ones(2, 7))[1], expected)


def test_a_network_may_overwrite_its_input() -> None:
    body = nets.inplace().eval()
    inputs = nets.images(3)
    got = capture(lambda x: body(x.mul_(2)), inputs, [1])
    assert torch.equal(inputs, nets.images(3))
    assert torch.equal(got.embeddings, capture(body, 2 * inputs, [1]).embeddings)


class Failing(nn.Module):
    """Fails after its convolutions ran."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nets.inplace()

    def forward(self, x: Tensor) -> Tensor:
        self.body(x)
        raise RuntimeError("out of cheese")


def mixed(module: nn.Module) -> None:
    for index, child in enumerate(module.modules()):
        child.training = index % 2 == 0
    for index, parameter in enumerate(module.parameters()):
        parameter.requires_grad_(index % 3 != 0)
        if index % 2:
            parameter.grad = torch.full_like(parameter, 0.5)
    next(module.children()).register_forward_hook(lambda *_: None)


STATES: dict[str, Callable[[nn.Module], Any]] = {
    "training": lambda module: module.train(),
    "evaluating": lambda module: module.eval(),
    "frozen": lambda module: module.requires_grad_(False),
    "mixed": mixed,
}


def good(module: nn.Module) -> None:
    capture(module, nets.images(3), [1, 3]).gradients(torch.ones(3, 7))


def wrong_layer(module: nn.Module) -> None:
    with pytest.raises(UserError, match="must be in"):
        capture(module, nets.images(3), [9])


def failing_forward(module: nn.Module) -> None:
    with pytest.raises(RuntimeError):
        capture(module, torch.zeros(3, 4, 5, 5), [1])


def wrong_directions(module: nn.Module) -> None:
    got = capture(module, nets.images(3), [1])
    with pytest.raises(UserError):
        got.gradients(torch.ones(1, 1))


def failing_tail(module: nn.Module) -> None:
    outer = Failing()
    outer.body = module  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="out of cheese"):
        capture(outer, nets.images(3), [1])


def trace_of(module: nn.Module) -> list[object]:
    """Everything about a module, and about torch, that a capture might leave changed."""
    trace: list[object] = [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
    trace.append(torch._C._len_torch_function_stack())
    trace.append(torch.get_rng_state().tolist())
    for child in module.modules():
        hooks = (value for name, value in vars(child).items() if name.endswith("_hooks"))
        trace.append((child.training, [list(hook) for hook in hooks if hook is not None]))
        trace.append(sorted(vars(child)))
    for name, parameter in module.named_parameters():
        gradient = None if parameter.grad is None else parameter.grad.tolist()
        trace.append((name, id(parameter), parameter.requires_grad, gradient))
    trace.extend((key, value.tolist()) for key, value in module.state_dict().items())
    return trace


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize(
    "action", [good, wrong_layer, failing_forward, wrong_directions, failing_tail]
)
@pytest.mark.parametrize("state", STATES)
def test_the_module_is_left_as_found(
    state: str, action: Callable[[nn.Module], None], grad: bool
) -> None:
    module = nets.inplace()
    STATES[state](module)
    with torch.set_grad_enabled(grad):
        if action is failing_tail:
            Failing()  # draws its weights before the state of torch is noted
        before = trace_of(module)
        if action is failing_tail:
            with torch.random.fork_rng():
                action(module)
        else:
            action(module)
        assert trace_of(module) == before
