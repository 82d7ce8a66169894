"""A painted photograph, detected and aligned anew from its file (Protocol: robustness).

Whoever looks for the person gets the file: the mask must hold after another detection, alignment,
compression and reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from facefocus.evaluation.nuisances import nuisance_rng, seen_under
from facefocus.faces.align import align_face
from facefocus.faces.archives import read_file
from facefocus.faces.detect import FaceDetector, find_faces
from facefocus.faces.images import decode_rgb, resized
from facefocus.faces.prepare import Entry
from facefocus.person.photos import Photo

#: What becomes of the saved photograph before it is looked at; ``saved`` is the file as it is.
#: The others are nuisances by name, but for ``half``: it stays at half its resolution.
SAVED, HALF = "saved", "half"
VARIANTS = (SAVED, "jpeg-90", "jpeg-75", "jpeg-50", HALF)

#: A face is the person's where its landmarks lie at most so many pixels of the crop, in the mean,
#: from where they were: the distance of the eyes in the crop.
FARTHEST = 35.0


@dataclass(frozen=True, eq=False)
class Redetected:
    """What is found in a painted photograph.

    Attributes:
        crop: The face, aligned anew, for embedding; None where it is no longer detected.
        shift: How far the five landmarks moved, in pixels of the crop: found now, less before.
        faces: How many faces were found in the photograph.
    """

    crop: UInt8[np.ndarray, "112 112 3"] | None
    shift: Float64[np.ndarray, "5 2"] | None
    faces: int

    @property
    def detected(self) -> bool:
        """Whether the person's face is still found."""
        return self.crop is not None


def redetect(
    file: Path,
    photo: Photo,
    detector: FaceDetector,
    variants: Sequence[str] = VARIANTS,
    seed: int = 0,
) -> dict[str, Redetected]:
    """Find and align the face of a painted photograph again, starting from the saved file.

    Args:
        file: The painted photograph, of the size of the upright original.
        photo: The original, and where the face was.
        detector: Of this thread.
        variants: `SAVED`, `HALF`, or nuisances that change pixels.
        seed: Of nuisances that draw.

    Raises:
        UnusableImage: The file cannot be read.
        UserError: No nuisance has this name.
    """
    pixels = decode_rgb(read_file(file.parent, Entry("", file.name, file.name)), file.name)
    return {
        variant: find_again(_variant(pixels, variant, photo.name, seed), photo, detector)
        for variant in variants
    }


def find_again(
    pixels: UInt8[np.ndarray, "h w 3"], photo: Photo, detector: FaceDetector
) -> Redetected:
    """The person's face in a painted photograph, which may be smaller than the original.

    Of several faces it is the one whose landmarks lie nearest to where they were.
    """
    faces = find_faces(pixels, detector)
    step = np.array(photo.size[::-1]) / pixels.shape[1::-1]
    best: Redetected = Redetected(None, None, len(faces))
    nearest = FARTHEST
    for face in faces:
        moved = (face.landmarks + 0.5) * step - 0.5 - photo.landmarks
        shift = moved @ photo.matrix[:, :2].T
        distance = float(np.linalg.norm(shift, axis=1).mean())
        if distance <= nearest:
            best, nearest = Redetected(align_face(pixels, face), shift, len(faces)), distance
    return best


def _variant(
    pixels: UInt8[np.ndarray, "h w 3"], variant: str, name: str, seed: int
) -> UInt8[np.ndarray, "a b 3"]:
    if variant == SAVED:
        return pixels
    if variant == HALF:
        return resized(pixels, 0.5)
    seen = seen_under(
        variant,
        pixels[None],
        np.zeros(pixels.shape[:2], bool),
        "black",
        hide=lambda _: lambda _: pixels[None],
        rngs=[nuisance_rng(seed, variant, name)],
    )
    return np.asarray(seen[0])
