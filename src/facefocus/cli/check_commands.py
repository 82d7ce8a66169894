"""``facefocus check``, ``pairs``, ``sanity`` and ``audit``: whether things are what they seem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from facefocus.cli.options import Backend, FacesDir, Model, Reading, Rule, StoreDir, words_of
from facefocus.cli.printing import long_job, show_lines

#: The commands of this file, for the program's own list.
commands = typer.Typer()


@commands.command()
def check(
    recognizer: Annotated[str | None, typer.Argument(help="Name, file or FILE.py:build.")] = None,
    method: Annotated[str | None, typer.Option(help="Check a saliency method instead.")] = None,
    fill: Annotated[str | None, typer.Option(help="Check a fill instead.")] = None,
    faces: Annotated[Path | None, typer.Option(help="Check a prepared face set instead.")] = None,
    preprocessing: Reading = None,
) -> None:
    """Whether a recognizer, method, fill or face set is what the program relies on; 1 if not."""
    from facefocus.testing import check_lines, check_named

    results = check_named(
        recognizer, method=method, fill=fill, faces=faces, preprocessing=words_of(preprocessing)
    )
    show_lines(check_lines(results))
    raise typer.Exit(int(not all(result.passed for result in results)))


@commands.command()
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

    with long_job() as progress:
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
            preprocessing=words_of(preprocessing),
            progress=progress,
        )
    show_lines([json.dumps(pairwise.as_json(table))] if as_json else pairwise.report_lines(table))


@commands.command()
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

    with long_job() as progress:
        results = randomized_maps(
            faces,
            model,
            method,
            layer,
            identities=identities,
            preprocessing=words_of(preprocessing),
            progress=progress,
        )
    show_lines(report_lines(results))


@commands.command()
def audit(
    run: Annotated[Path | None, typer.Argument(help="A run folder, or a folder of runs.")] = None,
    matrix: Annotated[
        str | None,
        typer.Option(help="Any transfer matrix (CSV); 'table14.csv' is the paper's."),
    ] = None,
) -> None:
    """Whether rates come from small masks, or look as if whole faces had been hidden."""
    from facefocus.paper.published import shipped
    from facefocus.report.audit_text import audit_lines

    show_lines(audit_lines(run, matrix, shipped=shipped))
