"""What ``facefocus models`` shows of the recognizers that the program knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from facefocus import locations
from facefocus.models import zoo

_HEADINGS = ("name", "architecture", "trained on", "data", "license", "commercial", "here")


def table_lines() -> Iterator[str]:
    """A plain table of the zoo, one line a recognizer."""
    rows = [_HEADINGS, *(_row(name, entry) for name, entry in zoo.entries().items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def entry_lines(name: str) -> Iterator[str]:
    """Every field of a recognizer, one a line, and how to get it where its file is absent.

    Raises:
        UserError: No such recognizer.
    """
    entry, own = zoo.describe(name), zoo.full_name(name)
    yield f"name {own}"
    for field, value in entry.model_dump().items():
        if value not in (None, "", []):
            yield f"{field} {value if isinstance(value, str) else json.dumps(value)}"
    found = _file(entry)
    if found is not None:
        yield f"here {found}"
        return
    yield "here no"
    yield f"Next: facefocus models fetch {own}" if entry.url else _by_hand(own, entry)


def _row(name: str, entry: zoo.Entry) -> tuple[str, ...]:
    # Terms can be long; what they say in brackets is for `models show`.
    terms = entry.license.partition(" (")[0]
    here = "yes" if _file(entry) else "no"
    return name, entry.architecture, entry.training, entry.data, terms, entry.commercial, here


def _file(entry: zoo.Entry) -> Path | None:
    paths = (root / "models" / entry.file for root in locations.search_dirs())
    return next((path for path in paths if path.is_file()), None)


def _by_hand(name: str, entry: zoo.Entry) -> str:
    place = entry.page or entry.source
    return f"Next: get {entry.file} from {place}, then run: facefocus models add {name} FILE"
