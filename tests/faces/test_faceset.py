from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.core.errors import UserError
from facefocus.core.files import atomic_file
from facefocus.faces import faceset as faceset_module
from facefocus.faces.faceset import (
    FaceSet,
    IndexRow,
    PairList,
    check_files,
    make_faceset,
    open_faceset,
    read_pairs,
    select_identities,
    write_faceset,
)
from facefocus.testing import check_named
from tests.faces.pictures import contents

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
ROWS = [
    IndexRow(
        "Al",
        "Al_0001",
        "Al/1.jpg",
        faces=2,
        score=0.5,
        landmarks=tuple(map(float, range(10))),
        box=(3.0, 4.0, 50.0, 60.0),
        turned=90,
        check=("several faces", "a low score"),
    ),
    IndexRow("Al", "Al_0002", "Al/2.jpg", reason="no face found"),
    IndexRow("Al", "Al_0003", "Al/3.jpg", faces=1, score=0.75, landmarks=(0.5,) * 10),
    IndexRow("Bo", "Bo_0001", "Bo/1.jpg"),
]
PAIR_LIST = PairList(
    first=("Al_0001", "Al_0002", "Bo_0001"),
    second=("Al_0003", "Al_0001", "Al_0003"),
    mated=(True, True, False),
    fold=(0, 0, 1),
    sha256="5a",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_faceset(
        tmp_path,
        title="few",
        rows=ROWS,
        frames=FRAMES,
        size=(4, 5),
        pairs=PAIR_LIST,
        record={"a": 1},
    )
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    faces = open_faceset(folder)
    assert isinstance(faces.frames, np.memmap)
    assert not faces.frames.flags.writeable
    assert np.array_equal(faces.frames, FRAMES)
    assert faces.identities.tolist() == ["Al", "Al", "Bo"]
    assert faces.names.tolist() == ["Al_0001", "Al_0003", "Bo_0001"]
    assert faces.title == "few"


def test_index_holds_unusable_images_too(folder: Path) -> None:
    index = pl.read_parquet(folder / "index.parquet")
    assert index["row"].to_list() == [0, None, 1, 2]
    assert index["reason"].to_list() == [None, "no face found", None, None]
    assert index["path"].to_list() == ["Al/1.jpg", "Al/2.jpg", "Al/3.jpg", "Bo/1.jpg"]
    assert index["faces"].to_list() == [2, None, 1, None]
    assert index["score"].to_list() == [0.5, None, 0.75, None]
    assert index.row(0, named=True)["left_eye_y"] == 1.0
    assert index.row(0, named=True)["right_mouth_x"] == 8.0
    assert index.row(0, named=True)["box_height"] == 60.0
    assert index["turned"].to_list() == [90, None, None, None]


def test_what_is_to_be_looked_at_is_a_table_of_its_own(folder: Path) -> None:
    assert (folder / "check.csv").read_text().splitlines() == [
        "identity,name,path,check,score,faces,turned",
        "Al,Al_0001,Al/1.jpg,several faces; a low score,0.5,2,90",
    ]


def test_manifest_counts_and_hashes(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["counts"] == {
        "listed": 4,
        "images": 3,
        "people": 2,
        "several_faces": 1,
        "unusable": {"no face found": 1},
        "check": {"a low score": 1, "several faces": 1},
    }
    assert manifest["pairs"] == {"listed": 3, "missing": 1, "sha256": "5a"}
    assert manifest["record"] == {"a": 1}
    for name in ("frames.npy", "index.parquet", "pairs.parquet", "check.csv"):
        data = (folder / name).read_bytes()
        assert manifest["files"][name] == {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "mtime_ns": (folder / name).stat().st_mtime_ns,
        }


def test_pairs_are_rows_and_the_missing_are_counted(folder: Path) -> None:
    pairs = read_pairs(folder)
    assert pairs is not None
    assert pairs.first.tolist() == [0, 2]
    assert pairs.second.tolist() == [1, 1]
    assert pairs.mated.tolist() == [True, False]
    assert pairs.fold.tolist() == [0, 1]
    assert pairs.missing == 1


def test_a_set_without_a_list_has_no_pairs(tmp_path: Path) -> None:
    write_faceset(tmp_path, title="few", rows=ROWS, frames=FRAMES, size=(4, 5))
    assert read_pairs(tmp_path) is None
    assert not (tmp_path / "pairs.parquet").exists()


def test_the_hash_is_that_of_frames_identities_and_names(folder: Path) -> None:
    expected = hashlib.sha256(b"facefocus faces [3, 4, 5, 3]\n" + FRAMES.tobytes())
    expected.update(b"Al\0Al\0Bo\0Al_0001\0Al_0003\0Bo_0001")
    faces = open_faceset(folder)
    assert faces.hash == expected.hexdigest()
    again = make_faceset(FRAMES, ["Al", "Al", "Bo"], faces.names.tolist(), "other title")
    assert again.hash == faces.hash
    assert make_faceset(FRAMES, ["Al", "Bo", "Bo"], faces.names.tolist(), "few").hash != faces.hash


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_faceset(
            tmp_path / name, title="few", rows=ROWS, frames=FRAMES, size=(4, 5), pairs=PAIR_LIST
        )
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_program_error_in_the_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sorted"):
        write_faceset(tmp_path, title="few", rows=ROWS[::-1], frames=FRAMES, size=(4, 5))
    twice = [IndexRow("Al", "1", ""), IndexRow("Bo", "1", "")]
    with pytest.raises(ValueError, match="unique"):
        write_faceset(tmp_path, title="few", rows=twice, frames=FRAMES[:2], size=(4, 5))
    with pytest.raises(ValueError, match="2 frames were given for 3"):
        write_faceset(tmp_path, title="few", rows=ROWS, frames=FRAMES[:2], size=(4, 5))
    with pytest.raises(ValueError, match="shape"):
        write_faceset(tmp_path, title="few", rows=ROWS, frames=FRAMES, size=(5, 4))
    with pytest.raises(ValueError, match="of its own"):
        make_faceset(FRAMES, ["Al"] * 3, ["1", "1", "2"], "few")
    assert contents(tmp_path) == {}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"a": b"old"}


# Broken folders


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be a folder. Got .*none"):
        open_faceset(tmp_path / "none")


def test_no_manifest_says_run_prepare_again(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"not a complete face set.*Run prepare again"):
        open_faceset(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"x"', "\xff"])
def test_a_damaged_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="cannot be read"):
        open_faceset(folder)


def test_a_newer_version(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match=r"must be 1. Got 2"):
        open_faceset(folder)


@pytest.mark.parametrize("name", ["frames.npy", "index.parquet", "pairs.parquet"])
def test_truncated_or_absent_files(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{name}' must have \d+ bytes. Got \d+"):
        open_faceset(folder)
    path.unlink()
    with pytest.raises(UserError, match=rf"{name}' must have \d+ bytes. Got 0"):
        open_faceset(folder)


def flip_last_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["frames.npy", "index.parquet", "pairs.parquet"])
def test_a_changed_file_of_the_right_size(folder: Path, name: str) -> None:
    assert set(check_files(folder).values()) == {None}
    flip_last_bit(folder / name)
    os.utime(folder / name, ns=(0, 10**18))
    with pytest.raises(UserError, match=rf"{name}' was changed: .*run prepare again"):
        open_faceset(folder)
    assert f"{name}' was changed" in " ".join(filter(None, check_files(folder).values()))
    (folder / name).unlink()
    assert "cannot be read" in " ".join(filter(None, check_files(folder).values()))


def test_a_copy_with_other_times_opens_and_is_read_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    os.utime(copy / "frames.npy", ns=(0, 10**18))
    read: list[str] = []
    plain = faceset_module._check_hash

    def counting(path: Path, sha256: str) -> None:
        read.append(path.name)
        plain(path, sha256)

    monkeypatch.setattr(faceset_module, "_check_hash", counting)
    for _ in range(2):
        assert open_faceset(copy).hash == open_faceset(folder).hash
    assert read.count("frames.npy") == 1


def test_a_change_that_keeps_the_time_is_found_by_hash(folder: Path) -> None:
    path = folder / "frames.npy"
    time = path.stat().st_mtime_ns
    flip_last_bit(path)
    os.utime(path, ns=(time, time))
    open_faceset(folder)
    wrong = [check for check in check_named(faces=folder) if not check.passed]
    assert [check.name for check in wrong] == ["frames.npy"] and "was changed" in wrong[0].detail


def test_a_set_without_times_opens(folder: Path) -> None:
    manifest = folder / "manifest.json"
    values = json.loads(manifest.read_bytes())
    for file in values["files"].values():
        del file["mtime_ns"]
    manifest.write_text(json.dumps(values))
    os.utime(folder / "frames.npy", ns=(0, 10**18))
    assert len(open_faceset(folder).frames) == 3


def test_a_damaged_index_of_the_right_size(folder: Path) -> None:
    path = folder / "index.parquet"
    time = path.stat().st_mtime_ns
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, ns=(time, time))
    with pytest.raises(UserError, match="cannot be read"):
        open_faceset(folder)


