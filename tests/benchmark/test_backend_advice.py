"""A dry run names the fastest backend that changes no recognition rate by more than 0.002."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from facefocus.benchmark import backend_advice
from facefocus.benchmark import session as session_module
from facefocus.benchmark.backend_advice import BackendAdvice, advice_lines, advise
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.models.recognizer import TorchRecognizer
from tests.small import PHOTOS, paint_faceset, tiny_recognizer

#: Milliseconds an image on each backend.
COST = {"auto": 4, "exact": 4, "slow": 9, "half": 2, "wrong": 1}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    clock = [0.0]

    def accelerate(box: TorchRecognizer, backend: str, *_: object) -> TorchRecognizer:
        plain = box.forward

        def run(batches: Iterable[Tensor]) -> Iterator[Tensor]:
            for part in plain(batches):
                clock[0] += COST[backend] / 1000 * len(part)
                # Cosines know no scale; without signs, everybody is near.
                yield part.abs() if backend == "wrong" else part / (1 + (backend == "half"))

        box.forward = run
        return box

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(session_module, "accelerate", accelerate)
    monkeypatch.setattr(session_module, "load", lambda name, _: tiny_recognizer(name))
    monkeypatch.setattr(backend_advice, "BACKENDS", ("auto", "slow", "exact", "half", "wrong"))
    monkeypatch.setattr(backend_advice, "absent", lambda name: None)
    monkeypatch.setattr(backend_advice, "chosen_backend", lambda name: "exact")
    experiment = parse_experiment(
        {
            "name": "small",
            "recognizers": {"source": ["a"]},
            "saliency": {"method": "s-rise", "options": {"masks": 70}},
            "occlusion": {"budget": [0.05, 0.2]},
        }
    )
    faces = paint_faceset(tmp_path / "faces")
    return Session(SessionSpec(experiment.model_dump_json(), faces, tmp_path / "store", "auto"))


def test_the_fastest_that_decides_alike_is_named(session: Session) -> None:
    advice = advise(session, {"a": 1000})
    assert advice is not None and advice.backend == "half"
    # 2 ms an image instead of 4; ordered mated pairs at two budgets.
    assert advice.factor == pytest.approx(2.0)
    assert advice.decisions == 2 * sum(n * (n - 1) for n in PHOTOS)
    assert advice.changed == 0 and advice.difference == 0.0
    (line,) = advice_lines(advice)
    assert line.startswith(
        "fastest here: --backend half, passes without gradients 2.0 times as fast"
    )


def test_one_that_changes_rates_is_not(session: Session) -> None:
    photos = backend_advice._photos(session)
    assert photos is not None and photos.hidden.shape == (2, sum(PHOTOS), 32, 32, 3)
    assert ((photos.hidden == 0).all(axis=-1).sum(axis=(2, 3)) >= [[51], [205]]).all()
    limit, matched = photos.matches(session, "a")
    clean = session.recognizers["a"].embed(photos.frames)
    units = clean / np.linalg.norm(clean, axis=1, keepdims=True)
    mated = (units @ units.T)[photos.mated]
    assert 0 < (mated >= limit).mean() <= 1
    expected = {"a": (limit, ~matched)}
    _, changed, difference = backend_advice._changes(expected, photos, session)
    assert changed == matched.size
    assert difference == pytest.approx(np.abs(2 * matched.mean(axis=1) - 1).max())


def test_without_another_backend_or_passes_nothing_is_said(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert advise(session, {}) is None and list(advice_lines(None)) == []
    monkeypatch.setattr(backend_advice, "BACKENDS", ("auto", "exact", "slow"))
    advice = advise(session, {"a": 1000})
    assert advice == BackendAdvice("exact", 1.0)
    (line,) = advice_lines(advice)
    assert "exact, which is used by default" in line
    monkeypatch.setattr(backend_advice, "BACKENDS", ("auto", "exact"))
    assert advise(session, {"a": 1000}) is None
