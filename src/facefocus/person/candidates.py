"""Masks that may hide a person: the person's own, everybody's, and parts of the face.

All have the same area and shape, and all are tried on the same photos.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, get_args

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from facefocus.benchmark.keys import fill_of, forward_of, gradients_of, libraries
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.core.store import Missing, Store, content_key
from facefocus.evaluation.nuisances import NUISANCES, Seen, nuisance_rng
from facefocus.evaluation.verification import normalize
from facefocus.faces.part_atlas import FACE_PARTS, parts
from facefocus.models.recognizer import Recognizer, WhiteBox, is_white_box
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.occlusion.masks import pixel_count
from facefocus.occlusion.patch_layout import LAYOUTS, MOVES, Score, patches
from facefocus.occlusion.shapes import Shape, cells, pixels
from facefocus.person.meter import Meter
from facefocus.person.other_people import Strangers
from facefocus.person.proof import Design
from facefocus.saliency.identity import ordered_pairs
from facefocus.saliency.landmark_atlas import PARTS, atlas_map
from facefocus.saliency.learned_mask import Learning, learn_masks
from facefocus.saliency.methods import METHODS
from facefocus.saliency.perturbation import (
    masked_embeddings,
    masks_of,
    perturbation_identity_map,
)
from facefocus.saliency.searched_mask import searched_mask
from facefocus.saliency.shared_mask import FEWEST_PEOPLE

#: Names of candidates besides the parts of the atlas: the person's own mask, and everybody's.
OWN, POPULATION = "own", "population"

#: The own mask tried on the photos that it was made from.
SAME_PHOTOS = "own-same-photos"

#: Shapes of masks.
SHAPES = get_args(Shape)

#: Raise when maps are made in another way.
VERSION = 1

#: How masks are learned: aligned anew in every step, so that they last. Coherent masks are learned
#: on a grid of 7 of 112 pixels.
STEPS, DRAFT_STEPS, GRID = 15, 1, 16

#: Photos and draws of `align` by which patches are chosen.
SCORED_PHOTOS, SCORED_DRAWS = 5, 2

#: Work of maps, and of patches that are chosen by the score: for the bar alone.
MAPS_WORK, PATCHES_WORK = 2000, 1000

#: What is used where no gradient can be had.
BLACK_BOX_METHOD = "s-rise"

#: What masks can be found against, by which method, and with which fill in the place of repair.
AGAINST = ("repair",)
SEARCH_METHOD, REPAIR = "searched-mask", "inpaint"

#: Masks that hill climbing tries; people and photos of each that it finds everybody's mask on.
SEARCH_STEPS, SEARCH_PEOPLE, SEARCH_PHOTOS = 300, 24, 2

#: Other people whose masks are made, and photos of each.
OTHERS, OTHER_PHOTOS = 3, 4


@dataclass(frozen=True)
class Recipe:
    """How masks are made.

    Attributes:
        budget: Share of the pixels.
        shape: ``pixels``, ``cells`` or ``patches``.
        fill: What hides.
        draft: Whether a first picture is wanted soon.
        seed: Of all draws.
        against: ``repair``: masks are found with the gap filled in; empty: as they are painted.
    """

    budget: float
    shape: str
    fill: str
    draft: bool = False
    seed: int = 0
    against: str = ""

    def pixels(self, frame: tuple[int, int]) -> int:
        """How many pixels are hidden."""
        return pixel_count(self.budget, *frame)

    def rng(self, *what: str) -> np.random.Generator:
        """Breaks ties."""
        return generator(self.seed, "person ties", *what)


class Photos(NamedTuple):
    """Photos that a mask is made of.

    Attributes:
        crops: [n, h, w, 3], of one person, or of several one after another.
        names: A name for each.
        each: Photos of each of several people; 0: all are of one person.
    """

    crops: np.ndarray
    names: Sequence[str]
    each: int = 0


def method_of(sources: Sequence[Recognizer], photos: int, recipe: Recipe) -> str:
    """The method that a person's own map is made by.

    Gradients of a single photo's similarity to itself are zero: it takes a method that hides.
    """
    if recipe.against:
        return SEARCH_METHOD
    white = any(map(is_white_box, sources))
    return "learned-mask" if white and photos > 1 else BLACK_BOX_METHOD


def own_maps(
    sources: Sequence[Recognizer],
    people: Sequence[Photos],
    recipe: Recipe,
    store: Store,
    progress: Progress = silent,
) -> list[Float[np.ndarray, "h w"] | None]:
    """A map for each list of photos: what to hide, so that the person is not known.

    What was made before is read from the store.

    Args:
        sources: The recognizers it is made on. Those without gradients are left out where others
            have them.
        people: Crops and names.
        recipe: How.
        store: Keeps maps.
        progress: Called with passes done and in total.

    Returns:
        None where a map is degenerate: it orders no pixels.
    """
    keys = [_key(sources, photos, recipe) for photos in people]
    maps: dict[int, np.ndarray] = {}
    for number, key in enumerate(keys):
        try:
            maps[number] = store.load(key)["map"]
        except Missing:
            continue
    missing = [number for number in range(len(keys)) if number not in maps]
    made = _make([people[number] for number in missing], sources, recipe, progress)
    for number, values in zip(missing, made, strict=True):
        store.save(keys[number], {"map": values})
        maps[number] = values
    return [maps[number] if np.ptp(maps[number]) > 0 else None for number in range(len(keys))]


def _make(
    people: Sequence[Photos],
    sources: Sequence[Recognizer],
    recipe: Recipe,
    progress: Progress,
) -> list[np.ndarray]:
    """Maps by the method that fits; those of one person do not depend on the others."""
    if recipe.against:
        ends = np.cumsum([len(photos.crops) for photos in people]).tolist()
        made = []
        for photos, end in zip(people, ends, strict=True):

            def tried(
                _: str, done: int, total: int, end: int = end, photos: Photos = photos
            ) -> None:
                count = len(photos.crops)
                progress("maps", (end - count) * total + count * done, ends[-1] * total)

            made.append(_by_search(sources, photos, recipe, tried))
        return made
    white = [source for source in sources if is_white_box(source)]
    several = [
        photos
        for photos in people
        if method_of(sources, len(photos[0]), recipe) != BLACK_BOX_METHOD
    ]
    by_gradient = iter(_by_gradient(white, several, recipe, progress) if several else [])
    return [
        _by_perturbation(sources, photos, recipe, progress)
        if method_of(sources, len(photos[0]), recipe) == BLACK_BOX_METHOD
        else next(by_gradient)
        for photos in people
    ]


def _by_gradient(
    sources: Sequence[WhiteBox], people: Sequence[Photos], recipe: Recipe, progress: Progress
) -> list[np.ndarray]:
    frames = [np.asarray(photos.crops) for photos in people]
    made = learn_masks(
        sources,
        frames,
        [hider(recipe.fill, crops, _fill_rngs(recipe, names)) for crops, names, _ in people],
        pixels=recipe.pixels(frames[0].shape[1:3]),
        rngs=[recipe.rng(*photos.names) for photos in people],
        learning=_learning(recipe),
        progress=progress,
    )
    return [np.zeros_like(learned.map) if learned.degenerate else learned.map for learned in made]


def _by_perturbation(
    sources: Sequence[Recognizer], photos: Photos, recipe: Recipe, progress: Progress
) -> np.ndarray:
    """The mean of the ranks of each source's map; a single photo is compared with itself."""
    frames, names, _ = photos
    count = len(frames)
    pairs = ordered_pairs(count, None, recipe.rng("pairs")) if count > 1 else np.array([[0, 0]])
    options = {"masks": "200"} if recipe.draft else {}
    sets = [
        masks_of(BLACK_BOX_METHOD, tuple(options.items()), frames.shape[1:3], name, recipe.seed)
        for name in names
    ]
    maps = []
    for number, source in enumerate(sources):
        masked = []
        for row, masks in enumerate(sets):
            masked.append(masked_embeddings(source, frames[row], masks))
            progress("maps", number * count + row + 1, len(sources) * count)
        values, _, _ = perturbation_identity_map(sets, masked, source.embed(frames), pairs)
        maps.append(scipy.stats.rankdata(values).reshape(values.shape))
    mean: np.ndarray = np.mean(maps, axis=0).astype(np.float32)
    return mean


