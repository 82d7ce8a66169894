from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.core.errors import UserError
from facefocus.faces.faceset import open_faceset, read_pairs
from facefocus.faces.prepare import PrepareReport
from facefocus.faces.sources import prepare_faces
from tests.faces.pictures import archive, contents, encoded, pixels

PAIRS = "1\t2\nAl_Bo\t1\t2\nCy\t1\t3\nAl_Bo\t2\tCy\t1\nAl_Bo\t1\tDi\t12\n"


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("FACEFOCUS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facefocus.core.locations.cache_dir", lambda: tmp_path / "cache")


def images() -> dict[str, bytes]:
    """Four images of two people, not in sorted order, and the files that come with them."""
    names = ["Cy/Cy_0003.jpg", "Al_Bo/Al_Bo_0002.jpg", "Cy/Cy_0001.JPG", "Al_Bo/Al_Bo_0001.jpg"]
    files = {f"lfw/{name}": encoded(pixels(i)) for i, name in enumerate(names)}
    other = ["lfw/README.txt", "lfw/Cy/notes.txt", "lfw/Cy/._Cy_0001.jpg", "lfw/Cy/Al_Bo_0009.jpg"]
    return files | dict.fromkeys(other, b"x")


def run(source: Path, out: Path, **options: Any) -> PrepareReport:
    return prepare_faces("lfw", source, out, **{"align": "none", **options})


def unpacked(root: Path) -> Path:
    for name, data in images().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.mark.parametrize("form", ["archive", "archive of .", "people's folder", "folder above"])
def test_the_layout_is_found_in_every_form(tmp_path: Path, form: str) -> None:
    source = {
        "archive": lambda: archive(tmp_path / "lfw.tgz", images()),
        "archive of .": lambda: archive(
            tmp_path / "lfw.tgz", {f"./{name}": data for name, data in images().items()}
        ),
        "people's folder": lambda: unpacked(tmp_path / "in") / "lfw",
        "folder above": lambda: unpacked(tmp_path / "in"),
    }[form]()
    report = run(source, tmp_path / "out")
    faces = open_faceset(tmp_path / "out")
    assert faces.title == "lfw"
    assert faces.names.tolist() == ["Al_Bo_0001", "Al_Bo_0002", "Cy_0001", "Cy_0003"]
    assert faces.identities.tolist() == ["Al_Bo", "Al_Bo", "Cy", "Cy"]
    for row, seed in enumerate([3, 1, 2, 0]):
        assert np.array_equal(faces.frames[row], pixels(seed))
    assert report.notes[0] == "No pairs.txt was found: the face set has no verification list."
    assert report.pairs is None


#: Copies that people have: file names for Al_Bo_0001, Al_Bo_0002, Cy_0001 and Cy_0003.
COPIES = {
    "PNG": "lfw/{p}/{p}_{n:04d}.png",
    "mixed": "lfw/{p}/{p}_{n:04d}.{mixed}",
    "aligned by FaceNet's script": "lfw/{p}/{p}_{n:04d}_0.png",
    "unpacked twice": "lfw-deepfunneled/lfw-deepfunneled/{p}/{p}_{n:04d}.jpg",
    "spaces": "lfw/{s}/{s}_{n:04d}.jpg",
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_that_people_have_are_the_same_set(tmp_path: Path, copy: str) -> None:
    source = tmp_path / "in"
    for seed, (person, number) in enumerate([("Al_Bo", 1), ("Al_Bo", 2), ("Cy", 1), ("Cy", 3)]):
        fields = {"p": person, "s": person.replace("_", " "), "n": number}
        path = source / COPIES[copy].format(mixed=("png", "jpg")[number % 2], **fields)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(pixels(seed)))
    (source / "pairs.csv").write_text("name,imagenum1,imagenum2,\nAl_Bo,1,2,\nAl_Bo,2,Cy,3\n")
    report = run(source, tmp_path / "out")
    faces = open_faceset(tmp_path / "out")
    assert faces.names.tolist() == ["Al_Bo_0001", "Al_Bo_0002", "Cy_0001", "Cy_0003"]
    assert faces.identities.tolist() == ["Al_Bo", "Al_Bo", "Cy", "Cy"]
    assert np.array_equal(faces.frames[2], pixels(2))
    assert (report.pairs, report.pairs_missing) == (2, 0)
    assert report.notes == ("ignored 1 .csv (no picture)",)


