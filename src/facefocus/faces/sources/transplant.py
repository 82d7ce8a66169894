"""The transplant game: a photo with somebody else's eyes, nose or mouth.

Protocol: truth-on-real-faces. After the inpainting game of Williford, May and Byrne (ECCV 2020,
arXiv:2008.00916): who compares a probe with its mate and with the mate's twin, which differ in one
part alone, can say nothing true about any other pixel.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int, UInt8

from facefocus.core.errors import UserError
from facefocus.core.progress import Progress
from facefocus.faces.align import ARCFACE_TEMPLATE, FRAME_SIDE, similarity_transform
from facefocus.faces.faceset import LANDMARK_COLUMNS, FaceSet, PairList, read_index
from facefocus.faces.pair_truth import (
    EditedPair,
    Triplet,
    check_source,
    drawn_triplets,
    write_pair_faces,
)
from facefocus.faces.part_atlas import parts
from facefocus.faces.sources import DerivedSource

#: The parts that are transplanted: those of the atlas, and the landmarks that are laid on another.
PARTS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "eyes": (("brows", "eyes"), (0, 1)),
    "nose": (("nose",), (2,)),
    "mouth": (("mouth",), (3, 4)),
}
#: Pixels by which the atlas's parts are widened, and over which what is pasted fades out.
MARGIN = 4


@lru_cache
def part_region(part: str) -> Bool[np.ndarray, "112 112"]:
    """The pixels of a part of `PARTS` that a transplant may change."""
    atlas = parts(FRAME_SIDE)
    own: np.ndarray = np.any([atlas[name] for name in PARTS[part][0]], axis=0)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * MARGIN + 1,) * 2)
    region: np.ndarray = cv2.dilate(own.astype(np.uint8), disc) > 0
    region.setflags(write=False)
    return region


def transplanted(
    frame: UInt8[np.ndarray, "h w 3"],
    donor: UInt8[np.ndarray, "h w 3"],
    region: Bool[np.ndarray, "h w"],
    shift: Float64[np.ndarray, "2"],
) -> UInt8[np.ndarray, "h w 3"]:
    """`frame` with the donor's pixels in a region, blended over `MARGIN` pixels inside its rim.

    Args:
        frame: The photo that changes; pixels outside the region stay.
        donor: The other photo.
        region: Where.
        shift: (x, y) by which the donor is moved, edges repeated.
    """
    height, width = region.shape
    moved = cv2.warpAffine(
        donor,
        np.array([[1, 0, shift[0]], [0, 1, shift[1]]]),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    depth = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    weight = np.clip(depth / MARGIN, 0, 1)[..., None].astype(np.float64)
    return np.rint(frame * (1 - weight) + moved * weight).astype(np.uint8)


def make_transplants(
    faces: FaceSet, out: Path, *, count: int | None, seed: int, progress: Progress
) -> bool:
    """Write the face set of twins to `out`; whether it had to be made.

    Args:
        faces: Crops of 112x112 pixels with landmarks.
        out: A new folder.
        count: People, at most; None for all who have two photos.
        seed: Of every draw.
        progress: Called as ``("write", images done, images)``.

    Raises:
        UserError: Faces of another size or without landmarks, too few people, or a folder that
            cannot be used.
    """
    check_source(faces)
    points = crop_landmarks(faces)
    drawn = drawn_triplets(faces, seed)[:count]
    pairs = [_twin(faces, points, triplet, part) for triplet in drawn for part in PARTS]
    mates = {pair.explained: pair.reference for pair in pairs}
    names = "\n".join(f"{pair.explained} {pair.edited}" for pair in pairs)
    settings = {"parts": list(PARTS), "margin": MARGIN, "count": count, "seed": seed, "version": 1}
    return write_pair_faces(
        out,
        faces,
        pairs,
        kind="transplants",
        title=f"transplant-{faces.title}",
        listed=PairList(
            first=(*mates, *(pair.explained for pair in pairs)),
            second=(*mates.values(), *(pair.edited for pair in pairs)),
            mated=(*[True] * len(mates), *[False] * len(pairs)),
            fold=(0,) * (len(mates) + len(pairs)),
            sha256=hashlib.sha256(names.encode()).hexdigest(),
        ),
        settings=settings,
        progress=progress,
    )


def crop_landmarks(faces: FaceSet) -> Float64[np.ndarray, "n 5 2"]:
    """Where the aligned crops of a face set have the five landmarks, (x, y) in pixels.

    Raises:
        UserError: They are not known.
    """
    index = [] if faces.folder is None else read_index(faces.folder)
    rows = sorted((row for row in index if row["row"] is not None), key=lambda row: row["row"])
    coordinates = [[row[column] for column in LANDMARK_COLUMNS] for row in rows]
    missing = sum(None in values for values in coordinates) if rows else len(faces.frames)
    if missing:
        raise UserError(
            f"Transplants need the landmarks of every photo. Got {missing} of"
            f" {len(faces.frames)} without in '{faces.title}'. Prepare the photographs with --align"
            " yunet."
        )
    points = np.array(coordinates, np.float64).reshape(-1, 5, 2)
    matrices = [similarity_transform(own, ARCFACE_TEMPLATE) for own in points]
    placed = [
        own @ matrix[:, :2].T + matrix[:, 2] for own, matrix in zip(points, matrices, strict=True)
    ]
    return np.stack(placed)


def _twin(
    faces: FaceSet, points: Float64[np.ndarray, "n 5 2"], triplet: Triplet, part: str
) -> EditedPair:
    probe, mate, donor = (
        str(faces.names[row]) for row in (triplet.probe, triplet.mate, triplet.donor)
    )
    person, other = (str(faces.identities[row]) for row in (triplet.mate, triplet.donor))
    marks: Int[np.ndarray, " m"] = np.array(PARTS[part][1])
    shift = (points[triplet.mate] - points[triplet.donor])[marks].mean(axis=0)
    return EditedPair(
        explained=probe,
        reference=mate,
        original=mate,
        donor=donor,
        mated=True,
        part=part,
        edited=f"{mate}~{part}~{donor}",
        # Nobody: neither of the two.
        identity=f"{person}~{part}~{other}",
        make=partial(_made, faces, triplet, part_region(part), shift),
    )


def _made(
    faces: FaceSet,
    triplet: Triplet,
    region: Bool[np.ndarray, "h w"],
    shift: Float64[np.ndarray, "2"],
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    frame, donor = (np.asarray(faces.frames[row]) for row in (triplet.mate, triplet.donor))
    return transplanted(frame, donor, region, shift), region


TRANSPLANT = DerivedSource(
    name="transplant",
    help="Photos of a face set with another person's eyes, nose or mouth, and what should be seen.",
    make=make_transplants,
    seed=0,
)