# Choosing people


def crowd(order: np.ndarray | None = None) -> FaceSet:
    """40 people; person i has i % 7 + 1 images."""
    listed = [(f"p{i:02d}", f"p{i:02d}_{j}") for i in range(40) for j in range(i % 7 + 1)]
    if order is not None:
        listed = [listed[i] for i in order]
    frames = np.zeros((len(listed), 1, 1, 3), np.uint8)
    return make_faceset(frames, [a for a, _ in listed], [b for _, b in listed], "crowd")


def chosen(faces: FaceSet, **options: Any) -> dict[str, set[str]]:
    people = select_identities(faces, **options)
    for person in people:
        assert person.rows.tolist() == sorted(person.rows.tolist())
        assert (faces.identities[person.rows] == person.name).all()
    names = [person.name for person in people]
    assert names == sorted(names)
    return {person.name: set(faces.names[person.rows].tolist()) for person in people}


def test_everyone_with_two_images_or_more() -> None:
    people = chosen(crowd())
    assert set(people) == {f"p{i:02d}" for i in range(40) if i % 7 >= 1}
    assert people["p02"] == {"p02_0", "p02_1", "p02_2"}


def test_people_with_a_number_of_images() -> None:
    assert set(chosen(crowd(), images=(3, 4))) == {
        f"p{i:02d}" for i in range(40) if i % 7 in (2, 3)
    }


