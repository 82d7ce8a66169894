"""The demo end to end, small: two worlds, from drawn faces to a page, with a tiny recognizer."""

from __future__ import annotations

import html
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from facefocus.analysis.summary import summarize
from facefocus.benchmark import run as workflow
from facefocus.benchmark import session as session_module
from facefocus.benchmark.experiment import load_variants
from facefocus.benchmark.run import (
    open_or_make_faceset,
    open_sessions,
    run_experiment,
    run_status,
)
from facefocus.cli import main
from facefocus.core.errors import UserError
from facefocus.faces.faceset import open_faceset
from facefocus.faces.sources.synthetic import read_truth
from facefocus.models import zoo
from facefocus.person import candidates, explanation, person_demo
from facefocus.planted import demo as demo_module
from facefocus.planted.demo import first_picture, outcome, run_demo
from facefocus.planted.truth import truth_summary
from facefocus.report import figures
from facefocus.report.text_renderer import text_document
from tests.conftest import Command
from tests.report.page_files import read_packed
from tests.small import tiny_recognizer

SMALL = {"identities": 3, "photos": 3, "seed": 112}


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Few people, a tiny network in the place of every recognizer, and empty curves."""
    save = figures.save

    def photographs_alone(figure: Figure, path: Path) -> None:
        save(figure, path) if path.suffix == ".png" else path.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", photographs_alone)
        patch.setattr(session_module, "load", lambda name, _: tiny_recognizer(name, len(name)))
        patch.setattr(workflow, "SYNTHETIC", SMALL)
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's own demo with fewer people, masks and layers."""
    text = (files("facefocus.planted") / "experiments" / "demo.toml").read_text("utf-8")
    for pattern, small_ in (
        (r"identities = \d+", "identities = 2"),
        (r"max_images = \d+", "max_images = 2"),
        (r"masks = \d+", "masks = 6"),
        (r"layer = \[.*\]", 'layer = "N"'),
        (r"budget = .*", "budget = 0.01"),
        (r"\[controls\]\n.*\n.*\n", ""),
    ):
        text, count = re.subn(pattern, small_, text)
        assert count
    path = tmp_path_factory.mktemp("demo") / "demo.toml"
    path.write_text(text)
    return path


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def done(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo after it was interrupted twice."""
    out = tmp_path_factory.mktemp("work") / "demo"
    for stage, most in (("maps", "synthetic"), ("scores", "eyes")):

        def stop(name: str, number: int, total: int, at: tuple[str, str] = (stage, most)) -> None:
            if name.endswith(at[0]):
                raise Stopped

        with pytest.raises(Stopped):
            run_demo(out, file=file, backend="torch", progress=stop)
    stages: list[str] = []
    run_demo(out, file=file, backend="torch", progress=lambda name, *_: stages.append(name))
    # What was done before is not done again: faces, embeddings and masked photos of the first.
    assert "synthetic faces" not in stages and "eyes masked" not in stages
    return out


def test_the_packages_demo_names_embedded_recognizers_and_is_the_one_beside_the_experiments() -> (
    None
):
    name, experiments = load_variants(
        Path(str(files("facefocus.planted") / "experiments" / "demo.toml"))
    )
    assert name == "demo" and set(experiments) == {"eyes", "all"}
    for world, experiment in experiments.items():
        assert experiment.faces.set == f"synthetic-{world}"
        assert all(recognizer.endswith(f"-{world}") for recognizer in experiment.recognizers.source)
        assert set(experiment.recognizers.source) <= set(zoo.embedded())
    assert len(experiments["all"].recognizers.source) == 2
    methods = {method for part in experiments["eyes"].saliency for method in part.method}
    assert methods >= {"grad-cam", "grad-cam++", "layer-cam", "s-rise", "corr-rise"}
    shipped = (files("facefocus.planted") / "experiments" / "demo.toml").read_text("utf-8")
    assert Path("experiments/demo.toml").read_text(encoding="utf-8") == shipped


def test_everything_lies_in_the_folder_that_was_named(done: Path) -> None:
    for world in ("eyes", "all"):
        assert (done / world / "results.parquet").is_file()
        assert len(open_faceset(done / "faces" / f"synthetic-{world}").frames) == 9
    assert (done / "report" / "index.html").is_file()
    assert all(stage.done == stage.total > 0 for stage in run_status(done))


def test_the_page_shows_both_worlds_and_the_drawn_faces(done: Path) -> None:
    page = html.unescape((done / "report" / "index.html").read_text(encoding="utf-8"))
    assert page.index("World 'eyes'") < page.index("World 'all'")
    assert 'data-chart="transfer"' in page
    # They are nobody's: no warning is due.
    person = done / "report" / "data" / "person-0-0.js"
    assert read_packed(person).head["person"]["face"].startswith("data:image/png")
    assert "This page shows faces" not in page
    size = sum(path.stat().st_size for path in (done / "report").rglob("*") if path.is_file())
    assert size < 6e6


def test_the_outcome_is_that_of_the_results(done: Path) -> None:
    answer = outcome(done)
    shown = text_document([answer.truth])
    results = pl.concat(
        [pl.read_parquet(done / world / "results.parquet") for world in ("eyes", "all")]
    )
    truth = truth_summary(results, summarize(results)).filter(pl.col("faces") == "synthetic-eyes")
    for method in truth["method"].unique():
        best = truth.filter(pl.col("method") == method).sort("truth_auc").row(-1, named=True)
        assert f"{best['truth_auc']:.3f}" in shown
    random = results.filter(
        pl.col("faces") == "synthetic-all",
        pl.col("method") == "random",
        pl.col("control").is_null(),
        pl.col("fill") == "mean",
    )
    lost = float(np.mean((random["clean_rate"] - random["rate"]).to_list()))
    (line,) = [line for line in shown.splitlines() if line.strip().startswith("random")]
    assert line.split()[-1] == f"{lost + 0.0:.3f}".replace("-0.000", "0.000")
    assert answer.sentences[0].startswith("2 people of each of 2 worlds, 2 photos each")
    assert answer.sentences[1] == demo_module.FEWER.format(masks="6 and 6")
    assert "Spearman's rho" in answer.sentences[-1]
    assert "the eyes, where identity was planted" in answer.finding


def test_methods_are_ranked_by_what_their_best_layer_leaves(done: Path) -> None:
    ranking = outcome(done).ranking
    results = pl.read_parquet(done / "eyes" / "results.parquet")
    own = results.filter(pl.col("control").is_null())
    left = own.group_by("fill", "method", "layer").agg(pl.col("rate").mean())
    rows: list[list[str]] = list(ranking.rows)
    for method, *shown in rows:
        for fill, text in zip(("mean", "inpaint"), shown, strict=True):
            of_method = left.filter(pl.col("fill") == fill, pl.col("method") == method)
            least = float(of_method["rate"].to_numpy().min())
            assert f"{least:.3f}" in text.partition(" [")[0]
    rates = [float(row[1].partition(" [")[0].rpartition(" ")[2]) for row in ranking.rows]
    assert rates == sorted(rates)


def test_synthetic_faces_are_made_once_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFOCUS_DATA", str(tmp_path))
    made = open_or_make_faceset("synthetic-nose", Path("faces"))
    before = (made / "manifest.json").stat().st_mtime_ns
    assert made == Path("faces/synthetic-nose")
    assert open_or_make_faceset("synthetic-nose", Path("faces")) == made
    assert (made / "manifest.json").stat().st_mtime_ns == before
    for name in ("lfw", "synthetic-chin", "nose"):
        with pytest.raises(UserError, match=f"No prepared face set '{name}'"):
            open_or_make_faceset(name, Path("faces"))


def test_synthetic_faces_are_made_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def facefocus(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["facefocus", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    monkeypatch.chdir(tmp_path)
    asked = ("--identities", "2", "--photos", "2", "--seed", "3")
    assert facefocus("synthetic", "make", "brows", *asked) == 0
    assert capsys.readouterr().out.splitlines() == [
        "4 photos of 2 people; planted: brows",
        "faces faces/synthetic-brows",
    ]
    assert set(read_truth(tmp_path / "faces" / "synthetic-brows")) == {"brows"}
    assert facefocus("synthetic", "make", "chin") == 2
    assert "must be one of all, eyes" in capsys.readouterr().err
    assert facefocus("report", str(tmp_path), "--what", "truth") == 2
    assert "has no results.parquet" in capsys.readouterr().err


def test_one_face_set_is_not_taken_for_those_of_several_variants(
    file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"'--faces' must be left out where variants have faces"):
        run_experiment(file, faces=tmp_path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_without_a_wrong_variant(tmp_path: Path) -> None:
    base = 'name = "x"\n[recognizers]\nsource = "a"\n[[saliency]]\nmethod = "random"\n'
    base += "[occlusion]\nbudget = 0.01\n"
    file = tmp_path / "x.toml"
    twice = 'name = "a"\n[[variant]]\nname = "a"'
    for variant in ("", 'name = ""', 'name = "../y"', "name = 3", twice):
        file.write_text(f"{base}[[variant]]\n{variant}\n")
        with pytest.raises(UserError, match=r"The 'name' of every \[\[variant\]\] must be its own"):
            load_variants(file)
    file.write_text(f'{base}[[variant]]\nname = "a"\nocclusion = {{ fill = "white" }}\nseed = 4\n')
    name, experiments = load_variants(file)
    assert name == "x" and experiments["a"].name == "x-a" and experiments["a"].seed == 4
    assert experiments["a"].occlusion.fill == ("white",) and experiments["a"].occlusion.budget == (
        0.01,
    )
    file.write_text(base)
    assert load_variants(file)[1][""].name == tomllib.loads(base)["name"]


def test_the_first_picture_is_of_maps_that_the_run_finds_in_the_store(
    file: Path, tmp_path: Path
) -> None:
    out, store = tmp_path / "demo", tmp_path / "store"
    picture = first_picture(out, file=file, backend="torch", store=store)
    assert picture.read_bytes().startswith(b"\x89PNG")
    _, sessions = open_sessions(file, None, out, store, "torch", made=out / "faces")
    session = sessions["eyes"]
    made = {
        output.spec.method
        for output in session.plan.planned["maps"][0]
        if output.key in session.store
    }
    assert made == {"grad-cam", "grad-cam++", "layer-cam"}


@pytest.fixture
def small_demo(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command with the small experiment and a person of few photos."""
    monkeypatch.setattr(demo_module, "_experiment_file", lambda _: nullcontext(file))
    monkeypatch.setattr(person_demo, "PHOTOS", 4)
    monkeypatch.setattr(candidates, "STEPS", 1)
    monkeypatch.setattr(explanation, "load", lambda name: tiny_recognizer(name, len(name)))


def test_the_demo_ends_with_its_finding_its_page_and_commands_that_work(
    small_demo: None, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without YuNet: the person is explained by aligned crops, and the page says what it lacks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(person_demo, "has_detector", lambda: False)
    done = command("demo", "--out", "my demo", "--store", "kept", "--backend", "torch")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "first maps my demo/first-maps.png" and Path(lines[0][11:]).is_file()
    position = lines.index("page my demo/index.html")
    answer = outcome(Path("my demo"))
    assert lines[position - 1] == answer.finding
    page = html.unescape(Path("my demo/index.html").read_text(encoding="utf-8"))
    page = page.replace("\N{NO-BREAK SPACE}%", " %")
    assert answer.finding in page and demo_module.PICTURE in page
    assert all(sentence in page for sentence in answer.sentences)
    output = " ".join(done.out.split())
    assert person_demo.NO_DETECTOR in page and "Get it by 'facefocus fetch yunet'" in output
    for name in ("report", "person"):
        assert f'href="{name}/index.html"' in page and Path("my demo", name, "index.html").is_file()
    assert lines[position + 1] == "next:" and len(lines) == position + 5
    for line in lines[position + 2 :]:
        words = shlex.split(line[line.index("  facefocus ") :])
        assert " ".join(shlex.quote(word) for word in words) in page
        if words[1] == "person":  # by photographs, which need the detector
            assert Path(words[2]).is_dir() and Path(words[-5]).is_dir()
            continue
        again = command(*words[1:])
        assert again.code == 0, again.err
