"""One store for all: what is stored under a key is the same whatever the machine was like."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.benchmark import keys as keys_module
from facefocus.benchmark import session as session_module
from facefocus.benchmark import verify as verify_module
from facefocus.benchmark.run import open_sessions, run_experiment, run_status
from facefocus.benchmark.stages import embed as embedding_module
from facefocus.benchmark.verify import verify_recognizer
from facefocus.core.artefact_files import unpacked
from facefocus.core.locations import store_dir
from facefocus.core.store import Store
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer
from tests.small import PHOTOS, SIDE, paint_faceset, tiny_recognizer

EXPERIMENT = """
name = "small"
[faces]
set = "painted"
{people}
[recognizers]
source = "a"
[[saliency]]
method = ["grad-cam++", "occlusion-gradient"]
layer = ["1", "N"]
[[saliency]]
method = "s-rise"
options = {{ masks = 6 }}
[occlusion]
budget = 0.1
"""


class Smooth(nn.Module):
    """GELU and softplus, which torch computes otherwise at the ends of the parts of threads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, padding=1)
        self.second = nn.Conv2d(24, 20, 3, stride=2)
        self.out = nn.Linear(20 * 15 * 15, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.softplus(self.second(F.gelu(self.first(x))))
        embedding: Tensor = self.out(x.flatten(1))
        return embedding


def smooth_recognizer() -> TorchRecognizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Smooth().eval().requires_grad_(False)
    reading = Preprocessing((SIDE, SIDE), None, "rgb", (127.5,) * 3, (127.5,) * 3)
    return TorchRecognizer("a", module, reading, identity="smooth")


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEFOCUS_STORE", str(tmp_path / "shared"))
    monkeypatch.chdir(tmp_path)
    for module in (session_module, verify_module):
        monkeypatch.setattr(module, "load", lambda *_: tiny_recognizer("a", 0))


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_faceset(tmp_path_factory.mktemp("faces") / "painted", listed=True)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of clean photos in the order in which they were embedded."""
    rows: list[int] = []
    plain = embedding_module.embed

    def counting(recognizer: Any, faces: Any, store: Any, task: Any, progress: Any) -> None:
        rows.extend(row for _, part in task.parts for row in part)
        plain(recognizer, faces, store, task, progress)

    monkeypatch.setattr(embedding_module, "embed", counting)
    return rows


def run(painted: Path, out: str, people: str = "", **options: Any) -> Path:
    Path("small.toml").write_text(EXPERIMENT.format(people=people))
    return run_experiment(
        Path("small.toml"), faces=painted, out=Path(out), backend="torch", **options
    )


def artefacts(store: Path) -> dict[str, bytes]:
    files = [(path.name, path.read_bytes()) for path in store.glob("*.pack")]
    return {key: whole for name, data in files for key, whole in unpacked(name, data)}


def damage(store: Path, keys: Collection[str]) -> None:
    """Flip a bit of some artefacts, and leave all else as it is."""
    for path in store.glob("*.pack"):
        data, start = bytearray(path.read_bytes()), 0
        for key, whole in unpacked(path.name, bytes(data)):
            data[start + len(whole) // 2] ^= 4 if key in keys else 0
            start += len(whole)
        path.write_bytes(data)


#: Bytes in which 8 images pass, or 4 with their graph.
LITTLE = 4 * 2**20


# --- shared ---------------------------------------------------------------------------------------


def test_no_clean_photo_is_embedded_twice_by_verify_and_runs_on_other_people(
    painted: Path, embedded: list[int]
) -> None:
    rows = np.array([f"p{person:02d}" for person, n in enumerate(PHOTOS) for _ in range(n)])
    verify_recognizer(painted, "a", backend="torch")
    assert len(embedded) == len(set(embedded)) == 36  # the list's photos and no other
    run(painted, "one", 'people = ["p04", "p09"]')
    chosen = set(np.flatnonzero(np.isin(rows, ["p04", "p09"])).tolist())
    assert chosen <= set(embedded) and len(embedded) == len(set(embedded))
    # Two people have 6 photos outside the list, in at most two groups of 8.
    assert len(embedded) <= 36 + 16
    before = list(embedded)
    verify_recognizer(painted, "a", backend="torch")
    run(painted, "two", 'people = ["p09"]\nmax_images = 4')
    assert embedded == before
    run(painted, "three")
    assert sorted(embedded) == list(range(len(rows)))


def test_verify_gives_the_same_figures_from_the_store(painted: Path) -> None:
    first = verify_recognizer(painted, "a", backend="torch")
    assert verify_recognizer(painted, "a", backend="torch") == first
    recognizer = tiny_recognizer("a", 0)
    table = pl.read_parquet(painted / "pairs.parquet")
    frames = np.load(painted / "frames.npy")
    left, right = (recognizer.embed(frames[np.array(table[side])]) for side in ("first", "second"))
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    mated = cosines[np.array(table["mated"])].mean()
    assert first.report.mated_cosine == pytest.approx(mated, abs=1e-6)


def test_a_run_folder_says_portably_where_its_store_is(painted: Path, tmp_path: Path) -> None:
    def named(folder: Path) -> str:
        return str(json.loads((folder / "run.json").read_text())["store"])

    people = 'people = ["p09"]'
    assert named(run(painted, "shared run", people)) == "default"
    assert store_dir() == tmp_path / "shared" and Store(store_dir()).size().artefacts > 0
    inside = run(painted, "runs/own", people, store=tmp_path / "runs" / "kept")
    assert named(inside) == "../kept"
    moved = tmp_path / "elsewhere"
    (tmp_path / "runs").rename(moved)
    assert all(stage.done == stage.total > 0 for stage in run_status(moved / "own"))
    assert str(Path.home()) not in (moved / "own" / "run.json").read_text()


def test_a_run_folder_with_its_own_store_keeps_it(
    painted: Path, tmp_path: Path, embedded: list[int]
) -> None:
    run(painted, "old", 'people = ["p09"]', store=tmp_path / "old" / "store")
    asked = json.loads((tmp_path / "old" / "run.json").read_text())
    del asked["batches"]
    (tmp_path / "old" / "run.json").write_text(json.dumps({**asked, "store": "store"}))
    assert all(stage.done == stage.total for stage in run_status(tmp_path / "old"))
    before = list(embedded)
    run(painted, "old", 'people = ["p09"]')
    assert embedded == before and not (tmp_path / "shared").exists()


# --- the machine ----------------------------------------------------------------------------------


def test_threads_and_memory_change_no_byte_under_a_key_also_with_gelu(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads of one process against one, as of two workers; little memory against enough."""
    monkeypatch.setattr(session_module, "load", lambda *_: smooth_recognizer())
    before, people = torch.get_num_threads(), 'people = ["p04", "p09", "p10"]'
    made: dict[tuple[int, int | None], dict[str, bytes]] = {}
    try:
        for threads in (1, 2):
            for memory in (None, LITTLE):
                torch.set_num_threads(threads)
                store = tmp_path / f"{threads} {memory}"
                run(painted, f"run {threads} {memory}", people, store=store, memory=memory)
                made[threads, memory] = artefacts(store)
    finally:
        torch.set_num_threads(before)
    assert made[1, None] == made[2, None] and made[1, LITTLE] == made[2, LITTLE]
    # Baselines and the like have no passes; nothing else may have a key in common.
    assert not set(made[1, None]) & set(made[1, LITTLE])
    asked = json.loads((tmp_path / f"run 1 {LITTLE}" / "run.json").read_text())
    assert asked["batches"] == [["a", 8, 4]]
    assert all(stage.done == stage.total for stage in run_status(tmp_path / f"run 1 {LITTLE}"))
    results = [pl.read_parquet(path) for path in sorted(tmp_path.glob("run */results.parquet"))]
    for table in results[1:]:
        np.testing.assert_allclose(table["cosine"], results[0]["cosine"], atol=1e-4)


def test_where_memory_fails_the_run_goes_on_under_other_keys(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    people = 'people = ["p04", "p09", "p10"]'
    plain = TorchRecognizer.capture

    def capture(self: TorchRecognizer, frames: Any, layers: Sequence[int]) -> Any:
        if len(frames) > 5:
            raise MemoryError
        return plain(self, frames, layers)

    monkeypatch.setattr(TorchRecognizer, "capture", capture)
    run(painted, "halved", people, store=tmp_path / "halved store")
    assert "Memory did not suffice" in caplog.text
    asked = json.loads((tmp_path / "halved" / "run.json").read_text())
    assert asked["batches"] == [["a", 16, 4]]
    assert all(stage.done == stage.total for stage in run_status(tmp_path / "halved"))
    monkeypatch.setattr(TorchRecognizer, "capture", plain)
    # Whoever has batches of four from the start gets the same, byte for byte; nothing of what
    # depends on them stands under the keys of sixteen.
    _, sessions = open_sessions(Path("small.toml"), painted, Path("x"), tmp_path / "four store")

    def four(*_: object) -> TorchRecognizer:
        recognizer = tiny_recognizer("a", 0)
        recognizer.graph_batch = 4
        return recognizer

    monkeypatch.setattr(session_module, "load", four)
    run(painted, "four", people, store=tmp_path / "four store")
    made = artefacts(tmp_path / "halved store")
    assert artefacts(tmp_path / "four store") == made
    gradients = {
        output.key
        for outputs in sessions[""].plan.planned["maps"].values()
        for output in outputs
        if output.spec.method != "s-rise"
    }
    assert gradients and not gradients & set(made)


def test_forward_passes_that_do_not_fit_are_halved_too(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = TorchRecognizer._eager

    def eager(self: TorchRecognizer, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for inputs in batches:
            if len(inputs) > 8:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            yield from plain(self, [inputs])

    monkeypatch.setattr(TorchRecognizer, "_eager", eager)
    verify_recognizer(painted, "a", backend="torch")
    kept = artefacts(tmp_path / "shared")
    run(painted, "run", 'people = ["p09"]')
    asked = json.loads((tmp_path / "run" / "run.json").read_text())
    assert asked["batches"] == [["a", 8, 16]]
    assert kept.items() <= artefacts(tmp_path / "shared").items()


@pytest.mark.parametrize("stage", ["embed", "masked", "maps", "scores"])
def test_an_artefact_that_is_damaged_while_a_run_goes_on_is_made_again(
    stage: str, painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = 'people = ["p09"]'
    expected = (run(painted, "one", people) / "results.parquet").read_bytes()
    whole = artefacts(tmp_path / "shared")
    _, sessions = open_sessions(Path("small.toml"), painted, Path("one"), backend="torch")
    store, keys = sessions[""].store, sessions[""].plan.keys()
    damage(tmp_path / "shared", keys[stage])
    if stage != "scores":
        store.remove(keys["scores"])
    assert (run(painted, "two", people) / "results.parquet").read_bytes() == expected
    # Whatever was looked at is whole again.
    now = artefacts(tmp_path / "shared")
    for key in (*keys["scores"], *keys["maps"], *keys["embed"]):
        assert now[key] == whole[key]


def test_versions_and_devices_are_in_the_keys_of_all_that_they_change(
    painted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("small.toml").write_text(EXPERIMENT.format(people='people = ["p09"]'))

    def keys() -> dict[str, set[str]]:
        _, sessions = open_sessions(Path("small.toml"), painted, Path("one"), backend="torch")
        return {stage: set(of_stage) for stage, of_stage in sessions[""].plan.keys().items()}

    before = keys()
    changes: list[tuple[object, str, Any]] = [
        (torch, "__version__", "9.9"),
        (torch.backends.cpu, "get_cpu_capability", lambda: "OTHER"),
        (keys_module, "libraries", lambda: ("numpy 9.9",)),
    ]
    for owner, name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            if name == "libraries":
                for module in ("plan", "stages.perturb", "stages.explain"):
                    patch.setattr(f"facefocus.benchmark.{module}.libraries", value)
            changed = keys()
        for stage in before:
            untouched = before[stage] & changed[stage]
            assert not untouched or (name == "libraries" and stage == "embed")
