"""Pair-level curves of a network that knows one pixel, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from facefocus.benchmark import pairs as pairwise
from facefocus.benchmark import verify
from facefocus.benchmark.pairs import pair_level
from facefocus.cli.check_commands import curves_json, pairs_lines
from facefocus.core.errors import UserError
from facefocus.core.progress import silent
from facefocus.faces.faceset import IndexRow, PairList, write_faceset
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import Recognizer, TorchRecognizer
from facefocus.occlusion.fills import hider
from facefocus.saliency import pair_level as pair_level_module
from facefocus.saliency.identity import minmax_normalize
from facefocus.saliency.methods import (
    METHODS,
    FrameGradientMethod,
    GradientMethod,
    PerturbationMethod,
    Preset,
)
from facefocus.saliency.objectives import parse_objective
from facefocus.saliency.perturbation import mask_set, masked_embeddings, pair_maps
from tests.small import tiny_recognizer

SIDE = 10
#: The pixel that the network sees.
ROW, COLUMN = 2, 7


class OnePixel(nn.Module):
    """Embedding (red of the one pixel, 1): a 1x1 convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.red = nn.Conv2d(3, 1, 1, bias=False)
        self.out = nn.Linear(SIDE * SIDE, 2)
        with torch.no_grad():
            self.red.weight.copy_(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))
            self.out.weight.zero_()
            self.out.weight[0, ROW * SIDE + COLUMN] = 1.0
            self.out.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.out(self.red(x).flatten(1))
        return embedding


