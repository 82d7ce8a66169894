"""``facefocus synthetic`` and ``demo``: drawn faces whose identity lives in known parts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facefocus.cli import BEGAN
from facefocus.cli.console import print_blocks
from facefocus.cli.options import (
    KNOWN_ANSWER,
    Backend,
    DemoOut,
    Fill,
    Known,
    Out,
    StoreDir,
    TrainedOut,
)
from facefocus.cli.printing import columns, long_job, show, show_lines
from facefocus.cli.usage import CommandGroup
from facefocus.core.text import number

if TYPE_CHECKING:
    from facefocus.planted.reliance import Planted

commands = typer.Typer()
synthetic = typer.Typer(cls=CommandGroup, no_args_is_help=True)
commands.add_typer(
    synthetic,
    name="synthetic",
    rich_help_panel=KNOWN_ANSWER,
    help="Draw faces whose identity lies in known parts; train and check recognizers on them.",
)


@synthetic.command("make")
def synthetic_make(
    world: Annotated[str, typer.Argument(help="Where identity lies: all, eyes, marks, ...")],
    identities: Annotated[int, typer.Option(help="Number of identities.")] = 60,
    photos: Annotated[int, typer.Option(help="Images of each identity.")] = 6,
    seed: Annotated[int, typer.Option(help="Another seed draws other people.")] = 112,
    out: Out = None,
) -> None:
    """Draw a face set of nobody. Takes a world; writes a face set to faces/synthetic-WORLD."""
    with long_job() as progress:
        from facefocus.faces.sources.synthetic import make_faceset, planted

        parts = planted(world)
        folder = out or Path("faces") / f"synthetic-{world}"
        make_faceset(
            folder, world=world, identities=identities, photos=photos, seed=seed, progress=progress
        )
    show(f"{identities * photos} photos of {identities} people; planted: {', '.join(parts)}")
    show(f"faces {folder}")


@synthetic.command("train")
def synthetic_train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe (TOML), a card, or the name of an embedded recognizer.")
    ],
    out: TrainedOut = None,
    faces: Annotated[
        Path | None, typer.Option(help="The recipe's face set, where it is prepared already.")
    ] = None,
) -> None:
    """Train a small recognizer on drawn faces, or on a face set of yours.

    Takes a recipe. Writes weights and a card with the recipe, its results and their hashes. Can be
    stopped at any moment, and goes on where it was. Exit code 1: it learned too little, or does not
    rely on the planted part.
    """
    with long_job() as progress:
        from facefocus.planted.train.card import card_failures, train_recognizer

        card = train_recognizer(
            recipe, out or Path("trained") / Path(recipe).stem, faces=faces, progress=progress
        )
    show(card.read_text(encoding="utf-8"), end="")
    show(f"card {card}")
    failures = card_failures(card)
    show_lines(f"FAILED: {failure}" for failure in failures)
    raise typer.Exit(int(bool(failures)))


@synthetic.command("check")
def synthetic_check(
    model: Known,
    fill: Fill = "black",
    world: Annotated[
        str | None, typer.Option(help="Where identity lies. Default: the recognizer's own world.")
    ] = None,
) -> None:
    """Check that a recognizer relies on the planted part, and on nothing else.

    Hides the part, and as many pixels elsewhere, in images of new identities. Prints what is left
    of recognition. Exit code 1: it does not rely on the part, or knows too few with nothing hidden.
    """
    from facefocus.planted.reliance import check_planted
    from facefocus.planted.train.recipe import world_of

    with long_job() as progress:
        from facefocus.models.zoo import load

        result = check_planted(load(model), world or world_of(model), fill=fill, progress=progress)
    show_lines(planted_lines(result))
    raise typer.Exit(int(not result.passed))


def planted_lines(result: Planted) -> Iterator[str]:
    """A line for each figure, the verdict last."""
    from facefocus.planted.reliance import CHANCE, KEPT, KNOWN

    yield f"world {result.world}, {result.people} unseen people, {result.photos} photos of each"
    area = f"{100 * result.area:.1f} %"
    yield f"hidden {area} of the frame, {result.fill}; threshold: FMR 1e-2, clean"
    yield f"clean tmr {number(result.clean_tmr, 4)}"
    for name, hidden in (("planted part", result.part), ("elsewhere", result.elsewhere)):
        yield (
            f"{name} hidden: tmr {number(hidden.tmr, 4)}, fmr {number(hidden.fmr, 4)}, "
            f"tmr at its own threshold {number(hidden.tmr_recomputed, 4)}"
        )
    yield f"kept elsewhere {number(result.kept, 4)}"
    asked = f"clean at least {KNOWN:g}, the part hidden at most {CHANCE:g}"
    passed = f"passed: {asked}, elsewhere at least {KEPT:g} of the clean tmr"
    yield f"FAILED: {result.failure}" if result.failure else passed


@commands.command("truth-pairs", rich_help_panel=KNOWN_ANSWER)
def truth_pairs(
    experiment: Annotated[Path, typer.Argument(help="An experiment on pairs (TOML).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results. Default: runs/NAME.")
    ] = None,
    document: Annotated[
        Path | None, typer.Option(help="The document. Default: results-pairs.md in the folder.")
    ] = None,
    backend: Backend = "auto",
    store: StoreDir = None,
) -> None:
    """Measure which methods find what is true of pairs of real faces.

    Takes an experiment with the face sets of 'prepare patch-lfw' and 'prepare transplant'. Writes
    scores of every pair (pairs.parquet) and a document. Can be stopped at any moment, and goes on
    where it was.
    """
    from facefocus.planted.truth_pairs import read_pair_experiment, run_truth_pairs
    from facefocus.planted.truth_pairs_report import write_document

    folder = out or Path("runs") / read_pair_experiment(experiment).name
    with long_job() as progress:
        table = run_truth_pairs(experiment, folder, backend=backend, store=store, progress=progress)
    named = document or folder / "results-pairs.md"
    command = f"facefocus truth-pairs {experiment} --backend {backend} --document {named}"
    show(f"scores {folder / 'pairs.parquet'}")
    show(f"document {write_document(table, command, named)}")


@commands.command(rich_help_panel=KNOWN_ANSWER)
def demo(
    out: DemoOut = Path("runs/demo"), backend: Backend = "auto", store: StoreDir = None
) -> None:
    """Do the main job on drawn faces: needs no photographs and no download, takes a minute.

    Shows a first picture of maps, ranks methods where it is known what they must find, explains one
    drawn person as 'facefocus person' does, and writes a page.
    """
    settings: dict[str, Any] = {"backend": backend, "store": store}
    with long_job() as progress:
        from facefocus.planted.demo import first_picture, outcome, run_demo

        picture = first_picture(out, progress=progress, began=BEGAN, **settings)
        show(f"first maps {picture}")
        run_demo(out, progress=progress, **settings)
        demo_outcome = outcome(out)
    print_blocks([demo_outcome.truth, demo_outcome.ranking])
    show_lines(demo_outcome.sentences)
    from facefocus.benchmark.run_log import RunLog
    from facefocus.person.person_demo import demo_person, person_blocks
    from facefocus.planted.demo_page import write_demo_page
    from facefocus.report.document import Link, Picture

    with long_job() as progress, RunLog(out / demo_outcome.world).timed("person"):
        _, shown = demo_person(out, progress=progress, **settings)
    of_person, following = person_blocks(out, shown), _next_commands(out, demo_outcome.world, store)
    print_blocks([block for block in of_person if not isinstance(block, Picture | Link)])
    page = write_demo_page(out, demo_outcome, of_person, following)
    show_lines(["", demo_outcome.finding, f"page {page}", "next:", *columns(following.items())])


def _next_commands(out: Path, world: str, store: str | None) -> dict[str, str]:
    """What a person may try next: what for, and a command that works as it stands."""
    from facefocus.person.person_demo import MODEL, UNSEEN, WORLD, photos_of

    kept: list[str | Path] = [] if store is None else ["--store", store]
    photos, gallery = photos_of(out), out / "faces" / f"synthetic-{WORLD}"
    lines: dict[str, list[str | Path]] = {
        "explain a person (put your photographs in the folder's place)": [
            "person", photos, "--model", MODEL, "--unseen", UNSEEN, "--gallery", gallery,
            "--out", out.with_name(f"{out.name}-person"), *kept,
        ],
        "run it again (change the file: other methods, budgets, fills)": [
            "run", out / world / "experiment.toml",
            "--out", out.with_name(f"{out.name}-again"), *kept,
        ],
        "print which methods find what is planted": ["report", out / world, "--what", "truth"],
    }  # fmt: skip
    return {what: shlex.join(["facefocus", *map(str, line)]) for what, line in lines.items()}