def _by_search(
    sources: Sequence[Recognizer], photos: Photos, recipe: Recipe, progress: Progress
) -> np.ndarray:
    """See `searched_mask`: the score is taken after repair."""
    frames, names, each = photos
    return searched_mask(
        sources,
        frames,
        hider(REPAIR, frames, _fill_rngs(recipe, names)),
        recipe.pixels(frames.shape[1:3]),
        steps=SEARCH_STEPS,
        rng=recipe.rng(*names),
        photos=each or None,
        progress=progress,
    )


def _learning(recipe: Recipe) -> Learning:
    steps = DRAFT_STEPS if recipe.draft else STEPS
    return Learning(steps=steps, grid=0 if recipe.shape == "pixels" else GRID, jitter="align")


def _fill_rngs(recipe: Recipe, names: Sequence[str]) -> list[np.random.Generator]:
    return [fill_rng(recipe.seed, name) for name in names]


def _key(sources: Sequence[Recognizer], photos: Photos, recipe: Recipe) -> str:
    frames, names, each = photos
    if recipe.against:
        return content_key(
            "person map against repair",
            version=[VERSION, METHODS[SEARCH_METHOD].version],
            method=SEARCH_METHOD,
            sources=[source.fingerprint for source in sources],
            passes=[forward_of(source) for source in sources],
            libraries=libraries(),
            frames=hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest(),
            names=list(names),
            each=each,
            fill=fill_of(REPAIR),
            pixels=recipe.pixels(frames.shape[1:3]),
            steps=SEARCH_STEPS,
            seed=recipe.seed,
        )
    return content_key(
        "person map",
        version=VERSION,
        method=method_of(sources, len(frames), recipe),
        sources=[source.fingerprint for source in sources],
        passes=[
            gradients_of(source) if is_white_box(source) else forward_of(source)
            for source in sources
        ],
        libraries=libraries(),
        frames=hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest(),
        names=list(names),
        fill=fill_of(recipe.fill),
        pixels=recipe.pixels(frames.shape[1:3]),
        learning=asdict(_learning(recipe)),
        draft=recipe.draft,
        seed=recipe.seed,
    )


