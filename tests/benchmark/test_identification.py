"""Columns of identification: by a plain loop, and runs without them stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.benchmark import session as session_module
from facefocus.benchmark.collect import collect
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.identification import PHOTO_RISKS
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.stages.score import scored_masks
from facefocus.core.errors import UserError
from facefocus.evaluation.photo_risk import template_scores
from facefocus.evaluation.verification import threshold
from tests.small import paint_faceset, tiny_recognizer

EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "faces": {"set": "painted", "identities": 7},
    "recognizers": {"source": "a"},
    "saliency": [{"method": "grad-cam"}, {"method": "random", "draws": 2}],
    "occlusion": {"budget": [0.05, 0.4], "fill": "black"},
    "evaluation": {"split": ["same", "heldout"]},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, pl.DataFrame, pl.DataFrame]:
    """One experiment without and with identification: the session of the latter, both tables."""
    folder = tmp_path_factory.mktemp("identification")
    faces = paint_faceset(folder / "painted")
    tables = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "load", lambda name, _: tiny_recognizer(name))
        for asked in (False, True):
            experiment = {**EXPERIMENT, "evaluation": {**EXPERIMENT["evaluation"],
                                                       "identification": asked}}  # fmt: skip
            spec = parse_experiment(experiment).model_dump_json()
            session = Session(SessionSpec(spec, faces, folder / "store", "torch"))
            execute(session)
            tables.append(collect(session))
    plain, identified = tables
    return session, plain, identified


def test_nothing_else_changes(runs: tuple[Session, pl.DataFrame, pl.DataFrame]) -> None:
    session, plain, identified = runs
    added = {f"{front}{name}" for name in PHOTO_RISKS for front in ("", "clean_")}
    assert set(identified.columns) - set(plain.columns) == {*added, "gallery_people"}
    everybody = np.unique(session.faces.identities)
    assert (identified["gallery_people"] == len(everybody)).all()
    assert identified.select(plain.columns).equals(plain)
    # Nor does what comes after it in the same process.
    asked = session.experiment.model_copy(
        update={"evaluation": session.experiment.evaluation.model_copy(
            update={"identification": False})}
    )  # fmt: skip
    spec = SessionSpec(asked.model_dump_json(), session.spec.faces, session.spec.store, "torch")
    again = Session(spec)
    again.__dict__["recognizers"] = session.recognizers
    execute(again)
    assert collect(again).equals(plain)


def test_figures_are_those_of_a_plain_loop(
    runs: tuple[Session, pl.DataFrame, pl.DataFrame],
) -> None:
    session, _, identified = runs
    block = next(block for block in session.plan.blocks if block.split == "same")
    person = block.people[3]
    output = next(
        task for task in session.plan.planned["scores"]["a", block.index]
        if task.maps.spec.method == "grad-cam"
    )  # fmt: skip
    mask = scored_masks(session, session.store.load(output.key))[3, 1]
    frames = np.asarray(session.faces.frames[person.tests]).copy()
    frames[:, mask] = 0
    model = tiny_recognizer("a")
    hidden = model.embed(frames).astype(np.float64)
    hidden /= np.linalg.norm(hidden, axis=1, keepdims=True)
    every = model.embed(np.asarray(session.faces.frames)).astype(np.float64)
    every /= np.linalg.norm(every, axis=1, keepdims=True)
    owners, clean = session.faces.identities, every[person.tests]
    size = len(clean) - 1
    level = session.threshold("a")
    templates = threshold(*template_scores(every, owners, size), "eer")
    any_photo, by_template, nearest = [], [], []
    for number, probe in enumerate(hidden):
        gallery = np.delete(clean, number, axis=0)
        any_photo.append((gallery @ probe >= level).any())
        own = gallery.mean(axis=0)
        own /= np.linalg.norm(own)
        by_template.append(own @ probe >= templates)
        others = []
        for name in sorted(set(owners) - {person.name}):
            mean = every[owners == name][:size].mean(axis=0)
            others.append(mean / np.linalg.norm(mean) @ probe)
        nearest.append(own @ probe >= max(others))
    row = identified.filter(
        pl.col("method") == "grad-cam", pl.col("budget") == 0.4, pl.col("split") == "same",
        pl.col("identity") == person.name,
    ).row(0, named=True)  # fmt: skip
    assert row["any_rate"] == np.mean(any_photo)
    assert row["template_rate"] == np.mean(by_template)
    assert row["rank_one"] == np.mean(nearest)


def test_any_photo_finds_at_least_what_a_pair_finds(
    runs: tuple[Session, pl.DataFrame, pl.DataFrame],
) -> None:
    _, _, identified = runs
    assert (identified["any_rate"] >= identified["rate"] - 1e-12).all()
    assert (
        identified["any_rate"].is_between(0, 1).all()
        and identified["rank_one"].is_between(0, 1).all()
    )
    assert identified["any_rate"].n_unique() > 1
    assert (identified["any_rate_strict"] <= identified["any_rate"]).all()
    assert (identified["rate_strict"] <= identified["rate"]).all()


def test_a_gallery_that_is_hidden_too_is_refused() -> None:
    both = {"compare": "both", "identification": True}
    with pytest.raises(
        UserError, match=r"looks in a gallery of clean photos\. Got compare = 'both'"
    ):
        parse_experiment({**EXPERIMENT, "evaluation": both})
