"""From pairs to an identity: the average of a person's pair maps (Protocol: identity-maps).

Passes through the network are shared: one forward pass per image answers for all its partners,
layers, methods and objectives, and gives the reference of its partners. Work goes in rounds: in
round r every image of a chunk takes its r-th partner, and one backward pass per direction family
serves all layers and methods.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor

from facefocus.core import seeds
from facefocus.core.errors import UserError
from facefocus.core.progress import Progress, silent
from facefocus.faces.faceset import Identity
from facefocus.models.capture import Capture
from facefocus.models.layers import Call, LayerTable, placement
from facefocus.models.memory import in_halves
from facefocus.models.occluded_frames import sent
from facefocus.models.recognizer import CHUNK, WhiteBox, check_finite, in_flight, white_box
from facefocus.models.reproducible import reproducible
from facefocus.saliency.explainer import Explainer, MapArrays, MapRequest, Maps, MapSpec, Passes
from facefocus.saliency.objectives import parse_objective
from facefocus.saliency.streams import (
    FORWARD,
    Cam,
    CamConfig,
    Goal,
    Stream,
    StreamPlan,
    plan_streams,
)

__all__ = [
    "CamConfig",
    "cam_identity_maps",
    "minmax_normalize",
    "ordered_pairs",
]

#: Floats of activation a CAM function is given at once: 2 MB, so that its few temporaries stay in
#: the cache. Measured here on 16 x [64, 112, 112]: 3 to 5 times as fast as the whole chunk.
BLOCK = 2**19
#: The same on a GPU, which small blocks leave idle: 256 MB.
GPU_BLOCK = 2**26
#: Frames embedded at once as references: 10 MB of them.
EMBEDDED = 16 * CHUNK


def minmax_normalize(
    maps: Float[Tensor, "n h w"],
) -> tuple[Float[Tensor, "n h w"], Bool[Tensor, " n"]]:
    """Each map scaled to [0, 1], and whether it carries a ranking (Protocol: identity-maps).

    Degenerate maps - all equal, all zero or not finite - come back as zeros.
    """
    low = maps.amin(dim=(1, 2), keepdim=True)
    span = maps.amax(dim=(1, 2), keepdim=True) - low
    usable = span.isfinite() & (span > 0)
    normalized = ((maps - low) / span).where(usable, 0.0)
    return normalized, usable[:, 0, 0]


def ordered_pairs(
    count: int, max_pairs: int | None, rng: np.random.Generator
) -> Int[np.ndarray, "p 2"]:
    """Ordered pairs (explained, reference) of `count` images of one person, ascending.

    All count * (count - 1) of them, or a sample of `max_pairs`, every pair equally likely. The
    sample is balanced - images are explained equally often, give or take one - so that few pairs
    still see most images, and rounds of backward passes stay full.
    """
    partners = max(count - 1, 0)
    if max_pairs is None or max_pairs >= count * partners:
        per_image = np.full(count, partners)
    else:
        per_image = np.full(count, max_pairs // count)
        per_image[rng.choice(count, max_pairs % count, replace=False)] += 1
    others = [np.sort(rng.choice(partners, n, replace=False)) for n in per_image if n]
    explained = np.repeat(np.arange(count), per_image)
    reference = np.concatenate([np.empty(0, np.int64), *others])
    # Numbered without the image itself, so those from it on move up by one.
    return np.stack([explained, reference + (reference >= explained)], axis=1).astype(np.int64)


def cam_identity_maps(
    recognizer: WhiteBox,
    frames: UInt8[np.ndarray, "n h w 3"],
    identities: Sequence[Identity],
    configs: Sequence[CamConfig],
    *,
    max_pairs: int | None,
    seed: int,
    progress: Progress = silent,
) -> dict[CamConfig, MapArrays]:
    """Identity maps of every configuration, in the order of `identities` (Protocol: identity-maps).

    The result of an identity does not depend on the others, their order or the number of threads,
    bit for bit (`facefocus.models.reproducible`).
    Memory beyond the result, for the recognizer's `graph_batch` of images: the activations of the
    layers asked for, the graph behind them and one set of gradients, plus one float64 map per
    stream (layer, method, objective) and image; the maps themselves are made in blocks of about
    2 MB. On a GPU the next images are captured before the maps of some are brought from there.

    Args:
        recognizer: The recognizer to look into.
        frames: All frames, RGB, 0-255; may be memory-mapped.
        identities: Whom to explain, by rows of `frames`.
        configs: What to compute; common work is done once.
        max_pairs: At most so many ordered pairs of each identity, or None for all.
        seed: The experiment's seed; it draws the sample of pairs.
        progress: Called per backward pass, each for up to 16 pairs.

    Raises:
        UserError: `max_pairs` below 1, a method that is no gradient method, a bad option,
            objective or layer.
    """
    plan = plan_streams(configs, recognizer.layers())
    jobs = _jobs(identities, max_pairs, seed)
    device = placement(recognizer.module)[0]
    size = getattr(recognizer, "graph_batch", CHUNK)
    chunks = _chunks(jobs, size)
    if _is_gpu(device):
        chunks = [_filled(chunk, size) for chunk in chunks]
    references = _References(recognizer, frames, identities, device)
    references.make(_early(chunks))
    frame = (frames.shape[1], frames.shape[2])
    results = _Results.empty(plan, len(identities), frame)
    tick = _counter(progress, len(plan.work) * sum(map(_rounds, chunks)))
    waiting = np.bincount([job.identity for job in jobs], minlength=len(identities))
    running: dict[int, _Sums] = defaultdict(lambda: _Sums(1))

    def sums_of(part: Sequence[_Job]) -> tuple[Sequence[_Job], _Sums]:
        return part, _chunk_sums(recognizer, frames, part, references, plan, tick)

    halves = getattr(recognizer, "halves", True)
    made = (in_halves(sums_of, chunk) if halves else [sums_of(chunk)] for chunk in chunks)
    for part, sums in in_flight(chain.from_iterable(made), int(_is_gpu(device))):
        brought = sums.brought()
        for slot, job in enumerate(_explained(part)):
            running[job.identity].add_slot(brought, slot)
            waiting[job.identity] -= 1
            if waiting[job.identity] == 0:
                done = running.pop(job.identity)
                results.put(job.identity, _frame_maps(recognizer, done, frame), done)
    return results.finished(_pairs_per_identity(jobs, len(identities)))


class _Cams(Explainer):
    """The explainer of all gradient and attention methods; see the base class."""

    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """All maps from shared passes; pairs are capped alike within one call."""
        recognizer = white_box(request.images.recognizer(request.sources[0]), "a gradient method")
        by_cap: dict[int | None, list[MapSpec]] = defaultdict(list)
        for spec in request.specs:
            by_cap[spec.max_pairs].append(spec)
        for max_pairs, capped in by_cap.items():
            configs = {spec: _config(spec) for spec in capped}
            made = cam_identity_maps(
                recognizer,
                request.images.frames,
                request.people,
                list(dict.fromkeys(configs.values())),
                max_pairs=max_pairs,
                seed=request.images.seed,
                progress=progress,
            )
            yield from ((spec, made[config]) for spec, config in configs.items())

    def passes(self, request: MapRequest, every: Sequence[MapSpec]) -> Passes:
        """A forward pass an image, a backward pass a pair and family of objectives."""
        total = Passes()
        for most in dict.fromkeys(spec.max_pairs for spec in request.specs):
            families = {
                parse_objective(spec.objective, normalize=spec.normalize).family
                for spec in request.specs
                if spec.max_pairs == most and spec.objective is not None
            }
            jobs = _jobs(request.people, most, request.images.seed)
            pairs = sum(len(job.partners) for job in jobs)
            calls = sum(len(spec.calls) for spec in every if spec.max_pairs == most)
            total += Passes(
                forward=len(jobs) + len(_early(_chunks(jobs))),
                backward=pairs * len(families),
                alone=2 * calls * pairs,
            )
        return total


#: The explainer of all gradient and attention methods.
CAMS = _Cams()


def _config(spec: MapSpec) -> CamConfig:
    return CamConfig(
        method=spec.method,
        layer=spec.layer or "",
        objective=spec.objective or "",
        options=spec.options,
        evidence=spec.evidence,
        normalize=spec.normalize,
        arcface_scale=spec.arcface_scale,
    )


# The work -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One image to explain.

    Attributes:
        row: Its row of the frames.
        own: Its number among the references.
        identity: Whose it is.
        partners: Numbers of its partners among the references.
    """

    row: int
    own: int
    identity: int
    partners: np.ndarray


