"""``facefocus truth-pairs``: every method on pairs of real faces whose truth is known.

Protocol: truth-on-real-faces. What a method's maps score on one face set and recognizer is one
artefact of the store, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from pydantic import Field

from facefocus.benchmark.keys import fill_of, forward_of, gradients_of, libraries
from facefocus.benchmark.verify import verify_recognizer
from facefocus.core.errors import UserError
from facefocus.core.files import any_path, read_toml, write_atomically
from facefocus.core.locations import StoreAddress, located, store_dir
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.core.specs import Name, Several, Spec, Whole, ZeroOrMore, parse
from facefocus.core.store import Arrays, Store, content_key
from facefocus.evaluation.insertion_deletion import pair_curves
from facefocus.evaluation.localization import map_share, overlap, pointing, roc_auc
from facefocus.evaluation.pixel_replacement import decision_errors, replacement_decisions
from facefocus.evaluation.verification import normalize
from facefocus.faces.faceset import FaceSet, open_faceset, read_manifest
from facefocus.faces.pair_truth import PairTruth, read_pair_truth
from facefocus.models.backends import accelerate
from facefocus.models.recognizer import Recognizer
from facefocus.models.zoo import load
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.saliency.explainer import Hide
from facefocus.saliency.methods import METHODS, FrameGradientMethod, PerturbationMethod
from facefocus.saliency.pair_level import (
    BUDGET,
    PairFrames,
    PairMethod,
    check_layer,
    contrast_maps,
    explains_pairs,
    pair_level_maps,
    pair_method,
)
from facefocus.saliency.photo_maps import PhotoGradientMethod, PhotoScoreMethod

#: The row of a table whose map is the truth itself.
TRUTH = "truth"
#: What hides pixels, and points of the insertion and deletion curves.
FILL, STEPS = "black", 11
#: Raised when the arithmetic of the scores changes.
VERSION = 1
#: People whose twins are looked through at a time; changes no result.
BLOCK = 64


class PairExperiment(Spec):
    """What a run on pairs with a truth does.

    Attributes:
        name: What it is called.
        patches: The face set of ``prepare patch-lfw``.
        transplants: That of ``prepare transplant``.
        recognizers: Names of recognizers.
        methods: Names of methods; none for all that explain pairs.
        layers: Layers of the methods that need one; a row for each.
        pairs: Pairs of each kind: mated and non-mated ones with patches, twins.
        fewer: Of methods that take long, how many.
        threshold: As in ``[evaluation]`` of an experiment; from the faces that the pairs are of.
        seed: Of every draw.
    """

    name: Name
    patches: str
    transplants: str
    recognizers: Several[str]
    methods: ZeroOrMore[str] = ()
    layers: Several[str] = ("N",)
    pairs: Annotated[Whole, Field(ge=1)] = 30
    fewer: dict[str, Annotated[Whole, Field(ge=1)]] = Field(default_factory=dict)
    threshold: str = "eer"
    seed: Whole = 0


@dataclass(frozen=True, eq=False)
class Game:
    """Some pairs with a truth on one recognizer.

    Attributes:
        title: ``patches`` or ``transplants``.
        pairs: Those that count, the first ones first: fewer are a beginning of more.
        frames: All frames of the set.
        names: Their names.
        people: Whose they are.
        digest: Of the face set.
    """

    title: str
    pairs: PairTruth
    frames: np.ndarray
    names: np.ndarray
    people: np.ndarray
    digest: str


def read_pair_experiment(file: Path) -> PairExperiment:
    """The experiment in a TOML file.

    Raises:
        UserError: It cannot be read, or a field is wrong.
    """
    spec = parse(PairExperiment, read_toml(file, "experiment"), "experiment")
    choices = _choices(spec)
    unknown = spec.fewer.keys() - {choice.name for choice in choices}
    if unknown:
        raise UserError(
            f"The 'fewer' of the experiment must name its methods. Got '{min(unknown)}'."
        )
    return spec


@any_path
def run_truth_pairs(
    file: Path,
    out: Path,
    *,
    backend: str = "auto",
    store: StoreAddress | None = None,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Score all methods of an experiment, or the rest of them, and write ``pairs.parquet``.

    Args:
        file: The experiment.
        out: The folder of the run.
        backend: What runs passes without gradients.
        store: Where results are kept; the shared store by default.
        progress: Called with the experiment's name, work done and in total, in about a
            forward pass each.

    Returns:
        A row for each recognizer, method, layer and pair: see `_rows`.

    Raises:
        UserError: The experiment, a face set or a recognizer is wrong; or no pair counts.
    """
    spec = read_pair_experiment(file)
    sets = {
        title: _opened(Path(folder), title)
        for title, folder in (("patches", spec.patches), ("transplants", spec.transplants))
    }
    kept = Store(store or store_dir())
    choices = _choices(spec)
    every = len(spec.recognizers) * sum(_work(spec, choice) for choice in choices)
    done, tables = 0, []
    for name in spec.recognizers:
        recognizer = accelerate(load(name), backend)
        able = [choice for choice in choices if _can_explain(choice, recognizer)]
        every -= sum(_work(spec, choice) for choice in choices if choice not in able)
        level = _threshold(spec, sets["patches"][0], recognizer, backend, store, progress)
        games = [
            _patches(*sets["patches"], spec, name),
            _transplants(*sets["transplants"], spec, recognizer, level, kept),
        ]
        for choice in able:
            for game in games:
                scored = _scored(game, choice, recognizer, level, spec, kept)
                tables.append(_rows(game, choice, name, level, scored))
            done += _work(spec, choice)
            progress(spec.name, done, every)
    table = pl.concat(tables)
    write_atomically(out / "pairs.parquet", table.write_parquet)
    return table


