"""Insertion and deletion on verification pairs: how good a method is where it was made for.

The methods explain one pair. Here each explains the first image of a verification pair against the
second, mated or not, and `evaluation.pairwise` hides and shows that image's pixels by its map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float32, Int, UInt8

from facefocus.benchmark.verify import verify_recognizer
from facefocus.core.errors import UserError
from facefocus.core.files import any_path
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.evaluation.insertion_deletion import PairCurves, pair_curves
from facefocus.evaluation.verification import sample_pairs
from facefocus.faces.faceset import FaceSet, Pairs, open_faceset, read_pairs
from facefocus.models.backends import accelerate
from facefocus.models.recognizer import CHUNK, Recognizer, WhiteBox, white_box
from facefocus.models.zoo import load
from facefocus.occlusion.fills import FILLS, fill_rng
from facefocus.saliency.baselines import baseline_map
from facefocus.saliency.identity import minmax_normalize
from facefocus.saliency.methods import (
    METHODS,
    Baseline,
    GradientMethod,
    Method,
    PerturbationMethod,
    Preset,
)
from facefocus.saliency.objectives import Objective, parse_objective
from facefocus.saliency.perturbation import mask_set, masked_embeddings, pair_maps

#: The control of every table: pixels in random order.
CONTROL = "random"
#: Points of a curve, from 0 to 100 % of the pixels.
STEPS = 11


@dataclass(frozen=True, eq=False)
class PairFrames:
    """Verification pairs with all that is needed of the face set.

    Attributes:
        frames: The frames that any pair uses.
        names: Their names.
        first: Row in `frames` of each pair's probe, the explained image.
        second: Row of its reference.
        mated: Which pairs are mated.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    names: np.ndarray
    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]
    mated: Bool[np.ndarray, " p"]


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


@dataclass(frozen=True)
class _Choice:
    """A method with its layer and objective; None where it has no use for one."""

    name: str
    method: Method
    layer: str | None
    objective: str | None


