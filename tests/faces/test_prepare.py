from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from facefocus.cli.prepare_commands import prepare_lines
from facefocus.core.errors import UserError
from facefocus.faces import detect, sheet
from facefocus.faces import prepare as engine
from facefocus.faces.agreement import AGREES, SEVERAL
from facefocus.faces.faceset import PairList, open_faceset, read_pairs
from facefocus.faces.prepare import prepare
from tests.faces.pictures import contents, encoded, face, people, pixels, source_of


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CHUNK", 4)


def run(out: Path, files: Any = None, stop_at: int | None = None, **options: Any) -> Any:
    source = source_of(people(5, 3) if files is None else files, stop_at)
    return prepare(source, out, **{"title": "few", "align": "none", **options})


def test_frames_are_the_pictures_in_sorted_order(tmp_path: Path) -> None:
    report = run(tmp_path / "out")
    faces = open_faceset(tmp_path / "out")
    assert faces.names.tolist() == [f"p{p}_{i:04d}" for p in range(5) for i in range(3)]
    assert faces.identities.tolist() == [f"p{p}" for p in range(5) for _ in range(3)]
    for position, (person, image) in enumerate((p, i) for p in range(5) for i in range(3)):
        assert np.array_equal(faces.frames[position], pixels(100 * person + image))
    assert (report.images, report.people, report.unusable) == (15, 5, {})
    assert (report.pairs, report.already_complete) == (None, False)
    assert set(contents(tmp_path / "out")) == {"frames.npy", "index.parquet", "manifest.json"}


def test_index_of_crops_has_no_landmarks(tmp_path: Path) -> None:
    run(tmp_path / "out")
    index = pl.read_parquet(tmp_path / "out" / "index.parquet")
    assert index["left_eye_x"].null_count() == index["faces"].null_count() == 15


