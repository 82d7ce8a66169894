"""``facefocus run``, ``status`` and ``list``: experiments, and what can be named in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from facefocus.cli import BEGAN
from facefocus.cli.console import print_summary
from facefocus.cli.options import (
    EXPERIMENTS,
    Backend,
    Cluster,
    Memory,
    Profile,
    RunOut,
    StoreDir,
    one_of,
)
from facefocus.cli.printing import columns, long_job, show, show_lines
from facefocus.core.errors import UserError
from facefocus.core.locations import StoreAddress
from facefocus.core.notices import notice
from facefocus.core.text import percent

if TYPE_CHECKING:
    from facefocus.benchmark.cost import Estimate
    from facefocus.paper.study import StudyCost, Wanted
    from facefocus.saliency.explainer import Passes

commands = typer.Typer()


@commands.command(rich_help_panel=EXPERIMENTS)
def run(
    file: Annotated[Path, typer.Argument(help="An experiment or a study (TOML).")],
    faces: Annotated[
        list[str] | None,
        typer.Option(help="A face set in place of the file's. In a study it may be repeated."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="In a study: a recognizer in place of the file's. May be repeated."),
    ] = None,
    identities: Annotated[
        int | None, typer.Option(min=1, help="In a study: number of identities of each run.")
    ] = None,
    limited: Annotated[
        int | None,
        typer.Option(min=1, help="In a study: number of identities for methods of many passes."),
    ] = None,
    max_images: Annotated[
        int | None, typer.Option(min=2, help="In a study: images of an identity, at most.")
    ] = None,
    out: RunOut = None,
    backend: Backend = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Number of processes: local:N.")] = 1,
    cluster: Cluster = None,
    memory: Memory = None,
    store: StoreDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print passes, time and disk, and write nothing.")
    ] = False,
    profile: Profile = False,
) -> None:
    """Run an experiment, or a study: a file that lists several.

    Takes a TOML file. Makes maps and masks, hides pixels, measures recognition, and writes
    results.parquet to the run folder. Prints a table. Goes on where it was stopped. With [stop] in
    the file, tables and page grow with each block of people, until they are certain.
    """
    from facefocus.paper.study import Wanted, is_study_file

    wanted = Wanted(tuple(faces or ()), tuple(model or ()), identities, limited, max_images)
    settings: Settings = {
        "out": out,
        "store": store,
        "backend": backend,
        "workers": workers,
        "memory": memory,
        "cluster": cluster,
    }
    if cluster is not None and workers > 1:
        raise UserError(
            f"The '--workers' must be left out beside --cluster. Got {workers} and '{cluster}'."
        )
    if is_study_file(file):
        if profile:
            raise UserError(
                f"The '--profile' must be left out of a study. Got '{file}'. Ask for that of each"
                " of its runs by 'facefocus status RUN --profile'."
            )
        (_show_study_cost if dry_run else _run_study)(file, wanted, settings)
        return
    of_studies = {
        "--model": wanted.models,
        "--identities": identities,
        "--limited": limited,
        "--max-images": max_images,
        "several --faces": len(wanted.faces) > 1,
    }
    given = [name for name, value in of_studies.items() if value]
    if given:
        raise UserError(f"'{file}' is an experiment. Leave out {', '.join(given)}.")
    folder = Path(wanted.faces[0]) if wanted.faces else None
    if dry_run:
        _show_cost(file, folder, settings)
        return
    done = _run_experiment(file, folder, settings)
    if profile:
        show_lines(profile_lines(done))


class Settings(TypedDict):
    """How an experiment or a study is run."""

    out: Path | None
    store: StoreAddress | None
    backend: str
    workers: int
    memory: int | None
    cluster: str | None


def _run_experiment(file: Path, faces: Path | None, settings: Settings) -> Path:
    with long_job() as progress:
        from facefocus.benchmark.run import run_experiment
        from facefocus.core.locations import run_folders

        folder = run_experiment(
            file, faces=faces, progress=progress, on_round=_show_round, began=BEGAN, **settings
        )
    print_summary(folder)
    show_lines(f"results {path / 'results.parquet'}" for path in run_folders(folder))
    return folder


def _show_round(run: Path) -> None:
    """Say how many people the tables are of, and write their page, where they grow (``[stop]``)."""
    from facefocus.analysis.stop_notes import stop_notes

    if notes := list(stop_notes(run)):
        from facefocus.report.page import write_report

        notice(f"{notes[0]} {write_report(run)}")


def _run_study(file: Path, wanted: Wanted, settings: Settings) -> None:
    with long_job() as progress:
        from facefocus.paper.study import run_study

        done = run_study(file, wanted, progress=progress, **settings)
    left_out = [f"left out: {line}" for line in done.missing]
    show_lines([*left_out, *(f"run {folder}" for folder in done.runs)])
    show(f"Next: facefocus report {done.folder}")


def _show_study_cost(file: Path, wanted: Wanted, settings: Settings) -> None:
    with long_job() as progress:
        from facefocus.paper.study import study_cost

        study = study_cost(file, wanted, progress=progress, **settings)
    show_lines(study_cost_lines(study, _workers(settings)))


def study_cost_lines(study: StudyCost, workers: int = 1) -> Iterator[str]:
    """What is left of a study: of each run, and of all together."""
    from facefocus.benchmark.cost import Estimate

    yield from (f"left out: {line}" for line in study.missing)
    for run in study.runs:
        yield f"run {run.name}"
        yield from run.notes
        yield from cost_lines(run.cost, study.folder / run.name, workers)
        yield ""
    yield f"all {len(study.runs)} runs; what two of them share is counted for both"
    whole = sum((run.cost for run in study.runs), Estimate())
    yield from cost_lines(whole, study.folder, workers)


def _show_cost(file: Path, faces: Path | None, settings: Settings) -> None:
    with long_job() as progress:
        from facefocus.benchmark.cost import experiment_cost

        folder, cost = experiment_cost(
            file, faces=faces, progress=progress, advice=True, **settings
        )
    show_lines(cost_lines(cost, folder, _workers(settings)))


def _workers(settings: Settings) -> int:
    """How many workers there will be, at most."""
    from facefocus.benchmark.clusters import cluster_of, most_workers

    cluster = settings["cluster"]
    return settings["workers"] if cluster is None else most_workers(cluster_of(cluster))


def cost_lines(cost: Estimate, folder: Path, workers: int = 1) -> Iterator[str]:
    """What is left of a run, as a table and a few lines.

    Args:
        cost: Of the run with all its variants.
        folder: The run folder.
        workers: Processes that will share the work.
    """
    from facefocus.benchmark.backend_advice import advice_lines
    from facefocus.benchmark.scaling import wall_seconds
    from facefocus.benchmark.stages import STAGES
    from facefocus.saliency.explainer import Passes

    if not cost.passes:
        yield f"Nothing is left to do in {folder}."
        return
    seconds = sum(cost.seconds.values())
    rows = [
        (*key, *_passes(cost.passes[key]), _time(cost.seconds[key]))
        for key in sorted(cost.passes, key=lambda key: list(STAGES).index(key[0]))
    ]
    whole = sum(cost.passes.values(), Passes())
    head = ("stage", "recognizer", "forward", "backward", "one by one", "saved", "time")
    rows = [head, *rows, ("all", "", *_passes(whole), _time(seconds))]
    yield from columns(rows, right=range(2, len(head)))
    if not whole.exact:
        yield "At most: equal masks are embedded once, and are only known when they are made."
    shared, cores = "", os.cpu_count() or 1
    if workers > 1:
        wall = wall_seconds(cost.tasks.values(), workers)
        shared = f", {_time(wall)} on {workers} workers as fast as this machine"
    alone = f"{_time(seconds)} of one process on {cores} cores"
    hours = f"{seconds * cores / 3600:,.2f} core-hours"
    yield f"time about {alone} ({hours}){shared}, by a measurement of moments ago"
    yield from advice_lines(cost.advice)
    yield f"disk about {cost.disk / 1e6:,.1f} MB in {cost.files:,} files, for {folder}"


def _passes(passes: Passes) -> tuple[str, ...]:
    saved = f"{passes.alone / passes.all:.1f}x" if passes.all else "-"
    forward = passes.inference + passes.forward
    return f"{forward:,}", f"{passes.backward:,}", f"{passes.alone:,}", saved


def _time(seconds: float) -> str:
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"


def profile_lines(run: Path) -> Iterator[str]:
    """Where the time of a run went, as a table; the largest part of it is what to look at."""
    from facefocus.benchmark.run_profile import run_profile

    parts = run_profile(run)
    whole = sum((part.seconds for part in parts), 0.0)
    worked = sum((part.processor for part in parts), 0.0)
    rows = [
        (
            part.name,
            f"{part.seconds:,.2f}",
            f"{part.processor:,.2f}",
            percent(part.processor / worked if worked else None),
            *(
                [f"{n:,}" for n in (part.tasks, part.passes, part.images)]
                if part.tasks
                else [""] * 3
            ),
        )
        for part in parts
    ]
    head = ("part", "seconds", "of processors", "share", "tasks", "passes", "embedded")
    last = ("all", f"{whole:,.2f}", f"{worked:,.2f}", "", "", "", "")
    yield from columns([head, *rows, last], right=range(1, len(head)))


@commands.command(rich_help_panel=EXPERIMENTS)
def status(
    run: Annotated[Path, typer.Argument(help="A run folder.")], profile: Profile = False
) -> None:
    """Print how far a run is: for each stage, what is done and what there is to do.

    Of a run that is not through, also how fast it goes and what failed. Any machine that sees the
    folder can ask.
    """
    if profile:
        show_lines(profile_lines(run))
        return
    from facefocus.benchmark.run import run_status
    from facefocus.core.locations import run_folders

    for stage in run_status(run):
        show(f"{stage.stage} {stage.done}/{stage.total}")
    for folder in run_folders(run):
        for line in _pace_lines(folder):
            show(line)
    written = all((folder / "results.parquet").is_file() for folder in run_folders(run))
    show("results " + ("yes" if written else "not yet"))


def _pace_lines(run: Path) -> Iterator[str]:
    """What the log of a run folder says of a run that is not through."""
    from facefocus.benchmark.run_lock import worked_on
    from facefocus.benchmark.run_log import RunLog, pace

    if failed := len(RunLog(run).failed_tasks()):
        yield f"failed {failed} (see {RunLog(run).failed_file}); tried first when it is run again"
    work = pace(run)
    if work is None:
        return
    working = worked_on(run)
    if working is False:
        yield f"stopped in {work.stage}" + (f": {work.reason}" if work.reason else "")
        return
    rate = f"{work.done / work.seconds:.1f} passes/s" if work.done else "no task is through yet"
    left = "" if work.left is None else f", about {_time(work.left)} left of this stage"
    workers = "1 worker" if work.workers == 1 else f"{work.workers} workers"
    yield f"working on {work.stage}: {workers}, {work.running} tasks running, {rate}{left}"
    if work.attempts:
        yield f"failed tries {work.attempts} (see {run / 'run.log'})"


def _methods() -> Iterator[str]:
    from facefocus.saliency.methods import METHODS

    return (f"{name} ({METHODS[name].kind})" for name in METHODS)


def _objectives() -> Iterator[str]:
    from facefocus.saliency.objectives import OBJECTIVES

    return iter(OBJECTIVES)


def _fills() -> Iterator[str]:
    from facefocus.occlusion.fills import FILLS

    return iter(FILLS)


def _controls() -> Iterator[str]:
    from facefocus.occlusion.controls import CONTROLS, SHARED

    return iter((*CONTROLS, *SHARED))


def _nuisances() -> Iterator[str]:
    from facefocus.evaluation.nuisances import NUISANCES

    return iter(NUISANCES)


def _faces() -> Iterator[str]:
    from facefocus.core.locations import search_dirs
    from facefocus.faces.sources.synthetic import WORLDS

    roots = [root / "faces" for root in (Path(), *search_dirs())]
    folders = [path.parent for root in roots for path in sorted(root.glob("*/manifest.json"))]
    here = {folder.name: str(folder) for folder in reversed(folders)}
    drawn = {f"synthetic-{world}": "drawn when an experiment names it" for world in WORLDS}
    return columns((here | {name: drawn[name] for name in drawn if name not in here}).items())


def _models() -> Iterator[str]:
    from facefocus.models import zoo

    return iter(zoo.entries())


_LISTS = {
    "models": _models,
    "methods": _methods,
    "objectives": _objectives,
    "fills": _fills,
    "controls": _controls,
    "nuisances": _nuisances,
    "faces": _faces,
}


@commands.command("list", rich_help_panel=EXPERIMENTS)
def list_names(
    kind: Annotated[str, one_of("KIND", _LISTS, help=f"One of {', '.join(_LISTS)}.")],
) -> None:
    """List what an experiment can name. More on recognizers: 'facefocus models list'."""
    show_lines(_LISTS[kind]())
