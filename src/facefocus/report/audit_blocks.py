"""The audit of whole faces (`report.audit`) as blocks of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from facefocus.analysis.audit import (
    Dependence,
    Exactness,
    RunShares,
    dependence,
    exactness,
    run_shares,
)
from facefocus.analysis.labels import place_label
from facefocus.analysis.summary import Row
from facefocus.core.text import NOTHING, as_html, bounds, number, percent
from facefocus.report.audit_text import meaning, verdict
from facefocus.report.page import Details, Facts, Heading, Table

#: Rows of a table that is shown at once; a longer one opens on a click.
SHORT = 12


def audit_blocks(results: pl.DataFrame) -> list[Any]:
    """What the results can say to the three questions; nothing for those they cannot answer."""
    blocks: list[Any] = []
    if exact := exactness(results):
        blocks += [Heading("Exactly k pixels against the percentile, same maps"), _exact(exact)]
    tests = dependence(results)
    for kind, title in (("budget", "the budget"), ("fill", "the fill")):
        if found := [one for one in tests if one.kind == kind]:
            blocks += [Heading(f"Does recognition depend on {title}?"), _dependence(found, title)]
    if shares := run_shares(results):
        blocks.append(Heading("Does a transfer matrix look as if whole faces were hidden?"))
        blocks += [_shares(shares), _meanings(shares)]
    return blocks


def grid_table(
    headings: Mapping[str, str], rows: Iterable[Sequence[str]], caption: str, *, names: int = 1
) -> Table:
    """A plain table, escaped.

    Args:
        headings: What each column is called, and what it means.
        rows: Texts of the cells.
        caption: Of the table.
        names: The first columns, which are texts; the others are numbers.
    """
    styles = ["" if place < names else ' class="num"' for place in range(len(headings))]
    head = "".join(
        f'<th scope="col"{style} title="{as_html(note)}">{as_html(text)}</th>'
        for style, (text, note) in zip(styles, headings.items(), strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{style}>{as_html(text)}</td>" for style, text in zip(styles, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    text = (
        f"<table><caption><span>{as_html(caption)}</span></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
    return Table(Markup(text), caption)


def _folded(table: Table, rows: int) -> Any:
    return table if rows <= SHORT else Details(f"{table.label} ({rows} rows)", [table])


_WHOSE = {
    "Method": "Method, layer and objective.",
    "Recognizer": "Whose maps, and which is attacked.",
}


def _whose(row: Row) -> list[str]:
    return [place_label(row, ("objective", "options")), str(row["target"])]


def _exact(found: Sequence[Exactness]) -> Any:
    headings = {
        **_WHOSE,
        "Clean": "Recognition with nothing hidden.",
        "Exactly k": "Recognition with exactly k pixels hidden, nothing where there is no map.",
        "Inclusive": "Recognition with every pixel at or above the percentile hidden.",
        "Exact - inclusive": "What the second rule takes more, with its 95 % interval.",
        "Area, inclusive": "Mean share of the frame that the second rule hides.",
        "Whole face hidden": "Share of identities of which it leaves nothing.",
        "Share of the drop": "How much of its drop is lost by these identities.",
    }
    rows = [
        [
            *_whose(one.row),
            number(one.clean),
            number(one.exact),
            number(one.inclusive),
            one.difference.text(signed=True),
            percent(one.area, 2),
            percent(one.whole),
            percent(one.by_whole, 0) if one.whole else NOTHING,
        ]
        for one in found
    ]
    caption = "Recognition with exactly k pixels hidden, and with every pixel >= the percentile"
    return _folded(grid_table(headings, rows, caption, names=2), len(rows))


def _dependence(found: Sequence[Dependence], title: str) -> Any:
    values = list(dict.fromkeys(value for one in found for value in one.values))
    headings = {
        **_WHOSE,
        "Degenerate maps": "What a flat map means: none, or inclusive, which hides the whole face.",
        "Clean": "Recognition with nothing hidden.",
        **{value: f"Recognition at {value}." for value in values},
        "What it says": "Budget: Wilcoxon's test of smallest and largest; fills: Friedman's test, "
        "blur aside. Holm-corrected.",
    }
    rows = []
    for one in sorted(found, key=lambda one: not one.suspicious):
        rates = dict(zip(one.values, map(number, one.rates), strict=True))
        cells = [rates.get(value, NOTHING) for value in values]
        policy = str(one.row["on_degenerate"])
        rows.append([*_whose(one.row), policy, number(one.clean), *cells, verdict(one)])
    return _folded(grid_table(headings, rows, f"Recognition by {title}", names=3), len(rows))


def _shares(found: Sequence[RunShares]) -> Any:
    headings = {
        "Method": _WHOSE["Method"],
        "Degenerate maps": "What a flat map means.",
        "Map from": "The generating recognizer.",
        "p": "Share of identities that would have to lose the whole face.",
        "95 % interval": "Over identities.",
        "Whole faces in fact": "Share of identities whose mask did hide the whole face.",
    }
    rows = [
        [
            place_label(one.row, ("objective", "options")),
            str(one.row["on_degenerate"]),
            name,
            number(one.fit.share[place]),
            bounds(one.fit.low[place], one.fit.high[place]) or NOTHING,
            percent(one.measured[place]),
        ]
        for one in found
        for place, name in enumerate(one.matrix.sources)
    ]
    caption = "Share of identities that would have to lose the whole face"
    return _folded(grid_table(headings, rows, caption, names=3), len(rows))


def _meanings(found: Sequence[RunShares]) -> Facts:
    return Facts(
        {
            f"{place_label(one.row, ('objective', 'options'))}, {one.row['on_degenerate']}": next(
                iter(meaning(one.matrix, one.fit))
            )
            for one in found
        }
    )
