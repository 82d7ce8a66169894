"""Identity maps of black-box methods: mask, embed, compare (Protocol: perturbation).

A masked image's embedding does not depend on the reference: `masked_embeddings` is computed once
per image, and every pair it is in costs dot products only. Masks are made when they are needed
and forgotten, so memory does not grow with their number.

Every image has masks of its own: what a map owes to its masks is then averaged out over a person's
images, and not shared by different people. Measured on mobilefacenet-ms1m and LFW, 3 people of 4
images, 1000 masks an image (S-RISE, centered): maps of two seeds correlate by .987, .977, .971;
with one set of masks for all by .951, .909, .937, while maps of *different* people under that set
correlate by .94, .89, .83 (.81, .84, .80 under sets of their own).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int, UInt8
from torch import Tensor

from facefocus.core import seeds
from facefocus.core.progress import Progress, silent
from facefocus.models.occluded_frames import ContentHide, OccludedFrames, multiplied, sent
from facefocus.models.recognizer import Recognizer, device_of, embed_made, in_parts
from facefocus.models.score_only import ScoreRecognizer
from facefocus.saliency.explainer import Explainer, Hide, Images, MapArrays, MapRequest, Maps
from facefocus.saliency.identity import minmax_normalize, ordered_pairs
from facefocus.saliency.methods import METHODS, PerturbationMethod
from facefocus.saliency.objectives import RESOLUTION

#: Masks that share a generator and a call of `embed`: 10 MB of masked frames, full chunks of 16.
#: Part of what a mask set is: another number would draw other masks.
GROUP = 64
#: Bytes of similarities, and of maps, of the pairs that are combined at once; changes no result.
PAIR_BYTES = 2**26
#: Where a fill hides, it hides the pixels of which a mask keeps less than this.
KEPT = 0.5
#: Masked embeddings that are compared at once; changes no result.
ROWS = 4096
PROCESSOR = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class MaskSet:
    """The masks of one image in a run; any group of them can be made alone.

    A larger set begins with the smaller one.

    Attributes:
        method: What draws the masks and makes maps of them.
        frame: Height and width.
        image: The image's name.
        seed: The experiment's seed.
        options: All options of the method, by name.
        fill: The fill that hides what a mask keeps less than half of; None: the image is
            multiplied by the mask.
        device: Where maps are made of them: changes no bit.
    """

    method: PerturbationMethod
    frame: tuple[int, int]
    image: str
    seed: int
    options: tuple[tuple[str, str], ...]
    fill: str | None = None
    device: torch.device = PROCESSOR

    @property
    def count(self) -> int:
        """Number of masks."""
        return int(dict(self.options)["masks"])

    @property
    def groups(self) -> int:
        """Number of groups, the last one possibly short."""
        return -(-self.count // GROUP)

    @property
    def determined_by(self) -> dict[str, str | int | list[str] | list[int]]:
        """Plain data that the masks depend on but the fill, for keys of `masked_embeddings`."""
        return {
            "method": self.method.name,
            "version": self.method.version,
            "shaping": self._shaping,
            "count": self.count,
            "frame": list(self.frame),
            "image": self.image,
            "seed": self.seed,
        }

    @property
    def _shaping(self) -> list[str]:
        options = dict(self.options)
        return [f"{name}={options[name]}" for name in self.method.shaping]

    def group(self, index: int) -> Float32[np.ndarray, "g h w"]:
        """Masks ``index * GROUP`` up to the next group: the factor of each pixel, in [0, 1].

        Where a fill hides, 0 or 1.
        """
        masks: np.ndarray = self.group_on(index, torch.device("cpu")).numpy()
        return masks

    def group_on(self, index: int, device: torch.device) -> Float32[Tensor, "g h w"]:
        """`group`, drawn for a device."""
        if not 0 <= index < self.groups:
            raise IndexError(f"No group {index} of {self.groups}.")
        shape = f"{self.frame[0]}x{self.frame[1]}"
        where = [self.method.name, *self._shaping, shape, self.image, str(index)]
        rng, options = seeds.generator(self.seed, "masks", *where), dict(self.options)
        if self.method.draw_on is not None:
            masks = self.method.draw_on(rng, GROUP, self.frame, options, device)
        else:
            drawn = self.method.draw(rng, GROUP, self.frame, options)
            masks = sent(torch.from_numpy(drawn), device)
        masks = masks[: self.count - index * GROUP]
        return masks if self.fill is None else (masks >= KEPT).float()

    def __iter__(self) -> Iterator[np.ndarray]:
        """All groups in order."""
        return (self.group(index) for index in range(self.groups))

    def tensors(self) -> Iterator[Float32[Tensor, "g h w"]]:
        """All groups in order, on the device."""
        return (self.group_on(index, self.device) for index in range(self.groups))


def mask_set(
    method: PerturbationMethod,
    frame: tuple[int, int],
    image: str,
    *,
    seed: int,
    options: Mapping[str, str] | None = None,
    fill: str | None = None,
    device: torch.device = PROCESSOR,
) -> MaskSet:
    """The masks of an image in a run.

    Args:
        method: A black-box method of the registry.
        frame: Height and width of the frames.
        image: The image's name in its face set.
        seed: The experiment's seed.
        options: Options that differ from the method's defaults.
        fill: See `MaskSet`.
        device: See `MaskSet`.

    Raises:
        UserError: An option the method does not have, or a value it does not allow.
    """
    chosen = method.resolve_options(options or {})
    return MaskSet(method, frame, image, seed, tuple(sorted(chosen.items())), fill, device)


def apply_masks(
    frame: UInt8[np.ndarray, "h w 3"], masks: Float32[np.ndarray, "g h w"]
) -> UInt8[np.ndarray, "g h w 3"]:
    """The frame multiplied by each mask in 0-255, rounded to the nearest (ties to even)."""
    made: np.ndarray = multiplied(torch.from_numpy(frame), torch.from_numpy(masks)).numpy()
    return made


def masked_embeddings(
    recognizer: Recognizer,
    frame: UInt8[np.ndarray, "h w 3"],
    masks: MaskSet,
    *,
    hide: Hide | None = None,
    progress: Progress = silent,
) -> Float32[np.ndarray, "n d"]:
    """Raw embeddings of one frame under every mask: all that is needed of it for any pair.

    Args:
        recognizer: Anything that embeds.
        frame: RGB, 0-255, of the size the masks were made for.
        masks: The image's masks.
        hide: Hides masks on this one frame by the fill of `masks`; None where they have none.
        progress: Called block by block, with masks done and in total.

    Raises:
        ValueError: The frame is of another size, or there is a fill on one side alone.
    """
    (embeddings,) = embeddings_of_masked(recognizer, [MaskedFrame(frame, masks, hide)], progress)
    return embeddings


@dataclass(frozen=True, eq=False)
class MaskedFrame:
    """A frame [h, w, 3] and the masks that hide it: see `masked_embeddings`.

    Raises:
        ValueError: The frame is of another size, or there is a fill on one side alone.
    """

    frame: UInt8[np.ndarray, "h w 3"]
    masks: MaskSet
    hide: Hide | None = None

    def __post_init__(self) -> None:
        size, masks = self.frame.shape[:2], self.masks
        if size != masks.frame:
            raise ValueError(f"The masks are made for {masks.frame}, the frame is {size}.")
        if (self.hide is None) != (masks.fill is None):
            raise ValueError(f"The fill of the masks is {masks.fill}, and hide is {self.hide}.")

    def hidden(self, index: int, device: torch.device) -> UInt8[Tensor, "g h w 3"]:
        """The frame under the masks of a group, made on a device."""
        if self.hide is None:
            frame = sent(torch.from_numpy(np.array(self.frame)), device)
            return multiplied(frame, self.masks.group_on(index, device))
        group = self.masks.group(index)
        if not isinstance(self.hide, ContentHide):
            return torch.from_numpy(_hidden(self.frame, group, self.hide))
        packed = np.packbits(group.reshape(len(group), -1) < KEPT, axis=1)
        photo = OccludedFrames([self.hide], device)
        return photo.under(np.zeros(len(group), np.int64), packed, np.arange(len(group)))


def embeddings_of_masked(
    recognizer: Recognizer, frames: Sequence[MaskedFrame], progress: Progress = silent
) -> list[Float32[np.ndarray, "n d"]]:
    """`masked_embeddings` of several frames, which share batches."""
    device, total = device_of(recognizer), sum(frame.masks.count for frame in frames)
    groups = [(frame, index) for frame in frames for index in range(frame.masks.groups)]
    lengths = [min(GROUP, frame.masks.count - index * GROUP) for frame, index in groups]

    def hidden(number: int) -> UInt8[Tensor, "g h w 3"]:
        frame, index = groups[number]
        return frame.hidden(index, device)

    parts, done = [], 0
    for block in embed_made(recognizer, total, in_parts(lengths, hidden)):
        parts.append(block)
        done += len(block)
        progress("masks", done, total)
    ends = np.cumsum([frame.masks.count for frame in frames])
    return np.split(np.concatenate(parts), ends[:-1])


def _hidden(
    frame: UInt8[np.ndarray, "h w 3"], group: Float32[np.ndarray, "g h w"], hide: Hide | None
) -> UInt8[np.ndarray, "g h w 3"]:
    """The frame under each mask of a group."""
    if hide is None:
        return apply_masks(frame, group)
    return np.concatenate([hide(mask < KEPT) for mask in group])


def similarities(
    masked: Float32[np.ndarray, "n d"], references: Float32[np.ndarray, "p d"]
) -> Float64[np.ndarray, "p n"]:
    """Cosine of every masked embedding to every reference; NaN where an embedding is zero."""
    units = unit_rows(references)
    cosines = np.empty((len(references), len(masked)))
    for start in range(0, len(masked), ROWS):
        part = unit_rows(masked[start : start + ROWS])
        for row, unit in zip(cosines, units, strict=True):
            # No matrix product: its last bits may change with the shape and the threads.
            row[start : start + len(part)] = (part * unit).sum(axis=1)
    return cosines


def unit_rows(embeddings: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    """Each embedding at length 1; NaN where it is zero."""
    wide = embeddings.astype(np.float64)
    with np.errstate(invalid="ignore"):
        units: np.ndarray = wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return units


def pair_maps(
    masks: MaskSet,
    masked: Float32[np.ndarray, "n d"],
    references: Float32[np.ndarray, "p d"],
) -> Float64[np.ndarray, "p h w"]:
    """`maps_of_similarities` of embeddings.

    Args:
        masks: The explained image's masks.
        masked: `masked_embeddings` of the explained image under these masks.
        references: Clean embeddings, raw.
    """
    return maps_of_similarities(masks, similarities(masked, references))


def maps_of_similarities(
    masks: MaskSet, scores: Float64[np.ndarray, "p n"]
) -> Float64[np.ndarray, "p h w"]:
    """Maps of one explained image against each of p references, before normalization.

    A similarity that is the same under every mask, to the resolution of float32 embeddings, says
    nothing of the image: its map is zeros, that is degenerate, whatever the method.

    Args:
        masks: The explained image's masks.
        scores: Its similarity to each reference under each mask.
    """
    maps = masks.method.combine(scores, masks).reshape(len(scores), *masks.frame)
    flat = np.ptp(scores, axis=1) <= RESOLUTION
    return np.where(flat[:, None, None], 0.0, maps)


def perturbation_identity_map(
    masks: Sequence[MaskSet],
    masked: Sequence[Float32[np.ndarray, "n d"]],
    clean: Float32[np.ndarray, "m d"],
    pairs: Int[np.ndarray, "p 2"],
) -> tuple[Float32[np.ndarray, "h w"], int, int]:
    """`identity_map_of` from embeddings.

    Memory: `PAIR_BYTES` a few times over, whatever the number of masks and pairs; one image is
    taken after the other, so a lazy `masked` need hold one image's embeddings at a time.

    Args:
        masks: The masks of each of the person's images.
        masked: `masked_embeddings` of each under its masks.
        clean: Their embeddings without a mask, raw.
        pairs: Ordered pairs (explained, reference), as `identity.ordered_pairs` gives them.

    Returns:
        As `identity_map_of`.
    """

    def similar(explained: int, references: np.ndarray) -> np.ndarray:
        return similarities(masked[explained], clean[references])

    return identity_map_of(masks, pairs, similar)


def scored_identity_map(
    masks: Sequence[MaskSet],
    recognizer: ScoreRecognizer,
    frames: UInt8[np.ndarray, "m h w 3"],
    pairs: Int[np.ndarray, "p 2"],
    hides: Sequence[Hide | None],
) -> tuple[Float32[np.ndarray, "h w"], int, int]:
    """`identity_map_of` from scores: a call for every mask of every pair.

    Scores are on a scale of their own: they are divided by the power of two that brings them into
    [-1, 1], which changes no order and, once a map is normalized, no map.

    Args:
        masks: The masks of each of the person's images.
        recognizer: Gives scores only.
        frames: The person's images.
        pairs: Ordered pairs (explained, reference).
        hides: What hides masks on each image, as for `masked_embeddings`.

    Returns:
        As `identity_map_of`.

    Raises:
        UserError: A score is no finite number.
    """

    def similar(explained: int, references: np.ndarray) -> np.ndarray:
        scores = np.empty((len(references), masks[explained].count))
        for row, reference in zip(scores, references, strict=True):
            parts = [
                recognizer.scores(hidden, np.broadcast_to(frames[reference], hidden.shape))
                for group in masks[explained]
                for hidden in [_hidden(frames[explained], group, hides[explained])]
            ]
            row[:] = np.concatenate(parts)
        largest = float(np.abs(scores).max())
        return scores if largest == 0 else scores / 2.0 ** math.ceil(math.log2(largest))

    return identity_map_of(masks, pairs, similar)


def identity_map_of(
    masks: Sequence[MaskSet],
    pairs: Int[np.ndarray, "p 2"],
    similar: Callable[[int, np.ndarray], np.ndarray],
) -> tuple[Float32[np.ndarray, "h w"], int, int]:
    """The map of one person (Protocol: identity-maps), with the numbers of its pair maps.

    Args:
        masks: The masks of each of the person's images.
        pairs: Ordered pairs (explained, reference).
        similar: Similarities [p, n] of an explained image under its masks to p references.

    Returns:
        Mean of the normalized pair maps that are not degenerate, zeros where none is left; the
        number of pair maps; the number of degenerate ones.
    """
    total = np.zeros(masks[0].frame)
    kept = 0
    block = max(1, PAIR_BYTES // (8 * max(masks[0].count, total.size)))
    for explained in np.unique(pairs[:, 0]):
        references = pairs[pairs[:, 0] == explained, 1]
        for start in range(0, len(references), block):
            scores = similar(int(explained), references[start : start + block])
            maps = torch.from_numpy(maps_of_similarities(masks[explained], scores))
            normalized, usable = minmax_normalize(maps)
            # One by one, so that the order of additions is that of the pairs for any block.
            for scaled in normalized[usable].numpy():
                total += scaled
            kept += int(usable.sum())
    return (total / max(kept, 1)).astype(np.float32), len(pairs), len(pairs) - kept


class _Masked(Sequence[np.ndarray]):
    """The embeddings of a person's images under their masks, read one image at a time."""

    def __init__(
        self,
        images: Images,
        source: str,
        rows: Sequence[int] | np.ndarray,
        masks: Sequence[MaskSet],
    ) -> None:
        self._images, self._source, self._rows, self._masks = images, source, rows, masks
        self._read: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if self._read is None or self._read[0] != index:
            row, masks = int(self._rows[index]), self._masks[index]
            self._read = (index, self._images.masked(self._source, row, masks))
        return self._read[1]