# Candidates ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Candidates:
    """Masks that are made on one set of recognizers.

    Attributes:
        maps: The map of each candidate, the own one made from all photos.
        whole: Its mask.
        masks: The mask of each photo by candidate, so that own masks saw none of the photos that
            they are tried on. Without two halves there is no own one.
        same_photos: What is tried on the photos that it was made from, to be compared with.
        others: Masks of other people, made in the same way; none without a gallery.
        population: Number of other people that everybody's mask comes from.
        face: Where the face is.
        method: What maps were made by.
    """

    maps: Mapping[str, Float[np.ndarray, "h w"]]
    whole: Mapping[str, Bool[np.ndarray, "h w"]]
    masks: Mapping[str, Bool[np.ndarray, "n h w"]]
    same_photos: Mapping[str, Bool[np.ndarray, "1 n h w"]]
    others: tuple[Bool[np.ndarray, "h w"], ...]
    population: int
    face: Bool[np.ndarray, "h w"]
    method: str


def make_candidates(
    sources: Sequence[Recognizer],
    photos: Photos,
    design: Design,
    strangers: Strangers | None,
    recipe: Recipe,
    store: Store,
    progress: Progress = silent,
    *,
    others: bool = True,
) -> Candidates:
    """All masks that are tried, made on `sources`; see `Candidates`.

    Where everybody's mask is searched, other people's are made only where `others` are asked for.
    """
    frames, names, _ = photos
    count, frame = len(frames), (frames.shape[1], frames.shape[2])
    sides = [fold.made_of for fold in design.folds if len(fold.made_of)]
    # A draft has no time for a third map: that of all photos is the mean of the halves' there.
    wanted = sides if recipe.draft and sides else [*sides, np.arange(count)]
    own = [Photos(frames[rows], [names[row] for row in rows]) for rows in wanted]
    many = searched_people(strangers) if strangers is not None and recipe.against else []
    foreign = masked_people(strangers) if strangers is not None and (others or not many) else []
    meter = Meter(progress, "maps", {"maps": MAPS_WORK, "patches": PATCHES_WORK * _scored(recipe)})
    step = _steps(meter.share("patches", 0, 1), len(own) + len(foreign))
    made = own_maps(sources, [*own, *foreign, *many], recipe, store, meter.share("maps", 0, 1))
    of_others = made[len(own) : len(own) + len(foreign)]
    maps = atlas_maps(frame)
    everybody = made[-1] if many else population_map(of_others)
    if everybody is not None:
        maps[POPULATION] = everybody
    whole = {name: shaped(values, recipe, name) for name, values in maps.items()}
    masks = {name: np.broadcast_to(mask, (count, *frame)).copy() for name, mask in whole.items()}
    same: dict[str, np.ndarray] = {}
    halves = [values for values in made[: len(sides)] if values is not None]
    own_map = population_map(halves) if wanted is sides else made[len(own) - 1]
    if own_map is not None:
        maps[OWN] = own_map
        whole[OWN] = shaped(maps[OWN], recipe, OWN, score_of(sources, own[-1], recipe, step))
        if halves and len(halves) == len(sides):
            scores = [score_of(sources, half, recipe, step) for half in own[: len(sides)]]
            masks[OWN], same[SAME_PHOTOS] = crossed(halves, scores, design, count, recipe)
        else:
            same[SAME_PHOTOS] = np.broadcast_to(whole[OWN], (1, count, *frame)).copy()
    if recipe.draft and OWN in masks:
        # A draft has no time to try the others.
        masks = {OWN: masks[OWN]}
    return Candidates(
        maps,
        whole,
        masks,
        same,
        masks_of_others(sources, foreign, of_others, recipe, step),
        len(many[0].crops) // SEARCH_PHOTOS
        if many
        else sum(values is not None for values in of_others),
        face_region(frame),
        method_of(sources, count, recipe),
    )


