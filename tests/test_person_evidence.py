"""The study of one person's masks: who is in it, its rows, and what its document says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from benchmarks import person_evidence
from benchmarks.person_document import Case, Results, document, read_results
from benchmarks.person_evidence import (
    Study,
    chosen_people,
    made_for,
    read_study,
    work,
)
from facefocus.core.errors import UserError
from facefocus.faces.detect import FaceDetector
from facefocus.faces.sources.synthetic import make_faceset, render
from facefocus.person import candidates, redetect, robust_figures
from facefocus.person.explanation import explain_person
from facefocus.person.photos import Photo
from facefocus.person.redetect import Redetected
from facefocus.person.robust_figures import PAINTED
from facefocus.report.markdown_renderer import markdown_document

SHIPPED = Path(__file__).parent.parent / "benchmarks" / "person_study.toml"


def test_the_study_reads_and_masks_are_learned_for_the_next_larger_budget() -> None:
    study = read_study(SHIPPED)
    part = next(part for part in study.setting if part.name == "sibling")
    assert ("pixels", 0.05) in part.trials and ("cells", 0.1) in part.trials
    assert [made_for(b, (0.05, 0.2)) for b in (0.01, 0.05, 0.1, 0.3)] == [0.05, 0.05, 0.2, 0.2]
    assert study.recognizers[0] == study.checker
    assert len(set(study.recognizers)) == len(study.recognizers) == 5


def test_people_are_drawn_among_those_with_enough_photos(tmp_path: Path) -> None:
    for name, count in {"a": 1, "b": 3, "c": 4, "d": 9}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.jpg").touch()
        (tmp_path / name / "note.txt").touch()
    study = Study(5, (3, 4), 3, 0, "black", "x", (), ())
    chosen = chosen_people(study, tmp_path)
    assert set(chosen) == {"b", "c"} and chosen_people(study, tmp_path) == chosen
    assert [path.name for path in chosen["c"]] == ["0.jpg", "1.jpg", "2.jpg"]


def rows_of(values: dict[tuple[str, str, float, str, str, str], list[float]]) -> pl.DataFrame:
    """Pair rates of people by setting, shape, budget, judge, condition, view; and cosines."""
    return pl.DataFrame(
        [
            {
                **dict(zip(("setting", "shape", "budget", "recognizer"), key, strict=False)),
                **{"condition": key[4], "view": key[5], "seen": False, "person": f"p{number:02}"},
                **{"measure": measure, "rule": rule, "value": value},
                **{"photos": 8, "undetected": 1},
            }
            for key, people in values.items()
            for number, value in enumerate(people)
            for measure, rule in (("pair", "EER"), ("any", "EER"), ("cosine", ""))
        ]
    )


CASIA = "mobilefacenet-casia"


def test_a_shape_that_hides_less_than_random_masks_of_it_is_said() -> None:
    study = read_study(SHIPPED)
    kept, lost = [0.8, 0.9, 0.7, 0.8, 0.9, 0.8], [0.1, 0.2, 0.1, 0.0, 0.1, 0.1]
    rows = {}
    for budget, own, random in ((0.05, lost, kept), (0.1, kept, lost), (0.2, lost, lost)):
        rows["sibling", "patches", budget, CASIA, "own", "painted"] = own
        rows["sibling", "patches", budget, CASIA, "random", "painted"] = random
    page = markdown_document(document(Results(study, rows_of(rows))))
    (line,) = (line for line in page.splitlines() if "hide less than random" in line)
    assert "Masks of patches made on mobilefacenet-ms1m and squeezenet-vggface2" in line
    assert "judged by mobilefacenet-casia" in line
    assert "+0.72 [" in line and "at 10 %" in line
    assert "at 5 %" not in line and "at 20 %" not in line


def test_goals_are_met_or_missed_by_their_figures_and_intervals() -> None:
    study = read_study(SHIPPED)
    pixels = ("sibling", "pixels", 0.05, CASIA)
    cells = ("sibling", "cells", 0.1, CASIA)
    low = [0.02, 0.04, 0.06, 0.0, 0.03, 0.05]
    rows = rows_of(
        {
            (*pixels, "own", "painted"): low,
            (*pixels, "gradient", "painted"): [value + 0.1 + 0.01 * value for value in low],
            (*pixels, "random", "painted"): [0.5] * 6,
            (*pixels, "shifted", "painted"): [0.4] * 6,
            (*cells, "own", "painted"): [0.0, 0.1, 0.3, 0.2, 0.1, 0.5],
            (*cells, "gradient", "painted"): [0.1, 0.0, 0.3, 0.3, 0.0, 0.5],
            ("against repair", "pixels", 0.2, CASIA, "own", "painted repaired"): [0.6] * 6,
        }
    )
    text = markdown_document(document(Results(study, rows)))
    lines = text.splitlines()

    def line(start: str) -> str:
        return next(entry for entry in lines if entry.startswith(start))

    assert "0.03 [" in line("| Sibling sources, pixels 5 %, pair") and "| met |" in line(
        "| Sibling sources, pixels 5 %, pair"
    )
    assert "missed; the interval reaches the goal" in line("| Sibling sources, cells 10 %, pair")
    assert "| missed |" in line("| Repair told, white box, 20 %, pair")
    assert "not measured" in line("| Repair told, white box, 30 %, pair")
    better = [entry for entry in lines if "Better than the occlusion gradient" in entry]
    assert "pixels 5 %, painted photographs: yes, difference of pair rates -0.10" in better[0]
    assert "cells 10 %, painted photographs: not shown" in better[2]
    (row,) = [entry for entry in lines if entry.startswith("| pixels | 5 % |") and "0.40" in entry]
    assert "shifted 0.40" in row and row.endswith("| 6 |")
    assert "Not all people are done" in text


MODEL = "iresnet-mini-eyes"
STUDY = f"""
people = 1
photos = [4, 4]
most_photos = 4
seed = 0
fill = "black"
checker = "{MODEL}"

