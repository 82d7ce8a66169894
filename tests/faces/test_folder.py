from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facefocus.core.errors import UserError
from facefocus.faces.archives import picture_source
from facefocus.faces.faceset import open_faceset, read_pairs
from facefocus.faces.prepare import Entry, PrepareReport
from facefocus.faces.sources import prepare_faces
from tests.faces.pictures import contents, encoded, pixels


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def run(source: Path, out: Path, **options: Any) -> PrepareReport:
    return prepare_faces("folder", source, out, **{"align": "none", **options})


def test_one_sub_folder_for_each_person(tmp_path: Path) -> None:
    files = {
        "Bo Di/1.PNG": encoded(pixels(1)),
        "Al/1.png": encoded(pixels(2)),
        "Al/1.bmp": encoded(pixels(3), "BMP"),
        "Al/Ünal.Tiff": encoded(pixels(4), "TIFF"),
    }
    report = run(put(tmp_path / "My Faces", files), tmp_path / "out")
    faces = open_faceset(tmp_path / "out")
    assert faces.title == "My Faces"
    assert faces.names.tolist() == ["Al/1.bmp", "Al/1.png", "Al/Ünal.Tiff", "Bo Di/1.PNG"]
    assert faces.identities.tolist() == ["Al", "Al", "Al", "Bo Di"]
    for row, seed in enumerate([3, 2, 4, 1]):
        assert np.array_equal(faces.frames[row], pixels(seed))
    assert report.notes == ()


def test_what_is_no_picture_of_a_person_is_counted_by_suffix_and_reason(tmp_path: Path) -> None:
    files = {
        "Al/1.png": encoded(pixels(1)),
        "Al/1.MOV": b"x",
        "Al/2.mov": b"x",
        "Al/3.dng": b"x",
        "Al/notes": b"x",
        "Al/notes.txt": b"x",
        "Al/deeper/2.png": encoded(pixels(1)),
        "3.png": encoded(pixels(1)),
        "Al/._1.png": b"x",
        ".DS_Store": b"x",
    }
    source = put(tmp_path / "in", files)
    os.mkfifo(source / "Al" / "pipe.png")
    (source / "Al" / "loop.png").symlink_to(source / "Al" / "loop.png")
    report = run(source, tmp_path / "out")
    assert report.images == 1
    assert report.notes == (
        "ignored 2 .mov (a video)",
        "ignored 1 .dng (a raw camera file: save it as JPEG)",
        "ignored 1 .png (outside a person's folder)",
        "ignored 1 .txt (no picture)",
        "ignored 1 device, pipe or socket (not a file)",
        "ignored 1 file without a suffix (no picture)",
        "ignored 1 folder (deeper than pictures are looked for)",
        "ignored 1 link (leads nowhere)",
    )


def test_names_that_are_not_utf8_are_escaped_and_said(tmp_path: Path) -> None:
    source = put(tmp_path / os.fsdecode(b"caf\xe9"), {"Al/1.png": encoded(pixels(1))})
    person = os.fsdecode(b"Jos\xe9")
    put(source, {person + os.fsdecode(b"/\xff.png"): encoded(pixels(2))})
    put(source, {"Zoë/é.png": encoded(pixels(3))})
    report = run(source, tmp_path / "out")
    faces = open_faceset(tmp_path / "out")
    assert faces.title == r"caf\xe9"
    assert faces.identities.tolist() == ["Al", r"Jos\xe9", "Zoë"]
    assert faces.names.tolist() == ["Al/1.png", r"Jos\xe9/\xff.png", "Zoë/é.png"]
    assert np.array_equal(faces.frames[1], pixels(2))
    assert report.notes == (r"1 names are not UTF-8: their other bytes are written as \xNN",)
    assert run(source, tmp_path / "out").already_complete


