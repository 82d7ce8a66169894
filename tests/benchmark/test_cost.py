"""A plan's passes are those that a run makes; its disk is what a run writes."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from facefocus.benchmark import session as session_module
from facefocus.benchmark import task_outcome as outcome_module
from facefocus.benchmark import timing
from facefocus.benchmark.cost import estimate
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.scaling import wall_seconds
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.cli import main
from facefocus.cli.run_commands import cost_lines
from facefocus.models.recognizer import MakeFrames, TorchRecognizer
from facefocus.models.zoo import load as zoo_load
from facefocus.saliency.explainer import Passes
from tests.small import PHOTOS, paint_faceset, tiny_recognizer

PAIRS = sum(photos * (photos - 1) for photos in PHOTOS)
IMAGES = sum(PHOTOS)


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        session_module, "load", lambda name, _: tiny_recognizer(name, "ab".index(name))
    )
    monkeypatch.setattr(timing, "MEASURED", 0.0)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_faceset(tmp_path_factory.mktemp("faces") / "painted")


def opened(painted: Path, run: Path, **changes: Any) -> Session:
    experiment = parse_experiment(
        {
            "name": "small",
            "faces": {"set": "painted"},
            "recognizers": {"source": ["a"], "target": ["a", "b"]},
            "occlusion": {"budget": [0.05, 0.2], "fill": "mean"},
            **changes,
        }
    )
    return Session(SessionSpec(experiment.model_dump_json(), painted, run / "store", "torch"))


SALIENCY: list[dict[str, Any]] = [
    {"method": ["grad-cam", "layer-cam"], "layer": ["1", "all"], "objective": ["cosine", "l1"]},
    {"method": "grad-cam++", "layer": "N", "objective": ["l2", "l1"], "max_pairs": 5},
    {"method": "s-rise", "options": {"masks": 70}},
    {"method": "occlusion-gradient", "options": {"steps": 3}},
    {"method": "random", "draws": 1},
]


class Counted:
    """What each recognizer runs in each stage, in images, fillers of batches left out."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = ""
        self.inference: Counter[tuple[str, str]] = Counter()
        self.torch: Counter[tuple[str, str]] = Counter()
        self.backward: Counter[tuple[str, str]] = Counter()
        for name, box in session.recognizers.items():
            assert isinstance(box, TorchRecognizer)
            self._watch(name, box, monkeypatch)

    def _watch(self, name: str, box: TorchRecognizer, monkeypatch: pytest.MonkeyPatch) -> None:
        embed, reference, capture = box.embed, box.embed_reference, box.capture
        embed_made = box.embed_made

        def embedding(frames: np.ndarray) -> np.ndarray:
            self.inference[self.now, name] += len(frames)
            return embed(frames)

        def embedding_made(count: int, make: MakeFrames) -> Iterator[np.ndarray]:
            self.inference[self.now, name] += count
            return embed_made(count, make)

        def referring(frames: np.ndarray) -> np.ndarray:
            self.torch[self.now, name] += len(frames)
            return reference(frames)

        def capturing(frames: np.ndarray, layers: Sequence[int]) -> Any:
            self.torch[self.now, name] += len(frames)
            captured = capture(frames, layers)
            gradients = captured.gradients

            def counting(directions: Tensor) -> dict[int, Tensor]:
                self.backward[self.now, name] += int(directions.any(dim=1).sum())
                return gradients(directions)

            captured.gradients = counting  # type: ignore[method-assign]
            return captured

        monkeypatch.setattr(box, "embed", embedding)
        monkeypatch.setattr(box, "embed_made", embedding_made)
        monkeypatch.setattr(box, "embed_reference", referring)
        monkeypatch.setattr(box, "capture", capturing)


