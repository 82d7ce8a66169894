"""``facefocus doctor`` and ``facefocus store``: this machine, and what is stored on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facefocus.cli.options import MAINTENANCE, Reading, StoreDir
from facefocus.cli.printing import agreed, columns, long_job, show, show_lines
from facefocus.cli.usage import CommandGroup
from facefocus.core.errors import UserError

if TYPE_CHECKING:
    from facefocus.benchmark.doctor import Examination, Finding
    from facefocus.core.store import Store

commands = typer.Typer()
store_app = typer.Typer(cls=CommandGroup, no_args_is_help=True)
commands.add_typer(
    store_app,
    name="store",
    rich_help_panel=MAINTENANCE,
    help="Show, check, join or remove artefacts: stored results of tasks, for later runs.",
)


@commands.command(rich_help_panel=MAINTENANCE)
def doctor(
    model: Annotated[
        str | None, typer.Option(help="Measure speed and exactness on this recognizer.")
    ] = None,
    preprocessing: Reading = None,
) -> None:
    """Show what can run recognizers on this machine.

    Prints a line for each backend: whether it is present and, with --model, its speed and its
    agreement with torch. The last line says which backend runs by default.
    """
    from facefocus.benchmark.doctor import examine

    show_lines(doctor_lines(examine(model, preprocessing)))


def doctor_lines(machine: Examination) -> Iterator[str]:
    """The machine, a line for each backend, and which of them runs by default."""
    import os

    import torch

    from facefocus.core.provenance import environment
    from facefocus.models.backends import WHY_PREFERRED
    from facefocus.models.memory import free_memory

    yield (
        f"{environment()['processor']}, {os.cpu_count()} cores, {torch.get_num_threads()} threads,"
        f" {free_memory() / 2**30:.1f} GiB free; torch {torch.__version__}"
    )
    if machine.model is not None:
        yield f"{machine.model}, batches as in a run, 16 drawn faces compared with torch:"
    yield from columns((finding.backend, _verdict(finding)) for finding in machine.findings)
    yield f"used by default (auto): {machine.chosen}, {WHY_PREFERRED}" + _hint(machine)


def _verdict(finding: Finding) -> str:
    from importlib.metadata import version

    from facefocus.models.backends import AGREEMENT, precision_of_backend

    if finding.problem is not None:
        return finding.problem
    name = (
        "OpenVINO " + version("openvino") if finding.backend.startswith("openvino") else "present"
    )
    if finding.speed is None:
        return name
    speed = f"{finding.speed:8.1f} images/s"
    if finding.cosine is None:
        return f"{speed}   the reference"
    least = AGREEMENT[precision_of_backend(finding.backend)]
    return f"{speed}   least cosine {finding.cosine:.6f} (at least {least}): accepted"


def _hint(machine: Examination) -> str:
    """What would be faster than the default, if anything was measured and is."""
    speeds = {f.backend: f.speed for f in machine.findings if f.speed is not None}
    best = max(speeds, key=lambda name: speeds[name], default=machine.chosen)
    if best == machine.chosen or machine.chosen not in speeds:
        return "" if machine.model else "; measure with --model NAME"
    factor = speeds[best] / speeds[machine.chosen]
    return f"; --backend {best} is {factor:.1f} times as fast"


@store_app.command("size")
def store_size(store: StoreDir = None) -> None:
    """Print where artefacts are stored, how many there are, and the space they take."""
    show(_size(_opened(store)))


@store_app.command("clear")
def store_clear(
    store: StoreDir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove all artefacts. Tables, pages and pictures of runs stay as they are."""
    artefacts = _opened(store)
    what = _size(artefacts)
    if artefacts.size().artefacts and not yes and not agreed(f"Remove {what}?"):
        show("Nothing was removed.")
        raise typer.Exit(1)
    artefacts.clear()
    show(f"removed {what}")


@store_app.command("verify")
def store_verify(store: StoreDir = None) -> None:
    """Read all artefacts and remove those that are damaged. Runs make them again."""
    artefacts = _opened(store)
    with long_job() as progress:
        damaged = artefacts.verify(progress)
    show_lines([*(f"damaged {key}" for key in damaged), f"whole: {_size(artefacts)}"])
    if damaged:
        show(f"removed {len(damaged)} damaged artefacts; runs make them again")


@store_app.command("merge")
def store_merge(
    other: Annotated[str, typer.Argument(help="The other store: a folder, or s3://BUCKET/...")],
    store: StoreDir = None,
) -> None:
    """Take over the artefacts of another store. What is here already stays as it is."""
    source = _opened(other)
    if not source.size().artefacts:
        raise UserError(f"The other store must hold artefacts. Got '{other}', which holds none.")
    with long_job() as progress:
        merged = _opened(store).merge(source, progress)
    show(f"{merged.new} new, {merged.same} here already, {merged.damaged} damaged and left out")
    if merged.different:
        show(
            f"{merged.different} here with other bytes: these stay. What made them differs in a way"
            " that their keys do not name: do not mix results of the two stores."
        )


@store_app.command("gc")
def store_gc(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs, to keep.")],
    store: StoreDir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove the artefacts that none of these runs needs: those of old versions, for one.

    Also those of verify, card and person, which make theirs again.
    """
    from facefocus.benchmark.run import keys_of_runs

    artefacts, kept = _opened(store), keys_of_runs(runs)
    others = [key for key in artefacts if key not in kept]
    size = artefacts.bytes_of(others)
    what = f"{len(others)} artefacts, {size / 1e6:,.1f} MB, that these runs do not need"
    if others and not yes and not agreed(f"Remove {what}?"):
        show("Nothing was removed.")
        raise typer.Exit(1)
    artefacts.remove(others)
    show(f"removed {what}")


def _opened(address: str | None) -> Store:
    from facefocus.core.locations import store_dir
    from facefocus.core.store import Store

    return Store(address or store_dir())


def _size(store: Store) -> str:
    size = store.size()
    made = f"{size.artefacts:,} artefacts in {size.files:,} files"
    return f"{made}, {size.bytes / 1e6:,.1f} MB in {store.location}"
