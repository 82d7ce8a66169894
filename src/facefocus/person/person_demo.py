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
from facefocus.occlusion.painting import write_picture
from facefocus.person.explanation import explain_people, explain_person
from facefocus.person.verdict import Verdict

#: Recognizers of drawn people: two that the mask is made on, one of another family that judges.
MODELS, UNSEEN = ("iresnet-mini-all", "mobilefacenet-mini-all"), "inception-mini-all"

#: Where the person's identity lives, and photos of the person.
WORLD, PHOTOS = "all", 8


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
    folder = out / "photos" / identity_name(0)
    for photo, frame in enumerate(drawn):
        write_picture(folder / f"{image_name(0, photo)}.png", frame)
    how: dict[str, Any] = {
        "unseen": UNSEEN, "gallery": faces, "backend": backend, "store": store, "progress": progress
    }  # fmt: skip
    if not has_detector():
        made = explain_person(np.stack(drawn), MODELS, **how)
        return made.report(out / "person"), made.verdict
    ((page, shown),) = explain_people(folder, out / "person", MODELS, **how)
    return page, shown


def has_detector() -> bool:
    """Whether the face detector is at hand."""
    try:
        detector_model(None)
    except UserError:
        return False
    return True
