"""The sections of pages: a new one is a function, registered under a name and a position.

    @section("slowest", position=75)
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
    """A section of a page.

    Attributes:
        function: Makes the section; None where the run has nothing for it.
        position: Sections come in the order of their positions: 10, 20, ... are the built-in ones.
        answers: Sentences that it adds at the top of the page.
        page: ``"run"`` or ``"study"``.
    """

    function: Callable[[Report], Section | None]
    position: int
    answers: Callable[[Report], Sequence[str]] = lambda report: ()
    page: str = "run"


SECTIONS: Registry[PageSection] = Registry(
    "report section",
    load=(
        "facefocus.report.views",
        "facefocus.report.lineage_view",
        "facefocus.report.identification_view",
        "facefocus.report.pose_view",
        "facefocus.report.robustness_blocks",
        "facefocus.planted.truth",
        "facefocus.paper.study_page",
    ),
)


def section(
    name: str,
    *,
    position: int,
    answers: Callable[[Report], Sequence[str]] = lambda report: (),
    page: str = "run",
) -> Callable[[Callable[[Report], Section | None]], Callable[[Report], Section | None]]:
    """Decorator that adds a section to every page of a run, or of a study; see `PageSection`."""

    def add(function: Callable[[Report], Section | None]) -> Callable[[Report], Section | None]:
        SECTIONS.add(name, PageSection(function, position, answers, page))
        return function

    return add


def ordered_sections(page: str = "run") -> list[PageSection]:
    """All sections of a kind of page, in the order of their positions."""
    registered = [SECTIONS[name] for name in SECTIONS]
    return sorted(
        (entry for entry in registered if entry.page == page), key=lambda entry: entry.position
    )
