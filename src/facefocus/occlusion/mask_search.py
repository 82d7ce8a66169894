"""The oracle: a search for the mask of k pixels that hides a person best (Protocol: oracle).

Which mask lowers the mean mated cosine most is not computable, so the oracle is the best of what a
bounded search finds: greedy unions of blocks, every mask that it is given (the methods' own), and
swaps of pixels between them. It is at least as good as each of these, which is what a scale from
random = 0 to oracle = 1 needs. It uses embeddings only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float, Int

from facefocus.saliency.explainer import Hide

#: ``embed(frames [n,h,w,3] uint8) -> raw embeddings [n,d]``.
Embed = Callable[[np.ndarray], np.ndarray]

#: Side of a block in pixels, blocks tried anew before one is taken, and rounds of swaps.
BLOCK = 8
LOOKAHEAD = 8
ROUNDS = 4

#: Frames embedded at once; changes no result.
FRAMES = 256
#: Blocks that are tried anew together before greedy looks whether one is certain.
BATCH = 16
#: Units of each kind in a round of swaps, and how many are swapped at once.
UNITS = 32
SWAPS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, eq=False)
class Oracle:
    """The best masks found for one person, one for each count.

    Attributes:
        masks: True where the face is hidden; exactly the asked number of pixels, or fewer where
            a seed of fewer was the best start.
        cosines: Mean mated cosine under each mask.
        greedy: What the greedy blocks alone reach.
        seeds: What the best given mask reaches; NaN where none was given.
        clean: Mean mated cosine with nothing hidden.
        embeddings: Frames that were embedded.
    """

    masks: Bool[np.ndarray, "b h w"]
    cosines: Float[np.ndarray, " b"]
    greedy: Float[np.ndarray, " b"]
    seeds: Float[np.ndarray, " b"]
    clean: float
    embeddings: int


def search_masks(
    embed: Embed,
    hide: Hide,
    clean: Float[np.ndarray, "m d"],
    *,
    shape: tuple[int, int],
    counts: Sequence[int],
    rng: np.random.Generator,
    seeds: Bool[np.ndarray, "b s h w"] | None = None,
    both: bool = False,
    block: int = BLOCK,
    candidates: int | None = None,
    lookahead: int = LOOKAHEAD,
    rounds: int = ROUNDS,
) -> Oracle:
    """The best mask found for each count of pixels: lowest mean mated cosine of a person.

    The cosine is that of `evaluation.retention`: occluded probes against clean references, or
    occluded ones where both sides are hidden, over all ordered pairs. Greedy: the block whose
    hiding lowers it most is taken, again and again; effects of blocks not tried anew are those of
    an earlier round. The block that crosses a count is cut along the best of its four sides. The
    greedy masks of all counts come from one run and are nested. The better of greedy and seeds then
    goes through `rounds` of swaps.

    Args:
        embed: Raw embeddings of frames.
        hide: Hides masks on the person's frames.
        clean: Raw embeddings of these frames.
        shape: Height and width of the frames.
        counts: Pixels to hide.
        rng: For ties, and for which pixels are tried in a swap.
        seeds: Masks to start from, s for each count, of at most as many pixels; those without a
            pixel are left out.
        both: Whether the references are hidden, too.
        block: Side of a block in pixels.
        candidates: Only the blocks with the largest effects by themselves stay in the race: so
            many, or all.
        lookahead: Blocks tried anew, at most, before one is taken; with all of them it is exact
            (lazy) greedy.
        rounds: Rounds of swaps, each about 70 m embeddings for a count.

    Raises:
        ValueError: Fewer than two frames, a count outside the frame, a seed of more pixels than its
            count, or an embedding that is not finite.
    """
    _check(clean, shape, counts, seeds)
    person = _Person(embed, hide, clean, shape, both)
    grid = _grid(person.shape, block, rng)
    blocks = _greedy_order(person, grid, max(counts, default=0), candidates, lookahead)
    starts = _cut(person, blocks, counts)
    given = seeds if seeds is not None else np.zeros((len(counts), 0, *person.shape), bool)
    pools = _pools(blocks, counts, given)
    improved = [
        _improved(person, start, own, pool, block=block, rounds=rounds, rng=rng)
        for start, own, pool in zip(starts, given, pools, strict=True)
    ]
    return Oracle(
        masks=np.array([best.mask for best in improved], bool).reshape(-1, *person.shape),
        cosines=np.array([best.cosine for best in improved]),
        greedy=np.array([start.cosine for start in starts]),
        seeds=np.array([best.seed for best in improved]),
        clean=person.clean,
        embeddings=person.embeddings,
    )


def _check(
    clean: np.ndarray,
    shape: tuple[int, int],
    counts: Sequence[int],
    seeds: Bool[np.ndarray, "b s h w"] | None,
) -> None:
    pixels = shape[0] * shape[1]
    if len(clean) < 2:
        raise ValueError(f"A mated pair needs at least 2 images. Got {len(clean)}.")
    for count in counts:
        if not 0 <= count <= pixels:
            raise ValueError(f"A count must be in [0, {pixels}]. Got {count}.")
    if seeds is None:
        return
    for count, own in zip(counts, seeds, strict=True):
        for area in np.count_nonzero(own, axis=(1, 2)):
            if area > count:
                raise ValueError(f"A seed must hide at most {count} pixels. Got {area}.")


class _Person:
    """The objective: mean mated cosine of one person's photos under a mask."""

    def __init__(
        self,
        embed: Embed,
        hide: Hide,
        clean: np.ndarray,
        shape: tuple[int, int],
        both: bool,
    ) -> None:
        self._embed, self._hide, self._both = embed, hide, both
        self._clean = _units_of(clean)
        self.shape = shape
        self.clean = float(self._mated(self._clean[None])[0])
        self.embeddings = 0

    def _mated(self, units: Float[np.ndarray, "c m d"]) -> Float[np.ndarray, " c"]:
        """Mean cosine of the photos under each mask to the others, clean or under the same mask."""
        others = units if self._both else self._clean[None]
        # The cosine to the mean of the other units is the mean cosine to them.
        references = (others.sum(axis=1, keepdims=True) - others) / (others.shape[1] - 1)
        cosines: np.ndarray = (units * references).sum(axis=2).mean(axis=1)
        return cosines

    def cosines(self, masks: Iterable[np.ndarray]) -> Float[np.ndarray, " c"]:
        """The objective under each of the flat masks, in batches of about `FRAMES` frames."""
        photos = len(self._clean)
        step = max(1, FRAMES // photos)
        waiting, parts = iter(masks), [np.empty(0)]
        while group := list(islice(waiting, step)):
            frames = np.concatenate([self._hide(mask.reshape(self.shape)) for mask in group])
            embeddings = self._embed(frames)
            self.embeddings += len(embeddings)
            parts.append(self._mated(_units_of(embeddings).reshape(len(group), photos, -1)))
        return np.concatenate(parts)


def _units_of(embeddings: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    wide = embeddings.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("Every embedding must be finite.")
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return wide / np.where(lengths > 0, lengths, 1.0)


# Greedy -------------------------------------------------------------------------------------------


def _grid(
    shape: tuple[int, int], side: int, rng: np.random.Generator
) -> list[Int[np.ndarray, " pixels"]]:
    """Flat pixels of each block, in random order of blocks: so are ties broken."""
    numbers = np.arange(shape[0] * shape[1]).reshape(shape)
    blocks = [
        numbers[top : top + side, left : left + side].ravel()
        for top in range(0, shape[0], side)
        for left in range(0, shape[1], side)
    ]
    return [blocks[index] for index in rng.permutation(len(blocks))]


def _greedy_order(
    person: _Person,
    blocks: list[np.ndarray],
    pixels: int,
    candidates: int | None,
    lookahead: int,
) -> list[Int[np.ndarray, " pixels"]]:
    """All blocks: those that greedy takes until they cover `pixels`, then by effect per pixel."""
    sizes = np.array([len(block) for block in blocks])
    hidden, cosine = np.zeros(sizes.sum(), bool), person.clean
    effects = (cosine - person.cosines(_with(hidden, blocks))) / sizes
    order = np.argsort(-effects, kind="stable")
    needed = int(np.searchsorted(np.cumsum(sizes[order]), pixels)) + 1
    racing = order[: len(blocks) if candidates is None else max(candidates, needed)]
    taken: list[int] = []
    while hidden.sum() < pixels:
        if taken:
            _renew(person, hidden, cosine, blocks, effects, racing, lookahead)
        best = int(racing[np.argmax(effects[racing])])
        cosine -= effects[best] * sizes[best]
        hidden[blocks[best]] = True
        taken.append(best)
        racing = racing[racing != best]
    rest = order[~np.isin(order, taken)]
    rest = rest[np.argsort(-effects[rest], kind="stable")]
    return [blocks[index] for index in (*taken, *rest)]


def _with(hidden: np.ndarray, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        mask = hidden.copy()
        mask[block] = True
        yield mask


def _renew(
    person: _Person,
    hidden: np.ndarray,
    cosine: float,
    blocks: Sequence[np.ndarray],
    effects: np.ndarray,
    racing: Int[np.ndarray, " racing"],
    lookahead: int,
) -> None:
    """Try the most promising blocks anew, until one beats what all others had or enough are tried.

    Effects shrink as more is hidden, as a rule: an old one is a bound for the new. A block that
    was not tried and looks better than all that were is set back behind the best of these.
    """
    waiting = racing[np.argsort(-effects[racing], kind="stable")]
    tried, best = 0, -np.inf
    while tried < min(lookahead, len(waiting)):
        if effects[waiting[tried]] <= best:
            return
        batch = waiting[tried : tried + min(BATCH, lookahead - tried)]
        cosines = person.cosines(_with(hidden, [blocks[index] for index in batch]))
        effects[batch] = (cosine - cosines) / [len(blocks[index]) for index in batch]
        best, tried = max(best, float(effects[batch].max())), tried + len(batch)
    if tried:
        # Only effects that were measured now may decide.
        late = waiting[tried:]
        effects[late] = np.minimum(effects[late], np.nextafter(best, -np.inf))


@dataclass(frozen=True, eq=False)
class _Start:
    """A flat mask and the mean mated cosine under it."""

    mask: Bool[np.ndarray, " pixels"]
    cosine: float


def _cut(person: _Person, blocks: Sequence[np.ndarray], counts: Sequence[int]) -> list[_Start]:
    """The greedy mask of each count; equal counts and counts in one block stay nested."""
    ends = np.cumsum([len(block) for block in blocks])
    sides: dict[int, np.ndarray] = {}
    cuts: dict[int, _Start] = {}
    for count in sorted(set(counts)):
        whole = int(np.searchsorted(ends, count, side="right"))
        mask = np.zeros(ends[-1], bool)
        mask[np.concatenate([np.empty(0, np.int64), *blocks[:whole]])] = True
        rest = count - int(mask.sum())
        orders = [np.empty(0, np.int64)]
        if rest:
            orders = [sides[whole]] if whole in sides else _sweeps(blocks[whole], person.shape[1])
        cosines = person.cosines(_with(mask, [order[:rest] for order in orders]))
        best = int(np.argmin(cosines))
        if rest:
            sides[whole] = orders[best]
            mask[orders[best][:rest]] = True
        cuts[count] = _Start(mask, float(cosines[best]))
    return [cuts[count] for count in counts]


def _sweeps(block: Int[np.ndarray, " pixels"], width: int) -> list[Int[np.ndarray, " pixels"]]:
    """The block's pixels from its top, bottom, left and right on."""
    across = block[np.argsort(block % width, kind="stable")]
    return [block, block[::-1], across, across[::-1]]


# Swaps --------------------------------------------------------------------------------------------


def _pools(
    blocks: Sequence[np.ndarray], counts: Sequence[int], seeds: Bool[np.ndarray, "b s h w"]
) -> Iterator[Bool[np.ndarray, " pixels"]]:
    """Where swaps find new pixels: the seeds of all counts, and twice the count of best blocks."""
    known, ranked = seeds.any(axis=(0, 1)).ravel(), np.concatenate(blocks)
    for count in counts:
        pool = known.copy()
        pool[ranked[: 2 * count]] = True
        yield pool


@dataclass(frozen=True, eq=False)
class _Improved:
    """The best mask of one count, its mean mated cosine, and that of the best seed or NaN."""

    mask: Bool[np.ndarray, " pixels"]
    cosine: float
    seed: float


def _improved(
    person: _Person,
    start: _Start,
    seeds: Bool[np.ndarray, "s h w"],
    pool: Bool[np.ndarray, " pixels"],
    *,
    block: int,
    rounds: int,
    rng: np.random.Generator,
) -> _Improved:
    """The best of the greedy mask and the seeds, after `rounds` of swaps."""
    masks = [mask.ravel() for mask in seeds if mask.any()]
    cosines = person.cosines(masks)
    seed = float(cosines.min()) if masks else np.nan
    best = start
    if seed < start.cosine:
        best = _Start(masks[int(np.argmin(cosines))], seed)
    pool = pool | start.mask
    for _ in range(rounds):
        best = _swapped(person, best, pool, _near(person.shape, block, rng), rng)
    return _Improved(best.mask, best.cosine, seed)


def _near(
    shape: tuple[int, int], side: int, rng: np.random.Generator
) -> Int[np.ndarray, " pixels"]:
    """All pixels in random order of the blocks of a randomly shifted grid: neighbors are near."""
    top, left = rng.integers(0, side, 2)
    rows, columns = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    numbers = (rows + top) // side * (shape[1] + side) + (columns + left) // side
    order: np.ndarray = np.argsort(rng.permutation(numbers.max() + 1)[numbers], kind="stable")
    return order


def _swapped(
    person: _Person,
    now: _Start,
    pool: Bool[np.ndarray, " pixels"],
    near: Int[np.ndarray, " pixels"],
    rng: np.random.Generator,
) -> _Start:
    """Swap the mask's least effective pixels for the pool's most effective ones, if it helps.

    Pixels go in units of near ones, 1/32 of the mask each; single effects of up to 32 units of
    either kind are measured, then swaps of several at once.
    """
    size = max(1, int(now.mask.sum()) // UNITS)
    drops = _units(near[now.mask[near]], size, rng)
    adds = _units(near[pool[near] & ~now.mask[near]], size, rng)
    if not (drops and adds):
        return now
    moves = [(drop, adds[0][:0]) for drop in drops] + [(drops[0][:0], add) for add in adds]
    singles = person.cosines(_moved(now.mask, moves))
    least = np.argsort(singles[: len(drops)], kind="stable")
    most = np.argsort(singles[len(drops) :], kind="stable")
    swaps = [
        (
            np.concatenate([drops[index] for index in least[:number]]),
            np.concatenate([adds[index] for index in most[:number]]),
        )
        for number in SWAPS
        if number <= min(len(drops), len(adds))
    ]
    cosines = person.cosines(_moved(now.mask, swaps))
    best = int(np.argmin(cosines))
    if cosines[best] >= now.cosine:
        return now
    (mask,) = _moved(now.mask, swaps[best : best + 1])
    return _Start(mask, float(cosines[best]))


def _units(
    pixels: Int[np.ndarray, " some"], size: int, rng: np.random.Generator
) -> list[Int[np.ndarray, " size"]]:
    """Up to `UNITS` runs of `size` pixels each, drawn from all."""
    runs = [pixels[start : start + size] for start in range(0, len(pixels) - size + 1, size)]
    return [runs[index] for index in rng.permutation(len(runs))[:UNITS]]


def _moved(
    mask: np.ndarray, moves: Iterable[tuple[np.ndarray, np.ndarray]]
) -> Iterator[np.ndarray]:
    """The mask without the first and with the second pixels of each move."""
    for drop, add in moves:
        moved = mask.copy()
        moved[drop], moved[add] = False, True
        yield moved
