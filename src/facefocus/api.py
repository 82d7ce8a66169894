"""The public API: load, explain, evaluate, compare, verify, card, run.

Everything takes names or objects: a recognizer by name, as a torch module or as any `Recognizer`;
faces as a folder of photographs, a prepared set or arrays of aligned crops; a method by name, as an
object or as a plain function.

Example: which parts of a drawn face does a recognizer know people by?

    >>> import facefocus as ff
    >>> faces = ff.load_faces("synthetic-eyes", people=4)
    >>> model = ff.load_recognizer("iresnet-mini-eyes")
    >>> maps = ff.explain(model, faces, "layer-cam", layer="1")
    >>> result = ff.evaluate(maps, model, faces, budget=0.05)
    >>> row = result.table.filter(method="layer-cam").row(0, named=True)
    >>> row["rate"] < row["clean_rate"]
    True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from facefocus.benchmark.collect import collect
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import Experiment, parse_experiment
from facefocus.benchmark.explained_images import MemoryImages
from facefocus.benchmark.people import PEOPLE_PER_BLOCK
from facefocus.benchmark.run import open_or_make_faceset, persist, run_experiment
from facefocus.benchmark.session import Held, Session, SessionSpec
from facefocus.benchmark.stages.explain import specs_of
from facefocus.benchmark.verify import Verified, verify_recognizer
from facefocus.core.errors import UserError, blaming_own_code
from facefocus.core.files import resolved
from facefocus.core.locations import StoreAddress, cache_dir, resolved_store, store_dir
from facefocus.core.progress import Progress, silent
from facefocus.faces.faceset import FaceSet, Identity, make_faceset, open_faceset, select_identities
from facefocus.faces.sources import prepare_faces
from facefocus.models.backends import accelerate
from facefocus.models.preprocessing import Preprocessing, own_reading
from facefocus.models.recognizer import (
    CHUNK,
    Recognizer,
    TorchRecognizer,
    hold_batches,
    is_recognizer,
)
from facefocus.models.score_only import Similarity, compares_two, from_function
from facefocus.models.zoo import load
from facefocus.recognizer_cards.make_card import RecognizerCard, make_card, write_card
from facefocus.report.run_result import Results
from facefocus.saliency.explainer import MapArrays, MapRequest, MapSpec
from facefocus.saliency.given import ELSEWHERE
from facefocus.saliency.identity_maps import IdentityMaps
from facefocus.saliency.methods import METHODS, FunctionMethod, Method

Model = str | nn.Module | Recognizer | Similarity
Faces = str | Path | FaceSet
AnyMethod = str | Method | Callable[[np.ndarray, Recognizer], np.ndarray]
Maps = IdentityMaps | Mapping[str, np.ndarray] | str | Path


# --- what there is --------------------------------------------------------------------------------


def load_faces(
    source: Faces | np.ndarray,
    labels: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    people: int | Sequence[str] | None = None,
    title: str = "faces",
    progress: Progress = silent,
) -> FaceSet:
    """Faces of known people, aligned.

    Args:
        source: A prepared face set or its name (``"lfw"``, ``"synthetic-eyes"``), a folder with a
            folder of photographs for each person, which are aligned once and kept in the cache, or
            uint8 RGB crops [n, H, W, 3] that are aligned already.
        labels: Of crops, who each shows.
        names: Of crops, a name each; made of labels and numbers by default.
        people: Only these people, or so many of them. The verification list of a prepared set is
            that of all people, and is left behind: thresholds then come from a sample of pairs.
        title: Of crops, what the set is called.
        progress: Called with a stage, and images done and in total.

    Raises:
        UserError: There is no such folder, it has no usable face, or labels do not fit.

    Example:
        >>> import numpy as np
        >>> crops = np.zeros((4, 112, 112, 3), np.uint8)
        >>> load_faces(crops, ["Ada", "Ada", "Ben", "Ben"])
        FaceSet 'faces': 4 images of 2 people, 112x112
    """
    if isinstance(source, np.ndarray):
        faces = _from_arrays(source, labels, names, title)
    elif isinstance(source, FaceSet):
        faces = source
    else:
        faces = open_faceset(_prepared(source, progress))
    if people is None:
        return faces
    if isinstance(people, int):
        chosen = select_identities(faces, count=people)
    else:
        chosen = select_identities(faces, people=tuple(people))
    rows = np.sort(np.concatenate([person.rows for person in chosen]))
    return make_faceset(
        np.asarray(faces.frames[rows]),
        faces.identities[rows].tolist(),
        faces.names[rows].tolist(),
        faces.title,
    )


def _from_arrays(
    crops: np.ndarray, labels: Sequence[str] | None, names: Sequence[str] | None, title: str
) -> FaceSet:
    if crops.ndim != 4 or crops.shape[-1] != 3 or crops.dtype != np.uint8:
        raise UserError(
            "The crops must be a uint8 array [n, H, W, 3], RGB. Got"
            f" {crops.dtype} {list(crops.shape)}."
        )
    if labels is None or len(labels) != len(crops):
        count = "none" if labels is None else len(labels)
        raise UserError(f"The 'labels' must say who each of {len(crops)} crops shows. Got {count}.")
    people = [str(label) for label in labels]
    if names is None:
        seen: dict[str, int] = {}
        names = []
        for person in people:
            seen[person] = seen.get(person, 0) + 1
            names.append(f"{person}_{seen[person]:04d}")
    if len(set(names)) != len(crops):
        raise UserError(f"The 'names' must be {len(crops)} different names. Got {len(set(names))}.")
    return make_faceset(crops, people, [str(name) for name in names], title)


def _prepared(source: str | Path, progress: Progress) -> Path:
    """The folder of a prepared face set: itself, by name, or made of photographs."""
    folder = Path(source)
    if not folder.is_dir() or (folder / "manifest.json").is_file():
        return open_or_make_faceset(str(source), cache_dir() / "faces", progress)
    # What the folder holds is part of the name: after a change, it is prepared anew.
    listing = sorted(
        f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in folder.rglob("*")
        if path.is_file()
    )
    listed = "\n".join([str(resolved(folder)), *listing])
    digest = hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()[:16]
    out = cache_dir() / "faces" / f"{folder.resolve().name}-{digest}"
    if not (out / "manifest.json").is_file():
        prepare_faces("folder", folder, out, progress=progress)
    return out


def load_recognizer(
    model: Model,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    calls_per_second: float | int | None = None,
) -> Recognizer:
    """A recognizer by name, from a file, around a torch module, or a function of two images.

    Args:
        model: A name (``facefocus models list``), a file (``mine.onnx``, ``mine.pt2``,
            ``file.py:build``), one of another package (``insightface:buffalo_l``), a torch module
            from preprocessed images to embeddings, or a `Recognizer`, which is given back. Or a
            function that takes two aligned crops, RGB uint8 [h, w, 3], and returns a number, larger
            the more alike they are: such a recognizer serves in `verify`, in `explain` with
            perturbation methods, and in `recognizer_card`.
        preprocessing: Of a module or file, how it reads an aligned crop: size, mean and std in
            0-255, and crop and channels where they matter.
        name: Of a module or a function, what it is called; its class or name by default.
        calls_per_second: Of a function of two images, how many calls may start in a second.

    Raises:
        UserError: It cannot be loaded, or a module comes without preprocessing.

    Example:
        >>> load_recognizer("iresnet-mini-eyes").name
        'iresnet-mini-eyes'
    """
    if isinstance(model, str | Path):
        given = preprocessing
        if isinstance(given, Preprocessing):
            given = json.loads(given.canonical)
        return load(str(model), given)
    if is_recognizer(model):
        return model
    if not isinstance(model, nn.Module) and compares_two(model):
        return from_function(cast(Similarity, model), name, calls_per_second=calls_per_second)
    if not isinstance(model, nn.Module):
        raise UserError(
            "A recognizer must be a name, a torch module, a function of two images, or an object"
            f" with 'name', 'fingerprint' and 'embed'. Got {type(model).__name__}."
        )
    if preprocessing is None:
        raise UserError(
            "A torch module needs its 'preprocessing', such as:"
            ' preprocessing={"size": [112, 112], "mean": 127.5, "std": 128}.'
        )
    if not isinstance(preprocessing, Preprocessing):
        preprocessing = own_reading(preprocessing, "the 'preprocessing'")
    kind = type(model)
    label = name or kind.__name__
    identity = f"module {kind.__module__}.{kind.__qualname__}"
    recognizer = TorchRecognizer(label, model.eval(), preprocessing, identity=identity)
    recognizer.look()
    return recognizer


# --- explain --------------------------------------------------------------------------------------


def explain(
    model: Model | Sequence[Model],
    faces: Faces,
    method: AnyMethod,
    *,
    layer: str | int = "N",
    kind: str | None = None,
    objective: str = "cosine",
    people: int | Sequence[str] | None = None,
    max_images: int | None = None,
    max_pairs: int | None = None,
    fill: str = "black",
    budget: float = 0.05,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    backend: str = "auto",
    progress: Progress = silent,
) -> IdentityMaps:
    """The map of every person: what matters across all of the person's photos.

    Args:
        model: The recognizer that the maps are made on; several where the method combines them.
        faces: See `load_faces`.
        method: A name (``facefocus list methods``), ``"file.py:NAME"``, a method object, or a
            function from the uint8 images [m, H, W, 3] of one person and a recognizer to a map.
        layer: Of a method that needs one: ``"1"``, ``"N/2"``, ``"N"``, or a number.
        kind: The kind of calls that its name counts: ``"conv"``, ``"norm"`` or ``"attention"``; by
            default the one that the recognizer mainly uses.
        objective: Of a gradient method: ``"cosine"``, ``"l1"``, ``"l2"``, ``"arcface(0.2)"``.
        people: Only these people, or so many of them; everybody with two images by default.
        max_images: At most so many images of a person.
        max_pairs: At most so many ordered pairs of a person's images.
        fill: What hides pixels, for methods whose maps depend on it. `evaluate` tries the maps
            under any fill.
        budget: The share of pixels that will be hidden, likewise.
        options: The method's own options, such as ``{"steps": 25}``.
        seed: Of everything that is drawn.
        backend: What runs passes without gradients: see `facefocus.models.backends`.
        progress: Called with a stage, and work done and in total.

    Raises:
        UserError: A name, a layer or an option is wrong, nobody has two images, or the method
            needs a white box.

    Example:
        >>> import facefocus as ff
        >>> faces = ff.load_faces("synthetic-eyes", people=2)
        >>> ff.explain("iresnet-mini-eyes", faces, "grad-cam", layer="1")
        IdentityMaps 'grad-cam': 2 identities, 112x112, made on iresnet-mini-eyes, 0 % without a map
    """
    loaded, faces = _recognizers(model), load_faces(faces)
    sources = {name: _ready(recognizer, backend, faces) for name, recognizer in loaded.items()}
    asked, known = _as_method(method)
    saliency: dict[str, Any] = {
        "method": asked,
        "layer": str(layer),
        **({} if kind is None else {"kind": kind}),
        "objective": objective,
        "options": dict(options or {}),
        "max_pairs": max_pairs,
        "draws": 1,
    }
    if len(sources) > 1:
        saliency["sources"] = list(sources)
    with known:
        occlusion = {"budget": budget, "fill": fill}
        experiment = _experiment(list(sources), [saliency], occlusion, people, seed)
        chosen = select_identities(
            faces,
            people=experiment.faces.people,
            count=experiment.faces.identities,
            max_images=max_images,
            seed=seed,
        )
        needs = METHODS[asked].needs({})
        names = () if needs.sources == "none" else tuple(sources)
        (spec,) = specs_of(experiment, sources, experiment.saliency[0], asked, names)
        rows = np.concatenate([person.rows for person in chosen])
        images = MemoryImages(faces, sources, seed, rows)
        parts = list(_map_blocks(spec, names, chosen, images, progress))
    return _collected(spec.label, "+".join(names) or None, parts)


def _map_blocks(
    spec: MapSpec,
    sources: Sequence[str],
    people: Sequence[Identity],
    images: MemoryImages,
    progress: Progress,
) -> Iterator[tuple[Sequence[Identity], MapArrays]]:
    """The maps of a few people at a time, as in an experiment."""
    explainer = METHODS[spec.method].explainer
    for start in range(0, len(people), PEOPLE_PER_BLOCK):
        block = people[start : start + PEOPLE_PER_BLOCK]
        with blaming_own_code():
            for _, made in explainer.maps(MapRequest([spec], sources, block, images), silent):
                yield block, made
        progress("maps", start + len(block), len(people))


def _collected(
    name: str, source: str | None, parts: Iterable[tuple[Sequence[Identity], MapArrays]]
) -> IdentityMaps:
    maps, counts, flat = {}, {}, set()
    for block, made in parts:
        for index, person in enumerate(block):
            maps[person.name] = made.maps[index]
            total, degenerate, ill = (
                int(array[index]) for array in (made.total, made.degenerate, made.ill_conditioned)
            )
            counts[person.name] = total, degenerate, ill
            if total == degenerate:
                flat.add(person.name)
    return IdentityMaps(name, maps, source, frozenset(flat), counts)


def _recognizers(model: Model | Sequence[Model]) -> dict[str, Recognizer]:
    """One or several recognizers, by name."""
    models = list(model) if isinstance(model, Sequence) and not isinstance(model, str) else [model]
    return {recognizer.name: recognizer for recognizer in map(load_recognizer, models)}


def _ready(recognizer: Recognizer, backend: str, faces: FaceSet) -> Recognizer:
    ready = accelerate(recognizer, backend, None, faces.frames[:CHUNK])
    hold_batches(ready)
    return ready


def _as_method(method: AnyMethod) -> tuple[str, Any]:
    """The name of a method, and what makes it known for a while."""
    if isinstance(method, str):
        return method, nullcontext()
    if not isinstance(method, Method):
        name = getattr(method, "__name__", "function").strip("<>")
        method = FunctionMethod(name, method, 1)
    return method.name, METHODS.holding(method)


def _experiment(
    sources: Sequence[str],
    saliency: Sequence[Mapping[str, Any]],
    occlusion: Mapping[str, Any],
    people: int | Sequence[str] | None,
    seed: int,
    **more: Any,
) -> Experiment:
    faces: dict[str, Any] = {}
    if people is not None:
        key = "identities" if isinstance(people, int) else "people"
        faces[key] = people if isinstance(people, int) else list(people)
    return parse_experiment(
        {
            "name": "notebook",
            "seed": seed,
            "faces": faces,
            "recognizers": {"source": list(sources)},
            "saliency": list(saliency),
            "occlusion": occlusion,
            **more,
        }
    )


# --- evaluate -------------------------------------------------------------------------------------


def evaluate(
    maps: Maps | Sequence[Maps],
    model: Model | Sequence[Model],
    faces: Faces,
    *,
    budget: float | Sequence[float] = 0.05,
    fill: str | Sequence[str] = "black",
    controls: Sequence[str] = (),
    random: int = 1,
    threshold: str | float = "eer",
    on_degenerate: str = "none",
    seed: int = 0,
    backend: str = "auto",
    store: StoreAddress | None = None,
    progress: Progress = silent,
) -> Results:
    """Hide what maps call important, and measure what is left of recognition.

    Args:
        maps: From `explain`, or from anywhere: arrays [H, W] by identity, or an ``.npz`` file.
            Several compete in one table.
        model: The target recognizer, or several.
        faces: See `load_faces`. The people who have a map and two images are taken.
        budget: Shares of the pixels, each hidden exactly.
        fill: What replaces hidden pixels (``facefocus list fills``).
        controls: Masks of equal area that know less: ``shifted``, ``other``, ``population``,
            ``pixels``, ``blocks``; or ``blend``, the map mixed with everybody's.
        random: Draws of random pixels that every map is compared with; 0 for none.
        threshold: Where the recognizer decides: ``"eer"``, ``"fmr=1e-3"``, a number, or
            ``"eer@FOLDER"``.
        on_degenerate: What becomes of identities without a map: see the protocol.
        seed: Of everything that is drawn.
        backend: What runs the passes.
        store: Where what was computed is kept; the shared store by default.
        progress: Called with a stage, and work done and in total.

    Raises:
        UserError: A map of another size or of nobody here, an unknown name, or too few pairs to
            set the threshold.

    Example:
        >>> import facefocus as ff
        >>> faces = ff.load_faces("synthetic-eyes", people=2)
        >>> mine = {"not a person": np.zeros((112, 112))}
        >>> ff.evaluate(mine, "iresnet-mini-eyes", faces)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        facefocus.core.errors.UserError: The maps 'maps' must be named by identities ...
    """
    listed, faces, targets = _all_maps(maps), load_faces(faces), _recognizers(model)
    saliency: list[dict[str, Any]] = [
        {"maps": each.name, "name": each.name, "origin": each.source or ELSEWHERE}
        for each in listed
    ]
    if random:
        saliency.append({"method": "random", "draws": random})
    experiment = _experiment(
        list(targets),
        saliency,
        {"budget": budget, "fill": fill, "on_degenerate": on_degenerate},
        _mapped_people(listed, faces) or None,
        seed,
        evaluation={"threshold": threshold},
        **({"controls": {"control": list(controls)}} if controls else {}),
    )
    spec = SessionSpec(
        experiment.model_dump_json(),
        faces.folder or Path("in-memory"),
        resolved_store(store or store_dir()),
        backend,
    )

    def work(session: Session) -> Results:
        execute(session, progress=progress)
        return Results(collect(session), session=session)

    held = Held(faces, targets, {each.name: each.maps for each in listed})
    return persist(Session(spec, held), work)


def _mapped_people(maps: Sequence[IdentityMaps], faces: FaceSet) -> list[str]:
    """Who has a map and two images."""
    mapped = {name for each in maps for name in each}
    counts = zip(*np.unique(faces.identities, return_counts=True), strict=True)
    return [str(name) for name, images in counts if images > 1 and name in mapped]


def _all_maps(maps: Maps | Sequence[Maps]) -> list[IdentityMaps]:
    several = list(maps) if isinstance(maps, list | tuple) else [maps]
    listed = [_as_maps(given, number) for number, given in enumerate(several)]
    names = [item.name for item in listed]
    if len(set(names)) < len(names):
        raise UserError(
            f"All maps must have different names. Got {', '.join(names)}. Name them with"
            " IdentityMaps.from_arrays(maps, name=...)."
        )
    return listed


def _as_maps(maps: Any, number: int) -> IdentityMaps:
    if isinstance(maps, IdentityMaps):
        return maps
    if isinstance(maps, str | Path):
        return IdentityMaps.from_npz(maps)
    return IdentityMaps.from_arrays(maps, name="maps" if not number else f"maps-{number + 1}")


def compare(
    maps: Sequence[Maps], model: Model | Sequence[Model], faces: Faces, **options: Any
) -> Results:
    """`evaluate` several maps on the people who have all of them, to be ranked.

    Args:
        maps: Two or more.
        model: See `evaluate`.
        faces: See `evaluate`.
        options: Those of `evaluate`.

    Returns:
        The results, whose `ranking` says which is first in how many resamplings of the people.

    Raises:
        UserError: Fewer than two maps, nobody has all of them, or any reason `evaluate` has.
    """
    listed = _all_maps(list(maps))
    if len(listed) < 2:
        raise UserError(f"To compare takes two maps or more. Got {len(listed)}.")
    common = set(listed[0]).intersection(*listed[1:])
    if not common:
        raise UserError("Nobody has a map of every method: there is nothing to compare.")
    shared = [
        IdentityMaps(
            item.name,
            {name: item[name] for name in sorted(common)},
            item.source,
            item.degenerate & common,
            {name: count for name, count in item.pair_maps.items() if name in common},
        )
        for item in listed
    ]
    return evaluate(shared, model, faces, **options)


# --- whole jobs -----------------------------------------------------------------------------------


def verify(
    model: Model, faces: Faces, *, threshold: str = "eer", seed: int = 0, backend: str = "auto"
) -> Verified:
    """How good a recognizer is on a face set: accuracy, EER, TMR, threshold.

    Args:
        model: See `load_recognizer`.
        faces: See `load_faces`. Its verification list is used, or a seeded sample of pairs.
        threshold: See `evaluate`.
        seed: Of the sample.
        backend: What runs the passes.

    Raises:
        UserError: There are too few pairs for the threshold.

    Example:
        >>> import facefocus as ff
        >>> faces = ff.load_faces("synthetic-eyes", people=6)
        >>> ff.verify("iresnet-mini-eyes", faces).report.mated
        90
    """
    recognizer, opened = load_recognizer(model), load_faces(faces)
    return verify_recognizer(opened, recognizer, rule=threshold, seed=seed, backend=backend)


def recognizer_card(
    model: Model, faces: Faces, out: str | Path | None = None, **options: Any
) -> RecognizerCard:
    """What a recognizer needs of a face: hidden parts, bad pictures, maps, groups.

    Args:
        model: See `load_recognizer`; also one that gives scores only.
        faces: See `load_faces`.
        out: A folder for the page, its pictures and ``card.json``; none is written by default.
        options: Those of `facefocus.recognizer_cards.make_card.make_card`: groups, people, photos,
            method, masks, rate, seed, backend, store, progress.

    Raises:
        UserError: There are too few pairs for a threshold, or an option is wrong.

    Example:
        >>> import facefocus as ff
        >>> faces = ff.load_faces("synthetic-eyes", people=5)
        >>> card = ff.recognizer_card("iresnet-mini-eyes", faces, photos=2, masks=8)
        >>> hidden = {row.condition.name: row.rates["eer"].tmr.value for row in card.rows}
        >>> hidden["eyes, inpaint"] < hidden["mouth, inpaint"]
        True
    """
    made = make_card(load_recognizer(model), load_faces(faces), **options)
    if out is not None:
        write_card(made, Path(out))
    return made


def run(
    experiment: Experiment | str | Path, out: str | Path | None = None, **options: Any
) -> Results:
    """Run an experiment, or what is left of it, and open its results.

    Args:
        experiment: A TOML file or an `Experiment`.
        out: The run folder; ``runs/NAME`` by default.
        options: Those of `facefocus.benchmark.run.run_experiment`: faces, store, backend, workers,
            memory, progress.

    Raises:
        UserError: A field, a face set, a recognizer or the run folder is wrong.
    """
    asked = experiment if isinstance(experiment, Experiment) else Path(experiment)
    folder = run_experiment(asked, out=None if out is None else Path(out), **options)
    return open_run(folder)


def open_run(folder: str | Path) -> Results:
    """The results of a run folder.

    Raises:
        UserError: It is no run folder, or is not finished.
    """
    return Results.of_run(Path(folder))
