"""From pictures to a face set: parallel, with bounded memory, and resumable.

Pictures are taken in the order of their source. Every `CHUNK` of them is written under
``OUT/.parts/<key>`` as soon as it is done; a run that was killed goes on after the last chunk.
At the end the frames are put in sorted order, the manifest last. The result depends on the source
and the settings alone, not on the number of workers or on where a run was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from facefocus.core.errors import UserError, did_you_mean, one_line
from facefocus.core.files import any_path, printable
from facefocus.core.progress import Progress, silent
from facefocus.faces import align as alignment
from facefocus.faces import detect
from facefocus.faces.agreement import SEVERAL, Judge, settled
from facefocus.faces.duplicates import Duplicates, without_duplicates
from facefocus.faces.faceset import (
    CHECK,
    FRAMES,
    INDEX,
    MANIFEST,
    PAIRS,
    IndexRow,
    PairList,
    open_faceset,
    read_index,
    read_manifest,
    write_faceset,
)
from facefocus.faces.images import UnusableImage, decode_rgb
from facefocus.faces.parts import FrameLocation, Made, Parts, Photo
from facefocus.faces.sheet import MOST_DRAWN, draw_tile, remark, write_pages

#: Pictures that are finished, written and, after a kill, repeated together.
CHUNK = 256

#: Larger files are refused unread, since they are held in memory whole.
MAX_FILE_BYTES = 256 * 2**20

#: Pictures waiting for each worker: enough to keep it busy while a chunk is written.
_AHEAD = 16

#: Raised whenever the same picture may give another frame; version 0.1.0 recorded none.
SEARCH_VERSION = 2

#: Why an image should be looked at.
TURNED = "the photo turned upright"
LOW_SCORE = "a low score"

#: Why an image has no frame.
NO_FACE = "no face found"

#: So many faces of a photo are kept until it is known which one it is of.
_MOST_POSSIBLE = 5

_PARTS = ".parts"
ALIGN_MODES = ("yunet", "none", "auto")


@dataclass(frozen=True)
class Entry:
    """One picture of a source: who it shows, its unique name, where it lies in the source."""

    identity: str
    name: str
    path: str


@dataclass(frozen=True)
class Pictures:
    """What a source holds.

    Attributes:
        entries: The pictures, in the order in which `stream` gives them.
        stream: ``stream(start)`` gives one function for each entry from the start-th on, which
            returns the file's bytes or raises `UnusableImage`, and may be called in any thread.
            A source that breaks raises `UserError`, so that no error of reading is taken for one
            of writing.
        refused: Rows for the index that have no picture, each with its reason.
        notes: Sentences for the user.
    """

    entries: Sequence[Entry]
    stream: Callable[[int], Iterator[Callable[[], bytes]]]
    refused: Sequence[IndexRow] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class PictureSource:
    """Where pictures come from.

    Attributes:
        name: For messages.
        fingerprint: Changes when a picture is added, removed or changed.
        load: Lists the pictures; not called when the face set is there already.
    """

    name: str
    fingerprint: str
    load: Callable[[], Pictures]

    def listed(
        self,
        pairs: PairList | None,
        name: str,
        notes: Callable[[Sequence[Entry]], Iterable[str]] = lambda _: (),
    ) -> PictureSource:
        """This source with a refused row for every image that only a verification list names.

        Args:
            pairs: The list; None where none was found.
            name: The name of its file; empty where none was looked for.
            notes: More sentences for the user, from the pictures.
        """

        def load() -> Pictures:
            pictures = self.load()
            people = pairs.people if pairs else {}
            missing = sorted(people.keys() - {entry.name for entry in pictures.entries})
            reason = f"listed in {name} but not in the source"
            rows = [IndexRow(people[image], image, "", reason=reason) for image in missing]
            about_list: Sequence[str] = pairs.left_out if pairs else ()
            if name and pairs is None:
                about_list = [f"No {name} was found: the face set has no verification list."]
            sentences = [*notes(pictures.entries), *about_list, *pictures.notes]
            return replace(pictures, refused=[*pictures.refused, *rows], notes=sentences)

        return replace(self, load=load)


@dataclass(frozen=True)
class PrepareReport:
    """The result of `prepare`: how many images, people and pairs, and what to check.

    Attributes:
        folder: The face set.
        title: What it is called.
        images: How many have a frame.
        people: How many people these show.
        several_faces: In how many of them more than one face was found.
        unusable: How many have no frame, by reason.
        check: How many somebody should look at, by reason; ``check.csv`` lists them.
        pairs: Usable pairs of the verification list; None without a list.
        pairs_missing: Pairs of the list that name an image without a frame.
        already_complete: Nothing was done: the set was there.
        notes: Sentences for the user.
        sheets: Pages of the contact sheet, where one was asked for.
    """

    folder: Path
    title: str
    images: int
    people: int
    several_faces: int
    unusable: dict[str, int]
    check: dict[str, int]
    pairs: int | None
    pairs_missing: int
    already_complete: bool
    notes: tuple[str, ...]
    sheets: tuple[Path, ...] = ()


class Options(TypedDict, total=False):
    """The options that `prepare_faces` passes to `prepare`."""

    crop: str
    detector: Path | None
    judge: Judge | None
    sheet: Path | None
    workers: int | None
    progress: Progress


_Maker = Callable[[Entry, UInt8[np.ndarray, "h w 3"]], Made]


@any_path
def prepare(
    source: PictureSource,
    out: Path,
    *,
    title: str,
    align: str = "yunet",
    crop: str = "arcface112",
    detector: Path | None = None,
    pairs: PairList | None = None,
    duplicates: Duplicates = "report",
    judge: Judge | None = None,
    sheet: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> PrepareReport:
    """Make the face set of a source in the folder `out`, or finish one that was interrupted.

    While it runs, OpenCV works with one thread and Pillow's warnings are off in the whole process;
    both are restored.

    Args:
        source: The pictures.
        out: New, empty, or left by an interrupted run; needs twice the space of the frames.
        title: What the set is called.
        align: ``"yunet"`` finds and aligns the main face; ``"none"`` takes pictures that are
            aligned crops already, all of the size of the first; ``"auto"`` does that where the
            first has the size of the crop, and the report says so.
        crop: ``"arcface112"`` warps five landmarks to the ArcFace template, ``"facenet160"`` is
            the face's box with a margin (Protocol: aligned-crops).
        detector: YuNet's file, if not in the usual places.
        pairs: The verification list.
        duplicates: What becomes of the same photo under several names.
        judge: A recognizer that settles which face counts where a photo may be of several: the one
            that agrees with the person's other photos. Without it, it is the likeliest by size,
            place and score, and the report lists these photos.
        sheet: A PNG file to draw photos in with the face that was chosen, those to look at first;
            further pages lie beside it.
        workers: Threads; None for one for each CPU.
        progress: Called as ``("prepare" | "agree" | "write" | "draw", images done, images)``.

    Raises:
        UserError: A wrong argument, an unreadable source, an `out` that cannot be written or holds
            something else, or no usable picture.
    """
    _check_options(align, crop, workers, sheet, out)
    title = printable(title)
    _check_folder(out)
    if (out / MANIFEST).exists():
        modes = ("yunet", "none") if align == "auto" else (align,)
        settings = [_settings(mode, crop, duplicates, judge) for mode in modes]
        report = _finished(out, title, source.fingerprint, settings, pairs)
    else:
        pictures = _escaped(source.load())
        _check_pictures(source, pictures)
        if align == "auto":
            align, pictures = _chosen_mode(source, pictures, crop)
        record = {
            "source": source.fingerprint,
            "settings": _settings(align, crop, duplicates, judge),
        }
        size, make = _maker(source, pictures, align, crop, detector)
        with _writing(out):
            parts = _open_parts(out, record, size)
            _make_parts(pictures, parts, make, workers or os.cpu_count() or 1, progress)
            rows, frames, copies = _assembled(pictures, parts, duplicates, judge, progress)
            if not frames:
                _clean(out)
                raise _nothing_usable(source, rows)
            used, list_notes = _usable_list(rows, pairs)
            notes = [*copies, *list_notes, *pictures.notes]
            write_faceset(
                out,
                title=title,
                rows=rows,
                frames=_reported(map(parts.frame, frames), len(frames), progress),
                size=size,
                pairs=used,
                record={**record, "notes": notes, "list": pairs and pairs.sha256},
            )
            _clean(out)
        report = report_of(out, already_complete=False)
    if sheet is None:
        return report
    return replace(report, sheets=_drawn(sheet, source, out, progress))


def _usable_list(
    rows: Sequence[IndexRow], pairs: PairList | None
) -> tuple[PairList | None, list[str]]:
    """The list, or none and a sentence where no pair of it has two usable images."""
    names = {row.name for row in rows if row.reason is None}
    if pairs is None or any(
        first in names and second in names
        for first, second in zip(pairs.first, pairs.second, strict=True)
    ):
        return pairs, []
    note = (
        f"None of the {len(pairs.first)} pairs of the list has both images here: the face set has "
        "no verification list."
    )
    return None, [note]


def _settings(align: str, crop: str, duplicates: Duplicates, judge: Judge | None) -> dict[str, Any]:
    copies = {} if duplicates == "report" else {"duplicates": duplicates}
    if align == "none":
        return {"align": "none", **copies}
    if crop == "facenet160":
        geometry: dict[str, Any] = {"crop": crop, "margin": alignment.BOX_MARGIN}
    else:
        geometry = {"template": alignment.ARCFACE_TEMPLATE.tolist()}
    return {
        "align": "yunet",
        "search": SEARCH_VERSION,
        "detector_sha256": detect.DETECTOR_SHA256,
        "score_threshold": detect.SCORE_THRESHOLD,
        "detection_side": detect.DETECTION_SIDE,
        **geometry,
        "side": alignment.CROP_SIDES[crop],
        **({} if judge is None else {"judge": judge.fingerprint}),
        **copies,
    }


def _chosen_mode(source: PictureSource, pictures: Pictures, crop: str) -> tuple[str, Pictures]:
    """``none`` for pictures of the size of the crop, with a note that says so; else ``yunet``."""
    side = alignment.CROP_SIDES[crop]
    if crop != "arcface112" or _first_size(source, pictures) != (side, side):
        return "yunet", pictures
    note = (
        f"The pictures have {side}x{side} pixels and are taken as aligned crops, as they are. "
        "To look for faces in them: --align yunet."
    )
    return "none", replace(pictures, notes=[*pictures.notes, note])


def _check_options(
    align: str, crop: str, workers: int | None, sheet: Path | None, out: Path
) -> None:
    if align not in ALIGN_MODES:
        raise UserError(f"The 'align' must be one of {', '.join(ALIGN_MODES)}. Got '{align}'.")
    if crop not in alignment.CROP_SIDES:
        known = alignment.CROP_SIDES
        raise UserError(
            f"The 'crop' must be one of {', '.join(known)}. Got '{crop}'."
            + did_you_mean(crop, known)
        )
    if align == "none" and crop != "arcface112":
        raise UserError(
            f"The 'crop' must be left out where 'align' is 'none': pictures are taken as they are. "
            f"Got '{crop}'."
        )
    if workers is not None and workers < 1:
        raise UserError(f"The 'workers' must be at least 1. Got {workers}.")
    if sheet is not None and sheet.resolve().parent == out.resolve():
        raise UserError(f"The 'sheet' must lie outside the face set. Got '{sheet}'.")
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UserError(
            f"The 'sheet' must be a PNG file. Got '{sheet}'. Did you mean '{sheet.name}.png'?"
        )


def _check_folder(out: Path) -> None:
    with _writing(out):
        present = {path.name for path in out.iterdir()} if out.exists() else set()
    # Files with a dot are this module's own or a desktop's.
    strange = {name for name in present if not name.startswith(".")}
    strange -= {FRAMES, INDEX, PAIRS, CHECK, MANIFEST}
    if strange:
        raise UserError(
            f"The folder '{out}' must be new, empty or a face set. "
            f"Got one that holds '{min(strange)}'."
        )


def _escaped(pictures: Pictures) -> Pictures:
    """The pictures with printable names, and a note on names that were changed."""
    entries = [
        replace(entry, identity=printable(entry.identity), name=printable(entry.name))
        for entry in pictures.entries
    ]
    changed = sum(printable(entry.path) != entry.path for entry in entries)
    note = rf"{changed} names are not UTF-8: their other bytes are written as \xNN"
    return replace(pictures, entries=entries, notes=[*pictures.notes, *([note] if changed else [])])


def _check_pictures(source: PictureSource, pictures: Pictures) -> None:
    if not pictures.entries:
        raise UserError(f"'{source.name}' must hold pictures of people. Got none.")
    seen: dict[str, str] = {}
    for entry in pictures.entries:
        if entry.name in seen:
            raise UserError(
                f"'{source.name}' must hold every image once. Got '{entry.name}' twice: "
                f"'{printable(seen[entry.name])}' and '{printable(entry.path)}'."
            )
        seen[entry.name] = entry.path


# Finished sets ------------------------------------------------------------------------------------


def _finished(
    out: Path,
    title: str,
    source: str,
    settings: Sequence[dict[str, Any]],
    pairs: PairList | None,
) -> PrepareReport:
    """The report of an existing set, if it is the requested one."""
    manifest = read_manifest(out)
    made = manifest["record"]
    # Sets that were made before the record named the list have it with the pairs.
    listed = made.get("list") or (manifest["pairs"] or {}).get("sha256")
    if made["settings"]["align"] == "yunet" and made["settings"].get("search") != SEARCH_VERSION:
        raise UserError(
            f"The faces of '{out}' were found by another version of facefocus, whose frames may "
            "differ. Delete the folder or choose another one."
        )
    differs = [] if made.get("source") == source else ["source"]
    if made.get("settings") not in settings:
        differs.append("setting of 'align', 'crop', 'model' or duplicates")
    if manifest["title"] != title:
        differs.append("title")
    if pairs is not None and listed != pairs.sha256:
        differs.append("list of pairs")
    if differs:
        raise UserError(
            f"'{out}' holds the face set '{manifest['title']}', with a different "
            f"{' and a different '.join(differs)}. Delete it or choose another folder."
        )
    open_faceset(out)
    with _writing(out):
        _clean(out)
    return report_of(out, already_complete=True)


def report_of(out: Path, *, already_complete: bool) -> PrepareReport:
    """The report on a complete face set.

    Raises:
        UserError: It is none.
    """
    manifest = read_manifest(out)
    counts, pairs = manifest["counts"], manifest["pairs"]
    return PrepareReport(
        folder=out,
        title=manifest["title"],
        images=counts["images"],
        people=counts["people"],
        several_faces=counts["several_faces"],
        unusable=counts["unusable"],
        check=counts.get("check", {}),
        pairs=None if pairs is None else pairs["listed"] - pairs["missing"],
        pairs_missing=0 if pairs is None else pairs["missing"],
        already_complete=already_complete,
        notes=tuple(manifest["record"]["notes"]),
    )


def _nothing_usable(source: PictureSource, rows: Sequence[IndexRow]) -> UserError:
    reasons = [row.reason for row in rows if row.reason is not None]
    most = max(sorted(set(reasons)), key=reasons.count)
    return UserError(
        f"None of the {len(rows)} images of '{source.name}' could be used. "
        f"Most frequent reason: {most} ({reasons.count(most)})."
    )


# One picture --------------------------------------------------------------------------------------


def _maker(
    source: PictureSource, pictures: Pictures, align: str, crop: str, detector: Path | None
) -> tuple[tuple[int, int], _Maker]:
    """The size of the frames, and the function from a decoded picture to its frame."""
    if align == "none":
        size = _first_size(source, pictures)
        return size, _aligned_already(size)
    side = alignment.CROP_SIDES[crop]
    return (side, side), _aligned_by_yunet(detect.detector_model(detector), crop)


def _row(entry: Entry, **values: Any) -> IndexRow:
    return IndexRow(entry.identity, entry.name, printable(entry.path), **values)


def _first_size(source: PictureSource, pictures: Pictures) -> tuple[int, int]:
    with tamed_libraries():
        for entry, read in zip(pictures.entries, pictures.stream(0), strict=True):
            with suppress(UnusableImage):
                return decode_rgb(read(), entry.name).shape[:2]
    raise UserError(f"None of the {len(pictures.entries)} images of '{source.name}' can be read.")


def _aligned_already(size: tuple[int, int]) -> _Maker:
    def make(entry: Entry, image: UInt8[np.ndarray, "h w 3"]) -> Made:
        height, width = image.shape[:2]
        if (height, width) != size:
            raise UnusableImage(
                entry.name,
                f"{width}x{height} pixels, and the first image has {size[1]}x{size[0]}",
            )
        return Made((_row(entry),), (image,))

    return make


def _aligned_by_yunet(model: bytes, crop: str) -> _Maker:
    # A detector holds state while it runs, and making one takes longer than using it.
    threads = threading.local()

    def make(entry: Entry, image: UInt8[np.ndarray, "h w 3"]) -> Made:
        if not hasattr(threads, "detector"):
            threads.detector = detect.FaceDetector(model)
        return aligned_faces(entry, image, threads.detector, crop)

    return make


def aligned_faces(
    entry: Entry,
    image: UInt8[np.ndarray, "h w 3"],
    detector: detect.FaceDetector,
    crop: str = "arcface112",
) -> Made:
    """The faces that a picture may be of, the likeliest first, found and aligned.

    Args:
        entry: What the picture is called.
        image: Upright RGB.
        detector: Of this thread.
        crop: A kind in `align.CROP_SIDES`.

    Raises:
        UnusableImage: No face was found.
    """
    faces = detect.find_faces(image, detector)
    if not faces:
        raise UnusableImage(entry.name, NO_FACE)
    height, width = image.shape[:2]
    several = len(detect.rivals(faces, height, width, detect.DOUBTFUL_SHARE)) > 1
    possible = detect.rivals(faces, height, width, detect.POSSIBLE_SHARE)[:_MOST_POSSIBLE]
    return Made(
        tuple(_face_row(entry, face, len(faces), several) for face in possible),
        tuple(alignment.align_face(image, face, crop) for face in possible),
    )


def _face_row(entry: Entry, face: detect.Face, faces: int, several: bool) -> IndexRow:
    doubts = {
        TURNED: face.turn > 0,
        LOW_SCORE: face.score < detect.DOUBTFUL_SCORE,
        SEVERAL: several,
    }
    return _row(
        entry,
        faces=faces,
        score=face.score,
        landmarks=tuple(face.landmarks.ravel().tolist()),
        box=tuple(face.box.tolist()),
        turned=90 * face.turn,
        check=tuple(doubt for doubt, holds in doubts.items() if holds),
    )


# Many pictures ------------------------------------------------------------------------------------


def _make_parts(
    pictures: Pictures, parts: Parts, make: _Maker, workers: int, progress: Progress
) -> None:
    """Write the chunks that are not there yet."""
    first, total = parts.done(), len(pictures.entries)
    start = min(first * CHUNK, total)
    progress("prepare", start, total)
    with tamed_libraries(), closing(_made(pictures, start, make, workers)) as made:
        counted = _reported(made, total, progress, stage="prepare", start=start)
        for chunk in count(first):
            results = list(islice(counted, CHUNK))
            if not results:
                return
            parts.write(chunk, results)


def _made(
    pictures: Pictures, start: int, make: _Maker, workers: int
) -> Generator[Made, None, None]:
    """The results for the entries from `start` on, in order, made by `workers` threads."""

    def decode_and_make(entry: Entry, read: Callable[[], bytes]) -> Made:
        try:
            return make(entry, decode_rgb(read(), entry.name))
        except UnusableImage as error:
            return Made((_row(entry, reason=error.reason),))

    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        entries = islice(pictures.entries, start, None)
        for entry, read in zip(entries, pictures.stream(start), strict=True):
            waiting.append(pool.submit(decode_and_make, entry, read))
            if len(waiting) >= _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


T = TypeVar("T")


def _reported(
    items: Iterable[T], total: int, progress: Progress, *, stage: str = "write", start: int = 0
) -> Iterator[T]:
    for done, item in enumerate(items, start=start + 1):
        yield item
        progress(stage, done, total)


@contextmanager
def tamed_libraries() -> Iterator[None]:
    """One OpenCV thread for each worker, and no warnings about single pictures."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            # The limit is `images.MAX_PIXELS`, somewhat higher than that of Pillow's warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    finally:
        cv2.setNumThreads(threads)


