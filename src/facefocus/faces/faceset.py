"""A face set: aligned crops of known people, in a folder that is memory-mapped.

The folder holds ``frames.npy`` (uint8 [n,H,W,3], read memory-mapped), ``index.parquet`` (one row
for every source image, also for those that could not be used, with the reason),
``pairs.parquet`` if the set has a verification list, ``check.csv`` with the images that somebody
should look at, if there are any, and ``manifest.json``. The manifest is written last, so a folder
with a manifest is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64, Shaped, UInt8

from facefocus.core.errors import UserError, did_you_mean, one_line
from facefocus.core.files import atomic_file, sweep
from facefocus.core.seeds import generator

FORMAT = 1
FRAMES = "frames.npy"
INDEX = "index.parquet"
PAIRS = "pairs.parquet"
CHECK = "check.csv"
MANIFEST = "manifest.json"

#: Columns of the index that hold the landmarks, in the order of `align.ARCFACE_TEMPLATE`.
LANDMARK_COLUMNS = tuple(
    f"{point}_{axis}"
    for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    for axis in ("x", "y")
)
CHECK_COLUMNS = ("identity", "name", "path", "check", "score", "faces", "turned")
BOX_COLUMNS = ("box_x", "box_y", "box_width", "box_height")
INDEX_SCHEMA: dict[str, Any] = {
    "identity": pl.String,
    "name": pl.String,
    "row": pl.Int64,
    **dict.fromkeys((*LANDMARK_COLUMNS, *BOX_COLUMNS), pl.Float64),
    "turned": pl.Int64,
    "score": pl.Float64,
    "faces": pl.Int64,
    "path": pl.String,
    "reason": pl.String,
    "check": pl.String,
}
PAIR_SCHEMA: dict[str, Any] = {
    "fold": pl.Int64,
    "first": pl.Int64,
    "second": pl.Int64,
    "mated": pl.Boolean,
}


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Aligned crops of known people.

    Attributes:
        frames: RGB, 0-255, memory-mapped read-only where it comes from a folder.
        identities: Who each frame shows.
        names: Unique name of each image, e.g. ``"Abel_Pacheco_0001"``.
        title: What the set is called, e.g. ``"lfw"``.
        hash: sha256 over frames, identities and names, hexadecimal.
        folder: Where it comes from; None for a set in memory.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    identities: Shaped[np.ndarray, " n"]
    names: Shaped[np.ndarray, " n"]
    title: str
    hash: str
    folder: Path | None = None

    def __repr__(self) -> str:
        count, height, width, _ = self.frames.shape
        people = len(np.unique(self.identities))
        return f"FaceSet '{self.title}': {count} images of {people} people, {height}x{width}"


@dataclass(frozen=True, eq=False)
class Pairs:
    """A verification list.

    Attributes:
        first: Rows into the frames.
        second: Rows into the frames.
        mated: Whether both show the same person.
        fold: 0-based fold of each pair.
        missing: Pairs of the list left out because an image of theirs is not in the set.
    """

    first: Int64[np.ndarray, " p"]
    second: Int64[np.ndarray, " p"]
    mated: Bool[np.ndarray, " p"]
    fold: Int64[np.ndarray, " p"]
    missing: int


@dataclass(frozen=True, eq=False)
class Identity:
    """One person: the name, and the ascending rows of the person's frames."""

    name: str
    rows: Int64[np.ndarray, " m"]


