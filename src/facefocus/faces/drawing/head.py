"""What a synthetic face's features lie on: skin and head, neck and clothes, hair, glasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from facefocus.faces.drawing.canvas import (
    CENTER_X,
    MIDDLE,
    Color,
    Points,
    Shape,
    closed_curve,
    ellipse,
    hsv,
    mirrored,
    mix,
    open_curve,
    pair,
    ramp,
    shade,
    stroke,
)
from facefocus.faces.drawing.traits import trait

_TONES: tuple[Color, ...] = (
    (253, 228, 208),
    (246, 209, 178),
    (234, 186, 148),
    (214, 160, 118),
    (184, 128, 88),
    (146, 95, 62),
    (116, 74, 50),
    (92, 59, 44),
)
_HAIRS: tuple[Color, ...] = (
    (22, 18, 20),
    (44, 30, 24),
    (84, 54, 34),
    (128, 84, 48),
    (158, 74, 36),
    (196, 152, 90),
    (226, 200, 146),
    (150, 148, 150),
    (222, 220, 216),
)
#: Width of a brush stroke of 11 points that thins out at both ends.
TAPER = np.sin(np.linspace(0.15, np.pi - 0.15, 11))


@dataclass(frozen=True)
class Skin:
    """Tone and shape of the head; neck and clothes come with it."""

    tone: float = trait(0.0, 1.0)
    warmth: float = trait(-1.0, 1.0)
    width: float = trait(0.93, 1.05)
    jaw: float = trait(0.82, 1.08)
    chin: float = trait(0.75, 1.3)
    chin_y: float = trait(105.0, 110.5)
    cheek: float = trait(0.96, 1.04)
    ears: float = trait(0.85, 1.2)
    ears_y: float = trait(58.0, 66.0)
    blush: float = trait(-0.05, 0.3)
    folds: float = trait(-0.2, 0.45)
    freckles: float = trait(-2.2, 1.0)
    neck: float = trait(19.0, 26.0)
    cloth_hue: float = trait(0.0, 1.0)
    cloth_value: float = trait(0.15, 0.95)
    cloth_line: float = trait(-4.0, 4.0)

    @property
    def color(self) -> Color:
        """The tone in neutral light."""
        r, g, b = ramp(_TONES, self.tone)
        return (r, g + 5.0 * self.warmth, b - 9.0 * self.warmth)


def _head(skin: Skin) -> Points:
    w, jaw, low = skin.width, skin.jaw, skin.chin_y
    half = [
        (12.0 * w, 6.0),
        (29.0 * w, 15.0),
        (38.5 * w, 33.0),
        (40.5 * w * skin.cheek, 55.0),
        (37.5 * w * skin.cheek * (0.4 + 0.6 * jaw), 76.0),
        (30.0 * w * jaw, 92.0),
        (19.0 * w * skin.chin * (0.5 + 0.5 * jaw), low - 5.5),
        (7.5 * skin.chin, low - 0.5),
    ]
    return closed_curve(mirrored(half))


def draw_body(skin: Skin) -> Iterator[Shape]:
    """Neck, clothes and ears: what lies behind the head."""
    neck = mirrored([(0.92 * skin.neck, 80.0), (skin.neck, 104.0), (skin.neck + 5.0, 118.0)])
    yield Shape((neck,), shade(skin.color, 0.62), "skin", flat=4.0)
    collar = 108.0 + skin.cloth_line
    half = [
        (skin.neck - 11.0, collar + 4.0),
        (skin.neck - 3.0, collar - 5.0),
        (skin.neck + 4.0, collar - 3.5),
        (48.0, collar + 2.0),
        (66.0, collar + 8.0),
        (66.0, 126.0),
    ]
    cloth = mirrored([(1.0, collar + 9.0), *half])
    color = hsv(skin.cloth_hue, 0.5, skin.cloth_value)
    yield Shape((cloth,), color, "skin", flat=4.0)
    x, size = 41.5 * skin.width * skin.cheek, skin.ears
    ears = pair(ellipse(x, skin.ears_y, 5.5 * size, 10.0 * size, 0.2))
    bowls = pair(ellipse(x + 0.8, skin.ears_y - 0.5, 2.7 * size, 6.3 * size, 0.2))
    yield Shape(ears, shade(skin.color, 0.92), "skin", flat=2.0)
    yield Shape(bowls, shade(skin.color, 0.66), "skin", 0.6, 1, flat=2.0)


_SOCKETS = pair(ellipse(17.5, 51.0, 12.0, 7.5))
_CHEEKS = pair(ellipse(24.0, 72.0, 9.0, 6.5))
_FOLDS = pair(stroke(open_curve([(10.5, 75.0), (17.0, 82.0), (21.0, 92.0)]), 1.5 * TAPER))


def draw_head(skin: Skin, freckles: Float[np.ndarray, "n 3"]) -> Iterator[Shape]:
    """The head and the soft relief of its surface, which depends on no other part."""
    head = _head(skin)
    color = skin.color
    deep = mix(shade(color, 0.62), (120, 40, 30), 0.12)
    yield Shape((head,), color, "skin", flat=2.0)
    yield Shape(_SOCKETS, deep, "skin", 0.16, 2)
    if skin.blush > 0:
        yield Shape(_CHEEKS, (214, 84, 80), "skin", skin.blush, 4)
    if skin.folds > 0:
        yield Shape(_FOLDS, deep, "skin", skin.folds, 1)
    if skin.freckles > 0:
        spots = tuple(
            ellipse(CENTER_X + 44.0 * (x - 0.5), 62.0 + 17.0 * y, 0.5 + 0.35 * size, 0.6)
            for x, y, size in freckles.tolist()
        )
        yield Shape(spots, deep, "skin", 0.25 + 0.45 * skin.freckles)


# --- hair -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hair:
    """Style and color of the hair, and a beard on some."""

    color: float = trait(0.0, 1.0)
    dyed: float = trait(-11.0, 1.0)
    dye_hue: float = trait(0.0, 1.0)
    style: float = trait(0.0, 1.0)
    length: float = trait(0.0, 1.0)
    volume: float = trait(0.0, 1.0)
    line: float = trait(18.0, 28.0)
    part: float = trait(-1.0, 1.0)
    sweep: float = trait(0.0, 1.0)
    curl: float = trait(-0.6, 1.0)
    beard: float = trait(-2.6, 1.0)
    shine: float = trait(0.1, 0.45)
    strands: float = trait(0.04, 0.11)

    @property
    def tone(self) -> Color:
        """The hair's color in neutral light."""
        if self.dyed > 0:
            return hsv(self.dye_hue, 0.55, 0.7)
        return ramp(_HAIRS, self.color)

    @property
    def shaved(self) -> bool:
        """Whether only a shadow of hair is left."""
        return self.style < 0.08

    @property
    def long(self) -> bool:
        """Whether the hair falls below the ears."""
        return self.length > 0.45 and not self.shaved


