"""What a run will cost before it runs: passes, what sharing saves, time, disk."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from facefocus.benchmark.backend_advice import BackendAdvice, advise
from facefocus.benchmark.execute import left_of
from facefocus.benchmark.experiment import Experiment
from facefocus.benchmark.run import memory_of_each, open_sessions
from facefocus.benchmark.session import Session
from facefocus.benchmark.stages import STAGES, Task
from facefocus.benchmark.stages.explain import MapTask
from facefocus.benchmark.timing import median_seconds
from facefocus.core.locations import StoreAddress
from facefocus.core.progress import Progress, silent
from facefocus.models.recognizer import CHUNK, Recognizer, is_white_box
from facefocus.saliency.explainer import Passes
from facefocus.saliency.methods import METHODS


@dataclass(frozen=True)
class Estimate:
    """What is left to do of a run.

    Attributes:
        passes: By stage and recognizer, in the order of the stages.
        seconds: By stage and recognizer; of one process.
        disk: Bytes of the artefacts.
        files: In how many files: one of each task.
        tasks: The seconds of each task, by stage; of one process.
        advice: The backend to take, where that was asked for.
    """

    passes: Mapping[tuple[str, str], Passes] = field(default_factory=dict)
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    disk: int = 0
    files: int = 0
    tasks: Mapping[str, Sequence[float]] = field(default_factory=dict)
    advice: BackendAdvice | None = None

    @property
    def inference(self) -> Counter[str]:
        """Passes without gradients, by recognizer."""
        counts: Counter[str] = Counter()
        for (_, name), passes in self.passes.items():
            counts[name] += passes.inference
        return counts

    def __add__(self, other: Estimate) -> Estimate:
        """Of both runs together."""
        keys = dict.fromkeys([*self.passes, *other.passes])
        return Estimate(
            {k: self.passes.get(k, Passes()) + other.passes.get(k, Passes()) for k in keys},
            {k: self.seconds.get(k, 0.0) + other.seconds.get(k, 0.0) for k in keys},
            self.disk + other.disk,
            self.files + other.files,
            {
                stage: [*self.tasks.get(stage, ()), *other.tasks.get(stage, ())]
                for stage in dict.fromkeys([*self.tasks, *other.tasks])
            },
        )


def experiment_cost(
    file: Path | Experiment,
    *,
    faces: Path | None = None,
    out: Path | None = None,
    store: StoreAddress | None = None,
    backend: str = "auto",
    workers: int = 1,
    memory: int | None = None,
    cluster: str | None = None,
    progress: Progress = silent,
    advice: bool = False,
) -> tuple[Path, Estimate]:
    """The run folder of an experiment, and what is left of it with all its variants.

    Writes nothing; the arguments, and what is raised, are those of `run_experiment`. With `advice`
    backends are compared where none is named.
    """
    each = memory_of_each(memory, cluster, workers)
    folder, sessions = open_sessions(file, faces, out, store, backend, each, progress=progress)
    total = sum(map(estimate, sessions.values()), Estimate())
    if advice and backend == "auto":
        # Variants differ in what is asked, hardly in who is asked: the first one's photos do.
        first = next(iter(sessions.values()))
        total = replace(total, advice=advise(first, total.inference))
    return folder, total


def estimate(session: Session) -> Estimate:
    """Count what a session has left to do, and measure its recognizers for a moment."""
    left = [rest for task in session.plan.tasks if (rest := left_of(session, task)) is not None]
    passes_left: dict[tuple[str, str], Passes] = {}
    of_task = [STAGES[task.stage].passes(session, task) for task in left]
    for task, of_each in zip(left, of_task, strict=True):
        for name, passes in of_each.items():
            key = task.stage, name
            passes_left[key] = passes_left.get(key, Passes()) + passes
    speeds = {
        name: _measured(session, name, left)
        for name in dict.fromkeys(name for (_, name), passes in passes_left.items() if passes.all)
    }
    seconds = {key: _seconds(passes, speeds.get(key[1])) for key, passes in passes_left.items()}
    lengths = {name: speed.length for name, speed in speeds.items()}
    disk = sum(STAGES[task.stage].size(session, task, lengths) for task in left)
    tasks: dict[str, list[float]] = defaultdict(list)
    for task, of_each in zip(left, of_task, strict=True):
        each = (_seconds(passes, speeds.get(name)) for name, passes in of_each.items())
        tasks[task.stage].append(sum(each))
    return Estimate(passes_left, seconds, disk, len(left), tasks)


# Time and disk ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Speed:
    """Seconds per image of each kind of pass, and the length of an embedding."""

    inference: float
    forward: float
    backward: float
    length: int


def _seconds(passes: Passes, speed: _Speed | None) -> float:
    if speed is None:
        return 0.0
    return (
        passes.inference * speed.inference
        + passes.forward * speed.forward
        + passes.backward * speed.backward
    )


def _measured(session: Session, name: str, tasks: Sequence[Task]) -> _Speed:
    """The speed of a recognizer on the first frames; gradients down to the earliest layer asked."""
    recognizer: Recognizer = session.recognizers[name]
    frames = np.asarray(session.faces.frames[:CHUNK])
    frames = frames[np.arange(CHUNK) % len(frames)]
    embeddings = recognizer.embed(frames)
    several = frames[np.arange(2 * max(CHUNK, getattr(recognizer, "batch", CHUNK))) % CHUNK]
    inference = median_seconds(lambda: recognizer.embed(several)) / len(several)
    calls = [
        call
        for task in tasks
        if isinstance(task, MapTask) and name in task.sources
        for output in task.outputs
        for call in output.spec.calls or (1,)
        if METHODS[output.spec.method].needs(dict(output.spec.options)).gradients
    ]
    forward = backward = 0.0
    if calls and is_white_box(recognizer):
        layers = sorted(set(calls))
        forward = median_seconds(lambda: recognizer.capture(frames, layers).close()) / CHUNK
        with recognizer.capture(frames, layers) as captured:
            directions = torch.ones_like(captured.embeddings)
            backward = median_seconds(lambda: captured.gradients(directions)) / CHUNK
    return _Speed(inference, forward, backward, embeddings.shape[1])
