"""Verification: scores of pairs, thresholds, error rates, LFW's ten folds (PROTOCOL section 8).

A pair is declared a match where ``score >= threshold``. With that, FMR(t) is the share of
non-mated scores >= t, FNMR(t) the share of mated scores < t, and TMR = 1 - FNMR
(terms of ISO/IEC 19795-1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from facefocus.errors import UserError, did_you_mean
from facefocus.faces.faceset import Pairs
from facefocus.seeds import generator

#: Pairs scored at a time: bounds the memory of the gathered embeddings, changes no result.
CHUNK = 4096

#: A recognizer with this equal error rate or a higher one tells nobody apart; guessing has 0.5.
GUESSING_EER = 0.4


@dataclass(frozen=True, eq=False)
class ErrorRates:
    """Error rates at every threshold where they change.

    Attributes:
        thresholds: The distinct scores, ascending, and last the next number above them all.
        fmr: FMR at each, falling from 1 to 0.
        fnmr: FNMR at each, rising from 0 to 1.
    """

    thresholds: Float[np.ndarray, " t"]
    fmr: Float[np.ndarray, " t"]
    fnmr: Float[np.ndarray, " t"]


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy over folds, each judged at the threshold that is best on all the others.

    Attributes:
        mean: Mean accuracy of the folds.
        standard_error: Standard error of that mean, std (n - 1) / sqrt(n): what LFW reports
            after the "+-".
        accuracies: Accuracy of each fold, by ascending fold number.
        thresholds: Threshold used for each.
    """

    mean: float
    standard_error: float
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class VerificationReport:
    """Everything that one list of scored pairs says about a recognizer.

    Attributes:
        mated: Number of mated pairs.
        non_mated: Number of non-mated pairs.
        rule: Rule of the operating threshold, e.g. ``"eer"``.
        threshold: Operating threshold in cosine.
        fmr: FMR at that threshold.
        tmr: TMR at that threshold.
        eer: Equal error rate.
        folds: Accuracy over the folds; None where the list has one fold only.
        tmr_at_fmr_1e2: TMR at FMR 1e-2; None with fewer than 100 non-mated pairs.
        tmr_at_fmr_1e3: TMR at FMR 1e-3; None with fewer than 1000 non-mated pairs.
        mated_cosine: Mean mated score.
        non_mated_cosine: Mean non-mated score.
    """

    mated: int
    non_mated: int
    rule: str
    threshold: float
    fmr: float
    tmr: float
    eer: float
    folds: FoldAccuracy | None
    tmr_at_fmr_1e2: float | None
    tmr_at_fmr_1e3: float | None
    mated_cosine: float
    non_mated_cosine: float


