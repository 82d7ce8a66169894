"""``facefocus doctor``, ``store`` and ``ls``: this machine, what is kept, what can be named."""

from __future__ import annotations

from typing import Annotated

import typer

from facefocus.cli.options import Reading, StoreDir, words_of
from facefocus.cli.printing import agreed, show, show_lines

#: The commands of this file, for the program's own list.
commands = typer.Typer()

store_app = typer.Typer(help="What was computed, kept for later runs.", no_args_is_help=True)
commands.add_typer(store_app, name="store")


@commands.command()
def doctor(
    model: Annotated[
        str | None, typer.Option(help="Measure on this recognizer: see 'facefocus ls models'.")
    ] = None,
    preprocessing: Reading = None,
) -> None:
    """What this machine has to run recognizers on, how fast each is, and which will be used."""
    from facefocus.benchmark.doctor import examine, report_lines

    show_lines(report_lines(examine(model, words_of(preprocessing))))


@store_app.command("size")
def store_size(store: StoreDir = None) -> None:
    """Where artefacts are kept, how many, and what they take."""
    from facefocus.core.locations import store_dir
    from facefocus.core.store import Store

    kept = Store(store or store_dir())
    count, size = kept.size()
    show(f"{count} artefacts, {size / 1e6:,.1f} MB in {kept.root}")


@store_app.command("clear")
def store_clear(
    store: StoreDir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove all artefacts; results, pages and galleries of runs stay as they are."""
    from facefocus.core.locations import store_dir
    from facefocus.core.store import Store

    kept = Store(store or store_dir())
    count, size = kept.size()
    what = f"{count} artefacts, {size / 1e6:,.1f} MB in {kept.root}"
    if count and not yes and not agreed(f"Remove {what}?"):
        show("Nothing was removed.")
        raise typer.Exit(1)
    kept.clear()
    show(f"removed {what}")


ls_app = typer.Typer(help="List what can be named in an experiment.", no_args_is_help=True)
commands.add_typer(ls_app, name="ls")


@ls_app.command("models")
def ls_models() -> None:
    """Recognizers, and which of them are here."""
    from facefocus.models.catalog import name_lines

    show_lines(name_lines())


@ls_app.command("methods")
def ls_methods() -> None:
    """Saliency methods and baselines."""
    from facefocus.saliency.methods import METHODS

    show_lines(f"{name} ({METHODS[name].kind})" for name in METHODS)


@ls_app.command("objectives")
def ls_objectives() -> None:
    """What a gradient explains."""
    from facefocus.saliency.objectives import OBJECTIVES

    show_lines(OBJECTIVES)


@ls_app.command("fills")
def ls_fills() -> None:
    """What a hidden pixel is replaced with."""
    from facefocus.occlusion.fills import FILLS

    show_lines(FILLS)


@ls_app.command("layers")
def ls_layers(
    model: Annotated[str, typer.Argument(help="A recognizer.")],
    preprocessing: Reading = None,
) -> None:
    """Convolution calls of a recognizer in execution order, with the names they answer to."""
    from facefocus.models.catalog import layer_lines

    show_lines(layer_lines(model, words_of(preprocessing)))
