"""W1 to W6 and W11, and the list of all: what is run, by whom, how figures come about."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import profiles, rivals, whole_jobs
from benchmarks.measure import (
    Spread,
    calls_one_by_one,
    exponent,
    in_turns,
    matmul_peak,
    median_of,
    ratio,
    row_of,
)
from benchmarks.networks import faces, inputs_of, module_at, network, recognizer
from facefocus.faces.faceset import Identity
from facefocus.models.backends import absent, precision_of_backend, product_precision
from facefocus.models.occluded_frames import occlude
from facefocus.models.recognizer import CHUNK, TorchRecognizer
from facefocus.saliency.identity import cam_identity_maps, minmax_normalize, ordered_pairs
from facefocus.saliency.methods import METHODS, GradientMethod, PerturbationMethod
from facefocus.saliency.objectives import parse_objective
from facefocus.saliency.perturbation import (
    mask_set,
    masked_embeddings,
    perturbation_identity_map,
    similarities,
)
from facefocus.saliency.streams import CamConfig

Row = dict[str, Any]

CAMS = ("grad-cam", "grad-cam++", "layer-cam")
LAYERS = ("1", "2", "3", "N/4", "N/2", "3N/4", "N-2", "N-1", "N")
LOSSES = ("cosine", "l1", "l2", "arcface(0)", "arcface(0.1)", "arcface(0.2)", "arcface(0.3)")
IMAGES = 6
REPEATS, SWEEP_REPEATS, SINGLE_REPEATS, RISE_REPEATS = 5, 4, 9, 3
MASKS = 1000


# W1 to W3: CAMs -----------------------------------------------------------------------------------


def _identity(count: int = IMAGES) -> list[Identity]:
    return [Identity("person", np.arange(count))]


def _ours(box: TorchRecognizer, configs: Sequence[CamConfig]) -> Callable[[int], object]:
    frames = faces(1, IMAGES)
    return lambda _: cam_identity_maps(box, frames, _identity(), configs, max_pairs=None, seed=0)


def _theirs(
    box: TorchRecognizer, configs: Sequence[CamConfig], tool: str
) -> Callable[[int], object]:
    """One ordered pair through every configuration, each repeat another pair."""
    frames = faces(1, IMAGES)
    references = torch.from_numpy(box.embed_reference(frames))
    images = inputs_of(box, frames)
    references = references.to(images.device)
    pairs = ordered_pairs(IMAGES, None, np.random.default_rng(0))
    module = box.module
    assert isinstance(module, nn.Module)
    layers = [module_at(box, box.layers().resolve(config.layer)[0]) for config in configs]

    def one_pair(repeat: int) -> None:
        explained, other = pairs[7 * repeat % len(pairs)]
        for config, layer in zip(configs, layers, strict=True):
            target = rivals.target_of(parse_objective(config.objective), references[other])
            image = images[[explained]]
            if tool == "captum":
                rivals.by_captum(module, layer, image, target)
            else:
                rivals.by_grad_cam(module, layer, config.method, image, target)

    return one_pair


def _cams(
    names: Sequence[str],
    configs: Sequence[CamConfig],
    target: float,
    title: str,
    repeats: int = SINGLE_REPEATS,
) -> list[Row]:
    rows = []
    for name in names:
        box = recognizer(name)
        layers = {config.layer for config in configs}
        plain = [CamConfig("grad-cam", layer) for layer in layers]
        _ours(box, configs)(0)
        for tool in ("pytorch-grad-cam", "captum"):
            _theirs(box, plain[:1], tool)(0)  # one call is enough to warm up
        times = in_turns(
            {
                "facefocus": _ours(box, configs),
                "pytorch-grad-cam": _theirs(box, configs, "pytorch-grad-cam"),
                "facefocus, Grad-CAM and cosine only": _ours(box, plain),
                "captum": _theirs(box, plain, "captum"),
            },
            repeats,
            warm=False,
        )
        pairs = calls_one_by_one(IMAGES)
        for rival, ours, wanted, calls in (
            ("pytorch-grad-cam", "facefocus", target, configs),
            ("captum", "facefocus, Grad-CAM and cosine only", None, plain),
        ):
            rows.append(
                row_of(
                    f"{title}, {name}",
                    f"{rival}, {pairs * len(calls)} calls",
                    wanted,
                    ratio(times[rival], times[ours], pairs),
                    seconds=median_of(times[ours]),
                    rival_seconds=pairs * median_of(times[rival]),
                )
            )
        rows[-2]["agreement"] = agreement(name)
        rows[-2]["passes"] = _pass_seconds(box, configs)
    return rows


def _pass_seconds(box: TorchRecognizer, configs: Sequence[CamConfig]) -> dict[str, float]:
    """Seconds of what cannot be shared further: the images forward, and all rounds backward."""
    frames = faces(1, IMAGES)
    layers = sorted({box.layers().resolve(config.layer)[0] for config in configs})
    families = len({parse_objective(config.objective).family for config in configs})
    with box.capture(frames, layers) as captured:
        directions = torch.ones_like(captured.embeddings)
        times = in_turns(
            {
                "forward": lambda _: box.capture(frames, layers).close(),
                "backward": lambda _: captured.gradients(directions),
            },
            REPEATS,
        )
    rounds = (IMAGES - 1) * families
    return {
        "forward": median_of(times["forward"]),
        "backward": rounds * median_of(times["backward"]),
        "rounds": rounds,
    }


@cache
def agreement(name: str) -> dict[str, float]:
    """Largest difference of maps in [0, 1] to the tools', over three layers, where definitions are
    the same: Grad-CAM, LayerCAM, and Grad-CAM++ with the epsilon that pytorch-grad-cam adds."""
    box, frames = recognizer(name), faces(1, 2)
    images = inputs_of(box, frames)
    numbers = [box.layers().resolve(layer)[0] for layer in ("1", "N/2", "N")]
    objective = parse_objective("cosine")
    module = box.module
    assert isinstance(module, nn.Module)
    worst: dict[str, float] = dict.fromkeys((*CAMS, "captum grad-cam"), 0.0)
    with box.capture(frames, numbers) as captured:
        own, other = captured.embeddings, captured.embeddings.flip(0)
        gradients = captured.gradients(objective.direction(own, other))
    target = rivals.target_of(objective, other[0])
    for number in numbers:
        activation, gradient = captured.activations[number], gradients[number]
        for method in CAMS:
            known = METHODS[method]
            assert isinstance(known, GradientMethod)
            options = {"variant": "epsilon"} if method == "grad-cam++" else {}
            raw = known.function(activation, gradient, options)[0]
            theirs = rivals.by_grad_cam(module, module_at(box, number), method, images[:1], target)
            ours = rivals.scaled_by_grad_cam(raw.cpu().numpy(), theirs.shape)
            worst[method] = max(worst[method], float(np.abs(ours - theirs).max()))
            if method == "grad-cam":
                captum_map = rivals.by_captum(module, module_at(box, number), images[:1], target)
                both = minmax_normalize(torch.stack([raw, captum_map.relu()]))[0]
                difference = float((both[0] - both[1]).abs().max())
                worst["captum grad-cam"] = max(worst["captum grad-cam"], difference)
    return worst


def w1() -> list[Row]:
    """Sweep: 3 CAMs x 9 layers, cosine, all pairs of 6 images."""
    configs = [CamConfig(cam, layer) for cam in CAMS for layer in LAYERS]
    return _cams(("IResNet18", "MobileFaceNet"), configs, 60, "3 CAMs x 9 layers", SWEEP_REPEATS)


def w2() -> list[Row]:
    """Single: Grad-CAM++ at N-1, all pairs of 6 images."""
    return _cams(
        ("IResNet18", "MobileFaceNet"), [CamConfig("grad-cam++", "N-1")], 15, "Grad-CAM++ at N-1"
    )


def w3() -> list[Row]:
    """Losses: Grad-CAM++ at N-1 for the paper's seven losses."""
    configs = [CamConfig("grad-cam++", "N-1", loss) for loss in LOSSES]
    return _cams(("IResNet18", "MobileFaceNet"), configs, 50, "Grad-CAM++ at N-1, 7 losses")


