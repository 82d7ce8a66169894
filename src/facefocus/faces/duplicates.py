"""The same photo under several names: crops of equal pixels (Protocol: duplicates).

A copy of a photo makes a mated pair that any recognizer gets right, and a photo that is said to
show two people makes a non-mated pair that every recognizer gets wrong.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from facefocus.faces.faceset import IndexRow

#: What becomes of copies: one of a person's counts, and none that shows two people; a person's all
#: count, and are reported; or all count, and are reported.
Duplicates = Literal["once", "report", "keep"]

COPY = "the same photo as another of this person"
CONTRADICTION = "the same photo as one of another person"

#: How many photos of each kind are named.
SHOWN = 3


def without_duplicates(
    rows: Sequence[IndexRow], frames: Iterable[UInt8[np.ndarray, "h w 3"]], mode: Duplicates
) -> tuple[list[IndexRow], list[str]]:
    """Rows with a reason for every copy that does not count, and sentences for the user.

    Of a person's copies the one with the shortest name stays, by name among several.

    Args:
        rows: All rows of a face set.
        frames: The frame of each row without a reason.
        mode: What becomes of copies.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    usable = (index for index, row in enumerate(rows) if row.reason is None)
    for index, frame in zip(usable, frames, strict=True):
        groups[hashlib.sha256(np.ascontiguousarray(frame).data).digest()].append(index)
    judged = list(rows)
    copies: dict[str, list[list[str]]] = {COPY: [], CONTRADICTION: []}
    for group in (group for group in groups.values() if len(group) > 1):
        group.sort(key=lambda index: (len(rows[index].name), rows[index].name))
        people = {rows[index].identity for index in group}
        reason = COPY if len(people) == 1 else CONTRADICTION
        copies[reason].append([rows[index].name for index in group])
        if mode == "keep" or (reason == COPY and mode == "report"):
            continue
        for index in group[reason == COPY :]:
            judged[index] = replace(rows[index], reason=reason)
    return judged, [_sentence(reason, same, mode) for reason, same in copies.items() if same]


def _sentence(reason: str, groups: Sequence[Sequence[str]], mode: Duplicates) -> str:
    photos = "1 photo is" if len(groups) == 1 else f"{len(groups)} photos are"
    people = "different people" if reason == CONTRADICTION else "the same person"
    names = "; ".join(" = ".join(group) for group in groups[:SHOWN])
    more = f"; and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
    fate = "each counts once" if reason == COPY else "none is used"
    if mode == "keep" or (reason == COPY and mode == "report"):
        fate = "all are kept"
    count = sum(map(len, groups))
    return f"{photos} there under {count} names of {people}, {fate}: {names}{more}."
