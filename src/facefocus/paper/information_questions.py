"""``facefocus report --what information-questions``: the paper's questions by both readings.

How much does hiding take, at which layer, by which loss and method, does it transfer, and is it the
person's own? Each is asked behind a constant and with the gap filled in (Protocol: fills), of all
recognizers of some runs, on photos that no map saw. Every figure and every sentence with a figure
in it is computed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from facefocus.analysis.labels import layer_depth
from facefocus.analysis.own_maps import PHOTOS, SHORT, WHOSE, Rates, Scores, Setting, first, means
from facefocus.analysis.results import read_runs, run_notes
from facefocus.analysis.summary import Row
from facefocus.benchmark.result_columns import RANDOM
from facefocus.core.text import budget_text, number, p_value
from facefocus.evaluation.statistics import LEVEL, Interval, holm, mean_interval, paired_p_values
from facefocus.paper.information import (
    audit_blocks,
    one_experiment,
    order_blocks,
    transfer_lines,
    transfer_sentence,
)
from facefocus.report.document import Block, Cell, Heading, Listing, Paragraph, Table, plain_table

TITLE = "The paper's questions by both readings"

#: What is compared with a person's own map.
_OTHERS = ("other", "population")


def questions_document(runs: Sequence[Path]) -> list[Block]:
    """The document on runs of one experiment: layers, losses and transfer may be a run each.

    Raises:
        UserError: As `information.information_document`.
    """
    notes = [Paragraph(line) for run in runs for line in run_notes(run)]
    return questions_blocks(read_runs(runs), notes)


def questions_blocks(results: pl.DataFrame, notes: Sequence[Block] = ()) -> list[Block]:
    """The document on some result rows.

    Args:
        results: One row per identity and configuration, as ``facefocus run`` writes it.
        notes: What comes before the answer.

    Raises:
        UserError: As `information.information_document`.
    """
    scores = Scores.of(one_experiment(results))
    sections = {
        "How much does hiding take?": _hiding(scores),
        "Which layer?": _layers(scores),
        "Which loss?": _losses(scores),
        "Does it transfer?": _transfer(scores),
        "Is it the person's own?": _specificity(scores),
    }
    made = {title: section for title, section in sections.items() if section is not None}
    return [
        Heading(TITLE, 1),
        *notes,
        Heading("The answer", 2),
        Listing([section.answer for section in made.values()]),
        *(
            block
            for title, section in made.items()
            for block in (Heading(title, 2), *section.blocks)
        ),
        Heading("Do both readings order the methods alike?", 2),
        *order_blocks(scores),
        Heading("What was measured", 2),
        *audit_blocks(scores, results),
    ]


class _Answered(NamedTuple):
    """A question's answer in a sentence or two, and the tables that it comes from."""

    answer: str
    blocks: list[Block]


def _recognizers(scores: Scores) -> list[str]:
    """The recognizers with maps of their own that their masks were tried on."""
    return [name for name in scores.sources if name in scores.targets]


def _best(scores: Scores, target: str, fill: str, maps: Sequence[Row] | None = None) -> Row | None:
    """The map that hides best on the photos that the maps came from.

    Over all budgets at which each of them was tried, and for all fills that see the mask by the
    first of them. Held-out photos choose nothing, where others were tried as well.
    """
    fill = scores.gaps[0] if fill in scores.gaps else fill
    maps = scores.maps(target) if maps is None else maps
    settings = [Setting(scores.splits[0], budget, fill) for budget in scores.budgets]
    tried = [scores.rates(maps, target, setting) for setting in settings]
    common = [rates for rates in tried if np.isfinite(rates).any(axis=1).all()]
    if not maps or not common:
        return None
    top, _ = first(np.mean(common, axis=0))
    return None if top is None else maps[top]


def _tried(scores: Scores, target: str, setting: Setting, maps: Sequence[Row]) -> list[Row]:
    """The maps that have scores in a setting."""
    known = np.isfinite(scores.rates(maps, target, setting)).any(axis=1)
    return [row for row, tried in zip(maps, known, strict=True) if tried]


