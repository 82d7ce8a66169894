"""What a run found, in sentences, and whether it may be believed: all of it computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from facefocus.analysis.labels import changed_options
from facefocus.analysis.standing import Standing, best, margins, no_more, standing_of
from facefocus.analysis.summary import GUESSES, GUESSING, INCLUSIVE, Row
from facefocus.benchmark.result_columns import COMPETES, ORACLE, RANDOM, SHARED_MASK, with_readings
from facefocus.benchmark.result_slices import Slice
from facefocus.core.text import budget_text, number, percent
from facefocus.evaluation.statistics import FEWEST, NO_INTERVAL
from facefocus.report.columns import interval
from facefocus.report.document import Check


def answer(results: pl.DataFrame, summary: pl.DataFrame, shown: Sequence[Slice]) -> list[str]:
    """One paragraph per recognizer and reading: which method lowers recognition most, credibly?

    A run that hides behind artefacts alone says so in a paragraph of its own, with the remedy.

    Args:
        results: Result rows.
        summary: From `summarize`, of them.
        shown: The budget, fill and split that is answered for, of each reading.
    """
    if not shown or summary.is_empty():
        return ["This run has no results: no configuration was scored."]
    paragraphs = []
    for part in summary.partition_by("target", maintain_order=True):
        guesses = shown[0].of(part).filter(GUESSES).height > 0
        paragraphs += [
            " ".join(answer_to(results, part, setting))
            for setting in shown[: 1 if guesses else None]
        ]
    return [*paragraphs, *artefact_note(summary)]


def artefact_note(table: pl.DataFrame) -> list[str]:
    """What figures without any information fill do not show, and the remedy; else nothing.

    Args:
        table: Result rows or their summary.
    """
    rows = with_readings(table)
    fills = rows["fill"].unique(maintain_order=True).to_list()
    if not fills or "information" in set(rows["reading"]):
        return []
    words = " and ".join(filter(None, (", ".join(fills[:-1]), fills[-1])))
    return [
        f"Pixels were hidden by {words} only: this shows what upsets a recognizer,"
        " not what it knew from the pixels. For that, hide by a fill that sees the gap, too:"
        f' fill = ["{fills[0]}", "inpaint"].'
    ]


def answer_to(results: pl.DataFrame, part: pl.DataFrame, shown: Slice) -> list[str]:
    """The sentences on one recognizer and slice; the first of them is the answer.

    Args:
        results: Result rows.
        part: Summary rows of the recognizer.
        shown: The budget, fill and split that is answered for.
    """
    target = part["target"][0]
    if shown.of(part).filter(GUESSES).height:
        return [f"No answer for {target}: {GUESSING}"]
    part = part.filter(pl.col("reading") == shown.reading)
    rows = shown.of(part)
    standing = standing_of(rows, results)
    if standing is None:
        return [f"For {target} no method has a score that keeps to the budget ({shown})."]
    top = standing.top
    sentences = [*_drop_sentences(standing, shown)]
    if top["scored"] >= FEWEST:
        if not standing.below_random:
            shape = top["excess"] is not None
            sentences.append(_shape_sentence(top) if shape else _random_sentence(top))
        sentences += [
            *_heldout_sentence(top),
            *_specific_sentence(top),
            *_oracle_sentence(top, rows),
        ]
    rivals = rows.filter(COMPETES).height
    if rivals > 1:
        sentences.append(
            f"Its drop is the largest of {rivals} configurations, which makes it slightly too"
            " large."
        )
    if top["degenerate_share"]:
        sentences.append(f"{percent(top['degenerate_share'])} of its identities had no map.")
    most = best(part)
    if most is not None and (most["budget"], most["fill"]) != (shown.budget, shown.fill):
        sentences.append(
            f"The largest drop at any budget and fill ({shown.reading}) is "
            f"{interval(most, 'drop')}: {method_text(most)}, {budget_text(most['budget'])}, "
            f"{most['fill']}."
        )
    alike = part.filter(pl.col("fill") == shown.fill, pl.col("split") == shown.split)
    return [*sentences, *no_more(margins(alike))]


def _under(shown: Slice) -> str:
    """``Black (artefact)``: what hides, as the beginning of a sentence."""
    if shown.reading == "information":
        return f"With the gap filled in ({shown.fill}, information)"
    return f"{shown.fill.capitalize()} ({shown.reading})"


def method_text(row: Row) -> str:
    """``layer-cam (layer 1)``, its options that are no defaults, and another map's recognizer."""
    words = [f"layer {row['layer']}"] if row["layer"] else []
    words += changed_options(row)
    inside = f" ({', '.join(words)})" if words else ""
    both = row["source"].replace("+", " and ")
    source = f" with maps from {both}" if row["source"] != row["target"] else ""
    return f"{row['method']}{inside}{source}"


