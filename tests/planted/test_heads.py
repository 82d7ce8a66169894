"""Heads and schedules against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from facefocus.planted.train.heads import arcface, cosface
from facefocus.planted.train.schedule import grown, learning_rate

COSINES = torch.tensor([[0.5, 0.1], [-0.2, 0.8]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


def test_cosface_takes_the_margin_off_the_right_cosine() -> None:
    """s (cos t - m): 10 (0.5 - 0.3) = 2, 10 (0.8 - 0.3) = 5."""
    expected = torch.tensor([[2.0, 1.0], [-2.0, 5.0]], dtype=torch.float64)
    torch.testing.assert_close(cosface(COSINES, LABELS, 0.3, 10.0), expected)


def test_arcface_adds_the_margin_to_the_right_angle() -> None:
    """cos(acos 0.5 + pi/6) = cos 90 deg = 0; cos(acos 0.8 + pi/6) = 0.8 cos 30 - 0.6 sin 30."""
    right = 0.8 * math.cos(math.pi / 6) - 0.6 * 0.5
    expected = torch.tensor([[0.0, 1.0], [-2.0, 10 * right]], dtype=torch.float64)
    torch.testing.assert_close(arcface(COSINES, LABELS, math.pi / 6, 10.0), expected)


def test_arcface_goes_on_falling_beyond_pi() -> None:
    """At t = 2.9 with m = 0.5, t + m > pi: cos 2.9 - 0.5 sin 0.5."""
    own = torch.tensor([[math.cos(2.9)]], dtype=torch.float64)
    got = arcface(own, torch.tensor([0]), 0.5, 1.0)
    assert got.item() == pytest.approx(math.cos(2.9) - 0.5 * math.sin(0.5))
    angles = torch.linspace(0.01, 3.13, 200, dtype=torch.float64)
    logits = arcface(angles.cos()[:, None], torch.zeros(200, dtype=torch.int64), 0.5, 1.0)
    assert (logits.diff(dim=0) < 0).all()


def test_without_margin_both_heads_only_scale() -> None:
    for head in (cosface, arcface):
        torch.testing.assert_close(head(COSINES, LABELS, 0.0, 4.0), 4 * COSINES)


def test_arcface_has_a_slope_at_the_poles() -> None:
    cosines = torch.tensor([[1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    loss = arcface(cosines, torch.tensor([0]), 0.3, 1.0).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert cosines.grad is not None
    assert torch.isfinite(cosines.grad).all()


def test_learning_rate_rises_in_a_line_and_falls_as_half_a_cosine() -> None:
    rates = [learning_rate(step, 12, peak=4.0, warmup=1 / 3) for step in range(12)]
    assert rates[:4] == pytest.approx([1.0, 2.0, 3.0, 4.0])
    # 8 steps of cosine: at its half, cos 90 deg, half the peak.
    assert rates[4] == pytest.approx(4.0)
    assert rates[8] == pytest.approx(2.0)
    assert rates[6] == pytest.approx(2 * (1 + math.sqrt(0.5)))
    assert rates[11] == pytest.approx(2 * (1 + math.cos(math.pi * 7 / 8)))


def test_learning_rate_without_warmup_begins_at_its_peak() -> None:
    assert learning_rate(0, 5, peak=0.1, warmup=0.0) == pytest.approx(0.1)


def test_difficulty_grows_as_a_square() -> None:
    margins = [grown(step, 10, full=0.4, growth=0.5) for step in range(10)]
    assert margins == pytest.approx([0.0, 0.016, 0.064, 0.144, 0.256, 0.4, 0.4, 0.4, 0.4, 0.4])
    assert grown(0, 10, full=0.4, growth=0.0) == 0.4
