"""Class activation maps (Protocol: class-activation-maps).

Pure functions: each takes the activation A and the objective's gradient g at one layer, both
[n, K, h, w], and gives the maps [n, h, w] before normalization. Each image is computed on its own,
in an order of additions that neither its neighbours nor the number of threads change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facefocus.saliency.explainer import Options
from facefocus.saliency.methods import (
    GRADIENT_ERROR,
    METHODS,
    BoundedFunction,
    CamFunction,
    Choice,
    GradientMethod,
    Option,
    Preset,
)

#: The constant that the "epsilon" variant of Grad-CAM++ adds, as public implementations do.
EPSILON = 1e-6
#: When the power iteration of EigenCAM ends: residual as a share of the eigenvalue, or steps.
TOLERANCE, ITERATIONS = 1e-9, 10_000


def gradient_method(
    name: str,
    *,
    version: int,
    scale_invariant: bool,
    options: Mapping[str, Option] | None = None,
    bounded: BoundedFunction | None = None,
) -> Callable[[CamFunction], CamFunction]:
    """Decorator that registers a CAM function under `name` as a `GradientMethod`."""

    def add(function: CamFunction) -> CamFunction:
        method = GradientMethod(name, function, version, scale_invariant, options or {}, bounded)
        METHODS.add(name, method)
        return function

    return add


def _positive_part(sums: Tensor) -> Tensor:
    """relu that turns minus infinity into NaN, not into a plausible 0."""
    return sums.relu().where(sums.isfinite(), torch.nan)


def _weighted(activation: Tensor, weights: Tensor) -> Tensor:
    """relu(sum_k weight_k A_k); a non-finite weight leaves no finite pixel.

    A plain sum instead of a matrix product: the libraries' products may add in another order for
    other batches or threads.
    """
    return _positive_part((activation * weights[:, :, None, None]).sum(dim=1))


@gradient_method("grad-cam", version=1, scale_invariant=True)
def grad_cam(
    activation: Float[Tensor, "n k h w"], gradient: Float[Tensor, "n k h w"], options: Options
) -> Float[Tensor, "n h w"]:
    """Grad-CAM (Selvaraju et al., 2017): relu(sum_k mean(g_k) A_k)."""
    return _weighted(activation, gradient.mean(dim=(2, 3)))


@gradient_method("layer-cam", version=1, scale_invariant=True)
def layer_cam(
    activation: Float[Tensor, "n k h w"], gradient: Float[Tensor, "n k h w"], options: Options
) -> Float[Tensor, "n h w"]:
    """LayerCAM (Jiang et al., 2021): relu(sum_k relu(g_k) * A_k)."""
    return _positive_part(gradient.relu().mul_(activation).sum(dim=1))


#: LEAM: LayerCAM with the cosine at an early layer. Of single layers, 3 is the paper's best for
#: LayerCAM (its Table 7).
METHODS.add("leam", Preset("leam", method="layer-cam", layer="3", objective="cosine"))


@gradient_method("hires-cam", version=1, scale_invariant=True)
def hires_cam(
    activation: Float[Tensor, "n k h w"], gradient: Float[Tensor, "n k h w"], options: Options
) -> Float[Tensor, "n h w"]:
    """HiResCAM (Draelos and Carin, 2020): relu(sum_k g_k * A_k)."""
    return _positive_part((gradient * activation).sum(dim=1))


@gradient_method("eigen-cam", version=1, scale_invariant=True)
def eigen_cam(
    activation: Float[Tensor, "n k h w"], gradient: Float[Tensor, "n k h w"], options: Options
) -> Float[Tensor, "n h w"]:
    """EigenCAM (Muhammad and Yeasin, 2020): A on its first principal component over channels.

    Positions are the samples, channels the variables, each centered. Signed, not rectified; the
    component's sign is that with which the map goes along with sum_k |A_k|: covariance >= 0.
    It explains no similarity: the gradient only says, where it is not finite, that there is no
    map.
    """
    maps = torch.full_like(activation[:, 0], torch.nan)
    for target, a, g in zip(maps, activation, gradient, strict=True):
        if bool(a.isfinite().all() & g.isfinite().all()):
            target.copy_(torch.from_numpy(_principal(a.double().cpu().numpy())))
    return maps


def _principal(activation: Float[np.ndarray, "k h w"]) -> Float[np.ndarray, "h w"]:
    """Centered positions times the first principal axis.

    Power iteration on the smaller Gram matrix in plain sums: what LAPACK and BLAS return may
    change with the number of threads.
    """
    channels, height, width = activation.shape
    samples = np.ascontiguousarray(activation).reshape(channels, height * width)
    centered = samples - samples.mean(axis=1, keepdims=True)
    if channels <= height * width:
        axis = _leading(np.einsum("ip,jp->ij", centered, centered))
        scores = np.einsum("i,ip->p", axis, centered)
    else:
        left = _leading(np.einsum("ip,iq->pq", centered, centered))
        # left is the unit vector of scores; its axis' length is their size.
        scores = left * np.sqrt(np.square(np.einsum("ip,p->i", centered, left)).sum())
    if (scores * np.abs(samples).sum(axis=0)).sum() < 0:
        scores = -scores
    on_grid: np.ndarray = scores.reshape(height, width)
    return on_grid


def _leading(gram: Float[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """Unit eigenvector of the largest eigenvalue; zeros if `gram` is zero."""
    vector = gram[:, np.argmax(gram.diagonal())]
    unit = np.zeros(len(gram))
    for _ in range(ITERATIONS):
        size = np.sqrt(np.square(vector).sum())
        if size == 0:
            break
        unit = vector / size
        vector = np.einsum("ij,j->i", gram, unit)
        value = (vector * unit).sum()
        if np.abs(vector - value * unit).max() <= TOLERANCE * value:
            break
    return unit


def bounded_plus_plus(
    activation: Float[Tensor, "n k h w"], gradient: Float[Tensor, "n k h w"], options: Options
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, " n"]]:
    """Maps of `grad_cam_plus_plus`, and how much they may change (see `BoundedFunction`).

    With errors of a share e in every gradient, a denominator D stays |D| - e |g dD/dg| away from 0,
    and no slope is steeper than there; where that is nothing, the bound is infinite.
    """
    totals = activation.sum(dim=(2, 3), keepdim=True, dtype=torch.float64)
    weights, errors = _WEIGHTS[options["variant"]](totals, gradient.relu().double())
    change = (activation.abs() * errors[:, :, None, None]).sum(dim=1).amax(dim=(1, 2))
    # Infinity times an activation of 0: whether it is 0 is a matter of rounding, too.
    return _weighted(activation, weights), change.nan_to_num(nan=torch.inf, posinf=torch.inf)


@gradient_method(
    "grad-cam++",
    version=2,
    scale_invariant=False,
    options={"variant": Choice("equation", ("equation", "epsilon", "normalized"))},
    bounded=bounded_plus_plus,
)
def grad_cam_plus_plus(
    activation: Float[Tensor, "n k h w"], gradient: Float[Tensor, "n k h w"], options: Options
) -> Float[Tensor, "n h w"]:
    """Grad-CAM++ (Chattopadhay et al., 2018): relu(sum_k weight_k A_k), in float64.

    weight_k = sum_ij alpha * relu(g_k), so an alpha where g <= 0 enters with weight 0 and is no
    part of the sum, whatever its value (0 * infinity adds nothing here). A non-finite alpha that
    does enter makes the map NaN, that is degenerate.

    At early layers 2 + (sum A_k) g comes near 0: sums in float32 would decide what the map is.

    Args:
        activation: A.
        gradient: g of the objective itself, its scale included.
        options: ``variant``: ``equation``: alpha = 1 / (2 + (sum A_k) g);
            ``epsilon``: alpha = g^2 / (2 g^2 + (sum A_k) g^3 + 1e-6);
            ``normalized``: the alphas of ``equation`` that enter (g > 0), divided by their sum
            in the channel; a channel where none enters has weight 0.
    """
    return bounded_plus_plus(activation, gradient, options)[0]


#: (S = sum_ij A [n, K, 1, 1], relu(g) [n, K, h, w], both float64)
#: -> weights [n, K] and what an error of `GRADIENT_ERROR` may change them by [n, K]
_Weights = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _sum(terms: Tensor) -> Tensor:
    return terms.sum(dim=(2, 3))


def _least(denominators: Tensor, changes: Tensor) -> Tensor:
    """Least |D| under the error, from D and g dD/dg; 0 where D may vanish."""
    return (denominators.abs() - GRADIENT_ERROR * changes.abs()).relu_()


def _equation(totals: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of f = g / D over g > 0, with D = 2 + S g: g f' = 2 g / D^2."""
    products = totals * positive
    denominators = products + 2.0
    least = _least(denominators, products).square_()
    changes = (2.0 * GRADIENT_ERROR) * _sum(positive / least)
    return _sum(positive / denominators), changes


