"""``facefocus fetch`` and ``facefocus prepare``: photographs, from the network to a face set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facefocus.cli.options import PHOTOGRAPHS, Out
from facefocus.cli.printing import agreed, columns, long_job, show, show_lines
from facefocus.cli.usage import CommandGroup

if TYPE_CHECKING:
    from facefocus.faces.prepare import PrepareReport
    from facefocus.faces.sources import DerivedSource, FaceSource
    from facefocus.models.recognizer import Recognizer

commands = typer.Typer()


class FaceSources(CommandGroup):
    """A command for every registered face source; reads the registry when a command is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The sources, then what else is in the group."""
        from facefocus.faces.sources import DERIVED, SOURCES

        return [*SOURCES, *DERIVED, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a source."""
        from facefocus.faces.sources import DERIVED, SOURCES

        single = typer.Typer(add_completion=False)
        if cmd_name in SOURCES:
            source = SOURCES[cmd_name]
            single.command(cmd_name, help=source.help)(_prepare_command(source))
        elif cmd_name in DERIVED:
            derived = DERIVED[cmd_name]
            single.command(cmd_name, help=derived.help)(_derive_command(derived))
        else:
            return super().get_command(ctx, cmd_name)
        return typer.main.get_command(single)


commands.add_typer(
    typer.Typer(cls=FaceSources, no_args_is_help=True),
    name="prepare",
    rich_help_panel=PHOTOGRAPHS,
    help="Align photographs: takes an archive or a folder, writes a face set to faces/NAME.",
)


@commands.command(rich_help_panel=PHOTOGRAPHS)
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="yunet, lfw, or recognizers. None: list them.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the terms.")] = False,
    url: Annotated[
        str | None, typer.Option(help="A mirror: a file, or a folder with a slash at its end.")
    ] = None,
) -> None:
    """Download the face detector, photographs and recognizers.

    Shows licenses and terms, and asks. Writes the files to the user's cache, each checked by its
    hash. Exit code 1: one of them is not here.
    """
    from facefocus.models import fetch as fetching

    if not names:
        show_lines(fetch_lines())
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
    show(f"Next: {next_step(names)}")


def _accepted(terms: Iterable[str], yes: bool) -> bool:
    show_lines(terms)
    return yes or agreed("Accept these terms and fetch?")


def fetch_lines() -> Iterator[str]:
    """A line for each item that can be fetched, and whether it is here."""
    from facefocus.models.fetch import items

    yield from columns(
        (name, "here" if item.find() else "-   ", item.title) for name, item in items().items()
    )
    yield "Next: facefocus fetch NAME... More recognizers: facefocus models list"


def next_step(names: Sequence[str]) -> str:
    """The command to go on with after `names` were fetched, which will work."""
    from facefocus.core.locations import search_dirs
    from facefocus.models import zoo
    from facefocus.models.fetch import find_item

    for name in ("yunet", "lfw"):
        if find_item(name).find() is None:
            return f"facefocus fetch {name}"
    folders = [root / "faces" / "lfw" for root in (Path(), *search_dirs())]
    prepared = next((root for root in folders if (root / "manifest.json").is_file()), None)
    if prepared is None:
        return "facefocus prepare lfw"
    models = [item.name for item in map(find_item, names) if item.name in zoo.entries()]
    here = [name for name in models if zoo.describe(name).present()]
    if not here:
        return "facefocus fetch"
    needs = zoo.describe(here[0]).needs()
    return needs or f"facefocus verify --faces {prepared} --model {here[0]}"


def _judge(model: str | None) -> Recognizer | None:
    if model is None:
        return None
    from facefocus.models.zoo import load

    return load(model)


Source = Annotated[
    Path | None,
    typer.Option(help="Archive or folder of the photographs; lfw finds what 'fetch lfw' got."),
]
Align = Annotated[
    str, typer.Option(help="'yunet', or 'none' for aligned crops; 'auto' looks at the archive.")
]
Crop = Annotated[str, typer.Option(help="'arcface112', or 'facenet160' for FaceNet.")]
PairsFile = Annotated[Path | None, typer.Option(help="A list of verification pairs, in any form.")]
Detector = Annotated[Path | None, typer.Option(help="The YuNet model file.")]
Judge = Annotated[
    str | None,
    typer.Option(
        "--model", help="A recognizer that chooses the person's face where an image has several."
    ),
]
Sheet = Annotated[
    Path | None,
    typer.Option(help="A PNG to draw images and chosen faces in, those to check first."),
]


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
            typer.Option("--keep-duplicates", help="Keep an image under each of its names."),
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
        show_lines(prepare_lines(report))

    return prepare


Prepared = Annotated[
    Path | None, typer.Option(help="The prepared face set it is made of. Default: faces/lfw.")
]


def _derive_command(kind: DerivedSource) -> Callable[..., None]:
    def derive(
        source: Prepared = None,
        out: Out = None,
        count: Annotated[
            int | None, typer.Option(min=1, help="Pairs or people, at most. Default: all.")
        ] = None,
        seed: Annotated[int, typer.Option(help="Another seed makes other pairs.")] = kind.seed,
    ) -> None:
        with long_job() as progress:
            from facefocus.faces.sources import derive_faces

            report = derive_faces(kind, source, out, count=count, seed=seed, progress=progress)
        show_lines(prepare_lines(report))

    return derive


def prepare_lines(report: PrepareReport) -> Iterator[str]:
    """What became of the photographs, a line for each figure."""
    from facefocus.faces.faceset import CHECK

    state = " (was there already)" if report.already_complete else ""
    yield f"faces {report.folder}{state}"
    several = f", {report.several_faces} with several faces" if report.several_faces else ""
    yield f"images {report.images} of {report.people} people{several}"
    yield from (f"unusable {count} ({why})" for why, count in report.unusable.items())
    if report.check:
        yield f"look at these: {report.folder / CHECK}"
        yield from (f"  {count} with {why}" for why, count in report.check.items())
    if report.sheets:
        more = f" and {len(report.sheets) - 1} more pages" if len(report.sheets) > 1 else ""
        yield f"sheet {report.sheets[0]}{more}"
    if report.pairs is not None:
        yield f"pairs {report.pairs} ({report.pairs_missing} missing)"
    yield from report.notes