@dataclass(frozen=True)
class PairList:
    """A verification list by image names, before it is known which images can be used.

    Attributes:
        sha256: Of the file.
        people: Who the images show.
        left_out: Pairs of the file that are not among these, and why; sentences for the user.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    mated: tuple[bool, ...]
    fold: tuple[int, ...]
    sha256: str
    people: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class IndexRow:
    """The index row of one source image; a `reason` says why it has no frame.

    Attributes:
        path: Where the image lies inside its source.
        faces: How many faces were found; None where none was looked for.
        score: The detector's score of the face that was used.
        landmarks: The 10 values of `LANDMARK_COLUMNS`, in pixels of the decoded picture.
        box: x, y, width and height of the face, in the same pixels.
        turned: Degrees counter-clockwise by which the picture had to be turned.
        check: Why somebody should look whether it is the right face.
    """

    identity: str
    name: str
    path: str
    reason: str | None = None
    faces: int | None = None
    score: float | None = None
    landmarks: tuple[float, ...] | None = None
    box: tuple[float, ...] | None = None
    turned: int | None = None
    check: tuple[str, ...] = ()


def make_faceset(
    frames: UInt8[np.ndarray, "n h w 3"],
    identities: Sequence[str],
    names: Sequence[str],
    title: str,
) -> FaceSet:
    """A face set in memory, with the same hash as the same set in a folder.

    Raises:
        ValueError: Not as many identities and names as frames, or a name twice.
    """
    if not len(frames) == len(identities) == len(names) == len(set(names)):
        raise ValueError("Every frame needs one identity and one name of its own.")
    digest = _start_hash(frames.shape)
    for frame in frames:
        digest.update(np.ascontiguousarray(frame).data)
    return FaceSet(
        frames=frames,
        identities=np.array(identities, dtype=np.str_),
        names=np.array(names, dtype=np.str_),
        title=title,
        hash=_finish_hash(digest, identities, names),
    )


def _start_hash(shape: Sequence[int]) -> hashlib._Hash:
    return hashlib.sha256(f"facefocus faces {list(shape)}\n".encode())


def _finish_hash(digest: hashlib._Hash, identities: Sequence[str], names: Sequence[str]) -> str:
    digest.update("\0".join(chain(identities, names)).encode())
    return digest.hexdigest()


# Writing ------------------------------------------------------------------------------------------


def write_faceset(
    folder: Path,
    *,
    title: str,
    rows: Sequence[IndexRow],
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    size: tuple[int, int],
    pairs: PairList | None = None,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write a face set; the same arguments give the same bytes, but for the times of its files.

    Args:
        folder: Exists already.
        title: What the set is called.
        rows: Every source image, sorted by identity and name, names unique.
        frames: The frame of each row without a reason, in the order of `rows`; read once.
        size: Height and width of the frames.
        pairs: The verification list.
        record: How the set was made; goes into the manifest under ``"record"``.

    Raises:
        ValueError: Rows out of order, a name twice, or not as many frames as usable rows.
        OSError: The folder cannot be written.
    """
    if any((a.identity, a.name) >= (b.identity, b.name) for a, b in pairwise(rows)):
        raise ValueError("The rows of a face set must be sorted by identity and name.")
    index = _index_table(rows)
    used = index.filter(pl.col("row").is_not_null())
    if used["name"].n_unique() != len(used):
        raise ValueError("The image names of a face set must be unique.")
    shape = (len(used), *size, 3)
    digest = _start_hash(shape)
    sweep(folder)
    files = {FRAMES: _write_frames(folder / FRAMES, frames, shape, digest)}
    files[INDEX] = _write_table(folder / INDEX, index)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "title": title,
        "hash": _finish_hash(digest, used["identity"].to_list(), used["name"].to_list()),
        "frames": list(shape),
        "counts": _counts(index, used),
        "pairs": None,
    }
    if pairs is not None:
        table = _pair_table(pairs, dict(zip(used["name"], used["row"], strict=True)))
        files[PAIRS] = _write_table(folder / PAIRS, table)
        listed = len(pairs.first)
        manifest["pairs"] = {
            "listed": listed,
            "missing": listed - len(table),
            "sha256": pairs.sha256,
        }
    checked = used.filter(pl.col("check").is_not_null()).select(CHECK_COLUMNS)
    if len(checked):
        files[CHECK] = _write_file(folder / CHECK, checked.write_csv().encode())
    for name, stamp in files.items():
        stamp["mtime_ns"] = (folder / name).stat().st_mtime_ns
    manifest["files"] = files
    manifest["record"] = dict(record or {})
    with atomic_file(folder / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=2, ensure_ascii=False).encode() + b"\n")


