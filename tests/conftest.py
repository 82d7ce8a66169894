"""Shapes and types of every public function are enforced while the tests run."""

import atexit
import gc
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Tiny tensors on many threads spend their time waiting; tests of thread counts set their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests change the folder they run in.
if os.environ.get("FACEFOCUS_DATA"):
    os.environ["FACEFOCUS_DATA"] = str(Path(os.environ["FACEFOCUS_DATA"]).resolve())

# The store that runs share: never the user's.
os.environ["FACEFOCUS_STORE"] = tempfile.mkdtemp(prefix="facefocus-store-")

import jaxtyping
from hypothesis import settings

from tests.type_checks import checked

jaxtyping.jaxtyped = checked  # type: ignore[assignment]
jaxtyping.install_import_hook("facefocus", "beartype.beartype")
# A busy machine is no fault of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
atexit.register(shutil.rmtree, os.environ["FACEFOCUS_STORE"], ignore_errors=True)


def pytest_collection_finish() -> None:
    """Leave the libraries' millions of objects out of every later search for garbage."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Done:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """A command in this process, with no data and an empty cache: quicker than a new one."""
    monkeypatch.setenv("FACEFOCUS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FACEFOCUS_STORE")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Done:
        from facefocus.cli import main

        monkeypatch.setattr(sys, "argv", ["facefocus", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of a bucket on an S3 server of this machine."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "me")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        files = fsspec.filesystem("s3")
        files.mkdir("bucket")
        yield "s3://bucket"
        files.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="session")
def google_bucket() -> Iterator[str]:
    """The URL of a bucket on a Google Cloud Storage server of this machine."""
    import fsspec
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    host, port = server._api._httpd.server_address
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
        # The server speaks HTTP alone; by default gcsfs asks by gRPC first, for a minute.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        patch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        files = fsspec.filesystem("gs")
        yield "gs://bucket"
        files.clear_instance_cache()
    server.stop()
