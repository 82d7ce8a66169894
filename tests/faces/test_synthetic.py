"""Synthetic faces: where identity lives is known, and the masks say so to the pixel."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facefocus.core.errors import UserError
from facefocus.faces.drawing import canvas as drawing
from facefocus.faces.drawing import traits as traits
from facefocus.faces.drawing.features import Eyes
from facefocus.faces.faceset import check_files, open_faceset
from facefocus.faces.sources import synthetic

SINGLE = tuple(world for world in synthetic.WORLDS if world != "all")
FEATURES = ("eyes", "brows", "nose", "mouth", "marks")


def _uncompressed(genes: synthetic.Genes, shot: synthetic.Photo) -> np.ndarray:
    canvas = synthetic._paint(genes, shot)
    return synthetic._develop(canvas, genes, shot).astype(np.int64)


def _supports(genes: synthetic.Genes, shot: synthetic.Photo) -> dict[str, np.ndarray]:
    return synthetic._supports(synthetic._paint(genes, shot))


# --- worlds ---------------------------------------------------------------------------------------


def test_planted_names_the_parts_of_a_world() -> None:
    assert synthetic.planted("nose") == ("nose",)
    assert synthetic.planted("all") == synthetic.PARTS


def test_unknown_world_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"Got 'nse'\. Did you mean 'nose'\?"):
        synthetic.render("nse", 0, 0, 0)


@pytest.mark.parametrize("world", SINGLE)
def test_only_the_planted_part_is_the_persons_own(world: str) -> None:
    first, _ = synthetic._draw((world,), 3, 5, 0)
    second, _ = synthetic._draw((world,), 3, 5, 1)
    other, _ = synthetic._draw((world,), 3, 6, 0)
    for part in synthetic.PARTS:
        assert np.array_equal(first[part], second[part]) == (part == world)
        assert not np.array_equal(first[part], other[part])


def test_in_world_all_every_part_is_the_persons_own() -> None:
    first, shot = synthetic._draw(synthetic.PARTS, 3, 5, 0)
    second, other_shot = synthetic._draw(synthetic.PARTS, 3, 5, 1)
    assert all(np.array_equal(first[part], second[part]) for part in synthetic.PARTS)
    assert shot.camera != other_shot.camera
    assert shot.expression != other_shot.expression


@pytest.mark.parametrize("world", SINGLE)
def test_other_parts_tell_nothing_about_the_person(world: str) -> None:
    """Between two photos of a person, and with the planted part, nothing correlates.

    Of 400 people a correlation has a standard error of 0.05; over all traits the mean of its
    square is 1/400 if they are independent.
    """
    people = range(400)
    own = (world,)
    first = [synthetic._draw(own, 1, person, 0)[0] for person in people]
    second = [synthetic._draw(own, 1, person, 1)[0] for person in people]
    others = [part for part in synthetic.PARTS if part != world]

    def table(genes: list[synthetic.Genes], parts: list[str]) -> np.ndarray:
        rows = np.array([np.concatenate([g[part] for part in parts]) for g in genes])
        return np.asarray((rows - rows.mean(axis=0)) / rows.std(axis=0))

    again = (table(first, others) * table(second, others)).mean(axis=0)
    assert np.mean(again**2) == pytest.approx(1 / 400, rel=0.4)
    with_planted = table(first, [world]).T @ table(first, others) / len(people)
    assert np.mean(with_planted**2) == pytest.approx(1 / 400, rel=0.2)


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", synthetic.PARTS)
def test_a_parts_traits_change_pixels_inside_its_mask_only(part: str) -> None:
    """Two people's versions of one part under the same circumstances, before compression."""
    changed = 0
    for person in range(5):
        genes, shot = synthetic._draw(synthetic.PARTS, 3, person, 0)
        other, _ = synthetic._draw(synthetic.PARTS, 3, person + 100, 0)
        swapped = {**genes, part: other[part]}
        change = np.abs(_uncompressed(genes, shot) - _uncompressed(swapped, shot)).max(axis=-1)
        inside = _supports(genes, shot)[part] | _supports(swapped, shot)[part]
        # What lies over a part may round otherwise on it: one gray level, on a handful of pixels.
        assert change[~inside].max() <= 1
        assert np.count_nonzero(change[~inside]) <= 4
        changed += int(np.count_nonzero(change > 3))
    assert changed > 500


