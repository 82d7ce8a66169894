"""The mask of one person that is searched with the fill in the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from facefocus.benchmark import session as session_module
from facefocus.benchmark.collect import collect
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.explained_images import MemoryImages
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.core.progress import silent
from facefocus.faces.faceset import Identity, make_faceset
from facefocus.models.recognizer import Recognizer
from facefocus.models.zoo import entries
from facefocus.saliency.explainer import MapRequest, MapSpec
from facefocus.saliency.searched_mask import SEARCHED_MASKS, soft_threshold
from facefocus.saliency.shared_mask import top_pixels
from tests.small import paint_faceset, tiny_recognizer


class _Square:
    """A black box that reads the mean of one square and of nothing else."""

    name = fingerprint = "square"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        square = frames[:, SQUARE, SQUARE].mean(axis=(1, 2, 3)) / 255
        return np.stack([square, np.full(len(frames), 0.5)], axis=1)


SQUARE = slice(2, 10)


def test_it_hides_what_the_recognizer_reads_for_each_person() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 40, (5, 28, 28, 3), dtype=np.uint8)
    frames[:, SQUARE, SQUARE] = 250
    faces = make_faceset(frames, ["a", "a", "b", "b", "c"], list("vwxyz"), "test")
    images = MemoryImages(faces, {"square": cast(Recognizer, _Square())}, 0, np.arange(5))
    spec = MapSpec(
        "searched-mask", "searched-mask", (("steps", "200"),), fill="inpaint", budget=100 / 28**2
    )
    people = [Identity("a", np.array([0, 1])), Identity("b", np.array([2, 3]))]
    alone = Identity("c", np.array([4]))
    request = MapRequest([spec], ["square"], [*people, alone], images)
    ((_, made),) = SEARCHED_MASKS.maps(request, silent)
    assert made.degenerate.tolist() == [0, 0, 1] and not made.maps[2].any()
    for values in made.maps[:2]:
        assert top_pixels(values, 100)[SQUARE, SQUARE].mean() > 0.8
    # Whoever is searched beside: a person's map stays.
    smaller = MapRequest([spec], ["square"], people[1:], images)
    ((_, again),) = SEARCHED_MASKS.maps(smaller, silent)
    np.testing.assert_array_equal(again.maps[0], made.maps[1])


def test_the_threshold_is_that_of_the_card_or_half_of_the_clean_pairs() -> None:
    # Two people with cosines of .6 and .8 between their two photos.
    units = np.array([[[1, 0], [0.6, 0.8]], [[1, 0], [0.8, 0.6]]])
    assert soft_threshold(tiny_recognizer("no card"), units) == pytest.approx(0.35)
    card = entries()["mobilefacenet-casia"].pair_threshold
    assert card is not None
    assert soft_threshold(tiny_recognizer("mobilefacenet-casia"), units) == card


EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "faces": {"set": "painted", "identities": 4},
    "recognizers": {"source": ["a", "b"]},
    "saliency": [
        {"method": "searched-mask", "options": {"steps": 3}, "sources": ["a", "b"]},
        {"method": "searched-mask", "options": {"steps": 3}},
    ],
    "occlusion": {"budget": 0.1, "fill": ["black", "inpaint"]},
    "evaluation": {"split": ["same", "heldout"]},
}


SPLITS = {"same", "half", "heldout"}


def test_a_run_has_a_map_for_each_fill_source_and_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        session_module, "load", lambda name, given: tiny_recognizer(name, seed="ab".index(name))
    )
    faces = paint_faceset(tmp_path / "painted")
    asked = parse_experiment(EXPERIMENT).model_dump_json()
    session = Session(SessionSpec(asked, faces, tmp_path / "store", "torch"))
    execute(session)
    rows = collect(session).filter(pl.col("target") == "a")
    assert set(rows["source"]) == {"a", "b", "a+b"}
    assert set(rows["fill"]) == {"black", "inpaint"} and set(rows["split"]) == SPLITS
    assert (rows["masked_pixels"] == rows["budget_pixels"]).all()
