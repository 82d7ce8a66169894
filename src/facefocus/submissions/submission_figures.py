"""Whether a submission is whole, and whether its figures follow from each other: without faces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from facefocus.benchmark.collect import PHOTO_RISK_SCHEMA, SCHEMA, TRUTH_SCHEMA
from facefocus.benchmark.result_columns import CONFIGURATION, HELDOUT_ORACLE, MAP, ORACLE
from facefocus.core.errors import UserError
from facefocus.occlusion.masks import pixel_count
from facefocus.submissions.submission import (
    MASK_COLUMNS,
    MASKS,
    METHODS_FILE,
    PACKED,
    PROVENANCE,
    RESULTS,
    RUN,
    Submission,
    drawn_people,
    hashes,
)

#: What was found: good, bad, or that something could not be looked at.
Verdict = Literal["holds", "does not hold", "not checked"]

#: The columns that a row of results and its masks have in common.
SETTING = ("identity", "split", *MAP, "fill", "reading", "on_degenerate", "control", "budget")

#: Figures of clean photos: the same under every configuration.
CLEAN = ("images", "pairs", "clean_cosine", "clean_rate", "clean_fmr")

#: Largest difference of a figure that was computed twice from the same numbers.
EQUAL = 1e-9

#: Rows that a finding names.
NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One sentence of a check."""

    verdict: Verdict
    text: str


def whole(submission: Submission) -> Iterator[Finding]:
    """Whether the file holds what it says, and the masks of the people who were drawn."""
    stated, computed = submission.contents.get("files"), hashes(submission.files)
    stated = stated if isinstance(stated, Mapping) else {}
    wrong = sorted(name for name in {*stated, *computed} if stated.get(name) != computed.get(name))
    if wrong:
        yield Finding("does not hold", f"Changed after it was written: {', '.join(wrong)}.")
    else:
        yield Finding("holds", f"All {len(computed)} files have the hashes that are stated.")
    missing = [
        part + name
        for part in submission.parts or [""]
        for name in (RUN, PROVENANCE, RESULTS, METHODS_FILE, MASKS, PACKED)
        if part + name not in computed
    ]
    if missing:
        raise UserError(f"The submission is not whole: it lacks {', '.join(missing)}.")
    people = {
        name for part in submission.parts for name in submission.table(part + RESULTS)["identity"]
    }
    drawn = drawn_people(people, computed)
    with_masks = {
        name for part in submission.parts for name in submission.table(part + MASKS)["identity"]
    }
    if with_masks <= set(drawn) and submission.contents.get("people") == drawn:
        text = f"Masks are of the {len(drawn)} of {len(people)} people whom the hashes draw."
        yield Finding("holds", text)
    else:
        yield Finding(
            "does not hold",
            "The people whose masks are there are not those whom the hashes draw: something was"
            " changed, and its hash with it.",
        )


def consistent(submission: Submission, part: str) -> Iterator[Finding]:
    """Whether the figures of one run follow from each other, and from its masks.

    Raises:
        UserError: A table cannot be read or lacks a column.
    """
    rows, masks = submission.table(part + RESULTS), submission.table(part + MASKS)
    _check_columns(part + RESULTS, rows, SCHEMA, TRUTH_SCHEMA | PHOTO_RISK_SCHEMA)
    _check_columns(part + MASKS, masks, MASK_COLUMNS, {})
    problems = [*_impossible(rows, _frame(submission, part)), *_contradictory(rows)]
    for text, wrong in problems:
        yield Finding("does not hold", f"{part}{text}: {_named(wrong)}.")
    if not problems:
        text = f"{part}{RESULTS}: {len(rows):,} rows follow from each other."
        yield Finding("holds", text)
    yield _areas(rows, masks, submission.masks(part), part)


def _check_columns(
    name: str, table: pl.DataFrame, needed: Mapping[str, Any], known: Mapping[str, Any]
) -> None:
    wrong = [key for key, kind in needed.items() if table.schema.get(key) != kind]
    wrong += [key for key, kind in table.schema.items() if {**known, **needed}.get(key) != kind]
    if wrong:
        raise UserError(
            f"The '{name}' of the submission must have the columns of this version of facefocus."
            f" Wrong, missing or unknown: {', '.join(dict.fromkeys(wrong))}."
        )


def _frame(submission: Submission, part: str) -> tuple[int, int]:
    frame = submission.plain(part + RUN).get("frame")
    if not (isinstance(frame, list) and len(frame) == 2 and all(type(x) is int for x in frame)):
        raise UserError(f"The '{part}{RUN}' of the submission must state the 'frame': [H, W].")
    return frame[0], frame[1]


