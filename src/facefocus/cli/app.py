"""The command line: one function per command, no logic."""

from __future__ import annotations

import io
import json
import logging
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from facefocus.cli.console import for_tables, shown_progress
from facefocus.core.errors import UserError, blaming_own_code
from facefocus.core.progress import Progress
from facefocus.core.text import visible

if TYPE_CHECKING:
    from facefocus.models.recognizer import Recognizer

app = typer.Typer(
    help="Which regions of a face make a recognizer know this person - proven by hiding them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
prepare_app = typer.Typer(help="Align photographs into a face set.", no_args_is_help=True)
models_app = typer.Typer(
    help="Recognizers: what there is, and how to get it.", no_args_is_help=True
)
store_app = typer.Typer(help="What was computed, kept for later runs.", no_args_is_help=True)
ls_app = typer.Typer(help="List what can be named in an experiment.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")
app.add_typer(models_app, name="models")
app.add_typer(store_app, name="store")
app.add_typer(ls_app, name="ls")

Source = Annotated[Path, typer.Option(help="Archive or folder of the photographs.")]


def _folder(path: Path | None) -> Path | None:
    from facefocus.core.files import check_folder

    return None if path is None else check_folder(path, "--out")


Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the face set; faces/NAME by default.", callback=_folder),
]
RunOut = Annotated[
    Path | None, typer.Option("--out", help="Run folder; runs/NAME by default.", callback=_folder)
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


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files need not be UTF-8: what cannot be printed is escaped, as on stderr.
        sys.stdout.reconfigure(errors="backslashreplace")
    log = logging.getLogger("facefocus")
    log.handlers = [_Notices()]
    # Wherever it stands: not only before the command.
    arguments = [word for word in sys.argv[1:] if word != "--traceback"]
    try:
        with blaming_own_code():
            app(arguments)
    except UserError as error:
        if "--traceback" in sys.argv:
            traceback.print_exception(error)
        else:
            _print(error, error=True)
        raise SystemExit(2) from None


def _words(text: str | None) -> dict[str, object] | None:
    """What '--preprocessing' says."""
    from facefocus.models.preprocessing import read_words

    return None if text is None else read_words(text)


class _Notices(logging.Handler):
    """Notices and warnings on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        _print(self.format(record), error=True)


def _print(text: object, *, end: str = "\n", error: bool = False) -> None:
    """Print a text; names in it, which come from anywhere, must not command the terminal."""
    print(visible(str(text), lines=True), end=end, file=sys.stderr if error else sys.stdout)


class _Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM: as a cluster does when the time is up."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


@contextmanager
def _long_job() -> Iterator[Progress]:
    """Progress on the terminal; Ctrl-C and SIGTERM are one line and exit code 130 or 143."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with shown_progress() as progress:
            yield progress
    except KeyboardInterrupt as stopped:
        _print("Interrupted. What is finished is kept: run it again to go on.", error=True)
        raise typer.Exit(143 if isinstance(stopped, _Terminated) else 130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@app.callback(invoke_without_command=True)
def _global(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show in full where an error came from.")
    ] = False,
) -> None:
    if version:
        from facefocus import __version__

        _print(__version__)
        raise typer.Exit


@app.command()
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
        _print_lines(fetching.table_lines())
        return
    # The bars begin with the first byte, so that they do not draw over the question.
    with ExitStack() as stack:
        shown = cache(lambda: stack.enter_context(_long_job()))
        results = list(
            fetching.fetch(
                names,
                confirm=lambda terms, asks: _accepted(terms, yes or not asks),
                mirror=url,
                progress=lambda *at: shown()(*at),
            )
        )
    for result in results:
        _print("\n".join(result.lines), error=not result.here)
    if not all(result.here for result in results):
        raise typer.Exit(1)
    _print(f"Next: {fetching.next_step(names)}")


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
    with _long_job() as progress:
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
    _print_lines(report.lines())


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
    with _long_job() as progress:
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
    _print_lines(report.lines())


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
    with _long_job() as progress:
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
    _print_lines(report.lines())


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
    with _long_job() as progress:
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
    _print_lines(report.lines())


@prepare_app.command("synthetic")
def prepare_synthetic(
    world: Annotated[str, typer.Option(help="Where identity lives: all, eyes, marks, ...")],
    identities: Annotated[int, typer.Option(help="People.")] = 60,
    photos: Annotated[int, typer.Option(help="Photos of each.")] = 6,
    seed: Annotated[int, typer.Option(help="Of everybody and everything drawn.")] = 112,
    out: Out = None,
) -> None:
    """Drawn faces whose identity is known to live in known parts; nobody's photographs."""
    with _long_job() as progress:
        from facefocus.faces.sources.synthetic import make_faceset, planted

        parts = planted(world)
        folder = out or Path("faces") / f"synthetic-{world}"
        make_faceset(
            folder, world=world, identities=identities, photos=photos, seed=seed, progress=progress
        )
    _print(f"{identities * photos} photos of {identities} people; planted: {', '.join(parts)}")
    _print(f"faces {folder}")


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe (TOML), a card, or the name of an embedded recognizer.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder; trained/NAME by default.", callback=_folder)
    ] = None,
    faces: Annotated[
        Path | None, typer.Option(help="The recipe's faces where they are prepared already.")
    ] = None,
) -> None:
    """Train a small recognizer on drawn faces or a face set of yours; goes on after a break."""
    with _long_job() as progress:
        from facefocus.planted.train.card import train_recognizer

        card = train_recognizer(
            recipe, out or Path("trained") / Path(recipe).stem, faces=faces, progress=progress
        )
    _print(card.read_text(encoding="utf-8"), end="")
    _print(f"card {card}")


