"""How the learning rate and the difficulty change from step to step."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, *, peak: float, warmup: float) -> float:
    """Linear rise to `peak` over the first share `warmup` of the steps, then half a cosine to 0.

    Args:
        step: From 0 to steps - 1.
        steps: Of the whole training.
        peak: Highest rate.
        warmup: Share of the steps, in [0, 1).
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (steps - rising)))


def grown(step: int, steps: int, *, full: float, growth: float) -> float:
    """Rise from 0 to `full` over the first share `growth` of the steps, as their square.

    For the margin and for erasing: either one early can keep a small network from learning
    anything.
    """
    growing = round(growth * steps)
    return full if step >= growing else full * (step / growing) ** 2
