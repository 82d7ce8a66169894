"""One person's photographs, as phones make them: which count, and the face of each.

Protocol: photographs-of-a-person. Everything that is left out or chosen is said.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from facefocus.core.errors import UserError
from facefocus.core.files import printable
from facefocus.core.notices import notice
from facefocus.core.progress import Progress, silent
from facefocus.faces.agreement import AGREES, SEVERAL, Judge, settled
from facefocus.faces.align import ARCFACE_TEMPLATE, FRAME_SIDE, similarity_transform
from facefocus.faces.archives import read_file, visible
from facefocus.faces.detect import FaceDetector, detector_model
from facefocus.faces.faceset import IndexRow
from facefocus.faces.halves import near_equal
from facefocus.faces.images import (
    UnusableImage,
    decode_rgb,
    kind_of_file,
    suffixes,
    upright_size,
)
from facefocus.faces.parts import FrameLocation, Made
from facefocus.faces.parts import Photo as Faces
from facefocus.faces.prepare import LOW_SCORE, TURNED, Entry, aligned_faces, tamed_libraries
from facefocus.models.zoo import entries
from facefocus.person.same_person import somebody_else

#: Fewest photos of which anything can be said: a mated pair.
LEAST = 2

#: Reasons why a photo is left out.
STRANGER = "it shows somebody else than the other photos"
SAME_FILE = "the same file as"
SAME_PICTURE = "the same picture as"


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph of the person, and where the face is in it.

    Attributes:
        name: Unique among the person's photos: the file's name, without its suffix if it can be.
        path: The file.
        digest: sha256 of the file, hexadecimal.
        size: Height and width of the upright photo, in its own resolution.
        crop: The aligned face.
        matrix: Takes (x, y, 1) of the upright photo to the crop.
        landmarks: (x, y) of the five landmarks in the upright photo.
        faces: How many faces the photo shows; None for an aligned crop, where none is looked for.
    """

    name: str
    path: Path
    digest: str
    size: tuple[int, int]
    crop: UInt8[np.ndarray, "112 112 3"]
    matrix: Float64[np.ndarray, "2 3"]
    landmarks: Float64[np.ndarray, "5 2"]
    faces: int | None

    @property
    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """The upright photo in its own resolution, read from the file.

        Raises:
            UserError: The file is gone, or was changed since the face was found.
        """
        try:
            data = read_file(self.path.parent, Entry("", self.name, self.path.name))
            if hashlib.sha256(data).hexdigest() == self.digest:
                with tamed_libraries():
                    return decode_rgb(data, self.name, whole=True)
            reason = "its content is another one"
        except UnusableImage as error:
            reason = error.reason
        raise UserError(
            f"The photo '{self.path}' changed while this ran: {reason}. Nothing was written for it;"
            " run it again."
        )


