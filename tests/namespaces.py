"""Two hosts in network namespaces of this machine, with a link between them that can be cut."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Host:
    """A host.

    Attributes:
        name: Of its namespace, and of its end of the link.
        address: By which the other one reaches it.
    """

    name: str
    address: str
    _started: list[subprocess.Popen[Any]] = field(default_factory=list)

    @property
    def before(self) -> list[str]:
        """What stands before a command that runs there."""
        return ["ip", "netns", "exec", self.name]

    def start(self, call: list[str], **options: Any) -> None:
        """Start a program there, which is killed at the end."""
        quiet = subprocess.DEVNULL
        started = subprocess.Popen([*self.before, *call], stdout=quiet, stderr=quiet, **options)
        self._started.append(started)

    def end(self) -> None:
        """Kill what runs there, and remove it."""
        for process in _ip("netns", "pids", self.name).split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        for started in self._started:
            started.wait(20)
        _ip("netns", "delete", self.name)

    def cut(self) -> None:
        """Cut its link, without a word to anybody: packets are lost from now on."""
        _ip("-n", self.name, "link", "set", self.name, "down")


def why_no_namespaces() -> str | None:
    """Why there can be no namespaces here; None where there can."""
    if shutil.which("ip", path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
        return "Network namespaces need ip: apt-get install iproute2"
    if os.geteuid() != 0:
        return "Network namespaces need root"
    try:
        with two_hosts():
            return None
    except subprocess.CalledProcessError as error:
        return f"No network namespaces here: {error.stderr.strip()}"


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts; whatever still runs there at the end is killed."""
    hosts = tuple(Host(f"ff{os.getpid()}{end}", f"10.213.7.{n}") for n, end in ((1, "a"), (2, "b")))
    first, second = hosts
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        _ip("link", "add", first.name, "netns", first.name, "type", "veth",
            "peer", "name", second.name, "netns", second.name)  # fmt: skip
        for host in hosts:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.name)
            for device in ("lo", host.name):
                _ip("-n", host.name, "link", "set", device, "up")
        yield first, second
    finally:
        for host in hosts:
            with suppress(subprocess.CalledProcessError):
                host.end()


def _ip(*words: str) -> str:
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    done = subprocess.run(
        ["ip", *words], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout
