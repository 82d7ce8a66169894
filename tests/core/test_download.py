from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facefocus.core import download
from facefocus.core.download import RemoteFile, fetch_file
from facefocus.core.errors import UserError
from tests.faces.pictures import contents
from tests.server import Serve, Site, serving

# Large enough for several blocks, so that a break comes in the middle.
DATA = np.random.default_rng(0).bytes(1_000_000)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    # A proxy of the machine must not come between the test and its own server.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as start:
        yield start


def remote(*sites: Site, data: bytes = DATA, pinned: bool = True) -> RemoteFile:
    sha256 = hashlib.sha256(data).hexdigest() if pinned else None
    return RemoteFile("x.tgz", tuple(f"{site.url}/x" for site in sites), sha256)


def test_a_file_comes_whole_and_verified_and_nothing_else_stays(
    serve: Serve, tmp_path: Path
) -> None:
    site = serve(Site({"/x": DATA}))
    steps: list[tuple[str, int, int]] = []
    fetched = fetch_file(remote(site), tmp_path / "new" / "in", progress=lambda *s: steps.append(s))
    assert contents(tmp_path) == {"new/in/x.tgz": DATA}
    assert fetched.path == tmp_path / "new" / "in" / "x.tgz"
    assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()
    assert fetched.line().endswith("(as published)")
    assert steps[-1] == ("x.tgz", 1_000_000, 1_000_000)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_a_file_that_is_there_is_not_asked_for_again(serve: Serve, tmp_path: Path) -> None:
    site = serve(Site({"/x": DATA}))
    fetch_file(remote(site), tmp_path)
    assert fetch_file(remote(site), tmp_path).trust == "as published"
    assert len(site.asked) == 1


