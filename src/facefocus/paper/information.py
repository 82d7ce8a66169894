"""``facefocus report --what information``: does hiding take information, and whose map finds it?

The same masks are read in two ways (Protocol: fills): behind a constant, and with the gap filled in
from its surroundings. Every figure and every sentence with a figure in it is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from facefocus.analysis.own_maps import (
    PHOTOS,
    SHORT,
    WHOSE,
    Contest,
    Rates,
    Scores,
    Setting,
    contest,
    corrected,
    first,
    groups,
    means,
)
from facefocus.analysis.results import read_runs, run_notes
from facefocus.analysis.summary import GUESSING, Row, guessing
from facefocus.benchmark.result_columns import COMPETES, CONFIGURATION, MAP, RANDOM, SHARED_MASK
from facefocus.core.errors import UserError
from facefocus.core.text import NOTHING, budget_text, number, p_value, percent
from facefocus.evaluation.statistics import (
    FEWEST,
    Interval,
    holm,
    paired_p_values,
    rank_agreement,
    ratio_intervals,
)
from facefocus.occlusion.fills import FILLS, reading
from facefocus.report.document import (
    Block,
    Cell,
    Column,
    Facts,
    Heading,
    Listing,
    Paragraph,
    Table,
    plain_table,
)

TITLE = "Information or artefact: what hiding shows"

#: What all rows must have in common: one document is about one experiment.
ONE_OF_EACH = ("faces", "seed", "compare", "threshold_rule", "on_degenerate")


def information_document(runs: Sequence[Path]) -> list[Block]:
    """The document on runs of one experiment, one for each source recognizer or all in one.

    Raises:
        UserError: A run cannot be read, no fill sees the mask, no map was tried, or the runs are
            of several experiments.
    """
    notes = [Paragraph(line) for run in runs for line in run_notes(run)]
    return information_blocks(read_runs(runs), notes)


def information_blocks(results: pl.DataFrame, notes: Sequence[Block] = ()) -> list[Block]:
    """The document on some result rows.

    Args:
        results: One row per identity and configuration, as ``facefocus run`` writes it.
        notes: What is said before the answer.

    Raises:
        UserError: As `information_document`.
    """
    scores = Scores.of(one_experiment(results))
    return [
        Heading(TITLE, 1),
        *notes,
        *(Paragraph(f"{name}: {GUESSING}") for name in guessing(results)),
        Heading("The answer", 2),
        Listing([*_answer(scores)]),
        Heading("Which map hides best?", 2),
        *_methods(scores),
        Heading("Whose map?", 2),
        *_whose(scores),
        Heading("Does it work on another recognizer?", 2),
        *_transfer(scores),
        Heading("Do both readings order the methods alike?", 2),
        *order_blocks(scores),
        Heading("What was measured", 2),
        *audit_blocks(scores, results),
    ]


def one_experiment(results: pl.DataFrame) -> pl.DataFrame:
    """Rows of exact masks, as if of one run: a baseline that is in several runs counts once."""
    rows = results.filter(pl.col("on_degenerate") != "inclusive")
    for name in ONE_OF_EACH:
        values = rows[name].unique(maintain_order=True).to_list()
        if len(values) > 1:
            raise UserError(
                f"The report '--what information' is of one experiment, with one {name}."
                f" Got {', '.join(map(str, values))}. Name runs that have it in common."
            )
    limits = rows.select("target", "threshold").unique().filter(pl.col("target").is_duplicated())
    if limits.height:
        raise UserError(
            "The report '--what information' is of one experiment, with one threshold for each"
            f" target. Got several for {limits['target'][0]}. Name runs on the same pairs."
        )
    rows = rows.with_columns(experiment=pl.col("experiment").first())
    rows = rows.unique((*CONFIGURATION, "identity"), keep="first", maintain_order=True)
    fills = rows["fill"].unique(maintain_order=True).to_list()
    if not any(fill in FILLS and reading(fill) == "information" for fill in fills):
        raise UserError(
            "The report '--what information' needs a fill that sees the mask."
            f' Got {", ".join(fills) or "no rows"}. Run the experiment with fill = ["black",'
            ' "inpaint", "linear"].'
        )
    if rows.filter(COMPETES).is_empty():
        raise UserError("The report '--what information' needs maps of a recognizer. Got none.")
    return rows


# --- the answer -----------------------------------------------------------------------------------


def _answer(scores: Scores) -> Iterator[str]:
    target = scores.targets[0]
    yield from (_hiding(scores, target, fill) for fill in scores.readings)
    yield _own_map(scores, target)
    yield _by_photos(scores, target)


def _hiding(scores: Scores, target: str, fill: str) -> str:
    """Which own map hides best over all budgets, from clean to each; and maps that see no face.

    It is chosen on the photos that the maps came from.
    """
    maps = scores.maps(target)
    settings = [Setting(scores.splits[0], budget, fill) for budget in scores.budgets]
    top, level = first(
        np.mean([scores.rates(maps, target, setting) for setting in settings], axis=0)
    )
    filled = fill in scores.gaps
    opening = f"With the gap filled in ({fill})" if filled else f"Behind {fill}"
    if top is None:
        return f"{opening}, no map was tried."
    others = f", not shown to be ahead of {level} of them" if level else ""
    standing = f"hides best of {len(maps)} own maps{others}" if len(maps) > 1 else "is the only map"
    courses = []
    for split in scores.splits:
        clean = means(scores.of_people(scores.clean, target, split)[None])[0].value
        courses.append(
            f"from {number(clean)} to {_course(scores, maps[top], target, split, fill)} on"
            f" {PHOTOS[split]}"
        )
    flat = [
        f"{scores.label(row, target)} leaves {_course(scores, row, target, scores.unseen, fill)}"
        for row in _two_baselines(scores, target, settings)
    ]
    beside = (
        f" Maps that see no photo of the person, on {PHOTOS[scores.unseen]}: {'; '.join(flat)}."
    )
    return (
        f"{opening}, {scores.label(maps[top], target)} {standing}: recognition by {target} falls"
        f" {', and '.join(courses)}.{beside if flat else ''}"
    )


def _two_baselines(scores: Scores, target: str, settings: Sequence[Setting]) -> list[Row]:
    """Random pixels, and of the other maps without a photo of the person the best one."""
    random = [row for row in scores.blind(target) if row["method"] == RANDOM]
    others = [row for row in scores.blind(target) if row["method"] != RANDOM]
    if not others:
        return random
    top, _ = first(np.mean([scores.rates(others, target, setting) for setting in settings], axis=0))
    return [*random, *(others[top : top + 1] if top is not None else [])]


def _course(scores: Scores, row: Row, target: str, split: str, fill: str) -> str:
    """Recognition under a map's masks at each budget: ``0.853 at 5 %, 0.729 at 10 %``."""
    return ", ".join(
        f"{number(means(scores.rates([row], target, Setting(split, b, fill)))[0].value)}"
        f" at {budget_text(b)}"
        for b in scores.budgets
    )


