"""The pages of the reference that are made of the code: experiment files, commands, files."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.main
from file_formats import PAGES, Fields, FileFormat
from pydantic.fields import FieldInfo

from facefocus.benchmark.experiment import Experiment
from facefocus.cli.app import app
from facefocus.core.specs import Spec, tables


def write_pages(folder: Path) -> None:
    """Write every page that is made of the code into a folder."""
    folder.mkdir(exist_ok=True)
    for name, lines in {
        "experiment-file": experiment_file(),
        "commands": commands(),
        "files": files(),
        **{page: file_page(*about) for page, *about in PAGES},
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


def _fields(title: str, spec: type[Spec], left_out: set[str], about: str = "") -> Iterator[str]:
    said = _attributes(spec)
    yield f"## {title}"
    yield ""
    yield about or first_line(spec)
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


def _attributes(spec: type[Any]) -> dict[str, str]:
    """What the docstring of a class says of each attribute."""
    text = (inspect.getdoc(spec) or "").partition("Attributes:")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", text, re.MULTILINE)
    return {name: as_code(" ".join(said.split())) for name, said in found}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value == sys.executable:
        return "that of this program"
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


# --- files ----------------------------------------------------------------------------------------


def files() -> Iterator[str]:
    """Which files there are, with a link to what is in each."""
    yield "# Files"
    yield ""
    yield "What is in every file that facefocus writes, or reads for you. Tables are Parquet files,"
    yield "for any program that reads them; arrays are those of numpy. The store, where `run` keeps"
    yield "what is computed, is for programs only:"
    yield "[stages and keys](../architecture.md#stages-and-keys)."
    yield ""
    for page, title, _, formats in PAGES:
        links = ", ".join(f"[{one.name}]({page}.md#{anchor(one.name)})" for one in formats)
        yield f"- [{title}]({page}.md): {links}"
    yield ""
    yield "```{toctree}"
    yield ":hidden:"
    yield ""
    yield from (page for page, _, _, _ in PAGES)
    yield "```"


def file_page(title: str, about: str, formats: Sequence[FileFormat]) -> Iterator[str]:
    """The files of one folder."""
    yield f"# {title}"
    yield ""
    yield about
    yield ""
    if any(set(".[*") & set(name) for one in formats for name in one.fields):
        yield "Of names, `a.b` is the value `b` of `a`, `a[].b` that of every object of a list, and"
        yield "`*` stands for any key."
        yield ""
    for one in formats:
        if one.spec is not None and issubclass(one.spec, Spec):
            sections = tables(one.spec)
            yield from _fields(one.name, one.spec, set(sections), one.about)
            for name, spec in sections.items():
                yield from _fields(f"[{name}] of {one.name[0].lower()}{one.name[1:]}", spec, set())
            continue
        yield f"## {one.name}"
        yield ""
        yield one.about
        yield ""
        yield from _rows(one.fields if one.spec is None else _of_dataclass(one.spec))


#: Types of Python as a reader of other languages has them.
PLAIN = {
    "str": "text", "str | None": "text", "int | str | None": "int or text",
    "tuple[int, int]": "2 int", "tuple[int, int, int, int] | None": "4 int",
    "tuple[float, ...]": "number, or one a channel",
    "Channels": "`rgb`, `bgr`, `gray`", "Layout": "`nchw`, `nhwc`",
}  # fmt: skip


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def _rows(fields: Fields) -> Iterator[str]:
    if fields:
        yield "| name | type | meaning |"
        yield "|---|---|---|"
    for name, (kind, meaning) in fields.items():
        yield f"| {f'`{name}`' if name else ''} | {kind} | {meaning} |"
    yield ""


def _of_dataclass(made: type[Any]) -> Fields:
    """The fields of a dataclass, with what its docstring says of them."""
    said = _attributes(made)
    return {
        field.name: (PLAIN.get(str(field.type), str(field.type)), said.get(field.name, ""))
        for field in dataclasses.fields(made)
    }
