"""What is written may be shown to others: it names neither the user nor where the faces lie."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from facefocus.cli import main
from facefocus.core.locations import expanded, located, private, relative
from facefocus.report import figures
from tests.small import paint_faceset

USER = "telltale"

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
set = "{faces}"
identities = 6
[recognizers]
source = "{home}/nets/one.py:build"
preprocessing = {{}}
[[saliency]]
method = ["grad-cam", "random"]
draws = 1
[[saliency]]
method = "s-rise"
options = {{ masks = 16 }}
[occlusion]
budget = 0.1
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user, with faces and a recognizer; data and cache are theirs, too."""
    home = tmp_path / "home" / USER
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, USER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    (home / "data").mkdir(parents=True)
    monkeypatch.setenv("FACEFOCUS_DATA", str(home / "data"))
    paint_faceset(home / "photos" / "painted")
    (home / "nets").mkdir()
    (home / "nets" / "one.py").write_text(MODEL.format(root=str(Path.cwd())))
    return home


def facefocus(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["facefocus", *map(str, arguments)])
    try:
        main()
    except SystemExit as ended:
        assert not ended.code


def one_of_each_kind(save: Callable[[Figure, Path], None]) -> Callable[[Figure, Path], None]:
    """Pictures are slow: the first of each kind is drawn, the others are empty files."""
    kinds: set[str] = set()

    def write(figure: Figure, path: Path) -> None:
        if path.suffix in kinds:
            path.write_bytes(b"")
        else:
            kinds.add(path.suffix)
            save(figure, path)

    return write


def contents(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what is packed in it."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        yield pl.read_parquet(path).write_json().encode()
    elif path.suffix in (".npz", ".zip"):
        with zipfile.ZipFile(path) as packed:
            yield from (packed.read(name) for name in packed.namelist())
    elif path.suffix == ".png" and path.stat().st_size:
        with Image.open(path) as image:
            yield repr(image.info).encode()


def assert_private(folder: Path, faces: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for file in files:
        assert USER not in file.name
        for content in contents(file):
            assert USER.encode() not in content, file
            assert str(faces).encode() not in content, file


@pytest.mark.parametrize("location", ["home", "elsewhere"])
def test_no_file_of_a_run_names_the_user_or_the_folder_of_the_faces(
    location: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home)
    run, faces = home / "runs" / "small", home / "photos" / "painted"
    if location == "elsewhere":
        run, faces = tmp_path / "scratch" / USER / "small", tmp_path / "common" / "painted"
        paint_faceset(faces)
    (home / "small.toml").write_text(EXPERIMENT.format(home=home, faces=faces))
    facefocus(monkeypatch, "run", "small.toml", "--out", run)
    if location == "home":
        monkeypatch.setattr(figures, "save", one_of_each_kind(figures.save))
        facefocus(monkeypatch, "report", run, "--with-faces")
        facefocus(monkeypatch, "report", run, "--what", "questions", "--out", run / "results.md")
    assert_private(run, faces)
    # It still opens: with the faces, and the recognizer's key.
    capsys.readouterr()
    facefocus(monkeypatch, "status", run)
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines()[:-1])
    assert lines and all(len(set(progress.split("/"))) == 1 for progress in lines.values())
    asked = json.loads((run / "run.json").read_text())
    assert asked["experiment"]["faces"]["set"] == "painted"
    # A way there is in run.json alone; what is shown has the folder's name.
    shown = json.loads((run / "provenance.json").read_text())["faces"]
    assert shown["path"] == "painted"
    assert not (run / "report").exists() or "/painted" not in (
        run / "report" / "index.html"
    ).read_text(encoding="utf-8")
    assert pl.read_parquet(run / "results.parquet")["target"].unique().to_list() == [
        "~/nets/one.py:build"
    ]


def test_no_file_of_a_study_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is named with the places that were looked at."""
    monkeypatch.chdir(home)
    faces = home / "photos" / "painted"
    text = EXPERIMENT.format(home=home, faces=faces).replace('"small"', '"small"\nstudy = "small"')
    text = text.replace('set = "', 'set = ["nowhere", "').replace('painted"', 'painted"]')
    (home / "stage.toml").write_text(text.replace('source = "', 'source = ["absent", "', 1)
                                     .replace('build"', 'build"]', 1))  # fmt: skip
    facefocus(monkeypatch, "run", "stage.toml")
    assert "nowhere" in (home / "runs" / "small" / "study.json").read_text()
    assert_private(home / "runs", faces)


def test_no_file_of_a_face_set_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    for number in range(4):
        photo = home / "album" / f"person {number // 2}" / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (112, 112), (60 * number, 90, 120)).save(photo)
    facefocus(monkeypatch, "prepare", "folder", "--source", home / "album", "--align", "none")
    assert_private(home / "faces" / "album", home / "album")


def test_a_path_is_written_without_the_user_and_read_back(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch" / USER
    for path, base, written in (
        (home / "faces", home / "runs" / "one", "../../faces"),
        (home / "faces", tmp_path / "runs", "~/faces"),
        (scratch / "faces", scratch / "runs", "../faces"),
        (scratch / "faces", home / "runs", "../../../scratch/$USER/faces"),
    ):
        assert relative(path, base) == written
        assert located(written, base) == path
    for text, shown in (
        (f"{home}/a.py:build", "~/a.py:build"),
        (f"/scratch/{USER}/a.onnx", "/scratch/$USER/a.onnx"),
        (f"{home}2/{USER}s/a", f"{home}2/{USER}s/a"),
        ("mobilefacenet-ms1m", "mobilefacenet-ms1m"),
    ):
        assert private(text) == shown
        assert expanded(shown) == text
    monkeypatch.setenv("HOME", "/")
    assert private("/data/x") == "/data/x"
