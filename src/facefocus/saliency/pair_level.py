"""Maps of verification pairs: the first image of each explained against the second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, UInt8

from facefocus.core.errors import UserError
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.models.recognizer import CHUNK, Recognizer, WhiteBox, white_box
from facefocus.saliency.baselines import baseline_map
from facefocus.saliency.explainer import Hide
from facefocus.saliency.identity import minmax_normalize
from facefocus.saliency.methods import (
    METHODS,
    Baseline,
    FrameGradientMethod,
    LayerMethod,
    Method,
    PerturbationMethod,
)
from facefocus.saliency.objectives import Objective, parse_objective
from facefocus.saliency.perturbation import mask_set, masked_embeddings, pair_maps
from facefocus.saliency.photo_maps import (
    PhotoGradientMethod,
    PhotoMethod,
    blackened,
    photo_pair_maps,
)

#: Share of the pixels that maps are made for which depend on the budget: the curves have none.
BUDGET = 0.05


@dataclass(frozen=True, eq=False)
class PairFrames:
    """Verification pairs with all that is needed of the face set.

    Attributes:
        frames: The frames that any pair uses.
        names: Their names.
        first: Row in `frames` of each pair's probe, the explained image.
        second: Row of its reference.
        mated: Which pairs are mated.
        people: Whose each frame is; needed by methods that look at somebody else.
        against: Row of the image of somebody else that such methods hold against each pair;
            without, the most similar one among other people's probes.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    names: np.ndarray
    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]
    mated: Bool[np.ndarray, " p"]
    people: np.ndarray | None = None
    against: Int[np.ndarray, " p"] | None = None


@dataclass(frozen=True, eq=False)
class PairMaps:
    """Maps of pairs in the frame.

    Attributes:
        maps: In [0, 1]; zeros where degenerate, that is pixels in random order.
        degenerate: How many carry no ranking.
        ill_conditioned: How many of the others are hardly reproducible, at any of their layers.
    """

    maps: Float32[np.ndarray, "p h w"]
    degenerate: int
    ill_conditioned: int = 0


_EXPLAINS_PAIRS = (LayerMethod, PerturbationMethod, Baseline, PhotoMethod, FrameGradientMethod)


@dataclass(frozen=True)
class PairMethod:
    """A method with its layer and objective; None where it has no use for one."""

    name: str
    method: Method
    layer: str | None
    objective: str | None


def explains_pairs(name: str) -> bool:
    """Whether a method explains pairs; the others explain people."""
    method = METHODS[name]
    return method.fixed is not None or isinstance(method, _EXPLAINS_PAIRS)


def pair_method(name: str, layer: str) -> PairMethod:
    """A method as it explains pairs.

    Args:
        name: Of a gradient, attention or perturbation method, a preset or a baseline.
        layer: Of a gradient method.

    Raises:
        UserError: It explains people, not pairs.
    """
    method = METHODS[name]
    if method.fixed is not None:
        fixed = method.fixed
        return PairMethod(name, METHODS[fixed.method], fixed.layer, fixed.objective)
    if not explains_pairs(name):
        pairs = (known for known in METHODS if explains_pairs(known))
        raise UserError(
            f"The method '{name}' explains a person, not a pair. Known for pairs: "
            f"{', '.join(pairs)}."
        )
    needs = method.needs(method.resolve_options({}))
    objective = "cosine" if needs.objective else None
    return PairMethod(name, method, layer if needs.layer else None, objective)


def check_layer(choice: PairMethod, recognizer: Recognizer) -> None:
    """Refuse a layer that a recognizer does not have, before anything is computed.

    Raises:
        UserError: There is no such layer, or it is a black box.
    """
    if isinstance(choice.method, LayerMethod):
        table = white_box(recognizer, f"the method '{choice.name}'").layers()
        choice.method.calls_by_map(table, choice.layer or "")
    elif isinstance(choice.method, FrameGradientMethod):
        white_box(recognizer, f"the method '{choice.name}'")
    elif isinstance(choice.method, PhotoGradientMethod):
        table = white_box(recognizer, f"the method '{choice.name}'").layers()
        if choice.layer is not None:
            table.resolve(choice.layer)


