"""``facefocus fetch`` and ``facefocus prepare``: photographs, from the network to a face set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from facefocus.cli.options import Align, Crop, Detector, Judge, Out, PairsFile, Sheet, Source
from facefocus.cli.printing import agreed, long_job, show, show_lines

if TYPE_CHECKING:
    from facefocus.faces.sources import FaceSource
    from facefocus.models.recognizer import Recognizer

#: The commands of this file, for the program's own list.
commands = typer.Typer()


class FaceSources(TyperGroup):
    """A command for every registered face source; the registry is read when one is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The sources, then what else is in the group."""
        from facefocus.faces.sources import SOURCES

        return [*SOURCES, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a source."""
        from facefocus.faces.sources import SOURCES

        if cmd_name not in SOURCES:
            return super().get_command(ctx, cmd_name)
        source = SOURCES[cmd_name]
        single = typer.Typer(add_completion=False)
        single.command(cmd_name, help=source.help)(_prepare_command(source))
        return typer.main.get_command(single)


prepare_app = typer.Typer(
    cls=FaceSources, help="Align photographs into a face set.", no_args_is_help=True
)
commands.add_typer(prepare_app, name="prepare")


@commands.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="yunet, lfw or a recognizer; what there is if none.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the terms.")] = False,
    url: Annotated[
        str | None, typer.Option(help="A mirror: the file, or a folder with a slash at its end.")
    ] = None,
) -> None:
    """Download the face detector, photographs and recognizers; 1 if one of them is not here."""
    from facefocus.models import fetch as fetching

    if not names:
        show_lines(fetching.table_lines())
        return
    # The bars begin with the first byte, so that they do not draw over the question.
    with ExitStack() as stack:
        shown = cache(lambda: stack.enter_context(long_job()))
        results = list(
            fetching.fetch(
                names,
                confirm=lambda terms, asks: _accepted(terms, yes or not asks),
                mirror=url,
                progress=lambda *at: shown()(*at),
            )
        )
    for result in results:
        show("\n".join(result.lines), error=not result.here)
    if not all(result.here for result in results):
        raise typer.Exit(1)
    show(f"Next: {fetching.next_step(names)}")


def _accepted(terms: Iterable[str], yes: bool) -> bool:
    show_lines(terms)
    return yes or agreed("Accept these terms and fetch?")


def _judge(model: str | None) -> Recognizer | None:
    if model is None:
        return None
    from facefocus.models.zoo import load

    return load(model)


def _prepare_command(kind: FaceSource) -> Callable[..., None]:
    def prepare(
        source: Source = None,
        out: Out = None,
        pairs: PairsFile = None,
        align: Align = kind.align,
        crop: Crop = "arcface112",
        detector: Detector = None,
        model: Judge = None,
        sheet: Sheet = None,
        keep_duplicates: Annotated[
            bool,
            typer.Option("--keep-duplicates", help="Count a photo under several names each time."),
        ] = False,
    ) -> None:
        with long_job() as progress:
            from facefocus.faces.sources import prepare_faces

            report = prepare_faces(
                kind,
                source,
                out,
                pairs=pairs,
                align=align,
                crop=crop,
                detector=detector,
                judge=_judge(model),
                sheet=sheet,
                keep_duplicates=keep_duplicates,
                progress=progress,
            )
        show_lines(report.lines())

    return prepare
