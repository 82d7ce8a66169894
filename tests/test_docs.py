"""What the docs promise the code, and the code the docs."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

import facefocus
from facefocus.benchmark.clusters import ClusterFile
from facefocus.benchmark.experiment import Experiment
from facefocus.cli.app import app
from facefocus.core.specs import tables
from facefocus.faces.sources import DERIVED, SOURCES
from facefocus.paper.study import StudyFile
from facefocus.planted.train.recipe import Recipe
from facefocus.planted.truth_pairs import PairExperiment

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
reference_pages: Any = importlib.import_module("reference_pages")

#: ``Protocol: thresholds`` or ``Protocol: masks, audit``.
CITATION = re.compile(r"Protocol: ([a-z-]+(?:, [a-z-]+)*)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {reference_pages.anchor(heading) for heading in headings}


def test_every_cited_section_of_the_protocol_exists() -> None:
    known = anchors(DOCS / "protocol.md")
    files = [
        path
        for folder in ("src", "tests", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".toml", ".j2") and path != DOCS / "protocol.md"
    ]
    cited: dict[str, list[str]] = {}
    for path in files:
        for match in CITATION.finditer(path.read_text(encoding="utf-8")):
            for section in match[1].split(", "):
                cited.setdefault(section, []).append(path.name)
    assert {section: where for section, where in cited.items() if section not in known} == {}
    # The page is what the code cites: every section but a few is cited somewhere.
    assert len(set(cited) & known) >= len(known) - 3


def test_links_between_pages_lead_somewhere(tmp_path: Path) -> None:
    """Also from and to the pages that `make docs` generates."""
    reference_pages.write_pages(generated := tmp_path / "_generated")
    broken = []
    written = *DOCS.glob("*.md"), *DOCS.glob("tutorials/*.md"), ROOT / "README.md"
    for page in (*written, *generated.glob("*.md")):
        text = re.sub(r"^    .*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if "://" in target:
                continue
            # The generated pages lie in docs/_generated.
            beside = DOCS / "_generated" if page.parent == generated else page.parent
            there = page if not path else (beside / path).resolve()
            if there.parent.name == "_generated":
                there = generated / there.name
            if not there.exists() or (anchor and anchor not in anchors(there)):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_the_glossary_is_sorted_and_has_each_term_once() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\| ([^|]+?) \| [^|]+ \|$", text, re.MULTILINE)[1:]
    assert len(terms) > 50
    assert [term.lower() for term in terms] == sorted({term.lower() for term in terms})


def test_the_architecture_names_files_that_exist_and_every_folder() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "facefocus"
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", text)
    missing = [name for name in named if not ((package / name).exists() or (ROOT / name).exists())]
    assert missing == []
    table = dict(re.findall(r"^\| `(\w+)/` \| (.+) \|$", text, re.MULTILINE))
    assert set(table) == {file.parent.name for file in package.glob("*/__init__.py")}
    for folder, files in table.items():
        modules = {path.stem for path in (package / folder).rglob("*")}
        assert set(re.findall(r"`(\w+)`", files)) <= modules, folder


#: Idioms that messages gave up, and what to say in their place.
BANNED = {
    r"\btold (from|apart)\b": "significantly different from; distinguish",
    r"\bknows? no\b": "does not depend on",
    r"\bas it must\b": "by definition",
    r"\bof no use\b": "cannot be used",
    r"\bin vain\b": "without result",
    r"\bsay nothing\b": "show nothing",
}


def messages(path: Path) -> list[str]:
    """All texts of a module but its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.Expr)]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


def test_messages_use_no_idiom_that_was_given_up() -> None:
    files = sorted((ROOT / "src").rglob("*.py"))
    texts = [(path, text) for path in files for text in messages(path)]
    texts += [(path, path.read_text(encoding="utf-8")) for path in (ROOT / "src").rglob("*.toml")]
    wrong = [
        f"{path.name}: {text!r}: say {better}"
        for path, text in texts
        for idiom, better in BANNED.items()
        if re.search(idiom, text)
    ]
    assert wrong == []


def test_the_reference_has_every_command_with_its_options() -> None:
    text = "\n".join(reference_pages.commands())
    sections = dict(re.findall(r"^## (.+)\n\n((?:(?!## ).*\n)*)", text, re.MULTILINE))
    # Those of face sources are no commands of the parser before they are asked for.
    prepared = {f"facefocus prepare {name}" for name in (*SOURCES, *DERIVED)}
    assert prepared | {"facefocus", "facefocus run", "facefocus store gc"} <= set(sections)
    for called, section in sections.items():
        words = called.split()[1:]
        shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).output
        options = {*re.findall(r"^│ [* ]*(--[a-z-]+) ", shown, re.MULTILINE)} - {"--help"}
        listed = set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE))
        assert options == listed, called


def test_the_reference_says_what_every_key_means() -> None:
    pages = [reference_pages.experiment_file()]
    pages += [
        reference_pages.file_page(*about)
        for name, *about in reference_pages.PAGES
        if name == "files-written"
    ]
    rows = [line.strip("| ").split(" | ") for page in pages for line in page if line[:3] == "| `"]
    assert len(rows) > 100
    assert [row[0] for row in rows if len(row) < 2 or not row[1].strip("| ")] == []
    # Of the same tables as the parser: a key of an experiment is a row.
    keys = {row[0].strip("`") for row in rows}
    for spec in (Experiment, StudyFile, ClusterFile, PairExperiment, Recipe):
        inner = tables(spec)
        for part in (spec, *inner.values()):
            assert set(part.model_fields) - set(inner) <= keys


def test_the_reference_says_what_every_column_of_a_table_means() -> None:
    files = [file for about in reference_pages.PAGES for file in about[3] if "parquet" in file.name]
    assert len(files) > 8
    meanings = {
        (file.name, column): meaning
        for file in files
        for column, (_, meaning) in file.fields.items()
    }
    assert [column for column, meaning in meanings.items() if not meaning] == []
    # Columns of one name mean another thing in another table.
    assert "key of the store" in meanings["stored-masks.parquet", "maps"]
    assert "pair maps" in meanings["results.parquet", "maps"]


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    names = re.findall(r"auto\w+:: facefocus\.(\w+)$", text, re.MULTILINE)
    assert sorted(names) == sorted({*facefocus.__all__} - {"__version__"})
