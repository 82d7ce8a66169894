"""Insertion and deletion on verification pairs: how good a method is where it was made for.

The methods explain one pair. Here each explains the first image of a verification pair against the
second, mated or not; `evaluation.insertion_deletion` hides and shows its pixels by the map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.benchmark.verify import verify_recognizer
from facefocus.core.errors import UserError
from facefocus.core.files import any_path
from facefocus.core.locations import StoreAddress
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.evaluation.insertion_deletion import PairCurves, pair_curves
from facefocus.evaluation.verification import sample_pairs
from facefocus.faces.faceset import FaceSet, Pairs, open_faceset, read_pairs
from facefocus.models.backends import accelerate
from facefocus.models.recognizer import Recognizer
from facefocus.models.zoo import load
from facefocus.occlusion.fills import FILLS, fill_rng, hider, reading
from facefocus.saliency.explainer import Hide
from facefocus.saliency.pair_level import (
    PairFrames,
    PairMaps,
    PairMethod,
    check_layer,
    pair_level_maps,
    pair_method,
)

#: The control of every table: pixels in random order.
CONTROL = "random"
#: Points of a curve, from 0 to 100 % of the pixels.
STEPS = 11


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
    store: StoreAddress | None = None,
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
    FILLS[fill]  # a wrong name is said before the work
    choices = _choices(methods, layer)
    recognizer = accelerate(load(model, preprocessing), backend)
    for choice in choices:
        check_layer(choice, recognizer)
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

    def hides(rows: np.ndarray) -> Hide:
        rngs = [fill_rng(seed, str(name)) for name in chosen.names[rows]]
        return hider(fill, chosen.frames[rows], rngs)

    threshold = verified.report.threshold
    rows = [
        _table(choice, *_tried(choice, recognizer, chosen, hides, threshold, seed, progress))
        for choice in choices
    ]
    return pl.concat(rows).select(
        pl.lit(faces.title).alias("faces"),
        pl.lit(model).alias("model"),
        pl.lit(fill).alias("fill"),
        pl.lit(reading(fill)).alias("reading"),
        pl.lit(seed).alias("seed"),
        pl.lit(verified.report.rule).alias("threshold_rule"),
        pl.lit(threshold).alias("threshold"),
        pl.lit(len(chosen.first)).alias("pairs"),
        pl.lit(int(chosen.mated.sum())).alias("mated"),
        pl.all(),
    )


def _tried(
    choice: PairMethod,
    recognizer: Recognizer,
    pairs: PairFrames,
    hides: Callable[[np.ndarray], Hide],
    threshold: float,
    seed: int,
    progress: Progress,
) -> tuple[PairMaps, PairCurves]:
    """The maps of one method and what hiding and showing pixels by them does."""
    made = pair_level_maps(choice, recognizer, pairs, seed, progress, hides)
    curves = pair_curves(
        _counting(recognizer, choice.name, (2 * STEPS + 1) * len(pairs.first), progress),
        pairs.frames,
        pairs.first,
        pairs.second,
        pairs.mated,
        maps=made.maps,
        hider=hides,
        threshold=threshold,
        rngs=_rngs("ties", pairs, seed),
        steps=STEPS,
    )
    return made, curves


# What is asked for --------------------------------------------------------------------------------


def _choices(methods: Sequence[str], layer: str) -> list[PairMethod]:
    """The methods, each once, and the control at the end."""
    return [pair_method(name, layer) for name in dict.fromkeys((*methods, CONTROL))]


def _chosen_pairs(faces: FaceSet, listed: Pairs | None, count: int, seed: int) -> PairFrames:
    """Half of `count` mated, half non-mated, drawn from the list; all where it has fewer."""
    if count < 2:
        raise UserError(f"The number of pairs must be at least 2. Got {count}.")
    if listed is None:
        listed = sample_pairs(faces.identities, count=count, seed=seed)
    parts = []
    for mated, wanted in ((True, count // 2), (False, count - count // 2)):
        indices = np.flatnonzero(listed.mated == mated)
        rng = generator(seed, "pair level", str(mated))
        drawn = rng.choice(indices, min(wanted, len(indices)), replace=False)
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
        people=faces.identities[rows],
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


def _table(choice: PairMethod, made: PairMaps, curves: PairCurves) -> pl.DataFrame:
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
