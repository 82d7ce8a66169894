"""``facefocus apply``: a saved mask on new photographs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facefocus.cli.options import PHOTOGRAPHS, Fill
from facefocus.cli.printing import long_job, show_lines

if TYPE_CHECKING:
    from facefocus.person.apply_mask import Applied

commands = typer.Typer()


def _folder(path: Path) -> Path:
    from facefocus.core.files import check_folder

    return check_folder(path, "--out")


@commands.command(rich_help_panel=PHOTOGRAPHS)
def apply(
    mask: Annotated[Path, typer.Argument(help="A mask.npz or mask.png of the aligned crop.")],
    photos: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder of the painted photographs.", callback=_folder)],
    fill: Fill = "black",
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write the mask alone, on transparent pictures.")
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option(help="Photos of the person, to choose among several faces; with --model."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The recognizer that compares faces with the reference.")
    ] = None,
    detector: Annotated[Path | None, typer.Option(help="The YuNet model file.")] = None,
) -> None:
    """Put a saved mask on photographs.

    Takes a mask and photographs. Finds and aligns the face, paints the mask back on the photograph
    in its own resolution, and writes PNG files without EXIF, place or preview.
    """
    with long_job() as progress:
        from facefocus.person.apply_mask import apply_mask

        applied = apply_mask(
            mask,
            photos,
            out,
            fill=fill,
            overlay=overlay,
            reference=reference,
            model=model,
            detector=detector,
            progress=progress,
        )
    show_lines(applied_lines(applied))


def applied_lines(applied: Applied) -> Iterator[str]:
    """A line for each photograph: what was written, or why nothing was."""
    for photo, file, remark in applied.written:
        yield f"{photo} -> {file}" + (f" ({remark})" if remark else "")
    for photo, reason in applied.left_out:
        yield f"left out {photo}: {reason}"