def test_a_file_of_another_content_is_replaced(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(b"<html>login</html>")
    fetch_file(remote(serve(Site({"/x": DATA}))), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


def test_nothing_is_unpacked_on_the_way(serve: Serve, tmp_path: Path) -> None:
    # Some servers call a .tgz an encoding of a .tar, and clients unpack it.
    fetch_file(remote(serve(Site({"/x": DATA}, encoding="gzip"))), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


# Broken off


def test_a_broken_transfer_goes_on_where_it_stopped(serve: Serve, tmp_path: Path) -> None:
    site = serve(Site({"/x": DATA}, breaks=[300_000, 250_000]))
    fetch_file(remote(site), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert [asked for _, asked, _ in site.asked] == [None, "bytes=300000-", "bytes=550000-"]


def test_a_later_call_goes_on_where_an_earlier_one_stopped(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(Site({"/x": DATA}, breaks=[300_000]))
    with monkeypatch.context() as patch:
        patch.setattr(download, "ATTEMPTS", 1)
        with pytest.raises(UserError, match="The part that arrived is kept"):
            fetch_file(remote(site), tmp_path)
    assert (tmp_path / "x.tgz.part").read_bytes() == DATA[:300_000]
    assert not (tmp_path / "x.tgz").exists()
    steps: list[int] = []
    fetch_file(remote(site), tmp_path, progress=lambda _, done, total: steps.append(done - total))
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert site.asked[-1][1] == "bytes=300000-"
    assert steps[0] > -700_000
    assert steps[-1] == 0


def test_another_mirror_goes_on_where_the_first_broke_off(serve: Serve, tmp_path: Path) -> None:
    first, second = serve(Site({"/x": DATA}, breaks=[300_000, 0])), serve(Site({"/x": DATA}))
    fetch_file(remote(first, second), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert [asked for _, asked, _ in second.asked] == ["bytes=300000-"]


def test_a_server_without_ranges_begins_again(serve: Serve, tmp_path: Path) -> None:
    site = serve(Site({"/x": DATA}, breaks=[300_000], ranges=False))
    fetch_file(remote(site), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


def test_a_part_that_is_the_whole_file(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "x.tgz.part").write_bytes(DATA)
    site = serve(Site({"/x": DATA}))
    fetch_file(remote(site), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert len(site.asked) == 1


def test_a_part_longer_than_the_file_is_of_another_file(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "x.tgz.part").write_bytes(DATA + b"x")
    fetch_file(remote(serve(Site({"/x": DATA}))), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


def test_a_part_of_another_file_is_given_up(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "x.tgz.part").write_bytes(b"another")
    first, second = serve(Site({"/x": DATA})), serve(Site({"/x": DATA}))
    fetch_file(remote(first, second), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}


# Without a published hash


def test_a_hash_that_nobody_publishes_is_kept(serve: Serve, tmp_path: Path) -> None:
    site, sha256 = serve(Site({"/x": DATA})), hashlib.sha256(DATA).hexdigest()
    fetched = fetch_file(remote(site, pinned=False), tmp_path)
    assert fetched.line() == (
        f"file {tmp_path / 'x.tgz'} sha256 {sha256} "
        "(the publisher states none: kept in x.tgz.sha256, and checked from now on)"
    )
    # As sha256sum writes and checks it.
    assert (tmp_path / "x.tgz.sha256").read_text() == f"{sha256}  x.tgz\n"
    again = fetch_file(remote(site, pinned=False), tmp_path)
    assert again.trust == "as at the first download; the publisher states none"
    assert len(site.asked) == 1


def test_another_file_than_at_the_first_download_is_refused(serve: Serve, tmp_path: Path) -> None:
    site = serve(Site({"/x": DATA}))
    fetch_file(remote(site, pinned=False), tmp_path)
    (tmp_path / "x.tgz").unlink()
    site.files["/x"] = b"other"
    with pytest.raises(UserError) as caught:
        fetch_file(remote(site, pinned=False), tmp_path)
    for sha256 in (hashlib.sha256(DATA).hexdigest(), hashlib.sha256(b"other").hexdigest()):
        assert sha256 in str(caught.value)
    note = tmp_path / "x.tgz.sha256"
    assert f"delete '{note}' to trust the new one" in str(caught.value)
    assert list(tmp_path.iterdir()) == [note]
    note.unlink()
    fetch_file(remote(site, pinned=False), tmp_path)
    assert (tmp_path / "x.tgz").read_bytes() == b"other"


def test_a_hash_by_somebody_else_is_named_as_such(serve: Serve, tmp_path: Path) -> None:
    site = serve(Site({"/x": DATA}))
    sha256 = hashlib.sha256(DATA).hexdigest()
    file = RemoteFile("x.tgz", (f"{site.url}/x",), sha256, pinned_by="scikit-learn")
    assert fetch_file(file, tmp_path).trust == "as scikit-learn has it"


@pytest.mark.parametrize("tag", ['"v1"', '"v2"', 'W/"v1"'])
def test_without_a_hash_only_the_same_version_goes_on(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    new = DATA[::-1]
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    weak = tag.startswith("W/")
    site = serve(Site({"/x": DATA}, breaks=[100_000], tag=tag if weak else '"v1"'))
    with pytest.raises(UserError, match="The part that arrived is kept"):
        fetch_file(remote(site, pinned=False), tmp_path / "out")
    site.tag, site.files["/x"] = tag, DATA if tag == '"v1"' else new
    fetch_file(remote(site, pinned=False), tmp_path / "out")
    assert (tmp_path / "out/x.tgz").read_bytes() == site.files["/x"]
    expected = (None, None) if weak else ("bytes=100000-", '"v1"')
    assert site.asked[-1][1:] == expected


def test_a_login_page_is_not_the_file(serve: Serve, tmp_path: Path) -> None:
    site = serve(Site({"/x": b"\n<html>Please log in</html>"}))
    with pytest.raises(UserError, match="the answer is a web page, not the file"):
        fetch_file(remote(site, pinned=False), tmp_path)
    assert contents(tmp_path) == {}


def test_proxies_of_the_environment_are_asked(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "http://files.example.invalid/x"
    proxy = serve(Site({address: DATA}))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    fetch_file(RemoteFile("x.tgz", (address,), hashlib.sha256(DATA).hexdigest()), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert [asked for asked, *_ in proxy.asked] == [address]


# Failures


def test_a_wrong_hash_names_both_and_removes_the_file(serve: Serve, tmp_path: Path) -> None:
    site = serve(Site({"/x": b"other"}))
    with pytest.raises(UserError) as caught:
        fetch_file(remote(site), tmp_path)
    message = str(caught.value)
    assert hashlib.sha256(DATA).hexdigest() in message
    assert hashlib.sha256(b"other").hexdigest() in message
    assert "is kept" not in message
    assert contents(tmp_path) == {}


def test_the_next_mirror_is_tried(serve: Serve, tmp_path: Path) -> None:
    empty, wrong = serve(Site({})), serve(Site({"/x": b"other"}))
    right = serve(Site({"/x": DATA}))
    fetch_file(remote(empty, wrong, right), tmp_path)
    assert contents(tmp_path) == {"x.tgz": DATA}
    assert [len(site.asked) for site in (empty, wrong, right)] == [1, 1, 1]


def test_without_a_network_the_mirrors_and_the_way_by_hand_are_named(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


def test_a_folder_that_cannot_be_written(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"Cannot write '.*file/x.tgz'"):
        fetch_file(remote(serve(Site({"/x": DATA}))), tmp_path / "file")


def test_a_full_disk(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facefocus.core.download.os.fsync", full)
    with pytest.raises(UserError, match=r"Cannot write '.*x.tgz': No space left on device"):
        fetch_file(remote(serve(Site({"/x": DATA}))), tmp_path)
