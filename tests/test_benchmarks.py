"""The benchmarks' arithmetic: ratios, exponents, naive counts, verdicts. Nothing is timed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from benchmarks import by_hand, mask_sets, measure, page, rivals, whole_jobs
from benchmarks.backends import Agreement, score_lines, tied, unlike_scores
from benchmarks.listed_photographs import drawn
from benchmarks.measure import (
    Spread,
    calls_one_by_one,
    exponent,
    in_turns,
    matmul_peak,
    ratio,
)
from benchmarks.page import table_lines, write_page
from benchmarks.results import Results
from facefocus.faces.align import ARCFACE_TEMPLATE, crop, similarity_transform
from facefocus.faces.images import decode_rgb
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.zoo import load
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.control_variate import patch_covariance, patch_means, read_points
from facefocus.saliency.objectives import parse_objective


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that only moves when it is told to."""
    now = [100.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield now


def test_ratios_are_taken_repeat_by_repeat() -> None:
    # 30 x (1, 2, 4, 9) / (10, 10, 30, 30) = 3, 6, 4, 9: quartiles 3.75, 5, 6.75.
    spread = ratio([1, 2, 4, 9], [10, 10, 30, 30], 30)
    assert spread == Spread(median=5.0, low=3.75, high=6.75)


def test_works_take_turns_after_one_round_unmeasured(clock: list[float]) -> None:
    calls: list[tuple[str, int]] = []

    def work(name: str, taken: float, repeat: int) -> None:
        calls.append((name, repeat))
        clock[0] += taken + repeat

    times = in_turns(
        {"a": lambda repeat: work("a", 1, repeat), "b": lambda repeat: work("b", 5, repeat)}, 3
    )
    assert times == {"a": [1, 2, 3], "b": [5, 6, 7]}
    assert calls == [("a", 0), ("b", 0), *((name, turn) for turn in range(3) for name in "ab")]


def test_a_power_law_gives_its_exponent() -> None:
    sizes = [10, 30, 100, 300]
    assert exponent(sizes, [0.2 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [7.0] * 4) == pytest.approx(0)
    # Logarithms 0, 1, 2 (base 10) against 0, 1, 3: least squares gives 1.5.
    assert exponent([1, 10, 100], [1, 10, 1000]) == pytest.approx(1.5)


def test_a_tool_that_makes_one_map_at_a_time_is_called_so_often() -> None:
    # W1: 30 ordered pairs of 6 images, 9 layers, 3 methods; W3: 7 losses.
    assert calls_one_by_one(6, layers=9, methods=3) == 810
    assert calls_one_by_one(6, objectives=7) == 210
    assert calls_one_by_one(1) == 0


def test_the_peak_is_the_best_of_its_repeats(clock: list[float]) -> None:
    taken = iter([9.0, 4.0, 2.0, 3.0])

    def product() -> None:
        clock[0] += next(taken)

    # The first is not measured; 2 x 100^3 operations in 2 s.
    assert matmul_peak(product, 100, repeats=3) == 1e6


# Whole jobs by hand -------------------------------------------------------------------------------


def test_the_script_by_hand_hides_what_a_run_hides() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    mask = by_hand.top_pixels(rng.random((112, 112)), 0.05)
    assert mask.sum() == pixel_count(0.05, 112, 112)
    rngs = [fill_rng(0, name) for name in "ab"]
    for fill in set(whole_jobs.FILLS) - {"random"}:
        np.testing.assert_array_equal(
            by_hand.hide(frames, mask, fill, 0), hider(fill, frames, rngs)(mask), fill
        )
    drawn = by_hand.hide(frames, mask, "random", 0)
    assert (drawn[:, ~mask] == frames[:, ~mask]).all() and (drawn[:, mask] != 0).any()


def test_insightfaces_crop_is_the_least_squares_similarity(tmp_path: Path) -> None:
    listed = drawn(tmp_path / "drawn", 1)
    picture, points = decode_rgb(listed.files[0].read_bytes(), "one"), listed.landmarks[0]
    theirs = by_hand.norm_crop(picture, points).astype(int)
    ours = crop(picture, similarity_transform(points, ARCFACE_TEMPLATE)).astype(int)
    assert np.abs(theirs - ours).max() <= 1


@pytest.mark.skipif(
    find_spec("onnxruntime") is None or find_spec("onnx") is None,
    reason="the extra 'onnx' is not installed",
)
def test_insightfaces_way_and_ours_come_to_the_same_embeddings(tmp_path: Path) -> None:
    """Also where every channel has a standard deviation of its own."""
    small = load("mobilefacenet-mini-all")
    assert isinstance(small, TorchRecognizer)
    reader = replace(small.preprocessing, mean=(120.0, 110.0, 100.0), std=(60.0, 55.0, 50.0))
    box = TorchRecognizer("small", small.module, reader, identity="")
    listed, made = drawn(tmp_path / "drawn", 18), dict[str, np.ndarray]()
    works = whole_jobs.list_works(listed, box, box, tmp_path / "small.onnx", made)
    for work in works.values():
        work(0)
    ours = by_hand.unit(made["facefocus"])
    for title in whole_jobs.RIVAL_WAYS:
        for name in (title, f"embed {title}"):
            cosines = (ours * by_hand.unit(made[name])).sum(axis=1)
            assert len(cosines) == 18 and cosines.min() > whole_jobs.LEAST_COSINE
    for our_picture, their_picture in zip(made["read"], made["read by OpenCV"], strict=True):
        assert np.abs(our_picture.astype(int) - their_picture[..., ::-1]).max() <= 1


def test_the_page_tells_where_the_time_goes_and_what_the_peak_allows() -> None:
    part = {"name": "scores", "seconds": 2.0, "processor": 3.0, "tasks": 4, "passes": 5000}
    rest = {"name": "page", "seconds": 1.0, "processor": 1.0, "tasks": 0, "passes": 0}
    lines = "\n".join(page._notes([{"what": "the job", "parts": [part, rest]}]))
    assert "the job: 3.0 s, 4.0 s of processors." in lines
    assert "| scores | 2.0 | 3.0 | 75% | 4 | 5,000 |" in lines
    assert "| page | 1.0 | 1.0 | 25% |  |  |" in lines
    steps = {"what": "a list", "rival": "a tool", "steps": {"reading": [0.04, 0.02]}}
    (note,) = page._notes([steps])
    assert note.startswith(
        "a list, against a tool: reading alone in processor seconds 0.50x (0.040 s"
    )
    (note,) = page._notes([{"what": "the list of LFW", "left_out": "LFW was not found."}])
    assert note == "Left out: the list of LFW. LFW was not found.\n"
    row = {"target": 2.5, "median": 2.0, "share_of_peak": 1.0}
    assert page._verdict(row) == "target 2.5x out of reach: the peak allows 2.0x"
    assert page._verdict({**row, "share_of_peak": 0.5}) == "target 2.5x NOT met"


# Two runs -----------------------------------------------------------------------------------------


def test_masks_differ_by_ties_only() -> None:
    saliency = np.array([[0.9, 0.5, 0.5 + 1e-7], [0.1, 0.0, 0.5]], np.float32)

    def mask(*pixels: tuple[int, int]) -> np.ndarray:
        drawn = np.zeros((2, 3), bool)
        drawn[tuple(zip(*pixels, strict=True))] = True
        return drawn

    first = mask((0, 0), (0, 1))
    assert tied(saliency, first, first)
    assert tied(saliency, first, mask((0, 0), (0, 2)))  # another of the tied
    assert not tied(saliency, first, mask((0, 0), (1, 0)))  # 0.1 is no tie of 0.5
    assert not tied(saliency, first, mask((0, 0)))  # another area


def test_scores_that_differ_are_told_by_method_and_layer_with_their_ill_conditioned_maps() -> None:
    rows = [
        ("grad-cam++", "1", 0.05, "Ada", 0.5, 3),
        ("grad-cam++", "1", 0.10, "Ada", 0.4, 3),
        ("grad-cam++", "1", 0.05, "Bob", 0.5, 0),
        ("grad-cam++", "1", 0.10, "Bob", 0.4, 0),
        ("grad-cam", "1", 0.05, "Ada", 0.6, 0),
        ("random", None, 0.05, "Ada", 0.7, 0),
    ]
    columns = ["method", "layer", "budget", "identity", "cosine", "maps_ill_conditioned"]
    first = pl.DataFrame(rows, schema=columns, orient="row")
    # Ada's by .079 at one budget, Bob's by .002; Grad-CAM's to rounding.
    others = [0.5, 0.479, 0.502, 0.4, 0.6 + 1e-6, 0.7]
    unlike = unlike_scores(first, first.with_columns(cosine=pl.Series(others)))
    (row,) = unlike.rows(named=True)
    assert row.pop("largest") == pytest.approx(0.079)
    assert row == {
        "method": "grad-cam++", "layer": "1", "people": 2, "unlike": 2, "ill_conditioned": 1,
    }  # fmt: skip
    assert score_lines(unlike) == [
        "  grad-cam++ at layer 1: cosines of 2 of 2 people differ, by up to 0.0790; 1 of these have"
        " ill-conditioned maps\n"
    ]
    assert Agreement(1, 0.002, 0.079, 8, 3, 2, 2, unlike).holds
    assert not Agreement(1, 0.002, 0.079, 8, 3, 2, 1, unlike).holds
    assert not Agreement(1, 0.003, 0.079, 8, 3, 2, 2, unlike).holds


# The rivals ---------------------------------------------------------------------------------------

needs_tools = pytest.mark.skipif(
    find_spec("pytorch_grad_cam") is None or find_spec("captum") is None,
    reason="make bench installs pytorch-grad-cam and captum",
)


@needs_tools
def test_the_tools_are_used_as_their_definitions_say() -> None:
    """Grad-CAM of one pair by autograd, by hand, against both tools."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 5, 3, stride=2), nn.Flatten(),
        nn.Linear(5 * 9, 6),
    ).eval()  # fmt: skip
    image, reference = torch.randn(1, 3, 8, 8), torch.randn(6)
    target = rivals.target_of(parse_objective("cosine"), reference)
    activation = module[0](image).detach().requires_grad_()
    value = torch.cosine_similarity(module[1:](activation)[0], reference, dim=0)
    (gradient,) = torch.autograd.grad(value, activation)
    assert target(module(image)[0]).item() == pytest.approx(value.item(), abs=1e-6)
    raw = (gradient.mean((2, 3), keepdim=True) * activation).sum(1)[0].detach()
    by_captum = rivals.by_captum(module, module[0], image, target)
    torch.testing.assert_close(by_captum, raw, rtol=1e-4, atol=1e-6)
    by_tool = rivals.by_grad_cam(module, module[0], "grad-cam", image, target)
    positive = raw.relu().numpy()
    np.testing.assert_allclose(by_tool, positive / positive.max(), atol=1e-4)


def test_the_direct_loop_is_the_definition_of_s_rise() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    masks = np.array([[[1, 0], [0.5, 1]], [[0, 1], [1, 0]]], np.float32)
    reference = torch.tensor([1.0, -2.0, 0.5])

    def preprocess(part: torch.Tensor) -> torch.Tensor:
        return part.permute(0, 3, 1, 2).float() / 255

    saliency = rivals.direct_rise(module, preprocess, frame, masks, reference, batch=1)
    expected = np.zeros((2, 2))
    for mask in masks:
        hidden = torch.from_numpy(np.rint(frame * mask[..., None])).permute(2, 0, 1)[None]
        embedded = module(hidden.float() / 255)[0]
        expected += torch.cosine_similarity(embedded, reference, dim=0).item() * mask
    np.testing.assert_allclose(saliency, expected / (2 * 0.5), atol=1e-6)


# The page -----------------------------------------------------------------------------------------


def fabricated() -> dict[str, list[dict[str, Any]]]:
    single = {
        "what": "Grad-CAM++ at N-1, Net", "rival": "tool, 30 calls", "target": 15, "median": 16.2,
        "low": 15.1, "high": 17.9, "seconds": 0.5, "rival_seconds": 8.1,
        "agreement": {"grad-cam": 2e-6},
        "passes": {"forward": 0.3, "backward": 0.1, "rounds": 5},
    }  # fmt: skip
    speed = {
        "what": "occluded embeddings, Net, fast", "rival": "eager", "target": 4.0, "median": 3.9,
        "low": 3.8, "high": 4.1, "images_per_second": {"median": 63.0, "low": 60.0, "high": 64.0},
        "eager_images_per_second": 16.0, "share_of_peak": 0.72, "share_target": 0.7,
        "eager_share_of_peak": 0.4,
    }  # fmt: skip
    growth = {
        "what": "growth with identities", "sizes": [10, 100], "seconds": [1.0, 11.0],
        "peak_bytes": [2**28, 2**28], "time_exponent": 1.04, "memory_exponent": 0.0,
        "time_target": [0.95, 1.05],
    }  # fmt: skip
    peaks = {"what": "peak", "peaks": {"float32": 2e11}}
    return {"w2": [single], "w5": [speed, peaks], "w6": [growth, {**growth, "what": "growth"}]}


def test_the_table_says_what_is_met() -> None:
    lines = list(table_lines(fabricated()))
    assert "16.2x  (15.1 to 17.9)" in lines[0] and "target 15x met  against tool" in lines[0]
    assert "3.9x" in lines[1] and "target 4x NOT met" in lines[1]
    assert "63.0 images/s, 72% of the matmul peak (target 70% met)" in lines[2]
    assert "time ~ n^1.04, memory ~ n^0.00  target time 0.95 to 1.05 met" in lines[3]


def test_results_are_kept_by_workload_and_make_the_page(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    assert not results.fresh("w2")
    for name, rows in fabricated().items():
        results.save(name, rows, 12.3)
    assert results.fresh("w2") and not results.fresh("w1")
    assert list(results.all()) == ["w2", "w5", "w6"]
    (kept,) = (tmp_path / "results").glob("*/w2.json")
    other = json.loads(kept.read_text())
    other["machine"]["cores"] = 999
    kept.write_text(json.dumps(other))
    assert not results.fresh("w2")
    # A card measured elsewhere has a part of its own, and takes nothing from the others.
    folder = tmp_path / "results" / "some-card-16-cores"
    folder.mkdir()
    engine = {"best": 55_200.4, "least_batch": 128}
    figures = {"engine": engine, "scoring": 50_300.0, "rise": 40_000.0, "scoring_busy": 0.91}
    figures |= {"compiled": 62_875.0, "scoring_share_of_compiled": 0.8, "share_of_peak": 0.05}
    job = {"seconds": 7.5, "until_first_pass": 3.25, "images": 1000, "padded": 21}
    card = {"machine": {"card": "Some Card"}, "figures MobileFaceNet cuda-half": figures}
    (folder / "card.json").write_text(json.dumps(card | {"job cuda-half": job}))
    page = write_page(results.machines(), tmp_path / "docs").read_text()
    assert (
        "| MobileFaceNet cuda-half | 55,200 | 62,875 | 50,300 | 80% | 91% | 5% | 40,000 |"
        " not measured | not measured | 128 |"
    ) in page
    assert "7.5 s from the shell, 3.2 s of them before the first pass; 1000 images, 2.1%" in page
    assert "**16.2x** | 15.1 to 17.9 | 15x met | 0.50 s | 8.1 s |" in page
    assert "63.0 (eager 16.0) | 72% (target 70% met)" in page
    # 3.9 times as fast at 72 % of the peak.
    assert "eager reaches 40% of the float32 peak; at the whole peak" in page
    assert "this would be 5.4 times as fast as eager" in page
    assert "of 0.50 s, the 6 images forward take 0.30 s and 5 rounds backward 0.10 s" in page
    assert "float32 200." in page and "grad-cam 2.0e-06." in page
    assert "(10, 100): 1.0, 11.0 s, time ~ n^1.04 target time 0.95 to 1.05 met" in page
    for picture in ("ratios", "growth"):
        (made,) = (tmp_path / "docs" / "images").glob(f"performance-*-{picture}.png")
        assert made.stat().st_size > 5000


def corners(masks: np.ndarray) -> np.ndarray:
    """First row and column of the one patch of each mask."""
    hidden = masks == 0
    return np.stack([hidden.any(axis=2).argmax(axis=1), hidden.any(axis=1).argmax(axis=1)], axis=1)


def test_stratified_patches_have_every_place_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """One patch, so that it can be seen."""
    monkeypatch.setattr(mask_sets, "PATCHES", 1)
    rng = np.random.default_rng(0)
    # At a side of 10 a patch is 3 wide and has 8 places: each is a stratum.
    positions = corners(mask_sets.stratified_masks(rng, 64, (10, 10), {}))
    assert sorted(map(tuple, positions.tolist())) == list(product(range(8), repeat=2))
    # At a side of 14 it is 4 wide and has 11: strata begin and end within places.
    counts = np.zeros((11, 11))
    for _ in range(400):
        np.add.at(counts, tuple(corners(mask_sets.stratified_masks(rng, 64, (14, 14), {})).T), 1)
    expected = 400 * 64 / 121
    assert np.abs(counts - expected).max() < 4.5 * expected**0.5


def test_stratified_masks_cover_as_those_of_corr_rise_do() -> None:
    """Each pixel, and two pixels at once, as ten independent patches do."""
    rng = np.random.default_rng(1)
    made = [mask_sets.stratified_masks(rng, 64, (16, 16), {}) for _ in range(300)]
    masks = np.concatenate(made).reshape(-1, 256).astype(np.float64)
    error = 5 * 0.5 / len(masks) ** 0.5
    assert np.abs(masks.mean(axis=0) - patch_means((16, 16))).max() < error
    points = np.add.outer(np.array(read_points(16)) * 16, read_points(16)).ravel()
    together = masks.T @ masks[:, points] / len(masks)
    means = patch_means((16, 16))
    exact = patch_covariance((16, 16)) + np.outer(means, means[points])
    assert np.abs(together - exact).max() < error


def test_differences_of_maps_are_those_of_people() -> None:
    quality = mask_sets.Quality
    rows = [
        [("plain", 10, quality(0.9 + shift, 0.5, 1.0)), ("plain", 10, quality(0.8, 0.5, 1.0)),
         ("other", 5, quality(0.95, 0.4 + shift, 0.5))]
        for shift in (0.0, 0.02, 0.04, 0.06, 0.08)
    ]  # fmt: skip
    _, _, plain, other = mask_sets.table(rows, ("plain", 10))
    assert "| 0.8700 | 0.8500 to 0.8900 | - | 0.5000 | - |" in plain
    # 0.1 less half of the shift: +0.08, Student's interval 0.08 +- 2.776 * 0.0158 / sqrt(5).
    assert other.startswith("| other | 5 | 0.9500 | 0.9500 to 0.9500 | +0.0800 [+0.0604, +0.0996]")
