"""Maps of frontal photos, tried on turned ones, and the reverse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.benchmark import people as people_module
from facefocus.benchmark import session as session_module
from facefocus.benchmark.collect import collect
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.people import CROSS_POSE, by_pose
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.core.errors import UserError
from facefocus.evaluation.retention import retention
from facefocus.faces.faceset import Identity, make_faceset
from facefocus.report.document import Table
from facefocus.report.pose_view import pose
from facefocus.report.report_data import Report
from tests.report.fabricated import row, table
from tests.small import paint_faceset, tiny_recognizer

EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "faces": {"set": "painted"},
    "recognizers": {"source": "a"},
    "saliency": [{"method": "grad-cam"}, {"method": "random", "draws": 1}],
    "occlusion": {"budget": [0.2], "fill": "black"},
    "evaluation": {"split": ["cross-pose"]},
}


def every_second_is_turned(index: Any, rows: np.ndarray) -> np.ndarray:
    return np.where(rows % 2, 30.0, 3.0)


def test_masks_of_one_pose_are_tried_on_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_module, "photo_yaw", every_second_is_turned)
    monkeypatch.setattr(session_module, "load", lambda name, _: tiny_recognizer(name))
    faces = paint_faceset(tmp_path / "painted")
    asked = parse_experiment(EXPERIMENT).model_dump_json()
    session = Session(SessionSpec(asked, faces, tmp_path / "store", "torch"))
    blocks = {block.split: block for block in session.plan.blocks}
    assert set(blocks) == set(CROSS_POSE)
    first, second = (sorted(blocks[split].people, key=lambda who: who.name) for split in CROSS_POSE)
    for frontal, turned in zip(first, second, strict=True):
        assert (frontal.rows % 2 == 0).all() and (frontal.tests % 2 == 1).all()
        assert np.array_equal(frontal.rows, turned.tests) and np.array_equal(
            frontal.tests, turned.rows
        )
    execute(session)
    results = collect(session)
    assert set(results["split"]) == set(CROSS_POSE)
    # Nothing hidden, figures are those of the photos that hiding is tried on.
    person = blocks[CROSS_POSE[0]].people[0]
    clean = tiny_recognizer("a").embed(np.asarray(session.faces.frames[person.tests]))
    expected = retention(clean, clean, session.threshold("a"))
    (cosine,) = results.filter(
        pl.col("identity") == person.name, pl.col("split") == CROSS_POSE[0],
        pl.col("method") == "grad-cam",
    )["clean_cosine"]  # fmt: skip
    assert cosine == pytest.approx(expected.clean_cosine)


def test_a_turned_photo_that_equals_a_frontal_one_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(people_module, "photo_yaw", every_second_is_turned)
    frames = np.random.default_rng(0).integers(0, 256, (12, 112, 112, 3), np.uint8)
    frames[3] = frames[2]
    faces = make_faceset(frames, ["A"] * 6 + ["B"] * 6, [str(n) for n in range(12)], "s")
    people = [Identity("A", np.arange(6)), Identity("B", np.arange(6, 12))]
    poses = by_pose(faces, people)
    assert poses["A"][0].tolist() == [0, 2, 4] and poses["A"][1].tolist() == [1, 5]
    assert poses["B"][1].tolist() == [7, 9, 11]
    # One photo of a side is too few.
    assert by_pose(faces, [Identity("A", np.array([0, 2, 3, 5]))]) == {}


def test_without_landmarks_or_people_the_reason_is_said(tmp_path: Path) -> None:
    faces = paint_faceset(tmp_path / "painted")
    asked = parse_experiment(EXPERIMENT).model_dump_json()
    session = Session(SessionSpec(asked, faces, tmp_path / "store", "torch"))
    with pytest.raises(UserError, match="cross-pose only for a face set with landmarks"):
        people_module.make_blocks(session.experiment, session.faces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people_module, "photo_yaw", lambda index, rows: np.zeros(len(rows)))
        with pytest.raises(UserError, match="or more frontal photos"):
            people_module.make_blocks(session.experiment, session.faces)


def test_the_view_compares_the_same_people(tmp_path: Path) -> None:
    names = [f"P{number}" for number in range(8)]
    rows = [row(split="heldout", identity=name, source="net", rate=0.5) for name in [*names, "Q"]]
    rows += [row(split=CROSS_POSE[0], identity=name, source="net", rate=0.75) for name in names]
    rows += [row(split=CROSS_POSE[1], identity=name, source="net", rate=0.25) for name in names]
    section = pose(Report(tmp_path, table(rows), {}, "", tmp_path))
    assert section is not None
    (shown,) = section.blocks
    assert isinstance(shown, Table)
    (record,) = shown.rows
    assert record["people"] == 8
    assert [record[split] for split in ("heldout", *CROSS_POSE)] == pytest.approx([0.5, 0.25, 0.75])
    assert record[f"{CROSS_POSE[0]} less"] == pytest.approx(0.25)
    assert record[f"{CROSS_POSE[1]} less"] == pytest.approx(-0.25)
    assert pose(Report(tmp_path, table(rows[:9]), {}, "", tmp_path)) is None
    # Nobody has a score.
    none = table(rows).with_columns(rate=pl.lit(None, pl.Float64))
    assert pose(Report(tmp_path, none, {}, "", tmp_path)) is None
