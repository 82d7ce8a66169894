"""Do what a plan still misses, then gather the results of the run.

Any ``concurrent.futures`` executor will do: a task carries everything it needs but the face set
and the recognizers, which each process opens once. What is computed goes to the store at once, so
a run that is killed at any moment repeats at most the tasks in flight, and its tables are the same
to the byte.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facefocus.evaluation.retention import retention
from facefocus.evaluation.verification import pair_scores, threshold
from facefocus.experiment import Experiment
from facefocus.faces.faceset import FaceSet, Identity, open_faceset, read_pairs
from facefocus.models.backends import accelerate
from facefocus.models.recognizer import Recognizer, WhiteBox
from facefocus.models.zoo import load
from facefocus.occlusion.fills import FILLS, fill_rng, occlude
from facefocus.occlusion.masks import Masks, mask_of
from facefocus.plan import (
    EmbedTask,
    MapOutput,
    MapTask,
    Plan,
    ScoreOutput,
    ScoreTask,
    Task,
    make_plan,
    missing,
    stage_of,
    task_keys,
)
from facefocus.progress import Progress, silent
from facefocus.saliency.baselines import baseline_map
from facefocus.saliency.identity import cam_identity_maps
from facefocus.saliency.methods import METHODS, Baseline
from facefocus.saliency.streams import CamConfig
from facefocus.seeds import generator
from facefocus.store import Store

#: Frames gathered before they are embedded: full chunks, bounded memory (10 MB).
FRAMES_PER_STEP = 256


@dataclass(frozen=True)
class SessionSpec:
    """What a worker process needs to open its own session; travels with every task."""

    experiment: str
    faces: Path
    store: Path
    backend: str


class Session:
    """A face set, the recognizers and the store, opened once per process.

    Raises:
        UserError: The face set or a recognizer cannot be loaded.
    """

    def __init__(self, spec: SessionSpec) -> None:
        self.spec = spec
        self.experiment = Experiment.model_validate_json(spec.experiment)
        self.faces: FaceSet = open_faceset(spec.faces)
        self.store = Store(spec.store)
        self._embeddings: dict[str, np.ndarray] = {}
        self._thresholds: dict[str, float] = {}

    @functools.cached_property
    def recognizers(self) -> dict[str, Recognizer]:
        """Every source and target, by the name the experiment uses."""
        wanted = self.experiment.recognizers
        names = dict.fromkeys((*wanted.source, *wanted.targets))
        return {name: accelerate(load(name), self.spec.backend) for name in names}

    @functools.cached_property
    def plan(self) -> Plan:
        """The plan of this session's experiment."""
        pairs = read_pairs(self.spec.faces)
        return make_plan(self.experiment, self.faces, pairs, self.recognizers)

    def embeddings(self, recognizer: str) -> np.ndarray:
        """Clean embeddings [n, d] of one recognizer, from the embed artefacts.

        Row i belongs to frame i; frames that the plan has no use for are NaN.
        """
        if recognizer not in self._embeddings:
            tasks = [task for task in self.plan.tasks if isinstance(task, EmbedTask)]
            parts = [self.store.load(task.key) for task in tasks if task.recognizer == recognizer]
            shape = (len(self.faces.frames), parts[0]["embeddings"].shape[1])
            table = np.full(shape, np.nan, np.float32)
            for part in parts:
                table[part["rows"]] = part["embeddings"]
            self._embeddings[recognizer] = table
        return self._embeddings[recognizer]

    def threshold(self, recognizer: str) -> float:
        """The frozen threshold of one recognizer on this face set (PROTOCOL section 8)."""
        if recognizer not in self._thresholds:
            pairs = self.plan.pairs
            listed = np.unique(np.concatenate([pairs.first, pairs.second]))
            first, second = (np.searchsorted(listed, side) for side in (pairs.first, pairs.second))
            scores = pair_scores(self.embeddings(recognizer)[listed], first, second)
            rule = self.experiment.evaluation.threshold
            level = threshold(scores[pairs.mated], scores[~pairs.mated], rule)
            self._thresholds[recognizer] = level
        return self._thresholds[recognizer]


@functools.lru_cache(maxsize=1)
def open_session(spec: SessionSpec) -> Session:
    """The session of this process."""
    return Session(spec)


def execute(session: Session, executor: Executor | None = None, progress: Progress = silent) -> int:
    """Do every task whose artefacts are missing; returns how many tasks were done.

    Args:
        session: An open session.
        executor: Where tasks run; in this process when None.
        progress: Called with the stage, and done and total in passes.
    """
    done = 0
    for stage in ("embed", "maps", "scores"):
        todo = [task for task in session.plan.tasks if stage_of(task) == stage]
        left = [rest for task in todo if (rest := _left(session, task)) is not None]
        total = sum(task.cost for task in left)
        passed = 0
        if executor is None:
            for task in left:
                run_task(session, task, _within(progress, stage, passed, task.cost, total))
                passed += task.cost
                progress(stage, passed, total)
        else:
            for task in _run_all(session, left, executor):
                passed += task.cost
                progress(stage, passed, total)
        done += len(left)
    return done