def one_pixel(name: str, _: object = None) -> Recognizer:
    reading = Preprocessing(
        size=(SIDE, SIDE), crop=None, channels="rgb", mean=(0.0,) * 3, std=(255.0,) * 3
    )
    return TorchRecognizer(name, OnePixel().eval().requires_grad_(False), reading, identity="one")


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty people with the pixel at 200 and 255, and twenty with it at 0."""
    for module in (pairwise, verify):
        monkeypatch.setattr(module, "load", one_pixel)
    rows, frames, lines = [], [], []
    rng = np.random.default_rng(0)
    for person in range(40):
        reds = (200, 255) if person < 20 else (0,)
        for photo, red in enumerate(reds):
            frame = rng.integers(1, 120, (SIDE, SIDE, 3)).astype(np.uint8)
            frame[ROW, COLUMN, 0] = red
            name = f"p{person:02d}_{photo}"
            rows.append(IndexRow(identity=f"p{person:02d}", name=name, path=name))
            frames.append(frame)
    for person in range(20):
        lines += [(2 * person, 2 * person + 1, True), (40 + person, 2 * person + 1, False)]
    first, second, mated = zip(*lines, strict=True)
    names = [row.name for row in rows]
    folder = tmp_path / "faces"
    folder.mkdir()
    pairs = PairList(
        first=tuple(names[index] for index in first),
        second=tuple(names[index] for index in second),
        mated=tuple(mated),
        fold=(0,) * len(lines),
        sha256="",
    )
    write_faceset(folder, title="dots", rows=rows, frames=frames, size=(SIDE, SIDE), pairs=pairs)
    return folder


def level(faces: Path, *methods: str, **options: Any) -> pl.DataFrame:
    arguments: dict[str, Any] = {"layer": "1", "backend": "torch", **options}
    return pair_level(faces, "one", methods, **arguments)


def curve(table: pl.DataFrame, method: str, mode: str) -> tuple[list[float], float]:
    rows = table.filter((pl.col("method") == method) & (pl.col("mode") == mode))
    (area,) = rows["area"].unique().to_list()
    return rows["accuracy"].to_list(), area


def test_a_map_that_finds_the_pixel_by_hand(faces: Path) -> None:
    """Mated pairs fail as soon as the pixel is hidden; the others are right whatever is hidden.

    Clean cosines are (200, 255) . (255, 255) / ... = 0.993 and 0.707: the threshold lies between.
    """
    table = level(faces, "layer-cam")
    mated = (200 / 255 + 1) / np.sqrt(2 * ((200 / 255) ** 2 + 1))
    assert table["threshold"][0] == pytest.approx((mated + np.sqrt(0.5)) / 2, abs=1e-6)
    deletion, area = curve(table, "layer-cam", "deletion")
    assert deletion == [1.0] + [0.5] * 10
    assert area == pytest.approx(0.525, abs=1e-12)
    insertion, area = curve(table, "layer-cam", "insertion")
    assert insertion == [0.5] + [1.0] * 10
    assert area == pytest.approx(0.975, abs=1e-12)
    # A probe without red at the pixel has nothing to show there: those maps are flat.
    assert table.filter(pl.col("method") == "layer-cam")["degenerate"].unique().to_list() == [20]
    assert table["share"].unique().sort().to_list() == [i / 10 for i in range(11)]
    assert table["pairs"].unique().to_list() == [40] and table["mated"].unique().to_list() == [20]


def test_random_pixels_are_the_control_and_worse_on_both_curves(faces: Path) -> None:
    table = level(faces, "layer-cam")
    assert table["method"].unique(maintain_order=True).to_list() == ["layer-cam", "random"]
    deletion, deleted = curve(table, "random", "deletion")
    insertion, inserted = curve(table, "random", "insertion")
    assert deletion[0] == insertion[-1] == 1.0 and deletion[-1] == insertion[0] == 0.5
    # The pixel's place is uniform: both areas are 0.75 in the mean over draws.
    assert deleted == pytest.approx(0.75, abs=0.1) and inserted == pytest.approx(0.75, abs=0.1)
    assert table.filter(pl.col("method") == "random")["layer"].null_count() == 22


def test_only_some_pairs_of_each_kind(faces: Path) -> None:
    table = level(faces, "layer-cam", pairs=11)
    assert table["pairs"][0] == 11 and table["mated"][0] == 5
    deletion, _ = curve(table, "layer-cam", "deletion")
    assert deletion == [1.0] + [6 / 11] * 10
    # The threshold is that of all pairs, whichever were drawn.
    assert table["threshold"][0] == level(faces, "random")["threshold"][0]


def test_the_seed_decides_and_the_other_methods_do_not(faces: Path) -> None:
    alone = level(faces, "random")
    both = level(faces, "layer-cam", "random").filter(pl.col("method") == "random")
    assert alone.equals(both)
    assert not alone.drop("seed").equals(level(faces, "random", seed=1).drop("seed"))


def test_black_box_methods_find_the_pixel_too(faces: Path) -> None:
    table = level(faces, "corr-rise", pairs=8)
    deletion, area = curve(table, "corr-rise", "deletion")
    _, control = curve(table, "random", "deletion")
    assert deletion[0] == 1.0 and area < control
    assert table.filter(pl.col("method") == "corr-rise")["layer"].null_count() == 22


def test_a_preset_is_its_method_at_its_own_layer(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS._entries, "there", Preset("there", "layer-cam", "N", "l2"))
    table = level(faces, "there", "layer-cam", layer="1")
    assert curve(table, "there", "deletion") == curve(table, "layer-cam", "deletion")
    assert table.filter(pl.col("method") == "there")["layer"].unique().to_list() == ["N"]


def test_lines_and_json(faces: Path) -> None:
    table = level(faces, "layer-cam")
    lines = list(pairs_lines(table))
    assert lines[0] == "pairs 40 (20 mated)"
    assert lines[1] == f"threshold {table['threshold'][0]:.4f} (eer)"
    assert lines[2] == (
        "layer-cam 1 deletion 0.5250 (lower is better) insertion 0.9750 (higher is better)"
        " degenerate 20 ill-conditioned 0"
    )
    assert lines[3].startswith("random deletion 0.") and len(lines) == 4
    curves = json.loads(json.dumps(curves_json(table)))
    assert [(line["method"], line["mode"]) for line in curves] == [
        ("layer-cam", "deletion"),
        ("layer-cam", "insertion"),
        ("random", "deletion"),
        ("random", "insertion"),
    ]
    assert curves[0]["accuracy"] == [1.0] + [0.5] * 10 and len(curves[0]["share"]) == 11
    assert curves[0]["area"] == pytest.approx(0.525) and curves[0]["faces"] == "dots"


def test_mistakes_show_before_anything_is_computed(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairwise, "verify_recognizer", None)
    with pytest.raises(UserError, match="explains a person, not a pair"):
        level(faces, "searched-mask")
    with pytest.raises(UserError, match="layer 'M' is unknown"):
        level(faces, "grad-cam", layer="M")
    with pytest.raises(UserError, match="Did you mean 'grad-cam'"):
        level(faces, "gradcam")
    with pytest.raises(UserError, match=r"at least 2\. Got 1"):
        level(faces, "random", pairs=1)


# Maps against their definitions -------------------------------------------------------------------


@pytest.fixture(scope="module")
def some() -> pair_level_module.PairFrames:
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    first = np.array([i % 6 for i in range(19)])
    return pair_level_module.PairFrames(
        frames=frames,
        names=np.array([f"n{i}" for i in range(6)]),
        first=first,
        second=(first + 1 + np.arange(19) // 6) % 6,
        mated=np.arange(19) % 2 == 0,
    )


@pytest.mark.parametrize("name", ["grad-cam", "grad-cam++"])
def test_a_map_is_the_mean_over_layers_of_one_ordered_pair(
    name: str, some: pair_level_module.PairFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By plain autograd on one pair at a time, at layers 2 and 3 of the tiny network."""
    recognizer, method = tiny_recognizer(), METHODS[name]
    assert isinstance(method, GradientMethod)
    made = pair_level_module.cam_pair_maps(
        recognizer, method, some, layer="output", objective=parse_objective("cosine")
    )
    assert made.degenerate == 0
    monkeypatch.setattr("facefocus.saliency.methods.BEARABLE", 0.0)
    shaky = pair_level_module.cam_pair_maps(
        recognizer, method, some, layer="output", objective=parse_objective("cosine")
    )
    assert shaky.ill_conditioned == (19 if name == "grad-cam++" else 0)
    for pair in (0, 7, 18):
        probe = some.frames[[some.first[pair]] * 2]
        reference = torch.from_numpy(recognizer.embed(some.frames[[some.second[pair]]]))
        layers = recognizer.layers().resolve("output")
        with recognizer.capture(probe, layers) as captured:
            e_a = captured.embeddings[:1].clone().requires_grad_()
            value = torch.cosine_similarity(e_a, reference)
            (direction,) = torch.autograd.grad(value.sum(), e_a)
            gradients = captured.gradients(torch.cat([direction, direction]))
            total = torch.zeros(1, 32, 32)
            for index in layers:
                saliency = method.function(
                    captured.activations[index][:1],
                    gradients[index][:1],
                    method.resolve_options({}),
                )
                normalized, _ = minmax_normalize(saliency)
                total += recognizer.preprocessing.to_frame(normalized, (32, 32))
        expected, _ = minmax_normalize(total)
        np.testing.assert_allclose(made.maps[pair], expected[0].numpy(), atol=2e-4)


