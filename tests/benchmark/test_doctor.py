"""What is present, measured and compared; refused with the figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from facefocus.benchmark import doctor
from facefocus.benchmark.doctor import examine
from facefocus.cli.store_commands import doctor_lines
from facefocus.core.errors import UserError
from facefocus.models import backends
from tests.small import tiny_recognizer

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="the extra 'fast' (OpenVINO) is not installed"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MEASURED", 0.0)
    monkeypatch.setattr(doctor, "load", lambda name, _: tiny_recognizer(name))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@needs_openvino
def test_every_backend_is_measured_and_compared() -> None:
    examined = examine("tiny")
    by_name = {finding.backend: finding for finding in examined.findings}
    assert list(by_name) == ["torch", "openvino", "openvino-bf16", "cuda", "cuda-tf32", "cuda-half"]
    for name, least in (("openvino", 0.9999), ("openvino-bf16", 0.999)):
        cosine, speed = by_name[name].cosine, by_name[name].speed
        assert cosine is not None and least <= cosine <= 1.000001
        assert speed is not None and speed > 0
    assert examined.chosen == "openvino"
    lines = list(doctor_lines(examined))
    assert lines[2].startswith("torch ") and lines[2].endswith("the reference")
    assert "least cosine" in lines[3] and "(at least 0.9999): accepted" in lines[3]
    assert "needs a GPU" in lines[5]
    assert lines[-1].startswith("used by default (auto): openvino")


@needs_openvino
def test_a_backend_that_disagrees_is_refused_with_the_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrong:
        def __init__(self, *_: object) -> None:
            pass

        def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
            return (torch.ones(len(inputs), 8) for inputs in batches)

    monkeypatch.setattr(backends, "OpenVino", Wrong)
    examined = examine("tiny")
    assert examined.chosen == "torch", "what 'auto' comes to on this recognizer"
    by_name = {finding.backend: finding for finding in examined.findings}
    assert by_name["torch"].problem is None
    problem = by_name["openvino"].problem
    assert problem is not None and "least cosine" in problem and "0.9999 is needed" in problem


def test_without_a_recognizer_it_says_what_is_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    lines = list(doctor_lines(examine()))
    assert lines[1:] == [
        "torch          present",
        "openvino       needs: pip install openvino",
        "openvino-bf16  needs: pip install openvino",
        "cuda           needs a GPU that this torch can use, and finds none",
        "cuda-tf32      needs a GPU that this torch can use, and finds none",
        "cuda-half      needs a GPU that this torch can use, and finds none",
        "used by default (auto): torch, the fastest here in float32; fewer bits only where they are"
        " asked for; measure with --model NAME",
    ]


def test_a_black_box_is_told_that_it_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "load", lambda name, _: object())
    with pytest.raises(UserError, match=r"'mine\.onnx' is a black box"):
        examine("mine.onnx")