def _alike(scores: Scores, target: str, setting: Setting, maps: Sequence[Row]) -> Rates:
    """Recognition under each map, of the people who have all of them."""
    rates = scores.rates(maps, target, setting)
    return np.asarray(rates[:, np.isfinite(rates).all(axis=0)])


def _mean(rates: Float[np.ndarray, "1 people"]) -> Interval:
    return means(rates)[0]


def _p(difference: Float[np.ndarray, " people"]) -> float:
    """The larger p-value of the t test and Wilcoxon's; 1 without people."""
    tested = paired_p_values(difference[None])
    return float(np.nan_to_num(max(tested.t[0], tested.wilcoxon[0]), nan=1.0))


def _sure(p_values: Sequence[float]) -> list[bool]:
    return [p < 1 - LEVEL for p in holm(p_values)]


def _difference(values: Float[np.ndarray, "1 people"]) -> Interval:
    known = values[np.isfinite(values)]
    return mean_interval(known) if known.size else Interval(np.nan, np.nan, np.nan)


# --- how much hiding takes ------------------------------------------------------------------------


def _hiding(scores: Scores) -> _Answered | None:
    """Own maps beside random pixels and the best map that sees no photo of theirs."""
    rows: list[list[str]] = []
    cases: list[tuple[str, float]] = []
    gains: list[Float[np.ndarray, "2 people"]] = []
    for target, fill, budget in product(_recognizers(scores), scores.fills, scores.budgets):
        blind = [row for row in scores.blind(target) if row["method"] != RANDOM]
        random = [row for row in scores.blind(target) if row["method"] == RANDOM]
        setting = Setting(scores.unseen, budget, fill)
        own = _best(scores, target, fill, _tried(scores, target, setting, scores.maps(target)))
        rival = _best(scores, target, fill, _tried(scores, target, setting, blind))
        if own is None or rival is None or not random:
            continue
        tried = [scores.rates([row], target, setting) for row in (own, random[0], rival)]
        clean = scores.of_people(scores.clean, target, scores.unseen)[None]
        rows.append(
            [target, fill, budget_text(budget), scores.label(own, target),
             _mean(clean).text(), *(_mean(rates).text() for rates in tried), rival["method"]]
        )  # fmt: skip
        cases.append((fill, budget))
        gains.append(np.concatenate([tried[1] - tried[0], tried[2] - tried[0]]))
    if not rows:
        return None
    sure = _sure([_p(difference) for gain in gains for difference in gain])
    ahead = [
        [sure[2 * index + which] and float(np.nanmean(gain[which])) > 0 for which in (0, 1)]
        for index, gain in enumerate(gains)
    ]
    won = {
        fill: np.array([both for (name, _), both in zip(cases, ahead, strict=True) if name == fill])
        for fill in dict.fromkeys(name for name, _ in cases)
    }
    counts = [
        f"{fill} {flags[:, 0].sum()} and {flags[:, 1].sum()} of {len(flags)}"
        for fill, flags in won.items()
    ]
    answer = (
        f"How much does hiding take? Over {len(_recognizers(scores))} recognizers and budgets of"
        f" {' and '.join(map(budget_text, scores.budgets))}, on {PHOTOS[scores.unseen]}: cases in"
        " which the best own map is shown to hide better than random pixels, and than the best map"
        f" that sees no photo of the person: {', '.join(counts)} (paired tests, Holm over"
        f" {len(sure)})."
    )
    headings = ("Recognizer", "Fill", "Budget", "Best own map", "Clean", "Own map",
                "Random pixels", "Best blind map", "Which")  # fmt: skip
    caption = (
        "Recognition on held-out photos. The best own map and the best map that sees no photo of"
        " the person are picked on the photos that the maps came from, over all budgets"
    )
    return _Answered(answer, [plain_table(headings, rows, caption, names=4)])


# --- layers ---------------------------------------------------------------------------------------


