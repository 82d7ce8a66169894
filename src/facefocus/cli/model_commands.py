"""``facefocus models`` and ``facefocus verify``: recognizers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from facefocus.cli.options import Backend, FacesDir, Known, Model, Reading, Rule, StoreDir, words_of
from facefocus.cli.printing import long_job, show_lines

#: The commands of this file, for the program's own list.
commands = typer.Typer()

models_app = typer.Typer(
    help="Recognizers: what there is, and how to get it.", no_args_is_help=True
)
commands.add_typer(models_app, name="models")


@models_app.command("list")
def models_list() -> None:
    """A table of the recognizers, and which of them are here."""
    from facefocus.models.catalog import table_lines

    show_lines(table_lines())


@models_app.command("show")
def models_show(name: Known) -> None:
    """Everything that is known of a recognizer, and how to get it."""
    from facefocus.models.catalog import entry_lines

    show_lines(entry_lines(name))


@models_app.command("cards")
def models_cards() -> None:
    """How good the embedded recognizers are, from their cards."""
    from facefocus.models.catalog import card_lines

    show_lines(card_lines())


@models_app.command("add")
def models_add(
    name: Annotated[str, typer.Argument(help="A recognizer of the list, or a name of your own.")],
    file: Annotated[Path, typer.Argument(help="A weights file that you have.")],
    architecture: Annotated[
        str | None, typer.Option(help="The network of a new name: iresnet50, mobilefacenet, ...")
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(help="What differs from the network's own: 'mean = 0, channels = \"bgr\"'."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace other weights.")] = False,
) -> None:
    """Check a weights file of yours, and keep a copy where it is found."""
    from facefocus.models.add import add_weights
    from facefocus.models.preprocessing import read_words

    words = None if preprocessing is None else read_words(preprocessing)
    path, lines = add_weights(
        name, file, architecture=architecture, preprocessing=words, force=force
    )
    show_lines([*lines, f"weights {path}"])


@commands.command()
def verify(
    faces: FacesDir,
    model: Model,
    rule: Rule = "eer",
    backend: Backend = "auto",
    store: StoreDir = None,
    preprocessing: Reading = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """How good a recognizer is on a face set: accuracy, EER, TMR, thresholds."""
    from facefocus.benchmark.verify import report_lines, verify_recognizer

    with long_job() as progress:
        verified = verify_recognizer(
            faces,
            model,
            rule=rule,
            backend=backend,
            preprocessing=words_of(preprocessing),
            store=store,
            progress=progress,
        )
    show_lines([json.dumps(asdict(verified))] if as_json else report_lines(verified))