def pair_level_maps(
    choice: PairMethod,
    recognizer: Recognizer,
    pairs: PairFrames,
    seed: int,
    progress: Progress,
    hides: Callable[[np.ndarray], Hide] | None = None,
) -> PairMaps:
    """The maps of one method, of the first image of each pair against the second.

    `hides` gives what hides masks on the frames of some rows, for methods that depend on the fill;
    black by default.
    """
    stage = f"{choice.name} maps"
    if isinstance(choice.method, Baseline):
        return baseline_pair_maps(choice.method, pairs, seed=seed)
    if isinstance(choice.method, PerturbationMethod):
        return masked_pair_maps(
            recognizer, choice.method, pairs, seed=seed, progress=_renamed(progress, stage)
        )
    if isinstance(choice.method, PhotoMethod):
        return _photo_maps(choice, recognizer, pairs, seed, _renamed(progress, stage), hides)
    if isinstance(choice.method, FrameGradientMethod):
        return _frame_maps(choice, recognizer, pairs, seed, _renamed(progress, stage), hides)
    assert isinstance(choice.method, LayerMethod)
    return cam_pair_maps(
        white_box(recognizer, f"the method '{choice.name}'"),
        choice.method,
        pairs,
        layer=choice.layer or "",
        objective=parse_objective(choice.objective or "cosine"),
        progress=_renamed(progress, stage),
    )


def contrast_maps(
    choice: PairMethod,
    recognizer: Recognizer,
    pairs: PairFrames,
    seed: int,
    progress: Progress,
    hides: Callable[[np.ndarray], Hide] | None = None,
) -> tuple[PairMaps, Float32[np.ndarray, "p h w"]]:
    """The maps of pairs, and what in them is against others (Protocol: truth-on-real-faces).

    The contrast is the map of the first image against the second, minus that against the other
    one; of a method that holds a stranger against a pair, the map itself, with that stranger. A
    baseline sees neither: its contrast is its map.

    Raises:
        ValueError: There is nothing to hold against the pairs.
    """
    if pairs.against is None:
        raise ValueError("A contrast needs images that are held against the pairs.")
    method = choice.method
    held = isinstance(method, PhotoGradientMethod) and method.gallery
    if held or isinstance(method, Baseline):
        made = pair_level_maps(choice, recognizer, pairs, seed, progress, hides)
        return made, made.maps
    both = replace(
        pairs,
        first=np.repeat(pairs.first, 2),
        second=np.stack([pairs.second, pairs.against], axis=1).ravel(),
        mated=np.repeat(pairs.mated, 2),
        against=None,
    )
    made = pair_level_maps(choice, recognizer, both, seed, progress, hides)
    mates, others = made.maps[::2], made.maps[1::2]
    return replace(made, maps=mates), mates - others


def _photo_maps(
    choice: PairMethod,
    recognizer: Recognizer,
    pairs: PairFrames,
    seed: int,
    progress: Progress,
    hides: Callable[[np.ndarray], Hide] | None,
) -> PairMaps:
    assert isinstance(choice.method, PhotoMethod)
    calls: tuple[int, ...] = ()
    if choice.layer is not None:
        table = white_box(recognizer, f"the method '{choice.name}'").layers()
        calls = table.resolve(choice.layer)
    people = pairs.names if pairs.people is None else pairs.people
    made = photo_pair_maps(
        choice.method,
        recognizer,
        pairs.frames[pairs.first],
        pairs.frames[pairs.second],
        names=[
            f"{pairs.names[a]}\x1f{pairs.names[b]}"
            for a, b in zip(pairs.first, pairs.second, strict=True)
        ],
        people=[str(people[row]) for row in pairs.first],
        hiders=[
            blackened(pairs.frames[row]) if hides is None else hides(np.array([row]))
            for row in pairs.first
        ],
        calls=calls,
        pixels=round(BUDGET * pairs.frames[0, ..., 0].size),
        seed=seed,
        strangers=None if pairs.against is None else pairs.frames[pairs.against],
    )
    maps = []
    for done, each in enumerate(made, start=1):
        maps.append(each)
        progress("maps", done, len(pairs.first))
    return _collected(torch.from_numpy(np.stack(maps).astype(np.float64)))


def _frame_maps(
    choice: PairMethod,
    recognizer: Recognizer,
    pairs: PairFrames,
    seed: int,
    progress: Progress,
    hides: Callable[[np.ndarray], Hide] | None,
) -> PairMaps:
    """Maps of methods that explain people: each probe is a person of one photo, with one mate."""
    assert isinstance(choice.method, FrameGradientMethod)
    options = choice.method.resolve_options({})
    needs = choice.method.needs(options)
    probes = [pairs.frames[row : row + 1] for row in pairs.first]
    made = choice.method.function(
        [white_box(recognizer, f"the method '{choice.name}'")],
        probes,
        [
            blackened(frames[0]) if hides is None else hides(np.array([row]))
            for frames, row in zip(probes, pairs.first, strict=True)
        ]
        if needs.fill
        else [],
        pixels=round(BUDGET * pairs.frames[0, ..., 0].size) if needs.budget else 0,
        rngs=[
            generator(seed, "ties", str(pairs.names[a]), str(pairs.names[b]))
            for a, b in zip(pairs.first, pairs.second, strict=True)
        ],
        options=options,
        progress=progress,
        mates=[pairs.frames[row : row + 1] for row in pairs.second],
    )
    return _collected(torch.from_numpy(np.stack([each.map for each in made]).astype(np.float64)))