@pytest.mark.parametrize("part", FEATURES)
def test_hiding_the_masks_hides_the_part(part: str) -> None:
    """With both masks painted over, two people's pictures are the same."""
    genes, shot = synthetic._draw(synthetic.PARTS, 4, 0, 0)
    other, _ = synthetic._draw(synthetic.PARTS, 4, 1, 0)
    swapped = {**genes, part: other[part]}
    hidden = _supports(genes, shot)[part] | _supports(swapped, shot)[part]
    first, second = _uncompressed(genes, shot), _uncompressed(swapped, shot)
    assert (first != second).any()
    first[hidden] = second[hidden] = 0
    assert np.array_equal(first, second)


@pytest.mark.parametrize("world", synthetic.WORLDS)
def test_masks_are_there_and_no_larger_than_their_part(world: str) -> None:
    """In share of the frame; a feature is a small part of the face."""
    for photo in range(6):
        parts = synthetic.render(world, 2, 7, photo).parts
        assert tuple(parts) == synthetic.PARTS
        for part in FEATURES:
            assert 0.005 < parts[part].mean() < 0.13
        assert 0.25 < parts["skin"].mean() < 0.85


def test_features_lie_where_the_template_has_them() -> None:
    """The mean mask of many faces is centered on the ArcFace template, within 3 px."""
    wanted = {"eyes": (55.9, 51.6), "nose": (56.0, 66.0), "mouth": (56.1, 92.3)}
    faces = [synthetic.render("all", 5, person, 0) for person in range(60)]
    for part, (x, y) in wanted.items():
        share = synthetic.mean_mask(np.stack([face.parts[part] for face in faces]))
        assert (share.sum(axis=0) @ np.arange(112)) / share.sum() == pytest.approx(x, abs=3)
        assert (share.sum(axis=1) @ np.arange(112)) / share.sum() == pytest.approx(y, abs=3)


def test_marks_have_no_place_of_their_own() -> None:
    """No pixel carries marks in half of the photos, but some do in every photo of one person."""
    many = synthetic.render_many("marks", 0, range(200), 1).truth["marks"]
    assert synthetic.mean_mask(many).max() < 0.45
    people, photos = 20, 4
    rendered = synthetic.render_many("marks", 0, range(people), photos)
    masks = rendered.truth["marks"].reshape(people, photos, 112, 112)
    own = [synthetic.mean_mask(person).max() for person in masks]
    assert np.mean(np.array(own) == 1.0) > 0.9


def test_opaque_hair_takes_pixels_from_the_brows() -> None:
    """A part's mask leaves out what is covered whole."""
    canvas = drawing.Canvas(np.zeros((3, 224, 224), np.uint8), ("brows", "hair"))
    brow = np.array([(20.0, 40.0), (60.0, 40.0), (60.0, 50.0), (20.0, 50.0)])
    half = brow - (20.0, 0.0)
    flat = drawing.Pose()
    canvas.paint([drawing.Shape((brow,), (9, 9, 9), "brows", flat=26.0)], flat)
    assert canvas.mask("brows")[90, 100] == 255
    canvas.paint([drawing.Shape((half,), (200, 9, 9), "hair", flat=26.0)], flat)
    assert canvas.mask("brows")[90, 60] == 0
    assert canvas.mask("brows")[90, 100] == 255
    assert canvas.mask("hair")[90, 60] == 255
    assert canvas.planes[:, 90, 60].tolist() == [200, 9, 9]


# --- drawing --------------------------------------------------------------------------------------


