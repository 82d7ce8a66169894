"""The figures of the data README and the main job, on real faces and recognizers."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from facefocus.faces.lfw import prepare_lfw
from facefocus.locations import data_dir
from facefocus.verify import verify_recognizer
from facefocus.workflow import run_experiment

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        data_dir() is None or not (data_dir() or Path()).joinpath("lfw").is_dir(),
        reason="needs ../shared/data or $FACEFOCUS_DATA with lfw/ and models/",
    ),
]

#: Published accuracy of each recognizer on View 2, and by how much ours may differ.
PUBLISHED = {
    "mobilefacenet-ms1m": (0.9902, 0.003),
    "mobilefacenet-casia": (0.9822, 0.003),
    "mobilefacenet-casia-112x96": (0.9847, 0.003),
    "squeezenet-vggface2": (0.940, 0.007),
}

QUICK = """
name = "short"
[faces]
identities = 4
images = [4, 5]
[recognizers]
source = "mobilefacenet-ms1m"
[saliency]
method = ["layer-cam", "random"]
layer = "1"
draws = 1
[occlusion]
budget = [0.01, 0.1]
"""


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = data_dir()
    assert data is not None
    folder = tmp_path_factory.mktemp("faces") / "lfw"
    prepare_lfw(data / "lfw" / "lfw-deepfunneled.tgz", folder)
    return folder


@pytest.mark.parametrize("model", PUBLISHED)
def test_view_2_accuracy_is_the_published_one(model: str, lfw: Path) -> None:
    verified = verify_recognizer(lfw, model)
    expected, tolerance = PUBLISHED[model]
    assert verified.report.folds is not None
    assert verified.report.folds.mean == pytest.approx(expected, abs=tolerance)
    assert (verified.report.mated, verified.report.non_mated, verified.missing) == (3000, 3000, 0)


def test_hiding_more_pixels_hurts_more(lfw: Path, tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    file.write_text(QUICK)
    table = pl.read_parquet(
        run_experiment(file, faces=lfw, out=tmp_path / "run") / "results.parquet"
    )
    mean = table.group_by("method", "budget").agg(pl.col("cosine", "clean_cosine").mean())
    small, large = (
        mean.filter((pl.col("method") == "layer-cam") & (pl.col("budget") == budget)).row(
            0, named=True
        )
        for budget in (0.01, 0.1)
    )
    assert large["cosine"] < small["cosine"] < small["clean_cosine"] - 0.05
