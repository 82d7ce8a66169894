"""What a person risks, photo by photo: by hand, and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from facefocus.core.seeds import generator
from facefocus.evaluation import photo_risk as module
from facefocus.evaluation.photo_risk import photo_scores, share_found, template, template_scores
from facefocus.evaluation.verification import normalize, threshold


def at(*degrees: float) -> np.ndarray:
    """Embeddings in a plane, of lengths that must not matter."""
    angles = np.deg2rad(degrees)
    lengths = np.linspace(0.5, 3, len(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]


def cos(degrees: float) -> float:
    return float(np.cos(np.deg2rad(degrees)))


def test_a_template_is_the_normalized_mean_of_normalized_embeddings() -> None:
    assert template(at(10, 50)) == pytest.approx(normalize(at(30))[0])
    with pytest.raises(ValueError, match="at least 1"):
        template(np.zeros((0, 2)))


def test_each_photo_is_found_by_any_by_the_template_and_at_rank_1() -> None:
    gallery, others = at(0, 40), at(100, -70)  # the template is at 20 degrees
    hidden = at(20, 45, 65, -30, 160)
    scores = photo_scores(hidden, gallery, others=normalize(others))
    risk = scores.risk(threshold=cos(26), template_threshold=cos(31))
    assert risk.any.tolist() == [True, True, True, False, False]
    assert risk.template.tolist() == [True, True, False, False, False]
    assert risk.rank_one is not None
    # 65 degrees: 45 to the template, 35 to the first other; -30: 50 and 40; 160: 140 and 60.
    assert risk.rank_one.tolist() == [True, True, False, False, False]


def test_a_hidden_photo_is_not_compared_with_itself() -> None:
    clean = at(0, 30, 60)
    scores = photo_scores(clean, clean, compared=~np.eye(3, dtype=bool))
    risk = scores.risk(threshold=cos(31), template_threshold=cos(44))
    assert risk.any.tolist() == [True, True, True]
    # Templates of the two others: at 45, 30 and 15 degrees.
    assert risk.template.tolist() == [False, True, False]
    assert risk.rank_one is None
    alone = photo_scores(clean, clean).risk(threshold=cos(1), template_threshold=cos(1))
    assert alone.any.all()


def test_as_near_as_another_template_counts_as_found() -> None:
    scores = photo_scores(at(5), at(5), others=template(at(5))[None])
    risk = scores.risk(threshold=0.5, template_threshold=0.5)
    assert risk.rank_one is not None and risk.rank_one.all()


@pytest.mark.parametrize(
    "compared", [np.array([[True, False], [False, False]]), np.array([[True, True], [True, False]])]
)
def test_templates_of_unequal_sizes_have_no_common_threshold(compared: np.ndarray) -> None:
    with pytest.raises(ValueError, match="equally many"):
        photo_scores(at(1, 2), at(3, 4), compared=compared)


def test_template_scores_by_hand() -> None:
    embeddings = at(0, 10, 100, 120, 200)
    people = np.array(["a", "a", "b", "b", "c"])
    mated, non_mated = template_scores(embeddings, people, 1)
    assert sorted(mated) == pytest.approx(sorted([cos(10), cos(10), cos(20), cos(20)]))
    # One template each of a, b and c, against 3, 3 and 4 photos of others.
    assert len(non_mated) == 10
    mated, non_mated = template_scores(embeddings, people, 2)
    assert len(mated) == 0
    wanted = [cos(95), cos(115), cos(195), cos(110), cos(100), cos(90)]  # templates at 5 and 110
    assert sorted(non_mated) == pytest.approx(sorted(wanted))
    assert [len(side) for side in template_scores(embeddings, people, 3)] == [0, 0]


def test_templates_of_three_use_other_photos_only() -> None:
    people = np.repeat(["a", "b"], 4)
    embeddings = generator(0, "test").normal(size=(8, 5))
    mated, _ = template_scores(embeddings, people, 3)
    unit = normalize(embeddings)
    wanted = [
        float(unit[row] @ template(embeddings[[r for r in own if r != row]]))
        for own in (range(4), range(4, 8))
        for row in own
    ]
    assert sorted(mated) == pytest.approx(sorted(wanted))


def test_samples_are_bounded_seeded_and_without_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLED_PAIRS", 40)
    people = np.repeat([f"p{n:02d}" for n in range(20)], 6)
    embeddings = generator(0, "test").normal(size=(120, 64)) + np.repeat(np.eye(64)[:20] * 20, 6, 0)
    mated, non_mated = template_scores(embeddings, people, 3, seed=4)
    assert len(mated) == len(non_mated) == 40
    assert len(np.unique(non_mated)) == 40
    assert mated.min() > 0.5 > non_mated.max()
    again = template_scores(embeddings, people, 3, seed=4)
    assert (again[0] == mated).all() and (again[1] == non_mated).all()
    assert (template_scores(embeddings, people, 3, seed=5)[1] != non_mated).any()


def test_a_template_needs_a_stricter_threshold_than_a_pair() -> None:
    rng = generator(1, "test")
    people = np.repeat([f"p{n:02d}" for n in range(60)], 8)
    centers = np.repeat(rng.normal(size=(60, 16)) + 1.0, 8, axis=0)
    embeddings = centers + rng.normal(size=(480, 16))
    levels = [threshold(*template_scores(embeddings, people, size), "fmr=1e-2") for size in (1, 7)]
    assert levels[1] > levels[0] + 0.02


@pytest.mark.parametrize(("recognized", "photos"), [(0, 8), (1, 10), (5, 9), (7, 7)])
def test_the_interval_is_that_of_clopper_and_pearson(recognized: int, photos: int) -> None:
    share = share_found(np.arange(photos) < recognized)
    low = 0.0 if not recognized else stats.beta.ppf(0.025, recognized, photos - recognized + 1)
    high = (
        1.0 if recognized == photos else stats.beta.ppf(0.975, recognized + 1, photos - recognized)
    )
    assert (share.value, share.low, share.high) == pytest.approx((recognized / photos, low, high))


def test_without_photos_there_is_no_share() -> None:
    assert np.isnan(share_found(np.zeros(0, bool)).value)
