"""W7 to W9: whole jobs, from a face set or photographs to results, against scripts by hand."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import facefocus as ff
from benchmarks import by_hand
from benchmarks.measure import counting, in_turns, median_of, ratio, row_of
from benchmarks.networks import faces, inputs_of, module_at, recognizer
from facefocus.benchmark.experiment import Experiment, parse_experiment
from facefocus.benchmark.run import open_run, run_experiment
from facefocus.benchmark.stages.score import scored_masks
from facefocus.evaluation.verification import verification_pairs
from facefocus.faces.align import ARCFACE_TEMPLATE, crop, similarity_transform
from facefocus.faces.faceset import IndexRow, open_faceset, write_faceset
from facefocus.models.backends import absent
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.zoo import load

Row = dict[str, Any]

JOB_REPEATS, REPEATS = 2, 3


def _timed(
    works: dict[str, Callable[[int], object]], repeats: int, *, warm: bool
) -> Callable[..., Row]:
    """Run works in turn; ``row(what, rival in words, its name)`` compares one of them with ours."""
    counted, spent = counting(works)
    times = in_turns(counted, repeats, warm=warm)

    def row(what: str, rival: str, name: str, **more: Any) -> Row:
        ours, theirs = (spent[one][-repeats:] for one in ("facefocus", name))
        return row_of(
            what,
            rival,
            None,
            ratio(times[name], times["facefocus"]),
            seconds=median_of(times["facefocus"]),
            rival_seconds=median_of(times[name]),
            processor={
                "ratio": ratio(theirs, ours).median,
                "facefocus": median_of(ours),
                "rival": median_of(theirs),
            },
            **more,
        )

    return row


# W7: the job of quick.toml ------------------------------------------------------------------------

#: Drawn people and photos of each, and the embedded recognizer that they are shown to.
PEOPLE, PHOTOS, MODEL = 4, 4, "iresnet-mini-all"
CAMS, LAYERS = ("grad-cam", "grad-cam++", "layer-cam"), ("1", "N/2", "N")
BUDGETS = (0.01, 0.03, 0.05)
FILLS = ("black", "white", "mean", "random", "blur", "inpaint")

#: What both must agree in, for the maps of `CAMS`: the least correlation of two maps and the least
#: share of hidden pixels in common, in the mean; the largest difference of a mean cosine and of a
#: recognition rate, in the mean. One thing differs: pytorch-grad-cam scales a map again once it is
#: enlarged.
LEAST_CORRELATION, LEAST_COMMON, MOST_COSINE, MOST_RATE = 0.99, 0.95, 0.01, 0.02


def w7() -> list[Row]:
    """Job: quick.toml (3 CAMs x 3 layers, 3 budgets, 6 fills) on drawn people, whole."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_people(root / "faces")
        number, found = count(), by_hand.Found()

        def ours(_: int) -> None:
            place = root / f"run-{next(number)}"
            run_experiment(_quick(), faces=root / "faces", out=place, store=place / "store")

        def theirs(_: int) -> None:
            nonlocal found
            found = by_hand.run(_job(root / "faces"))

        row = _timed({"facefocus": ours, "by hand": theirs}, JOB_REPEATS, warm=False)
        agreement = compared(root / "run-0", found)
    what = f"the job of quick.toml, {PEOPLE} people with {PHOTOS} photos, {MODEL}"
    return [row(what, "pytorch-grad-cam and a loop", "by hand", job_agreement=agreement)]


def _write_people(folder: Path) -> None:
    folder.mkdir()
    names = [(f"p{who}", f"p{who}_{photo}") for who in range(PEOPLE) for photo in range(PHOTOS)]
    write_faceset(
        folder,
        title="synthetic-all",
        rows=[IndexRow(identity=who, name=name, path=name) for who, name in names],
        frames=list(faces(PEOPLE, PHOTOS)),
        size=(112, 112),
    )


