"""``facefocus fetch``: download detector, faces and recognizers by name.

Terms come first, then the files, each with its hash; files go to the user's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facefocus.core import locations
from facefocus.core.download import RemoteFile, fetch_file
from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.progress import Progress, silent
from facefocus.faces.detect import DETECTOR_FILE
from facefocus.faces.downloads import LFW_ARCHIVES, LFW_PAIRS, LFW_TERMS, YUNET, find_lfw
from facefocus.models import zoo
from facefocus.models.add import check_file


@dataclass(frozen=True)
class Item:
    """Something that can be fetched.

    Attributes:
        name: What it is called.
        title: What it is, and its license.
        terms: What must be known before it is fetched; one line.
        asks: Whether its terms must be accepted.
        files: As they are published; without addresses where there is no link.
        folder: Where they go.
        find: Gives its place where it is here.
        by_hand: What to do where it cannot be fetched; one sentence.
        check: Raises where the file that came is not what it should be, and gives notes.
    """

    name: str
    title: str
    terms: str
    asks: bool
    files: tuple[RemoteFile, ...]
    folder: Path
    find: Callable[[], Path | None]
    by_hand: str = ""
    check: Callable[[Path], Sequence[str]] = lambda _: ()


@dataclass(frozen=True)
class Result:
    """The result for one item: whether it is here now, and lines to show."""

    here: bool
    lines: tuple[str, ...]


def items() -> dict[str, Item]:
    """Everything that can be fetched, by name."""
    folder = locations.cache_dir()
    photographs = "Labeled Faces in the Wild, photographs"
    faces = [Item("lfw", photographs, LFW_TERMS, True, _lfw("original"), folder / "lfw", _lfw_here)]
    faces += [
        Item(
            f"lfw-{which}", f"{photographs}, {which}", LFW_TERMS, True, _lfw(which), folder / "lfw",
            lambda which=which: find_lfw(which),  # type: ignore[misc]
        )
        for which in LFW_ARCHIVES
    ]  # fmt: skip
    detector = Item(
        "yunet",
        "YuNet 2023mar, the face detector: MIT",
        "YuNet 2023mar: MIT. Commercial use is allowed.",
        False,
        (YUNET,),
        folder / Path(DETECTOR_FILE).parent,
        lambda: _first(DETECTOR_FILE),
    )
    recognizers = [_recognizer(name) for name, entry in zoo.entries().items() if entry.url]
    return {item.name: item for item in (detector, *faces, *recognizers)}


def find_item(name: str) -> Item:
    """The item called `name`, also a recognizer that must be got by hand.

    Raises:
        UserError: No such item; suggests the nearest one.
    """
    known = items()
    if name in known:
        return known[name]
    names = {
        *zoo.entries(),
        *(alias for entry in zoo.entries().values() for alias in entry.aliases),
    }
    if name not in names:
        raise UserError(
            f"Nothing is called '{name}'.{did_you_mean(name, [*known, *names])} 'facefocus fetch' "
            "lists what can be fetched."
        )
    return _recognizer(zoo.full_name(name))


def fetch(
    names: Sequence[str],
    *,
    confirm: Callable[[Sequence[str], bool], bool],
    mirror: str | None = None,
    progress: Progress = silent,
) -> Iterator[Result]:
    """Fetch what is not here; one result for each name, as soon as it is known.

    Args:
        names: Of `items`, or of recognizers.
        confirm: Called once with the terms of all that is to be fetched and whether they must be
            accepted; False fetches nothing.
        mirror: Address to take the one item from: its file, or a folder (with a slash at its end)
            of its files.
        progress: Called as ``(file name, bytes done, bytes)``.

    Raises:
        UserError: An unknown name, or a mirror for several.
    """
    wanted = list({item.name: item for item in map(find_item, names)}.values())
    if mirror is not None and len(wanted) > 1:
        raise UserError(
            f"The '--url' is for one name at a time. Got {', '.join(item.name for item in wanted)}."
        )
    missing = [item for item in wanted if item.find() is None and (item.files[0].urls or mirror)]
    terms = [f"{item.name}: {item.terms}" for item in missing]
    accepted = not missing or confirm(terms, any(item.asks for item in missing))
    for item in wanted:
        here = item.find()
        if here is not None:
            yield Result(True, (f"'{item.name}' is here: {here}",))
        elif item not in missing:
            yield Result(False, (f"'{item.name}' has no direct link. {item.by_hand}",))
        elif not accepted:
            yield Result(False, (f"'{item.name}' was not fetched: its terms were not accepted.",))
        else:
            yield _fetched(item, mirror, progress)


def _fetched(item: Item, mirror: str | None, progress: Progress) -> Result:
    files = item.files if mirror is None else _mirrored(item, mirror)
    lines: list[str] = []
    try:
        # One by one: a failure does not hide the results before it.
        for file in files:
            fetched = fetch_file(file, item.folder, progress=progress)
            lines += [fetched.line()]
        path = item.folder / files[0].name
        try:
            lines += item.check(path)
        except UserError:
            path.unlink()
            path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)
            raise
    except UserError as error:
        return Result(False, (*lines, f"'{item.name}' was not fetched: {error} {item.by_hand}"))
    return Result(True, tuple(lines))


def _mirrored(item: Item, mirror: str) -> list[RemoteFile]:
    """The item's files at an address: a folder, or one file beside which the others lie."""
    names = [file.name for file in item.files]
    if len(names) == 1 and not mirror.endswith("/"):
        return [replace(item.files[0], urls=(mirror,))]
    folder, _, last = mirror.rpartition("/")
    base = folder if last in ("", *names) else mirror
    return [replace(file, urls=(f"{base}/{file.name}",)) for file in item.files]


def _lfw(which: str) -> tuple[RemoteFile, ...]:
    # The small file first: a wrong folder or a missing network shows at once.
    return LFW_PAIRS, LFW_ARCHIVES[which]


def _lfw_here() -> Path | None:
    source = find_lfw()
    return source if source and (source.parent / LFW_PAIRS.name).is_file() else None


def _first(relative: str) -> Path | None:
    candidates = [root / relative for root in locations.search_dirs()]
    return next((path for path in candidates if path.is_file()), None)


def _recognizer(name: str) -> Item:
    entry = zoo.describe(name)
    license, alias = entry.license.partition(" (")[0], "".join(f" ({x})" for x in entry.aliases)
    return Item(
        name,
        f"{entry.title}{alias}: {license}",
        entry.terms,
        entry.commercial != "yes",
        entry.remote_files(),
        (locations.cache_dir() / "models" / entry.file).parent,
        entry.present,
        by_hand=zoo.how_to_get(name) if not entry.url else f"Or: facefocus models add {name} FILE",
        check=lambda path: check_file(name, path),
    )
