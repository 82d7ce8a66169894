"""Drawn faces whose identity lives in known parts.

They are the package's only faces, and the only faces with a ground truth (Protocol: planted-truth).
A *world* says where identity lives. In world ``eyes`` a person is their eyes: everything else -
skin, hair, nose, mouth, brows, marks - is drawn afresh for every photo, so nothing else can tell
who it is. In world ``all`` every part is the person's own. On top comes what differs from photo to
photo in every world: pose, expression, light, glasses, background, blur, noise, compression.

Faces lie in the frame of aligned crops (112x112 RGB, the ArcFace template).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped, UInt8

from facefocus.core.errors import UserError, did_you_mean, one_line
from facefocus.core.files import atomic_file
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.faces.drawing import features as features
from facefocus.faces.drawing import head as head
from facefocus.faces.drawing.canvas import SIDE, SUPER, Canvas, Pose, Shape
from facefocus.faces.drawing.traits import Expression, T, from_draws, trait, trait_count
from facefocus.faces.faceset import IndexRow, write_faceset

#: What a face is made of, in the order in which traits are drawn.
PARTS = ("skin", "hair", "eyes", "brows", "nose", "mouth", "marks")
#: Where identity may live.
WORLDS = ("all", "eyes", "nose", "mouth", "brows", "marks")

#: The truth of a face set, beside its frames.
TRUTH = "truth.npz"

#: Names have four digits, and a face set is sorted by name.
_MOST = 10_000
_FRECKLES = 14
#: Painted as a part of its own, because it has no strands; in the masks it is hair.
_BEARD = "beard"
_COUNTS = {
    "skin": trait_count(head.Skin) + 3 * _FRECKLES,
    "hair": trait_count(head.Hair),
    "eyes": trait_count(features.Eyes),
    "brows": trait_count(features.Brows),
    "nose": trait_count(features.Nose),
    "mouth": trait_count(features.Mouth),
    "marks": 1 + features.MOST_MARKS * trait_count(features.Mark),
}

#: The draws from [0, 1) that make each part.
Genes = dict[str, Float[np.ndarray, " _"]]


@dataclass(frozen=True)
class Face:
    """One photo.

    Attributes:
        frame: RGB picture, uint8 [112, 112, 3].
        parts: For each of `PARTS`, the pixels [112, 112] whose color depends on its traits,
            widened by two pixels so that hiding them hides the part with its blurred rim. They
            follow this person's part closely, so the outline of a hidden mark still tells where
            it was: to hide marks well, fill with `blur` or `mean`.
    """

    frame: UInt8[np.ndarray, "h w 3"]
    parts: dict[str, Bool[np.ndarray, "h w"]]


@dataclass(frozen=True)
class Camera:
    """Pose, crop, light and picture quality of one photo."""

    yaw: float = trait(-0.2, 0.2)
    pitch: float = trait(-0.12, 0.12)
    roll: float = trait(-0.05, 0.05)
    scale: float = trait(0.96, 1.03)
    x: float = trait(-1.3, 1.3)
    y: float = trait(-1.3, 1.3)
    light_x: float = trait(-0.8, 0.8)
    light_y: float = trait(-0.9, 0.1)
    light: float = trait(0.15, 0.55)
    warmth: float = trait(-0.8, 0.8)
    exposure: float = trait(0.82, 1.14)
    shadow: float = trait(-1.6, 1.0)
    shadow_turn: float = trait(0.0, 2 * np.pi)
    shadow_at: float = trait(-10.0, 30.0)
    blur: float = trait(0.2, 0.8)
    noise: float = trait(0.8, 3.5)
    jpeg: float = trait(65.0, 96.0)
    backdrop: float = trait(60.0, 235.0)
    backdrop_relief: float = trait(10.0, 55.0)


@dataclass(frozen=True)
class Photo:
    """Everything in a picture that is not a part of the face."""

    camera: Camera
    expression: Expression
    glasses: head.Glasses
    backdrop: Float32[np.ndarray, "6 6 3"]
    grain: Float32[np.ndarray, "h w"]


def planted(world: str) -> tuple[str, ...]:
    """The parts in which identity lives in `world`.

    Raises:
        UserError: No such world.
    """
    if world not in WORLDS:
        raise UserError(
            f"The 'world' of synthetic faces must be one of {', '.join(WORLDS)}. Got '{world}'."
            + did_you_mean(world, WORLDS)
        )
    return PARTS if world == "all" else (world,)


def render(world: str, seed: int, identity: int, photo: int) -> Face:
    """The face of person `identity` in their photo number `photo`.

    The result depends on these four values alone.

    Raises:
        UserError: No such world.

    Example:
        >>> face = render("eyes", seed=1, identity=0, photo=0)
        >>> face.frame.shape, sorted(face.parts)[:3]
        ((112, 112, 3), ['brows', 'eyes', 'hair'])
    """
    genes, shot = _draw(planted(world), seed, identity, photo)
    canvas = _paint(genes, shot)
    frame = _compress(_develop(canvas, genes, shot), shot.camera)
    return Face(frame, _supports(canvas))


def decoys(
    world: str, seed: int, identity: int, photo: int, count: int
) -> dict[str, Bool[np.ndarray, "count h w"]]:
    """Masks that the planted parts of `count` other people would have in this very photo.

    Whoever hides them together with the person's own hides the part without telling its outline.

    Raises:
        UserError: No such world.
    """
    own = planted(world)
    genes, shot = _draw(own, seed, identity, photo)
    masks: dict[str, list[Bool[np.ndarray, "h w"]]] = {part: [] for part in own}
    for number in range(count):
        rng = generator(seed, "decoy", identity, photo, number)
        stranger = {part: rng.random(_COUNTS[part]) for part in own}
        shown = _supports(_paint({**genes, **stranger}, shot))
        for part in own:
            masks[part].append(shown[part])
    return {part: np.stack(shown) for part, shown in masks.items()}


class Rendered(NamedTuple):
    """Photos of several people, sorted by person and photo.

    Attributes:
        frames: RGB pictures.
        identities: Who each shows, e.g. ``"synthetic-0007"``.
        names: Unique name of each, e.g. ``"synthetic-0007_0003"``.
        truth: Mask of each planted part in each frame.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    identities: Shaped[np.ndarray, " n"]
    names: Shaped[np.ndarray, " n"]
    truth: dict[str, Bool[np.ndarray, "n h w"]]


