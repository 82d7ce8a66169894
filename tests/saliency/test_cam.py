from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.saliency.cam import (
    bounded_plus_plus,
    grad_cam,
    grad_cam_plus_plus,
    layer_cam,
)
from facefocus.saliency.explainer import Needs
from facefocus.saliency.methods import METHODS, Choice, GradientMethod, Method

# One image, two channels of 2x2. mean(g_0) = 0.032 / 4 = 0.008, mean(g_1) = 0; S = (7, 12).
A = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]], [[0.0, 5.0], [5.0, 2.0]]]])
G = torch.tensor([[[[0.128, 0.0], [0.0, -0.096]], [[0.0, -0.096], [0.096, 0.0]]]])


def close(saliency: Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(saliency.float(), torch.tensor([expected]), rtol=1e-5, atol=1e-9)


def plus_plus(activation: Tensor, gradient: Tensor, variant: str) -> Tensor:
    return grad_cam_plus_plus(activation, gradient, {"variant": variant})


def test_grad_cam_by_hand() -> None:
    # 0.008 * A_0 + 0 * A_1
    close(grad_cam(A, G, {}), [[0.024, 0.0], [0.0, 0.032]])


def test_grad_cam_is_rectified() -> None:
    # mean(g) = 0.5 and -0.25: 0.5 * 2 - 0.25 * 8 = -1 -> 0; 0.5 * 4 - 0.25 * 4 = 1.
    a = torch.tensor([[[[2.0, 4.0]], [[8.0, 4.0]]]])
    g = torch.tensor([[[[1.0, 0.0]], [[-0.25, -0.25]]]])
    close(grad_cam(a, g, {}), [[0.0, 1.0]])


def test_layer_cam_by_hand() -> None:
    # relu(g_0) A_0 = 0.128 * 3 at (0, 0); relu(g_1) A_1 = 0.096 * 5 at (1, 0).
    close(layer_cam(A, G, {}), [[0.384, 0.0], [0.48, 0.0]])


def test_layer_cam_is_rectified_after_the_sum() -> None:
    # 1 * -3 + 1 * 2 = -1 -> 0; 1 * -1 + 1 * 2 = 1 (rectifying each term first would give 2, 2).
    a = torch.tensor([[[[-3.0, -1.0]], [[2.0, 2.0]]]])
    close(layer_cam(a, torch.ones_like(a), {}), [[0.0, 1.0]])


def test_grad_cam_plus_plus_equation_by_hand() -> None:
    # weight_0 = .128 / (2 + 7 * .128) = .128 / 2.896
    # weight_1 = .096 / (2 + 12 * .096) = .096 / 3.152
    w0, w1 = 0.128 / 2.896, 0.096 / 3.152
    close(plus_plus(A, G, "equation"), [[3 * w0, 5 * w1], [5 * w1, 4 * w0 + 2 * w1]])


def test_grad_cam_plus_plus_epsilon_by_hand() -> None:
    # g = .001 in both pixels, S = 1000: g^2 = 1e-6, S g^3 = 1e-6.
    # alpha = 1e-6 / (2e-6 + 1e-6 + 1e-6) = 1/4; weight = 2 * .001 / 4 = .0005.
    a, g = torch.tensor([[[[400.0, 600.0]]]]), torch.full((1, 1, 1, 2), 0.001)
    close(plus_plus(a, g, "epsilon"), [[0.2, 0.3]])
    # Without the constant alpha = 1 / (2 + 1) = 1/3: weight = .002 / 3.
    close(plus_plus(a, g, "equation"), [[0.8 / 3, 1.2 / 3]])


def test_grad_cam_plus_plus_normalized_by_hand() -> None:
    # S = 4. g = (1, .5, -1): alphas that enter: 1 / (2 + 4) = 1/6 and 1 / (2 + 2) = 1/4;
    # their sum is 5/12, normalized .4 and .6; weight = .4 * 1 + .6 * .5 = .7.
    a, g = torch.tensor([[[[1.0, 3.0, 0.0]]]]), torch.tensor([[[[1.0, 0.5, -1.0]]]])
    close(plus_plus(a, g, "normalized"), [[0.7, 2.1, 0.0]])
    # The sums of the other variant: 1/6 + 1/8 = 7/24.
    close(plus_plus(a, g, "equation"), [[7 / 24, 21 / 24, 0.0]])


def test_a_channel_without_positive_gradient_has_no_weight() -> None:
    a, g = torch.ones(1, 1, 2, 2), -torch.ones(1, 1, 2, 2)
    for variant in ("equation", "epsilon", "normalized"):
        close(plus_plus(a, g, variant), [[0.0, 0.0], [0.0, 0.0]])


def test_equation_is_exact_where_public_formulas_lose_everything() -> None:
    # g = 1e-12: g^2 and g^3 vanish beside any epsilon; 1 / (2 + S g) does not. S = 3, weight = g.
    a, g = torch.tensor([[[[1.0, 2.0]]]]), torch.full((1, 1, 1, 2), 1e-12)
    close(plus_plus(a, g, "equation") * 1e12, [[1.0, 2.0]])


@pytest.mark.parametrize("variant", ["equation", "normalized"])
def test_a_vanishing_denominator_that_enters_makes_the_map_nan(variant: str) -> None:
    # S = -4, g = .5: 2 - 2 = 0. The second image is sound and stays so.
    a = torch.tensor([[[[-3.0, -1.0]]], [[[1.0, 3.0]]]])
    g = torch.tensor([[[[0.5, 0.0]]], [[[0.5, 0.0]]]])
    saliency = plus_plus(a, g, variant)
    assert saliency[0].isnan().all()
    assert saliency[1].isfinite().all() and saliency[1].max() > 0


@pytest.mark.parametrize("variant", ["equation", "normalized"])
def test_a_vanishing_denominator_without_weight_does_not_count(variant: str) -> None:
    # S = 4 and g = -.5: alpha is infinite there, but relu(g) = 0, so it is no part of the sum.
    # At g = .5: alpha = 1 / 4, weight = .125 (normalized: .5).
    weight = {"equation": 0.125, "normalized": 0.5}[variant]
    a, g = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.5, -0.5]]]])
    close(plus_plus(a, g, variant), [[weight, 3 * weight]])


