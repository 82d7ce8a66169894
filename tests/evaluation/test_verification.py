from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import brentq
from sklearn.metrics import roc_curve
from sklearn.metrics.pairwise import cosine_similarity

from facefocus.core.errors import UserError
from facefocus.evaluation.verification import (
    Rule,
    check_rule,
    eer,
    error_rates,
    normalize,
    pair_scores,
    parse_rule,
    sample_pairs,
    tells_apart,
    ten_fold,
    threshold,
    tmr_at_fmr,
    verify,
)

#: Few distinct values, so that ties within and across the two kinds are common.
SCORES = hnp.arrays(
    np.float64, st.integers(1, 30), elements=st.integers(-8, 8).map(lambda i: i / 8)
)

MATED = np.array([0.9, 0.8, 0.7, 0.3])
NON_MATED = np.array([0.6, 0.4, 0.2, 0.1])


def roc(mated: np.ndarray, non_mated: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's (thresholds, FMR, FNMR), ascending by threshold."""
    truth = np.repeat([1, 0], [len(mated), len(non_mated)])
    fpr, tpr, levels = roc_curve(truth, np.concatenate([mated, non_mated]), drop_intermediate=False)
    return levels[::-1], fpr[::-1], 1 - tpr[::-1]


def test_normalize() -> None:
    unit = normalize(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]], dtype=np.float32))
    np.testing.assert_array_equal(unit, [[0.6, 0.8], [0, 0], [0, -1]])
    assert unit.dtype == np.float64
    with pytest.raises(ValueError, match="finite"):
        normalize(np.array([[1.0, np.nan]]))


def test_pair_scores_match_scikit_learn_beyond_one_chunk() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(40, 16)).astype(np.float32)
    first, second = rng.integers(0, 40, (2, 9001))
    expected = cosine_similarity(embeddings.astype(np.float64))[first, second]
    scores = pair_scores(embeddings, first, second)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
    # Neither the grouping nor the order within a pair touches a bit.
    np.testing.assert_array_equal(pair_scores(embeddings, second[17:], first[17:]), scores[17:])


