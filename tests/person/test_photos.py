from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefocus.core.errors import UserError
from facefocus.faces import align, images
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.person.photos import PersonPhotos, read_people
from facefocus.person.same_person import somebody_else
from tests.person.portraits import BLUE, GREEN, RED, Colors, crop, detector, portrait, save


def read(folder: Path, **options: object) -> PersonPhotos:
    (person,) = read_people(folder, **options)  # type: ignore[arg-type]
    return person


def reasons(person: PersonPhotos) -> dict[str, str]:
    return {path.name: reason for path, reason in person.left_out}


# Somebody else ------------------------------------------------------------------------------------


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def test_with_a_threshold_the_largest_group_is_the_person() -> None:
    # Mean cosine between the first two and the third: (cos 50 + cos 40) / 2 = .704.
    assert somebody_else(at(0, 10, 50), 0.70).tolist() == [False] * 3  # type: ignore[union-attr]
    assert somebody_else(at(0, 10, 50), 0.71).tolist() == [False, False, True]  # type: ignore[union-attr]
    assert somebody_else(at(0, 50), 0.64).tolist() == [False, False]  # type: ignore[union-attr]


def test_nobody_agrees_or_two_people_are_there_equally_often() -> None:
    assert somebody_else(at(0, 50), 0.65) is None
    assert somebody_else(at(0, 90, 180), 0.5) is None
    assert somebody_else(at(0, 5, 90, 95), 0.5) is None
    assert somebody_else(at(0, 5, 90, 95, 180), 0.5) is None
    # Three of one, two of another.
    assert np.flatnonzero(somebody_else(at(0, 5, 90, 95, 2), 0.5)).tolist() == [2, 3]  # type: ignore[arg-type]


def test_without_a_threshold_distances_are_compared_with_those_within_the_group() -> None:
    # Three photos with cosines of .9, so distances of .1; the fourth is .16 or .18 away from each.
    def fourth(cosine: float, length: float = 1.0) -> np.ndarray:
        cosines = np.full((4, 4), 0.9)
        cosines[3] = cosines[:, 3] = cosine
        np.fill_diagonal(cosines, 1.0)
        outside = somebody_else(length * np.linalg.cholesky(cosines))
        assert outside is not None
        return outside

    assert fourth(0.84).tolist() == [False] * 4
    assert fourth(0.82).tolist() == [False, False, False, True]
    assert fourth(0.82, length=7.0).tolist() == [False, False, False, True]


def test_without_a_threshold_three_photos_say_nothing() -> None:
    assert somebody_else(at(0, 1, 90)).tolist() == [False] * 3  # type: ignore[union-attr]
    assert somebody_else(at(0)).tolist() == [False]  # type: ignore[union-attr]


# Aligned crops: no detector -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five crops of a red person, one thrice, one of a blue person, a film and a broken file."""
    folder = tmp_path / "Ada"
    for photo in range(5):
        save(folder / f"red {photo}.png", crop(1, photo))
    shutil.copy(folder / "red 1.png", folder / "red 1 copy.png")
    save(folder / "red 1 saved again.jpg", crop(1, 1), quality=92)
    save(folder / "stranger.png", crop(2, 0, BLUE))
    (folder / "film.mov").write_bytes(b"film")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


def test_what_counts_and_why_the_rest_does_not(folder: Path) -> None:
    person = read(folder, judge=Colors(), threshold=0.9)
    assert person.name == "Ada"
    assert [photo.name for photo in person.photos] == [f"red {photo}" for photo in range(5)]
    assert reasons(person) == {
        "red 1 copy.png": "the same file as red 1.png",
        "red 1 saved again.jpg": "the same picture as red 1.png",
        "stranger.png": "it shows somebody else than the other photos",
        "film.mov": "a video",
        "broken.jpg": "not a picture in a known format",
    }
    assert (
        person.remarks[0]
        == "The photos have 112x112 pixels and are taken as aligned crops, as they are."
    )
    photo = person.photos[2]
    assert photo.faces is None
    assert np.array_equal(photo.crop, crop(1, 2))
    assert np.array_equal(photo.pixels, crop(1, 2))
    assert np.allclose(photo.matrix, [[1, 0, 0], [0, 1, 0]])
    assert np.allclose(photo.landmarks, ARCFACE_TEMPLATE)


def test_a_stranger_is_found_without_a_threshold_too(folder: Path) -> None:
    person = read(folder, judge=Colors())
    assert reasons(person)["stranger.png"] == "it shows somebody else than the other photos"
    assert len(person.photos) == 5


def test_kept_strangers_are_doubted(folder: Path) -> None:
    person = read(folder, judge=Colors(), threshold=0.9, keep=True)
    assert "stranger" in [photo.name for photo in person.photos]
    assert person.remarks[-1].startswith("stranger.png: colors doubts")


def test_the_card_of_a_recognizer_gives_the_threshold(folder: Path) -> None:
    class Known(Colors):
        name = "squeezenet-vggface2"

    files = [folder / name for name in ("red 0.png", "red 2.png", "stranger.png")]
    # Without a threshold three photos say nothing.
    assert len(read_people(files, judge=Colors())[0].photos) == 3
    (person,) = read_people(files, judge=Known())
    assert [photo.name for photo in person.photos] == ["red 0", "red 2"]


def test_whoever_passes_but_is_less_alike_is_named(folder: Path) -> None:
    # With this threshold everybody is the same person.
    person = read(folder, judge=Colors(), threshold=-1.0)
    assert "stranger" in [photo.name for photo in person.photos]
    assert person.remarks[-1].startswith("stranger.png: colors finds them less like the other")


def test_nobody_is_left_out_without_a_recognizer(folder: Path) -> None:
    assert "stranger" in [photo.name for photo in read(folder).photos]


