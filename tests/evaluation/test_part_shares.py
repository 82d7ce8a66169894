from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from facefocus.core.text import percent
from facefocus.evaluation.part_shares import in_words, part_shares, shares_of
from facefocus.evaluation.statistics import holm, mean_interval
from facefocus.faces.part_atlas import areas, parts

AREAS = {"eyes": 0.1, "nose": 0.2, "background": 0.7}


def _rows(*eyes: float) -> list[dict[str, float]]:
    """The nose has its area, give or take; the background has the rest."""
    noses = [0.2 + 0.05 * (-1) ** number for number in range(len(eyes))]
    return [
        {"eyes": eye, "nose": nose, "background": 1 - eye - nose}
        for eye, nose in zip(eyes, noses, strict=True)
    ]


def test_intervals_and_p_values_are_those_of_the_statistics() -> None:
    rows = _rows(0.3, 0.35, 0.32, 0.4, 0.33, 0.36)
    shares = shares_of(rows, AREAS)
    assert [share.share for share in shares] == [
        mean_interval(np.array([row[part] for row in rows]), share=True) for part in AREAS
    ]
    p_values = [
        stats.ttest_1samp([row[part] for row in rows], area).pvalue for part, area in AREAS.items()
    ]
    assert [share.p_value for share in shares] == pytest.approx(holm(p_values))
    assert [share.side for share in shares] == [1, 0, -1]


def test_words_claim_what_is_shown_and_name_the_rest() -> None:
    shares = shares_of(_rows(0.3, 0.35, 0.32, 0.4, 0.33, 0.36), AREAS)
    eyes, _, rest = (share.share for share in shares)
    assert in_words(shares, what="the map", over="6 people") == (
        f"Of the map, 34.3 % lies on the eyes (between {percent(eyes.low)} and"
        f" {percent(eyes.high)}; 10 % of the picture): more than the area would give."
        " Less than the area would give: 45.7 % lies on the background, neck and clothes"
        f" (between {percent(rest.low)} and {percent(rest.high)}; 70 % of the picture)."
        " For the nose no difference from the area is shown."
        " Intervals are of 95 %, over 6 people."
    )


def test_a_wide_interval_claims_nothing() -> None:
    shares = shares_of(_rows(0.0, 0.5, 0.02, 0.3, 0.05), AREAS)
    assert [share.side for share in shares] == [0, 0, 0]
    assert in_words(shares, what="the mask", over="5 photos") == (
        "For the background, neck and clothes, the nose and the eyes no difference from the area is"
        " shown. Intervals are of 95 %, over 5 photos."
    )


def test_few_photos_are_described_and_nothing_is_claimed() -> None:
    shares = part_shares([parts()["mouth"], parts()["mouth"]])
    assert all(np.isnan(share.share.low) and share.side == 0 for share in shares)
    assert in_words(shares, what="the mask", over="2 photos") == (
        "Of the mask, 100 % lies on the mouth (6.2 % of the picture). This is from 2 photos: too"
        " few to say whether others are alike."
    )


def test_flat_maps_are_left_out() -> None:
    eyes = parts()["eyes"].astype(float)
    by_part = {share.part: share for share in part_shares([np.ones((112, 112)), eyes])}
    assert by_part["eyes"].share.value == 1 and by_part["eyes"].area == areas()["eyes"]
    with pytest.raises(ValueError, match="at least one mask or map"):
        part_shares([np.ones((112, 112))])
