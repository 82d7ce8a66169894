"""``facefocus fetch`` and ``facefocus prepare``: photographs, from the network to a face set."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facefocus.cli.options import Align, Crop, Detector, Judge, Out, PairsFile, Sheet, Source
from facefocus.cli.printing import agreed, long_job, show, show_lines

if TYPE_CHECKING:
    from facefocus.models.recognizer import Recognizer

#: The commands of this file, for the program's own list.
commands = typer.Typer()

prepare_app = typer.Typer(help="Align photographs into a face set.", no_args_is_help=True)
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


@prepare_app.command("lfw")
def prepare_lfw(
    source: Annotated[
        Path | None, typer.Option(help="Archive or folder; what 'fetch lfw' got by default.")
    ] = None,
    out: Out = None,
    pairs: PairsFile = None,
    align: Align = "auto",
    crop: Crop = "arcface112",
    detector: Detector = None,
    model: Judge = None,
    sheet: Sheet = None,
) -> None:
    """Labeled Faces in the Wild: original, funneled or deep-funneled, archive or folder."""
    with long_job() as progress:
        from facefocus.faces.downloads import lfw_source
        from facefocus.faces.sources.lfw import prepare_lfw as prepare

        report = prepare(
            lfw_source(source),
            out or Path("faces") / "lfw",
            pairs=pairs,
            align=align,
            crop=crop,
            detector=detector,
            judge=_judge(model),
            sheet=sheet,
            progress=progress,
        )
    show_lines(report.lines())


@prepare_app.command("calfw")
def prepare_calfw(
    source: Source,
    out: Out = None,
    pairs: PairsFile = None,
    align: Align = "auto",
    crop: Crop = "arcface112",
    detector: Detector = None,
    model: Judge = None,
    sheet: Sheet = None,
) -> None:
    """Cross-Age LFW, archive or folder."""
    with long_job() as progress:
        from facefocus.faces.sources.cross import prepare_calfw as prepare

        report = prepare(
            source,
            out or Path("faces") / "calfw",
            pairs=pairs,
            align=align,
            crop=crop,
            detector=detector,
            judge=_judge(model),
            sheet=sheet,
            progress=progress,
        )
    show_lines(report.lines())


@prepare_app.command("cplfw")
def prepare_cplfw(
    source: Source,
    out: Out = None,
    pairs: PairsFile = None,
    align: Align = "auto",
    crop: Crop = "arcface112",
    detector: Detector = None,
    model: Judge = None,
    sheet: Sheet = None,
) -> None:
    """Cross-Pose LFW, archive or folder."""
    with long_job() as progress:
        from facefocus.faces.sources.cross import prepare_cplfw as prepare

        report = prepare(
            source,
            out or Path("faces") / "cplfw",
            pairs=pairs,
            align=align,
            crop=crop,
            detector=detector,
            judge=_judge(model),
            sheet=sheet,
            progress=progress,
        )
    show_lines(report.lines())


@prepare_app.command("folder")
def prepare_folder(
    source: Source,
    out: Out = None,
    pairs: PairsFile = None,
    align: Align = "yunet",
    crop: Crop = "arcface112",
    detector: Detector = None,
    model: Judge = None,
    sheet: Sheet = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Count a photo under several names each time.")
    ] = False,
) -> None:
    """Your own photographs: one sub-folder per person."""
    with long_job() as progress:
        from facefocus.faces.sources.folder import prepare_folder as prepare

        report = prepare(
            source,
            out or Path("faces") / source.resolve().name,
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