def test_what_is_counted_is_what_runs(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(painted, tmp_path, saliency=[*SALIENCY[:3], SALIENCY[4]])
    planned = estimate(session)
    counted = Counted(session, monkeypatch)
    work = outcome_module.run_task

    def running(session: Session, task: Any, *rest: Any) -> tuple[int, int]:
        counted.now = task.stage
        return work(session, task, *rest)

    monkeypatch.setattr(outcome_module, "run_task", running)
    execute(session)
    for (stage, name), passes in planned.passes.items():
        if name == "-":
            assert passes == Passes()
            continue
        assert passes.forward == counted.torch[stage, name]
        assert passes.backward == counted.backward[stage, name]
        if passes.exact:
            assert passes.inference == counted.inference[stage, name]
        else:
            assert 0.5 * passes.inference < counted.inference[stage, name] <= passes.inference
    assert {key for key in counted.inference if counted.inference[key]} <= set(planned.passes)
    assert planned.passes["maps", "a"].exact and not planned.passes["scores", "b"].exact


def test_sharing_is_measured_against_one_call_for_each_map(painted: Path, tmp_path: Path) -> None:
    passes = estimate(opened(painted, tmp_path, saliency=SALIENCY)).passes
    # 2 methods x (layer 1 and the three of "all") x 2 objectives, each pair forward and backward;
    # Grad-CAM++ twice for up to five pairs; three steps of the occlusion gradient for each of two
    # budgets, and each pair.
    capped = sum(min(photos * (photos - 1), 5) for photos in PHOTOS)
    calls = 2 * 4 * 2 * PAIRS + 2 * capped + 3 * 2 * PAIRS
    assert passes["maps", "a"].alone == 2 * calls
    assert passes["maps", "a"].backward == 2 * PAIRS + 2 * capped + 3 * 2 * IMAGES
    # The direct loop embeds 70 masked photos for each pair; here once for each photo.
    assert passes["masked", "a"].inference == 70 * IMAGES
    assert passes["masked", "a"].alone == 70 * PAIRS
    # 8 + 2 CAMs, S-RISE and a baseline at 2 budgets; the occlusion gradient's map is for one.
    assert passes["scores", "b"].alone == IMAGES * 2 * (8 + 2 + 1 + 1 + 1)


def test_occlusion_gradients_run_as_often_as_counted(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facefocus.saliency import mated_gradients

    session = opened(painted, tmp_path, saliency=[SALIENCY[3]], recognizers={"source": "a"})
    planned = estimate(session).passes["maps", "a"]
    taken: list[int] = []
    plain = mated_gradients.real_images

    def counting(images: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        taken.append(len(plain(images)))
        return plain(images)

    monkeypatch.setattr(mated_gradients, "real_images", counting)
    execute(session)
    assert planned.backward == sum(taken)
    assert planned.forward == sum(taken) + 2 * IMAGES  # and references, once for each budget


def test_disk_is_what_a_run_writes(painted: Path, tmp_path: Path) -> None:
    session = opened(painted, tmp_path, saliency=SALIENCY)
    planned = estimate(session)
    execute(session)
    written = [file.stat().st_size for file in (tmp_path / "store").iterdir()]
    assert sum(written) == pytest.approx(planned.disk, rel=0.15)
    assert len(written) == planned.files
    assert sum(map(sum, planned.tasks.values())) == pytest.approx(sum(planned.seconds.values()))
    assert sum(map(len, planned.tasks.values())) == len(session.plan.tasks)


def test_wall_time_is_that_of_tasks_handed_to_whoever_is_free() -> None:
    # Two workers: 3 | 1, 2 | then 1 on either; a stage waits for the one before it.
    assert wall_seconds([[3.0, 1.0, 2.0, 1.0]], 2, 0.0) == 4.0
    assert wall_seconds([[3.0, 1.0], [2.0, 2.0, 2.0]], 2, 0.0) == 3.0 + 4.0
    # More workers than the scheduler can keep busy: the fourth task begins after 0.4 s.
    assert wall_seconds([[1.0] * 4], 100, 0.1) == pytest.approx(1.4)
    assert wall_seconds([[1.0] * 4], 1, 0.0) == 4.0 and wall_seconds([], 3) == 0.0


def test_a_plan_writes_nothing_and_counts_only_what_is_left(painted: Path, tmp_path: Path) -> None:
    session = opened(painted, tmp_path, saliency=SALIENCY[4])
    lines = list(cost_lines(estimate(session), tmp_path))
    assert not (tmp_path / "store").exists()
    assert lines[0].split() == [
        *("stage", "recognizer", "forward", "backward", "one", "by", "one", "saved", "time"),
    ]
    assert lines[-1].startswith("disk about 0.1 MB in ")
    execute(session)
    again = opened(painted, tmp_path, saliency=SALIENCY[4])
    assert list(cost_lines(estimate(again), tmp_path)) == [f"Nothing is left to do in {tmp_path}."]


def test_time_is_measured_for_what_is_needed(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recognizer that takes 10 ms for an image in inference."""
    session = opened(
        painted, tmp_path, saliency=SALIENCY[4], recognizers={"source": "a", "target": "a"}
    )
    box = session.recognizers["a"]
    assert isinstance(box, TorchRecognizer)
    plain, clock = box.forward, [0.0]

    def slow(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for part in plain(batches):
            clock[0] += 0.01 * len(part)
            yield part

    box.forward = slow
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    estimated = estimate(session)
    embeds = estimated.passes["embed", "a"].inference
    assert estimated.seconds["embed", "a"] == pytest.approx(0.01 * embeds)
    assert {task.stage for task in session.plan.tasks} == {"embed", "maps", "scores"}
    assert torch.is_grad_enabled()


def test_the_first_call_which_prepares_the_others_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, seconds = [0.0], iter([5.0, 0.4, 0.3, 0.5])
    monkeypatch.setattr(timing, "MEASURED", 1.0)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def work() -> None:
        clock[0] += next(seconds)

    assert timing.median_seconds(work) == pytest.approx(0.4)


# The command line ---------------------------------------------------------------------------------

MODEL = """
import sys
sys.path.insert(0, {root!r})
from tests.small import tiny_recognizer

def build():
    return tiny_recognizer("own").module

build.preprocessing = tiny_recognizer().preprocessing
"""

EXPERIMENT = """
name = "small"
[recognizers]
source = "{folder}/own.py:build"
[[saliency]]
method = "grad-cam"
layer = ["1", "N"]
[occlusion]
budget = 0.1
"""


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["facefocus", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_a_dry_run_and_a_run_within_a_budget(
    painted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(session_module, "load", zoo_load)
    (tmp_path / "own.py").write_text(MODEL.format(root=str(Path(__file__).parents[2])))
    file = tmp_path / "small.toml"
    file.write_text(EXPERIMENT.format(folder=tmp_path))
    given = [str(file), "--faces", str(painted), "--backend", "torch"]
    out = tmp_path / "run"

    code, planned, _ = command(monkeypatch, capsys, "run", *given, "--out", str(out), "--dry-run")
    assert code == 0 and not out.exists()
    # 2 layers of each pair, forward and backward; here each pair backward once.
    (maps,) = [line.split() for line in planned.splitlines() if line.startswith("maps")]
    assert maps[3:5] == [f"{PAIRS:,}", f"{4 * PAIRS:,}"]

    tables = []
    for name, more in (("plain", []), ("tight", ["--memory", "200KB"])):
        ran, _, error = command(
            monkeypatch, capsys, "run", *given, "--out", str(tmp_path / name), *more
        )
        assert ran == 0, error
        tables.append(pl.read_parquet(tmp_path / name / "results.parquet"))
    plain, tight = (table["cosine"].to_numpy() for table in tables)
    np.testing.assert_allclose(tight, plain, atol=1e-5)

    code, _, error = command(monkeypatch, capsys, "run", *given, "--memory", "lots")
    assert code == 2 and error.startswith("The 'memory' must be a size such as 4GiB. Got 'lots'.")