def test_a_negative_denominator_is_taken_as_it_is() -> None:
    # S = -8, g = .5: alpha = 1 / (2 - 4) = -.5, weight = -.25; times A = (-2, -6).
    a, g = torch.tensor([[[[-2.0, -6.0]]]]), torch.tensor([[[[0.5, 0.0]]]])
    close(plus_plus(a, g, "equation"), [[0.5, 1.5]])


# Near a vanishing denominator ---------------------------------------------------------------------


def bounded(activation: Tensor, gradient: Tensor, variant: str) -> tuple[Tensor, Tensor]:
    return bounded_plus_plus(activation, gradient, {"variant": variant})


def near_a_pole() -> tuple[Tensor, Tensor]:
    """Two channels of 16 x 16; in the first, 2 + S g is some -3e-6 at one pixel."""
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(1, 2, 16, 16, generator=rng)
    g = 0.02 * torch.rand(1, 2, 16, 16, generator=rng)
    a[0, 0] -= 1.0
    total = float(a[0, 0].double().sum())
    g[0, 0, 3, 3] = -2.0 / total * (1 + 1.5e-6)
    return a, g


def exact_map(a: Tensor, g: Tensor) -> Tensor:
    """The definition in fractions: no rounding but the last."""
    zero = Fraction(0)
    total = [zero] * a[0, 0].numel()
    for channel, gradients in zip(a[0].flatten(1).tolist(), g[0].flatten(1).tolist(), strict=True):
        values = [Fraction(x) for x in channel]
        s = sum(values, zero)
        positive = [Fraction(x) for x in gradients if x > 0]
        weight = sum((x * x / (2 * x * x + s * x**3) * x for x in positive), zero)
        total = [partial + weight * value for partial, value in zip(total, values, strict=True)]
    saliency = torch.tensor([float(max(zero, value)) for value in total], dtype=torch.float64)
    return saliency.reshape(a[0, 0].shape)


