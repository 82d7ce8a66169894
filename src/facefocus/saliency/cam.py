"""Class activation maps as pure functions of activation and gradient (PROTOCOL section 4).

Every function takes the activation A and the objective's gradient g at one layer, both
[n, K, h, w], and gives the maps [n, h, w] before normalization. Each image is computed on its own,
in an order of additions that neither its neighbours nor the number of threads change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facefocus.saliency.methods import (
    METHODS,
    CamFunction,
    Choice,
    GradientMethod,
    Option,
    Options,
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
) -> Callable[[CamFunction], CamFunction]:
    """Decorator that registers a CAM function under `name` as a `GradientMethod`."""

    def add(function: CamFunction) -> CamFunction:
        METHODS.add(name, GradientMethod(name, function, version, scale_invariant, options or {}))
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
    found = torch.full_like(activation[:, 0], torch.nan)
    for target, a, g in zip(found, activation, gradient, strict=True):
        if bool(a.isfinite().all() & g.isfinite().all()):
            target.copy_(torch.from_numpy(_principal(a.double().cpu().numpy())))
    return found


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
    in_place: np.ndarray = scores.reshape(height, width)
    return in_place


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


@gradient_method(
    "grad-cam++",
    version=1,
    scale_invariant=False,
    options={"variant": Choice("equation", ("equation", "epsilon", "normalized"))},
)
def grad_cam_plus_plus(
    activation: Float[Tensor, "n k h w"], gradient: Float[Tensor, "n k h w"], options: Options
) -> Float[Tensor, "n h w"]:
    """Grad-CAM++ (Chattopadhay et al., 2018): relu(sum_k weight_k A_k).

    weight_k = sum_ij alpha * relu(g_k), so an alpha where g <= 0 enters with weight 0 and is no
    part of the sum, whatever its value (0 * infinity adds nothing here). A non-finite alpha that
    does enter makes the map NaN, that is degenerate.

    Args:
        activation: A.
        gradient: g of the objective itself, its scale included.
        options: ``variant``: ``equation``: alpha = 1 / (2 + (sum A_k) g);
            ``epsilon``: alpha = g^2 / (2 g^2 + (sum A_k) g^3 + 1e-6);
            ``normalized``: the alphas of ``equation`` that enter (g > 0), divided by their sum
            in the channel; a channel where none enters has weight 0.
    """
    weights = _WEIGHTS[options["variant"]]
    totals = activation.sum(dim=(2, 3), keepdim=True)
    return _weighted(activation, weights(totals, gradient.relu()))


def _equation(totals: Tensor, positive: Tensor) -> Tensor:
    """Sum of g / (2 + S g) over g > 0; where g <= 0 the term is 0 / 2.

    Args:
        totals: S = sum_ij A, [n, K, 1, 1].
        positive: relu(g), [n, K, h, w]; overwritten.
    """
    denominators = (totals * positive).add_(2.0)
    return positive.div_(denominators).sum(dim=(2, 3))


def _epsilon(totals: Tensor, positive: Tensor) -> Tensor:
    squares = positive.square()
    denominators = (totals * positive).add_(2.0).mul_(squares).add_(EPSILON)
    return squares.mul_(positive).div_(denominators).sum(dim=(2, 3))


def _normalized(totals: Tensor, positive: Tensor) -> Tensor:
    entering = positive > 0
    alphas = (totals * positive).add_(2.0).reciprocal_().mul_(entering)
    sums = alphas.sum(dim=(2, 3))
    weights = alphas.mul_(positive).sum(dim=(2, 3))
    # Where nothing enters, the weight is 0 already (or NaN, from a NaN gradient): keep it.
    return torch.where(entering.flatten(2).any(dim=2), weights / sums, weights)


_WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "equation": _equation,
    "epsilon": _epsilon,
    "normalized": _normalized,
}
