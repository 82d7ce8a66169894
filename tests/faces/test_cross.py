from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.core.errors import UserError
from facefocus.faces.faceset import open_faceset, read_pairs, select_identities
from facefocus.faces.prepare import PrepareReport
from facefocus.faces.sources import cross, prepare_faces
from facefocus.faces.sources.cross import (
    CALFW_PAIRS_SHA256,
)
from tests.faces.pictures import archive, contents, encoded, pixels

# Six images of three people; the three odd names are of the kinds that CPLFW has.
CPLFW = [
    "Al_Bo_1.jpg",
    "Al_Bo_2.jpg",
    "Landon_Donovan_3jpg.jpg",
    "Leni-Ann_Bjorklund-2.jpg",
    "Leni-Ann_Bjorklund_1.jpg",
    "Landon_Donovan_2.jip.jpg",
]
CPLFW_PAIRS = "Al_Bo_1.jpg 1\nAl_Bo_2.jpg 1\nAl_Bo_1.jpg 0\nCy_3.jpg 0\n"
CPLFW_LIST = "cplfw/pairs_CPLFW.txt"

CALFW = ["Al_Bo_0001.jpg", "Al_Bo_0002.jpg", "Cy_0001.jpg", "Cy_0003.jpg"]
CALFW_PAIRS = (
    "Cy_0001.jpg 7\nCy_0003.jpg 7\nAl_Bo_0001.jpg 10\nAl_Bo_0002.jpg 10\n"
    "Al_Bo_0001.jpg 0\nCy_0003.jpg 0\nAl_Bo_0002.jpg 0\nCy_0001.jpg 0\n"
)


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("FACEFOCUS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facefocus.core.locations.cache_dir", lambda: tmp_path / "cache")


def cplfw() -> dict[str, bytes]:
    """The layout as published: the images, the aligned images, and landmarks."""
    files = {f"cplfw/images/{name}": encoded(pixels(i)) for i, name in enumerate(CPLFW)}
    files |= {
        f"cplfw/aligned images/{name}": encoded(pixels(99 + i)) for i, name in enumerate(CPLFW)
    }
    other = [
        "cplfw/CP_landmarks/Al_Bo_1_5loc_attri.txt",
        "cplfw/images/Thumbs.db",
        "cplfw/images/._Al_Bo_1.jpg",
        "__MACOSX/cplfw/images/._Al_Bo_1.jpg",
    ]
    return files | dict.fromkeys(other, b"x")


def calfw() -> dict[str, bytes]:
    inner = "calfw/images&landmarks/images&landmarks"
    files = {f"{inner}/images/{name}": encoded(pixels(i)) for i, name in enumerate(CALFW)}
    files |= {f"calfw/aligned images/{name}": encoded(pixels(99)) for name in CALFW}
    return files | {f"{inner}/CA_landmarks/Al_Bo_0001_5loc_attri.txt": b"1 2"}


def unpacked(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.mkdir("cplfw")
        for name, data in files.items():
            packed.writestr(name, data)
    return path


def run(source: Path, out: Path, **options: Any) -> PrepareReport:
    return prepare_faces("cplfw", source, out, **{"align": "none", **options})


FORMS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "tgz": lambda tmp, files: archive(tmp / "x.tgz", files),
    "zip": lambda tmp, files: zipped(tmp / "x.zip", files),
    "folder": lambda tmp, files: unpacked(tmp / "in", files),
}


@pytest.mark.parametrize("form", FORMS)
def test_cplfw_as_published(tmp_path: Path, form: str) -> None:
    report = run(
        FORMS[form](tmp_path, cplfw() | {CPLFW_LIST: CPLFW_PAIRS.encode()}), tmp_path / "o"
    )
    faces = open_faceset(tmp_path / "o")
    assert faces.title == "cplfw"
    assert faces.names.tolist() == [
        "Al_Bo_1",
        "Al_Bo_2",
        "Landon_Donovan_2",
        "Landon_Donovan_3",
        "Leni-Ann_Bjorklund_1",
        "Leni-Ann_Bjorklund_2",
    ]
    people = ["Al_Bo", "Landon_Donovan", "Leni-Ann_Bjorklund"]
    assert faces.identities.tolist() == [name for name in people for _ in range(2)]
    for row, seed in enumerate([0, 1, 5, 2, 4, 3]):
        assert np.array_equal(faces.frames[row], pixels(seed))
    assert (report.pairs, report.pairs_missing) == (1, 1)
    assert report.unusable == {"listed in pairs_CPLFW.txt but not in the source": 1}
    assert report.notes[:2] == (
        "11,652 images expected, 6 found.",
        "6,000 pairs expected, 2 found in pairs_CPLFW.txt.",
    )
    missing = pl.read_parquet(tmp_path / "o" / "index.parquet").filter(pl.col("name") == "Cy_3")
    assert missing.select("identity", "row", "path").rows() == [("Cy", None, "")]


