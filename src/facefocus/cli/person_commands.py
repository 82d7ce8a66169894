"""``facefocus person``: one person's photographs in; what to hide, and the proof, out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facefocus.cli.options import PHOTOGRAPHS, Backend, Fill, StoreDir
from facefocus.cli.printing import long_job, show, show_lines

commands = typer.Typer()


def _folder(path: Path) -> Path:
    from facefocus.core.files import check_folder

    return check_folder(path, "--out")


@commands.command(rich_help_panel=PHOTOGRAPHS)
def person(
    photos: Annotated[
        list[Path],
        typer.Argument(help="A folder of photographs of one person, or files; or a folder each."),
    ],
    model: Annotated[
        list[str], typer.Option(help="A recognizer that the mask is made on; may be repeated.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of page and masks.", callback=_folder)],
    unseen: Annotated[
        list[str] | None,
        typer.Option(help="A recognizer that only judges the mask; may be repeated."),
    ] = None,
    budget: Annotated[float, typer.Option(help="Share of the face's pixels to hide.")] = 0.05,
    shape: Annotated[str, typer.Option(help="pixels, cells or patches.")] = "pixels",
    fill: Fill = "black",
    against: Annotated[
        str,
        typer.Option(help="repair: find masks that last when the photo is repaired."),
    ] = "",
    gallery: Annotated[
        str | None,
        typer.Option(help="A prepared face set of other people: thresholds and false matches."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Let photos count that seem to show somebody else.")
    ] = False,
    draft: Annotated[
        bool, typer.Option("--draft", help="A first picture within seconds; nothing is proven.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    backend: Backend = "auto",
    store: StoreDir = None,
) -> None:
    """Find what to hide so that recognizers do not know a person, and prove it.

    Takes photographs of one person. Makes a mask of the given area, tries it on photos and
    recognizers that it never saw, beside controls, nuisances and repair. Writes a page, the mask,
    and the photographs with it.
    """
    with long_job() as progress:
        from facefocus.person.explanation import explain_people

        pages = explain_people(
            photos[0] if len(photos) == 1 else photos,
            out,
            model,
            unseen=unseen or [],
            budget=budget,
            shape=shape,
            fill=fill,
            against=against,
            gallery=gallery,
            keep=keep,
            draft=draft,
            seed=seed,
            backend=backend,
            store=store,
            progress=progress,
        )
    for page, shown in pages:
        show_lines(shown.sentences)
        show_lines(f"warning: {line}" for line in shown.warnings)
        show(f"page {page}")
