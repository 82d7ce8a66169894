"""``facefocus doctor``: what can run recognizers here, how fast each is, and which will be used."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facefocus.core.errors import UserError
from facefocus.faces.sources.synthetic import render_many
from facefocus.models.backends import (
    BACKENDS,
    PREFERRED,
    Checked,
    absent,
    accelerate,
)
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
    findings = {name: _finding(name, model, preprocessing, frames) for name in backends}
    chosen = next(name for name in PREFERRED if findings[name].problem is None)
    return Examination(model, tuple(findings.values()), chosen)


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
