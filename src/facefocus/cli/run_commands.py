"""``facefocus run``, ``status``: experiments and studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from facefocus.cli.options import Backend, Memory, Run, RunOut, StoreDir, folder_option
from facefocus.cli.printing import long_job, show, show_lines

#: The commands of this file, for the program's own list.
commands = typer.Typer()


@commands.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (TOML).")],
    faces: Annotated[Path | None, typer.Option(help="A prepared face set.")] = None,
    out: RunOut = None,
    backend: Backend = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    memory: Memory = None,
    store: StoreDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it will cost: see 'plan'.")
    ] = False,
) -> None:
    """Run an experiment, or what is left of it, and print its table."""
    if dry_run:
        plan(experiment, faces, out, backend, workers, memory, store)
        return
    with long_job() as progress:
        from facefocus.benchmark.run import run_experiment
        from facefocus.core.locations import run_folders
        from facefocus.models.memory import parse_size
        from facefocus.report.terminal_table import print_summary

        folder = run_experiment(
            experiment,
            faces=faces,
            out=out,
            store=store,
            backend=backend,
            workers=workers,
            memory=None if memory is None else parse_size(memory),
            progress=progress,
        )
    print_summary(folder, Console())
    show_lines(f"results {one / 'results.parquet'}" for one in run_folders(folder))


@commands.command()
def plan(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (TOML).")],
    faces: Annotated[Path | None, typer.Option(help="A prepared face set.")] = None,
    out: RunOut = None,
    backend: Backend = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    memory: Memory = None,
    store: StoreDir = None,
) -> None:
    """What an experiment, or the rest of it, will cost: passes, time, disk; nothing is written."""
    with long_job() as progress:
        from facefocus.benchmark.cost import estimate_lines
        from facefocus.benchmark.run import open_sessions
        from facefocus.models.memory import parse_size

        size = None if memory is None else parse_size(memory) // workers
        folder, sessions = open_sessions(
            experiment, faces, out, store, backend, size, progress=progress
        )
        lines = list(estimate_lines(sessions, folder, workers))
    show_lines(lines)


@commands.command()
def study(
    file: Annotated[Path, typer.Argument(help="A study, or one of its stages (TOML).")],
    faces: Annotated[
        list[str] | None, typer.Option(help="A prepared face set; may be given again.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A recognizer; may be given again.")
    ] = None,
    identities: Annotated[int | None, typer.Option(min=1, help="People of each run.")] = None,
    limited: Annotated[
        int | None, typer.Option(min=1, help="People of the methods that need many passes.")
    ] = None,
    max_images: Annotated[int | None, typer.Option(min=2, help="Photos of a person.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; runs/STUDY by default.", callback=folder_option)
    ] = None,
    backend: Backend = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    store: StoreDir = None,
) -> None:
    """Run experiments that build on each other, or what is left of them: the paper's, for one."""
    with long_job() as progress:
        from facefocus.paper.study import Wanted, run_study

        wanted = Wanted(tuple(faces or ()), tuple(model or ()), identities, limited, max_images)
        done = run_study(
            file,
            wanted,
            out=out,
            store=store,
            backend=backend,
            workers=workers,
            progress=progress,
        )
    left_out = [f"left out: {line}" for line in done.missing]
    show_lines([*left_out, *(f"run {one}" for one in done.runs)])
    show(f"Next: facefocus report {done.folder}")


@commands.command()
def status(run: Run) -> None:
    """How far a run is."""
    from facefocus.benchmark.run import run_status
    from facefocus.core.locations import run_folders

    for stage in run_status(run):
        show(f"{stage.stage} {stage.done}/{stage.total}")
    written = all((folder / "results.parquet").is_file() for folder in run_folders(run))
    show("results " + ("yes" if written else "not yet"))
