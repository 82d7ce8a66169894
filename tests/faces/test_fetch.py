from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facefocus.errors import UserError
from facefocus.faces import fetch
from facefocus.faces.fetch import RemoteFile, fetch_file, fetch_lfw
from facefocus.faces.lfw import prepare_lfw
from tests.faces.pictures import archive, contents, encoded, pixels

# Large enough for several blocks, so that a break comes in the middle.
DATA = np.random.default_rng(0).bytes(1_000_000)


@dataclass
class Site:
    """What a server holds and does; `breaks` are bytes of an answer after which it hangs up."""

    files: dict[str, bytes]
    breaks: list[int] = field(default_factory=list)
    ranges: bool = True
    tag: str = '"v1"'
    encoding: str = ""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted, request.headers.get("If-Range")))
        data = self.files.get(request.path)
        if data is None:
            request.send_error(404)
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and self.ranges else 0
        if request.headers.get("If-Range") not in (None, self.tag):
            start = 0
        if start >= len(data):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(data)}")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.send_header("ETag", self.tag)
        if self.encoding:
            request.send_header("Content-Encoding", self.encoding)
        request.end_headers()
        length = self.breaks.pop(0) if self.breaks else len(data)
        request.wfile.write(data[start : start + length])


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    # A proxy of the machine must not come between the test and its own server.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(site: Site) -> Site:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        started.append((server, thread))
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        return site

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def remote(*sites: Site, data: bytes = DATA, pinned: bool = True) -> RemoteFile:
    sha256 = hashlib.sha256(data).hexdigest() if pinned else None
    return RemoteFile("x.tgz", tuple(f"{site.url}/x" for site in sites), sha256)


def test_a_file_comes_whole_and_verified_and_nothing_else_stays(serve: Any, tmp_path: Path) -> None:
    site = serve(Site({"/x": DATA}))
    steps: list[tuple[str, int, int]] = []
    fetched = fetch_file(remote(site), tmp_path / "new" / "in", progress=lambda *s: steps.append(s))
    assert contents(tmp_path) == {"new/in/x.tgz": DATA}
    assert fetched.path == tmp_path / "new" / "in" / "x.tgz"
    assert (fetched.sha256, fetched.verified) == (hashlib.sha256(DATA).hexdigest(), True)
    assert steps[-1] == ("x.tgz", 1_000_000, 1_000_000)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_a_file_that_is_there_is_not_asked_for_again(serve: Any, tmp_path: Path) -> None:
    site = serve(Site({"/x": DATA}))
    fetch_file(remote(site), tmp_path)
    assert fetch_file(remote(site), tmp_path).verified
    assert len(site.asked) == 1