def _index_table(rows: Sequence[IndexRow]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in INDEX_SCHEMA}
    position = 0
    for row in rows:
        landmarks = row.landmarks or (None,) * len(LANDMARK_COLUMNS)
        box = row.box or (None,) * len(BOX_COLUMNS)
        values = (
            *(row.identity, row.name, position if row.reason is None else None),
            *landmarks,
            *box,
            *(row.turned, row.score, row.faces, row.path, row.reason),
            "; ".join(row.check) or None,
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        position += row.reason is None
    return pl.DataFrame(columns, schema=INDEX_SCHEMA)


def _write_frames(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    shape: tuple[int, ...],
    digest: hashlib._Hash,
) -> dict[str, int | str]:
    header = BytesIO()
    layout = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    whole = hashlib.sha256(header.getvalue())
    count = 0
    with atomic_file(path) as file:
        file.write(header.getvalue())
        for frame in frames:
            if frame.shape != shape[1:]:
                raise ValueError(f"A frame has shape {frame.shape} instead of {shape[1:]}.")
            data = np.ascontiguousarray(frame).data
            file.write(data)
            whole.update(data)
            digest.update(data)
            count += 1
        if count != shape[0]:
            raise ValueError(f"{count} frames were given for {shape[0]} usable rows.")
        size = file.tell()
    return {"bytes": size, "sha256": whole.hexdigest()}


def _write_table(path: Path, table: pl.DataFrame) -> dict[str, int | str]:
    buffer = BytesIO()
    table.write_parquet(buffer)
    return _write_file(path, buffer.getvalue())


def _write_file(path: Path, data: bytes) -> dict[str, int | str]:
    with atomic_file(path) as file:
        file.write(data)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _counts(index: pl.DataFrame, used: pl.DataFrame) -> dict[str, Any]:
    reasons = index["reason"].drop_nulls().to_list()
    checks = [why for whys in used["check"].drop_nulls() for why in whys.split("; ")]
    return {
        "listed": len(index),
        "images": len(used),
        "people": used["identity"].n_unique(),
        "several_faces": int((used["faces"] > 1).sum()),
        "unusable": dict(sorted(Counter(reasons).items())),
        "check": dict(sorted(Counter(checks).items())),
    }


def _pair_table(pairs: PairList, rows: Mapping[str, int]) -> pl.DataFrame:
    known = [
        (fold, rows[first], rows[second], mated)
        for fold, first, second, mated in zip(
            pairs.fold, pairs.first, pairs.second, pairs.mated, strict=True
        )
        if first in rows and second in rows
    ]
    return pl.DataFrame(known, schema=PAIR_SCHEMA, orient="row")


# Reading ------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete face set.

    Raises:
        UserError: No folder, no manifest, or one that this version cannot read.
    """
    if not folder.is_dir():
        raise UserError(f"A face set must be a folder. Got '{folder}'.")
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"'{folder}' is not a complete face set: it has no {MANIFEST}. Run prepare again."
        )
    try:
        manifest = json.loads(path.read_bytes())
        version = manifest["format"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"'{path}' cannot be read: {one_line(error)}. Delete the folder and run prepare again."
        ) from error
    if version != FORMAT:
        raise UserError(
            f"The 'format' of '{path}' must be {FORMAT}. Got {version}. "
            "Use the facefocus version that made it, or prepare it again."
        )
    return dict(manifest)


def open_faceset(folder: Path) -> FaceSet:
    """The face set in a folder; frames stay on the disk until they are used.

    Sizes and times of its files are checked, and the contents of those whose time is another than
    when they were written: copies may be. `check_files` checks all contents.

    Raises:
        UserError: Not a complete face set of this version; says what is wrong.
    """
    manifest = read_manifest(folder)
    for name, file in manifest["files"].items():
        path = folder / name
        status = path.stat() if path.is_file() else None
        size = 0 if status is None else status.st_size
        if status is None or size != file["bytes"]:
            raise UserError(
                f"'{path}' must have {file['bytes']} bytes. Got {size}. "
                "Delete the folder and run prepare again."
            )
        # Sets of older versions have no times.
        if file.get("mtime_ns", status.st_mtime_ns) != status.st_mtime_ns:
            with _readable(folder):
                _check_once(path, status.st_mtime_ns, file["sha256"])
    with _readable(folder):
        frames = np.load(folder / FRAMES, mmap_mode="r", allow_pickle=False)
        index = pl.read_parquet((folder / INDEX).read_bytes(), columns=["identity", "name", "row"])
    used = index.drop_nulls("row").sort("row")
    if list(frames.shape) != manifest["frames"] or len(frames) != len(used):
        raise UserError(f"The frames and the index of '{folder}' do not belong together.")
    return FaceSet(
        frames=frames,
        identities=np.array(used["identity"].to_list(), dtype=np.str_),
        names=np.array(used["name"].to_list(), dtype=np.str_),
        title=str(manifest["title"]),
        hash=str(manifest["hash"]),
        folder=folder,
    )


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The rows of a face set's index, one for every source image.

    Raises:
        UserError: The index cannot be read.
    """
    with _readable(folder):
        return pl.read_parquet((folder / INDEX).read_bytes()).to_dicts()


def read_pairs(folder: Path) -> Pairs | None:
    """The verification list of a face set, or None where it has none.

    Raises:
        UserError: Not a complete face set of this version.
    """
    described = read_manifest(folder)["pairs"]
    if described is None:
        return None
    with _readable(folder):
        table = pl.read_parquet((folder / PAIRS).read_bytes())
    return Pairs(
        first=np.array(table["first"], dtype=np.int64),
        second=np.array(table["second"], dtype=np.int64),
        mated=np.array(table["mated"], dtype=np.bool_),
        fold=np.array(table["fold"], dtype=np.int64),
        missing=int(described["missing"]),
    )


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"The face set '{folder}' cannot be read: {one_line(error)}. "
            "Delete the folder and run prepare again."
        ) from error