def test_only_strangers(tmp_path: Path) -> None:
    for number, tint in enumerate((RED, GREEN, BLUE)):
        save(tmp_path / "Ada" / f"{number}.png", crop(number, 0, tint))
    with pytest.raises(
        UserError, match=r"must show one person. Got 3 of 'Ada', and colors cannot tell"
    ):
        read(tmp_path / "Ada", judge=Colors(), threshold=0.9)
    assert len(read(tmp_path / "Ada", judge=Colors(), threshold=0.9, keep=True).photos) == 3


def test_a_folder_for_each_person(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for photo in range(2):
        save(folder.parent / "Ben" / f"{photo}.png", crop(3, photo))
    save(folder.parent / "Cleo" / "alone.png", crop(4, 0))
    (folder.parent / "notes").mkdir()
    done: list[tuple[str, int, int]] = []
    people = read_people(folder.parent, progress=lambda *step: done.append(step))
    assert [(person.name, len(person.photos)) for person in people] == [("Ada", 6), ("Ben", 2)]
    assert done[-1] == ("photos", 13, 13)
    (line,) = caplog.messages
    assert line.endswith("Got 1 of 'Cleo'. This person is left out.")


def test_a_list_of_files(folder: Path) -> None:
    (person,) = read_people([folder / "red 0.png", str(folder / "red 3.png")])
    assert (person.name, len(person.photos)) == ("Ada", 2)
    with pytest.raises(UserError, match=r"must be files, or one folder. Got '.*Ada': a folder"):
        read_people([folder])


def test_names_are_unique(tmp_path: Path) -> None:
    save(tmp_path / "a.png", crop(1, 0))
    save(tmp_path / "a.jpg", crop(1, 1))
    save(tmp_path / "b.png", crop(1, 2))
    assert [photo.name for photo in read(tmp_path).photos] == ["a.jpg", "a.png", "b"]


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Got '.*nowhere', not there"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"which holds none"):
        read(tmp_path)
    photo = save(tmp_path / "one.png", crop(1, 0))
    with pytest.raises(UserError, match=r"needs 2 usable photos or more. Got 1 of"):
        read(tmp_path)
    shutil.copy(photo, tmp_path / "two.png")
    with pytest.raises(
        UserError, match=r"Got 1 of '.*'. Left out: two.png: the same file as one.png."
    ):
        read(tmp_path)


def test_a_photo_that_changes_is_not_read_as_if_it_had_not(tmp_path: Path) -> None:
    for photo in range(2):
        save(tmp_path / f"{photo}.png", crop(1, photo))
    first, second = read(tmp_path).photos
    save(first.path, crop(1, 5))
    with pytest.raises(UserError, match=r"changed while this ran: its content is another one"):
        _ = first.pixels
    second.path.unlink()
    with pytest.raises(UserError, match=r"changed while this ran: cannot be opened"):
        _ = second.pixels


# Photographs --------------------------------------------------------------------------------------


def test_photographs_as_phones_make_them(tmp_path: Path) -> None:
    """Turned by EXIF, lying on its side, two people, none at all."""
    yunet = detector()
    upright = Image.Exif()
    upright[0x0112] = 6
    save(tmp_path / "plain.png", portrait(crop(1, 0)))
    save(tmp_path / "exif.jpg", np.rot90(portrait(crop(1, 1))), exif=upright, quality=95)
    save(tmp_path / "side.png", np.ascontiguousarray(np.rot90(portrait(crop(1, 2)))))
    # The other one is larger.
    small = np.pad(portrait(crop(1, 3), 1.5), ((92, 92), (0, 0), (0, 0)), constant_values=127)
    both = np.concatenate([small[:472], portrait(crop(2, 0, BLUE), 3.0, 68)], axis=1)
    save(tmp_path / "both.png", both)
    save(tmp_path / "nobody.png", np.full((200, 200, 3), 90, np.uint8))
    person = read(tmp_path, judge=Colors(), threshold=0.9, detector=yunet)
    assert {photo.name: photo.faces for photo in person.photos} == {
        "both": 2,
        "exif": 1,
        "plain": 1,
        "side": 1,
    }
    assert reasons(person) == {"nobody.png": "no face found"}
    assert any(remark.startswith("both.png: not the likeliest face") for remark in person.remarks)
    assert any(remark.startswith("side.png: the photo lay") for remark in person.remarks)
    for photo in person.photos:
        assert photo.pixels.shape[:2] == photo.size
        taken = np.column_stack([photo.landmarks, np.ones(5)]) @ photo.matrix.T
        assert np.abs(taken - ARCFACE_TEMPLATE).max() < 6
        assert Colors().embed(photo.crop[None])[0].argmax() == 0


def test_a_very_large_photo_keeps_its_resolution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faces are found on a copy that is smaller by a whole factor."""
    yunet = detector()
    for number in range(2):
        save(tmp_path / f"{number}.png", portrait(crop(1, number), 5.0, 200))
    monkeypatch.setattr(images, "REDUCED_SIDE", 240)  # 960 / 240 = 4
    photo = read(tmp_path, detector=yunet).photos[0]
    assert photo.size == (960, 960)
    assert np.array_equal(photo.pixels, portrait(crop(1, 0), 5.0, 200))
    # A pixel of the copy is 4 of the photo: both ways the same crop, not one shifted by a part.
    off = [
        np.abs(align.crop(photo.pixels, photo.matrix + shift).astype(int) - photo.crop).mean()
        for shift in (np.zeros((2, 3)), np.eye(3)[[2, 2]] * [[0.3], [0.3]])
    ]
    assert off[0] < 0.1 < 1 < off[1]
