"""Work within a memory budget: how many images fit, and halving where they do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from facefocus.core.errors import UserError
from facefocus.models.layers import LayerTable

T = TypeVar("T")
R = TypeVar("R")

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
#: How torch, its allocators and OpenVINO say that there is no memory left, where not by a type.
_SAYINGS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad alloc")

#: Tensors of an output's size that stay in the graph for one convolution, or are made on the way
#: back: its output, the activation's slope, a sum; and two gradients. 1.2 to 2.0 stay, measured on
#: the recognizers here (tests/models/test_memory.py counts them).
PER_CALL = 4
#: The same for one layer normalization of tokens: between two of them lie the queries, keys and
#: values of an attention, or the wider middle of a perceptron.
PER_NORM = 12
#: Share of a GPU's memory that a pass may take where no budget is given.
SHARE = 0.5
#: What to do where nothing else helps.
TOO_LITTLE = (
    "Memory does not suffice for a single image. Close other programs, or give fewer '--workers'."
)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``4GiB``, ``512MiB`` or ``800M``.

    Raises:
        UserError: It is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    size = int(float(match.group(1)) * _UNITS[match.group(2).upper()]) if match else 0
    if size < 1:
        hint = f" Did you mean {text}GiB?" if text.strip().isdecimal() and int(text) else ""
        raise UserError(f"The 'memory' must be a size such as 4GiB. Got '{text}'.{hint}")
    return size


def budget_of(memory: int | None) -> int:
    """The budget in bytes: `memory`, or a share of all that the GPU has.

    Not of what is free now: batches would then change from run to run.
    """
    return memory if memory is not None else int(SHARE * torch.cuda.mem_get_info()[1])


def free_memory() -> int:
    """Bytes that can still be taken: on the GPU where there is one, else in this machine."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 8 * _UNITS["G"]  # not Linux: what any machine has
    return 1024 * int(kilobytes)


def capture_bytes(table: LayerTable, layers: Collection[int]) -> int:
    """Bytes per image of a forward pass with its graph, and of gradients at `layers`.

    The graph begins at the earliest of the layers; with tokens, at the first call of all.
    """
    first = 1 if table.tokens else min(layers)
    sizes = {call.index: 4 * call.size for call in table.calls}
    graph = sum(
        (PER_NORM if call.kind == "norm" else PER_CALL) * sizes[call.index]
        for call in table.calls
        if call.index >= first
    )
    return max(graph + sum(sizes[layer] for layer in layers), 4 * max(sizes.values()))


def forward_bytes(table: LayerTable) -> int:
    """Bytes per image of a forward pass without a graph: a few of its largest outputs at once."""
    largest = max(call.size for call in table.calls)
    return 4 * PER_CALL * largest


def images_within(budget: int, each: int, most: int) -> int:
    """The largest of `most`, `most` / 2, ... of which the images fit; at least one."""
    while most > 1 and most * each > budget:
        most //= 2
    return most


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(saying in text for saying in _SAYINGS)


def in_halves(work: Callable[[Sequence[T]], R], items: Sequence[T]) -> Iterator[R]:
    """``work(items)``, or of each half of them where memory does not suffice for all.

    Raises:
        UserError: Memory does not suffice for a single one.
    """
    try:
        yield work(items)
        return
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        if len(items) < 2:
            raise UserError(TOO_LITTLE) from None
    # Out of the handler: the error's traceback holds what was allocated.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = -(-len(items) // 2)
    for part in (items[:half], items[half:]):
        yield from in_halves(work, part)
