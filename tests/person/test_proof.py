"""The proof by hand on tiny cases: folds, measures, controls, the choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy
from scipy import stats

from facefocus.evaluation.photo_risk import person_templates, template_thresholds
from facefocus.faces.faceset import make_faceset
from facefocus.person.other_people import (
    choose_strangers,
    pair_thresholds,
    who_is_the_person,
)
from facefocus.person.proof import (
    Fold,
    Judge,
    choose,
    control_masks,
    intervals_of,
    make_design,
    measured,
    shifted_within,
)
from tests.small import tiny_recognizer


def photos(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_no_photo_is_on_both_sides_nor_a_copy_of_one() -> None:
    frames = photos(9)
    frames[7] = frames[2]  # a copy: stays on the side of its original, and is no mate of it
    design = make_design(frames)
    assert design.crossed
    first, second = design.folds
    assert set(first.made_of) == set(second.tried_on) and set(first.tried_on) == set(second.made_of)
    assert not set(first.made_of) & set(first.tried_on)
    assert set(first.made_of) | set(first.tried_on) == set(range(9))
    assert (2 in first.made_of) == (7 in first.made_of)
    for fold in design.folds:
        # Whatever a hidden photo is compared with, the mask saw neither.
        assert not design.unseen[np.ix_(fold.tried_on, fold.made_of)].any()
    assert not design.unseen[2, 7] and not design.others[2, 7]
    assert not design.unseen.diagonal().any() and not design.others.diagonal().any()
    assert design.others.sum() == 9 * 8 - 2


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_photos_have_no_halves_and_masks_that_know_the_person_are_made_of_none(
    count: int,
) -> None:
    design = make_design(photos(count))
    assert not design.crossed
    (fold,) = design.folds
    assert not len(fold.made_of) and len(fold.tried_on) == count


def judge_of_three() -> Judge:
    """Three clean photos in the plane, two strangers; pairs match from .8, templates from .9."""
    return Judge(
        tiny_recognizer(),
        False,
        np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]]),
        np.array([[0.0, 1.0], [0.0, -1.0]]),
        np.array(["a", "b"]),
        {2: np.array([[0.0, 1.0], [0.0, -1.0]])},
        {"EER": 0.8},
        {2: {"EER": 0.9}},
        "by hand",
    )


def test_measures_are_those_worked_out_by_hand() -> None:
    hidden = np.array([[[0.6, 0.8], [0.0, 2.0], [0.6, 0.8]]])  # raw lengths do not matter
    measures = measured(judge_of_three(), hidden, ~np.eye(3, dtype=bool))
    # Photo 0 at (.6, .8) against (.8, .6): .96 and (.6, .8): 1; photo 1 at (0, 1) against (1, 0): 0
    # and (.6, .8): .8; photo 2 against (1, 0): .6 and (.8, .6): .96.
    np.testing.assert_allclose(measures["cosine", ""], [0.98, 0.4, 0.78])
    np.testing.assert_allclose(measures["pair", "EER"], [1, 0.5, 0.5])
    np.testing.assert_allclose(measures["any", "EER"], [1, 1, 1])
    # Templates: of photos 1, 2: (.7071, .7071); of 0, 2: (1.6, .8) / 1.789; of 0, 1: (1.8, .6) /
    # 1.897. Scores .990, .447, .822: the last is below .9.
    np.testing.assert_allclose(measures["template", "EER"], [1, 0, 0])
    # Strangers at (0, 1): .8, 1 and .8; the own template is nearer but for photo 1.
    np.testing.assert_allclose(measures["rank-1", ""], [1, 0, 1])
    np.testing.assert_allclose(measures["false-match", "EER"], [0.5, 0.5, 0.5])


def test_draws_are_averaged_by_photo_and_photos_without_a_mate_do_not_count() -> None:
    judge = judge_of_three()
    hidden = np.array([[[1.0, 0.0]] * 3, [[-1.0, 0.0]] * 3])
    compared = np.array([[False, True, False], [True, False, False], [False] * 3])
    measures = measured(judge, hidden, compared)
    np.testing.assert_allclose(measures["cosine", ""], [0, 0, np.nan])
    np.testing.assert_allclose(measures["any", "EER"], [0.5, 0.5, np.nan])
    assert ("template", "EER") not in measures  # no threshold for templates of one photo


def test_a_hidden_gallery_is_compared_with_in_the_place_of_the_clean_one() -> None:
    hidden = np.array([[[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])
    measures = measured(judge_of_three(), hidden, ~np.eye(3, dtype=bool), gallery=hidden[0])
    np.testing.assert_allclose(measures["cosine", ""], [0.5, 0.5, 0])


def test_counts_of_photos_have_exact_intervals() -> None:
    values = np.array([1.0, 0, 0, 0, 0, 0, np.nan])
    (interval,) = intervals_of([values], ["template"])
    exact = stats.binomtest(1, 6).proportion_ci(method="exact")
    assert (interval.value, interval.low, interval.high) == pytest.approx(
        (1 / 6, exact.low, exact.high)
    )
    # Means over draws are no counts.
    (mean,) = intervals_of([np.array([0.2, 0.4, 0.2, 0.4, 0.2, 0.4])], ["template"])
    student = stats.t.interval(0.95, 5, 0.3, np.std([0.2, 0.4] * 3, ddof=1) / np.sqrt(6))
    assert (mean.low, mean.high) == pytest.approx(student)


def test_the_best_on_one_half_counts_on_the_other() -> None:
    folds = Fold(np.array([0, 1]), np.array([2, 3])), Fold(np.array([2, 3]), np.array([0, 1]))
    # Candidate 0 is best on photos 0 and 1, candidate 1 on photos 2 and 3: each is tried where the
    # other one is best, so the figure is not flattered by the choice.
    scores = np.array([[0.1, 0.1, 0.9, 0.9], [0.8, 0.8, 0.2, 0.2]])
    assert choose(scores, folds).tolist() == [1, 1, 0, 0]
    # Without a second half, the best on all photos: .5 each, so the first; then the other one.
    everything = [Fold(np.array([], int), np.arange(4))]
    assert choose(scores, everything).tolist() == [0] * 4
    assert choose(scores - [[0] * 4, [0.1] * 4], everything).tolist() == [1] * 4


def test_controls_have_the_area_of_the_mask_and_stay_in_the_face() -> None:
    rng = np.random.default_rng(0)
    face = np.zeros((32, 32), bool)
    face[6:30, 4:28] = True
    mask = np.zeros((32, 32), bool)
    mask[8:14, 8:16] = True
    mask[0, :5] = True  # beside the face: put into it
    for draw in range(20):
        control = shifted_within(mask, face, np.random.default_rng(draw))
        assert control.sum() == mask.sum() and not (control & ~face).any()
    # A block that fits stays a block, somewhere else.
    block = np.zeros((32, 32), bool)
    block[8:12, 8:12] = True
    moved = shifted_within(block, face, rng)
    assert moved.sum() == 16 and (moved & block).sum() == 0
    whole = np.ones((32, 32), bool)
    assert shifted_within(whole, face, rng).all()
    # The half of a bar that is outside grows from what is left, which the torus may cut in two.
    bar = np.zeros((32, 32), bool)
    bar[10:12, 24:32] = True
    for draw in range(5):
        moved = shifted_within(bar, face, np.random.default_rng(draw))
        assert moved.sum() == 16 and scipy.ndimage.label(moved, np.ones((3, 3)))[1] <= 2


def test_a_shifted_mask_stays_whole_but_for_a_tenth_in_a_round_face() -> None:
    """The corners of the face's box are no face: shifts that land there are not drawn."""
    y, x = np.ogrid[:40, :40]
    face = (y - 20) ** 2 + (x - 20) ** 2 <= 15**2
    mask = np.zeros((40, 40), bool)
    mask[14:20, 14:20] = True
    for draw in range(30):
        moved = shifted_within(mask, face, np.random.default_rng(draw))
        assert moved.sum() == 36 and not (moved & ~face).any()
        kept = max(
            (moved & np.roll(mask, (down, right), axis=(0, 1))).sum()
            for down in range(40)
            for right in range(40)
        )
        assert kept >= 0.9 * 36


