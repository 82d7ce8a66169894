from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facefocus as ff
from facefocus.core.errors import UserError
from facefocus.faces import align
from facefocus.occlusion.mask_files import write_mask
from facefocus.person.apply_mask import apply_mask
from tests.conftest import Command
from tests.person.portraits import BLUE, RED, Colors, crop, detector, portrait, save

MASK = np.zeros((112, 112), bool)
MASK[44:60, 20:92] = True


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_crops_are_painted_as_they_are(tmp_path: Path) -> None:
    photo = save(tmp_path / "a.png", crop(1, 0))
    save(tmp_path / "b" / "a.png", crop(1, 1))
    (tmp_path / "b" / "film.mov").write_bytes(b"film")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff")
    out = tmp_path / "hidden"
    applied = ff.apply_mask(MASK, [photo, tmp_path / "b", broken], out)
    assert [file.name for _, file, _ in applied.written] == [
        f"{tmp_path.name} a.png.png",
        "b a.png.png",
    ]
    assert applied.left_out == ((broken, "not a picture in a known format"),)
    painted = opened(applied.written[1][1])
    assert not painted[MASK].any()
    assert np.array_equal(painted[~MASK], crop(1, 1)[~MASK])


def phone_photo(path: Path) -> Path:
    """A portrait on its side with orientation, place, preview, profile and comment."""
    preview = io.BytesIO()
    Image.fromarray(crop(1, 0)).save(preview, "JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "SECRET-MAKER"
    exif.get_ifd(0x8825)[2] = (51.0, 30.0, 0.0)
    exif.get_ifd(0x8769)[0x927C] = b"SECRET-NOTE" + preview.getvalue()
    picture = np.ascontiguousarray(np.rot90(portrait(crop(1, 0), 3.0)))
    options = {"exif": exif, "icc_profile": b"SECRET-PROFILE" * 20, "comment": b"SECRET-COMMENT"}
    return save(path, picture, quality=95, **options)


@pytest.mark.parametrize("overlay", [False, True])
def test_nothing_but_pixels_is_written(tmp_path: Path, overlay: bool) -> None:
    photo = phone_photo(tmp_path / "phone.jpg")
    before = photo.read_bytes()
    assert before.count(b"SECRET") > 4
    assert before.count(b"\xff\xd8") == 2
    applied = apply_mask(MASK, photo, tmp_path / "out", detector=detector(), overlay=overlay)
    ((_, file, remark),) = applied.written
    assert remark == ""
    data = file.read_bytes()
    assert b"SECRET" not in data
    assert b"\xff\xd8\xff" not in data
    with Image.open(file) as picture:
        assert picture.info == {}
        assert not picture.getexif()
        pixels = np.asarray(picture)
    # Upright, of the same size.
    assert pixels.shape == (456, 456, 4 if overlay else 3)
    if overlay:
        assert not pixels[..., :3].any()
        assert 0.1 < (pixels[..., 3] == 255).mean() / (MASK.sum() * 9 / 456**2) < 1.5
    else:
        assert (
            np.corrcoef(pixels[300:].ravel(), portrait(crop(1, 0), 3.0)[300:].ravel())[0, 1] > 0.99
        )
    assert photo.read_bytes() == before


def test_the_reference_says_whose_face_it_is(tmp_path: Path) -> None:
    yunet = detector()
    both = np.concatenate(
        [
            np.pad(portrait(crop(1, 3), 1.5), ((92, 92), (0, 0), (0, 0)))[:472],
            portrait(crop(2, 0, BLUE), 3.0, 68),
        ],
        axis=1,
    )
    photo = save(tmp_path / "both.png", both)
    nobody = save(tmp_path / "nobody.png", np.full((200, 200, 3), 90, np.uint8))
    for number in range(2):
        save(tmp_path / "Ada" / f"{number}.png", crop(1, number, RED))
    everything = np.ones((112, 112), bool)

    def hidden(**options: object) -> tuple[np.ndarray, str]:
        out = tmp_path / "out"
        applied = apply_mask(everything, [photo, nobody], out, detector=yunet, **options)  # type: ignore[arg-type]
        ((_, file, remark),) = applied.written
        assert applied.left_out == ((nobody, "no face found"),)
        return (opened(file) != both).any(axis=(0, 2)), remark

    changed, remark = hidden()
    assert remark == "of 2 faces, the likeliest by size, place and score"
    assert not changed[:288].any()
    changed, remark = hidden(reference=tmp_path / "Ada", model=Colors())
    assert remark == "of 2 faces, the one that agrees with the reference"
    assert changed[:288].any()
    assert not changed[288:].any()
    with pytest.raises(UserError, match=r"go together. Got only '--model'"):
        hidden(model=Colors())


def test_the_command(tmp_path: Path, command: Command) -> None:
    write_mask(tmp_path / "mask.npz", MASK)
    save(tmp_path / "a.png", crop(1, 0))
    done = command("apply", "mask.npz", "a.png", "--out", "hidden", "--fill", "inpaint")
    assert (done.code, done.out, done.err.count("Traceback")) == (0, "a.png -> hidden/a.png\n", 0)
    assert (opened(tmp_path / "hidden" / "a.png") != crop(1, 0)).any(axis=2)[~MASK].sum() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("apply mask.npz a.png --out .", "'a.png' would be overwritten"),
        ("apply mask.npz b.png --out hidden", "must be files or folders. Got 'b.png', not there"),
        ("apply mask.npz mask.npz --out hidden", "None of the 1 photographs could be painted."),
        ("apply mask.npz empty --out hidden", "Got folders that hold none"),
        ("apply mask.npz a.png --out hidden --fill blak", "Did you mean 'black'?"),
        ("apply other.npz a.png --out hidden", "made for the crop 'facenet160'"),
        ("apply a.txt a.png --out hidden", "Got 'a.txt': a file that is"),
        ("apply mask.npz a.png --out a.png", "The '--out' must be a folder."),
        ("apply mask.npz a.png --out /proc/hidden", "Cannot write '/proc/hidden'"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, command: Command, arguments: str, message: str
) -> None:
    write_mask(tmp_path / "mask.npz", MASK)
    np.savez(tmp_path / "other.npz", mask=MASK, crop="facenet160", landmarks=align.ARCFACE_TEMPLATE)
    (tmp_path / "a.txt").write_text("no mask")
    (tmp_path / "empty").mkdir()
    save(tmp_path / "a.png", crop(1, 0))
    before = (tmp_path / "a.png").read_bytes()
    done = command(*arguments.split())
    assert done.code == 2
    assert message in done.err
    lines = [line for line in done.err.splitlines() if not line.startswith("photos 1/1")]
    assert len(lines) == 1
    assert (tmp_path / "a.png").read_bytes() == before
    assert not (tmp_path / "hidden").exists()
