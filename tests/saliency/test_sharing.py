"""What is shared (issue 6, "Shared passes"), by counting what runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facefocus.faces.faceset import Identity
from facefocus.models.calls import ENOUGH
from facefocus.models.recognizer import TorchRecognizer
from facefocus.saliency.explainer import Images, MapRequest, MapSpec
from facefocus.saliency.identity import CAMS, cam_identity_maps
from facefocus.saliency.streams import CamConfig
from tests.small import SIDE, TinyNet, tiny_recognizer

FRAMES = np.random.default_rng(7).integers(0, 256, (40, SIDE, SIDE, 3), dtype=np.uint8)
THREE = ("grad-cam", "grad-cam++", "layer-cam")
SEVEN = ("cosine", "l1", "l2", "arcface(0)", "arcface(0.1)", "arcface(0.2)", "arcface(0.3)")


@dataclass
class Counts:
    """Batches through the module, and backward passes; the last batch's graph."""

    forward: list[int] = field(default_factory=list)
    backward: int = 0
    recorded: list[bool] = field(default_factory=list)


@contextmanager
def counted(box: TorchRecognizer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    """Every pass through the network itself, whoever asks for it."""
    counts = Counts()
    assert isinstance(box.module, TinyNet)
    box.layers()  # found once, by a pass of its own

    def forward(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counts.forward.append(len(inputs[0]))

    def second(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counts.recorded.append(inputs[0].requires_grad)

    plain = torch.autograd.grad

    def backward(*args: Any, **kwargs: Any) -> Any:
        counts.backward += 1
        return plain(*args, **kwargs)

    hooks = [
        box.module.register_forward_pre_hook(forward),
        box.module.third.register_forward_pre_hook(second),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", backward)
        yield counts
    for hook in hooks:
        hook.remove()


def people(*sizes: int) -> list[Identity]:
    ends = np.cumsum(sizes)
    return [
        Identity(f"P{number}", np.arange(end - size, end, dtype=np.int64))
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


def run(
    configs: Sequence[CamConfig], whom: Sequence[Identity], monkeypatch: pytest.MonkeyPatch
) -> Counts:
    box = tiny_recognizer()
    assert box.fingerprint  # takes one look of its own, before passes are counted
    with counted(box, monkeypatch) as counts:
        cam_identity_maps(box, FRAMES, whom, configs, max_pairs=None, seed=0)
    return counts


def test_one_forward_serves_layers_methods_objectives_and_partners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configs = [CamConfig(cam, layer, loss) for cam in THREE for layer in "123" for loss in SEVEN]
    counts = run(configs, people(6), monkeypatch)
    # 63 maps of 30 pairs: one batch with the references, and 5 rounds of the families cosine, l1.
    assert counts.forward == [ENOUGH]
    assert counts.backward == 5 * 2


def test_objectives_of_the_angle_share_a_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    whom = people(4)
    single = run([CamConfig("grad-cam++", "2", "cosine")], whom, monkeypatch)
    six = [CamConfig("grad-cam++", "2", loss) for loss in SEVEN if loss != "l1"]
    assert run(six, whom, monkeypatch).backward == single.backward == 3
    negative = [*six, CamConfig("layer-cam", "2", "l2", evidence="negative")]
    assert run(negative, whom, monkeypatch).backward == 3
    raw = [*six, CamConfig("grad-cam++", "2", "l2", normalize=False)]
    assert run(raw, whom, monkeypatch).backward == 2 * 3


def test_late_layers_run_the_prefix_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    # What goes into the third convolution is recorded only where a layer before it is asked for.
    late = run([CamConfig("grad-cam", "3")], people(3), monkeypatch)
    early = run([CamConfig("grad-cam", "3"), CamConfig("grad-cam", "2")], people(3), monkeypatch)
    assert (late.recorded, early.recorded) == ([False], [True])


def test_a_backward_pass_stops_at_the_earliest_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[str] = []
    box = tiny_recognizer()
    assert isinstance(box.module, TinyNet)
    with box.capture(FRAMES[:4], [2]) as captured:
        graph = captured._graph
        assert graph is not None
        waiting: list[Any] = [graph[0].grad_fn]
        while waiting:
            node = waiting.pop()
            touched.append(type(node).__name__)
            waiting += [parent for parent, _ in node.next_functions if parent is not None]
    # Only the third convolution lies after the second's output.
    assert sum("Convolution" in name for name in touched) == 1


def test_batches_mix_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    # 16 people of two images: two full batches instead of sixteen.
    counts = run([CamConfig("grad-cam", "N")], people(*[2] * 16), monkeypatch)
    assert counts.forward == [ENOUGH, ENOUGH]
    assert counts.backward == 2


def test_maps_are_averaged_at_layer_resolution_and_resized_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box, resized = tiny_recognizer(), list[int]()
    plain = type(box.preprocessing).to_frame

    def counting(self: Any, maps: Tensor, frame: tuple[int, int]) -> Tensor:
        resized.append(len(maps))
        return plain(self, maps, frame)

    monkeypatch.setattr(type(box.preprocessing), "to_frame", counting)
    configs = [CamConfig(cam, "N") for cam in THREE]
    cam_identity_maps(box, FRAMES, people(6, 4), configs, max_pairs=None, seed=0)
    # 42 pairs, three maps each; per person one call for its three means.
    assert resized == [3, 3]


@pytest.mark.parametrize("max_pairs", [None, 5])
@pytest.mark.parametrize("sizes", [(6,), (2, 3, 5), (9, 9, 9), (17, 4), (1, 2)])
def test_what_a_plan_counts_is_what_runs(
    sizes: tuple[int, ...], max_pairs: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, seen = tiny_recognizer(), {"capture": 0, "reference": 0, "directions": 0}
    capture, reference = box.capture, box.embed_reference

    def capturing(frames: np.ndarray, layers: Sequence[int]) -> Any:
        seen["capture"] += len(frames)
        captured = capture(frames, layers)
        gradients = captured.gradients

        def counting(directions: Tensor) -> dict[int, Tensor]:
            seen["directions"] += int(directions.any(dim=1).sum())
            return gradients(directions)

        captured.gradients = counting  # type: ignore[method-assign]
        return captured

    def referring(frames: np.ndarray) -> np.ndarray:
        seen["reference"] += len(frames)
        return reference(frames)

    monkeypatch.setattr(box, "capture", capturing)
    monkeypatch.setattr(box, "embed_reference", referring)
    configs = [CamConfig("grad-cam", "2"), CamConfig("layer-cam", "2", "l1")]
    whom = people(*sizes)
    cam_identity_maps(box, FRAMES, whom, configs, max_pairs=max_pairs, seed=3)
    specs = [
        MapSpec(
            config.method,
            config.method,
            (),
            config.layer,
            (2,),
            config.objective,
            max_pairs=max_pairs,
        )
        for config in configs
    ]
    mock = create_autospec(Images, seed=3)
    planned = CAMS.passes(MapRequest(specs, [], whom, cast(Any, mock)), specs)
    assert planned.forward == seen["capture"] + seen["reference"]
    assert planned.backward == seen["directions"]
