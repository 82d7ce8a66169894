from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facefocus.faces.agreement import AGREES, SEVERAL, agreeing, others_of, settled
from facefocus.faces.faceset import IndexRow
from facefocus.faces.parts import FrameLocation, Made, Parts

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def embeddings(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float64)


def test_the_face_with_the_highest_mean_cosine_agrees() -> None:
    others = [embeddings(NORTH), embeddings([3.0, 4.0])]
    # Cosines of east: 0 and .6, mean .3; of north: 1 and .8, mean .9; lengths do not count.
    assert agreeing(embeddings(EAST, [0.0, 7.0]), others) == 1
    assert agreeing(embeddings(NORTH, EAST), others) == 0


def test_of_another_photo_with_several_faces_the_most_alike_counts() -> None:
    # West finds itself in the first photo, and nothing in the second: (1 + 0) / 2 against (0 + 1) /
    # 2 of north, which is no clear difference, and east has none.
    others = [embeddings(WEST, NORTH), embeddings(NORTH)]
    assert agreeing(embeddings(WEST, EAST), others) == 0
    assert agreeing(embeddings(WEST, NORTH), others) == 1


def test_without_a_clear_difference_nothing_is_settled() -> None:
    near, nearer = [np.cos(0.5), np.sin(0.5)], [np.cos(0.4), np.sin(0.4)]
    # cos .4 - cos .5 = .043; cos .1 - cos .5 = .117.
    assert agreeing(embeddings(near, nearer), [embeddings(EAST)]) is None
    clear = [np.cos(0.1), np.sin(0.1)]
    assert agreeing(embeddings(near, clear), [embeddings(EAST)]) == 1
    assert agreeing(embeddings(NORTH, EAST), []) is None
    assert agreeing(embeddings([0.0, 0.0], [0.0, 0.0]), [embeddings(EAST)]) is None


def test_photos_of_one_face_are_asked_first() -> None:
    assert others_of([3, 1, 2, 1], 0) == [1, 3]
    assert others_of([3, 1, 2, 1], 1) == [3]
    assert others_of([3, 2, 2], 1) == [0, 2]
    assert others_of([1, 2], 0) == [1]
    assert others_of([2], 0) == []
    assert len(others_of([2, *[1] * 500], 0)) == 32


class Colors:
    """A recognizer whose embedding is the mean color."""

    name, fingerprint = "colors", "colors 1"

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, frames: np.ndarray) -> np.ndarray:
        self.embedded += len(frames)
        return np.asarray(frames.mean(axis=(1, 2)), np.float32)


RED, GREEN, BLUE = ((np.eye(3) * 250)[i] for i in range(3))


def made(identity: str, name: str, *colors: np.ndarray) -> Made:
    check = (SEVERAL,) if len(colors) > 1 else ()
    rows = [
        IndexRow(identity, name, name, score=0.9 - i / 10, check=check) for i in range(len(colors))
    ]
    return Made(tuple(rows), tuple(np.full((2, 2, 3), color, np.uint8) for color in colors))


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Al is red: alone twice, once second of two, once first of two. Bo has but one photo."""
    parts = Parts(tmp_path, (2, 2))
    parts.write(0, [made("Al", "1", RED), made("Al", "2", BLUE, RED, GREEN)])
    unusable = Made((IndexRow("Al", "3", "3", reason="no face found"),))
    parts.write(1, [unusable, made("Al", "4", RED, BLUE), made("Bo", "5", GREEN, BLUE)])
    return parts


def test_photos_of_several_faces_are_settled_by_the_person(parts: Parts) -> None:
    judge = Colors()
    steps: list[tuple[str, int, int]] = []
    chosen = settled(list(parts.photos()), parts, judge, lambda *step: steps.append(step))
    assert steps == [("agree", 4, 5), ("agree", 5, 5)]
    assert [row.name for row, _ in chosen] == ["1", "2", "3", "4", "5"]
    assert [row.check for row, _ in chosen] == [(), (AGREES,), (), (), (SEVERAL,)]
    assert chosen[1][0].score == pytest.approx(0.8)
    assert [location for _, location in chosen] == [
        FrameLocation(0, 0),
        FrameLocation(0, 2),
        None,
        FrameLocation(1, 0),
        FrameLocation(1, 2),
    ]
    for (_, location), color in zip(chosen, (RED, RED, None, RED, GREEN), strict=True):
        if location is not None:
            assert (parts.frame(location) == color).all()
    # Neither people of whom all photos are clear are embedded, nor those with a single photo.
    assert judge.embedded == 1 + 3 + 2
    judge.embedded = 0
    settled([photo for photo in parts.photos() if len(photo) == 1], parts, judge)
    assert judge.embedded == 0


def test_people_who_are_never_alone_are_settled_by_who_recurs(tmp_path: Path) -> None:
    parts = Parts(tmp_path, (2, 2))
    parts.write(
        0, [made("Al", "1", GREEN, RED), made("Al", "2", BLUE, RED), made("Al", "3", RED, BLUE)]
    )
    chosen = settled(list(parts.photos()), parts, Colors())
    # Red is on all three photos, blue on two: (1 + 1) / 2 against (1 + 0) / 2.
    assert all((parts.frame(location) == RED).all() for _, location in chosen if location)