def test_error_rates_by_hand() -> None:
    rates = error_rates(MATED, NON_MATED)
    np.testing.assert_array_equal(rates.thresholds[:-1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
    assert rates.thresholds[-1] == np.nextafter(0.9, 1)
    np.testing.assert_array_equal(rates.fmr, [1, 0.75, 0.5, 0.5, 0.25, 0, 0, 0, 0])
    np.testing.assert_array_equal(rates.fnmr, [0, 0, 0, 0.25, 0.25, 0.25, 0.5, 0.75, 1])


@given(SCORES, SCORES)
def test_error_rates_match_scikit_learn(mated: np.ndarray, non_mated: np.ndarray) -> None:
    rates = error_rates(mated, non_mated)
    levels, fmr, fnmr = roc(mated, non_mated)
    np.testing.assert_array_equal(rates.thresholds[:-1], levels[:-1])
    np.testing.assert_allclose(rates.fmr, fmr, atol=1e-15)
    np.testing.assert_allclose(rates.fnmr, fnmr, atol=1e-15)


def test_eer_by_hand() -> None:
    assert eer(MATED, NON_MATED) == 0.25
    assert threshold(MATED, NON_MATED) == 0.5  # equal on (0.4, 0.6]
    # From (FMR, FNMR) = (1/3, 0) at 0.8 to (1/3, 1/2) at 0.85: the line crosses at 1/3,
    # and the second is the nearer to equal.
    mated, non_mated = np.array([0.9, 0.8]), np.array([0.85, 0.1, 0.2])
    assert eer(mated, non_mated) == pytest.approx(1 / 3, abs=1e-15)
    assert threshold(mated, non_mated) == pytest.approx(0.825, abs=1e-15)
    # From (1, 0) straight to (0, 1).
    assert eer(np.array([0.5]), np.array([0.5])) == 0.5
    assert threshold(np.array([0.5]), np.array([0.5])) == 0.5


def test_separable_scores_put_the_threshold_in_the_middle_of_the_gap() -> None:
    mated, non_mated = np.array([0.8, 0.9]), np.array([0.1, 0.2])
    assert eer(mated, non_mated) == 0.0
    assert threshold(mated, non_mated, "eer") == 0.5
    assert threshold(mated, non_mated, "accuracy") == 0.5


def test_equal_gaps_take_the_lower_interval() -> None:
    # At 0.3 (FMR, FNMR) = (2/3, 1/3), at 0.5 (1/3, 2/3).
    mated, non_mated = np.array([0.2, 0.3, 0.9]), np.array([0.1, 0.3, 0.5])
    assert threshold(mated, non_mated, "eer") == pytest.approx(0.25, abs=1e-15)


@given(SCORES, SCORES)
def test_eer_is_the_crossing_of_scikit_learns_curve(
    mated: np.ndarray, non_mated: np.ndarray
) -> None:
    _, fmr, fnmr = roc(mated, non_mated)
    at = np.arange(len(fmr))
    crossing = brentq(
        lambda u: np.interp(u, at, fmr) - np.interp(u, at, fnmr), 0, len(fmr) - 1, xtol=1e-14
    )
    assert eer(mated, non_mated) == pytest.approx(np.interp(crossing, at, fmr), abs=1e-12)


@given(SCORES, SCORES)
def test_the_eer_threshold_has_the_least_gap_of_all(
    mated: np.ndarray, non_mated: np.ndarray
) -> None:
    def gap(level: float) -> float:
        return float(abs(np.mean(non_mated >= level) - np.mean(mated < level)))

    levels = np.concatenate([mated, non_mated])
    best = min(gap(level) for level in [*levels, *np.nextafter(levels, np.inf)])
    assert gap(threshold(mated, non_mated)) == pytest.approx(best, abs=1e-12)


def test_fmr_threshold_by_hand() -> None:
    non_mated = np.arange(1, 101) / 100
    mated = np.array([0.5, 0.905, 0.955, 0.985])
    # Ten non-mated scores, 0.91 to 1.00, are at or above the mated 0.905.
    assert threshold(mated, non_mated, "fmr=0.1") == 0.905
    assert tmr_at_fmr(mated, non_mated, 0.1) == 0.75
    assert threshold(mated, non_mated, "fmr=1e-2") == 1.0
    assert tmr_at_fmr(mated, non_mated, 1e-2) == 0.0
    assert threshold(mated, non_mated, "fmr=0.025") == 0.985


def test_fmr_threshold_steps_over_tied_non_mated_scores() -> None:
    non_mated = np.repeat([0.5, 0.1], [10, 90])
    assert threshold(np.array([0.6, 0.4]), non_mated, "fmr=0.1") == 0.4
    assert threshold(np.array([0.6, 0.4]), non_mated, "fmr=0.05") == 0.6
    above = threshold(np.array([0.4]), non_mated, "fmr=0.05")
    assert above == np.nextafter(0.5, 1)
    assert not np.any(non_mated >= above)


@pytest.mark.parametrize("count", [1000, 3000, 7000])
def test_an_fmr_that_is_met_exactly_counts_as_met(count: int) -> None:
    """30 of 3000 is an FMR of 0.01, whatever the floats think of 1 - 0.99."""
    non_mated = np.arange(count) / count
    for fmr in (0.001, 0.01, 0.07, 0.29):
        level = threshold(np.array([2.0]), non_mated, f"fmr={fmr}")
        assert np.count_nonzero(non_mated >= level) == round(fmr * count)


@given(SCORES, SCORES, st.floats(0.01, 0.99))
def test_fmr_threshold_is_the_smallest_admissible_score(
    mated: np.ndarray, non_mated: np.ndarray, fmr: float
) -> None:
    assume(1 / len(non_mated) <= fmr)
    level = threshold(mated, non_mated, f"fmr={fmr!r}")
    assert np.mean(non_mated >= level) <= fmr
    scores = np.concatenate([mated, non_mated])
    assert all(np.mean(non_mated >= score) > fmr for score in scores[scores < level])


def test_an_fmr_beyond_the_resolution_is_refused() -> None:
    non_mated = np.linspace(0, 1, 300)
    with pytest.raises(UserError, match=r"fmr=0\.001 only with at least 1,000 .* has 300: "):
        threshold(np.array([0.5]), non_mated, "fmr=1e-3")


@pytest.mark.parametrize("count", [1, 7, 99, 100, 101, 300, 3000, 2_999_999])
def test_the_least_fmr_is_named_and_can_be_had(count: int) -> None:
    with pytest.raises(UserError) as error:
        check_rule(Rule("fmr", 1e-9), 5, count, "mine")
    match = re.search(r"'mine' has [\d,]+: the least is fmr=(\S+)\.$", str(error.value))
    assert match is not None
    least = float(match[1])
    assert 1 / count <= least <= 1.01 / count
    check_rule(Rule("fmr", least), 5, count, "mine")


@pytest.mark.parametrize(("mated", "non_mated"), [(0, 9), (9, 0), (0, 0)])
def test_a_rule_needs_pairs_of_both_kinds_and_a_given_threshold_none(
    mated: int, non_mated: int
) -> None:
    for kind, value in (("eer", None), ("accuracy", None), ("fmr", 0.5)):
        with pytest.raises(
            UserError, match=rf"by {kind} on 'mine', which has no usable .*--rule 0"
        ):
            check_rule(Rule(kind, value), mated, non_mated, "mine")
    check_rule(Rule("given", 0.3), mated, non_mated, "mine")


@given(SCORES, SCORES)
def test_accuracy_threshold_is_the_best_there_is(mated: np.ndarray, non_mated: np.ndarray) -> None:
    def right(level: float) -> float:
        return float(np.mean(mated >= level) + np.mean(non_mated < level))

    levels = np.concatenate([mated, non_mated])
    best = max(right(level) for level in [*levels, *np.nextafter(levels, np.inf)])
    assert right(threshold(mated, non_mated, "accuracy")) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("rule", ["eer", "accuracy", "fmr=0.5"])
@given(mated=SCORES, non_mated=SCORES)
def test_thresholds_shift_with_the_scores(
    rule: str, mated: np.ndarray, non_mated: np.ndarray
) -> None:
    assume(len(non_mated) >= 2)
    before = threshold(mated, non_mated, rule)
    after = threshold(mated + 2, non_mated + 2, rule)
    assert after == pytest.approx(before + 2, abs=1e-12)


def test_neighboring_floats_have_no_middle() -> None:
    low, high = 0.5, float(np.nextafter(0.5, 1))
    assert threshold(np.array([high]), np.array([low])) == high


@pytest.mark.parametrize(
    ("text", "rule", "canonical"),
    [
        ("eer", Rule("eer"), "eer"),
        ("accuracy", Rule("accuracy"), "accuracy"),
        ("fmr=1e-3", Rule("fmr", 1e-3), "fmr=0.001"),
        ("fmr = 0.010", Rule("fmr", 0.01), "fmr=0.01"),
        ("0.240", Rule("given", 0.24), "0.24"),
        ("-1", Rule("given", -1.0), "-1.0"),
        ("eer@faces/lfw", Rule("eer", None, "faces/lfw"), "eer@faces/lfw"),
        ("fmr=1e-2 @ my faces", Rule("fmr", 0.01, "my faces"), "fmr=0.01@my faces"),
    ],
)
def test_parse_rule(text: str, rule: Rule, canonical: str) -> None:
    assert parse_rule(text) == rule
    assert str(rule) == canonical
    assert parse_rule(canonical) == rule


def test_a_rule_is_shown_without_a_path() -> None:
    assert Rule("fmr", 0.01, "/home/me/faces/lfw").shown == "fmr=0.01@lfw"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("err", "@FOLDER, or a number. Got 'err'. Did you mean 'eer'?"),
        ("nan", "or a number. Got 'nan'."),
        ("24", "is a cosine and must be in [-1, 1]. Got 24."),
        ("0.4@lfw", "or a number. Got '0.4@lfw'."),
        ("eer@", "must name a face set after the '@'. Got 'eer@'."),
        ("fmr", "must be in (0, 1). Got ''."),
        ("fmr=one", "must be in (0, 1). Got 'one'."),
        ("fmr=0", "must be in (0, 1). Got '0'."),
        ("fmr=nan", "must be in (0, 1). Got 'nan'."),
        ("fmr=5", "must be in (0, 1). Got '5'. Did you mean fmr=0.05?"),
    ],
)
def test_wrong_rules(rule: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message) + "$"):
        parse_rule(rule)