def test_members_of_an_archive_that_are_no_files_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in {
            "lfw/Al/Al_0001.png": tarfile.REGTYPE,
            "lfw/Al/Al_0002.png": tarfile.SYMTYPE,
            "lfw/Al/Al_0003.png": tarfile.LNKTYPE,
            "lfw/Al/Al_0004.png": tarfile.CHRTYPE,
            "lfw/Al/Al_0005.png": tarfile.FIFOTYPE,
            "lfw/readme.txt": tarfile.REGTYPE,
            "lfw/more.png": tarfile.REGTYPE,
            "__MACOSX/lfw/Al/._Al_0001.png": tarfile.REGTYPE,
            "lfw/Al": tarfile.DIRTYPE,
        }.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    zipped = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        link = zipfile.ZipInfo("lfw/Al/Al_0002.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("lfw/Al/Al_0001.png", b"")

    def choose(names: Sequence[str]) -> list[Entry]:
        return [Entry("Al", name, name) for name in names if "/Al/Al_" in name]

    listed = picture_source(path, choose, expected="images", unused="not of Al").load()
    assert [entry.path for entry in listed.entries] == ["lfw/Al/Al_0001.png"]
    assert listed.notes == [
        "ignored 2 device or pipe (not a file)",
        "ignored 2 link (not a file)",
        "ignored 1 .png (not of Al)",
        "ignored 1 .txt (no picture)",
    ]
    listed = picture_source(zipped, choose, expected="images", unused="").load()
    assert [entry.path for entry in listed.entries] == ["lfw/Al/Al_0001.png"]
    assert listed.notes == ["ignored 1 link (not a file)"]


def test_a_copy_is_the_same_source_and_a_changed_picture_is_not(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {"Al/1.png": encoded(pixels(1))})
    run(source, tmp_path / "out")
    copied = shutil.copytree(source, tmp_path / "there" / "in", copy_function=shutil.copyfile)
    assert run(Path(copied), tmp_path / "out").already_complete
    put(source, {"Al/1.png": encoded(pixels(2))})
    with pytest.raises(UserError, match="with a different source"):
        run(source, tmp_path / "out")


def test_unreadable_pictures_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(
        tmp_path / "in", {"Al/1.png": encoded(pixels(1)), "Al/2.png": b"", "Al/3.png": b"x"}
    )
    (source / "Al" / "2.png").unlink()
    (source / "Al" / "2.png").symlink_to(source / "Al" / "4.png")
    report = run(source, tmp_path / "a")
    assert report.notes == ("ignored 1 link (leads nowhere)",)
    assert report.unusable == {"not a picture in a known format": 1}

    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        with pytest.raises(UserError, match="can be read"):
            run(source, tmp_path / "b")


def test_a_picture_that_vanishes_is_a_reason_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(tmp_path / "in", {f"Al/{i}.png": encoded(pixels(i)) for i in range(3)})

    def progress(stage: str, done: int, _: int) -> None:
        if (stage, done) == ("prepare", 0):
            (source / "Al" / "1.png").unlink()

    report = run(source, tmp_path / "out", progress=progress)
    assert report.images == 2
    assert report.unusable == {"cannot be opened: No such file or directory": 1}


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(tmp_path / "in", {"Al/1.png": encoded(pixels(1)), "Al/2.png": b"x" * 5000})
    monkeypatch.setattr("facefocus.faces.archives.MAX_FILE_BYTES", 4999)
    assert run(source, tmp_path / "out").unusable == {"larger than 0 MiB": 1}


def test_sources_that_hold_nobody(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"one folder of pictures for each person. Got .*empty"):
        run(tmp_path / "empty", tmp_path / "out")
    put(tmp_path / "flat", {"1.png": encoded(pixels(1))})
    with pytest.raises(UserError, match="one folder of pictures for each person"):
        run(tmp_path / "flat", tmp_path / "out")
    with pytest.raises(UserError, match=r"must be a folder. Got .*a file"):
        run(tmp_path / "flat" / "1.png", tmp_path / "out")
    with pytest.raises(UserError, match=r"must be a folder. Got .*nothing there"):
        run(tmp_path / "none", tmp_path / "out")


def test_an_output_inside_the_source_is_no_person(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {"Al/1.png": encoded(pixels(1))})
    run(source, source / "set")
    assert run(source, source / "set").already_complete
    assert set(contents(source / "set")) == {"frames.npy", "index.parquet", "manifest.json"}


def test_a_list_names_pictures_by_their_paths(tmp_path: Path) -> None:
    files = {f"Al Di/{i}.png": encoded(pixels(i)) for i in range(3)}
    files |= {f"Bo/{i}.png": encoded(pixels(9 + i)) for i in range(2)}
    source = put(tmp_path / "in", files)
    (tmp_path / "list.csv").write_text(
        "first,second,same\nAl Di/0.png,Al Di/2.png,1\nfaces/Bo/0.png,faces/Bo/1.png,1\n"
        "Al Di/0.png,Bo/1.png,0\nAl Di/1.png,Bo/9.png,0\nBo/1.png,Bo/1.png,1\n"
    )
    report = run(source, tmp_path / "out", pairs=tmp_path / "list.csv")
    assert (report.pairs, report.pairs_missing) == (3, 1)
    assert report.unusable == {"listed in list.csv but not in the source": 1}
    assert report.notes == (
        "1 of the 5 pairs of list.csv left out: an image against itself"
        " (line 6: Bo/1.png and Bo/1.png).",
    )
    pairs = read_pairs(tmp_path / "out")
    assert pairs is not None
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 3, 0], [2, 4, 4])
    assert pairs.mated.tolist() == [True, True, False]
    (tmp_path / "lfw.txt").write_text("Al Di 1 2\n")
    with pytest.raises(UserError, match=r"Line 1 .* must name images of the set. Got 'Al Di 1'"):
        run(source, tmp_path / "b", pairs=tmp_path / "lfw.txt")


