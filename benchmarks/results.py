"""Results on disk, a folder for each machine and in it a file for each workload."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from facefocus.core.files import write_atomically
from facefocus.core.provenance import environment, now


class Results:
    """``MACHINE/w1.json`` ... ``w11.json``: what is there need not run again.

    Beside them ``card.json``, which `benchmarks.on_card` writes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, name: str, rows: list[dict[str, Any]], seconds: float) -> None:
        kept: dict[str, Any] = {
            "workload": name,
            "machine": machine(),
            "finished": now(),
            "seconds": seconds,
            # Above the number of cores, others were at work: times are then too long.
            "load": os.getloadavg()[0],
            "rows": rows,
        }
        text = json.dumps(kept, indent=2) + "\n"
        folder = self._folder / folder_of(kept["machine"])
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{name}.json", lambda file: file.write(text.encode()))

    def machines(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Results of every machine by the name of its folder, by workload, in order."""
        by_machine: dict[str, dict[str, dict[str, Any]]] = {}
        for file in sorted(self._folder.glob("*/*.json"), key=_order):
            kept = json.loads(file.read_text(encoding="utf-8"))
            by_machine.setdefault(file.parent.name, {})[file.stem] = kept
        return by_machine

    def all(self) -> dict[str, dict[str, Any]]:
        """Those of this machine, by workload, in order."""
        by_workload = self.machines().get(folder_of(machine()), {})
        return {name: kept for name, kept in by_workload.items() if name.startswith("w")}

    def fresh(self, name: str) -> bool:
        """Whether there are results of this machine and these versions."""
        kept = self.all().get(name)
        return kept is not None and kept["machine"] == machine()


def _order(file: Path) -> tuple[str, int, str]:
    """By machine, and within one W2 before W10."""
    digits = file.stem.lstrip("w")
    return file.parent.name, int(digits) if digits.isdigit() else 0, file.stem


def machine() -> dict[str, Any]:
    """What results depend on, with the card where there is one."""
    import torch

    card = {"card": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return environment() | card


def folder_of(machine: dict[str, Any]) -> str:
    """The name of a machine's folder.

    Example:
        >>> folder_of({"processor": "AMD EPYC", "cores": 2})
        'amd-epyc-2-cores'
    """
    text = f"{machine.get('card', machine['processor'])} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
