from __future__ import annotations

import numpy as np
import pytest

from facefocus.core.errors import UserError
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.faces.part_atlas import FACE_PARTS, PART_NAMES, PART_WORDS, areas, parts, shares
from facefocus.faces.sources.synthetic import render
from facefocus.saliency.landmark_atlas import PARTS


@pytest.mark.parametrize("side", [32, 112, 224])
def test_every_pixel_is_in_exactly_one_part(side: int) -> None:
    drawn = parts(side)
    assert tuple(drawn) == PART_NAMES == tuple(PART_WORDS)
    assert (np.sum(list(drawn.values()), axis=0) == 1).all()
    assert sum(areas(side).values()) == pytest.approx(1)
    for name, area in areas().items():
        assert areas(side)[name] == pytest.approx(area, abs=0.02)


def test_landmarks_lie_in_their_parts() -> None:
    drawn = parts()
    for (x, y), part in zip(
        ARCFACE_TEMPLATE.round().astype(int),
        ("eyes", "eyes", "nose", "mouth", "mouth"),
        strict=True,
    ):
        assert drawn[part][y, x]


@pytest.mark.parametrize(
    ("part", "y", "x"),
    [
        # By hand: the brow's line passes (37.3, 42.4) and reaches 4.5; the eye's 6.5 about 51.7.
        *(("brows", 38, 37), ("forehead", 37, 37), ("eyes", 57, 38), ("cheeks", 59, 38)),
        # The wings are at 75.7 from 46.5 to 65.5 and reach 6.5, the mouth 9 about 92.3.
        *(("nose", 82, 56), ("mouth", 84, 56), ("mouth", 101, 56), ("chin", 102, 56)),
        # The face is 36 wide about 55.5 at y = 60, the head 46; at y = 8 the face begins.
        *(("cheeks", 60, 20), ("hair-ears", 60, 19), ("hair-ears", 60, 10), ("background", 60, 9)),
        *(("forehead", 9, 56), ("hair-ears", 7, 56), ("background", 111, 0), ("chin", 111, 56)),
    ],
)
def test_outlines_by_hand(part: str, y: int, x: int) -> None:
    assert parts()[part][y, x]


def test_an_atlas_and_its_baselines_are_one_drawing() -> None:
    """Masks of a baseline grow around the part of the atlas that has its name."""
    from facefocus.saliency.landmark_atlas import atlas_map

    for part in PARTS:
        if part != "inner-face":
            highest = np.unravel_index(np.argmax(atlas_map(part, (112, 112))), (112, 112))
            assert parts()[part][highest]


def test_the_exact_parts_of_drawn_faces_lie_in_the_atlas() -> None:
    """Most pixels of a drawn part lie where the atlas has it; its area says what chance gives."""
    faces = [render("all", 1, person, 0).parts for person in range(30)]
    drawn = parts()

    def share(part: str, *inside: str) -> float:
        pixels = np.any([drawn[name] for name in inside], axis=0)
        inside_of, of = (
            sum(int((face[part] & pixels).sum()) for face in faces),
            sum(int(face[part].sum()) for face in faces),
        )
        return inside_of / of

    measured = {part: share(part, part) for part in ("brows", "eyes", "nose", "mouth")}
    for part, least in (("brows", 0.55), ("eyes", 0.55), ("nose", 0.65), ("mouth", 0.75)):
        assert measured[part] > least > 10 * areas()[part], measured
    assert share("mouth", "mouth", "chin", "nose") > 0.95
    assert share("eyes", "eyes", "brows", "cheeks") > 0.9
    assert share("hair", "hair-ears") > 2 * areas()["hair-ears"]
    assert share("skin", *FACE_PARTS) > 0.7
    covered = [face["hair"] | face["skin"] for face in faces]
    assert np.mean([mask[drawn["hair-ears"]].mean() for mask in covered]) > 0.85
    assert np.mean([mask[drawn["cheeks"]].mean() for mask in covered]) > 0.98


def test_shares_by_hand() -> None:
    mask = np.zeros((112, 112), bool)
    mask[51, 30:40] = mask[92, 41:71] = True
    by_part = shares(mask)
    assert (by_part["eyes"], by_part["mouth"], by_part["nose"]) == (0.25, 0.75, 0.0)
    values = np.full((112, 112), -3.0)
    values[51, 30], values[92, 50] = -2.0, 0.0
    by_part = shares(values)
    assert (by_part["eyes"], by_part["mouth"]) == (0.25, 0.75)
    assert shares(values)["eyes"] == pytest.approx(shares(10 * values + 7)["eyes"])


@pytest.mark.parametrize(
    "nothing", [np.zeros((112, 112), bool), np.ones((112, 112)), np.full((112, 112), np.nan)]
)
def test_what_orders_no_pixels_has_no_shares(nothing: np.ndarray) -> None:
    assert np.isnan(list(shares(nothing).values())).all()


def test_other_crops_are_refused() -> None:
    with pytest.raises(UserError, match=r"'arcface112' crops only\. Got frames of 160x160"):
        parts(160)