def _epsilon(totals: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of f = g^3 / D, with D = 2 g^2 + S g^3 + e: g f' = g^3 (2 g^2 + 3 e) / D^2."""
    squares = positive.square()
    cubes = squares * positive
    denominators = (totals * cubes).add_(squares, alpha=2.0).add_(EPSILON)
    least = _least(denominators, 4.0 * squares + 3.0 * (totals * cubes).abs()).square_()
    slopes = cubes * (2.0 * squares + 3.0 * EPSILON) / least
    return _sum(cubes / denominators), GRADIENT_ERROR * _sum(slopes)


def _normalized(totals: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """w = sum of a g / sum of a over g > 0, with a = 1 / (2 + S g): g a' = -S g a^2.

    w' - w = sum of ((a' - a)(g - w) + a' (g' - g)) / sum of a'.
    """
    entering = positive > 0
    products = totals * positive
    alphas = (products + 2.0).reciprocal_().mul_(entering)
    sums = _sum(alphas)
    weights = _sum(alphas * positive)
    # Where nothing enters, the weight is 0 already (or NaN, from a NaN gradient): keep it.
    weights = torch.where(entering.flatten(2).any(dim=2), weights / sums, weights)
    least = _least(products + 2.0, products).square_()
    off = GRADIENT_ERROR * products.abs() / least
    parts = off * (positive - weights[:, :, None, None]).abs() * entering
    parts += GRADIENT_ERROR * (alphas.abs() + off) * positive
    room = (sums.abs() - _sum(off * entering)).relu_()
    return weights, torch.where(entering.flatten(2).any(dim=2), _sum(parts) / room, 0.0)


_WEIGHTS: dict[str, _Weights] = {
    "equation": _equation,
    "epsilon": _epsilon,
    "normalized": _normalized,
}
