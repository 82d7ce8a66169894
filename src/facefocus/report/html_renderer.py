"""Blocks as HTML: the page of a report, or any blocks on a page of their own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from facefocus.core.text import visible
from facefocus.report.document import Block, Section


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("facefocus.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tie"] = _tie
    return environment


def _tie(text: str) -> str:
    """The text with its percent signs kept on the line of their numbers."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def html_page(
    title: str, sections: Sequence[Section], *, lead: Sequence[Block] = (), **about: Any
) -> str:
    """The page of a report.

    Args:
        title: Of the page.
        sections: In order.
        lead: What stands below the answers, above all sections.
        about: What the head of ``report.html.j2`` shows: answers, warnings, whether there are
            faces, version and time.
    """
    template = _environment().get_template("report.html.j2")
    return visible(template.render(title=title, sections=sections, lead=lead, **about), lines=True)


def html_explorer(title: str, sections: Sequence[Section], **about: Any) -> str:
    """The page of runs: its head and its views; data and charts come by its scripts.

    Args:
        title: Of the page.
        sections: In order, each a view.
        about: What the head of ``explorer.html.j2`` shows.
    """
    template = _environment().get_template("explorer.html.j2")
    shown = {"answer": "", "badges": [], "comparisons": [], "loaded": [], "first": None, **about}
    return visible(template.render(title=title, sections=sections, **shown), lines=True)


def html_document(blocks: Sequence[Block], title: str) -> str:
    """Blocks on a page that opens by itself, in the style of the reports."""
    template = _environment().get_template("document.html.j2")
    return visible(template.render(title=title, blocks=blocks), lines=True)
