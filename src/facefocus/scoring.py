"""What hiding does: masks and controls of one task, tried on a target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from facefocus.evaluation.retention import retention
from facefocus.evaluation.verification import normalize
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.controls import CONTROLS, draw, partners
from facefocus.occlusion.fills import FILLS, fill_rng, occlude
from facefocus.occlusion.masks import Masks, mask_of, pixel_count
from facefocus.occlusion.oracle import search_masks
from facefocus.progress import Progress
from facefocus.seeds import generator
from facefocus.session import FRAMES_PER_STEP, Population, Session, is_degenerate
from facefocus.tasks import Block, OracleTask, Person, ScoreOutput, ScoreTask


def score(session: Session, task: ScoreTask, progress: Progress) -> None:
    """Retention of every person of a block under every wanted mask."""
    people = task.block.people
    tables = {
        output: {
            name: np.full((len(people), len(output.budgets)), np.nan)
            for name in ("cosine", "rate", "fmr", "area")
        }
        for output in task.outputs
    }
    places: dict[_Job, list[tuple[ScoreOutput, int]]] = defaultdict(list)
    for output in task.outputs:
        for person, masks in enumerate(block_masks(session, task.block, output)):
            if masks.skipped:
                continue
            tables[output]["area"][person] = masks.areas
            for budget, mask in enumerate(masks.masks):
                places[_Job(person, np.packbits(mask).tobytes())].append((output, budget))
    jobs = sorted(places, key=lambda job: (job.person, job.mask))
    for done, (job, values) in enumerate(_retained(session, task, jobs), start=1):
        progress("scores", done, len(jobs))
        for output, budget in places[job]:
            for name, value in values.items():
                tables[output][name][job.person, budget] = value
    for output, arrays in tables.items():
        session.store.save(output.key, arrays)


# --- masks ----------------------------------------------------------------------------------------


def block_masks(session: Session, block: Block, output: ScoreOutput) -> Iterator[Masks]:
    """The masks of every person of a block, for all budgets (PROTOCOL sections 6 and 9.2)."""
    made = session.store.load(output.maps.key)
    for index, person in enumerate(block.people):
        own = _masks(session, person.name, made["maps"][index], is_degenerate(made, index), output)
        if output.control is None or own.degenerate:
            yield own
        else:
            yield _control(session, block, output, person, own)


def _masks(
    session: Session, name: str, saliency: np.ndarray, degenerate: bool, output: ScoreOutput
) -> Masks:
    return mask_of(
        saliency,
        degenerate=degenerate,
        budgets=output.budgets,
        on_degenerate=output.on_degenerate,
        rng=generator(session.experiment.seed, "ties", name),
    )


def _control(
    session: Session, block: Block, output: ScoreOutput, person: Person, own: Masks
) -> Masks:
    """What takes the place of a person's own masks."""
    assert output.control is not None
    if output.control in CONTROLS:
        seed = session.experiment.seed
        drawn = [
            draw(output.control, mask, output.draw, seed=seed, identity=person.name)
            for mask in own.masks
        ]
        return Masks(np.stack(drawn), own.areas, own.requested, False, False)
    everybody = session.population(block, output.maps)
    if output.control == "population":
        return _masks(session, person.name, everybody.mean, False, output)
    other = _partner(session, everybody, person.name, output.draw)
    return _masks(session, other, everybody.maps[everybody.place[other]], False, output)


def _partner(session: Session, everybody: Population, name: str, number: int) -> str:
    """Whose mask a person wears in draw `number`; their own where nobody else has one."""
    names = list(everybody.place)
    if len(names) < 2:
        return name
    rng = generator(session.experiment.seed, "partners")
    chosen = partners(len(names), number + 1, rng)[number]
    return names[int(chosen[everybody.place[name]])]


# --- embedding ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One mask on all photos of one person: embedded once, used by all that have it."""

    person: int
    mask: bytes


def _retained(
    session: Session, task: ScoreTask, jobs: Sequence[_Job]
) -> Iterator[tuple[_Job, dict[str, float]]]:
    """Mean mated cosine, recognition rate and FMR under every job's mask."""
    people = task.block.people
    embeddings = session.embeddings(task.recognizer)
    level = session.threshold(task.recognizer)
    compare = session.experiment.evaluation.compare
    photos = Photos(session, people, task.fill)
    for batch in _batches(jobs, people):
        embedded = _embed_jobs(session.recognizers[task.recognizer], photos, batch)
        for job, occluded in zip(batch, embedded, strict=True):
            person = people[job.person]
            clean = embeddings[person.tests]
            occluded = clean if occluded is None else occluded
            left = retention(clean, occluded, level, compare=compare)
            fmr = false_matches(session, task.recognizer, person, occluded)
            yield job, {"cosine": left.cosine, "rate": left.rate, "fmr": fmr}


def false_matches(session: Session, recognizer: str, person: Person, probes: np.ndarray) -> float:
    """FMR of a person's photos, as they are in `probes`, against clean photos of other people.

    At the frozen threshold, over the seeded pairs of `Session.impostors`; NaN without any.
    """
    pairs = session.impostors[person.name]
    pairs = pairs[np.isin(pairs[:, 0], person.tests)]
    if not len(pairs):
        return float("nan")
    own = normalize(probes)[np.searchsorted(person.tests, pairs[:, 0])]
    others = normalize(session.embeddings(recognizer)[pairs[:, 1]])
    scores = (own * others).sum(axis=1)
    return float(np.mean(scores >= session.threshold(recognizer)))


