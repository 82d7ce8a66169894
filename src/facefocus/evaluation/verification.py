"""Verification: scores of pairs, thresholds, error rates, LFW's ten folds (Protocol: thresholds).

A pair is declared a match where ``score >= threshold``. With that, FMR(t) is the share of
non-mated scores >= t, FNMR(t) the share of mated scores < t, and TMR = 1 - FNMR
(terms of ISO/IEC 19795-1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.seeds import generator
from facefocus.faces.faceset import FaceSet, Pairs
from facefocus.faces.lists import FOLDS

#: Pairs scored at a time: bounds the memory of the gathered embeddings, changes no result.
CHUNK = 4096

#: Pairs of each kind that are drawn for a face set without a list.
SAMPLED_PAIRS = 3000

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

    Accuracy is the mean of two shares: mated pairs that match, and non-mated pairs that do not.
    Whoever accepts or refuses everybody gets 0.5, however many pairs there are of either kind;
    where they are equally many, as in LFW's lists, it is the share of right decisions.

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

    What needs pairs of a kind that the list lacks is None.

    Attributes:
        mated: Number of mated pairs.
        non_mated: Number of non-mated pairs.
        rule: Rule of the operating threshold, e.g. ``"eer"``.
        threshold: Operating threshold in cosine.
        fmr: FMR at that threshold.
        tmr: TMR at that threshold.
        eer: Equal error rate.
        folds: Accuracy over the folds; None with fewer than two, or where one lacks a kind.
        tmr_at_fmr_1e2: TMR at FMR 1e-2; None with fewer than 100 non-mated pairs.
        tmr_at_fmr_1e3: TMR at FMR 1e-3; None with fewer than 1000 non-mated pairs.
        mated_cosine: Mean mated score.
        non_mated_cosine: Mean non-mated score.
    """

    mated: int
    non_mated: int
    rule: str
    threshold: float
    fmr: float | None
    tmr: float | None
    eer: float | None
    folds: FoldAccuracy | None
    tmr_at_fmr_1e2: float | None
    tmr_at_fmr_1e3: float | None
    mated_cosine: float | None
    non_mated_cosine: float | None


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


def pair_cosines(
    embeddings: Float[np.ndarray, "n d"], pairs: Pairs
) -> tuple[Float[np.ndarray, " mated"], Float[np.ndarray, " non_mated"]]:
    """Cosines of the mated and of the non-mated pairs; other rows need not be finite."""
    rows = np.unique(np.concatenate([pairs.first, pairs.second]))
    first, second = (np.searchsorted(rows, side) for side in (pairs.first, pairs.second))
    scores = pair_scores(embeddings[rows], first, second)
    return scores[pairs.mated], scores[~pairs.mated]


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


@dataclass(frozen=True)
class Rule:
    """Where an operating threshold comes from; as text what `parse_rule` reads.

    Attributes:
        kind: ``eer``, ``accuracy``, ``fmr`` or ``given``.
        value: The FMR, or the threshold that is given.
        faces: The face set whose pairs set it; None for that of the figures.
    """

    kind: str
    value: float | None = None
    faces: str | None = None

    def __str__(self) -> str:
        text = {"fmr": f"fmr={self.value!r}", "given": f"{self.value!r}"}.get(self.kind, self.kind)
        return text if self.faces is None else f"{text}@{self.faces}"

    @property
    def shown(self) -> str:
        """As text, with only the last part of a path: for files."""
        short = None if self.faces is None else Path(self.faces).name
        return str(replace(self, faces=short))


def threshold(
    mated: Float[np.ndarray, " m"], non_mated: Float[np.ndarray, " k"], rule: str | Rule = "eer"
) -> float:
    """The operating threshold by one of four rules.

    - ``eer``: both error rates are steps, so thresholds come in intervals between neighboring
      scores; the interval where abs(FMR - FNMR) is least (the lower of two), its middle.
    - ``fmr=x``: the smallest of all scores, mated or not, whose FMR is at most x. Where the
      highest score is a non-mated one and even it has a larger FMR, the next number above.
    - ``accuracy``: the interval with the largest accuracy as in `FoldAccuracy`, that is the least
      FMR + FNMR (the lowest of several), its middle.
    - a number: itself, whatever the scores.

    The first interval, below every score, is represented by the lowest score.

    Raises:
        UserError: The rule is unknown, or fewer than 1/x non-mated scores are given, so that an
            FMR of x cannot be measured.
        ValueError: There are no mated or no non-mated scores, or one is not finite.

    Example:
        >>> mated, non_mated = np.array([0.4, 0.7, 0.8]), np.array([-0.1, 0.1, 0.5])
        >>> print(threshold(mated, non_mated, "eer"))
        0.45
        >>> threshold(mated, non_mated, "0.3")
        0.3
    """
    rule = parse_rule(rule) if isinstance(rule, str) else rule
    if rule.kind == "given":
        assert rule.value is not None
        return rule.value
    if rule.kind == "accuracy":
        return _most_accurate(mated, non_mated)
    thresholds, false_matches, misses = _errors(mated, non_mated)
    if rule.kind == "fmr":
        assert rule.value is not None
        _check_resolution(rule.value, len(non_mated), "The list")
        return float(thresholds[np.argmax(false_matches / len(non_mated) <= rule.value)])
    # The gap times both numbers of pairs: whole, so equal gaps are equal.
    gap = np.abs(false_matches * len(mated) - misses * len(non_mated))
    return _middle(thresholds, int(np.argmin(gap)))


