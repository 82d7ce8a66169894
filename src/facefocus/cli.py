"""The command line: one function per command, no logic."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from facefocus.console import shown_progress
from facefocus.errors import UserError
from facefocus.progress import Progress

app = typer.Typer(
    help="Which regions of a face make a recognizer know this person - proven by hiding them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
prepare_app = typer.Typer(help="Align photographs into a face set.", no_args_is_help=True)
fetch_app = typer.Typer(help="Download photographs.", no_args_is_help=True)
models_app = typer.Typer(
    help="Recognizers: what there is, and how to get it.", no_args_is_help=True
)
ls_app = typer.Typer(help="List what can be named in an experiment.", no_args_is_help=True)
app.add_typer(fetch_app, name="fetch")
app.add_typer(prepare_app, name="prepare")
app.add_typer(models_app, name="models")
app.add_typer(ls_app, name="ls")

Source = Annotated[Path, typer.Option(help="Archive or folder of the photographs.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the face set; faces/NAME by default.")]
Align = Annotated[str, typer.Option(help="'yunet', or 'none' for crops that are aligned already.")]
Crop = Annotated[str, typer.Option(help="'arcface112', or 'facenet160' for FaceNet.")]
PairsFile = Annotated[Path | None, typer.Option(help="The official list of pairs.")]
Detector = Annotated[Path | None, typer.Option(help="YuNet model file.")]
FacesDir = Annotated[Path, typer.Option("--faces", help="A prepared face set.")]
Model = Annotated[str, typer.Option(help="A recognizer: see 'facefocus ls models'.")]
Backend = Annotated[str, typer.Option(help="auto, torch, openvino or openvino-bf16.")]
Known = Annotated[str, typer.Argument(help="A recognizer: see 'facefocus models list'.")]
Run = Annotated[Path, typer.Argument(help="A run folder.")]


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def _long_job() -> Iterator[Progress]:
    """Progress on the terminal; Ctrl-C is one line and exit code 130."""
    try:
        with shown_progress() as progress:
            yield progress
    except KeyboardInterrupt:
        print("Interrupted. What is finished is kept: run it again to go on.", file=sys.stderr)
        raise typer.Exit(130) from None


@app.callback(invoke_without_command=True)
def _global(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from facefocus import __version__

        print(__version__)
        raise typer.Exit


@fetch_app.command("lfw")
def fetch_lfw(
    out: Annotated[Path | None, typer.Option(help="Folder; the user's cache by default.")] = None,
    which: Annotated[
        str, typer.Option(help="deepfunneled, funneled or original.")
    ] = "deepfunneled",
) -> None:
    """Labeled Faces in the Wild and its list of pairs."""
    with _long_job() as progress:
        from facefocus.faces.fetch import fetch_lfw as fetch

        report = fetch(out, which=which, progress=progress)
    _print_lines(report.lines())


@prepare_app.command("lfw")
def prepare_lfw(
    source: Source,
    out: Out = None,
    pairs: PairsFile = None,
    align: Align = "yunet",
    crop: Crop = "arcface112",
    detector: Detector = None,
) -> None:
    """Labeled Faces in the Wild: original, funneled or deep-funneled, archive or folder."""
    with _long_job() as progress:
        from facefocus.faces.lfw import prepare_lfw as prepare

        report = prepare(
            source,
            out or Path("faces") / "lfw",
            pairs=pairs,
            align=align,
            crop=crop,
            detector=detector,
            progress=progress,
        )
    _print_lines(report.lines())


@prepare_app.command("calfw")
def prepare_calfw(
    source: Source,
    out: Out = None,
    pairs: PairsFile = None,
    align: Align = "yunet",
    crop: Crop = "arcface112",
    detector: Detector = None,
) -> None:
    """Cross-Age LFW, archive or folder."""
    with _long_job() as progress:
        from facefocus.faces.cross import prepare_calfw as prepare

        report = prepare(
            source,
            out or Path("faces") / "calfw",
            pairs=pairs,
            align=align,
            crop=crop,
            detector=detector,
            progress=progress,
        )
    _print_lines(report.lines())


@prepare_app.command("cplfw")
def prepare_cplfw(
    source: Source,
    out: Out = None,
    pairs: PairsFile = None,
    align: Align = "yunet",
    crop: Crop = "arcface112",
    detector: Detector = None,
) -> None:
    """Cross-Pose LFW, archive or folder."""
    with _long_job() as progress:
        from facefocus.faces.cross import prepare_cplfw as prepare

        report = prepare(
            source,
            out or Path("faces") / "cplfw",
            pairs=pairs,
            align=align,
            crop=crop,
            detector=detector,
            progress=progress,
        )
    _print_lines(report.lines())


@prepare_app.command("folder")
def prepare_folder(
    source: Source,
    out: Out = None,
    align: Align = "yunet",
    crop: Crop = "arcface112",
    detector: Detector = None,
) -> None:
    """Your own photographs: one sub-folder per person."""
    with _long_job() as progress:
        from facefocus.faces.folder import prepare_folder as prepare

        report = prepare(
            source,
            out or Path("faces") / source.resolve().name,
            align=align,
            crop=crop,
            detector=detector,
            progress=progress,
        )
    _print_lines(report.lines())


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
    _print_lines([json.dumps(asdict(verified))] if as_json else report_lines(verified))


@app.command()
def pairs(
    faces: FacesDir,
    model: Model,
    method: Annotated[list[str], typer.Option(help="A saliency method; may be given again.")],
    layer: Annotated[str, typer.Option(help="Layer or group.")] = "N",
    count: Annotated[int, typer.Option("--pairs", min=2, help="Pairs to try.")] = 500,
    fill: Annotated[str, typer.Option(help="What hides a pixel.")] = "black",
    backend: Backend = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Insertion and deletion curves on verification pairs: how good a map is for its own pair."""
    from facefocus import pairwise

    with _long_job() as progress:
        table = pairwise.pair_level(
            faces,
            model,
            method,
            layer=layer,
            pairs=count,
            fill=fill,
            backend=backend,
            progress=progress,
        )
    _print_lines([json.dumps(pairwise.as_json(table))] if as_json else pairwise.report_lines(table))