def test_a_pairs_map_does_not_depend_on_the_other_pairs(some: pair_level_module.PairFrames) -> None:
    recognizer, method = tiny_recognizer(), METHODS["layer-cam"]
    assert isinstance(method, GradientMethod)
    objective = parse_objective("cosine")
    whole = pair_level_module.cam_pair_maps(
        recognizer, method, some, layer="N", objective=objective
    )
    last = pair_level_module.PairFrames(
        some.frames, some.names, some.first[-2:], some.second[-2:], some.mated[-2:]
    )
    alone = pair_level_module.cam_pair_maps(
        recognizer, method, last, layer="N", objective=objective
    )
    np.testing.assert_array_equal(alone.maps, whole.maps[-2:])


def test_black_box_maps_are_those_of_an_experiment(some: pair_level_module.PairFrames) -> None:
    recognizer, method = tiny_recognizer(), METHODS["corr-rise"]
    assert isinstance(method, PerturbationMethod)
    three = pair_level_module.PairFrames(
        some.frames, some.names, some.first[:3], some.second[:3], some.mated[:3]
    )
    made = pair_level_module.masked_pair_maps(recognizer, method, three, seed=5)
    for pair in range(3):
        masks = mask_set(method, (32, 32), str(some.names[some.first[pair]]), seed=5)
        masked = masked_embeddings(recognizer, some.frames[some.first[pair]], masks)
        reference = recognizer.embed(some.frames[[some.second[pair]]])
        maps = torch.from_numpy(pair_maps(masks, masked, reference))
        expected, _ = minmax_normalize(maps)
        np.testing.assert_array_equal(made.maps[pair], expected[0].float().numpy())


# Contrasts and methods that explain people -------------------------------------------------------


def contrasted(
    name: str, pairs: pair_level_module.PairFrames, recognizer: Recognizer, layer: str = "1"
) -> np.ndarray:
    choice = pair_level_module.pair_method(name, layer)
    return pair_level_module.contrast_maps(choice, recognizer, pairs, 0, silent)[1]