def _batches(jobs: Sequence[_Job], people: Sequence[Person]) -> Iterator[list[_Job]]:
    """Jobs in groups of about `FRAMES_PER_STEP` frames."""
    batch: list[_Job] = []
    frames = 0
    for job in jobs:
        batch.append(job)
        frames += len(people[job.person].tests)
        if frames >= FRAMES_PER_STEP:
            yield batch
            batch, frames = [], 0
    if batch:
        yield batch


def _embed_jobs(
    recognizer: Recognizer, photos: Photos, jobs: Sequence[_Job]
) -> list[np.ndarray | None]:
    """Embeddings of the occluded photos of each job; None where nothing is hidden."""
    occluded = [photos.occluded(job.person, job.mask) for job in jobs]
    counts = [0 if frames is None else len(frames) for frames in occluded]
    stacked = [frames for frames in occluded if frames is not None]
    if not stacked:
        return [None] * len(jobs)
    embeddings = recognizer.embed(np.concatenate(stacked))
    parts = np.split(embeddings, np.cumsum(counts)[:-1])
    return [part if count else None for part, count in zip(parts, counts, strict=True)]


class Photos:
    """The photos on which hiding is tried, and what a fill puts in their place.

    Jobs come person by person, so the frames and the content of one person are kept.
    """

    def __init__(self, session: Session, people: Sequence[Person], fill: str) -> None:
        self._faces, self._seed = session.faces, session.experiment.seed
        self._people, self._fill = people, FILLS[fill]
        self._kept: tuple[int, np.ndarray, np.ndarray] | None = None

    def occluded(self, person: int, packed: bytes) -> np.ndarray | None:
        """All photos of a person under a packed mask, or None where it hides nothing."""
        height, width = self._faces.frames.shape[1:3]
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=height * width)
        if not bits.any():
            return None
        frames, content = self.of(person)
        return occlude(frames, bits.reshape(height, width).astype(bool), content)

    def of(self, person: int) -> tuple[np.ndarray, np.ndarray]:
        """The photos of a person and the fill's content for them."""
        if self._kept is None or self._kept[0] != person:
            rows = self._people[person].tests
            frames = np.asarray(self._faces.frames[rows])
            rngs = [fill_rng(self._seed, str(self._faces.names[row])) for row in rows]
            self._kept = (person, frames, self._fill(frames, rngs))
        return self._kept[1:]


# --- oracle ---------------------------------------------------------------------------------------


#: Masks of methods that the oracle starts from, the best ones of each budget.
SEEDS = 4


def search_oracle(session: Session, task: OracleTask, progress: Progress) -> None:
    """The greedy bound for one person, started from the best masks that any method found."""
    search = session.experiment.oracle
    assert search is not None  # the plan has oracle tasks only where it is asked for
    person = task.block.people[task.person]
    frames, content = Photos(session, task.block.people, task.fill).of(task.person)
    embed = session.recognizers[task.recognizer].embed
    clean = session.embeddings(task.recognizer)[person.tests]
    found = search_masks(
        embed,
        frames,
        content,
        clean,
        counts=[pixel_count(budget, *session.frame) for budget in task.budgets],
        rng=generator(session.experiment.seed, "oracle", person.name),
        seeds=_best_masks(session, task),
        block=search.block,
        candidates=search.candidates,
    )
    level = session.threshold(task.recognizer)
    compare = session.experiment.evaluation.compare
    hidden = [embed(occlude(frames, mask, content)) for mask in found.masks]
    left = [retention(clean, probes, level, compare=compare) for probes in hidden]
    arrays = {
        "cosine": np.array([one.cosine for one in left]),
        "rate": np.array([one.rate for one in left]),
        "fmr": np.array(
            [false_matches(session, task.recognizer, person, probes) for probes in hidden]
        ),
        "area": found.masks.sum(axis=(1, 2)).astype(np.float64),
        "embeddings": np.array(found.embeddings),
    }
    session.store.save(task.key, arrays)
    progress("oracle", 1, 1)


def _best_masks(session: Session, task: OracleTask) -> np.ndarray | None:
    """For each budget the `SEEDS` masks that left least of the person's similarity [b, s, h, w]."""
    found: dict[float, list[tuple[float, int, np.ndarray]]] = defaultdict(list)
    name = task.block.people[task.person].name
    for number, output in enumerate(task.seeds):
        scores = session.store.load(output.key)["cosine"][task.person]
        made = session.store.load(output.maps.key)
        if is_degenerate(made, task.person):
            continue
        masks = _masks(session, name, made["maps"][task.person], False, output).masks
        for budget, cosine, mask in zip(output.budgets, scores, masks, strict=True):
            found[budget].append((float(cosine), number, mask))
    count = min([SEEDS, *(len(found[budget]) for budget in task.budgets)])
    best = [
        [mask for _, _, mask in sorted(found[budget], key=lambda one: one[:2])[:count]]
        for budget in task.budgets
    ]
    return np.array(best) if count else None
