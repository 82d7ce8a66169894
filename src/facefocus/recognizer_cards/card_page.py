"""The page of a card, in blocks: each statement with its number, its interval and its limit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from facefocus.core.files import writing
from facefocus.core.text import NOTHING, number, p_value, percent
from facefocus.evaluation.part_shares import in_words
from facefocus.evaluation.statistics import LEVEL, Interval
from facefocus.faces.part_atlas import FACE_PARTS, PART_WORDS, parts
from facefocus.models.lineage import NOT_STATED
from facefocus.recognizer_cards.card_figures import (
    FEWEST_PEOPLE,
    ConditionRow,
    MapFigures,
    Rate,
    StratumRow,
)
from facefocus.recognizer_cards.make_card import EER, STRICT, RecognizerCard
from facefocus.report.document import (
    Block,
    Cell,
    Details,
    Facts,
    Heading,
    Listing,
    Note,
    Paragraph,
    Picture,
    Table,
    plain_table,
)
from facefocus.report.figures import save, styled
from facefocus.report.html_renderer import html_document

#: Side of the picture of the population map, in CSS pixels.
_SIDE = 340
#: How a heading names the two thresholds.
_AT = {EER: "EER threshold", STRICT: "FMR 1e-3"}


def card_page(card: RecognizerCard, pictures: Sequence[Picture]) -> str:
    """The page as HTML.

    Args:
        card: All figures.
        pictures: Of `card_pictures`.
    """
    blocks = [
        *_opening(card),
        *_first_table(card),
        *_parts(card, pictures),
        *_people(card),
        *_groups(card),
        *_stability(card),
        *_limits(card),
    ]
    return html_document(blocks, f"Card of {card.model}")


# --- what is shown --------------------------------------------------------------------------------


def _opening(card: RecognizerCard) -> Iterator[Block]:
    yield Heading(f"What {card.model} needs of a face", 1)
    claims = card.people >= FEWEST_PEOPLE
    if not claims:
        yield Paragraph(
            f"There are {card.people} people: with fewer than {FEWEST_PEOPLE} this page gives"
            " figures and claims nothing."
        )
    else:
        yield Listing(list(statements(card)))
    if card.warnings:
        yield Listing([f"Warning: {text}" for text in card.warnings])
    report = card.report
    facts: dict[str, Any] = {
        "recognizer": card.model,
        "faces": f"{card.faces}: {card.people} people, {card.photos} photos",
        "equal error rate": number(report.eer, 4),
        "threshold at the EER": number(card.thresholds[EER], 4),
    }
    if STRICT in card.thresholds:
        facts["threshold at FMR 1e-3"] = number(card.thresholds[STRICT], 4)
    if card.calls is not None:
        facts["calls of the recognizer in this job"] = f"{card.calls:,}"
    yield Facts(facts)
    yield Note(
        "Each true match rate (TMR) is the share of a person's pairs - one photo changed, one clean"
        " - at or above the threshold, averaged over people. In brackets: 95 % intervals over"
        " people. A change is stated where its interval lies on one side of 0 and the p-value,"
        f" corrected by Holm over its table, is below {number(1 - LEVEL, 2)}."
    )


def statements(card: RecognizerCard) -> Iterator[str]:
    """What is shown of the first table, of the maps and of the groups, one sentence each."""
    clean = card.rows[0].rates
    strict = f", {clean[STRICT].tmr.text()} at an FMR of 1e-3" if STRICT in clean else ""
    yield (
        f"Of mated pairs of clean photos it recognizes {clean[EER].tmr.text()} at its EER"
        f" threshold{strict}. What follows is at the EER threshold, against clean photos."
    )
    for lead, rows in _kinds(card.rows):
        shown = sorted(
            (row for row in rows if row.rates[EER].shown),
            key=lambda row: row.rates[EER].change.value,
        )
        costs = [f"{_subject(row)} {row.rates[EER].change.text(signed=True)}" for row in shown]
        left = len(rows) - len(shown)
        rest = f"for {'all' if not shown else 'the other'} {left} no change is shown" * bool(left)
        yield f"{lead}: {'; '.join([*costs, *filter(None, [rest])])}."
    if card.maps is not None:
        yield from _map_statement(card.maps)
    groups = [row for row in card.strata if row.rates[EER].shown]
    if groups:
        listed = "; ".join(
            f"{row.stratum.grouping}, {row.stratum.name} {row.rates[EER].change.text(signed=True)}"
            for row in groups
        )
        yield f"Recognition of groups of clean photos, against the others: {listed}."
    elif card.strata:
        yield "No difference in recognition between groups of photos or people is shown."


def _kinds(rows: Sequence[ConditionRow]) -> list[tuple[str, list[ConditionRow]]]:
    """What a sentence of the answer says first, and the rows that it is about."""
    return [
        ("What the picture suffers costs", [row for row in rows if row.condition.nuisance]),
        (
            "Hidden, the gap filled in from its surroundings (what is lost was known from there)",
            [row for row in rows if row.condition.fill == "inpaint"],
        ),
        (
            "Hidden behind black (it may upset a recognizer whatever was there)",
            [row for row in rows if row.condition.fill == "black"],
        ),
    ]


def _subject(row: ConditionRow) -> str:
    """``the eyes``, where the sentence says that something is hidden, and how."""
    return row.condition.words.partition(" hidden, ")[0]


def _map_statement(maps: MapFigures) -> Iterator[str]:
    more = sorted((s for s in maps.shares if s.side > 0), key=lambda s: -s.share.value)
    if more:
        listed = "; ".join(
            f"{PART_WORDS[s.part]} {_percents(s.share)} on {percent(s.area)} of the picture"
            for s in more
        )
        yield f"Its map lies, more than the area would give, on {listed}."


# --- tables ---------------------------------------------------------------------------------------


def _first_table(card: RecognizerCard) -> Iterator[Block]:
    yield Heading("What hiding and a bad picture cost", 2)
    yield Paragraph(
        "One photo of each pair is changed, the other is clean. A part is hidden in two ways. Black"
        " shows what upsets the recognizer: it sees that something was hidden. Filled in from the"
        " surroundings shows what it knew from the part. Parts differ in area: a large one may"
        " cost more by its size alone."
    )
    yield _condition_table(card, card.rows, "TMR with one photo of each pair changed")


def _condition_table(card: RecognizerCard, rows: Sequence[ConditionRow], caption: str) -> Table:
    headings = {"The changed photo": "", "Hidden": "Share of the picture that is hidden."}
    for rule in card.thresholds:
        at = _AT[rule]
        headings |= {
            f"TMR, {at}": "True match rate, mean over people.",
            f"Change, {at}": "Against clean photos.",
            f"p, {at}": "Of the change, corrected by Holm over the table.",
        }
    if card.impostors:
        headings["FMR"] = "False match rate at the EER threshold, the changed photo of another."
    table = []
    for row in rows:
        cells: list[Cell | str] = [
            row.condition.words,
            percent(row.condition.area) if row.condition.area else NOTHING,
        ]
        for rule in card.thresholds:
            cells += _rate_cells(row.rates[rule])
        if card.impostors:
            cells.append(_cell(row.fmr))
        table.append(cells)
    return plain_table(headings, table, caption)


def _rate_cells(rate: Rate) -> list[Cell | str]:
    change = _cell(rate.change, signed=True, bold=rate.shown)
    return [_cell(rate.tmr), change, p_value(None if math.isnan(rate.p_value) else rate.p_value)]


def _cell(interval: Interval, *, signed: bool = False, bold: bool = False) -> Cell | str:
    if math.isnan(interval.value):
        return NOTHING
    text, _, bounds = interval.text(signed=signed).partition(" ")
    return Cell(text, bounds, bold=bold)


def _parts(card: RecognizerCard, pictures: Sequence[Picture]) -> Iterator[Block]:
    yield Heading("Which parts it uses", 2)
    options = ", ".join(f"{key} {value}" for key, value in card.method.options)
    yield Paragraph(
        f"Each person's map is made by {card.method.name} ({options}): photos are covered at"
        " random, and the map says where covering lowers the similarity. It is scaled to [0, 1]."
        " The share of the map in a part is compared with the part's share of the picture."
    )
    maps = card.maps
    if maps is None:
        yield Paragraph("Every map is flat: nothing that is covered changes a score.")
        return
    yield from pictures
    yield Paragraph(in_words(maps.shares, what="the map", over=f"{maps.people} people"))
    yield plain_table(
        {
            "Part": "",
            "Share of the map": "Mean over people.",
            "Area": "Share of the picture.",
            "p": "Of the difference, corrected by Holm over the parts.",
        },
        [
            [
                PART_WORDS[share.part],
                _cell(share.share, bold=share.side > 0),
                number(share.area),
                p_value(None if math.isnan(share.p_value) else share.p_value),
            ]
            for share in maps.shares
        ],
        "The map and the parts of the face",
    )
    face = sum(share.share.value for share in maps.shares if share.part in FACE_PARTS)
    area = sum(share.area for share in maps.shares if share.part in FACE_PARTS)
    yield Paragraph(
        f"Inside the face lies {percent(face)} of the map ({percent(area)} of the picture). Half of"
        f" a map lies on {_percents(maps.half_area)} of the picture; of a flat map it would be"
        " 50 %."
    )
    if maps.without:
        yield Note(f"{maps.without} people have no map: all of theirs are flat.")


def _percents(interval: Interval) -> str:
    if math.isnan(interval.low):
        return percent(interval.value)
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"


def _people(card: RecognizerCard) -> Iterator[Block]:
    maps = card.maps
    if maps is None:
        return
    yield Heading("How it differs between people", 2)
    yield Paragraph(_personal(maps))


def _personal(maps: MapFigures) -> str:
    if maps.halved < FEWEST_PEOPLE:
        return (
            f"{maps.halved} people have maps of two halves of their photos (four photos are"
            f" needed): with fewer than {FEWEST_PEOPLE} nothing is said of whether maps are a"
            " person's own."
        )
    verdict = (
        "a person's map is more like their own than like other people's"
        if maps.personal.low > 0
        else "it is not shown that a person's map is more like their own than like other people's"
    )
    return (
        "Maps of one half of a person's photos correlate with those of the other half by"
        f" {maps.own.text()}, with those of other people by {maps.others.text()}: the difference is"
        f" {maps.personal.text(signed=True)}, over {maps.halved} people, so {verdict}."
    )


def _groups(card: RecognizerCard) -> Iterator[Block]:
    yield Heading("How it differs between groups", 2)
    if not card.strata:
        yield Paragraph(
            "Neither the face set nor a file of groups divides these photos. Give groups by"
            " --groups; pose and quality come with sets that 'facefocus prepare' made."
        )
        return
    yield Paragraph(
        "Clean photos. A pair belongs to the group of its first photo. The change is against the"
        " same people's other photos where people have photos on both sides, else against the"
        f" other people. With fewer than {FEWEST_PEOPLE} people on a side none is given."
    )
    headings = {"Divided by": "", "Group": "", "People": "", "Photos": ""}
    for rule in card.thresholds:
        at = _AT[rule]
        headings |= {
            f"TMR, {at}": "",
            f"Against the others, {at}": "",
            f"p, {at}": "Permutation test, corrected by Holm over the table.",
        }
    if card.impostors:
        headings["FMR"] = "Pairs of two people's photos that are both in the group."
    headings["Map inside the face"] = "Of people whose photos are all in the group."
    table = []
    for row in card.strata:
        cells: list[Cell | str] = [
            *(row.stratum.grouping, row.stratum.name, str(row.people), str(row.photos))
        ]
        for rule in card.thresholds:
            cells += _rate_cells(row.rates[rule])
        if card.impostors:
            cells.append(_cell(row.fmr))
        table.append([*cells, _cell(row.face_share)])
    yield plain_table(headings, table, "Clean photos by group", names=2)


def _stability(card: RecognizerCard) -> Iterator[Block]:
    yield Heading("How stable recognition is", 2)
    yield Paragraph("The same with what happens to pictures on their way, and with nothing hidden.")
    yield _condition_table(card, card.further, "TMR under nuisances")


def _limits(card: RecognizerCard) -> Iterator[Block]:
    yield Heading("Limits", 2)
    missing = "" if card.impostors else " False matches under each condition were not scored."
    yield Listing(
        [
            f"All figures are of {card.people} people of {card.faces}, drawn by seed {card.seed}."
            " For other people, cameras and countries they may differ.",
            "The thresholds come from the verification pairs of the same face set, which may show"
            " the same people.",
            "The parts are drawn once for everybody, in the aligned crop; on a turned head, or"
            " under a fringe, a part's pixels may show something else.",
            "A map shows where covering lowers similarity; covered pixels are black or blurred, so"
            " it mixes what was known with what upsets. Of what was known from a part, the rows"
            " 'filled in' say more.",
            f"Groups with few people have wide intervals; that no difference is shown does not mean"
            f" that there is none.{missing}",
        ]
    )
    stated = card.lineage
    provenance = {
        "trained on": stated.training,
        "people in that data": stated.data,
        "family": stated.family,
        "loss": stated.loss,
        "year": NOT_STATED if stated.year is None else str(stated.year),
        "recognizer's fingerprint": card.fingerprint,
        "face set's hash": card.faces_hash,
        "mated pairs": f"{card.pairs:,}",
        "non-mated pairs": f"{card.impostors:,}",
        "verification pairs": f"{card.report.mated:,} mated, {card.report.non_mated:,} non-mated",
        "all figures": "card.json beside this page",
    }
    yield Details("Where it comes from", [Facts(provenance)])


# --- pictures, and the same for programs ----------------------------------------------------------


def card_pictures(card: RecognizerCard, out: Path) -> list[Picture]:
    """Draw the population map to a file beside the page; no face is shown.

    Raises:
        UserError: The folder cannot be written.
    """
    if card.maps is None:
        return []
    path = out / "population.png"
    with writing(path):
        out.mkdir(parents=True, exist_ok=True)
        figure = _population(card.maps.population)
        save(figure, path)
        plt.close(figure)
    return [
        Picture(
            (path.name, _SIDE, _SIDE),
            "The population's map with the outlines of the parts of the face",
            f"The mean map of {card.maps.people} people, dark where it is high, with the outlines"
            " of the parts.",
        )
    ]


@styled
def _population(population: np.ndarray) -> Figure:
    figure, axis = plt.subplots(figsize=(_SIDE / 96, _SIDE / 96))
    side = len(population)
    axis.imshow(population, cmap="Oranges", interpolation="bilinear")
    for mask in parts(side).values():
        axis.contour(mask.astype(float), levels=[0.5], colors="#374151", linewidths=0.8)
    axis.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1)
    return figure


def plain(card: RecognizerCard) -> dict[str, Any]:
    """All figures as plain data, for programs; what there is none of is null."""
    maps = card.maps
    return {
        "format": 1,
        "model": card.model,
        "fingerprint": card.fingerprint,
        "lineage": asdict(card.lineage),
        "faces": {"title": card.faces, "hash": card.faces_hash},
        "people": card.people,
        "photos": card.photos,
        "mated_pairs": card.pairs,
        "non_mated_pairs": card.impostors,
        "seed": card.seed,
        "method": {"name": card.method.name, **dict(card.method.options)},
        "calls": card.calls,
        "eer": card.report.eer,
        "thresholds": dict(card.thresholds),
        "conditions": [_plain_row(row) for row in (*card.rows, *card.further[1:])],
        "maps": None
        if maps is None
        else {
            "people": maps.people,
            "without": maps.without,
            "half_area": _plain(maps.half_area),
            "shares": {
                share.part: {
                    "area": share.area,
                    "share": _plain(share.share),
                    "p": _known(share.p_value),
                }
                for share in maps.shares
            },
            "correlation": {
                "own": _plain(maps.own),
                "others": _plain(maps.others),
                "difference": _plain(maps.personal),
                "people": maps.halved,
            },
        },
        "strata": [_plain_stratum(row) for row in card.strata],
        "warnings": list(card.warnings),
    }


def _plain_row(row: ConditionRow) -> dict[str, Any]:
    return {
        "condition": row.condition.name,
        "hidden": row.condition.area,
        "rates": {rule: _plain_rate(rate) for rule, rate in row.rates.items()},
        "fmr": _plain(row.fmr),
    }


def _plain_stratum(row: StratumRow) -> dict[str, Any]:
    return {
        "grouping": row.stratum.grouping,
        "group": row.stratum.name,
        "people": row.people,
        "photos": row.photos,
        "rates": {rule: _plain_rate(rate) for rule, rate in row.rates.items()},
        "fmr": _plain(row.fmr),
        "face_share": _plain(row.face_share),
    }


def _plain_rate(rate: Rate) -> dict[str, Any]:
    return {
        "tmr": _plain(rate.tmr),
        "change": _plain(rate.change),
        "p": _known(rate.p_value),
        "shown": rate.shown,
    }


def _plain(interval: Interval) -> list[float | None] | None:
    """Value, lower and upper end."""
    if math.isnan(interval.value):
        return None
    return [_known(value) for value in (interval.value, interval.low, interval.high)]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