def _jobs(identities: Sequence[Identity], max_pairs: int | None, seed: int) -> list[_Job]:
    """Images with partners, those of an identity together, similar numbers of partners in a row."""
    if max_pairs is not None and max_pairs < 1:
        raise UserError(f"The 'max_pairs' must be at least 1. Got {max_pairs}.")
    people: list[list[_Job]] = []
    first = 0
    for index, identity in enumerate(identities):
        count = len(identity.rows)
        rng = seeds.generator(seed, "pairs", identity.name)
        pairs = ordered_pairs(count, max_pairs, rng)
        ends = np.cumsum(np.bincount(pairs[:, 0], minlength=count))
        partners = np.split(first + pairs[:, 1], ends[:-1])
        own = [
            _Job(int(row), first + number, index, others)
            for number, (row, others) in enumerate(zip(identity.rows, partners, strict=True))
            if len(others)
        ]
        people.append(sorted(own, key=lambda job: -len(job.partners)))
        first += count
    # Whole identities, so that few are unfinished at a time and their sums can be let go.
    people.sort(key=_rounds, reverse=True)
    return [job for own in people for job in own]


def _is_gpu(device: torch.device) -> bool:
    """Whether work is only queued there, and small work leaves it idle."""
    return device.type == "cuda"


def _chunks(jobs: Sequence[_Job], size: int = CHUNK) -> list[list[_Job]]:
    """`size` images each; most partners first, so that those who still have one lead the chunk."""
    return [
        sorted(jobs[start : start + size], key=lambda job: -len(job.partners))
        for start in range(0, len(jobs), size)
    ]