def test_crops_of_112_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    """The sets of aligned crops: ``lfw_112x112`` beside ``lfw_ann.txt``."""
    for seed, name in enumerate(("Al/Al_0001", "Al/Al_0002", "Cy/Cy_0001")):
        path = tmp_path / "val" / "lfw_112x112" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(pixels(seed, 112, 112)))
    (tmp_path / "val" / "lfw_ann.txt").write_text(
        "1 lfw_112x112/Al/Al_0001.jpg lfw_112x112/Al/Al_0002.jpg\n"
        "0 lfw_112x112/Al/Al_0002.jpg lfw_112x112/Cy/Cy_0001.jpg\n"
    )
    # The list that lies with the pictures comes before the official one among the data.
    (tmp_path / "data" / "lfw").mkdir()
    (tmp_path / "data" / "lfw" / "pairs.txt").write_text(PAIRS)
    for source in (tmp_path / "val", tmp_path / "val" / "lfw_112x112"):
        out = tmp_path / f"out {source.name}"
        report = prepare_faces("lfw", source, out)
        assert np.array_equal(open_faceset(out).frames, [pixels(i, 112, 112) for i in range(3)])
        assert (report.pairs, report.pairs_missing) == (2, 0)
        assert "taken as aligned crops, as they are. To look for" in report.notes[-1]
        assert prepare_faces("lfw", source, out).already_complete
    with pytest.raises(UserError, match="different setting of 'align'"):
        prepare_faces("lfw", tmp_path / "val", tmp_path / "out val", align="yunet")


def test_what_is_no_image_of_the_set_is_counted(tmp_path: Path) -> None:
    files = {"lfw/Cy/Cy_0001_1.png": 0, "lfw/Cy/Cy_0001_0.png": 1, "lfw/Cy/Cy_0001_2.png": 2}
    files |= {"lfw/Cy/Al_Bo_0009.png": 3, "lfw/Cy/Cy_1.png": 4}
    pictures = {name: encoded(pixels(seed)) for name, seed in files.items()}
    source = archive(tmp_path / "lfw.tgz", pictures | {"lfw/README.txt": b"x", "lfw/list": b"x"})
    report = run(source, tmp_path / "out")
    assert np.array_equal(open_faceset(tmp_path / "out").frames, [pixels(1)])
    assert set(report.notes) == {
        "No pairs.txt was found: the face set has no verification list.",
        "ignored 4 .png (not of the form Name/Name_0001.jpg, or a further face of one photo)",
        "ignored 1 .txt (no picture)",
        "ignored 1 file without a suffix (no picture)",
    }


def test_an_archive_and_its_folder_are_the_same_set(tmp_path: Path) -> None:
    run(archive(tmp_path / "lfw.tgz", images()), tmp_path / "a")
    run(unpacked(tmp_path / "in"), tmp_path / "b")
    assert open_faceset(tmp_path / "a").hash == open_faceset(tmp_path / "b").hash


