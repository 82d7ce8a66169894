"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def folder_option(path: Path | None) -> Path | None:
    """What ``--out`` names, which must not be a file."""
    from facefocus.core.files import check_folder

    return None if path is None else check_folder(path, "--out")


Source = Annotated[
    Path | None,
    typer.Option(help="Archive or folder of the photographs; lfw finds what 'fetch lfw' got."),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the face set; faces/NAME by default.", callback=folder_option),
]
RunOut = Annotated[
    Path | None,
    typer.Option("--out", help="Run folder; runs/NAME by default.", callback=folder_option),
]
Align = Annotated[str, typer.Option(help="'yunet', or 'none' for aligned crops; 'auto' looks.")]
Crop = Annotated[str, typer.Option(help="'arcface112', or 'facenet160' for FaceNet.")]
PairsFile = Annotated[Path | None, typer.Option(help="A verification list, in any form.")]
Detector = Annotated[Path | None, typer.Option(help="YuNet model file.")]
Judge = Annotated[
    str | None,
    typer.Option("--model", help="A recognizer that settles which of several faces is the person."),
]
Sheet = Annotated[
    Path | None, typer.Option(help="A PNG to draw photos and chosen faces in, doubtful ones first.")
]
FacesDir = Annotated[Path, typer.Option("--faces", help="A prepared face set.")]
Model = Annotated[str, typer.Option(help="A recognizer: see 'facefocus ls models'.")]
Rule = Annotated[
    str,
    typer.Option(help="Threshold: eer, fmr=1e-2, accuracy, those of other faces (@), a number."),
]
Reading = Annotated[
    str | None,
    typer.Option(
        "--preprocessing",
        help="How a recognizer from a file reads frames: 'size = [112, 112], mean = 127.5, ...'.",
    ),
]
Backend = Annotated[
    str, typer.Option(help="auto, torch, openvino, openvino-bf16, cuda or cuda-half.")
]
Memory = Annotated[
    str | None, typer.Option(help="What passes may take, as 4GiB; half of a GPU's by default.")
]
StoreDir = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of artefacts; $FACEFOCUS_STORE or the cache by default."),
]
Known = Annotated[str, typer.Argument(help="A recognizer: see 'facefocus models list'.")]
Run = Annotated[Path, typer.Argument(help="A run folder.")]


def words_of(text: str | None) -> dict[str, object] | None:
    """What '--preprocessing' says."""
    from facefocus.models.preprocessing import read_words

    return None if text is None else read_words(text)
