"""``python -m benchmarks.person_document FOLDER --out FILE``: what the study of
``benchmarks.person_evidence`` found, as Markdown. Every figure and every verdict is computed here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.person_evidence import (
    BAND,
    CROP,
    GRADIENT,
    GRADIENT_STEPS,
    IGNORANT,
    INNER_FACE,
    PAINTED,
    PAINTED_REPAIRED,
    REPAIRED,
    SHARED,
    Part,
    Study,
    missing,
    read_study,
)
from facefocus.core.errors import UserError
from facefocus.core.files import write_atomically
from facefocus.core.text import NOTHING, budget_text, number, percent
from facefocus.evaluation.statistics import Interval, mean_interval
from facefocus.person.candidates import OWN, POPULATION, SAME_PHOTOS
from facefocus.person.proof import CLEAN
from facefocus.person.robust_figures import ON_CROPS, ON_PHOTOS, PHOTOGRAPH
from facefocus.person.verdict import CONTROLS
from facefocus.report.document import (
    Block,
    Code,
    Facts,
    Heading,
    Listing,
    Paragraph,
    Table,
    plain_table,
)
from facefocus.report.markdown_renderer import markdown_document

#: How the study is run again.
COMMANDS = """\
tar xzf lfw-deepfunneled.tgz
facefocus prepare lfw
pip install face_recognition_models dlib-bin --no-deps
python -m benchmarks.person_evidence benchmarks/person_study.toml lfw-deepfunneled \\
    --gallery faces/lfw --out benchmarks/person_results --store runs/person-store