def test_pairs_and_what_the_source_lacks(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(PAIRS)
    source = archive(tmp_path / "lfw.tgz", images())
    report = run(source, tmp_path / "out", pairs=tmp_path / "list.txt")
    assert (report.pairs, report.pairs_missing, report.unusable) == (
        3,
        1,
        {"listed in list.txt but not in the source": 1},
    )
    pairs = read_pairs(tmp_path / "out")
    assert pairs is not None
    assert pairs.first.tolist() == [0, 2, 1]
    assert pairs.second.tolist() == [1, 3, 2]
    assert pairs.mated.tolist() == [True, True, False]
    assert pairs.fold.tolist() == [0, 0, 0]
    index = pl.read_parquet(tmp_path / "out" / "index.parquet").filter(pl.col("name") == "Di_0012")
    assert index["identity"].to_list() == ["Di"]
    assert index["reason"].to_list() == ["listed in list.txt but not in the source"]


@pytest.mark.parametrize("path", ["pairs.txt", "data/lfw/pairs.txt"])
def test_the_list_is_found_beside_the_source_and_among_the_data(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(PAIRS)
    assert run(archive(tmp_path / "lfw.tgz", images()), tmp_path / "out").pairs == 3


def test_a_list_of_other_images_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("Al_Bo\t1\t9\nCy\t1\tDi\t1\n")
    source = archive(tmp_path / "lfw.tgz", images())
    report = run(source, tmp_path / "out")
    assert (report.pairs, read_pairs(tmp_path / "out")) == (None, None)
    assert "None of the 2 pairs of the list has both images here" in report.notes[0]
    assert run(source, tmp_path / "out").already_complete
    (tmp_path / "pairs.txt").write_text(PAIRS)
    with pytest.raises(UserError, match="with a different list of pairs"):
        run(source, tmp_path / "out")


def test_a_finished_set_is_reported_with_its_notes(tmp_path: Path) -> None:
    source = archive(tmp_path / "lfw.tgz", images())
    first = run(source, tmp_path / "out")
    second = run(source, tmp_path / "out")
    assert second.already_complete
    assert (second.images, second.notes) == (first.images, first.notes)


def test_paths_in_an_archive_never_reach_the_disk(tmp_path: Path) -> None:
    files = images() | {
        "../../evil/Eve/Eve_0001.jpg": encoded(pixels(7)),
        "/tmp/Eve/Eve_0002.jpg": encoded(pixels(8)),
    }
    source = archive(tmp_path / "in.tgz", files)
    run(source, tmp_path / "out")
    assert open_faceset(tmp_path / "out").names.tolist()[-2:] == ["Eve_0001", "Eve_0002"]
    assert {path.name for path in tmp_path.iterdir()} == {"data", "in.tgz", "out"}
    assert not (tmp_path.parent.parent / "evil").exists()


def test_files_too_large_to_hold_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = images()
    limit = len(files["lfw/Cy/Cy_0003.jpg"])
    files["lfw/Cy/Cy_0009.jpg"] = files["lfw/Cy/Cy_0003.jpg"] + b"x"
    monkeypatch.setattr("facefocus.faces.archives.MAX_FILE_BYTES", limit)
    report = run(archive(tmp_path / "in.tgz", files), tmp_path / "out")
    assert report.images == 4
    assert report.unusable == {"larger than 0 MiB": 1}


# Sources that are none


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "lfw.tgz").write_bytes(b"<html>404</html>")
    with pytest.raises(
        UserError, match=r"must be a complete archive .tar, tgz or zip. or a folder. Got .*lfw"
    ):
        run(tmp_path / "lfw.tgz", tmp_path / "out")
    (tmp_path / "lfw.tgz").write_bytes(b"")
    with pytest.raises(UserError, match=r"must be a complete archive"):
        run(tmp_path / "lfw.tgz", tmp_path / "out")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_archive(tmp_path: Path, share: float) -> None:
    source = archive(tmp_path / "lfw.tgz", images())
    data = source.read_bytes()
    source.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"must be a complete archive .*or a folder"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_or_folder_without_faces(tmp_path: Path) -> None:
    source = archive(tmp_path / "x.tgz", {"a/readme.txt": b"x", "a/b.jpg": b"x"})
    with pytest.raises(UserError, match=r"must hold images like lfw/Name/Name_0001.jpg"):
        run(source, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"must hold images like lfw/Name/Name_0001.jpg"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UserError, match=r"must be a folder. Got .*nothing there"):
        run(tmp_path / "absent", tmp_path / "out")


def test_two_sets_in_one_folder(tmp_path: Path) -> None:
    source = unpacked(tmp_path / "in")
    (source / "lfw").rename(source / "first")
    unpacked(source)
    with pytest.raises(UserError, match=r"must hold every image once. Got 'Al_Bo_0001' twice"):
        run(source, tmp_path / "out")


# Errata


def test_a_source_is_not_changed(tmp_path: Path) -> None:
    source = unpacked(tmp_path / "in")
    before = contents(source)
    run(source, tmp_path / "out")
    assert contents(source) == before