def masks_of_others(
    sources: Sequence[Recognizer],
    people: Sequence[Photos],
    maps: Sequence[Float[np.ndarray, "h w"] | None],
    recipe: Recipe,
    step: Callable[[int], None] = lambda _: None,
) -> tuple[Bool[np.ndarray, "h w"], ...]:
    """Other people's masks, made as the own one."""
    return tuple(
        shaped(values, recipe, f"other {number}", score_of(sources, photos, recipe, step))
        for number, (photos, values) in enumerate(zip(people, maps, strict=True))
        if values is not None
    )


def score_of(
    sources: Sequence[Recognizer],
    photos: Photos,
    recipe: Recipe,
    step: Callable[[int], None] = lambda _: None,
) -> Score | None:
    """By what `shaped` chooses patches; None for shapes that the map alone determines.

    `step` is called with the number of masks that were scored.
    """
    return similarity_left(sources, photos, recipe, step) if _scored(recipe) else None


def _scored(recipe: Recipe) -> bool:
    # A draft has no time to embed hundreds of faces: what is left of the map decides there.
    return recipe.shape == "patches" and not recipe.draft


def _steps(progress: Progress, maps: int) -> Callable[[int], None]:
    """Counts masks that are scored, of the most that patches of so many maps take."""
    done = 0

    def step(masks: int) -> None:
        nonlocal done
        done += masks
        progress("patches", done, maps * (LAYOUTS + MOVES))

    return step


def crossed(
    maps: Sequence[Float[np.ndarray, "h w"]],
    scores: Sequence[Score | None],
    design: Design,
    count: int,
    recipe: Recipe,
) -> tuple[Bool[np.ndarray, "n h w"], Bool[np.ndarray, "1 n h w"]]:
    """The mask of each photo from the other half, and from its own half."""
    other = np.zeros((count, *maps[0].shape), bool)
    same = np.zeros((1, count, *maps[0].shape), bool)
    for number, (values, score, fold) in enumerate(zip(maps, scores, design.folds, strict=True)):
        mask = shaped(values, recipe, f"half {number}", score)
        other[fold.tried_on] = mask
        same[0, fold.made_of] = mask
    return other, same


