"""What ``facefocus check`` and ``facefocus ls layers`` do with the names they are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from facefocus.core.errors import UserError
from facefocus.faces.faceset import check_files
from facefocus.models import zoo
from facefocus.models.layers import GROUPS, LayerTable
from facefocus.testing import CheckResult, check_fill, check_method, check_recognizer


def check_named(
    recognizer: str | None = None,
    *,
    method: str | None = None,
    fill: str | None = None,
    faces: Path | None = None,
    preprocessing: Mapping[str, object] | None = None,
) -> list[CheckResult]:
    """The checks of one recognizer, method or fill, by name, or of a prepared face set.

    Args:
        recognizer: Anything that `zoo.load` takes.
        method: Name of a saliency method or baseline.
        fill: Name of a fill.
        preprocessing: How a recognizer from a file reads frames; see `zoo.load`.
        faces: Folder of a face set, whose files are compared with their hashes.

    Raises:
        UserError: Not exactly one of the four is named, or it cannot be loaded.
    """
    named = [str(name) for name in (recognizer, method, fill, faces) if name is not None]
    if len(named) != 1:
        raise UserError(
            "Name what to check: a recognizer, or one --method, --fill or --faces. "
            f"Got {', '.join(named) or 'nothing'}."
        )
    if faces is not None:
        return [
            CheckResult(name, problem is None, problem or "as it was written")
            for name, problem in check_files(faces).items()
        ]
    if method is not None:
        return check_method(method)
    if fill is not None:
        return check_fill(fill)
    name = named[0]
    return check_recognizer(
        zoo.load(name, preprocessing), again=lambda: zoo.load(name, preprocessing)
    )


def check_lines(results: Sequence[CheckResult]) -> Iterator[str]:
    """One line a check, and one on all of them."""
    wide = max(len(result.name) for result in results)
    for result in results:
        yield f"{'ok' if result.passed else 'FAILED':<6}  {result.name:<{wide}}  {result.detail}"
    failed = sum(not result.passed for result in results)
    yield f"{len(results)} checks, {failed} failed"


def layer_lines(
    recognizer: str, preprocessing: Mapping[str, object] | None = None
) -> Iterator[str]:
    """One line a convolution call, then one a group; the zoo's own need no weights for it.

    Raises:
        UserError: No such recognizer, or a black box.
    """
    table = zoo.layers(recognizer, preprocessing)
    yield from table.lines()
    for group in (*GROUPS, "all"):
        yield f"group {group:<8} {_members(table, group)}"


def _members(table: LayerTable, group: str) -> str:
    try:
        members = table.resolve(group)
    except UserError:
        return "none: too few convolutions"
    if group == "all":
        return f"the {len(members)} spatial ones"
    return " ".join(map(str, members))
