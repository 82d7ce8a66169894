"""A run's results in one file: written, checked, and found out where they were changed."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.analysis.results import read_results, run_notes
from facefocus.benchmark import session as session_module
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.run import run_experiment
from facefocus.core.errors import UserError
from facefocus.core.files import write_atomically
from facefocus.models.recognizer import Recognizer
from facefocus.submissions import score_again
from facefocus.submissions.check_submission import check_submission
from facefocus.submissions.submission import (
    MASKS,
    PACKED,
    RESULTS,
    drawn_people,
    hashes,
    read_submission,
    run_folders_of,
    write_submission,
)
from tests.small import paint_faceset, tiny_recognizer

#: Half of them have photos enough to hold some out.
PEOPLE = [f"p{number:02d}" for number in (1, 2, 4, 5, 8, 9, 11, 12, 15, 17)]

METHOD = """
import numpy as np
def bright(images, recognizer):
    return images.astype(np.float32).mean(axis=(0, 3))
"""


def tiny(name: str, preprocessing: object = None) -> Recognizer:
    return tiny_recognizer(name, "ab".index(name))


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "load", tiny)
    monkeypatch.setattr(score_again, "load", tiny)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A folder with the method's file, the face set, and the submission of a run."""
    folder = tmp_path_factory.mktemp("submission")
    faces = paint_faceset(folder / "painted")
    (folder / "mine.py").write_text(METHOD)
    experiment = parse_experiment(
        {
            "name": "small",
            "faces": {"set": "painted", "people": PEOPLE},
            "recognizers": {"source": ["a", "b"]},
            "saliency": [
                {"method": ["grad-cam", f"{folder}/mine.py:bright"], "layer": "N"},
                {"method": "random", "draws": 2},
            ],
            "occlusion": {"budget": [0.05, 0.2], "fill": "random"},
            "controls": {"control": ["shifted", "other"], "draws": 2},
            "evaluation": {"split": ["same", "heldout"]},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "load", tiny)
        run = run_experiment(
            experiment, faces=faces, out=folder / "run", store=folder / "store", backend="torch"
        )
        path = write_submission(run)
    return folder, faces, path


def verdicts(path: Path, *arguments: Any, **more: Any) -> list[str]:
    return [
        finding.verdict for finding in check_submission(path, *arguments, backend="torch", **more)
    ]


def changed(path: Path, out: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A submission with other files in it."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out


def edit_results(files: dict[str, bytes], edit: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    buffer = io.BytesIO()
    edit(pl.read_parquet(files[RESULTS])).write_parquet(buffer)
    files[RESULTS] = buffer.getvalue()


def hash_anew(files: dict[str, bytes]) -> None:
    contents = json.loads(files["submission.json"])
    contents["files"] = hashes({name: files[name] for name in files if name != "submission.json"})
    files["submission.json"] = json.dumps(contents).encode()


def better(table: pl.DataFrame) -> pl.DataFrame:
    """One method hides everybody."""
    return table.with_columns(
        rate=pl.when(method="grad-cam").then(pl.lit(0.0)).otherwise(pl.col("rate"))
    )


def test_an_honest_submission_holds(made: tuple[Path, Path, Path]) -> None:
    """On any store, by what ran its passes: masks scored, and maps of both methods made again."""
    folder, faces, path = made
    findings = check_submission(path, faces, ["grad-cam", f"{folder}/mine.py:bright"])
    assert {finding.verdict for finding in findings[:-1]} == {"holds"}, findings
    assert findings[-1].verdict == "not checked"
    text = "\n".join(finding.text for finding in findings)
    assert "All 8 files" in text
    assert "the 1 of 10 people" in text
    assert text.count("give the same figures to the last digit") == 2
    assert "grad-cam: " in text and "mine.py:bright: " in text


def test_it_names_nobody_and_shows_no_face(made: tuple[Path, Path, Path]) -> None:
    folder, _, path = made
    with zipfile.ZipFile(path) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert not re.search(rb"p\d\d_?\b", everything)
    rows = read_submission(path).table(RESULTS)
    assert rows["identity"].n_unique() == 10
    # The figures are those of the run, person by person.
    known = read_results(folder / "run")
    for name in ("rate", "cosine", "masked_pixels"):
        assert sorted(map(str, rows[name])) == sorted(map(str, known[name]))
    assert write_submission(folder / "run", folder / "again").read_bytes() == path.read_bytes()


def test_a_changed_figure_mask_or_hash_is_found(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, faces, path = made

    def figure(files: dict[str, bytes]) -> None:
        edit_results(files, better)

    def mask(files: dict[str, bytes]) -> None:
        packed = np.load(io.BytesIO(files[PACKED]))
        buffer = io.BytesIO()
        np.save(buffer, np.roll(packed, 1, axis=1))
        files[PACKED] = buffer.getvalue()

    def hashed(files: dict[str, bytes]) -> None:
        contents = json.loads(files["submission.json"])
        contents["files"][RESULTS] = "0" * 64
        files["submission.json"] = json.dumps(contents).encode()

    for change in (figure, mask, hashed):
        answers = verdicts(changed(path, tmp_path / "changed", change))
        assert answers[0] == "does not hold"

    # Other figures draw other people: of ten the same one again by one chance in ten.
    missed = 0
    for number in range(20):

        def figure_and_hash(files: dict[str, bytes], number: int = number) -> None:
            row = pl.int_range(pl.len()) == number
            rate = pl.when(row).then(1 - pl.col("rate")).otherwise("rate")
            edit_results(files, lambda table: table.with_columns(rate=rate))
            hash_anew(files)

        missed += "does not hold" not in verdicts(
            changed(path, tmp_path / "changed", figure_and_hash)
        )
    assert missed < 10

    def mask_and_hash(files: dict[str, bytes]) -> None:
        mask(files)
        hash_anew(files)

    changed(path, tmp_path / "changed", mask_and_hash)
    assert "does not hold" not in verdicts(tmp_path / "changed")  # areas are the same
    assert "does not hold" in verdicts(tmp_path / "changed", faces)


def test_figures_that_were_written_anew_with_everything_else_need_the_faces(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Whoever has the run can draw the right people; but the masks do not give the figures."""
    folder, faces, _ = made
    run = folder / "run"
    before = (run / RESULTS).read_bytes()
    try:
        buffer = io.BytesIO()
        better(pl.read_parquet(before)).write_parquet(buffer)
        write_atomically(run / RESULTS, lambda file: file.write(buffer.getvalue()))
        path = write_submission(run, tmp_path / "better.submission")
    finally:
        write_atomically(run / RESULTS, lambda file: file.write(before))
    assert "does not hold" not in verdicts(path)
    findings = check_submission(path, faces, backend="torch")
    wrong = [finding.text for finding in findings if finding.verdict == "does not hold"]
    assert wrong and all("scored again, give other figures" in text for text in wrong)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rate", 1.5, "A share outside of 0 to 1"),
        ("clean_cosine", 0.5, "More than one 'clean_cosine'"),
        ("budget_pixels", 3, "Another number of pixels"),
        ("rate", 0.123, "A rate that no number of pairs gives"),
        ("threshold", 0.1, "More than one 'threshold'"),
    ],
)
def test_figures_that_no_run_gives_are_found(
    made: tuple[Path, Path, Path], tmp_path: Path, column: str, value: float, message: str
) -> None:
    def edit(table: pl.DataFrame) -> pl.DataFrame:
        first = pl.int_range(pl.len()) == table["split"].to_list().index("same")
        kind = table.schema[column]
        return table.with_columns(
            pl.when(first).then(pl.lit(value).cast(kind)).otherwise(column).alias(column)
        )

    path = changed(made[2], tmp_path / "changed", lambda files: edit_results(files, edit))
    assert any(message in finding.text for finding in check_submission(path))


def test_other_faces_and_methods_are_said(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, faces, path = made

    def of_others(files: dict[str, bytes]) -> None:
        provenance = json.loads(files["provenance.json"])
        provenance["faces"]["hash"] = "0" * 64
        files["provenance.json"] = json.dumps(provenance).encode()

    other = changed(path, tmp_path / "other", of_others)
    text = "\n".join(finding.text for finding in check_submission(other, faces, backend="torch"))
    assert "is not the one that was used" in text
    with pytest.raises(UserError, match=r"one of the submission's: .*Got 'grad-cam\+\+'"):
        check_submission(path, faces, ["grad-cam++"], backend="torch")
    with pytest.raises(UserError, match="needs the face set"):
        check_submission(path, None, ["grad-cam"])
    (tmp_path / "mine.py").write_text(METHOD.replace("mean", "max"))
    findings = check_submission(path, faces, [f"{tmp_path}/mine.py:bright"], backend="torch")
    wrong = [finding.text for finding in findings if finding.verdict == "does not hold"]
    assert len(wrong) == 2
    assert "other code" in wrong[0] and "masks are the same when" in wrong[1]


def test_no_code_is_run_that_a_submission_names(
    made: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, faces, path = made
    monkeypatch.undo()  # recognizers are loaded by name
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\ndef build(): pass\n")

    def named(files: dict[str, bytes]) -> None:
        provenance = json.loads(files["provenance.json"])
        provenance["recognizers"] = {f"{tmp_path}/evil.py:build": {"fingerprint": "0"}}
        files["provenance.json"] = json.dumps(provenance).encode()

    hostile = changed(path, tmp_path / "hostile", named)
    texts = [finding.text for finding in check_submission(hostile, faces, backend="torch")]
    assert any("is code in a file: a check does not run it" in text for text in texts)
    assert not marker.exists()


def test_what_is_no_submission_is_one_line(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, _, path = made
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(UserError, match=r"is no submission. Make one: facefocus submit RUN"):
        check_submission(tmp_path / "text")
    (tmp_path / "half").write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="is no submission"):
        check_submission(tmp_path / "half")

    def hostile(files: dict[str, bytes]) -> None:
        files["../escape.json"] = b"{}"

    with pytest.raises(UserError, match="holds files that no submission has"):
        check_submission(changed(path, tmp_path / "hostile", hostile))

    def newer(files: dict[str, bytes]) -> None:
        files["submission.json"] = b'{"format": 9}'

    with pytest.raises(UserError, match=r"The 'format' of .* must be 1. Got 9"):
        check_submission(changed(path, tmp_path / "newer", newer))

    def nameless(files: dict[str, bytes]) -> None:
        provenance = json.loads(files["provenance.json"])
        files["provenance.json"] = json.dumps(provenance | {"recognizers": [1]}).encode()

    with pytest.raises(UserError, match="must name recognizers"):
        check_submission(changed(path, tmp_path / "nameless", nameless), made[1])

    def empty(files: dict[str, bytes]) -> None:
        files[PACKED] = b""

    with pytest.raises(UserError, match=r"'masks.npy' of the submission cannot be read"):
        check_submission(changed(path, tmp_path / "empty", empty))

    def without_masks(files: dict[str, bytes]) -> None:
        del files[MASKS]

    with pytest.raises(UserError, match=r"it lacks masks.parquet"):
        check_submission(changed(path, tmp_path / "less", without_masks))
    with pytest.raises(UserError, match=r"is no run folder|has no results.parquet"):
        write_submission(tmp_path)


def test_a_report_reads_it_as_a_run(made: tuple[Path, Path, Path]) -> None:
    folder, _, path = made
    with run_folders_of([folder / "run", path]) as folders:
        assert folders[0] == folder / "run"
        assert folders[1].name == "run.submission"
        assert [len(run_notes(run)) for run in folders] == [0, 1]
        assert "facefocus check run.submission" in run_notes(folders[1])[0]
        assert len(read_results(folders[1])) == len(read_results(folders[0]))
        assert not (folders[1] / MASKS).exists()
    assert not folders[1].exists()


def test_the_file_has_the_whole_name_of_the_run(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(made[0], tmp_path / "all")
    (tmp_path / "all/run").rename(tmp_path / "all/v1.2")
    assert write_submission(tmp_path / "all/v1.2").name == "v1.2.submission"


def test_who_is_drawn_depends_on_every_file_but_the_masks() -> None:
    people = [f"{number:02d}" for number in range(40)]
    first = drawn_people(people, {RESULTS: "a", MASKS: "b"})
    assert len(first) == 4 and set(first) < set(people)
    assert drawn_people(people[::-1], {MASKS: "c", RESULTS: "a"}) == first
    assert drawn_people(people, {RESULTS: "d", MASKS: "b"}) != first
    assert len(drawn_people(["x"], {})) == 1
