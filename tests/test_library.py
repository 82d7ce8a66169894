"""The library as a notebook or a script uses it: paths as text, workers from anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facefocus.benchmark.pairs import pair_level
from facefocus.benchmark.run import find_faceset, open_run, run_experiment, run_status
from facefocus.benchmark.sanity import randomized_maps
from facefocus.benchmark.verify import verify_recognizer
from facefocus.faces.sources import prepare_faces
from tests.small import paint_faceset

MODEL = """
import sys
sys.path.insert(0, {root!r})
from tests.small import tiny_recognizer

def build():
    return tiny_recognizer("own", 0).module

build.preprocessing = tiny_recognizer().preprocessing
"""

EXPERIMENT = """
name = "small"
[faces]
set = "painted"
identities = 5
[recognizers]
source = "one.py:build"
[[saliency]]
method = "layer-cam"
[occlusion]
budget = 0.1
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFOCUS_STORE", str(tmp_path / "kept"))
    paint_faceset(tmp_path / "painted")
    root = Path(__file__).parents[1]
    (tmp_path / "one.py").write_text(MODEL.format(root=str(root)))
    (tmp_path / "small.toml").write_text(EXPERIMENT)
    return tmp_path


def test_paths_may_be_text_everywhere(work: Path) -> None:
    text: Any = str  # what a type checker would rather see as a path
    recognizer, painted = "one.py:build", text("painted")
    run = run_experiment(text("small.toml"), faces=painted, out=text("run"), store=text("store"))
    assert run == Path("run") and (run / "results.parquet").is_file() and Path("store").is_dir()
    assert all(stage.done == stage.total for stage in run_status(text("run")))
    assert open_run(text("run")).spec.faces == (work / "painted")
    assert find_faceset(Path("painted")) == Path("painted")
    assert verify_recognizer(painted, recognizer, store=text("store")).faces == "painted"
    assert pair_level(painted, recognizer, ["random"], pairs=4).height == 22
    assert randomized_maps(painted, recognizer, ["grad-cam"], ["N"], identities=2)
    for folder in ("images/A_B_1.jpg", "A_B/A_B_0001.png", "A_B/A_B_0002.png"):
        (work / "album" / folder).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (112, 112), (90, 60, len(folder) + int(folder[-5]))).save(
            work / "album" / folder
        )
    for source in ("lfw", "cplfw", "folder"):
        prepare_faces(source, text("album"), text(source), align="none")
        assert (work / source / "manifest.json").is_file()


CALL = """
from facefocus.benchmark.run import run_experiment
print(run_experiment("small.toml", out="run", backend="torch", cluster="local:1"))
"""


def test_workers_start_from_a_program_that_is_no_file(work: Path) -> None:
    """Standard input is called '<stdin>' by some programs, a notebook's cell has no name."""
    named = "import __main__\n__main__.__file__ = '<stdin>'\n" + CALL
    done = subprocess.run([sys.executable, "-"], input=named, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "run\n"), done.stderr
    assert (work / "run" / "results.parquet").is_file()


def test_a_script_that_its_workers_cannot_import_says_what_to_do(work: Path) -> None:
    (work / "script.py").write_text(
        "from facefocus.core.errors import UserError\n"
        "from facefocus.benchmark.run import run_experiment\n"
        "try:\n"
        "    run_experiment('small.toml', out='run', backend='torch', cluster='local:1')\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("under: if __name__ == '__main__':")
