"""Face sets of edited photographs: pairs of which it is known which pixels speak for a match.

Protocol: truth-on-real-faces. Such a set is made of a face set (`sources.DerivedSource`) and holds
the edited images, the photographs that they are made of, and beside them ``pair-truth.npz``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8

from facefocus.core.errors import UserError, one_line
from facefocus.core.files import atomic_file, writing
from facefocus.core.locations import relative
from facefocus.core.progress import Progress
from facefocus.core.seeds import generator
from facefocus.faces.align import FRAME_SIDE
from facefocus.faces.faceset import (
    MANIFEST,
    FaceSet,
    IndexRow,
    PairList,
    open_faceset,
    read_manifest,
    write_faceset,
)

#: The file beside the frames.
PAIR_TRUTH = "pair-truth.npz"

Kind = Literal["patches", "transplants"]


@dataclass(frozen=True, eq=False)
class PairTruth:
    """Pairs with a truth; all rows are rows of the face set's frames.

    Attributes:
        kind: What was done: patches of another image, or a part of somebody else's face.
        explained: The image that is explained.
        reference: What it is compared with.
        edited: The image with foreign pixels: the explained one (patches), or the reference with
            somebody else's part (transplants).
        original: `edited` as it was.
        donor: Where the foreign pixels are from.
        mated: Whether explained image and reference show one person.
        part: Which part is foreign; ``patches``.
        truth: The pixels of the explained image that speak for a match (patches), or that make
            the difference between reference and edited image (transplants).
    """

    kind: Kind
    explained: Int[np.ndarray, " p"]
    reference: Int[np.ndarray, " p"]
    edited: Int[np.ndarray, " p"]
    original: Int[np.ndarray, " p"]
    donor: Int[np.ndarray, " p"]
    mated: Bool[np.ndarray, " p"]
    part: Shaped[np.ndarray, " p"]
    truth: Bool[np.ndarray, "p h w"]

    def __len__(self) -> int:
        return len(self.mated)

    @property
    def compared(self) -> Int[np.ndarray, " p"]:
        """What the edited image is compared with: the other image of the pair."""
        return self.reference if self.kind == "patches" else self.explained

    def at(self, indices: Int[np.ndarray, " n"]) -> PairTruth:
        """Some of the pairs, in this order."""
        chosen = {name: getattr(self, name)[indices] for name in _ARRAYS}
        return PairTruth(self.kind, **chosen)


_ARRAYS = tuple(field.name for field in fields(PairTruth) if field.name != "kind")
_ROWS = ("explained", "reference", "edited", "original", "donor")


@dataclass(frozen=True)
class EditedPair:
    """One pair of a set that is being made; images by name.

    Attributes:
        explained, reference, original, donor, mated, part: As of `PairTruth`.
        edited: The name of the edited image.
        identity: Whom the edited image counts as.
        make: Returns its frame and the foreign pixels of it.
    """

    explained: str
    reference: str
    original: str
    donor: str
    mated: bool
    part: str
    edited: str
    identity: str
    make: Callable[[], tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]]


def check_source(faces: FaceSet) -> None:
    """Refuse faces that no set with a truth can be made of.

    Raises:
        UserError: They are no crops of 112x112 pixels, of one person alone, or such a set
            themselves.
    """
    size = faces.frames.shape[1:3]
    if size != (FRAME_SIDE, FRAME_SIDE):
        raise UserError(
            "Pairs with a truth are made of 'arcface112' crops, of 112x112 pixels. Got frames of"
            f" {size[0]}x{size[1]} in '{faces.title}'. Prepare the faces with --crop arcface112."
        )
    if faces.folder is not None and (faces.folder / PAIR_TRUTH).is_file():
        raise UserError(
            "Pairs with a truth are made of photographs. Got"
            f" '{faces.folder}', which holds edited ones. Name the face set it was made of."
        )
    if len(np.unique(faces.identities)) < 2:
        raise UserError(f"Pairs with a truth need two people or more. Got one in '{faces.title}'.")


@dataclass(frozen=True)
class Triplet:
    """Two photos of one person and a photo of another one; rows of the face set."""

    probe: int
    mate: int
    donor: int


def drawn_triplets(faces: FaceSet, seed: int) -> list[Triplet]:
    """Of everybody with two photos or more, two of them and a photo of a random other person.

    In random order, which depends, as the draws do, on the seed and names alone.

    Raises:
        UserError: Nobody has two photos.
    """
    names, start, counts = np.unique(faces.identities, return_index=True, return_counts=True)
    several = np.flatnonzero(counts >= 2)
    if not len(several):
        raise UserError(
            f"Pairs with a truth need people with two photos. Got none in '{faces.title}'."
        )
    drawn = []
    for person in several:
        rng = generator(seed, "triplet", str(names[person]))
        first, second = rng.choice(counts[person], 2, replace=False)
        other = (person + rng.integers(1, len(names))) % len(names)
        donor = start[other] + rng.integers(counts[other])
        triplet = Triplet(int(start[person] + first), int(start[person] + second), int(donor))
        drawn.append((rng.random(), str(names[person]), triplet))
    return [triplet for *_, triplet in sorted(drawn, key=lambda item: item[:2])]


# Writing ------------------------------------------------------------------------------------------


def write_pair_faces(
    out: Path,
    faces: FaceSet,
    pairs: Sequence[EditedPair],
    *,
    kind: Kind,
    title: str,
    listed: PairList,
    settings: Mapping[str, object],
    progress: Progress,
) -> bool:
    """Write the face set of some edited pairs; whether it had to be made.

    Args:
        out: The folder, made if absent.
        faces: What the set is made of.
        pairs: The pairs, edited images of different names.
        kind: See `PairTruth`.
        title: What the set is called.
        listed: Its verification list.
        settings: All that it depends on besides `faces`.
        progress: Called as ``("write", images done, images)``.

    Raises:
        UserError: The folder holds something else, or cannot be written.
    """
    origin = "" if faces.folder is None else relative(faces.folder, out)
    note = f"{len(pairs)} of the images are edited; what is true of each: {out / PAIR_TRUTH}"
    record = {"source": faces.hash, "settings": dict(settings), "notes": [note], "faces": origin}
    if _made_before(out, record):
        return False
    images = {pair.edited: (pair.identity, pair) for pair in pairs}
    rows = {str(name): row for row, name in enumerate(faces.names)}
    used = {name for p in pairs for name in (p.explained, p.reference, p.original, p.donor)}
    originals = {name: (str(faces.identities[rows[name]]), None) for name in used - images.keys()}
    every = sorted((who, name, pair) for name, (who, pair) in (images | originals).items())
    row_of = {name: row for row, (_, name, _) in enumerate(every)}
    truth = {pair.edited: np.zeros(0, np.uint8) for pair in pairs}

    def frames() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for done, (_, name, pair) in enumerate(every, start=1):
            if pair is None:
                yield np.asarray(faces.frames[rows[name]])
            else:
                frame, foreign = pair.make()
                shown = ~foreign if kind == "patches" and pair.mated else foreign
                truth[name] = np.packbits(shown, axis=-1)
                yield frame
            progress("write", done, len(every))
        # Before the manifest, which marks the set as complete.
        with atomic_file(out / PAIR_TRUTH) as file:
            np.savez_compressed(file, allow_pickle=False, **_arrays(kind, pairs, row_of, truth))

    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        write_faceset(
            out,
            title=title,
            rows=[IndexRow(who, name, name) for who, name, _ in every],
            frames=frames(),
            size=(FRAME_SIDE, FRAME_SIDE),
            pairs=listed,
            record=record,
        )
    return True


def _made_before(out: Path, record: Mapping[str, object]) -> bool:
    """Whether the set is there; refuses a folder that holds anything else."""
    with writing(out):
        present = sorted(p.name for p in out.iterdir()) if out.exists() else []
    strange = [name for name in present if not name.startswith(".")]
    if MANIFEST not in strange:
        # What an interrupted run left is written anew.
        known = {"frames.npy", "index.parquet", "pairs.parquet", PAIR_TRUTH}
        left = [name for name in strange if name not in known]
        if left:
            raise UserError(
                f"The folder '{out}' must be new, empty or a face set. Got one that holds"
                f" '{left[0]}'."
            )
        return False
    manifest = read_manifest(out)
    made = {name: manifest["record"].get(name) for name in ("source", "settings")}
    if made != {name: record[name] for name in made}:
        raise UserError(
            f"'{out}' holds the face set '{manifest['title']}', made of other faces or with other"
            " settings. Delete it or choose another folder."
        )
    open_faceset(out)
    return True


def _arrays(
    kind: Kind,
    pairs: Sequence[EditedPair],
    row_of: dict[str, int],
    truth: dict[str, UInt8[np.ndarray, "h b"]],
) -> dict[str, np.ndarray]:
    rows = {
        name: np.array([row_of[getattr(pair, name)] for pair in pairs], np.int64) for name in _ROWS
    }
    return {
        "kind": np.array(kind),
        **rows,
        "mated": np.array([pair.mated for pair in pairs], bool),
        "part": np.array([pair.part for pair in pairs], np.str_),
        "truth": np.stack([truth[pair.edited] for pair in pairs]),
    }


# Reading ------------------------------------------------------------------------------------------


def read_pair_truth(folder: Path) -> PairTruth:
    """The pairs of a face set and their truth.

    Raises:
        UserError: The face set has none, or they cannot be read.
    """
    path = folder / PAIR_TRUTH
    if not path.is_file():
        raise UserError(
            f"The face set must have pairs with a truth ({PAIR_TRUTH}). Got '{folder}'. Make one"
            " by 'facefocus prepare patch-lfw' or 'facefocus prepare transplant'."
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _ARRAYS}
            arrays["truth"] = np.unpackbits(arrays["truth"], axis=-1).astype(bool)
            kind: Kind = "patches" if str(stored["kind"]) == "patches" else "transplants"
            return PairTruth(kind, **arrays)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(
            f"'{path}' cannot be read: {one_line(error)}. Delete the folder and run prepare again."
        ) from error