def _own_map(scores: Scores, target: str) -> str:
    """Whether a person's own map beats everybody's on photos that it never saw."""
    question = "Does any person's own map beat everybody's, on photos that it never saw?"
    if scores.unseen != "heldout":
        return f"{question} Not asked: no photos were held out."
    fill = scores.gaps[0]
    asked: dict[tuple[str, float], Contest] = {}
    for name, budget in product(scores.targets, scores.budgets):
        comparison = contest(scores, name, Setting("heldout", budget, fill))
        asked |= {} if comparison is None else {(name, budget): comparison}
    if not asked:
        return f"{question} Not asked: no mean map of other people was tried (control population)."
    by_budget = []
    for (name, budget), comparison in asked.items():
        if name == target:
            gap, own, everybody = _contest_means(comparison)
            by_budget.append(
                f"at {budget_text(budget)} own {number(own.value)}, everybody's"
                f" {number(everybody.value)}, own minus everybody's {gap.text(signed=True)}"
            )
    detail = f" With {fill}, on {target}: {'; '.join(by_budget)}." if by_budget else ""
    return f"{question} {_verdict(asked)}{detail}"


def _verdict(asked: Mapping[tuple[str, float], Contest]) -> str:
    """Yes or no, over all recognizers and budgets together."""
    sure = dict(zip(asked, corrected([comparison.p for comparison in asked.values()]), strict=True))
    ahead, behind = [], []
    for (name, budget), comparison in asked.items():
        gap, *_ = _contest_means(comparison)
        case = f"{budget_text(budget)} on {name}"
        ahead += [case] if sure[name, budget] and gap.high < 0 else []
        behind += [case] if sure[name, budget] and gap.low > 0 else []
    also = f" Everybody's is ahead at {', '.join(behind)}." if behind else ""
    if ahead:
        return f"Yes, in {len(ahead)} of {len(asked)} cases: at {', '.join(ahead)}.{also}"
    return f"No: it is not shown in any of {len(asked)} cases (recognizer and budget).{also}"