def _layers(scores: Scores) -> _Answered | None:
    """Each method at each layer, by one loss, on every recognizer."""
    names = _recognizers(scores)
    swept = _swept(scores, "layer", "objective")
    if not swept:
        return None
    blocks: list[Block] = []
    best: dict[tuple[str, str, str], str] = {}
    for fill in scores.fills:
        lines: dict[tuple[str, str], dict[str, float]] = {}
        for target, maps in ((name, swept[name]) for name in names if name in swept):
            setting = Setting(scores.unseen, scores.budgets[-1], fill)
            for row, cell in zip(maps, means(_alike(scores, target, setting, maps)), strict=True):
                lines.setdefault((row["method"], row["layer"]), {})[target] = cell.value
            for method in dict.fromkeys(row["method"] for row in maps):
                top = _best(scores, target, fill, [r for r in maps if r["method"] == method])
                if top is not None:
                    best[target, method, fill] = top["layer"]
        blocks.append(_matrix(scores, lines, names, fill, "Layer"))
    pairs = list(dict.fromkeys((target, method) for target, method, _ in best))
    both = [[best.get((*pair, fill)) for fill in scores.readings] for pair in pairs]
    same = sum(layers[0] == layers[-1] for layers in both)
    filled = scores.readings[-1]
    often: dict[str, Counter[str]] = {}
    for (_, method, fill), layer in best.items():
        if fill == filled:
            often.setdefault(method, Counter())[layer] += 1
    counts = [
        f"{method} {', '.join(f'{layer} ({n})' for layer, n in layers.most_common())}"
        for method, layers in often.items()
    ]
    answer = (
        f"Which layer? Over {len(pairs)} pairs of recognizer and method, the layer of lowest mean"
        f" is the same by {' and '.join(scores.readings)} in {same}. By {filled}, with the number"
        f" of recognizers: {'; '.join(counts)}."
    )
    return _Answered(answer, blocks)


def _swept(scores: Scores, name: str, fixed: str) -> dict[str, list[Row]]:
    """Of each recognizer the maps of methods that were tried at several values of `name`.

    All with the value of `fixed` that has most of them.
    """
    swept: dict[str, list[Row]] = {}
    for target in _recognizers(scores):
        for method in dict.fromkeys(row["method"] for row in scores.maps(target)):
            maps = [row for row in scores.maps(target) if row["method"] == method]
            common, count = Counter(row[fixed] for row in maps).most_common(1)[0]
            part = [row for row in maps if row[fixed] == common]
            if count > 1 and len({row[name] for row in part}) > 1:
                swept.setdefault(target, []).extend(sorted(part, key=layer_depth))
    return swept


def _matrix(
    scores: Scores,
    lines: dict[tuple[str, str], dict[str, float]],
    names: Sequence[str],
    fill: str,
    what: str,
) -> Table:
    """Recognition by method and layer or loss (rows) and recognizer (columns)."""
    rows: list[list[Cell | str]] = []
    for (method, value), cells in sorted(lines.items(), key=lambda line: line[0][0]):
        shown: list[Cell | str] = [method, value]
        for name in names:
            of_method = [
                line[name] for (m, _), line in lines.items() if m == method and name in line
            ]
            cell = cells.get(name, np.nan)
            bold = bool(cell == np.nanmin([*of_method, np.inf]))
            shown.append(Cell(number(cell), bold=bold, missing=not np.isfinite(cell)))
        rows.append(shown)
    caption = (
        f"Recognition by {fill} at {budget_text(scores.budgets[-1])}, own maps on"
        f" {PHOTOS[scores.unseen]}, of the people who have all of them; the lowest of each method"
        " is emphasized"
    )
    return plain_table(("Method", what, *names), rows, caption, names=2)


# --- losses ---------------------------------------------------------------------------------------