# What is asked for --------------------------------------------------------------------------------


def _choices(spec: PairExperiment) -> list[PairMethod]:
    """The methods at each layer, the truth first."""
    names = spec.methods or [name for name in METHODS if explains_pairs(name)]
    chosen = [PairMethod(TRUTH, METHODS["random"], None, None)]
    for name in names:
        layered = pair_method(name, "N").layer is not None and METHODS[name].fixed is None
        chosen += [pair_method(name, layer) for layer in (spec.layers if layered else ["N"])]
    return chosen


def _can_explain(choice: PairMethod, recognizer: Recognizer) -> bool:
    """Whether a recognizer has what a method needs; a white box may have no attention."""
    try:
        check_layer(choice, recognizer)
    except UserError:
        return False
    return True


def _work(spec: PairExperiment, choice: PairMethod) -> int:
    """About how many forward passes a method takes on one recognizer."""
    method, options = choice.method, choice.method.resolve_options({})
    scored = 2 * 21 + 20 + 2 * STEPS
    if choice.name == TRUTH:
        return scored * spec.pairs
    passes = 12
    if isinstance(method, PerturbationMethod):
        passes = int(options["masks"])
    elif isinstance(method, PhotoScoreMethod):
        passes = method.passes(options, (112, 112))
    elif isinstance(method, PhotoGradientMethod):
        # With gradients, a pass takes about ten times as long.
        passes = 10 * sum(method.passes(options))
    elif isinstance(method, FrameGradientMethod):
        passes = 20 * method.rounds(options, round(BUDGET * 112 * 112))
    return (scored + 4 * passes) * spec.fewer.get(choice.name, spec.pairs)


def _opened(folder: Path, title: str) -> tuple[FaceSet, PairTruth]:
    faces, truth = open_faceset(folder), read_pair_truth(folder)
    if truth.kind != title:
        raise UserError(
            f"The '{title}' of the experiment must be a face set with {title}. Got '{folder}',"
            f" which has {truth.kind}."
        )
    return faces, truth


def _threshold(
    spec: PairExperiment,
    faces: FaceSet,
    recognizer: Recognizer,
    backend: str,
    store: StoreAddress | None,
    progress: Progress,
) -> float:
    """The recognizer's threshold on the photos that the pairs were made of."""
    assert faces.folder is not None
    origin = located(read_manifest(faces.folder)["record"]["faces"], faces.folder)
    try:
        open_faceset(origin)
    except UserError as error:
        raise UserError(
            f"The threshold is that of the faces that '{faces.folder}' was made of: {error} Put"
            " them back, or make the pairs again from where they are now."
        ) from error
    verified = verify_recognizer(
        origin, recognizer, rule=spec.threshold, backend=backend, store=store, progress=progress
    )
    return verified.report.threshold


# The pairs ----------------------------------------------------------------------------------------


def _patches(faces: FaceSet, truth: PairTruth, spec: PairExperiment, recognizer: str) -> Game:
    """Of mated and of non-mated pairs, as many as asked for, of different people; in turns.

    Each recognizer has its own, so that all of them together see more people.
    """
    kinds = []
    for mated in (True, False):
        indices = np.flatnonzero(truth.mated == mated)
        order = generator(spec.seed, "patched pairs", str(mated), recognizer).permutation(indices)
        people = faces.identities[truth.explained[order]]
        _, first = np.unique(people, return_index=True)
        kinds.append(order[np.sort(first)][: spec.pairs])
    count = min(map(len, kinds))
    if not count:
        raise UserError(f"'{faces.folder}' must have mated and non-mated pairs. Got one kind.")
    chosen = np.stack([kind[:count] for kind in kinds], axis=1).ravel()
    return _game("patches", faces, truth.at(chosen))


