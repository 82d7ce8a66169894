"""Downloads from a server on this machine, and weights that the user brings."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from facefocus.errors import UserError
from facefocus.models import zoo

TINY = {
    "title": "Tiny IResNet",
    "architecture": "iresnet",
    "options": {"depth": 18, "width": 2, "embedding": 4, "final_size": [1, 1]},
    "preprocessing": {"size": [16, 16], "mean": 127.5, "std": 127.5},
    "training": "nothing",
    "data": "synthetic",
    "source": "these tests",
    "license": "research only",
    "commercial": "no",
    "file": "tiny/backbone.safetensors",
    "aliases": ["TINY"],
}


def content() -> bytes:
    torch.manual_seed(5)
    return save(zoo.Entry.model_validate(TINY).build().state_dict())


@dataclass
class Server:
    """What the server has, how it misbehaves, and what it was asked."""

    url: str = ""
    data: bytes = b""
    ranges: bool = True
    break_after: int | None = None
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if self.path != "/weights" or start >= len(state.data):
                self.send_error(404 if self.path != "/weights" else 416)
                return
            body = state.data[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if state.break_after is None else body[: state.break_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{running.server_port}/weights"
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield state
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FACEFOCUS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facefocus.locations.cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def know(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    entries = {"tiny": zoo.Entry.model_validate(TINY | changes)}
    monkeypatch.setattr(zoo, "_packaged", lambda: entries)


def yes(_: str) -> bool:
    return True


def test_a_download_is_verified_and_loads(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.data = content()
    know(monkeypatch, url=server.url, sha256=hashlib.sha256(server.data).hexdigest())
    shown: list[str] = []
    steps: list[tuple[str, int, int]] = []

    def confirm(terms: str) -> bool:
        assert server.asked == [], "the license comes first"
        shown.append(terms)
        return True

    path, notes = zoo.fetch("TINY", confirm=confirm, progress=lambda *step: steps.append(step))
    assert shown == ["Tiny IResNet: research only. Commercial use is NOT allowed."]
    assert path == cache / "models/tiny/backbone.safetensors"
    assert path.read_bytes() == server.data
    assert notes == ()
    assert steps[-1] == ("fetch", len(server.data), len(server.data))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    assert zoo.load("tiny").embed(frames).shape == (2, 4)
    again, notes = zoo.fetch("tiny", confirm=confirm)
    assert again == path
    assert "is here already" in notes[0]
    assert len(server.asked) == 1


def test_a_refused_license_fetches_nothing(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, url=server.url)
    with pytest.raises(UserError, match="'tiny' was not fetched: its license was not accepted"):
        zoo.fetch("tiny", confirm=lambda terms: False)
    assert server.asked == []
    assert not cache.exists()


def test_a_license_that_allows_commerce_asks_nothing(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.data = content()
    know(monkeypatch, url=server.url, commercial="yes")

    def never(terms: str) -> bool:
        raise AssertionError(terms)

    assert zoo.fetch("tiny", confirm=never)[0] is not None


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    server.data, server.break_after, server.ranges = content(), 1000, ranges
    know(monkeypatch, url=server.url, sha256=hashlib.sha256(server.data).hexdigest())
    with pytest.raises(UserError, match=r"could not be fetched.*goes on where it stopped"):
        zoo.fetch("tiny", confirm=yes)
    folder = cache / "models/tiny"
    assert [entry.name for entry in folder.iterdir()] == ["backbone.safetensors.part"]
    server.break_after = None
    path, _ = zoo.fetch("tiny", confirm=yes)
    assert path is not None
    assert path.read_bytes() == server.data
    assert server.asked == [None, "bytes=1000-"]


def test_a_part_of_another_file_is_begun_anew(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.data = content()
    know(monkeypatch, url=server.url)
    part = cache / "models/tiny/backbone.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(server.data) + 7))
    path, _ = zoo.fetch("tiny", confirm=yes)
    assert path is not None
    assert path.read_bytes() == server.data
    assert server.asked == [f"bytes={len(server.data) + 7}-", None]


def test_another_file_is_refused_and_removed(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.data = content()
    know(monkeypatch, url=server.url, sha256="0" * 64)
    with pytest.raises(UserError, match="is not the expected one: its sha256 is not 000"):
        zoo.fetch("tiny", confirm=yes)
    know(monkeypatch, url=server.url)
    server.data = save({"a": torch.ones(2)})
    with pytest.raises(UserError, match="do not fit iresnet"):
        zoo.fetch("tiny", confirm=yes)
    assert list((cache / "models/tiny").iterdir()) == []


def test_a_missing_page_is_one_line(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, url=server.url + "-gone")
    with pytest.raises(UserError, match=r"weights-gone' could not be fetched: HTTP Error 404") as e:
        zoo.fetch("tiny", confirm=yes)
    assert "\n" not in str(e.value)


def test_a_mirrors_hash_is_a_hint(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.data = content()
    know(monkeypatch, url=server.url, mirror_sha256="0" * 64)
    path, notes = zoo.fetch("tiny", confirm=yes)
    assert path is not None
    assert notes == (f"Its sha256 differs from a mirror's copy ({'0' * 64}).",)
    path.unlink()
    know(monkeypatch, url=server.url, mirror_sha256=hashlib.sha256(server.data).hexdigest())
    assert zoo.fetch("tiny", confirm=yes)[1] == ()


def test_share_pages_are_explained(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, page="https://example.org/share")
    path, lines = zoo.fetch("tiny", confirm=yes)
    assert path is None
    assert lines == (
        "Tiny IResNet: research only. Commercial use is NOT allowed.",
        "There is no direct link to these weights.",
        "Open https://example.org/share and get tiny/backbone.safetensors.",
        "Then run: facefocus models add tiny FILE",
    )
    with pytest.raises(UserError, match="Get them by: facefocus models fetch tiny"):
        zoo.load("tiny")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_the_user_is_added(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Whatever it was called: the copy has the zoo's name."""
    know(monkeypatch, file="tiny/backbone.pth")
    torch.manual_seed(5)
    state = zoo.describe("tiny").build().state_dict()
    state["logits.weight"] = torch.ones(3, 4)
    mine = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(state, mine)
    else:
        save_file(state, mine)
    path, lines = zoo.add("TINY", mine)
    assert path == cache / "models/tiny/backbone.pth"
    assert path.read_bytes() == mine.read_bytes()
    assert list(path.parent.iterdir()) == [path]
    assert "NOT allowed" in lines[0]
    assert lines[1] == "Left out, since the network has no such tensors: 'logits.weight'."
    assert zoo.load("tiny").embed(np.zeros((1, 16, 16, 3), np.uint8)).shape == (1, 4)