class _Perturbations(Explainer):
    """The explainer of all perturbation methods: see `facefocus.saliency.explainer.Explainer`."""

    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """From embeddings under masks, which are there image by image."""
        images, people = request.images, request.people
        recognizer = images.recognizer(request.sources[0])
        compares = recognizer if isinstance(recognizer, ScoreRecognizer) else None
        clean = None if compares else images.clean(request.sources[0])
        device = PROCESSOR if compares else device_of(recognizer)
        for spec in request.specs:
            made = []
            for person in people:
                rng = seeds.generator(images.seed, "pairs", person.name)
                pairs = ordered_pairs(len(person.rows), spec.max_pairs, rng)
                masks = [
                    masks_of(
                        spec.method,
                        spec.options,
                        images.frame,
                        name,
                        images.seed,
                        spec.fill,
                        device,
                    )
                    for name in images.names(person.rows)
                ]
                if clean is None:
                    assert compares is not None
                    frames = np.asarray(images.frames[person.rows])
                    hides = [
                        None if spec.fill is None else images.hider(np.array([row]), spec.fill)
                        for row in person.rows
                    ]
                    made.append(scored_identity_map(masks, compares, frames, pairs, hides))
                    continue
                masked = _Masked(images, request.sources[0], person.rows, masks)
                made.append(perturbation_identity_map(masks, masked, clean[person.rows], pairs))
            maps, total, degenerate = zip(*made, strict=True)
            counts = np.array(total), np.array(degenerate), np.zeros(len(made), np.int64)
            yield spec, MapArrays(np.stack(maps), *counts)


#: The explainer of all perturbation methods.
PERTURBATIONS = _Perturbations()


def masks_of(
    name: str,
    options: Sequence[tuple[str, str]],
    frame: tuple[int, int],
    image: str,
    seed: int,
    fill: str | None = None,
    device: torch.device = PROCESSOR,
) -> MaskSet:
    """The masks of an image under the perturbation method called `name`."""
    method = METHODS[name]
    assert isinstance(method, PerturbationMethod)
    chosen = dict(options)
    return mask_set(method, frame, image, seed=seed, options=chosen, fill=fill, device=device)


def masks_depend_on(name: str, options: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Those of a perturbation method's options that its masks depend on."""
    method = METHODS[name]
    assert isinstance(method, PerturbationMethod)
    return {key: dict(options)[key] for key in ("masks", *method.shaping)}
