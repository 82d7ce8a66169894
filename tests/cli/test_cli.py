"""The command line as a user meets it; in a process of its own where that is what is tested."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import save_file
from typer.main import get_command

from facefocus.cli import main
from facefocus.cli.app import app
from facefocus.core.store import Store
from facefocus.faces.faceset import open_faceset
from facefocus.faces.prepare import PrepareReport
from facefocus.models import zoo
from tests.conftest import Command
from tests.small import PHOTOS, paint_faceset

#: A recognizer in a file of the user's own; SLOW makes every pass of torch wait.
MODEL = """
import os, sys, time
sys.path.insert(0, {root!r})
from tests.small import tiny_recognizer

def build():
    module = tiny_recognizer("own", {seed}).module
    if os.environ.get("SLOW"):
        module.register_forward_pre_hook(lambda *_: time.sleep(0.1))
    return module

build.preprocessing = tiny_recognizer().preprocessing
"""

#: The store of commands in a process of their own.
STORE = os.environ["FACEFOCUS_STORE"]

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


#: What is run, on torch: a process that compiles for OpenVINO takes a second more.
RUN = ("run", "small.toml", "--faces", "painted", "--backend", "torch")


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
    """A run of this process; those that are stopped further down have processes of their own."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["facefocus", *RUN, "--out", "run"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    assert "grad-cam" in output.getvalue() and "random" in output.getvalue()
    assert output.getvalue().strip().endswith("results run/results.parquet")
    return folder / "run"


def test_a_run_leaves_its_results_and_what_they_were_made_with(run: Path) -> None:
    table = pl.read_parquet(run / "results.parquet")
    assert len(table) == len(PHOTOS) * 2 * (2 * 2 + 1) * 2 * 2
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["faces"]["hash"] == open_faceset(run.parent / "painted").hash
    assert len(provenance["recognizers"]) == 2 and provenance["libraries"]["torch"]
    assert (run / "experiment.toml").read_text() == (run.parent / "small.toml").read_text()