def _quick() -> Experiment:
    """``experiments/quick.toml`` with Grad-CAM++ as pytorch-grad-cam has it."""
    shared = {"layer": list(LAYERS), "objective": "cosine"}
    return parse_experiment(
        {
            "name": "quick",
            "recognizers": {"source": MODEL},
            "saliency": [
                {"method": ["grad-cam", "layer-cam"], **shared},
                {"method": "grad-cam++", "options": {"variant": "epsilon"}, **shared},
                {"method": "random", "draws": 1},
            ],
            "occlusion": {"budget": list(BUDGETS), "fill": list(FILLS)},
        }
    )


def _job(folder: Path) -> by_hand.Job:
    shown, box = open_faceset(folder), load(MODEL)
    assert isinstance(box, TorchRecognizer) and isinstance(box.module, nn.Module)
    pairs = verification_pairs(shown, None, 0)
    people = {name: np.flatnonzero(shown.identities == name) for name in set(shown.identities)}
    return by_hand.Job(
        box.module,
        box.preprocessing,
        {layer: module_at(box, box.layers().resolve(layer)[0]) for layer in LAYERS},
        CAMS,
        np.array(shown.frames),
        dict(sorted(people.items())),
        (np.column_stack([pairs.first, pairs.second]), pairs.mated),
        BUDGETS,
        FILLS,
    )


def compared(run: Path, found: by_hand.Found) -> dict[str, float]:
    """How far a run and the script agree; see `LEAST_CORRELATION`.

    Raises:
        RuntimeError: Further apart than that.
    """
    session = open_run(run)
    (block,) = session.plan.blocks
    alike, common, cosine, rate = [], [], [], []
    for output in session.plan.planned["scores"][MODEL, block.index]:
        spec = output.maps.spec
        if spec.method not in CAMS or output.control is not None:
            continue
        maps, scores = session.store.load(output.maps.key), session.store.load(output.key)
        masks = scored_masks(session, scores)
        for index, person in enumerate(block.people):
            place = spec.method, spec.layer, person.name
            if maps["degenerate"][index] == maps["total"][index]:
                continue
            both = maps["maps"][index].ravel(), found.maps[place].ravel()
            alike.append(float(np.corrcoef(*both)[0, 1]))
            for number, budget in enumerate(BUDGETS):
                mask = found.masks[place, budget]
                common.append(float((masks[index, number] & mask).sum() / mask.sum()))
                theirs = found.effects[place, budget, output.fill]
                # Every draw of random colors is another.
                if output.fill != "random":
                    cosine.append(abs(float(scores["cosine"][index, number]) - theirs[0]))
                    rate.append(abs(float(scores["rate"][index, number]) - theirs[1]))
    means = {
        "correlation of maps": float(np.mean(alike)),
        "hidden pixels in common": float(np.mean(common)),
        "difference of mean cosines": float(np.mean(cosine)),
        "difference of rates": float(np.mean(rate)),
    }
    correlation, shared, of_cosine, of_rate = means.values()
    good = correlation >= LEAST_CORRELATION and shared >= LEAST_COMMON
    if not (good and of_cosine <= MOST_COSINE and of_rate <= MOST_RATE):
        raise RuntimeError(f"facefocus and the script by hand do not agree: {means}")
    return means


# W8: one person -----------------------------------------------------------------------------------