@pytest.mark.parametrize(
    ("mated", "non_mated"), [([], [0.1]), ([0.1], []), ([np.nan], [0.1]), ([0.1], [np.inf])]
)
def test_scores_must_be_finite_and_of_both_kinds(
    mated: list[float], non_mated: list[float]
) -> None:
    for rule in ("eer", "accuracy", "fmr=0.5"):
        with pytest.raises(ValueError, match="finite scores of mated and of non-mated"):
            threshold(np.array(mated, dtype=float), np.array(non_mated, dtype=float), rule)


def test_guessing_is_told_from_a_recognizer_of_some_use() -> None:
    rng = np.random.default_rng(0)
    guessed = [eer(rng.normal(size=100), rng.normal(size=100)) for _ in range(500)]
    assert sum(map(tells_apart, guessed)) <= 15
    # Means two standard deviations apart: an equal error rate of Phi(-1) = 0.159.
    useful = [eer(rng.normal(2, size=20), rng.normal(size=20)) for _ in range(500)]
    assert sum(map(tells_apart, useful)) >= 495
    assert not tells_apart(eer(np.zeros(4), np.zeros(9)))


#: Fold 0: mated 0.9, 0.6, non-mated 0.5, 0.1. Fold 1: mated 0.8, 0.58, non-mated 0.3, 0.2.
FOLD_SCORES = np.array([0.9, 0.8, 0.6, 0.58, 0.5, 0.3, 0.1, 0.2])
FOLD_MATED = np.array([True, True, True, True, False, False, False, False])
FOLDS = np.array([0, 1, 0, 1, 0, 1, 0, 1])