@dataclass(frozen=True, eq=False)
class PersonPhotos:
    """The photographs of one person.

    Attributes:
        name: Of the person: the folder's name.
        photos: Those that count, by name.
        left_out: The others: path and reason.
        remarks: Sentences for the user: what was chosen, and what to look at.
    """

    name: str
    photos: tuple[Photo, ...]
    left_out: tuple[tuple[Path, str], ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Looked:
    """A file that was looked at.

    Attributes:
        path: The file.
        rows: For each face that it may be of, the likeliest first, what the detector says; or one
            with the reason why there is none.
        candidates: The photo with each of these faces.
    """

    path: Path
    rows: tuple[IndexRow, ...]
    candidates: tuple[Photo, ...] = ()

    @property
    def reason(self) -> str | None:
        """Why the file has no face that could count."""
        return self.rows[0].reason

    def frame(self, location: FrameLocation) -> UInt8[np.ndarray, "h w 3"]:
        """The crop of a face."""
        return self.candidates[location.slot].crop


def read_people(
    photos: Path | str | Sequence[Path | str],
    *,
    judge: Judge | None = None,
    threshold: float | None = None,
    keep: bool = False,
    detector: Path | None = None,
    progress: Progress = silent,
) -> list[PersonPhotos]:
    """The photographs of one person, or of several with a folder each.

    Photos that are aligned crops already, all of 112x112 pixels, are taken as they are.

    Args:
        photos: A folder with photographs of one person, or with a folder for each person; or files
            of one person.
        judge: A recognizer: it says which of several faces is the person's and which photos show
            somebody else. Without it, the face is the likeliest by size, place and score.
        threshold: The cosine from which on the judge takes two photos for one person; by default
            that of the judge's card, where it has one. See `same_person`.
        keep: Let photos of somebody else count.
        detector: YuNet's file, if not in the usual places.
        progress: Called as ``("photos", photos done, photos)``.

    Raises:
        UserError: There is no photo, or fewer than two of a person count, or no two photos show the
            same person. Of several people, those without two photos are left out with a notice.
    """
    if threshold is None and judge is not None and judge.name in entries():
        threshold = entries()[judge.name].pair_threshold
    listed = _listed(photos)
    total, done = sum(map(len, listed.values())), 0
    people, errors = [], []
    for name, paths in listed.items():

        def counted(stage: str, at: int, _: int, before: int = done) -> None:
            progress(stage, before + at, total)

        try:
            # Of copies the shortest name counts, as in face sets.
            paths = sorted(paths, key=lambda path: (len(path.name), path.name))
            looked = look_at(paths, detector, counted)
            people.append(_person(name, looked, judge, threshold, keep))
        except UserError as error:
            if len(listed) == 1:
                raise
            errors.append(error)
        done += len(paths)
    if not people:
        raise errors[0]
    for mistake in errors:
        notice(f"{mistake} This person is left out.")
    return people


# Which files --------------------------------------------------------------------------------------


def _listed(photos: Path | str | Sequence[Path | str]) -> Mapping[str, Sequence[Path]]:
    """The files of each person, pictures or not, by the person's name."""
    if not isinstance(photos, str | Path):
        paths = [Path(path) for path in photos]
        for path in paths:
            if not path.is_file():
                got = "a folder" if path.is_dir() else "nothing there"
                raise UserError(f"The photos must be files, or one folder. Got '{path}': {got}.")
        parents = {path.resolve().parent.name for path in paths}
        people = {parents.pop() if len(parents) == 1 else "person": paths}
    else:
        root = Path(photos)
        if root.is_file():
            people = {root.resolve().parent.name: [root]}
        elif not root.is_dir():
            raise UserError(f"The photos must be a folder of photographs. Got '{root}', not there.")
        else:
            people = _in_folder(root)
    people = {printable(name): files for name, files in people.items() if any(map(_picture, files))}
    if not people:
        raise UserError(
            f"The photos must be photographs of a person. Got '{photos}', which holds none."
        )
    return people


def listed_files(photos: Path | str | Sequence[Path | str]) -> list[Path]:
    """The files that are named, and the pictures of the folders that are named.

    Raises:
        UserError: One is not there, or there is no picture.
    """
    files: list[Path] = []
    for path in map(Path, [photos] if isinstance(photos, str | Path) else photos):
        if path.is_dir():
            files += [file for file in visible(path) if file.is_file() and _picture(file)]
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"The photos must be files or folders. Got '{path}', not there.")
    if not files:
        raise UserError("The photos must be photographs. Got folders that hold none.")
    return files


def _in_folder(root: Path) -> dict[str, list[Path]]:
    files = [path for path in visible(root) if path.is_file()]
    if any(map(_picture, files)):
        return {root.resolve().name: files}
    folders = [path for path in visible(root) if path.is_dir()]
    return {path.name: [file for file in visible(path) if file.is_file()] for path in folders}


def _picture(path: Path) -> bool:
    return path.suffix.lower() in suffixes()


# Which faces --------------------------------------------------------------------------------------


