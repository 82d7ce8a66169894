"""Which part of a face each pixel of an aligned crop is in (Protocol: part-atlas).

One drawing for everybody, in the crop that the five landmarks of `ARCFACE_TEMPLATE` fix. It looks
at no photo: on a turned head or under a fringe, a part's pixels may show something else.
`facefocus.saliency.landmark_atlas` makes baselines from the same segments.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float64

from facefocus.core.errors import UserError
from facefocus.faces.align import ARCFACE_TEMPLATE, CROP_SIDES, FRAME_SIDE

Point = tuple[float, float]
Segment = tuple[Point, Point]

#: In the order of tables; every pixel is in exactly one.
PART_NAMES = (
    *("brows", "eyes", "nose", "mouth", "cheeks", "chin", "forehead"),
    *("hair-ears", "background"),
)
#: How a sentence names each of `PART_NAMES`.
PART_WORDS = {name: f"the {name}" for name in PART_NAMES} | {
    "hair-ears": "the hair and ears",
    "background": "the background, neck and clothes",
}
#: The parts inside the outline of the face.
FACE_PARTS = PART_NAMES[:7]

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


def _brow(eye: Point, outwards: int) -> Segment:
    (outer_x, outer_y), (inner_x, inner_y) = _OUTER_BROW, _INNER_BROW
    x, y = eye
    return (x + outwards * outer_x, y - outer_y), (x + outwards * inner_x, y - inner_y)


def _across(point: Point, half: float, down: float = 0.0) -> Segment:
    x, y = point
    return (x - half, y + down), (x + half, y + down)


_EYE_LINE = (_LEFT_EYE[1] + _RIGHT_EYE[1]) / 2
_MOUTH_LINE = (_LEFT_MOUTH[1] + _RIGHT_MOUTH[1]) / 2

#: Segments (x, y) in pixels of a crop of 112, pixel centers at whole numbers.
SEGMENTS: dict[str, tuple[Segment, ...]] = {
    "brows": (_brow(_LEFT_EYE, -1), _brow(_RIGHT_EYE, 1)),
    "eyes": (_across(_LEFT_EYE, _HALF_EYE), _across(_RIGHT_EYE, _HALF_EYE)),
    "nose": (((_NOSE[0], _EYE_LINE), _NOSE), _across(_NOSE, _HALF_NOSE, _WINGS)),
    "mouth": ((_LEFT_MOUTH, _RIGHT_MOUTH),),
}
#: How far a part reaches around its segments, in pixels of 112. Where two reach, the pixel belongs
#: to the one that it is deeper in, as a share of the reach.
_REACH = {"brows": 4.5, "eyes": 6.5, "nose": 6.5, "mouth": 9.0}

#: Outlines about this center: half widths and heights above and below it. Read from 1500 crops of
#: LFW: where the color of the cheeks and the forehead is half as likely as on the nose.
_CENTER = (55.5, 60.0)
_FACE, _HEAD = (36.0, 52.0, 60.0), (46.0, 66.0, 40.0)
#: Foreheads are flatter than an ellipse (exponent 2).
_EXPONENT_ABOVE, _EXPONENT_BELOW = 2.5, 2.0


def parts(side: int = FRAME_SIDE) -> dict[str, Bool[np.ndarray, "side side"]]:
    """The pixels of every part of `PART_NAMES` in an ``arcface112`` crop, of any size.

    Args:
        side: Height and width of the crop.

    Raises:
        UserError: It is the side of ``facenet160`` crops, which follow the detector's box.

    Example:
        >>> drawn = parts()
        >>> bool(drawn["nose"][72, 56]), int(sum(part.sum() for part in drawn.values()))
        (True, 12544)
    """
    if side == CROP_SIDES["facenet160"]:
        raise UserError(
            "The atlas of facial parts is of 'arcface112' crops only. Got frames of"
            f" {side}x{side}. Prepare the faces with --crop arcface112."
        )
    return dict(_drawn(side))


@lru_cache
def _drawn(side: int) -> dict[str, Bool[np.ndarray, "side side"]]:
    # Pixel i of the frame is centered on (i + 0.5) * 112 / side - 0.5 of a crop of 112.
    centers = (np.arange(side) + 0.5) * FRAME_SIDE / side - 0.5
    pixels = np.stack(np.meshgrid(centers, centers), axis=-1)
    depths = [
        distance_to(np.array(SEGMENTS[name]), pixels) / reach for name, reach in _REACH.items()
    ]
    nearest = np.argmin(depths, axis=0)
    free = np.min(depths, axis=0) > 1
    drawn = {name: ~free & (nearest == number) for number, name in enumerate(_REACH)}
    face, head = _inside(pixels, _FACE), _inside(pixels, _HEAD)
    above, below = pixels[..., 1] < _EYE_LINE, pixels[..., 1] > _MOUTH_LINE
    drawn["cheeks"] = free & face & ~above & ~below
    drawn["chin"] = free & face & below
    drawn["forehead"] = free & face & above
    drawn["hair-ears"] = free & head & ~face
    drawn["background"] = free & ~head & ~face
    for mask in drawn.values():
        mask.setflags(write=False)
    return drawn


def _inside(
    pixels: Float64[np.ndarray, "h w 2"], outline: tuple[float, float, float]
) -> Bool[np.ndarray, "h w"]:
    half, above, below = outline
    x, y = np.abs(pixels[..., 0] - _CENTER[0]) / half, pixels[..., 1] - _CENTER[1]
    upper = x**_EXPONENT_ABOVE + (np.abs(y) / above) ** _EXPONENT_ABOVE
    lower = x**_EXPONENT_BELOW + (np.abs(y) / below) ** _EXPONENT_BELOW
    return np.asarray(np.where(y < 0, upper, lower) <= 1)


def distance_to(
    segments: Float64[np.ndarray, "s 2 2"], pixels: Float64[np.ndarray, "h w 2"]
) -> Float64[np.ndarray, "h w"]:
    """Distance of every pixel's center (x, y) to the nearest of some segments, in their unit."""
    nearest: Float64[np.ndarray, "h w"] = np.min(
        [_distances(pixels, *segment) for segment in segments], axis=0
    )
    return nearest


