"""Studies: stages on what is here, choices read from earlier stages, everything resumable."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.analysis.results import read_runs
from facefocus.benchmark import timing
from facefocus.benchmark.experiment import load_experiment, parse_experiment
from facefocus.cli import main
from facefocus.core.errors import UserError
from facefocus.core.locations import run_folders
from facefocus.core.specs import to_toml
from facefocus.paper.choices import choose
from facefocus.paper.study import Wanted, run_study, study_cost
from facefocus.paper.study_page import write_study_report
from tests.paper.paper_rows import LAYERS, LOSSES, stages
from tests.report.page_files import read_page
from tests.small import paint_faceset
from tests.written_files import check_json

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

MODEL = """
import sys
sys.path.insert(0, {root!r})
from tests.small import tiny_recognizer

def build():
    return tiny_recognizer("own", {seed}).module

build.preprocessing = tiny_recognizer().preprocessing
"""

#: Two stages: the second takes the layer that the first finds best, and few people for S-RISE.
FIRST = """
name = "rq2"
study = "small"
[faces]
set = ["painted", "nowhere"]
images = [2, 3]
[recognizers]
source = ["one.py:build", "two.py:build", "IR100"]
transfer = false
[[saliency]]
method = ["grad-cam", "layer-cam"]
layer = ["1", "N"]
[[saliency]]
method = "random"
draws = 1
[occlusion]
budget = 0.01
on_degenerate = ["none", "inclusive"]
"""
SECOND = """
name = "rq4"
study = "small"
[faces]
set = "painted"
images = [2, 3]
[recognizers]
source = ["one.py:build", "two.py:build"]
[[saliency]]
method = ["grad-cam", "layer-cam"]
layer = "best"
objective = ["cosine", "l2"]
[[saliency]]
method = "s-rise"
options = { masks = 20 }
identities = 5
[[saliency]]
method = "random"
draws = 1
[occlusion]
budget = 0.01
[choose]
layer = "rq2"
"""
STUDY = """
name = "small"
stages = ["first.toml", "second.toml"]
[faces]
identities = 8
limited = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces, two recognizers, and the files of a study."""
    folder = tmp_path_factory.mktemp("study")
    paint_faceset(folder / "painted")
    for seed, name in enumerate(("one", "two")):
        text = MODEL.format(root=str(EXPERIMENTS.parent), seed=seed)
        (folder / f"{name}.py").write_text(text)
    for name, text in (("first", FIRST), ("second", SECOND), ("study", STUDY)):
        (folder / f"{name}.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FACEFOCUS_DATA", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        result = run_study(Path("study.toml"))
    assert [run.name for run in result.runs] == ["rq2-painted", "rq4-painted", "rq4-painted-3"]
    missing = "\n".join(result.missing)
    assert "recognizer IR100: " in missing and "faces nowhere: " in missing
    return folder / "runs" / "small"


def test_a_dry_run_counts_every_run_and_writes_nothing(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FACEFOCUS_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(timing, "MEASURED", 0.0)
    out = tmp_path / "out"
    call = f"facefocus run study.toml --dry-run --memory 1GiB --out {out}"
    monkeypatch.setattr(sys, "argv", call.split())
    with pytest.raises(SystemExit) as ended:
        main()
    lines = capsys.readouterr().out.splitlines()
    assert not ended.value.code and not out.exists()
    assert [line for line in lines if line.startswith("run ")] == [
        "run rq2-painted",
        "run rq4-painted",
        "run rq4-painted-3",
    ]
    assert "The layer that 'rq2' will choose is counted as the default." in lines
    cost = study_cost(Path("study.toml"), out=out, store=tmp_path / "store")
    first, second, few = cost.runs
    assert first.notes == few.notes == () and second.notes
    # Layers, methods and losses of one direction share the backward pass of a pair.
    backward = [sum(p.backward for p in run.cost.passes.values()) for run in cost.runs]
    assert backward[0] > 0 and backward[1] == backward[0] and backward[2] == 0
    assert not out.exists() and not (tmp_path / "store").exists()


def test_a_dry_run_knows_what_earlier_runs_chose(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FACEFOCUS_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    cost = study_cost(Path("study.toml"))
    assert all(not run.notes and not run.cost.passes for run in cost.runs)


def test_every_run_is_an_ordinary_one_with_everything_filled_in(done: Path) -> None:
    assert [run.name for run in run_folders(done)] == [
        "rq2-painted",
        "rq4-painted",
        "rq4-painted-3",
    ]
    for run in run_folders(done):
        experiment = load_experiment(run / "experiment.toml")
        assert all("best" not in entry.layer for entry in experiment.saliency)
    few = read_runs([done / "rq4-painted-3"])
    assert few["identity"].n_unique() == 3
    # Baselines stand beside the few, too; and the few are among the many.
    assert set(few["method"]) == {"s-rise", "random"}
    assert set(few["identity"]) < set(read_runs([done / "rq4-painted"])["identity"])


def test_the_choice_is_that_of_the_results_and_is_written_down(done: Path) -> None:
    rows = read_runs([done / "rq2-painted"]).filter(
        pl.col("on_degenerate") == "none", pl.col("source") == pl.col("target")
    )
    record = json.loads((done / "rq4-painted" / "choices.json").read_text())
    check_json("choices.json", record)
    check_json("study.json", json.loads((done / "study.json").read_text()))
    for method in ("grad-cam", "layer-cam"):
        means = {}
        for layer in ("1", "N"):
            part = rows.filter(pl.col("method") == method, pl.col("layer") == layer)
            each = part.group_by("target").agg(pl.col("rate").mean())
            means[layer] = float(np.mean(each["rate"].to_numpy()))
        choice = record["layer"][method]
        assert choice["chosen"] == min(means, key=lambda layer: means[layer])
        assert {r["setting"]: r["rate"] for r in choice["ranking"]} == pytest.approx(means)
        assert choice["from"] == "rq2-painted"
        used = read_runs([done / "rq4-painted"]).filter(pl.col("method") == method)
        assert used["layer"].unique().to_list() == [choice["chosen"]]
    assert "# layer of grad-cam: " in (done / "rq4-painted" / "experiment.toml").read_text()


def test_own_maps_only_where_a_stage_asks_for_it(done: Path) -> None:
    def pairs(name: str) -> int:
        rows = read_runs([done / name]).drop_nulls("source")
        return rows.select("source", "target").n_unique()

    assert (pairs("rq2-painted"), pairs("rq4-painted")) == (2, 4)


def test_a_second_time_nothing_is_computed_and_no_byte_changes(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FACEFOCUS_DATA", str(folder))
    before = {path: path.read_bytes() for path in done.glob("*/results.parquet")}
    passes: list[str] = []
    wanted = Wanted(models=("one.py:build", "two.py:build"))
    run_study(Path("study.toml"), wanted, progress=lambda stage, *_: passes.append(stage))
    assert passes == []
    assert before == {path: path.read_bytes() for path in done.glob("*/results.parquet")}


def test_all_runs_share_one_store(done: Path) -> None:
    stores = [json.loads(path.read_text())["store"] for path in done.glob("*/run.json")]
    assert len(stores) > 2 and set(stores) == {"default"}
    assert not list(done.rglob("store"))


def test_the_page_answers_in_the_readers_order_and_holds_every_run(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing is tested with the figures; rendering them is most of the time.
    monkeypatch.setattr("facefocus.report.figures.save", lambda figure, path: path.touch())
    page = write_study_report(done)
    text = page.read_text(encoding="utf-8")
    titles = ("can I trust it?", "who wins?", "by how much?", "where?", "on whom?")
    positions = [text.index(f">Paper: {title}</h2>") for title in titles]
    assert positions == sorted(positions)
    for number in range(2, 16):
        assert f"Table {number}. " in text
    described = read_page(page.parent / "data" / "page.js")
    assert {part["run"] for part in described["parts"]} == {run.name for run in run_folders(done)}
    assert "faces nowhere: " in text
    pictures = set(re.findall(r'(?:src|srcset)="(images/[^"]+)"', text))
    assert len(pictures) == 2  # ranks, wide and narrow: the study has no losses
    assert all((page.parent / name).is_file() for name in pictures)


def command(*arguments: str, patch: pytest.MonkeyPatch, capsys: Any) -> tuple[int, str, str]:
    patch.setattr(sys, "argv", ["facefocus", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_tables_audit_and_results_from_the_command_line(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> tuple[int, str, str]:
        return command(*arguments, patch=monkeypatch, capsys=capsys)

    code, out, _ = call("report", str(done), "--table", "14", "--format", "csv")
    assert code == 0 and "one.py:build" in out and ",0.051," in out
    code, out, _ = call("audit", str(done))
    assert code == 0 and "Whole faces in fact" in out and "inclusive" in out
    code, out, _ = call(
        "report", str(done), "--what", "questions", "--out", str(tmp_path / "results.md")
    )
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert code == 0 and all(f"## RQ{number}." in text for number in range(1, 5))
    assert "## What these runs cannot show" in text and "IR100" in text
    code, out, err = call("audit", "--matrix", str(tmp_path / "results.md"))
    assert code == 2 and err.count("\n") == 1 and "Traceback" not in err
    code, out, err = call("report", str(done), "--table", "1")
    assert (code, out) == (2, "") and err.startswith("The 'table' must be 2 to 15")


# --- choices and files ----------------------------------------------------------------------------


def test_the_planted_best_layer_and_loss_are_chosen() -> None:
    rows = stages()
    layers = choose(rows.filter(pl.col("experiment") == "rq2"), ["grad-cam", "layer-cam"], "layer")
    assert [choice.value for choice in layers.values()] == ["N-1", "N-1"]
    ranked = [name for name, _ in layers["grad-cam"].ranking]
    assert ranked == sorted(LAYERS, key=lambda layer: -LAYERS[layer])
    losses = choose(rows.filter(pl.col("experiment") == "rq3"), ["grad-cam++"], "objective")
    assert losses["grad-cam++"].value == max(LOSSES, key=lambda loss: LOSSES[loss])
    with pytest.raises(UserError, match="'s-rise' cannot be chosen"):
        choose(rows, ["s-rise"], "layer")


def test_what_is_written_as_toml_is_read_back_as_it_was() -> None:
    data = {
        "name": 'a "quoted" \\ name',
        "seed": 3,
        "faces": {"set": "lfw", "images": [2, 5]},
        "recognizers": {
            "source": ["x"],
            "transfer": False,
            "preprocessing": {"a.onnx": {"m": 1.5}},
        },
        "saliency": [{"method": "grad-cam", "options": {"variant": "epsilon"}}, {"method": ["a"]}],
    }
    assert tomllib.loads(to_toml(data)) == data


@pytest.mark.parametrize("file", ["rq1", "rq2", "rq3", "rq4", "controls"])
def test_every_stage_that_is_shipped_is_an_experiment_once_it_is_filled_in(file: str) -> None:
    data = tomllib.loads((EXPERIMENTS / f"{file}.toml").read_text())
    assert data["faces"].pop("set") == ["lfw", "calfw", "cplfw"]
    assert len(data["recognizers"]["source"]) == 7
    for name in ("study", "choose"):
        data.pop(name, None)
    for entry in data["saliency"]:
        entry.pop("identities", None)
        for field, value in (("layer", "N"), ("objective", "cosine")):
            if entry.get(field) == "best":
                entry[field] = value
    parse_experiment(data)


def test_the_paper_is_all_stages_in_order() -> None:
    for name in ("paper", "paper-lfw"):
        stages_ = tomllib.loads((EXPERIMENTS / f"{name}.toml").read_text())["stages"]
        assert stages_ == ["rq1.toml", "rq2.toml", "rq3.toml", "rq4.toml", "controls.toml"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("identities = 8", 'identities = "8"', "[faces] must be a number. Got '8'. Did you mean 8"),
        ("limited = 3", "limited = 0", "The 'limited' of [faces] must be at least 1. Got 0"),
        ("limited", "limted", "[faces] has no field 'limted'"),
        (
            'stages = ["first.toml", "second.toml"]',
            "stages = []",
            "'stages' of the study must be a",
        ),
        ('name = "small"', 'name = "a/b"', "The 'name' of the study must be letters, digits"),
    ],
)
def test_a_mistake_in_a_study_is_one_line(
    folder: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    study = tmp_path / "study.toml"
    study.write_text(STUDY.replace(old, new, 1))
    with pytest.raises(UserError, match=re.escape(message)) as error:
        run_study(study, out=tmp_path / "out")
    assert len(str(error.value).splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('layer = "rq2"', 'budget = "rq2"', "must name a stage for layer or objective"),
        ('layer = "rq2"', "", "needs a stage to be chosen from"),
        ('layer = "rq2"', 'layer = "rq9"', "Run that stage first"),
        ("identities = 5", "identities = 0", "must be a whole number of at least 1. Got 0"),
        ('set = "painted"', 'set = "painted"\nidentities = "3"', "Got '3'. Did you mean 3"),
        ("images = [2, 3]", "images = 3", r"Got 3. Did you mean \[3, 3\]"),
        ("budget = 0.01", "budget = 30", r"must be in \(0, 1\]. Got 30. Did you mean 0.30"),
        ('set = "painted"', 'set = "nowhere"', "None of the face sets"),
        ('"one.py:build", "two.py:build"', '"IR18"', "None of the recognizers"),
        ('name = "rq4"', "", "The 'name' of a stage must be a text in quotes. Got None"),
        ('set = "painted"', 'set = ["painted", "painted"]', "titles of their own"),
    ],
)
def test_a_mistake_in_a_stage_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FACEFOCUS_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    stage = tmp_path / "stage.toml"
    stage.write_text(SECOND.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        run_study(stage, out=tmp_path / "out")
    assert "\n" not in str(error.value)


def test_what_too_few_people_do_not_allow_is_left_out_and_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FACEFOCUS_DATA", str(folder))
    stage = tmp_path / "stage.toml"
    stage.write_text(
        FIRST + '\n[evaluation]\nsplit = ["same", "heldout"]\n'
        '[controls]\ncontrol = ["other", "shifted"]\ndraws = 1\n'
    )
    wanted = Wanted(("painted",), ("one.py:build",), identities=1)
    result = run_study(stage, wanted, out=tmp_path / "out")
    assert result.missing == (
        "controls of other people's maps in rq2-painted: there is one person only",
        "held-out photos of rq2-painted: nobody has 4 photos that make two halves",
    )
    rows = read_runs(result.runs)
    assert set(rows["split"]) == {"same"} and set(rows["control"]) == {None, "shifted"}


def test_a_stage_is_no_experiment_and_says_what_to_do() -> None:
    with pytest.raises(UserError, match="Run it with: facefocus run FILE"):
        load_experiment(EXPERIMENTS / "rq1.toml")