def _losses(scores: Scores) -> _Answered | None:
    """Each method by each loss, at one layer, on every recognizer."""
    names = _recognizers(scores)
    swept = _swept(scores, "objective", "layer")
    if not swept:
        return None
    blocks: list[Block] = []
    spans: dict[str, list[float]] = {}
    tested: list[tuple[str, float]] = []
    for fill in scores.fills:
        lines: dict[tuple[str, str], dict[str, float]] = {}
        for target, maps in swept.items():
            setting = Setting(scores.unseen, scores.budgets[-1], fill)
            rates = _alike(scores, target, setting, maps)
            for row, cell in zip(maps, means(rates), strict=True):
                name = f"{row['method']} @ {row['layer']}"
                lines.setdefault((name, row["objective"]), {})[target] = cell.value
            for method in dict.fromkeys(row["method"] for row in maps):
                indices = [i for i, row in enumerate(maps) if row["method"] == method]
                means_of = rates[indices].mean(axis=1)
                low, high = int(np.argmin(means_of)), int(np.argmax(means_of))
                spans.setdefault(fill, []).append(float(means_of[high] - means_of[low]))
                tested.append((fill, _p(rates[indices[high]] - rates[indices[low]])))
        blocks.append(_matrix(scores, lines, names, fill, "Loss"))
    sure = _sure([p for _, p in tested])
    parts = [
        f"by {fill} by {number(float(np.median(span)))} (median) and at most {number(max(span))},"
        f" shown in {sum(s for (name, _), s in zip(tested, sure, strict=True) if name == fill)}"
        f" of {len(span)}"
        for fill, span in spans.items()
    ]
    answer = (
        f"Which loss? At {budget_text(scores.budgets[-1])}, recognition under the best and the"
        f" worst loss of a method differs {'; '.join(parts)} pairs of recognizer and method (paired"
        f" tests of the extremes, Holm over {len(sure)}: picked among several, so they err towards"
        " a difference)."
    )
    return _Answered(answer, blocks)


# --- transfer -------------------------------------------------------------------------------------


def _transfer(scores: Scores) -> _Answered | None:
    """Every recognizer's best map on every recognizer."""
    names = _recognizers(scores)
    lines = list(transfer_lines(scores))
    if len(names) < 2 or not lines:
        return None
    budget = scores.budgets[-1]
    blocks: list[Block] = []
    gaps: list[tuple[str, str, str, Float[np.ndarray, " people"]]] = []
    for fill in scores.fills:
        setting = Setting(scores.unseen, budget, fill)
        rows: list[list[Cell | str]] = []
        rates: dict[tuple[str, str], Float[np.ndarray, "1 people"]] = {}
        for source in names:
            top = _best(scores, source, fill, _abroad(scores, source, names))
            if top is None:
                continue
            rates |= {(source, name): scores.rates([top], name, setting) for name in names}
            cells = [_mean(rates[source, name]) for name in names]
            shown = [
                Cell(number(cell.value), bold=name == source, missing=not np.isfinite(cell.value))
                for name, cell in zip(names, cells, strict=True)
            ]
            rows.append([source, scores.label(top, source), *shown])
        for target in names:
            if (target, target) in rates:
                gaps += [
                    (fill, source, target, (rates[target, target] - rates[source, target])[0])
                    for source in names
                    if source != target and (source, target) in rates
                ]
        caption = (
            f"Recognition by {fill} at {budget_text(budget)} on {PHOTOS[scores.unseen]}: rows are"
            " the recognizer that the maps come from, columns the one that the masks are tried on;"
            " own maps are emphasized"
        )
        blocks.append(plain_table(("Source", "Map", *names), rows, caption, names=2))
    sure = _sure([_p(gap) for *_, gap in gaps])
    counts = []
    for fill in scores.fills:
        mine = [(gap, s) for (name, *_, gap), s in zip(gaps, sure, strict=True) if name == fill]
        if mine:
            ahead, behind = _sides(mine)
            counts.append(f"{fill} {ahead} better and {behind} worse of {len(mine)}")
    answer = (
        "Does it transfer?"
        f" {transfer_sentence(scores.fills, [shares for *_, shares in lines])} Pairs of recognizers"
        " in which own maps are shown to hide better or worse than those of the other recognizer,"
        f" at {budget_text(budget)}: {', '.join(counts)} (paired tests, Holm over {len(sure)})."
    )
    return _Answered(answer, blocks)


