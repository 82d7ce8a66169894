from __future__ import annotations

import math
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
from facefocus.benchmark.people import people_beside
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.stages.share import ShareTask
from facefocus.core.errors import UserError
from facefocus.faces.faceset import FaceSet, make_faceset
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.explainer import MapSpec
from facefocus.saliency.methods import METHODS
from facefocus.saliency.shared_mask import (
    WIDTH,
    People,
    climb,
    rows_of_others,
    search,
    top_pixels,
)
from tests.small import paint_faceset, tiny_recognizer

OPTIONS = METHODS["shared-mask"].resolve_options({})


def test_top_pixels_are_exactly_as_many_and_of_equal_ones_the_first() -> None:
    values = np.array([[0.2, 0.9], [0.9, 0.9]])
    assert top_pixels(values, 2).tolist() == [[False, True], [True, False]]
    assert top_pixels(values, 0).sum() == 0 and top_pixels(values, 4).all()


def test_the_soft_count_by_hand() -> None:
    # Two people at right angles, two photos each; every non-mated cosine is 0 and so the threshold.
    a, b = [1.0, 0.0], [0.0, 1.0]
    people = People.of(np.array([a, a, b, b]), 2)
    assert people.threshold == pytest.approx(0)
    # Hidden, a's photos turn by 90 degrees: cosine 0 counts 1/2. b's stay at 1.
    hidden = np.array([b, b, [0.0, 5.0], b])
    whole = 1 / (1 + math.exp(-1 / WIDTH))
    assert people.matched(hidden) == pytest.approx((0.5 + whole) / 2)


def test_the_threshold_is_the_cosine_that_one_non_mated_pair_in_a_hundred_reaches() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(60, 4))
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    owner = np.repeat(np.arange(20), 3)
    cosines = (units @ units.T)[owner[:, None] != owner]
    assert People.of(embeddings, 3).threshold == pytest.approx(np.quantile(cosines, 0.99))


def test_a_climb_never_goes_up_and_finds_what_matters() -> None:
    rng = np.random.default_rng(1)
    weights = np.zeros((28, 28))
    weights[4:10, 3:11] = weights[4:10, 17:25] = 1.0  # two eyes, mirrored
    seen: list[float] = []

    def cost(mask: np.ndarray) -> float:
        assert mask.sum() == 96
        seen.append(-float((weights * mask).sum()))
        return seen[-1]

    saliency = climb(cost, (28, 28), 96, steps=800, rng=rng)
    assert -cost(top_pixels(saliency, 96)) == -min(seen)
    assert min(seen) <= -80 < seen[0]  # of at most 96
    assert len(np.unique(saliency)) == 28 * 28
    np.testing.assert_array_equal(
        climb(cost, (28, 28), 96, steps=30, rng=np.random.default_rng(2)),
        climb(cost, (28, 28), 96, steps=30, rng=np.random.default_rng(2)),
    )


class _Brightness:
    """A black box that knows people by the brightness of the upper and of the lower half."""

    name = fingerprint = "brightness"
    size = 2

    def embed(self, frames: np.ndarray) -> np.ndarray:
        upper = frames[:, :14].mean(axis=(1, 2, 3)) / 255 - 0.5
        return np.stack([upper, np.full(len(frames), 0.02)], axis=1)


BOX = {"brightness": cast(Recognizer, _Brightness())}


@pytest.fixture
def faces() -> FaceSet:
    """Twelve people, half of them bright at the top, half dark; two photos each."""
    rng = np.random.default_rng(0)
    people = [f"person {number:02}" for number in range(12) for _ in range(2)]
    frames = rng.integers(100, 156, (24, 28, 28, 3), dtype=np.uint8)
    frames[:, :14] += np.where(np.arange(24) // 2 % 2, 90, -90)[:, None, None, None].astype(
        np.uint8
    )
    return make_faceset(frames, people, [f"image {row}" for row in range(24)], "test")