@app.command()
def sanity(
    faces: FacesDir,
    model: Model,
    method: Annotated[list[str], typer.Option(help="A gradient method; may be given again.")],
    layer: Annotated[list[str], typer.Option(help="Layer or group; may be given again.")],
    identities: Annotated[int, typer.Option(min=1, help="People, seeded.")] = 10,
) -> None:
    """Whether maps depend on what the recognizer learned: its weights are shuffled step by step."""
    from facefocus.sanity import randomized_maps, report_lines

    with _long_job() as progress:
        results = randomized_maps(
            faces, model, method, layer, identities=identities, progress=progress
        )
    _print_lines(report_lines(results))


@app.command()
def check(
    recognizer: Annotated[str | None, typer.Argument(help="Name, file or FILE.py:build.")] = None,
    method: Annotated[str | None, typer.Option(help="Check a saliency method instead.")] = None,
    fill: Annotated[str | None, typer.Option(help="Check a fill instead.")] = None,
) -> None:
    """Whether a recognizer, method or fill keeps what the program relies on; 1 if it does not."""
    from facefocus.check import check_lines, check_named

    results = check_named(recognizer, method=method, fill=fill)
    _print_lines(check_lines(results))
    raise typer.Exit(int(not all(result.passed for result in results)))


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (TOML).")],
    faces: Annotated[Path | None, typer.Option(help="A prepared face set.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME by default.")] = None,
    backend: Backend = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Run an experiment, or what is left of it, and print its table."""
    with _long_job() as progress:
        from facefocus.report.tables import print_summary
        from facefocus.workflow import run_experiment

        folder = run_experiment(
            experiment, faces=faces, out=out, backend=backend, workers=workers, progress=progress
        )
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


@models_app.command("list")
def models_list() -> None:
    """A table of the recognizers, and which of them are here."""
    from facefocus.catalog import table_lines

    _print_lines(table_lines())


@models_app.command("show")
def models_show(name: Known) -> None:
    """Everything that is known of a recognizer, and how to get it."""
    from facefocus.catalog import entry_lines

    _print_lines(entry_lines(name))


@models_app.command("fetch")
def models_fetch(
    name: Known,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the license.")] = False,
) -> None:
    """Download the weights of a recognizer, or say how to get them by hand."""
    from facefocus.models import zoo

    # The bars begin with the first byte, so that they do not draw over the question.
    with ExitStack() as stack:
        shown = cache(lambda: stack.enter_context(_long_job()))
        path, lines = zoo.fetch(
            name, confirm=lambda terms: _accepted(terms, yes), progress=lambda *at: shown()(*at)
        )
    _print_lines([*lines, f"weights {path or 'not here'}"])


@models_app.command("add")
def models_add(
    name: Known, file: Annotated[Path, typer.Argument(help="A weights file that you have.")]
) -> None:
    """Check a weights file of yours, and keep a copy where it is found."""
    from facefocus.models import zoo

    path, lines = zoo.add(name, file)
    _print_lines([*lines, f"weights {path}"])


def _accepted(terms: str, yes: bool) -> bool:
    print(terms)
    try:
        return yes or typer.confirm("Fetch it?")
    except typer.Abort:
        # Nobody there to ask is no consent.
        return False


def _print_lines(lines: Iterable[str]) -> None:
    print("\n".join(lines))


@ls_app.command("models")
def ls_models() -> None:
    """Recognizers of the zoo."""
    from facefocus.models import zoo

    _print_lines(zoo.names())


@ls_app.command("methods")
def ls_methods() -> None:
    """Saliency methods and baselines."""
    from facefocus.saliency.methods import METHODS

    _print_lines(f"{name} ({METHODS[name].kind})" for name in METHODS)


@ls_app.command("objectives")
def ls_objectives() -> None:
    """What a gradient explains."""
    from facefocus.saliency.objectives import OBJECTIVES

    _print_lines(OBJECTIVES)


@ls_app.command("fills")
def ls_fills() -> None:
    """What a hidden pixel is replaced with."""
    from facefocus.occlusion.fills import FILLS

    _print_lines(FILLS)


@ls_app.command("layers")
def ls_layers(
    model: Annotated[str, typer.Argument(help="A recognizer.")],
) -> None:
    """Convolution calls of a recognizer in execution order, with the names they answer to."""
    from facefocus.check import layer_lines

    _print_lines(layer_lines(model))


if __name__ == "__main__":
    main()
