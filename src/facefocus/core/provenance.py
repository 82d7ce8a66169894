"""Versions and machine of a run: enough to repeat it, nothing that identifies its user."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_LIBRARIES = ("torch", "numpy", "polars", "scipy", "opencv-python-headless", "openvino", "pillow")


def environment() -> dict[str, Any]:
    """Versions, machine and threads of this process."""
    import torch

    return {
        # Where nothing can be installed it runs from its source.
        "facefocus": _version("facefocus") or "source",
        "python": platform.python_version(),
        "libraries": {name: release for name in _LIBRARIES if (release := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's model name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a device, not a path
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
