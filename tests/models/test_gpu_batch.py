"""The batch on a GPU: the least that is fast enough, measured once. No GPU is needed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facefocus.models import backends
from facefocus.models.gpu_batch import chosen_batch, kept_batch, measured_rates
from facefocus.models.recognizer import TorchRecognizer
from tests.small import tiny_recognizer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only moves when it is told to."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return now


def test_the_least_batch_that_reaches_95_percent_of_the_best_rate_is_chosen() -> None:
    rates = {16: 4_000.0, 32: 7_500.0, 64: 9_499.9, 128: 9_500.0, 256: 10_000.0, 512: 9_800.0}
    assert chosen_batch(rates) == 128
    assert chosen_batch(rates | {64: 9_500.0}) == 64
    assert chosen_batch({16: 1.0}) == 16
    assert chosen_batch(dict(reversed(rates.items()))) == 128


class Card:
    """Takes a millisecond for a batch and as much for every hundred images; 64 at most."""

    def __init__(self, now: list[float]) -> None:
        self.now, self.calls = now, list[int]()

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for inputs in batches:
            if len(inputs) > 64:
                raise torch.OutOfMemoryError("out of memory")
            if len(inputs) not in self.calls:
                self.now[0] += 5  # records it
            self.calls.append(len(inputs))
            self.now[0] += 0.001 + len(inputs) / 1e5
            yield inputs


def test_rates_leave_out_the_recording_and_what_memory_does_not_hold(clock: list[float]) -> None:
    rates = measured_rates(Card(clock), torch.zeros(256, 1), 16)
    assert list(rates) == [16, 32, 64]
    for size, rate in rates.items():
        assert rate == pytest.approx(size / (0.001 + size / 1e5))
    with pytest.raises(torch.OutOfMemoryError):
        measured_rates(Card(clock), torch.zeros(256, 1), 128)


def test_a_batch_is_measured_once_for_each_card_engine_and_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: list[float]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    recognizer = tiny_recognizer()
    # 16 / 0.00116 = 13,793; 32: 24,242; 64: 39,024, which is all that the memory holds.
    assert backends.batch_by_rate(recognizer, Card(clock), "cuda", 128) == 64
    (file,) = (tmp_path / "facefocus" / "gpu-batches").iterdir()

    def never(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        raise AssertionError

    assert backends.batch_by_rate(recognizer, never, "cuda", 128) == 64
    for change in ("other card", "other weights", "less memory"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda change=change: change)
        other = tiny_recognizer(seed=int(change == "other weights"))
        most = 32 if change == "less memory" else 128
        card = Card(clock)
        assert backends.batch_by_rate(other, card, "cuda", most) == min(64, most)
        assert card.calls
    card = Card(clock)
    assert backends.batch_by_rate(recognizer, card, "gradients", 128) == 64 and card.calls
    file.write_text("{")
    assert backends.batch_by_rate(recognizer, Card(clock), "cuda", 128) == 64


def test_a_cache_that_cannot_be_written_costs_only_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert kept_batch(lambda: {16: 1.0, 32: 2.0}, card="a card") == 32


def test_passes_with_gradients_have_a_batch_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: list[float]
) -> None:
    """On a card that needs 1 MB for an image, 8 MB with its graph, and has 256 MB for passes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(backends, "absent", lambda backend: None)
    monkeypatch.setattr(backends, "to_gpu", lambda module: None)
    monkeypatch.setattr(backends, "budget_of", lambda memory: 2**28)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    taken = {"plain": 2**20, "graph": 2**23}
    card = {name: Card(clock) for name in taken}
    monkeypatch.setattr(backends, "with_gradients", lambda recognizer: card["graph"])
    monkeypatch.setattr(backends, "Cuda", lambda module, precision: card["plain"])
    monkeypatch.setattr(
        backends,
        "taken_bytes",
        lambda recognizer, passes: taken["graph" if passes is card["graph"] else "plain"],
    )
    recognizer = backends.accelerate(tiny_recognizer(), "cuda")
    assert isinstance(recognizer, TorchRecognizer)
    assert (recognizer.batch, recognizer.graph_batch) == (64, 32)
    assert (max(card["plain"].calls), max(card["graph"].calls)) == (64, 32)


def test_a_pass_with_gradients_goes_through_the_whole_network() -> None:
    recognizer = tiny_recognizer()
    inputs = backends.inputs_at_once(recognizer, 21)
    assert len(inputs) == 21 and torch.equal(inputs[4:], inputs[:-4])
    with torch.inference_mode():
        (made,) = backends.with_gradients(recognizer)([inputs])
    given = inputs.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(recognizer.module(given).sum(), given)
    torch.testing.assert_close(made, wanted)
    assert made.abs().max() > 0 and not made.is_inference()