def _drop_sentences(standing: Standing, shown: Slice) -> Iterator[str]:
    """What the largest drop is, and whether its method may be called the winner."""
    top, random, under = standing.top, standing.random, _under(shown)
    what = f"hiding the {budget_text(shown.budget)} of pixels that {method_text(top)} ranks highest"
    scores = f"{_from_to(top)} ({_over(top)})"
    if standing.below_random and random is not None:
        yield (
            f"{under}: no method takes more from {top['target']} than random pixels. As many of"
            f" these take its recognition rate from {_from_to(random)}; at most, {what} takes it"
            f" from {scores}."
        )
    elif top["scored"] < FEWEST:
        yield (
            f"{under}, with too few people for an answer: {what} takes the recognition rate of"
            f" {top['target']} from {scores}."
        )
        if random is not None:
            yield f"As many random pixels take it from {_from_to(random)}."
    elif not standing.lowers:
        yield (
            f"{under}: no method is shown to lower the recognition of {top['target']}. At most,"
            f" {what} takes it from {scores}."
        )
    else:
        yield f"{under}: {what} takes the recognition rate of {top['target']} from {scores}."
        yield from _lead_sentence(standing)


def _lead_sentence(standing: Standing) -> Iterator[str]:
    if standing.next is None or standing.lead is None:
        return
    second, lead = method_text(standing.next), standing.lead.text(signed=True)
    if standing.wins:
        yield f"It is the largest drop; {second} comes next, and takes less by {lead}."
    else:
        yield (
            f"It is no winner: {second} comes next, and does not differ from it for sure ({lead})."
        )


def _from_to(row: Row) -> str:
    return (
        f"{number(row['clean_rate'])} to {number(row['rate'])}, a drop of {interval(row, 'drop')}"
    )


def _over(row: Row) -> str:
    if row["scored"] < FEWEST:
        people = "1 identity" if row["scored"] == 1 else f"mean of {row['scored']} identities"
        return f"{people}; {NO_INTERVAL}"
    return f"mean of {row['scored']} identities, 95 % interval"


def _shape_sentence(top: Row) -> str:
    """Whether the best method beats the same mask moved elsewhere."""
    control = (
        "The same mask shifted to random places, its shape-matched control, takes "
        f"{number(top['drop'] - top['excess'])}"
    )
    low, high, beyond = top["excess_low"], top["excess_high"], interval(top, "excess", signed=True)
    if low is None:
        return f"{control}; {NO_INTERVAL}."
    if low > 0:
        return f"{control}: the method beats it by {beyond}."
    if high < 0:
        return f"{control}, which is more: the method does worse than its control ({beyond})."
    return f"{control}: the method is not shown to beat it ({beyond}, which includes zero)."


def _heldout_sentence(top: Row) -> list[str]:
    """Whether its drop holds on photos that the map never saw; nothing where not measured."""
    low = top["heldout_drop_low"]
    if low is None:
        return []
    held = f"On photos that the map never saw, the drop is {interval(top, 'heldout_drop')}"
    if top["half_drop"] is None:  # a table of an older version
        return [f"{held}."]
    half = f"{number(top['half_drop'])} by the same maps on the photos that they came from"
    if low <= 0:
        return [f"{held}, whose interval includes 0 ({half}): it is not shown to hold there."]
    if top["heldout_loss_low"] > 0:
        lost = interval(top, "heldout_loss")
        return [f"{held}, less than the {half}: it holds, but for {lost}."]
    return [f"{held}, against {half}: it holds there."]


def _specific_sentence(top: Row) -> list[str]:
    """Whether it needs this person's mask; nothing where not measured."""
    low, high = top["specificity_low"], top["specificity_high"]
    if low is None:
        return []
    more = interval(top, "specificity", signed=True)
    if low > 0:
        return [f"The mask is this person's own: it takes {more} beyond other people's masks."]
    if high < 0:
        return [f"Other people's masks take more ({more}): the mask is not this person's own."]
    return [
        "Nothing shows that the mask is this person's own: beyond other people's masks it takes "
        f"{more}, which includes zero."
    ]


