from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from facefocus.core.errors import UserError
from facefocus.evaluation.strata import (
    NOSE_DEPTH,
    difference_p,
    photo_strata,
    pose,
    read_groups,
    sharpness,
)
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.faces.drawing.canvas import Pose, surface
from facefocus.faces.faceset import LANDMARK_COLUMNS, FaceSet, make_faceset


def small_set(photos: int = 6) -> FaceSet:
    frames = np.random.default_rng(0).integers(0, 256, (photos, 16, 16, 3), np.uint8)
    return make_faceset(
        frames, ["A", "A", "B", "B", "C", "C"][:photos], list("abcdef")[:photos], "s"
    )


@pytest.mark.parametrize("roll", [-30, 0, 75])
def test_a_turned_head_by_hand(roll: int) -> None:
    """The model's own projection: eyes at depth 0, the nose's tip `NOSE_DEPTH` in front of them."""
    yaw, turn = np.radians(25), np.radians(roll)
    points = np.array([[-0.5, 0], [0.5, 0], [0, 0.6], [-0.4, 1.2], [0.4, 1.2]])
    seen = points * [np.cos(yaw), 1]
    seen[2, 0] += NOSE_DEPTH * np.sin(yaw)
    turned = seen @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    angles = pose(40 * turned[None] + 100)
    assert angles.yaw[0] == pytest.approx(25) and angles.roll[0] == pytest.approx(roll)
    assert angles.nod[0] == pytest.approx(0.5)


def test_drawn_faces_are_ordered_by_their_pose() -> None:
    """Their noses are flatter than `NOSE_DEPTH`: angles come out too small, in the right order."""
    angles = np.linspace(-0.2, 0.2, 5)
    depth = surface(ARCFACE_TEMPLATE)
    yaws = pose(np.stack([Pose(yaw=a).move(ARCFACE_TEMPLATE, depth) for a in angles])).yaw
    nods = pose(np.stack([Pose(pitch=a).move(ARCFACE_TEMPLATE, depth) for a in angles])).nod
    assert (np.diff(yaws) > 0).all() and (np.diff(nods) > 0).all()
    assert abs(yaws[2]) < 1
    np.testing.assert_allclose(np.degrees(angles), yaws * (25 / 12), rtol=0.15, atol=0.5)


def test_blurred_frames_are_less_sharp() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[1, 1, 1] = 100
    # Laplacian of a single gray pixel of 100, edges mirrored (reflect 101): -400 at it, 100 at its
    # four neighbours, and 200 where the mirrored neighbour is the same pixel.
    flat, spotted = sharpness(frames)
    assert flat == 0 and spotted > 10_000


def test_strata_of_photos_have_bounds_in_their_names() -> None:
    faces = small_set()
    index = []
    for row, (offset, score) in enumerate(zip([0, 2, 11, 13, 33, 0], range(6), strict=True)):
        points = ARCFACE_TEMPLATE.copy()
        points[2, 0] = points[:2, 0].mean() + offset
        index.append(
            {
                "row": row,
                "score": score / 10,
                **dict(zip(LANDMARK_COLUMNS, points.ravel(), strict=True)),
            }
        )
    strata = photo_strata(faces, index, np.arange(6))
    yaw = {
        s.name.split(":")[0]: np.flatnonzero(s.photos).tolist()
        for s in strata
        if s.grouping == "yaw"
    }
    # tan 15 degrees * .683 * 35.24 px = 6.4 px, tan 40 = 20.2 px.
    assert yaw == {"frontal": [0, 1, 5], "half-profile": [2, 3], "profile": [4]}
    scores = {s.name: np.flatnonzero(s.photos).tolist() for s in strata if "score" in s.grouping}
    assert scores == {"up to 0.1667": [0, 1], "0.1667 to 0.3333": [2, 3], "above 0.3333": [4, 5]}
    # In memory there are no landmarks; eyes that are all as far apart make no strata.
    assert {s.grouping for s in photo_strata(faces, [], np.arange(6))} == {"sharpness"}
    assert "distance of the eyes, px" not in {s.grouping for s in strata}


def test_groups_of_people_and_of_images(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("identity,age,sex\nA,old,f\nB,young,\nZ,old,m\n")
    groups = {
        (s.grouping, s.name): np.flatnonzero(s.photos).tolist()
        for s in read_groups(path, small_set())
    }
    assert groups == {
        ("age", "old"): [0, 1],
        ("age", "young"): [2, 3],
        ("sex", "f"): [0, 1],
        ("sex", "m"): [],
    }
    path.write_text("image,light\na,day\nd,night\n")
    assert [np.flatnonzero(s.photos).tolist() for s in read_groups(path, small_set())] == [[0], [3]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,group\nA,x\n", "must be identity,GROUP or image,GROUP"),
        ("", "must be identity,GROUP or image,GROUP"),
        (
            "identity,group\nA,x\nA,y\n",
            "Line 3 of the groups .* gives 'A' other groups than a line",
        ),
        ("identity,group\nA\n", "Line 2 of the groups .* must have 2 cells. Got 1"),
        ("identity,group\nX,x\n", "must name people of 's'. Got 'X'"),
    ],
)
def test_wrong_groups_are_said(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_groups(path, small_set())


def test_people_on_both_sides_are_compared_with_themselves() -> None:
    names = [f"p{number}" for number in range(10)]
    outside = dict.fromkeys(names, 0.5)
    inside = {name: 0.5 + 0.01 * (number + 1) for number, name in enumerate(names)}
    # All 2^10 flips of signs; only the two with equal signs are as far from 0 as the sample.
    assert difference_p(inside, outside) == pytest.approx(2 / 2**10)


def test_people_on_one_side_are_permuted() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=22)
    inside = {f"a{n}": float(v) for n, v in enumerate(values[:10])}
    outside = {f"b{n}": float(v) for n, v in enumerate(values[10:])}
    expected = stats.ttest_ind(values[:10], values[10:]).pvalue
    assert difference_p(inside, outside) == pytest.approx(expected, abs=0.05)
    apart = {name: value + 10 for name, value in inside.items()}
    assert difference_p(apart, outside) <= 0.001
    assert difference_p(inside, outside, seed=1) == difference_p(inside, outside, seed=1)


def test_few_people_say_nothing() -> None:
    nine = {f"p{number}": 1.0 for number in range(9)}
    other = {f"q{number}": 0.0 for number in range(30)}
    assert np.isnan(difference_p(nine, other)) and np.isnan(difference_p(other, nine))
    assert np.isnan(difference_p(nine, {**nine, **other}))
