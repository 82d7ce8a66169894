from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facefocus.models.recognizer import TorchRecognizer
from facefocus.saliency.photo_maps import Photo
from tests.saliency.photos import map_of, noise, photo
from tests.small import TinyNet, tiny_recognizer


def contrast(e: Tensor, explained: Photo, temperature: float) -> Tensor:
    """The objective as it is written: log softmax over the person and the gallery."""
    assert explained.gallery is not None
    every = torch.from_numpy(np.vstack([explained.reference, explained.gallery]))
    return torch.log_softmax(every @ (e / e.norm()) / temperature, dim=0)[0]


@pytest.fixture
def explained() -> tuple[TorchRecognizer, Photo]:
    recognizer, frames = tiny_recognizer(), noise(count=6)
    e = recognizer.embed(frames).astype(np.float64)
    units = e / np.linalg.norm(e, axis=1, keepdims=True)
    own = photo(frames[0], units[1:3].mean(axis=0), content=noise(seed=7)[0])
    return recognizer, replace(own, unit=units[0], gallery=units[3:])


@pytest.mark.parametrize("temperature", [10, 100])
def test_hiding_a_pixel_takes_what_the_gradient_says(
    explained: tuple[TorchRecognizer, Photo], temperature: int
) -> None:
    recognizer, own = explained
    frame = torch.from_numpy(own.frame.astype(np.float32)).requires_grad_()
    e = recognizer.module(recognizer.preprocessing(frame[None]))[0].double()
    (g,) = torch.autograd.grad(contrast(e, own, temperature / 100), frame)
    content = noise(seed=7)[0].astype(np.float64)
    wanted = (g.numpy() * (own.frame - content)).sum(axis=2)
    saliency = map_of("contrastive-occlusion-gradient", recognizer, own, temperature=temperature)
    np.testing.assert_allclose(saliency, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam"])
def test_cams_of_the_objective(explained: tuple[TorchRecognizer, Photo], method: str) -> None:
    recognizer, own = explained
    net = recognizer.module
    assert isinstance(net, TinyNet)
    x = recognizer.preprocessing(torch.from_numpy(own.frame[None]))
    a = net.second(torch.relu(net.first(x))).detach().requires_grad_()
    e = net.out(torch.relu(net.third(torch.relu(a))).flatten(1))[0].double()
    (g,) = torch.autograd.grad(contrast(e, own, 0.1), a)
    weights = g.mean(dim=(2, 3), keepdim=True) if method == "grad-cam" else g.relu()
    cam = (weights * a).sum(dim=1, keepdim=True).relu()
    cam = (cam - cam.min()) / (cam.max() - cam.min())
    wanted = F.interpolate(cam, (32, 32), mode="bilinear", align_corners=False)[0, 0].detach()
    saliency = map_of(f"contrastive-{method}", recognizer, own, calls=[2])
    np.testing.assert_allclose(saliency, wanted.numpy(), atol=2e-4)


def test_with_nobody_near_there_is_little_to_explain(
    explained: tuple[TorchRecognizer, Photo],
) -> None:
    """Where the person is far ahead of the gallery, softmax is 1 and its gradient vanishes."""
    recognizer, own = explained
    assert own.unit is not None
    alone = replace(own, reference=own.unit * 0.9, gallery=-own.unit[None])
    near = map_of("contrastive-occlusion-gradient", recognizer, own, temperature=1)
    far = map_of("contrastive-occlusion-gradient", recognizer, alone, temperature=1)
    assert np.abs(far).max() < 1e-6 * np.abs(near).max()