def _filled(chunk: Sequence[_Job], size: int) -> list[_Job]:
    """With copies of the last image that have no partners.

    The kernels of a GPU depend on how many images there are, and its last bits on the kernels.
    """
    filler = replace(chunk[-1], partners=chunk[-1].partners[:0])
    return [*chunk, *[filler] * (size - len(chunk))]


def _explained(chunk: Sequence[_Job]) -> list[_Job]:
    """Without the filling."""
    return [job for job in chunk if len(job.partners)]


def _early(chunks: Sequence[Sequence[_Job]]) -> list[int]:
    """References that are needed before their image is captured, or whose image never is."""
    early: dict[int, None] = {}
    captured: set[int] = set()
    for chunk in chunks:
        captured.update(job.own for job in chunk)
        needed = (int(number) for job in chunk for number in job.partners)
        early.update((number, None) for number in needed if number not in captured)
    return list(early)


def _rounds(jobs: Sequence[_Job]) -> int:
    return max((len(job.partners) for job in jobs), default=0)


def _pairs_per_identity(jobs: Sequence[_Job], count: int) -> Int[np.ndarray, " i"]:
    pairs = np.zeros(count, np.int64)
    for job in jobs:
        pairs[job.identity] += len(job.partners)
    return pairs


def _counter(progress: Progress, total: int) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress("backward passes", done, total)

    return tick


class _References:
    """Embeddings of all images of all identities, one after the other; no backend touches them.

    Those of captured images come with the capture, bit for bit what `embed_reference` gives. They
    are where the recognizer is.
    """

    def __init__(
        self,
        recognizer: WhiteBox,
        frames: np.ndarray,
        identities: Sequence[Identity],
        device: torch.device,
    ) -> None:
        self._recognizer, self._frames, self._device = recognizer, frames, device
        rows = [identity.rows for identity in identities]
        self._rows = np.concatenate([np.empty(0, np.int64), *rows])
        self._known = np.zeros(len(self._rows), bool)
        self._table = torch.empty((len(self._rows), 0), device=device)

    def keep(self, numbers: Sequence[int], embeddings: Float[Tensor, "m d"]) -> None:
        """Remember the embeddings of the images of these numbers."""
        if self._table.shape[1] == 0:
            self._table = embeddings.new_empty((len(self._rows), embeddings.shape[1]))
        self._table[self._indices(numbers)] = embeddings
        self._known[numbers] = True

    def make(self, numbers: Sequence[int]) -> None:
        """Embed those of the images that are not known yet."""
        missing = [number for number in numbers if not self._known[number]]
        for start in range(0, len(missing), EMBEDDED):
            part = missing[start : start + EMBEDDED]
            made = self._recognizer.embed_reference(self._frames[self._rows[part]])
            self.keep(part, sent(torch.from_numpy(made), self._device))

    def of(self, numbers: Sequence[int]) -> Float[Tensor, "m d"]:
        """The embeddings of known images."""
        return self._table[self._indices(numbers)]

    def _indices(self, numbers: Sequence[int]) -> Int[Tensor, " m"]:
        return sent(torch.tensor(numbers), self._device)