@app.command()
def planted(
    model: Known,
    fill: Annotated[str, typer.Option(help="What hides a pixel.")] = "black",
    world: Annotated[str | None, typer.Option(help="The recognizer's own by default.")] = None,
) -> None:
    """Whether a recognizer of a planted world reads that part; 1 if it does not."""
    from facefocus.planted.reliance import check_planted, report_lines
    from facefocus.planted.train.recipe import world_of

    with _long_job() as progress:
        from facefocus.models.zoo import load

        found = check_planted(load(model), world or world_of(model), fill=fill, progress=progress)
    _print_lines(report_lines(found))
    raise typer.Exit(int(not found.passed))


@app.command()
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

    with _long_job() as progress:
        verified = verify_recognizer(
            faces,
            model,
            rule=rule,
            backend=backend,
            preprocessing=_words(preprocessing),
            store=store,
            progress=progress,
        )
    _print_lines([json.dumps(asdict(verified))] if as_json else report_lines(verified))


@app.command()
def pairs(
    faces: FacesDir,
    model: Model,
    method: Annotated[list[str], typer.Option(help="A saliency method; may be given again.")],
    layer: Annotated[str, typer.Option(help="Layer or group.")] = "N",
    count: Annotated[int, typer.Option("--pairs", min=2, help="Pairs to try.")] = 500,
    fill: Annotated[str, typer.Option(help="What hides a pixel.")] = "black",
    rule: Rule = "eer",
    backend: Backend = "auto",
    store: StoreDir = None,
    preprocessing: Reading = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Insertion and deletion curves on verification pairs: how good a map is for its own pair."""
    from facefocus.benchmark import pairs as pairwise

    with _long_job() as progress:
        table = pairwise.pair_level(
            faces,
            model,
            method,
            layer=layer,
            pairs=count,
            fill=fill,
            rule=rule,
            backend=backend,
            store=store,
            preprocessing=_words(preprocessing),
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
    preprocessing: Reading = None,
) -> None:
    """Whether maps depend on what the recognizer learned: its weights are shuffled step by step."""
    from facefocus.benchmark.sanity import randomized_maps, report_lines

    with _long_job() as progress:
        results = randomized_maps(
            faces,
            model,
            method,
            layer,
            identities=identities,
            preprocessing=_words(preprocessing),
            progress=progress,
        )
    _print_lines(report_lines(results))


@app.command()
def check(
    recognizer: Annotated[str | None, typer.Argument(help="Name, file or FILE.py:build.")] = None,
    method: Annotated[str | None, typer.Option(help="Check a saliency method instead.")] = None,
    fill: Annotated[str | None, typer.Option(help="Check a fill instead.")] = None,
    faces: Annotated[Path | None, typer.Option(help="Check a prepared face set instead.")] = None,
    preprocessing: Reading = None,
) -> None:
    """Whether a recognizer, method, fill or face set is what the program relies on; 1 if not."""
    from facefocus.models.check import check_lines, check_named

    results = check_named(
        recognizer, method=method, fill=fill, faces=faces, preprocessing=_words(preprocessing)
    )
    _print_lines(check_lines(results))
    raise typer.Exit(int(not all(result.passed for result in results)))


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (TOML).")],
    faces: Annotated[Path | None, typer.Option(help="A prepared face set.")] = None,
    out: RunOut = None,
    backend: Backend = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    memory: Memory = None,
    store: StoreDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it will cost: see 'plan'.")
    ] = False,
) -> None:
    """Run an experiment, or what is left of it, and print its table."""
    if dry_run:
        plan(experiment, faces, out, backend, workers, memory, store)
        return
    with _long_job() as progress:
        from facefocus.benchmark.run import run_experiment
        from facefocus.core.locations import run_folders
        from facefocus.models.memory import parse_size
        from facefocus.report.tables import print_summary

        folder = run_experiment(
            experiment,
            faces=faces,
            out=out,
            store=store,
            backend=backend,
            workers=workers,
            memory=None if memory is None else parse_size(memory),
            progress=progress,
        )
    print_summary(folder, Console())
    _print_lines(f"results {one / 'results.parquet'}" for one in run_folders(folder))


@app.command()
def plan(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (TOML).")],
    faces: Annotated[Path | None, typer.Option(help="A prepared face set.")] = None,
    out: RunOut = None,
    backend: Backend = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    memory: Memory = None,
    store: StoreDir = None,
) -> None:
    """What an experiment, or the rest of it, will cost: passes, time, disk; nothing is written."""
    with _long_job() as progress:
        from facefocus.benchmark.cost import estimate_lines
        from facefocus.benchmark.run import open_sessions
        from facefocus.models.memory import parse_size

        size = None if memory is None else parse_size(memory) // workers
        folder, sessions = open_sessions(
            experiment, faces, out, store, backend, size, progress=progress
        )
        lines = list(estimate_lines(sessions, folder, workers))
    _print_lines(lines)


@app.command()
def doctor(
    model: Annotated[
        str | None, typer.Option(help="Measure on this recognizer: see 'facefocus ls models'.")
    ] = None,
    preprocessing: Reading = None,
) -> None:
    """What this machine has to run recognizers on, how fast each is, and which will be used."""
    from facefocus.benchmark.doctor import examine, report_lines

    _print_lines(report_lines(examine(model, _words(preprocessing))))


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="A study, or one of its stages (TOML).")],
    faces: Annotated[
        list[str] | None, typer.Option(help="A prepared face set; may be given again.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A recognizer; may be given again.")
    ] = None,
    identities: Annotated[int | None, typer.Option(min=1, help="People of each run.")] = None,
    limited: Annotated[
        int | None, typer.Option(min=1, help="People of the methods that need many passes.")
    ] = None,
    max_images: Annotated[int | None, typer.Option(min=2, help="Photos of a person.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; runs/STUDY by default.", callback=_folder)
    ] = None,
    backend: Backend = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    store: StoreDir = None,
) -> None:
    """Run experiments that build on each other, or what is left of them: the paper's, for one."""
    with _long_job() as progress:
        from facefocus.paper.study import Wanted, run_study

        wanted = Wanted(tuple(faces or ()), tuple(model or ()), identities, limited, max_images)
        done = run_study(
            file,
            wanted,
            out=out,
            store=store,
            backend=backend,
            workers=workers,
            progress=progress,
        )
    left_out = [f"left out: {line}" for line in done.missing]
    _print_lines([*left_out, *(f"run {one}" for one in done.runs)])
    _print(f"Next: facefocus report {done.folder}")


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the runs and the page.", callback=_folder)
    ] = Path("runs/demo"),
    backend: Backend = "auto",
    store: StoreDir = None,
) -> None:
    """The main job on drawn faces and embedded recognizers: needs no data, and minutes."""
    with _long_job() as progress:
        from facefocus.planted.demo import outcome, run_demo

        page = run_demo(out, backend=backend, store=store, progress=progress)
        console = for_tables(Console())
        found, lines = outcome(out, width=console.width)
    console.print(*found)
    _print_lines([*lines, f"page {page}"])


