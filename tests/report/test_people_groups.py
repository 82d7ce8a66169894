"""Groups of people by pose and quality: whose drop differs, and reports of one group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from typer.testing import CliRunner

from facefocus.benchmark import person_values as module
from facefocus.benchmark.person_values import PERSON_VALUES, person_values, read_person_values
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.cli.app import app
from facefocus.core.errors import UserError
from facefocus.evaluation.strata import YAW
from facefocus.faces.faceset import LANDMARK_COLUMNS, read_index
from facefocus.report.page import results_of_group
from facefocus.report.people_groups import compared_groups
from facefocus.report.report_data import Report
from tests.report.fabricated import row, table, write_run
from tests.small import paint_faceset

NAMES = [f"P{number:02}" for number in range(30)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Turned people lose less; sharpness says nothing."""
    draw = np.random.default_rng(3)
    yaw = np.where(np.arange(30) < 12, 20.0, 5.0)
    drops = np.where(yaw > 15, 0.2, 0.6) + draw.uniform(-0.1, 0.1, 30).round(2)
    rows = [row(identity=name, source="net", rate=1 - drop)
            for name, drop in zip(NAMES, drops, strict=True)]  # fmt: skip
    folder = write_run(tmp_path / "run", table(rows))
    values = {"faces": "lfw", "identity": NAMES, "images": 4, YAW: yaw,
              "sharpness": draw.uniform(50, 300, 30)}  # fmt: skip
    pl.DataFrame(values).write_parquet(folder / PERSON_VALUES)
    return folder


def report(folder: Path) -> Report:
    rows = pl.read_parquet(folder / "results.parquet")
    return Report(folder, rows, {}, "", folder)


def test_a_group_that_differs_is_found_with_its_p_value(run: Path) -> None:
    ((top, rows),) = compared_groups(report(run))
    assert top["method"] == "grad-cam"
    by_stratum = {record["stratum"]: record for record in rows.to_dicts()}
    turned = by_stratum["pose: yaw of 15 or more"]
    results = pl.read_parquet(run / "results.parquet")
    drops = (results["clean_rate"] - results["rate"]).to_numpy()
    assert turned["people"] == 12 and turned["drop"] == pytest.approx(drops[:12].mean())
    assert turned["drop_low"] < turned["drop"] < turned["drop_high"]
    raw = stats.permutation_test(
        (drops[:12], drops[12:]), lambda x, y, axis: x.mean(axis) - y.mean(axis),
        n_resamples=4999, vectorized=True, random_state=0,
    ).pvalue  # fmt: skip
    assert raw < 0.001 and turned["p"] < 0.01
    by_sharpness = [record for name, record in by_stratum.items() if name.startswith("sharpness")]
    assert len(by_sharpness) == 3
    for record in by_sharpness:
        assert (record["p"] is None) == (record["people"] < 10) and (
            record["p"] is None or record["p"] > 0.2
        )


def test_tables_of_one_group_hold_its_people_alone(run: Path, tmp_path: Path) -> None:
    rows = results_of_group([run], "pose: yaw of 15 or more")
    assert sorted(rows["identity"]) == NAMES[:12]
    with pytest.raises(UserError, match=r"Got 'pose: yaw of 15'\. Did you mean 'pose: yaw"):
        results_of_group([run], "pose: yaw of 15")
    asked = ["report", str(run), "--stratum", "pose: yaw below 15", "--out", str(tmp_path / "p")]
    assert CliRunner().invoke(app, asked).exit_code == 0
    page = (tmp_path / "p" / "index.html").read_text()
    assert "Only people of the group &#39;pose: yaw below 15&#39; are shown" in page


def test_damaged_values_are_named(run: Path) -> None:
    (run / PERSON_VALUES).write_bytes(b"broken")
    with pytest.raises(UserError, match=r"people\.parquet' cannot be read"):
        read_person_values([run])
    (run / PERSON_VALUES).unlink()
    assert read_person_values([run]) is None


def test_values_are_means_over_each_persons_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = paint_faceset(tmp_path / "painted")
    experiment = (
        '{"name": "s", "recognizers": {"source": "iresnet-mini-all"},'
        ' "saliency": [{"method": "random"}], "occlusion": {"budget": [0.1]}}'
    )
    session = Session(SessionSpec(experiment, faces, tmp_path / "store", "torch"))
    people = [person.identity for person in session.plan.people]
    index = [entry for entry in read_index(faces) if entry["row"] is not None]
    for entry in index:
        points = [38.0, 52, 74, 52, 56, 72, 42, 92, 71, 92]
        # Of one photo the nose points aside.
        points[4] += 12 * (entry["row"] == people[0].rows[0])
        entry.update(zip(LANDMARK_COLUMNS, points, strict=True), score=0.9)
    monkeypatch.setattr(module, "read_index", lambda folder: index)
    values = person_values(session)
    assert values["identity"].to_list() == [person.name for person in people]
    first = values.filter(pl.col(YAW) > 0.1)
    assert first.height == 1
    images = first["images"].item()
    expected = np.degrees(np.arctan(12 / 36 / (43 / 63))) / images
    assert first[YAW].item() == pytest.approx(expected, rel=1e-6)
    assert (values["detector's score"] == 0.9).all() and (values["sharpness"] > 0).all()