def test_a_denominator_near_zero_is_exact() -> None:
    """In float32, the sum of A alone is off by more than this denominator."""
    a, g = near_a_pole()
    denominator = 2 + float(a[0, 0].double().sum()) * float(g[0, 0, 3, 3])
    assert -1e-5 < denominator < -1e-6
    saliency = plus_plus(a, g, "equation")[0]
    torch.testing.assert_close(saliency, exact_map(a, g), rtol=1e-6, atol=0)


def test_the_bound_by_hand() -> None:
    # S = 4, g = (.5, 0): D = 4, S g = 2: 2 g e / (4 - 2 e)^2 = e / 16; the largest |A| is 3.
    a, g = torch.tensor([[[[3.0, 1.0]]]]), torch.tensor([[[[0.5, 0.0]]]])
    maps, change = bounded(a, g, "equation")
    close(maps, [[0.375, 0.125]])
    torch.testing.assert_close(change, torch.tensor([3e-6 / 16]).double(), rtol=1e-5, atol=0)
    # S = -4 and the float32 after .5: D = -2.4e-7, and S g may be off by 2e-6: D may vanish.
    a = torch.tensor([[[[-3.0, -1.0]]]])
    g = torch.nextafter(torch.tensor([[[[0.5, 0.0]]]]), torch.tensor(1.0)) * (g > 0)
    maps, change = bounded(a, g, "equation")
    assert maps.isfinite().all() and change.isinf().all()


@pytest.mark.parametrize("variant", ["equation", "epsilon", "normalized"])
def test_no_error_of_a_millionth_changes_a_map_by_more_than_the_bound(variant: str) -> None:
    """Random signs, and all alike; S is some -8 to 8 and g to 1, so that denominators vanish."""
    rng = torch.Generator().manual_seed(2)
    scale = {"equation": 1.0, "epsilon": 1e-3, "normalized": 1.0}[variant]
    a = torch.randn(300, 3, 4, 4, generator=rng).double() / scale
    g = torch.randn(300, 3, 4, 4, generator=rng).double() * scale
    maps, bound = bounded(a, g, variant)
    largest = torch.zeros(300).double()
    alike = [torch.full_like(g, -1.0), torch.full_like(g, 1.0)]
    mixed = [2.0 * torch.randint(0, 2, g.shape, generator=rng).double() - 1 for _ in range(10)]
    for signs in alike + mixed:
        moved, _ = bounded(a, g * (1 + 1e-6 * signs), variant)
        largest = torch.maximum(largest, (moved - maps).abs().amax(dim=(1, 2)))
    usable = largest.isfinite()
    assert (largest <= bound * (1 + 1e-4) + 1e-13)[usable].all()
    # And it is no wild guess: a tenth of it is reached in the middle of the maps.
    reached = (largest / bound)[usable & bound.isfinite() & (bound > 0)]
    assert reached.median() > 0.1


def test_a_method_says_which_maps_are_ill_conditioned() -> None:
    method = METHODS["grad-cam++"]
    assert isinstance(method, GradientMethod)
    near = torch.cat([*near_a_pole()], dim=0)
    a, g = near[:1].repeat(2, 1, 1, 1), near[1:].repeat(2, 1, 1, 1)
    g[1, 0, 3, 3] = 0.01
    maps, ill = method.maps(a, g, {"variant": "equation"})
    assert ill.tolist() == [True, False] and maps.isfinite().all()
    other = METHODS["layer-cam"]
    assert isinstance(other, GradientMethod)
    assert other.maps(a, g, {})[1].tolist() == [False, False]


def every_cam() -> list[tuple[str, dict[str, str]]]:
    cams: list[tuple[str, dict[str, str]]] = []
    for name in METHODS:
        method = METHODS[name]
        if isinstance(method, GradientMethod):
            variant = method.options.get("variant")
            variants = variant.allowed if isinstance(variant, Choice) else ()
            cams += [(name, {"variant": value}) for value in variants] or [(name, {})]
    return cams


@pytest.mark.parametrize(("name", "options"), every_cam())
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["activation", "gradient"])
def test_what_is_not_finite_never_becomes_a_number(
    name: str, options: dict[str, str], bad: float, where: str
) -> None:
    method = METHODS[name]
    assert isinstance(method, GradientMethod)
    a, g = A.clone(), G.clone()
    if where == "activation":
        a[0, 0, 0, 0] = bad
    else:
        g[0, 0, 0, 0] = bad
    saliency = method.function(a, g, options)
    if name == "layer-cam" and where == "gradient" and bad < 0:
        close(saliency, [[0.0, 0.0], [0.48, 0.0]])  # relu(-infinity) is 0 by definition
    elif name == "grad-cam++" and where == "gradient" and bad < 0:
        assert saliency.isfinite().all()
    else:
        assert not saliency.isfinite().all()


