"""The sections of a run's page: a new one is a function, registered under a name and a place.

    @section("slowest", place=75)
    def slowest(report: Report) -> Section | None:
        return Section("slowest", "Who takes longest?", "", [Paragraph("Nobody.")])

A package registers its own through the entry-point group ``facefocus.report_sections``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from facefocus.core.registry import Registry
from facefocus.report.document import Section
from facefocus.report.report_data import Report


@dataclass(frozen=True)
class PageSection:
    """A section of a run's page.

    Attributes:
        function: Makes the section; None where the run has nothing for it.
        place: Sections come in the order of their places: 10, 20, ... are the built-in ones.
        answers: Sentences that it adds at the top of the page.
    """

    function: Callable[[Report], Section | None]
    place: int
    answers: Callable[[Report], Sequence[str]] = lambda report: ()


SECTIONS: Registry[PageSection] = Registry(
    "report section", load=("facefocus.report.sections", "facefocus.planted.truth")
)


def section(
    name: str, *, place: int, answers: Callable[[Report], Sequence[str]] = lambda report: ()
) -> Callable[[Callable[[Report], Section | None]], Callable[[Report], Section | None]]:
    """Decorator that adds a section to every page of a run; see `PageSection`."""

    def add(function: Callable[[Report], Section | None]) -> Callable[[Report], Section | None]:
        SECTIONS.add(name, PageSection(function, place, answers))
        return function

    return add


def ordered_sections() -> list[PageSection]:
    """All sections, in the order of their places."""
    return sorted((SECTIONS[name] for name in SECTIONS), key=lambda one: one.place)