def _oracle_sentence(top: Row, rows: pl.DataFrame) -> list[str]:
    """How far it is from the best mask that a search found; nothing where not measured."""
    if top["oracle_share"] is not None:
        share = interval(top, "oracle_share")
        return [
            f"With random pixels as 0 and the oracle, a greedy search, as 1, it reaches {share}."
        ]
    if top["beyond_random"] is None or rows.filter(pl.col("method") == ORACLE).is_empty():
        return []
    return [
        "The oracle takes no more than random pixels for sure: a share of its drop has no meaning."
    ]


def _random_sentence(top: Row) -> str:
    beyond = top["beyond_random"]
    if beyond is None:
        return (
            "No random-pixel control was run: how much of this any hidden pixels would take is "
            "not known."
        )
    chance = f"Random pixels of the same number take {number(top['drop'] - beyond)}"
    low, high = top["beyond_random_low"], top["beyond_random_high"]
    if low is None:
        return f"{chance}; {NO_INTERVAL}."
    if low > 0:
        return f"{chance}; the method takes {interval(top, 'beyond_random')} beyond that."
    if high < 0:
        return f"{chance}, which is more: the method does worse than chance."
    both = interval(top, "beyond_random")
    return f"{chance}: the method is not shown to differ from chance ({both})."


def checks(summary: pl.DataFrame) -> list[Check]:
    """The audit (Protocol: audit) over all configurations, as findings."""
    mapped = summary.filter(COMPETES)
    own = mapped.filter(pl.col("method") != SHARED_MASK)
    return [
        _area(summary),
        _maps(mapped),
        _stable(mapped),
        _unaffected(mapped),
        _random(summary),
        _control(mapped, "excess", "Compared with a control of the same shape", _SHAPE),
        _control(own, "specificity", "Compared with other people's masks", _OTHERS),
        _images(mapped),
        _oracle(summary),
        *_impostors(mapped),
    ]


def _impostors(mapped: pl.DataFrame) -> list[Check]:
    """Whether hiding lets other people in: FMR at the frozen threshold, before and after."""
    rows = mapped.drop_nulls(["clean_fmr", "fmr"])
    if rows.is_empty():
        return []
    title = "Impostors under occlusion"
    worst = rows.sort(pl.col("fmr") - pl.col("clean_fmr"), descending=True).row(0, named=True)
    before, after = worst["clean_fmr"], worst["fmr"]
    text = (
        f"At most, for {method_text(worst)} and fill {worst['fill']}, the FMR goes from"
        f" {percent(before, 2)} to {percent(after, 2)} at the frozen threshold."
    )
    return [Check(after <= max(2 * before, before + 0.01), title, text)]


_SHAPE = (
    "the same mask shifted to random places",
    "the drop includes what a mask of this shape takes anywhere.",
)
_OTHERS = (
    "the masks of other people",
    "whether a mask is this person's own is not known.",
)


def _control(mapped: pl.DataFrame, name: str, title: str, words: tuple[str, str]) -> Check:
    """Whether every configuration has a control; `words`: what it is, what lacks without it."""
    control, unknown = words
    without = mapped.filter(pl.col(name).is_null()).height
    if mapped.is_empty():
        return Check(True, title, "There is no map of one person.")
    if not without:
        return Check(True, title, f"Every configuration has a control: {control}.")
    if without == mapped.height:
        return Check(False, title, f"There is no such control: {unknown}")
    return Check(
        False,
        title,
        f"{without} of {mapped.height} configurations have no control by {control}: there, "
        f"{unknown}",
    )


def _oracle(summary: pl.DataFrame) -> Check:
    title = "Compared with the best mask there is"
    searched = summary.filter(pl.col("method") == ORACLE)
    if searched.is_empty():
        return Check(False, title, "No oracle was run: how much any mask could take is not known.")
    competing = summary.filter(COMPETES & (pl.col("split") == "same"))
    without = competing.filter(pl.col("oracle_share").is_null()).height
    if not without:
        return Check(True, title, "Every effect is also given as a share of a greedy search's.")
    return Check(
        False,
        title,
        f"{without} of {competing.height} configurations have no share of the oracle: no oracle,"
        " or an oracle that is not shown to take more than random pixels.",
    )


