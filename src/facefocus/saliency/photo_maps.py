"""Methods that explain one photo at a time against what it is compared with.

A photo's *reference* is the mean of the unit embeddings of the person's other photos, so its
similarity is the mean cosine to them; or, where a method says so, one of these photos at a time.
Each map is scaled to [0, 1], those without a ranking are left out, and the rest are averaged
(Protocol: photo-maps). A method is one function in a file of its own; the two kinds, what makes
their maps, and maps of verification pairs are here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from facefocus.core import seeds
from facefocus.core.errors import UserError
from facefocus.core.progress import Progress
from facefocus.faces.faceset import Identity
from facefocus.models.calls import as_found
from facefocus.models.layers import placement
from facefocus.models.recognizer import CHUNK, Recognizer, WhiteBox, white_box
from facefocus.models.replaced_operations import ReplacedOperations
from facefocus.models.reproducible import reproducible
from facefocus.models.score_only import ScoreRecognizer
from facefocus.saliency.explainer import (
    Explainer,
    Hide,
    Images,
    MapArrays,
    MapRequest,
    Maps,
    MapSpec,
    Needs,
    Options,
    Passes,
)
from facefocus.saliency.identity import minmax_normalize, ordered_pairs
from facefocus.saliency.mated_gradients import cosine_gradient, inputs_of
from facefocus.saliency.methods import METHODS, Option, _MethodBase
from facefocus.saliency.perturbation import unit_rows

#: Masked frames that are embedded at once.
GROUP = 64
#: Strangers among whom a photo's non-mate is looked for, at most.
STRANGERS = 64

#: ``score(frames [n, H, W, 3]) -> similarities [n]`` to a photo's references.
Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo to explain.

    Attributes:
        frame: RGB.
        reference: What it is compared with: a unit embedding, or the mean of several.
        rng: Its own generator.
        hide: What hides masks on this one frame; None where the method needs no fill.
        unit: Its own unit embedding, where the method needs other people.
        gallery: Unit embeddings of other people, likewise.
    """

    frame: UInt8[np.ndarray, "h w 3"]
    reference: Float64[np.ndarray, " d"]
    rng: np.random.Generator
    hide: Hide | None = None
    unit: Float64[np.ndarray, " d"] | None = None
    gallery: Float64[np.ndarray, "k d"] | None = None

    def hidden(self, masks: Bool[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n h w 3"]:
        """The frame under each mask."""
        assert self.hide is not None
        return np.concatenate([self.hide(mask) for mask in masks])

    @property
    def stranger(self) -> Float64[np.ndarray, " d"]:
        """The embedding of the gallery that is most similar to the photo's own."""
        assert self.unit is not None and self.gallery is not None
        nearest: np.ndarray = self.gallery[int((self.gallery * self.unit).sum(axis=1).argmax())]
        return nearest

    @property
    def baseline(self) -> UInt8[np.ndarray, "h w 3"]:
        """What the fill leaves where everything is hidden."""
        filled: np.ndarray = self.hidden(np.ones((1, *self.frame.shape[:2]), bool))[0]
        return filled


@runtime_checkable
class PhotoGradients(Protocol):
    """Maps of photos from gradients."""

    def __call__(
        self,
        recognizer: WhiteBox,
        photos: Sequence[Photo],
        *,
        options: Options,
        calls: Sequence[int],
        pixels: int,
    ) -> Float[np.ndarray, "n h w"]:
        """A map in the frame for each photo, on its own.

        Args:
            recognizer: The source.
            photos: A full batch, the last one repeated.
            options: All options of the method.
            calls: The layer calls of a method that looks into a layer.
            pixels: The budget; 0 where the map serves every budget.
        """


#: The photo, its similarity to its references under changes of its frame, all options -> map [h, w]
PhotoScores = Callable[[Photo, Score, Options], np.ndarray]


@dataclass(frozen=True)
class PhotoGradientMethod(_MethodBase):
    """A map of one photo from the gradient of its similarity.

    Attributes:
        function: See `PhotoGradients`.
        passes: (options) -> forward and backward passes a photo (a pair, with `each_pair`).
        needs_fill: Whether the map depends on what pixels are replaced with.
        needs_budget: Whether it depends on how many will be hidden.
        layer: Whether it looks into a layer.
        gallery: Whether it needs photos of other people.
        each_pair: Whether a photo is explained against each of the person's other photos; else
            against the mean of all of them.
    """

    name: str
    function: PhotoGradients
    version: int | str
    passes: Callable[[Options], tuple[int, int]]
    options: Mapping[str, Option] = field(default_factory=dict)
    needs_fill: bool = False
    needs_budget: bool = False
    layer: bool = False
    gallery: bool = False
    each_pair: bool = False

    kind: ClassVar[str] = "photo-gradient"
    made_by: ClassVar[str] = "facefocus.saliency.photo_maps:PHOTO_MAPS"

    def needs(self, options: Options) -> Needs:
        """See `facefocus.saliency.methods.Method`."""
        return Needs(
            layer=self.layer,
            fill=self.needs_fill,
            budget=self.needs_budget,
            pairs=self.each_pair,
            seed=True,
            gradients=True,
        )


@dataclass(frozen=True)
class PhotoScoreMethod(_MethodBase):
    """A map of one photo from its similarity under changes of it: any recognizer.

    Attributes:
        function: (photo, score, options) -> map [h, w]; ``photo.hide`` is there.
        passes: (options, (height, width)) -> frames that are scored for a photo, about.
    """

    name: str
    function: PhotoScores
    version: int | str
    passes: Callable[[Options, tuple[int, int]], int]
    options: Mapping[str, Option] = field(default_factory=dict)

    kind: ClassVar[str] = "black-box"
    made_by: ClassVar[str] = "facefocus.saliency.photo_maps:PHOTO_MAPS"

    def needs(self, options: Options) -> Needs:
        """See `facefocus.saliency.methods.Method`: black, unless a fill is given."""
        return Needs(given_fill=True, seed=True)


PhotoMethod = PhotoGradientMethod | PhotoScoreMethod


# What methods share -------------------------------------------------------------------------------


def scores_under(
    photo: Photo, score: Score, masks: Bool[np.ndarray, "n h w"]
) -> Float64[np.ndarray, " n"]:
    """The photo's similarity under each mask."""
    parts = [
        score(photo.hidden(masks[start : start + GROUP])) for start in range(0, len(masks), GROUP)
    ]
    return np.concatenate(parts)


def stacked_frames(photos: Sequence[Photo]) -> Float32[np.ndarray, "n h w 3"]:
    """The photos' frames in 0-255."""
    return np.stack([photo.frame for photo in photos]).astype(np.float32)


def similarity_gradients(
    recognizer: WhiteBox, photos: Sequence[Photo], frames: Float32[np.ndarray, "n h w 3"]
) -> Float64[np.ndarray, "n h w 3"]:
    """Gradient of each photo's similarity with respect to `frames` that stand in its place."""
    device, _ = placement(recognizer.module)
    at = torch.from_numpy(frames).to(device).requires_grad_()
    references = torch.from_numpy(np.stack([photo.reference for photo in photos])).to(device)
    gradient = cosine_gradient(recognizer, at, inputs_of(recognizer, at), references)
    gradients: np.ndarray = gradient.double().cpu().numpy()
    return gradients


# Maps of people -----------------------------------------------------------------------------------


class _PhotoMaps(Explainer):
    """The explainer of both kinds: see `facefocus.saliency.explainer.Explainer`."""

    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """Photo by photo, several photos to a batch where gradients are taken."""
        recognizer = request.images.recognizer(request.sources[0])
        works = [self.passes(replace(request, specs=[spec]), ()).all for spec in request.specs]
        for number, spec in enumerate(request.specs):
            method = METHODS[spec.method]
            if isinstance(method, PhotoScoreMethod):
                counts = [_count(person) for person in request.people]
                made = _scored_maps(method, recognizer, spec, request)
            else:
                assert isinstance(method, PhotoGradientMethod)
                pairs = [_pairs(method, person, spec, request.images) for person in request.people]
                counts = [len(own) for own in pairs]
                box = white_box(recognizer, f"the method '{spec.label}'")
                made = gradient_maps(
                    method,
                    box,
                    _photos(box, method, spec, request, pairs),
                    options=dict(spec.options),
                    calls=spec.calls,
                    pixels=0 if spec.budget is None else request.images.pixels(spec.budget),
                )
            tick = _part(progress, sum(works[:number]), works[number], sum(works))
            yield spec, _averaged(made, counts, request.images.frame, tick)

    def passes(self, request: MapRequest, every: Sequence[MapSpec]) -> Passes:
        """What each method says of a photo, and one forward pass for its own embedding."""
        total = Passes()
        for spec in request.specs:
            method, options = METHODS[spec.method], dict(spec.options)
            if isinstance(method, PhotoScoreMethod):
                count = sum(_count(person) for person in request.people)
                run = count * (1 + method.passes(options, request.images.frame))
                total += Passes(inference=run, alone=run)
                continue
            assert isinstance(method, PhotoGradientMethod)
            count = sum(
                len(_pairs(method, person, spec, request.images)) for person in request.people
            )
            forward, backward = (count * each for each in method.passes(options))
            photos = sum(len(person.rows) for person in request.people)
            total += Passes(photos, forward, backward, alone=photos + forward + backward)
        return total


#: The explainer of all methods that explain one photo at a time.
PHOTO_MAPS = _PhotoMaps()


def _part(progress: Progress, before: int, work: int, total: int) -> Progress:
    """Progress of one spec's photos, in passes of all specs."""
    return lambda stage, done, of: progress(stage, before + work * done // of, total)


def _count(person: Identity) -> int:
    return len(person.rows) if len(person.rows) > 1 else 0


def _pairs(
    method: PhotoGradientMethod, person: Identity, spec: MapSpec, images: Images
) -> list[tuple[int, tuple[int, ...]]]:
    """Each map of a person: the explained photo, and those that it is compared with."""
    count = _count(person)
    if not method.each_pair:
        return [(own, tuple(i for i in range(count) if i != own)) for own in range(count)]
    rng = seeds.generator(images.seed, "pairs", person.name)
    pairs = ordered_pairs(len(person.rows), spec.max_pairs, rng)
    return [(int(own), (int(other),)) for own, other in pairs]


def _photos(
    recognizer: WhiteBox,
    method: PhotoGradientMethod,
    spec: MapSpec,
    request: MapRequest,
    pairs: Sequence[Sequence[tuple[int, tuple[int, ...]]]],
) -> Iterator[Photo]:
    """What each map is made of, person by person."""
    images = request.images
    strangers = _strangers(recognizer, images) if method.gallery else None
    for person, own_pairs in zip(request.people, pairs, strict=True):
        frames, names = np.asarray(images.frames[person.rows]), images.names(person.rows)
        units = unit_rows(recognizer.embed_reference(frames))
        for own, others in own_pairs:
            with_whom = [names[other] for other in others] if method.each_pair else []
            yield Photo(
                frame=frames[own],
                reference=units[list(others)].mean(axis=0),
                rng=seeds.generator(images.seed, "photo map", names[own], *with_whom),
                hide=_hider(images, int(person.rows[own]), spec.fill),
                unit=None if strangers is None else units[own],
                gallery=None if strangers is None else strangers.beside(person.name),
            )


def _hider(images: Images, row: int, fill: str | None) -> Hide | None:
    return None if fill is None else images.hider(np.array([row]), fill)


def blackened(frame: UInt8[np.ndarray, "h w 3"]) -> Hide:
    """What hides masks on one frame by 0."""
    return lambda mask: np.where(mask[..., None], np.uint8(0), frame)[None]


def _scored_maps(
    method: PhotoScoreMethod, recognizer: Recognizer, spec: MapSpec, request: MapRequest
) -> Iterator[np.ndarray]:
    """The maps of everybody's photos from similarities."""
    images = request.images
    for person in request.people:
        frames, names = np.asarray(images.frames[person.rows]), images.names(person.rows)
        for own in range(_count(person)):
            score = score_against(recognizer, np.delete(frames, own, axis=0))
            photo = Photo(
                frame=frames[own],
                reference=np.empty(0),
                rng=seeds.generator(images.seed, "photo map", names[own]),
                hide=_hider(images, int(person.rows[own]), spec.fill) or blackened(frames[own]),
            )
            yield method.function(photo, score, dict(spec.options))


def score_against(recognizer: Recognizer, references: UInt8[np.ndarray, "r h w 3"]) -> Score:
    """The mean similarity of frames to some references: cosines, or a recognizer's own scores."""
    if isinstance(recognizer, ScoreRecognizer):
        compares = recognizer

        def mean_score(frames: np.ndarray) -> np.ndarray:
            each = [
                compares.scores(frames, np.broadcast_to(reference, frames.shape))
                for reference in references
            ]
            return cast(np.ndarray, np.mean(each, axis=0))

        return mean_score
    mean = unit_rows(recognizer.embed(references)).mean(axis=0)

    def mean_cosine(frames: np.ndarray) -> np.ndarray:
        # No matrix product: its last bits may change with the shape and the threads.
        return cast(np.ndarray, (unit_rows(recognizer.embed(frames)) * mean).sum(axis=1))

    return mean_cosine


def gradient_maps(
    method: PhotoGradientMethod,
    recognizer: WhiteBox,
    photos: Iterable[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> Iterator[np.ndarray]:
    """The map of each photo; batches are always full, so that no map depends on its company."""
    size = getattr(recognizer, "graph_batch", CHUNK)
    device, _ = placement(recognizer.module)
    waiting: list[Photo] = []

    def made() -> np.ndarray:
        full = waiting + waiting[-1:] * (size - len(waiting))
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            as_found(recognizer.module),
            ReplacedOperations(),
            reproducible(device),
            np.errstate(invalid="ignore", divide="ignore"),  # what is not finite is found later
        ):
            return method.function(recognizer, full, options=options, calls=calls, pixels=pixels)

    for photo in photos:
        waiting.append(photo)
        if len(waiting) == size:
            yield from made()
            waiting.clear()
    if waiting:
        yield from made()[: len(waiting)]


def _averaged(
    maps: Iterable[np.ndarray],
    counts: Sequence[int],
    frame: tuple[int, int],
    progress: Progress,
) -> MapArrays:
    """The mean of each person's scaled maps that have a ranking."""
    sums = np.zeros((len(counts), *frame))
    kept = np.zeros(len(counts), np.int64)
    person_of = np.repeat(np.arange(len(counts)), counts)
    for done, (person, photo_map) in enumerate(zip(person_of, maps, strict=True), start=1):
        scaled, usable = minmax_normalize(torch.from_numpy(np.asarray(photo_map, np.float64)[None]))
        sums[person] += scaled[0].numpy()
        kept[person] += int(usable[0])
        progress("photo maps", done, len(person_of))
    total = np.array(counts, np.int64)
    means = (sums / np.maximum(kept, 1)[:, None, None]).astype(np.float32)
    return MapArrays(means, total, total - kept, np.zeros_like(total))


# Somebody else ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Strangers:
    """Photos of different people: who a photo might be taken for.

    Attributes:
        units: Their unit embeddings.
        names: Whose each is.
    """

    units: Float64[np.ndarray, "n d"]
    names: Sequence[str]

    def beside(self, person: str) -> Float64[np.ndarray, "k d"]:
        """The embeddings of other people's photos.

        Raises:
            UserError: There is nobody else.
        """
        others = [index for index, name in enumerate(self.names) if name != person]
        if not others:
            raise UserError(
                f"A method that needs photos of other people found none beside '{person}'. Use a"
                " face set of several people with two or more photos each."
            )
        embeddings: np.ndarray = self.units[others]
        return embeddings


def _strangers(recognizer: WhiteBox, images: Images) -> Strangers:
    """One photo each of some people of the face set, drawn by the seed: the same for everybody."""
    everybody = images.everybody()
    rng = seeds.generator(images.seed, "strangers")
    chosen = [everybody[index] for index in sorted(rng.permutation(len(everybody))[:STRANGERS])]
    rows = [int(person.rows[int(rng.integers(len(person.rows)))]) for person in chosen]
    units = unit_rows(recognizer.embed_reference(np.asarray(images.frames[rows])))
    return Strangers(units, [person.name for person in chosen])


# Verification pairs -------------------------------------------------------------------------------


def photo_pair_maps(
    method: PhotoMethod,
    recognizer: Recognizer,
    frames: UInt8[np.ndarray, "p h w 3"],
    references: UInt8[np.ndarray, "p h w 3"],
    *,
    names: Sequence[str],
    people: Sequence[str],
    hiders: Sequence[Hide],
    calls: Sequence[int],
    pixels: int,
    seed: int,
    strangers: UInt8[np.ndarray, "p h w 3"] | None = None,
) -> Iterator[np.ndarray]:
    """Maps, not yet scaled, of the first image of each pair against the second.

    Other people, for a method that needs them, are those of the explained images, unless they are
    given.

    Args:
        method: With its default options.
        recognizer: The source.
        frames: The explained images.
        references: What each is compared with.
        names: Of each pair, for its generator.
        people: Whose each explained image is.
        hiders: What hides masks on each explained image; where only scores are seen, 0 does.
        calls: The layer calls of a method that looks into a layer.
        pixels: The budget, for methods whose maps depend on it.
        seed: The experiment's.
        strangers: The non-mate of each pair.
    """
    options = method.resolve_options({})
    rngs = [seeds.generator(seed, "photo map", name) for name in names]
    if isinstance(method, PhotoScoreMethod):
        for frame, reference, rng in zip(frames, references, rngs, strict=True):
            photo = Photo(frame, np.empty(0), rng, blackened(frame))
            yield method.function(photo, score_against(recognizer, reference[None]), options)
        return
    box = white_box(recognizer, f"the method '{method.name}'")
    own, units = (unit_rows(box.embed_reference(part)) for part in (frames, references))
    everybody = Strangers(own, people)
    others = None if strangers is None else unit_rows(box.embed_reference(strangers))

    def gallery(i: int) -> np.ndarray | None:
        if not method.gallery:
            return None
        return everybody.beside(people[i]) if others is None else others[i : i + 1]

    photos = (
        Photo(
            frame=frames[i],
            reference=units[i],
            rng=rngs[i],
            hide=hiders[i],
            unit=own[i],
            gallery=gallery(i),
        )
        for i in range(len(frames))
    )
    yield from gradient_maps(method, box, photos, options=options, calls=calls, pixels=pixels)