def test_a_wrong_file_is_not_added(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, sha256="1" * 64)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(content())
    with pytest.raises(UserError, match="fits Tiny IResNet but is not its published file"):
        zoo.add("tiny", mine)
    mine.write_bytes(content()[:500])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        zoo.add("tiny", mine)
    assert not cache.exists()


def reading(name: str) -> dict[str, object]:
    return dict(zoo.describe(name).preprocessing)


def test_weights_under_a_name_of_the_users_own(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch)
    monkeypatch.setitem(zoo.NETWORKS, "tinynet", "tiny")
    mine, other = tmp_path / "epoch 9.PTH.TAR", tmp_path / "other.bin"
    state = zoo.describe("tiny").build().state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, mine)
    torch.save({key: value + 1 for key, value in state.items()}, other)
    words = {"channels": "bgr", "mean": [1, 2, 3]}
    path, lines = zoo.add("mine", mine, architecture="tinynet", preprocessing=words)
    assert path == cache / "models/own/mine.weights"
    assert lines[0].startswith("mine, from epoch 9.PTH.TAR: not stated.")
    assert reading("mine") == {"size": [16, 16], "std": 127.5} | words
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    first = zoo.load("mine").embed(frames)
    with pytest.raises(UserError, match=r"'mine' has other weights already: .*--force"):
        zoo.add("mine", other, architecture="tinynet")
    assert np.array_equal(zoo.load("mine").embed(frames), first)
    zoo.add("mine", mine, architecture="tinynet")  # The same file is no other.
    zoo.add("mine", other, architecture="tiny", force=True)
    assert not np.allclose(zoo.load("mine").embed(frames), first)
    assert reading("mine") == TINY["preprocessing"]
    assert zoo.names() == ["tiny", "mine"]


def test_weights_alone_are_told_what_they_fit(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch)
    mine, strange = tmp_path / "mine.safetensors", tmp_path / "strange.pth"
    mine.write_bytes(content())
    torch.save({"a.weight": torch.ones(2)}, strange)
    for call in (lambda: zoo.load(str(mine)), lambda: zoo.add("mine", mine)):
        with pytest.raises(UserError, match="They fit tiny") as caught:
            call()
        assert f"models add mine {mine} --architecture tiny, then name 'mine'" in str(caught.value)
    with pytest.raises(UserError, match="fit no network that is known here"):
        zoo.load(str(strange))


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("a/b", {}, "must be new, of letters, digits, - and _. Got 'a/b'"),
        ("mine.onnx", {}, "must be new, of letters"),
        ("mine", {"architecture": "iresnet51"}, "Got 'iresnet51'. Did you mean 'iresnet50'"),
        ("mine", {"preprocessing": {"std": 0}}, "'std' of preprocessing must be positive"),
        ("tiny", {"architecture": "tiny"}, "the preprocessing of 'tiny' are known"),
    ],
)
def test_wrong_names_and_words_of_own_weights(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    words: dict[str, Any],
    message: str,
) -> None:
    know(monkeypatch)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(content())
    with pytest.raises(UserError, match=message):
        zoo.add(name, mine, **{"architecture": "tiny"} | words)
    assert not cache.exists()


def test_a_damaged_record_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "models/own").mkdir(parents=True)
    (cache / "models/own/mine.json").write_text("{")
    with pytest.raises(UserError, match=r"record '.*mine.json' of an added .* damaged. Delete it"):
        zoo.load("mine")