def test_ten_fold_by_hand() -> None:
    result = ten_fold(FOLD_SCORES, FOLD_MATED, FOLDS)
    # Fold 1 alone is parted by (0.3, 0.58], fold 0 by (0.5, 0.6].
    assert result.thresholds == pytest.approx((0.44, 0.55), abs=1e-15)
    assert result.accuracies == (0.75, 1.0)
    assert result.mean == 0.875
    # std 0.25 / sqrt(2) with n - 1, over sqrt(2) folds
    assert result.standard_error == pytest.approx(0.125, abs=1e-15)


def test_a_folds_own_pairs_do_not_set_its_threshold() -> None:
    changed = FOLD_SCORES.copy()
    changed[FOLDS == 0] = [0.0, 0.01, 0.99, 1.0]
    assert ten_fold(changed, FOLD_MATED, FOLDS).thresholds[0] == pytest.approx(0.44, abs=1e-15)


def test_ten_fold_needs_two_folds() -> None:
    with pytest.raises(ValueError, match="at least 2 folds"):
        ten_fold(FOLD_SCORES, FOLD_MATED, np.zeros(8, dtype=int))


def test_refusing_everybody_gets_one_half_however_many_pairs_are_non_mated() -> None:
    """Two mated and eight non-mated pairs; the share of right decisions alone would be 0.8."""
    mated, fold = np.arange(10) < 2, np.array([0, 1, 0, 0, 0, 0, 1, 1, 1, 1])
    assert ten_fold(np.zeros(10), mated, fold).accuracies == (0.5, 0.5)
    # Fold 1 is parted at (0.5, 0.8] and fold 0 at (0.4, 0.6]; fold 0's mated 0.6 is refused.
    scores = np.array([0.6, 0.8, 0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.5])
    result = ten_fold(scores, mated, fold)
    assert result.thresholds == pytest.approx((0.65, 0.5), abs=1e-15)
    # (0 of 1 + 4 of 4) / 2, and (1 of 1 + 3 of 4) / 2: 0.5 itself is accepted.
    assert result.accuracies == (0.5, 0.875)


def test_verify_where_a_kind_of_pairs_is_missing() -> None:
    scores = np.array([0.25, 0.5, 0.5, 0.75])
    report = verify(scores, np.ones(4, dtype=bool), np.array([0, 1, 0, 1]), level=0.5)
    assert (report.threshold, report.tmr, report.mated_cosine) == (0.5, 0.75, 0.5)
    assert (report.eer, report.fmr, report.folds, report.tmr_at_fmr_1e2) == (None,) * 4
    mixed = verify(scores, np.array([True, False, True, True]), np.array([0, 0, 0, 1]))
    assert mixed.folds is None and mixed.eer is not None
    with pytest.raises(ValueError, match="Fold 1 needs mated and non-mated pairs"):
        ten_fold(FOLD_SCORES, FOLD_MATED, np.array([0, 1, 0, 2, 0, 2, 0, 2]))


def test_verify_reports_every_figure() -> None:
    report = verify(FOLD_SCORES, FOLD_MATED, FOLDS)
    assert (report.mated, report.non_mated, report.rule) == (4, 4, "eer")
    assert report.threshold == pytest.approx(0.54, abs=1e-15)
    assert (report.fmr, report.tmr, report.eer) == (0.0, 1.0, 0.0)
    assert report.folds == ten_fold(FOLD_SCORES, FOLD_MATED, FOLDS)
    assert report.tmr_at_fmr_1e2 is None
    assert report.tmr_at_fmr_1e3 is None
    assert report.mated_cosine == pytest.approx(0.72, abs=1e-15)
    assert report.non_mated_cosine == pytest.approx(0.275, abs=1e-15)


def test_verify_rates_at_a_threshold_of_another_rule() -> None:
    scores = np.concatenate([MATED, NON_MATED])
    report = verify(scores, np.arange(8) < 4, np.zeros(8, dtype=int), rule="fmr=0.5")
    assert report.threshold == 0.3
    assert (report.fmr, report.tmr) == (0.5, 1.0)
    assert report.folds is None


