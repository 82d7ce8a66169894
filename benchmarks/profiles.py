"""W10: where the time of whole jobs goes, as ``facefocus status RUN --profile`` tells it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.run import find_faceset, open_or_make_faceset, run_experiment
from facefocus.benchmark.run_profile import run_profile
from facefocus.core.errors import UserError
from facefocus.report.page import write_report

Row = dict[str, Any]

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
#: People of each experiment: few, so that it takes minutes; with more, stages take a larger part.
QUICK, METHODS = 20, 2
#: Drawn people, and the embedded recognizer that they are shown to.
DRAWN, EMBEDDED = "synthetic-all", "iresnet-mini-all"


def w10() -> list[Row]:
    """Where the time goes, from the start of a program to its page."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = [_demo(root)]
        drawn = open_or_make_faceset(DRAWN, root / "faces")
        rows.append(_experiment("quick", drawn, QUICK, root, EMBEDDED))
        rows.append(_experiment("methods", drawn, METHODS, root, EMBEDDED))
        with suppress(UserError):  # neither these faces nor weights come with the package
            rows.append(_experiment("quick", find_faceset("lfw"), QUICK, root, None))
    return rows


def _demo(root: Path) -> Row:
    words = ("demo", "--out", str(root / "demo"), "--store", str(root / "demo-store"))
    done = subprocess.run(
        [sys.executable, "-m", "facefocus.cli", *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"facefocus demo failed:\n{done.stderr[-2000:]}")
    return _row("facefocus demo", root / "demo")


def _experiment(name: str, faces: Path, people: int, root: Path, model: str | None) -> Row:
    """An experiment with few people, on a recognizer of its own or another one."""
    data = tomllib.loads((EXPERIMENTS / f"{name}.toml").read_text(encoding="utf-8"))
    data["faces"] |= {"set": faces.name, "identities": people}
    if model is not None:
        data["recognizers"] = {"source": model}
    run = root / f"{name}-{faces.name}"
    run_experiment(parse_experiment(data), faces=faces, out=run, store=root / f"{run.name}-store")
    write_report(run)
    shown = data["recognizers"]["source"]
    return _row(f"{name}.toml, {people} people of {faces.name}, {shown}", run)


def _row(what: str, run: Path) -> Row:
    return {"what": what, "parts": [asdict(part) for part in run_profile(run)]}
