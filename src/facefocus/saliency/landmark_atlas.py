"""Baselines that know where aligned crops have brows, eyes, nose and mouth (Protocol: baselines).

They look at no face and no recognizer: what a person's map has to beat, if it is to say more than
which part of any face matters.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from facefocus.core.errors import UserError
from facefocus.faces.align import ARCFACE_TEMPLATE, CROP_SIDES, FRAME_SIDE
from facefocus.saliency.methods import METHODS, Baseline

_Point = tuple[float, float]
_Segment = tuple[_Point, _Point]

_LEFT_EYE, _RIGHT_EYE, _NOSE, _LEFT_MOUTH, _RIGHT_MOUTH = (
    (float(x), float(y)) for x, y in ARCFACE_TEMPLATE
)
#: Half of an eye's width, and of the nose's at its wings, in pixels of 112.
_HALF_EYE, _HALF_NOSE = 7.0, 9.5
#: From an eye's center to the outer and the inner end of its brow, away from the nose and upwards.
#: Read, as the half widths and the height of the wings, from the mean of 600 crops of LFW.
_OUTER_BROW, _INNER_BROW = (11.5, 8.5), (-9.5, 10.0)
#: From the tip of the nose down to its wings.
_WINGS = 4.0


def _brow(eye: _Point, outwards: int) -> _Segment:
    (outer_x, outer_y), (inner_x, inner_y) = _OUTER_BROW, _INNER_BROW
    x, y = eye
    return (x + outwards * outer_x, y - outer_y), (x + outwards * inner_x, y - inner_y)


def _across(point: _Point, half: float, down: float = 0.0) -> _Segment:
    x, y = point
    return (x - half, y + down), (x + half, y + down)


#: Segments (x, y) in pixels of a crop of 112, pixel centers at whole numbers.
PARTS: dict[str, tuple[_Segment, ...]] = {
    "brows": (_brow(_LEFT_EYE, -1), _brow(_RIGHT_EYE, 1)),
    "eyes": (_across(_LEFT_EYE, _HALF_EYE), _across(_RIGHT_EYE, _HALF_EYE)),
    "nose": (
        ((_NOSE[0], (_LEFT_EYE[1] + _RIGHT_EYE[1]) / 2), _NOSE),
        _across(_NOSE, _HALF_NOSE, _WINGS),
    ),
    "mouth": ((_LEFT_MOUTH, _RIGHT_MOUTH),),
}
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
    nearest = np.min([_distances(pixels, *segment) for segment in segments], axis=0)
    found: Float32[np.ndarray, "h w"] = (-nearest).astype(np.float32)
    return found


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


def _distances(
    pixels: Float64[np.ndarray, "h w 2"],
    start: Float64[np.ndarray, "2"],
    end: Float64[np.ndarray, "2"],
) -> Float64[np.ndarray, "h w"]:
    """Distance of every pixel's center to the segment from `start` to `end`."""
    along = end - start
    place = np.clip((pixels - start) @ along / (along @ along), 0, 1)
    distances: Float64[np.ndarray, "h w"] = np.linalg.norm(
        pixels - (start + place[..., None] * along), axis=-1
    )
    return distances


def _add(part: str) -> None:
    def of_part(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        return atlas_map(part, shape)

    METHODS.add(
        f"atlas-{part}", Baseline(f"atlas-{part}", of_part, 1, drawn=False, check=check_frame)
    )


for _part in PARTS:
    _add(_part)