def test_verify_gives_the_tmr_where_the_list_is_long_enough() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0.5, 0.1, 400), rng.normal(0, 0.1, 999)])
    mated = np.arange(1399) < 400
    report = verify(scores, mated, np.arange(1399) % 10)
    assert report.tmr_at_fmr_1e2 == tmr_at_fmr(scores[:400], scores[400:], 0.01)
    _, fmr, fnmr = roc(scores[:400], scores[400:])
    assert report.tmr_at_fmr_1e2 == pytest.approx((1 - fnmr[fmr <= 0.01]).max(), abs=1e-15)
    assert report.tmr_at_fmr_1e3 is None


def people(*sizes: int) -> np.ndarray:
    return np.repeat([f"person{i:03d}" for i in range(len(sizes))], sizes)


@pytest.mark.parametrize("sizes", [(5,) * 40, (530, 2, 3, 1, 1, 4), (2, 2, 2)])
@pytest.mark.parametrize("count", [1, 12, 300])
def test_sampled_pairs_are_distinct_and_rightly_labeled(sizes: tuple[int, ...], count: int) -> None:
    identities = people(*sizes)
    pairs = sample_pairs(identities, count=count, seed=3)
    ends = np.sort(np.stack([pairs.first, pairs.second], axis=1), axis=1)
    assert len(np.unique(ends, axis=0)) == len(ends)
    assert np.all(ends[:, 0] < ends[:, 1])
    np.testing.assert_array_equal(identities[pairs.first] == identities[pairs.second], pairs.mated)
    every = math.comb(sum(sizes), 2)
    same = sum(math.comb(size, 2) for size in sizes)
    assert np.sum(pairs.mated) == min(count, same)
    assert np.sum(~pairs.mated) == min(count, every - same)
    assert pairs.missing == 0


def test_mated_pairs_are_even_over_people_as_far_as_they_reach() -> None:
    pairs = sample_pairs(people(530, 3, 3, 2, 1), count=20, seed=0)
    given_pairs = np.bincount(
        np.searchsorted([530, 533, 536, 538], pairs.first[pairs.mated], "right")
    )
    # 3 + 3 + 1 are all that three people have; the rest is left to the first.
    assert given_pairs.tolist() == [13, 3, 3, 1]
    shares = sample_pairs(people(*(6,) * 10), count=25, seed=0)
    counts = np.bincount(shares.first[shares.mated] // 6)
    assert sorted(counts.tolist()) == [2] * 5 + [3] * 5


def test_non_mated_pairs_are_even_over_people() -> None:
    pairs = sample_pairs(people(500, *(5,) * 9), count=200, seed=0)
    other = ~pairs.mated
    first_person = np.sum((pairs.first[other] < 500) | (pairs.second[other] < 500))
    # Of 45 pairs of people 9 hold the first, 40 of 200 with a deviation of 5.7; by images it
    # would be 192.
    assert 18 <= first_person <= 65


def test_all_non_mated_pairs_are_listed_when_few() -> None:
    pairs = sample_pairs(people(2, 1, 2), count=100, seed=0)
    other = ~pairs.mated
    ends = {(int(a), int(b)) for a, b in zip(pairs.first[other], pairs.second[other], strict=True)}
    assert ends == {(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4)}


def test_a_single_person_has_no_non_mated_pairs() -> None:
    pairs = sample_pairs(people(4), count=3, seed=0)
    assert pairs.mated.tolist() == [True] * 3


def test_sampled_pairs_depend_on_the_seed_alone() -> None:
    identities = people(*(4,) * 30)
    first, again, other = (sample_pairs(identities, count=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.first, again.first)
    np.testing.assert_array_equal(first.second, again.second)
    assert np.any(first.first != other.first)


def test_every_fold_of_sampled_pairs_has_both_kinds() -> None:
    few = sample_pairs(people(2, 2, 2), count=100, seed=1)
    assert np.bincount(few.fold[few.mated]).tolist() == [1, 1, 1]
    assert np.bincount(few.fold[~few.mated]).tolist() == [4, 4, 4]
    assert set(sample_pairs(people(4), count=3, seed=0).fold.tolist()) == {0}


def test_sampled_pairs_have_balanced_folds() -> None:
    pairs = sample_pairs(people(*(4,) * 30), count=60, seed=1)
    assert np.bincount(pairs.fold[pairs.mated]).tolist() == [6] * 10
    assert np.bincount(pairs.fold[~pairs.mated]).tolist() == [6] * 10
