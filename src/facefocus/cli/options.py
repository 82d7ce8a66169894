"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from facefocus.core.errors import UserError, did_you_mean

#: Panels of ``facefocus --help``, in its order.
PHOTOGRAPHS = "Photographs"
RECOGNIZERS = "Recognizers"
EXPERIMENTS = "Experiments"
REPORTS = "Reports"
KNOWN_ANSWER = "Faces with a known answer"
MAINTENANCE = "Maintenance"


def _folder(path: Path | None) -> Path | None:
    from facefocus.core.files import check_folder

    return None if path is None else check_folder(path, "--out")


def _reading(text: str) -> dict[str, object]:
    from facefocus.models.preprocessing import read_words

    return read_words(text)


def _size(text: str) -> int:
    from facefocus.models.memory import parse_size

    return parse_size(text)


def one_of(name: str, known: Iterable[str], **settings: Any) -> Any:
    """An option or argument that takes one of the words `known`, which a shell can complete.

    Args:
        name: What a message calls it: ``--format``.
        known: The words.
        settings: Further settings of `typer.Option`; for an argument, without the dashes, of
            `typer.Argument`.
    """
    words = tuple(known)

    def check(word: str | None) -> str | None:
        if word is not None and word not in words:
            raise UserError(
                f"The '{name}' must be one of {', '.join(words)}. Got '{word}'."
                + did_you_mean(word, words)
            )
        return word

    def complete() -> list[str]:
        return list(words)

    if name.startswith("--"):
        return typer.Option(name, callback=check, autocompletion=complete, **settings)
    return typer.Argument(callback=check, autocompletion=complete, **settings)


Out = Annotated[
    Path | None, typer.Option(help="Folder of the face set. Default: faces/NAME.", callback=_folder)
]
RunOut = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the run. Default: runs/NAME.", callback=_folder),
]
TrainedOut = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder of weights and card. Default: trained/NAME.", callback=_folder
    ),
]
DemoOut = Annotated[
    Path, typer.Option("--out", help="Folder of the runs and the page.", callback=_folder)
]
FacesDir = Annotated[Path, typer.Option("--faces", help="A prepared face set (its folder).")]
Model = Annotated[str, typer.Option(help="A recognizer; 'facefocus models list' names them.")]
Known = Annotated[str, typer.Argument(help="A recognizer; 'facefocus models list' names them.")]
Fill = Annotated[str, typer.Option(help="What replaces a hidden pixel.")]
Rule = Annotated[
    str,
    typer.Option(
        help="Where the threshold comes from: eer, fmr=1e-2, accuracy, a number, or one of these"
        " on other faces (eer@FACES)."
    ),
]
Reading = Annotated[
    dict[str, object] | None,
    typer.Option(
        "--preprocessing",
        parser=_reading,
        metavar="<text>",
        help="How a recognizer reads an aligned crop: 'size = [112, 112], mean = 127.5, ...'.",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        help="What runs forward passes: auto, torch, openvino, openvino-bf16, cuda, cuda-tf32 or"
        " cuda-half."
    ),
]
Memory = Annotated[
    int | None,
    typer.Option(
        parser=_size,
        metavar="<size>",
        help="Memory that passes may take, such as 4GiB. Default: half of a GPU's.",
    ),
]
StoreDir = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Folder of artefacts, or s3://BUCKET/... Default: $FACEFOCUS_STORE, or the cache.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Where the tasks run: local:N, a Dask scheduler (tcp://HOST:PORT), or a TOML file"
        " (docs/cluster.md).",
    ),
]
Profile = Annotated[
    bool,
    typer.Option(
        "--profile", help="Print where the time of the run went: seconds and passes by part."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Runs = Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs.")]