def parse_rule(text: str) -> Rule:
    """``eer``, ``accuracy``, ``fmr=x`` or a number; the first three also ``@`` another face set.

    Raises:
        UserError: The rule is none of these, x is not in (0, 1), or the number not in [-1, 1].
    """
    name, at, faces = (part.strip() for part in text.partition("@"))
    kind, _, value = (part.strip() for part in name.partition("="))
    known = ("eer", "accuracy", "fmr=1e-3")
    if at and not faces:
        raise UserError(f"The 'threshold' must name a face set after the '@'. Got '{text}'.")
    if name in ("eer", "accuracy"):
        return Rule(name, None, faces or None)
    if kind == "fmr":
        return Rule("fmr", _rate(value), faces or None)
    level = _float(name)
    if np.isnan(level) or at:
        raise UserError(
            "The 'threshold' must be eer, accuracy, fmr=x, one of these of other faces such as"
            f" eer@FOLDER, or a number. Got '{text}'." + did_you_mean(name, known)
        )
    if not -1 <= level <= 1:
        raise UserError(f"The 'threshold' is a cosine and must be in [-1, 1]. Got {text}.")
    return Rule("given", level)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _rate(text: str) -> float:
    fmr = _float(text)
    if not 0 < fmr < 1:
        percent = f" Did you mean fmr={fmr / 100:g}?" if 1 <= fmr < 100 else ""
        raise UserError(f"The FMR in the 'threshold' must be in (0, 1). Got '{text}'." + percent)
    return fmr


def check_rule(rule: Rule, mated: int, non_mated: int, faces: str) -> None:
    """Refuse a rule that so many pairs cannot satisfy, before anything is computed.

    Args:
        rule: Where the threshold is to come from.
        mated: Number of mated pairs.
        non_mated: Number of non-mated pairs.
        faces: What to call the face set in a message.

    Raises:
        UserError: A kind of pairs is missing, or too few are non-mated for the FMR.
    """
    if rule.kind == "given":
        return
    lacking = [kind for kind, n in (("mated", mated), ("non-mated", non_mated)) if not n]
    if lacking:
        raise UserError(
            f"The 'threshold' cannot be set by {rule.kind} on '{faces}', which has no usable"
            f" {' and no '.join(lacking)} pair. Give it as a number (threshold = 0.3 in"
            " [evaluation], --rule 0.3), or take that of a prepared face set with several photos"
            f' of several people (threshold = "{rule.kind}@FOLDER", --rule {rule.kind}@FOLDER).'
        )
    if rule.kind == "fmr":
        assert rule.value is not None
        _check_resolution(rule.value, non_mated, f"'{faces}'")


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

    Example:
        >>> round(eer(np.array([0.4, 0.7, 0.8]), np.array([-0.1, 0.1, 0.5])), 3)
        0.333
    """
    rates = error_rates(mated, non_mated)
    gap = rates.fmr - rates.fnmr
    # gap falls strictly from 1 to -1, so `after` is at least 1.
    after = int(np.argmax(gap <= 0))
    before = after - 1
    part = gap[before] / (gap[before] - gap[after])
    return float(rates.fmr[before] + part * (rates.fmr[after] - rates.fmr[before]))


def tells_apart(rate: float) -> bool:
    """Whether a recognizer distinguishes people at all: equal error rate below `GUESSING_EER`.

    One that guesses stays at or above that bound in 98 of 100 lists of 100 + 100 pairs; equal
    embeddings for everybody have an equal error rate of exactly 0.5.
    """
    return rate < GUESSING_EER


def guessing_warning(name: str, rate: float) -> str:
    """The warning for a recognizer that does not pass `tells_apart`; one line."""
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
        ValueError: Fewer than two folds, or a fold without mated or without non-mated pairs.
    """
    folds = np.unique(fold)
    if folds.size < 2:
        raise ValueError(f"Cross-validation needs at least 2 folds. Got {folds.size}.")
    thresholds, accuracies = [], []
    for number in folds:
        test = fold == number
        best = _most_accurate(scores[~test & mated], scores[~test & ~mated])
        thresholds.append(best)
        right = (scores[test] >= best) == mated[test]
        kinds = [right[mated[test] == kind] for kind in (True, False)]
        if not all(kind.size for kind in kinds):
            raise ValueError(f"Fold {number} needs mated and non-mated pairs.")
        accuracies.append(float(np.mean([kind.mean() for kind in kinds])))
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
    level: float | None = None,
) -> VerificationReport:
    """All figures of one list of scored pairs.

    Args:
        scores: Cosines.
        mated: Which pairs are mated.
        fold: The fold of each pair.
        rule: The rule of the operating threshold.
        level: The threshold where it does not come from these pairs.

    Raises:
        UserError: As `threshold`.
        ValueError: There are no mated or no non-mated pairs and no `level`, or a score is not
            finite.
    """
    same, other = scores[mated], scores[~mated]
    operating = threshold(same, other, rule) if level is None else level
    both = bool(len(same) and len(other))
    return VerificationReport(
        mated=len(same),
        non_mated=len(other),
        rule=rule,
        threshold=operating,
        fmr=_mean(other >= operating),
        tmr=_mean(same >= operating),
        eer=eer(same, other) if both else None,
        folds=ten_fold(scores, mated, fold) if _comparable(mated, fold) else None,
        tmr_at_fmr_1e2=_tmr_if_resolved(same, other, 1e-2) if both else None,
        tmr_at_fmr_1e3=_tmr_if_resolved(same, other, 1e-3) if both else None,
        mated_cosine=_mean(same),
        non_mated_cosine=_mean(other),
    )