def normalize(embeddings: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Embeddings of unit length in float64; an all-zero one stays zero (cosine 0 to everything).

    Raises:
        ValueError: An embedding is not finite.
    """
    wide = embeddings.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("Every embedding must be finite.")
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return wide / np.where(lengths > 0, lengths, 1.0)


def pair_scores(
    embeddings: Float[np.ndarray, "n d"],
    first: Int[np.ndarray, " p"],
    second: Int[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
    """Cosine of each pair of rows of raw embeddings.

    Raises:
        ValueError: An embedding is not finite.
    """
    unit = normalize(embeddings)
    scores = np.empty(len(first))
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        scores[part] = (unit[first[part]] * unit[second[part]]).sum(axis=1)
    return scores


def error_rates(mated: Float[np.ndarray, " m"], non_mated: Float[np.ndarray, " k"]) -> ErrorRates:
    """FMR and FNMR at every distinct score and just above the highest.

    Raises:
        ValueError: There are no mated or no non-mated scores, or one is not finite.
    """
    thresholds, false_matches, misses = _errors(mated, non_mated)
    return ErrorRates(
        thresholds=thresholds,
        fmr=false_matches / len(non_mated),
        fnmr=misses / len(mated),
    )


def threshold(
    mated: Float[np.ndarray, " m"], non_mated: Float[np.ndarray, " k"], rule: str = "eer"
) -> float:
    """The operating threshold by one of three rules.

    - ``eer``: both error rates are steps, so thresholds come in intervals between neighboring
      scores; the interval where abs(FMR - FNMR) is least (the lower of two), its middle.
    - ``fmr=x``: the smallest of all scores, mated or not, whose FMR is at most x. Where the
      highest score is a non-mated one and even it has a larger FMR, the next number above.
    - ``accuracy``: the interval with the largest share of right decisions over all pairs (the
      lowest of several), its middle.

    The first interval, below every score, is represented by the lowest score.

    Raises:
        UserError: The rule is unknown, or x is not in (0, 1), or fewer than 1/x non-mated scores
            are given, so that an FMR of x cannot be measured.
        ValueError: There are no mated or no non-mated scores, or one is not finite.
    """
    fmr = parse_rule(rule)
    if rule == "accuracy":
        return _most_accurate(mated, non_mated)
    thresholds, false_matches, misses = _errors(mated, non_mated)
    if fmr is not None:
        _check_resolution(fmr, len(non_mated))
        return float(thresholds[np.argmax(false_matches / len(non_mated) <= fmr)])
    # The gap times both numbers of pairs: whole, so equal gaps are equal.
    gap = np.abs(false_matches * len(mated) - misses * len(non_mated))
    return _middle(thresholds, int(np.argmin(gap)))


def parse_rule(rule: str) -> float | None:
    """The x of a threshold rule ``fmr=x``; None for ``eer`` and ``accuracy``.

    Raises:
        UserError: The rule is none of these, or x is not in (0, 1).
    """
    if rule in ("eer", "accuracy"):
        return None
    name, _, text = rule.partition("=")
    if name.strip() != "fmr":
        raise UserError(
            f"The 'threshold' of [evaluation] must be eer, accuracy or fmr=x. Got '{rule}'."
            + did_you_mean(rule, ("eer", "accuracy", "fmr=1e-3"))
        )
    try:
        fmr = float(text)
    except ValueError:
        fmr = float("nan")
    if not 0 < fmr < 1:
        percent = f" Did you mean fmr={fmr / 100:g}?" if 1 <= fmr < 100 else ""
        raise UserError(
            f"The FMR in the 'threshold' of [evaluation] must be in (0, 1). Got '{text}'." + percent
        )
    return fmr


def tmr_at_fmr(
    mated: Float[np.ndarray, " m"], non_mated: Float[np.ndarray, " k"], fmr: float
) -> float:
    """TMR at the threshold of rule ``fmr=x``.

    Raises:
        UserError: Fewer than 1/fmr non-mated scores.
        ValueError: As `threshold`.
    """
    return float(np.mean(mated >= threshold(mated, non_mated, f"fmr={fmr!r}")))


def eer(mated: Float[np.ndarray, " m"], non_mated: Float[np.ndarray, " k"]) -> float:
    """Equal error rate: where FMR = FNMR on the curve through the points of `error_rates`.

    Neighboring points are joined by straight lines, as when an ROC curve is drawn.

    Raises:
        ValueError: As `error_rates`.
    """
    rates = error_rates(mated, non_mated)
    gap = rates.fmr - rates.fnmr
    # gap falls strictly from 1 to -1, so `after` is at least 1.
    after = int(np.argmax(gap <= 0))
    before = after - 1
    part = gap[before] / (gap[before] - gap[after])
    return float(rates.fmr[before] + part * (rates.fmr[after] - rates.fmr[before]))


def tells_apart(rate: float) -> bool:
    """Whether an equal error rate is that of a recognizer of any use: below `GUESSING_EER`.

    One that guesses stays at or above that bound in 98 of 100 lists of 100 + 100 pairs; equal
    embeddings for everybody have an equal error rate of exactly 0.5.
    """
    return rate < GUESSING_EER


def guessing_warning(name: str, rate: float) -> str:
    """What to say of a recognizer that does not pass `tells_apart`; one line."""
    return (
        f"The recognizer '{name}' tells nobody apart on these faces: its equal error rate is "
        f"{rate:.3f}, and guessing has 0.5. Its figures mean nothing; check its weights and its "
        "preprocessing."
    )


def ten_fold(
    scores: Float[np.ndarray, " p"], mated: Bool[np.ndarray, " p"], fold: Int[np.ndarray, " p"]
) -> FoldAccuracy:
    """Accuracy as in LFW's View 2: each fold at the threshold that is best on all the others.

    Raises:
        ValueError: Fewer than two folds, or the pairs outside a fold are all of one kind.
    """
    folds = np.unique(fold)
    if folds.size < 2:
        raise ValueError(f"Cross-validation needs at least 2 folds. Got {folds.size}.")
    thresholds, accuracies = [], []
    for number in folds:
        test = fold == number
        best = _most_accurate(scores[~test & mated], scores[~test & ~mated])
        thresholds.append(best)
        accuracies.append(float(np.mean((scores[test] >= best) == mated[test])))
    return FoldAccuracy(
        mean=float(np.mean(accuracies)),
        standard_error=float(np.std(accuracies, ddof=1) / np.sqrt(folds.size)),
        accuracies=tuple(accuracies),
        thresholds=tuple(thresholds),
    )


def verify(
    scores: Float[np.ndarray, " p"],
    mated: Bool[np.ndarray, " p"],
    fold: Int[np.ndarray, " p"],
    *,
    rule: str = "eer",
) -> VerificationReport:
    """All figures of one list of scored pairs.

    Raises:
        UserError: As `threshold`.
        ValueError: There are no mated or no non-mated pairs, or a score is not finite.
    """
    same, other = scores[mated], scores[~mated]
    operating = threshold(same, other, rule)
    return VerificationReport(
        mated=len(same),
        non_mated=len(other),
        rule=rule,
        threshold=operating,
        fmr=float(np.mean(other >= operating)),
        tmr=float(np.mean(same >= operating)),
        eer=eer(same, other),
        folds=ten_fold(scores, mated, fold) if np.unique(fold).size > 1 else None,
        tmr_at_fmr_1e2=_tmr_if_resolved(same, other, 1e-2),
        tmr_at_fmr_1e3=_tmr_if_resolved(same, other, 1e-3),
        mated_cosine=float(np.mean(same)),
        non_mated_cosine=float(np.mean(other)),
    )


def _tmr_if_resolved(
    mated: Float[np.ndarray, " m"], non_mated: Float[np.ndarray, " k"], fmr: float
) -> float | None:
    return tmr_at_fmr(mated, non_mated, fmr) if _resolved(fmr, len(non_mated)) else None


def _resolved(fmr: float, non_mated: int) -> bool:
    # Compared as shares: 1 / 1e-3 * 1e-3 need not be 1, but 1 / 1000 is the nearest to 1e-3.
    return non_mated > 0 and 1 / non_mated <= fmr


def _check_resolution(fmr: float, non_mated: int) -> None:
    if non_mated and not _resolved(fmr, non_mated):
        raise UserError(
            f"The 'threshold' of [evaluation] can be fmr={fmr:g} only with at least "
            f"{np.ceil(1 / fmr):.0f} non-mated pairs. Got {non_mated}."
        )


def _errors(
    mated: Float[np.ndarray, " m"], non_mated: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " t"], Int[np.ndarray, " t"], Int[np.ndarray, " t"]]:
    """Thresholds as in `ErrorRates`, and the false matches and misses at each, as counts."""
    scores = np.concatenate([mated, non_mated]).astype(np.float64)
    if not (len(mated) and len(non_mated) and np.isfinite(scores).all()):
        raise ValueError("Error rates need finite scores of mated and of non-mated pairs.")
    thresholds = np.unique(scores)
    thresholds = np.append(thresholds, np.nextafter(thresholds[-1], np.inf))
    misses: np.ndarray = np.searchsorted(np.sort(mated), thresholds, side="left")
    rejected = np.searchsorted(np.sort(non_mated), thresholds, side="left")
    return thresholds, len(non_mated) - rejected, misses


def _middle(thresholds: Float[np.ndarray, " t"], index: int) -> float:
    """The middle of the interval of thresholds that decide as ``thresholds[index]`` does."""
    low, high = float(thresholds[max(index - 1, 0)]), float(thresholds[index])
    middle = low + (high - low) / 2
    # Between two neighboring floats there is no middle, and `low` itself decides otherwise.
    return middle if middle > low else high


def _most_accurate(mated: Float[np.ndarray, " m"], non_mated: Float[np.ndarray, " k"]) -> float:
    thresholds, false_matches, misses = _errors(mated, non_mated)
    return _middle(thresholds, int(np.argmin(false_matches + misses)))


def sample_pairs(
    identities: Shaped[np.ndarray, " n"], *, count: int, seed: int, folds: int = 10
) -> Pairs:
    """A seeded list of `count` mated and `count` non-mated pairs for a face set without a list.

    No unordered pair comes twice. Mated pairs: every person gives equally many, as far as their
    images reach, and what is left over goes to people drawn at random. Non-mated pairs: two
    different people drawn uniformly, then an image of each. Where fewer pairs exist, all are
    taken. Pairs are dealt out to `folds` in turn, each kind by itself; a person's pairs may
    therefore lie in several folds, which LFW's View 2 avoids.

    Args:
        identities: Identity of each image, str [n].
        count: Pairs of each kind.
        seed: Experiment seed.
        folds: Number of folds.
    """
    people, owner = np.unique(identities, return_inverse=True)
    rows = [np.flatnonzero(owner == person) for person in range(len(people))]
    same = _mated_sample(people.tolist(), rows, count, seed)
    other = _non_mated_sample(owner, rows, count, generator(seed, "non-mated pairs"))
    pairs = np.concatenate([same, other])
    return Pairs(
        first=pairs[:, 0],
        second=pairs[:, 1],
        mated=np.arange(len(pairs)) < len(same),
        fold=np.concatenate([np.arange(len(same)) % folds, np.arange(len(other)) % folds]),
        missing=0,
    )


def _mated_sample(
    people: list[str], rows: list[np.ndarray], count: int, seed: int
) -> Int[np.ndarray, "p 2"]:
    available = np.array([len(own) * (len(own) - 1) // 2 for own in rows], dtype=np.int64)
    quotas = _even_shares(available, count, generator(seed, "mated pairs"))
    sample = [np.empty((0, 2), dtype=np.int64)]
    for person in np.flatnonzero(quotas):
        rng = generator(seed, "mated pairs", people[person])
        chosen = rng.choice(available[person], size=quotas[person], replace=False)
        first, second = np.triu_indices(len(rows[person]), k=1)
        sample.append(rows[person][np.stack([first[chosen], second[chosen]], axis=1)])
    return np.concatenate(sample)


def _even_shares(
    available: Int[np.ndarray, " n"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Split `count` as evenly as `available` allows; the remainder goes to random takers."""
    level, above = 0, count + 1
    while above - level > 1:
        middle = (level + above) // 2
        if np.minimum(available, middle).sum() <= count:
            level = middle
        else:
            above = middle
    shares: np.ndarray = np.minimum(available, level)
    takers = rng.permutation(np.flatnonzero(available > level))
    shares[takers[: count - int(shares.sum())]] += 1
    return shares


def _non_mated_sample(
    owner: Int[np.ndarray, " n"], rows: list[np.ndarray], count: int, rng: np.random.Generator
) -> Int[np.ndarray, "p 2"]:
    sizes = np.array([len(own) for own in rows], dtype=np.int64)
    total = (len(owner) ** 2 - int((sizes**2).sum())) // 2
    if total <= 4 * count:
        # Too few for drawing until enough are new: list them all.
        every = _all_non_mated(owner)
        return rng.permutation(every)[:count]
    seen: dict[tuple[int, int], None] = {}
    while len(seen) < count:
        one = rng.integers(len(rows), size=count)
        two = (one + rng.integers(1, len(rows), size=count)) % len(rows)
        images = [
            np.array([rows[person][place] for person, place in zip(side, places, strict=True)])
            for side in (one, two)
            for places in [rng.integers(0, sizes[side])]
        ]
        ends = np.sort(np.stack(images, axis=1), axis=1)
        seen.update(dict.fromkeys(map(tuple, ends.tolist())))
    return np.array(list(seen)[:count], dtype=np.int64).reshape(-1, 2)


def _all_non_mated(owner: Int[np.ndarray, " n"]) -> Int[np.ndarray, "p 2"]:
    ends = [np.empty((0, 2), dtype=np.int64)]
    for row, person in enumerate(owner):
        later = row + 1 + np.flatnonzero(owner[row + 1 :] != person)
        ends.append(np.stack([np.full_like(later, row), later], axis=1))
    return np.concatenate(ends)
