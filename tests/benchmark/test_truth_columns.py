"""Truth columns of a whole run on synthetic faces, against plain loops over the definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from facefocus.benchmark import session as session_module
from facefocus.benchmark.collect import TRUTH_SCHEMA, write_run
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.stages.score import scored_masks
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.faces.faceset import open_faceset
from facefocus.faces.sources.synthetic import TRUTH, make_faceset, read_truth
from facefocus.occlusion.masks import top_pixels
from tests.small import TinyNet, paint_faceset, tiny_recognizer

EXPERIMENT: dict[str, Any] = {
    "name": "planted",
    "faces": {"set": "synthetic-eyes"},
    "recognizers": {"source": "a"},
    "saliency": [
        {"method": "layer-cam", "layer": ["1", "N"]},
        {"method": "random", "draws": 2},
    ],
    "occlusion": {"budget": [0.01, 0.05], "fill": ["black", "mean"]},
    "controls": {"control": ["shifted", "other"], "draws": 2},
    "evaluation": {"split": ["same", "heldout"]},
}
PEOPLE, PHOTOS = 5, 4


@pytest.fixture(scope="module", autouse=True)
def tiny_zoo() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "load", lambda name, _: tiny_recognizer(name))
        yield


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "synthetic-eyes"
    make_faceset(folder, world="eyes", identities=PEOPLE, photos=PHOTOS, seed=5)
    return folder


@pytest.fixture(scope="module")
def run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Path]:
    return do(faces, tmp_path_factory.mktemp("run"))


def do(faces: Path, run: Path, **changes: Any) -> tuple[Session, Path]:
    experiment = parse_experiment({**EXPERIMENT, **changes})
    session = Session(SessionSpec(experiment.model_dump_json(), faces, run / "store", "torch"))
    execute(session)
    write_run(session, run, {}, "")
    return session, run


def table(run: tuple[Session, Path]) -> pl.DataFrame:
    return pl.read_parquet(run[1] / "results.parquet")


def test_a_row_is_what_a_plain_loop_over_the_definitions_gives(
    run: tuple[Session, Path], faces: Path
) -> None:
    session, _ = run
    masks = read_truth(faces)["eyes"]
    block = session.plan.blocks[0]
    output = next(
        out
        for out in session.plan.planned["scores"]["a", 0]
        if out.maps.spec.layer == "1" and out.control is None and out.fill == "black"
    )
    made = session.store.load(output.maps.key)
    for index, person in enumerate(block.people):
        photos, saliency = masks[person.rows], made["maps"][index]
        hidden = top_pixels(saliency, 125, generator(0, "ties", person.name))
        order = np.sort(photos.sum(axis=0), axis=None)[::-1]
        at = np.argwhere(saliency == saliency.max())
        row = table(run).row(
            by_predicate=(pl.col("identity") == person.name)
            & (pl.col("layer") == "1")
            & (pl.col("budget") == 0.01)
            & (pl.col("split") == "same")
            & (pl.col("fill") == "mean")
            & pl.col("control").is_null(),
            named=True,
        )
        wanted = {
            "truth_share": np.mean([photo[hidden].mean() for photo in photos]),
            "truth_share_best": order[:125].sum() / 125 / PHOTOS,
            "truth_auc": roc_auc_score(photos.ravel(), np.tile(saliency.ravel(), PHOTOS)),
            "truth_auc_best": roc_auc_score(
                photos.ravel(), np.tile(photos.sum(axis=0).ravel(), PHOTOS)
            ),
            "truth_pointing": np.mean([photo[y, x] for photo in photos for y, x in at]),
            "truth_pointing_best": photos.mean(axis=0).max(),
            "truth_chance": photos.mean(),
        }
        assert set(wanted) == set(TRUTH_SCHEMA)
        for name, value in wanted.items():
            assert row[name] == pytest.approx(float(value), abs=1e-12), name


def test_heldout_masks_are_judged_on_the_photos_they_are_tried_on(
    run: tuple[Session, Path], faces: Path
) -> None:
    session, _ = run
    masks = read_truth(faces)["eyes"]
    shares: dict[str, list[float]] = {}
    for block in session.plan.blocks:
        if block.split != "heldout":
            continue
        output = next(
            o for o in session.plan.planned["scores"]["a", block.index] if o.maps.spec.layer == "N"
        )
        worn = scored_masks(session, session.store.load(output.key))[:, 1]
        for person, mask in zip(block.people, worn, strict=True):
            inside = [masks[row][mask].mean() for row in person.tests]
            shares.setdefault(person.name, []).append(float(np.mean(inside)))
    rows = table(run).filter(
        (pl.col("split") == "heldout")
        & (pl.col("layer") == "N")
        & (pl.col("budget") == 0.05)
        & (pl.col("fill") == "black")
        & pl.col("control").is_null()
    )
    for row in rows.iter_rows(named=True):
        assert row["truth_share"] == pytest.approx(np.mean(shares[row["identity"]]))


def test_controls_have_a_share_and_no_map(run: tuple[Session, Path]) -> None:
    rows = table(run).filter(pl.col("control").is_not_null() & ~pl.col("degenerate"))
    assert set(rows["control"]) == {"shifted", "other"}
    assert rows["truth_share"].null_count() == 0
    assert rows["truth_auc"].null_count() == rows["truth_pointing"].null_count() == len(rows)
    shifted = rows.filter((pl.col("control") == "shifted") & (pl.col("budget") == 0.01))
    assert shifted["truth_share"].mean() == pytest.approx(shifted["truth_chance"].mean(), abs=0.08)


def test_random_pixels_score_chance(run: tuple[Session, Path]) -> None:
    rows = table(run).filter((pl.col("method") == "random") & (pl.col("budget") == 0.05))
    assert rows["truth_auc"].mean() == pytest.approx(0.5, abs=0.02)
    assert rows["truth_share"].mean() == pytest.approx(rows["truth_chance"].mean(), abs=0.02)


def test_people_without_a_map_score_chance_and_are_never_dropped(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny net's last layer with its weights at zero: no gradient reaches layer 1."""

    def blind(name: str, _: object) -> Any:
        recognizer = tiny_recognizer(name)
        module = recognizer.module
        assert isinstance(module, TinyNet)
        module.third.weight.zero_()
        return recognizer

    monkeypatch.setattr(session_module, "load", blind)
    saliency = {"method": "layer-cam", "layer": "1"}
    occlusion = {"budget": 0.01, "on_degenerate": ["none", "skip", "inclusive"]}
    done = do(faces, tmp_path, saliency=saliency, occlusion=occlusion, evaluation={}, controls=None)
    rows = table(done)
    assert rows["degenerate"].all() and len(rows) == 3 * PEOPLE
    scored = rows.filter(pl.col("on_degenerate") != "skip")
    assert (scored["truth_auc"] == 0.5).all()
    for name in ("truth_share", "truth_pointing"):
        assert np.allclose(scored[name], scored["truth_chance"])
    skipped = rows.filter(pl.col("on_degenerate") == "skip")
    assert skipped["truth_share"].null_count() == skipped["rate"].null_count() == PEOPLE


def test_faces_without_truth_have_no_such_columns(tmp_path: Path) -> None:
    painted = paint_faceset(tmp_path / "painted")
    session, run = do(painted, tmp_path / "run", controls=None, evaluation={})
    assert session.planted is None
    assert not set(TRUTH_SCHEMA) & set(pl.read_parquet(run / "results.parquet").columns)


def test_the_truth_of_other_faces_is_refused(tmp_path: Path) -> None:
    for name, photos in (("one", 2), ("two", 3)):
        make_faceset(tmp_path / name, world="nose", identities=2, photos=photos, seed=0)
    (tmp_path / "one" / TRUTH).write_bytes((tmp_path / "two" / TRUTH).read_bytes())
    assert open_faceset(tmp_path / "one")
    experiment = parse_experiment({**EXPERIMENT}).model_dump_json()
    session = Session(SessionSpec(experiment, tmp_path / "one", tmp_path / "store", "torch"))
    with pytest.raises(UserError, match=r"must be of the frames beside it"):
        session.planted  # noqa: B018