@app.command()
def status(run: Run) -> None:
    """How far a run is."""
    from facefocus.benchmark.run import run_status
    from facefocus.core.locations import run_folders

    for stage in run_status(run):
        _print(f"{stage.stage} {stage.done}/{stage.total}")
    written = all((folder / "results.parquet").is_file() for folder in run_folders(run))
    _print("results " + ("yes" if written else "not yet"))


@app.command()
def report(
    run: Run,
    with_faces: Annotated[
        bool, typer.Option("--with-faces", help="Embed photographs in the page.")
    ] = False,
) -> None:
    """Print the table of a run, or the leaderboards of a study, and write the page."""
    from facefocus.paper.study_page import is_study, print_study, write_study_report
    from facefocus.report.html import write_report
    from facefocus.report.tables import print_summary

    study = is_study(run)
    page = (write_study_report if study else write_report)(run, with_faces=with_faces)
    (print_study if study else print_summary)(run, Console())
    _print(f"page {page}")


@app.command()
def tables(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs.")],
    table: Annotated[str, typer.Option(help="2 to 15, all, or leaderboard.")] = "all",
    form: Annotated[
        str, typer.Option("--format", help="text, markdown, latex, csv or html.")
    ] = "text",
    on_degenerate: Annotated[
        str, typer.Option(help="none: exactly k pixels; inclusive: the paper's rule.")
    ] = "none",
) -> None:
    """The paper's tables with your numbers beside the printed ones."""
    from facefocus.paper.paper_formats import render
    from facefocus.report.tables import read_runs

    _print(render(read_runs(runs), table, form, policy=on_degenerate), end="")


