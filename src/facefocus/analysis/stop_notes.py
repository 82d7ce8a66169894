"""What a run with ``[stop]`` says of itself: of how many people it is, and what is certain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from facefocus.analysis.labels import place_label
from facefocus.benchmark.early_stopping import read_stop
from facefocus.benchmark.result_slices import Slice
from facefocus.core.text import number, percent
from facefocus.evaluation.confidence_sequences import TIE

#: Settings that tell apart methods of one name, and the rule for people without a map.
_SETTINGS = (
    "source", "options", "objective", "evidence", "normalize", "arcface_scale", "max_pairs",
    "on_degenerate",
)  # fmt: skip
#: Methods that are named where the first place is open, at most.
_NAMED = 4


def stop_notes(run: Path) -> Iterator[str]:
    """Sentences on a run folder without variants: nothing without ``[stop]``."""
    stop = read_stop(run)
    if stop is None:
        return
    state = "Looked at after each block of people"
    if not stop["finished"]:
        state = "The run goes on" if stop["when"] == "never" else "More is certain as it goes on"
    elif stop["people"] < stop["of"]:
        state = "Stopped early"
    yield f"{stop['people']} of {stop['of']} people, in a seeded order. {state}."
    yield from (_sentence(verdict, stop) for verdict in stop["verdicts"])
    if any(stop["left_out"]):
        count = len(stop["left_out"][-1])
        yield (
            f"{count} methods were certain before the last block and computed no further: their"
            " rows are of fewer people (n), so compare means only between rows of the same n."
        )
    if stop["verdicts"]:
        level = percent(stop["level"], 0)
        yield (
            f"Whatever is called certain here is wrong with a probability of {level} at most, all"
            f" of it together, however often one looks. It is about the {stop['of']} people of this"
            " run. The 95 % intervals of the tables hold for a number of people that was chosen"
            " beforehand."
        )


def _sentence(verdict: Mapping[str, Any], stop: Mapping[str, Any]) -> str:
    """What one slice says on one target."""
    about = verdict["about"]
    names = Slice(about["budget"], about["fill"], about["split"], about["reading"])
    where = f"{about['target']}, {names}"
    counted = f"{verdict['people']} of {verdict['of']} people"
    if stop["when"] == "width":
        widest = max(high - low for low, high in verdict["intervals"])
        known = f"recognition is known to {number(widest, 2)} or better for every method"
        if verdict["certain"]:
            return f"{where}: {known}, after {counted}."
        return (
            f"{where}: the intervals of {len(verdict['open'])} of {len(verdict['methods'])} methods"
            f" are wider than {stop['width']:g} (the widest: {number(widest, 2)}) after {counted}."
        )
    if verdict["certain"]:
        first = _labels([verdict["first"]], verdict)[0]
        return (
            f"{where}: {first} has the largest drop of {len(verdict['methods'])} methods, or one"
            f" within {TIE:g} of it: certain after {counted}."
        )
    left = _labels(verdict["open"], verdict)
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    return (
        f"{where}: after {counted} the first place is open between {len(left)} of"
        f" {len(verdict['methods'])} methods ({', '.join(left[:_NAMED])}{more})."
    )


def _labels(rows: Sequence[Mapping[str, Any]], verdict: Mapping[str, Any]) -> list[str]:
    """Names that tell methods of a verdict from each other."""
    methods = pl.DataFrame(verdict["methods"], infer_schema_length=None)
    parts = methods.partition_by("method")
    names = [name for name in _SETTINGS if any(part[name].n_unique() > 1 for part in parts)]
    return [place_label({**row, "target": verdict["about"]["target"]}, names) for row in rows]
