"""``facefocus person`` as a user runs it, and every mistake a user may make with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facefocus.person.candidates as candidates
from facefocus.core.errors import UserError
from facefocus.faces.sources.synthetic import render
from facefocus.occlusion.mask_files import read_mask
from facefocus.person import person_page
from facefocus.person.explanation import explain_people
from tests.conftest import Command

MODEL = "iresnet-mini-eyes"


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return [render("eyes", 5, 0, photo).frame for photo in range(4)]


@pytest.fixture
def photos(tmp_path: Path, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four photos of Ada, with a place in their EXIF, and a note beside them."""
    monkeypatch.setattr(candidates, "DRAFT_STEPS", 1)
    folder = tmp_path / "Ada"
    folder.mkdir()
    for number, frame in enumerate(frames):
        exif = Image.Exif()
        exif[0x010E] = "secret place"
        Image.fromarray(frame).save(folder / f"day {number}.png", exif=exif)
    (folder / "note.txt").write_text("no photo")
    return folder


def test_a_folder_of_photos_gives_a_page_masks_and_painted_photos(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    done = command("person", str(photos), "--model", MODEL, "--out", "out/ada", "--draft")
    assert done.code == 0, done.err
    out = tmp_path / "out" / "ada"
    assert f"page {Path('out/ada/index.html')}" in done.out and "warning: A draft" in done.out
    assert (read_mask(out / "mask.npz") == read_mask(out / "mask.png")).all()
    assert read_mask(out / "mask.npz").sum() == 627
    painted = sorted(path.name for path in (out / "hidden").iterdir())
    assert painted == [f"day {number}.png" for number in range(4)]
    for path in (out / "hidden").iterdir():
        assert b"secret" not in path.read_bytes() and not Image.open(path).getexif()
    record = json.loads((out / "explanation.json").read_text())
    assert record["person"] == "Ada" and len(record["photos"]) == 4
    assert record["left_out"] == [{"photo": "note.txt", "reason": record["left_out"][0]["reason"]}]
    assert "http" not in (out / "index.html").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ada"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["empty"], "photographs of a person"),
        (["Ada", "--budget", "5"], "Did you mean 0.05?"),
        (["Ada", "--shape", "blob"], "pixels, cells, patches"),
        (["Ada", "--unseen", MODEL], "twice"),
        (["Ada", "--gallery", "nobody"], "nobody"),
        (["Ada", "--out", "full"], "holds other files"),
        (["Ada", "--out", "Ada/note.txt"], "must be a folder"),
        (["one"], "needs 2 usable photos"),
    ],
)
def test_a_mistake_is_one_line_with_code_2_and_nothing_is_written(
    command: Command, photos: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    for name in ("empty", "full", "one"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "diary.txt").touch()
    (tmp_path / "one" / "a.png").write_bytes((photos / "day 0.png").read_bytes())
    out = [] if "--out" in arguments else ["--out", "out"]
    done = command("person", *arguments, *out, "--model", MODEL, "--draft")
    assert done.code == 2 and message in done.err
    assert "Traceback" not in done.err and not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["diary.txt"]


def test_a_photo_that_changes_while_it_runs_is_said_and_nothing_half_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(stage: str, done: int, total: int) -> None:
        if done > 1000:
            Image.new("RGB", (112, 112)).save(photos / "day 1.png")

    with pytest.raises(UserError, match="changed while this ran"):
        explain_people(
            photos, tmp_path / "out", MODEL, draft=True, backend="torch", progress=change
        )
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_an_interrupted_page_leaves_the_one_before_and_no_rest(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "explanation.json").write_text("{}")
    dead = tmp_path / ".out.999999999.tmp"
    dead.mkdir()

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(person_page, "page", stop)
    with pytest.raises(KeyboardInterrupt):
        explain_people(photos, out, MODEL, draft=True, backend="torch")
    assert (out / "explanation.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Ada", "out"]


def test_folders_of_several_people_have_a_page_each(photos: Path, tmp_path: Path) -> None:
    people = tmp_path / "people"
    people.mkdir()
    photos.rename(people / "Ada")
    (people / "Ben").mkdir()
    for number in range(2):
        frame = render("eyes", 5, 1, number).frame
        Image.fromarray(frame).save(people / "Ben" / f"{number}.png")
    pages = explain_people(people, tmp_path / "out", MODEL, draft=True, backend="torch")
    assert [page for page, _ in pages] == [
        tmp_path / "out" / name / "index.html" for name in ("Ada", "Ben")
    ]
    assert any("Give 4 photos" in line for line in pages[1][1].warnings)
    # Again for all, but not for one in the place of all.
    explain_people(people, tmp_path / "out", MODEL, draft=True, backend="torch")
    with pytest.raises(UserError, match="holds other files"):
        explain_people(people / "Ada", tmp_path / "out", MODEL, draft=True, backend="torch")