def _impossible(rows: pl.DataFrame, frame: tuple[int, int]) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rows that no run could give, with what is wrong with them."""
    shares = ["clean_rate", "rate", "clean_fmr", "fmr", "eer", "masked_share"]
    cosines = ["clean_cosine", "cosine"]
    pixels = frame[0] * frame[1]
    counts = {budget: pixel_count(budget, *frame) for budget in rows["budget"].unique()}
    counted = pl.col("budget").replace_strict(counts, return_dtype=pl.Int64)
    steps = pl.col("rate") * pl.col("pairs") * pl.col("draws")
    tests = {
        "A share outside of 0 to 1": pl.any_horizontal(
            ~pl.col(shares).is_between(0, 1 + EQUAL) | pl.col(shares).is_nan()
        ),
        "A cosine outside of -1 to 1": pl.any_horizontal(
            ~pl.col(cosines).is_between(-1 - EQUAL, 1 + EQUAL) | pl.col(cosines).is_nan()
        ),
        "Another number of pixels than the budget's": pl.col("budget_pixels") != counted,
        "A masked share that is not that of the pixels": _differ("masked_share",
                                                                 pl.col("masked_pixels") / pixels),
        # Over two halves a rate is a mean of two shares.
        "A rate that no number of pairs gives": (pl.col("split") == "same")
        & ((steps - steps.round()).abs() > 1e-6),
    }  # fmt: skip
    for text, wrong in tests.items():
        if (impossible := rows.filter(wrong)).height:
            yield text, impossible


def _differ(name: str, other: pl.Expr) -> pl.Expr:
    return (pl.col(name) - other).abs() > EQUAL


def _contradictory(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rows that contradict others."""
    person = ("experiment", "faces", "target", "split", "threshold_rule", "compare", "identity")
    target = ("experiment", "faces", "target", "threshold_rule")
    for keys, names in ((person, CLEAN), (target, ("threshold", "eer"))):
        for name in names:
            values = pl.col(name).round(9) if rows.schema[name] == pl.Float64 else pl.col(name)
            conflicting = rows.filter(values.n_unique().over(keys) > 1)
            if conflicting.height:
                yield f"More than one '{name}' of the same photos", conflicting
    repeated = rows.filter(pl.struct(*CONFIGURATION, "identity").is_duplicated())
    if repeated.height:
        yield "More than one row of a person and configuration", repeated
    whose = pl.col("identity").sort().str.join(",").over(CONFIGURATION)
    uneven = rows.filter(whose.n_unique().over("experiment", "target", "split") > 1)
    if uneven.height:
        yield "Configurations of different people", uneven


def _areas(rows: pl.DataFrame, masks: pl.DataFrame, packed: np.ndarray, part: str) -> Finding:
    """Whether masks hide as many pixels as the rows of their people say."""
    if masks["mask"].is_null().any() or not masks["mask"].is_between(0, len(packed) - 1).all():
        return Finding("does not hold", f"{part}{MASKS} names masks that {PACKED} does not hold.")
    sizes = np.bitwise_count(packed).sum(axis=1)
    means = masks.with_columns(
        size=pl.Series(sizes[masks["mask"].to_numpy()].astype(np.float64)),
        # A baseline drawn several times has as many masks, and so has a control.
    ).group_by(SETTING, maintain_order=True).agg(pl.col("size").mean())  # fmt: skip
    mine = rows_with_masks(rows, masks["identity"].unique().to_list())
    both = mine.join(means, on=SETTING, how="left", nulls_equal=True)
    wrong = both.filter(
        pl.col("size").is_null() | ((pl.col("size") - pl.col("masked_pixels")).abs() > EQUAL)
    )
    if wrong.height:
        text = f"{part}Masks that hide other areas than their rows say: {_named(wrong)}."
        return Finding("does not hold", text)
    text = f"{part}{MASKS}: {len(masks):,} masks hide what the {len(mine):,} rows of their people"
    return Finding("holds", f"{text} say.")


def rows_with_masks(rows: pl.DataFrame, people: list[str]) -> pl.DataFrame:
    """The rows of some people that have masks: the oracle's search keeps none."""
    return rows.filter(
        pl.col("identity").is_in(people),
        ~pl.col("method").is_in([ORACLE, HELDOUT_ORACLE]),
        pl.col("masked_pixels").is_not_null(),
    )


def _named(rows: pl.DataFrame) -> str:
    """The number of some rows, and the first few in words."""
    shown = [
        " ".join(str(row[name]) for name in ("identity", "target", "method", "budget", "fill"))
        for row in rows.head(NAMED).to_dicts()
    ]
    more = "" if len(rows) <= NAMED else f" and {len(rows) - NAMED:,} more"
    return f"{', '.join(shown)}{more}"