def copies(root: Path) -> Path:
    """Al: one photo under three names and another; Bo: two photos, of which Cy has one."""
    files = {name: encoded(pixels(1)) for name in ("IMG_1 (1).png", "IMG_1 copy.png", "IMG_1.png")}
    own = {f"Al/{name}": data for name, data in files.items()} | {"Al/2.png": encoded(pixels(2))}
    own["Bo/1.png"] = encoded(pixels(3))
    # Another file of equal pixels: the crops decide.
    return put(root, own | {"Bo/2.png": encoded(pixels(4)), "Cy/1.bmp": encoded(pixels(3), "BMP")})


def test_a_photo_under_several_names_counts_once_and_one_of_two_people_not_at_all(
    tmp_path: Path,
) -> None:
    report = run(copies(tmp_path / "in"), tmp_path / "out")
    assert open_faceset(tmp_path / "out").names.tolist() == ["Al/2.png", "Al/IMG_1.png", "Bo/2.png"]
    assert report.unusable == {
        "the same photo as another of this person": 2,
        "the same photo as one of another person": 2,
    }
    assert report.notes == (
        "1 photo is there under 3 names of the same person, each counts once:"
        " Al/IMG_1.png = Al/IMG_1 (1).png = Al/IMG_1 copy.png.",
        "1 photo is there under 2 names of different people, none is used: Bo/1.png = Cy/1.bmp.",
    )
    assert run(tmp_path / "in", tmp_path / "out").already_complete
    with pytest.raises(
        UserError, match="different setting of 'align', 'crop', 'model' or duplicates"
    ):
        run(tmp_path / "in", tmp_path / "out", keep_duplicates=True)


def test_copies_are_kept_on_request_or_where_a_list_names_them(tmp_path: Path) -> None:
    source = copies(tmp_path / "in")
    report = run(source, tmp_path / "all", keep_duplicates=True)
    assert (report.images, report.unusable) == (7, {})
    assert [", all are kept: " in note for note in report.notes] == [True, True]
    (tmp_path / "list.txt").write_text("Al/2.png Al/IMG_1 copy.png 1\nAl/2.png Bo/2.png 0\n")
    report = run(source, tmp_path / "listed", pairs=tmp_path / "list.txt")
    assert report.unusable == {"the same photo as one of another person": 2}
    assert (report.pairs, report.pairs_missing) == (2, 0)
    assert "all are kept" in report.notes[0] and "none is used" in report.notes[1]
