"""What a card does, where nothing can be installed: correctness first, then figures.

    python -m benchmarks.on_card prepare --faces faces/lfw --to people.npz
    python -m benchmarks.on_card run --frames people.npz --recognizer mobilefacenet-ms1m
        --weights mobilefacenet-ms1m.safetensors --packages DIR --to benchmarks/results

`prepare` takes the photos of 60 people (4 to 10 each) from a face set, for another machine. `run`
needs torch there; `--packages` is a folder with the other packages (`pip install --target`). It
writes ``TO/MACHINE/card.json`` after every step, and W1 to W6 beside it where the tools that they
compare with are among the packages: `python -m benchmarks --page` makes a part of the page of them.
It begins no step after `--minutes`, and ends with 1 where a result is wrong. Where there is no GPU
it runs on the processor: a rehearsal, whose figures say so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from facefocus.models.recognizer import TorchRecognizer

ROOT = Path(__file__).parent.parent
#: People of `prepare`, and photos of each.
PEOPLE, PHOTOS = 60, (4, 10)
#: Networks of random weights besides the recognizer that is given.
NETWORKS = ("IResNet18", "IResNet50", "IResNet100")
#: Seconds that a rate is measured for.
MEASURED = 2.0
#: Batches that are tried.
BATCHES = (32, 64, 128, 256, 512, 1024)
#: Masks of a photo in RISE.
MASKS = 1000
#: The whole job: `experiments/quick.toml` on the frames.
JOB = ROOT / "experiments" / "quick.toml"


def prepare(faces: Path, to: Path) -> None:
    """Write the photos of the first people with as many photos as `PHOTOS` says."""
    import numpy as np

    from facefocus.faces.faceset import open_faceset

    faceset = open_faceset(faces)
    names, counts = np.unique(faceset.identities, return_counts=True)
    fit = names[(counts >= PHOTOS[0]) & (counts <= PHOTOS[1])][:PEOPLE]
    rows = np.flatnonzero(np.isin(faceset.identities, fit))
    np.savez_compressed(
        to, frames=faceset.frames[rows], identities=faceset.identities[rows].astype(str)
    )
    print(f"{len(fit)} people, {len(rows)} photos, {to.stat().st_size / 1e6:.1f} MB: {to}")


class Report:
    """A file that grows: what was found so far is never lost."""

    def __init__(self, file: Path, minutes: float) -> None:
        self._file, self._end = file, time.monotonic() + 60 * minutes
        self.outcomes: dict[str, Any] = {}
        self.wrong: list[str] = []

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a step unless time is up; an error is kept as a line, and the next step follows."""
        if time.monotonic() > self._end:
            self._keep(name, "no time was left")
            return None
        from facefocus.core.errors import UserError

        start = time.perf_counter()
        try:
            outcome = work()
        except (AssertionError, UserError) as error:
            self.wrong.append(name)
            outcome = f"WRONG: {error}"
        except Exception as error:  # a card without Triton, a package that is not there
            outcome = (
                f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
            )
        self._keep(name, outcome, time.perf_counter() - start)
        return outcome

    def _keep(self, name: str, outcome: Any, seconds: float = 0.0) -> None:
        self.outcomes[name] = outcome
        print(f"{name} ({seconds:.1f} s): {json.dumps(outcome)}", flush=True)
        self._file.write_text(json.dumps(self.outcomes, indent=2) + "\n", encoding="utf-8")


# --- correctness ----------------------------------------------------------------------------------


def check_fills(frames: np.ndarray, device: Any) -> str:
    """Every content fill, hidden on the device: numpy's bytes."""
    import numpy as np

    from facefocus.models.occluded_frames import ContentHide, OccludedFrames, occlude
    from facefocus.occlusion.fills import FILLS, fill_rng, hider, reading

    rng = np.random.default_rng(0)
    masks = rng.random((8, 112, 112)) < np.linspace(0, 1, 8)[:, None, None]
    packed = np.packbits(masks.reshape(8, -1), axis=1)
    rows, which = rng.integers(0, 16, 64), rng.integers(0, 8, 64)
    names = [name for name in FILLS if reading(name) == "artefact"]
    for name in names:
        hide = hider(name, frames[:16], [fill_rng(0, str(row)) for row in range(16)])
        assert isinstance(hide, ContentHide)
        wanted = occlude(frames[rows], masks[which], hide.content[rows])
        photos = OccludedFrames([hide], device)
        for got in (photos.under(rows, packed, which), photos._chosen(rows, packed[which])):
            assert np.array_equal(got.cpu().numpy(), wanted), f"other bytes under {name}"
    return f"equal bytes under {', '.join(names)}"