def test_it_hides_what_the_recognizer_looks_at_and_sees_no_explained_person(
    faces: FaceSet,
) -> None:
    images = MemoryImages(faces, BOX, 0, np.arange(4))
    assert [person.name for person in images.others()] == [f"person {n:02}" for n in range(2, 12)]
    spec = _spec(steps="150")
    saliency = search(spec, ["brightness"], images)
    mask = top_pixels(saliency, images.pixels(0.4))
    assert mask[:14].sum() > 1.3 * mask[14:].sum()
    # Photos of the explained change nothing.
    frames = np.array(faces.frames)
    frames[:4] = 0
    other = make_faceset(frames, faces.identities.tolist(), faces.names.tolist(), "test")
    again = MemoryImages(other, BOX, 0, np.arange(4))
    np.testing.assert_array_equal(search(spec, ["brightness"], again), saliency)


def _spec(**options: str) -> MapSpec:
    given = tuple(sorted((OPTIONS | options).items()))
    return MapSpec("shared-mask", "shared-mask", given, fill="inpaint", budget=0.4)


def test_too_few_other_people_is_said(faces: FaceSet) -> None:
    beside = people_beside(faces, [f"person {number:02}" for number in range(5)])
    with pytest.raises(UserError, match=r"at least 8 people .* Got 7\. Choose fewer people"):
        rows_of_others(beside, OPTIONS, 0)


def test_photos_are_drawn_of_each_person_alike(faces: FaceSet) -> None:
    rows = rows_of_others(people_beside(faces, []), OPTIONS | {"people": "9"}, 0)
    names = faces.identities[rows].reshape(9, 2)
    assert (names[:, 0] == names[:, 1]).all() and len(set(names[:, 0])) == 9


EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "faces": {"set": "painted", "identities": 5},
    "recognizers": {"source": "a", "target": ["a", "b"]},
    "saliency": [
        {"method": "shared-mask", "options": {"steps": 3, "people": 8}},
        {"method": "grad-cam"},
    ],
    "occlusion": {"budget": [0.05, 0.2], "fill": "black"},
    "controls": {"control": ["population", "shifted"], "draws": 1},
    "evaluation": {"split": ["same", "heldout"]},
}


def test_a_run_searches_once_for_everybody_and_the_mask_is_the_same_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        session_module, "load", lambda name, given: tiny_recognizer(name, seed="ab".index(name))
    )
    faces = paint_faceset(tmp_path / "painted")
    session = _opened(faces, tmp_path, EXPERIMENT)
    shared = [task for task in session.plan.tasks if isinstance(task, ShareTask)]
    assert [task.spec.budget for task in shared] == [0.05, 0.2]
    execute(session)
    rows = collect(session).filter(pl.col("method") == "shared-mask")
    assert set(rows["source"]) == {"a"} and set(rows["target"]) == {"a", "b"}
    assert set(rows["split"]) == {"same", "heldout"}
    assert set(rows["control"]) == {None, "shifted"}  # everybody's mean map is the map itself
    assert (rows["masked_pixels"] == rows["budget_pixels"]).all()
    assert set(rows["budget_pixels"]) == {pixel_count(b, *session.frame) for b in (0.05, 0.2)}
    # Who is explained is part of the key: others could be searched on.
    more = _opened(faces, tmp_path, EXPERIMENT | {"faces": {"set": "painted", "identities": 6}})
    assert not {task.key for task in shared} & set(more.plan.keys()["shared"])


def test_a_run_on_everybody_says_that_nobody_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "load", lambda name, given: tiny_recognizer(name))
    faces = paint_faceset(tmp_path / "painted")
    everybody = EXPERIMENT | {"faces": {"set": "painted"}}
    with pytest.raises(UserError, match="whom the experiment does not explain"):
        _ = _opened(faces, tmp_path, everybody).plan


def _opened(faces: Path, run: Path, experiment: dict[str, Any]) -> Session:
    asked = parse_experiment(experiment).model_dump_json()
    return Session(SessionSpec(asked, faces, run / "store", "torch"))
