"""What ``facefocus models`` shows of the recognizers that the program knows."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping

from facefocus.core.errors import UserError
from facefocus.models import zoo
from facefocus.models.layers import GROUPS, LayerTable

_HEADINGS = ("name", "architecture", "trained on", "data", "license", "commercial", "here?")


def table_lines() -> Iterator[str]:
    """A plain table of the zoo, one line a recognizer."""
    rows = [_HEADINGS, *(_row(name, entry) for name, entry in zoo.entries().items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def name_lines() -> Iterator[str]:
    """The name of every recognizer, and whether it can be run here or what to do first."""
    wide = max(map(len, zoo.entries()))
    return (f"{name:<{wide}}  {_state(name, entry)}" for name, entry in zoo.entries().items())


def card_lines() -> Iterator[str]:
    """Figures of the embedded recognizers from their cards, as a Markdown table.

    Validation on unseen people; what is hidden, and how, is told in `facefocus.planted.reliance`.
    """
    yield "| name | parameters | TMR at FMR 1 % | EER | part hidden | elsewhere hidden: kept |"
    yield "|---|---|---|---|---|---|"
    for name in zoo.embedded():
        card = tomllib.loads(zoo.card(name).read_text("utf-8"))
        seen, hidden = card["validation"], card.get("planted")
        cells = [
            name,
            f"{card['result']['parameters']:,}",
            f"{seen['tmr_at_fmr_1e2']:.3f}",
            f"{seen['eer']:.3f}",
            "-" if hidden is None else f"{hidden['part_tmr']:.3f}",
            "-" if hidden is None else f"{hidden['kept']:.3f}",
        ]
        yield f"| {' | '.join(cells)} |"


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
    path = entry.present()
    if path is not None:
        yield f"here {path}"
        if entry.embedded:
            yield f"card {zoo.card(own)}"
        return
    yield "here no"
    yield zoo.how_to_get(own)


def _row(name: str, entry: zoo.Entry) -> tuple[str, ...]:
    # Terms can be long; what they say in brackets is for `models show`.
    terms = entry.license.partition(" (")[0]
    state = _state(name, entry)
    return name, entry.architecture, entry.training, entry.data, terms, entry.commercial, state


def _state(name: str, entry: zoo.Entry) -> str:
    """``here``, or the command that comes first."""
    if entry.present() is None:
        return f"facefocus fetch {name}" if entry.url else f"facefocus models show {name}"
    return entry.needs() or "here"


def layer_lines(
    recognizer: str, preprocessing: Mapping[str, object] | None = None
) -> Iterator[str]:
    """One line a convolution call, then one a group; the zoo's own need no weights for it.

    Raises:
        UserError: No such recognizer, or a black box.
    """
    table = zoo.layers(recognizer, preprocessing)
    yield from table.lines()
    for group in (*GROUPS, "all"):
        yield f"group {group:<8} {_members(table, group)}"


def _members(table: LayerTable, group: str) -> str:
    try:
        members = table.resolve(group)
    except UserError:
        return "none: too few convolutions"
    if group == "all":
        return f"the {len(members)} spatial ones"
    return " ".join(map(str, members))