def _transplants(
    faces: FaceSet,
    truth: PairTruth,
    spec: PairExperiment,
    recognizer: Recognizer,
    level: float,
    store: Store,
) -> Game:
    """Twins that count for a recognizer, one a person, until there are as many as asked for."""
    key = content_key(
        "twins that count",
        version=VERSION,
        faces=faces.hash,
        recognizer=[recognizer.name, recognizer.fingerprint, forward_of(recognizer)],
        threshold=level,
        pairs=spec.pairs,
        seed=spec.seed,
    )
    if key not in store:
        store.save(key, {"places": _drawn_twins(faces, truth, spec, recognizer, level)})
    indices = store.load(key)["places"]
    if not len(indices):
        raise UserError(
            f"No twin of '{faces.folder}' counts for '{recognizer.name}': all match still, or are"
            " less like their donors. Make more of them, without --count."
        )
    return _game("transplants", faces, truth.at(indices))


def _drawn_twins(
    faces: FaceSet, truth: PairTruth, spec: PairExperiment, recognizer: Recognizer, level: float
) -> Int[np.ndarray, " n"]:
    people = faces.identities[truth.explained]
    drawn = {
        str(person): generator(spec.seed, "twins", str(person), recognizer.name)
        for person in np.unique(people)
    }
    order = sorted(drawn, key=lambda person: drawn[person].random())
    twins: list[int] = []
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        indices = np.concatenate(
            [drawn[person].permutation(np.flatnonzero(people == person)) for person in block]
        )
        counts = indices[twins_that_count(recognizer, faces.frames, truth.at(indices), level)]
        _, first = np.unique(people[counts], return_index=True)
        twins += counts[np.sort(first)].tolist()
        if len(twins) >= spec.pairs:
            break
    return np.array(twins[: spec.pairs], np.int64)


def twins_that_count(
    recognizer: Recognizer, frames: np.ndarray, truth: PairTruth, level: float
) -> Bool[np.ndarray, " p"]:
    """Which twins are somebody else for a recognizer.

    The probe matches the mate, but not the twin, and the twin is more similar to the donor than to
    the probe.
    """
    roles = (truth.explained, truth.original, truth.edited, truth.donor)
    rows, positions = np.unique(np.concatenate(roles), return_inverse=True)
    units = normalize(recognizer.embed(np.asarray(frames[rows])))
    probe, mate, twin, donor = (units[part] for part in np.split(positions, 4))
    same, other, given = ((a * b).sum(axis=1) for a, b in
                          ((probe, mate), (probe, twin), (donor, twin)))  # fmt: skip
    return np.asarray((same >= level) & (other < level) & (given > other))


def _game(title: str, faces: FaceSet, pairs: PairTruth) -> Game:
    return Game(title, pairs, faces.frames, faces.names, faces.identities, faces.hash)


# Maps and scores ----------------------------------------------------------------------------------


def _scored(
    game: Game,
    choice: PairMethod,
    recognizer: Recognizer,
    level: float,
    spec: PairExperiment,
    store: Store,
) -> Arrays:
    """The scores of a method's maps, from the store or made."""
    count = spec.fewer.get(choice.name, spec.pairs) * (2 if game.title == "patches" else 1)
    pairs = game.pairs.at(np.arange(min(count, len(game.pairs))))
    key = content_key(
        "truth pairs",
        version=VERSION,
        game=game.title,
        faces=game.digest,
        edited=game.names[pairs.edited].tolist(),
        recognizer=recognizer.fingerprint,
        passes=[forward_of(recognizer), gradients_of(recognizer), libraries(), fill_of(FILL)],
        method=[choice.name, choice.method.version, choice.layer, choice.objective],
        options=choice.method.resolve_options({}),
        threshold=level,
        seed=spec.seed,
    )
    if key not in store:
        store.save(
            key, score_pairs(replace(game, pairs=pairs), choice, recognizer, level, spec.seed)
        )
    return store.load(key)


