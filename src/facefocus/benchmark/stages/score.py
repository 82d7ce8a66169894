"""What hiding does: masks and controls of one task, tried on a target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from facefocus.benchmark.session import Session, is_degenerate
from facefocus.benchmark.stages.embed import FRAMES_PER_STEP
from facefocus.benchmark.tasks import Block, OracleTask, Person, Scored, ScoreOutput, ScoreTask
from facefocus.core.progress import Progress
from facefocus.core.seeds import generator
from facefocus.core.store import Arrays
from facefocus.evaluation.retention import retention
from facefocus.evaluation.verification import normalize
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.controls import CONTROLS, draw, partners
from facefocus.occlusion.fills import FILLS, fill_rng, occlude
from facefocus.occlusion.masks import Masks, mask_of, pack, pixel_count, unpack
from facefocus.occlusion.oracle import search_masks

#: What a score artefact holds of each person and budget, NaN for who is left out; besides the
#: masks themselves (`scored_masks`).
VALUES = ("cosine", "rate", "fmr", "area")


def score(session: Session, task: ScoreTask, progress: Progress) -> None:
    """Retention of every person of a block under every wanted mask, stored with the masks."""
    tables: dict[ScoreOutput, dict[str, np.ndarray]] = {}
    places: dict[_Job, list[tuple[ScoreOutput, int]]] = defaultdict(list)
    for output in task.outputs:
        made = list(_block_masks(session, task.block, output))
        tables[output] = {
            name: np.full((len(made), len(output.budgets)), np.nan) for name in VALUES
        }
        tables[output]["masks"] = pack(np.stack([one.masks for one in made]))
        for person, masks in enumerate(made):
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


def scored_masks(session: Session, scores: Arrays) -> Bool[np.ndarray, "people budgets h w"]:
    """The very masks that the figures of a score artefact belong to.

    Whatever shows or judges a mask reads it here: made anew, it could be another one.
    """
    return unpack(scores["masks"], (*scores["cosine"].shape, *session.frame))


def _block_masks(session: Session, block: Block, output: ScoreOutput) -> Iterator[Masks]:
    """The masks of every person of a block, for all budgets (Protocol: masks, controls)."""
    made = session.store.load(output.maps.key)
    for index, person in enumerate(block.people):
        own = _masks(session, person.name, made["maps"][index], is_degenerate(made, index), output)
        # Whom nothing hides has nothing to be compared with; random pixels for want of a map do.
        if output.control is None or not own.areas.any():
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
    """What takes the place of a person's own masks.

    The mean map and the mask of others are those of other people only; a person beside whom nobody
    has a map is left out.
    """
    assert output.control is not None
    if output.control in CONTROLS:
        seed = session.experiment.seed
        drawn = [
            draw(output.control, mask, output.draw, seed=seed, identity=person.name)
            for mask in own.masks
        ]
        return Masks(np.stack(drawn), own.areas, own.requested, False, False)
    everybody = session.population(block, output.maps)
    others = [name for name in everybody.place if name != person.name]
    if not others:
        # Never the person's own mask in its place: the control would equal what it controls.
        none = np.zeros_like(own.masks)
        return Masks(none, np.zeros_like(own.areas), own.requested, False, True)
    if output.control == "population":
        return _masks(session, person.name, everybody.mean_without(person.name), False, output)
    if own.degenerate:
        rng = generator(session.experiment.seed, "partners", person.name)
        other = others[int(rng.permutation(len(others))[output.draw % len(others)])]
    else:
        rng = generator(session.experiment.seed, "partners")
        chosen = partners(len(everybody.place), output.draw + 1, rng)[output.draw]
        other = list(everybody.place)[int(chosen[everybody.place[person.name]])]
    return _masks(session, other, everybody.maps[everybody.place[other]], False, output)


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
    photos = _Photos(session, people, task.fill)
    for batch in _batches(jobs, people):
        embedded = _embed_jobs(session.recognizers[task.recognizer], photos, batch)
        for job, occluded in zip(batch, embedded, strict=True):
            person = people[job.person]
            clean = embeddings[person.tests]
            occluded = clean if occluded is None else occluded
            left = retention(clean, occluded, level, compare=compare)
            fmr = false_matches(session, task.recognizer, person.name, person.tests, occluded)
            yield job, {"cosine": left.cosine, "rate": left.rate, "fmr": fmr}


def false_matches(
    session: Session, recognizer: str, name: str, rows: np.ndarray, probes: np.ndarray
) -> float:
    """FMR of a person's photos `rows`, as they are in `probes`, against clean ones of other people.

    At the frozen threshold, over the seeded pairs of `Session.impostors`; NaN without any.
    """
    pairs = session.impostors[name]
    pairs = pairs[np.isin(pairs[:, 0], rows)]
    if not len(pairs):
        return float("nan")
    own = normalize(probes)[np.searchsorted(rows, pairs[:, 0])]
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
    recognizer: Recognizer, photos: _Photos, jobs: Sequence[_Job]
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


class _Photos:
    """The photos on which hiding is tried, and what a fill puts in their place.

    Jobs come person by person, so the frames and the content of one person are kept.
    """

    def __init__(self, session: Session, people: Sequence[Person], fill: str) -> None:
        self._session, self._people, self._fill = session, people, fill
        self._kept: tuple[int, np.ndarray, np.ndarray] | None = None

    def occluded(self, person: int, packed: bytes) -> np.ndarray | None:
        """All photos of a person under a packed mask, or None where it hides nothing."""
        height, width = self._session.frame
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=height * width)
        if not bits.any():
            return None
        if self._kept is None or self._kept[0] != person:
            found = _photos(self._session, self._people[person].tests, self._fill)
            self._kept = (person, *found)
        _, frames, content = self._kept
        return occlude(frames, bits.reshape(height, width).astype(bool), content)


def _photos(session: Session, rows: np.ndarray, fill: str) -> tuple[np.ndarray, np.ndarray]:
    """Some photos, and a fill's content for them."""
    frames = np.asarray(session.faces.frames[rows])
    rngs = [fill_rng(session.experiment.seed, str(session.faces.names[row])) for row in rows]
    return frames, FILLS[fill](frames, rngs)