def face_region(frame: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Where aligned crops have the face: controls stay there."""
    drawn = parts(frame[0])
    face: np.ndarray = np.any([drawn[part] for part in FACE_PARTS], axis=0)
    return face


# Other people -------------------------------------------------------------------------------------


def masked_people(strangers: Strangers) -> list[Photos]:
    """The photos of a few strangers whose masks are made: the same for all with these strangers."""
    drawn = _drawn_people(strangers, OTHERS, OTHER_PHOTOS)
    return [Photos(strangers.frames[rows], names) for rows, names in drawn if len(rows) > 1]


def searched_people(strangers: Strangers) -> list[Photos]:
    """The photos of the strangers that everybody's mask against repair is found on, as one entry.

    None where fewer than `FEWEST_PEOPLE` have enough photos.
    """
    drawn = _drawn_people(strangers, SEARCH_PEOPLE, SEARCH_PHOTOS)
    several = [(rows, names) for rows, names in drawn if len(rows) == SEARCH_PHOTOS]
    if len(several) < FEWEST_PEOPLE:
        return []
    rows = np.concatenate([rows for rows, _ in several])
    names = [name for _, names in several for name in names]
    return [Photos(strangers.frames[rows], names, SEARCH_PHOTOS)]


def _drawn_people(
    strangers: Strangers, most: int, photos: int
) -> list[tuple[Int[np.ndarray, " m"], list[str]]]:
    """The rows of at most so many photos of each of some people, those with several first."""
    people, counts = np.unique(strangers.people, return_counts=True)
    drawn = generator(0, "other people", strangers.hash).permutation(len(people))
    ordered = sorted(drawn.tolist(), key=lambda number: -min(int(counts[number]), photos))
    listed = []
    for name in people[ordered[:most]]:
        rows = np.flatnonzero(strangers.people == name)[:photos]
        listed.append((rows, [f"{name} {number}" for number in range(len(rows))]))
    return listed


def population_map(
    maps: Sequence[Float[np.ndarray, "h w"] | None],
) -> Float[np.ndarray, "h w"] | None:
    """The mean of people's maps as ranks: maps of several methods' scales weigh the same.

    None where all are degenerate, or there are none.
    """
    ranks = [
        scipy.stats.rankdata(values).reshape(values.shape) for values in maps if values is not None
    ]
    return np.mean(ranks, axis=0) if ranks else None


# From maps to masks -------------------------------------------------------------------------------


def shaped(
    values: Float[np.ndarray, "h w"], recipe: Recipe, what: str, score: Score | None = None
) -> Bool[np.ndarray, "h w"]:
    """The mask of a map: exactly as many pixels as the budget gives, in the shape asked for.

    Args:
        values: Larger is hidden first.
        recipe: Says how many, and in which shape.
        what: Tells this mask's ties from others'.
        score: What is left of recognition under masks, for patches; by default the map decides.
    """
    count, rng = recipe.pixels(values.shape), recipe.rng(what)
    if recipe.shape == "pixels":
        return pixels(values, count, rng)
    if recipe.shape == "cells":
        return cells(values, count, rng)
    ranks = scipy.stats.rankdata(values).reshape(values.shape) / values.size
    return patches(ranks, count, rng, score, region=face_region(values.shape))


def similarity_left(
    sources: Sequence[Recognizer],
    photos: Photos,
    recipe: Recipe,
    step: Callable[[int], None] = lambda _: None,
) -> Score:
    """What is left of the similarity of a few photos under masks, aligned anew a few times.

    The mean over sources, photos and draws of `align`, of the cosine to the mean of the other clean
    photos; a single photo is compared with itself.
    """
    frames, names = np.asarray(photos[0][:SCORED_PHOTOS]), list(photos[1][:SCORED_PHOTOS])
    hide = hider(recipe.fill, frames, _fill_rngs(recipe, names))
    align = NUISANCES["align"].change
    assert align is not None
    references = []
    for source in sources:
        clean = normalize(source.embed(frames))
        references.append(normalize(clean.sum(axis=0) - clean) if len(clean) > 1 else clean)

    def seen(mask: Bool[np.ndarray, "h w"]) -> list[np.ndarray]:
        hidden = Seen(hide(mask), np.broadcast_to(mask, frames.shape[:3]), recipe.fill)
        draws = range(SCORED_DRAWS)
        return [
            align(hidden, [nuisance_rng(recipe.seed, f"align {draw}", name) for name in names])
            for draw in draws
        ]

    def left(tried: Bool[np.ndarray, "t h w"]) -> Float[np.ndarray, " t"]:
        # All masks together: batches are full.
        hidden = np.concatenate([crops for mask in tried for crops in seen(mask)])
        scores = np.zeros(len(tried))
        for source, reference in zip(sources, references, strict=True):
            embeddings = normalize(source.embed(hidden)).reshape(-1, *reference.shape)
            scores += (embeddings * reference).sum(axis=(1, 2)).reshape(len(tried), -1).sum(axis=1)
        step(len(tried))
        return scores

    return left


def atlas_maps(frame: tuple[int, int]) -> dict[str, Float[np.ndarray, "h w"]]:
    """Maps of the parts of any face, by the names of the candidates."""
    return {f"atlas-{part}": atlas_map(part, frame) for part in PARTS}