def test_a_control_is_drawn_for_each_half_from_its_mask() -> None:
    masks = np.zeros((4, 32, 32), bool)
    masks[:2, 10:14, 10:14] = True
    masks[2:, 20:22, 10:14] = True
    folds = Fold(np.array([2, 3]), np.array([0, 1])), Fold(np.array([0, 1]), np.array([2, 3]))
    other = np.zeros((32, 32), bool)
    other[:4, :4] = True
    whole = np.ones((32, 32), bool)
    drawn = control_masks(masks, folds, whole, "pixels", [other])
    assert drawn["shifted"].shape == (5, 4, 32, 32) and drawn["other"].shape == (1, 4, 32, 32)
    assert (drawn["shifted"].sum(axis=(2, 3)) == [16, 16, 8, 8]).all()
    assert (drawn["random"][:, 0] == drawn["random"][:, 1]).all()
    assert (drawn["random"][0, 0] != drawn["random"][1, 0]).any()
    # A random mask has the shape of the mask: 16 pixels in four cells of 2 x 2, or in 6 rectangles.
    cells = control_masks(masks, folds, whole, "cells", [])["random"]
    assert (cells[:, 0].reshape(5, 16, 2, 16, 2).all(axis=(2, 4)).sum(axis=(1, 2)) == 4).all()
    patches = control_masks(masks, folds, whole, "patches", [])["random"]
    assert (patches.sum(axis=(2, 3)) == [16, 16, 8, 8]).all()
    assert (scipy.ndimage.label(patches[0, 0])[1]) <= 6