python -m benchmarks.person_document benchmarks/person_results --out docs/results-person.md"""

#: The two rates of every table, at the threshold of equal error rate.
PAIR, ANY = ("pair", "EER"), ("any", "EER")
COSINE = ("cosine", "")

#: What differences are of: rates and cosines lie so far apart at most.
NONE = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Case:
    """What a figure is of, besides its measure."""

    setting: str
    shape: str
    budget: float
    judge: str
    condition: str = OWN
    view: str = PAINTED


class Results:
    """The rows of the study, by what they are of.

    Args:
        study: What was asked for.
        rows: One for each person, case and measure.
    """

    def __init__(self, study: Study, rows: pl.DataFrame) -> None:
        self.study, self.rows = study, rows
        self.people = sorted(rows["person"].unique().to_list())
        position = {name: number for number, name in enumerate(self.people)}
        self._values: dict[tuple[Case, tuple[str, str]], np.ndarray] = {}
        self._lost: dict[Case, list[int]] = {}
        for row in rows.iter_rows(named=True):
            case = Case(
                row["setting"],
                row["shape"],
                row["budget"],
                row["recognizer"],
                row["condition"],
                row["view"],
            )
            key = case, (row["measure"], row["rule"])
            by_person = self._values.setdefault(key, np.full(len(self.people), np.nan))
            by_person[position[row["person"]]] = row["value"]
            if key[1] == COSINE:
                self._lost.setdefault(case, []).append(row["undetected"])

    def values(self, case: Case, measure: tuple[str, str] = PAIR) -> np.ndarray:
        """One value a person; NaN where there is none."""
        return self._values.get((case, measure), np.full(len(self.people), np.nan))

    def mean(self, case: Case, measure: tuple[str, str] = PAIR) -> Interval:
        """Over people."""
        return interval(self.values(case, measure), share=measure != COSINE)

    def gap(self, case: Case, other: Case, measure: tuple[str, str] = PAIR) -> Interval:
        """Paired by person, first less second."""
        return interval(self.values(case, measure) - self.values(other, measure), share=False)

    def lost(self, case: Case) -> int:
        """Painted photographs whose face is no longer found."""
        return sum(self._lost.get(case, []))

    def control(self, case: Case) -> str | None:
        """The control that leaves least similarity where `case` is looked at."""
        means = {name: self.mean(_with(case, condition=name), COSINE).value for name in CONTROLS}
        finite = {name: value for name, value in means.items() if np.isfinite(value)}
        return min(finite, key=lambda name: finite[name]) if finite else None


def interval(values: np.ndarray, *, share: bool) -> Interval:
    """The mean of those that are there, with its interval over people."""
    there = values[np.isfinite(values)]
    return mean_interval(there, share=share) if there.size else NONE


def _with(case: Case, **changed: object) -> Case:
    return replace(case, **changed)  # type: ignore[arg-type]


def text(figure: Interval, *, signed: bool = False) -> str:
    """A figure with its interval, in two digits."""
    if not np.isfinite(figure.value):
        return NOTHING
    value = number(figure.value, 2, signed=signed)
    if not np.isfinite(figure.low):
        return value
    return f"{value} [{number(figure.low, 2)}, {number(figure.high, 2)}]"


def read_results(folder: Path) -> Results:
    """The rows that are there.

    Raises:
        UserError: There are none.
    """
    study = read_study(folder / "study.toml")
    files = sorted((folder / "rows").glob("*.parquet"))
    if not files:
        raise UserError(f"The folder must hold rows of the study. Got '{folder}', with none.")
    return Results(study, pl.concat([pl.read_parquet(file) for file in files]))


# The document -------------------------------------------------------------------------------------


def document(results: Results) -> list[Block]:
    """All of it."""
    parts = {part.name: part for part in results.study.setting}
    usual = [part for part in parts.values() if not part.against]
    return [
        Heading(results.study.title, 1),
        *_opening(results),
        Heading("In short", 2),
        Listing([*_short(results)]),
        Heading("The goals", 2),
        *_goals(results),
        Heading("What is left of recognition", 2),
        Paragraph(
            "Pair: share of pairs of a hidden photo and a clean one that match; any: share of"
            " hidden photos that match one of the person's clean photos or more; both at the"
            " threshold of equal error rate, means over people. Held-out photos: the mask saw"
            " neither side. Painted: on the photograph, detected and aligned anew. Control: the"
            " strongest of other people's masks, the same mask shifted, and random pixels, of the"
            " same shape and size (on photographs shifted and random alone)."
        ),
        *(_main_table(results, part, judge) for part in usual for judge in judges(results, part)),
        Heading("Does it beat the occlusion gradient?", 2),
        *_rival(results, usual),
        Heading("What coherence costs", 2),
        *_coherence(results, usual),
        Heading("Does it last?", 2),
        *_lasting(results, usual),
        Heading("Against repair", 2),
        *_repair(results),
        Heading("What was measured", 2),
        *_measured(results),
    ]


def judges(results: Results, part: Part) -> list[str]:
    """Names of the judges of a setting as rows have them, in the order of the study."""
    rows = results.rows.filter(pl.col("setting") == part.name)
    return [str(name) for name in rows["recognizer"].unique(maintain_order=True).to_list()]


def _seen(part: Part, judge: str) -> bool:
    return judge in part.models


def _opening(results: Results) -> Iterator[Block]:
    study, done = results.study, len(results.people)
    counts = {part.name: _people_done(results, part) for part in study.setting}
    short = {name: count for name, count in counts.items() if count < study.people}
    yield Paragraph(
        f"{done} people of LFW (deep-funneled photographs) with {study.photos[0]} to"
        f" {study.photos[1]} photos, of each the first {study.most_photos}; masks of"
        " `facefocus person`, made of one half of a person's photos and tried on the other."
        " Intervals are of 95 %, over people. Definitions: protocol.md, person-proof."
    )
    if short:
        yield Paragraph(
            "Not all people are done: "
            + "; ".join(f"{name}: {count} of {study.people}" for name, count in short.items())
            + "."
        )


def _people_done(results: Results, part: Part) -> int:
    """People of whom nothing is missing."""
    rows = results.rows.filter(pl.col("setting") == part.name)
    own = rows.partition_by("person")
    return sum(not any(left.trials for left in missing(part, each)) for each in own)


def _short(results: Results) -> Iterator[str]:
    """What each judge is left with at 5 and 20 %, and after repair."""
    for part in results.study.setting:
        for judge in () if part.against else judges(results, part):
            kind = "on which it was made" if _seen(part, judge) else "which never saw it"
            courses = [
                f"{text(results.mean(case))} ({text(results.mean(case, ANY))}) at"
                f" {budget_text(budget)}"
                for shape, budget in part.trials
                if shape == "pixels" and budget in (0.05, 0.2)
                for case in [Case(part.name, shape, budget, judge)]
            ]
            clean = Case(part.name, *part.trials[0], judge, CLEAN, CROP)
            yield (
                f"A mask of pixels made on {' and '.join(part.models)}, judged by {judge}, {kind}:"
                f" of {text(results.mean(clean))} ({text(results.mean(clean, ANY))}) pairs (photos"
                f" found by any other) it leaves {', '.join(courses)}, painted."
            )
    yield from _worse_than_random(results)
    for part in (part for part in results.study.setting if part.against):
        for (shape, budget), judge in product(part.trials, judges(results, part)[:1]):
            case = Case(part.name, shape, budget, judge, OWN, PAINTED_REPAIRED)
            regions = [
                f"{text(results.mean(_with(case, condition=name)))} under {words}"
                for name, words in (
                    (SHARED, "the mask for everybody found so on other people"),
                    (IGNORANT, "the mask that ignores repair"),
                    (BAND, "the band of eyes and brows"),
                    (INNER_FACE, "the inner face"),
                )
            ]
            yield (
                f"Once repaired, places known, judged by {case.judge}: at {budget_text(budget)} the"
                f" mask against repair leaves {text(results.mean(case))} of pairs,"
                f" {', '.join(regions)}."
            )


def _worse_than_random(results: Results) -> Iterator[str]:
    """Where masks of a shape hide less than random ones of the same shape and size."""
    for part in (part for part in results.study.setting if not part.against):
        for judge, shape in product(judges(results, part), dict(part.trials)):
            cases = [Case(part.name, shape, b, judge) for s, b in part.trials if s == shape]
            gaps = {
                case.budget: results.gap(case, _with(case, condition="random")) for case in cases
            }
            worse = [
                f"{text(gap, signed=True)} at {budget_text(budget)}"
                for budget, gap in gaps.items()
                if gap.low > 0
            ]
            if worse:
                yield (
                    f"Masks of {shape} made on {' and '.join(part.models)} hide less than random"
                    f" ones of the same shape and size, judged by {judge}, painted:"
                    f" {', '.join(worse)} of the pairs."
                )


# Goals --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """A figure that the issue asks for."""

    words: str
    case: Case
    measure: tuple[str, str]
    most: float
    bound: Case


SIBLING, WHITE = "sibling", "against repair"
CASIA, MS1M = "mobilefacenet-casia", "mobilefacenet-ms1m"


def goals() -> list[Goal]:
    """Those of the issue, on held-out photos, painted and detected anew."""
    asked = []
    for shape, budget, pair in (("pixels", 0.05, 0.10), ("cells", 0.1, 0.12)):
        case = Case(SIBLING, shape, budget, CASIA)
        words = f"Sibling sources, {shape} {budget_text(budget)}"
        bound = _with(case, judge=MS1M)
        asked += [
            Goal(f"{words}, pair", case, PAIR, pair, bound),
            Goal(f"{words}, any photo", case, ANY, 0.25, bound),
        ]
    for budget, pair in ((0.2, 0.30), (0.3, 0.10)):
        case = Case(WHITE, "pixels", budget, CASIA, view=PAINTED_REPAIRED)
        words = f"Repair told, white box, {budget_text(budget)}, pair"
        asked.append(Goal(words, case, PAIR, pair, _with(case, condition=INNER_FACE)))
    return asked


def _goals(results: Results) -> Iterator[Block]:
    rows = []
    for goal in goals():
        reached = results.mean(goal.case, goal.measure)
        rows.append(
            [
                goal.words,
                f"at most {number(goal.most, 2)}",
                text(reached),
                _met(reached, goal.most),
                text(results.mean(goal.bound, goal.measure)),
            ]
        )
    yield plain_table(
        ("Goal", "Asked", "Reached", "Verdict", "Bound"),
        rows,
        "Held-out photos, painted and detected anew. Bound: sibling goals, the same masks on a"
        " recognizer that they were made on; repair, the inner face of the same area",
    )
    yield Listing([*_comparisons(results)])


def _met(reached: Interval, most: float) -> str:
    if not np.isfinite(reached.value):
        return "not measured"
    if not np.isfinite(reached.low):
        mean = "missed" if reached.value > most else "met"
        return f"{mean} in the mean; too few people for an interval"
    if reached.value > most:
        return "missed" if not reached.low <= most else "missed; the interval reaches the goal"
    return "met" if reached.high <= most else "met in the mean; the interval reaches above"


def _comparisons(results: Results) -> Iterator[str]:
    for shape, budget in (("pixels", 0.05), ("cells", 0.1)):
        case = Case(SIBLING, shape, budget, CASIA)
        for view in (PAINTED, CROP):
            here = _with(case, view=view)
            gap = results.gap(here, _with(here, condition=GRADIENT))
            yield (
                f"Better than the occlusion gradient of {GRADIENT_STEPS} steps, sibling, {shape}"
                f" {budget_text(budget)}, {_VIEWS[view]}: {_better(gap)}"
            )
    for budget in (0.2, 0.3):
        case = Case(WHITE, "pixels", budget, CASIA, view=PAINTED_REPAIRED)
        for name, words in (
            (BAND, "the band of eyes and brows"),
            (INNER_FACE, "the inner face"),
            (SHARED, "the mask for everybody"),
        ):
            gap = results.gap(case, _with(case, condition=name))
            yield (
                f"Repair told, white box: better than {words} at {budget_text(budget)}:"
                f" {_better(gap)}"
            )


_VIEWS = {CROP: "aligned crops", PAINTED: "painted photographs"}


def _better(gap: Interval) -> str:
    """Whether less is left, by the interval of the paired difference."""
    shown = f"difference of pair rates {text(gap, signed=True)}."
    if not np.isfinite(gap.value):
        return "not measured."
    if gap.value == 0 and not (gap.low or gap.high):
        return f"no, they are equal: {shown}"
    if gap.high < 0:
        return f"yes, {shown}"
    if gap.low > 0:
        return f"no, it is worse: {shown}"
    return f"not shown: {shown}"


# Tables -------------------------------------------------------------------------------------------


def _main_table(results: Results, part: Part, judge: str) -> Table:
    rows = []
    clean = text(results.mean(Case(part.name, *part.trials[0], judge, CLEAN, CROP)))
    for shape, budget in part.trials:
        case = Case(part.name, shape, budget, judge)
        crop = _with(case, view=CROP)
        if not any(np.isfinite(results.mean(tried).value) for tried in (crop, case)):
            continue
        rows.append(
            [
                shape,
                budget_text(budget),
                text(results.mean(_with(crop, condition=SAME_PHOTOS))),
                text(results.mean(crop)),
                text(results.mean(case)),
                text(results.mean(crop, ANY)),
                text(results.mean(case, ANY)),
                _control(results, crop),
                _control(results, case),
                text(results.mean(_with(crop, condition=POPULATION))),
                text(results.mean(_with(case, condition=GRADIENT))),
                str(results.lost(case)),
            ]
        )
    headings = (
        *("Shape", "Area", "Same photos, crop: pair", "Crop: pair", "Painted: pair"),
        *("Crop: any", "Painted: any", "Control, crop: pair", "Control, painted: pair"),
        *("Everybody's, crop: pair", "Gradient, painted: pair", "Not found"),
    )
    kind = "white box" if _seen(part, judge) else "never seen by the mask"
    caption = (
        f"{part.name}: masks made on {', '.join(part.models)}; judged by {judge}, {kind}."
        f" Clean, pair: {clean}"
    )
    return plain_table(headings, rows, caption, names=2)


def _control(results: Results, case: Case) -> str:
    name = results.control(case)
    if name is None:
        return NOTHING
    return f"{name} {text(results.mean(_with(case, condition=name)))}"


def _rival(results: Results, parts: Sequence[Part]) -> Iterator[Block]:
    rows = []
    for part in parts:
        for judge in judges(results, part):
            for shape, budget in part.trials:
                case = Case(part.name, shape, budget, judge)
                crop = _with(case, view=CROP)
                if np.isfinite(results.mean(_with(case, condition=GRADIENT)).value):
                    rows.append(
                        [
                            part.name,
                            judge,
                            shape,
                            budget_text(budget),
                            text(results.mean(_with(crop, condition=GRADIENT))),
                            *(
                                text(
                                    results.gap(own, _with(own, condition=GRADIENT), measure),
                                    signed=True,
                                )
                                for own in (crop, case)
                                for measure in (PAIR, ANY)
                            ),
                        ]
                    )
    yield plain_table(
        (
            "Setting",
            "Judge",
            "Shape",
            "Area",
            "Gradient, crop: pair",
            "Crop: pair",
            "Crop: any",
            "Painted: pair",
            "Painted: any",
        ),
        rows,
        f"Own mask less occlusion gradient of {GRADIENT_STEPS} steps (same photos, same sources),"
        " paired by person: below 0 the own mask hides more",
        names=4,
    )


def _coherence(results: Results, parts: Sequence[Part]) -> Iterator[Block]:
    rows = []
    for part in parts:
        for judge in judges(results, part):
            for budget in (0.01, 0.03, 0.05, 0.1):
                cases = {
                    shape: Case(part.name, shape, budget, judge)
                    for shape in ("pixels", "cells", "patches")
                }
                if not np.isfinite(results.mean(cases["pixels"]).value):
                    continue
                rows.append(
                    [
                        part.name,
                        judge,
                        budget_text(budget),
                        text(results.mean(cases["pixels"])),
                        *(
                            text(results.gap(cases[shape], cases["pixels"]), signed=True)
                            for shape in ("cells", "patches")
                        ),
                    ]
                )
    yield plain_table(
        ("Setting", "Judge", "Area", "Pixels", "Cells - pixels", "Patches - pixels"),
        rows,
        "Pair rate on painted photographs, held-out: what is left more when the mask is coherent",
        names=3,
    )


def _lasting(results: Results, parts: Sequence[Part]) -> Iterator[Block]:
    for part in parts:
        shapes = dict.fromkeys(shape for shape, _ in part.lasting_trials)
        for judge, shape in product(judges(results, part), shapes):
            cases = [
                Case(part.name, shape, budget, judge, OWN, CROP)
                for tried, budget in part.lasting_trials
                if tried == shape
            ]
            yield _lasting_table(results, cases, _seen(part, judge))


def _lasting_table(results: Results, cases: Sequence[Case], seen: bool) -> Table:
    """What is left under nuisances and repair, by budget."""
    titles = ON_CROPS | {PHOTOGRAPH + name: title for name, title in ON_PHOTOS.items()}
    rows = [
        [title, *(text(results.mean(_with(case, view=view))) for case in cases)]
        for view, title in {CROP: "nothing", **titles}.items()
    ]
    first, kind = cases[0], "white box" if seen else "never seen by the mask"
    return plain_table(
        ("What happens", *(budget_text(case.budget) for case in cases)),
        rows,
        f"{first.setting}, {first.shape}: pair rate under nuisances and repair, judged by"
        f" {first.judge}, {kind}",
    )


def _repair(results: Results) -> Iterator[Block]:
    for part in (part for part in results.study.setting if part.against):
        yield Paragraph(
            "Masks found with repair in the loop (`--against repair`) on"
            f" {', '.join(part.models)}, painted black, beside the mask that ignores repair, the"
            " mask for everybody that is found in the same way on other people, and regions of"
            " any face: the band of eyes and brows, and the inner face, each grown to the same"
            " area. Repaired: filled in, the hidden places known."
        )
        for judge in judges(results, part):
            yield _repair_table(results, part, judge)


def _repair_table(results: Results, part: Part, judge: str) -> Table:
    rows = []
    for shape, budget in part.trials:
        case = Case(part.name, shape, budget, judge, OWN, PAINTED_REPAIRED)
        crop = _with(case, view=REPAIRED)
        band = _with(case, condition=BAND)
        rows.append(
            [
                budget_text(budget),
                text(results.mean(_with(case, condition=IGNORANT, view=PAINTED))),
                text(results.mean(_with(case, condition=IGNORANT))),
                text(results.mean(crop)),
                text(results.mean(case)),
                text(results.mean(case, ANY)),
                text(results.mean(band)),
                text(results.gap(case, band), signed=True),
                text(results.mean(_with(case, condition=INNER_FACE))),
                text(results.mean(_with(case, condition=SHARED))),
                text(results.gap(case, _with(case, condition=SHARED)), signed=True),
                text(results.mean(_with(case, view=PAINTED))),
            ]
        )
    kind = "white box" if _seen(part, judge) else "never seen by the mask"
    return plain_table(
        (
            "Area",
            "Ignoring repair, unrepaired",
            "Ignoring repair",
            "Own, crop",
            "Own, painted",
            "Own, painted: any",
            "Band",
            "Own - band",
            "Inner face",
            "Everybody's",
            "Own - everybody's",
            "Own, unrepaired",
        ),
        rows,
        f"Pair rate after repair told, judged by {judge}, {kind}; painted where nothing else is"
        " said",
    )


# What was measured --------------------------------------------------------------------------------


def _measured(results: Results) -> Iterator[Block]:
    study = results.study
    yield Listing(study.cuts)
    yield Code(COMMANDS)
    yield Facts(
        {
            "People": ", ".join(name.replace("_", " ") for name in results.people),
            "Photos": f"the first {study.most_photos} of each: halves of"
            f" {study.most_photos // 2}; {percent(_found_share(results))} of painted faces found",
            **{
                part.name: f"sources {', '.join(part.models)}; budgets learned"
                f" {', '.join(map(budget_text, part.learned))}; {part.draws} draws of each control"
                for part in study.setting
            },
        }
    )


def _found_share(results: Results) -> float:
    rows = results.rows.filter(pl.col("view").is_in([PAINTED]), pl.col("measure") == "cosine")
    lost, kept = int(rows["undetected"].sum()), int(rows["photos"].sum())
    return kept / max(lost + kept, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    made = markdown_document(document(read_results(asked.folder)))
    write_atomically(asked.out, lambda file: file.write(made.encode()))
    print(f"document {asked.out}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