def test_a_glaze_lays_its_share_of_color_over_what_is_beneath() -> None:
    canvas = drawing.Canvas(np.full((3, 224, 224), 100, np.uint8), ("skin",))
    square = np.array([(20.0, 20.0), (60.0, 20.0), (60.0, 60.0), (20.0, 60.0)])
    glaze = drawing.Shape((square,), (200, 0, 100), "skin", opacity=0.5, flat=26.0)
    canvas.paint([glaze], drawing.Pose())
    # 0.5 of 127 steps rounds to 64: 100 + 100 * 64 / 128 = 150.
    assert canvas.planes[:, 80, 80].tolist() == [150, 50, 100]
    assert canvas.planes[:, 10, 10].tolist() == [100, 100, 100]


def test_a_turn_of_the_head_swings_the_nose_out() -> None:
    """By hand: x = 56 + (depth - 26) sin(yaw) on the middle line."""
    points = np.array([(56.0, 60.0), (56.0, 60.0)])
    moved = drawing.Pose(yaw=0.3).move(points, np.array([36.0, 16.0]))
    assert moved[:, 0] == pytest.approx([56 + 10 * np.sin(0.3), 56 - 10 * np.sin(0.3)])
    assert moved[:, 1] == pytest.approx([60.0, 60.0])


def test_the_nose_stands_out_from_the_head() -> None:
    depth = drawing.surface(np.array([(56.0, 72.0), (76.0, 72.0), (56.0, 95.0), (120.0, 60.0)]))
    assert depth[0] == depth.max()
    assert depth[3] == pytest.approx(0.0, abs=1e-9)
    assert depth[2] == pytest.approx(32 * np.sqrt(1 - (35 / 64) ** 2))


def test_curves_pass_through_their_control_points() -> None:
    controls = [(0.0, 0.0), (10.0, 5.0), (20.0, 0.0), (10.0, -8.0)]
    assert drawing.closed_curve(controls, 6)[::6] == pytest.approx(np.array(controls))
    assert drawing.open_curve(controls, 5)[::5] == pytest.approx(np.array(controls))


def test_a_stroke_is_as_wide_as_asked() -> None:
    line = np.stack([np.arange(5.0), np.zeros(5)], axis=1)
    outline = drawing.stroke(line, np.array([0.0, 1.0, 2.0, 1.0, 0.0]))
    assert outline[:5, 1] == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])
    assert outline[5:, 1] == pytest.approx([0.0, -0.5, -1.0, -0.5, 0.0])


def test_traits_fill_their_ranges() -> None:
    count = traits.trait_count(Eyes)
    low = traits.from_draws(Eyes, np.zeros(count))
    middle = traits.from_draws(Eyes, np.full(count, 0.5))
    assert (low.apart, low.width) == (14.6, 6.2)
    assert middle.apart == pytest.approx((14.6 + 20.8) / 2)


# --- photos ---------------------------------------------------------------------------------------


def test_a_photo_depends_on_its_four_values_alone() -> None:
    first = synthetic.render("all", 0, 3, 1)
    for other in ((0, 4, 1), (0, 3, 2), (1, 3, 1)):
        assert not np.array_equal(first.frame, synthetic.render("all", *other).frame)
    again = synthetic.render("all", 0, 3, 1)
    assert np.array_equal(first.frame, again.frame)
    assert all(np.array_equal(first.parts[part], again.parts[part]) for part in synthetic.PARTS)
    assert first.frame.shape == (112, 112, 3)
    assert first.frame.dtype == np.uint8


def test_the_same_photo_in_two_worlds_shares_its_circumstances() -> None:
    _, first = synthetic._draw(("eyes",), 0, 3, 1)
    _, second = synthetic._draw(("nose",), 0, 3, 1)
    assert first.camera == second.camera
    assert np.array_equal(first.grain, second.grain)


def test_exposure_and_warmth_are_gains() -> None:
    """Without blur and noise, half the exposure halves every pixel."""
    genes, shot = synthetic._draw(synthetic.PARTS, 0, 0, 0)
    calm = replace(shot.camera, noise=0.0, blur=1e-3, exposure=0.8, warmth=0.0)
    dim = replace(calm, exposure=0.4)
    bright = _uncompressed(genes, replace(shot, camera=calm))
    half = _uncompressed(genes, replace(shot, camera=dim))
    unclipped = bright < 255
    assert np.abs(half * 2 - bright)[unclipped].max() <= 2
    warm = _uncompressed(genes, replace(shot, camera=replace(dim, warmth=1.0)))
    gain = warm.sum(axis=(0, 1)) / half.sum(axis=(0, 1))
    assert gain == pytest.approx([1.07, 1.0, 0.93], abs=0.015)