def _contest_means(comparison: Contest) -> tuple[Interval, Interval, Interval]:
    """The means of own minus everybody's, own, and everybody's."""
    (difference,) = means(comparison.difference[None], share=False)
    own, everybody = means(np.stack([comparison.own, comparison.everybody]))
    return difference, own, everybody


def _by_photos(scores: Scores, target: str) -> str:
    """From how many photos on a person's own map beats everybody's."""
    question = "From how many photos on?"
    photo_groups = groups(scores, target, scores.gaps[0]) if scores.unseen == "heldout" else []
    if not photo_groups:
        return f"{question} Not known: no {FEWEST} people have maps of equally many photos."
    counts = sorted({group.photos for group in photo_groups})
    enough = []
    for budget in scores.budgets:
        part = [group for group in photo_groups if group.budget == budget]
        starts = [n for n in counts if all(group.ahead for group in part if group.photos >= n)]
        if starts:
            enough.append(f"from {starts[0]} photos on at {budget_text(budget)}")
    tried = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    verdict = (
        f"A person's own map is ahead {', '.join(enough)}"
        if enough
        else "No number of photos is shown to be enough"
    )
    return (
        f"{question} {verdict}; tried: maps of {tried} photos, in groups of at least"
        f" {FEWEST} people."
    )


# --- which map hides best -------------------------------------------------------------------------


def _methods(scores: Scores) -> Iterator[Block]:
    plain = [fill for fill in scores.fills if fill not in scores.gaps]
    artefact = f" {plain[0]} is read as an artefact: the network sees the mask." if plain else ""
    yield Paragraph(
        f"Recognition, mean over people: the lower, the better hidden.{artefact}"
        f" {' and '.join(scores.gaps)} {'are' if len(scores.gaps) > 1 else 'is'} read as"
        " information: the gap is filled in from its surroundings. The lowest value of a column is"
        " emphasized; oracles are bounds. A method whose maps depend on the fill has one for each,"
        ' unless its name says "made for".'
    )
    whose = [None, *(["population"] if "population" in scores.controls else [])]
    for target in scores.targets:
        for split, control in product(scores.splits, whose):
            yield _methods_table(scores, target, split, control)
        yield _firsts_table(scores, target)


def _firsts_table(scores: Scores, target: str) -> Table:
    """The own map of lowest recognition at each budget, and how many are level with it."""
    maps = scores.maps(target)
    rows = []
    for fill, split, budget in product(scores.fills, scores.splits, scores.budgets):
        rates = scores.rates(maps, target, Setting(split, budget, fill))
        top, level = first(rates)
        if top is not None:
            words = (fill, SHORT[split], budget_text(budget), scores.label(maps[top], target))
            rows.append([*words, means(rates[top][None])[0].text(), f"{level} of {len(maps) - 1}"])
    headings = {
        "Fill": "",
        "Photos": "",
        "Budget": "",
        "Map": "",
        "Recognition": "",
        "Level": "Other maps that it is not shown to be ahead of.",
    }
    return plain_table(headings, rows, f"{target}: own map of lowest recognition", names=4)


class Line(NamedTuple):
    """A row of the table of methods."""

    label: str
    mark: str
    cells: list[Interval]