def score_pairs(
    game: Game, choice: PairMethod, recognizer: Recognizer, level: float, seed: int
) -> Arrays:
    """All scores of a method's maps on some pairs, an array for each (see `_rows`)."""
    pairs = game.pairs
    frames, hides = _pair_frames(game, seed)
    if choice.name == TRUTH:
        own = maps = pairs.truth.astype(np.float32)
    elif game.title == "patches":
        own = maps = pair_level_maps(choice, recognizer, frames, seed, silent, hides).maps
    else:
        clean, maps = contrast_maps(choice, recognizer, frames, seed, silent, hides)
        own = clean.maps
    rng = partial(_rngs, frames, seed)
    matches = replacement_decisions(
        recognizer.embed,
        *(np.asarray(game.frames[rows]) for rows in (pairs.edited, pairs.original, pairs.compared)),
        # A twin matches no more: its pixels are given back from the largest value down.
        maps=maps if game.title == "patches" else -maps,
        threshold=level,
        rngs=rng("replacement"),
    )
    scores: Arrays = {"matches": matches, "degenerate": np.asarray(~maps.any(axis=(1, 2)))}
    scores |= _localization(maps, pairs.truth, rng("overlap"))
    if game.title == "transplants":
        curves = pair_curves(
            recognizer.embed,
            frames.frames,
            frames.first,
            frames.second,
            frames.mated,
            maps=own,
            hider=hides,
            threshold=level,
            rngs=rng("ties"),
            steps=STEPS,
        )
        for name, right in zip(("deletion", "insertion"), curves.right, strict=True):
            scores[name] = np.trapezoid(right.astype(np.float64), curves.shares, axis=1)
    return scores


def _localization(
    maps: Float[np.ndarray, "p h w"],
    truth: Bool[np.ndarray, "p h w"],
    rngs: Sequence[np.random.Generator],
) -> dict[str, np.ndarray]:
    """The scores of maps against truth, an array for each."""
    scores: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "auc": lambda saliency, inside: roc_auc(saliency, inside.astype(np.float64)),
        "share": map_share,
        "pointing": lambda saliency, inside: pointing(saliency, inside.astype(np.float64)),
    }
    arrays = {
        name: np.array([score(*pair) for pair in zip(maps, truth, strict=True)])
        for name, score in scores.items()
    }
    arrays["overlap"] = np.array([overlap(*each) for each in zip(maps, truth, rngs, strict=True)])
    return arrays


def _pair_frames(game: Game, seed: int) -> tuple[PairFrames, Callable[[np.ndarray], Hide]]:
    """The images that are explained and what they are compared with, and what hides pixels."""
    pairs = game.pairs
    twins = [pairs.edited] if game.title == "transplants" else []
    rows = np.unique(np.concatenate([pairs.explained, pairs.reference, *twins]))

    def at(chosen: Int[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
        return np.asarray(np.searchsorted(rows, chosen))

    frames = PairFrames(
        frames=np.asarray(game.frames[rows]),
        names=np.asarray(game.names[rows]),
        first=at(pairs.explained),
        second=at(pairs.reference),
        mated=pairs.mated,
        people=game.people[rows],
        against=at(pairs.edited) if twins else None,
    )

    def hides(chosen: Int[np.ndarray, " n"]) -> Hide:
        rngs = [fill_rng(seed, str(name)) for name in frames.names[chosen]]
        return hider(FILL, frames.frames[chosen], rngs)

    return frames, hides


def _rngs(frames: PairFrames, seed: int, purpose: str) -> list[np.random.Generator]:
    """A generator for each pair, that depends on its two names alone."""
    return [
        generator(seed, purpose, str(frames.names[a]), str(frames.names[b]))
        for a, b in zip(frames.first, frames.second, strict=True)
    ]


def _rows(
    game: Game, choice: PairMethod, recognizer: str, level: float, scored: Mapping[str, Any]
) -> pl.DataFrame:
    """A row for each pair.

    Columns: game, recognizer, threshold, method, layer, person, image, part, mated, chance (the
    area of the truth), degenerate, auc, share, pointing, overlap, error, matches (as it is, then
    with each share given back); deletion and insertion of transplants.
    """
    count = len(scored["auc"])
    pairs = game.pairs.at(np.arange(count))
    plain = ("auc", "share", "pointing", "overlap", "degenerate")
    return pl.DataFrame(
        {
            "person": game.people[pairs.explained].tolist(),
            "image": game.names[pairs.edited].tolist(),
            "part": pairs.part.tolist(),
            "mated": pairs.mated,
            "chance": pairs.truth.mean(axis=(1, 2)),
            **{name: scored[name] for name in plain},
            "error": decision_errors(scored["matches"], pairs.mated),
            "matches": scored["matches"].tolist(),
            **{
                name: scored.get(name, np.full(count, np.nan)) for name in ("deletion", "insertion")
            },
        }
    ).select(
        pl.lit(game.title).alias("game"),
        pl.lit(recognizer).alias("recognizer"),
        pl.lit(level).alias("threshold"),
        pl.lit(choice.name).alias("method"),
        pl.lit(choice.layer, dtype=pl.String).alias("layer"),
        pl.all(),
    )
