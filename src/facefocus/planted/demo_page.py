"""The page of ``facefocus demo``: what it found, in one screen each, and what to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from facefocus.core.files import write_atomically
from facefocus.occlusion.painting import picture_size
from facefocus.planted.demo import PICTURE, Outcome
from facefocus.report.document import Block, Code, Link, Listing, Paragraph, Picture, Section
from facefocus.report.html_renderer import html_page


def write_demo_page(
    out: Path, outcome: Outcome, person: Sequence[Block], commands: Mapping[str, str]
) -> Path:
    """Write the page beside the run folders; returns its path.

    Args:
        out: The demo's folder, with its first picture and the page of its runs.
        outcome: What the runs found.
        person: What is said of the one person.
        commands: What a reader may try next, and what for.

    Raises:
        UserError: The folder cannot be written.
    """
    sections = [
        Section(
            "truth",
            "Do methods find what is known to matter?",
            "These faces are drawn. In one world nothing but the eyes is a person's own, in another"
            " everything is: so it is known what a map must find.",
            [outcome.truth],
        ),
        Section(
            "ranking",
            "Whose masks take most recognition?",
            "Of each method the layer that takes most; with 95 % intervals over people.",
            [
                outcome.ranking,
                Listing(outcome.sentences),
                Link("report/index.html", "All layers, controls, transfer, people, and the audit"),
            ],
        ),
        Section("person", "What must one person hide?", "", person),
        Section(
            "next",
            "What next?",
            "These commands work as they stand, from the folder in which the demo was started.",
            [block for what, line in commands.items() for block in (Paragraph(what), Code(line))],
        ),
    ]
    text = html_page(
        "What facefocus does, on drawn faces",
        sections,
        answer=[outcome.finding],
        warnings=[],
        lead=[_picture(out, outcome.world)],
        with_faces=False,
        version=version("facefocus"),
        finished="",
    )
    page = out / "index.html"
    write_atomically(page, lambda file: file.write(text.encode()))
    return page


def _picture(out: Path, world: str) -> Picture:
    width, height = picture_size(out / PICTURE)
    wide, narrow = ((side, round(side * height / width)) for side in (width // 2, 320))
    return Picture(
        (PICTURE, *wide),
        "Maps of one drawn person by several methods",
        f"One person of the world of {world}: brighter pixels count more; outlined is what truly"
        " tells people apart.",
        (PICTURE, *narrow),
    )