@pytest.mark.parametrize("form", FORMS)
def test_calfw_as_published(tmp_path: Path, form: str) -> None:
    source = FORMS[form](tmp_path, calfw() | {"calfw/pairs_CALFW.txt": CALFW_PAIRS.encode()})
    report = prepare_faces("calfw", source, tmp_path / "out", align="none")
    faces, pairs = open_faceset(tmp_path / "out"), read_pairs(tmp_path / "out")
    assert (faces.title, report.images, report.people) == ("calfw", 4, 2)
    assert faces.names.tolist() == ["Al_Bo_0001", "Al_Bo_0002", "Cy_0001", "Cy_0003"]
    for row in range(4):
        assert np.array_equal(faces.frames[row], pixels(row))
    assert pairs is not None
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([2, 0, 0, 1], [3, 1, 3, 2])
    assert pairs.mated.tolist() == [True, True, False, False]
    # The mated pairs' own folds; the two others are dealt out to the first and second half.
    assert pairs.fold.tolist() == [6, 9, 0, 5]
    assert report.notes[:3] == (
        "12,174 images expected, 4 found.",
        "4,025 people expected, 2 found.",
        "6,000 pairs expected, 4 found in pairs_CALFW.txt.",
    )
    assert report.notes[3].startswith("pairs_CALFW.txt is not the published list: its sha256 is ")
    assert report.notes[3].endswith(f"that of the published one {CALFW_PAIRS_SHA256}.")


def test_the_published_numbers_need_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pairs_CALFW.txt"
    path.write_text(CALFW_PAIRS)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    notes = partial(cross._notes, images=4, people=2, sha256=sha256)
    monkeypatch.setattr(cross, "_PAIRS", 4)
    published = replace(cross.CALFW, notes=notes)
    report = prepare_faces(
        published, archive(tmp_path / "x.tgz", calfw()), tmp_path / "out", align="none"
    )
    assert all(note.startswith("ignored") for note in report.notes)


def test_archives_and_folders_are_the_same_set(tmp_path: Path) -> None:
    hashes = set()
    for form, made in FORMS.items():
        run(made(tmp_path, cplfw()), tmp_path / f"out {form}")
        hashes.add(open_faceset(tmp_path / f"out {form}").hash)
    assert len(hashes) == 1


def test_a_second_run_finds_the_set_complete(tmp_path: Path) -> None:
    source = zipped(tmp_path / "x.zip", cplfw() | {CPLFW_LIST: CPLFW_PAIRS.encode()})
    first, second = run(source, tmp_path / "out"), run(source, tmp_path / "out")
    assert second.already_complete
    assert (second.images, second.pairs, second.notes) == (first.images, 1, first.notes)


def test_people_can_be_selected(tmp_path: Path) -> None:
    run(archive(tmp_path / "x.tgz", cplfw()), tmp_path / "out")
    faces = open_faceset(tmp_path / "out")
    chosen = select_identities(faces, images=(2, 3), exclude=["Al_Bo_2"])
    assert [(person.name, person.rows.tolist()) for person in chosen] == [
        ("Landon_Donovan", [2, 3]),
        ("Leni-Ann_Bjorklund", [4, 5]),
    ]


# Layouts


@pytest.mark.parametrize(
    ("folder", "note"),
    [
        ("images", ()),
        ("faces", ("No folder 'images' was found: the pictures are those of 'faces'.",)),
        ("", ("No folder 'images' was found: the pictures are those of 'the source itself'.",)),
    ],
)
def test_a_folder_of_pictures_alone(tmp_path: Path, folder: str, note: tuple[str, ...]) -> None:
    files = {f"{folder}/{name}".lstrip("/"): encoded(pixels(i)) for i, name in enumerate(CPLFW)}
    files |= {f"aligned/{name}": encoded(pixels(99)) for name in CPLFW}
    report = run(unpacked(tmp_path / "in", files), tmp_path / "out")
    assert np.array_equal(open_faceset(tmp_path / "out").frames[0], pixels(0))
    assert report.notes[: len(note)] == note
    assert report.images == 6


def test_the_aligned_images_are_taken_where_they_are_named(tmp_path: Path) -> None:
    source = unpacked(tmp_path / "in", cplfw()) / "cplfw" / "aligned images"
    run(source, tmp_path / "out")
    assert np.array_equal(open_faceset(tmp_path / "out").frames[0], pixels(99))


def test_an_odd_name_does_not_take_the_place_of_a_regular_one(tmp_path: Path) -> None:
    files = {"images/A_3jpg.jpg": encoded(pixels(1)), "images/A_3.jpg": encoded(pixels(2))}
    run(unpacked(tmp_path / "in", files), tmp_path / "out")
    faces = open_faceset(tmp_path / "out")
    assert faces.names.tolist() == ["A_3", "A_3jpg"]
    assert faces.identities.tolist() == ["A", "A"]


