"""The pages of the reference that are made of the code: experiment files, commands, files."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main
from file_formats import PAGES, Fields, FileFormat
from pydantic.fields import FieldInfo

from facefocus.benchmark.experiment import Experiment
from facefocus.cli.app import app
from facefocus.core.specs import Spec, tables
from facefocus.paper.study import StudyFile


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
    """Every key of an experiment file and of a study, with its meaning and its default."""
    yield "# Experiment files"
    yield ""
    yield "A TOML file says what is done: `facefocus run FILE`. A key that is misspelt is refused."
    yield "Where a list is taken, a single value is, too."
    yield ""
    yield from sections("", "Top of the file", Experiment)
    yield "## [[variant]]"
    yield ""
    yield "Several experiments in one file: each variant has a `name`, and says what differs."
    yield "A table of the variant replaces fields of the file's table of that name, anything else"
    yield "the whole."
    yield ""
    yield from sections(" of a study", "A study", StudyFile)
    yield "## A stage of a study"
    yield ""
    yield "An experiment file that a study lists. `set` of `[faces]` may be a list: each face set"
    yield "is a run. Recognizers and face sets that are not here are named and left out. Further"
    yield "keys:"
    yield ""
    yield "| key | meaning |"
    yield "|---|---|"
    yield "| `study` | The study whose folder is taken when the stage is run alone. |"
    yield "| `identities` of `[[saliency]]` | At most so many people for these methods. |"
    yield "| `layer` or `objective` of `[[saliency]]` | `best`: chosen by `[choose]`. |"
    yield "| `layer` or `objective` of `[choose]` | The earlier stage whose results say which. |"


def sections(suffix: str, title: str, spec: type[Spec], about: str = "") -> Iterator[str]:
    """The keys of a TOML file: those at its top, then those of each of its tables."""
    inner = tables(spec)
    yield from _fields(title, spec, set(inner), about)
    for name, part in inner.items():
        yield from _fields(f"[{name}]{suffix}", part, set())


def _fields(title: str, spec: type[Spec], left_out: set[str], about: str = "") -> Iterator[str]:
    meanings = _attributes(spec)
    yield f"## {title}"
    yield ""
    yield about or first_line(spec)
    yield ""
    yield "| key | meaning | default |"
    yield "|---|---|---|"
    for name, field in spec.model_fields.items():
        if name not in left_out:
            meaning = meanings.get(name, "") + _choices(field.annotation, meanings.get(name, ""))
            yield f"| `{name}` | {meaning} | {_default(field)} |"
    yield ""


def _choices(annotation: Any, meaning: str) -> str:
    """The words that a key takes, where its meaning does not name them."""
    if get_origin(annotation) is Literal:
        words = [f"`{word}`" for word in get_args(annotation)]
        return "" if all(word in meaning for word in words) else f" One of {', '.join(words)}."
    return "".join(_choices(part, meaning) for part in get_args(annotation))


def first_line(made: Any) -> str:
    """The first line of a docstring, without the table that is its page's heading."""
    line = as_code((inspect.getdoc(made) or "").partition("\n")[0])
    line = re.sub(r"^`\[\w+\]`(?: of a study)?: ", "", line)
    return line[:1].upper() + line[1:]


def as_code(text: str) -> str:
    """Double backticks as single ones; no cell of a table ends early; the protocol is linked."""
    text = text.replace("``", "`").replace("|", "\\|")
    return re.sub(r"\(Protocol: ([a-z, -]+)\)", lambda cited: f"({_cited(cited[1])})", text)


def _cited(headings: str) -> str:
    return ", ".join(
        f"[protocol: {heading.replace('-', ' ')}](../protocol.md#{heading})"
        for heading in headings.split(", ")
    )


def _attributes(spec: type[Any]) -> dict[str, str]:
    """What the docstring of a class says of each attribute."""
    text = (inspect.getdoc(spec) or "").partition("Attributes:")[2]
    attributes = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", text, re.MULTILINE)
    return {name: as_code(" ".join(meaning.split())) for name, meaning in attributes}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value == sys.executable:
        return "that of this program"
    if value is None or value in ((), {}) or isinstance(value, Spec):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{entry}`" for entry in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# --- commands -------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Every command with its arguments and options, as the parser has them."""
    yield "# Commands"
    yield ""
    yield "`facefocus COMMAND --help` prints the same. Exit code 2 is a mistake of the user's, in"
    yield "one line; 3 a run that lacks tasks which failed; 130 one that was interrupted."
    yield ""
    for path, command in every_command():
        yield f"## {path}"
        yield ""
        yield _plain(command.help or "")
        yield ""
        if command.params:
            yield "| argument or option | meaning | default |"
            yield "|---|---|---|"
            yield from (_parameter(parameter) for parameter in command.params)
            yield ""


def every_command() -> Iterator[tuple[str, Any]]:
    """The program and each of its commands, with the words that call it."""
    program = typer.main.get_command(app)
    yield "facefocus", program
    yield from _commands(typer.Context(program, info_name="facefocus"), program)


def _commands(context: Any, group: Any) -> Iterator[tuple[str, Any]]:
    # Those of face sources are made when they are asked for.
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = typer.Context(command, info_name=name, parent=context)
        if hasattr(command, "list_commands"):
            yield from _commands(inner, command)
        else:
            yield inner.command_path, command


def _parameter(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        shown = "required"
    else:
        shown = f"`{default}`" if default or type(default) in (int, float) else ""
    return f"| {_called(parameter)} | {_plain(parameter.help or '')} | {shown} |"


def _called(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        many = "..." if parameter.nargs != 1 else ""
        return f"`{parameter.name.upper()}{many}`"
    return " ".join(f"`{option}`" for option in parameter.opts)


def _plain(text: str) -> str:
    """The text of a help, with options and what it quotes as code."""
    quoted = re.sub(r"(?<!\w)'([^']+)'(?!\w)", r"`\1`", " ".join(text.split()))
    return re.sub(r"(?<!\S)(--[a-z-]+)", r"`\1`", as_code(quoted)).replace("<", "&lt;")


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
        links = ", ".join(f"[{file.name}]({page}.md#{anchor(file.name)})" for file in formats)
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
    if any(set(".[*") & set(name) for file in formats for name in file.fields):
        yield "Of names, `a.b` is the value `b` of `a`, `a[].b` that of every object of a list, and"
        yield "`*` stands for any key."
        yield ""
    for file in formats:
        if file.spec is not None and issubclass(file.spec, Spec):
            yield from sections(
                f" of {file.name[0].lower()}{file.name[1:]}", file.name, file.spec, file.about
            )
            continue
        yield f"## {file.name}"
        yield ""
        yield file.about
        yield ""
        yield from _rows(file.fields if file.spec is None else _of_dataclass(file.spec))


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
    meanings = _attributes(made)
    return {
        field.name: (PLAIN.get(str(field.type), str(field.type)), meanings.get(field.name, ""))
        for field in dataclasses.fields(made)
    }