# W4: S-RISE ---------------------------------------------------------------------------------------


def w4() -> list[Row]:
    """S-RISE: 1000 masks, all 30 pairs of 6 images, MobileFaceNet."""
    frames = faces(1, IMAGES)
    pairs = ordered_pairs(IMAGES, None, np.random.default_rng(0))
    method = METHODS["s-rise"]
    assert isinstance(method, PerturbationMethod)
    options = {"masks": str(MASKS), "weights": "plain"}  # as the direct loop weighs
    masks = [
        mask_set(method, frames.shape[1:3], str(number), seed=0, options=options)
        for number in range(IMAGES)
    ]
    plain = recognizer("MobileFaceNet")
    clean = plain.embed_reference(frames)
    drawn = [np.concatenate(list(own)) for own in masks]
    assert isinstance(plain.module, nn.Module)
    module, device = plain.module, next(plain.module.parameters()).device

    embedded: dict[str, list[np.ndarray]] = {}
    looped: dict[tuple[int, int], np.ndarray] = {}

    def ours(name: str) -> Callable[[int], object]:
        box = recognizer("MobileFaceNet", name)
        box.embed(frames)  # compiles

        def run(_: int) -> None:
            embedded[name] = [
                masked_embeddings(box, frame, own) for frame, own in zip(frames, masks, strict=True)
            ]
            perturbation_identity_map(masks, embedded[name], clean, pairs)

        return run

    def direct(repeat: int) -> None:
        explained, other = pairs[7 * repeat % len(pairs)]
        looped[explained, other] = rivals.direct_rise(
            module,
            lambda part: plain.preprocessing(part.to(device)),
            frames[explained],
            drawn[explained],
            torch.from_numpy(clean[other]).to(device),
        )

    def sums(image: int, scores: np.ndarray) -> np.ndarray:
        """Our map, also where similarities hardly vary: such a map counts as none (degenerate)."""
        return masks[image].method.combine(scores, masks[image]).reshape(frames.shape[1:3])

    works = {name: ours(name) for name in _backends()}
    times = in_turns({"direct": direct, **works}, RISE_REPEATS, warm=False)
    targets = {"openvino": 12.0, "openvino-bf16": 20.0}
    return [
        row_of(
            f"S-RISE, {MASKS} masks, {len(pairs)} pairs, {name}",
            f"direct loop per pair, {len(pairs) * MASKS} passes",
            targets.get(name),
            ratio(times["direct"], times[name], len(pairs)),
            seconds=median_of(times[name]),
            rival_seconds=len(pairs) * median_of(times["direct"]),
            agreement={
                "the direct loop": max(
                    _difference(sums(a, similarities(embedded[name][a], clean[[b]])), looped_map)
                    for (a, b), looped_map in looped.items()
                )
            },
        )
        for name in works
    ]


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of two maps, each scaled to [0, 1]."""
    scaled, _ = minmax_normalize(torch.from_numpy(np.stack([first, second]).astype(np.float64)))
    return float((scaled[0] - scaled[1]).abs().max())


def _backends() -> list[str]:
    """Those of this machine besides torch, the exact one first."""
    known = (
        ("cuda", "cuda-tf32", "cuda-half")
        if torch.cuda.is_available()
        else ("openvino", "openvino-bf16")
    )
    return [name for name in known if absent(name) is None] or ["torch"]


# W5: occluded embeddings --------------------------------------------------------------------------


def w5() -> list[Row]:
    """Evaluation: occluded photos embedded per second, against eager NCHW float32."""
    targets = {
        ("IResNet18", "openvino"): 2.5,
        ("IResNet18", "openvino-bf16"): 4.0,
    }
    peaks = Peaks()
    measured: list[tuple[str, int, int, dict[str, list[float]]]] = []
    for name, count in (("MobileFaceNet", 256), ("IResNet18", 64), ("IResNet50", 32)):
        if torch.cuda.is_available():
            count = 4096  # full batches, and enough of them
        frames = np.resize(faces(1, CHUNK), (count, 112, 112, 3))
        half = CHUNK if count < 256 else count // 4  # what the eager pass, the slower one, is given
        works = {"eager": _eager(recognizer(name), frames[:half]), "peak": peaks.measure}
        for backend in _backends():
            works[backend] = _embedding(recognizer(name, backend), frames)
        measured.append((name, count, half, in_turns(works, REPEATS)))
    rows: list[Row] = []
    for name, count, half, times in measured:
        eager = half / median_of(times["eager"])
        for backend in _backends():
            speed = Spread.of([count / taken for taken in times[backend]])
            peak = peaks.best[precision_of_backend(backend)]
            rows.append(
                row_of(
                    f"occluded embeddings, {name}, {backend}",
                    "eager NCHW float32",
                    targets.get((name, backend)),
                    ratio(times["eager"], times[backend], count / half),
                    images_per_second=asdict(speed),
                    eager_images_per_second=eager,
                    share_of_peak=speed.median * _operations(name) / peak,
                    eager_share_of_peak=eager * _operations(name) / peaks.best["float32"],
                    share_target=0.7 if (name, backend) == ("IResNet50", "openvino-bf16") else None,
                )
            )
    return [*rows, {"what": "peak", "peaks": peaks.best}]


def _hidden(frames: np.ndarray) -> np.ndarray:
    mask = np.zeros(frames.shape[1:3], bool)
    mask[40:60, 30:80] = True
    return occlude(frames, mask, np.zeros_like(frames))


def _embedding(box: TorchRecognizer, frames: np.ndarray) -> Callable[[int], object]:
    return lambda _: box.embed(_hidden(frames))


def _eager(box: TorchRecognizer, frames: np.ndarray) -> Callable[[int], object]:
    """Batches of 16 as torch users write them: NCHW float32, no gradients."""

    def run(_: int) -> None:
        hidden = _hidden(frames)
        with torch.inference_mode():
            for start in range(0, len(hidden), CHUNK):
                box.module(inputs_of(box, hidden[start : start + CHUNK]))

    return run


@cache
def _operations(name: str) -> int:
    """Floating-point operations of one image: two for each multiplication of a convolution or
    matrix product."""
    return operations_of(network(name))


def operations_of(module: nn.Module) -> int:
    """See `_operations`."""
    parameter = next(module.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, 112, 112, device=parameter.device, dtype=parameter.dtype))
    return int(counter.get_total_flops())


class Peaks:
    """The most operations per second of matrix products, by precision.

    Measured anew with every repeat of what it is compared with, for a machine's speed changes from
    minute to minute, and in several sizes, for none is the best everywhere.
    """

    def __init__(self) -> None:
        on_gpu = torch.cuda.is_available()
        precisions = ("float32", "bfloat16", *(("tf32", "float16") if on_gpu else ()))
        sizes = (4096, 8192) if on_gpu else (512, 1024, 2048)
        self.best: dict[str, float] = dict.fromkeys(precisions, 0.0)
        self._products = [
            (precision, size, product)
            for precision in precisions
            for size in sizes
            for product in _products(size, precision, on_gpu)
        ]

    def measure(self, _: int) -> None:
        """One more reading of every product."""
        for precision, size, product in self._products:
            self.best[precision] = max(self.best[precision], matmul_peak(product, size))


def _products(size: int, precision: str, on_gpu: bool) -> list[Callable[[], object]]:
    device = "cuda" if on_gpu else "cpu"
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    matrix = torch.rand(size, size, device=device, dtype=dtype)

    def product() -> None:
        with product_precision(precision):
            matrix @ matrix

    products: list[Callable[[], object]] = [product]
    if not on_gpu and absent("openvino") is None:
        products.append(_by_openvino(size, precision))
    return products


def _by_openvino(size: int, precision: str) -> Callable[[], object]:
    """The same by OpenVINO, which reaches more in bf16 where torch's library does not."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    from openvino import opset13 as ops

    given = ops.parameter([size, size], np.float32)
    weights = ops.constant(np.random.default_rng(0).random((size, size), np.float32))
    model = openvino.Model([ops.matmul(given, weights, False, False)], [given])
    hints = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
    matrix = np.random.default_rng(1).random((size, size), np.float32)
    return lambda: request.infer([matrix])