# One chunk ----------------------------------------------------------------------------------------


class _Sums:
    """Sums of normalized pair maps, how many went in, and how many of these are ill-conditioned.

    Arrays on a processor, where torch takes longer to add; tensors on a GPU, so that no map waits
    for a copy.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.maps: dict[Stream, Any] = {}
        self.kept: dict[Stream, Any] = {}
        self.ill: dict[Stream, Any] = {}

    def add(self, stream: Stream, where: slice, maps: Any, kept: Any, ill: Any) -> None:
        """Add maps [m, h, w] and the counts of maps behind each [m] at the slots `where`."""
        if stream not in self.maps:
            self.maps[stream] = _zeros(maps, (self.slots, *maps.shape[1:]), "float64")
            self.kept[stream] = _zeros(maps, (self.slots,), "int64")
            self.ill[stream] = _zeros(maps, (self.slots,), "int64")
        self.maps[stream][where] += maps
        self.kept[stream][where] += kept
        self.ill[stream][where] += ill

    def add_slot(self, other: _Sums, slot: int) -> None:
        """Add one slot of `other`, an image's sums, to the only slot of these, an identity's."""
        only = slice(slot, slot + 1)
        for stream in other.maps:
            counts = other.kept[stream][only], other.ill[stream][only]
            self.add(stream, slice(0, 1), other.maps[stream][only], *counts)

    def brought(self) -> _Sums:
        """The same on the processor."""
        made = _Sums(self.slots)
        made.maps, made.kept, made.ill = (
            {stream: _on_processor(values) for stream, values in sums.items()}
            for sums in (self.maps, self.kept, self.ill)
        )
        return made


def _zeros(like: Any, shape: tuple[int, ...], dtype: str) -> Any:
    if isinstance(like, Tensor):
        return like.new_zeros(shape, dtype=getattr(torch, dtype))
    return np.zeros(shape, dtype)


def _on_processor(values: Any) -> np.ndarray:
    made: np.ndarray = values.cpu().numpy() if isinstance(values, Tensor) else values
    return made


def _chunk_sums(
    recognizer: WhiteBox,
    frames: np.ndarray,
    chunk: Sequence[_Job],
    references: _References,
    plan: StreamPlan,
    tick: Callable[[], None],
) -> _Sums:
    """Sums over the partners of each image of `chunk`, most partners first.

    Sums are kept per image: the order of additions within an identity is then the same wherever
    its images lie in a chunk. What has to be known on the processor - that the embeddings are
    finite, which signs factors have - is brought before the first backward pass.
    """
    sums = _Sums(len(chunk))
    with recognizer.capture(frames[[job.row for job in chunk]], plan.layers) as captured:
        embeddings = captured.embeddings.float()
        check_finite(embeddings.cpu().numpy(), recognizer.name)
        explained, device = _explained(chunk), embeddings.device
        references.keep([job.own for job in explained], embeddings[: len(explained)])
        references.make([int(partner) for job in explained for partner in job.partners])
        rounds = [
            [int(job.partners[number]) for job in explained if number < len(job.partners)]
            for number in range(_rounds(explained))
        ]
        # On a GPU all images take part in every round, the others with themselves.
        others = [job.own for job in chunk] if _is_gpu(device) else []
        made = [[*partners, *others[len(partners) :]] for partners in rounds]
        with reproducible(device):
            factors = _factors(plan, captured.embeddings, map(references.of, made))
        for partners, with_others, own in zip(rounds, made, factors, strict=True):
            e_b = references.of(with_others)
            for family in plan.work:
                with reproducible(device):
                    _add_family(
                        sums, plan, family, recognizer.layers(), captured, e_b, own, len(partners)
                    )
                tick()
    return sums


@dataclass(frozen=True)
class _Factor:
    """What the gradients of each image are multiplied by for a goal, with its signs on the
    processor."""

    values: Float[Tensor, " m"]
    signs: Float[np.ndarray, " m"]

    def __getitem__(self, part: slice) -> _Factor:
        """Those of some images."""
        return _Factor(self.values[part], self.signs[part])


def _factors(
    plan: StreamPlan,
    embeddings: Float[Tensor, "n d"],
    rounds: Iterable[Float[Tensor, "m d"]],
) -> list[dict[Goal, _Factor]]:
    """Each goal's factor in every round, whose references are given; all signs brought at once."""
    forward = [
        goal
        for cams in plan.work.get(FORWARD, {}).values()
        for goals in cams.values()
        for goal in goals
    ]
    made: list[dict[Goal, Tensor]] = []
    for e_b in rounds:
        e_a = embeddings[: len(e_b)]
        scales = {
            goal: objective.scale(e_a, e_b.to(e_a)) for goal, objective in plan.objectives.items()
        }
        made.append(scales | dict.fromkeys(forward, torch.ones_like(e_a[:, 0])))
    every = [factor for own in made for factor in own.values()]
    if not every:
        return [{} for _ in made]
    signs = torch.cat(every).sign().float().cpu().numpy()
    split = iter(np.split(signs, np.cumsum([len(factor) for factor in every])[:-1]))
    return [{goal: _Factor(factor, next(split)) for goal, factor in own.items()} for own in made]