def check_files(folder: Path) -> dict[str, str | None]:
    """What is wrong with each file of a face set, by its hash; None where nothing is.

    Raises:
        UserError: There is no face set.
    """
    problems: dict[str, str | None] = {}
    for name, file in read_manifest(folder)["files"].items():
        try:
            with _readable(folder):
                _check_hash(folder / name, file["sha256"])
            problems[name] = None
        except UserError as error:
            problems[name] = str(error)
    return problems


@lru_cache
def _check_once(path: Path, time: int, sha256: str) -> None:
    """`_check_hash`; a file is read once per process while its time is the same."""
    _check_hash(path, sha256)


def _check_hash(path: Path, sha256: str) -> None:
    """Refuse a file of other contents.

    Raises:
        UserError: It differs.
        OSError: It cannot be read.
    """
    with path.open("rb") as opened:
        got = hashlib.file_digest(opened, "sha256").hexdigest()
    if got != sha256:
        raise UserError(
            f"'{path}' was changed: its sha256 must be {sha256}. Got {got}. "
            "Delete the folder and run prepare again."
        )


# Choosing people ----------------------------------------------------------------------------------


def select_identities(
    faces: FaceSet,
    *,
    people: Sequence[str] | None = None,
    count: int | None = None,
    images: tuple[int, int] | None = None,
    max_images: int | None = None,
    exclude: Collection[str] = (),
    seed: int = 0,
) -> list[Identity]:
    """People with at least two images, sorted by name.

    Draws depend on the seed and on the drawn name alone: neither on the order of the set nor on
    who else is in it, and a sample of 20 holds the sample of 10.

    Args:
        faces: The set.
        people: Only these, by name; None takes everybody.
        count: A sample of this many people; None takes all.
        images: Only people with this many images, both ends included.
        max_images: A sample of at most this many images of each person.
        exclude: People or images, by name, left out before anything is counted.
        seed: The experiment's seed.

    Raises:
        UserError: A number out of range, an unknown name, or fewer people than asked for.
    """
    low, high = (2, None) if images is None else images
    _check_selection(count, low, high, max_images)
    known = _identities(faces, exclude)
    candidates = [
        identity
        for identity in known
        if low <= len(identity.rows) and (high is None or len(identity.rows) <= high)
    ]
    if people is not None:
        candidates = _by_name(faces, people, known, candidates)
    if len(candidates) < (count or 1):
        span = f"{low} or more" if high is None else f"{low} to {high}"
        raise UserError(
            f"'{faces.title}' must have {count or 'some'} people with {span} images. "
            f"Got {len(candidates)}."
        )
    if count is not None:
        names = _sample([identity.name for identity in candidates], count, seed, "identities")
        candidates = [identity for identity in candidates if identity.name in names]
    if max_images is not None:
        candidates = [_thinned(faces, identity, max_images, seed) for identity in candidates]
    return candidates


