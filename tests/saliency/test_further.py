from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from facefocus.saliency.cam import eigen_cam, grad_cam, hires_cam
from facefocus.saliency.methods import METHODS, GradientMethod, Method, Preset
from facefocus.saliency.objectives import parse_objective
from facefocus.saliency.streams import CamConfig, plan_streams
from tests.small import SIDE, tiny_recognizer

# HiResCAM -----------------------------------------------------------------------------------------


def test_hires_cam_by_hand() -> None:
    # 2 * 3 - 1 * 4 = 2; 1 * 0 + 3 * 5 = 15; -1 * 2 + 1 * 1 = -1 -> 0; 0 * 7 + .5 * -2 = -1 -> 0.
    a = torch.tensor([[[[3.0, 0.0], [2.0, 7.0]], [[4.0, 5.0], [1.0, -2.0]]]])
    g = torch.tensor([[[[2.0, 1.0], [-1.0, 0.0]], [[-1.0, 3.0], [1.0, 0.5]]]])
    torch.testing.assert_close(hires_cam(a, g, {}), torch.tensor([[[2.0, 15.0], [0.0, 0.0]]]))


def test_hires_cam_against_loops() -> None:
    rng = np.random.default_rng(0)
    a, g = (rng.standard_normal((2, 5, 3, 4)).astype(np.float32) for _ in range(2))
    expected = np.zeros((2, 3, 4))
    for n, y, x in np.ndindex(2, 3, 4):
        expected[n, y, x] = max(sum(float(a[n, k, y, x]) * g[n, k, y, x] for k in range(5)), 0.0)
    saliency = hires_cam(torch.from_numpy(a), torch.from_numpy(g), {})
    np.testing.assert_allclose(saliency.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_hires_cam_is_grad_cam_where_the_gradient_is_the_same_everywhere() -> None:
    # The identity of Draelos and Carin: a network that averages the layer.
    a, weights = torch.rand(2, 6, 5, 5), torch.randn(2, 6, 1, 1)
    g = weights.expand(2, 6, 5, 5) / 25
    torch.testing.assert_close(hires_cam(a, g, {}), grad_cam(a, g, {}))


# EigenCAM -----------------------------------------------------------------------------------------


def pca_map(activation: np.ndarray) -> np.ndarray:
    """scikit-learn's scores of the positions, with the documented sign."""
    channels, height, width = activation.shape
    samples = activation.reshape(channels, -1).T.astype(np.float64)
    scores = PCA(n_components=1, svd_solver="full").fit_transform(samples)[:, 0]
    if np.cov(scores, np.abs(samples).sum(axis=1))[0, 1] < 0:
        scores = -scores
    in_place: np.ndarray = scores.reshape(height, width)
    return in_place


@pytest.mark.parametrize("shape", [(5, 6, 7), (40, 4, 5), (8, 1, 3), (1, 4, 4), (3, 2, 2)])
@pytest.mark.parametrize("offset", [0.0, 3.0, -3.0])
def test_eigen_cam_is_the_first_principal_component(
    shape: tuple[int, int, int], offset: float
) -> None:
    rng = np.random.default_rng(sum(shape))
    a = (offset + rng.standard_normal((3, *shape))).astype(np.float32)
    saliency = eigen_cam(torch.from_numpy(a), torch.ones(3, *shape), {})
    for component, activation in zip(saliency.numpy(), a, strict=True):
        expected = pca_map(activation)
        np.testing.assert_allclose(
            component, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
        )


def test_eigen_cam_by_hand() -> None:
    # Centered columns along (3, 4) / 5: positions at -2, -1, 3 times 5. The strongest activation
    # is at the last position, so that is where the map is large.
    steps = np.array([-2.0, -1.0, 3.0])
    a = torch.tensor(np.stack([10 + 3 * steps, 20 + 4 * steps])[None, :, None, :]).float()
    expected = torch.tensor([[[-10.0, -5.0, 15.0]]])
    torch.testing.assert_close(eigen_cam(a, torch.zeros_like(a), {}), expected)
    # Negative activations: |A| falls from the first position to the last, and the map with it.
    torch.testing.assert_close(eigen_cam(-40 + a, torch.zeros_like(a), {}), -expected)


def test_eigen_cam_of_a_flat_activation_is_flat() -> None:
    a = torch.full((1, 3, 2, 2), 4.0)
    torch.testing.assert_close(eigen_cam(a, a, {}), torch.zeros(1, 2, 2))


def test_eigen_cam_leaves_out_only_what_is_not_finite() -> None:
    a, g = torch.randn(3, 4, 5, 5), torch.ones(3, 4, 5, 5)
    sound = eigen_cam(a, g, {})
    a[0, 1, 2, 3], g[2, 0, 0, 0] = torch.nan, torch.inf
    saliency = eigen_cam(a, g, {})
    assert saliency[0].isnan().all() and saliency[2].isnan().all()
    assert torch.equal(saliency[1], sound[1])


def test_both_are_registered() -> None:
    for name in ("hires-cam", "eigen-cam"):
        method = METHODS[name]
        assert isinstance(method, GradientMethod) and method.scale_invariant
        config = CamConfig(method=name, layer="N")
        assert plan_streams([config], tiny_recognizer().layers()).streams[config]


# LEAM ---------------------------------------------------------------------------------------------


def test_leam_is_layer_cam_with_the_cosine_at_layer_3() -> None:
    preset = METHODS["leam"]
    assert isinstance(preset, Preset) and isinstance(preset, Method)
    assert (preset.method, preset.layer, preset.objective) == ("layer-cam", "3", "cosine")
    method = METHODS[preset.method]
    assert (preset.kind, preset.version) == (method.kind, method.version) == ("gradient", 1)
    # What a plan does with it: the layer and the objective exist.
    assert tiny_recognizer().layers().resolve(preset.layer) == (3,)
    assert parse_objective(preset.objective).name == "cosine"
    assert SIDE == 32