def test_status_counts_what_is_there(
    command: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEFOCUS_STORE", STORE)
    done = command("status", str(run))
    lines = dict(line.split(" ", 1) for line in done.out.splitlines())
    assert lines["results"] == "yes"
    for stage in ("embed", "maps", "scores"):
        made, wanted = lines[stage].split("/")
        assert made == wanted and int(wanted) > 0


def test_a_second_run_changes_nothing(
    command: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (run / "results.parquet").read_bytes()
    monkeypatch.setenv("FACEFOCUS_STORE", STORE)
    monkeypatch.chdir(run.parent)
    assert command(*RUN, "--out", "run").code == 0
    assert (run / "results.parquet").read_bytes() == before
    assert json.loads((run / "provenance.json").read_text())["tasks_done"] == 0


def test_the_report_opens_from_disk(
    command: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cache is empty here, and the charts' library takes seconds to bundle; so do figures.
    library = lambda: Path(__file__)  # noqa: E731
    monkeypatch.setattr("facefocus.report.explorer_files.chart_library", library)
    monkeypatch.setattr("facefocus.report.figures.save", lambda _, path: path.touch())
    done = command("report", str(run))
    assert done.code == 0, done.err
    assert done.out.strip().endswith(f"page {run / 'report' / 'index.html'}")
    page = (run / "report" / "index.html").read_text()
    assert "layer-cam" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_verify_prints_a_figure_a_line_and_json_for_programs(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    call = ["verify", "--faces", "painted", "--model", "one.py:build"]
    printed = command(*call).out
    names = [line.split()[0] for line in printed.splitlines()]
    assert names[0] == "accuracy" and {"eer", "threshold", "pairs"} <= set(names)
    mean = json.loads(command(*call, "--json").out)["report"]["folds"]["mean"]
    assert printed.startswith(f"accuracy {mean:.4f} +- ")
    assert 0.5 < mean <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.toml"], "Cannot read the experiment 'none.toml'"),
        (["run", "small.toml", "--faces", "nowhere"], "A face set must be a folder. Got"),
        (["verify", "--faces", "painted", "--model", "mobilefacenet-ms1n"], "Did you mean"),
        (["models", "layers", "mobilefacenet"], "No recognizer is called 'mobilefacenet'"),
        (["status", "painted"], "'painted' is no run folder"),
        (["report", "painted"], "has no results.parquet; run 'facefocus run' first"),
        (["prepare", "folder", "--source", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    command: Command,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    done = command(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert message in done.err and len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("file", "Got 'file': a file."),
        ("file/runs/one", "Got 'file/runs/one': 'file' is a file."),
        ("loop", "Got 'loop': a loop of links."),
        ("loop/run", "Got 'loop/run': a loop of links."),
    ],
)
@pytest.mark.parametrize(
    "call",
    ["run none.toml", "run none.toml --dry-run", "demo", "synthetic train none.toml",
     "synthetic make eyes", "prepare lfw --source none", "prepare folder --source none"],
)  # fmt: skip
def test_a_place_that_is_no_folder_is_one_line_before_anything_is_done(
    command: Command, call: str, out: str, reason: str
) -> None:
    Path("file").write_text("mine")
    Path("loop").symlink_to("back")
    Path("back").symlink_to("loop")
    done = command(*call.split(), "--out", out)
    assert (done.code, done.err) == (2, f"The '--out' must be a folder. {reason}\n")
    assert Path("file").read_text() == "mine"


def test_a_loop_of_links_is_named_wherever_it_is_met(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    monkeypatch.chdir(folder)
    for call, message in (
        (["run", "small.toml", "--faces", str(loop)], "a loop"),
        (["run", str(loop)], "Too many levels of symbolic links"),
        (["status", str(loop)], "Too many levels of symbolic links"),
        (["status", "small.toml"], "'small.toml' is no run folder: it has no run.json."),
        (["report", str(loop)], "a loop"),
    ):
        done = command(*call)
        assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1


def test_what_can_be_named_is_listed(command: Command) -> None:
    assert "mobilefacenet-ms1m" in command("list", "models").out.splitlines()
    assert "grad-cam++ (gradient)" in command("list", "methods").out.splitlines()
    artefact, gap = ["black", "white", "mean", "random", "blur"], ["inpaint", "linear"]
    assert command("list", "fills").out.split() == artefact + gap
    assert "arcface" in command("list", "objectives").out
    assert {"shifted", "other"} < set(command("list", "controls").out.split())
    paint_faceset(Path("faces/painted"))
    faces = dict(line.split(maxsplit=1) for line in command("list", "faces").out.splitlines())
    assert faces["painted"] == "faces/painted"
    assert faces["synthetic-eyes"] == "drawn when an experiment names it"
    wrong = command("list", "fill")
    assert wrong.code == 2 and wrong.err == (
        "The 'KIND' must be one of models, methods, objectives, fills, controls, nuisances, faces."
        " Got 'fill'. Did you mean 'fills'?\n"
    )


def test_layers_are_listed_with_their_names(command: Command) -> None:
    layers = command("models", "layers", "mobilefacenet-ms1m").out.splitlines()
    assert len(layers) == 51 + 4
    assert layers[48].split()[:2] == ["49", "head.conv"] and layers[48].endswith("N")
    assert layers[49].endswith("cannot localize")
    assert layers[51:] == [
        "group input    1 2 3",
        "group middle   12 24 36",
        "group output   47 48 49",
        "group all      the 49 spatial ones",
    ]


# Recognizers --------------------------------------------------------------------------------------


def test_models_are_listed_and_shown(command: Command) -> None:
    (Path("models")).mkdir()
    Path("models/mobilefacenet-casia.safetensors").touch()
    lines = command("models", "list").out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    assert rows["name"][-3:] == ["license", "commercial", "here?"] and len(rows) == 34
    assert rows["mobilefacenet-casia"][1:] == [
        "mobilefacenet", "CASIA-WebFace", "real", "MIT", "yes", "here",
    ]  # fmt: skip
    assert rows["iresnet50-sface"][3] == "synthetic" and rows["iresnet50-sface"][-2:] == [
        "show", "iresnet50-sface",
    ]  # fmt: skip
    assert rows["facenet-casia"][-4:] == ["unknown", "facefocus", "fetch", "facenet-casia"]
    here = command("models", "show", "mobilefacenet-casia").out.splitlines()
    assert here[-1].startswith("here ") and here[-1].endswith("mobilefacenet-casia.safetensors")
    lines = command("models", "show", "FN_V").out.splitlines()
    absent = dict(line.split(" ", 1) for line in lines)
    assert absent["name"] == "facenet-vggface2" and absent["commercial"] == "unknown"
    assert absent["preprocessing"] == '{"size": [160, 160], "mean": 127.5, "std": 128}'
    assert lines[-1] == "Get them by: facefocus fetch facenet-vggface2."
    by_hand = command("models", "show", "IR50").out.splitlines()[-1]
    assert by_hand.endswith("then run: facefocus models add iresnet50-glint360k FILE.")


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch run-by-a-weights-file",)


def test_broken_and_hostile_weights_are_one_line(command: Command) -> None:
    other = zoo.describe("squeezenet-vggface2").build().state_dict()
    save_file(other, "other.safetensors")
    whole = Path("other.safetensors").read_bytes()
    Path("short.safetensors").write_bytes(whole[: len(whole) // 2])
    Path("hostile.pth").write_bytes(pickle.dumps({"state_dict": Malicious()}, protocol=2))
    torch.save({"weight": torch.ones(2), "more": Malicious()}, "hostile-zip.pth")
    Path("empty.pt").touch()
    messages = {
        "short.safetensors": "not a whole safetensors file",
        "hostile.pth": "would run code when it is read ('posix.system'). Nothing in them was run",
        "hostile-zip.pth": "would run code when it is read ('posix.system'). Nothing in them",
        "other.safetensors": "do not fit mobilefacenet(): ",
        "empty.pt": "are empty",
        "absent.pt": "do not exist",
    }
    for file, message in messages.items():
        done = command("models", "add", "mobilefacenet-casia", file)
        assert done.code == 2 and done.out == ""
        assert message in done.err and len(done.err.strip().splitlines()) == 1
    assert (
        "It fits squeezenet."
        in command("models", "add", "mobilefacenet-casia", "other.safetensors").err
    )
    assert (
        "is not the published file of SqueezeNet"
        in command("models", "add", "squeezenet-vggface2", "other.safetensors").err
    )
    assert not Path("run-by-a-weights-file").exists()
    assert not Path("cache").exists()


def test_names_from_files_cannot_steer_the_terminal(command: Command) -> None:
    torch.save({"\x1b[2Jgone\x07.weight": torch.ones(2)}, "w.pth")
    done = command("models", "add", "IR50", "w.pth")
    assert done.code == 2 and r"first keys: '\x1b[2Jgone\x07.weight'" in done.err
    assert done.err.rstrip("\n").isprintable()


def test_weights_of_the_users_are_added(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "squeezenet-vggface2"
    entry = zoo.describe(name).model_copy(update={"sha256": None})
    monkeypatch.setattr(zoo, "entries", lambda: {name: entry})
    save_file(entry.build().state_dict(), "mine.safetensors")
    done = command("models", "add", name, "mine.safetensors")
    path = Path("cache/facefocus/models").absolute() / entry.file
    assert done.out.splitlines() == [entry.terms, f"weights {path}"]
    assert path.read_bytes() == Path("mine.safetensors").read_bytes()


# Photographs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("prepare lfw --source lfw.tgz", ["lfw", "lfw.tgz"]),
        ("prepare calfw --source c.zip", ["calfw", "c.zip"]),
        ("prepare cplfw --source c.zip", ["cplfw", "c.zip"]),
        ("prepare folder --source me", ["folder", "me"]),
    ],
)
def test_photographs_are_prepared(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    expected: list[str],
) -> None:
    seen: list[tuple[Any, ...]] = []

    def record(*given: Any, **options: Any) -> PrepareReport:
        options.pop("progress")("prepare", 1, 1)
        seen.append((given, options))
        return PrepareReport(
            Path("there"), "t", 5, 3, 1, {"no face": 2}, {}, 9, 1, already_complete=True,
            notes=("so",),
        )  # fmt: skip

    monkeypatch.setattr("facefocus.faces.sources.prepare_faces", record)
    done = command(*arguments.split())
    assert done.code == 0 and done.out.splitlines() == [
        "faces there (was there already)", "images 5 of 3 people, 1 with several faces",
        "unusable 2 (no face)", "pairs 9 (1 missing)", "so",
    ]  # fmt: skip
    given, options = seen[0]
    assert [given[0].name, str(given[1]), given[2]] == [*expected, None]
    align = "yunet" if expected[0] == "folder" else "auto"
    copies = {"keep_duplicates": False}
    usual = {"pairs": None, "align": align, "crop": "arcface112", "detector": None}
    assert options == usual | copies | {"judge": None, "sheet": None}
    more = ["--crop", "facenet160", "--align", "none", "--out", "there", "--detector", "y.onnx"]
    more += ["--pairs", "list.csv", "--sheet", "s.png", "--model", "iresnet-mini-all"]
    command(*arguments.split(), *more)
    given, options = seen[1]
    assert str(given[2]) == "there"
    changed = {"align": "none", "crop": "facenet160", "detector": Path("y.onnx")}
    assert options.pop("judge").name == "iresnet-mini-all"
    changed["sheet"] = Path("s.png")
    assert options == {"pairs": Path("list.csv")} | changed | copies


def test_an_unknown_crop_is_named(command: Command) -> None:
    Path("me/one").mkdir(parents=True)
    done = command("prepare", "folder", "--source", "me", "--crop", "facenet")
    assert done.code == 2 and "Did you mean 'facenet160'?" in done.err


# Conformance --------------------------------------------------------------------------------------


def test_the_words_of_a_preprocessing_work_on_the_command_line(
    command: Command, folder: Path
) -> None:
    Path("bare.py").write_text(
        (folder / "one.py").read_text().replace("build.preprocessing =", "unused =")
    )
    missing = command("models", "layers", "bare.py:build")
    assert missing.code == 2
    line = 'build.preprocessing = {"size": [112, 112], "mean": 127.5, "std": 128}'
    assert f"by a line of 'bare.py', such as: {line}" in missing.err
    words = ["--preprocessing", "size = [32, 32], mean = 127.5, std = 127.5"]
    for arguments in (["models", "layers", "bare.py:build"], ["models", "check", "bare.py:build"]):
        done = command(*arguments, *words)
        assert done.code == 0, done.err
    wrong = command("models", "check", "bare.py:build", "--preprocessing", "size 112")
    assert wrong.code == 2 and "'--preprocessing' must be such as" in wrong.err


def test_what_conforms_is_0_what_fails_is_1_and_mistakes_are_2(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = command("models", "check", f"{folder}/one.py:build")
    assert good.code == 0 and good.out.splitlines()[-1] == "16 checks, 0 failed"
    assert "ok      deterministic    the same bits twice" in good.out.splitlines()
    text = (
        (folder / "one.py").read_text().replace('"own", 0', '"own", __import__("time").time_ns()')
    )
    Path("random.py").write_text(text)
    broken = command("models", "check", "random.py:build")
    assert broken.code == 1 and broken.out.splitlines()[-1] == "16 checks, 1 failed"
    assert [line.split()[0] for line in broken.out.splitlines()].count("FAILED") == 1
    assert "FAILED  made again" in broken.out
    assert command("models", "check", "--method", "layer-cam").code == 0
    assert command("models", "check", "--fill", "mean").code == 0
    for wrong, message in {
        "": "Name what to check: a recognizer, or one --method, --fill, --nuisance or --faces."
        " Got nothing.",
        "x --fill mean": "Got x, mean.",
        "--fill men": "Did you mean 'mean'?",
        "x.onnx": "The recognizer must be FILE.onnx. The file 'x.onnx' does not exist.",
    }.items():
        done = command("models", "check", *wrong.split())
        assert done.code == 2 and message in done.err


def test_pairs_and_sanity_print_a_line_a_result(folder: Path, command: Command) -> None:
    options = f"--faces {folder / 'painted'} --model {folder / 'one.py'}:build"
    done = command("pairs", *f"{options} --method grad-cam --pairs 20".split())
    assert done.code == 0, done.err
    assert any(line.startswith("grad-cam") for line in done.out.splitlines())
    assert any("random" in line for line in done.out.splitlines())
    call = f"{options} --method layer-cam --layer 1 --layer N --identities 3"
    lines = command("sanity", *call.split()).out.splitlines()
    assert len(lines) % 2 == 0 and all("rank correlation" in line for line in lines)
    assert {line.split()[1] for line in lines} == {"1", "N"}
    refused = command("sanity", *f"{options} --method random --layer 1".split())
    assert refused.code == 2 and "has no layer" in refused.err


# Interruptions ------------------------------------------------------------------------------------


#: A worker of its own: what is said to the first process must reach it.
ONE_WORKER = ("--cluster", "local:1")
#: What is said, whichever way a job is asked to stop.
STOPPED = "Interrupted. What is finished is kept: run it again to go on."


def interrupted(folder: Path, out: str, sign: signal.Signals, *workers: str) -> tuple[int, str]:
    """Stop a slow run as soon as it has kept three more pieces."""
    before = pieces(folder / out)
    call = [sys.executable, "-m", "facefocus.cli", *RUN]
    job = subprocess.Popen(
        [*call, "--out", out, "--store", f"{out}/store", *workers],
        cwd=folder, env={**os.environ, "SLOW": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300  # a busy machine starts two workers in minutes
    while pieces(folder / out) < before + 3 and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    others = psutil.Process(job.pid).children(recursive=True) if job.poll() is None else []
    job.send_signal(sign)
    _, errors = job.communicate(timeout=120)
    assert not psutil.wait_procs(others, timeout=20)[1]  # no worker outlives it
    return job.returncode, errors


def finished_without_a_worker(folder: Path, out: str) -> subprocess.CompletedProcess[str]:
    """Finish the run with two workers, one of which is killed in the middle."""
    call = [sys.executable, "-m", "facefocus.cli", *RUN]
    before = pieces(folder / out)
    job = subprocess.Popen(
        [*call, "--out", out, "--workers", "2"], cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300  # a busy machine starts two workers in minutes
    while pieces(folder / out) == before and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    for worker in worker_processes(job)[:1]:
        worker.kill()
    out_text, err = job.communicate(timeout=300)
    return subprocess.CompletedProcess(job.args, job.returncode, out_text, err)


def worker_processes(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers of a run: copies of a process that serves them, which itself is a child."""
    if job.poll() is not None:
        return []
    children = psutil.Process(job.pid).children()
    servers = [child for child in children if "forkserver" in " ".join(child.cmdline())]
    return [worker for server in servers for worker in server.children()]


def pieces(run: Path) -> int:
    """Finished tasks of a run; files being written have other names."""
    return len(list((run / "store").glob("*.pack")))


def test_an_interrupted_and_killed_run_goes_on_to_the_same_bytes(
    command: Command, run: Path
) -> None:
    """Some of its pieces are made by one process, some by two."""
    folder, stopped = run.parent, run.parent / "stopped"
    code, errors = interrupted(folder, "stopped", signal.SIGINT)
    assert code == 130
    assert errors.strip().splitlines()[-1] == STOPPED
    assert "Traceback" not in errors
    before = pieces(stopped)
    # A cluster asks the first process alone; that it is through means that its workers are.
    code, errors = interrupted(folder, "stopped", signal.SIGTERM, *ONE_WORKER)
    assert (code, errors.strip().splitlines()[-1]) == (143, STOPPED)
    assert "Traceback" not in errors
    first = pieces(stopped)
    assert interrupted(folder, "stopped", signal.SIGKILL, *ONE_WORKER)[0] == -signal.SIGKILL
    second = pieces(stopped)
    assert not (stopped / "results.parquet").exists()
    done = finished_without_a_worker(folder, "stopped")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    # On a busy machine the last piece may be there before the signal.
    assert 0 < before < first < second <= pieces(stopped)
    assert json.loads((stopped / "run.json").read_text())["store"] == "store"
    status = command("status", str(stopped)).out.splitlines()
    counts = [line.split()[1].split("/") for line in status[:-1]]
    assert all(made == wanted for made, wanted in counts) and status[-1] == "results yes"
    stored = Store(stopped / "store").size().artefacts
    assert sum(int(made) for made, _ in counts) == stored
    assert json.loads((stopped / "provenance.json").read_text())["tasks_done"] > 0
    assert (stopped / "results.parquet").read_bytes() == (run / "results.parquet").read_bytes()


def test_a_folder_whose_name_is_not_utf8_is_prepared_and_printed(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    (folder / "Al").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "Al" / "1.png")
    done = facefocus("prepare", "folder", "--source", str(folder), "--align", "none", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert open_faceset(tmp_path / "faces" / folder.name).title == r"caf\xe9"


# Help and words -----------------------------------------------------------------------------------


def test_the_help_names_every_command_in_its_panel(command: Command) -> None:
    lines = [line.strip("│╭╰╮╯─ ") for line in command("--help").out.splitlines()]
    panels = [
        "Photographs", "Recognizers", "Experiments", "Reports", "Faces with a known answer",
        "Maintenance",
    ]  # fmt: skip
    positions = [lines.index(panel) for panel in panels]
    assert positions == sorted(positions) and positions[0] > lines.index("Options")
    named = {line.split()[0] for line in lines[positions[0] :] if line}
    known = "fetch prepare models verify run status list pairs sanity report audit synthetic demo"
    assert {*known.split(), "doctor", "store"} <= named


def test_the_help_of_a_command_keeps_words_in_brackets_and_fills_its_lines(
    command: Command,
) -> None:
    text = " ".join(command("run", "--help").out.split())
    assert "writes results.parquet to the run folder." in text and "With [stop] in the file" in text
    lines = command("models", "add", "--help").out.splitlines()
    assert any("Prints its terms and where the copy is." in line for line in lines)


def test_a_shell_can_complete_commands_and_words(folder: Path) -> None:
    def completed(line: str) -> list[str]:
        asked = {
            "_FACEFOCUS_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        }
        code = "import sys; sys.argv[0] = 'facefocus'; from facefocus.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | asked
        )
        return done.stdout.split()

    assert completed("facefocus st") == ["status", "store"]
    assert completed("facefocus report run --what qu") == ["questions"]
    assert completed("facefocus list f") == ["fills", "faces"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--what", "truths"], "The '--what' must be one of page, tables, leaderboard, methods,"),
        (["--format", "html5"], "Did you mean 'html'?"),
        (["--what", "truth", "--format", "csv"], "takes no --format csv. Its formats: markdown."),
        (["--what", "questions", "--table", "2"], "takes no --table."),
        (["--what", "tables", "--with-faces"], "takes no --with-faces."),
        (["--table", "99"], "The 'table' must be 2 to 15"),
        (["run", "--what", "truth"], "'--what truth' is of one run. Got 2."),
    ],
)
def test_a_report_says_what_it_cannot_be(
    command: Command, run: Path, arguments: list[str], message: str
) -> None:
    done = command("report", str(run), *arguments)
    assert (done.code, done.out) == (2, "") and message in done.err
    assert len(done.err.splitlines()) == 1


def test_tables_are_printed_or_written(command: Command, run: Path) -> None:
    printed = command("report", str(run), "--what", "leaderboard", "--format", "markdown").out
    assert printed.startswith("**") and "layer-cam" in printed
    call = ["report", str(run), "--what", "leaderboard", "--format", "markdown", "--out", "b.md"]
    assert command(*call).out == "leaderboard b.md\n"
    assert Path("b.md").read_text(encoding="utf-8") == printed
    assert command("report", str(run), "--format", "csv").out.startswith("experiment,faces,")
    for form, sign in (
        ("markdown", "| layer-cam @ N |"),
        ("latex", "layer-cam @ N &"),
        ("text", ""),
    ):
        out = command("report", str(run), "--format", form).out
        assert sign in out and "x0a" not in out and "layer-cam @ N" in out


def test_what_is_of_studies_alone_is_named(command: Command, folder: Path) -> None:
    done = command("run", f"{folder}/small.toml", "--model", "a", "--faces", "a", "--faces", "b")
    assert done.code == 2
    assert done.err.endswith("small.toml' is an experiment. Leave out --model, several --faces.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("modles", "The word after 'facefocus' must be one of .* Did you mean 'models'"),
        ("models lst", "The word after 'facefocus models' .* Did you mean 'list'"),
        ("prepare flw", "must be one of lfw, .* Got 'flw'. Did you mean 'lfw'"),
        ("report x --format htm", "The '--format' must be one of .* Did you mean 'html'"),
        ("report x --what tabels", "The '--what' must be one of .* Did you mean 'tables'"),
        ("run --faes x", "no option '--faes'. Did you mean '--faces'. See: facefocus run --help"),
        ("run", "Missing argument 'file'. See: facefocus run --help"),
    ],
)
def test_a_misspelt_word_is_one_line_with_the_nearest(
    command: Command, words: str, message: str
) -> None:
    done = command(*words.split())
    assert done.code == 2 and done.out == "" and len(done.err.splitlines()) == 1
    assert re.search(message, done.err), done.err


#: A command in an indented line, a cell or backquotes, without a comment and a redirection.
NAMED = re.compile(
    r"^(?:[# ]*    |!)facefocus (.+?)(?: +2?>.*|  +#.*)?$|`facefocus ([^`]+)`", re.MULTILINE
)


def test_every_command_that_a_text_names_exists() -> None:
    """In the README, the documentation, the experiments and the code."""
    root = Path(__file__).parents[2]
    files = [root / "README.md", *(root / "docs").glob("*.md")]
    files += (root / "docs" / "tutorials").glob("*.md")
    files += [*(root / "experiments").glob("*.toml"), *(root / "src").rglob("*.py")]
    wrong, known = [], get_command(app)
    for file in files:
        text = re.sub(r"\\\n +", "", file.read_text(encoding="utf-8"))
        for match in NAMED.finditer(text):
            words, command_ = shlex.split(match[1] or match[2]), known
            context = typer.Context(command_)
            while words and hasattr(command_, "get_command") and not words[0].startswith("-"):
                command_ = command_.get_command(context, words.pop(0))
            params = getattr(command_, "params", ())
            options = {name for parameter in params for name in parameter.opts}
            # What stands on a line of its own is typed as it stands.
            needed = {parameter.opts[0] for parameter in params if parameter.required and match[1]}
            asked = {word for word in words if word.startswith("--")}
            lacks = {name for name in needed - asked if name.startswith("--")}
            if command_ is None or not asked <= options | {"--help"} or lacks:
                wrong.append(f"{file.name}: {match[0].strip()}")
    # That of the example of a face source, which is not installed.
    assert wrong == ["extending.md: `facefocus prepare album --source album/`"]
