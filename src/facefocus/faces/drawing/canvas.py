"""A small vector painter for the synthetic faces: curves, a mild 2.5-D pose, and layers with masks.

Shapes are given in the frame of a frontal face (112x112, x right, y down), moved by the pose all at
once, and rasterized at twice the frame's size. Every shape may belong to a part; the part's mask is
made of the very same rasterized coverage as the picture, so the two cannot disagree.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int16, Int32, UInt8

SIDE = 112
#: Drawn at this multiple of the frame, then averaged down.
SUPER = 2
#: Fractional bits of OpenCV's sub-pixel coordinates.
SHIFT = 4
CENTER_X = 56.0
#: From outward coordinates to the frame's.
MIDDLE = np.array([CENTER_X, 0.0])
_FLIP = np.array([-1.0, 1.0])

#: Semi-axes of the head as an ellipsoid and its center's height: a point's depth comes from it.
_HEAD_X, _HEAD_Y, _HEAD_Z, _HEAD_MIDDLE = 47.0, 64.0, 32.0, 60.0
#: The depth that a turn leaves in place: crops are aligned by landmarks about this deep.
_PIVOT = 26.0
#: The nose that every head carries, as depth only: it makes a turned nose swing out.
_NOSE_TOP, _NOSE_LENGTH, _NOSE_HEIGHT, _NOSE_WIDTH = 50.0, 22.0, 9.0, 9.0

#: Red, green, blue; integers too, since annotations are enforced to the letter in tests.
Color = tuple[int | float, int | float, int | float]
Points = Float[np.ndarray, "_ 2"]


def mix(first: Color, second: Color, share: float) -> Color:
    """`first` with `share` of `second` stirred in."""
    keep = 1.0 - share
    return (
        first[0] * keep + second[0] * share,
        first[1] * keep + second[1] * share,
        first[2] * keep + second[2] * share,
    )


def shade(color: Color, factor: float) -> Color:
    """`color` made darker (`factor` < 1) or lighter (> 1), within 0-255."""
    r, g, b = color
    return (min(r * factor, 255.0), min(g * factor, 255.0), min(b * factor, 255.0))


def hsv(hue: float, saturation: float, value: float) -> Color:
    """RGB in 0-255 of a hue (a turn is 1), saturation and value in 0-1."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return (255.0 * r, 255.0 * g, 255.0 * b)


def ramp(colors: Sequence[Color], where: float) -> Color:
    """The color at `where` in 0-1 along a palette, interpolated."""
    at = where * (len(colors) - 1)
    low = min(int(at), len(colors) - 2)
    return mix(colors[low], colors[low + 1], at - low)


@lru_cache(maxsize=64)
def _spline(count: int, steps: int, closed: bool) -> Float[np.ndarray, "m n"]:
    """Matrix that takes control points to points on the Catmull-Rom curve through them."""
    segments = count if closed else count - 1
    matrix = np.zeros((segments * steps + (not closed), count))
    for row in range(len(matrix)):
        segment, t = divmod(row / steps, 1.0)
        weights = (
            (-t + 2 * t * t - t**3) / 2,
            (2 - 5 * t * t + 3 * t**3) / 2,
            (t + 4 * t * t - 3 * t**3) / 2,
            (t**3 - t * t) / 2,
        )
        for offset, weight in zip(range(-1, 3), weights, strict=True):
            at = int(segment) + offset
            matrix[row, at % count if closed else min(max(at, 0), count - 1)] += weight
    return matrix


def closed_curve(controls: Sequence[tuple[float, float]] | Points, steps: int = 6) -> Points:
    """Points of the smooth closed curve through `controls`."""
    points: Points = _spline(len(controls), steps, True) @ np.asarray(controls, dtype=float)
    return points


def open_curve(controls: Sequence[tuple[float, float]] | Points, steps: int = 5) -> Points:
    """Points of the smooth curve from the first to the last of `controls`."""
    points: Points = _spline(len(controls), steps, False) @ np.asarray(controls, dtype=float)
    return points


