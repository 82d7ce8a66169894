"""Results on disk, one file for each workload, with the machine they were measured on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from facefocus.core.files import write_atomically
from facefocus.core.provenance import environment, now


class Results:
    """A folder of ``w1.json`` ... ``w6.json``: what is there need not run again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, name: str, rows: list[dict[str, Any]], seconds: float) -> None:
        kept = {
            "workload": name,
            "machine": environment(),
            "finished": now(),
            "seconds": seconds,
            # Above the number of cores, others were at work: times are then too long.
            "load": os.getloadavg()[0],
            "rows": rows,
        }
        text = json.dumps(kept, indent=2) + "\n"
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / f"{name}.json", lambda file: file.write(text.encode()))

    def all(self) -> dict[str, dict[str, Any]]:
        """By workload, in order."""
        files = sorted(self._folder.glob("w*.json"))
        return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}

    def fresh(self, name: str) -> bool:
        """Whether there are results of this machine and these versions."""
        found = self.all().get(name)
        return found is not None and found["machine"] == environment()