def test_a_file_of_another_content_is_replaced(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(b"<html>login</html>")
    fetch_file(remote(serve(Site({"/x": DATA}))), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


def test_nothing_is_unpacked_on_the_way(serve: Any, tmp_path: Path) -> None:
    # Some servers call a .tgz an encoding of a .tar, and clients unpack it.
    fetch_file(remote(serve(Site({"/x": DATA}, encoding="gzip"))), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


# Broken off


def test_a_broken_transfer_goes_on_where_it_stopped(serve: Any, tmp_path: Path) -> None:
    site = serve(Site({"/x": DATA}, breaks=[300_000, 250_000]))
    fetch_file(remote(site), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert [asked for _, asked, _ in site.asked] == [None, "bytes=300000-", "bytes=550000-"]


def test_a_later_call_goes_on_where_an_earlier_one_stopped(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(Site({"/x": DATA}, breaks=[300_000]))
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "ATTEMPTS", 1)
        with pytest.raises(UserError, match="What came so far is kept"):
            fetch_file(remote(site), tmp_path)
    assert (tmp_path / "x.tgz.part").read_bytes() == DATA[:300_000]
    assert not (tmp_path / "x.tgz").exists()
    steps: list[int] = []
    fetch_file(remote(site), tmp_path, progress=lambda _, done, total: steps.append(done - total))
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert site.asked[-1][1] == "bytes=300000-"
    assert steps[0] > -700_000
    assert steps[-1] == 0


def test_another_mirror_goes_on_where_the_first_broke_off(serve: Any, tmp_path: Path) -> None:
    first, second = serve(Site({"/x": DATA}, breaks=[300_000, 0])), serve(Site({"/x": DATA}))
    fetch_file(remote(first, second), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert [asked for _, asked, _ in second.asked] == ["bytes=300000-"]


def test_a_server_without_ranges_begins_again(serve: Any, tmp_path: Path) -> None:
    site = serve(Site({"/x": DATA}, breaks=[300_000], ranges=False))
    fetch_file(remote(site), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


def test_a_part_that_is_the_whole_file(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "x.tgz.part").write_bytes(DATA)
    site = serve(Site({"/x": DATA}))
    fetch_file(remote(site), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert len(site.asked) == 1


def test_a_part_longer_than_the_file_is_of_another_file(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "x.tgz.part").write_bytes(DATA + b"x")
    fetch_file(remote(serve(Site({"/x": DATA}))), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


def test_a_part_of_another_file_is_given_up(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "x.tgz.part").write_bytes(b"another")
    first, second = serve(Site({"/x": DATA})), serve(Site({"/x": DATA}))
    fetch_file(remote(first, second), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


# Without a published hash


@pytest.fixture
def tgz(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    files = {"lfw/Al/Al_0001.jpg": encoded(pixels(1, 400, 400))}
    return archive(tmp_path_factory.mktemp("tgz") / "x.tgz", files).read_bytes()


def test_without_a_hash_it_says_so(serve: Any, tmp_path: Path, tgz: bytes) -> None:
    fetched = fetch_file(remote(serve(Site({"/x": tgz})), pinned=False), tmp_path)
    assert (fetched.sha256, fetched.verified) == (hashlib.sha256(tgz).hexdigest(), False)
    expected = f"sha256 {fetched.sha256} (not verified: no sha256 of it is published)"
    assert fetched.line().endswith(expected)


@pytest.mark.parametrize("tag", ['"v1"', '"v2"', 'W/"v1"'])
def test_without_a_hash_only_the_same_version_goes_on(
    serve: Any, tmp_path: Path, tgz: bytes, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    new = archive(tmp_path / "new", {"a": tgz}).read_bytes()
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    weak = tag.startswith("W/")
    site = serve(Site({"/x": tgz}, breaks=[100_000], tag=tag if weak else '"v1"'))
    with pytest.raises(UserError, match="What came so far is kept"):
        fetch_file(remote(site, pinned=False), tmp_path / "out")
    site.tag, site.files["/x"] = tag, tgz if tag == '"v1"' else new
    fetch_file(remote(site, pinned=False), tmp_path / "out")
    assert contents(tmp_path / "out") == {"x.tgz": site.files["/x"]}
    expected = (None, None) if weak else ("bytes=100000-", '"v1"')
    assert site.asked[-1][1:] == expected


def test_a_login_page_is_no_archive(serve: Any, tmp_path: Path) -> None:
    site = serve(Site({"/x": b"<html>Please log in</html>"}))
    with pytest.raises(UserError, match="what came is no archive"):
        fetch_file(remote(site, pinned=False), tmp_path)
    assert contents(tmp_path) == {}


# Failures


def test_a_wrong_hash_names_both_and_removes_the_file(serve: Any, tmp_path: Path) -> None:
    site = serve(Site({"/x": b"other"}))
    with pytest.raises(UserError) as caught:
        fetch_file(remote(site), tmp_path)
    message = str(caught.value)
    assert hashlib.sha256(DATA).hexdigest() in message
    assert hashlib.sha256(b"other").hexdigest() in message
    assert "is kept" not in message
    assert contents(tmp_path) == {}


def test_the_next_mirror_is_tried(serve: Any, tmp_path: Path) -> None:
    empty, wrong = serve(Site({})), serve(Site({"/x": b"other"}))
    right = serve(Site({"/x": DATA}))
    fetch_file(remote(empty, wrong, right), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert [len(site.asked) for site in (empty, wrong, right)] == [1, 1, 1]


def test_without_a_network_the_mirrors_and_the_way_by_hand_are_named(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = serve(Site({}))
    # A port that is taken, and on which nobody listens.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = Site({}, url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UserError) as caught:
            fetch_file(remote(closed, missing), tmp_path)
    assert str(caught.value) == (
        f"'x.tgz' cannot be downloaded. Tried {closed.url}/x (no connection), "
        f"{missing.url}/x (404 Not Found). "
        f"Or get it by other means and put it at '{tmp_path / 'x.tgz'}'."
    )
    assert contents(tmp_path) == {}
    assert capsys.readouterr() == ("", "")


def test_a_folder_that_cannot_be_written(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"Cannot write '.*file/x.tgz'"):
        fetch_file(remote(serve(Site({"/x": DATA}))), tmp_path / "file")


def test_a_full_disk(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facefocus.faces.fetch.os.fsync", full)
    with pytest.raises(UserError, match=r"Cannot write '.*x.tgz': No space left on device"):
        fetch_file(remote(serve(Site({"/x": DATA}))), tmp_path)


# Labeled Faces in the Wild


def test_the_published_files() -> None:
    pins = {name: (file.name, file.sha256) for name, file in fetch.LFW_ARCHIVES.items()}
    assert pins == {
        "deepfunneled": ("lfw-deepfunneled.tgz", None),
        "funneled": (
            "lfw-funneled.tgz",
            "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
        ),
        "original": (
            "lfw.tgz",
            "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
        ),
    }
    official = "http://vis-www.cs.umass.edu/lfw/"
    assert fetch.LFW_ARCHIVES["original"].urls == (
        "https://ndownloader.figshare.com/files/5976018",
        f"{official}lfw.tgz",
    )
    for file in (*fetch.LFW_ARCHIVES.values(), fetch.LFW_PAIRS):
        assert file.urls[-1] == official + file.name


def test_pins_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import _lfw

    theirs = {(one.url, one.checksum) for one in (_lfw.ARCHIVE, _lfw.FUNNELED_ARCHIVE)}
    ours = {(file.urls[0], file.sha256) for name, file in fetch.LFW_ARCHIVES.items() if file.sha256}
    assert ours == theirs
    listed = {(one.url, one.checksum) for one in _lfw.TARGETS if one.filename == "pairs.txt"}
    assert {(fetch.LFW_PAIRS.urls[0], fetch.LFW_PAIRS.sha256)} == listed


def test_lfw_lies_as_prepare_looks_for_it(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {f"lfw/Al/Al_000{i}.jpg": encoded(pixels(i)) for i in (1, 2)}
    packed = archive(tmp_path / "packed", images).read_bytes()
    pairs = b"1 1\nAl 1 2\nAl 1 Bo 1\n"
    site = serve(Site({"/lfw.tgz": packed, "/pairs.txt": pairs}))
    archive_file = RemoteFile("lfw.tgz", (f"{site.url}/lfw.tgz",), None)
    sha256 = hashlib.sha256(pairs).hexdigest()
    monkeypatch.setitem(fetch.LFW_ARCHIVES, "original", archive_file)
    monkeypatch.setattr(
        fetch, "LFW_PAIRS", RemoteFile("pairs.txt", (f"{site.url}/pairs.txt",), sha256)
    )
    monkeypatch.setattr("facefocus.locations.cache_dir", lambda: tmp_path / "cache")
    report = fetch_lfw(which="original")
    assert contents(tmp_path / "cache") == {"lfw/lfw.tgz": packed, "lfw/pairs.txt": pairs}
    assert list(report.lines()) == [report.archive.line(), report.pairs.line()]
    prepared = prepare_lfw(report.archive.path, tmp_path / "out", align="none")
    assert (prepared.images, prepared.pairs, prepared.pairs_missing) == (2, 1, 1)


def test_a_wrong_name_of_an_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Got 'deep-funneled'. Did you mean 'deepfunneled'\?"):
        fetch_lfw(tmp_path, which="deep-funneled")
    assert contents(tmp_path) == {}
