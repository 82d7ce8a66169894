"""Patch-LFW: patches of somebody else in one photo of each pair (Protocol: truth-on-real-faces).

After Huber et al. (2024, arXiv:2304.13409): what a map should show of a non-mated pair are the
patches of the partner, and of a mated pair everything but the patches of a stranger.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from facefocus.core.progress import Progress
from facefocus.core.seeds import generator
from facefocus.faces.align import FRAME_SIDE
from facefocus.faces.faceset import FaceSet, PairList, Pairs, read_pairs
from facefocus.faces.pair_truth import EditedPair, check_source, drawn_triplets, write_pair_faces
from facefocus.faces.sources import DerivedSource

#: How many patches, their side in pixels, and the largest position of an upper left corner.
PATCHES, SIDE, LAST = 27, 16, 95


def patch_pixels(rng: np.random.Generator) -> Bool[np.ndarray, "112 112"]:
    """The pixels of `PATCHES` squares, which may overlap; the last row and column are in none."""
    pixels = np.zeros((FRAME_SIDE, FRAME_SIDE), bool)
    for top, left in rng.integers(0, LAST + 1, (PATCHES, 2)):
        pixels[top : top + SIDE, left : left + SIDE] = True
    return pixels


def make_patches(
    faces: FaceSet, out: Path, *, count: int | None, seed: int, progress: Progress
) -> bool:
    """Write the face set of patched pairs to `out`; whether it had to be made.

    Args:
        faces: Crops of 112x112 pixels, best with a verification list.
        out: A new folder.
        count: Pairs, at most; None for all.
        seed: Of every draw.
        progress: Called as ``("write", images done, images)``.

    Raises:
        UserError: Faces of another size, too few people, or a folder that cannot be used.
    """
    check_source(faces)
    listed = _pairs(faces, seed)
    chosen = np.arange(len(listed.mated))
    if count is not None and count < len(chosen):
        # As evenly mated as the list is, and the pairs of a smaller count among those of a larger.
        order = generator(seed, "patched pairs").permutation(len(chosen))
        chosen = np.sort(order[:count])
    people = np.unique(faces.identities, return_index=True, return_counts=True)
    pairs = [_edited(faces, people, listed, int(index), seed) for index in chosen]
    names = "\n".join(f"{pair.edited} {pair.reference}" for pair in pairs)
    return write_pair_faces(
        out,
        faces,
        pairs,
        kind="patches",
        title=f"patch-{faces.title}",
        listed=PairList(
            first=tuple(pair.edited for pair in pairs),
            second=tuple(pair.reference for pair in pairs),
            mated=tuple(pair.mated for pair in pairs),
            fold=tuple(int(listed.fold[index]) for index in chosen),
            sha256=hashlib.sha256(names.encode()).hexdigest(),
        ),
        settings={"patches": PATCHES, "side": SIDE, "count": count, "seed": seed, "version": 1},
        progress=progress,
    )


def _pairs(faces: FaceSet, seed: int) -> Pairs:
    """The verification list, or pairs of everybody who has two photos."""
    listed = None if faces.folder is None else read_pairs(faces.folder)
    if listed is not None and len(listed.mated):
        return listed
    drawn = drawn_triplets(faces, seed)
    second = [row for triplet in drawn for row in (triplet.mate, triplet.donor)]
    return Pairs(
        first=np.repeat([triplet.probe for triplet in drawn], 2),
        second=np.array(second, np.int64),
        mated=np.tile([True, False], len(drawn)),
        fold=np.zeros(2 * len(drawn), np.int64),
        missing=0,
    )


#: Names, first rows and numbers of photos.
_People = tuple[np.ndarray, np.ndarray, np.ndarray]


def _edited(faces: FaceSet, people: _People, listed: Pairs, index: int, seed: int) -> EditedPair:
    first, second = int(listed.first[index]), int(listed.second[index])
    original, reference = str(faces.names[first]), str(faces.names[second])
    rng = generator(seed, "patches", original, reference)
    mated = bool(listed.mated[index])
    donor = _stranger(people, str(faces.identities[first]), rng) if mated else second
    return EditedPair(
        explained=f"{original}~{index:05d}",
        reference=reference,
        original=original,
        donor=str(faces.names[donor]),
        mated=mated,
        part="patches",
        edited=f"{original}~{index:05d}",
        identity=str(faces.identities[first]),
        make=partial(_patched, faces, first, donor, patch_pixels(rng)),
    )


def _stranger(people: _People, person: str, rng: np.random.Generator) -> int:
    """A random photo of a random person but `person`."""
    names, start, counts = people
    other = int(rng.choice(np.flatnonzero(names != person)))
    return int(start[other] + rng.integers(counts[other]))


def _patched(
    faces: FaceSet, row: int, donor: int, pixels: Bool[np.ndarray, "h w"]
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    frames = faces.frames
    return np.where(pixels[..., None], frames[donor], frames[row]), pixels


PATCH_LFW = DerivedSource(
    name="patch-lfw",
    help="Pairs of a face set with patches of another person: the truth about maps is known.",
    make=make_patches,
    seed=3,
)