# Chunks on the disk -------------------------------------------------------------------------------


def _open_parts(out: Path, record: dict[str, Any], size: tuple[int, int]) -> Parts:
    key = hashlib.sha256(json.dumps([record, CHUNK]).encode()).hexdigest()[:16]
    folder = out / _PARTS / key
    if folder.parent.exists() and any(path.name != key for path in folder.parent.iterdir()):
        raise UserError(
            f"'{out}' holds an unfinished face set of other pictures or settings. "
            "Finish that, delete it or choose another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return Parts(folder, size)


def _clean(out: Path) -> None:
    """Remove the chunks, and files that a killed run was writing."""
    if (out / _PARTS).exists():
        shutil.rmtree(out / _PARTS)
    for path in out.glob(".*.tmp"):
        path.unlink()


def _assembled(
    pictures: Pictures,
    parts: Parts,
    duplicates: Duplicates,
    judge: Judge | None,
    progress: Progress,
) -> tuple[list[IndexRow], list[FrameLocation], list[str]]:
    """All rows sorted by identity and name, the locations of their frames, and notes on copies.

    The locations are those of the rows without a reason, in the same order.
    """
    refused: list[Photo] = [[(row, None)] for row in pictures.refused]
    photos = [*refused, *parts.photos()]
    photos.sort(key=lambda photo: (photo[0][0].identity, photo[0][0].name))
    placed = [photo[0] for photo in photos]
    if judge is not None:
        placed = settled(photos, parts, judge, progress)
    frames = (parts.frame(location) for _, location in placed if location is not None)
    rows, copy_notes = without_duplicates([row for row, _ in placed], frames, duplicates)
    both = zip(rows, (location for _, location in placed), strict=True)
    return rows, [location for row, location in both if location and row.reason is None], copy_notes


# Contact sheets -----------------------------------------------------------------------------------


def _drawn(sheet: Path, source: PictureSource, out: Path, progress: Progress) -> tuple[Path, ...]:
    """Draw the photos of a finished set, doubtful ones first; the paths of the pages."""
    pictures = _escaped(source.load())
    frames = open_faceset(out).frames
    rows = [row for row in read_index(out) if row["row"] is not None or row["reason"] == NO_FACE]
    rows.sort(key=lambda row: remark(row) is None)
    wanted = {row["name"]: position for position, row in enumerate(rows[:MOST_DRAWN])}
    tiles: dict[int, Image.Image] = {}
    with tamed_libraries():
        for entry, read in zip(pictures.entries, pictures.stream(0), strict=True):
            if entry.name in wanted:
                position = wanted[entry.name]
                with suppress(UnusableImage):
                    tiles[position] = draw_tile(
                        decode_rgb(read(), entry.name), rows[position], frames
                    )
                progress("draw", len(tiles), len(wanted))
    return tuple(write_pages([tiles[position] for position in sorted(tiles)], sheet))


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The face set cannot be written to '{out}': {error.strerror or one_line(error)}."
        ) from error
