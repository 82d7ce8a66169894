"""What may happen to a hidden face before it is recognized: nuisances and repair.

Protocol: robustness. A mask is made and tried on an aligned crop. In the world the photo is aligned
anew, compressed and made smaller, the mask lies beside its place, or somebody repairs the photo.
Each of these is a `Nuisance` with a name. Other packages add more through the entry-point group
``facefocus.nuisances``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from facefocus.core.registry import Registry
from facefocus.core.seeds import generator
from facefocus.occlusion.fills import FILLS, Fill, GapFill, hider
from facefocus.saliency.explainer import Hide

#: Pixels by which the crop, or the mask, is moved.
SHIFTS = (1, 2, 3, 6)
#: Factors by which it is made smaller or larger, and the angle in degrees by which it is turned.
SCALES, ANGLE = (0.97, 1.03), 4.0
#: ``align`` moves by at most so many pixels each way.
ALIGN_SHIFT = 3.0
#: Qualities of JPEG.
QUALITIES = (90, 75, 50, 10)
#: Sides of the square whose median a pixel becomes.
MEDIANS = (3, 5)
#: Fills that take the place of the fill that a face is hidden by.
REFILLS = ("black", "white", "mean", "blur", "inpaint")

#: ``draw(generator, height, width) -> matrix [2, 3]`` that takes points (x, y) to where they land.
Draw = Callable[[np.random.Generator, int, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Seen:
    """Photos as whoever looks for the person sees them.

    Attributes:
        frames: RGB, after hiding; uint8 [n, h, w, 3].
        masks: What is hidden in each, bool [n, h, w]; nothing in clean photos. Only repair that
            was given the hidden places may read it.
        fill: What hides; it is no secret.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    masks: Bool[np.ndarray, "n h w"]
    fill: str | Fill


#: What becomes of photos: ``change(seen, one generator per photo) -> frames [n, h, w, 3] uint8``.
Change = Callable[[Seen, Sequence[np.random.Generator]], np.ndarray]

#: Where a mask lands instead of its place: ``move(mask [h, w], generator) -> mask [h, w]``.
Move = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Nuisance:
    """One thing that may happen between hiding and recognizing.

    Attributes:
        change: What becomes of the photos once something is hidden; clean photos suffer it, too.
        move: Where the mask lands instead of its place.
        fill: The fill that hides in the place of another.
        gallery: Whether the photos that a hidden one is compared with are hidden, too.
        repair: Whether somebody does it on purpose, to undo hiding.
    """

    change: Change | None = None
    move: Move | None = None
    fill: str | None = None
    gallery: bool = False
    repair: bool = False


NUISANCES: Registry[Nuisance] = Registry("nuisance")


def nuisance_rng(seed: int, nuisance: str, image_name: str) -> np.random.Generator:
    """The generator for a nuisance of one image: the same whether it is clean or hidden."""
    return generator(seed, "nuisance", nuisance, image_name)


def seen_under(
    nuisance: str | Nuisance,
    frames: UInt8[np.ndarray, "n h w 3"],
    mask: Bool[np.ndarray, "h w"],
    fill: str | Fill,
    *,
    hide: Callable[[str | Fill], Hide],
    rngs: Sequence[np.random.Generator],
) -> UInt8[np.ndarray, "n h w 3"]:
    """Photos hidden by a mask as they are seen under a nuisance; clean ones with an empty mask.

    `Nuisance.gallery` changes no probe: whoever compares does the same to the other side.

    Args:
        nuisance: One of `NUISANCES` or its name.
        frames: RGB, before hiding.
        mask: True where a pixel is to be hidden.
        fill: What hides.
        hide: What hides masks on `frames` by a fill (`facefocus.occlusion.fills.hider`).
        rngs: `nuisance_rng` of each photo.

    Raises:
        UserError: No nuisance has this name.

    Example:
        >>> from facefocus.occlusion.fills import fill_rng
        >>> frames = np.full((1, 8, 8, 3), 200, np.uint8)
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[4, 4] = True
        >>> hide = lambda fill: hider(fill, frames, [fill_rng(0, "Ada_0001")])
        >>> def darkest(nuisance):
        ...     rngs = [nuisance_rng(0, nuisance, "Ada_0001")]
        ...     return int(seen_under(nuisance, frames, mask, "black", hide=hide, rngs=rngs).min())
        >>> darkest("shift-2"), darkest("median-3"), darkest("inpaint-told")
        (0, 200, 200)
    """
    nuisance = NUISANCES[nuisance] if isinstance(nuisance, str) else nuisance
    masks: np.ndarray = np.broadcast_to(mask, (len(frames), *mask.shape))
    if nuisance.move is not None:
        masks = np.stack([nuisance.move(mask, rng) for rng in rngs])
    fill = fill if nuisance.fill is None else nuisance.fill
    # One mask for all frames is hidden faster.
    hidden = hide(fill)(mask if nuisance.move is None else masks)
    if nuisance.change is None:
        return hidden
    return nuisance.change(Seen(hidden, masks, fill), rngs)


