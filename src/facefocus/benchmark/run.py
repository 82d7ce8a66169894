"""The main job, start to end: an experiment file in, a run folder out.

A run folder holds ``run.json`` (what was asked, from the start) and, once the run is through,
``results.parquet``, ``gallery.*``, ``experiment.toml``, ``provenance.json``. Of an experiment with
variants the run folder holds one such folder for each. Artefacts are in a store that all runs
share.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from facefocus.benchmark.clusters import cluster_of, most_workers, require_dask
from facefocus.benchmark.collect import write_run
from facefocus.benchmark.early_stopping import Rounds, begun, read_stop
from facefocus.benchmark.execute import Incomplete, execute
from facefocus.benchmark.experiment import Experiment, load_variants, toml_of
from facefocus.benchmark.keys import forward_of, gradients_of
from facefocus.benchmark.people import everybody
from facefocus.benchmark.run_lock import locked_run
from facefocus.benchmark.run_log import Clock, RunLog, Spent, read_keys, write_keys
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.sorted_rows import FOLDER
from facefocus.benchmark.stages import STAGES
from facefocus.benchmark.task_outcome import NeedsLess
from facefocus.core.errors import UserError, one_line
from facefocus.core.files import any_path, resolved, sweep, write_atomically
from facefocus.core.locations import (
    StoreAddress,
    expanded,
    is_url,
    located,
    private,
    relative,
    resolved_store,
    run_folders,
    search_dirs,
    store_dir,
)
from facefocus.core.notices import notice
from facefocus.core.progress import Progress, silent
from facefocus.core.provenance import environment, now
from facefocus.core.store import Missing, Store
from facefocus.evaluation.verification import Rule
from facefocus.faces.sources.synthetic import WORLDS, make_faceset
from facefocus.models.backends import backend_reason
from facefocus.models.recognizer import is_white_box
from facefocus.models.zoo import lineage

if TYPE_CHECKING:
    from facefocus.benchmark.worker_pool import Pool

#: Synthetic faces are made when first asked for, so many of these people with so many photos.
#: The embedded recognizers were trained and validated on other seeds: these people are new to them.
SYNTHETIC = {"identities": 60, "photos": 6, "seed": 112}


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is: artefacts that exist, and all that the plan wants."""

    stage: str
    done: int
    total: int


def find_faceset(
    name: str | os.PathLike[str], otherwise: str = "name its folder with --faces"
) -> Path:
    """A prepared face set by folder, or by name under ``faces/``, the data folder or the cache.

    Args:
        name: Folder or name.
        otherwise: What else the user can do, for the message.

    Raises:
        UserError: There is none; says how to make it.
    """
    name = expanded(os.fspath(name))
    folders = [Path(name), Path("faces") / name, *(root / "faces" / name for root in search_dirs())]
    for folder in folders:
        if (folder / "manifest.json").is_file():
            return folder
    raise UserError(
        f"No prepared face set '{name}' was found. Looked for"
        f" {', '.join(str(folder) for folder in folders)}. Make one with"
        f" 'facefocus prepare lfw --source lfw-deepfunneled.tgz --out faces/{Path(name).name}',"
        f" or {otherwise}."
    )


def open_or_make_faceset(
    name: str,
    made: Path,
    progress: Progress = silent,
    otherwise: str = "name its folder with --faces",
) -> Path:
    """`find_faceset`; but ``synthetic-<world>`` under the folder `made`, drawn now if need be.

    Raises:
        UserError: There is none, and it is not one that can be drawn.
    """
    world = name.removeprefix("synthetic-")
    if name == world or world not in WORLDS:
        return find_faceset(name, otherwise)
    if not (made / name / "manifest.json").is_file():
        make_faceset(made / name, world=world, **SYNTHETIC, progress=progress)
    return made / name


