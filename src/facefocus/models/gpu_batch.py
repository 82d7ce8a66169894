"""How many images a GPU takes at once: the least batch that reaches 95 % of its best rate.

Measured once for a card, a release of torch and a network, and kept in the user's cache: batches
are part of keys, so another one would make everything anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

import torch
from torch import Tensor

from facefocus.core.errors import UserError
from facefocus.core.files import write_atomically
from facefocus.core.locations import cache_dir
from facefocus.core.store import content_key
from facefocus.models.memory import out_of_memory

#: The largest batch that is tried, and the largest of passes that keep their graph.
LARGEST, LARGEST_GRAPH = 1024, 256
#: Share of the best rate that the least batch has to reach.
ENOUGH = 0.95
#: Batches that a rate is measured over.
BATCHES = 8


def chosen_batch(rates: Mapping[int, float]) -> int:
    """The least batch that reaches `ENOUGH` of the best rate.

    Args:
        rates: Images per second of each batch.

    Example:
        >>> chosen_batch({64: 8000.0, 128: 9600.0, 256: 10000.0, 512: 9900.0})
        128
    """
    enough = ENOUGH * max(rates.values())
    return min(batch for batch, rate in rates.items() if rate >= enough)


def measured_rates(
    forward: Callable[[Iterable[Tensor]], Iterator[Tensor]], inputs: Tensor, least: int
) -> dict[int, float]:
    """Images per second of `least` of the inputs at once, of twice as many, ..., of all.

    Those for which memory does not suffice are left out.
    """
    rates: dict[int, float] = {}
    size = least
    while size <= len(inputs):
        try:
            rates[size] = _rate(forward, inputs[:size])
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or not rates:
                raise
            break
        size *= 2
    return rates


def _rate(forward: Callable[[Iterable[Tensor]], Iterator[Tensor]], inputs: Tensor) -> float:
    with torch.inference_mode():
        list(forward([inputs]))  # records it
        torch.cuda.synchronize()
        start = time.perf_counter()
        list(forward([inputs] * BATCHES))
        torch.cuda.synchronize()
    return BATCHES * len(inputs) / (time.perf_counter() - start)


def kept_batch(measure: Callable[[], Mapping[int, float]], **of: str | int) -> int:
    """`chosen_batch` of rates that are measured where the cache has none.

    Args:
        measure: Gives the rates.
        of: What they depend on: the card, what runs the network, the network.
    """
    file = cache_dir() / "gpu-batches" / f"{content_key('gpu batch', **of)}.json"
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads(file.read_text(encoding="utf-8"))["batch"])
    rates = measure()
    record = {"batch": chosen_batch(rates), "images_per_second": rates, "of": of}
    with suppress(UserError):  # a cache that cannot be written
        write_atomically(file, lambda out: out.write(json.dumps(record, indent=2).encode()))
    return chosen_batch(rates)