def test_render_many_is_render_in_order() -> None:
    rendered = synthetic.render_many("brows", 9, range(4, 6), 3)
    assert rendered.names.tolist()[:2] == ["synthetic-0004_0000", "synthetic-0004_0001"]
    assert rendered.identities.tolist() == ["synthetic-0004"] * 3 + ["synthetic-0005"] * 3
    for row, (person, photo) in enumerate(itertools.product((4, 5), range(3))):
        face = synthetic.render("brows", 9, person, photo)
        assert np.array_equal(rendered.frames[row], face.frame)
        assert np.array_equal(rendered.truth["brows"][row], face.parts["brows"])
    assert set(rendered.truth) == {"brows"}


# --- folders --------------------------------------------------------------------------------------


def test_a_face_set_on_disk_is_what_render_many_gives(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "new" / "set"
    synthetic.make_faceset(
        out,
        world="mouth",
        identities=3,
        photos=2,
        seed=5,
        progress=lambda stage, done, total: seen.append((done, total)),
    )
    rendered = synthetic.render_many("mouth", 5, range(3), 2)
    faces = open_faceset(out)
    assert set(check_files(out).values()) == {None}
    assert faces.title == "synthetic-mouth"
    assert np.array_equal(faces.frames, rendered.frames)
    assert faces.names.tolist() == rendered.names.tolist()
    assert faces.identities.tolist() == rendered.identities.tolist()
    truth = synthetic.read_truth(out)
    assert set(truth) == {"mouth"}
    assert np.array_equal(truth["mouth"], rendered.truth["mouth"])
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("count", [0, 10_001])
def test_counts_out_of_range_are_refused(tmp_path: Path, count: int) -> None:
    out = tmp_path / "x"
    with pytest.raises(UserError, match=rf"'identities' .* in \[1, 10000\]\. Got {count}\."):
        synthetic.make_faceset(out, world="all", seed=0, identities=count, photos=2)
    with pytest.raises(UserError, match=rf"'photos' .* in \[1, 10000\]\. Got {count}\."):
        synthetic.make_faceset(out, world="all", seed=0, identities=2, photos=count)
    assert not out.exists()


def test_truth_of_other_faces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only synthetic faces have one"):
        synthetic.read_truth(tmp_path)
    (tmp_path / synthetic.TRUTH).write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be read"):
        synthetic.read_truth(tmp_path)


# --- decoys ---------------------------------------------------------------------------------------


def test_decoys_are_other_peoples_parts_in_the_same_photo() -> None:
    """Drawn into the photo they would have those very masks; other parts stay where they are."""
    masks = synthetic.decoys("nose", 3, 5, 1, 4)
    assert set(masks) == {"nose"}
    assert masks["nose"].shape == (4, 112, 112)
    own = synthetic.render("nose", 3, 5, 1).parts["nose"]
    for mask in masks["nose"]:
        shared = np.count_nonzero(mask & own) / np.count_nonzero(mask | own)
        assert 0.3 < shared < 1.0
    assert np.array_equal(masks["nose"], synthetic.decoys("nose", 3, 5, 1, 4)["nose"])
    fewer = synthetic.decoys("nose", 3, 5, 1, 2)["nose"]
    assert np.array_equal(masks["nose"][:2], fewer)


def test_decoys_of_marks_lie_anywhere() -> None:
    """Two people's marks share hardly any pixel."""
    masks = synthetic.decoys("marks", 3, 5, 1, 6)["marks"]
    own = synthetic.render("marks", 3, 5, 1).parts["marks"]
    assert np.mean([np.count_nonzero(mask & own) for mask in masks]) < 0.25 * own.sum()
