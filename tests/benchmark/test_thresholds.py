"""Where thresholds come from, and whom an experiment is about: from one person up."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from facefocus.benchmark import pairs as pairwise
from facefocus.benchmark import session as session_module
from facefocus.benchmark import verify as verify_module
from facefocus.benchmark.experiment import load_variants, parse_experiment
from facefocus.benchmark.run import open_run, run_experiment, run_status
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.verify import verify_recognizer
from facefocus.cli.check_commands import pairs_lines
from facefocus.cli.model_commands import verify_lines
from facefocus.core.errors import UserError
from facefocus.faces.faceset import IndexRow, PairList, open_faceset, write_faceset
from facefocus.models.recognizer import Recognizer
from facefocus.paper.study import Wanted, run_study
from tests.small import SIDE, paint_faceset, tiny_recognizer

EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "recognizers": {"source": "a"},
    "saliency": {"method": "random", "draws": 1},
    "occlusion": {"budget": 0.1},
}
TOML = """
name = "small"
[faces]
set = "one"
[recognizers]
source = "a"
[[saliency]]
method = "random"
draws = 1
[occlusion]
budget = 0.1
[evaluation]
threshold = {threshold}
"""


def load(name: str, _: object = None) -> Recognizer:
    recognizer = tiny_recognizer(name, 0)
    if name == "zero":
        assert isinstance(recognizer.module, torch.nn.Module)
        for parameter in recognizer.module.parameters():
            parameter.zero_()
    return recognizer


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (session_module, verify_module, pairwise):
        monkeypatch.setattr(module, "load", load)
    monkeypatch.setenv("FACEFOCUS_DATA", str(tmp_path))


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_faceset(tmp_path_factory.mktemp("faces") / "painted")


@pytest.fixture(scope="module")
def one_person(painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person of the painted ones, p09 with six photos."""
    return part(painted, tmp_path_factory.mktemp("faces") / "one", ["p09"])