def _within(progress: Progress, stage: str, passed: int, cost: int, total: int) -> Progress:
    """Progress inside one task, in the unit of its whole stage."""

    def report(_: str, done: int, of: int) -> None:
        progress(stage, passed + cost * done // max(of, 1), total)

    return report


def _left(session: Session, task: Task) -> Task | None:
    return missing(task, [key for key in task_keys(task) if key in session.store])


def _run_all(session: Session, tasks: Sequence[Task], executor: Executor) -> Iterator[Task]:
    """Run tasks that do not depend on each other, yielding each when it is done."""
    futures = {executor.submit(_in_worker, session.spec, task): task for task in tasks}
    try:
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    finally:
        for future in futures:
            future.cancel()


def _in_worker(spec: SessionSpec, task: Task) -> None:
    run_task(open_session(spec), task)


def run_task(session: Session, task: Task, progress: Progress = silent) -> None:
    """Compute one task and store what it makes; progress is in the task's own unit."""
    if isinstance(task, EmbedTask):
        _embed(session, task, progress)
    elif isinstance(task, MapTask):
        _maps(session, task, progress)
    else:
        _scores(session, task, progress)


def _embed(session: Session, task: EmbedTask, progress: Progress) -> None:
    rows = np.array(task.rows)
    recognizer = session.recognizers[task.recognizer]
    parts = []
    for start in range(0, len(rows), FRAMES_PER_STEP):
        part = rows[start : start + FRAMES_PER_STEP]
        parts.append(recognizer.embed(np.asarray(session.faces.frames[part])))
        progress("embed", start + len(part), len(rows))
    session.store.save(task.key, {"rows": rows, "embeddings": np.concatenate(parts)})


# --- maps -----------------------------------------------------------------------------------------


def _maps(session: Session, task: MapTask, progress: Progress) -> None:
    by_kind: dict[str, list[MapOutput]] = defaultdict(list)
    for output in task.outputs:
        by_kind[METHODS[output.spec.method].kind].append(output)
    for kind, outputs in by_kind.items():
        _MAKERS[kind](session, task, outputs, progress)


def _gradient_maps(
    session: Session, task: MapTask, outputs: Sequence[MapOutput], progress: Progress
) -> None:
    """All CAMs of a block from shared passes; pairs are capped alike within one call."""
    assert task.recognizer is not None
    recognizer = session.recognizers[task.recognizer]
    assert isinstance(recognizer, WhiteBox)  # the plan refuses black boxes
    by_cap: dict[int | None, list[MapOutput]] = defaultdict(list)
    for output in outputs:
        by_cap[output.spec.max_pairs].append(output)
    for max_pairs, found in by_cap.items():
        configs = {output: _cam_config(output) for output in found}
        maps = cam_identity_maps(
            recognizer,
            session.faces.frames,
            task.block.identities,
            list(dict.fromkeys(configs.values())),
            max_pairs=max_pairs,
            seed=session.experiment.seed,
            progress=progress,
        )
        for output, config in configs.items():
            made = maps[config]
            arrays = {"maps": made.maps, "total": made.total, "degenerate": made.degenerate}
            session.store.save(output.key, arrays)


def _cam_config(output: MapOutput) -> CamConfig:
    spec = output.spec
    assert spec.layer is not None and spec.objective is not None
    return CamConfig(
        method=spec.method,
        layer=spec.layer,
        objective=spec.objective,
        options=spec.options,
        evidence=spec.evidence,
        normalize=spec.normalize,
        arcface_scale=spec.arcface_scale,
    )


def _baseline_maps(
    session: Session, task: MapTask, outputs: Sequence[MapOutput], progress: Progress
) -> None:
    height, width = session.faces.frames.shape[1:3]
    people, seed = task.block.identities, session.experiment.seed
    for output in outputs:
        method, draw = METHODS[output.spec.method], output.spec.draw or 0
        assert isinstance(method, Baseline)
        maps = [
            baseline_map(method, (height, width), seed=seed, identity=one.name, draw=draw)
            for one in people
        ]
        counts = np.ones(len(people), np.int64)
        arrays = {"maps": np.stack(maps), "total": counts, "degenerate": np.zeros_like(counts)}
        session.store.save(output.key, arrays)


_MAKERS = {"gradient": _gradient_maps, "baseline": _baseline_maps}


# --- scores ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One mask on all photos of one identity: embedded once, used by all that have it."""

    person: int
    mask: bytes


def _scores(session: Session, task: ScoreTask, progress: Progress) -> None:
    """Retention of every identity of a block under every wanted mask."""
    people, budgets = task.block.identities, task.budgets
    shape = (len(people), len(budgets))
    tables = {
        output: {name: np.full(shape, np.nan) for name in ("cosine", "rate", "area")}
        for output in task.outputs
    }
    places: dict[_Job, list[tuple[ScoreOutput, int]]] = defaultdict(list)
    for output in task.outputs:
        for person, masks in enumerate(block_masks(session, task, output)):
            for budget in range(len(budgets)):
                if masks.skipped:
                    continue
                tables[output]["area"][person, budget] = masks.areas[budget]
                packed = np.packbits(masks.masks[budget]).tobytes()
                places[_Job(person, packed)].append((output, budget))
    jobs = sorted(places, key=lambda job: (job.person, job.mask))
    for done, (job, cosine, rate) in enumerate(_retained(session, task, jobs), start=1):
        progress("scores", done, len(jobs))
        for output, budget in places[job]:
            tables[output]["cosine"][job.person, budget] = cosine
            tables[output]["rate"][job.person, budget] = rate
    for output, arrays in tables.items():
        session.store.save(output.key, arrays)


def block_masks(session: Session, task: ScoreTask, output: ScoreOutput) -> Iterator[Masks]:
    """The masks of every identity of a block, for all budgets (PROTOCOL section 6)."""
    made = session.store.load(output.maps.key)
    for index, person in enumerate(task.block.identities):
        yield mask_of(
            made["maps"][index],
            degenerate=bool(made["degenerate"][index] == made["total"][index]),
            budgets=task.budgets,
            on_degenerate=output.on_degenerate,
            rng=generator(session.experiment.seed, "ties", person.name),
        )


def _retained(
    session: Session, task: ScoreTask, jobs: Sequence[_Job]
) -> Iterator[tuple[_Job, float, float]]:
    """Mean mated cosine and recognition rate under every job's mask."""
    people = task.block.identities
    embeddings = session.embeddings(task.recognizer)
    level = session.threshold(task.recognizer)
    compare = session.experiment.evaluation.compare
    photos = _Photos(session, task)
    for batch in _batches(jobs, people):
        embedded = _embed_jobs(session.recognizers[task.recognizer], photos, batch)
        for job, occluded in zip(batch, embedded, strict=True):
            clean = embeddings[people[job.person].rows]
            occluded = clean if occluded is None else occluded
            left = retention(clean, occluded, level, compare=compare)
            yield job, left.cosine, left.rate


def _batches(jobs: Sequence[_Job], people: Sequence[Identity]) -> Iterator[list[_Job]]:
    """Jobs in groups of about `FRAMES_PER_STEP` frames."""
    batch: list[_Job] = []
    frames = 0
    for job in jobs:
        batch.append(job)
        frames += len(people[job.person].rows)
        if frames >= FRAMES_PER_STEP:
            yield batch
            batch, frames = [], 0
    if batch:
        yield batch


def _embed_jobs(
    recognizer: Recognizer, photos: _Photos, jobs: Sequence[_Job]
) -> list[np.ndarray | None]:
    """Embeddings of the occluded photos of each job; None where nothing is hidden."""
    occluded = [photos.occluded(job) for job in jobs]
    counts = [0 if frames is None else len(frames) for frames in occluded]
    stacked = [frames for frames in occluded if frames is not None]
    if not stacked:
        return [None] * len(jobs)
    embeddings = recognizer.embed(np.concatenate(stacked))
    parts = np.split(embeddings, np.cumsum(counts)[:-1])
    return [part if count else None for part, count in zip(parts, counts, strict=True)]


class _Photos:
    """The photos of a block's identities and what its fill puts in their place.

    Jobs come person by person, so the frames and the content of one person are kept.
    """

    def __init__(self, session: Session, task: ScoreTask) -> None:
        self._faces, self._seed = session.faces, session.experiment.seed
        self._people, self._fill = task.block.identities, FILLS[task.fill]
        self._kept: tuple[int, np.ndarray, np.ndarray] | None = None

    def occluded(self, job: _Job) -> np.ndarray | None:
        """All photos of the job's person under its mask, or None where it hides nothing."""
        shape = self._faces.frames.shape[1:3]
        bits = np.frombuffer(job.mask, np.uint8)
        mask = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)
        if not mask.any():
            return None
        frames, content = self._of(job.person)
        return occlude(frames, mask, content)

    def _of(self, person: int) -> tuple[np.ndarray, np.ndarray]:
        if self._kept is None or self._kept[0] != person:
            rows = self._people[person].rows
            frames = np.asarray(self._faces.frames[rows])
            rngs = [fill_rng(self._seed, str(self._faces.names[row])) for row in rows]
            self._kept = (person, frames, self._fill(frames, rngs))
        return self._kept[1:]