@app.command()
def results(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs.")],
    out: Annotated[Path, typer.Option(help="The document (Markdown).")] = Path("results.md"),
) -> None:
    """The paper's questions answered from runs, as a document without a figure typed by hand."""
    from facefocus.core.files import write_atomically
    from facefocus.paper.questions import results_document

    text = results_document(runs)
    write_atomically(out, lambda file: file.write(text.encode()))
    _print(f"results {out}")


@app.command()
def audit(
    run: Annotated[Path | None, typer.Argument(help="A run folder, or a folder of runs.")] = None,
    matrix: Annotated[
        str | None,
        typer.Option(help="Any transfer matrix (CSV); 'table14.csv' is the paper's."),
    ] = None,
) -> None:
    """Whether rates come from small masks, or look as if whole faces had been hidden."""
    from facefocus.analysis.audit import audit_lines

    _print_lines(audit_lines(run, matrix))


@app.command()
def truth(
    run: Run,
    out: Annotated[Path, typer.Option(help="The Markdown file.")] = Path("results-truth.md"),
) -> None:
    """Which methods find the planted part: a note on a run on synthetic faces, with pictures."""
    from facefocus.planted.truth_report import write_note

    _print(f"note {write_note(run, out)}")


@models_app.command("list")
def models_list() -> None:
    """A table of the recognizers, and which of them are here."""
    from facefocus.models.catalog import table_lines

    _print_lines(table_lines())


@models_app.command("show")
def models_show(name: Known) -> None:
    """Everything that is known of a recognizer, and how to get it."""
    from facefocus.models.catalog import entry_lines

    _print_lines(entry_lines(name))


@models_app.command("cards")
def models_cards() -> None:
    """How good the embedded recognizers are, from their cards."""
    from facefocus.models.catalog import card_lines

    _print_lines(card_lines())


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
    _print_lines([*lines, f"weights {path}"])


def _accepted(terms: Iterable[str], yes: bool) -> bool:
    _print_lines(terms)
    return yes or _agreed("Accept these terms and fetch?")


def _agreed(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        # Nobody there to ask is no consent.
        return False


def _print_lines(lines: Iterable[str]) -> None:
    _print("\n".join(lines))


@store_app.command("size")
def store_size(store: StoreDir = None) -> None:
    """Where artefacts are kept, how many, and what they take."""
    from facefocus.core.locations import store_dir
    from facefocus.core.store import Store

    kept = Store(store or store_dir())
    count, size = kept.size()
    _print(f"{count} artefacts, {size / 1e6:,.1f} MB in {kept.root}")


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
    if count and not yes and not _agreed(f"Remove {what}?"):
        _print("Nothing was removed.")
        raise typer.Exit(1)
    kept.clear()
    _print(f"removed {what}")


@ls_app.command("models")
def ls_models() -> None:
    """Recognizers, and which of them are here."""
    from facefocus.models.catalog import name_lines

    _print_lines(name_lines())


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
    preprocessing: Reading = None,
) -> None:
    """Convolution calls of a recognizer in execution order, with the names they answer to."""
    from facefocus.models.check import layer_lines

    _print_lines(layer_lines(model, _words(preprocessing)))


if __name__ == "__main__":
    main()