def check_masks(frames: np.ndarray, device: Any) -> str:
    """RISE masks and patches made on the device: the processor's bits, and its masked bytes."""
    import numpy as np
    import torch

    from facefocus.models.occluded_frames import multiplied
    from facefocus.saliency.rise import patch_masks_on, rise_masks_on

    picture = torch.from_numpy(frames[0])
    for draw, options in (
        (rise_masks_on, {}), (patch_masks_on, {"fill": "black"}),
        (patch_masks_on, {"fill": "uniform"}),
    ):  # fmt: skip
        made = [
            draw(np.random.default_rng(1), 64, (112, 112), options, torch_device)
            for torch_device in (torch.device("cpu"), device)
        ]
        assert torch.equal(made[0], made[1].cpu()), f"other masks by {draw.__name__}"
        bytes_here = multiplied(picture, made[0])
        there = multiplied(picture.to(device), made[1]).cpu()
        assert torch.equal(bytes_here, there), f"other bytes by {draw.__name__}"
    return "equal bits of masks, equal bytes of masked frames"


def check_backend(boxes: dict[str, TorchRecognizer], frames: np.ndarray) -> dict[str, float]:
    """Least cosine to torch's embeddings, and the same bits in another order and in small parts."""
    import numpy as np

    from facefocus.models.backends import AGREEMENT, precision_of_backend

    plain, cosines = boxes["torch"].embed(frames[:64]), {}
    order = np.random.default_rng(0).permutation(64)
    for name, box in boxes.items():
        got = box.embed(frames[:64])
        units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (plain, got)]
        cosines[name] = float((units[0] * units[1]).sum(axis=1).min())
        least = AGREEMENT[precision_of_backend(name)]
        assert cosines[name] >= least, f"{name}: cosine {cosines[name]}, {least} is needed"
        assert np.array_equal(box.embed(frames[:64][order]), got[order]), f"{name}: order matters"
        for count in (1, 7, 20, 40):
            few = box.embed(frames[:count])
            assert np.array_equal(few, got[:count]), f"{name}: {count} alone have other bits"
    return cosines


def check_maps(
    here: TorchRecognizer, there: TorchRecognizer, frames: np.ndarray, identities: Sequence[str]
) -> dict[str, float | bool]:
    """Least cosine of people's maps to the processor's; whether a person alone, and a second run,
    have the same bits."""
    import numpy as np

    from facefocus.faces.faceset import Identity
    from facefocus.saliency.identity import cam_identity_maps
    from facefocus.saliency.streams import CamConfig

    names = np.array(identities)
    people = [Identity(name, np.flatnonzero(names == name)) for name in sorted(set(names))[:4]]
    configs = [CamConfig(method, "N") for method in ("grad-cam", "grad-cam++", "layer-cam")]

    def maps(recognizer: TorchRecognizer, whom: Sequence[Identity]) -> np.ndarray:
        made = cam_identity_maps(recognizer, frames, whom, configs, max_pairs=None, seed=0)
        return np.stack([made[config].maps for config in configs]).reshape(3, len(whom), -1)

    plain, got = maps(here, people), maps(there, people)
    sizes = [np.linalg.norm(x, axis=-1) for x in (plain, got)]
    cosine = float(((plain * got).sum(axis=-1) / (sizes[0] * sizes[1])).min())
    assert cosine >= 0.99, f"cosine {cosine} to the processor's maps"
    return {
        "cosine": cosine,
        "same_bits_alone": np.array_equal(maps(there, people[1:2])[:, 0], got[:, 1]),
        "same_bits_again": np.array_equal(maps(there, people), got),
    }


