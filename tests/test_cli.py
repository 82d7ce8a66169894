"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from facefocus.faces.faceset import open_faceset
from tests.small import PHOTOS, paint_faceset

#: A recognizer in a file of the user's own.
MODEL = """
import sys
sys.path.insert(0, {root!r})
from tests.small import tiny_recognizer

def build():
    return tiny_recognizer("own", {seed}).module

build.preprocessing = tiny_recognizer().preprocessing
"""

EXPERIMENT = """
name = "small"
[recognizers]
source = "{folder}/one.py:build"
target = ["{folder}/one.py:build", "{folder}/two.py:build"]
[[saliency]]
method = ["grad-cam", "layer-cam"]
layer = ["1", "N"]
[[saliency]]
method = "random"
draws = 1
[occlusion]
budget = [0.01, 0.1]
fill = ["black", "mean"]
"""


def facefocus(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "facefocus.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Painted faces, two recognizers of the user's own and an experiment."""
    folder = tmp_path_factory.mktemp("work")
    paint_faceset(folder / "painted")
    for seed, name in enumerate(("one", "two")):
        text = MODEL.format(root=str(Path.cwd()), seed=seed)
        (folder / f"{name}.py").write_text(text)
    (folder / "small.toml").write_text(EXPERIMENT.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    done = facefocus("run", "small.toml", "--faces", "painted", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "grad-cam" in done.stdout and "random" in done.stdout
    assert done.stdout.strip().endswith("results run/results.parquet")
    return folder / "run"


def test_a_run_leaves_its_results_and_what_they_were_made_with(run: Path) -> None:
    table = pl.read_parquet(run / "results.parquet")
    assert len(table) == len(PHOTOS) * 2 * (2 * 2 + 1) * 2 * 2
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["faces"]["hash"] == open_faceset(run.parent / "painted").hash
    assert len(provenance["recognizers"]) == 2 and provenance["libraries"]["torch"]
    assert (run / "experiment.toml").read_text() == (run.parent / "small.toml").read_text()


def test_status_counts_what_is_there(run: Path) -> None:
    done = facefocus("status", str(run))
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines["results"] == "yes"
    for stage in ("embed", "maps", "scores"):
        made, wanted = lines[stage].split("/")
        assert made == wanted and int(wanted) > 0


def test_a_second_run_changes_nothing(run: Path) -> None:
    before = (run / "results.parquet").read_bytes()
    done = facefocus("run", "small.toml", "--faces", "painted", "--out", "run", cwd=run.parent)
    assert done.returncode == 0
    assert (run / "results.parquet").read_bytes() == before
    assert json.loads((run / "provenance.json").read_text())["tasks_done"] == 0


def test_two_processes_give_the_same_bytes(run: Path) -> None:
    call = ["run", "small.toml", "--faces", "painted", "--out", "other", "--workers", "2"]
    done = facefocus(*call, cwd=run.parent)
    assert done.returncode == 0, done.stderr
    other = run.parent / "other" / "results.parquet"
    assert other.read_bytes() == (run / "results.parquet").read_bytes()


def test_the_report_opens_from_disk(run: Path) -> None:
    done = facefocus("report", str(run))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"page {run / 'report' / 'index.html'}")
    page = (run / "report" / "index.html").read_text()
    assert "layer-cam" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_verify_prints_a_figure_a_line_and_json_for_programs(folder: Path) -> None:
    call = ["verify", "--faces", "painted", "--model", "one.py:build"]
    done = facefocus(*call, cwd=folder)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names[0] == "accuracy" and {"eer", "threshold", "pairs"} <= set(names)
    read = json.loads(facefocus(*call, "--json", cwd=folder).stdout)
    mean = read["report"]["folds"]["mean"]
    assert done.stdout.startswith(f"accuracy {mean:.4f} +- ")
    assert 0.5 < mean <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.toml"], "Cannot read the experiment 'none.toml'"),
        (["run", "small.toml", "--faces", "nowhere"], "A face set must be a folder. Got"),
        (["verify", "--faces", "painted", "--model", "mobilefacenet-ms1n"], "Did you mean"),
        (["ls", "layers", "mobilefacenet"], "No recognizer is called 'mobilefacenet'"),
        (["status", "painted"], "'painted' is no run folder"),
        (["report", "painted"], "has no results.parquet; run 'facefocus run' first"),
        (["prepare", "folder", "--source", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    folder: Path, arguments: list[str], message: str
) -> None:
    done = facefocus(*arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_an_unwritable_run_folder_is_one_line_and_loses_nothing(folder: Path) -> None:
    (folder / "file").write_text("mine")
    done = facefocus("run", "small.toml", "--faces", "painted", "--out", "file", cwd=folder)
    assert done.returncode == 2 and "Cannot write 'file" in done.stderr
    assert (folder / "file").read_text() == "mine"


def test_what_can_be_named_is_listed() -> None:
    assert "mobilefacenet-ms1m" in facefocus("ls", "models").stdout
    assert "grad-cam++" in facefocus("ls", "methods").stdout
    assert facefocus("ls", "fills").stdout.split() == ["black", "white", "mean", "random", "blur"]
    assert "arcface" in facefocus("ls", "objectives").stdout
    layers = facefocus("ls", "layers", "mobilefacenet-ms1m").stdout.splitlines()
    assert len(layers) == 51
    assert layers[48].split()[:2] == ["49", "head.conv"] and layers[48].endswith("N")
    assert layers[49].endswith("cannot localize")
