"""The command line: one function per command, no logic."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from facefocus.console import shown_progress
from facefocus.errors import UserError

app = typer.Typer(
    help="Which regions of a face make a recognizer know this person - proven by hiding them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
prepare_app = typer.Typer(help="Align photographs into a face set.", no_args_is_help=True)
ls_app = typer.Typer(help="List what can be named in an experiment.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")
app.add_typer(ls_app, name="ls")

Source = Annotated[Path, typer.Option(help="Archive or folder of the photographs.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the face set; faces/NAME by default.")]
Align = Annotated[str, typer.Option(help="'yunet', or 'none' for crops that are aligned already.")]
Detector = Annotated[Path | None, typer.Option(help="YuNet model file.")]
FacesDir = Annotated[Path, typer.Option("--faces", help="A prepared face set.")]
Model = Annotated[str, typer.Option(help="A recognizer: see 'facefocus ls models'.")]
Backend = Annotated[str, typer.Option(help="auto, torch or openvino.")]
Run = Annotated[Path, typer.Argument(help="A run folder.")]


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


@app.callback(invoke_without_command=True)
def _global(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from facefocus import __version__

        print(__version__)
        raise typer.Exit


@prepare_app.command("lfw")
def prepare_lfw(
    source: Source,
    out: Out = None,
    pairs: Annotated[Path | None, typer.Option(help="pairs.txt (View 2).")] = None,
    align: Align = "yunet",
    detector: Detector = None,
) -> None:
    """Labeled Faces in the Wild: original, funneled or deep-funneled, archive or folder."""
    from facefocus.faces.lfw import prepare_lfw as prepare

    folder = out or Path("faces") / "lfw"
    with shown_progress() as progress:
        report = prepare(
            source, folder, pairs=pairs, align=align, detector=detector, progress=progress
        )
    print("\n".join(report.lines()))


@prepare_app.command("folder")
def prepare_folder(
    source: Source, out: Out = None, align: Align = "yunet", detector: Detector = None
) -> None:
    """Your own photographs: one sub-folder per person."""
    from facefocus.faces.folder import prepare_folder as prepare

    target = out or Path("faces") / source.resolve().name
    with shown_progress() as progress:
        report = prepare(source, target, align=align, detector=detector, progress=progress)
    print("\n".join(report.lines()))


@app.command()
def verify(
    faces: FacesDir,
    model: Model,
    rule: Annotated[str, typer.Option(help="eer, fmr=1e-2, ... or accuracy.")] = "eer",
    backend: Backend = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """How good a recognizer is on a face set: accuracy, EER, TMR, thresholds."""
    from facefocus.verify import report_lines, verify_recognizer

    with shown_progress() as progress:
        verified = verify_recognizer(faces, model, rule=rule, backend=backend, progress=progress)
    print(json.dumps(asdict(verified)) if as_json else "\n".join(report_lines(verified)))


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (TOML).")],
    faces: Annotated[Path | None, typer.Option(help="A prepared face set.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME by default.")] = None,
    backend: Backend = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Run an experiment, or what is left of it, and print its table."""
    from facefocus.report.tables import print_summary
    from facefocus.workflow import run_experiment

    try:
        with shown_progress() as progress:
            folder = run_experiment(
                experiment,
                faces=faces,
                out=out,
                backend=backend,
                workers=workers,
                progress=progress,
            )
    except KeyboardInterrupt:
        print("Interrupted. What is finished is kept: run it again to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    print_summary(folder, Console())
    print(f"results {folder / 'results.parquet'}")


@app.command()
def status(run: Run) -> None:
    """How far a run is."""
    from facefocus.workflow import run_status

    for stage in run_status(run):
        print(f"{stage.stage} {stage.done}/{stage.total}")
    print("results " + ("yes" if (run / "results.parquet").is_file() else "not yet"))


@app.command()
def report(
    run: Run,
    with_faces: Annotated[
        bool, typer.Option("--with-faces", help="Embed photographs in the page.")
    ] = False,
) -> None:
    """Print the table of a run and write its page."""
    from facefocus.report.html import write_report
    from facefocus.report.tables import print_summary

    page = write_report(run, with_faces=with_faces)
    print_summary(run, Console())
    print(f"page {page}")


def _print_names(names: Any) -> None:
    print("\n".join(names))


@ls_app.command("models")
def ls_models() -> None:
    """Recognizers of the zoo."""
    from facefocus.models import zoo

    _print_names(zoo.names())


@ls_app.command("methods")
def ls_methods() -> None:
    """Saliency methods and baselines."""
    from facefocus.saliency.methods import METHODS

    _print_names(f"{name} ({METHODS[name].kind})" for name in METHODS)


@ls_app.command("objectives")
def ls_objectives() -> None:
    """What a gradient explains."""
    from facefocus.saliency.objectives import OBJECTIVES

    _print_names(OBJECTIVES)


@ls_app.command("fills")
def ls_fills() -> None:
    """What a hidden pixel is replaced with."""
    from facefocus.occlusion.fills import FILLS

    _print_names(FILLS)


@ls_app.command("layers")
def ls_layers(model: Annotated[str, typer.Argument(help="A recognizer.")]) -> None:
    """Convolution calls of a recognizer in execution order, with the names they answer to."""
    from facefocus.models import zoo

    _print_names(zoo.layers(model).lines())


if __name__ == "__main__":
    main()
