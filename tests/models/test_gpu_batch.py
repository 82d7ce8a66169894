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
    recognizer.batch = 128
    # 16 / 0.00116 = 13,793; 32: 24,242; 64: 39,024, which is all that the memory holds.
    assert backends.batch_by_rate(recognizer, Card(clock)) == 64
    (file,) = (tmp_path / "facefocus" / "gpu-batches").iterdir()

    def never(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        raise AssertionError

    assert backends.batch_by_rate(recognizer, never) == 64
    for change in ("other card", "other weights", "less memory"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda change=change: change)
        other = tiny_recognizer(seed=int(change == "other weights"))
        other.batch = 32 if change == "less memory" else 128
        card = Card(clock)
        assert backends.batch_by_rate(other, card) == min(64, other.batch)
        assert card.calls
    file.write_text("{")
    assert backends.batch_by_rate(recognizer, Card(clock)) == 64


def test_a_cache_that_cannot_be_written_costs_only_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert kept_batch(lambda: {16: 1.0, 32: 2.0}, card="a card") == 32