def _methods_table(scores: Scores, target: str, split: str, control: str | None) -> Table:
    """A row for each map, a column for each fill and budget."""
    settings = [Setting(split, b, fill) for fill, b in product(scores.fills, scores.budgets)]
    maps = scores.maps(target)

    def lines(rows: Sequence[Row], mark: str, instead: str | None = None) -> list[Line]:
        columns = [means(scores.rates(rows, target, setting, instead)) for setting in settings]
        labelled = [
            Line(scores.label(row, target), mark, [column[index] for column in columns])
            for index, row in enumerate(rows)
        ]
        return [line for line in labelled if np.isfinite([cell.value for cell in line.cells]).any()]

    rows = lines(maps, "", control)
    if control is None:
        blind = scores.blind(target)
        flat = lines(blind, "baseline")
        if blind[:1] != [] and blind[0]["method"] == RANDOM:
            rows += flat
        else:
            pixels = lines(maps[:1], "baseline", "pixels")
            rows += [*(line._replace(label="random pixels") for line in pixels), *flat]
    compared = len(rows)
    rows += lines(scores.oracles(target), "baseline") if control is None else []
    lowest = [
        min((round(line.cells[i].value, 3) for line in rows[:compared]
             if np.isfinite(line.cells[i].value)), default=np.nan)
        for i in range(len(settings))
    ]  # fmt: skip

    def column(index: int, setting: Setting) -> Column:
        def shown(line: Line) -> Cell:
            value = line.cells[index].value
            bold = line in rows[:compared] and round(value, 3) == lowest[index]
            return Cell(number(value), bold=bold, missing=not np.isfinite(value))

        return Column(f"{setting.fill} {budget_text(setting.budget)}", "", shown)

    whose = "the mean map of all other people" if control else "the person's own map"
    return Table(
        f"{target}, by {whose}, on {PHOTOS[split]}",
        [
            Column("Map", "", lambda line: line.label, numeric=False),
            *(column(index, setting) for index, setting in enumerate(settings)),
        ],
        rows,
        notes=_reach([line.cells for line in rows]),
        mark=lambda line: line.mark,
    )


def _reach(rows: Sequence[Sequence[Interval]]) -> list[str]:
    """How far the intervals of a table of means reach."""
    reach = [max(cell.high - cell.value, cell.value - cell.low) for row in rows for cell in row]
    known = [half_width for half_width in reach if np.isfinite(half_width)]
    if not known:
        return [f"No intervals: fewer than {FEWEST} people."]
    return [
        f"95 % intervals over people reach at most {number(max(known))} from these means, half of"
        f" them at most {number(float(np.median(known)))}."
    ]


# --- whose map ------------------------------------------------------------------------------------


def _whose(scores: Scores) -> Iterator[Block]:
    if "population" not in scores.controls:
        yield Paragraph("Not asked: no mean map of other people was tried (control population).")
        return
    blend = " Blend is the own map mixed with it (Protocol: controls)."
    yield Paragraph(
        "A difference is recognition under the own mask minus recognition under everybody's, over"
        " the same people: below zero, the own map hides better. Everybody's map is the mean map of"
        f" all other people.{blend if 'blend' in scores.controls else ''}"
    )
    yield _contest_table(scores)
    shared = _shared_table(scores)
    if shared is not None:
        yield shared
    if scores.unseen == "heldout":
        yield _photos_table(scores)
    for target, fill, split in product(scores.targets, scores.readings[::-1], scores.splits):
        yield _whose_table(scores, target, fill, split)


def _shared_table(scores: Scores) -> Table | None:
    """The shared mask against the best map of every other kind; None where there is none."""
    rows = []
    cases = product(scores.targets, scores.gaps, scores.splits, scores.budgets)
    for target, fill, split, budget in cases:
        setting, maps, blind = (
            Setting(split, budget, fill),
            scores.maps(target),
            scores.blind(target),
        )
        shared = [row for row in blind if row["method"] == SHARED_MASK]
        flat = [row for row in blind if row["method"] not in (SHARED_MASK, RANDOM)]
        if not shared:
            continue
        sides = [
            scores.rates(maps, target, setting),
            scores.rates(maps, target, setting, "population"),
            scores.rates(flat, target, setting),
        ]
        mask = scores.rates(shared[:1], target, setting)
        gaps = [means(mask - _lowest(side), share=False)[0].text(signed=True) for side in sides]
        rows.append([target, fill, SHORT[split], budget_text(budget),
                     scores.label(shared[0], target), means(mask)[0].text(), *gaps])  # fmt: skip
    headings = ("Target", "Fill", "Photos", "Budget", "Map", "Recognition", "- best own map",
                "- best mean map of others", "- best baseline")  # fmt: skip
    caption = (
        "The shared mask, searched on people who are not explained, minus the best map of each"
        " other kind on the same photos, picked there in its favour: below zero, the shared mask"
        " hides better"
    )
    return plain_table(headings, rows, caption, names=5) if rows else None


