"""``facefocus card``: one page on what a recognizer needs of a face."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facefocus.cli.options import (
    RECOGNIZERS,
    Backend,
    FacesDir,
    Known,
    Reading,
    StoreDir,
)
from facefocus.cli.printing import long_job, show

commands = typer.Typer()


@commands.command(rich_help_panel=RECOGNIZERS)
def card(
    model: Known,
    faces: FacesDir,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("card"),
    groups: Annotated[
        Path | None, typer.Option(help="CSV file of groups: identity,GROUP or image,GROUP.")
    ] = None,
    people: Annotated[int, typer.Option(help="Number of people.")] = 60,
    photos: Annotated[int, typer.Option(help="Photos of each, at most.")] = 4,
    method: Annotated[str, typer.Option(help="Perturbation method of the maps.")] = "corr-rise",
    masks: Annotated[int, typer.Option(help="Masks of each photo.")] = 500,
    rate: Annotated[
        float | None,
        typer.Option(help="Calls a second, at most, of a recognizer that gives scores only."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 0,
    backend: Backend = "auto",
    store: StoreDir = None,
    preprocessing: Reading = None,
) -> None:
    """Write one page on what a recognizer needs of a face.

    Takes a recognizer of any kind and a prepared face set. Measures what bad pictures and hidden
    parts of the face cost, which parts the recognizer uses, and how that differs between groups.
    """
    from facefocus.core.files import check_folder
    from facefocus.recognizer_cards.make_card import make_card, write_card

    folder = check_folder(out, "--out")
    with long_job() as progress:
        made = make_card(
            model,
            faces,
            groups=groups,
            people=people,
            photos=photos,
            method=method,
            masks=masks,
            rate=rate,
            seed=seed,
            backend=backend,
            store=store,
            preprocessing=preprocessing,
            progress=progress,
        )
    show(write_card(made, folder))