def _by_name(
    faces: FaceSet, people: Sequence[str], known: list[Identity], candidates: list[Identity]
) -> list[Identity]:
    """The named people among the candidates; all of them must be."""
    images = {identity.name: len(identity.rows) for identity in known}
    fitting = {identity.name: identity for identity in candidates}
    for name in people:
        if name not in images:
            raise UserError(
                f"The 'people' of [faces] must be people of '{faces.title}'. Got '{name}'."
                + did_you_mean(name, images)
            )
        if name not in fitting:
            raise UserError(
                f"'{name}' in the 'people' of [faces] must have as many images as asked for, and at"
                f" least 2: a person with one image has no mated pair. '{faces.title}' has"
                f" {images[name]}."
            )
    return [identity for identity in candidates if identity.name in people]


def _check_selection(count: int | None, low: int, high: int | None, maximum: int | None) -> None:
    if count is not None and count < 1:
        raise UserError(f"The 'count' of people must be at least 1. Got {count}.")
    if low < 2 or (high is not None and high < low):
        raise UserError(
            f"The 'images' must be (lowest, highest) with 2 <= lowest <= highest: a person with "
            f"one image has no mated pair. Got ({low}, {high})."
        )
    if maximum is not None and maximum < 2:
        raise UserError(f"The 'max_images' must be at least 2. Got {maximum}.")


def _identities(faces: FaceSet, exclude: Collection[str]) -> list[Identity]:
    known = {*faces.identities.tolist(), *faces.names.tolist()}
    for name in exclude:
        if name not in known:
            raise UserError(
                f"The 'exclude' must name people or images of '{faces.title}'. Got '{name}'."
                + did_you_mean(name, known)
            )
    left_out = list(exclude)
    keep = ~(np.isin(faces.identities, left_out) | np.isin(faces.names, left_out))
    rows = np.flatnonzero(keep)
    order = rows[np.argsort(faces.identities[rows], kind="stable")]
    names, starts = np.unique(faces.identities[order], return_index=True)
    groups = np.split(order.astype(np.int64), starts[1:])
    return [Identity(str(name), group) for name, group in zip(names, groups, strict=False)]


def _sample(names: Sequence[str], count: int, seed: int, purpose: str) -> frozenset[str]:
    """The `count` names with the smallest draws; each name's draw is its own."""
    ranked = sorted((generator(seed, purpose, name).random(), name) for name in names)
    return frozenset(name for _, name in ranked[:count])


def _thinned(faces: FaceSet, identity: Identity, maximum: int, seed: int) -> Identity:
    names = faces.names[identity.rows].tolist()
    kept = _sample(names, maximum, seed, "images")
    return Identity(identity.name, identity.rows[[name in kept for name in names]])