def _sides(tested: Sequence[tuple[Float[np.ndarray, " people"], bool]]) -> tuple[int, int]:
    """Of differences and whether each is sure: how many sure ones are below zero, and above."""
    signs = [np.sign(float(np.nanmean(gap))) for gap, sure in tested if sure]
    return signs.count(-1.0), signs.count(1.0)


def _abroad(scores: Scores, source: str, names: Sequence[str]) -> list[Row]:
    """The maps of a recognizer that were tried on all others as well."""
    maps = scores.maps(source)
    for name, fill in product(names, scores.readings):
        maps = _tried(scores, name, Setting(scores.unseen, scores.budgets[-1], fill), maps)
    return maps


# --- specificity ----------------------------------------------------------------------------------


_Gap = tuple[str, str, Float[np.ndarray, " people"]]


def _counted_sides(gaps: list[_Gap], corrected: Sequence[float]) -> Iterator[str]:
    """For each fill in how many cases the own map is ahead and behind, by control.

    Args:
        gaps: Fill, control, and each person's own rate minus that under the control.
        corrected: p of each.
    """
    controls = list(dict.fromkeys(control for _, control, _ in gaps))
    for fill in dict.fromkeys(name for name, *_ in gaps):
        sides = []
        for control in controls:
            cases = [
                (gap, p < 1 - LEVEL)
                for (name, whose, gap), p in zip(gaps, corrected, strict=True)
                if (name, whose) == (fill, control)
            ]
            ahead, behind = _sides(cases)
            sides.append(
                f"{ahead} ahead of {WHOSE[control].lower()} and {behind} behind, of {len(cases)}"
            )
        yield f"{fill}: {', '.join(sides)}"


def _specificity(scores: Scores) -> _Answered | None:
    """The best own map against the same method's map of somebody else, and of everybody else."""
    controls = [control for control in _OTHERS if control in scores.controls]
    names = _recognizers(scores)
    if not controls:
        return None
    rows: list[list[str]] = []
    gaps: list[_Gap] = []
    for target, fill, budget in product(names, scores.fills, scores.budgets):
        setting = Setting(scores.unseen, budget, fill)
        maps = [
            row
            for row in scores.maps(target)
            if np.isfinite(scores.rates([row], target, setting, controls[0])).any()
        ]
        top = _best(scores, target, fill, maps)
        if top is None:
            continue
        own = scores.rates([top], target, setting)
        row = [target, fill, budget_text(budget), scores.label(top, target), _mean(own).text()]
        for control in controls:
            gap = own - scores.rates([top], target, setting, control)
            gaps.append((fill, control, gap[0]))
            row += [_difference(gap).text(signed=True), ""]
        rows.append(row)
    if not rows:
        return None
    corrected = holm([_p(gap) for *_, gap in gaps])
    shown = iter(corrected)
    for row in rows:
        for column in range(6, len(row), 2):
            row[column] = p_value(next(shown))
    answer = (
        "Is it the person's own? Cases (recognizer and budget) in which the own map of a method is"
        f" shown to be ahead or behind: {'; '.join(_counted_sides(gaps, corrected))} (paired"
        f" tests, Holm over {len(gaps)})."
    )
    headings = ["Recognizer", "Fill", "Budget", "Map", "Own"]
    for control in controls:
        headings += [f"Own - {WHOSE[control].lower()}", "p (Holm)"]
    caption = (
        f"Recognition on {SHORT[scores.unseen]} photos under the own mask, minus that under the"
        " mask of the same method's map of another person, and of everybody else's mean map: below"
        " zero, the own map hides better"
    )
    return _Answered(answer, [plain_table(headings, rows, caption, names=4)])