def _add_family(
    sums: _Sums,
    plan: StreamPlan,
    family: str,
    table: LayerTable,
    captured: Capture,
    e_b: Float[Tensor, "m d"],
    factors: Mapping[Goal, _Factor],
    count: int,
) -> None:
    """One backward pass: add the maps of the first `count` of m images, whose references are `e_b`.

    Images after these m get a zero direction. Methods without an objective need no pass.
    """
    gradients = {} if family == FORWARD else _pulls(plan, family, captured, e_b)
    together = {index for calls in plan.work[family] if len(calls) > 1 for index in calls}
    on_gpu = _is_gpu(captured.embeddings.device)
    for calls, cams in plan.work[family].items():
        activations = [captured.activations[index] for index in calls]
        # Popped, so that a layer's gradient is freed as soon as its maps are made.
        pulls = [
            gradients[index] if index in together else gradients.pop(index)
            for index in calls
            if index in gradients
        ]
        rows = [table.calls[index - 1] for index in calls]
        floats = sum(activation[0].numel() for activation in activations)
        for part in _blocks(len(e_b), floats, GPU_BLOCK if on_gpu else BLOCK):
            inputs = [raw[part] for raw in activations], [pull[part] for pull in pulls]
            for cam, goals in cams.items():
                scales = {goal: factors[goal][part] for goal in goals}
                for goal, made in _pair_maps(plan, cam, rows, *inputs, scales):
                    where = slice(part.start, min(part.stop, count))
                    most = max(count - part.start, 0)
                    values = (value[:most] if on_gpu else value.numpy() for value in made)
                    sums.add(Stream(calls, cam, goal), where, *values)


def _pulls(
    plan: StreamPlan, family: str, captured: Capture, e_b: Float[Tensor, "m d"]
) -> dict[int, Tensor]:
    """Gradients at every captured layer along the direction of a family."""
    e_a = captured.embeddings[: len(e_b)]
    objective = next(iter(plan.family(family).values()))
    directions = torch.zeros_like(captured.embeddings)
    directions[: len(e_b)] = objective.direction(e_a, e_b.to(e_a))
    return captured.gradients(directions)


