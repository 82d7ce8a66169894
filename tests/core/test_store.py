from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from facefocus.core.errors import UserError
from facefocus.core.files import OLD, STILL, write_atomically
from facefocus.core.store import Merged, Missing, Store, content_key


def test_a_key_depends_on_every_part_and_not_on_their_order() -> None:
    key = content_key("maps", a=1, b=[2, 3])
    assert key == content_key("maps", b=(2, 3), a=1)
    assert len({key, content_key("maps", a=1, b=[3, 2]), content_key("scores", a=1, b=[2, 3])}) == 3


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("ab12", {"x": np.arange(3), "y": np.eye(2, dtype=np.float32)})
    assert "ab12" in store
    got = store.load("ab12")
    assert got["x"].tolist() == [0, 1, 2] and got["y"].dtype == np.float32


def test_a_damaged_artefact_counts_as_missing_and_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("ab12", {"x": np.arange(1000)})
    path = store.path("ab12")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(Missing):
        store.load("ab12")
    assert "ab12" not in store


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """In the arrays, the zip archive's headers or the checksum; also an exchanged file."""
    store = Store(tmp_path)
    store.save("ab12", {"x": np.arange(9), "y": np.zeros((2, 2))})
    whole = store.path("ab12").read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        store.path("ab12").write_bytes(damaged)
        with pytest.raises(Missing):
            store.load("ab12")
        assert "ab12" not in store
    store.path("ab34").write_bytes(whole)
    with pytest.raises(Missing):
        store.load("ab34")


def test_a_damaged_artefact_that_stays_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.save("ab12", {"x": np.arange(3)})
    store.path("ab12").write_bytes(b"")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match=r"ab12.npz' cannot be removed: Permission denied.*--store"):
        store.load("ab12")


def test_a_store_is_measured_and_cleared_of_nothing_but_artefacts(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.size() == store.clear() == (0, 0)
    for key in ("ab12", "ab34", "cd56"):
        store.save(key, {"x": np.arange(3)})
    others = [store.root / "mine.txt", store.root / "ab" / "notes.npz", store.root / "x.npz"]
    for path in others:
        path.write_bytes(b"mine")
    size = sum(path.stat().st_size for path in store.root.rglob("*.npz")) - 8
    assert store.size() == (3, size)
    assert store.clear() == (3, size)
    assert store.size() == (0, 0)
    assert all(path.is_file() for path in others) and not (store.root / "cd").exists()


def test_stores_are_merged_and_damage_is_found(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    here.save("ab12", {"x": np.arange(3)})
    here.save("cd56", {"x": np.arange(4)})
    for key, value in (("ab12", 3), ("ab34", 5), ("cd56", 6), ("ef78", 7)):
        there.save(key, {"x": np.arange(value)})
    damaged = there.path("ef78")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert here.merge(there) == Merged(new=1, same=1, different=1, damaged=1)
    assert here.load("ab34")["x"].tolist() == [0, 1, 2, 3, 4]
    assert here.load("cd56")["x"].tolist() == [0, 1, 2, 3]  # what was here stays
    assert sorted(here) == ["ab12", "ab34", "cd56"] and here.verify() == []
    whole = here.path("ab34").read_bytes()
    here.path("ab34").write_bytes(whole[:5] + bytes([whole[5] ^ 1]) + whole[6:])
    assert here.verify() == ["ab34"] and here.held(["ab12", "ab34"]) == {"ab12"}


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead, here, now = int(gone.stdout), os.getpid(), time.time()
    folder = tmp_path / "ab"
    folder.mkdir()
    ages = {
        f".killed.{dead}.0a1b2c3d.tmp": STILL + 1,
        f".just now.{dead}.0a1b2c3d.tmp": 0,
        f".alive.{here}.0a1b2c3d.tmp": STILL + 1,
        f".old.{here}.0a1b2c3d.tmp": OLD + 1,
        ".somebody else's.tmp": OLD + 1,
    }
    for name, age in ages.items():
        (folder / name).touch()
        os.utime(folder / name, (now - age, now - age))
    Store(tmp_path).sweep()
    left = {path.name.split(".")[1] for path in folder.iterdir()}
    assert left == {"just now", "alive", "somebody else's"}


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def die(file: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, die)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"Cannot write '.*file': the disk is full"):
        write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert list(tmp_path.iterdir()) == []
