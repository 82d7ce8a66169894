from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from facefocus.benchmark.explained_images import MemoryImages
from facefocus.core.errors import UserError
from facefocus.core.progress import Progress, silent
from facefocus.faces.faceset import make_faceset, select_identities
from facefocus.models.recognizer import WhiteBox
from facefocus.models.score_only import ScoreRecognizer
from facefocus.saliency.explainer import MapArrays, MapRequest, MapSpec, Options
from facefocus.saliency.methods import METHODS, Method
from facefocus.saliency.pair_level import PairFrames, pair_level_maps, pair_method
from facefocus.saliency.photo_maps import (
    Photo,
    PhotoGradientMethod,
    PhotoScoreMethod,
    Score,
    Strangers,
    score_against,
)
from tests.saliency.photos import noise, of_red, photo, red

#: Embeds by the two red values themselves.
PLAIN = of_red(lambda x: x, 2)
NAMES = ["a", "a", "a", "b", "b", "c"]
FRAMES = np.stack([red(row) for row in ([3, 4], [1, 0], [0, 1], [4, 3], [5, 5], [9, 9])])


def maps_of(method: Method, people: Sequence[str] = "ab", progress: Progress = silent) -> MapArrays:
    faces = make_faceset(FRAMES, NAMES, [str(row) for row in range(6)], "few")
    images = MemoryImages(faces, {"of-red": PLAIN}, 0, np.arange(5))
    chosen = select_identities(faces, people=list(people))
    spec = MapSpec(label="tried", method="tried", options=())
    # Twice: progress goes on from one to the next.
    request = MapRequest([spec, spec], ["of-red"], chosen, images)
    with METHODS.holding(method):
        ((_, made), *_) = method.explainer.maps(request, progress)
    return made


def reference_and_stranger(
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> np.ndarray:
    """A map whose two pixels are what a method was given."""
    return np.stack(
        [
            photo.reference[None] if photo.gallery is None else photo.stranger[None]
            for photo in photos
        ]
    )


def gradient_method(*, each_pair: bool = False, gallery: bool = False) -> PhotoGradientMethod:
    return PhotoGradientMethod(
        "tried",
        reference_and_stranger,
        1,
        passes=lambda options: (1, 1),
        each_pair=each_pair,
        gallery=gallery,
    )


def test_a_photo_is_compared_with_the_mean_of_the_others() -> None:
    # Of a, the others' means are (.5, .5), flat and left out, (.3, .9) and (.8, .4); of b, the
    # other's unit is (.7, .7), flat, or (.8, .6).
    made = maps_of(gradient_method())
    np.testing.assert_allclose(made.maps[0, 0], [0.5, 0.5])  # mean of scaled (0, 1) and (1, 0)
    np.testing.assert_allclose(made.maps[1, 0], [1.0, 0.0])
    assert made.total.tolist() == [3, 2] and made.degenerate.tolist() == [1, 1]


def test_progress_is_in_passes_of_all_that_is_asked_for() -> None:
    reported: list[tuple[int, int]] = []
    maps_of(gradient_method(), progress=lambda stage, done, total: reported.append((done, total)))
    # Five photos, each embedded, a forward and a backward pass; twice.
    assert reported == [(done, 30) for done in (3, 6, 9, 12, 15, 18, 21, 24, 27, 30)]


def test_or_with_each_of_them() -> None:
    made = maps_of(gradient_method(each_pair=True))
    # Every photo of a is a reference twice: (.6, .8) and (0, 1) are (0, 1) when scaled.
    np.testing.assert_allclose(made.maps[0, 0], [1 / 3, 2 / 3], rtol=1e-6)
    assert made.total.tolist() == [6, 2] and made.degenerate.tolist() == [0, 1]


def test_the_stranger_is_the_most_similar_photo_of_somebody_else() -> None:
    strangers = Strangers(np.array([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]]), ["a", "b", "c"])
    own = photo(noise()[0], [1.0, 0.0])
    for unit, nearest in (([0.6, 0.8], [0.8, 0.6]), ([0.0, 1.0], [0.0, 1.0])):
        seen = replace(own, unit=np.array(unit), gallery=strangers.beside("a"))
        assert seen.stranger.tolist() == nearest
    with pytest.raises(UserError, match="found none beside 'a'"):
        Strangers(np.ones((1, 2)), ["a"]).beside("a")
    # Who is explained changes no stranger.
    both, alone = (
        maps_of(gradient_method(gallery=True)),
        maps_of(gradient_method(gallery=True), people="b"),
    )
    assert np.array_equal(both.maps[1], alone.maps[0])


def of_scores(photo: Photo, score: Score, options: object) -> np.ndarray:
    assert photo.hide is not None
    each = np.array([[[True, False]], [[False, True]]])
    drops: np.ndarray = -score(photo.hidden(each))[None]
    return drops


@pytest.mark.filterwarnings("ignore:invalid value")
def test_scores_are_mean_cosines_under_black() -> None:
    made = maps_of(PhotoScoreMethod("tried", of_scores, 1, passes=lambda options, frame: 2))
    # b (4, 3) against (5, 5): without one pixel both cosines are 1 / sqrt 2, and so is the other
    # way round against (.8, .6): .6 without the first pixel, .8 without the second.
    assert made.total.tolist() == [3, 2] and made.degenerate[1] == 1
    np.testing.assert_allclose(made.maps[1, 0], [1.0, 0.0], rtol=1e-6)


def test_a_recognizer_that_only_compares_gives_its_mean_score() -> None:
    def similarity(first: np.ndarray, second: np.ndarray) -> float:
        return float(first[0, 0, 0]) - float(second[0, 0, 0])

    score = score_against(ScoreRecognizer("mine", similarity, identity="1"), FRAMES[:2])
    assert score(FRAMES[3:5]).tolist() == [2.0, 3.0]  # 4 - (3 + 1) / 2, 5 - 2


@pytest.mark.parametrize("name", ["integrated-gradients", "smoothgrad"])
def test_pairs_have_maps(name: str) -> None:
    from tests.small import tiny_recognizer

    frames, rows = noise(count=4), np.array([0, 1, 3])
    names = np.array([f"image {row}" for row in range(4)])
    pairs = PairFrames(frames, names, rows, (rows + 1) % 4, np.ones(3, bool), names)
    made = pair_level_maps(pair_method(name, "N"), tiny_recognizer(), pairs, 0, silent)
    assert made.maps.shape == (3, 32, 32) and made.degenerate == 0
    np.testing.assert_allclose(made.maps.max(axis=(1, 2)), 1)
    single = PairFrames(frames, names, rows[1:2], (rows + 1)[1:2], np.ones(1, bool), names)
    alone = pair_level_maps(pair_method(name, "N"), tiny_recognizer(), single, 0, silent)
    assert np.array_equal(alone.maps[0], made.maps[1])
