from __future__ import annotations

import math

import numpy as np
import pytest

from facefocus.core.errors import UserError
from facefocus.occlusion.masks import top_pixels
from facefocus.saliency.baselines import baseline_map
from facefocus.saliency.explainer import MapSpec, Needs
from facefocus.saliency.landmark_atlas import PARTS, atlas_map
from facefocus.saliency.methods import METHODS, Baseline


def test_the_eyes_by_hand() -> None:
    saliency = atlas_map("eyes", (112, 112))
    # The left eye is 14 wide about (38.2946, 51.6963); (38, 52) lies beside it, below it by .3037.
    assert saliency[52, 38] == pytest.approx(51.6963 - 52, abs=1e-5)
    assert saliency[62, 40] == pytest.approx(51.6963 - 62, abs=1e-5)
    # Beyond the outer end, (31.2946, 51.6963); beyond the right eye's, (80.5318, 51.5014).
    assert saliency[51, 20] == pytest.approx(-math.hypot(11.2946, 0.6963), abs=1e-5)
    assert saliency[0, 111] == pytest.approx(-math.hypot(30.4682, 51.5014), abs=1e-5)


def test_a_sloping_brow_by_hand() -> None:
    # From (26.7946, 43.1963) to (47.7946, 41.6963): the distance is |cross product| / length.
    cross = 21 * (30 - 43.1963) - (-1.5) * (37 - 26.7946)
    expected = -abs(cross) / math.hypot(21, 1.5)
    assert atlas_map("brows", (112, 112))[30, 37] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("part", "y", "x", "distance"),
    [
        ("nose", 60, 60, 60 - 56.0252),  # beside the bridge
        ("nose", 80, 50, 80 - 75.7366),  # below the wings, 4 below the tip
        ("mouth", 92, 111, math.hypot(111 - 70.7299, 92.2041 - 92)),  # beyond a corner
    ],
)
def test_nose_and_mouth_by_hand(part: str, y: int, x: int, distance: float) -> None:
    assert atlas_map(part, (112, 112))[y, x] == pytest.approx(-distance, abs=1e-5)


def test_the_inner_face_is_the_nearest_of_all_parts() -> None:
    parts = [atlas_map(part, (112, 112)) for part in PARTS if part != "inner-face"]
    assert len(parts) == 4
    np.testing.assert_array_equal(atlas_map("inner-face", (112, 112)), np.max(parts, axis=0))


def test_places_scale_with_the_frame() -> None:
    """Pixel (x, y) of 112 is the middle of 2 x 2 pixels of 224, at twice the distance."""
    large, small = atlas_map("mouth", (224, 224)), atlas_map("mouth", (112, 112))
    assert large.reshape(112, 2, 112, 2)[20, :, 20].mean() == pytest.approx(
        2 * small[20, 20], abs=0.02
    )
    # Left of the mouth's left corner, (41.5493 + .5) * 2 - .5 = 83.5986 and 185.231.
    assert large[185, 10] == pytest.approx(-math.hypot(73.5986, 0.231), abs=1e-4)


def test_masks_grow_around_a_part_with_exact_areas() -> None:
    saliency = atlas_map("nose", (112, 112))
    masks = [top_pixels(saliency, k, np.random.default_rng(0)) for k in (125, 627, 2509)]
    assert [int(mask.sum()) for mask in masks] == [125, 627, 2509]
    assert not (masks[0] & ~masks[1]).any() and not (masks[1] & ~masks[2]).any()
    assert masks[0][72, 56] and not masks[2][111].any()


def test_an_atlas_is_the_same_for_everybody_and_drawn_once() -> None:
    for part in PARTS:
        method = METHODS[f"atlas-{part}"]
        assert isinstance(method, Baseline) and method.kind == "baseline"
        assert method.needs({}) == Needs(sources="none", photos="none")
        first, second = (
            baseline_map(method, (32, 32), seed=seed, identity=name)
            for seed, name in ((0, "Ann"), (1, "Bob"))
        )
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, atlas_map(part, (32, 32)))


@pytest.mark.parametrize("frame", [(160, 160), (112, 96)])
def test_other_crops_are_refused_before_any_work(frame: tuple[int, int]) -> None:
    spec = MapSpec("atlas-eyes", "atlas-eyes", ())
    with pytest.raises(UserError, match=r"'arcface112' crops only\. Got frames of"):
        METHODS["atlas-eyes"].explainer.check(spec, frame)
    METHODS["random"].explainer.check(MapSpec("random", "random", ()), frame)
