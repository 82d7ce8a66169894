from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from facefocus import run as run_module
from facefocus import session as session_module
from facefocus.errors import UserError
from facefocus.evaluation.verification import normalize
from facefocus.experiment import parse_experiment
from facefocus.faces.faceset import open_faceset
from facefocus.models.recognizer import Recognizer
from facefocus.results import write_run
from facefocus.run import execute
from facefocus.session import Session, SessionSpec
from facefocus.saliency.identity import cam_identity_maps
from facefocus.saliency.streams import CamConfig
from tests.small import PHOTOS, TinyNet, paint_faceset, tiny_recognizer

EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "faces": {"set": "painted"},
    "recognizers": {"source": ["a", "b"], "target": ["a", "b"]},
    "saliency": [
        {"method": ["grad-cam", "grad-cam++"], "layer": ["1", "N", "3", "all"]},
        {"method": "random", "draws": 2},
    ],
    "occlusion": {"budget": [0.05, 0.2], "fill": ["black", "random", "blur"]},
}


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, preprocessing: object) -> Recognizer:
        return tiny_recognizer(name, seed="ab".index(name))

    monkeypatch.setattr(session_module, "load", load)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_faceset(tmp_path_factory.mktemp("faces") / "painted")


def open_small(painted: Path, run: Path, **changes: Any) -> Session:
    experiment = parse_experiment({**EXPERIMENT, **changes})
    return Session(SessionSpec(experiment.model_dump_json(), painted, run / "store", "torch"))


def results(session: Session, run: Path) -> bytes:
    return write_run(session, run, {}, "").read_bytes()


@pytest.fixture(scope="module")
def finished(painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            session_module, "load", lambda name, _: tiny_recognizer(name, "ab".index(name))
        )
        session = open_small(painted, run)
        execute(session)
        results(session, run)
    return run


def test_every_identity_and_configuration_has_one_row(finished: Path) -> None:
    table = pl.read_parquet(finished / "results.parquet")
    maps = 2 * 2 * 4 + 1  # sources x methods x layers, and random pixels
    assert len(table) == len(PHOTOS) * 2 * maps * 2 * 3
    keys = ["source", "target", "method", "layer", "budget", "fill", "identity"]
    assert table.select(keys).is_duplicated().sum() == 0


def test_masked_areas_are_exact_and_random_draws_are_averaged(finished: Path) -> None:
    table = pl.read_parquet(finished / "results.parquet")
    for budget, pixels in ((0.05, 51), (0.2, 205)):  # of 32 x 32, halves up
        rows = table.filter((pl.col("budget") == budget) & ~pl.col("degenerate"))
        assert rows["budget_pixels"].unique().to_list() == [pixels]
        assert rows["masked_pixels"].unique().to_list() == [float(pixels)]
    assert table.filter(pl.col("method") == "random")["draws"].unique().to_list() == [2]


def test_a_row_is_what_a_plain_loop_over_the_definitions_gives(
    finished: Path, painted: Path
) -> None:
    """Grad-CAM on `a` at the last layer, 20 % black, tried on `b`: from maps to rates, by hand."""
    faces, source, target = open_faceset(painted), tiny_recognizer("a", 0), tiny_recognizer("b", 1)
    session = open_small(painted, finished)
    person = session.plan.people[9]
    config = CamConfig("grad-cam", "N")
    maps = cam_identity_maps(
        source, faces.frames, [person.identity], [config], max_pairs=None, seed=0
    )
    order = np.argsort(-maps[config].maps[0].ravel(), kind="stable")
    hidden = faces.frames[person.rows].copy()
    hidden.reshape(len(hidden), -1, 3)[:, order[:205]] = 0
    clean = normalize(target.embed(np.asarray(faces.frames[person.rows])))
    scores = normalize(target.embed(hidden)) @ clean.T
    pairs = [scores[a, b] for a in range(len(clean)) for b in range(len(clean)) if a != b]
    row = pl.read_parquet(finished / "results.parquet").row(
        by_predicate=(pl.col("source") == "a")
        & (pl.col("target") == "b")
        & (pl.col("method") == "grad-cam")
        & (pl.col("layer") == "N")
        & (pl.col("budget") == 0.2)
        & (pl.col("fill") == "black")
        & (pl.col("identity") == person.name),
        named=True,
    )
    assert row["cosine"] == pytest.approx(math.fsum(pairs) / len(pairs), abs=1e-6)
    assert row["rate"] == np.mean([score >= row["threshold"] for score in pairs])
    assert row["images"] == 6 and row["pairs"] == 30 and row["maps"] == 30


