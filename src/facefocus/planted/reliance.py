"""Whether a recognizer reads identity from the planted part: hide the part, hide as much elsewhere.

Synthetic people are drawn whom no training saw. Photos are hidden on one side: occluded photos are
compared with clean ones of the same and of other people (Protocol: scores).

What is hidden: in each photo the mask of the planted part together with the masks that the same
part of `DECOYS` other people would have in that very photo. The outline then says next to nothing
of the person, as that of the part alone would: how far apart the eyes are, where the marks sit.
Elsewhere: as many pixels, in blocks that do not touch any of these.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float

from facefocus.core.errors import UserError
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.core.text import number
from facefocus.evaluation.verification import normalize, threshold
from facefocus.faces.sources.synthetic import decoys, planted, render_many
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.controls import blocks_within
from facefocus.occlusion.fills import fill_rng, hider

#: Other people whose part is hidden together with a person's own.
DECOYS = 2
#: FMR of the threshold, which is found on clean pairs and frozen.
FMR = 1e-2
#: What hiding the planted part must leave at most (TMR), and hiding elsewhere at least (share of
#: the clean TMR).
CHANCE, KEPT = 0.10, 0.85
#: What clean pairs must reach at least (TMR): hiding cannot take what is not there.
KNOWN = 2 * CHANCE
#: Seed of the people, which no training uses.
SEED = 5150


@dataclass(frozen=True)
class Hidden:
    """Recognition with one region of one side hidden.

    Attributes:
        tmr: TMR at the threshold of the clean pairs.
        fmr: FMR at that threshold.
        tmr_recomputed: TMR at the threshold of FMR 1e-2 among the occluded pairs themselves.
    """

    tmr: float
    fmr: float
    tmr_recomputed: float


@dataclass(frozen=True)
class Planted:
    """What `check_planted` found.

    Attributes:
        world: Where identity was planted.
        fill: What hidden pixels were replaced with.
        people: Unseen people.
        photos: Photos of each.
        area: Mean share of the frame that was hidden.
        clean_tmr: TMR at FMR 1e-2 with nothing hidden.
        part: With the planted part hidden.
        elsewhere: With as many pixels hidden elsewhere.
    """

    world: str
    fill: str
    people: int
    photos: int
    area: float
    clean_tmr: float
    part: Hidden
    elsewhere: Hidden

    @property
    def kept(self) -> float:
        """Share of the clean TMR that is left when the hidden pixels are elsewhere."""
        return self.elsewhere.tmr / self.clean_tmr if self.clean_tmr else 0.0

    @property
    def failure(self) -> str:
        """What is missing, in one line; empty where hiding the part alone destroys recognition."""
        if self.clean_tmr < KNOWN:
            return (
                f"it recognizes too few people with nothing hidden: TMR {number(self.clean_tmr, 4)}"
                f" at FMR 1e-2, at least {KNOWN:g} expected"
            )
        if self.part.tmr > CHANCE:
            return (
                f"it recognizes people with the planted part hidden: TMR {number(self.part.tmr, 4)}"
                f", at most {CHANCE:g} expected"
            )
        if self.kept < KEPT:
            return (
                f"it needs pixels elsewhere: with as many hidden there, {number(self.kept, 4)} of "
                f"the clean TMR is kept, at least {KEPT:g} expected"
            )
        return ""

    @property
    def passed(self) -> bool:
        """Whether people are recognized, with the part hidden no more, without pixels elsewhere."""
        return not self.failure


def check_planted(
    recognizer: Recognizer,
    world: str,
    *,
    fill: str = "black",
    people: int = 60,
    photos: int = 6,
    progress: Progress = silent,
) -> Planted:
    """Hide the planted part of unseen people, and as much elsewhere.

    Raises:
        UserError: No such fill, or no world in which identity lies in one part.
    """
    parts = planted(world)
    if len(parts) > 1:
        raise UserError(
            "The 'world' must be one whose identity lies in one part: eyes, nose, mouth, brows or "
            f"marks. Got '{world}'."
        )
    drawn = render_many(world, SEED, range(people), photos)
    masks = np.empty((people * photos, *drawn.frames.shape[1:3]), dtype=bool)
    away = np.empty_like(masks)
    for row, name in enumerate(drawn.names.tolist()):
        person, photo = divmod(row, photos)
        others = decoys(world, SEED, person, photo, DECOYS)[parts[0]]
        masks[row] = drawn.truth[parts[0]][row] | others.any(axis=0)
        away[row] = blocks_within(
            ~masks[row], int(masks[row].sum()), generator(SEED, "elsewhere", name)
        )
        progress("planted", row + 1, len(masks))
    rngs = [fill_rng(SEED, name) for name in drawn.names.tolist()]
    hide = hider(fill, drawn.frames, rngs)
    clean, part, elsewhere = (
        normalize(recognizer.embed(frames))
        for frames in (
            drawn.frames,
            hide(masks),
            hide(away),
        )
    )
    return _judged(world, fill, masks, clean, part, elsewhere, photos)


def _judged(
    world: str,
    fill: str,
    masks: Bool[np.ndarray, "n h w"],
    clean: Float[np.ndarray, "n d"],
    part: Float[np.ndarray, "n d"],
    elsewhere: Float[np.ndarray, "n d"],
    photos: int,
) -> Planted:
    people = len(clean) // photos
    mated, other = _scores(clean, clean, photos)
    frozen = threshold(mated, other, f"fmr={FMR!r}")
    return Planted(
        world=world,
        fill=fill,
        people=people,
        photos=photos,
        area=float(masks.mean()),
        clean_tmr=float(np.mean(mated >= frozen)),
        part=_hidden(part, clean, photos, frozen),
        elsewhere=_hidden(elsewhere, clean, photos, frozen),
    )


def _hidden(
    occluded: Float[np.ndarray, "n d"], clean: Float[np.ndarray, "n d"], photos: int, frozen: float
) -> Hidden:
    mated, other = _scores(occluded, clean, photos)
    anew = threshold(mated, other, f"fmr={FMR!r}")
    return Hidden(
        tmr=float(np.mean(mated >= frozen)),
        fmr=float(np.mean(other >= frozen)),
        tmr_recomputed=float(np.mean(mated >= anew)),
    )


def _scores(
    probes: Float[np.ndarray, "n d"], references: Float[np.ndarray, "n d"], photos: int
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " k"]]:
    """Cosines of every ordered mated pair, and of all non-mated ones; no photo with itself."""
    person = np.arange(len(probes)) // photos
    cosines = probes @ references.T
    same = person[:, None] == person
    return cosines[same & ~np.eye(len(probes), dtype=bool)], cosines[~same]


def planted_record(checked: Planted) -> dict[str, object]:
    """What `check_planted` found, for a card; `failure` only where it did not pass."""
    record: dict[str, object] = {}
    for name, value in asdict(checked).items():
        if isinstance(value, dict):
            record |= {f"{name}_{key}": round(part, 4) for key, part in value.items()}
        else:
            record[name] = round(value, 4) if isinstance(value, float) else value
    record |= {"kept": round(checked.kept, 4), "passed": checked.passed}
    return record if checked.passed else {**record, "failure": checked.failure}
