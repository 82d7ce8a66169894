"""The last page of ``facefocus demo``: one drawn person, explained as `facefocus person` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from facefocus.benchmark.run import SYNTHETIC, open_or_make_faceset
from facefocus.core.errors import UserError
from facefocus.core.locations import StoreAddress
from facefocus.core.progress import Progress, silent
from facefocus.faces.detect import detector_model
from facefocus.faces.sources.synthetic import identity_name, image_name, render
from facefocus.occlusion.painting import picture_size, write_picture
from facefocus.person.explanation import explain_people, explain_person
from facefocus.person.verdict import Verdict
from facefocus.report.document import Block, Link, Listing, Paragraph, Picture

#: Recognizers of drawn people: one that the mask is made on, one of another family that judges.
MODEL, UNSEEN = "iresnet-mini-all", "inception-mini-all"

#: Where the person's identity lives, and photos of the person.
WORLD, PHOTOS = "all", 8

NO_DETECTOR = (
    "The person's photographs were not painted and detected anew: the face detector YuNet is not"
    " here. Get it by 'facefocus fetch yunet', and run the demo again."
)


def demo_person(
    out: Path,
    *,
    backend: str = "auto",
    store: StoreAddress | None = None,
    progress: Progress = silent,
) -> tuple[Path, Verdict]:
    """Draw photographs of one person and explain them; the others of the demo are the gallery.

    Without a face detector the person is explained by the aligned crops: nothing is painted on
    photographs and detected anew, and the page says so.

    Args:
        out: The demo's folder: photographs go to ``photos/``, the page to ``person/``.
        backend: As for `explain_people`.
        store: Likewise.
        progress: Likewise.

    Returns:
        The page, and what its first screen says.

    Raises:
        UserError: The folder cannot be written.
    """
    faces = open_or_make_faceset(f"synthetic-{WORLD}", out / "faces", progress)
    drawn = [render(WORLD, int(SYNTHETIC["seed"]), 0, photo).frame for photo in range(PHOTOS)]
    folder = photos_of(out)
    for photo, frame in enumerate(drawn):
        write_picture(folder / f"{image_name(0, photo)}.png", frame)
    how: dict[str, Any] = {
        "unseen": UNSEEN, "gallery": faces, "backend": backend, "store": store, "progress": progress
    }  # fmt: skip
    if not has_detector():
        made = explain_person(np.stack(drawn), MODEL, **how)
        return made.report(out / "person"), made.verdict
    ((page, shown),) = explain_people(folder, out / "person", MODEL, **how)
    return page, shown


def photos_of(out: Path) -> Path:
    """Where the person's photographs are, under the demo's folder."""
    return out / "photos" / identity_name(0)


def person_blocks(out: Path, shown: Verdict) -> list[Block]:
    """What the demo's page says of the person."""
    picture = "person/pictures/face.png"
    width, height = picture_size(out / picture)
    left_out = [] if has_detector() else [Paragraph(NO_DETECTOR)]
    return [
        Picture(
            (picture, width, height),
            "The person's face with the mask, and where the mask lies",
            "Left: the face under the mask. Right: where it lies.",
            (picture, 320, round(320 * height / width)),
        ),
        Listing(shown.sentences),
        *left_out,
        Link("person/index.html", "The proof, the controls, and what is not proven"),
    ]


def has_detector() -> bool:
    """Whether the face detector is at hand."""
    try:
        detector_model(None)
    except UserError:
        return False
    return True
