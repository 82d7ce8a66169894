"""The demo end to end, small: two worlds, from drawn faces to a page, with a tiny recognizer."""

from __future__ import annotations

import html
import re
import sys
import tomllib
from collections.abc import Iterator
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
from facefocus.benchmark.run import open_or_make_faceset, run_experiment, run_status
from facefocus.cli import main
from facefocus.core.errors import UserError
from facefocus.faces.faceset import open_faceset
from facefocus.faces.sources.synthetic import read_truth
from facefocus.models import zoo
from facefocus.person import candidates, person_demo
from facefocus.planted import demo as demo_module
from facefocus.planted.demo import outcome, run_demo
from facefocus.planted.truth import truth_summary
from facefocus.report import figures
from facefocus.report.document import Paragraph
from facefocus.report.text_renderer import text_document
from tests.conftest import Command
from tests.report.page_files import read_packed
from tests.small import aligned_faceset, tiny_recognizer

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
        (r"budget = \[.*\]", "budget = 0.01"),
        (r', "inception-mini-all"', ""),
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
        assert all(one.endswith(f"-{world}") for one in experiment.recognizers.source)
        assert set(experiment.recognizers.source) <= set(zoo.embedded())
    assert len(experiments["all"].recognizers.source) == 3
    methods = {one for part in experiments["eyes"].saliency for one in part.method}
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
    table, lines = outcome(done)
    shown = text_document([table])
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
    assert lines[0] == demo_module.FEWER.format(masks="6 and 6")
    assert lines[-1].startswith("What it means: ") and "Spearman's rho" in lines[-1]


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
    name, found = load_variants(file)
    assert name == "x" and found["a"].name == "x-a" and found["a"].seed == 4
    assert found["a"].occlusion.fill == ("white",) and found["a"].occlusion.budget == (0.01,)
    file.write_text(base)
    assert load_variants(file)[1][""].name == tomllib.loads(base)["name"]


def test_without_a_face_detector_the_demo_explains_the_persons_aligned_crops(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine without YuNet sees the person's page, and reads what it lacks."""
    page = tmp_path / "index.html"
    monkeypatch.setattr("facefocus.planted.demo.run_demo", lambda out, **settings: page)
    monkeypatch.setattr("facefocus.planted.demo.outcome", lambda out: (Paragraph("methods"), []))
    monkeypatch.setattr(person_demo, "has_detector", lambda: False)
    monkeypatch.setattr(person_demo, "PHOTOS", 2)
    monkeypatch.setattr(person_demo, "MODELS", tiny_recognizer("first", 0))
    monkeypatch.setattr(person_demo, "UNSEEN", tiny_recognizer("second", 1))
    gallery = aligned_faceset(tmp_path / "gallery")
    monkeypatch.setattr(person_demo, "open_or_make_faceset", lambda *_: gallery)
    monkeypatch.setattr(candidates, "STEPS", 1)
    done = command("demo", "--out", str(tmp_path))
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "Get it by 'facefocus fetch yunet', and run the demo" in said
    shown = (tmp_path / "person" / "index.html").read_text()
    assert "nothing was painted on a photograph" in shown
