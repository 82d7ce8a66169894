"""The main job, start to end: an experiment file in, a run folder out.

A run folder holds ``run.json`` (what was asked, from the start), ``store/`` (artefacts) and, once
the run is through, ``results.parquet``, ``gallery.*``, ``experiment.toml``, ``provenance.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from facefocus.errors import UserError
from facefocus.experiment import load_experiment
from facefocus.files import write_atomically
from facefocus.locations import search_dirs
from facefocus.plan import precision_of
from facefocus.progress import Progress, silent
from facefocus.provenance import environment, now
from facefocus.results import write_run
from facefocus.run import execute
from facefocus.session import Session, SessionSpec
from facefocus.store import Store
from facefocus.tasks import MapTask, stage_of


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is: artefacts that exist, and all that the plan wants."""

    stage: str
    done: int
    total: int


def find_faceset(name: str) -> Path:
    """A prepared face set by folder, or by name under ``faces/``, the data folder or the cache.

    Raises:
        UserError: There is none; says how to make it.
    """
    places = [Path(name), Path("faces") / name, *(root / "faces" / name for root in search_dirs())]
    for place in places:
        if (place / "manifest.json").is_file():
            return place
    raise UserError(
        f"No prepared face set '{name}' was found. Looked for"
        f" {', '.join(str(place) for place in places)}. Make one with"
        f" 'facefocus prepare lfw --source lfw-deepfunneled.tgz --out faces/{Path(name).name}',"
        " or name its folder with --faces."
    )


def run_experiment(
    file: Path,
    *,
    faces: Path | None = None,
    out: Path | None = None,
    backend: str = "auto",
    workers: int = 1,
    progress: Progress = silent,
) -> Path:
    """Run an experiment, or the rest of it; returns the run folder.

    Args:
        file: The experiment (TOML).
        faces: A prepared face set; the one that the experiment names by default.
        out: The run folder; ``runs/<experiment name>`` by default.
        backend: What runs passes without gradients: see `facefocus.models.backends`.
        workers: Processes; the results do not depend on it.
        progress: Called with the stage, and done and total in passes.

    Raises:
        UserError: A field, a face set, a recognizer or the run folder is wrong.
    """
    experiment = load_experiment(file)
    folder = faces if faces is not None else find_faceset(experiment.faces.set)
    run = out if out is not None else Path("runs") / experiment.name
    asked = experiment.model_dump_json()
    session = Session(SessionSpec(asked, folder.resolve(), run.resolve() / "store", backend))
    session.plan  # noqa: B018 - every mistake in the experiment shows before anything is written
    _write_request(run, session.spec)
    started = now()
    with _executor(workers) as executor:
        done = execute(session, executor, progress)
    provenance = {**describe(session), "started": started, "finished": now(), "tasks_done": done}
    write_run(session, run, provenance, file.read_text(encoding="utf-8"))
    return run


def _write_request(run: Path, spec: SessionSpec) -> None:
    asked = {
        "experiment": json.loads(spec.experiment),
        "faces": str(spec.faces),
        "backend": spec.backend,
    }
    text = json.dumps(asked, indent=2) + "\n"
    write_atomically(run / "run.json", lambda file: file.write(text.encode()))


@contextmanager
def _executor(workers: int) -> Iterator[Executor | None]:
    """Processes that share the cores, or None for this process."""
    if workers <= 1:
        yield None
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_limit_threads, initargs=(threads,)
    ) as pool:
        yield pool


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def describe(session: Session) -> dict[str, Any]:
    """The provenance of a session: software, machine, recognizers, faces, thresholds, passes."""
    targets = session.experiment.recognizers.targets
    costs: dict[str, int] = {}
    for task in session.plan.tasks:
        costs[stage_of(task)] = costs.get(stage_of(task), 0) + task.cost
    return {
        **environment(),
        "backend": session.spec.backend,
        "recognizers": {
            name: {"fingerprint": one.fingerprint, "precision": precision_of(one)}
            for name, one in session.recognizers.items()
        },
        "faces": {
            "title": session.faces.title,
            "hash": session.faces.hash,
            "path": str(session.spec.faces),
            "frames": len(session.faces.frames),
        },
        "identities": len(session.plan.people),
        "verification_pairs": len(session.plan.pairs.mated),
        "thresholds": {name: session.threshold(name) for name in targets},
        "passes": costs,
        "map_artefacts": sum(len(t.outputs) for t in session.plan.tasks if isinstance(t, MapTask)),
    }


def run_status(run: Path) -> list[StageStatus]:
    """How far a run is, from what its store holds.

    Raises:
        UserError: `run` is no run folder.
    """
    session = open_run(run)
    store = Store(session.spec.store)
    return [
        StageStatus(stage, sum(key in store for key in keys), len(keys))
        for stage, keys in session.plan.keys().items()
    ]


def open_run(run: Path) -> Session:
    """The session of a run folder, as it was asked for.

    Raises:
        UserError: `run` is no run folder, or what it was made from is gone.
    """
    try:
        asked = json.loads((run / "run.json").read_text(encoding="utf-8"))
        spec = SessionSpec(
            json.dumps(asked["experiment"]),
            Path(asked["faces"]),
            run.resolve() / "store",
            asked["backend"],
        )
    except FileNotFoundError:
        raise UserError(f"'{run}' is no run folder: it has no run.json.") from None
    except (ValueError, KeyError) as error:
        raise UserError(f"'{run}/run.json' cannot be read: {type(error).__name__}.") from None
    return Session(spec)
