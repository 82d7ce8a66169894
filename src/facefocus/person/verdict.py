"""What the figures say, in a few sentences and four numbers; no more than intervals support."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from facefocus.core.text import budget_text, number, percent
from facefocus.evaluation.statistics import mean_interval
from facefocus.person.candidates import OWN, POPULATION
from facefocus.person.proof import CLEAN, Figure, Judge, Measures
from facefocus.person.robust_figures import PAINTED, REPAIRS, SLIPS, SURVIVES, Robustness
from facefocus.person.trials import CHOSEN

#: How the titles of repairs begin.
REPAIR = "repair by "

#: Pixels of the crop by which a painted face may be found elsewhere before it is said.
MOVED = 3.0

#: The controls, and what each is called.
CONTROLS = {
    "shifted": "the same mask, shifted",
    "other": "other people's masks",
    "random": "random pixels",
}

#: The value of each photo: (condition, recognizer, seen) to measures.
Values = Mapping[tuple[str, str, bool], Measures]

#: Measures in the order in which they are headlines, and how each matches.
MEASURES = {
    ("template", "EER"): "matched by your template",
    ("any", "EER"): "matched by one of your other photos or more",
}


@dataclass(frozen=True)
class Number:
    """One of the four numbers of the first screen."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """The first screen.

    Attributes:
        sentences: The first says what matters most.
        numbers: Four numbers.
        warnings: What must be known before any of it is believed.
    """

    sentences: tuple[str, ...]
    numbers: tuple[Number, ...]
    warnings: tuple[str, ...]


class Lookup:
    """Figures by what they are of.

    Args:
        figures: All of them.
        judges: Whose.
    """

    def __init__(self, figures: Sequence[Figure], judges: Sequence[Judge]) -> None:
        self._figures = {
            (f.condition, f.recognizer, f.seen, f.gallery, f.measure, f.rule): f for f in figures
        }
        self.judges = judges
        have = {(f.measure, f.rule) for f in figures}
        #: The measure of the headline; cosines where nothing can be matched.
        self.measure = next((key for key in MEASURES if key in have), ("cosine", ""))

    def get(
        self,
        condition: str,
        judge: Judge,
        measure: tuple[str, str] | None = None,
        gallery: str = "unseen",
    ) -> Figure | None:
        """A figure; None where there is none."""
        return self._figures.get(
            (condition, judge.name, judge.seen, gallery, *(measure or self.measure))
        )

    def worst(self, *, seen: bool) -> Judge | None:
        """The recognizer on which most is left of the hidden face."""
        pairs = [
            (figure.value, judge)
            for judge in self.judges
            if judge.seen == seen and (figure := self.get(CHOSEN, judge)) is not None
        ]
        return max(pairs, key=lambda pair: pair[0])[1] if pairs else None

    def control(self, judge: Judge) -> str | None:
        """The strongest control on a recognizer: the one that leaves least similarity."""
        pairs = [
            (figure.value, name)
            for name in CONTROLS
            if (figure := self.get(name, judge, ("cosine", ""))) is not None
        ]
        return min(pairs)[1] if pairs else None

    def text(self, figure: Figure | None) -> str:
        """``3 of 10`` photos, or a similarity."""
        if figure is None:
            return "not known"
        if figure.measure == "cosine":
            return number(figure.value, 2)
        count = figure.value * figure.photos
        whole = abs(count - round(count)) < 0.05
        return f"{round(count) if whole else number(count, 1)} of {figure.photos}"


def mask_words(recommended: str) -> str:
    """Whose mask a candidate is, in words."""
    if recommended == OWN:
        return "your own mask"
    if recommended == POPULATION:
        return "everybody's mask, made from other people's photos"
    return f"the mask of {recommended.removeprefix('atlas-').replace('-', ' ')}, the same for all"


def verdict(
    picked: Mapping[tuple[str, bool], Sequence[str]],
    values: Values,
    figures: Sequence[Figure],
    judges: Sequence[Judge],
    robustness: Sequence[Robustness],
    *,
    budget: float,
    limits: Sequence[str],
    repair: Callable[[Judge], Iterable[str]] = lambda _: (),
) -> Verdict:
    """The first screen of an explanation.

    Args:
        picked: The candidates that count, by the name of the recognizer that judges them and
            whether they were made on it.
        values: The value of each photo.
        figures: All numbers.
        judges: Whose.
        robustness: What is left under nuisances and repair.
        budget: Share of the face that is hidden.
        limits: What cannot be proven.
        repair: What is said of protection against repair on a recognizer.
    """
    look = Lookup(figures, judges)
    fresh, known = look.worst(seen=False), look.worst(seen=True)
    main = fresh or known
    assert main is not None
    doubtful = list(_doubtful(robustness, main, known))
    sentences = [
        *_fragile(look, doubtful),
        *repair(main),
        *_held(look, picked[main.name, main.seen], main, budget),
        *_beyond(look, values, main),
        *_painted(robustness, main),
    ]
    numbers = tuple(_numbers(look, main, fresh, known))
    return Verdict(tuple(sentences), numbers, tuple(limits))


def _numbers(
    look: Lookup, main: Judge, fresh: Judge | None, known: Judge | None
) -> Iterator[Number]:
    kind = "photos still matched" if look.measure != ("cosine", "") else "mean similarity"
    yield Number("Nothing hidden", look.text(look.get(CLEAN, main)), f"{kind}, {main.name}")
    if known is not None:
        yield Number(
            "Hidden, photos the mask never saw",
            look.text(look.get(CHOSEN, known)),
            f"{known.name}, which the mask was made on",
        )
    if fresh is not None:
        yield Number(
            "Hidden, worst recognizer never seen",
            look.text(look.get(CHOSEN, fresh)),
            f"{fresh.name}, which the mask was not made on",
        )
    else:
        yield Number("Hidden, recognizer never seen", "not tried", "none was given: --unseen")
    control = look.control(main)
    if control is not None:
        yield Number(
            "As many pixels hidden otherwise",
            look.text(look.get(control, main)),
            f"{CONTROLS[control]}, the strongest control; {main.name}",
        )


def _held(look: Lookup, picked: Sequence[str], main: Judge, budget: float) -> Iterator[str]:
    hidden, clean = look.get(CHOSEN, main), look.get(CLEAN, main)
    if hidden is None or clean is None:
        return
    whose = " or ".join(dict.fromkeys(map(mask_words, picked)))
    made = "which the mask was made on" if main.seen else "which the mask never saw"
    if not main.seen and any(judge.seen and judge.name == main.name for judge in look.judges):
        made = "under a mask that was made in the same way without it"
    if hidden.measure == "cosine":
        yield (
            f"Hiding {budget_text(budget)} of the face by {whose} takes the similarity from"
            f" {number(clean.value, 2)} to {number(hidden.value, 2)} on {main.name}, {made}."
            " Whether that is no match cannot be said without a threshold."
        )
        return
    interval = (
        f" (95 % interval of the share: {percent(hidden.low, 0)} to {percent(hidden.high, 0)})"
        if np.isfinite(hidden.low)
        else ""
    )
    yield (
        f"Hiding {budget_text(budget)} of the face by {whose} leaves {look.text(hidden)} photos"
        f" {MEASURES[look.measure]}{interval}; with nothing hidden it is {look.text(clean)}."
        f" Judged by {main.name}, {made}, at the threshold of equal error rate."
    )
    risks = [
        (text, figure)
        for gallery, text in (("unseen", ""), ("others", " with all your photos in the gallery"))
        for measure, words in MEASURES.items()
        if (figure := look.get(CHOSEN, main, measure, gallery)) is not None
        and figure.value > hidden.value
        for text in (f"{look.text(figure)} are {words}{text}",)
    ]
    if risks:
        yield f"The risk may be larger: {max(risks, key=lambda risk: risk[1].value)[0]}."


def _beyond(look: Lookup, values: Values, main: Judge) -> Iterator[str]:
    """Whether the mask lowers similarity more than the strongest control, paired by photo."""
    control = look.control(main)
    if control is None:
        return
    hidden, other = (values[name, main.name, main.seen]["cosine", ""] for name in (CHOSEN, control))
    both = np.isfinite(hidden) & np.isfinite(other)
    if not both.any():
        return
    more = mean_interval((other - hidden)[both])
    words = CONTROLS[control] if control == "shifted" else f"{CONTROLS[control]} of the same area"
    if np.isnan(more.low):
        yield f"Too few photos to say whether it lowers similarity more than {words}."
    elif more.low > 0:
        yield f"It lowers similarity more than {words}: {more.text(signed=True)}."
    elif more.high < 0:
        yield f"It lowers similarity less than {words}: {more.text(signed=True)}."
    else:
        yield f"It is not shown to lower similarity more than {words}: {more.text(signed=True)}."


def _painted(robustness: Sequence[Robustness], main: Judge) -> Iterator[str]:
    """What painting does to the search for the face: no success of the mask, nor of the search."""
    for row in robustness:
        if row.nuisance != PAINTED or (row.recognizer, row.seen) != (main.name, main.seen):
            continue
        if row.undetected:
            yield (
                f"On {row.undetected} of {row.photos + row.undetected} painted photographs the face"
                " is no longer found: these are not compared, and count for nobody."
            )
        if row.moved > MOVED:
            yield (
                f"On painted photographs the face is found {number(row.moved, 0)} pixels of the"
                " crop from where it was, in the mean: part of the effect is a wrong alignment."
            )


def _doubtful(
    robustness: Sequence[Robustness], main: Judge, known: Judge | None
) -> Iterator[Robustness]:
    """Slips and repairs after which less than half of the effect is left, as far as is known."""
    asked = {(judge.name, judge.seen) for judge in (main, known) if judge is not None}
    for row in robustness:
        counts = row.nuisance in (*SLIPS, *REPAIRS, PAINTED)
        if counts and (row.recognizer, row.seen) in asked and row.surviving.value < SURVIVES:
            yield row


def _fragile(look: Lookup, doubtful: Sequence[Robustness]) -> Iterator[str]:
    """Whether it is no protection, or is not shown to last (Protocol: robustness)."""
    undone = [row for row in doubtful if row.surviving.high < SURVIVES]
    rest = [row for row in doubtful if row not in undone]
    if undone:
        least = min(undone, key=lambda row: row.surviving.value)
        again = least.measures.get(look.measure)
        matched = (
            f": {number(again * least.photos, 0)} of {least.photos} photos are"
            f" {MEASURES[look.measure]} again"
            if again is not None and look.measure in MEASURES
            else ""
        )
        yield (
            f"This is no protection: less than half of its effect is left after {_titles(undone)}."
            f" At worst {percent(max(least.surviving.value, 0.0), 0)} is left ({least.title},"
            f" {least.recognizer}){matched}."
        )
    elif rest:
        yield f"It is not shown to last: half of its effect may be lost after {_titles(rest)}."


def _titles(rows: Sequence[Robustness]) -> str:
    """The titles, all repairs in one pair of parentheses."""
    titles = list(dict.fromkeys(row.title for row in rows))
    repairs = [title.removeprefix(REPAIR) for title in titles if title.startswith(REPAIR)]
    others = [title for title in titles if not title.startswith(REPAIR)]
    return "; ".join([*([REPAIR + " or ".join(repairs)] if repairs else []), *others])


def numbers_html(shown: Verdict) -> str:
    """The first screen for a notebook."""
    lines = [f"<p>{escape(line)}</p>" for line in (*shown.sentences, *shown.warnings)]
    rows = [
        f"<tr><th>{escape(figure.title)}</th><td>{escape(figure.value)}</td>"
        f"<td>{escape(figure.detail)}</td></tr>"
        for figure in shown.numbers
    ]
    return "".join([*lines, "<table>", *rows, "</table>"])