# W6: growth ---------------------------------------------------------------------------------------

IDENTITIES = (10, 30, 100, 300)
PHOTOS = (2, 5, 10, 30)
FIXED_PHOTOS, FIXED_IDENTITIES = 3, 10
#: Two CAMs at so many layers, and so many budgets.
GROWN_LAYERS, GROWN_BUDGETS = (2, 4, 9), (1, 3, 10)


def w6() -> list[Row]:
    """Growth: a whole run against identities and against images per identity."""
    by_identities = [_grown(count, FIXED_PHOTOS) for count in IDENTITIES]
    by_photos = [_grown(FIXED_IDENTITIES, count) for count in PHOTOS]
    return [
        _growth(f"identities, {FIXED_PHOTOS} images each", IDENTITIES, by_identities)
        | {"time_target": [0.95, 1.05]},
        _growth(f"images per identity, {FIXED_IDENTITIES} identities", PHOTOS, by_photos),
    ]


def w11() -> list[Row]:
    """Growth: a whole run against methods and against budgets."""
    by_layers = [_grown(FIXED_IDENTITIES, FIXED_PHOTOS, count) for count in GROWN_LAYERS]
    by_budgets = [_grown(FIXED_IDENTITIES, FIXED_PHOTOS, 1, count) for count in GROWN_BUDGETS]
    methods = [2 * count for count in GROWN_LAYERS]
    # What methods and budgets share makes it less.
    most = {"time_target": [0.0, 1.05]}
    return [
        _growth("methods, a CAM at a layer each", methods, by_layers) | most,
        _growth("budgets", GROWN_BUDGETS, by_budgets) | most,
    ]


def _growth(title: str, sizes: Sequence[int], runs: Sequence[Mapping[str, float]]) -> Row:
    """How time and memory of a few runs grow with their sizes."""
    times = [run["seconds"] for run in runs]
    memory = [run["peak_bytes"] for run in runs]
    return {
        "what": f"growth with {title}",
        "sizes": sizes,
        "seconds": times,
        "peak_bytes": memory,
        "time_exponent": exponent(sizes, times),
        "memory_exponent": exponent(sizes, memory),
    }


def _grown(*sizes: int) -> dict[str, float]:
    """One size, in a process of its own, so that its memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", *map(str, sizes)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"benchmarks.growth failed:\n{done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


WORKLOADS: Mapping[str, Callable[[], list[Row]]] = {
    "w1": w1,
    "w2": w2,
    "w3": w3,
    "w4": w4,
    "w5": w5,
    "w6": w6,
    "w7": whole_jobs.w7,
    "w8": whole_jobs.w8,
    "w9": whole_jobs.w9,
    "w10": profiles.w10,
    "w11": w11,
}