@pytest.mark.parametrize(("name", "options"), every_cam())
def test_images_threads_and_memory_layout_do_not_mix(name: str, options: dict[str, str]) -> None:
    method = METHODS[name]
    assert isinstance(method, GradientMethod)
    rng = torch.Generator().manual_seed(1)
    a, g = (torch.randn(7, 24, 14, 14, generator=rng) for _ in range(2))
    for layout in (torch.contiguous_format, torch.channels_last):
        x, y = a.contiguous(memory_format=layout), g.contiguous(memory_format=layout)
        whole = method.function(x, y, options)
        alone = torch.cat([method.function(x[i : i + 1], y[i : i + 1], options) for i in range(7)])
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        single = method.function(x, y, options)
        torch.set_num_threads(threads)
        assert torch.equal(whole, alone) and torch.equal(whole, single)
        assert torch.equal(x, a) and torch.equal(y, g)  # inputs are left alone


@pytest.mark.parametrize("factor", [1e-3, 64.0])
@pytest.mark.parametrize(("name", "options"), every_cam())
def test_scale_invariance_is_as_declared(name: str, options: dict[str, str], factor: float) -> None:
    method = METHODS[name]
    assert isinstance(method, GradientMethod)
    single, many = method.function(A, G, options), method.function(A, G * factor, options)
    same = torch.allclose(single / single.max(), many / many.max(), rtol=1e-4, atol=1e-6)
    # One alpha per channel normalizes to 1, so that variant is blind to the scale on this input.
    assert same == (method.scale_invariant or options == {"variant": "normalized"})


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.third = nn.Conv2d(8, 4, 3, padding=1)
        self.out = nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).tanh()).tanh()
        return torch.as_tensor(self.out(self.third(x).tanh().flatten(1)))


@pytest.mark.parametrize("layer", ["first", "second", "third"])
def test_grad_cam_equals_captum(layer: str) -> None:
    torch.manual_seed(3)
    net, images, reference = Net(), torch.randn(4, 3, 8, 8), torch.randn(1, 5)

    def forward(x: Tensor) -> Tensor:
        return torch.cosine_similarity(net(x), reference)

    module = getattr(net, layer)
    expected = LayerGradCam(forward, module).attribute(images, relu_attributions=True)
    kept: list[Tensor] = []
    with module.register_forward_hook(lambda _m, _i, out: kept.append(out)):
        value = forward(images)
    (gradient,) = torch.autograd.grad(value.sum(), kept[0])
    saliency = grad_cam(kept[0].detach(), gradient, {})
    assert saliency.max() > 0
    torch.testing.assert_close(saliency, expected[:, 0].detach(), rtol=1e-4, atol=1e-7)


def test_the_registry_holds_the_cams() -> None:
    for name, invariant in [("grad-cam", True), ("layer-cam", True), ("grad-cam++", False)]:
        method = METHODS[name]
        assert isinstance(method, GradientMethod) and isinstance(method, Method)
        assert (method.name, method.kind, method.scale_invariant) == (name, "gradient", invariant)
        assert isinstance(method.version, int) and method.version >= 1
        assert method.needs({}) == Needs(layer=True, objective=True, pairs=True, gradients=True)


def test_options_are_resolved_and_checked() -> None:
    method = METHODS["grad-cam++"]
    assert isinstance(method, GradientMethod)
    assert method.resolve_options({}) == {"variant": "equation"}
    assert method.resolve_options({"variant": "epsilon"}) == {"variant": "epsilon"}
    with pytest.raises(UserError, match=r"has no option 'varient'.*Did you mean 'variant'"):
        method.resolve_options({"varient": "epsilon"})
    with pytest.raises(UserError, match=r"one of equation, epsilon, normalized\. Got 'epsilom'"):
        method.resolve_options({"variant": "epsilom"})