def _lowest(rates: Rates) -> Float[np.ndarray, "1 people"]:
    """The row of lowest mean over people; NaN where there is none."""
    left = np.array([mean.value for mean in means(rates)])
    if not np.isfinite(left).any():
        return np.full((1, rates.shape[1]), np.nan)
    return np.asarray(rates[[int(np.nanargmin(left))]])


def _contest_table(scores: Scores) -> Table:
    rows, p_values = [], []
    for target, fill, split, budget in product(
        scores.targets, scores.readings[::-1], scores.splits, scores.budgets
    ):
        comparison = contest(scores, target, Setting(split, budget, fill))
        if comparison is None:
            continue
        difference, own, everybody = _contest_means(comparison)
        rows.append([target, fill, SHORT[split], budget_text(budget), own.text(),
                     everybody.text(), difference.text(signed=True),
                     str(int(np.isfinite(comparison.own).sum()))])  # fmt: skip
        p_values.append(comparison.p)
    cells = [[*row[:-1], p_value(p), row[-1]] for row, p in zip(rows, holm(p_values), strict=True)]
    headings = ("Target", "Fill", "Photos", "Budget", "Own", "Everybody's", "Own - everybody's",
                "p (Holm)", "People")  # fmt: skip
    caption = (
        "The best own map, alone or blended with everybody's, against the best map that knows"
        " nothing of the person: a mean map of others, or one that sees no photo of theirs. Each is"
        " picked on the half of the people that a person is not in. p is corrected over all rows"
        " here, in the answer over held-out photos under its fill"
    )
    return plain_table(headings, cells, caption, names=4)


def _photos_table(scores: Scores) -> Table:
    fill = scores.gaps[0]
    rows = []
    for target in scores.targets:
        photo_groups = groups(scores, target, fill)
        for count in sorted({group.photos for group in photo_groups}):
            part = {group.budget: group for group in photo_groups if group.photos == count}
            cells = [
                means(part[b].difference[None], share=False)[0].text(signed=True)
                if b in part
                else NOTHING
                for b in scores.budgets
            ]
            people = max(len(group.difference) for group in part.values())
            rows.append([target, str(count), str(people), *cells])
    headings = ("Target", "Photos of a map", "People", *map(budget_text, scores.budgets))
    caption = (
        f"Own minus everybody's by the photos that a map was made of (half of a person's, rounded"
        f" down), {fill}, held-out photos"
    )
    return plain_table(headings, rows, caption)


def _whose_table(scores: Scores, target: str, fill: str, split: str) -> Table:
    """Each method at its best layer: recognition by whose map, and how own and blend compare."""
    maps = scores.one_layer_each(scores.maps(target), target)
    compared = [control for control in (None, "blend") if control in scores.controls]
    rows: list[list[str]] = []
    differences: list[list[str]] = []
    p_values: list[float] = []
    for budget in scores.budgets:
        setting = Setting(split, budget, fill)
        by_control = {name: scores.rates(maps, target, setting, name) for name in scores.controls}
        columns = [means(rates) for rates in by_control.values()]
        gaps = [by_control[name] - by_control["population"] for name in compared]
        intervals = [means(gap, share=False) for gap in gaps]
        tested = [paired_p_values(gap) for gap in gaps]
        for index in np.flatnonzero(np.isfinite(gaps[0]).any(axis=1)):
            shown = (number(column[index].value) for column in columns)
            rows.append([scores.label(maps[index], target), budget_text(budget), *shown])
            differences.append([column[index].text(signed=True) for column in intervals])
            p_values += [_larger(test.t[index], test.wilcoxon[index]) for test in tested]
    corrected_p = iter(holm(p_values))
    cells = [
        [*row, *(cell for text in part for cell in (text, p_value(next(corrected_p))))]
        for row, part in zip(rows, differences, strict=True)
    ]
    headings = ["Map", "Budget", *(WHOSE[name] for name in scores.controls)]
    for name in compared:
        headings += [f"{WHOSE[name]} - everybody's", "p (Holm)"]
    caption = f"{target}, {fill}, on {PHOTOS[split]}, each method at its best layer"
    return plain_table(headings, cells, caption, names=2)