def _area(summary: pl.DataFrame) -> Check:
    inclusive = summary.filter(pl.col("warning") == INCLUSIVE).height
    over = summary.filter(pl.col("over_budget_share") > 0)
    title = "Masks keep to the budget"
    if inclusive:
        return Check(False, title, f"{inclusive} of {summary.height} configurations: {INCLUSIVE}")
    if over.is_empty():
        return Check(
            True, title, "No identity of any configuration has more pixels hidden than asked."
        )
    return Check(
        False,
        title,
        f"{over.height} of {summary.height} configurations hide more than asked, up to "
        f"{percent(max(over['area_max'].to_list()), 2)} of the frame.",
    )


def _maps(mapped: pl.DataFrame) -> Check:
    title = "Every identity has a map"
    bad = mapped.filter(pl.col("degenerate_share") > 0)
    if bad.is_empty():
        return Check(True, title, "No identity was left without a map.")
    worst = bad.sort("degenerate_share", descending=True, maintain_order=True).row(0, named=True)
    handled = {
        "none": "their faces stay untouched and count as unaffected",
        "skip": "they are left out of the means",
        "random": "random pixels are hidden instead",
        "inclusive": "their whole face is hidden",
    }
    words = [handled.get(kind, kind) for kind in bad["on_degenerate"].unique(maintain_order=True)]
    choices = len({method_text(row) for row in bad.iter_rows(named=True)})
    return Check(
        False,
        title,
        f"Maps of {choices} method-and-layer choices are flat or invalid for some people, most for "
        f"{method_text(worst)}: {percent(worst['degenerate_share'])} of identities;"
        f" {'; '.join(words)}.",
    )


def _stable(mapped: pl.DataFrame) -> Check:
    title, name = "Maps are the same on another machine", "maps_ill_conditioned_share"
    bad = mapped.filter(pl.col(name) > 0)
    if bad.is_empty():
        return Check(
            True, title, "Rounding of gradients changes no map by more than 1 % of its range."
        )
    worst = bad.sort(name, descending=True, maintain_order=True).row(0, named=True)
    return Check(
        False,
        title,
        f"Of the pair maps of {method_text(worst)}, {percent(worst[name])} may change by more than"
        " 1 % of their range where gradients are off by a millionth (ill-conditioned): they may"
        " differ on another machine.",
    )


def _unaffected(mapped: pl.DataFrame) -> Check:
    title = "Hiding changes the scores"
    rows = mapped.filter(pl.col("unaffected_share") > 0)
    if rows.is_empty():
        return Check(True, title, "Every scored identity's similarity or rate changed.")
    worst = rows.sort("unaffected_share", descending=True, maintain_order=True).row(0, named=True)
    # People without a map are unaffected by definition; only others are news.
    more = rows.filter(pl.col("unaffected_share") > pl.col("degenerate_share") + 1e-9).height
    return Check(
        more == 0,
        title,
        f"Up to {percent(worst['unaffected_share'])} of people keep exactly their clean scores, "
        f"most for {method_text(worst)}; "
        + (
            "all of them had no map."
            if more == 0
            else f"{more} configurations beyond missing maps."
        ),
    )


def _random(summary: pl.DataFrame) -> Check:
    title = "Compared with random pixels"
    without = summary.filter(COMPETES & pl.col("beyond_random").is_null()).height
    total = summary.filter(COMPETES).height
    draws = max(summary.filter(pl.col("method") == RANDOM)["draws"].to_list(), default=0)
    if total and without == total:
        return Check(False, title, "There is no random control: drops include what any hole does.")
    if without:
        return Check(False, title, f"{without} of {total} configurations have no random control.")
    return Check(
        True,
        title,
        f"Every configuration has a control of the same number of random pixels (draws: {draws}). "
        "It matches the area, not the shape.",
    )


def _images(mapped: pl.DataFrame) -> Check:
    title = "Tested on other images than the maps came from"
    splits = set(mapped["split"])
    if splits and "same" not in splits:
        return Check(True, title, "Maps and effects come from different images of a person.")
    if "heldout" in splits:
        without = mapped.filter(
            (pl.col("split") == "same") & pl.col("heldout_drop").is_null()
        ).height
        words = f", but for {without}" if without else ""
        return Check(
            not without,
            title,
            f"Every configuration was also tried on photos that its map never saw{words}.",
        )
    return Check(False, title, "Maps and effects come from the same images, as in the paper.")