def look_at(
    paths: Sequence[Path], detector: Path | None = None, progress: Progress = silent
) -> list[Looked]:
    """Every file with its faces, or the reason why it has none; by several threads.

    Pictures that are aligned crops already, all of 112x112 pixels, are taken as they are.

    Args:
        paths: The files; names without one of the suffixes of pictures are not opened.
        detector: YuNet's file, if not in the usual places.
        progress: Called as ``("photos", files done, files)``.

    Raises:
        UserError: YuNet is not here.
    """
    sizes = {upright_size(path) for path in paths if _picture(path)} - {None}
    crops = sizes <= {(FRAME_SIDE, FRAME_SIDE)}
    model = None if crops else detector_model(detector)
    # A detector holds state while it runs, and making one takes longer than using it.
    threads = threading.local()

    def look(path: Path) -> Looked:
        if model is not None and not hasattr(threads, "detector"):
            threads.detector = FaceDetector(model)
        return _look(path, getattr(threads, "detector", None))

    looked: list[Looked] = []
    with tamed_libraries(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for file in pool.map(look, paths):
            looked.append(file)
            progress("photos", len(looked), len(paths))
    return looked


def _look(path: Path, detector: FaceDetector | None) -> Looked:
    row = IndexRow("", path.name, printable(str(path)))
    try:
        if not _picture(path):
            raise UnusableImage(path.name, kind_of_file(path.suffix))
        data = read_file(path.parent, Entry("", path.name, path.name))
        image = decode_rgb(data, path.name)
        if detector is None:
            landmarks = tuple(ARCFACE_TEMPLATE.ravel().tolist())
            made = Made((replace(row, landmarks=landmarks),), (image,))
        else:
            made = aligned_faces(Entry("", path.name, str(path)), image, detector)
    except UnusableImage as error:
        return Looked(path, (replace(row, reason=error.reason),))
    digest = hashlib.sha256(data).hexdigest()
    size = upright_size(BytesIO(data)) or (image.shape[0], image.shape[1])
    # The faces were found on a copy that is smaller by a whole factor where the photo is large.
    factor = max(1, round(max(size) / max(image.shape)))
    faces = zip(made.rows, made.frames, strict=True)
    photos = tuple(_photo(path, digest, size, factor, row, crop) for row, crop in faces)
    return Looked(path, made.rows, photos)


def _photo(
    path: Path,
    digest: str,
    size: tuple[int, int],
    factor: int,
    row: IndexRow,
    crop: UInt8[np.ndarray, "112 112 3"],
) -> Photo:
    landmarks = (np.reshape(row.landmarks or (), (5, 2)) + 0.5) * factor - 0.5
    return Photo(
        name=printable(path.stem),
        path=path,
        digest=digest,
        size=size,
        crop=crop,
        matrix=similarity_transform(landmarks, ARCFACE_TEMPLATE),
        landmarks=landmarks,
        faces=row.faces,
    )


def named(photos: Sequence[Photo]) -> list[Photo]:
    """The photos with names that are unique.

    The file's name without its suffix; where that is another one's, too, with it; then with the
    folder's name before it; then with a number.
    """
    names = [photo.path.stem for photo in photos]
    for choice in range(3):
        twice = {name for name in names if names.count(name) > 1}
        for number, photo in enumerate(photos):
            path = photo.path
            longer = (path.name, f"{path.parent.name} {path.name}", f"{path.name} {number + 1}")
            if names[number] in twice:
                names[number] = longer[choice]
    names = [printable(name) for name in names]
    return [replace(photo, name=name) for photo, name in zip(photos, names, strict=True)]


# Which photos -------------------------------------------------------------------------------------


def _person(
    name: str, looked: Sequence[Looked], judge: Judge | None, threshold: float | None, keep: bool
) -> PersonPhotos:
    left_out = [(file.path, file.reason) for file in looked if file.reason is not None]
    files: dict[str, Looked] = {}
    for file in (file for file in looked if file.reason is None):
        first = files.setdefault(file.candidates[0].digest, file)
        if first is not file:
            left_out.append((file.path, f"{SAME_FILE} {first.path.name}"))
    usable = list(files.values())
    faces = _settled(usable, judge)
    photos = named([file.candidates[face] for file, (_, face) in zip(usable, faces, strict=True)])
    rows = {photo: row for photo, (row, _) in zip(photos, faces, strict=True)}
    photos, copies = _without_copies(photos)
    left_out += copies
    doubts: list[str] = []
    if judge is not None and len(photos) >= LEAST:
        others, doubts = _others(name, photos, judge, threshold, keep)
        left_out += [(photo.path, STRANGER) for photo in others]
        photos = [photo for photo in photos if photo not in others]
    if len(photos) < LEAST:
        raise _too_few(name, photos, left_out)
    photos.sort(key=lambda photo: photo.name)
    remarks = _remarks(photos, [rows[photo] for photo in photos], judge)
    return PersonPhotos(name, tuple(photos), tuple(sorted(left_out)), (*remarks, *doubts))


def _others(
    name: str, photos: Sequence[Photo], judge: Judge, threshold: float | None, keep: bool
) -> tuple[list[Photo], list[str]]:
    """Photos of somebody else to leave out, and sentences about those that are kept."""
    embeddings = judge.embed(np.stack([photo.crop for photo in photos]))
    outside = somebody_else(embeddings, threshold)
    if outside is None and not keep:
        raise UserError(
            f"The photos must show one person. Got {len(photos)} of '{name}', and {judge.name}"
            " cannot tell whom: no two of them agree, or two groups are equally large. Remove"
            " photos of others, or keep all with --keep."
        )
    if outside is None:
        outside = np.ones(len(photos), bool)
    strange = [photos[number] for number in np.flatnonzero(outside).tolist()]
    if keep and strange:
        doubt = f"{judge.name} doubts that all photos show the same person; kept, as you asked."
        return [], [f"{_names(strange)}: {doubt}"]
    rest = np.flatnonzero(~outside)
    apart = somebody_else(embeddings[rest])
    less = [] if apart is None else [photos[number] for number in rest[apart].tolist()]
    if not less:
        return strange, []
    doubt = (
        f"{judge.name} finds them less like the other photos than those are like each other. Look"
        " whether they show the same person: it may be somebody of the family."
    )
    return strange, [f"{_names(less)}: {doubt}"]


def _settled(usable: Sequence[Looked], judge: Judge | None) -> list[tuple[IndexRow, int]]:
    """Which face of each photo counts: its row and its number."""

    class Memory:
        def frame(self, location: FrameLocation) -> UInt8[np.ndarray, "h w 3"]:
            return usable[location.chunk].frame(location)

    faces: list[Faces] = [
        [(row, FrameLocation(number, face)) for face, row in enumerate(file.rows)]
        for number, file in enumerate(usable)
    ]
    chosen = settled(faces, Memory(), judge) if judge else [face[0] for face in faces]
    return [(row, location.slot) for row, location in chosen if location is not None]


def _without_copies(photos: Sequence[Photo]) -> tuple[list[Photo], list[tuple[Path, str]]]:
    """Of near-equal crops the one of the largest face counts, the first among equals."""
    if not photos:
        return [], []
    groups = near_equal(np.stack([photo.crop for photo in photos]))
    best: dict[int, Photo] = {}
    for photo, group in zip(photos, groups.tolist(), strict=True):
        before = best.setdefault(group, photo)
        if _scale(photo) < _scale(before):
            best[group] = photo
    kept = [p for p, group in zip(photos, groups.tolist(), strict=True) if best[group] is p]
    copies = [
        (photo.path, f"{SAME_PICTURE} {best[group].path.name}")
        for photo, group in zip(photos, groups.tolist(), strict=True)
        if best[group] is not photo
    ]
    return kept, copies


def _scale(photo: Photo) -> float:
    """Pixels of the crop for each of the photo: small for a large face."""
    return float(np.sqrt(np.linalg.det(photo.matrix[:, :2])))


# Sentences ----------------------------------------------------------------------------------------


def _remarks(photos: Sequence[Photo], rows: Sequence[IndexRow], judge: Judge | None) -> list[str]:
    by_reason = {
        why: [photo for photo, row in zip(photos, rows, strict=True) if why in row.check]
        for why in (AGREES, SEVERAL, TURNED, LOW_SCORE)
    }
    sentences = {
        AGREES: "not the likeliest face counts but the one that agrees with the other photos by "
        f"{judge.name if judge else ''}.",
        SEVERAL: "several faces it may be of"
        + (", and none agrees clearly more with the other photos" if judge else "")
        + ": the likeliest by size, place and score counts. Look whether it is the right one.",
        TURNED: "the photo lay on its side or head and was turned.",
        LOW_SCORE: "the face was found with a low score. Look whether it is one.",
    }
    remarks = [
        f"{_names(by_reason[why])}: {text}" for why, text in sentences.items() if by_reason[why]
    ]
    if photos and all(photo.faces is None for photo in photos):
        remarks.append(
            f"The photos have {FRAME_SIDE}x{FRAME_SIDE} pixels and are taken as aligned crops, as"
            " they are."
        )
    return remarks


def _names(photos: Sequence[Photo]) -> str:
    names = [printable(photo.path.name) for photo in photos]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _too_few(name: str, photos: Sequence[Photo], left_out: Sequence[tuple[Path, str]]) -> UserError:
    reasons = "; ".join(f"{printable(path.name)}: {reason}" for path, reason in left_out[:3])
    more = f"; and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    because = f" Left out: {reasons}{more}." if reasons else ""
    return UserError(
        f"A person needs {LEAST} usable photos or more. Got {len(photos)} of '{name}'.{because}"
    )
