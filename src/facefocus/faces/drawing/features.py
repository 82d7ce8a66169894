"""The features that tell people apart: eyes, brows, nose, mouth, and marks on the skin.

Each has a dataclass of traits whose ranges are wide on purpose: in a world where only this feature
tells who it is, there is nothing else to go by. Where a feature sits is measured from the frame,
never from another feature, so that none gives away another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from facefocus.faces.drawing.canvas import (
    CENTER_X,
    Color,
    Outlines,
    Points,
    Shape,
    between,
    closed_curve,
    curve,
    ellipse,
    hsv,
    mix,
    open_curve,
    pair,
    ramp,
    shade,
    stroke,
)
from facefocus.faces.drawing.head import TAPER, Skin
from facefocus.faces.drawing.traits import Expression, trait

Line = Float[np.ndarray, " _"]

_BLACK: Color = (12.0, 9.0, 10.0)
_INK: Color = (30.0, 20.0, 19.0)
_WHITE: Color = (255.0, 253.0, 250.0)
#: Position along a feature, from -1 to 1, and the arc over it.
_T = np.linspace(-1.0, 1.0, 15)
_ARC = 1.0 - _T * _T
_SHARE = (_T + 1.0) / 2.0

# --- eyes -----------------------------------------------------------------------------------------

_IRISES: tuple[Color, ...] = (
    (38, 22, 14),
    (84, 48, 22),
    (140, 92, 36),
    (112, 120, 52),
    (62, 122, 84),
    (78, 140, 160),
    (70, 120, 190),
    (140, 160, 178),
)


@dataclass(frozen=True)
class Eyes:
    """Both eyes with their lids, lashes, shadow and bags."""

    apart: float = trait(14.6, 20.8)
    down: float = trait(-2.2, 2.0)
    width: float = trait(6.2, 10.2)
    top: float = trait(2.6, 6.6)
    bottom: float = trait(1.5, 3.8)
    tilt: float = trait(-0.2, 0.26)
    peak: float = trait(-0.28, 0.28)
    round: float = trait(0.55, 1.25)
    iris: float = trait(3.0, 4.7)
    iris_color: float = trait(0.0, 1.0)
    iris_light: float = trait(0.75, 1.35)
    pupil: float = trait(0.34, 0.56)
    crease: float = trait(1.2, 4.2)
    crease_dark: float = trait(-0.1, 0.85)
    lash: float = trait(0.5, 2.1)
    wing: float = trait(-2.0, 4.0)
    shadow: float = trait(-0.15, 0.9)
    shadow_hue: float = trait(0.35, 1.12)
    shadow_value: float = trait(0.3, 0.85)
    bag: float = trait(-0.1, 0.6)
    lower: float = trait(0.15, 0.9)


class _Lids:
    """The lines of an eye, outward and down from its center; `points` turns and seats them."""

    def __init__(self, eyes: Eyes, face: Expression) -> None:
        c, s = math.cos(eyes.tilt), math.sin(eyes.tilt)
        self._turn = np.array([[c, -s], [s, c]])
        self._at = (eyes.apart, 51.8 + eyes.down)
        self.across = eyes.width * (_T + 0.6 * eyes.peak * _ARC)
        self.arch = _ARC**eyes.round
        self.upper = -eyes.top * face.lids * self.arch
        self.lower = eyes.bottom * (0.8 + 0.2 * face.lids) * _ARC**0.9

    def points(self, out: Line, down: Line) -> Points:
        points: Points = curve(out, down) @ self._turn + self._at
        return points


def draw_eyes(eyes: Eyes, skin: Skin, face: Expression) -> Iterator[Shape]:
    """Both eyes, from the shadow on the lids to the lashes."""
    lids = _Lids(eyes, face)
    yield from _around_eyes(eyes, skin, lids)
    yield from _eyeballs(eyes, face, lids)
    below = stroke(lids.points(lids.across, lids.lower), 0.45 + 0.7 * _SHARE)
    yield Shape(pair(below), shade(skin.color, 0.42), "eyes", eyes.lower)
    tip = max(eyes.wing, 0.0)
    out = np.append(lids.across, lids.across[-1] + 0.6 + tip)
    down = np.append(lids.upper, lids.upper[-1] - 0.25 - 0.55 * tip)
    width = eyes.lash * np.append(0.1 + 0.9 * _SHARE, 0.1)
    yield Shape(pair(stroke(lids.points(out, down), width)), _INK, "eyes")


def _around_eyes(eyes: Eyes, skin: Skin, lids: _Lids) -> Iterator[Shape]:
    dark = mix(shade(skin.color, 0.42), (70, 20, 20), 0.25)
    if eyes.shadow > 0:
        wide = 1.12 * lids.across
        brim = lids.points(wide, lids.upper - (eyes.crease + 1.6) * lids.arch)
        lid = between(brim, lids.points(wide, lids.upper))
        powder = hsv(eyes.shadow_hue, 0.62, eyes.shadow_value)
        yield Shape(pair(lid), powder, "eyes", eyes.shadow, 1)
    if eyes.bag > 0:
        bag = stroke(lids.points(0.85 * lids.across, eyes.bottom * _ARC + 2.4), 1.9 * _ARC)
        yield Shape(pair(bag), dark, "eyes", eyes.bag, 1)
    if eyes.crease_dark > 0:
        fold = lids.upper - eyes.crease * (0.35 + 0.65 * lids.arch)
        line = stroke(lids.points(1.04 * lids.across, fold), 0.5 + 0.7 * lids.arch)
        yield Shape(pair(line), dark, "eyes", eyes.crease_dark)


def _eyeballs(eyes: Eyes, face: Expression, lids: _Lids) -> Iterator[Shape]:
    color = shade(ramp(_IRISES, eyes.iris_color), eyes.iris_light)
    almond = between(
        lids.points(lids.across, lids.upper), lids.points(lids.across[1:-1], lids.lower[1:-1])
    )
    clip = pair(almond)
    down = 51.8 + eyes.down + 0.35 * (eyes.bottom - eyes.top * face.lids) + face.gaze_down
    r = eyes.iris

    def discs(size: float, tall: float, right: float = 0.0, low: float = 0.0) -> Outlines:
        # Both eyes look the same way, so these are moved alike, not mirrored.
        x = face.gaze + right
        return tuple(
            ellipse(CENTER_X + side * eyes.apart + x, down + low, size, tall) for side in (-1, 1)
        )

    yield Shape(clip, (240, 236, 231), "eyes")
    yield Shape(discs(r, r), shade(color, 0.45), "eyes", clip=clip)
    yield Shape(discs(0.86 * r, 0.86 * r), color, "eyes", clip=clip)
    glow = discs(0.58 * r, 0.42 * r, 0.0, 0.35 * r)
    yield Shape(glow, mix(color, _WHITE, 0.35), "eyes", 0.7, clip=clip)
    yield Shape(discs(eyes.pupil * r, eyes.pupil * r), _BLACK, "eyes", clip=clip)
    rim = between(
        lids.points(lids.across, lids.upper - 1.0), lids.points(lids.across, lids.upper + 1.5)
    )
    yield Shape(pair(rim), (40, 24, 24), "eyes", 0.42, clip=clip)
    glint = discs(0.95, 0.95, math.copysign(0.36 * r, face.glint), -0.36 * r)
    yield Shape(glint, _WHITE, "eyes", 0.95, clip=clip)


# --- brows ----------------------------------------------------------------------------------------

_BROWS: tuple[Color, ...] = (
    (20, 15, 15),
    (48, 30, 20),
    (92, 60, 36),
    (150, 66, 28),
    (176, 132, 76),
    (208, 190, 158),
    (128, 124, 126),
)


@dataclass(frozen=True)
class Brows:
    """Both brows; some have a slit."""

    gap: float = trait(5.0, 12.5)
    down: float = trait(-3.4, 2.2)
    length: float = trait(12.0, 21.5)
    arch: float = trait(0.0, 5.0)
    peak: float = trait(-0.1, 0.55)
    slope: float = trait(-0.16, 0.26)
    inner: float = trait(1.0, 5.2)
    middle: float = trait(1.2, 4.8)
    outer: float = trait(0.5, 2.6)
    color: float = trait(0.0, 1.0)
    dense: float = trait(0.62, 1.0)
    slit: float = trait(-2.5, 1.0)
    slit_at: float = trait(0.35, 0.85)


def draw_brows(brows: Brows, skin: Skin, face: Expression) -> Iterator[Shape]:
    """Both brows, soft at the rim."""
    color = ramp(_BROWS, brows.color)
    from_peak = _T - brows.peak
    bend = 1.0 - (from_peak / (1.0 - brows.peak * np.sign(from_peak))) ** 2
    width = np.interp(_T, (-1, -0.9, 0.1, 1), (0.6 * brows.inner, brows.inner, brows.middle, 0.3))
    width = np.maximum(width, brows.outer * np.minimum(1.0, 3.0 * (1.0 - _SHARE)))
    x = brows.gap + brows.length * _SHARE
    y = 43.0 + brows.down - brows.arch * bend - math.sin(brows.slope) * brows.length * _SHARE
    line = curve(x, y)

    skew = np.array([0.0, face.brow_skew])

    def both(points: Points) -> Outlines:
        left, right = pair(points - (0.0, face.brow_raise))
        return left + skew, right - skew

    full = both(stroke(line, width + 0.5))
    yield Shape(full, color, "brows", brows.dense, 1)
    if brows.slit > 0:
        at = brows.slit_at
        cut_x, cut_y = brows.gap + brows.length * at, float(np.interp(at, _SHARE, y))
        slit = ellipse(cut_x, cut_y, 0.9, 4.0, 0.15)
        yield Shape(both(slit), skin.color, "brows", 0.9, clip=full)


# --- nose -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nose:
    """Bridge, tip, wings and nostrils; some wear a stud."""

    down: float = trait(-5.0, 4.5)
    bridge: float = trait(1.6, 6.2)
    bridge_dark: float = trait(0.1, 0.85)
    bend: float = trait(-3.0, 3.0)
    bridge_tint: float = trait(-0.3, 0.9)
    bridge_hue: float = trait(-0.32, 0.16)
    bridge_value: float = trait(0.35, 1.0)
    wings: float = trait(5.2, 12.8)
    wing_size: float = trait(2.0, 4.6)
    wing_up: float = trait(-1.8, 2.4)
    wing_line: float = trait(0.25, 1.0)
    ball: float = trait(3.0, 7.8)
    ball_tall: float = trait(0.65, 1.2)
    ball_line: float = trait(0.0, 0.95)
    hole: float = trait(0.8, 3.2)
    hole_tall: float = trait(0.45, 0.9)
    hole_turn: float = trait(-0.6, 0.6)
    hole_dark: float = trait(0.5, 1.0)
    tint: float = trait(0.1, 0.95)
    tint_hue: float = trait(-0.32, 0.16)
    tint_value: float = trait(0.35, 1.0)
    shine: float = trait(0.0, 0.9)
    shine_line: float = trait(-0.2, 0.7)
    stud: float = trait(-0.8, 1.0)  # worn above 0, larger the higher
    stud_side: float = trait(-1.0, 1.0)
    stud_hue: float = trait(0.0, 1.0)


_ROOT = 51.0
_HALF_TURN = np.linspace(0.45, np.pi - 0.45, 11)
_BALL_ARC = curve(np.cos(_HALF_TURN), np.sin(_HALF_TURN))
_OUTER_TURN = np.linspace(-1.1, 1.5, 11)
_WING_ARC = curve(np.cos(_OUTER_TURN), np.sin(_OUTER_TURN))


def draw_nose(nose: Nose, skin: Skin) -> Iterator[Shape]:
    """The nose, from its tinted body to the nostrils and the shine."""
    tip, color = 71.0 + nose.down, skin.color
    deep = mix(shade(color, 0.45), (96, 26, 20), 0.2)
    yield from _bridge(nose, color, deep, tip)
    under = ellipse(CENTER_X, tip + 4.4, 0.8 * nose.wings, 1.8)
    yield Shape((under,), deep, "nose", 0.35, 1)
    size, wing_y = nose.wing_size, tip + 1.3 + nose.wing_up
    # Kept apart, because where two outlines of a shape overlap nothing is filled.
    wing_x = max(nose.wings - 0.6 * size, size + 0.1)
    tint = mix(color, hsv(nose.tint_hue, 0.68, nose.tint_value), nose.tint)
    wings = pair(ellipse(wing_x, wing_y, size, size))
    yield Shape(wings, mix(shade(color, 0.95), tint, 0.7), "nose", 0.9)
    ball = ellipse(CENTER_X, tip, nose.ball, nose.ball * nose.ball_tall)
    yield Shape((ball,), mix(shade(color, 1.05), tint, 0.9), "nose", 0.9, 1)
    edges = pair(stroke(_WING_ARC * size + (wing_x, wing_y), 1.3 * TAPER))
    yield Shape(edges, deep, "nose", nose.wing_line)
    tall = nose.hole * nose.hole_tall
    apart = max(0.5 * nose.wings, nose.hole + 0.1)
    holes = pair(ellipse(apart, tip + 3.4, nose.hole, tall, nose.hole_turn))
    yield Shape(holes, mix(shade(deep, 0.4), (40, 8, 8), 0.3), "nose", nose.hole_dark)
    low = _BALL_ARC * (nose.ball, nose.ball * nose.ball_tall) + (CENTER_X, tip)
    yield Shape((stroke(low, 1.3 * TAPER),), deep, "nose", nose.ball_line)
    shine = ellipse(CENTER_X, tip - 0.4 * nose.ball, 0.34 * nose.ball, 0.26 * nose.ball)
    yield Shape((shine,), mix(color, _WHITE, 0.75), "nose", nose.shine)
    if nose.stud > 0:
        x = CENTER_X + math.copysign(wing_x + 0.5 * size, nose.stud_side)
        r = 1.3 + 1.1 * nose.stud
        stud = ellipse(x, wing_y - 0.4 * size, r, r)
        yield Shape((stud,), hsv(nose.stud_hue, 0.6, 0.95), "nose")


def _bridge(nose: Nose, color: Color, deep: Color, tip: float) -> Iterator[Shape]:
    middle, low = (_ROOT + tip) / 2, tip - 1.5
    bow = TAPER * nose.bend
    out = open_curve([(nose.bridge, _ROOT - 3.0), (nose.bridge, middle), (0.62 * nose.wings, low)])
    left = curve(CENTER_X - out[:, 0] + bow, out[:, 1])
    right = curve(CENTER_X + out[:, 0] + bow, out[:, 1])
    if nose.bridge_tint > 0:
        tint = hsv(nose.bridge_hue, 0.68, nose.bridge_value)
        yield Shape((between(left, right),), tint, "nose", nose.bridge_tint, 1)
    sides = tuple(stroke(side, 1.0 + 1.8 * TAPER) for side in (left, right))
    yield Shape(sides, deep, "nose", nose.bridge_dark, 1)
    if nose.shine_line > 0:
        ridge = stroke((left + right) / 2, 0.75 * nose.bridge * TAPER)
        yield Shape((ridge,), mix(color, _WHITE, 0.6), "nose", nose.shine_line, 1)


# --- mouth ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mouth:
    """Lips and teeth."""

    down: float = trait(-3.2, 2.8)
    width: float = trait(9.5, 17.0)
    upper: float = trait(1.6, 5.6)
    lower: float = trait(2.2, 7.2)
    bow: float = trait(0.0, 2.6)
    bow_wide: float = trait(0.14, 0.34)
    full: float = trait(0.55, 1.3)
    corners: float = trait(-1.3, 2.2)
    hue: float = trait(-0.12, 0.07)
    saturation: float = trait(0.25, 0.85)
    value: float = trait(0.32, 0.9)
    paint: float = trait(0.45, 0.95)
    two_tone: float = trait(0.75, 1.25)
    line: float = trait(0.5, 1.8)
    liner: float = trait(-0.5, 0.9)
    gloss: float = trait(-0.2, 0.75)
    below: float = trait(0.1, 0.6)
    groove: float = trait(-0.1, 0.4)
    teeth: float = trait(0.0, 1.0)
    tooth_gap: float = trait(-0.8, 0.8)


class _Lips:
    """The four lines of the lips, left to right."""

    def __init__(self, mouth: Mouth, face: Expression) -> None:
        smile, thin = face.smile, 1.0 - 0.12 * max(face.smile, 0.0)
        self.x = CENTER_X + mouth.width * (1.0 + 0.09 * smile) * _T
        rest = 91.5 + mouth.down - (mouth.corners + 2.2 * smile) * (_T * _T - 0.45)
        gap = max(face.open, 0.0) * _ARC**0.7
        bow = np.minimum(mouth.bow, 0.8 * mouth.upper) * np.exp(-((_T / mouth.bow_wide) ** 2))
        self.inner_up, self.inner_low = rest - 0.4 * gap, rest + 0.6 * gap
        self.top = self.inner_up - thin * mouth.upper * _ARC**mouth.full + 0.8 * bow
        self.bottom = self.inner_low + thin * mouth.lower * _ARC**0.75

    def line(self, y: Line) -> Points:
        return curve(self.x, y)

    def band(self, high: Line, low: Line) -> Outlines:
        return (between(self.line(high), self.line(low)),)


def draw_mouth(mouth: Mouth, skin: Skin, face: Expression) -> Iterator[Shape]:
    """Lips, the shadows around them, and what is seen between them."""
    lips = _Lips(mouth, face)
    deep = mix(shade(skin.color, 0.5), (90, 20, 20), 0.25)
    rouge = hsv(mouth.hue, mouth.saturation, mouth.value)
    color = mix(skin.color, rouge, mouth.paint)
    lower_rouge = shade(rouge, mouth.two_tone)
    below = ellipse(CENTER_X, float(lips.bottom[7]) + 1.8, 0.5 * mouth.width, 1.5)
    yield Shape((below,), deep, "mouth", mouth.below, 1)
    if mouth.groove > 0:
        end = 84.5 + mouth.down - mouth.upper
        ridge = np.array([(1.9, 79.5 + mouth.down), (2.4, end)])
        yield Shape(pair(stroke(ridge, 1.3)), deep, "mouth", mouth.groove)
    yield Shape(lips.band(lips.inner_low, lips.bottom), lower_rouge, "mouth", mouth.paint)
    yield Shape(lips.band(lips.top, lips.inner_up), rouge, "mouth", mouth.paint)
    if face.open > 0.3:
        yield from _inside(mouth, lips)
    if mouth.liner > 0:
        edges = tuple(stroke(lips.line(y), 0.8) for y in (lips.top, lips.bottom))
        yield Shape(edges, shade(color, 0.5), "mouth", mouth.liner)
    line = stroke(lips.line(lips.inner_up + 0.1), mouth.line * (0.5 + 0.5 * _ARC))
    yield Shape((line,), shade(color, 0.34), "mouth", 0.85)
    if mouth.gloss > 0:
        y = float(lips.inner_low[7] + lips.bottom[7]) / 2 - 0.4
        spot = ellipse(CENTER_X, y, 0.3 * mouth.width, 0.16 * mouth.lower)
        yield Shape((spot,), mix(lower_rouge, _WHITE, 0.8), "mouth", mouth.gloss)


def _inside(mouth: Mouth, lips: _Lips) -> Iterator[Shape]:
    dark: Color = (58, 16, 20)
    cave = lips.band(lips.inner_up, lips.inner_low)
    yield Shape(cave, dark, "mouth")
    edge = np.minimum(lips.inner_low, lips.inner_up + 2.6)
    ivory = mix((226, 206, 158), (248, 244, 232), mouth.teeth)
    yield Shape(lips.band(lips.inner_up, edge), ivory, "mouth", clip=cave)
    if mouth.tooth_gap > 0:
        slit = ellipse(CENTER_X, float(lips.inner_up[7]) + 1.3, 0.7, 1.6)
        yield Shape((slit,), dark, "mouth", mouth.tooth_gap, clip=cave)


# --- marks ----------------------------------------------------------------------------------------

FEWEST_MARKS, MOST_MARKS = 4, 6

_MOLES: tuple[Color, ...] = ((28, 16, 14), (66, 34, 22), (104, 52, 34), (150, 50, 46))
_SCARS: tuple[Color, ...] = ((246, 204, 196), (214, 110, 104), (120, 40, 44))
_PATCHES: tuple[Color, ...] = (
    (150, 40, 62),
    (196, 84, 74),
    (112, 64, 34),
    (250, 226, 206),
    (92, 92, 130),
)


#: Along a scar, and three lobes around a patch.
_ALONG = np.linspace(-1.0, 1.0, 11)
_LOBES = np.linspace(0.0, 6.0 * np.pi, 20, endpoint=False)


@dataclass(frozen=True)
class Mark:
    """One mole (`kind` < 1.2), scar (< 2) or patch."""

    position: float = trait(0.0, 1.0)
    kind: float = trait(0.0, 3.0)
    size: float = trait(0.0, 1.0)
    turn: float = trait(0.0, np.pi)
    color: float = trait(0.0, 1.0)
    long: float = trait(0.6, 1.0)


def _mark_positions() -> list[tuple[float, float]]:
    """Skin that no feature covers and hair seldom hides, as a grid of positions for marks."""
    x, down = np.meshgrid(np.arange(22.0, 91.0), np.arange(28.0, 104.0))
    off = np.abs(x - CENTER_X)
    face = (off / 35.0) ** 2 + ((down - 64.0) / 40.0) ** 2 < 1.0
    eyes = (np.abs(off - 18.0) < 12.0) & (np.abs(down - 51.0) < 7.5)
    brows = (off > 6.0) & (off < 28.0) & (np.abs(down - 42.0) < 4.5)
    nose = (off < 11.0) & (down > 56.0) & (down < 79.0)
    mouth = (off < 20.0) & (down > 82.5) & (down < 100.5)
    free = face & ~eyes & ~brows & ~nose & ~mouth
    return list(zip(x[free].tolist(), down[free].tolist(), strict=True))


_POSITIONS = _mark_positions()
#: Step through the positions, far from any whole row of them, for marks that would crowd another.
_STRIDE = 397


def _scattered(marks: Sequence[Mark]) -> list[tuple[float, float]]:
    """The position of each mark, at least 11 px from the others."""
    taken: list[tuple[float, float]] = []
    for mark in marks:
        at = int(mark.position * len(_POSITIONS))
        while any(math.dist(_POSITIONS[at], other) < 11.0 for other in taken):
            at = (at + _STRIDE) % len(_POSITIONS)
        taken.append(_POSITIONS[at])
    return taken


def draw_marks(marks: Sequence[Mark], skin: Skin) -> Iterator[Shape]:
    """Moles, scars and patches on the skin."""
    for mark, (x, y) in zip(marks, _scattered(marks), strict=True):
        if mark.kind < 1.2:
            yield _mole(mark, skin, x, y)
        elif mark.kind < 2.0:
            yield from _scar(mark, skin, x, y)
        else:
            yield _patch(mark, x, y)


def _mole(mark: Mark, skin: Skin, x: float, y: float) -> Shape:
    r = 1.8 + 1.6 * mark.size
    color = mix(ramp(_MOLES, mark.color), shade(skin.color, 0.4), 0.15)
    return Shape((ellipse(x, y, r, r * mark.long, mark.turn),), color, "marks", 0.95)


def _scar(mark: Mark, skin: Skin, x: float, y: float) -> Iterator[Shape]:
    c, s = math.cos(mark.turn), math.sin(mark.turn)
    half = (4.5 + 4.5 * mark.size) * mark.long
    bow = curve(half * _ALONG, 1.5 * mark.long * TAPER)
    line = bow @ np.array([[c, s], [-s, c]]) + (x, y)
    yield Shape((stroke(line, 3.4 * TAPER),), shade(skin.color, 0.55), "marks", 0.5)
    yield Shape((stroke(line, 2.1 * TAPER),), ramp(_SCARS, mark.color), "marks", 0.95)


def _patch(mark: Mark, x: float, y: float) -> Shape:
    oval = ellipse(0.0, 0.0, 3.6 + 3.0 * mark.size, 3.0 + 2.2 * mark.size, mark.turn)
    blob = oval * (1.0 + 0.16 * np.sin(_LOBES + 9.0 * mark.long))[:, None] + (x, y)
    color = ramp(_PATCHES, mark.color)
    return Shape((closed_curve(blob, 2),), color, "marks", 0.55 + 0.35 * mark.long)