@pytest.fixture(scope="module")
def only_mated(painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people with a list whose non-mated pair has a photo that is missing."""
    names = ("p09_0", "p09_1", "p09_2"), ("p09_1", "p09_2", "gone_0")
    listed = PairList(*names, (True, True, False), (0, 0, 0), "5a")
    return part(painted, tmp_path_factory.mktemp("faces") / "listed", ["p09", "p17"], listed)


def part(painted: Path, folder: Path, people: list[str], pairs: PairList | None = None) -> Path:
    faces = open_faceset(painted)
    rows = np.flatnonzero(np.isin(faces.identities, people))
    index = [
        IndexRow(str(faces.identities[row]), str(faces.names[row]), "") for row in rows.tolist()
    ]
    folder.mkdir()
    frames = [np.array(faces.frames[row]) for row in rows]
    write_faceset(
        folder, title=folder.name, rows=index, frames=frames, size=(SIDE, SIDE), pairs=pairs
    )
    return folder


def opened(folder: Path, store: Path, other: Path | None = None, **changes: Any) -> Session:
    text = parse_experiment({**EXPERIMENT, **changes}).model_dump_json()
    return Session(SessionSpec(text, folder, store, "torch", calibration=other))


# Verify ------------------------------------------------------------------------------------------


def test_verify_says_what_to_do_without_non_mated_pairs(one_person: Path, only_mated: Path) -> None:
    for faces in (one_person, only_mated):
        with pytest.raises(UserError, match=r"no usable non-mated pair\. .* --rule 0\.3.*@FOLDER"):
            verify_recognizer(faces, "a", backend="torch")
        verified = verify_recognizer(faces, "a", rule="0.3", backend="torch")
        report = verified.report
        assert (report.threshold, report.rule, report.eer, report.fmr) == (0.3, "0.3", None, None)
        assert report.tmr is not None
        lines = list(verify_lines(verified))
        assert lines[:2] == ["threshold 0.3000 (0.3)", f"tmr {report.tmr:.4f}"]
        assert lines[2] == "tmr_at_fmr=1e-2 too few non-mated pairs"


def test_verify_takes_the_threshold_of_other_faces(one_person: Path, painted: Path) -> None:
    theirs = verify_recognizer(painted, "a", backend="torch").report
    report = verify_recognizer(one_person, "a", rule=f"eer@{painted}", backend="torch").report
    assert report.threshold == theirs.threshold != 0.3
    assert report.rule == "eer@painted"
    with pytest.raises(UserError, match=r"No prepared face set 'no'.* threshold: eer@FOLDER"):
        verify_recognizer(one_person, "a", rule="eer@no", backend="torch")


def test_verify_fails_before_the_work_where_the_fmr_cannot_be_measured(
    painted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "load", None)
    with pytest.raises(UserError, match=r"'painted' has 1,415: the least is fmr=0.000707"):
        verify_recognizer(painted, "a", rule="fmr=1e-9", backend="torch")


def test_verify_warns_of_few_mated_pairs_and_of_recognizers_of_no_use(
    painted: Path, one_person: Path, caplog: pytest.LogCaptureFixture
) -> None:
    verified = verify_recognizer(painted, "zero", backend="torch")
    # 18 painted people have 70 mated pairs.
    assert re.search("'zero' tells nobody apart", caplog.messages[0])
    assert re.search(r"Only 70 mated pairs: under 100.* up to 4 % may be", caplog.messages[1])
    lines = list(verify_lines(verified))
    assert lines[0] == "accuracy 0.5000 +- 0.0000 (0.5000 for refusing everybody)"
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        verify_recognizer(one_person, "a", rule="0.3", backend="torch")
    assert [text[:20] for text in caplog.messages] == ["Only 15 mated pairs:"]


def test_pairs_take_a_threshold_too(one_person: Path) -> None:
    with pytest.raises(UserError, match=r"no usable non-mated pair\. .* --rule 0\.3"):
        pairwise.pair_level(one_person, "a", ["random"], pairs=4, backend="torch")
    table = pairwise.pair_level(one_person, "a", ["random"], pairs=4, rule="-1", backend="torch")
    # Every pair is mated, and accepted whatever is hidden.
    assert table["accuracy"].unique().to_list() == [1.0]
    assert list(pairs_lines(table))[1] == "threshold -1.0000 (-1.0)"


# Runs --------------------------------------------------------------------------------------------


def test_a_run_says_what_to_do_without_non_mated_pairs(
    one_person: Path, only_mated: Path, tmp_path: Path
) -> None:
    for faces in (one_person, only_mated):
        with pytest.raises(UserError, match=r'no usable non-mated pair.*"eer@FOLDER"'):
            opened(faces, tmp_path).plan  # noqa: B018


def test_people_are_missed_before_pairs(painted: Path, tmp_path: Path) -> None:
    """Where nobody has two photos, a threshold would be of no help."""
    names = open_faceset(painted).names
    alone = [IndexRow(f"p{i}", str(name), "") for i, name in enumerate(names[:3])]
    (tmp_path / "alone").mkdir()
    frames = [np.array(frame) for frame in open_faceset(painted).frames[:3]]
    write_faceset(tmp_path / "alone", title="x", rows=alone, frames=frames, size=(SIDE, SIDE))
    with pytest.raises(UserError, match=r"must have some people with 2 or more images. Got 0"):
        opened(tmp_path / "alone", tmp_path).plan  # noqa: B018


def test_an_fmr_that_cannot_be_measured_fails_before_the_work(
    painted: Path, tmp_path: Path
) -> None:
    session = opened(painted, tmp_path, evaluation={"threshold": "fmr=1e-9"})
    with pytest.raises(UserError, match=r"only with at least 1,000,000,000 non-mated pairs\. 'pai"):
        session.plan  # noqa: B018


@pytest.mark.parametrize("given", [0.24, "0.24", "0.240"])
def test_one_person_runs_with_a_given_threshold(
    one_person: Path, tmp_path: Path, given: object
) -> None:
    file = tmp_path / "small.toml"
    file.write_text(TOML.format(threshold=json.dumps(given)))
    run = run_experiment(file, faces=one_person, out=tmp_path / "run", backend="torch")
    rows = pl.read_parquet(run / "results.parquet")
    assert rows.select("identity", "threshold", "threshold_rule", "eer").rows() == [
        ("p09", 0.24, "0.24", None)
    ]
    session = open_run(run)
    unit = session.embeddings("a")
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(6, 1)]
    assert rows["clean_rate"][0] == pytest.approx(np.mean(cosines >= 0.24))


def test_one_person_runs_with_the_threshold_of_other_faces(
    one_person: Path, painted: Path, tmp_path: Path
) -> None:
    file = tmp_path / "small.toml"
    file.write_text(TOML.format(threshold=json.dumps(f"eer@{painted}")))
    run = run_experiment(file, faces=one_person, out=tmp_path / "run", backend="torch")
    rows = pl.read_parquet(run / "results.parquet")
    theirs = verify_recognizer(painted, "a", backend="torch").report.threshold
    assert rows["threshold"].to_list() == [theirs]
    assert rows["threshold_rule"].to_list() == ["eer@painted"]
    for written in ("run.json", "experiment.toml", "provenance.json"):
        assert str(painted) not in (run / written).read_text()
    # A run folder knows where the other faces are.
    assert all(stage.done == stage.total for stage in run_status(run))
    assert open_run(run).threshold("a") == theirs


def test_a_threshold_has_one_key_however_it_is_written(painted: Path, tmp_path: Path) -> None:
    def keys(threshold: object, other: Path | None = None) -> set[str]:
        session = opened(painted, tmp_path, other, evaluation={"threshold": threshold})
        return set(session.plan.keys()["scores"])

    assert keys("fmr=1e-2") == keys("fmr = 0.010")
    assert keys(0.5) == keys("0.50") != keys(0.25)
    assert keys("eer") == keys(f"eer@{painted}", painted) != keys("accuracy")


# People ------------------------------------------------------------------------------------------


def test_people_are_chosen_by_name(painted: Path, tmp_path: Path) -> None:
    def people(**faces: Any) -> list[str]:
        return [person.name for person in opened(painted, tmp_path, faces=faces).plan.people]

    assert people(people=["p09", "p02"]) == ["p02", "p09"]
    assert people(people="p09") == ["p09"]
    assert people(people=["p09", "p02", "p04"], identities=1)[0] in ("p09", "p02", "p04")
    with pytest.raises(UserError, match=r"'people' .* of 'painted'. Got 'P9'. Did you mean 'p"):
        people(people=["p02", "P9"])
    with pytest.raises(UserError, match=r"'p00' in the 'people' .* 'painted' has 2\."):
        people(people=["p00"], images=[3, 9])


def test_a_study_leaves_out_errata(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """p00 has two photos: without one of them there are 17 people, not 18."""
    monkeypatch.setattr("facefocus.benchmark.people.errata_names", lambda: ("p00_1",))
    monkeypatch.setattr("facefocus.paper.study.load", load)
    asked: list[Path] = []

    def record(file: Path, **_: Any) -> Path:
        asked.append(file)
        return file.parent

    monkeypatch.setattr("facefocus.paper.study.run_experiment", record)
    stage = tmp_path / "stage.toml"
    text = TOML.format(threshold='"eer"\nsplit = ["same", "heldout"]')
    text = text.replace('set = "one"', "exclude_errata = true")
    stage.write_text(text.replace('name = "small"', 'name = "rq"', 1))
    run_study(stage, Wanted((str(painted),), ("a",)), out=tmp_path / "out")
    written = load_variants(asked[0])[1][""]
    assert (written.faces.identities, written.faces.exclude_errata) == (17, True)
