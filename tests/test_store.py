from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from facefocus.errors import UserError
from facefocus.files import write_atomically
from facefocus.store import Store, content_key


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
    with pytest.raises(KeyError):
        store.load("ab12")
    assert "ab12" not in store


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
