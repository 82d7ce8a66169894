"""Nuisances and repair, against other libraries and by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.evaluation.nuisances import (
    NUISANCES,
    alignment,
    guessed_places,
    nuisance_rng,
    seen_under,
)
from facefocus.faces.sources.synthetic import render
from facefocus.occlusion.fills import fill_rng, hider

NAMES = [f"Ada_{photo:04d}" for photo in range(12)]
NOISE = generator(0, "test").integers(0, 256, (12, 20, 16, 3), dtype=np.uint8)
NOTHING = np.zeros((20, 16), bool)
PATCH = NOTHING.copy()
PATCH[6:11, 4:9] = True


def seen(
    nuisance: str, frames: np.ndarray, mask: np.ndarray, fill: str = "black", seed: int = 0
) -> np.ndarray:
    names = NAMES[: len(frames)]
    return seen_under(
        nuisance,
        frames,
        mask,
        fill,
        hide=lambda fill: hider(fill, frames, [fill_rng(seed, name) for name in names]),
        rngs=[nuisance_rng(seed, nuisance, name) for name in names],
    )


def blank(frames: np.ndarray) -> np.ndarray:
    return np.zeros(frames.shape[1:3], bool)


@pytest.mark.parametrize("pixels", [1, 2, 3, 6])
def test_a_shift_moves_each_photo_one_of_four_ways_and_repeats_the_edge(pixels: int) -> None:
    padded = np.pad(NOISE, ((0, 0), (pixels,) * 2, (pixels,) * 2, (0, 0)), "edge")
    ways = [(0, pixels), (2 * pixels, pixels), (pixels, 0), (pixels, 2 * pixels)]
    taken = []
    for photo, shifted in enumerate(seen(f"shift-{pixels}", NOISE, NOTHING)):
        same = [(shifted == padded[photo, y : y + 20, x : x + 16]).all() for y, x in ways]
        assert sum(same) == 1
        taken.append(same.index(True))
    assert len(set(taken)) > 2


def test_clean_and_hidden_photos_are_moved_alike() -> None:
    frames = NOISE // 2 + 100
    moved, clean = seen("shift-3", frames, PATCH), seen("shift-3", frames, NOTHING)
    hidden = (moved == 0).all(axis=-1)
    assert hidden.sum(axis=(1, 2)).tolist() == [25] * 12
    assert (moved == clean)[~hidden].all()


def test_a_mask_beside_its_place_leaves_the_face_where_it_is() -> None:
    frames = NOISE // 2 + 100
    moved = seen("mask-shift-2", frames, PATCH)
    hidden = (moved == 0).all(axis=-1)
    assert (moved == frames)[~hidden].all()
    ways = [np.roll(PATCH, 2 * way, axis) for way in (1, -1) for axis in (0, 1)]
    assert all(sum((photo == way).all() for way in ways) == 1 for photo in hidden)
    assert (seen("mask-shift-2", frames, NOTHING) == frames).all()


def test_what_a_misplaced_mask_leaves_over_the_edge_hides_nothing() -> None:
    corner = NOTHING.copy()
    corner[:2, :2] = True
    hidden_pixels = (
        (seen("mask-shift-2", NOISE // 2 + 100, corner) == 0).all(axis=-1).sum(axis=(1, 2))
    )
    assert set(hidden_pixels.tolist()) == {0, 4}


@pytest.mark.parametrize(
    ("nuisance", "values"), [("scale", (0.97, 1.03)), ("rotate", (np.deg2rad(4), -np.deg2rad(4)))]
)
def test_scale_and_rotation_are_about_the_middle(
    nuisance: str, values: tuple[float, float]
) -> None:
    face = render("all", 0, 0, 0).frame
    frames = np.stack([face] * 12)
    wanted = []
    for value in values:
        scale, angle = (value, 0.0) if nuisance == "scale" else (1.0, value)
        # From (row, column) of the result to the photo: counterclockwise as seen, rows downwards.
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        back = turn.T / scale
        middle = np.array([55.5, 55.5])
        channels = [
            ndimage.affine_transform(
                face[..., channel].astype(float),
                back,
                middle - back @ middle,
                order=1,
                mode="nearest",
            )
            for channel in range(3)
        ]
        wanted.append(np.stack(channels, axis=-1))
    taken = set()
    for changed in seen(nuisance, frames, blank(frames)):
        # OpenCV places pixels to 1/32 px.
        gaps = [np.abs(changed - expected).mean() for expected in wanted]
        assert min(gaps) < 0.5 < max(gaps)
        taken.add(int(np.argmin(gaps)))
    assert taken == {0, 1}


def test_an_alignment_stays_within_its_bounds_and_reaches_them() -> None:
    drawn = np.stack([alignment(generator(0, "test", n), 112, 112) for n in range(300)])
    scale = np.hypot(drawn[:, 0, 0], drawn[:, 0, 1])
    angle = np.rad2deg(np.arctan2(drawn[:, 0, 1], drawn[:, 0, 0]))
    shift = (drawn @ [55.5, 55.5, 1.0]) - 55.5
    for values, low, high in [(scale, 0.97, 1.03), (angle, -4, 4), (shift, -3, 3)]:
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high


@pytest.mark.parametrize("quality", [90, 75, 50, 10])
def test_jpeg_is_what_pillow_reads_back(quality: int) -> None:
    frame = render("all", 0, 1, 0).frame
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    compressed = seen(f"jpeg-{quality}", frame[None], blank(frame[None]))[0]
    gap = np.abs(compressed.astype(int) - np.asarray(Image.open(file)).astype(int))
    assert gap.mean() < 0.3
    assert (compressed != frame).any()


def test_half_the_resolution_averages_squares_of_four() -> None:
    frame = np.zeros((1, 4, 4, 3), np.uint8)
    frame[0, :2, :2] = [[[10], [20]], [[30], [60]]]  # mean 30
    reduced = seen("half", frame, blank(frame))
    # Back by bilinear interpolation: three quarters of the nearest small pixel, a quarter of the
    # next; at the edge the small pixel itself.
    across = np.array([1, 0.75, 0.25, 0])
    assert np.abs(reduced[0, ..., 0] - 30 * np.outer(across, across)).max() <= 0.5
    assert seen("half", NOISE[:2, :19, :15], blank(NOISE[:2, :19, :15])).shape == (2, 19, 15, 3)


def test_blur_is_scipys_gaussian_of_sigma_1() -> None:
    blurred = seen("blur", NOISE, NOTHING)
    wanted = ndimage.gaussian_filter(NOISE.astype(float), (0, 1, 1, 0), mode="reflect")
    assert np.abs(blurred - wanted).max() < 0.51


@pytest.mark.parametrize("side", [3, 5])
def test_median_is_scipys(side: int) -> None:
    wanted = ndimage.median_filter(NOISE, (1, side, side, 1), mode="nearest")
    assert (seen(f"median-{side}", NOISE, NOTHING) == wanted).all()


def test_median_undoes_single_pixels() -> None:
    frames = np.full((1, 20, 16, 3), 90, np.uint8)
    dots = NOTHING.copy()
    dots[1::4, 1::4] = True
    assert (seen("median-3", frames, dots) == 90).all()
    assert (seen("half", frames, dots) != 90).any()


@pytest.mark.parametrize("fill", ["black", "random", "blur"])
def test_told_repair_is_the_fill_inpaint_whatever_hid_the_face(fill: str) -> None:
    wanted = hider("inpaint", NOISE, [generator(0, "no draw")] * 12)(PATCH)
    assert (seen("inpaint-told", NOISE, PATCH, fill) == wanted).all()
    assert (seen("inpaint-told", NOISE, NOTHING, fill) == NOISE).all()


@pytest.mark.parametrize("fill", ["black", "white", "mean"])
def test_a_constant_fill_gives_itself_away(fill: str) -> None:
    frames = NOISE // 2 + 60  # neither black nor white occurs
    repaired = seen("inpaint-told", frames, PATCH, fill)
    assert (seen("inpaint-guessed", frames, PATCH, fill) == repaired).all()


@pytest.mark.parametrize("fill", ["random", "blur", "inpaint", "linear"])
def test_other_fills_do_not_give_themselves_away(fill: str) -> None:
    hidden = hider(fill, NOISE, [fill_rng(0, name) for name in NAMES])(PATCH)
    assert (seen("inpaint-guessed", NOISE, PATCH, fill) == hidden).all()


def test_natural_pixels_of_the_color_are_taken_for_hidden_but_others_are_not() -> None:
    frames = np.full((1, 20, 16, 3), 90, np.uint8)
    frames[0, 2, 2] = 0
    frames[0, 15, 3] = (0, 0, 1)
    guessed = guessed_places(frames, "black")
    assert np.argwhere(guessed).tolist() == [[0, 2, 2]]
    cleaned = seen("inpaint-guessed", frames, NOTHING)
    assert cleaned[0, 2, 2].tolist() == [90, 90, 90]
    assert cleaned[0, 15, 3].tolist() == [0, 0, 1]


def test_the_color_of_a_mean_fill_is_the_most_frequent_one() -> None:
    frames = NOISE.copy()
    hidden = hider("mean", frames, [fill_rng(0, name) for name in NAMES])(PATCH)
    # The mean of the hidden photo is another color than the mean of the photo.
    means = hider("mean", hidden, [fill_rng(0, name) for name in NAMES])(PATCH)
    assert (means != hidden).any()
    assert (guessed_places(hidden, "mean") == PATCH).all()


def test_another_fill_hides_in_the_place_of_the_first() -> None:
    white = seen("refill-white", NOISE, PATCH)
    assert (white == np.where(PATCH[..., None], 255, NOISE)).all()
    blurred = hider("blur", NOISE, [fill_rng(0, name) for name in NAMES])(PATCH)
    assert (seen("refill-blur", NOISE, PATCH) == blurred).all()


def test_a_hidden_gallery_changes_no_probe() -> None:
    assert [name for name in NUISANCES if NUISANCES[name].gallery] == ["gallery"]
    assert (seen("gallery", NOISE, PATCH) == np.where(PATCH[..., None], 0, NOISE)).all()


def test_draws_depend_on_the_seed_the_nuisance_and_the_photo() -> None:
    first, second = (seen("align", NOISE, PATCH, seed=seed) for seed in (0, 1))
    assert (first == seen("align", NOISE, PATCH)).all()
    assert (first != second).any(axis=(1, 2, 3)).all()


def test_an_unknown_nuisance_is_refused() -> None:
    with pytest.raises(UserError, match=r"No nuisance is called 'medain-3'.*Did you mean"):
        seen("medain-3", NOISE, PATCH)
