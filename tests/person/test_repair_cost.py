"""Masks against repair: found with the gap filled in, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import facefocus.person.candidates as candidates
import facefocus.person.repair_cost as repair_cost
from facefocus.core.errors import UserError
from facefocus.core.store import Store
from facefocus.evaluation.verification import normalize
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.person.candidates import Photos, Recipe, own_maps
from facefocus.person.explanation import PersonExplanation, explain_person
from facefocus.person.other_people import choose_strangers
from facefocus.person.proof import Figure, Judge, make_design
from facefocus.person.repair_cost import RepairFigure, repair_sentences
from facefocus.saliency.shared_mask import People, climb_of_people, top_pixels
from tests.small import aligned_faceset, tiny_recognizer
from tests.written_files import check_json


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Small areas and few steps: what is tested does not depend on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "STEPS", 1)
        patch.setattr(candidates, "SEARCH_STEPS", 10)
        patch.setattr(repair_cost, "BUDGETS", (0.02,))
        yield


class TwoSpots:
    """Reads a square that its surroundings give away, strongly, and one that they do not."""

    name, fingerprint = "two-spots", "two-spots 1"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        plain, spot = (frames[:, rows, SIDES].mean(axis=(1, 2, 3)) for rows in (PLAIN, SPOT))
        return np.stack([3 * plain, spot, np.full(len(frames), 100.0)], axis=1)


PLAIN, SPOT, SIDES = slice(16, 48), slice(64, 96), slice(40, 72)


def spotted(count: int) -> np.ndarray:
    frames = np.full((count, 112, 112, 3), 100, np.uint8)
    frames[:, SPOT, SIDES] = 250
    return frames


def test_a_square_that_repair_brings_back_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "SEARCH_STEPS", 100)
    photos = Photos(spotted(2), ["a", "b"])
    recipe = Recipe(32**2 / 112**2, "pixels", "black", against="repair")
    (saliency,) = own_maps([TwoSpots()], [photos], recipe, Store(tmp_path))
    assert saliency is not None
    mask = candidates.shaped(saliency, recipe, "own")
    assert mask.sum() == 32**2
    assert mask[SPOT, SIDES].mean() > 0.5 and not mask[PLAIN, SIDES].any()
    # As it is painted, the square that repair brings back takes more.
    clean = TwoSpots().embed(photos.crops)
    painted = climb_of_people(
        [TwoSpots()],
        hider("black", photos.crops, [fill_rng(0, name) for name in "ab"]),
        [People(normalize(clean)[None], 0.5)],
        (112, 112),
        32**2,
        steps=100,
        rng=np.random.default_rng(0),
    )
    assert top_pixels(painted, 32**2)[PLAIN, SIDES].mean() > 0.5


def test_a_single_photo_has_no_mask_against_repair(tmp_path: Path) -> None:
    recipe = Recipe(0.004, "pixels", "black", against="repair")
    assert own_maps([TwoSpots()], [Photos(spotted(1), ["a"])], recipe, Store(tmp_path)) == [None]


def test_everybodys_mask_against_repair_is_searched_on_other_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "SEARCH_PEOPLE", 9)
    strangers = choose_strangers(aligned_faceset(tmp_path / "faces"))
    (several,) = candidates.searched_people(strangers)
    owners = [name.split()[0] for name in several.names]
    assert len(set(owners)) == 9 and owners[::2] == owners[1::2] and several.each == 2
    recipe, store = Recipe(0.05, "pixels", "black", against="repair"), Store(tmp_path / "store")
    photos, tiny = Photos(spotted(2), ["a", "b"]), [tiny_recognizer()]
    (searched,) = own_maps(tiny, [several], recipe, store)
    assert searched is not None
    design = make_design(photos.crops)
    with_others, without = (
        candidates.make_candidates(tiny, photos, design, strangers, recipe, store, others=others)
        for others in (True, False)
    )
    wanted = candidates.shaped(searched, recipe, "population")
    for made in (with_others, without):
        assert made.population == 9
        np.testing.assert_array_equal(made.whole["population"], wanted)
    assert len(with_others.others) == candidates.OTHERS and not without.others
    # With too few people it is the mean map of those whose masks are made, asked for or not.
    monkeypatch.setattr(candidates, "FEWEST_PEOPLE", 10)
    few = candidates.make_candidates(tiny, photos, design, strangers, recipe, store, others=False)
    assert few.population == candidates.OTHERS
    assert (few.whole["population"] != wanted).any()


@pytest.fixture(scope="module")
def made(small: None) -> PersonExplanation:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    noise = rng.integers(-40, 41, (4, 112, 112, 3))
    frames = np.clip(coarse.astype(np.int64) + noise, 0, 255).astype(np.uint8)
    return explain_person(
        frames, tiny_recognizer("tiny-0", 0), budget=0.01, against="repair", backend="torch"
    )


def test_figures_are_those_of_the_proof_and_of_repair(made: PersonExplanation) -> None:
    assert made.candidates[0].method == "searched-mask"
    cosines = {
        (row.against, row.budget, row.repaired): row.figure.value
        for row in made.repair
        if row.figure.measure == "cosine"
    }
    assert list(cosines) == [
        (True, 0.01, True),
        (True, 0.02, True),
        (True, 0.01, False),
        (False, 0.01, False),
        (False, 0.01, True),
    ]
    (judge,) = made.judges
    chosen = made.lookup.get("chosen", judge, ("cosine", ""))
    assert chosen is not None and cosines[True, 0.01, False] == pytest.approx(chosen.value)
    (repaired,) = [row for row in made.robustness if row.nuisance == "inpaint-told"]
    assert cosines[True, 0.01, True] == pytest.approx(repaired.hidden)


def test_the_page_and_the_record_say_what_it_costs(made: PersonExplanation, tmp_path: Path) -> None:
    page = made.report(tmp_path / "out").read_text()
    assert "What does protection against repair cost?" in page
    record = json.loads((tmp_path / "out" / "explanation.json").read_text())
    check_json("explanation.json", record, never=None)
    assert record["recipe"]["against"] == "repair"
    assert len(record["repair"]) == len(made.repair)
    (judge,) = made.judges
    cost = made.repair_cost(judge)
    assert cost is not None
    (stored,) = record["repair_cost"]
    assert stored["recognizer"] == "tiny-0" and stored["budget"] == cost.least
    sentence = next(line for line in made.verdict.sentences if line.startswith("Once the photos"))
    assert f"{cost.repaired.value:.2f} under a mask of the same size" in sentence


def figure(value: float) -> Figure:
    return Figure("chosen", "r", True, "unseen", "any", "EER", value, 0.0, 1.0, 10)


@pytest.mark.parametrize(
    ("left", "least", "sentence"),
    [
        ((0.9, 0.6, 0.2, 0.1), 0.2, "20 % is the least of which repair leaves as little as 5 %"),
        ((0.9, 0.6, 0.4, 0.3), None, "not reached up to 30 % of the face"),
        ((0.2, 0.6, 0.4, 0.3), 0.05, "5 % is the least"),
    ],
)
def test_the_area_is_the_least_one_that_is_as_good_as_unrepaired(
    left: tuple[float, ...], least: float | None, sentence: str
) -> None:
    rows = [
        RepairFigure(True, budget, True, figure(value))
        for budget, value in zip((0.05, 0.1, 0.2, 0.3), left, strict=True)
    ]
    rows += [RepairFigure(False, 0.05, False, figure(0.2))]
    rows += [RepairFigure(False, 0.05, True, figure(0.8))]
    judge = Judge(tiny_recognizer("r"), True, np.eye(2))
    cost = repair_cost.repair_cost(rows, judge, ("any", "EER"), 1.0)
    assert cost is not None and cost.least == least
    text = " ".join(
        repair_sentences(cost, judge, 0.05, lambda f: f"{f.value * f.photos:.0f} of 10")
    )
    assert sentence in text
    assert ("--budget 0.2" in text) == (least == 0.2)
    assert f"{left[0] * 10:.0f} of 10 under this mask, 8 of 10 under a mask" in text
    assert repair_cost.repair_cost(rows, judge, ("template", "EER"), 1.0) is None
    # A mask that hides nothing before repair has no cost to name.
    nothing = repair_cost.repair_cost(rows, judge, ("any", "EER"), 0.2)
    assert nothing is not None and nothing.least is None
    text = " ".join(repair_sentences(nothing, judge, 0.05, lambda f: ""))
    assert "takes nothing on r even without repair" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"against": "repairs"}, "'against' must be repair. Got 'repairs'.*Did you mean 'repair'"),
        ({"shape": "cells"}, "Against repair the 'shape' must be pixels.*Got 'cells'"),
        ({"fill": "inpaint"}, "Against repair the 'fill'.*Got 'inpaint'"),
        ({"draft": True}, "'draft' cannot be 'against' repair"),
    ],
)
def test_what_makes_no_sense_against_repair_is_refused(
    options: dict[str, object], message: str
) -> None:
    asked = {"against": "repair", **options}
    with pytest.raises(UserError, match=message):
        explain_person(spotted(2), tiny_recognizer(), **asked)  # type: ignore[arg-type]
