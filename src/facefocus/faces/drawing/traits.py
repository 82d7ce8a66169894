"""Traits: named numbers drawn uniformly from their ranges, of which synthetic faces are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

T = TypeVar("T")


def trait(low: float, high: float) -> Any:
    """A dataclass field for a number drawn uniformly from [`low`, `high`)."""
    return field(metadata={"range": (low, high)})


@lru_cache(maxsize=32)
def _ranges(kind: Any) -> tuple[list[str], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Names, lower bounds and widths of the traits of `kind`."""
    traits = fields(kind)
    bounds = np.array([entry.metadata["range"] for entry in traits], dtype=float)
    return [entry.name for entry in traits], bounds[:, 0], bounds[:, 1] - bounds[:, 0]


def trait_count(kind: type) -> int:
    """How many draws an object of `kind` takes."""
    return len(_ranges(kind)[0])


def from_draws(kind: Callable[..., T], draws: Float[np.ndarray, " n"]) -> T:
    """The object whose traits are `draws` from [0, 1), brought to their ranges."""
    names, low, width = _ranges(kind)
    # A frozen dataclass sets its fields one call at a time; a face has a hundred of them.
    made: T = object.__new__(kind)  # type: ignore[arg-type]
    made.__dict__.update(zip(names, (low + draws * width).tolist(), strict=True))
    return made


@dataclass(frozen=True)
class Expression:
    """What a face does in one photo; part of no one's identity. Lengths in frame px."""

    open: float = trait(-3.0, 4.0)  # between the lips; shut below 0
    smile: float = trait(-0.2, 1.0)
    brow_raise: float = trait(-1.2, 1.6)
    brow_skew: float = trait(-0.6, 0.6)
    lids: float = trait(0.82, 1.12)
    gaze: float = trait(-1.6, 1.6)
    gaze_down: float = trait(-0.5, 0.6)
    glint: float = trait(-1.0, 1.0)  # on which side of the iris the light is mirrored