@any_path
def run_experiment(
    file: Path | Experiment,
    *,
    faces: Path | None = None,
    out: Path | None = None,
    store: StoreAddress | None = None,
    backend: str = "auto",
    workers: int = 1,
    memory: int | None = None,
    cluster: str | Pool | None = None,
    made: Path = Path("faces"),
    progress: Progress = silent,
    on_round: Callable[[Path], object] = lambda run: None,
    began: float | None = None,
) -> Path:
    """Run an experiment with all its variants, or the rest of it; returns the run folder.

    Args:
        file: The experiment: a TOML file, or an object.
        faces: A prepared face set; the one that the experiment names by default.
        out: The run folder; ``runs/<name in the file>`` by default.
        store: Folder or URL of the artefacts, which runs share: see `store_of` for the default.
        backend: What runs passes without gradients: see `facefocus.models.backends`.
        workers: Processes; the results do not depend on it. More than one is ``local:N``.
        memory: Bytes that the passes may take in all; of a scheduler's address, those of each
            worker. Smaller batches give other last bits, and so have keys of their own.
        cluster: Where the tasks run: see `facefocus.benchmark.clusters.cluster_of`.
        made: Where synthetic faces go that are not here yet.
        progress: Called with the stage, and done and total in passes.
        on_round: Called with the folder of a variant when its tables are written: once, or after
            each round of people that is new, and the last, where the experiment has ``[stop]``.
        began: When the program was started (`time.time`), for the log to tell what that took.

    Raises:
        UserError: A field, a face set, a recognizer, the cluster or the run folder is wrong.
        Incomplete: Workers could not do all tasks; what does not need them was done.
    """
    if workers > 1 or cluster is not None:
        require_dask()
    each = memory_of_each(memory, cluster, workers)
    start = {} if began is None else {"start": Spent(time.time() - began, time.process_time())}
    run, sessions = open_sessions(file, faces, out, store, backend, each, made, progress)
    notice(f"Passes without gradients: {backend_reason(backend)}.")
    incomplete: list[Incomplete] = []
    with worker_pool(cluster, workers) as pool:
        for variant, session in sessions.items():
            try:
                named = _named(progress, variant)
                session.opening, start = start | session.opening, {}
                _run(session, run / variant, pool, toml_of(file), named, on_round)
            except Incomplete as error:
                incomplete.append(error)
    if incomplete:
        raise Incomplete("\n".join(map(str, incomplete)))
    return run


def memory_of_each(
    memory: int | None, cluster: str | Pool | None = None, workers: int = 1
) -> int | None:
    """The part of the memory that each worker may take: batches, and so keys, depend on it."""
    if isinstance(cluster, str):
        workers = most_workers(cluster_of(cluster))
    elif cluster is not None:
        workers = cluster.most
    return None if memory is None else memory // max(workers, 1)


@contextmanager
def worker_pool(cluster: str | Pool | None, workers: int = 1) -> Iterator[Pool | None]:
    """The workers of a cluster, given back at the end; None where this process does it all.

    Raises:
        UserError: It is no cluster, or Dask is not installed.
    """
    if cluster is None and workers > 1:
        cluster = f"local:{workers}"
    if not isinstance(cluster, str):
        yield cluster
        return
    require_dask()
    from facefocus.benchmark.worker_pool import Pool

    pool = Pool(cluster)
    try:
        yield pool
    except BaseException:
        # Nobody waits for tasks that are half done; what is finished is stored.
        pool.close(kill=True)
        raise
    pool.close(kill=False)


@any_path
def open_sessions(
    file: Path | Experiment,
    faces: Path | None = None,
    out: Path | None = None,
    store: StoreAddress | None = None,
    backend: str = "auto",
    memory: int | None = None,
    made: Path = Path("faces"),
    progress: Progress = silent,
) -> tuple[Path, dict[str, Session]]:
    """The run folder of an experiment and the session of each variant; see `run_experiment`."""
    if isinstance(file, Experiment):
        name, experiments = file.name, {"": file}
    else:
        name, experiments = load_variants(file)
    if faces is not None and len({experiment.faces.set for experiment in experiments.values()}) > 1:
        raise UserError(
            f"The '--faces' must be left out where variants have faces of their own. Got '{faces}'."
        )
    run = out if out is not None else Path("runs") / name
    sessions = {}
    for variant, experiment in experiments.items():
        clock = Clock()
        folder = faces or open_or_make_faceset(experiment.faces.set, made, progress)
        kept = store or store_of(run / variant)
        other = calibration_faces(experiment.evaluation.rule, made, progress)
        asked = experiment.model_dump_json()
        spec = SessionSpec(asked, resolved(folder), resolved_store(kept), backend, memory, other)
        sessions[variant] = session = Session(spec)
        session.opening["faces"] = clock.lap()
        session.recognizers  # noqa: B018
        session.opening["recognizers"] = clock.lap()
        # Every mistake shows before anything is written.
        session.plan, session.planted  # noqa: B018
        session.opening["plan"] = clock.lap()
    return run, sessions


