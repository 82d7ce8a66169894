"""Baselines that know where aligned crops have brows, eyes, nose and mouth (Protocol: baselines).

They look at no face and no recognizer: what a person's map has to beat, if it is to say more than
which part of any face matters.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from facefocus.core.errors import UserError
from facefocus.faces.align import CROP_SIDES, FRAME_SIDE
from facefocus.faces.part_atlas import SEGMENTS, Segment, distance_to
from facefocus.saliency.methods import METHODS, Baseline

#: The segments of each part, and all of them together.
PARTS: dict[str, tuple[Segment, ...]] = dict(SEGMENTS)
PARTS["inner-face"] = tuple(segment for part in PARTS.values() for segment in part)


def atlas_map(part: str, shape: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """Minus the distance to a part, in pixels of the frame: masks grow around it.

    Args:
        part: One of `PARTS`.
        shape: Height and width of the frame: an ``arcface112`` crop, of any size.

    Raises:
        UserError: The frame is no such crop; see `check_frame`.
    """
    check_frame(shape)
    scale = shape[0] / FRAME_SIDE
    # Pixel i of a crop of 112 is centered on (i + 0.5) * scale - 0.5 of the frame.
    segments = (np.array(PARTS[part]) + 0.5) * scale - 0.5
    rows, columns = np.indices(shape).astype(np.float64)
    pixels = np.stack([columns, rows], axis=-1)
    nearness: Float32[np.ndarray, "h w"] = (-distance_to(segments, pixels)).astype(np.float32)
    return nearness


def check_frame(shape: tuple[int, int]) -> None:
    """Refuse frames in which the places of the parts are not known.

    Raises:
        UserError: They are not square, or of the side of ``facenet160`` crops, which follow the
            detector's box, not landmarks.
    """
    height, width = shape
    if height != width or height == CROP_SIDES["facenet160"]:
        raise UserError(
            "The atlas-* baselines know where faces have their parts in 'arcface112' crops only."
            f" Got frames of {height}x{width}. Leave these baselines out, or prepare the faces"
            " with --crop arcface112."
        )


def _add(part: str) -> None:
    def of_part(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        return atlas_map(part, shape)

    METHODS.add(
        f"atlas-{part}", Baseline(f"atlas-{part}", of_part, 1, drawn=False, check=check_frame)
    )


for _part in PARTS:
    _add(_part)