@any_path
def pair_level(
    folder: Path,
    model: str,
    methods: Sequence[str],
    *,
    layer: str = "N",
    pairs: int = 500,
    fill: str = "black",
    rule: str = "eer",
    seed: int = 0,
    backend: str = "auto",
    store: Path | None = None,
    preprocessing: Mapping[str, object] | None = None,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Insertion and deletion curves of some methods and of random pixels.

    Gradients are those of the cosine. The threshold is that of all pairs of the face set's list
    (or of a seeded sample) by `rule`; the curves are over a seeded sample of it, mated
    and non-mated pairs in equal number.

    Args:
        folder: A prepared face set.
        model: A recognizer.
        methods: Names of gradient and black-box methods, presets and baselines.
        layer: Layer or group of the gradient methods.
        pairs: Pairs to try, at most.
        fill: What hides a pixel.
        rule: Where the threshold comes from, see `verification.parse_rule`.
        seed: Seed of every draw.
        backend: What runs passes without gradients.
        store: Where clean embeddings are looked for and kept; the shared store by default.
        preprocessing: How a recognizer from a file reads frames; see `zoo.load`.
        progress: Called with ``embed``, then for each method in pairs and in frames.

    Returns:
        A row for each method, mode (``deletion``, ``insertion``) and share of the pixels:
        faces, model, method, layer, fill, seed, threshold_rule, threshold, pairs, mated,
        degenerate, ill_conditioned, mode, share, accuracy, and the area under the whole curve.

    Raises:
        UserError: The face set, the recognizer or a name is wrong, or a method works on people.
    """
    choices, content_of = _choices(methods, layer), FILLS[fill]
    recognizer = accelerate(load(model, preprocessing), backend)
    _check(choices, recognizer)
    faces = open_faceset(folder)
    chosen = _chosen_pairs(faces, read_pairs(folder), pairs, seed)
    verified = verify_recognizer(
        folder,
        model,
        rule=rule,
        seed=seed,
        backend=backend,
        preprocessing=preprocessing,
        store=store,
        progress=progress,
    )
    level = verified.report.threshold
    content = content_of(chosen.frames, [fill_rng(seed, str(name)) for name in chosen.names])
    rows = [
        _table(choice, *_tried(choice, recognizer, chosen, content, level, seed, progress))
        for choice in choices
    ]
    common = {
        "faces": faces.title,
        "model": model,
        "fill": fill,
        "seed": seed,
        "threshold_rule": verified.report.rule,
        "threshold": level,
        "pairs": len(chosen.first),
        "mated": int(chosen.mated.sum()),
    }
    columns = [pl.lit(value).alias(name) for name, value in common.items()]
    return pl.concat(rows).select(*columns, pl.all())


def _tried(
    choice: _Choice,
    recognizer: Recognizer,
    pairs: PairFrames,
    content: np.ndarray,
    threshold: float,
    seed: int,
    progress: Progress,
) -> tuple[PairMaps, PairCurves]:
    """The maps of one method and what hiding and showing pixels by them does."""
    made = _pair_maps(choice, recognizer, pairs, seed, progress)
    curves = pair_curves(
        _counting(recognizer, choice.name, (2 * STEPS + 1) * len(pairs.first), progress),
        pairs.frames,
        pairs.first,
        pairs.second,
        pairs.mated,
        maps=made.maps,
        content=content,
        threshold=threshold,
        rngs=_rngs("ties", pairs, seed),
        steps=STEPS,
    )
    return made, curves


# What is asked for --------------------------------------------------------------------------------


def _choices(methods: Sequence[str], layer: str) -> list[_Choice]:
    """The methods, each once, and the control at the end."""
    return [_choice(name, layer) for name in dict.fromkeys((*methods, CONTROL))]


def _choice(name: str, layer: str) -> _Choice:
    method = METHODS[name]
    if isinstance(method, Preset):
        return _Choice(name, METHODS[method.method], method.layer, method.objective)
    if not isinstance(method, GradientMethod | PerturbationMethod | Baseline):
        raise UserError(
            f"The method '{name}' explains a person, not a pair. Known for pairs: "
            f"{', '.join(one for one in METHODS if METHODS[one].kind != 'frame-gradient')}."
        )
    graded = isinstance(method, GradientMethod)
    return _Choice(name, method, layer if graded else None, "cosine" if graded else None)


def _check(choices: Sequence[_Choice], recognizer: Recognizer) -> None:
    """Mistakes show before anything is computed."""
    for choice in choices:
        if choice.layer is not None:
            white_box(recognizer, f"the method '{choice.name}'").layers().resolve(choice.layer)


def _chosen_pairs(faces: FaceSet, listed: Pairs | None, count: int, seed: int) -> PairFrames:
    """Half of `count` mated, half non-mated, drawn from the list; all where it has fewer."""
    if count < 2:
        raise UserError(f"The number of pairs must be at least 2. Got {count}.")
    if listed is None:
        listed = sample_pairs(faces.identities, count=count, seed=seed)
    parts = []
    for mated, wanted in ((True, count // 2), (False, count - count // 2)):
        places = np.flatnonzero(listed.mated == mated)
        rng = generator(seed, "pair level", str(mated))
        drawn = rng.choice(places, min(wanted, len(places)), replace=False)
        parts.append(np.sort(drawn))
    chosen = np.concatenate(parts)
    if not len(chosen):
        raise UserError(f"The face set '{faces.title}' has no pairs.")
    first, second = listed.first[chosen], listed.second[chosen]
    rows = np.unique(np.concatenate([first, second]))
    return PairFrames(
        frames=np.asarray(faces.frames[rows]),
        names=np.asarray(faces.names[rows]),
        first=np.searchsorted(rows, first),
        second=np.searchsorted(rows, second),
        mated=listed.mated[chosen],
    )


def _rngs(purpose: str, pairs: PairFrames, seed: int) -> list[np.random.Generator]:
    """A generator for each pair, that depends on its two names alone."""
    return [
        generator(seed, purpose, str(pairs.names[a]), str(pairs.names[b]))
        for a, b in zip(pairs.first, pairs.second, strict=True)
    ]


def _counting(
    recognizer: Recognizer, stage: str, total: int, progress: Progress
) -> Callable[[np.ndarray], np.ndarray]:
    """The recognizer's `embed`, with progress in frames."""
    done = 0

    def embed(frames: np.ndarray) -> np.ndarray:
        nonlocal done
        embeddings = recognizer.embed(frames)
        done += len(frames)
        progress(stage, done, total)
        return embeddings

    return embed


def _table(choice: _Choice, made: PairMaps, curves: PairCurves) -> pl.DataFrame:
    parts = [
        pl.DataFrame({"share": curves.shares, "accuracy": accuracy}).select(
            pl.lit(choice.name).alias("method"),
            pl.lit(choice.layer, dtype=pl.String).alias("layer"),
            pl.lit(made.degenerate).alias("degenerate"),
            pl.lit(made.ill_conditioned).alias("ill_conditioned"),
            pl.lit(mode).alias("mode"),
            pl.all(),
            pl.lit(area).alias("area"),
        )
        for mode, accuracy, area in (
            ("deletion", curves.deletion, curves.deletion_area),
            ("insertion", curves.insertion, curves.insertion_area),
        )
    ]
    return pl.concat(parts)


# Maps ---------------------------------------------------------------------------------------------


def _pair_maps(
    choice: _Choice, recognizer: Recognizer, pairs: PairFrames, seed: int, progress: Progress
) -> PairMaps:
    stage = f"{choice.name} maps"
    if isinstance(choice.method, Baseline):
        return baseline_pair_maps(choice.method, pairs, seed=seed)
    if isinstance(choice.method, PerturbationMethod):
        return masked_pair_maps(
            recognizer, choice.method, pairs, seed=seed, progress=_renamed(progress, stage)
        )
    assert isinstance(choice.method, GradientMethod) and choice.layer and choice.objective
    return cam_pair_maps(
        white_box(recognizer, f"the method '{choice.name}'"),
        choice.method,
        pairs,
        layer=choice.layer,
        objective=parse_objective(choice.objective),
        progress=_renamed(progress, stage),
    )


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
    method: GradientMethod,
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
    layers, options = recognizer.layers().resolve(layer), method.resolve_options({})
    parts, shaky = [], []
    for start in range(0, len(pairs.first), CHUNK):
        # Always full: what an image's map is must not depend on how many are in its company.
        places = np.minimum(np.arange(start, start + CHUNK), len(pairs.first) - 1)
        references = torch.from_numpy(recognizer.embed(pairs.frames[pairs.second[places]]))
        with recognizer.capture(pairs.frames[pairs.first[places]], layers) as captured:
            e_a = captured.embeddings
            e_b = references.to(e_a)
            scale = objective.scale(e_a, e_b)[:, None, None, None]
            gradients = captured.gradients(objective.direction(e_a, e_b))
            total, ill = torch.zeros(CHUNK, *frame), torch.zeros(CHUNK, dtype=torch.bool)
            for index in layers:
                made = method.maps(captured.activations[index], gradients[index] * scale, options)
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

    Every pair costs a forward pass for each mask; an image's masks are those of an experiment.
    """
    shape = (pairs.frames.shape[1], pairs.frames.shape[2])
    references, parts = recognizer.embed(pairs.frames[pairs.second]), []
    for place, row in enumerate(pairs.first):
        masks = mask_set(method, shape, str(pairs.names[row]), seed=seed)
        masked = masked_embeddings(recognizer, pairs.frames[row], masks)
        parts.append(pair_maps(masks, masked, references[place : place + 1]))
        progress("maps", place + 1, len(pairs.first))
    return _collected(torch.from_numpy(np.concatenate(parts)))


def _collected(maps: torch.Tensor, ill: torch.Tensor | None = None) -> PairMaps:
    normalized, usable = minmax_normalize(maps)
    shaky = 0 if ill is None else int((usable & ill).sum())
    return PairMaps(normalized.float().cpu().numpy(), int((~usable).sum()), shaky)
