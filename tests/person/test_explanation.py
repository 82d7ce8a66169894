"""One person explained from end to end, on painted people and tiny recognizers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import facefocus.person.candidates as candidates
import facefocus.person.proof as proof
from facefocus.core.errors import UserError
from facefocus.faces.faceset import FaceSet, open_faceset
from facefocus.occlusion.patch_layout import LAYOUTS, MOVES
from facefocus.person.explanation import PersonExplanation, explain_person
from facefocus.person.limits import limits_of
from facefocus.person.proof import CLEAN, Judge
from facefocus.person.trials import CHOSEN, Team
from tests.small import aligned_faceset, paint_faceset, tiny_recognizer
from tests.written_files import FORMATS, check_json

TINY = [tiny_recognizer(f"tiny-{seed}", seed) for seed in range(3)]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    return aligned_faceset(tmp_path_factory.mktemp("faces") / "painted")


@pytest.fixture(autouse=True, scope="module")
def few() -> Iterator[None]:
    """A few steps and draws: what is tested does not depend on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "STEPS", 2)
        patch.setattr(candidates, "DRAFT_STEPS", 1)
        patch.setattr(proof, "DRAWS", 2)
        yield


def person(faces: FaceSet, name: str = "p09") -> np.ndarray:
    return np.asarray(faces.frames[faces.identities == name])


@pytest.fixture(scope="module")
def made(faces: FaceSet, few: None) -> PersonExplanation:
    """Six photos, two models, one unseen, the person in the gallery."""
    return explain_person(
        person(faces), TINY[:2], unseen=TINY[2], gallery=faces, budget=0.1, backend="torch"
    )


def test_masks_have_the_area_and_come_from_the_other_half(made: PersonExplanation) -> None:
    count = made.recipe.pixels((112, 112))
    assert made.mask.sum() == count == 1254
    for masks in made.candidates[0].masks.values():
        assert (masks.sum(axis=(1, 2)) == count).all()
    own, whole = made.candidates[0].masks["own"], made.candidates[0].whole["own"]
    first, second = made.design.folds
    assert (own[first.tried_on] == own[first.tried_on[0]]).all()
    assert (own[first.tried_on[0]] != own[second.tried_on[0]]).any()
    same = made.candidates[0].same_photos["own-same-photos"][0]
    np.testing.assert_array_equal(same[first.made_of[0]], own[first.tried_on[0]])
    assert (whole != own[0]).any()


def test_no_photo_makes_a_mask_that_is_tried_on_it(faces: FaceSet, tmp_path: Path) -> None:
    """Photos of one half are changed: the masks that are tried on them stay as they are."""
    frames = person(faces)
    before = explain_person(frames, TINY[0], backend="torch", draft=True, store=tmp_path)
    fold = before.design.folds[0]
    other = frames.copy()
    other[fold.tried_on] = np.flip(other[fold.tried_on], axis=2)
    after = explain_person(other, TINY[0], backend="torch", draft=True, store=tmp_path)
    np.testing.assert_array_equal(after.design.folds[0].tried_on, fold.tried_on)
    for photo in fold.tried_on:
        np.testing.assert_array_equal(
            before.candidates[0].masks["own"][photo], after.candidates[0].masks["own"][photo]
        )
    for photo in fold.made_of:
        assert (
            before.candidates[0].masks["own"][photo] != after.candidates[0].masks["own"][photo]
        ).any()


def test_the_unseen_recognizer_changes_no_mask_and_no_choice(
    faces: FaceSet, made: PersonExplanation
) -> None:
    other = explain_person(
        person(faces),
        TINY[:2],
        unseen=tiny_recognizer("another", 9),
        gallery=faces,
        budget=0.1,
        backend="torch",
    )
    np.testing.assert_array_equal(other.mask, made.mask)
    assert other.outcomes[0].picked == made.outcomes[0].picked
    kept = made.table.filter(seen=True, condition=CHOSEN)
    assert kept.equals(other.table.filter(seen=True, condition=CHOSEN))


