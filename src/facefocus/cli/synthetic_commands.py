"""Drawn faces whose identity lives in known parts, and recognizers trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from facefocus.cli.options import Backend, Known, Out, StoreDir, folder_option
from facefocus.cli.prepare_commands import prepare_app
from facefocus.cli.printing import long_job, show, show_lines
from facefocus.report.terminal_table import for_tables

#: The commands of this file, for the program's own list.
commands = typer.Typer()


@prepare_app.command("synthetic")
def prepare_synthetic(
    world: Annotated[str, typer.Option(help="Where identity lives: all, eyes, marks, ...")],
    identities: Annotated[int, typer.Option(help="People.")] = 60,
    photos: Annotated[int, typer.Option(help="Photos of each.")] = 6,
    seed: Annotated[int, typer.Option(help="Of everybody and everything drawn.")] = 112,
    out: Out = None,
) -> None:
    """Drawn faces whose identity is known to live in known parts; nobody's photographs."""
    with long_job() as progress:
        from facefocus.faces.sources.synthetic import make_faceset, planted

        parts = planted(world)
        folder = out or Path("faces") / f"synthetic-{world}"
        make_faceset(
            folder, world=world, identities=identities, photos=photos, seed=seed, progress=progress
        )
    show(f"{identities * photos} photos of {identities} people; planted: {', '.join(parts)}")
    show(f"faces {folder}")


@commands.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe (TOML), a card, or the name of an embedded recognizer.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder; trained/NAME by default.", callback=folder_option)
    ] = None,
    faces: Annotated[
        Path | None, typer.Option(help="The recipe's faces where they are prepared already.")
    ] = None,
) -> None:
    """Train a small recognizer on drawn faces or a face set of yours; goes on after a break."""
    with long_job() as progress:
        from facefocus.planted.train.card import train_recognizer

        card = train_recognizer(
            recipe, out or Path("trained") / Path(recipe).stem, faces=faces, progress=progress
        )
    show(card.read_text(encoding="utf-8"), end="")
    show(f"card {card}")


@commands.command()
def planted(
    model: Known,
    fill: Annotated[str, typer.Option(help="What hides a pixel.")] = "black",
    world: Annotated[str | None, typer.Option(help="The recognizer's own by default.")] = None,
) -> None:
    """Whether a recognizer of a planted world reads that part; 1 if it does not."""
    from facefocus.planted.reliance import check_planted, report_lines
    from facefocus.planted.train.recipe import world_of

    with long_job() as progress:
        from facefocus.models.zoo import load

        found = check_planted(load(model), world or world_of(model), fill=fill, progress=progress)
    show_lines(report_lines(found))
    raise typer.Exit(int(not found.passed))


@commands.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the runs and the page.", callback=folder_option)
    ] = Path("runs/demo"),
    backend: Backend = "auto",
    store: StoreDir = None,
) -> None:
    """The main job on drawn faces and embedded recognizers: needs no data, and minutes."""
    with long_job() as progress:
        from facefocus.planted.demo import outcome, run_demo

        page = run_demo(out, backend=backend, store=store, progress=progress)
        console = for_tables(Console())
        found, lines = outcome(out, width=console.width)
    console.print(*found)
    show_lines([*lines, f"page {page}"])