def calibration_faces(rule: Rule, made: Path, progress: Progress = silent) -> Path | None:
    """The folder of the other face set that a threshold comes from; None where it is given.

    Raises:
        UserError: There is none.
    """
    if rule.faces is None:
        return None
    otherwise = f"name its folder in the threshold: {rule.kind}@FOLDER"
    return resolved(open_or_make_faceset(rule.faces, made, progress, otherwise))


def _run(
    session: Session,
    run: Path,
    pool: Pool | None,
    toml: str,
    progress: Progress,
    on_round: Callable[[Path], object],
) -> None:
    started, done = now(), 0

    def work(session: Session) -> None:
        nonlocal done
        _write_request(run, session)
        sweep(run)
        for left in run.glob(f"{FOLDER}*"):
            shutil.rmtree(left, ignore_errors=True)
        rounds = Rounds(session, run)
        while (part := rounds.next()) is not None:
            write_keys(run, part.plan.keys())
            new = execute(part, pool, progress, run_log)
            done += new
            provenance = {
                **describe(part),
                "started": started,
                "finished": now(),
                "tasks_done": done,
            }
            with run_log.timed("collect"):
                write_run(part, run, provenance, _private(toml, session))
            rounds.look()
            if new or rounds.done:
                on_round(run)

    with locked_run(run):
        session.store.sweep()
        run_log = RunLog(run)
        run_log.write("start", host=platform.node(), process=os.getpid())
        for name, spent in session.opening.items():
            run_log.spent(name, spent)
        try:
            persist(session, work)
        except BaseException as error:
            run_log.write("stop", reason=one_line(error))
            raise
        run_log.write("finish")


T = TypeVar("T")


def persist(session: Session, work: Callable[[Session], T]) -> T:
    """The result of some work, begun again with less memory or where an artefact was damaged.

    Raises:
        UserError: Memory does not suffice for one image, or the store cannot be read back.
    """
    repaired: set[str] = set()
    while True:
        try:
            return work(session)
        except NeedsLess as less:
            session = Session(less.spec, session.held)
            notice(
                "Memory did not suffice: passes go on with half as many images. What depends on"
                " their last bits is made anew."
            )
        except Missing as missing:
            if missing.key in repaired:
                raise UserError(
                    f"What is written to the store '{session.spec.store}' cannot be read back."
                    " Name a folder on another disk with --store."
                ) from None
            repaired.add(missing.key)
            notice("An artefact of the store was damaged or removed. It is made again.")


def _named(progress: Progress, variant: str) -> Progress:
    """Progress whose stages say which variant they are of."""
    return lambda stage, done, total: progress(f"{variant} {stage}".strip(), done, total)


def _write_request(run: Path, session: Session) -> None:
    spec = session.spec
    asked = {
        "experiment": json.loads(_private(spec.experiment, session)),
        "faces": relative(spec.faces, run),
        "backend": spec.backend,
        "store": _recorded(spec.store, run),
        # Which keys the run has depends on them.
        "batches": session.batches,
        "calibration": None if spec.calibration is None else relative(spec.calibration, run),
    }
    text = json.dumps(asked, indent=2) + "\n"
    write_atomically(run / "run.json", lambda file: file.write(text.encode()))


def _private(text: str, session: Session) -> str:
    """What an experiment says, with no absolute path to its face sets."""
    other = session.experiment.evaluation.rule.faces
    return private(private(text, session.experiment.faces.set), other)


