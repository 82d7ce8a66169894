"""Verification lists in every common form: one reader, which recognizes the form.

Fields are parted by tabs, commas, semicolons or spaces; a byte-order mark, a heading, empty lines
and line ends of Windows make no difference. A line is one of

- ``Name 1 4`` or ``Name 1 Other 2``: the official ``pairs.txt``, Kaggle's ``pairs.csv``
- ``path path 1`` or ``1 path path``: 1 for mated and 0 (or -1) for non-mated pairs
- ``Name_1.jpg 3``, two such lines for each pair: CALFW and CPLFW
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path, PurePosixPath

from facefocus.core.errors import UserError, one_line, shortened
from facefocus.faces.faceset import PairList

FOLDS = 10

#: Longer lines are refused unread: they are no pair, and would take long to be found out.
LONGEST = 10_000

#: How many pairs of each fault are named.
SHOWN = 3

#: Who an image shows and what it is called, from its path, or from a person's name and a number;
#: None for an image that cannot be of the set.
Naming = Callable[[str, int | None], tuple[str, str] | None]

_NUMBERED, _PATHS, _HALVES = (
    "'Name 1 4' or 'Name 1 Other 2'",
    "'path path 1' or '1 path path'",
    "'Name_1.jpg 1' on two lines for each pair",
)
_FLAGS = {"1": True, "0": False, "-1": False, "true": True, "false": False}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class _Line:
    """One line: its form, the images it names, and whether they are mated, None where unstated.

    The value is 1 or 0 for a pair, and the number behind the name for half a pair.
    """

    number: int
    text: str
    form: str
    images: tuple[tuple[str, int | None], ...]
    value: int


@dataclass(frozen=True)
class _Pair:
    line: int
    images: tuple[tuple[str, int | None], ...]
    mated: bool
    fold: int | None = None


def read_list(path: Path, naming: Naming) -> PairList:
    """The list in a file; see `parse_list`.

    Raises:
        UserError: The file cannot be read, or as `parse_list`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"The 'pairs' file '{path}' cannot be read: {error.strerror}.") from error
    return parse_list(data, str(path), naming)


def parse_list(data: bytes, where: str, naming: Naming) -> PairList:
    """A list whose pairs do not contradict the names of their images.

    Whether a pair is mated says the line itself; under a heading such as ``10 300`` its place says
    it: 300 mated pairs, then 300 non-mated ones, ten times. Folds are those of the heading or of
    the numbers in CALFW's list, or runs of equally many mated and non-mated pairs in turn. Where
    there are none, the pairs of either kind are dealt out in their order to ten folds, or to as
    many as there are pairs of the rarer kind.

    Left out, and named in `PairList.left_out`: an image against itself, a non-mated pair of one
    person, a mated pair of two people, and a pair that came before.

    Args:
        data: The bytes of the file.
        where: What to call the file in a message.
        naming: Who an image shows and what it is called.

    Raises:
        UserError: The file is no text or has no form that is known, names the line; or most of its
            pairs contradict their names, or none is left.
    """
    heading, lines = _heading(_lines(data, where))
    parsed = _parsed(lines, where)
    if parsed[0].form == _HALVES:
        pairs = _joined(parsed, where)
    else:
        pairs = _placed([_Pair(o.number, o.images, o.value == 1) for o in parsed], heading, where)
    named = [_named(pair, where, naming) for pair in _with_runs(pairs)]
    kept, wrong = _without_faults(named)
    left_out = list(_left_out(wrong, len(named), where))
    if not kept:
        raise UserError(f"No pair of the 'pairs' file '{where}' is left. {' '.join(left_out)}")
    folds = _dealt([pair.mated for pair in kept], [pair.fold for pair in kept])
    return PairList(
        first=tuple(pair.first for pair in kept),
        second=tuple(pair.second for pair in kept),
        mated=tuple(pair.mated for pair in kept),
        fold=tuple(folds),
        sha256=hashlib.sha256(data).hexdigest(),
        people={name: person for pair in kept for name, person in pair.people.items()},
        left_out=tuple(left_out),
    )


# Lines --------------------------------------------------------------------------------------------