def test_a_sample_depends_on_the_seed_and_not_on_the_order() -> None:
    size = len(crowd().names)
    shuffled = crowd(np.random.default_rng(1).permutation(size))
    first = chosen(crowd(), count=10, max_images=3, seed=5)
    assert chosen(shuffled, count=10, max_images=3, seed=5) == first
    assert chosen(crowd(), count=10, max_images=3, seed=6) != first
    assert len(first) == 10
    assert {len(names) for names in first.values()} <= {2, 3}
    assert set(first) <= set(chosen(crowd(), count=20, seed=5))


def test_a_sample_has_no_favorites() -> None:
    counts = dict.fromkeys(chosen(crowd()), 0)
    for seed in range(200):
        for name in chosen(crowd(), count=17, seed=seed):
            counts[name] += 1
    # 34 people, half of them drawn each time: 100 +- 4 standard deviations of 7.1.
    assert len(counts) == 34
    assert all(72 < drawn < 128 for drawn in counts.values())


def test_fewer_images_is_a_sample_of_them() -> None:
    whole, thin = chosen(crowd()), chosen(crowd(), max_images=2, seed=3)
    assert set(whole) == set(thin)
    assert all(thin[name] <= whole[name] and len(thin[name]) == 2 for name in thin)
    assert any(thin[name] != set(sorted(whole[name])[:2]) for name in thin)


def test_excluded_people_and_images_are_not_counted() -> None:
    people = chosen(crowd(), exclude=["p02", "p03_1", "p01_0"])
    assert "p02" not in people
    assert people["p03"] == {"p03_0", "p03_2", "p03_3"}
    assert "p01" not in people


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "'count' of people must be at least 1. Got 0"),
        ({"count": 35}, "must have 35 people with 2 or more images. Got 34"),
        ({"images": (9, 10)}, "must have some people with 9 to 10 images. Got 0"),
        ({"images": (1, 4)}, r"'images' must be .* Got \(1, 4\)"),
        ({"images": (4, 3)}, r"'images' must be .* Got \(4, 3\)"),
        ({"max_images": 1}, "'max_images' must be at least 2. Got 1"),
        ({"exclude": ["p2"]}, r"'exclude' must name .* Got 'p2'. Did you mean"),
    ],
)
def test_selection_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select_identities(crowd(), **options)