def render_many(world: str, seed: int, identities: range, photos: int) -> Rendered:
    """`photos` photos of every person in `identities`, in memory.

    Raises:
        UserError: No such world.
    """
    pairs = [(person, photo) for person in identities for photo in range(photos)]
    faces = [render(world, seed, person, photo) for person, photo in pairs]
    return Rendered(
        frames=np.stack([face.frame for face in faces]),
        identities=np.array([identity_name(person) for person, _ in pairs]),
        names=np.array([image_name(person, photo) for person, photo in pairs]),
        truth={part: np.stack([face.parts[part] for face in faces]) for part in planted(world)},
    )


def identity_name(identity: int) -> str:
    """What a person is called in a face set: ``"synthetic-0007"``."""
    return f"synthetic-{identity:04d}"


def image_name(identity: int, photo: int) -> str:
    """What a photo is called in a face set: ``"synthetic-0007_0003"``."""
    return f"{identity_name(identity)}_{photo:04d}"


def make_faceset(
    out: Path,
    *,
    world: str,
    identities: int,
    photos: int,
    seed: int,
    progress: Progress = silent,
) -> None:
    """Write the face set ``synthetic-<world>`` and its truth to the folder `out`, made if absent.

    The truth is ``truth.npz``: for each planted part one array, bits packed along the rows.

    Raises:
        UserError: No such world, or a number out of range.
        OSError: The folder cannot be written.

    Example:
        >>> from facefocus.faces.faceset import open_faceset
        >>> make_faceset(Path("faces/drawn"), world="eyes", identities=2, photos=3, seed=1)
        >>> faces = open_faceset(Path("faces/drawn"))
        >>> faces.title, faces.frames.shape
        ('synthetic-eyes', (6, 112, 112, 3))
    """
    parts = planted(world)
    for field, count in (("identities", identities), ("photos", photos)):
        if not 1 <= count <= _MOST:
            raise UserError(
                f"The '{field}' of synthetic faces must be in [1, {_MOST}]. Got {count}."
            )
    out.mkdir(parents=True, exist_ok=True)
    pairs = [(person, photo) for person in range(identities) for photo in range(photos)]
    truth = {part: np.empty((len(pairs), SIDE, SIDE // 8), np.uint8) for part in parts}

    def frames() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for row, (person, photo) in enumerate(pairs):
            face = render(world, seed, person, photo)
            for part in parts:
                truth[part][row] = np.packbits(face.parts[part], axis=-1)
            yield face.frame
            progress("synthetic faces", row + 1, len(pairs))

    write_faceset(
        out,
        title=f"synthetic-{world}",
        rows=[
            IndexRow(identity_name(person), image_name(person, photo), image_name(person, photo))
            for person, photo in pairs
        ],
        frames=_truth_last(frames(), out, truth),
        size=(SIDE, SIDE),
        record={"world": world, "seed": seed, "identities": identities, "photos": photos},
    )


def _truth_last(
    frames: Iterator[UInt8[np.ndarray, "h w 3"]],
    out: Path,
    truth: dict[str, UInt8[np.ndarray, "n h b"]],
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """`frames`, then the truth, written before the manifest that marks the set complete."""
    yield from frames
    with atomic_file(out / TRUTH) as file:
        np.savez_compressed(file, allow_pickle=False, **truth)


def read_truth(folder: Path) -> dict[str, Bool[np.ndarray, "n h w"]]:
    """The mask of every planted part in every frame of a synthetic face set.

    Raises:
        UserError: The folder has no truth, or one that cannot be read.
    """
    path = folder / TRUTH
    if not path.is_file():
        raise UserError(
            f"'{folder}' must hold {TRUTH}. Got a folder without it: only synthetic faces have one."
        )
    try:
        with np.load(path, allow_pickle=False) as packed:
            return {part: np.unpackbits(packed[part], axis=-1).astype(bool) for part in packed}
    except (OSError, ValueError, BadZipFile) as error:
        raise UserError(
            f"'{path}' cannot be read: {one_line(error)}. Make the faces again."
        ) from error


def mean_mask(masks: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "h w"]:
    """The share of a person's photos in which each pixel shows the part; above 0 is the union."""
    return np.asarray(masks.mean(axis=0))


def _draw(own: tuple[str, ...], seed: int, identity: int, photo: int) -> tuple[Genes, Photo]:
    """Traits and circumstances: the parts in `own` from the person, all else from the photo."""
    total = sum(_COUNTS.values())
    person = generator(seed, "person", identity).random(total)
    rng = generator(seed, "photo", identity, photo)
    fresh = rng.random(total)
    genes: Genes = {}
    start = 0
    for part, count in _COUNTS.items():
        genes[part] = (person if part in own else fresh)[start : start + count]
        start += count
    shot = Photo(
        camera=_drawn(Camera, rng),
        expression=_drawn(Expression, rng),
        glasses=_drawn(head.Glasses, rng),
        backdrop=rng.random((6, 6, 3), np.float32),
        grain=_grain(rng),
    )
    return genes, shot


def _drawn(kind: type[T], rng: np.random.Generator) -> T:
    return from_draws(kind, rng.random(trait_count(kind)))


#: A field of noise larger than a frame; a photo's grain is a piece of it, which is quick to draw.
_GRAIN = generator(0, "grain").standard_normal((3 * SIDE, 3 * SIDE), np.float32)


def _grain(rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    top, left = rng.integers(0, 2 * SIDE, 2).tolist()
    return _GRAIN[top : top + SIDE, left : left + SIDE]


def _shapes(genes: Genes, shot: Photo) -> Iterator[Shape]:
    """All shapes of a face, back to front."""
    traits = trait_count(head.Skin)
    skin = from_draws(head.Skin, genes["skin"][:traits])
    hair = from_draws(head.Hair, genes["hair"])
    face = shot.expression
    yield from head.draw_hair_behind(hair)
    yield from head.draw_body(skin)
    yield from head.draw_head(skin, genes["skin"][traits:].reshape(-1, 3))
    yield from head.draw_beard(hair, skin)
    yield from features.draw_nose(from_draws(features.Nose, genes["nose"]), skin)
    yield from features.draw_mouth(from_draws(features.Mouth, genes["mouth"]), skin, face)
    yield from features.draw_eyes(from_draws(features.Eyes, genes["eyes"]), skin, face)
    yield from features.draw_brows(from_draws(features.Brows, genes["brows"]), skin, face)
    yield from features.draw_marks(_marks(genes["marks"]), skin)
    yield from head.draw_hair(hair, skin)
    yield from head.draw_glasses(shot.glasses)


def _marks(draws: Float[np.ndarray, " n"]) -> list[features.Mark]:
    count = features.FEWEST_MARKS + int(
        draws[0] * (features.MOST_MARKS - features.FEWEST_MARKS + 1)
    )
    rows = draws[1:].reshape(features.MOST_MARKS, -1)[:count]
    return [from_draws(features.Mark, row) for row in rows]


def _paint(genes: Genes, shot: Photo) -> Canvas:
    """The face in flat colors at `SUPER` times the frame, with the masks of its parts."""
    camera = shot.camera
    relief = camera.backdrop_relief * (shot.backdrop - 0.5) + camera.backdrop
    small = np.clip(relief, 0, 255).astype(np.uint8)
    planes = np.empty((3, SUPER * SIDE, SUPER * SIDE), np.uint8)
    for channel, plane in enumerate(planes):
        cv2.resize(small[..., channel], plane.shape, plane, interpolation=cv2.INTER_LINEAR)
    canvas = Canvas(planes, (*PARTS, _BEARD))
    pose = Pose(camera.yaw, camera.pitch, camera.roll, camera.scale, camera.x, camera.y)
    canvas.paint(list(_shapes(genes, shot)), pose)
    return canvas


_Y, _X = np.mgrid[:SIDE, :SIDE].astype(np.float32)
#: Normals of an ellipsoid larger than the head, so that its rim leaves no ring on the background.
_NORMAL_X = (_X - 55.5) / 58.0
_NORMAL_Y = (_Y - 60.0) / 70.0
_NORMAL_Z = np.sqrt(np.maximum(0.1, 1.0 - _NORMAL_X**2 - _NORMAL_Y**2))


def _develop(canvas: Canvas, genes: Genes, shot: Photo) -> UInt8[np.ndarray, "h w 3"]:
    """The photo before compression: light, shadow, blur and noise over the painted face."""
    camera = shot.camera
    light = _light(camera)
    light *= _strands(canvas, genes["hair"], camera)
    grain = camera.noise * shot.grain
    warm = 1.0 + 0.07 * camera.warmth
    planes = []
    for plane, gain in zip(canvas.planes, (warm, 1.0, 2.0 - warm), strict=True):
        small = cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        lit = cv2.GaussianBlur(small * (light * np.float32(gain)), (5, 5), camera.blur)
        lit += grain
        np.maximum(lit, 0, out=lit)
        planes.append(np.minimum(lit, 255, out=lit).astype(np.uint8))
    return np.asarray(cv2.merge(planes), dtype=np.uint8)


def _light(camera: Camera) -> Float32[np.ndarray, "h w"]:
    """Exposure times Lambert's law on the head's ellipsoid, times a soft-edged cast shadow."""
    x, y = camera.light_x, camera.light_y
    length = float(np.sqrt(x * x + y * y + 1.0))
    facing = (_NORMAL_X * x + _NORMAL_Y * y + _NORMAL_Z) / length
    field = camera.exposure * (1.0 + camera.light * (1.3 * facing - 1.05))
    if camera.shadow > 0:
        c, s = np.cos(camera.shadow_turn), np.sin(camera.shadow_turn)
        beyond = (c * (_X - 56.0) + s * (_Y - 56.0) - camera.shadow_at) / 5.0
        field *= 1.0 - 0.42 * camera.shadow * np.clip(beyond + 0.5, 0.0, 1.0)
    return np.asarray(field, dtype=np.float32)


#: Brightness of the locks of hair by their angle around the crown, mean 0.
_LOCKS = cv2.GaussianBlur(generator(0, "locks").standard_normal((1, 2048)), (0, 0), 4.0)[0] * 3.0


def _strands(
    canvas: Canvas, draws: Float[np.ndarray, " n"], camera: Camera
) -> Float32[np.ndarray, "h w"]:
    """Factor that gives the hair strands running from the crown, and a band of shine."""
    hair = from_draws(head.Hair, draws)
    cover = cv2.resize(canvas.mask("hair"), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    x = _X - (56.0 + 12.0 * hair.part + 30.0 * camera.yaw)
    y = _Y + 6.0
    turn = cv2.phase(x, y) * np.float32(len(_LOCKS) / 6.3)
    lock = _LOCKS.take(turn.astype(np.int32), mode="clip")
    ring = (cv2.magnitude(x, 0.9 * y) - 24.0) / 6.0
    gleam = hair.shine * np.exp(-ring * ring)
    factor = 1.0 + (cover * np.float32(1 / 255)) * (hair.strands * lock + gleam)
    return np.asarray(factor, dtype=np.float32)


def _compress(frame: UInt8[np.ndarray, "h w 3"], camera: Camera) -> UInt8[np.ndarray, "h w 3"]:
    """`frame` after JPEG compression at the camera's quality."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(camera.jpeg)]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), quality)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)


def _supports(canvas: Canvas) -> dict[str, Bool[np.ndarray, "h w"]]:
    """Each part's mask in the frame: touched pixels, widened as far as the 5x5 blur reaches."""
    bits = canvas.shown
    touched = bits[::2, ::2] | bits[1::2, ::2] | bits[::2, 1::2] | bits[1::2, 1::2]
    # All parts at once: a dilation by a square is an OR of shifted copies, rows then columns.
    padded = np.zeros((SIDE + 4, SIDE + 4), np.uint8)
    padded[2:-2, 2:-2] = touched
    rows = reduce(np.bitwise_or, [padded[at : at + SIDE] for at in range(5)])
    wide = reduce(np.bitwise_or, [rows[:, at : at + SIDE] for at in range(5)])
    named = {part: (wide & canvas.bits[part]) != 0 for part in PARTS}
    named["hair"] |= (wide & canvas.bits[_BEARD]) != 0
    return named
