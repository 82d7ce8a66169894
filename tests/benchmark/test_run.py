from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks import backends
from facefocus.benchmark import execute as run_module
from facefocus.benchmark import session as session_module
from facefocus.benchmark import task_outcome as outcome_module
from facefocus.benchmark import worker_pool as pool_module
from facefocus.benchmark.collect import write_run
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.run import run_status
from facefocus.benchmark.run_log import RunLog, read_log
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.stages.score import ScoreTask
from facefocus.benchmark.worker_pool import Pool
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.evaluation.retention import retention
from facefocus.evaluation.verification import normalize
from facefocus.faces.faceset import open_faceset
from facefocus.models.recognizer import Recognizer, TorchRecognizer
from facefocus.saliency.identity import cam_identity_maps
from facefocus.saliency.streams import CamConfig
from tests.small import PHOTOS, TinyNet, paint_faceset, tiny_recognizer, workers_here

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
def workers() -> Iterator[Pool]:
    with workers_here(2) as pool:
        yield pool


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


def test_a_run_agrees_with_itself_whatever_its_maps(
    finished: Path, painted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_small(painted, finished)
    monkeypatch.setattr(backends, "open_run", lambda run: session)
    comparison = backends.compare(finished, finished)
    maps = sum(
        len(block.people) * len(session.plan.planned["maps"][block.index])
        for block in session.plan.blocks
    )
    assert (comparison.masks, comparison.unlike, comparison.untied) == (2 * maps, 0, 0)
    assert comparison.holds and comparison.scores.is_empty()


def test_workers_take_the_batches_that_the_plans_keys_name(painted: Path, tmp_path: Path) -> None:
    session = open_small(painted, tmp_path)
    for name, batch in (("a", 32), ("b", 64)):
        recognizer = session.recognizers[name]
        assert isinstance(recognizer, TorchRecognizer)
        recognizer.batch = batch
    registered: list[Any] = []
    pool = Pool("local:2")
    pool._client = SimpleNamespace(
        subscribe_topic=lambda *_: None,
        register_plugin=lambda plugin: registered.append(plugin._job),
    )
    pool.prepare(session)
    assert registered[0][1].batches == (("a", 32, 16), ("b", 64, 16))
    assert Session(registered[0][1]).batches == session.batches


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
    assert row["maps_ill_conditioned"] == 0


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


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(
    painted: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed three times: among the embeddings, the maps and the scores."""
    plain, stages = outcome_module.run_task, list[str]()
    done = last = 0

    def dying(session: Session, task: Any, *rest: Any) -> tuple[int, int]:
        nonlocal done
        if done == last:
            stages.append(task.stage)
            raise Killed
        done += 1
        return plain(session, task, *rest)

    monkeypatch.setattr(outcome_module, "run_task", dying)
    for after in (1, 6, 11):
        last = after
        with pytest.raises(Killed):
            execute(open_small(painted, tmp_path))
    assert stages == ["embed", "maps", "scores"]
    monkeypatch.setattr(outcome_module, "run_task", plain)
    session = open_small(painted, tmp_path)
    total = len(session.plan.tasks)
    assert execute(session) == total - 11
    assert execute(open_small(painted, tmp_path)) == 0
    assert results(session, tmp_path) == (finished / "results.parquet").read_bytes()


@pytest.mark.parametrize("batch", [16, 64])
def test_tasks_fill_their_batches(batch: int, painted: Path, tmp_path: Path) -> None:
    """Every task wastes less than one batch, so at most 5 % where it runs 20: as a log says.

    People of 2 to 6 photos, and photos of 24 masks, of which none fills a batch.
    """
    session = open_small(
        painted,
        tmp_path,
        saliency=[*EXPERIMENT["saliency"], {"method": "s-rise", "options": {"masks": 24}}],
        occlusion={"budget": [0.05, 0.1, 0.2], "fill": ["black", "inpaint"]},
    )
    for recognizer in session.recognizers.values():
        assert isinstance(recognizer, TorchRecognizer)
        recognizer.batch = batch
    execute(session, run_log=RunLog(tmp_path))
    ended = [line for line in read_log(tmp_path) if line["event"] == "end"]
    for stage, tasks in (("embed", 2), ("masked", 2), ("scores", 8)):
        own = [line for line in ended if line["stage"] == stage]
        assert len(own) == tasks
        for line in own:
            assert line["images"] % batch == 0 and line["padded"] < batch
            if line["images"] >= 20 * batch:
                assert line["padded"] <= 0.05 * line["images"]
    assert any(line["images"] >= 20 * batch for line in ended)


def test_of_photos_under_masks_only_those_are_embedded_again_that_are_missing(
    painted: Path, tmp_path: Path
) -> None:
    session = open_small(
        painted,
        tmp_path,
        faces={"set": "painted", "people": ["p04", "p09"]},
        recognizers={"source": "a"},
        saliency={"method": "s-rise", "options": {"masks": 24}},
    )
    execute(session)
    (task,) = [task for task in session.plan.tasks if task.stage == "masked"]
    assert len(task.keys) == 4 + 6  # of the photos of both, in one task
    before = {key: session.store.load(key)["embeddings"] for key in task.keys}
    session.store.remove(task.keys[2:4])
    execute(session, run_log=RunLog(tmp_path))
    (ended,) = [line for line in read_log(tmp_path) if line["event"] == "end"]
    assert (ended["stage"], ended["key"], ended["passes"]) == ("masked", task.keys[2], 2 * 24)
    for key, embeddings in before.items():
        np.testing.assert_array_equal(session.store.load(key)["embeddings"], embeddings)


def test_workers_and_threads_change_no_byte_and_say_how_far_they_are_inside_a_task(
    painted: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: Pool,
) -> None:
    for module in (run_module, pool_module):
        monkeypatch.setattr(module, "PAUSE", 0.002)
    session = open_small(painted, tmp_path)
    progress: dict[str, list[tuple[int, int]]] = defaultdict(list)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done = execute(session, workers, lambda stage, *at: progress[stage].append(at))
    finally:
        torch.set_num_threads(threads)
    assert done == len(session.plan.tasks)
    assert results(session, tmp_path) == (finished / "results.parquet").read_bytes()
    assert set(progress) == {"embed", "maps", "scores"}
    for stage, steps in progress.items():
        tasks = [task for task in session.plan.tasks if task.stage == stage]
        total = sum(task.cost for task in tasks)
        assert steps == sorted(steps) and {of for _, of in steps} == {total}
        assert steps[-1][0] == total
    scored = [task.cost for task in session.plan.tasks if isinstance(task, ScoreTask)]
    whole = {sum(some) for n in range(5) for some in combinations(scored, n)}
    assert {done for done, _ in progress["scores"]} - whole  # within a task, not only at its end


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
    part = session.store._indexed().find(session.plan.keys()["scores"][0])
    assert part is not None
    path = tmp_path / "store" / part.file
    data = bytearray(path.read_bytes())
    data[part.start + 50] ^= 1
    path.write_bytes(data)
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


def test_a_plugin_that_is_gone_is_named_by_status(painted: Path, tmp_path: Path) -> None:
    asked = open_small(painted, tmp_path).experiment.model_dump(mode="json")
    asked["saliency"][0]["method"] = ["gone-cam"]
    record = {"experiment": asked, "faces": str(painted), "backend": "torch", "store": "store"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"'method' of \[saliency\] .* Got 'gone-cam'") as caught:
        run_status(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_budget_that_hides_no_pixel_is_refused(painted: Path, finished: Path) -> None:
    with pytest.raises(
        UserError, match=r"'budget' of \[occlusion\].*Got 0.0004. The least is 9.8e-04"
    ):
        open_small(painted, finished, occlusion={"budget": [0.1, 0.0004]}).plan  # noqa: B018
    assert open_small(painted, finished, occlusion={"budget": 9.8e-4}).plan.tasks


# --- controls, held-out photos, further kinds of methods ------------------------------------------


def rows_of(session: Session, run: Path) -> pl.DataFrame:
    execute(session)
    return pl.read_parquet(write_run(session, run, {}, ""))


def test_controls_have_the_area_of_the_mask_they_stand_for(painted: Path, tmp_path: Path) -> None:
    session = open_small(
        painted,
        tmp_path,
        recognizers={"source": "a"},
        saliency={"method": "grad-cam", "layer": "N"},
        occlusion={"budget": [0.05, 0.2]},
        controls={"control": ["shifted", "other", "population", "pixels", "blocks"], "draws": 2},
    )
    table = rows_of(session, tmp_path)
    own = table.filter(pl.col("control").is_null()).sort("identity", "budget")
    draws = {"shifted": 2, "other": 2, "population": 1, "pixels": 2, "blocks": 2}
    for control, count in draws.items():
        rows = table.filter(pl.col("control") == control).sort("identity", "budget")
        assert rows["masked_pixels"].equals(own["masked_pixels"])
        assert rows["draws"].unique().to_list() == [count]
        assert not rows["cosine"].equals(own["cosine"])
        assert rows["clean_cosine"].equals(own["clean_cosine"])


def test_another_identitys_mask_is_that_identitys_own(painted: Path, tmp_path: Path) -> None:
    """Hide person p's photos under the mask of p's partner, by hand."""
    session = open_small(
        painted,
        tmp_path,
        recognizers={"source": "a"},
        saliency={"method": "layer-cam", "layer": "1"},
        occlusion={"budget": 0.1},
        controls={"control": "other", "draws": 1},
    )
    table = rows_of(session, tmp_path).filter(pl.col("control") == "other")
    everybody = [person.name for person in session.plan.people]
    circle = generator(0, "partners").permutation(len(everybody))
    position = {everybody[who]: spot for spot, who in enumerate(circle)}
    partner = everybody[circle[(position["p04"] + 1) % len(everybody)]]
    faces, recognizer = open_faceset(painted), tiny_recognizer("a", 0)
    people = {person.name: person for person in session.plan.people}
    config = CamConfig("layer-cam", "1")
    made = cam_identity_maps(
        recognizer, faces.frames, [people[partner].identity], [config], max_pairs=None, seed=0
    )
    order = np.argsort(-made[config].maps[0].ravel(), kind="stable")[:102]
    frames = np.asarray(faces.frames[people["p04"].rows])
    hidden = frames.copy()
    hidden.reshape(len(hidden), -1, 3)[:, order] = 0
    left = retention(recognizer.embed(frames), recognizer.embed(hidden), 0.5)
    row = table.row(by_predicate=pl.col("identity") == "p04", named=True)
    assert row["cosine"] == pytest.approx(left.cosine, abs=1e-6)


def test_heldout_maps_never_see_the_photos_they_are_tried_on(painted: Path, tmp_path: Path) -> None:
    session = open_small(
        painted,
        tmp_path,
        recognizers={"source": "a"},
        saliency={"method": "grad-cam", "layer": "N"},
        occlusion={"budget": 0.1},
        evaluation={"split": ["same", "heldout"]},
    )
    for block in session.plan.blocks:
        for person in block.people:
            apart = not set(person.rows) & set(person.tests)
            assert apart if block.split == "heldout" else set(person.rows) == set(person.tests)
    table = rows_of(session, tmp_path)
    held = table.filter(pl.col("split") == "heldout")
    assert set(held["identity"]) == {
        f"p{person:02d}" for person, photos in enumerate(PHOTOS) if photos >= 4
    }
    row = held.row(by_predicate=pl.col("images") == 6, named=True)
    assert row["pairs"] == 12 and row["maps"] == 12  # two halves of three photos
    person = next(who for who in session.plan.people if len(who.rows) == 6)
    recognizer = tiny_recognizer("a", 0)
    half = next(
        who
        for block in session.plan.blocks
        if block.split == "heldout" and block.fold == 0
        for who in block.people
        if who.name == person.name
    )
    frames = session.faces.frames
    halves = [recognizer.embed(np.asarray(frames[rows])) for rows in (half.rows, half.tests)]
    expected = np.mean([retention(part, part, 0.5).clean_cosine for part in halves])
    assert row["clean_cosine"] == pytest.approx(expected, abs=1e-6)


def test_methods_of_every_kind_run_and_resume(painted: Path, tmp_path: Path, workers: Pool) -> None:
    changes: dict[str, Any] = {
        "faces": {"set": "painted", "images": [3, 4]},
        "saliency": [
            {"method": ["s-rise", "corr-rise"], "options": {"masks": 20}},
            {"method": "occlusion-gradient", "options": {"steps": 3}},
            {"method": "occlusion-gradient", "sources": ["a", "b"]},
            {"method": ["gradient-x-input", "leam"]},
            {"method": ["hires-cam", "eigen-cam"], "layer": "N"},
        ],
        "occlusion": {"budget": 0.1, "fill": ["black", "mean"]},
        "evaluation": {"split": ["same", "heldout"]},
        "recognizers": {"source": ["a"], "target": ["a", "b"]},
    }
    session = open_small(painted, tmp_path, **changes)
    table = rows_of(session, tmp_path)
    assert set(table["source"]) == {"a", "a+b"}
    assert table.filter(pl.col("method") == "leam")["layer_calls"].unique().to_list() == ["3"]
    exact = table.filter(~pl.col("degenerate"))
    assert (exact["masked_pixels"] == exact["budget_pixels"]).all()
    keys = ["source", "target", "method", "options", "split", "budget", "fill", "identity"]
    assert table.select(keys).is_duplicated().sum() == 0
    per_method = table.group_by("source", "method", "options").len()["len"]
    assert per_method.n_unique() == 1
    first = (tmp_path / "results.parquet").read_bytes()
    other = tmp_path / "other"
    again = open_small(painted, other, **changes)
    execute(again, workers)
    assert results(again, other) == first


def test_occlusion_gradient_is_the_strongest_on_the_recognizer_it_was_made_on(
    painted: Path, tmp_path: Path
) -> None:
    """It answers the very question that is asked, so random pixels must do far less."""
    session = open_small(
        painted,
        tmp_path,
        recognizers={"source": "a"},
        saliency=[{"method": "occlusion-gradient", "options": {"steps": 5}}, {"method": "random"}],
        occlusion={"budget": 0.1},
    )
    table = rows_of(session, tmp_path)
    mean = dict(table.group_by("method").agg(pl.col("cosine").mean()).iter_rows())
    clean = table["clean_cosine"].mean()
    assert isinstance(clean, float)
    assert clean - mean["occlusion-gradient"] > 2 * (clean - mean["random"]) > 0


def test_several_sources_are_for_methods_that_can_combine_them(
    painted: Path, tmp_path: Path
) -> None:
    session = open_small(painted, tmp_path, saliency={"method": "grad-cam", "sources": ["a", "b"]})
    with pytest.raises(UserError, match=r"'sources' of \[saliency\].*Got 'grad-cam'"):
        execute(session)


def test_errata_can_be_left_out(painted: Path, tmp_path: Path) -> None:
    session = open_small(painted, tmp_path, faces={"exclude_errata": True})
    assert len(session.plan.people) == len(PHOTOS)  # none of LFW's errata is a painted photo


def test_the_oracle_is_never_worse_than_any_method(painted: Path, tmp_path: Path) -> None:
    session = open_small(
        painted,
        tmp_path,
        faces={"set": "painted", "identities": 6},
        recognizers={"source": "a"},
        saliency=[
            {"method": ["layer-cam", "occlusion-gradient"], "layer": "1"},
            {"method": "random", "draws": 1},
        ],
        occlusion={"budget": [0.05, 0.1]},
        oracle={"block": 4, "candidates": 30},
    )
    table = rows_of(session, tmp_path)
    oracle = table.filter(pl.col("method") == "oracle")
    assert len(oracle) == 6 * 2 and (oracle["source"] == "a").all()
    assert (oracle["masked_pixels"] == oracle["budget_pixels"]).all()
    best = table.filter(pl.col("source").is_not_null() & (pl.col("method") != "oracle"))
    least = best.group_by("identity", "budget").agg(pl.col("cosine").min().alias("least"))
    joined = oracle.join(least, on=["identity", "budget"])
    assert (joined["cosine"] <= joined["least"] + 1e-6).all()
    assert (joined["cosine"] < joined["least"] - 1e-3).any()


def test_a_recognizer_that_tells_nobody_apart_is_named_before_any_map(
    painted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def load(name: str, _: object) -> Recognizer:
        recognizer = tiny_recognizer(name, seed=0)
        if name == "b":
            assert isinstance(recognizer.module, torch.nn.Module)
            for parameter in recognizer.module.parameters():
                parameter.zero_()
        return recognizer

    monkeypatch.setattr(session_module, "load", load)
    heard: list[tuple[str, list[str]]] = []
    session = open_small(painted, tmp_path, saliency=[{"method": "random", "draws": 1}])
    execute(session, progress=lambda stage, *_: heard.append((stage, list(caplog.messages))))
    messages = dict(heard)
    assert messages["embed"] == []
    assert len(messages["maps"]) == 1
    assert re.search("'b' tells nobody apart .* equal error rate is 0.500", messages["maps"][0])
    table = pl.read_parquet(write_run(session, tmp_path, {}, ""))
    rates = dict(table.select("target", "eer").unique().iter_rows())
    assert rates["b"] == 0.5 and rates["a"] < 0.4


def test_the_experiment_says_how_a_recognizer_of_ones_own_reads_a_frame(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def load(name: str, preprocessing: object) -> Recognizer:
        seen[name] = preprocessing
        return tiny_recognizer(name, "ab".index(name))

    monkeypatch.setattr(session_module, "load", load)
    reading = {"size": [32, 32], "mean": 127.5, "std": 128}
    wanted = {"source": "a", "target": "b", "preprocessing": {"b": reading}}
    assert open_small(painted, tmp_path, recognizers=wanted).recognizers.keys() == {"a", "b"}
    assert seen == {"a": None, "b": reading}


def test_impostors_are_scored_before_and_after_by_a_plain_loop(
    painted: Path, tmp_path: Path
) -> None:
    session = open_small(
        painted,
        tmp_path,
        recognizers={"source": "a"},
        saliency={"method": "layer-cam", "layer": "1"},
        occlusion={"budget": 0.2},
    )
    table = rows_of(session, tmp_path)
    person = session.plan.people[4]
    row = table.row(by_predicate=pl.col("identity") == person.name, named=True)
    recognizer = tiny_recognizer("a", 0)
    frames = session.faces.frames
    config = CamConfig("layer-cam", "1")
    made = cam_identity_maps(
        recognizer, frames, [person.identity], [config], max_pairs=None, seed=0
    )
    order = np.argsort(-made[config].maps[0].ravel(), kind="stable")[:205]
    pairs = session.impostors[person.name]
    assert len(pairs) >= 20 and set(pairs[:, 0]) <= set(person.rows)
    assert not set(pairs[:, 1]) & set(person.rows)
    before, after = [], []
    for own, other in pairs:
        hidden = frames[own].copy()
        hidden.reshape(-1, 3)[order] = 0
        two = recognizer.embed(np.stack([frames[own], hidden, frames[other]]))
        unit = normalize(two)
        before.append(unit[0] @ unit[2] >= row["threshold"])
        after.append(unit[1] @ unit[2] >= row["threshold"])
    assert row["clean_fmr"] == np.mean(before) and row["fmr"] == np.mean(after)
    assert table["clean_fmr"].n_unique() > 1


def test_what_an_objective_does_not_read_is_not_part_of_its_key(
    painted: Path, tmp_path: Path
) -> None:
    def keys(**fields: Any) -> list[str]:
        saliency = {"method": "grad-cam", "objective": ["cosine", "l2", "arcface(0.1)"], **fields}
        return open_small(painted, tmp_path, saliency=saliency).plan.keys()["maps"]

    plain, raw, scaled = keys(), keys(normalize=False), keys(arcface_scale=64.0)
    assert keys(objective=["Cosine", "L2", "arcface( 0.10 )"]) == plain
    same_as_raw = [a == b for a, b in zip(plain, raw, strict=True)]
    same_as_scaled = [a == b for a, b in zip(plain, scaled, strict=True)]
    assert same_as_raw[:3] == [True, False, True]
    assert same_as_scaled[:3] == [True, True, False]