def _distances(
    pixels: Float64[np.ndarray, "h w 2"],
    start: Float64[np.ndarray, "2"],
    end: Float64[np.ndarray, "2"],
) -> Float64[np.ndarray, "h w"]:
    along = end - start
    fraction = np.clip((pixels - start) @ along / (along @ along), 0, 1)
    distances: Float64[np.ndarray, "h w"] = np.linalg.norm(
        pixels - (start + fraction[..., None] * along), axis=-1
    )
    return distances


def areas(side: int = FRAME_SIDE) -> dict[str, float]:
    """The share of the crop's pixels that every part has; they sum to 1.

    Raises:
        UserError: As `parts`.
    """
    return {name: float(mask.mean()) for name, mask in parts(side).items()}


def shares(
    mask_or_map: Bool[np.ndarray, "side side"] | Float[np.ndarray, "side side"],
) -> dict[str, float]:
    """The share of a mask's pixels, or of a map's mass, in every part; they sum to 1.

    A map's mass is its values above its least one. An empty mask, and a map that is constant or
    not finite, have no shares: NaN.

    Raises:
        UserError: As `parts`.

    Example:
        >>> mask = np.zeros((112, 112), bool)
        >>> mask[50:54, 36:40] = True
        >>> shares(mask)["eyes"]
        1.0
    """
    values = mask_or_map.astype(np.float64)
    if mask_or_map.dtype != np.bool_:
        values = values - values.min()
    total = values.sum()
    drawn = parts(len(values))
    if not (np.isfinite(total) and total > 0):
        return dict.fromkeys(drawn, float("nan"))
    return {name: float(values[mask].sum() / total) for name, mask in drawn.items()}