def test_one_layer_by_two_names_is_computed_once(finished: Path, painted: Path) -> None:
    """`N` is call 3 of this network."""
    table = pl.read_parquet(finished / "results.parquet").filter(pl.col("method") == "grad-cam")
    same = ["cosine", "rate", "identity", "source", "target", "budget", "fill"]
    last = table.filter(pl.col("layer") == "N").select(same)
    assert last.equals(table.filter(pl.col("layer") == "3").select(same))
    keys = open_small(painted, finished).plan.keys()["maps"]
    blocks, sources, methods, layers = 2, 2, 2, 3
    assert len(keys) == blocks * (sources * methods * layers + 2)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 6, 11])
def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(
    after: int, painted: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = 0
    plain = run_module.run_task

    def dying(session: Session, task: Any, *rest: Any) -> None:
        nonlocal done
        if done == after:
            raise Killed
        done += 1
        plain(session, task, *rest)

    monkeypatch.setattr(run_module, "run_task", dying)
    with pytest.raises(Killed):
        execute(open_small(painted, tmp_path))
    monkeypatch.setattr(run_module, "run_task", plain)
    session = open_small(painted, tmp_path)
    total = len(session.plan.tasks)
    assert execute(session) == total - after
    assert execute(open_small(painted, tmp_path)) == 0
    assert results(session, tmp_path) == (finished / "results.parquet").read_bytes()


def test_workers_and_threads_change_no_byte(painted: Path, finished: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        session = open_small(painted, tmp_path)
        with ThreadPoolExecutor(3) as pool:
            execute(session, pool)
    finally:
        torch.set_num_threads(threads)
    assert results(session, tmp_path) == (finished / "results.parquet").read_bytes()


def test_another_budget_reuses_every_map(painted: Path, finished: Path) -> None:
    session = open_small(painted, finished, occlusion={"budget": 0.1})
    stages: list[str] = []
    execute(session, progress=lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"scores"}


def test_a_damaged_artefact_is_made_anew(painted: Path, tmp_path: Path) -> None:
    changes = {"saliency": {"method": "grad-cam"}, "occlusion": {"budget": 0.1}}
    session = open_small(painted, tmp_path, **changes)
    execute(session)
    before = results(session, tmp_path)
    score = session.store.path(session.plan.keys()["scores"][0])
    score.write_bytes(score.read_bytes()[:50])
    with pytest.raises(KeyError):
        results(session, tmp_path)
    assert execute(session) == 1
    assert results(session, tmp_path) == before


def test_degenerate_identities_count_as_unaffected_and_are_never_dropped(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = tiny_recognizer("a", 0)
    assert isinstance(dead.module, TinyNet)
    torch.nn.init.zeros_(dead.module.third.weight)
    monkeypatch.setattr(session_module, "load", lambda name, _: dead)
    session = open_small(
        painted,
        tmp_path,
        recognizers={"source": "a"},
        saliency={"method": "grad-cam", "layer": "1"},
        occlusion={"budget": 0.1, "on_degenerate": ["none", "skip", "inclusive"]},
    )
    execute(session)
    table = pl.read_parquet(write_run(session, tmp_path, {}, ""))
    assert table["degenerate"].all()
    none = table.filter(pl.col("on_degenerate") == "none")
    assert (none["cosine"] == none["clean_cosine"]).all() and none["masked_pixels"].sum() == 0
    skipped = table.filter(pl.col("on_degenerate") == "skip")
    assert len(skipped) == len(PHOTOS) and skipped["cosine"].null_count() == len(PHOTOS)
    naive = table.filter(pl.col("on_degenerate") == "inclusive")
    assert naive["masked_share"].unique().to_list() == [1.0]


def test_an_unknown_layer_is_found_before_anything_is_computed(
    painted: Path, tmp_path: Path
) -> None:
    session = open_small(painted, tmp_path, saliency={"method": "grad-cam", "layer": "M/2"})
    with pytest.raises(UserError, match="M/2"):
        execute(session)
    assert not (tmp_path / "store").exists()
