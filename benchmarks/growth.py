"""Time and memory of one run: ``python -m benchmarks.growth IDENTITIES PHOTOS [LAYERS [BUDGETS]]``.

Two CAMs are made at so many layers, and tried at so many budgets; one of each by default.

Everything that does not grow is done before the clock starts: loading, compiling, a first run.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.faces.faceset import IndexRow, write_faceset

#: Seconds between two looks at the memory.
LOOK = 0.02
#: People of the run that comes before.
WARM = 4
#: Layers of which the first ones of this list are asked for. The graph of a pass begins at the
#: network's earliest of them: from two on it is the same for any number.
LAYERS = ("N", "1", "N/2", "N-1", "N/4", "3N/4", "N-2", "2", "3")


def main() -> None:
    identities, photos, layers, budgets = [*map(int, sys.argv[1:]), 1, 1][:4]
    asked = LAYERS[:layers], [round(0.01 * (number + 1), 2) for number in range(budgets)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        session = _session(root / "warm", WARM, photos, *asked)
        execute(session)
        grown = _session(root / "run", identities, photos, *asked)
        # The same recognizer, compiled.
        grown.__dict__["recognizers"] = session.recognizers
        with _peak() as peak:
            start = time.perf_counter()
            execute(grown)
            seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": peak[0]}))


def _session(
    root: Path, identities: int, photos: int, layers: Sequence[str], budgets: Sequence[float]
) -> Session:
    """Two CAMs at each layer: passes without gradients and with them."""
    rng = np.random.default_rng(0)
    names = [
        (f"p{who:04d}", f"p{who:04d}_{photo:02d}")
        for who in range(identities)
        for photo in range(photos)
    ]
    faces = root / "faces"
    faces.mkdir(parents=True)
    write_faceset(
        faces,
        title="noise",
        rows=[IndexRow(identity=who, name=name, path=name) for who, name in names],
        frames=[rng.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in names],
        size=(112, 112),
    )
    experiment = parse_experiment(
        {
            "name": "growth",
            "recognizers": {
                "source": str(Path(__file__).with_name("networks.py")) + ":mobilefacenet"
            },
            "saliency": {"method": ["grad-cam", "layer-cam"], "layer": list(layers)},
            "occlusion": {"budget": list(budgets)},
        }
    )
    spec = SessionSpec(experiment.model_dump_json(), faces, root / "store", "auto")
    return Session(spec)


@contextmanager
def _peak() -> Iterator[list[int]]:
    """The most memory of this process while the block runs, memory-mapped files left out."""
    peak, over = [_private()], threading.Event()

    def watch() -> None:
        while not over.wait(LOOK):
            peak[0] = max(peak[0], _private())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def _private() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


if __name__ == "__main__":
    main()
