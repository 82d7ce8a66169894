"""Every random draw's own generator, so that no result depends on order, batch or worker.

Protocol: randomness. A seed is derived from (experiment seed, purpose, identity or image).
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *parts: str | int) -> np.random.Generator:
    """A generator that depends on its arguments alone, on every platform.

    Args:
        seed: The experiment's seed.
        purpose: What the draw is for, e.g. ``"ties"`` or ``"fill"``.
        parts: What tells this draw from others of its purpose: identity, image, draw number.
    """
    text = "\x1f".join([str(seed), purpose, *map(str, parts)])
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
