"""``facefocus models`` and ``facefocus verify``: recognizers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facefocus.cli.options import (
    RECOGNIZERS,
    AsJson,
    Backend,
    FacesDir,
    Known,
    Model,
    Reading,
    Rule,
    StoreDir,
)
from facefocus.cli.printing import columns, long_job, show_lines
from facefocus.cli.usage import CommandGroup
from facefocus.core.errors import UserError
from facefocus.core.text import number

if TYPE_CHECKING:
    from facefocus.benchmark.verify import Verified
    from facefocus.core.progress import Progress
    from facefocus.models.layers import Call, LayerTable
    from facefocus.models.zoo import Entry
    from facefocus.testing import CheckResult

commands = typer.Typer()
models = typer.Typer(cls=CommandGroup, no_args_is_help=True)
commands.add_typer(
    models,
    name="models",
    rich_help_panel=RECOGNIZERS,
    help="List, add and check recognizers, and show their layers.",
)


@models.command("list")
def models_list() -> None:
    """List all known recognizers: license, terms, and whether each is here or how to get it."""
    from facefocus.models import zoo

    show_lines(columns([_HEADINGS, *(_row(name, entry) for name, entry in zoo.entries().items())]))


_HEADINGS = ("name", "architecture", "trained on", "data", "license", "commercial", "here?")


def _row(name: str, entry: Entry) -> tuple[str, ...]:
    # Terms can be long; what they say in brackets is for `models show`.
    terms = entry.license.partition(" (")[0]
    if entry.present():
        state = entry.needs() or "here"
    else:
        state = f"facefocus {'fetch' if entry.url else 'models show'} {name}"
    return name, entry.architecture, entry.training, entry.data, terms, entry.commercial, state


@models.command("show")
def models_show(name: Known) -> None:
    """Print all that is known about one recognizer, and how to get it."""
    show_lines(entry_lines(name))


def entry_lines(name: str) -> Iterator[str]:
    """Every field of a recognizer, one per line, and how to get it where its file is absent.

    Raises:
        UserError: No such recognizer.
    """
    from facefocus.models import zoo

    entry, own = zoo.describe(name), zoo.full_name(name)
    yield f"name {own}"
    for field, value in entry.model_dump().items():
        if value not in (None, "", []):
            yield f"{field} {value if isinstance(value, str) else json.dumps(value)}"
    path = entry.present()
    yield f"here {path or 'no'}"
    if path is None:
        yield zoo.how_to_get(own)
    elif entry.embedded:
        yield f"card {zoo.card(own)}"


@models.command("cards")
def models_cards() -> None:
    """Print the quality of the recognizers that come with the package, as a Markdown table."""
    show_lines(card_lines())


def card_lines() -> Iterator[str]:
    """Figures of the embedded recognizers from their cards, as a Markdown table.

    Validation on unseen people; `facefocus.planted.reliance` defines what is hidden, and how.
    """
    import tomllib

    from facefocus.models import zoo

    yield "| name | parameters | TMR at FMR 1 % | EER | part hidden | elsewhere hidden: kept |"
    yield "|---|---|---|---|---|---|"
    for name in zoo.embedded():
        card = tomllib.loads(zoo.card(name).read_text("utf-8"))
        seen, hidden = card["validation"], card.get("planted")
        cells = [
            name,
            f"{card['result']['parameters']:,}",
            f"{seen['tmr_at_fmr_1e2']:.3f}",
            f"{seen['eer']:.3f}",
            "-" if hidden is None else f"{hidden['part_tmr']:.3f}",
            "-" if hidden is None else f"{hidden['kept']:.3f}",
        ]
        yield f"| {' | '.join(cells)} |"


@models.command("add")
def models_add(
    name: Annotated[str, typer.Argument(help="A recognizer of the list, or a name of your own.")],
    file: Annotated[Path, typer.Argument(help="The weights file.")],
    architecture: Annotated[
        str | None, typer.Option(help="The network of a new name: iresnet50, mobilefacenet, ...")
    ] = None,
    preprocessing: Reading = None,
    training: Annotated[
        str | None, typer.Option(help="Its training data: 'MS1MV2', 'MS-Celeb-1M', ...")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Whether that data shows real people: real or synthetic.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="That it was trained with: ArcFace, ...")] = None,
    year: Annotated[int | None, typer.Option(help="Of its training.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace other weights.")] = False,
) -> None:
    """Add a weights file of yours.

    Checks that the file fits the network, and copies it to the user's cache. Prints its terms and
    where the copy is. --preprocessing says what differs from the network's own. With --training,
    results tell which recognizers it shares data with: without, transfer to it is "not stated".
    """
    from facefocus.models.add import add_weights
    from facefocus.models.lineage import stated_lineage

    path, lines = add_weights(
        name,
        file,
        architecture=architecture,
        preprocessing=preprocessing,
        lineage=stated_lineage(training=training, data=data, loss=loss, year=year),
        force=force,
    )
    show_lines([*lines, f"weights {path}"])


@models.command("layers")
def models_layers(name: Known, preprocessing: Reading = None) -> None:
    """List the convolution calls of a recognizer in execution order, with their names."""
    show_lines(layer_lines(name, preprocessing))


def layer_lines(
    recognizer: str, preprocessing: Mapping[str, object] | None = None
) -> Iterator[str]:
    """A line for each convolution call, then one for each group of layers.

    Recognizers of the zoo need no weights for it.

    Raises:
        UserError: No such recognizer, or a black box.
    """
    from facefocus.models import zoo
    from facefocus.models.layers import GROUPS

    table = zoo.layers(recognizer, preprocessing)
    yield from columns(
        [
            (
                f"{call.index:>4}",
                *([call.kind] if table.tokens else []),
                call.name,
                _shape(call),
                call.note or "spatial",
                " ".join(n for n in table.names_of(call.index) if not n.isdecimal()),
            )
            for call in table.in_order()
        ]
    )
    for group in (*GROUPS, "all"):
        yield f"group {group:<8} {_members(table, group)}"


def _shape(call: Call) -> str:
    """Channels and grid; of tokens also how many are no patches."""
    from facefocus.models.layers import TokenCall

    if not isinstance(call, TokenCall):
        return f"{call.channels}x{call.height}x{call.width}"
    if call.grid is None:
        return f"{call.channels}x{call.tokens} tokens"
    heads = f"{call.channels // call.tokens} heads " if call.kind == "attention" else ""
    extra = f" + {len(call.grid.extra)} more" if call.grid.extra else ""
    return f"{heads or f'{call.channels}x'}{call.height}x{call.width}{extra}"


def _members(table: LayerTable, group: str) -> str:
    try:
        members = table.resolve(group)
    except UserError:
        return "none: too few convolutions"
    if group == "all":
        return f"the {len(members)} spatial ones"
    return " ".join(map(str, members))


@models.command("check")
def models_check(
    name: Annotated[
        str | None, typer.Argument(help="A recognizer: name, file or FILE.py:build.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Check a saliency method instead.")] = None,
    fill: Annotated[str | None, typer.Option(help="Check a fill instead.")] = None,
    nuisance: Annotated[str | None, typer.Option(help="Check a nuisance instead.")] = None,
    faces: Annotated[
        Path | None,
        typer.Option(help="Check a prepared face set instead; with a FILE, propose its reading."),
    ] = None,
    preprocessing: Reading = None,
) -> None:
    """Check that a recognizer of yours does what all measurements rely on.

    Prints a line for each check. Exit code 1: one of them failed. With a FILE and --faces, tries
    the usual ways of reading a face instead, and prints how well each separates the people.
    """
    from facefocus.testing import check_named

    if name is not None and faces is not None:
        with long_job() as progress:
            lines = list(proposal_lines(name, faces, progress))
        show_lines(lines)
        return

    results = check_named(
        name,
        method=method,
        fill=fill,
        nuisance=nuisance,
        faces=faces,
        preprocessing=preprocessing,
    )
    show_lines(check_lines(results))
    raise typer.Exit(int(not all(result.passed for result in results)))


def proposal_lines(name: str, faces: Path, progress: Progress) -> Iterator[str]:
    """Ways of reading a face, the best first, and which are not significantly worse.

    Raises:
        UserError: As `propose_preprocessing`.
    """
    from facefocus.benchmark.preprocessing_proposals import propose_preprocessing

    proposals = propose_preprocessing(name, faces, progress)
    best = proposals[0]
    yield from columns(
        [
            ("separation", "EER", "", "preprocessing"),
            *(
                (
                    number(proposal.separation, 2),
                    f"{proposal.eer:.1%}",
                    "" if proposal is best or proposal.worse_than(best) else "as good",
                    proposal.line,
                )
                for proposal in proposals
            ),
        ]
    )
    yield (
        "A proposal: the first separates these people best; those marked 'as good' are not"
        f" significantly worse. Nothing was changed. If it is what the recognizer was trained"
        f" with, write it to '{Path(name.rpartition('@')[2]).with_suffix('.toml')}', a line for"
        " each word."
    )


def check_lines(results: Sequence[CheckResult]) -> Iterator[str]:
    """A line for each check, and one on all of them."""
    yield from columns(
        (f"{'ok' if result.passed else 'FAILED':<6}", result.name, result.detail)
        for result in results
    )
    failed = sum(not result.passed for result in results)
    yield f"{len(results)} checks, {failed} failed"


@commands.command(rich_help_panel=RECOGNIZERS)
def verify(
    faces: FacesDir,
    model: Model,
    rule: Rule = "eer",
    backend: Backend = "auto",
    store: StoreDir = None,
    preprocessing: Reading = None,
    as_json: AsJson = False,
) -> None:
    """Measure how good a recognizer is on a face set.

    Takes a prepared face set and a recognizer. Prints accuracy, EER, threshold, TMR and FMR on the
    set's verification pairs.
    """
    from facefocus.benchmark.verify import verify_recognizer

    with long_job() as progress:
        verified = verify_recognizer(
            faces,
            model,
            rule=rule,
            backend=backend,
            preprocessing=preprocessing,
            store=store,
            progress=progress,
        )
    show_lines([json.dumps(asdict(verified))] if as_json else verify_lines(verified))


def verify_lines(verified: Verified) -> Iterator[str]:
    """A line for each figure, accuracy first."""
    report = verified.report
    if report.folds is not None:
        yield (
            f"accuracy {number(report.folds.mean, 4)} +- {number(report.folds.standard_error, 4)}"
            " (0.5000 for refusing everybody)"
        )
        thresholds = report.folds.thresholds
        yield f"accuracy_threshold {number(sum(thresholds) / len(thresholds), 4)}"
    if report.eer is not None:
        yield f"eer {number(report.eer, 4)}"
    yield f"threshold {number(report.threshold, 4)} ({report.rule})"
    for name, rate in (("tmr", report.tmr), ("fmr", report.fmr)):
        if rate is not None:
            yield f"{name} {number(rate, 4)}"
    for name, value in (("1e-2", report.tmr_at_fmr_1e2), ("1e-3", report.tmr_at_fmr_1e3)):
        shown = "too few non-mated pairs" if value is None else number(value, 4)
        yield f"tmr_at_fmr={name} {shown}"
    source = "listed" if verified.listed else "sampled"
    yield (
        f"pairs {report.mated + report.non_mated} ({report.mated} mated,"
        f" {report.non_mated} non-mated, {source}; {verified.missing} missing)"
    )