def _renamed(progress: Progress, stage: str) -> Progress:
    return lambda _, done, total: progress(stage, done, total)


def baseline_pair_maps(method: Baseline, pairs: PairFrames, *, seed: int) -> PairMaps:
    """Maps that look at nothing, each pair its own."""
    shape = (pairs.frames.shape[1], pairs.frames.shape[2])
    maps = [
        baseline_map(method, shape, seed=seed, identity=f"{pairs.names[a]}\x1f{pairs.names[b]}")
        for a, b in zip(pairs.first, pairs.second, strict=True)
    ]
    return _collected(torch.from_numpy(np.stack(maps)))


def cam_pair_maps(
    recognizer: WhiteBox,
    method: LayerMethod,
    pairs: PairFrames,
    *,
    layer: str,
    objective: Objective,
    progress: Progress = silent,
) -> PairMaps:
    """Maps of the first image of each pair against the second (Protocol: class-activation-maps).

    One forward and one backward pass for 16 pairs. The maps of a group of layers are averaged,
    each normalized and in the frame; layers without a ranking are left out.
    """
    frame = (pairs.frames.shape[1], pairs.frames.shape[2])
    table, options = recognizer.layers(), method.resolve_options({})
    calls_by_map = method.calls_by_map(table, layer)
    layers = sorted({index for calls in calls_by_map for index in calls})
    parts, shaky = [], []
    for start in range(0, len(pairs.first), CHUNK):
        # Always full: what an image's map is must not depend on how many are in its company.
        indices = np.minimum(np.arange(start, start + CHUNK), len(pairs.first) - 1)
        references = torch.from_numpy(recognizer.embed(pairs.frames[pairs.second[indices]]))
        with recognizer.capture(pairs.frames[pairs.first[indices]], layers) as captured:
            e_a = captured.embeddings
            e_b = references.to(e_a)
            scale = objective.scale(e_a, e_b)
            gradients = captured.gradients(objective.direction(e_a, e_b))
            total, ill = torch.zeros(CHUNK, *frame), torch.zeros(CHUNK, dtype=torch.bool)
            for calls in calls_by_map:
                scaled = [
                    gradients[i] * scale.reshape(-1, *[1] * (gradients[i].dim() - 1)) for i in calls
                ]
                rows = [table.calls[i - 1] for i in calls]
                raw = [captured.activations[i] for i in calls]
                made = method.maps_at(rows, raw, scaled, options)
                normalized, usable = minmax_normalize(made[0])
                ill |= (usable & made[1]).cpu()
                total += recognizer.preprocessing.to_frame(normalized.float().cpu(), frame)
        parts.append(total[: len(pairs.first) - start])
        shaky.append(ill[: len(pairs.first) - start])
        progress("maps", min(start + CHUNK, len(pairs.first)), len(pairs.first))
    return _collected(torch.cat(parts), torch.cat(shaky))


def masked_pair_maps(
    recognizer: Recognizer,
    method: PerturbationMethod,
    pairs: PairFrames,
    *,
    seed: int,
    progress: Progress = silent,
) -> PairMaps:
    """Maps of the first image of each pair from its similarity to the second under masks.

    Every pair costs a forward pass for each mask, pairs of one first image in a row share them; an
    image's masks are those of an experiment.
    """
    shape = (pairs.frames.shape[1], pairs.frames.shape[2])
    references, parts = recognizer.embed(pairs.frames[pairs.second]), []
    for index, row in enumerate(pairs.first):
        if index == 0 or row != pairs.first[index - 1]:
            masks = mask_set(method, shape, str(pairs.names[row]), seed=seed)
            masked = masked_embeddings(recognizer, pairs.frames[row], masks)
        parts.append(pair_maps(masks, masked, references[index : index + 1]))
        progress("maps", index + 1, len(pairs.first))
    return _collected(torch.from_numpy(np.concatenate(parts)))


def _collected(maps: torch.Tensor, ill: torch.Tensor | None = None) -> PairMaps:
    normalized, usable = minmax_normalize(maps)
    shaky = 0 if ill is None else int((usable & ill).sum())
    return PairMaps(normalized.float().cpu().numpy(), int((~usable).sum()), shaky)