def test_sources_without_pictures_of_people(tmp_path: Path) -> None:
    message = r"must hold one folder 'images' of pictures like Name_1.jpg.* which holds none"
    nested = {"cplfw/images.zip": b"x", "cplfw/cover.jpg": b"x"}
    for form, made in FORMS.items():
        with pytest.raises(UserError, match=message):
            run(made(tmp_path, nested), tmp_path / f"out {form}")
    with pytest.raises(UserError, match=r"must be a folder. Got .*nothing there"):
        run(tmp_path / "absent", tmp_path / "out")
    two = {f"{folder}/A_1.jpg": encoded(pixels(1)) for folder in ("a", "b")}
    with pytest.raises(UserError, match=message):
        run(unpacked(tmp_path / "two", two), tmp_path / "out")


def test_two_sets_in_one_source(tmp_path: Path) -> None:
    files = cplfw() | {"copy/images/Al_Bo_1.jpg": encoded(pixels(1))}
    with pytest.raises(UserError, match=r"must hold every image once. Got 'Al_Bo_1' twice"):
        run(archive(tmp_path / "x.tgz", files), tmp_path / "out")


# Zip archives


def test_a_damaged_picture_in_a_zip_is_one_picture(tmp_path: Path) -> None:
    source = zipped(tmp_path / "x.zip", cplfw(), zipfile.ZIP_STORED)
    data, picture = source.read_bytes(), encoded(pixels(1))
    source.write_bytes(data.replace(picture, picture[:-1] + b"x"))
    report = run(source, tmp_path / "out")
    assert (report.images, report.unusable) == (5, {"damaged or incomplete": 1})


def test_a_damaged_list_in_a_zip(tmp_path: Path) -> None:
    files = cplfw() | {CPLFW_LIST: CPLFW_PAIRS.encode()}
    source = zipped(tmp_path / "x.zip", files, zipfile.ZIP_STORED)
    source.write_bytes(source.read_bytes().replace(b"Cy_3.jpg 0", b"Cy_4.jpg 0"))
    with pytest.raises(UserError, match=r"'pairs' file .*CPLFW.txt' cannot be read: damaged"):
        run(source, tmp_path / "out")


def test_a_truncated_zip(tmp_path: Path) -> None:
    source = zipped(tmp_path / "x.zip", cplfw())
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"must be a complete archive .*x.zip"):
        run(source, tmp_path / "out")


def test_a_zip_with_a_password(tmp_path: Path) -> None:
    source = zipped(tmp_path / "x.zip", cplfw())
    data = source.read_bytes()
    # Bit 0 of the flags says "encrypted": at byte 6 of local and byte 8 of central headers.
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = data.split(mark)
        flagged = [
            part[: offset - 4] + bytes([part[offset - 4] | 1]) + part[offset - 3 :]
            for part in parts[1:]
        ]
        data = mark.join([parts[0], *flagged])
    source.write_bytes(data)
    with pytest.raises(UserError, match=r"must be a complete archive .*password"):
        run(source, tmp_path / "out")


def test_files_too_large_to_hold_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = cplfw()
    limit = max(len(data) for data in files.values())
    files["cplfw/images/Al_Bo_9.jpg"] = b"x" * (limit + 1)
    monkeypatch.setattr("facefocus.faces.archives.MAX_FILE_BYTES", limit)
    report = run(zipped(tmp_path / "x.zip", files), tmp_path / "out")
    assert (report.images, report.unusable) == (6, {"larger than 0 MiB": 1})


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", {"images/Eve_1.jpg": b"x"}).read_bytes()
    source = tmp_path / "x.tar"
    with tarfile.open(source, "w") as tar:
        for name in unpacked(tmp_path / "in", cplfw() | {"cplfw/z.zip": inner}).iterdir():
            tar.add(name, name.name)
    assert run(source, tmp_path / "out").images == 6


# Where the list is looked for


@pytest.mark.parametrize("path", ["in/pairs_CPLFW.txt", "pairs_CPLFW.txt", f"data/{CPLFW_LIST}"])
def test_the_list_is_found(tmp_path: Path, path: str) -> None:
    source = unpacked(tmp_path / "in", cplfw())
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(CPLFW_PAIRS)
    before = contents(source)
    assert run(source, tmp_path / "out").pairs == 1
    assert contents(source) == before


def test_a_list_that_is_named_comes_first(tmp_path: Path) -> None:
    source = unpacked(tmp_path / "in", cplfw() | {CPLFW_LIST: CPLFW_PAIRS.encode()})
    (tmp_path / "mine.txt").write_text(CPLFW_PAIRS + "Al_Bo_2.jpg 0\nLandon_Donovan_3.jpg 0\n")
    assert run(source, tmp_path / "out", pairs=tmp_path / "mine.txt").pairs == 2


def test_no_list(tmp_path: Path) -> None:
    report = run(archive(tmp_path / "x.tgz", cplfw()), tmp_path / "out")
    note = "No pairs_CPLFW.txt was found: the face set has no verification list."
    assert report.pairs is None
    assert note in report.notes