def _larger(*p_values: float) -> float:
    """The largest of some p-values, 1 where there is none."""
    return float(np.nan_to_num(max(p_values), nan=1.0))


# --- transfer -------------------------------------------------------------------------------------


def _transfer(scores: Scores) -> Iterator[Block]:
    lines = list(transfer_lines(scores))
    if not lines:
        yield Paragraph("Not asked: no map was tried on a recognizer that it does not come from.")
        return
    yield Paragraph(
        f"Maps of a source on another recognizer, on {PHOTOS[scores.unseen]}, each method at the"
        " layer that is best on its source. The share is the drop on the target by the drop on the"
        " source, given where the latter is above zero for sure."
    )
    yield Paragraph(transfer_sentence(scores.fills, [shares for *_, shares in lines]))
    rows = [
        [*names, *(figure.text() for both in zip(rates, shares, strict=True) for figure in both)]
        for names, rates, shares in lines
    ]
    headings = ["Source", "Target", "Map", "Budget"]
    headings += [f"{fill}: {what}" for fill in scores.fills for what in ("recognition", "share")]
    yield plain_table(headings, rows, "Transfer by fill", names=4)


def transfer_lines(
    scores: Scores,
) -> Iterator[tuple[list[str], list[Interval], list[Interval]]]:
    """The names of each map tried abroad and budget; by fill, recognition there and its share."""
    for source, target in product(scores.sources, scores.targets):
        if source in scores.targets:
            yield from _across(scores, source, target)


def _across(
    scores: Scores, source: str, target: str
) -> Iterator[tuple[list[str], list[Interval], list[Interval]]]:
    other = [row for row in scores.maps(source) if target not in row["source"].split("+")]
    setting = Setting(scores.unseen, scores.budgets[-1], scores.gaps[0])
    known = np.isfinite(scores.rates(other, target, setting)).any(axis=1)
    # Layers that were tried on the source only choose nothing here.
    own = [row for row, tried in zip(other, known, strict=True) if tried]
    maps = scores.one_layer_each(own, source) if own else []
    for budget in scores.budgets if maps else ():
        rates, shares = [], []
        for fill in scores.fills:
            setting = Setting(scores.unseen, budget, fill)
            rates.append(means(scores.rates(maps, target, setting)))
            there, here = (scores.drops(maps, name, setting) for name in (target, source))
            shares.append(list(ratio_intervals(there, here)))
        for i, row in enumerate(maps):
            if any(np.isfinite(column[i].value) for column in rates):
                names = [source, target, scores.label(row, source), budget_text(budget)]
                yield names, [column[i] for column in rates], [column[i] for column in shares]


def transfer_sentence(fills: Sequence[str], shares: Sequence[Sequence[Interval]]) -> str:
    """Whether the first fill that sees the mask keeps more of its drop than one that does not."""
    gap = next(index for index, fill in enumerate(fills) if reading(fill) == "information")
    both = [row for row in shares if np.isfinite([row[0].low, row[gap].low]).all()]
    if not gap or not both:
        return (
            "Whether information transfers where artefacts do not cannot be said: under no two"
            " fills is a drop on the source sure."
        )
    middle = [float(np.median([row[index].value for row in both])) for index in (0, gap)]
    more = sum(row[gap].low > row[0].high for row in both)
    less = sum(row[gap].high < row[0].low for row in both)
    return (
        f"Of {len(both)} maps and budgets with a drop on the source under both fills, the median"
        f" share that transfers is {percent(middle[0])} with {fills[0]} and {percent(middle[1])}"
        f" with {fills[gap]}. With {fills[gap]} it is larger in {more} and smaller in {less}, the"
        " two intervals apart."
    )


# --- order of methods -----------------------------------------------------------------------------