# Other people -------------------------------------------------------------------------------------


def test_strangers_are_chosen_with_several_photos_first_and_the_same_for_everybody() -> None:
    people = [name for name, count in (("a", 12), ("b", 1), ("c", 6)) for _ in range(count)]
    faces = make_faceset(photos(19), people, [f"{n}" for n in range(19)], "mine")
    chosen = choose_strangers(faces)
    assert chosen.kind == "real" and chosen.title == "mine"
    assert [int((chosen.people == name).sum()) for name in "abc"] == [10, 1, 6]
    np.testing.assert_array_equal(chosen.frames, faces.frames[chosen.rows])
    drawn = make_faceset(photos(4), ["a"] * 4, list("1234"), "synthetic-eyes")
    assert not choose_strangers(drawn).serves(tiny_recognizer())
    assert chosen.serves(tiny_recognizer())


def test_the_person_is_found_among_the_strangers_by_a_picture_or_by_likeness() -> None:
    frames, faces = photos(3), photos(6, seed=1)
    faces[1] = frames[0]  # the same picture under another name
    strangers = choose_strangers(
        make_faceset(faces, ["x", "x", "y", "y", "z", "z"], list("123456"), "mine")
    )
    mine = np.array([[1.0, 0.0], [0.96, 0.28], [0.96, -0.28]])
    theirs = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [0.0, 1.0], [0.0, 1.0]])
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    # y's template is (1, 0), nearer than any two photos of two others are.
    assert who_is_the_person(strangers, frames, [mine], [theirs]) == ["x", "y"]
    np.testing.assert_allclose(person_templates(theirs, strangers.people)[1], [1, 0], atol=1e-12)
    first = person_templates(theirs, strangers.people, 1)
    np.testing.assert_allclose(first, theirs[::2], atol=1e-12)


def test_a_single_photo_of_the_person_among_the_strangers_is_found() -> None:
    """One photo is as near to the person's as these are to each other, less than a template is."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 3)
    centers = np.linalg.qr(rng.normal(size=(64, 41)))[0].T
    noisy = centers[people] + 0.1 * rng.normal(size=(120, 64))
    mine = centers[40] + 0.1 * rng.normal(size=(6, 64))
    lone = centers[40] + 0.1 * rng.normal(size=(1, 64))
    theirs = np.concatenate([noisy, lone])
    names = [f"p{number:02}" for number in people] + ["same"]
    strangers = choose_strangers(
        make_faceset(photos(121), names, [str(n) for n in range(121)], "mine")
    )
    theirs = theirs[strangers.rows]
    unit = [
        embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        for embeddings in (mine, theirs)
    ]
    assert who_is_the_person(strangers, photos(6, seed=5), [unit[0]], [unit[1]]) == ["same"]


def test_a_rate_that_pairs_do_not_have_is_left_out() -> None:
    judge = replace(judge_of_three(), by_template={2: {"EER": 0.9, "FMR 1e-3": 0.95}})
    measures = measured(judge, np.array([[[0.6, 0.8]] * 3]), ~np.eye(3, dtype=bool))
    assert ("template", "EER") in measures and ("template", "FMR 1e-3") not in measures


def test_thresholds_come_from_pairs_and_templates_of_other_people() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat([f"p{n}" for n in range(8)], 4)
    centers = np.repeat(np.eye(8), 4, axis=0)
    embeddings = centers + 0.05 * rng.normal(size=centers.shape)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert set(pair_thresholds(embeddings, people)) == {"EER"}  # 448 non-mated pairs: no FMR 1e-3
    assert 0.3 < pair_thresholds(embeddings, people)["EER"] < 0.95
    # Nobody has more than 4 photos: templates of 9 are judged as those of 3.
    assert template_thresholds(embeddings, people, 9) == template_thresholds(embeddings, people, 3)
    assert template_thresholds(embeddings[:8], people[:8], 2) == {}
