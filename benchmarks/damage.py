"""Every file of a store damaged in turn, and what is noticed of it: ``docs/cluster.md``.

    python -m benchmarks.damage STORE [--seed 0]

The store is only read: each file is copied, alone, to an empty one. There one bit of it is flipped
at a random place; then it is cut off at a random place. A damage is found where an artefact is
missing and every other one has the bytes it had. Ends with 1 where one was not found.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from facefocus.core.artefact_files import ENDING
from facefocus.core.store import Arrays, Missing, Store


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One bit of another value."""
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """A part from the start, which may be empty."""
    return data[: rng.randrange(len(data))]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {"flipped": flipped, "cut off": cut}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, counts = random.Random(given.seed), Counter[str]()
    for file in sorted(given.store.rglob(f"*{ENDING}")):
        whole = file.read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / file.relative_to(given.store)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(whole)
            before = loaded(Store(Path(folder)), list(Store(Path(folder))))
            for name, damage in DAMAGES.items():
                for other in Path(folder).rglob(f"*{ENDING}"):
                    other.unlink()
                copy.write_bytes(damage(whole, rng))
                after = loaded(Store(Path(folder)), list(before))
                right = all(same(before[key], arrays) for key, arrays in after.items())
                counts[name] += 1
                counts[f"{name}, found"] += len(after) < len(before) and right
                counts[f"{name}, artefacts"] += len(before)
                counts[f"{name}, kept"] += len(after)
    for name in DAMAGES:
        print(
            f"{name}: {counts[name]} files, {counts[f'{name}, found']} found;"
            f" {counts[f'{name}, kept']} of {counts[f'{name}, artefacts']} artefacts are kept"
        )
    raise SystemExit(any(counts[f"{name}, found"] < counts[name] for name in DAMAGES))


def loaded(store: Store, keys: list[str]) -> dict[str, Arrays]:
    """What a store gives of some artefacts."""
    arrays = {}
    for key in keys:
        with suppress(Missing):
            arrays[key] = store.load(key)
    return arrays


def same(first: Arrays, second: Arrays) -> bool:
    """Whether two artefacts hold the same bytes."""
    parts = [
        {name: (x.dtype, x.shape, x.tobytes()) for name, x in arrays.items()}
        for arrays in (first, second)
    ]
    return parts[0] == parts[1]


if __name__ == "__main__":
    main()
