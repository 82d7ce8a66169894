"""Face sets of edited photographs: what is pasted where, and what is true then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.faces.faceset import (
    FaceSet,
    IndexRow,
    PairList,
    open_faceset,
    read_pairs,
    write_faceset,
)
from facefocus.faces.pair_truth import PAIR_TRUTH, PairTruth, drawn_triplets, read_pair_truth
from facefocus.faces.sources import DERIVED, derive_faces
from facefocus.faces.sources.patch_lfw import LAST, SIDE, patch_pixels
from facefocus.faces.sources.transplant import part_region, transplanted
from tests.conftest import Command

#: Photos of each person.
PHOTOS = {"ada": 3, "bo": 2, "cy": 1, "di": 2}


def written(
    folder: Path,
    *,
    photos: dict[str, int] = PHOTOS,
    side: int = 112,
    landmarks: bool = True,
    listed: bool = True,
) -> Path:
    """A face set of noise; the landmarks of each photo are the template, a little moved."""
    rows, frames = [], []
    for person, count in photos.items():
        for photo in range(count):
            rng = generator(0, "frame", person, photo)
            frames.append(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            points = ARCFACE_TEMPLATE.copy()
            points[2] += rng.integers(-3, 4, 2)
            rows.append(
                IndexRow(
                    person,
                    f"{person}_{photo}",
                    "",
                    landmarks=tuple(points.ravel()) if landmarks else None,
                )
            )
    pairs = PairList(
        first=("ada_0", "ada_0", "bo_1", "cy_0"),
        second=("ada_1", "bo_0", "bo_0", "di_1"),
        mated=(True, False, True, False),
        fold=(0, 0, 1, 1),
        sha256="1",
    )
    folder.mkdir(parents=True)
    write_faceset(
        folder,
        title="noise",
        rows=rows,
        frames=frames,
        size=(side, side),
        pairs=pairs if listed else None,
    )
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("faces") / "noise")


@pytest.fixture(scope="module")
def made(source: Path) -> dict[str, Path]:
    """A set of every derived source."""
    for name in DERIVED:
        derive_faces(name, source, source.parent / name)
    return {name: source.parent / name for name in DERIVED}


def names(faces: FaceSet, truth: PairTruth, role: str) -> list[str]:
    return [str(name) for name in faces.names[getattr(truth, role)]]


# Every source -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DERIVED)
def test_a_derived_set_keeps_originals_and_says_what_is_foreign(
    name: str, made: dict[str, Path], source: Path
) -> None:
    photos, faces = open_faceset(source), open_faceset(made[name])
    truth = read_pair_truth(made[name])
    by_name = dict(zip(photos.names.tolist(), photos.frames, strict=True))
    edited = set(names(faces, truth, "edited"))
    assert len(edited) == len(truth)
    for role in ("original", "donor"):
        for image, row in zip(names(faces, truth, role), getattr(truth, role), strict=True):
            assert np.array_equal(faces.frames[row], by_name[image])
    foreign = truth.truth.copy()
    if truth.kind == "patches":
        foreign[truth.mated] ^= True
    changed = (faces.frames[truth.edited] != faces.frames[truth.original]).any(axis=-1)
    assert not (changed & ~foreign).any()
    # Noise hardly ever has an equal pixel.
    assert (changed & foreign).sum() > 0.99 * foreign.sum()
    # The donor is another person than the original.
    assert (faces.identities[truth.donor] != faces.identities[truth.original]).all()


@pytest.mark.parametrize("name", DERIVED)
def test_a_derived_set_depends_on_seed_and_names_alone(
    name: str, made: dict[str, Path], source: Path, tmp_path: Path
) -> None:
    again = derive_faces(name, source, tmp_path / "again")
    other = derive_faces(name, source, tmp_path / "other", seed=99)
    first = open_faceset(made[name])
    assert open_faceset(again.folder).hash == first.hash != open_faceset(other.folder).hash
    assert (again.folder / PAIR_TRUTH).read_bytes() == (made[name] / PAIR_TRUTH).read_bytes()
    fewer = derive_faces(name, source, tmp_path / "fewer", count=2)
    few, every = (set(open_faceset(folder).names.tolist()) for folder in (fewer.folder, made[name]))
    assert few < every
    # Once more: nothing to do; with another seed: not in that folder.
    assert derive_faces(name, source, tmp_path / "again").already_complete
    with pytest.raises(UserError, match="other settings"):
        derive_faces(name, source, tmp_path / "again", seed=99)


@pytest.mark.parametrize("name", DERIVED)
def test_what_no_derived_set_can_be_made_of(
    name: str, made: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"of 112x112 pixels\. Got frames of 160x160"):
        derive_faces(name, written(tmp_path / "a", side=160), tmp_path / "out")
    with pytest.raises(UserError, match=r"two people or more\. Got one"):
        one_person = written(tmp_path / "b", photos={"ada": 3}, listed=False)
        derive_faces(name, one_person, tmp_path / "out")
    with pytest.raises(UserError, match="people with two photos"):
        single = written(tmp_path / "c", photos={"ada": 1, "bo": 1}, listed=False)
        derive_faces(name, single, tmp_path / "out")
    with pytest.raises(UserError, match="holds edited ones"):
        derive_faces(name, made["patch-lfw"], tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"must be new, empty or a face set.*thesis\.tex"):
        derive_faces(name, written(tmp_path / "d"), tmp_path / "full")
    with pytest.raises(UserError, match="The 'count' must be at least 1"):
        derive_faces(name, tmp_path / "d", tmp_path / "out", count=0)
    assert not (tmp_path / "out").exists()


def test_a_set_without_a_truth_and_a_damaged_one_are_said(
    source: Path, made: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"pairs with a truth .* by 'facefocus prepare patch-lfw'"):
        read_pair_truth(source)
    (tmp_path / PAIR_TRUTH).write_bytes((made["transplant"] / PAIR_TRUTH).read_bytes()[:400])
    with pytest.raises(UserError, match=r"cannot be read.* run prepare again"):
        read_pair_truth(tmp_path)


# Patches ------------------------------------------------------------------------------------------


def test_patches_come_from_the_partner_or_from_a_stranger(made: dict[str, Path]) -> None:
    faces, truth = open_faceset(made["patch-lfw"]), read_pair_truth(made["patch-lfw"])
    assert truth.mated.tolist() == [True, False, True, False]
    assert names(faces, truth, "original") == ["ada_0", "ada_0", "bo_1", "cy_0"]
    assert names(faces, truth, "reference") == ["ada_1", "bo_0", "bo_0", "di_1"]
    assert truth.explained.tolist() == truth.edited.tolist()
    assert truth.compared.tolist() == truth.reference.tolist()
    frames = faces.frames
    for pair in range(4):
        patches = ~truth.truth[pair] if truth.mated[pair] else truth.truth[pair]
        if not truth.mated[pair]:
            assert truth.donor[pair] == truth.reference[pair]
        wanted = np.where(
            patches[..., None], frames[truth.donor[pair]], frames[truth.original[pair]]
        )
        assert np.array_equal(frames[truth.edited[pair]], wanted)
    listed = read_pairs(made["patch-lfw"])
    assert listed is not None
    assert listed.first.tolist() == truth.explained.tolist()
    assert listed.fold.tolist() == [0, 0, 1, 1]


def test_places_of_patches_are_uniform_and_the_last_row_and_column_have_none() -> None:
    drawn = [patch_pixels(generator(seed, "places")) for seed in range(300)]
    mean = np.mean(drawn, axis=0)
    assert not mean[-1].any() and not mean[:, -1].any()
    # A pixel away from the border is in a square with probability (16 / 96)^2.
    wanted = 1 - (1 - (SIDE / (LAST + 1)) ** 2) ** 27
    assert mean[20:90, 20:90].mean() == pytest.approx(wanted, abs=0.01)
    pixels = patch_pixels(np.random.default_rng(0))
    corners = np.random.default_rng(0).integers(0, 96, (27, 2))
    by_hand = {(top + i, left + j) for top, left in corners for i in range(16) for j in range(16)}
    assert set(zip(*np.nonzero(pixels), strict=True)) == by_hand


def test_without_a_list_everybody_with_two_photos_gives_two_pairs(tmp_path: Path) -> None:
    derive_faces("patch-lfw", written(tmp_path / "a", listed=False), tmp_path / "out")
    faces, truth = open_faceset(tmp_path / "out"), read_pair_truth(tmp_path / "out")
    assert truth.mated.tolist() == [True, False] * 3
    people = faces.identities[truth.explained], faces.identities[truth.reference]
    assert sorted(set(people[0].tolist())) == ["ada", "bo", "di"]
    assert ((people[0] == people[1]) == truth.mated).all()
    # Both pairs of a person have the same first photo, under other patches.
    assert truth.original[::2].tolist() == truth.original[1::2].tolist()


# Transplants --------------------------------------------------------------------------------------


def test_triplets_are_two_photos_of_one_and_one_of_another(source: Path) -> None:
    faces = open_faceset(source)
    drawn = drawn_triplets(faces, 5)
    assert len(drawn) == 3
    for triplet in drawn:
        probe, mate, donor = faces.identities[[triplet.probe, triplet.mate, triplet.donor]]
        assert probe == mate != donor and triplet.probe != triplet.mate


def test_a_twin_is_blended_inside_the_rim_by_hand() -> None:
    frame, donor = np.zeros((20, 20, 3), np.uint8), np.full((20, 20, 3), 200, np.uint8)
    region = np.zeros((20, 20), bool)
    region[4:16, 4:16] = True
    twin = transplanted(frame, donor, region, np.zeros(2))
    # The distance to the nearest pixel outside is 1 on the rim.
    assert (
        twin[10, :, 0].tolist() == [0] * 4 + [50, 100, 150] + [200] * 6 + [150, 100, 50] + [0] * 4
    )
    # The donor moves by (2, -1): what was at row 10, column 8 is at row 9, column 10.
    donor[10, 8] = 8
    assert (transplanted(frame, donor, region, np.array([2.0, -1.0]))[9, 10] == 8).all()


def test_the_donor_is_laid_on_the_landmarks_of_the_part(tmp_path: Path) -> None:
    """The nose of a donor with a mark on it comes to lie where the mate has its nose."""
    folder = tmp_path / "marked"
    folder.mkdir()
    rows, frames = [], []
    for person, photos, nose in (("ada", 2, (2, 3)), ("bo", 1, (-3, -1))):
        for photo in range(photos):
            frame = np.zeros((112, 112, 3), np.uint8)
            x, y = np.rint(ARCFACE_TEMPLATE[2]).astype(int) + nose
            frame[y, x] = 250 if person == "bo" else 9
            points = ARCFACE_TEMPLATE.copy()
            points[2] = x, y
            rows.append(IndexRow(person, f"{person}_{photo}", "", landmarks=tuple(points.ravel())))
            frames.append(frame)
    write_faceset(folder, title="marked", rows=rows, frames=frames, size=(112, 112))
    derive_faces("transplant", folder, tmp_path / "out")
    faces, truth = open_faceset(tmp_path / "out"), read_pair_truth(tmp_path / "out")
    (row,) = np.flatnonzero(truth.part == "nose")
    twin = faces.frames[truth.edited[row]][..., 0].astype(int)
    down, across = np.nonzero(twin > 20)
    mark = np.rint(ARCFACE_TEMPLATE[2]) + np.array([2, 3])
    weights = twin[down, across]
    # A fitted alignment moves a displaced nose by a part of the displacement: half a pixel here.
    assert np.average(across, weights=weights) == pytest.approx(mark[0], abs=1.3)
    assert np.average(down, weights=weights) == pytest.approx(mark[1], abs=1.3)


def test_the_twins_of_everybody_have_each_part_and_no_identity(made: dict[str, Path]) -> None:
    faces, truth = open_faceset(made["transplant"]), read_pair_truth(made["transplant"])
    assert truth.part.tolist() == ["eyes", "nose", "mouth"] * 3
    assert truth.original.tolist() == truth.reference.tolist()
    assert truth.compared.tolist() == truth.explained.tolist()
    assert not set(faces.identities[truth.edited]) & set(PHOTOS)
    for part in ("eyes", "nose", "mouth"):
        own = truth.truth[truth.part == part]
        assert (own == part_region(part)).all()
        # Where the part is: the eyes' region holds both eyes' landmarks.
        for x, y in ARCFACE_TEMPLATE[{"eyes": [0, 1], "nose": [2], "mouth": [3, 4]}[part]]:
            assert part_region(part)[round(y), round(x)]
    listed = read_pairs(made["transplant"])
    assert listed is not None and listed.mated.tolist() == [True] * 3 + [False] * 9


def test_transplants_need_landmarks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"landmarks of every photo\. Got 8 of 8 .*--align yunet"):
        derive_faces("transplant", written(tmp_path / "a", landmarks=False), tmp_path / "out")


# The command --------------------------------------------------------------------------------------


def test_the_commands_make_sets_and_say_what_is_missing(
    command: Command, tmp_path: Path, source: Path
) -> None:
    wrong = command("prepare", "patch-lfw")
    assert wrong.code == 2 and "faces/lfw is not here. Prepare LFW by" in wrong.err
    done = command("prepare", "transplant", "--source", str(source), "--count", "2")
    assert (done.code, done.err.count("Traceback")) == (0, 0)
    assert "faces faces/transplant" in done.out and "6 of the images are edited" in done.out
    assert len(read_pair_truth(tmp_path / "faces" / "transplant")) == 6
    assert command("prepare", "transplant", "--seed", "1", "--source", str(source)).code == 2