# --- oracle ---------------------------------------------------------------------------------------


#: Masks that the search starts from, the best ones for each budget.
SEEDS = 4

#: A mask that was scored: its task's entry, and its place among the entry's budgets.
_Place = tuple[Scored, int]


def search_oracle(session: Session, task: OracleTask, progress: Progress) -> None:
    """The bound for one person on the photos that it is searched on, for every budget.

    Stored are `VALUES` of the bound, and as ``heldout_*`` those of the mask that the search found,
    tried on the person's other photos, where these are others.
    """
    search = session.experiment.oracle
    assert search is not None  # the plan has oracle tasks only where it is asked for
    person = task.person
    counts = [pixel_count(budget, *session.frame) for budget in task.budgets]
    places, rivals = _rivals(session, task)
    frames, content = _photos(session, person.rows, task.fill)
    found = search_masks(
        session.recognizers[task.recognizer].embed,
        frames,
        content,
        session.embeddings(task.recognizer)[person.rows],
        counts=counts,
        rng=generator(session.experiment.seed, "oracle", person.name),
        seeds=_seeds(session, places, rivals, counts),
        both=session.experiment.evaluation.compare == "both",
        block=search.block,
        candidates=search.candidates,
    )
    arrays = bound(_left(session, task, person.rows, found.masks), rivals, counts)
    if not np.array_equal(person.rows, person.tests):
        heldout = _left(session, task, person.tests, found.masks)
        arrays |= {f"heldout_{name}": heldout[name] for name in VALUES}
    session.store.save(task.key, {**arrays, "embeddings": np.array(found.embeddings)})
    progress("oracle", 1, 1)


def _left(
    session: Session, task: OracleTask, rows: np.ndarray, masks: Bool[np.ndarray, "b h w"]
) -> dict[str, np.ndarray]:
    """`VALUES` of some photos of the person under each mask."""
    frames, content = _photos(session, rows, task.fill)
    clean = session.embeddings(task.recognizer)[rows]
    level, compare = session.threshold(task.recognizer), session.experiment.evaluation.compare
    values = []
    for mask in masks:
        hidden = session.recognizers[task.recognizer].embed(occlude(frames, mask, content))
        left = retention(clean, hidden, level, compare=compare)
        fmr = false_matches(session, task.recognizer, task.person.name, rows, hidden)
        values.append((left.cosine, left.rate, fmr, float(mask.sum())))
    return dict(zip(VALUES, np.reshape(values, (-1, len(VALUES))).T, strict=True))


def _rivals(session: Session, task: OracleTask) -> tuple[list[_Place], dict[str, np.ndarray]]:
    """Every mask that was scored on the photos of the search, and its `VALUES`."""
    places: list[_Place] = []
    values: list[np.ndarray] = []
    for scored in task.rivals:
        arrays = session.store.load(scored.key)
        table = np.stack([arrays[name][scored.row] for name in VALUES], axis=1)
        kept = np.flatnonzero(np.isfinite(table[:, 0]))
        places += [(scored, int(place)) for place in kept]
        values += list(table[kept])
    return places, dict(zip(VALUES, np.reshape(values, (-1, len(VALUES))).T, strict=True))


def bound(
    found: Mapping[str, np.ndarray], rivals: Mapping[str, np.ndarray], counts: Sequence[int]
) -> dict[str, np.ndarray]:
    """What no mask of at most each count of pixels beats, as far as is known.

    The cosine, with its FMR and area, is that of the mask that leaves least cosine, of all that
    were found for this or a smaller count or were scored; the rate is the least of any of these,
    which may be another mask: each measure is bounded by itself.

    Args:
        found: `VALUES` of the masks that a search found, one for each count.
        rivals: `VALUES` of the masks that were scored on the same photos.
        counts: Pixels to hide.
    """
    every = {name: np.concatenate([found[name], rivals[name]]) for name in VALUES}
    made: dict[str, list[float]] = {name: [] for name in VALUES}
    for count in counts:
        fits = np.flatnonzero(every["area"] <= count)
        best = fits[np.argmin(every["cosine"][fits])]
        for name in VALUES:
            made[name].append(float(every[name][best]))
        made["rate"][-1] = float(every["rate"][fits].min())
        beaten = rivals["area"] <= count
        for name in ("cosine", "rate"):
            if (rivals[name][beaten] < made[name][-1]).any():
                raise AssertionError(f"A mask of {count} pixels beats the oracle in {name}.")
    return {name: np.array(values) for name, values in made.items()}


def _seeds(
    session: Session,
    places: Sequence[_Place],
    rivals: Mapping[str, np.ndarray],
    counts: Sequence[int],
) -> np.ndarray:
    """For each count the `SEEDS` masks that left least similarity [b, s, h, w], empty where fewer.

    Of equal figures one mask, which as a rule is the same; none whose map saw other photos.
    """
    masks = np.zeros((len(counts), SEEDS, *session.frame), bool)
    blind = np.array([scored.starts for scored, _ in places], bool)
    for own, count in zip(masks, counts, strict=True):
        fits = np.flatnonzero(blind & (rivals["area"] <= count))
        _, first = np.unique(rivals["cosine"][fits], return_index=True)
        for seed, best in zip(own, fits[first], strict=False):
            scored, place = places[best]
            seed[...] = scored_masks(session, session.store.load(scored.key))[scored.row, place]
    return masks
