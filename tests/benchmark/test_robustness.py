"""The robustness stage: what it measures, by hand; and that runs without it stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.benchmark import session as session_module
from facefocus.benchmark.collect import write_run
from facefocus.benchmark.cost import estimate
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.result_columns import CONFIGURATION
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.stages.robustness import ROBUSTNESS, RobustnessTask
from facefocus.benchmark.stages.score import scored_masks
from facefocus.core.errors import UserError
from facefocus.evaluation.nuisances import nuisance_rng, seen_under
from facefocus.evaluation.retention import retention
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.fills import fill_rng, hider
from tests.small import paint_faceset, tiny_recognizer

NUISANCES = ["median-3", "inpaint-guessed", "shift-2", "mask-shift-2", "refill-white", "gallery"]
EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "faces": {"set": "painted", "identities": 7},
    "recognizers": {"source": "a"},
    "saliency": [
        {"method": "grad-cam"},
        {"method": "random", "draws": 2},
    ],
    "occlusion": {"budget": [0.05, 0.2], "fill": ["black", "random"]},
    "controls": {"control": "shifted", "draws": 1},
    "evaluation": {"split": ["same", "heldout"]},
}
ROBUST = {**EXPERIMENT, "robustness": {"nuisances": NUISANCES}}


def load_tiny(name: str, preprocessing: object) -> Recognizer:
    return tiny_recognizer(name, seed="ab".index(name))


def opened(faces: Path, run: Path, experiment: dict[str, Any]) -> Session:
    asked = parse_experiment(experiment).model_dump_json()
    return Session(SessionSpec(asked, faces, run / "store", "torch"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Session, Path]:
    """One experiment without robustness, then with it on the same store."""
    folder = tmp_path_factory.mktemp("robustness")
    faces = paint_faceset(folder / "painted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "load", load_tiny)
        sessions = []
        for name, experiment in (("plain", EXPERIMENT), ("robust", ROBUST)):
            session = opened(faces, folder, experiment)
            session.plan  # noqa: B018
            before = len([task for task in session.plan.tasks if not done(session, task)])
            execute(session)
            write_run(session, folder / name, {}, "")
            sessions.append((session, before))
        (plain, _), (robust, left) = sessions
        # Nothing but the new stage was left to do.
        assert left == len([t for t in robust.plan.tasks if isinstance(t, RobustnessTask)])
    return plain, robust, folder


def done(session: Session, task: Any) -> bool:
    return all(key in session.store for key in task.keys)


def test_a_run_without_it_keeps_its_keys_its_table_and_its_files(
    runs: tuple[Session, Session, Path],
) -> None:
    plain, robust, folder = runs
    tables = [(folder / name / "results.parquet").read_bytes() for name in ("plain", "robust")]
    assert tables[0] == tables[1]
    assert not (folder / "plain" / ROBUSTNESS).exists()
    keys = robust.plan.keys()
    added = keys.pop("robustness")
    assert keys == plain.plan.keys()
    assert added


def test_every_own_mask_has_a_row_for_each_nuisance(runs: tuple[Session, Session, Path]) -> None:
    _, _, folder = runs
    rows = pl.read_parquet(folder / "robust" / ROBUSTNESS)
    results = pl.read_parquet(folder / "robust" / "results.parquet")
    own = results.filter(pl.col("control").is_null(), pl.col("split") != "half")
    key = [*CONFIGURATION, "identity"]
    assert rows.height == own.height * len(NUISANCES)
    joined = rows.join(own, on=key, nulls_equal=True, suffix="_result")
    assert joined.height == rows.height
    for name in ("clean_rate", "rate", "clean_cosine", "cosine"):
        gap = (joined[name] - joined[f"{name}_result"]).abs().max()
        assert isinstance(gap, float) and gap < 1e-12


def test_figures_are_those_of_a_plain_loop(runs: tuple[Session, Session, Path]) -> None:
    _, session, folder = runs
    rows = pl.read_parquet(folder / "robust" / ROBUSTNESS)
    model = tiny_recognizer("a", 0)
    block = next(block for block in session.plan.blocks if block.split == "same")
    person = block.people[3]
    frames = np.asarray(session.faces.frames[person.tests])
    names = [str(session.faces.names[row]) for row in person.tests]
    clean = model.embed(frames)
    for fill in ("black", "random"):
        scored = next(
            output
            for output in session.plan.planned["scores"]["a", block.index]
            if output.maps.spec.layer == "N" and output.control is None and output.fill == fill
        )
        mask = scored_masks(session, session.store.load(scored.key))[3, 1]
        assert mask.sum() == 205
        for nuisance in NUISANCES:
            hide = lambda used: hider(used, frames, [fill_rng(0, name) for name in names])  # noqa: E731
            row = rows.filter(
                identity=person.name, nuisance=nuisance, split="same", layer="N", budget=0.2,
                fill=fill,
            ).row(0, named=True)  # fmt: skip
            for front, hidden in (("", mask), ("clean_", np.zeros_like(mask))):
                seen = seen_under(
                    nuisance,
                    frames,
                    hidden,
                    fill,
                    hide=hide,
                    rngs=[nuisance_rng(0, nuisance, name) for name in names],
                )
                left = retention(
                    clean,
                    model.embed(seen),
                    session.threshold("a"),
                    compare="both" if nuisance == "gallery" else "clean",
                )
                assert row[f"nuisance_{front}cosine"] == pytest.approx(left.cosine, abs=1e-6)
                assert row[f"nuisance_{front}rate"] == left.rate


def test_a_mask_beside_its_place_costs_clean_photos_nothing(
    runs: tuple[Session, Session, Path],
) -> None:
    rows = pl.read_parquet(runs[2] / "robust" / ROBUSTNESS)
    untouched = rows.filter(pl.col("nuisance").is_in(["mask-shift-2", "refill-white", "gallery"]))
    assert (untouched["nuisance_clean_cosine"] - untouched["clean_cosine"]).abs().max() == 0.0
    moved = rows.filter(pl.col("nuisance") == "shift-2")
    assert (moved["nuisance_clean_cosine"] != moved["clean_cosine"]).all()


def test_a_dry_run_counts_the_work(
    runs: tuple[Session, Session, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "load", load_tiny)
    asked = {
        **EXPERIMENT,
        "saliency": [{"method": "grad-cam"}],
        "occlusion": {"budget": [0.05, 0.2]},
        "evaluation": {},
        "controls": None,
        "robustness": {"nuisances": ["median-3", "half"]},
    }
    session = opened(runs[2] / "painted", tmp_path, asked)
    photos = sum(len(person.rows) for person in session.plan.people)
    passes = estimate(session).passes["robustness", "a"]
    # Two budgets and the clean photos, under two nuisances.
    assert passes.inference == photos * (2 + 1) * 2
    assert not passes.exact


def test_an_unknown_nuisance_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"'nuisances' of \[robustness\].*Did you mean 'median-3'"):
        parse_experiment({**EXPERIMENT, "robustness": {"nuisances": ["medain-3"]}})