def _blocks(images: int, floats: int, most: int) -> Iterator[slice]:
    step = max(1, most // floats)
    return (slice(start, min(start + step, images)) for start in range(0, images, step))


#: Normalized maps, which of them are usable, and which of these are ill-conditioned.
_Normalized = tuple[Tensor, Tensor, Tensor]


def _pair_maps(
    plan: StreamPlan,
    cam: Cam,
    calls: Sequence[Call],
    activations: Sequence[Tensor],
    gradients: Sequence[Tensor],
    factors: Mapping[Goal, _Factor],
) -> Iterator[tuple[Goal, _Normalized]]:
    """Normalized maps of each goal, whose gradients are its factor times `gradients`."""
    method, options = plan.methods[cam], dict(cam.options)

    def maps(scaled: Sequence[Tensor]) -> _Normalized:
        made, ill = method.maps_at(calls, activations, scaled, options)
        normalized, usable = minmax_normalize(made)
        return normalized, usable, usable & ill

    if not method.scale_invariant:
        for goal, factor in factors.items():
            yield goal, maps([gradient * _like(factor.values, gradient) for gradient in gradients])
        return
    # Only the sign of a factor matters, so that all goals choose from at most two maps. A factor
    # that is 0 or NaN chooses none.
    by_sign: dict[float, _Normalized] = {}
    for goal, factor in factors.items():
        for sign in (1.0, -1.0):
            if not (factor.signs == sign).any():
                continue
            chosen = factor.values * sign > 0
            if sign not in by_sign:
                by_sign[sign] = maps(gradients if sign > 0 else [-pull for pull in gradients])
            normalized, *counted = by_sign[sign]
            usable, ill = (flags & chosen for flags in counted)
            yield goal, (normalized.where(chosen[:, None, None], 0.0), usable, ill)


def _like(factor: Float[Tensor, " m"], raw: Tensor) -> Tensor:
    """The factor of each image, with as many axes as a layer's output."""
    return factor.reshape(-1, *[1] * (raw.dim() - 1))


# The result ---------------------------------------------------------------------------------------


def _frame_maps(
    recognizer: WhiteBox, sums: _Sums, frame: tuple[int, int]
) -> dict[Stream, Float32[np.ndarray, "h w"]]:
    """The mean map of an identity in the frame, for every stream that has one."""
    by_layer: dict[tuple[int, ...], list[Stream]] = defaultdict(list)
    for stream, kept in sums.kept.items():
        if kept[0] > 0:
            by_layer[stream.calls].append(stream)
    frame_maps: dict[Stream, np.ndarray] = {}
    for streams in by_layer.values():
        means = np.stack([sums.maps[stream][0] / sums.kept[stream][0] for stream in streams])
        framed = recognizer.preprocessing.to_frame(torch.from_numpy(means).float(), frame)
        frame_maps.update(zip(streams, framed.numpy(), strict=True))
    return frame_maps


@dataclass(frozen=True)
class _Results:
    """The result arrays, filled identity by identity."""

    plan: StreamPlan
    maps: Mapping[CamConfig, np.ndarray]
    kept: Mapping[CamConfig, np.ndarray]
    ill: Mapping[CamConfig, np.ndarray]

    @classmethod
    def empty(cls, plan: StreamPlan, count: int, frame: tuple[int, int]) -> _Results:
        """Zeros for `count` identities."""
        maps = {config: np.zeros((count, *frame), np.float32) for config in plan.streams}
        kept, ill = (
            {config: np.zeros(count, np.int64) for config in plan.streams} for _ in range(2)
        )
        return cls(plan, maps, kept, ill)

    def put(self, identity: int, framed: Mapping[Stream, np.ndarray], sums: _Sums) -> None:
        """Each configuration's mean over those of its layers that have a map."""
        for config, streams in self.plan.streams.items():
            layers = [framed[stream] for stream in streams if stream in framed]
            if layers:
                self.maps[config][identity] = np.mean(layers, axis=0, dtype=np.float64)
            for stream in streams:
                if stream in sums.kept:
                    self.kept[config][identity] += sums.kept[stream][0]
                    self.ill[config][identity] += sums.ill[stream][0]

    def finished(self, pairs: Int[np.ndarray, " i"]) -> dict[CamConfig, MapArrays]:
        """The results, given the number of pairs of each identity."""
        return {
            config: MapArrays(
                maps=self.maps[config],
                total=pairs * len(streams),
                degenerate=pairs * len(streams) - self.kept[config],
                ill_conditioned=self.ill[config],
            )
            for config, streams in self.plan.streams.items()
        }
