"""Which backend to run an experiment on: the fastest that decides as the exact one does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, UInt8

from facefocus.benchmark.session import Session
from facefocus.benchmark.timing import median_seconds
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.core.text import number
from facefocus.evaluation.verification import normalize, threshold
from facefocus.models.backends import BACKENDS, absent, chosen_backend
from facefocus.models.recognizer import CHUNK, TorchRecognizer
from facefocus.occlusion.controls import random_pixels
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.occlusion.masks import pixel_count

#: Largest difference of a recognition rate that a backend may make.
RATE = 0.002

#: Photos on which backends are compared, of as many people as it takes.
PHOTOS = 128


@dataclass(frozen=True)
class BackendAdvice:
    """What a run would take on one backend, and what that would change.

    Attributes:
        backend: Its name, as for ``--backend``.
        factor: How many times as fast its passes without gradients are as the default's.
        decisions: Mated pairs of a masked and a clean photo, over recognizers and budgets.
        changed: Those of them that are decided otherwise than by the default.
        difference: Largest difference of a recognizer's recognition rate at a budget.
    """

    backend: str
    factor: float
    decisions: int = 0
    changed: int = 0
    difference: float = 0.0


def advise(session: Session, passes: Mapping[str, int]) -> BackendAdvice | None:
    """The fastest backend whose recognition rates differ by `RATE` at most from the default's.

    Rates are those of the first people's photos under random masks of each budget, against their
    other clean photos, at the threshold of equal error rate of these photos.

    Args:
        session: Of the backend ``auto``.
        passes: Passes without gradients that are left, by recognizer.

    Returns:
        None where nothing can be compared: no other backend is here, no recognizer that one can
        run has passes left, or the photos are of one person.
    """
    used = chosen_backend("auto")
    names = _names(session, passes)
    photos = _photos(session)
    others = [name for name in BACKENDS if name not in ("auto", used) and _comparable(name, used)]
    if not others or not names or photos is None:
        return None
    before = _seconds(session, passes, photos.frames)
    faster = []
    for backend in others:
        try:
            rival = Session(replace(session.spec, backend=backend), session.held)
            factor = before / _seconds(rival, passes, photos.frames)
        except UserError:
            continue  # It cannot run one of them.
        if factor > 1:
            faster.append((factor, backend, rival))
    expected = {name: photos.matches(session, name) for name in names} if faster else {}
    for factor, backend, rival in sorted(faster, key=lambda entry: entry[:2], reverse=True):
        advice = BackendAdvice(backend, factor, *_changes(expected, photos, rival))
        if advice.difference <= RATE:
            return advice
    return BackendAdvice(used, 1.0)


def advice_lines(advice: BackendAdvice | None) -> Iterator[str]:
    """What a dry run prints of `advise`."""
    if advice is None:
        return
    if not advice.decisions:
        yield f"fastest here: {advice.backend}, which is used by default"
        return
    yield (
        f"fastest here: --backend {advice.backend}, passes without gradients"
        f" {number(advice.factor, 1)} times as fast; of {advice.decisions:,} decisions on masked"
        f" photos {advice.changed:,} change, recognition rates by at most"
        f" {number(advice.difference, 4)} (allowed: {RATE})"
    )


def _names(session: Session, passes: Mapping[str, int]) -> list[str]:
    """Recognizers that a backend runs and that have passes left."""
    boxes = session.recognizers.items()
    return [name for name, box in boxes if passes.get(name) and isinstance(box, TorchRecognizer)]


def _comparable(backend: str, used: str) -> bool:
    # Gradients are taken on a GPU where it is used: another kind of device changes more than this.
    return absent(backend) is None and backend.startswith("cuda") == used.startswith("cuda")


def _seconds(session: Session, passes: Mapping[str, int], frames: np.ndarray) -> float:
    """Of all passes that are left."""
    total = 0.0
    for name in _names(session, passes):
        recognizer = session.recognizers[name]
        assert isinstance(recognizer, TorchRecognizer)
        some = frames[np.arange(2 * max(CHUNK, recognizer.batch)) % len(frames)]
        seconds = median_seconds(partial(recognizer.embed, some))
        total += passes[name] * seconds / len(some)
    return total


def _changes(
    expected: Mapping[str, tuple[float, np.ndarray]], photos: _Photos, rival: Session
) -> tuple[int, int, float]:
    """Decisions, changed ones, and the largest difference of a rate."""
    decisions, changed, difference = 0, 0, 0.0
    for name, (limit, matched) in expected.items():
        _, matches = photos.matches(rival, name, limit)
        decisions += matched.size
        changed += int(np.count_nonzero(matches != matched))
        rates = np.abs(matches.mean(axis=1) - matched.mean(axis=1))
        difference = max(difference, float(rates.max()))
    return decisions, changed, difference


@dataclass(frozen=True, eq=False)
class _Photos:
    frames: UInt8[np.ndarray, "n h w 3"]
    hidden: UInt8[np.ndarray, "b n h w 3"]
    mated: Bool[np.ndarray, "n n"]

    def matches(
        self, session: Session, name: str, limit: float | None = None
    ) -> tuple[float, Bool[np.ndarray, "b pairs"]]:
        """The threshold of equal error rate, and which mated pairs match under each budget."""
        recognizer = session.recognizers[name]
        clean = normalize(recognizer.embed(self.frames))
        limit = self._threshold(clean) if limit is None else limit
        return limit, np.stack(
            [(normalize(recognizer.embed(each)) @ clean.T)[self.mated] for each in self.hidden]
        ) >= limit

    def _threshold(self, clean: Float[np.ndarray, "n d"]) -> float:
        scores, above = clean @ clean.T, np.triu(np.ones(self.mated.shape, bool), 1)
        return threshold(scores[above & self.mated], scores[above & ~self.mated])


def _photos(session: Session) -> _Photos | None:
    """The first people's photos, and random masks of each budget on them."""
    experiment = session.experiment
    rows: list[int] = []
    people: list[int] = []
    for index, person in enumerate(session.plan.people):
        if len(rows) >= PHOTOS:
            break
        rows += person.rows.tolist()
        people += [index] * len(person.rows)
    mated = np.equal.outer(people, people) & ~np.eye(len(rows), dtype=bool)
    if not mated.any() or len(set(people)) < 2:
        return None
    frames = np.asarray(session.faces.frames[rows])
    rngs = [fill_rng(experiment.seed, str(row)) for row in rows]
    hide = hider(experiment.occlusion.fill[0], frames, rngs)
    hidden = []
    for budget in experiment.occlusion.budget:
        mask = np.zeros(session.frame, bool)
        mask.flat[: pixel_count(budget, *session.frame)] = True
        drawn = [random_pixels(mask, generator(experiment.seed, "advice", row)) for row in rows]
        hidden.append(hide(np.stack(drawn)))
    return _Photos(frames, np.stack(hidden), mated)
