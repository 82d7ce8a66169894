"""``facefocus doctor``: what can run recognizers here, how fast each is, and which will be used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from facefocus.core.errors import UserError
from facefocus.core.provenance import environment
from facefocus.faces.sources.synthetic import render_many
from facefocus.models.backends import (
    AGREEMENT,
    BACKENDS,
    PREFERRED,
    Checked,
    absent,
    accelerate,
    precision_of_backend,
)
from facefocus.models.memory import free_memory
from facefocus.models.recognizer import CHUNK, TorchRecognizer
from facefocus.models.zoo import load

#: Seconds that a backend is measured for, after its first batches.
MEASURED = 2.0


@dataclass(frozen=True)
class Finding:
    """One backend on this machine.

    Attributes:
        backend: Its name, as for ``--backend``.
        problem: Why it cannot be used, or None.
        speed: Images per second on the user's recognizer; None where it was not measured.
        cosine: Least cosine to torch's embeddings of 16 drawn faces; None where not compared.
    """

    backend: str
    problem: str | None
    speed: float | None = None
    cosine: float | None = None


@dataclass(frozen=True)
class Examination:
    """All backends, the recognizer they were measured on if any, and what ``auto`` comes to."""

    model: str | None
    findings: tuple[Finding, ...]
    chosen: str


def examine(
    model: str | None = None, preprocessing: Mapping[str, object] | None = None
) -> Examination:
    """See which backends are present; with a recognizer, measure each on it.

    Args:
        model: A recognizer.
        preprocessing: How one from a file reads frames; see `zoo.load`.

    Raises:
        UserError: The recognizer cannot be loaded, or is a black box: those embed by themselves.
    """
    frames = None
    if model is not None:
        if not isinstance(load(model, preprocessing), TorchRecognizer):
            raise UserError(
                f"The recognizer '{model}' is a black box: it embeds by itself, and no backend"
                " runs it."
            )
        frames = render_many("all", 0, range(CHUNK), 1).frames
    backends = [name for name in BACKENDS if name != "auto"]
    found = {name: _finding(name, model, preprocessing, frames) for name in backends}
    chosen = next(name for name in PREFERRED if found[name].problem is None)
    return Examination(model, tuple(found.values()), chosen)


def _finding(
    backend: str,
    model: str | None,
    preprocessing: Mapping[str, object] | None,
    frames: np.ndarray | None,
) -> Finding:
    problem = absent(backend)
    if problem is not None or model is None or frames is None:
        return Finding(backend, problem)
    recognizer = load(model, preprocessing)
    assert isinstance(recognizer, TorchRecognizer)
    try:
        accelerate(recognizer, backend)
        recognizer.embed(frames)
    except UserError as error:
        return Finding(backend, str(error))
    several = np.concatenate([frames] * (4 * recognizer.batch // CHUNK))
    recognizer.embed(several)
    done, start = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - start < MEASURED:
        recognizer.embed(several)
        done += len(several)
    speed = done / (time.perf_counter() - start)
    checked = recognizer.forward
    return Finding(backend, None, speed, checked.cosine if isinstance(checked, Checked) else None)


def report_lines(found: Examination) -> Iterator[str]:
    """The machine, a line for each backend, and which of them runs by default."""
    machine = environment()
    yield (
        f"{machine['processor']}, {os.cpu_count()} cores, {torch.get_num_threads()} threads,"
        f" {free_memory() / 2**30:.1f} GiB free; torch {torch.__version__}"
    )
    if found.model is not None:
        yield f"{found.model}, batches as in a run, 16 drawn faces compared with torch:"
    for one in found.findings:
        yield f"{one.backend:<14} {_verdict(one)}"
    yield f"used by default (auto): {found.chosen}" + _hint(found)


def _verdict(found: Finding) -> str:
    if found.problem is not None:
        return found.problem
    name = "OpenVINO " + version("openvino") if found.backend.startswith("openvino") else "present"
    if found.speed is None:
        return name
    speed = f"{found.speed:8.1f} images/s"
    if found.cosine is None:
        return f"{speed}   the reference"
    least = AGREEMENT[precision_of_backend(found.backend)]
    return f"{speed}   least cosine {found.cosine:.6f} (at least {least}): accepted"


def _hint(found: Examination) -> str:
    """What would be faster than the default, if anything was measured and is."""
    speeds = {one.backend: one.speed for one in found.findings if one.speed is not None}
    best = max(speeds, key=lambda name: speeds[name], default=found.chosen)
    if best in (found.chosen,) or found.chosen not in speeds:
        return "" if found.model else "; measure with --model NAME"
    factor = speeds[best] / speeds[found.chosen]
    return f"; --backend {best} is {factor:.1f} times as fast"
