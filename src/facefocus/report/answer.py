"""What a run found, in sentences, and whether it may be believed: all of it computed."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from facefocus.report.summary import INCLUSIVE, RANDOM, Row
from facefocus.report.tables import Slice, interval, number, percent

#: What every summary row of a map-making method fulfills.
MAPPED = pl.col("source").is_not_null()


def best(rows: pl.DataFrame) -> Row | None:
    """The configuration with the largest drop among those whose masks keep to the budget."""
    fair = rows.filter(
        MAPPED
        & pl.col("drop").is_not_null()
        & (pl.col("on_degenerate") != "inclusive")
        & (pl.col("over_budget_share").fill_null(0.0) == 0.0)
    )
    if fair.is_empty():
        return None
    return fair.sort("drop", descending=True, maintain_order=True).row(0, named=True)


def answer(summary: pl.DataFrame, shown: Slice | None) -> list[str]:
    """One paragraph per recognizer: which method lowers recognition most, by how much, credibly?"""
    if shown is None or summary.is_empty():
        return ["This run has no results: no configuration was scored."]
    return [_answer(part, shown) for part in summary.partition_by("target", maintain_order=True)]


def _answer(part: pl.DataFrame, shown: Slice) -> str:
    target = part["target"][0]
    rows = shown.of(part)
    top = best(rows)
    if top is None:
        return f"For {target} no method has a score that keeps to the budget ({shown})."
    sentences = [_drop_sentence(top, shown), _control_sentence(top)]
    rivals = rows.filter(MAPPED).height
    if rivals > 1:
        sentences.append(
            f"It is the largest drop of {rivals} configurations, and so a little flattered."
        )
    if top["degenerate_share"]:
        sentences.append(f"{percent(top['degenerate_share'])} of its identities had no map.")
    most = best(part)
    if most is not None and (most["budget"], most["fill"]) != (shown.budget, shown.fill):
        sentences.append(
            f"The largest drop at any budget and fill is {interval(most, 'drop')}: "
            f"{place(most)}, {percent(most['budget'], 2)}, {most['fill']}."
        )
    return " ".join(sentences)


def place(row: Row) -> str:
    """``layer-cam (layer 1)`` and, if another recognizer made the map, which."""
    layer = f" (layer {row['layer']})" if row["layer"] else ""
    source = f" with maps from {row['source']}" if row["source"] != row["target"] else ""
    return f"{row['method']}{layer}{source}"


def _drop_sentence(top: Row, shown: Slice) -> str:
    what = (
        f"the {percent(shown.budget, 2)} of pixels that {place(top)} ranks highest "
        f"(fill {shown.fill})"
    )
    scores = (
        f"{number(top['clean_rate'])} to {number(top['rate'])}, a drop of {interval(top, 'drop')} "
        f"(mean of {top['scored']} {'identity' if top['scored'] == 1 else 'identities'}, "
        "95 % interval)"
    )
    if top["drop"] <= 0 or (top["drop_low"] is not None and top["drop_low"] <= 0):
        return (
            f"No method lowers the recognition of {top['target']} measurably: at most, hiding "
            f"{what} takes it from {scores}."
        )
    return f"Hiding {what} takes the recognition rate of {top['target']} from {scores}."


def _control_sentence(top: Row) -> str:
    beyond = top["beyond_random"]
    if beyond is None:
        return (
            "No random-pixel control was run: how much of this any hidden pixels would take is "
            "not known."
        )
    chance = f"Random pixels of the same number take {number(top['drop'] - beyond)}"
    low, high = top["beyond_random_low"], top["beyond_random_high"]
    if low is None:
        return f"{chance}; one identity cannot tell whether the difference is chance."
    if low > 0:
        return f"{chance}; the method takes {interval(top, 'beyond_random')} beyond that."
    if high < 0:
        return f"{chance}, which is more: the method does worse than chance."
    return f"{chance}: the method is not told from chance ({interval(top, 'beyond_random')})."


@dataclass(frozen=True)
class Check:
    """One thing to know before believing a number.

    Attributes:
        good: Nothing to see.
        title: What was looked at.
        detail: What was found, one sentence.
    """

    good: bool
    title: str
    detail: str


def checks(summary: pl.DataFrame) -> list[Check]:
    """The audit of PROTOCOL section 9.1 over all configurations, as findings."""
    mapped = summary.filter(MAPPED)
    return [_area(summary), _maps(mapped), _unaffected(mapped), _control(summary), _images(mapped)]


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
    said = [handled.get(kind, kind) for kind in bad["on_degenerate"].unique(maintain_order=True)]
    places = len({place(row) for row in bad.iter_rows(named=True)})
    return Check(
        False,
        title,
        f"Maps of {places} method-and-layer choices are flat or invalid for some people, most for "
        f"{place(worst)}: {percent(worst['degenerate_share'])} of identities; {'; '.join(said)}.",
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
        f"most for {place(worst)}; "
        + (
            "all of them had no map."
            if more == 0
            else f"{more} configurations beyond missing maps."
        ),
    )


def _control(summary: pl.DataFrame) -> Check:
    title = "Compared with random pixels"
    without = summary.filter(MAPPED & pl.col("beyond_random").is_null()).height
    total = summary.filter(MAPPED).height
    draws = max(summary.filter(pl.col("method") == RANDOM)["draws"].to_list(), default=0)
    if total and without == total:
        return Check(False, title, "There is no random control: drops include what any hole does.")
    if without:
        return Check(False, title, f"{without} of {total} configurations have no random control.")
    return Check(
        True,
        title,
        f"Every configuration has a control of the same number of random pixels ({draws} draws). "
        "It matches the area, not the shape.",
    )


def _images(mapped: pl.DataFrame) -> Check:
    title = "Tested on other images than the maps came from"
    splits = set(mapped["split"])
    if splits == {"heldout"}:
        return Check(True, title, "Maps and effects come from different images of a person.")
    if "heldout" in splits:
        return Check(True, title, "Some rows are: see the column 'Images' (heldout).")
    return Check(False, title, "Maps and effects come from the same images, as in the paper.")
