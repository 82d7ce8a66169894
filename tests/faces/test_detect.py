from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefocus.core.errors import UserError
from facefocus.faces import detect
from facefocus.faces.detect import (
    DETECTOR_SHA256,
    Face,
    FaceDetector,
    detector_model,
    find_faces,
    ranks,
    rivals,
    turned_box,
)
from tests.faces.pictures import face

# Where the detector looks -------------------------------------------------------------------------

#: Colors that `Dots` knows, in the order of the landmarks.
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))


class Dots:
    """A network that finds one face: dots of five colors, in a box from the first to the last."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def setInputSize(self, size: tuple[int, int]) -> None:
        self.sizes.append(size)

    def detect(self, bgr: np.ndarray) -> tuple[int, np.ndarray | None]:
        assert bgr.shape[1::-1] == self.sizes[-1]
        rgb = bgr[:, :, ::-1].astype(int)
        points = []
        for color in COLORS:
            y, x = np.nonzero(np.abs(rgb - color).sum(axis=2) < 30)
            if len(x) == 0:
                return 0, None
            points.append((x.mean(), y.mean()))
        low, high = np.min(points, axis=0), np.max(points, axis=0)
        # A box ends with the far border of its last pixel.
        row = [*low, *(high - low + 1), *np.ravel(points), 0.95]
        return 1, np.array([row], np.float32)


def dots(height: int, width: int, points: np.ndarray, size: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for color, (x, y) in zip(COLORS, points.astype(int), strict=True):
        image[y - size : y + size + 1, x - size : x + size + 1] = color
    return image


def detector_of_dots() -> tuple[FaceDetector, Dots]:
    detector = object.__new__(FaceDetector)
    network = Dots()
    detector._network = network  # type: ignore[assignment]
    return detector, network


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize(("side", "border"), [(640, 0.0), (300, 0.0), (240, 0.5), (100, 0.25)])
def test_faces_are_given_in_pixels_of_the_picture(turn: int, side: int, border: float) -> None:
    points = np.array([[250, 60], [350, 61], [300, 110], [260, 160], [340, 162]])
    detector, network = detector_of_dots()
    (detected,) = detector.detect(dots(300, 600, points, 9), side, border, turn)
    # Reduced to 100 pixels a center can be off by half of one of the copy, 3 of the picture.
    np.testing.assert_allclose(detected.landmarks, points, atol=600 / side / 2 + 0.51)
    np.testing.assert_allclose(detected.box, [250, 60, 101, 103], atol=600 / side + 1.01)
    assert detected.turn == turn
    assert detected.score == pytest.approx(0.95)
    longer = min(side, 600)
    copy = [longer + 2 * round(border * longer), longer // 2 + 2 * round(border * longer)]
    assert network.sizes == [tuple(copy if turn % 2 == 0 else copy[::-1])]


def test_a_large_copy_is_searched_square_by_square() -> None:
    points = np.array([[2300, 1500], [2340, 1501], [2320, 1530], [2305, 1560], [2338, 1561]])
    detector, network = detector_of_dots()
    detected = detector.detect(dots(2000, 3000, points, 2), 4096)
    assert max(map(max, network.sizes)) == 1280
    assert detected
    for detection in detected:
        np.testing.assert_allclose(detection.landmarks, points)


@given(length=st.integers(1, 6000), start=st.integers(0, 6000), size=st.integers(1, 192))
def test_every_small_face_lies_whole_in_a_square(length: int, start: int, size: int) -> None:
    start = min(start, max(0, length - size))
    tiles = [(low, min(low + 1280, length)) for low in detect._starts(length)]
    assert any(low <= start and min(start + size, length) <= high for low, high in tiles)
    assert all(low < high for low, high in tiles)


@given(turn=st.integers(0, 3), seed=st.integers(0, 1000))
def test_a_turned_box_holds_the_same_pixels(turn: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, y, w, h = draw.integers(0, 10), draw.integers(0, 5), draw.integers(1, 9), draw.integers(1, 5)
    image = np.zeros((12, 20), bool)
    image[y : y + h, x : x + w] = True
    box = turned_box(np.array([x, y, w, h], np.float64), turn, 12, 20)
    left, top, across, down = box.astype(int)
    expected = np.zeros_like(np.rot90(image, turn))
    expected[top : top + down, left : left + across] = True
    assert np.array_equal(np.rot90(image, turn), expected)


# Which face ---------------------------------------------------------------------------------------


def test_rank_is_size_times_sureness_times_place() -> None:
    # Middle of the picture: 40 * (0.79 - 0.3) / 0.7 = 28. A corner has distance 1: 0.3 remains.
    middle, corner = face(130, 80, 40, 40, 0.79), face(-30, -30, 60, 60, 1.0)
    np.testing.assert_allclose(ranks([middle, corner], 200, 300), [28.0, 60 * 0.3])
    # Half of the way along the width: (75, 0) of (150, 100), 75 / 180.28.
    side = face(205, 80, 40, 40, 1.0)
    np.testing.assert_allclose(ranks([side], 200, 300), [40 * (1 - 0.7 * 75 / np.hypot(150, 100))])


def test_a_passer_by_in_the_middle_does_not_beat_the_person() -> None:
    # Case 18: the old rule, area - 2 distance^2 in pixels, took the passer-by.
    person, passer_by = face(147, 582, 314, 381, 0.92), face(780, 570, 70, 80, 0.93)
    order = ranks([person, passer_by], 1200, 1600)
    assert order[0] > 2 * order[1]
    assert 314 * 381 - 2 * (496**2 + 172**2) < 70 * 80 - 2 * (15**2 + 10**2)


@given(scale=st.integers(1, 50), seed=st.integers(0, 100))
def test_resolution_changes_no_ratio_of_ranks(scale: int, seed: int) -> None:
    boxes = np.random.default_rng(seed).uniform(1, 200, (4, 4))
    small = ranks([face(*box) for box in boxes], 300, 400)
    large = ranks([face(*box) for box in boxes * scale], 300 * scale, 400 * scale)
    np.testing.assert_allclose(large, small * scale)


def test_rivals_have_a_share_of_the_first_ones_rank() -> None:
    faces = [face(100, 100, 100, 100), face(80, 100, 70, 70), face(120, 120, 30, 30)]
    # Ranks of 100, 60 and 26 times the sureness.
    assert rivals(faces, 300, 300, 0.5) == faces[:2]
    assert rivals(faces, 300, 300, 0.7) == faces[:1]
    assert rivals([], 300, 300, 0.5) == []


class Script(FaceDetector):
    """A detector that finds what is written down for a turn, side and border.

    From near it finds one face in the middle, with the score written down for a turn.
    """

    def __init__(
        self,
        shown: dict[tuple[int, int, float], list[Face]],
        near: dict[int, float],
        shape: tuple[int, int],
    ) -> None:
        self.shown, self.near, self.shape = shown, near, shape
        self.looks: list[tuple[int, int, float]] = []

    def detect(
        self, image: np.ndarray, side: int = 640, border: float = 0.0, turn: int = 0
    ) -> list[Face]:
        if image.shape[:2] == self.shape:
            self.looks.append((turn, side, border))
            return self.shown.get(self.looks[-1], [])
        height, width = image.shape[:2]
        if min(height, width) < 250:
            return []  # The surroundings of something that is nearly as large as the picture.
        middle = (width / 2 - 50, height / 2 - 50)
        return [face(*middle, 100, 100, self.near[turn], turn)] if turn in self.near else []


def search(
    shown: dict[tuple[int, int, float], list[Face]],
    height: int = 250,
    width: int = 250,
    near: dict[int, float] | None = None,
) -> tuple[list[Face], list[tuple[int, int, float]]]:
    script = Script(shown, near or {}, (height, width))
    image = np.zeros((height, width, 3), np.uint8)
    return find_faces(image, script), script.looks


def test_a_trusted_face_needs_one_look() -> None:
    sure, other = face(80, 80, 90, 90, 0.92), face(0, 0, 60, 60, 0.95)
    faces, looks = search({(0, 640, 0.0): [other, sure]})
    assert faces == [sure, other]
    assert looks == [(0, 640, 0.0)]


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_turned_photo_is_seen_upright(turn: int) -> None:
    # What YuNet gives for LFW: .9 upside down, .85 sideways.
    shown = {
        (way, 640, 0.0): [face(80, 80, 90, 90, 0.93 if way == turn else 0.89 - way / 50, way)]
        for way in range(4)
    }
    faces, looks = search(shown)
    assert (faces[0].turn, faces[0].score) == (turn, 0.93)
    assert [look[0] for look in looks] == [0, 1, 2, 3]


def test_upright_is_kept_unless_a_turn_is_clearly_better() -> None:
    upright = face(80, 80, 90, 90, 0.89)
    for score, turn in ((0.905, 0), (0.915, 2)):
        turned = face(80, 80, 90, 90, score, 2)
        faces, _ = search({(0, 640, 0.0): [upright], (2, 640, 0.0): [turned]})
        assert faces[0].turn == turn
    # A small sure thing that is only seen when the photo is turned is no reason to turn it.
    small = face(20, 20, 30, 30, 0.92, 2)
    assert search({(0, 640, 0.0): [upright], (2, 640, 0.0): [small]})[0][0].turn == 0


def test_a_doubtful_face_counts_only_if_it_is_one_from_near() -> None:
    # Something on a wall that is a face from afar, in a turn of its own.
    ghost = face(100, 100, 40, 40, 0.45, 1)
    shown = {(1, 640, 0.0): [ghost]}
    assert search(shown)[0] == []
    assert search(shown, near={1: 0.55})[0] == []
    (confirmed,) = search(shown, near={1: 0.9})[0]
    assert (confirmed.score, confirmed.turn) == (0.9, 1)
    np.testing.assert_allclose(confirmed.box, [100, 100, 40, 40], atol=0.2)
    # What the first look found upright stays where nothing is confirmed: a profile, a mask.
    profile = face(60, 60, 90, 90, 0.45)
    assert search({(0, 640, 0.0): [profile]})[0] == [profile]


@pytest.mark.parametrize(
    "box", [(-90, 100, 40, 40), (300, 300, 40, 40), (0, 249, 9000, 1), (-5000, -5000, 5001, 5001)]
)
def test_a_doubtful_face_beyond_the_edge_is_looked_at_all_the_same(
    box: tuple[int, int, int, int],
) -> None:
    beyond = face(*box, 0.4, 2)
    assert search({(2, 640, 0.0): [beyond]})[0] == []


def test_the_turn_of_a_small_face_is_that_of_its_highest_score_from_near() -> None:
    # LFW reduced to faces of 15 pixels: upright nothing or .4, in a wrong turn up to .69.
    upright, turned = face(120, 120, 15, 15, 0.4), face(120, 120, 15, 15, 0.69, 1)
    shown = {(0, 640, 0.0): [upright], (1, 640, 0.0): [turned]}
    for scores, turn in (
        ({0: 0.9, 1: 0.6, 2: 0.85}, 0),
        ({0: 0.88, 2: 0.89}, 0),
        ({0: 0.88, 2: 0.91}, 2),
        ({1: 0.8, 3: 0.9}, 3),
    ):
        (seen,) = search(shown, near=scores)[0]
        assert (seen.turn, seen.score) == (turn, scores[turn])


def test_a_face_that_fills_the_photo_is_looked_at_from_farther_away() -> None:
    # 1500 pixels of 1600 are 600 of 640; the close-up's copy has 240.
    misplaced, whole = face(50, 50, 1500, 1500, 0.84), face(0, 0, 1580, 1580, 0.94)
    shown = {(0, 640, 0.0): [misplaced], (0, 240, 0.5): [whole]}
    faces, looks = search(shown, 1600, 1600)
    assert faces == [whole]
    assert looks == [(0, 640, 0.0), (0, 240, 0.5)]
    # Cut off by the photo's edge, though not large.
    cut = face(-5, 50, 90, 90, 0.84)
    assert (0, 240, 0.5) in search({(0, 640, 0.0): [cut]})[1]


def test_small_faces_are_looked_for_on_larger_copies() -> None:
    small = face(900, 400, 28, 30, 0.92)
    faces, looks = search({(0, 4096, 0.0): [small]}, 1080, 1920)
    assert faces == [small]  # Trusted: not looked at from near.
    assert looks[-1] == (0, 4096, 0.0)
    # 60 pixels of 1920 are 20 of 640: what was found there is not left at that.
    rough, better = face(900, 400, 60, 60, 0.85), face(905, 402, 58, 62, 0.92)
    shown = {(0, 640, 0.0): [rough], (0, 1280, 0.0): [better]}
    faces, looks = search(shown, 1080, 1920)
    assert faces == [better]
    assert max(side for _, side, _ in looks) == 1280
    # A large face of middling score gains nothing from a larger copy, nor does a small photo.
    shown = {(0, 640, 0.0): [face(800, 400, 300, 300, 0.85)]}
    assert max(side for _, side, _ in search(shown, 1080, 1920)[1]) == 640
    assert max(side for _, side, _ in search({}, 600, 640)[1]) == 640


def test_a_photo_of_nobody() -> None:
    assert search({}, 3000, 4000)[0] == []
    assert search({}, 1, 1)[0] == []


def test_a_face_found_twice_counts_once() -> None:
    # 290 x 300 of 300 x 300 + 290 x 310 - 290 x 300 are shared; of the box beside nothing.
    surest, again = face(100, 100, 300, 300, 0.85), face(110, 95, 290, 310, 0.7)
    beside = face(500, 100, 60, 60, 0.8)
    assert detect._merged([again, beside, surest]) == [surest, beside]
    assert detect._shared(surest, again) == pytest.approx(87_000 / 92_900)
    assert detect._shared(surest, beside) == 0.0


def test_a_ghost_around_a_face_does_not_swallow_it() -> None:
    # Noise of 900 pixels with a score of .35 has a higher rank than a sure face of 28 pixels.
    ghost, small = face(500, 100, 900, 900, 0.35), face(900, 400, 28, 30, 0.9)
    shown = {(0, 640, 0.0): [ghost], (0, 4096, 0.0): [small]}
    assert ranks([ghost], 1080, 1920) > ranks([small], 1080, 1920)
    (only,) = search(shown, 1080, 1920, near={0: 0.92})[0]
    np.testing.assert_allclose(only.box, small.box, atol=1.1)


# The model ----------------------------------------------------------------------------------------


def test_another_file_than_yunet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "face_detection_yunet_2023mar.onnx"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError) as caught:
        detector_model(path)
    assert DETECTOR_SHA256 in str(caught.value)
    assert got in str(caught.value)


def test_an_absent_detector_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="No such file"):
        detector_model(tmp_path / "none.onnx")
    monkeypatch.setenv("FACEFOCUS_DATA", str(tmp_path))
    monkeypatch.setattr("facefocus.core.locations.cache_dir", lambda: tmp_path / "cache")
    with pytest.raises(UserError, match="YuNet was not found"):
        detector_model()
