from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from facefocus.core.errors import UserError
from facefocus.faces.faceset import open_faceset, read_pairs
from facefocus.faces.prepare import Entry
from facefocus.faces.sources import SOURCES, FaceSource, prepare_faces
from tests.faces.pictures import archive, encoded, pixels

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_face_source.py"


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("FACEFOCUS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facefocus.core.locations.cache_dir", lambda: tmp_path / "cache")


def pictures(paths: Sequence[str]) -> list[Entry]:
    return [Entry("Ada", path, path) for path in paths if path.endswith(".png")]


ADA = FaceSource(
    name="ada",
    help="Only Ada.",
    entries=pictures,
    image_name=lambda path, number: ("Ada", path),
    expected="pictures of Ada",
    unused="not of Ada",
    notes=lambda entries, pairs, name: [f"{len(entries)} of Ada"],
)


def test_every_source_is_registered_under_its_own_name() -> None:
    assert list(SOURCES)[:4] == ["lfw", "calfw", "cplfw", "folder"]
    assert all(SOURCES[name].name == name and SOURCES[name].help for name in SOURCES)


def test_the_example_is_a_source_by_one_file_and_one_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # pixels of 112x112 are taken as aligned crops.
    names = ("2-bo", "1-ada", "3-ada")
    files = {f"{name}.jpg": encoded(pixels(i, 112, 112)) for i, name in enumerate(names)}
    files |= {"notes.txt": b"x", "album-pairs.txt": b"1-ada.jpg 3-ada.jpg 1\n1-ada.jpg 2-bo.jpg 0"}
    source = archive(tmp_path / "album.tgz", files)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(source), "made"])
    monkeypatch.setattr(SOURCES, "_entries", {name: SOURCES[name] for name in SOURCES})
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert tuple(capsys.readouterr()) == ("made: 3 images of 2 people\n", "")
    faces = open_faceset(tmp_path / "made")
    assert (faces.title, faces.names.tolist()) == ("album", ["1-ada", "3-ada", "2-bo"])
    assert np.array_equal(faces.frames, [pixels(seed, 112, 112) for seed in (1, 2, 0)])
    listed = read_pairs(tmp_path / "made")
    assert listed is not None and listed.mated.tolist() == [True, False]


def test_a_source_that_is_not_registered_needs_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = archive(tmp_path / "some.tgz", {"a.png": encoded(pixels(0)), "b.jpg": b"x"})
    report = prepare_faces(ADA, source, align="none")
    assert (report.folder, report.title) == (Path("faces/ada"), "ada")
    assert (report.images, report.pairs) == (1, None)
    assert report.notes == ("1 of Ada", "ignored 1 .jpg (not of Ada)")


def test_what_is_wrong_with_a_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No face source is called 'flw'.* Did you mean 'lfw'\?"):
        prepare_faces("flw", tmp_path)
    with pytest.raises(UserError, match=r"'calfw' needs the archive or folder .* by --source\."):
        prepare_faces("calfw")
    with pytest.raises(UserError, match=r"LFW is not here\. Get it by: facefocus fetch lfw"):
        prepare_faces("lfw")
    with pytest.raises(UserError, match=r"must be a folder\. Got '.*x\.tgz': a file\."):
        prepare_faces("folder", archive(tmp_path / "x.tgz", {"Al/1.png": b""}))
    with pytest.raises(UserError, match=r"must hold pictures of Ada\. Got '.*x\.tgz', which holds"):
        prepare_faces(ADA, archive(tmp_path / "x.tgz", {"notes.txt": b""}))
