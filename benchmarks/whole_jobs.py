"""W7 to W9: whole jobs, from a face set or photographs to results, against scripts by hand."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

import facefocus as ff
from benchmarks import by_hand
from benchmarks.listed_photographs import Listed, drawn, of_lfw
from benchmarks.measure import counting, in_turns, median_of, ratio, row_of
from benchmarks.networks import faces, inputs_of, module_at, recognizer
from facefocus.benchmark.experiment import Experiment, parse_experiment
from facefocus.benchmark.run import open_run, run_experiment
from facefocus.benchmark.stages.score import scored_masks
from facefocus.core.errors import UserError
from facefocus.evaluation.verification import verification_pairs
from facefocus.faces.align import ARCFACE_TEMPLATE, crop, similarity_transform
from facefocus.faces.faceset import IndexRow, open_faceset, write_faceset
from facefocus.faces.images import decode_rgb
from facefocus.models.backends import absent, accelerate
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.zoo import load

Row = dict[str, Any]

JOB_REPEATS, REPEATS = 2, 3


def _timed(
    works: dict[str, Callable[[int], object]], repeats: int, *, warm: bool
) -> Callable[..., Row]:
    """Run works in turn; ``row(what, rival in words, its name)`` compares one of them with ours.

    Its `steps` name works that are parts of both, ours first.
    """
    counted, spent = counting(works)
    times = in_turns(counted, repeats, warm=warm)

    def row(
        what: str,
        rival: str,
        name: str,
        steps: Mapping[str, tuple[str, str]] | None = None,
        **more: Any,
    ) -> Row:
        ours, theirs = (spent[work][-repeats:] for work in ("facefocus", name))
        if steps:
            more["steps"] = {
                step: [median_of(spent[work][-repeats:]) for work in both]
                for step, both in steps.items()
            }
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
        number, outcome = count(), by_hand.Found()

        def ours(_: int) -> None:
            out = root / f"run-{next(number)}"
            run_experiment(_quick(), faces=root / "faces", out=out, store=out / "store")

        def theirs(_: int) -> None:
            nonlocal outcome
            outcome = by_hand.run(_job(root / "faces"))

        row = _timed({"facefocus": ours, "by hand": theirs}, JOB_REPEATS, warm=False)
        agreement = compared(root / "run-0", outcome)
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


def compared(run: Path, outcome: by_hand.Found) -> dict[str, float]:
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
            key = spec.method, spec.layer, person.name
            if maps["degenerate"][index] == maps["total"][index]:
                continue
            both = maps["maps"][index].ravel(), outcome.maps[key].ravel()
            alike.append(float(np.corrcoef(*both)[0, 1]))
            for number, budget in enumerate(BUDGETS):
                mask = outcome.masks[key, budget]
                common.append(float((masks[index, number] & mask).sum() / mask.sum()))
                theirs = outcome.effects[key, budget, output.fill]
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

#: The networks that LFW's photographs are shown to, by their names in the zoo.
REAL = ("mobilefacenet-ms1m", "mobilefacenet-casia")
#: The least cosine of the two embeddings of a photograph.
LEAST_COSINE = 0.9999
#: insightface's way with so many images of a call.
RIVAL_WAYS = {"one by one": 1, "in batches of 16": by_hand.BATCH}
#: Works that are parts of a way, ours and the rival's.
READING, EMBEDDING = ("read", "read by OpenCV"), "embed"


def w9() -> list[Row]:
    """List: photographs with known landmarks, read, aligned and embedded, MobileFaceNet."""
    backend = next(name for name in ("openvino", "torch") if absent(name) is None)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        boxes = {name: recognizer("MobileFaceNet", name) for name in ("torch", backend)}
        rows += _of_list(drawn(root / "drawn"), boxes["torch"], boxes[backend], root)
        try:
            photographs = of_lfw(root / "lfw")
            for name in REAL:
                plain, fast = load(name), accelerate(load(name), backend)
                assert isinstance(plain, TorchRecognizer) and isinstance(fast, TorchRecognizer)
                rows += _of_list(photographs, plain, fast, root)
        except UserError as error:
            rows.append({"what": "photographs of LFW's list", "left_out": str(error)})
    return rows


def _of_list(
    listed: Listed, plain: TorchRecognizer, fast: TorchRecognizer, root: Path
) -> list[Row]:
    made: dict[str, np.ndarray] = {}
    works = list_works(listed, plain, fast, root / f"{plain.name}.onnx", made)
    row = _timed(works, REPEATS, warm=True)
    rows = []
    for title in RIVAL_WAYS:
        cosines = (by_hand.unit(made["facefocus"]) * by_hand.unit(made[title])).sum(axis=1)
        if cosines.min() < LEAST_COSINE:
            raise RuntimeError(f"Embeddings do not agree with insightface's: {cosines.min()}")
        rows.append(
            row(
                f"{len(listed.files)} {listed.title}, {plain.name}, {fast.precision.split()[0]}",
                f"insightface's way, onnxruntime, {title}",
                title,
                steps={"reading": READING, "embedding": (EMBEDDING, f"{EMBEDDING} {title}")},
                job_agreement={"least cosine of two embeddings": float(cosines.min())},
            )
        )
    return rows


def list_works(
    listed: Listed,
    plain: TorchRecognizer,
    fast: TorchRecognizer,
    model: Path,
    made: dict[str, np.ndarray],
) -> dict[str, Callable[[int], object]]:
    """Our way from files to embeddings and two of insightface's, and what takes their time.

    Args:
        listed: The photographs.
        plain: The recognizer on torch, which is written to `model` as ONNX.
        fast: The same on the backend that is measured.
        model: A file that does not exist.
        made: Filled by the works, by their names.
    """
    _export(plain, model)
    reader, files = plain.preprocessing, listed.files
    frames = _aligned(listed)
    crops = list(np.ascontiguousarray(frames[..., ::-1]))
    ways: dict[str, Callable[[], Any]] = {
        "facefocus": lambda: fast.embed(_aligned(listed)),
        READING[0]: lambda: [decode_rgb(file.read_bytes(), file.name) for file in files],
        READING[1]: lambda: [cv2.imread(str(file)) for file in files],
        EMBEDDING: lambda: fast.embed(frames),
    }
    for title, size in RIVAL_WAYS.items():
        rival = by_hand.InsightFace(str(model), reader.mean, reader.std, size)

        def whole(rival: by_hand.InsightFace = rival) -> np.ndarray:
            return rival.embed(files, listed.landmarks)

        def embedding(rival: by_hand.InsightFace = rival, size: int = size) -> np.ndarray:
            starts = range(0, len(crops), size)
            return np.concatenate([rival.embed_crops(crops[at : at + size]) for at in starts])

        ways |= {title: whole, f"{EMBEDDING} {title}": embedding}

    def work(name: str, way: Callable[[], Any]) -> Callable[[int], object]:
        return lambda _: made.__setitem__(name, way())

    return {name: work(name, way) for name, way in ways.items()}


def _aligned(listed: Listed) -> np.ndarray:
    return np.stack(
        [
            crop(
                decode_rgb(file.read_bytes(), file.name),
                similarity_transform(points, ARCFACE_TEMPLATE),
            )
            for file, points in zip(listed.files, listed.landmarks, strict=True)
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
