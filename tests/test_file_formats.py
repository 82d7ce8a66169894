"""Files are as the manual says (docs/file_formats.py); others are looked at beside their tests."""

from __future__ import annotations

import io
import json
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from facefocus.benchmark import session as session_module
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.identification import PHOTO_RISKS
from facefocus.benchmark.result_columns import CONFIGURATION
from facefocus.benchmark.run import run_experiment
from facefocus.benchmark.run_log import RunLog, read_log
from facefocus.faces.faceset import IndexRow, write_faceset
from facefocus.faces.sources import synthetic
from facefocus.occlusion.mask_files import write_mask
from facefocus.report.run_result import Results
from facefocus.saliency.identity_maps import IdentityMaps
from facefocus.submissions.submission import write_submission
from tests.small import paint_faceset, tiny_recognizer
from tests.written_files import (
    EVENTS,
    FORMATS,
    FileFormat,
    check_arrays,
    check_json,
    check_table,
    loaded,
    read,
)


def test_the_comparison_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"a": ("int", ""), "b[].c": ("number or null", ""), "d.*": ("list of text", "")}
    monkeypatch.setitem(FORMATS, "x", FileFormat("x", "", fields))
    right = {"a": 1, "b": [{"c": 0.5}, {"c": None}], "d": {"any": ["text"]}}
    check_json("x", right)
    for wrong in (
        {**right, "a": "1"}, {**right, "a": True}, {**right, "b": [{"c": "0"}]},
        {**right, "b": [{"c": 1.0, "e": 2}]}, {**right, "d": {"any": [1]}}, {**right, "f": 0},
        {"a": 1, "d": {"any": []}},
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            check_json("x", wrong)


def test_a_face_set(tmp_path: Path) -> None:
    listed = paint_faceset(tmp_path / "listed", listed=True)
    rows = [
        IndexRow("a", "a_1", "a/1", faces=2, check=("several faces",)),
        IndexRow("a", "a_2", "a/2", reason="no face"),
    ]
    odd = tmp_path / "odd"
    odd.mkdir()
    frames = [np.zeros((8, 8, 3), np.uint8)]
    write_faceset(odd, title="odd", rows=rows, frames=frames, size=(8, 8))
    check_json("manifest.json", read(odd / "manifest.json"), read(listed / "manifest.json"))
    check_table("index.parquet", pl.read_parquet(odd / "index.parquet"))
    check_table("pairs.parquet", pl.read_parquet(listed / "pairs.parquet"))
    header = (odd / "check.csv").read_text().splitlines()[0]
    assert header == ",".join(FORMATS["check.csv"].fields)
    check_arrays("frames.npy", {"": np.load(listed / "frames.npy")})


def test_masks_and_maps(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.npz", np.eye(112, dtype=bool))
    check_arrays("mask.npz", loaded(tmp_path / "mask.npz"))
    maps = IdentityMaps.from_arrays({"Ada": np.eye(4), "Bob": np.ones((4, 4))}, name="mine")
    check_arrays("maps.npz", loaded(maps.to_npz(tmp_path / "maps.npz")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on drawn faces, of all that adds files or columns."""
    folder = tmp_path_factory.mktemp("files")
    synthetic.make_faceset(folder / "eyes", world="eyes", identities=4, photos=3, seed=0)
    experiment = parse_experiment(
        {
            "name": "files",
            "faces": {"set": "synthetic-eyes"},
            "recognizers": {"source": ["a"]},
            "saliency": [{"method": "grad-cam", "layer": "N"}, {"method": "random"}],
            "occlusion": {"budget": [0.05], "fill": ["black"]},
            "evaluation": {"identification": True},
            "robustness": {"nuisances": ["median-3"]},
            "stop": {"when": "width", "width": 0.01},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "load", lambda name, _: tiny_recognizer(name))
        run_experiment(
            experiment, faces=folder / "eyes", out=folder / "run", store=folder / "store",
            backend="torch",
        )  # fmt: skip
        write_submission(folder / "run")
    return folder / "run"


def test_drawn_faces_have_their_truth_beside_them(run: Path) -> None:
    check_arrays("truth.npz", loaded(run.parent / "eyes" / "truth.npz"))


def test_the_tables_of_a_run(run: Path) -> None:
    for name in ("robustness.parquet", "stored-masks.parquet", "gallery.parquet", "keys.parquet"):
        check_table(name, pl.read_parquet(run / name))
    further = "on drawn faces", "with identification = true"
    results = pl.read_parquet(run / "results.parquet")
    check_table(
        "results.parquet", results, *(f"results.parquet, {condition}" for condition in further)
    )
    people = pl.read_parquet(run / "people.parquet")
    # Drawn faces have no landmarks: what these give is no column.
    documented = {name: FORMATS["people.parquet"].fields[name][0] for name in people.columns}
    assert {name: str(kind) for name, kind in people.schema.items()} == documented
    assert people.columns == ["faces", "identity", "images", "sharpness"]
    check_arrays("gallery.npz", loaded(run / "gallery.npz"))


def test_the_table_of_configurations(run: Path) -> None:
    table = Results.of_run(run).table
    assert table.columns[: len(CONFIGURATION)] == list(CONFIGURATION)
    fields = FORMATS["A table of configurations"].fields
    for name, kind in list(table.schema.items())[len(CONFIGURATION) :]:
        if name.removeprefix("clean_").removesuffix("_low").removesuffix("_high") in PHOTO_RISKS:
            continue
        patterns = [pattern for pattern in fields if fnmatchcase(name, pattern)]
        assert patterns and fields[patterns[0]][0] == str(kind), name
    assert not [name for name in fields if "*" not in name and name not in table.columns]


def test_what_a_run_says_of_itself(run: Path) -> None:
    check_json("run.json", read(run / "run.json"))
    check_json("provenance.json", read(run / "provenance.json"))
    check_json("stop.json", read(run / "stop.json"))
    RunLog(run).write("failed", stage="s", key="k", worker="w", error="e", traceback="t", attempt=1)
    RunLog(run).write("workers", count=2)
    RunLog(run).write("stop", reason="r")
    for line in read_log(run):
        more = {name for name in line if name not in FORMATS["run.log"].fields}
        assert more <= {word.strip("`,:") for word in EVENTS[line["event"]].split()}, line
    assert {line["event"] for line in read_log(run)} == set(EVENTS)


def test_a_submission(run: Path) -> None:
    with zipfile.ZipFile(run.with_name("run.submission")) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name, title in (
        ("submission.json", "submission.json"), ("methods.json", "methods.json"),
        ("run.json", "run.json, of a submission"), ("provenance.json", "provenance.json"),
    ):  # fmt: skip
        check_json(title, json.loads(files[name]))
    check_table("masks.parquet", pl.read_parquet(files["masks.parquet"]))
    check_arrays("masks.npy", {"": np.load(io.BytesIO(files["masks.npy"]))})
    rest = {"experiment.toml", "results.parquet", "people.parquet", "robustness.parquet"}
    assert rest <= set(files) <= rest | {name.partition(",")[0] for name in FORMATS}