def describe(session: Session) -> dict[str, Any]:
    """The provenance of a session: software, machine, recognizers, faces, thresholds, passes."""
    targets = session.experiment.recognizers.targets
    costs: dict[str, int] = {}
    for task in session.plan.tasks:
        costs[task.stage] = costs.get(task.stage, 0) + task.cost
    return {
        **environment(),
        "backend": session.spec.backend,
        "backend_reason": backend_reason(session.spec.backend),
        "recognizers": {
            name: {
                "fingerprint": recognizer.fingerprint,
                "precision": getattr(recognizer, "precision", "float32"),
                "forward": forward_of(recognizer),
                "gradients": gradients_of(recognizer) if is_white_box(recognizer) else None,
                "lineage": asdict(lineage(name, recognizer)),
            }
            for name, recognizer in session.recognizers.items()
        },
        "faces": {
            "title": session.faces.title,
            "hash": session.faces.hash,
            # Where they lie is for run.json alone: this is shown on the page.
            "path": session.spec.faces.name,
            "frames": len(session.faces.frames),
        },
        "identities": len(everybody(session.plan.blocks)),
        "verification_pairs": len(session.plan.pairs.mated),
        "thresholds": {name: session.threshold(name) for name in targets},
        "passes": costs,
        "map_artefacts": len(session.plan.keys().get("maps", ())),
    }


#: How ``run.json`` names the store that is used unless another is named.
DEFAULT = "default"


def _recorded(store: StoreAddress, run: Path) -> str:
    """How the ``run.json`` of `run` names a store: see `located_store`."""
    if store == store_dir():
        return DEFAULT
    return str(store) if is_url(store) else relative(Path(store), run)


def store_of(run: Path) -> StoreAddress:
    """The store of a run for which none is named: its own where it has one, else the shared one."""
    own = run / "store"
    return own if own.is_dir() else store_dir()


def located_store(text: str, run: Path) -> StoreAddress:
    """The store that the ``run.json`` of `run` names."""
    if text == DEFAULT:
        return store_dir()
    return text if is_url(text) else located(text, run)


def recorded_store(run: Path) -> Store | None:
    """The store that a run's artefacts are in; None where the folder does not say."""
    try:
        asked = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return Store(located_store(asked.get("store", "store"), run))
    except (OSError, ValueError, AttributeError):
        return None


@any_path
def run_status(run: Path) -> list[StageStatus]:
    """How far a run is with all its variants, from what their stores hold.

    Raises:
        UserError: `run` is no run folder.
    """
    done: dict[str, int] = {}
    total: dict[str, int] = {}
    for folder in run_folders(run):
        spec, keys_of = _recorded_spec(folder), read_keys(folder)
        wanted = keys_of or Session(spec).plan.keys()
        held = Store(spec.store).held(list(chain.from_iterable(wanted.values())))
        for stage, keys in wanted.items():
            done[stage] = done.get(stage, 0) + sum(key in held for key in keys)
            total[stage] = total.get(stage, 0) + len(keys)
    return [StageStatus(stage, done[stage], total[stage]) for stage in STAGES if stage in total]


@any_path
def keys_of_runs(runs: Sequence[Path]) -> set[str]:
    """The keys of all that some runs, or folders of runs, have made or will make.

    Raises:
        UserError: One of them is no run folder.
    """
    keys: set[str] = set()
    for run in runs:
        for folder in sorted(path.parent for path in run.rglob("run.json")) or [run]:
            spec = _recorded_spec(folder)
            for stage_keys in (read_keys(folder) or Session(spec).plan.keys()).values():
                keys.update(stage_keys)
    return keys


@any_path
def open_run(run: Path) -> Session:
    """The session of a run folder, as it was asked for.

    Raises:
        UserError: `run` is no run folder, or what it was made from is gone.
    """
    session, stop = Session(_recorded_spec(run)), read_stop(run)
    return session if stop is None else begun(session, stop["left_out"])


def _recorded_spec(run: Path) -> SessionSpec:
    """What the ``run.json`` of a run folder asks for."""
    try:
        asked = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return SessionSpec(
            json.dumps(asked["experiment"]),
            located(asked["faces"], run),
            located_store(asked.get("store", "store"), run),
            asked["backend"],
            calibration=located(asked["calibration"], run) if asked.get("calibration") else None,
            batches=tuple(tuple(batch) for batch in asked.get("batches", ())),
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "it has no run.json" if missing else f"its run.json: {error.strerror}"
        raise UserError(f"'{run}' is no run folder: {reason}.") from None
    except (ValueError, KeyError) as error:
        raise UserError(f"'{run}/run.json' cannot be read: {type(error).__name__}.") from None