# Where things land --------------------------------------------------------------------------------


def alignment(rng: np.random.Generator, height: int, width: int) -> Float[np.ndarray, "2 3"]:
    """A face aligned anew: shift, scale and rotation about the middle, each drawn uniformly.

    Shift at most 3 px each way, scale 0.97 to 1.03, rotation at most 4 degrees either way.
    """
    right, down = rng.uniform(-ALIGN_SHIFT, ALIGN_SHIFT, 2)
    scale, angle = rng.uniform(*SCALES), rng.uniform(-ANGLE, ANGLE)
    return _similarity(height, width, scale, angle, right, down)


def _shifted(
    rng: np.random.Generator, height: int, width: int, *, pixels: int
) -> Float[np.ndarray, "2 3"]:
    right, down = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))[rng.integers(4)]
    return _similarity(height, width, right=pixels * right, down=pixels * down)


def _scaled(rng: np.random.Generator, height: int, width: int) -> Float[np.ndarray, "2 3"]:
    return _similarity(height, width, scale=SCALES[rng.integers(2)])


def _turned(rng: np.random.Generator, height: int, width: int) -> Float[np.ndarray, "2 3"]:
    return _similarity(height, width, angle=(ANGLE, -ANGLE)[rng.integers(2)])


def _similarity(
    height: int,
    width: int,
    scale: float = 1.0,
    angle: float = 0.0,
    right: float = 0.0,
    down: float = 0.0,
) -> Float[np.ndarray, "2 3"]:
    """Scale and counterclockwise rotation about the middle of a picture, then a shift."""
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.array(cv2.getRotationMatrix2D(middle, angle, scale))
    matrix[0, 2] += right
    matrix[1, 2] += down
    return matrix