# --- figures --------------------------------------------------------------------------------------


def rate(work: Callable[[], int]) -> float:
    """Images per second of calls that return how many they did, after one that is not counted."""
    import torch

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    work()
    wait()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < MEASURED:
        done += work()
        wait()
    return done / (time.perf_counter() - start)


def busy(work: Callable[[], object]) -> float | None:
    """Share of the time of a call in which kernels ran; None without a GPU."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if not torch.cuda.is_available():
        return None
    torch.cuda.synchronize()
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    kernels = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
    return float(kernels / seconds)


def engine_rates(box: TorchRecognizer, frames: np.ndarray) -> dict[str, Any]:
    """The engine with its inputs in place, for each batch; and the least that is enough."""
    import numpy as np
    import torch

    from facefocus.models.gpu_batch import chosen_batch
    from facefocus.models.recognizer import allowed_by

    rates: dict[int, float] = {}
    usual = box.batch
    for batch in BATCHES if torch.cuda.is_available() else (16,):
        box.batch = batch
        (inputs,) = box.batches(np.resize(frames, (batch, *frames.shape[1:])))

        def work(inputs: Any = inputs, batch: int = batch) -> int:
            with torch.inference_mode():
                done = list(box.forward([inputs] * 4))
            return len(done) * batch

        rates[batch] = rate(work)
    box.batch = usual
    halves = [usual >> step for step in range(1, usual.bit_length())]
    return {
        "by_batch": rates, "best": max(rates.values()), "least_batch": chosen_batch(rates),
        "batch_now": usual,
        "smaller_batches": [size for size in halves if allowed_by(box.forward)(size)],
    }  # fmt: skip


def compiled_rate(box: TorchRecognizer, frames: np.ndarray, precision: str) -> float:
    """The network by `torch.compile`, inputs in place: what the card can do with it."""
    import numpy as np
    import torch
    from torch import nn

    from facefocus.models.backends import in_precision

    dtype = torch.float16 if precision == "float16" else torch.float32
    assert isinstance(box.module, nn.Module)
    module = torch.compile(in_precision(box.module, dtype), mode="reduce-overhead")
    usual, box.batch = box.batch, 256 if torch.cuda.is_available() else 16
    (inputs,) = box.batches(np.resize(frames, (box.batch, *frames.shape[1:])))
    inputs = inputs.to(dtype)
    count, box.batch = box.batch, usual

    def work() -> int:
        with torch.inference_mode():
            module(inputs)
        return count

    return rate(work)


def scoring(box: TorchRecognizer, frames: np.ndarray, count: int) -> Callable[[], int]:
    """Photos under masks of 1 to 5 %, hidden where they are embedded: as the scores are made."""
    import numpy as np

    from facefocus.models.occluded_frames import ContentHide, OccludedFrames
    from facefocus.models.recognizer import embed_made

    photos = OccludedFrames([ContentHide(frames, np.zeros_like(frames))], box.device)
    rng = np.random.default_rng(0)
    rows, which = np.arange(count) % len(frames), np.arange(count) // 6
    masks = np.packbits(rng.random((count // 6 + 1, 112 * 112)) < 0.03, axis=1)

    def work() -> int:
        def make(start: int, stop: int) -> Any:
            numbers = which[start:stop]
            own = masks[numbers[0] : numbers[-1] + 1]
            return photos.under(rows[start:stop], own, numbers - numbers[0])

        return sum(map(len, embed_made(box, count, make)))

    return work


def rise(box: TorchRecognizer, frames: np.ndarray, photos: int) -> Callable[[], int]:
    """Photos under their RISE masks, as the maps need them."""
    from facefocus.saliency.methods import METHODS, PerturbationMethod
    from facefocus.saliency.perturbation import MaskedFrame, embeddings_of_masked, mask_set

    method = METHODS["s-rise"]
    assert isinstance(method, PerturbationMethod)
    options = {"masks": str(MASKS if photos > 1 else 64)}
    given = [
        MaskedFrame(frame, mask_set(method, (112, 112), str(row), seed=0, options=options))
        for row, frame in enumerate(frames[:photos])
    ]
    return lambda: sum(map(len, embeddings_of_masked(box, given)))


def figures(
    box: TorchRecognizer, frames: np.ndarray, backend: str, peak: float, operations: int
) -> dict[str, Any]:
    """Rates and shares of one network on one backend."""
    import torch

    from facefocus.models.backends import precision_of_backend

    large = torch.cuda.is_available()
    engine = engine_rates(box, frames)
    work = {
        "scoring": scoring(box, frames, 65536 if large else 96),
        "rise": rise(box, frames, 16 if large else 1),
    }
    rates: dict[str, Any] = {"engine": engine}
    rates |= {name: rate(call) for name, call in work.items()}
    rates |= {f"{name}_busy": busy(call) for name, call in work.items()}
    rates["share_of_peak"] = rates["scoring"] * operations / peak
    if large:
        try:
            compiled = compiled_rate(box, frames, precision_of_backend(backend))
            rates |= {"compiled": compiled}
            rates |= {f"{name}_share_of_compiled": rates[name] / compiled for name in work}
        except Exception as error:
            rates["compiled"] = f"{type(error).__name__}: {str(error)[:200]}"
    return rates


def whole_job(
    frames: np.ndarray, identities: Sequence[str], folder: Path, backend: str, fast: bool
) -> dict[str, Any]:
    """`facefocus run experiments/quick.toml` on the frames, from the shell to its table."""
    from facefocus.benchmark.run_log import read_log
    from facefocus.faces.faceset import IndexRow, write_faceset

    faces = folder / "faces"
    if not faces.exists():
        faces.mkdir(parents=True)
        names = [f"{who}_{row:04d}" for row, who in enumerate(identities)]
        rows = [
            IndexRow(identity=who, name=name, path=name)
            for who, name in zip(identities, names, strict=True)
        ]
        write_faceset(faces, title="people", rows=rows, frames=list(frames), size=(112, 112))
    text = JOB.read_text(encoding="utf-8")
    if fast:  # a rehearsal
        text = text.replace("identities = 60", "identities = 2").replace(
            'fill = ["black", "white", "mean", "random", "blur", "inpaint"]', 'fill = "black"'
        )
    file, run = folder / "job.toml", folder / backend
    file.write_text(text, encoding="utf-8")
    code = "from facefocus.cli import main; main()"
    options = ["--faces", faces, "--out", run, "--store", folder / f"{backend}-store"]
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(file), *map(str, options), "--backend", backend],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-300:])
    seconds, log = time.time() - start, list(read_log(run))
    ended = [line for line in log if line["event"] == "end"]
    images, padded = (sum(line[name] for line in ended) for name in ("images", "padded"))
    first = next(line["time"] for line in log if line["event"] == "begin")
    return {
        "seconds": seconds, "until_first_pass": first - start, "images": images, "padded": padded,
        "passes_per_second": images / seconds,
    }  # fmt: skip


# --- all of it ------------------------------------------------------------------------------------


def run(asked: argparse.Namespace) -> int:
    """Correctness, then figures."""
    import numpy as np
    import torch

    from benchmarks.results import Results, folder_of, machine
    from benchmarks.workloads import WORKLOADS, Peaks, operations_of
    from facefocus.models.backends import accelerate, precision_of_backend

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_card = device.type == "cuda"
    backends = ["cuda", "cuda-tf32", "cuda-half"] if on_card else ["torch"]
    with np.load(asked.frames) as held:
        frames, identities = held["frames"], held["identities"].tolist()
    results, folder = Results(asked.to), Path(tempfile.mkdtemp())
    asked.to.joinpath(folder_of(machine())).mkdir(parents=True, exist_ok=True)
    report = Report(asked.to / folder_of(machine()) / "card.json", asked.minutes)
    # For the processes of the whole job: a data folder with the one recognizer.
    os.environ["FACEFOCUS_DATA"] = str(_data(asked, folder))
    report.step("machine", lambda: machine() | {"card": name_of(device)})
    report.step("fills", lambda: check_fills(frames, device))
    report.step("masks", lambda: check_masks(frames, device))

    def box(backend: str, name: str = "") -> TorchRecognizer:
        made = _random(name) if name else _given(asked.recognizer, asked.weights)
        accelerate(made, backend)
        return made

    report.step(
        "backends", lambda: check_backend({b: box(b) for b in ("torch", *backends)}, frames)
    )
    report.step("maps", lambda: check_maps(box("torch"), box(backends[0]), frames, identities))
    if report.wrong:
        print(f"wrong: {', '.join(report.wrong)}; no figure is of use", flush=True)
        return 1
    peaks = Peaks()

    def measured_peaks() -> dict[str, float]:
        peaks.measure(0)
        return peaks.best

    report.step("peaks", measured_peaks)
    for backend in reversed(backends):
        job = partial(whole_job, frames, identities, folder, backend, not on_card)
        report.step(f"job {backend}", job)
    for name in ("", *(NETWORKS if on_card else ())):
        for backend in reversed(backends):
            peak = peaks.best[precision_of_backend(backend)]
            title = f"figures {name or asked.recognizer} {backend}"

            def work(name: str = name, backend: str = backend, peak: float = peak) -> Any:
                recognizer = box(backend, name)
                assert isinstance(recognizer.module, torch.nn.Module)
                return figures(recognizer, frames, backend, peak, operations_of(recognizer.module))

            report.step(title, work)
    for name in asked.workloads:

        def save(name: str = name) -> str:
            start = time.perf_counter()
            results.save(name, WORKLOADS[name](), time.perf_counter() - start)
            return "saved"

        report.step(name, save)
    return 0


def name_of(device: Any) -> str:
    """The card's name; where there is none, that these figures are a processor's."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "none: a rehearsal on the processor, not measured on a GPU"