def w8() -> list[Row]:
    """Person: `facefocus.explain` of one person with 6 photos, one method, MobileFaceNet."""
    box = recognizer("MobileFaceNet")
    frames = faces(1, 6)
    person = ff.load_faces(frames, ["person"] * 6)
    images = inputs_of(box, frames)
    assert isinstance(box.module, nn.Module)
    layer, module = module_at(box, box.layers().resolve("N/2")[0]), box.module
    rows = []
    for method in ("grad-cam", "layer-cam"):
        made: dict[str, np.ndarray] = {}

        def ours(_: int, method: str = method, made: dict[str, np.ndarray] = made) -> None:
            made["ours"] = ff.explain(box, person, method, layer="N/2", backend="torch")["person"]

        def theirs(_: int, method: str = method, made: dict[str, np.ndarray] = made) -> None:
            made["theirs"] = by_hand.person_map(module, images, layer, method)

        row = _timed({"facefocus": ours, "by hand": theirs}, REPEATS, warm=True)
        alike = float(np.corrcoef(made["ours"].ravel(), made["theirs"].ravel())[0, 1])
        if alike < LEAST_CORRELATION:
            raise RuntimeError(f"facefocus and the script by hand do not agree: {alike}")
        rows.append(
            row(
                f"one person explained by {method} at N/2, MobileFaceNet",
                "pytorch-grad-cam and a loop, 30 calls",
                "by hand",
                job_agreement={"correlation of maps": alike},
            )
        )
    return rows


# W9: photographs of a list ------------------------------------------------------------------------

#: Photographs that are embedded, of LFW's size, with landmarks that are known.
LISTED, SIDE = 64, 250


def w9() -> list[Row]:
    """List: photographs of LFW's size with known landmarks, aligned and embedded, MobileFaceNet."""
    pictures, landmarks = photographs()
    backend = next(name for name in ("openvino", "torch") if absent(name) is None)
    box = recognizer("MobileFaceNet", backend)
    mean, std = box.preprocessing.mean[0], box.preprocessing.std[0]
    made: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        _export(recognizer("MobileFaceNet"), model)
        singly = by_hand.InsightFace(str(model), mean, std)
        together = by_hand.InsightFace(str(model), mean, std, by_hand.BATCH)

        def ours(_: int) -> None:
            made["ours"] = box.embed(_aligned(pictures, landmarks))

        works: dict[str, Callable[[int], object]] = {"facefocus": ours}
        for title, rival in (("one by one", singly), ("in batches of 16", together)):

            def theirs(_: int, title: str = title, rival: by_hand.InsightFace = rival) -> None:
                made[title] = rival.embed(pictures, landmarks)

            works[title] = theirs
        row = _timed(works, REPEATS, warm=True)
    rows = []
    for title in ("one by one", "in batches of 16"):
        cosines = (by_hand.unit(made["ours"]) * by_hand.unit(made[title])).sum(axis=1)
        if cosines.min() < LEAST_CORRELATION:
            raise RuntimeError(f"Embeddings do not agree with insightface's: {cosines.min()}")
        rows.append(
            row(
                f"{LISTED} photographs aligned and embedded, MobileFaceNet, {backend}",
                f"insightface's way, onnxruntime, {title}",
                title,
                job_agreement={"least cosine of two embeddings": float(cosines.min())},
            )
        )
    return rows


def photographs() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """BGR pictures with a drawn face somewhere in them, and where its landmarks are [5, 2]."""
    rng = np.random.default_rng(0)
    pictures, landmarks = [], []
    for frame in np.resize(faces(8, 4), (LISTED, 112, 112, 3)):
        picture = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        top, left = rng.integers(20, SIDE - 132, 2)
        picture[top : top + 112, left : left + 112] = frame[..., ::-1]
        pictures.append(picture)
        landmarks.append(ARCFACE_TEMPLATE + np.array([left, top]) + rng.normal(0, 1, (5, 2)))
    return pictures, landmarks


def _aligned(pictures: list[np.ndarray], landmarks: list[np.ndarray]) -> np.ndarray:
    return np.stack(
        [
            crop(
                np.ascontiguousarray(picture[..., ::-1]),
                similarity_transform(points, ARCFACE_TEMPLATE),
            )
            for picture, points in zip(pictures, landmarks, strict=True)
        ]
    )


def _export(box: TorchRecognizer, path: Path) -> None:
    assert isinstance(box.module, nn.Module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            box.module,
            (torch.zeros(2, 3, 112, 112),),
            path,
            input_names=["image"],
            output_names=["embedding"],
            dynamic_axes={"image": {0: "n"}, "embedding": {0: "n"}},
            dynamo=False,
        )
