"""``facefocus pairs``, ``sanity`` and ``audit``: whether maps and figures can be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facefocus.cli.console import print_blocks
from facefocus.cli.options import (
    EXPERIMENTS,
    REPORTS,
    AsJson,
    Backend,
    FacesDir,
    Fill,
    Model,
    Reading,
    Rule,
    StoreDir,
)
from facefocus.cli.printing import long_job, show_lines
from facefocus.core.text import number

if TYPE_CHECKING:
    import polars as pl

    from facefocus.evaluation.randomization import Randomization

commands = typer.Typer()


@commands.command(rich_help_panel=EXPERIMENTS)
def pairs(
    faces: FacesDir,
    model: Model,
    method: Annotated[list[str], typer.Option(help="A saliency method. May be repeated.")],
    layer: Annotated[str, typer.Option(help="Layer or group, such as N/2, attention:N.")] = "N",
    count: Annotated[int, typer.Option("--pairs", min=2, help="Number of pairs.")] = 500,
    fill: Fill = "black",
    rule: Rule = "eer",
    backend: Backend = "auto",
    store: StoreDir = None,
    preprocessing: Reading = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well maps explain single pairs of images.

    Takes a face set, a recognizer and saliency methods. Prints the area under each method's
    insertion and deletion curves on verification pairs.
    """
    from facefocus.benchmark.pairs import pair_level

    with long_job() as progress:
        table = pair_level(
            faces,
            model,
            method,
            layer=layer,
            pairs=count,
            fill=fill,
            rule=rule,
            backend=backend,
            store=store,
            preprocessing=preprocessing,
            progress=progress,
        )
    show_lines([json.dumps(curves_json(table))] if as_json else pairs_lines(table))


def pairs_lines(table: pl.DataFrame) -> Iterator[str]:
    """A line for each method: areas under its curves, and the audit."""
    first = table.row(0, named=True)
    yield f"pairs {first['pairs']} ({first['mated']} mated)"
    yield f"threshold {number(first['threshold'], 4)} ({first['threshold_rule']})"
    for (method, layer), rows in table.group_by(["method", "layer"], maintain_order=True):
        area = dict(rows.select("mode", "area").unique().iter_rows())
        name = f"{method} {layer}" if layer else f"{method}"
        yield (
            f"{name} deletion {number(area['deletion'], 4)} (lower is better)"
            f" insertion {number(area['insertion'], 4)} (higher is better)"
            f" degenerate {rows['degenerate'][0]} ill-conditioned {rows['ill_conditioned'][0]}"
        )


def curves_json(table: pl.DataFrame) -> list[dict[str, Any]]:
    """One plain object for each curve, its points in two lists."""
    keys = [name for name in table.columns if name not in ("share", "accuracy")]
    return table.group_by(keys, maintain_order=True).agg("share", "accuracy").to_dicts()


@commands.command(rich_help_panel=EXPERIMENTS)
def sanity(
    faces: FacesDir,
    model: Model,
    method: Annotated[list[str], typer.Option(help="A gradient method. May be repeated.")],
    layer: Annotated[
        list[str], typer.Option(help="Layer or group, as N/2, norm:N. May be repeated.")
    ],
    identities: Annotated[int, typer.Option(min=1, help="Number of identities.")] = 10,
    preprocessing: Reading = None,
) -> None:
    """Test whether maps depend on what the recognizer learned.

    Takes a face set, a recognizer and gradient methods. Shuffles the weights of ever more layers,
    and prints the rank correlation between the maps before and after: near 0 is good.
    """
    from facefocus.benchmark.sanity import randomized_maps

    with long_job() as progress:
        results = randomized_maps(
            faces,
            model,
            method,
            layer,
            identities=identities,
            preprocessing=preprocessing,
            progress=progress,
        )
    show_lines(sanity_lines(results))


def sanity_lines(results: Sequence[Randomization]) -> Iterator[str]:
    """A line for each method, layer and depth; near 1, a map ignores what was learned."""
    for result in results:
        alike = result.correlations
        left_out = f", {alike.degenerate} without a map" if alike.degenerate else ""
        mean = "none" if alike.mean is None else number(alike.mean, signed=True)
        yield (
            f"{result.config.method} {result.config.layer} {result.share:.0%} of the layers"
            f" shuffled: rank correlation {mean}{left_out}"
        )


@commands.command(rich_help_panel=REPORTS)
def audit(
    run: Annotated[Path | None, typer.Argument(help="A run folder, or a folder of runs.")] = None,
    matrix: Annotated[
        str | None,
        typer.Option(help="A transfer matrix (CSV) instead; 'table14.csv' is the paper's."),
    ] = None,
) -> None:
    """Test whether rates come from small masks or from hidden whole faces.

    Takes a run, or the transfer matrix of any paper. Prints the share of identities that must have
    lost the whole face, and whether recognition depends on the budget and the fill.
    """
    from facefocus.paper.published import shipped
    from facefocus.report.audit_blocks import audit_document

    print_blocks(audit_document(run, matrix, shipped=shipped))