def _warped(seen: Seen, rngs: Sequence[np.random.Generator], *, draw: Draw) -> np.ndarray:
    """The whole crop moved, bilinear; where nothing is known the edge is repeated."""
    height, width = seen.frames.shape[1:3]
    return np.stack(
        [
            cv2.warpAffine(
                frame,
                draw(rng, height, width),
                (width, height),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for frame, rng in zip(seen.frames, rngs, strict=True)
        ]
    )


def _placed(mask: np.ndarray, rng: np.random.Generator, *, draw: Draw) -> np.ndarray:
    """A mask that lies beside its place, nearest pixel; what leaves the crop hides nothing."""
    height, width = mask.shape
    matrix = draw(rng, height, width)
    moved = cv2.warpAffine(mask.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST)
    landed: np.ndarray = moved.astype(bool)
    return landed


_DRAWS: dict[str, Draw] = {
    **{f"shift-{pixels}": partial(_shifted, pixels=pixels) for pixels in SHIFTS},
    "scale": _scaled,
    "rotate": _turned,
    "align": alignment,
}
for _name, _draw in _DRAWS.items():
    NUISANCES.add(_name, Nuisance(change=partial(_warped, draw=_draw)))
    NUISANCES.add(f"mask-{_name}", Nuisance(move=partial(_placed, draw=_draw)))


# What happens to a picture ------------------------------------------------------------------------


def jpeg(
    seen: Seen, rngs: Sequence[np.random.Generator], *, quality: int
) -> UInt8[np.ndarray, "n h w 3"]:
    """Saved as JPEG of a quality and read again; chroma at half the resolution, as by default."""
    saved = []
    for frame in seen.frames:
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        read = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert read is not None
        saved.append(cv2.cvtColor(read, cv2.COLOR_BGR2RGB))
    return np.stack(saved)


def half(seen: Seen, rngs: Sequence[np.random.Generator]) -> UInt8[np.ndarray, "n h w 3"]:
    """Half the resolution, each pixel the mean of its area, and back, bilinear."""
    height, width = seen.frames.shape[1:3]
    small = ((width + 1) // 2, (height + 1) // 2)
    return np.stack(
        [
            cv2.resize(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), (width, height))
            for frame in seen.frames
        ]
    )


def smooth(seen: Seen, rngs: Sequence[np.random.Generator]) -> UInt8[np.ndarray, "n h w 3"]:
    """Under a Gaussian of sigma 1 px, cut at 4 sigma, mirrored at the border, rounded."""
    # float32, since OpenCV rounds the kernel itself when it is given bytes.
    blurred = [
        cv2.GaussianBlur(frame.astype(np.float32), (9, 9), 1.0, borderType=cv2.BORDER_REFLECT)
        for frame in seen.frames
    ]
    rounded: np.ndarray = np.clip(np.rint(np.stack(blurred)), 0, 255).astype(np.uint8)
    return rounded


for _quality in QUALITIES:
    NUISANCES.add(f"jpeg-{_quality}", Nuisance(change=partial(jpeg, quality=_quality)))
NUISANCES.add("half", Nuisance(change=half))
NUISANCES.add("blur", Nuisance(change=smooth))


# Repair -------------------------------------------------------------------------------------------


def median(
    seen: Seen, rngs: Sequence[np.random.Generator], *, side: int
) -> UInt8[np.ndarray, "n h w 3"]:
    """Each channel of a pixel becomes the median of the square around it; edges are repeated."""
    return np.stack([cv2.medianBlur(frame, side) for frame in seen.frames])


def inpaint_told(seen: Seen, rngs: Sequence[np.random.Generator]) -> UInt8[np.ndarray, "n h w 3"]:
    """Telea's inpainting of the hidden places, which are known: the worst case."""
    return hider("inpaint", seen.frames, rngs)(seen.masks)


def inpaint_guessed(
    seen: Seen, rngs: Sequence[np.random.Generator]
) -> UInt8[np.ndarray, "n h w 3"]:
    """Telea's inpainting of the places that give themselves away (`guessed_places`)."""
    return hider("inpaint", seen.frames, rngs)(guessed_places(seen.frames, seen.fill))


def guessed_places(
    frames: UInt8[np.ndarray, "n h w 3"], fill: str | Fill
) -> Bool[np.ndarray, "n h w"]:
    """Where whoever knows the fill, but not the mask, takes pixels for hidden.

    A fill of one color for all photos: the pixels of exactly this color. A fill of one color in
    each photo (``mean``): those of the photo's most frequent color, since nobody can work out the
    mean of what is hidden. Natural pixels of the color are taken for hidden, too. Any other fill:
    none.

    Raises:
        UserError: No fill has this name.

    Example:
        >>> frames = np.array([[[[0, 0, 0], [0, 0, 9], [7, 7, 7]]]], np.uint8)
        >>> guessed_places(frames, "black")[0, 0].tolist()
        [True, False, False]
        >>> guessed_places(frames, "blur").any()
        np.False_
    """
    guesses = np.zeros(frames.shape[:3], bool)
    colors = _colors_of(fill)
    if colors is None:
        return guesses
    if (colors[0] == colors[1]).all():
        return np.asarray((frames == colors[0]).all(axis=-1))
    codes = (frames.astype(np.int64) * (1 << 16, 1 << 8, 1)).sum(axis=-1)
    for guess, photo in zip(guesses, codes, strict=True):
        known, counts = np.unique(photo, return_counts=True)
        guess[...] = photo == known[counts.argmax()]
    return guesses


def gives_itself_away(fill: str | Fill) -> bool:
    """Whether a fill has one color in each photo, by which its places can be guessed.

    Raises:
        UserError: No fill has this name.

    Example:
        >>> gives_itself_away("black"), gives_itself_away("blur")
        (True, False)
    """
    return _colors_of(fill) is not None


def _colors_of(fill: str | Fill) -> UInt8[np.ndarray, "2 3"] | None:
    """What a fill makes of two photos that differ; None where it has several colors in one."""
    fill = FILLS[fill] if isinstance(fill, str) else fill
    if isinstance(fill, GapFill):
        return None
    rngs = [generator(0, "guess", number) for number in range(2)]
    trial = np.stack([rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for rng in rngs])
    colors = fill(trial, rngs).reshape(2, -1, 3)
    return None if (colors != colors[:, :1]).any() else np.asarray(colors[:, 0])


for _side in MEDIANS:
    NUISANCES.add(f"median-{_side}", Nuisance(change=partial(median, side=_side), repair=True))
NUISANCES.add("inpaint-guessed", Nuisance(change=inpaint_guessed, repair=True))
NUISANCES.add("inpaint-told", Nuisance(change=inpaint_told, repair=True))


# How it is hidden, and compared -------------------------------------------------------------------

for _fill in REFILLS:
    NUISANCES.add(f"refill-{_fill}", Nuisance(fill=_fill))
NUISANCES.add("gallery", Nuisance(gallery=True))
