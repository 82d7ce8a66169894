"""Bits that no number of threads, no place in a batch and no company changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.reproducible import reproducible

THREADS = (1, 2, 4, 8, 16)
#: Sizes that divide and that do not divide into the parts of threads and vectors.
SHAPES = ((16, 48, 28, 28), (16, 7, 29, 29))


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def weights(*shape: int) -> Tensor:
    drawn = np.random.default_rng(1).standard_normal(shape, np.float32)
    return torch.from_numpy(drawn / np.float32(drawn[0].size ** 0.5))


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution": lambda x: F.conv2d(x, weights(9, x.shape[1], 3, 3), padding=1),
    "pointwise convolution": lambda x: F.conv2d(x, weights(33, x.shape[1], 1, 1)),
    "depthwise convolution": lambda x: F.conv2d(
        x, weights(x.shape[1], 1, 3, 3), stride=2, groups=x.shape[1]
    ),
    "linear": lambda x: F.linear(x.flatten(1), weights(65, x[0].numel())),
    "batch norm": lambda x: F.batch_norm(
        x, weights(x.shape[1], 1)[:, 0], weights(x.shape[1], 1)[:, 0].abs() + 0.1
    ),
    "layer norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "group norm": lambda x: F.group_norm(x, 1),
    "prelu": lambda x: F.prelu(x, weights(x.shape[1], 1)[:, 0]),
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "mish": F.mish,
    "sigmoid in place": lambda x: (x + 0).sigmoid_(),
    "power": lambda x: x.abs() ** 1.7,
    "softmax": lambda x: x.flatten(2).softmax(2),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "max pooling": lambda x: F.max_pool2d(x, 3, 2),
    "mean pooling": lambda x: F.adaptive_avg_pool2d(F.avg_pool2d(x, 2), 3),
    "sum": lambda x: x.sum(1) * x.mean((2, 3)).sum(),
    "unit length": lambda x: F.normalize(x.flatten(1)),
    "resize": lambda x: F.interpolate(x, (40, 40), mode="bilinear", antialias=True),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_the_same_bits_on_any_number_of_threads(name: str) -> None:
    for shape in SHAPES:
        x = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32)) * 3
        for format_ in (torch.contiguous_format, torch.channels_last):
            results = []
            for count in THREADS:
                torch.set_num_threads(count)
                given = x.clone().contiguous(memory_format=format_).requires_grad_()
                with reproducible():
                    made = OPERATIONS[name](given)
                    (gradient,) = torch.autograd.grad(made, given, made.detach() * 0.3 + 0.1)
                assert torch.get_num_threads() == count
                results.append((made.detach(), gradient))
            for made, gradient in results[1:]:
                assert torch.equal(made, results[0][0]) and torch.equal(gradient, results[0][1])


class Smooth(nn.Module):
    """Exp-like activations on odd sizes, attention over places, and a long linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 7, 3, stride=2)
        self.second = nn.Conv2d(7, 9, 3)
        self.gate = nn.Conv2d(9, 1, 3, padding=1)
        self.out = nn.Linear(9 * 25 * 25, 33)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(F.gelu(self.first(x)))
        x = F.elu(F.softplus(self.second(x)))
        x = x * torch.sigmoid(self.gate(x))
        embedding: Tensor = self.out(x.flatten(1))
        return embedding


class Sharp(nn.Sequential):
    """What the recognizers here are made of: frozen normalizations, prelu, depthwise layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, stride=2),
            nn.BatchNorm2d(32),
            nn.PReLU(32),
            nn.Conv2d(32, 32, 3, groups=32),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 1),
            nn.BatchNorm2d(64),
            nn.Flatten(),
            nn.Linear(64 * 12 * 12, 128),
        )


def box_of(make: type[nn.Module]) -> TorchRecognizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().eval().requires_grad_(False)
    reading = Preprocessing((56, 56), None, "rgb", (127.5,) * 3, (127.5,) * 3)
    return TorchRecognizer("net", module, reading, identity="net")


@pytest.mark.parametrize("make", [Smooth, Sharp])
def test_an_image_has_the_same_bits_in_any_company_and_on_any_number_of_threads(
    make: type[nn.Module],
) -> None:
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (16, 112, 112, 3), dtype=np.uint8)
    order = rng.permutation(16)
    box = box_of(make)
    layers = [1, len(box.layers().calls)]
    expected: list[np.ndarray] = []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        embeddings = box.embed(frames)
        directions = torch.from_numpy(embeddings).roll(1, 0)
        np.testing.assert_array_equal(box.embed(frames[order]), embeddings[order])
        with box.capture(frames, layers) as captured:
            gradients = captured.gradients(directions)
        np.testing.assert_array_equal(captured.embeddings.numpy(), embeddings)
        with box.capture(frames[:3], layers) as few:
            few_gradients = few.gradients(directions[:3])
        assert all(torch.equal(few_gradients[layer], gradients[layer][:3]) for layer in layers)
        made = [embeddings, *(gradients[layer].numpy() for layer in layers)]
        expected = expected or made
        for got, wanted in zip(made, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