def _skull(hair: Hair, grow: float) -> list[tuple[float, float]]:
    """The hair's outer outline on one side, from the middle of the top to the ear."""
    v = grow + 5.0 * hair.volume
    return [
        (11.0, 4.6 - v),
        (24.0 + 0.6 * v, 10.0 - 0.8 * v),
        (37.0 + 0.7 * v, 26.0 - 0.3 * v),
        (41.5 + 0.6 * v, 44.0),
    ]


def _curled(points: Points, hair: Hair) -> Points:
    """`points` with the scalloped edge of curly hair."""
    if hair.curl <= 0:
        return points
    bumps = np.abs(np.sin(np.arange(len(points)) * (np.pi / 7.0)))
    away = points - (CENTER_X, 50.0)
    curled: Points = away * (1.0 + 0.05 * hair.curl * bumps)[:, None] + (CENTER_X, 50.0)
    return curled


def draw_hair_behind(hair: Hair) -> Iterator[Shape]:
    """Hair that falls behind the face and shoulders."""
    if not hair.long:
        return
    low, wide = 66.0 + 80.0 * (hair.length - 0.45), 45.0 + 6.0 * hair.volume
    half = [*_skull(hair, 3.0), (wide, 0.5 * (44.0 + low)), (wide - 1.0, low), (24.0, low + 5.0)]
    points = _curled(closed_curve(mirrored(half), 12), hair)
    yield Shape((points,), shade(hair.tone, 0.72), "hair", flat=0.0)