def _data(asked: argparse.Namespace, folder: Path) -> Path:
    from facefocus.models.zoo import describe

    data = folder / "data"
    (data / "models").mkdir(parents=True)
    shutil.copy(asked.weights, data / "models" / Path(describe(asked.recognizer).file).name)
    return data


def _given(name: str, weights: Path) -> TorchRecognizer:
    from facefocus.models.recognizer import TorchRecognizer
    from facefocus.models.zoo import describe, loaded_network

    entry = describe(name)
    module, _ = loaded_network(entry, weights)
    module.eval().requires_grad_(False)
    return TorchRecognizer(name, module, entry.reader(), identity=entry.identity)


def _random(name: str) -> TorchRecognizer:
    from benchmarks.networks import NAMES, network
    from facefocus.models.recognizer import TorchRecognizer
    from facefocus.models.zoo import describe

    module = network(name).requires_grad_(False)
    return TorchRecognizer(name, module, describe(NAMES[name]).reader(), identity=name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_card", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare")
    preparing.add_argument("--faces", type=Path, required=True)
    preparing.add_argument("--to", type=Path, required=True)
    running = commands.add_parser("run")
    running.add_argument("--frames", type=Path, required=True, help="written by prepare")
    running.add_argument("--recognizer", default="mobilefacenet-ms1m")
    running.add_argument("--weights", type=Path, required=True)
    running.add_argument("--packages", type=Path, help="a folder with the other packages")
    running.add_argument("--to", type=Path, required=True, help="the folder of results")
    running.add_argument("--minutes", type=float, default=8.0)
    # The longest ones last: none is begun after the minutes.
    workloads = ["w2", "w3", "w4", "w5", "w1", "w6"]
    running.add_argument("--workloads", nargs="*", default=workloads)
    asked = parser.parse_args()
    if asked.command == "prepare":
        prepare(asked.faces, asked.to)
        return
    paths = [str(path.resolve()) for path in (asked.packages, ROOT / "src", ROOT) if path]
    sys.path[:0] = paths
    # For the processes of the whole job, too.
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    sys.exit(run(asked))


if __name__ == "__main__":
    main()
