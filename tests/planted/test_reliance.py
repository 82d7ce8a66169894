"""Hiding the planted part, and as much elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from facefocus.cli.synthetic_commands import planted_lines
from facefocus.core.errors import UserError
from facefocus.faces.sources.synthetic import decoys, render, render_many
from facefocus.faces.sources.synthetic import planted as parts_of
from facefocus.planted import reliance as planted
from facefocus.saliency.explainer import Hide


@dataclass
class Reader:
    """Knows everybody by the very region it is given, and nothing else."""

    region: np.ndarray
    name: str = "reader"
    fingerprint: str = "reader"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        seen = frames[:, self.region].reshape(len(frames), -1).astype(np.float32)
        return np.asarray(seen - seen.mean(axis=1, keepdims=True))


PEOPLE = np.repeat(np.arange(12), 3)


def faces(noise: float, seed: int) -> np.ndarray:
    """Unit embeddings of 12 people with 3 photos each: a direction of their own, and noise."""
    rng = np.random.default_rng(seed)
    wide = np.eye(64)[PEOPLE] + noise * rng.standard_normal((36, 64))
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def judged(part: np.ndarray, elsewhere: np.ndarray) -> planted.Planted:
    clean = faces(0.05, 0)
    masks = np.zeros((36, 10, 10), dtype=bool)
    masks[:, :2] = True
    return planted._judged("eyes", "black", masks, clean, part, elsewhere, 3)


def test_a_part_whose_loss_leaves_chance_passes() -> None:
    checked = judged(faces(100.0, 1), faces(0.05, 2))
    assert checked.area == pytest.approx(0.2)
    assert checked.clean_tmr == 1.0
    assert checked.part.tmr < 0.1
    assert checked.kept == 1.0
    assert checked.passed


def test_a_part_whose_loss_changes_nothing_fails() -> None:
    checked = judged(faces(0.05, 1), faces(0.05, 2))
    assert checked.part.tmr == 1.0
    assert not checked.passed
    assert "with the planted part hidden: TMR 1.0000, at most 0.1" in checked.failure


def test_a_loss_elsewhere_fails() -> None:
    checked = judged(faces(100.0, 1), faces(100.0, 2))
    assert checked.kept < 0.85
    assert not checked.passed
    assert "needs pixels elsewhere" in checked.failure


def test_who_knows_nobody_fails_though_nothing_is_lost_elsewhere() -> None:
    """Noise keeps its rate wherever pixels are hidden: chance is no sign of the planted part."""
    unlearned = planted.Planted(
        "eyes", "black", 60, 6, 0.09, 0.0111, planted.Hidden(0.0111, 0.01, 0.01),
        planted.Hidden(0.0117, 0.0109, 0.01),
    )  # fmt: skip
    assert unlearned.part.tmr <= planted.CHANCE
    assert unlearned.kept >= planted.KEPT
    assert not unlearned.passed
    expected = (
        "it recognizes too few people with nothing hidden: TMR 0.0111 at FMR 1e-2, at least 0.2 "
        "expected"
    )
    assert list(planted_lines(unlearned))[-1] == f"FAILED: {expected}"
    record = planted.planted_record(unlearned)
    assert (record["passed"], record["failure"]) == (False, expected)


def test_a_clean_rate_of_zero_is_a_failure_and_no_division_by_zero() -> None:
    nothing = planted.Hidden(0.0, 0.0, 0.0)
    checked = planted.Planted("eyes", "black", 60, 6, 0.09, 0.0, nothing, nothing)
    assert checked.kept == 0.0
    assert "too few people" in checked.failure


def test_rates_are_counted_over_all_pairs_at_the_clean_threshold() -> None:
    """Two people, two photos, by hand.

    Clean: mated cosines all 1, non-mated 0, so the threshold is 1 (FMR 0). Occluded, the first
    person's first photo looks like the second person: of 4 mated pairs (ordered, each photo against
    the other clean one) 3 still match; of 8 non-mated, 2 do.
    """
    clean = np.repeat(np.eye(2), 2, axis=0)
    occluded = clean.copy()
    occluded[0] = (0.0, 1.0)
    mated, other = planted._scores(occluded, clean, 2)
    assert sorted(mated) == [0.0, 1.0, 1.0, 1.0]
    assert sorted(other) == [0.0] * 6 + [1.0] * 2


def test_the_hidden_region_holds_the_part_and_elsewhere_avoids_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The masks that are hidden, against the renderer's own."""
    seen: list[np.ndarray] = []

    def spy(fill: str, frames: np.ndarray, rngs: object) -> Hide:
        def hide(masks: np.ndarray) -> np.ndarray:
            seen.append(masks)
            return np.where(masks[..., None], 0, frames).astype(np.uint8)

        return hide

    monkeypatch.setattr(planted, "hider", spy)
    region = np.zeros((112, 112), dtype=bool)
    region[::4, ::4] = True
    planted.check_planted(Reader(region), "eyes", people=8, photos=2)
    part, away = seen
    for row in range(16):
        person, photo = divmod(row, 2)
        own = render("eyes", planted.SEED, person, photo).parts["eyes"]
        others = decoys("eyes", planted.SEED, person, photo, planted.DECOYS)["eyes"]
        assert np.array_equal(part[row], own | others.any(axis=0))
        assert not (part[row] & away[row]).any()
        assert part[row].sum() == away[row].sum()


def test_pixels_outside_the_part_do_not_tell_people_apart() -> None:
    """A reader of a corner of the background is at chance, so the check fails it honestly."""
    region = np.zeros((112, 112), dtype=bool)
    region[:12, :12] = True
    checked = planted.check_planted(Reader(region), "eyes", people=8, photos=3)
    assert checked.clean_tmr < 0.2
    assert not checked.passed


def test_a_world_without_one_part_is_refused() -> None:
    assert len(parts_of("all")) > 1
    with pytest.raises(UserError, match=r"must be one whose identity lies in one part.* Got 'all'"):
        planted.check_planted(Reader(np.ones((112, 112), dtype=bool)), "all")


def test_lines_and_record_say_the_same() -> None:
    checked = judged(faces(100.0, 1), faces(0.05, 2))
    lines = list(planted_lines(checked))
    record = planted.planted_record(checked)
    assert lines[-1].startswith("passed")
    assert record["passed"] is True
    assert "failure" not in record
    assert f"clean tmr {record['clean_tmr']:.4f}" in lines
    assert record["part_tmr"] == round(checked.part.tmr, 4)


def test_drawn_people_are_unseen_by_every_embedded_recognizer() -> None:
    from facefocus.models import zoo
    from facefocus.planted.train.recipe import load_recipe

    for name in zoo.embedded():
        assert load_recipe(name).faces.seed != planted.SEED
    assert len(render_many("eyes", planted.SEED, range(1), 2).frames) == 2