def test_the_person_is_not_among_the_other_people(made: PersonExplanation) -> None:
    assert made.strangers is not None and "p09" not in made.strangers.names
    assert len(made.strangers.names) == 17
    assert any("p09" in line for line in made.subject.remarks)


def test_without_unseen_each_model_is_judged_by_a_mask_made_on_the_others(
    faces: FaceSet,
) -> None:
    made = explain_person(person(faces), TINY[:2], backend="torch", draft=True)
    assert [[s.name for s in team.sources] for team in made.teams] == [
        ["tiny-0", "tiny-1"],
        ["tiny-1"],
        ["tiny-0"],
    ]
    judged = [(judge.name, judge.seen) for judge in made.judges]
    assert judged == [("tiny-0", True), ("tiny-1", True), ("tiny-0", False), ("tiny-1", False)]
    assert (made.candidates[0].whole["own"] != made.candidates[1].whole["own"]).any()


def test_what_cannot_be_proven_is_said_and_the_rest_is_proven(
    faces: FaceSet,
) -> None:
    frames = person(faces)
    three = explain_person(frames[:3], TINY[0], backend="torch")
    assert "own" not in three.candidates[0].masks and three.recommended.startswith("atlas-")
    assert any("Give 4 photos" in line for line in three.limits)
    assert any("--unseen" in line for line in three.limits)
    assert any("--gallery" in line for line in three.limits)
    assert set(three.table["measure"]) == {"cosine"}  # no threshold: similarities alone
    assert "own-same-photos" in set(three.table["condition"])
    single = explain_person(frames[:1], TINY[0], backend="torch", draft=True)
    assert any(line.startswith("One photo") for line in single.limits)
    clean = single.table.filter(condition=CLEAN, measure="cosine")
    assert clean["value"].to_list() == pytest.approx([1.0])  # with itself


def test_drawn_people_are_nobody_to_a_recognizer_of_real_ones(faces: FaceSet) -> None:
    drawn = FaceSet(faces.frames, faces.identities, faces.names, "synthetic-x", faces.hash)
    made = explain_person(person(faces), TINY[0], gallery=drawn, backend="torch", budget=0.02)
    assert set(made.table["measure"]) == {"cosine"}
    assert any("nobody to it" in line for line in made.limits)
    assert not made.candidates[0].others and "population" not in made.candidates[0].masks


class BlackBox:
    """Only embeds."""

    name, fingerprint = "box", "0" * 64

    def embed(self, frames: np.ndarray) -> np.ndarray:
        return TINY[0].embed(frames)


def test_a_black_box_gets_masks_of_a_perturbation_method_and_it_is_said(faces: FaceSet) -> None:
    made = explain_person(person(faces), BlackBox(), backend="torch", draft=True)
    assert made.candidates[0].method == "s-rise"
    assert any("s-rise" in line and "box" in line for line in made.limits)
    assert "own" in made.candidates[0].masks


def test_shapes_have_exactly_the_area() -> None:
    values = np.random.default_rng(0).normal(size=(112, 112))
    made = {
        shape: candidates.shaped(values, candidates.Recipe(0.1, shape, "black"), "own")
        for shape in candidates.SHAPES
    }
    assert [int(mask.sum()) for mask in made.values()] == [1254] * 3
    np.testing.assert_array_equal(made["pixels"], values > np.sort(values, axis=None)[-1255])
    grid = made["cells"].reshape(16, 7, 16, 7).sum(axis=(1, 3))
    assert ((grid > 0) & (grid < 49)).sum() == 1  # 25 whole cells, and the last one


def test_patches_are_scored_by_the_similarity_that_is_left(faces: FaceSet) -> None:
    frames = person(faces)[:3]
    recipe = candidates.Recipe(0.1, "patches", "black")
    bar: list[tuple[int, int]] = []
    step = candidates._steps(lambda _, done, total: bar.append((done, total)), 1)
    photos = candidates.Photos(frames, list("abc"))
    left = candidates.similarity_left([TINY[0]], photos, recipe, step)
    masks = np.zeros((2, 112, 112), bool)
    masks[1, :, :60] = True
    nothing, much = left(masks)
    assert much < nothing <= 3 * candidates.SCORED_DRAWS
    assert bar == [(2, LAYOUTS + MOVES)]