def _mean(values: Shaped[np.ndarray, " n"]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _comparable(mated: Bool[np.ndarray, " p"], fold: Int[np.ndarray, " p"]) -> bool:
    """Whether there are several folds, each with pairs of both kinds."""
    kinds = [set(fold[mated == kind].tolist()) for kind in (True, False)]
    return kinds[0] == kinds[1] and len(kinds[0]) > 1


def _tmr_if_resolved(
    mated: Float[np.ndarray, " m"], non_mated: Float[np.ndarray, " k"], fmr: float
) -> float | None:
    return tmr_at_fmr(mated, non_mated, fmr) if _resolved(fmr, len(non_mated)) else None


def _resolved(fmr: float, non_mated: int) -> bool:
    # Compared as shares: 1 / 1e-3 * 1e-3 need not be 1, but 1 / 1000 is the nearest to 1e-3.
    return non_mated > 0 and 1 / non_mated <= fmr


def _check_resolution(fmr: float, non_mated: int, what: str) -> None:
    if non_mated and not _resolved(fmr, non_mated):
        # To three digits, upwards, so that it can be had.
        scale = 10.0 ** (3 + np.floor(np.log10(non_mated)))
        least = np.ceil(scale / non_mated) / scale
        raise UserError(
            f"The 'threshold' can be fmr={fmr:g} only with at least {np.ceil(1 / fmr):,.0f}"
            f" non-mated pairs. {what} has {non_mated:,}: the least is fmr={least:.3g}."
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
    # FMR + FNMR times both numbers of pairs: whole, so equal sums are equal.
    wrong = false_matches * len(mated) + misses * len(non_mated)
    return _middle(thresholds, int(np.argmin(wrong)))


def verification_pairs(faces: FaceSet, listed: Pairs | None, seed: int) -> Pairs:
    """The list of a face set, or a seeded sample of `SAMPLED_PAIRS` of each kind without one."""
    if listed is not None:
        return listed
    return sample_pairs(faces.identities, count=SAMPLED_PAIRS, seed=seed)


def sample_pairs(identities: Shaped[np.ndarray, " n"], *, count: int, seed: int) -> Pairs:
    """A seeded list of `count` mated and `count` non-mated pairs for a face set without a list.

    No unordered pair comes twice. Mated pairs: every person gives equally many, as far as their
    images reach, and what is left over goes to people drawn at random. Non-mated pairs: two
    different people drawn uniformly, then an image of each. Where fewer pairs exist, all are
    taken. Pairs are dealt out to ten folds in turn, each kind by itself, or to as many as there
    are pairs of the rarer kind; a person's pairs may therefore lie in several folds, which
    LFW's View 2 avoids.

    Args:
        identities: Identity of each image, str [n].
        count: Pairs of each kind.
        seed: Experiment seed.
    """
    people, owner = np.unique(identities, return_inverse=True)
    bounds = np.cumsum(np.bincount(owner, minlength=len(people)))[:-1]
    rows = np.split(np.argsort(owner, kind="stable"), bounds)
    same = _mated_sample(people.tolist(), rows, count, seed)
    other = _non_mated_sample(owner, rows, count, generator(seed, "non-mated pairs"))
    pairs = np.concatenate([same, other])
    folds = max(1, min(FOLDS, len(same), len(other)))
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
    quotas = even_shares(available, count, generator(seed, "mated pairs"))
    sample = [np.empty((0, 2), dtype=np.int64)]
    for person in np.flatnonzero(quotas):
        rng = generator(seed, "mated pairs", people[person])
        chosen = rng.choice(available[person], size=quotas[person], replace=False)
        first, second = np.triu_indices(len(rows[person]), k=1)
        sample.append(rows[person][np.stack([first[chosen], second[chosen]], axis=1)])
    return np.concatenate(sample)


def even_shares(
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
        first = rng.integers(len(rows), size=count)
        second = (first + rng.integers(1, len(rows), size=count)) % len(rows)
        images = [
            np.array([rows[person][image] for person, image in zip(side, chosen, strict=True)])
            for side in (first, second)
            for chosen in [rng.integers(0, sizes[side])]
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