def order_blocks(scores: Scores) -> Iterator[Block]:
    """Kendall's tau of the methods' drops between each two fills."""
    pairs = list(zip(scores.fills, scores.fills[1:], strict=False))
    rows = []
    for target, split, budget in product(scores.targets, scores.splits, scores.budgets):
        taus = [_agreement(scores, target, split, budget, pair) for pair in pairs]
        if any(taus):
            rows.append(
                [target, SHORT[split], budget_text(budget), *(tau or NOTHING for tau in taus)]
            )
    if not rows:
        yield Paragraph("Not asked: it takes two maps and two fills.")
        return
    yield Paragraph(
        "Kendall's tau of the maps' mean drops under two fills: 1 is the same order, 0 none, -1 the"
        " reverse. The interval holds every tau that the people leave open (Protocol: statistics)."
    )
    headings = ("Target", "Photos", "Budget", *(f"{a} and {b}" for a, b in pairs))
    yield plain_table(headings, rows, "Order of own maps", names=3)


def _agreement(
    scores: Scores, target: str, split: str, budget: float, fills: Sequence[str]
) -> str | None:
    """Tau with its interval; None where fewer than two maps have scores under both fills."""
    maps = scores.maps(target)
    sides = [scores.drops(maps, target, Setting(split, budget, fill)) for fill in fills]
    known = np.isfinite(np.stack(sides))
    tried = known.any(axis=2).all(axis=0)
    people = known[:, tried].all(axis=(0, 1))
    if tried.sum() < 2 or not people.any():
        return None
    return rank_agreement(*(side[tried][:, people] for side in sides), kind="kendall").text()


# --- audit ----------------------------------------------------------------------------------------


def audit_blocks(scores: Scores, results: pl.DataFrame) -> Iterator[Block]:
    """People, photos, thresholds, hidden areas, and the maps that order no pixels."""
    facts: dict[str, str] = {"Faces": ", ".join(results["faces"].unique(maintain_order=True))}
    for target, split in product(scores.targets, scores.splits):
        clean, photos = (
            scores.of_people(matrix, target, split) for matrix in (scores.clean, scores.photos)
        )
        facts[f"{target}, {PHOTOS[split]}"] = (
            f"{np.isfinite(clean).sum()} people, {int(np.nansum(photos))} photos, clean recognition"
            f" {means(clean[None])[0].text()}"
        )
    limits = results.select("target", "threshold", "threshold_rule").unique(maintain_order=True)
    facts["Thresholds"] = "; ".join(f"{r[0]} {number(r[1])} ({r[2]})" for r in limits.rows())
    own = results.filter(pl.col("control").is_null(), pl.col("split").is_in(scores.splits))
    areas = own.group_by("budget").agg(
        pl.col("masked_share").mean(), most=pl.col("masked_share").max()
    )
    facts["Hidden area, mean and largest"] = "; ".join(
        f"{percent(mean, 2)} and {percent(most, 2)} of {budget_text(budget)}"
        for budget, mean, most in areas.sort("budget").rows()
    )
    maps = _map_audit(own)
    bad = maps.filter(pl.max_horizontal("degenerate", "over", "same") > 0)
    facts["Maps"] = (
        f"{maps.height}, of which {maps.height - bad.height} order the pixels of everybody, keep"
        " to the budget and change every score"
    )
    yield Facts(facts)
    if bad.height:
        rows = [
            [scores.label(row, scores.targets[0]), row["policy"],
             *(percent(row[name]) for name in ("degenerate", "over", "same"))]
            for row in bad.to_dicts()
        ]  # fmt: skip
        headings = {
            "Map": "",
            "on_degenerate": "What people without a map get (Protocol: masks).",
            "Degenerate": "People whose map orders no pixels.",
            "Over budget": "Masks of more pixels than asked for.",
            "Unaffected": "Scores that hiding did not change.",
        }
        yield plain_table(headings, rows, "The other maps, all targets, photos and fills", names=2)


def _map_audit(own: pl.DataFrame) -> pl.DataFrame:
    """Of each map the shares of people without one, of larger masks and of unchanged scores."""
    same = (pl.col("rate") == pl.col("clean_rate")) & (pl.col("cosine") == pl.col("clean_cosine"))
    return own.group_by(MAP, maintain_order=True).agg(
        policy=pl.col("on_degenerate").first(),
        degenerate=pl.col("degenerate").mean(),
        over=(pl.col("masked_pixels") > pl.col("budget_pixels")).fill_null(False).mean(),
        same=same.fill_null(False).mean(),
    )
