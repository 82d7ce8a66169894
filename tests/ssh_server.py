"""A server of SSH on this machine with keys of its own, started and stopped in a folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/sshd.pid
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
UsePAM no
SetEnv PYTHONPATH={path}
"""

CLIENT = """
Host {hosts}
  HostName 127.0.0.1
  HostKeyAlias here
  Port {port}
  IdentityFile {folder}/user
  UserKnownHostsFile {folder}/known
"""


def why_no_ssh() -> str | None:
    """Why no server of SSH can be started here; None where one can."""
    missing = [name for name in ("sshd", "ssh-keygen") if _which(name) is None]
    if missing:
        return f"SSH needs {', '.join(missing)}: apt-get install openssh-server"
    if find_spec("asyncssh") is None:
        return "Dask's SSH needs asyncssh"
    return None if os.geteuid() == 0 else "sshd needs root"


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


@contextmanager
def running_ssh(*hosts: str) -> Iterator[dict[str, str]]:
    """The environment in which SSH reaches this machine under each of some names."""
    with tempfile.TemporaryDirectory(prefix="ssh-") as name:
        folder = Path(name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for key in ("host", "user"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(make, check=True)
        path = os.environ.get("PYTHONPATH", "")
        text = SERVER.format(port=port, folder=folder, path=path or "/")
        (folder / "server").write_text(text)
        (folder / ".ssh").mkdir()
        text = CLIENT.format(hosts=" ".join(hosts), port=port, folder=folder)
        (folder / ".ssh" / "config").write_text(text)
        key = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"here {key}")
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd asks for it
        server = subprocess.Popen([str(_which("sshd")), "-D", "-e", "-f", str(folder / "server")])
        try:
            _until_it_answers(port)
            yield {**os.environ, "HOME": str(folder)}
        finally:
            server.terminate()
            server.wait(20)


def _until_it_answers(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("sshd does not answer")