def draw_beard(hair: Hair, skin: Skin) -> Iterator[Shape]:
    """A beard, or its shadow, under everything that is drawn on the face."""
    if hair.beard <= 0:
        return
    color = shade(hair.tone, 0.9)
    half = [
        (4.0, 100.0),
        (13.0, 99.0),
        (20.0, 95.0),
        (23.0, 84.0),
        (34.0, 72.0),
        (46.0, 66.0),
        (46.0, 118.0),
    ]
    chin = (mirrored(half),)
    dense = 0.3 + 0.55 * hair.beard
    yield Shape(chin, color, "beard", dense, 2, flat=2.0, clip=(_head(skin),))
    lip = open_curve([(-16.0, 90.0), (-7.0, 83.0), (0.0, 82.2), (7.0, 83.0), (16.0, 90.0)])
    yield Shape((stroke(lip, 3.8) + MIDDLE,), color, "beard", dense, 1)


def draw_hair(hair: Hair, skin: Skin) -> Iterator[Shape]:
    """Hair over the forehead and the skull; its outline is its own, whatever the head's."""
    if hair.shaved:
        low = [(39.0, 46.0), (31.0, 32.0), (17.0, 24.0), (5.0, 22.5)]
        half = [(5.0, 5.0), (28.0, 13.0), (38.0, 33.0), *low]
        cap = (closed_curve(mirrored(half)),)
        yield Shape(cap, hair.tone, "hair", 0.45, 2, flat=2.0, clip=(_head(skin),))
        return
    side_low = 68.0 if hair.long else 56.0
    fringe = hair.style > 0.72
    top = hair.line + (9.0 if fringe else 0.0)
    part = 15.0 * hair.part
    if fringe:
        across = [(17.0, top + 1.0), (0.4 * part, top + 1.8), (-17.0, top + 0.5)]
    else:
        across = [(part + 12.0, top), (part, top - 3.5 * abs(hair.part)), (part - 12.0, top)]
    right = [(38.0, side_low), (36.5, 45.0), (31.0, top + 3.0 + 9.0 * (1 - hair.sweep))]
    left = [(-31.0, top + 3.0 + 9.0 * hair.sweep), (-36.5, 45.0), (-38.0, side_low)]
    ends = (42.0, side_low - 2.0)
    skull = _skull(hair, 2.0)
    ring = [*((-x, y) for x, y in reversed(skull)), *skull, ends, *right, *across, *left]
    controls = np.array([*ring, (-ends[0], ends[1])]) + MIDDLE
    points = _curled(closed_curve(controls, 9), hair)
    yield Shape((points,), hair.tone, "hair", flat=8.0)


# --- glasses --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Glasses:
    """Spectacles: never part of an identity, and placed by the frame, not by the eyes."""

    worn: float = trait(-4.0, 1.0)
    wide: float = trait(11.5, 14.5)
    tall: float = trait(7.5, 11.0)
    square: float = trait(2.0, 4.5)
    rim: float = trait(0.7, 2.0)
    hue: float = trait(0.0, 1.0)
    value: float = trait(0.05, 0.5)


_ANGLES = np.linspace(0, 2 * np.pi, 32, endpoint=False)
_RIM = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def draw_glasses(glasses: Glasses) -> Iterator[Shape]:
    """Two rims, a bridge, and the tint of the lenses."""
    if glasses.worn <= 0:
        return
    color = hsv(glasses.hue, 0.5, glasses.value)
    # A superellipse: from round (2) to nearly square.
    unit = np.sign(_RIM) * np.abs(_RIM) ** (2.0 / glasses.square)
    lenses = pair(unit * (glasses.wide, glasses.tall) + (18.2, 52.5))
    rims = pair(unit * (glasses.wide + glasses.rim, glasses.tall + glasses.rim) + (18.2, 52.5))
    hinges = pair(np.array([(32.0, 49.0), (42.0, 50.0), (42.0, 52.0), (32.0, 51.5)]))
    bridge = open_curve([(-5.5, 50.5), (0.0, 48.8), (5.5, 50.5)]) + MIDDLE
    yield Shape(lenses, (225, 238, 250), None, 0.1, lift=4.0)
    yield Shape((*rims, *lenses), color, lift=4.0)
    yield Shape((*hinges, stroke(bridge, glasses.rim + 0.5)), color, lift=4.0)