[[setting]]
name = "usual"
models = ["{MODEL}"]
judges = ["{MODEL}", "iresnet-mini-mouth"]
pixels = [0.01, 0.05]
cells = []
patches = []
learned = [0.05]
gradient = [0.05]
lasting = []

[[setting]]
name = "against repair"
models = ["{MODEL}"]
judges = ["{MODEL}"]
against = "repair"
pixels = [0.005]
cells = []
patches = []
learned = [0.005]
gradient = []
lasting = []
"""


def test_rows_are_those_of_the_product_and_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "STEPS", 1)
    monkeypatch.setattr(candidates, "DRAFT_STEPS", 1)
    monkeypatch.setattr(candidates, "SEARCH_STEPS", 20)
    monkeypatch.setattr(person_evidence, "GRADIENT_STEPS", 1)
    for module in (person_evidence, robust_figures):
        monkeypatch.setattr(module, "FaceDetector", NoDetector)
        monkeypatch.setattr(module, "detector_model", lambda _: None)
    for module in (person_evidence, redetect):
        monkeypatch.setattr(module, "find_again", as_it_is)
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "rows").mkdir()
    (tmp_path / "photos" / "p0").mkdir(parents=True)
    for number in range(4):
        face = render("eyes", 7, 0, number).frame
        Image.fromarray(face).save(tmp_path / "photos" / "p0" / f"{number}.png")
    study = read_study(tmp_path / "study.toml")
    people = chosen_people(study, tmp_path / "photos")
    gallery = tmp_path / "gallery"
    make_faceset(gallery, world="eyes", identities=8, photos=3, seed=0)
    rest = (gallery, tmp_path / "store", "torch")
    usual = study.setting[0]
    short = replace(study, setting=(replace(usual, pixels=usual.pixels[:1]),))
    assert list(work(short, people, [list(people)], rest, tmp_path)) == [("p0", "usual")]
    before = read_results(tmp_path).rows
    # Only what is missing is done.
    again = list(work(study, people, [list(people)], rest, tmp_path))
    assert again == [("p0", "usual"), ("p0", "against repair")]
    rows = read_results(tmp_path).rows.filter(setting="usual")
    assert rows.filter(pl.col("budget") == 0.01).equals(before)
    assert not list(work(study, people, [list(people)], rest, tmp_path))
    # So are nuisances and repair, where they are asked for later.
    asked = replace(study, setting=(replace(usual, lasting=(0.05,)),))
    assert list(work(asked, people, [list(people)], rest, tmp_path)) == [("p0", "usual")]
    lasting = read_results(tmp_path).rows.filter(setting="usual")[len(rows) :]
    assert set(lasting["budget"]) == {0.05} and {"jpeg-50", "inpaint-told"} < set(lasting["view"])
    assert not list(work(asked, people, [list(people)], rest, tmp_path))
    plain = rows.filter(condition="own", view="painted", budget=0.05, measure="cosine")
    photographs = lasting.filter(condition="own", view=PAINTED, measure="cosine")
    assert photographs["value"].to_list() == pytest.approx(plain["value"].to_list())

    results = read_results(tmp_path)
    assert results.people == ["p00"]
    # The occlusion gradient stands beside every budget.
    assert set(rows.filter(condition="gradient")["budget"]) == {0.01, 0.05}
    made = explain_person(
        tmp_path / "photos" / "p0",
        MODEL,
        unseen="iresnet-mini-mouth",
        backend="torch",
        draft=True,
    )
    table = made.table.filter(condition="own", measure="cosine", gallery="unseen")
    for judge, value in zip(table["recognizer"], table["value"], strict=True):
        case = Case("usual", "pixels", 0.05, judge, view="crop")
        assert results.values(case, ("cosine", ""))[0] == pytest.approx(value)
        # A painted crop that is found where it was is the hidden crop.
        painted = results.values(Case("usual", "pixels", 0.05, judge), ("cosine", ""))[0]
        assert painted == pytest.approx(value)
    repaired = Case("against repair", "pixels", 0.005, MODEL, view="repaired")
    on_crops = results.values(repaired, ("cosine", ""))
    assert np.isfinite(on_crops).all()
    np.testing.assert_allclose(
        on_crops,
        results.values(
            Case("against repair", "pixels", 0.005, MODEL, view="painted repaired"), ("cosine", "")
        ),
        atol=1e-6,
    )


def test_maps_of_a_person_stay_together() -> None:
    maps = [np.full((2, 2), number) for number in range(4)]
    (first, second) = person_evidence._by_person(maps, "own")
    assert [int(saliency[0, 0]) for saliency in (*first, *second)] == [0, 1, 2, 3]
    with pytest.raises(UserError, match="orders no pixels"):
        person_evidence._by_person([maps[0], None], "own")


class NoDetector(FaceDetector):
    """One without a network."""

    def __init__(self, model: None) -> None:
        pass


def as_it_is(pixels: np.ndarray, photo: Photo, detector: FaceDetector) -> Redetected:
    """A detector that finds the face where it was, and none at half the resolution."""
    if pixels.shape[:2] != (112, 112):
        return Redetected(None, None, 0)
    return Redetected(pixels, np.zeros((5, 2)), 1)


def test_without_rows_there_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SHIPPED.read_text())
    with pytest.raises(UserError, match="must hold rows"):
        read_results(tmp_path)
