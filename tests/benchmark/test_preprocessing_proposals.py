"""The way of reading that a network was made for separates people best, and the figures say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facefocus.benchmark import preprocessing_proposals as proposals
from facefocus.benchmark.preprocessing_proposals import Proposal, propose_preprocessing
from facefocus.cli.model_commands import proposal_lines
from facefocus.core.errors import UserError
from facefocus.core.progress import silent
from facefocus.evaluation.verification import normalize
from facefocus.faces.faceset import FaceSet, make_faceset
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer

PEOPLE = 6


def colored(photos: int = 4) -> FaceSet:
    """People who differ in red; blue differs from photo to photo."""
    rng = np.random.default_rng(0)
    frames = np.zeros((PEOPLE * photos, 112, 112, 3), np.uint8)
    frames[..., 0] = np.repeat(np.linspace(10, 240, PEOPLE), photos)[:, None, None]
    frames[..., 2] = rng.integers(0, 256, len(frames))[:, None, None]
    names = [f"p{person}" for person in range(PEOPLE) for _ in range(photos)]
    return make_faceset(frames, names, [f"{i}.png" for i in range(len(frames))], "colored")


class First(nn.Module):
    """The angle of its embedding is the mean of its first channel, within its own range only."""

    def forward(self, x: Tensor) -> Tensor:
        angle = x[:, 0].mean((1, 2)).clamp(-1, 1)
        return torch.stack([angle.cos(), angle.sin()], 1)


def load(name: str, reader: Preprocessing) -> TorchRecognizer:
    if reader.channels == "gray" or reader.size[0] > 112:
        raise UserError("The model takes three channels of 112 x 112.")
    return TorchRecognizer(name, First(), reader, identity=name)


def test_the_right_channels_and_range_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "load", load)
    ranked = propose_preprocessing("mine.pt2", colored())
    assert len(ranked) == 8
    best = ranked[0]
    assert best.preprocessing.channels == "rgb" and best.error == 0 and best.eer < 0.15
    bgr = [proposal for proposal in ranked if proposal.preprocessing.channels == "bgr"]
    assert all(p.worse_than(best) and p.separation < 0.5 and p.eer > 0.3 for p in bgr)
    separations = [proposal.separation for proposal in ranked]
    assert separations == sorted(separations, reverse=True)


def test_the_figures_are_those_of_the_definition() -> None:
    units = normalize(
        np.array([[1, 0], [1, 0.2], [0, 1], [0.3, 1], [-1, 0], [-1, 0.4]], np.float32)
    )
    owners = np.array(["a", "a", "b", "b", "c", "c"])
    cosines = units.astype(np.float64) @ units.T
    same = [cosines[0, 1], cosines[2, 3], cosines[4, 5]]
    other = [cosines[i, j] for i in range(6) for j in range(i) if i // 2 != j // 2]
    wanted = (np.mean(same) - np.mean(other)) / np.sqrt((np.var(same) + np.var(other)) / 2)
    reader = Preprocessing((112, 112), mean=(0.0,) * 3, std=(1.0,) * 3)
    flat = normalize(np.ones((6, 2), np.float32) + np.eye(6, 2, dtype=np.float32) / 10)
    first, second = proposals._ranked([(reader, flat), (reader, units)], owners)
    assert first.separation == pytest.approx(wanted, rel=1e-6) and first.error == 0
    # Leaving out each person in turn: the jackknife of the difference.
    left = [
        proposals._separation(units[owners != p], owners[owners != p])
        - proposals._separation(flat[owners != p], owners[owners != p])
        for p in "abc"
    ]
    assert second.error == pytest.approx(
        np.sqrt(2 / 3 * np.sum((np.array(left) - np.mean(left)) ** 2))
    )


def test_lines_for_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    imagenet = Preprocessing((112, 96), None, "bgr", (1.0, 2.0, 3.0), (4.0, 4.0, 4.0))
    best = Proposal(imagenet, 3.0, 0.0, 0.01)
    near, far = Proposal(imagenet, 2.9, 0.1, 0.02), Proposal(imagenet, 1.0, 0.1, 0.3)
    monkeypatch.setattr(proposals, "propose_preprocessing", lambda *_: [best, near, far])
    lines = list(proposal_lines("timm:vit@mine.pth", Path("faces"), silent))
    words = 'size = [112, 96], channels = "bgr", mean = [1.0, 2.0, 3.0], std = 4.0'
    assert [line.endswith(words) for line in lines[1:4]] == [True] * 3
    assert ["as good" in line for line in lines[1:4]] == [False, True, False]
    assert "3.00" in lines[1] and "1.0%" in lines[1] and "'mine.toml'" in lines[4]


def test_a_file_that_takes_none_of_them_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, reader: Preprocessing) -> TorchRecognizer:
        raise UserError(f"no {reader.size}")

    monkeypatch.setattr(proposals, "load", refuse)
    with pytest.raises(UserError, match=r"no \(112, 112\)"):
        propose_preprocessing("mine.pt2", colored())
    few = colored()
    with pytest.raises(UserError, match="must have 3 people with 2 or more images"):
        propose_preprocessing("m", make_faceset(few.frames[:4], ["a"] * 4, list("abcd"), "few"))


@pytest.mark.parametrize(
    ("sides", "count", "size", "channels"),
    [
        (["n", 3, 112, 96], 8, (112, 96), {"rgb", "bgr"}),
        ([1, 160, 160, 3], 8, (160, 160), {"rgb", "bgr"}),
        (["n", 1, 64, 64], 3, (64, 64), {"gray"}),
        (["n", "c", "h", "w"], 44, (224, 224), {"rgb", "bgr", "gray"}),
    ],
)
def test_an_onnx_file_says_which_sizes_and_channels_are_tried(
    sides: list[Any], count: int, size: tuple[int, int], channels: set[str], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    image, out = (onnx.helper.make_tensor_value_info(name, 1, sides) for name in ("image", "out"))
    node = onnx.helper.make_node("Relu", ["image"], ["out"])
    graph = onnx.helper.make_graph([node], "made", [image], [out])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "mine.onnx")
    ways = list(proposals._ways(*proposals._taken(str(tmp_path / "mine.onnx"))))
    assert len(ways) == count and ways[-1].size == size
    assert {way.channels for way in ways} == channels
