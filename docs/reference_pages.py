"""The pages of the reference that are made of the code: experiment files, commands, tables."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from pydantic.fields import FieldInfo

from facefocus.benchmark.collect import FOUND_SCHEMA, SCHEMA, TRUTH_SCHEMA
from facefocus.benchmark.experiment import Experiment
from facefocus.benchmark.stages.robustness import SCHEMA as ROBUSTNESS_SCHEMA
from facefocus.cli.app import app
from facefocus.core.specs import Spec, tables
from facefocus.submissions.submission import MASK_COLUMNS


def write_pages(folder: Path) -> None:
    """Write every page that is made of the code into a folder."""
    folder.mkdir(exist_ok=True)
    for name, lines in {
        "experiment-file": experiment_file(),
        "commands": commands(),
        "tables": result_tables(),
    }.items():
        text = "\n".join(lines) + "\n"
        path = folder / f"{name}.md"
        # Only where it changed, or Sphinx would read it anew each time.
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# --- experiment files -----------------------------------------------------------------------------


def experiment_file() -> Iterator[str]:
    """Every key of an experiment file, with its meaning and its default."""
    yield "# Experiment files"
    yield ""
    yield "A TOML file says what is done: `facefocus run FILE`. A key that is misspelt is refused."
    yield "Where a list is taken, a single value is, too."
    yield ""
    sections = tables(Experiment)
    yield from _fields("Top of the file", Experiment, set(sections))
    for name, spec in sections.items():
        yield from _fields(f"[{name}]", spec, set())
    yield "## [[variant]]"
    yield ""
    yield "Several experiments in one file: each variant has a `name`, and says what differs."
    yield "A table of the variant replaces fields of the file's table of that name, anything else"
    yield "the whole."


def _fields(title: str, spec: type[Spec], left_out: set[str]) -> Iterator[str]:
    said = _attributes(spec)
    yield f"## {title}"
    yield ""
    yield first_line(spec)
    yield ""
    yield "| key | meaning | default |"
    yield "|---|---|---|"
    for name, field in spec.model_fields.items():
        if name not in left_out:
            yield f"| `{name}` | {said.get(name, '')} | {_default(field)} |"
    yield ""


def first_line(made: Any) -> str:
    """The first line of a docstring, with code as Markdown writes it."""
    return as_code((inspect.getdoc(made) or "").partition("\n")[0])


def as_code(text: str) -> str:
    """Double backticks as single ones; and no cell of a table ends early."""
    return text.replace("``", "`").replace("|", "\\|")


def _attributes(spec: type[Spec]) -> dict[str, str]:
    """What the docstring of a spec says of each attribute."""
    text = (inspect.getdoc(spec) or "").partition("Attributes:")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", text, re.MULTILINE)
    return {name: as_code(" ".join(said.split())) for name, said in found}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}) or isinstance(value, Spec):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# --- commands -------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Every command with its arguments and options, as the parser has them."""
    yield "# Commands"
    yield ""
    yield "`facefocus COMMAND --help` prints the same. Exit code 2 is a mistake of the user's, in"
    yield "one line; 3 a run that lacks tasks which failed; 130 one that was interrupted."
    yield ""
    yield from _commands(typer.main.get_command(app), "facefocus")


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        called = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _commands(command, called)
            continue
        yield f"## {called}"
        yield ""
        yield _plain(command.help or "")
        yield ""
        yield "| | |"
        yield "|---|---|"
        for parameter in command.params:
            if parameter.name not in ("help", "install_completion", "show_completion"):
                yield f"| {_called(parameter)} | {_plain(getattr(parameter, 'help', '') or '')} |"
        yield ""


def _called(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        many = "..." if parameter.nargs != 1 else ""
        return f"`{parameter.name.upper()}{many}`"
    return " ".join(f"`{option}`" for option in parameter.opts)


def _plain(text: str) -> str:
    return as_code(" ".join(text.split())).replace("<", "&lt;")


# --- tables ---------------------------------------------------------------------------------------

#: What a column of a table holds, where its name does not say it.
MEANING = {
    "source": "recognizers that the map was made on, joined by `+`",
    "target": "recognizer on which hiding is tried",
    "layer_calls": "numbers of the layer's calls in execution order",
    "reading": "what a drop under the fill shows: `artefact` or `information`",
    "on_degenerate": "what becomes of people without a map",
    "eer": "equal error rate of the target on the verification pairs",
    "images": "photos of the person on which hiding is tried",
    "pairs": "ordered mated pairs of these photos",
    "clean_cosine": "mean cosine of these pairs, nothing hidden",
    "cosine": "the same, hidden photos against clean ones",
    "clean_rate": "share of these pairs at or above the threshold, nothing hidden",
    "rate": "the same, hidden",
    "clean_fmr": "share of the person's non-mated pairs at or above the threshold",
    "fmr": "the same, hidden",
    "budget_pixels": "pixels that the budget allows",
    "masked_pixels": "pixels that were hidden; a mean where there are draws or halves",
    "masked_share": "the same as a share of the crop",
    "maps": "pair maps that the person's map rests on",
    "maps_degenerate": "those of them that were flat and left out",
    "maps_ill_conditioned": "those that another machine may not reproduce",
    "degenerate": "whether no map was left",
    "draws": "draws whose mean the row is",
    "gallery_people": "people of the gallery that each hidden photo is looked for in",
}


def result_tables() -> Iterator[str]:
    """The columns of every table that a run writes."""
    yield "# Tables of a run folder"
    yield ""
    yield "Parquet files, for any program that reads them. A row of `results.parquet` is one person"
    yield "under one configuration. What the figures mean: [protocol](../protocol.md#scores)."
    yield ""
    for title, schema in {
        "results.parquet": SCHEMA,
        "results.parquet, further columns on drawn faces": TRUTH_SCHEMA,
        "results.parquet, further columns with `identification = true`": FOUND_SCHEMA,
        "robustness.parquet": ROBUSTNESS_SCHEMA,
        "masks.parquet of a submission": MASK_COLUMNS,
    }.items():
        yield f"## {title}"
        yield ""
        yield "| column | type | |"
        yield "|---|---|---|"
        for name, kind in schema.items():
            yield f"| `{name}` | {kind} | {MEANING.get(name, '')} |"
        yield ""