def stroke(line: Points, widths: Float[np.ndarray, " _"] | float) -> Points:
    """Outline of a brush stroke along `line` whose full width may change on the way."""
    # As complex numbers: a quarter turn is then a product with i.
    at = np.ascontiguousarray(line).view(np.complex128)[:, 0]
    along = np.empty_like(at)
    along[1:-1] = at[2:] - at[:-2]
    along[0] = at[1] - at[0]
    along[-1] = at[-1] - at[-2]
    along *= 0.5j * widths / (np.abs(along) + 1e-9)
    outline = np.concatenate([at + along, (at - along)[::-1]])
    return outline.view(np.float64).reshape(-1, 2)


_TURN = np.linspace(0.0, 2 * np.pi, 20, endpoint=False)
#: A circle's two axes and its center, each as complex numbers.
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN), np.ones(20)], axis=1).astype(np.complex128)


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Points:
    """Outline of an ellipse; `angle` in radians, clockwise on the picture."""
    c, s = math.cos(angle), math.sin(angle)
    points = _CIRCLE.dot((complex(rx * c, rx * s), complex(-ry * s, ry * c), complex(x, y)))
    outline: Points = points.view(np.float64).reshape(-1, 2)
    return outline


Outlines = tuple[Points, ...]


def curve(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Points:
    """Points from their coordinates."""
    points = np.empty((len(x), 2))
    points[:, 0] = x
    points[:, 1] = y
    return points


def between(first: Points, second: Points) -> Points:
    """Outline of the band between two lines that run the same way."""
    return np.concatenate([first, second[::-1]])


def pair(points: Points) -> Outlines:
    """A shape given outward from the middle line, on both sides of the face."""
    # As complex numbers, whose mirror image is one operation on a long row.
    at = np.ascontiguousarray(points).view(np.complex128)
    return (CENTER_X - at.conj()).view(np.float64), (CENTER_X + at).view(np.float64)


def mirrored(half: Sequence[tuple[float, float]]) -> Points:
    """Control points of a symmetric outline from its right half, given outward, top to bottom."""
    right = np.array(half)
    left = right[::-1] * _FLIP
    whole: Points = np.concatenate([right, left]) + MIDDLE
    return whole


class Shape(NamedTuple):
    """One or more outlines filled in one go; where they overlap (even-odd), nothing is filled.

    Attributes:
        outlines: In px of the frontal frame.
        color: RGB, 0-255.
        part: Whose it is; None for what belongs to no part.
        opacity: Share of the color laid over what is beneath.
        soft: Reach, in pixels of the canvas, of each of the two box blurs that soften the edge.
        lift: Height above the face's surface in px.
        flat: Depth of a shape that is not on the face's surface (hair, neck, ears); None if it is.
        clip: Outlines outside which nothing is painted.
    """

    outlines: Outlines
    color: Color
    part: str | None = None
    opacity: float = 1.0
    soft: int = 0
    lift: float = 0.0
    flat: float | None = None
    clip: Outlines = ()

    @property
    def opaque(self) -> bool:
        """Whether nothing beneath shines through inside the outlines."""
        return not self.clip and not self.soft and self.opacity == 1.0


@dataclass(frozen=True)
class Pose:
    """How the head is held and cropped: angles in radians, shifts in frame px."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    x: float = 0.0
    y: float = 0.0

    def move(self, points: Points, depth: Float[np.ndarray, " n"]) -> Points:
        """Where frontal `points` of this depth are seen, in frame px (orthographic)."""
        x = points[:, 0] - CENTER_X
        y = points[:, 1] - _HEAD_MIDDLE
        z = depth - _PIVOT
        x = x * np.cos(self.yaw) + z * np.sin(self.yaw)
        y = y * np.cos(self.pitch) + z * np.sin(self.pitch)
        c, s = self.scale * np.cos(self.roll), self.scale * np.sin(self.roll)
        across = c * x - s * y + (CENTER_X + self.x)
        down = s * x + c * y + (_HEAD_MIDDLE + self.y)
        return np.stack([across, down], axis=1)


def surface(points: Points) -> Float[np.ndarray, " n"]:
    """Depth of a face's surface at frontal `points`: an ellipsoid with a nose; 0 beyond it."""
    x = points[:, 0] - CENTER_X
    y = points[:, 1] - _HEAD_MIDDLE
    depth = _HEAD_Z * np.sqrt(np.maximum(0.0, 1.0 - (x / _HEAD_X) ** 2 - (y / _HEAD_Y) ** 2))
    down = points[:, 1] - _NOSE_TOP
    along = np.minimum(np.maximum(down / _NOSE_LENGTH, 0.0), 1.3)
    below = np.minimum(np.maximum((down - _NOSE_LENGTH) / 8.0, 0.0), 1.0)
    nose = _NOSE_HEIGHT * along * (1.0 - below * below) * np.exp(-((x / _NOSE_WIDTH) ** 2))
    return depth + nose


_Fixed = Int32[np.ndarray, "_ 2"]


class _Moved(NamedTuple):
    """Shapes in fixed-point pixels.

    Attributes:
        outlines: The outlines of all shapes, one shape after the other.
        clips: Their clips, likewise.
        boxes: Whole pixels that the outlines of each shape touch: left, top, right, bottom, the
            latter two exclusive.
    """

    outlines: list[_Fixed]
    clips: list[_Fixed]
    boxes: list[list[int]]


def _moved(shapes: Sequence[Shape], pose: Pose) -> _Moved:
    """Every shape, each with at least one outline, held as `pose` says: all moved in one go."""
    drawn = [points for shape in shapes for points in shape.outlines]
    pieces = drawn + [points for shape in shapes for points in shape.clip]
    sizes = np.array([len(points) for points in pieces])
    numbers = range(len(shapes))
    owners = [i for i in numbers for _ in shapes[i].outlines]
    owner = np.array(owners + [i for i in numbers for _ in shapes[i].clip]).repeat(sizes)
    flat = np.array([np.nan if shape.flat is None else shape.flat for shape in shapes])[owner]
    lift = np.array([shape.lift for shape in shapes])[owner]
    every = np.concatenate(pieces)
    depth = np.where(np.isnan(flat), surface(every), flat) + lift
    # OpenCV counts from pixel centers, so frame coordinate x lies at SUPER * (x + 0.5) - 0.5.
    seen = (SUPER * (pose.move(every, depth) + 0.5) - 0.5) * (1 << SHIFT)
    fixed = np.rint(seen, out=seen).astype(np.int32)
    ends = sizes.cumsum().tolist()
    moved = [fixed[end - size : end] for end, size in zip(ends, sizes.tolist(), strict=True)]
    last = ends[len(drawn) - 1]
    starts = owner[:last].searchsorted(numbers)
    # Along long rows: NumPy reduces columns of two far slower.
    rows = np.ascontiguousarray(fixed[:last].T)
    low = np.minimum.reduceat(rows, starts, axis=1) >> SHIFT
    high = (np.maximum.reduceat(rows, starts, axis=1) + 1) >> SHIFT
    boxes = np.concatenate([low, high]).T.tolist()
    return _Moved(moved[: len(drawn)], moved[len(drawn) :], boxes)


_Window = tuple[slice, slice]


def _coverage(
    outlines: list[_Fixed], clip: list[_Fixed], window: _Window, soft: int
) -> UInt8[np.ndarray, "h w"]:
    """How much of each pixel in `window` a shape covers, 255 for all of it."""
    rows, columns = window
    origin = (-columns.start << SHIFT, -rows.start << SHIFT)
    cover = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    cv2.fillPoly(cover, outlines, 255, cv2.LINE_AA, SHIFT, origin)
    if soft:
        box = 2 * soft + 1
        cover = cv2.blur(cv2.blur(cover, (box, box)), (box, box))
    if clip:
        inside = np.zeros_like(cover)
        cv2.fillPoly(inside, clip, 255, cv2.LINE_AA, SHIFT, origin)
        cv2.min(cover, inside, cover)
    return cover


class Canvas:
    """The picture being painted, and which parts each pixel shows, at `SUPER` times the frame.

    Attributes:
        planes: The picture so far.
        bits: The bit of each part in `shown`.
        shown: The parts whose color each pixel depends on, as an OR of their bits.

    Args:
        background: The red, green and blue plane to paint on; they are painted over. Planes, not
            pixels of three, because NumPy is several times faster along long rows.
        parts: Names of the parts that shapes may belong to, at most eight.
    """

    def __init__(self, background: UInt8[np.ndarray, "3 h w"], parts: Sequence[str]) -> None:
        self.planes = background
        self.bits = {part: 1 << number for number, part in enumerate(parts)}
        self.shown = np.zeros(background.shape[1:], np.uint8)

    def paint(self, shapes: Sequence[Shape], pose: Pose) -> None:
        """Paint `shapes` in this order, held as `pose` says."""
        moved = _moved(shapes, pose)
        colors = np.array([shape.color for shape in shapes], np.int16)[..., None, None]
        every_outline, every_clip = iter(moved.outlines), iter(moved.clips)
        for shape, color, box in zip(shapes, colors, moved.boxes, strict=True):
            outlines = list(islice(every_outline, len(shape.outlines)))
            clip = list(islice(every_clip, len(shape.clip)))
            window = self._window(box, shape.soft)
            if window is None:
                continue
            cover = _coverage(outlines, clip, window, shape.soft)
            if shape.opaque:
                self._fill(shape, outlines, cover, window)
            else:
                self._glaze(shape, color, cover, window)

    def mask(self, part: str) -> UInt8[np.ndarray, "h w"]:
        """255 where `part` is seen, also through what lies over it; 0 elsewhere."""
        seen = self.shown & np.uint8(self.bits[part])
        return np.asarray(cv2.threshold(seen, 0, 255, cv2.THRESH_BINARY)[1], dtype=np.uint8)

    def _fill(
        self, shape: Shape, outlines: list[_Fixed], cover: UInt8[np.ndarray, "h w"], window: _Window
    ) -> None:
        for plane, value in zip(self.planes, shape.color, strict=True):
            cv2.fillPoly(plane, outlines, value, cv2.LINE_AA, SHIFT)
        # What is covered whole no longer depends on what lies beneath.
        shown = self.shown[window]
        cv2.bitwise_and(shown, cv2.threshold(cover, 254, 255, cv2.THRESH_BINARY_INV)[1], shown)
        self._show(shape, cover, window)

    def _glaze(
        self,
        shape: Shape,
        color: Int16[np.ndarray, "3 1 1"],
        cover: UInt8[np.ndarray, "h w"],
        window: _Window,
    ) -> None:
        # Seven bits of coverage keep color * coverage inside int16, whose arithmetic is fast.
        weight = cv2.convertScaleAbs(cover, alpha=shape.opacity * 127.0 / 255.0)
        under = self.planes[:, *window]
        below = under.astype(np.int16)
        change = color - below
        change *= weight.astype(np.int16)
        change += 64
        change >>= 7
        change += below
        under[...] = change
        self._show(shape, weight, window)

    def _show(self, shape: Shape, where: UInt8[np.ndarray, "h w"], window: _Window) -> None:
        if shape.part is not None:
            # OpenCV's own OR with a scalar and a mask takes several times as long.
            shown = self.shown[window]
            mine = cv2.threshold(where, 0, self.bits[shape.part], cv2.THRESH_BINARY)[1]
            cv2.bitwise_or(shown, mine, shown)

    def _window(self, box: Sequence[int], soft: int) -> _Window | None:
        """Rows and columns of the canvas that can be touched; None if there are none."""
        margin = 2 * soft + 3
        height, width = self.planes.shape[1:]
        left, top = max(box[0] - margin, 0), max(box[1] - margin, 0)
        right, bottom = min(box[2] + margin, width), min(box[3] + margin, height)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None