def reds(*values: int) -> np.ndarray:
    frames = np.full((len(values), SIDE, SIDE, 3), 90, np.uint8)
    frames[:, ROW, COLUMN, 0] = values
    return frames


@pytest.mark.parametrize("name", ["layer-cam", "gradient-x-input", "occlusion-gradient"])
def test_what_is_against_a_twin_lies_where_the_twin_differs(name: str) -> None:
    """Towards (255, 1) more red helps; towards (0, 1) it hurts, by the gradient of the cosine."""
    pairs = pair_level_module.PairFrames(
        frames=reds(100, 255, 0),
        names=np.array(["probe", "mate", "twin"]),
        first=np.array([0]),
        second=np.array([1]),
        mated=np.array([True]),
        people=np.array(["ada", "ada", "nobody"]),
        against=np.array([2]),
    )
    contrast = contrasted(name, pairs, one_pixel("one"))[0]
    wanted = np.zeros((SIDE, SIDE))
    # Of the twin, LayerCAM has no map; in the others' the pixel is the least, and all else is 1.
    wanted[:] = 0.0 if name == "layer-cam" else -1.0
    wanted[ROW, COLUMN] = 1.0
    np.testing.assert_allclose(contrast, wanted, atol=1e-6)
    without = replace(pairs, against=None)
    with pytest.raises(ValueError, match="held against"):
        contrasted(name, without, one_pixel("one"))


def test_a_baseline_is_its_own_contrast_and_a_stranger_method_takes_the_twin(
    some: pair_level_module.PairFrames,
) -> None:
    pairs = replace(
        some,
        first=some.first[:3],
        second=some.second[:3],
        mated=some.mated[:3],
        people=np.array([f"p{i}" for i in range(6)]),
        against=np.array([3, 3, 4]),
    )
    blob = contrasted("center-gaussian", pairs, tiny_recognizer())
    assert np.array_equal(blob[0], blob[1]) and blob[0].max() == 1.0
    held = contrasted("triplet-grad-cam", pairs, tiny_recognizer())
    other = contrasted(
        "triplet-grad-cam", replace(pairs, against=np.array([5, 3, 4])), tiny_recognizer()
    )
    assert not np.array_equal(held[0], other[0]) and np.array_equal(held[1:], other[1:])


@pytest.mark.parametrize("name", ["gradient-x-input", "occlusion-gradient"])
def test_a_persons_map_is_the_mean_of_its_pair_maps(
    name: str, some: pair_level_module.PairFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two photos: each compared with the other. Before either is scaled."""
    method, recognizer = METHODS[name], tiny_recognizer()
    assert isinstance(method, FrameGradientMethod)
    frames, options = some.frames[:2], method.resolve_options({})
    hides = [hider("black", frames, [])] if method.needs_fill else []
    rng = [np.random.default_rng(0)]
    (whole,) = method.function([recognizer], [frames], hides, pixels=0, rngs=rng, options=options)
    raw: list[np.ndarray] = []

    def collected(maps: torch.Tensor) -> pair_level_module.PairMaps:
        raw.extend(maps.numpy())
        return pair_level_module.PairMaps(maps.float().numpy(), 0)

    monkeypatch.setattr(pair_level_module, "_collected", collected)
    pairs = replace(
        some, first=np.array([0, 1]), second=np.array([1, 0]), mated=np.array([True, True])
    )
    choice = pair_level_module.pair_method(name, "N")
    pair_level_module.pair_level_maps(choice, recognizer, pairs, 0, silent)
    np.testing.assert_allclose(np.mean(raw, axis=0), whole.map, atol=1e-7)


def test_a_learned_mask_of_a_pair_finds_the_pixel() -> None:
    pairs = pair_level_module.PairFrames(
        frames=reds(250, 255),
        names=np.array(["probe", "mate"]),
        first=np.array([0]),
        second=np.array([1]),
        mated=np.array([True]),
    )
    choice = pair_level_module.pair_method("learned-mask", "N")
    made = pair_level_module.pair_level_maps(choice, one_pixel("one"), pairs, 0, silent)
    # Ranks, scaled: the pixel is among the 5 of 100 that are hidden.
    assert (made.maps[0] >= made.maps[0][ROW, COLUMN]).sum() <= 5