@pytest.mark.parametrize("stop_at", [0, 1, 4, 7, 8, 14])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, stop_at: int) -> None:
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", stop_at=stop_at)
    with pytest.raises(UserError, match=r"complete face set|must be a folder"):
        open_faceset(tmp_path / "killed")
    run(tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_second_run_repeats_only_unfinished_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One worker has at most one picture waiting, so all chunks before the kill are finished.
    monkeypatch.setattr(engine, "_AHEAD", 1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", stop_at=10, workers=1)
    steps: list[tuple[str, int, int]] = []
    run(tmp_path / "out", workers=1, progress=lambda *step: steps.append(step))
    prepared = [done for stage, done, _ in steps if stage == "prepare"]
    assert prepared == [8, 9, 10, 11, 12, 13, 14, 15]
    assert [done for stage, done, _ in steps if stage == "write"] == list(range(1, 16))


def test_killed_while_the_result_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(engine, "write_faceset", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    # What SIGKILL leaves: an unfinished temporary file beside the chunks.
    (tmp_path / "killed" / ".frames.npy.123.tmp").write_bytes(b"x")
    run(tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    for workers in (1, 2, 5):
        run(tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")


def test_no_thread_and_no_setting_stays_behind(tmp_path: Path) -> None:
    before = (threading.active_count(), cv2.getNumThreads())
    run(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", stop_at=9)
    assert (threading.active_count(), cv2.getNumThreads()) == before


def test_a_complete_set_is_left_alone(tmp_path: Path) -> None:
    first = run(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    second = run(tmp_path / "out", stop_at=0)
    assert second.already_complete
    assert (second.images, second.people, second.title) == (first.images, first.people, "few")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    run(tmp_path / "out")
    with pytest.raises(
        UserError, match="with a different setting of 'align', 'crop', 'model' or duplicates"
    ):
        run(tmp_path / "out", align="yunet")
    with pytest.raises(UserError, match="with a different title"):
        run(tmp_path / "out", title="more")
    with pytest.raises(UserError, match="with a different list of pairs"):
        run(tmp_path / "out", pairs=PairList((), (), (), (), "5a"))
    other = engine.PictureSource("pictures", "another fingerprint", source_of(people(5, 3)).load)
    with pytest.raises(UserError, match="with a different source"):
        prepare(other, tmp_path / "out", title="few", align="none")


def test_other_settings_do_not_mix_with_an_unfinished_set(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", stop_at=9)
    other = engine.PictureSource("pictures", "another fingerprint", source_of(people(5, 3)).load)
    with pytest.raises(UserError, match="unfinished face set of other pictures"):
        prepare(other, tmp_path / "out", title="few", align="none")


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"must be new, empty or a face set. Got .*thesis.tex"):
        run(tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"x"}


def test_unusable_pictures_are_listed_with_their_reason(tmp_path: Path) -> None:
    files = [
        ("Al", "a", encoded(pixels(1))),
        ("Al", "b", b""),
        ("Al", "c", encoded(pixels(2, 8, 9))),
        ("Bo", "d", b"text"),
        ("Bo", "e", encoded(pixels(3))),
        ("Bo", "f", encoded(pixels(3))[:60]),
    ]
    report = run(tmp_path / "out", files)
    assert report.images == 2
    assert report.unusable == {
        "9x8 pixels, and the first image has 10x12": 1,
        "damaged or incomplete": 1,
        "not a picture in a known format": 1,
        "the file is empty": 1,
    }
    index = pl.read_parquet(tmp_path / "out" / "index.parquet")
    assert index["name"].to_list() == list("abcdef")
    assert index["row"].to_list() == [0, None, None, None, 1, None]
    assert open_faceset(tmp_path / "out").names.tolist() == ["a", "e"]


@pytest.fixture
def found_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of YuNet: what is found in a picture is told by the red of its first pixel."""
    sure, beside = face(8, 8, 20, 24, 0.92), face(2, 4, 18, 18, 0.9)
    by_red = {
        1: [sure],
        2: [face(8, 8, 24, 20, 0.93, turn=1)],
        3: [sure, beside],
        4: [face(8, 8, 20, 24, 0.7, turn=2), beside],
        5: [],
        6: [sure, face(0, 0, 5, 5, 0.9)],
    }
    monkeypatch.setattr(detect, "detector_model", lambda _: b"")
    made = detect.FaceDetector
    monkeypatch.setattr(detect, "FaceDetector", lambda _: object.__new__(made))
    monkeypatch.setattr(detect, "find_faces", lambda image, _: by_red[int(image[0, 0, 0])])


def picture(kind: int) -> bytes:
    image = pixels(kind, 40, 40)
    image[0, 0, 0] = kind
    return encoded(image)


@pytest.mark.usefixtures("found_faces")
def test_doubtful_photos_are_listed_and_counted(tmp_path: Path) -> None:
    files = [("Al", f"{kind}.png", picture(kind)) for kind in range(1, 7)]
    report = run(tmp_path / "out", files, align="yunet")
    assert (report.images, report.several_faces) == (5, 3)
    assert report.unusable == {"no face found": 1}
    assert report.check == {
        "a low score": 1,
        SEVERAL: 2,
        "the photo turned upright": 2,
    }
    listed = pl.read_csv((tmp_path / "out" / "check.csv").read_bytes())
    assert listed.select("path", "turned", "faces").rows() == [
        ("Al/2.png", 90, 1),
        ("Al/3.png", 0, 2),
        ("Al/4.png", 180, 2),
    ]
    assert "look at these: " + str(tmp_path / "out" / "check.csv") in prepare_lines(report)
    again = run(tmp_path / "out", files, align="yunet")
    assert (again.already_complete, again.check) == (True, report.check)


class Reds:
    """A recognizer that sees how red a crop is."""

    name, fingerprint = "reds", "reds 1"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        share = frames[..., 0].mean(axis=(1, 2)) / 255
        return np.stack([share, 1 - share], axis=1).astype(np.float32)


@pytest.mark.usefixtures("found_faces")
def test_a_judge_takes_the_face_that_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The likelier of two faces is black, the other one red; alone, the person is red.
    def crop(image: np.ndarray, detected: Any, _: str) -> np.ndarray:
        likely = image[0, 0, 0] == 3 and detected.score == 0.92
        return np.full((112, 112, 3), (0 if likely else 255, 0, 0), np.uint8)

    monkeypatch.setattr("facefocus.faces.align.align_face", crop)
    files = [("Al", f"{kind}.png", picture(kind)) for kind in (1, 2, 3)]
    alone = run(tmp_path / "alone", files, align="yunet")
    judged = run(tmp_path / "judged", files, align="yunet", judge=Reds())
    assert open_faceset(tmp_path / "alone").frames[2].max() == 0
    assert (open_faceset(tmp_path / "judged").frames[2, ..., 0] == 255).all()
    assert alone.check == {SEVERAL: 1, engine.TURNED: 1}
    assert judged.check == {AGREES: 1, engine.TURNED: 1}
    index = pl.read_parquet(tmp_path / "judged" / "index.parquet")
    assert index["score"].to_list() == [0.92, 0.93, 0.9]
    assert index["box_x"].to_list() == [8.0, 8.0, 2.0]
    with pytest.raises(UserError, match="different setting"):
        run(tmp_path / "alone", files, align="yunet", judge=Reds())


@pytest.mark.usefixtures("found_faces")
def test_a_killed_run_with_several_faces_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    files = [(f"p{n}", f"{n}.png", picture(1 + n % 6)) for n in range(11)]
    run(tmp_path / "whole", files, align="yunet", judge=Reds())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", files, stop_at=9, align="yunet", judge=Reds())
    run(tmp_path / "killed", files, align="yunet", judge=Reds())
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("found_faces")
def test_a_sheet_shows_doubtful_photos_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    whole = sheet.draw_tile

    def watched(photo: Any, row: Any, frames: Any) -> Any:
        assert photo[0, 0, 0] == int(row["name"][0])
        tile = whole(photo, row, frames)
        tile.info["name"] = row["name"]
        return tile

    def kept(tiles: Any, path: Path) -> list[Path]:
        shown.extend(tile.info["name"] for tile in tiles)
        return [path]

    monkeypatch.setattr(engine, "draw_tile", watched)
    monkeypatch.setattr(engine, "write_pages", kept)
    files = [("Al", f"{kind}.png", picture(kind)) for kind in range(1, 7)]
    files.append(("Al", "7.png", b"no picture"))
    report = run(tmp_path / "out", files, align="yunet", sheet=tmp_path / "sheet.png")
    # In 2 to 4 a doubt, in 5 no face; then the others. What is no picture cannot be drawn.
    assert shown == [f"{kind}.png" for kind in (2, 3, 4, 5, 1, 6)]
    assert f"sheet {tmp_path / 'sheet.png'}" in prepare_lines(report)
    monkeypatch.setattr(engine, "MOST_DRAWN", 2)
    shown.clear()
    again = run(tmp_path / "out", files, align="yunet", sheet=tmp_path / "sheet.png")
    assert (again.already_complete, shown) == (True, ["2.png", "3.png"])


@pytest.mark.usefixtures("found_faces")
def test_a_set_of_an_earlier_version_is_not_taken_for_the_same(tmp_path: Path) -> None:
    files = [("Al", "a.png", picture(1))]
    run(tmp_path / "out", files, align="yunet")
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"search": 2,', ""))
    with pytest.raises(UserError, match="found by another version of facefocus"):
        run(tmp_path / "out", files, align="yunet")


def test_pairs_are_kept_where_both_images_are_usable(tmp_path: Path) -> None:
    files = [("Al", "a", encoded(pixels(1))), ("Al", "b", b""), ("Bo", "c", encoded(pixels(2)))]
    pairs = PairList(("a", "a", "a"), ("b", "c", "z"), (True, False, True), (0, 1, 1), "5a")
    report = run(tmp_path / "out", files, pairs=pairs)
    assert (report.pairs, report.pairs_missing) == (1, 2)
    read = read_pairs(tmp_path / "out")
    assert read is not None
    assert (read.first.tolist(), read.second.tolist(), read.fold.tolist()) == ([0], [1], [1])
    assert read.missing == 2


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="None of the 2 images of 'pictures' can be read"):
        run(tmp_path / "out", [("Al", "a", b""), ("Al", "b", b"x")])


def test_nothing_listed_and_listed_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must hold pictures of people"):
        run(tmp_path / "out", [])
    with pytest.raises(UserError, match="Got 'a' twice"):
        run(tmp_path / "out", [("Al", "a", b""), ("Bo", "a", b"")])


def test_wrong_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'align' must be one of yunet, none, auto. Got 'mtcnn'"):
        run(tmp_path / "out", align="mtcnn")
    with pytest.raises(UserError, match=r"'crop' must be one of arcface112, facenet160. Got .*160"):
        run(tmp_path / "out", crop="facenet-160")
    with pytest.raises(UserError, match=r"'crop' must be left out where 'align' is 'none'"):
        run(tmp_path / "out", crop="facenet160")
    with pytest.raises(UserError, match=r"'workers' must be at least 1. Got 0"):
        run(tmp_path / "out", workers=0)
    with pytest.raises(UserError, match=r"'sheet' must be a PNG file.*Did you mean 'a.jpg.png'"):
        run(tmp_path / "out", sheet=tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"'sheet' must lie outside the face set"):
        run(tmp_path / "out", sheet=tmp_path / "out" / "a.png")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot be written to '.*file/out': Not a directory"):
        run(tmp_path / "file" / "out")
    with pytest.raises(UserError, match=r"cannot be written to '.*file': Not a directory"):
        run(tmp_path / "file")


# 4 chunks of 2 files, then frames, index and manifest.
@pytest.mark.parametrize("full_at", [0, 3, 9, 10])
def test_a_full_disk_is_one_line_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    calls = iter(range(1000))

    def full(_: int) -> None:
        if next(calls) == full_at:
            raise OSError(28, "No space left on device")

    run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(UserError) as caught:
            run(tmp_path / "out")
    expected = f"written to '{tmp_path / 'out'}': No space left on device."
    assert str(caught.value).endswith(expected)
    run(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_bug_in_the_work_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(engine, "decode_rgb", broken)
    monkeypatch.setattr(engine, "_first_size", lambda *_: (12, 10))
    with pytest.raises(RuntimeError, match="bug"):
        run(tmp_path / "out")