def test_patches_of_a_draft_embed_nothing(faces: FaceSet) -> None:
    photos = candidates.Photos(person(faces)[:3], list("abc"))
    draft = candidates.Recipe(0.1, "patches", "black", draft=True)
    assert candidates.score_of([TINY[0]], photos, draft) is None
    assert candidates.score_of([TINY[0]], photos, replace(draft, draft=False)) is not None
    assert candidates.score_of([TINY[0]], photos, replace(draft, shape="cells")) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 5.0}, r"'budget' must be in \(0, 1\). Got 5. Did you mean 0.05\?"),
        ({"budget": 0.0}, r"'budget' must be in \(0, 1\). Got 0\."),
        ({"shape": "cell"}, "'shape' must be one of pixels, cells, patches. Got 'cell'.*'cells'"),
        ({"fill": "blak"}, "black"),
        ({"unseen": TINY[0]}, "'tiny-0' twice"),
        ({"model": []}, "'model' must be a recognizer"),
    ],
)
def test_a_wrong_word_is_one_line(faces: FaceSet, options: dict[str, Any], message: str) -> None:
    asked = {"model": TINY[0], "backend": "torch", "draft": True, **options}
    with pytest.raises(UserError, match=message):
        explain_person(person(faces), asked.pop("model"), **asked)


def test_the_folder_holds_page_masks_and_a_record_without_nan(
    made: PersonExplanation, tmp_path: Path
) -> None:
    page = made.report(tmp_path / "out")
    text = page.read_text()
    assert page == tmp_path / "out" / "index.html"
    for number in made.verdict.numbers:
        assert number.title in text
    assert made.verdict.sentences[0].split(": ")[-1][:40] in text
    record = json.loads((tmp_path / "out" / "explanation.json").read_text())
    missing = {
        name for name in FORMATS["explanation.json"].fields if name.startswith(("left", "repair"))
    }
    check_json("explanation.json", record, never=missing)
    assert record["mask"]["pixels"] == 1254 and len(record["figures"]) == made.table.height
    assert [fold["made_of"] for fold in record["halves"]] == [
        fold.made_of.tolist() for fold in made.design.folds
    ]
    assert {row["nuisance"] for row in record["robustness"]} >= {"median-3", "inpaint-told"}
    made.report(tmp_path / "out")  # replaces its own folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        made.report(tmp_path / "mine")
    assert (tmp_path / "mine" / "diary.txt").exists()


def test_a_sibling_is_not_passed_off_as_a_stranger() -> None:
    def judge(name: str, seen: bool) -> Judge:
        return Judge(tiny_recognizer(name), seen, np.eye(2))

    def limits(unseen: str) -> list[str]:
        sources = judge("mobilefacenet-ms1m", True), judge("squeezenet-vggface2", True)
        recognizers = tuple(source.recognizer for source in sources)
        teams = [Team(recognizers, sources, (*sources, judge(unseen, False)))]
        frames = np.random.default_rng(0).integers(0, 256, (10, 112, 112, 3), dtype=np.uint8)
        design = proof.make_design(frames)
        return list(
            limits_of(frames, design, teams, None, "learned-mask", draft=True, photographs=True)
        )

    (sibling,) = [line for line in limits("mobilefacenet-casia") if "sibling" in line]
    assert "sibling of mobilefacenet-ms1m (they share family)" in sibling
    (data,) = [line for line in limits("facenet-vggface2") if "sibling" in line]
    assert "sibling of squeezenet-vggface2 (they share training data)" in data
    assert not [line for line in limits("iresnet50-idiffface") if "sibling" in line]
    assert any("may be a sibling of mobilefacenet-ms1m" in line for line in limits("mine"))


def test_a_gallery_of_another_size_is_refused(faces: FaceSet, tmp_path: Path) -> None:
    small = open_faceset(paint_faceset(tmp_path / "small"))
    with pytest.raises(UserError, match=r"'gallery' must hold crops of 112 x 112.*Got 32 x 32"):
        explain_person(person(faces), TINY[0], gallery=small, backend="torch")
