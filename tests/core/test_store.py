from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from facefocus.core import store as store_module
from facefocus.core.artefact_files import StoreFiles
from facefocus.core.errors import UserError
from facefocus.core.files import OLD, STILL, write_atomically
from facefocus.core.locations import StoreAddress
from facefocus.core.store import Merged, Missing, Store, content_key


def test_a_key_depends_on_every_part_and_not_on_their_order() -> None:
    key = content_key("maps", a=1, b=[2, 3])
    assert key == content_key("maps", b=(2, 3), a=1)
    assert len({key, content_key("maps", a=1, b=[3, 2]), content_key("scores", a=1, b=[2, 3])}) == 3


def names(count: int) -> list[str]:
    """Some keys."""
    return [content_key("test", number=number) for number in range(count)]


def packs(store: Store) -> list[Path]:
    return sorted(Path(store.location).glob("*.pack"))


@pytest.fixture(params=["folder", "bucket", "google_bucket"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAddress:
    if request.param == "folder":
        return tmp_path / "store"
    return f"{request.getfixturevalue(request.param)}/{secrets.token_hex(4)}"


def read(store: Store, name: str) -> bytes:
    return store._files.read(name)


def only_file(store: Store) -> str:
    (name,) = store._files.names()
    return name


def test_what_is_saved_is_loaded(address: StoreAddress) -> None:
    store, (first, second, third) = Store(address), names(3)
    store.save(first, {"x": np.arange(3), "y": np.eye(2, dtype=np.float32)})
    assert first in store and second not in store
    got = store.load(first)
    assert got["x"].tolist() == [0, 1, 2] and got["y"].dtype == np.float32
    other = Store(address)
    assert other.load(first)["x"].tolist() == [0, 1, 2]
    store.save(second, {"x": np.arange(4)})
    assert second not in other  # as it was when it was looked at
    assert len(other.load(second)["x"]) == 4 and other.held([first, second, third]) == {
        first,
        second,
    }
    with pytest.raises(Missing):
        other.load(third)


def test_all_that_a_task_makes_is_one_file_or_none(address: StoreAddress) -> None:
    store, keys = Store(address), names(300)
    with store.together():
        for number, key in enumerate(keys):
            store.save(key, {"x": np.arange(number)})
        assert len(store.load(keys[7])["x"]) == 7
        assert Store(address).size().files == 0
    with pytest.raises(KeyboardInterrupt), store.together():
        store.save(content_key("never"), {"x": np.arange(3)})
        raise KeyboardInterrupt
    size = Store(address).size()
    assert (size.artefacts, size.files) == (300, 1)
    # 300 rows of an index are more than a first look reads.
    assert [len(Store(address).load(key)["x"]) for key in keys[::77]] == [0, 77, 154, 231]
    assert list(store) == sorted(keys)


def test_who_makes_the_same_again_writes_the_same_file(tmp_path: Path) -> None:
    made = []
    for folder in ("one", "two"):
        store = Store(tmp_path / folder)
        with store.together():
            for key in names(3):
                store.save(key, {"x": np.arange(3)})
        (path,) = packs(store)
        made.append((path.name, path.read_bytes()))
    assert made[0] == made[1]


def test_a_task_that_takes_long_or_makes_much_is_written_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, keys = Store(tmp_path), names(5)
    monkeypatch.setattr(store_module, "LARGE", 2500)
    with store.together():
        for key in keys:
            store.save(key, {"x": np.zeros(100)})  # about 1,050 bytes each
    assert store.size()[:2] == (5, 2)
    monkeypatch.setattr(store_module, "LONG", 0.0)
    store = Store(tmp_path / "late")
    with store.together():
        for key in keys[:2]:
            store.save(key, {"x": np.zeros(1)})
    assert store.size()[:2] == (2, 2)


def test_any_damage_is_noticed_and_costs_no_other_artefact(tmp_path: Path) -> None:
    """A flipped bit in each byte of a file: arrays, archive headers, checksums, index and tail."""
    folder, keys = tmp_path / "store", names(2)
    store = Store(folder)
    with store.together():
        store.save(keys[0], {"x": np.arange(9)})
        store.save(keys[1], {"y": np.zeros((2, 2))})
    (path,) = packs(store)
    whole = path.read_bytes()
    end = len(whole) - 2 * 40 - 48
    lost = []
    for position in (*range(0, end, 7), *range(end, len(whole))):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        for old in packs(store):
            old.unlink()
        path.write_bytes(damaged)
        fresh = Store(folder)
        missing = []
        for key in keys:
            try:
                fresh.load(key)
            except Missing:
                missing.append(key)
        assert missing
        lost.append(len(missing))
        assert not Store(folder).held(missing) and not Store(folder).verify()
    assert set(lost[: -len(whole) + end]) == {1} and set(lost[-len(whole) + end :]) == {2}
    # Files that were exchanged, or cut off.
    for size in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert Store(folder).held(keys) == set() and not path.exists()


def test_an_artefact_that_is_damaged_after_it_was_looked_at(address: StoreAddress) -> None:
    store, keys = Store(address), names(3)
    with store.together():
        for key in keys:
            store.save(key, {"x": np.arange(100)})
    name = only_file(store)
    data = bytearray(read(store, name))
    data[len(data) // 2] ^= 1
    store._files.write(name, bytes(data))
    with pytest.raises(Missing):
        store.load(keys[1])
    assert keys[1] not in store and only_file(store) != name
    assert all(len(Store(address).load(key)["x"]) == 100 for key in (keys[0], keys[2]))
    store.save(keys[1], {"x": np.arange(100)})
    assert Store(address).held(keys) == set(keys)
    store._files.write(next(iter(store._files.names())), b"")
    assert len(Store(address).verify()) == 1


def test_a_file_that_another_process_wrote_anew_is_found(tmp_path: Path) -> None:
    first, second, keys = Store(tmp_path), Store(tmp_path), names(3)
    with first.together():
        for key in keys:
            first.save(key, {"x": np.arange(5)})
    assert second.held(keys) == set(keys)
    first.remove([keys[0]])
    assert second.load(keys[1])["x"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(Missing):
        second.load(keys[0])


def test_what_another_machine_wrote_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared folder may show a file late."""
    (key,) = names(1)
    Store(tmp_path).save(key, {"x": np.arange(3)})
    store, shown = Store(tmp_path, patience=30.0), StoreFiles.names
    hidden = iter([True, True, False])
    monkeypatch.setattr(StoreFiles, "names", lambda self: set() if next(hidden) else shown(self))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert store.load(key)["x"].tolist() == [0, 1, 2]


def test_a_damaged_artefact_that_stays_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (key,) = Store(tmp_path), names(1)
    store.save(key, {"x": np.arange(3)})
    packs(store)[0].write_bytes(b"")

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(store._files._system, "rm_file", refuse)
    with pytest.raises(UserError, match=r"pack' of .*cannot be removed: Permission denied"):
        store.load(key)


def test_a_store_is_measured_and_cleared_of_nothing_but_artefacts(tmp_path: Path) -> None:
    store, keys = Store(tmp_path / "store"), names(3)
    assert store.size() == store.clear() == (0, 0, 0)
    for key in keys:
        store.save(key, {"x": np.arange(3)})
    others = [tmp_path / "store" / "mine.txt", tmp_path / "store" / "x.pack"]
    for path in others:
        path.write_bytes(b"mine")
    written = sum(path.stat().st_size for path in packs(store)) - 4
    assert store.size() == (3, 3, written - 3 * 88)  # but for indices
    assert store.bytes_of(keys[:2]) == (written - 3 * 88) * 2 // 3
    assert store.clear()[:2] == (3, 3)
    assert store.size() == (0, 0, 0)
    assert all(path.is_file() for path in others)


def test_stores_are_merged_and_damage_is_found(address: StoreAddress, tmp_path: Path) -> None:
    here, there = Store(address), Store(tmp_path / "there")
    same, new, different, damaged = names(4)
    here.save(same, {"x": np.arange(3)})
    here.save(different, {"x": np.arange(4)})
    before = set(packs(there))
    for key, value in ((same, 3), (new, 5), (different, 6), (damaged, 7)):
        there.save(key, {"x": np.arange(value)})
        (path,) = set(packs(there)) - before
        before.add(path)
    path.write_bytes(b"?" + path.read_bytes()[1:])
    assert here.merge(there) == Merged(new=1, same=1, different=1, damaged=1)
    assert here.load(new)["x"].tolist() == [0, 1, 2, 3, 4]
    assert here.load(different)["x"].tolist() == [0, 1, 2, 3]  # what was here stays
    assert list(here) == sorted([same, new, different]) and here.verify() == []


def test_artefacts_of_the_time_when_each_had_a_file_are_read_and_joined(tmp_path: Path) -> None:
    old, keys = tmp_path / "old", names(3)
    for number, key in enumerate(keys):
        buffer = io.BytesIO()
        np.savez(buffer, x=np.arange(number))
        data = buffer.getvalue()
        path = old / key[:2] / f"{key}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data + hashlib.sha256(key.encode() + data).digest())
    store = Store(old)
    assert store.held(keys) == set(keys) and store.size()[:2] == (3, 3)
    assert [len(store.load(key)["x"]) for key in keys] == [0, 1, 2]
    new = Store(tmp_path / "new")
    path.write_bytes(path.read_bytes()[:-1])
    assert new.merge(store) == Merged(new=2, same=0, different=0, damaged=1)
    assert new.size()[:2] == (2, 1)
    assert Store(old).verify() == [keys[2]] and not path.exists()
    Store(old).clear()
    assert not list(old.rglob("*.npz"))


def test_a_store_that_cannot_be_reached_is_one_clear_message(bucket: str) -> None:
    store, (key,) = Store("s3://nowhere/store"), names(1)
    assert store.size() == (0, 0, 0)
    with pytest.raises(UserError, match=r"'s3://nowhere/store' cannot be reached: .*no such"):
        store.save(key, {"x": np.arange(3)})
    with pytest.raises(UserError, match=r"'xyz://a' cannot be opened: Protocol not known: xyz"):
        Store("xyz://a")


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead, here, now = int(gone.stdout), os.getpid(), time.time()
    folder = tmp_path
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
