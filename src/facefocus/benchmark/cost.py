"""What a run will cost before it runs: passes, what sharing saves, time, disk."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import entropy

from facefocus.benchmark.execute import left_of
from facefocus.benchmark.session import Session
from facefocus.benchmark.tasks import (
    Block,
    EmbedTask,
    MapOutput,
    MapTask,
    MaskedTask,
    OracleTask,
    Person,
    ScoreTask,
    Task,
    stage_of,
)
from facefocus.core.seeds import generator
from facefocus.models.recognizer import CHUNK, Recognizer, is_white_box
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.identity import cam_passes, ordered_pairs
from facefocus.saliency.methods import METHODS, PerturbationMethod
from facefocus.saliency.objectives import parse_objective
from facefocus.saliency.occlusion_gradient import step_sizes

#: Seconds that are spent on measuring each kind of pass of a recognizer, at least one of each.
MEASURED = 1.0


@dataclass(frozen=True)
class Passes:
    """Images that pass through one recognizer in one stage; fillers of batches not counted.

    Attributes:
        inference: Forward passes without gradients, on the backend.
        forward: Forward passes of torch, for gradients.
        backward: Backward passes.
        alone: Passes, forward and backward, of a loop that shares nothing: public tools take one
            of each per pair, layer, method and objective; a perturbation loop embeds every
            masked photo for every pair.
        exact: False where a run may need fewer: equal masks are embedded once, and which are
            equal is not known before.
    """

    inference: int = 0
    forward: int = 0
    backward: int = 0
    alone: int = 0
    exact: bool = True

    def __add__(self, other: Passes) -> Passes:
        return Passes(
            self.inference + other.inference,
            self.forward + other.forward,
            self.backward + other.backward,
            self.alone + other.alone,
            self.exact and other.exact,
        )

    @property
    def all(self) -> int:
        """Forward and backward passes."""
        return self.inference + self.forward + self.backward


@dataclass(frozen=True)
class Estimate:
    """What is left to do of a run.

    Attributes:
        passes: By stage and recognizer, in the order of the stages.
        seconds: By stage and recognizer; of one process.
        disk: Bytes of the artefacts.
    """

    passes: Mapping[tuple[str, str], Passes]
    seconds: Mapping[tuple[str, str], float]
    disk: int

    def __add__(self, other: Estimate) -> Estimate:
        """Of both runs together."""
        keys = dict.fromkeys([*self.passes, *other.passes])
        return Estimate(
            {k: self.passes.get(k, Passes()) + other.passes.get(k, Passes()) for k in keys},
            {k: self.seconds.get(k, 0.0) + other.seconds.get(k, 0.0) for k in keys},
            self.disk + other.disk,
        )


def estimate(session: Session) -> Estimate:
    """Count what a session has left to do, and measure its recognizers for a moment."""
    left = [rest for task in session.plan.tasks if (rest := left_of(session, task)) is not None]
    places = places_of(session)
    found: dict[tuple[str, str], Passes] = {}
    for task in left:
        for name, passes in passes_of(session, places, task).items():
            place = stage_of(task), name
            found[place] = found.get(place, Passes()) + passes
    speeds = {
        name: _measured(session, name, [task for task in left if isinstance(task, MapTask)])
        for name in dict.fromkeys(name for (_, name), passes in found.items() if passes.all)
    }
    seconds = {place: _seconds(passes, speeds.get(place[1])) for place, passes in found.items()}
    lengths = {name: speed.length for name, speed in speeds.items()}
    return Estimate(found, seconds, sum(_bytes(session, task, lengths) for task in left))


# Counts -------------------------------------------------------------------------------------------


#: Where a photo is explained: the block, the person, and its number among the person's photos.
Places = Mapping[int, Sequence[tuple[Block, Person, int]]]


def places_of(session: Session) -> Places:
    """Every photo that maps come from, by its row."""
    found: dict[int, list[tuple[Block, Person, int]]] = defaultdict(list)
    for block in session.plan.blocks:
        if block.split == "half":  # its maps are those of the held-out block
            continue
        for person in block.people:
            for place, row in enumerate(person.rows):
                found[int(row)].append((block, person, place))
    return found


def passes_of(session: Session, places: Places, task: Task) -> dict[str, Passes]:
    """What one task runs, by recognizer; ``-`` where it needs none."""
    if isinstance(task, EmbedTask):
        return {task.recognizer: Passes(inference=task.cost, alone=task.cost)}
    if isinstance(task, MaskedTask):
        alone = task.cost * _explained(session, places, task)
        return {task.recognizer: Passes(inference=task.cost, alone=alone)}
    if isinstance(task, MapTask):
        return _map_passes(session, task)
    if isinstance(task, ScoreTask):
        wanted = [
            output
            for output in session.plan.scores[task.recognizer, task.block.index]
            if output.fill == task.fill
        ]
        alone = replace(task, outputs=tuple(wanted)).cost
        return {task.recognizer: Passes(inference=task.cost, alone=alone, exact=False)}
    return {task.recognizer: Passes(inference=task.cost, alone=task.cost, exact=False)}


def _explained(session: Session, places: Places, task: MaskedTask) -> int:
    """How many pair maps are made of a masked photo: a direct loop masks it anew for each."""
    method = METHODS[task.method]
    assert isinstance(method, PerturbationMethod)
    shaping = ("masks", *method.shaping)
    drawn = {name: dict(task.options)[name] for name in shaping}
    found = 0
    for block, person, place in places.get(task.row, ()):
        for output in session.plan.maps[block.index]:
            spec, options = output.spec, dict(output.spec.options)
            same = (output.sources, spec.method) == ((task.recognizer,), task.method)
            if same and {name: options[name] for name in shaping} == drawn:
                rng = generator(session.experiment.seed, "pairs", person.name)
                pairs = ordered_pairs(len(person.rows), spec.max_pairs, rng)
                found += int((pairs[:, 0] == place).sum())
    return found


def _map_passes(session: Session, task: MapTask) -> dict[str, Passes]:
    total = dict.fromkeys(task.sources or ("-",), Passes())
    graded: dict[int | None, list[MapOutput]] = {}
    for output in task.outputs:
        kind = METHODS[output.spec.method].kind
        if kind == "gradient":
            graded.setdefault(output.spec.max_pairs, []).append(output)
        elif kind == "frame-gradient":
            passes = _frame_passes(session, task, output)
            total = {name: before + passes for name, before in total.items()}
    for most, outputs in graded.items():
        total[task.sources[0]] += _cam_passes(session, task, most, outputs)
    return total


def _cam_passes(
    session: Session, task: MapTask, most: int | None, outputs: Sequence[MapOutput]
) -> Passes:
    families = {
        parse_objective(output.spec.objective or "", normalize=output.spec.normalize).family
        for output in outputs
    }
    people = [person.identity for person in task.block.people]
    needed = cam_passes(people, len(families), max_pairs=most, seed=session.experiment.seed)
    wanted = [
        output
        for output in session.plan.maps[task.block.index]
        if output.sources == task.sources
        and output.spec.max_pairs == most
        and METHODS[output.spec.method].kind == "gradient"
    ]
    calls = sum(len(output.spec.calls) for output in wanted)
    alone = 2 * calls * task.block.pairs(most)
    return Passes(forward=needed.forward, backward=needed.backward, alone=alone)


def _frame_passes(session: Session, task: MapTask, output: MapOutput) -> Passes:
    steps = int(dict(output.spec.options).get("steps", "1"))
    if output.spec.budget is not None:
        steps = len(step_sizes(pixel_count(output.spec.budget, *session.frame), steps))
    images = task.block.images
    alone = 2 * steps * task.block.pairs(None)
    return Passes(forward=(1 + steps) * images, backward=steps * images, alone=alone)


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


def _measured(session: Session, name: str, tasks: Sequence[MapTask]) -> _Speed:
    """The speed of a recognizer on the first frames; gradients down to the earliest layer asked."""
    recognizer: Recognizer = session.recognizers[name]
    frames = np.asarray(session.faces.frames[:CHUNK])
    frames = frames[np.arange(CHUNK) % len(frames)]
    embeddings = recognizer.embed(frames)  # compiles
    inference = _timed(lambda: recognizer.embed(np.concatenate([frames] * 2))) / (2 * CHUNK)
    calls = [
        call
        for task in tasks
        for output in task.outputs
        if name in task.sources
        for call in output.spec.calls or (1,)
        if METHODS[output.spec.method].kind in ("gradient", "frame-gradient")
    ]
    forward = backward = 0.0
    if calls and is_white_box(recognizer):
        layers = sorted(set(calls))
        forward = _timed(lambda: recognizer.capture(frames, layers).close()) / CHUNK
        with recognizer.capture(frames, layers) as captured:
            directions = torch.ones_like(captured.embeddings)
            backward = _timed(lambda: captured.gradients(directions)) / CHUNK
    return _Speed(inference, forward, backward, embeddings.shape[1])


def _timed(work: Callable[[], object]) -> float:
    """The median time of some calls."""
    times: list[float] = []
    while not times or sum(times) < MEASURED:
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


#: Bytes that an artefact takes beyond its arrays: headers of the archive and of its arrays.
ARTEFACT = 1024


def _bytes(session: Session, task: Task, lengths: Mapping[str, int]) -> int:
    """Size of what a task stores."""
    if isinstance(task, EmbedTask):
        return len(task.parts) * ARTEFACT + 4 * task.cost * lengths[task.recognizer]
    if isinstance(task, MaskedTask):
        return ARTEFACT + 4 * task.cost * lengths[task.recognizer]
    if isinstance(task, MapTask):
        height, width = session.frame
        return len(task.outputs) * (ARTEFACT + 4 * height * width * len(task.block.people))
    if isinstance(task, OracleTask):
        return ARTEFACT
    people, pixels = len(task.block.people), math.prod(session.frame)
    return sum(
        ARTEFACT + people * sum(4 * 8 + _mask_bytes(budget, pixels) for budget in output.budgets)
        for output in task.outputs
    )


def _mask_bytes(budget: float, pixels: int) -> int:
    """Size of a stored mask: what scattered pixels take; coherent ones take half of it."""
    information = float(entropy([budget, 1 - budget], base=2))
    return round(pixels / 8 * min(1.0, 1.4 * information))