def _lines(data: bytes, where: str) -> list[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    codec = next((codec for mark, codec in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        raise UserError(
            f"The 'pairs' file '{where}' cannot be read: {one_line(error)}. Save it as UTF-8."
        ) from error
    numbered = enumerate(text.splitlines(), start=1)
    return [(number, line.strip()) for number, line in numbered if line.strip()]


def _heading(lines: list[tuple[int, str]]) -> tuple[tuple[int, ...], list[tuple[int, str]]]:
    """The numbers of a heading of one or two, without the first line if it is any heading."""
    fields = re.split(r"[\s,;]+", lines[0][1].strip(",;")) if lines else []
    numbers = [int(field) for field in fields if field.isdecimal()]
    if lines and len(numbers) == len(fields) <= 2:
        return tuple(numbers), lines[1:]
    if lines and not numbers and _matched(*lines[0]) is None:
        return (), lines[1:]
    return (), lines


def _parsed(lines: list[tuple[int, str]], where: str) -> list[_Line]:
    """The lines, all of the form of the first whose form is known."""
    matched = [_matched(number, text) for number, text in lines]
    forms = [line.form for line in matched if line is not None]
    form = forms[0] if forms else f"{_NUMBERED}, {_PATHS}, or {_HALVES}"
    if not lines:
        raise UserError(f"The 'pairs' file '{where}' must have pairs of the form {form}. Got none.")
    for (number, text), line in zip(lines, matched, strict=True):
        if line is None or line.form != form:
            raise UserError(
                f"Line {number} of the 'pairs' file '{where}' must be of the form {form}. "
                f"Got '{shortened(' '.join(text.split()))}'."
            )
    return [line for line in matched if line is not None]


def _matched(number: int, text: str) -> _Line | None:
    """The line in the first form that fits it."""
    if len(text) > LONGEST:
        return None
    for joined, patterns in _readings(text):
        for form, pattern in patterns:
            match = pattern.fullmatch(joined)
            if match is not None:
                return _line(number, text, form, match.groupdict())
    return None


def _readings(text: str) -> Iterator[tuple[str, list[tuple[str, re.Pattern[str]]]]]:
    """The line with its fields joined in one way, and the forms that it may have."""
    for mark in "\t,;":
        if mark in text:
            fields = [field.strip() for field in next(csv.reader([text], delimiter=mark))]
            while fields and not fields[-1]:
                fields.pop()
            yield "\t".join(fields), _FIELDS
    yield " ".join(text.split()), _SPACES


def _patterns(mark: str, name: str, path: str) -> list[tuple[str, re.Pattern[str]]]:
    flag = rf"(?P<flag>{'|'.join(_FLAGS)})"
    forms = (
        (_NUMBERED, rf"(?P<a>{name}){mark}(?P<i>\d+){mark}(?P<j>\d+)"),
        (_NUMBERED, rf"(?P<a>{name}){mark}(?P<i>\d+){mark}(?P<b>{name}){mark}(?P<j>\d+)"),
        (_PATHS, rf"{flag}{mark}(?P<a>{path}){mark}(?P<b>{path})"),
        (_PATHS, rf"(?P<a>{path}){mark}(?P<b>{path}){mark}{flag}"),
        (_HALVES, rf"(?P<a>{path}){mark}(?P<value>\d+)"),
    )
    return [(form, re.compile(text, re.IGNORECASE)) for form, text in forms]


#: Where a mark parts the fields, and where spaces do, which names and paths may hold too: a path
#: then ends with a suffix, or holds none.
_FIELDS = _patterns("\t", r"[^\t]+", r"[^\t]+")
_SPACES = _patterns(" ", r".+?", r"(?:.+?\.\w{2,5}|\S+)")


def _line(number: int, text: str, form: str, got: dict[str, str | None]) -> _Line:
    first, second = got["a"], got.get("b")
    assert first is not None
    if form == _NUMBERED:
        ends = (first, int(got["i"] or 0)), (second or first, int(got["j"] or 0))
        return _Line(number, text, form, ends, int(second is None))
    if form == _HALVES:
        return _Line(number, text, form, ((first, None),), int(got["value"] or 0))
    assert second is not None
    flag = _FLAGS[str(got["flag"]).lower()]
    return _Line(number, text, form, ((first, None), (second, None)), int(flag))


# Pairs --------------------------------------------------------------------------------------------


def _joined(lines: Sequence[_Line], where: str) -> list[_Pair]:
    """Pairs of two lines each; numbers above 1 are the folds of mated pairs, counted from 1."""
    if len(lines) % 2:
        raise UserError(
            f"The 'pairs' file '{where}' must have two lines for each pair. Got {len(lines)} lines."
        )
    folds = any(line.value > 1 for line in lines)
    pairs = []
    for a, b in zip(lines[::2], lines[1::2], strict=True):
        if a.value != b.value:
            raise UserError(
                f"Lines {a.number} and {b.number} of the 'pairs' file '{where}' must end with the"
                f" same number, since they are one pair. Got {a.value} and {b.value}."
            )
        if a.value > FOLDS:
            raise UserError(
                f"Line {a.number} of the 'pairs' file '{where}' must end with a number from 0 to"
                f" {FOLDS}. Got '{a.text}'."
            )
        fold = a.value - 1 if folds and a.value else None
        pairs.append(_Pair(a.number, (*a.images, *b.images), a.value > 0, fold))
    return pairs


def _placed(pairs: list[_Pair], heading: tuple[int, ...], where: str) -> list[_Pair]:
    """With what a heading says: folds, and which pairs are mated."""
    if not heading:
        return pairs
    folds, each = heading if len(heading) == 2 else (1, heading[0])
    if len(pairs) == 2 * folds * each:
        return [
            replace(
                pair,
                mated=position % (2 * each) < each,
                fold=position // (2 * each) if len(heading) == 2 else None,
            )
            for position, pair in enumerate(pairs)
        ]
    if len(heading) == 1 and len(pairs) == each:
        return pairs
    raise UserError(
        f"The 'pairs' file '{where}' must have {2 * folds * each} pairs after its first line. "
        f"Got {len(pairs)}. Without that line, each pair itself says whether it is mated."
    )


def _with_runs(pairs: list[_Pair]) -> list[_Pair]:
    """With folds where runs of equally many mated and non-mated pairs take turns."""
    runs = [(mated, len(list(run))) for mated, run in groupby(pair.mated for pair in pairs)]
    each = runs[0][1]
    regular = runs[0][0] and len(runs) % 2 == 0 and {length for _, length in runs} == {each}
    if not regular or len(runs) == 2 or any(pair.fold is not None for pair in pairs):
        return pairs
    return [replace(pair, fold=position // (2 * each)) for position, pair in enumerate(pairs)]


def _dealt(mated: Sequence[bool], own: Sequence[int | None]) -> list[int]:
    """Each pair's own fold, else its part of the pairs of its kind, cut in order."""
    unplaced = [kind for kind, fold in zip(mated, own, strict=True) if fold is None]
    totals, seen = Counter(unplaced), Counter[bool]()
    count = FOLDS
    if len(unplaced) == len(own):
        count = min(FOLDS, *totals.values()) if len(totals) == 2 else 1
    folds = []
    for kind, fold in zip(mated, own, strict=True):
        folds.append(seen[kind] * count // totals[kind] if fold is None else fold)
        seen[kind] += fold is None
    return folds


# Names --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Named:
    """A pair by the names of its images; `people` are those whom the two show, by name."""

    line: int
    first: str
    second: str
    mated: bool
    fold: int | None
    people: dict[str, str]

    @property
    def fault(self) -> str | None:
        """The contradiction in this pair; None where there is none."""
        same = len(set(self.people.values())) == 1
        if self.first == self.second:
            return "an image against itself"
        if same and not self.mated:
            return "a non-mated pair of one person"
        return "a mated pair of two people" if self.mated and not same else None


def _named(pair: _Pair, where: str, naming: Naming) -> _Named:
    ends = []
    for path, number in pair.images:
        named = naming(path.replace("\\", "/"), number)
        if named is None:
            got = path if number is None else f"{path} {number}"
            raise UserError(
                f"Line {pair.line} of the 'pairs' file '{where}' must name images of the set. "
                f"Got '{got}'."
            )
        ends.append(named)
    (first_person, first), (second_person, second) = ends
    return _Named(
        pair.line,
        first,
        second,
        pair.mated,
        pair.fold,
        {first: first_person, second: second_person},
    )


_AGAIN = "a pair that came before"


def _without_faults(pairs: Sequence[_Named]) -> tuple[list[_Named], dict[str, list[_Named]]]:
    """The consistent pairs, each once; and the others by their fault."""
    kept: dict[frozenset[str], _Named] = {}
    wrong: dict[str, list[_Named]] = {}
    for pair in pairs:
        ends = frozenset(pair.people)
        fault = pair.fault or (_AGAIN if ends in kept else None)
        if fault is None:
            kept[ends] = pair
        else:
            wrong.setdefault(fault, []).append(pair)
    return list(kept.values()), wrong


def _left_out(wrong: dict[str, list[_Named]], total: int, where: str) -> Iterator[str]:
    """A sentence for each kind of fault; refuses a list with faults in most pairs."""
    name = PurePosixPath(where).name
    false = sum(len(pairs) for fault, pairs in wrong.items() if fault != _AGAIN)
    for fault, pairs in wrong.items():
        shown = [f"line {pair.line}: {pair.first} and {pair.second}" for pair in pairs[:SHOWN]]
        more = [f"and {len(pairs) - SHOWN} more"] if len(pairs) > SHOWN else []
        line = f"{len(pairs)} of the {total} pairs of {name} left out: {fault}"
        sentence = f"{line} ({'; '.join(shown + more)})."
        if fault != _AGAIN and 2 * false > total:
            raise UserError(
                f"Most pairs of the 'pairs' file '{where}' contradict the names of their images. "
                f"{sentence} Is it the list of other images, or its heading wrong?"
            )
        yield sentence
