"""The surviving share: ratios of means by hand, and where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from facefocus.analysis.surviving_share import (
    holds,
    is_repair,
    read_robustness,
    surviving_shares,
    undone,
)
from facefocus.benchmark.stages.robustness import MEASURES, ROBUSTNESS
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.evaluation.statistics import mean_interval, ratio_intervals
from tests.report.fabricated import robust
from tests.report.fabricated import robust_table as table


def people(clean: float, hidden: float, clean_under: float, hidden_under: float) -> np.ndarray:
    """Twelve people about these means; the means are exact."""
    noise = generator(0, "test").uniform(-0.02, 0.02, (12, 4))
    means = np.array([clean, hidden, clean_under, hidden_under])
    return np.asarray(means + noise - noise.mean(axis=0))


def test_the_share_is_the_ratio_of_the_mean_drops() -> None:
    scores = people(0.97, 0.07, 0.92, 0.62)
    share = surviving_shares(table(robust("median-3", scores))).row(0, named=True)
    assert share["surviving"] == pytest.approx((0.92 - 0.62) / (0.97 - 0.07))
    assert share["cosine_surviving"] == pytest.approx(share["surviving"])
    assert share["nuisance_rate"] == pytest.approx(0.62) and share["scored"] == 12
    under, before = scores[:, 2] - scores[:, 3], scores[:, 0] - scores[:, 1]
    wanted = ratio_intervals(under[None], before[None])
    assert (share["surviving_low"], share["surviving_high"]) == (wanted.low[0], wanted.high[0])
    assert share["surviving_low"] < 1 / 3 < share["surviving_high"]
    rate = mean_interval(scores[:, 3], share=True)
    assert (share["nuisance_rate_low"], share["nuisance_rate_high"]) == (rate.low, rate.high)
    assert undone(share) and not holds(share)


def test_what_the_nuisance_takes_from_clean_photos_is_no_merit_of_the_mask() -> None:
    # Under the nuisance nobody is recognized, hidden or not: nothing of the drop is the mask's.
    shares = surviving_shares(table(robust("jpeg-10", people(0.95, 0.05, 0.1, 0.1))))
    assert shares["surviving"][0] == pytest.approx(0.0, abs=1e-12)


def test_there_is_no_share_of_a_drop_that_may_be_none() -> None:
    scores = people(0.5, 0.5, 0.5, 0.3)
    share = surviving_shares(table(robust("half", scores))).row(0, named=True)
    assert share["surviving"] is None and share["surviving_low"] is None
    assert not undone(share) and not holds(share)
    assert share["nuisance_rate"] == pytest.approx(0.3)


def test_each_configuration_and_nuisance_has_a_row_and_missing_people_count_nowhere() -> None:
    scores = people(0.9, 0.1, 0.9, 0.2)
    left_out = scores.copy()
    left_out[0, [1, 3]] = np.nan
    rows = table(
        robust("half", scores),
        robust("half", left_out, budget=0.1),
        robust("blur", scores),
        robust("blur", scores, method="random"),
    ).fill_nan(None)
    shares = surviving_shares(rows)
    assert shares.height == 4
    assert shares.filter(budget=0.1)["scored"].to_list() == [11]
    gone = shares.filter(budget=0.1).row(0, named=True)
    assert gone["clean_rate"] == pytest.approx(scores[1:, 0].mean())
    assert shares.filter(method="random", nuisance="blur").height == 1


def test_few_people_have_a_share_without_an_interval() -> None:
    shares = surviving_shares(table(robust("half", people(0.9, 0.1, 0.9, 0.5)[:4])))
    row = shares.row(0, named=True)
    assert row["surviving_low"] is None and not undone(row)


def test_tables_of_several_runs_are_read_together_and_once(tmp_path: Path) -> None:
    assert read_robustness([tmp_path]) is None
    rows = table(robust("half", people(0.9, 0.1, 0.9, 0.5)))
    other = table(robust("half", people(0.9, 0.1, 0.9, 0.5), budget=0.1))
    for name, part in (("one", rows), ("two", pl.concat([rows, other]))):
        (tmp_path / name).mkdir()
        part.write_parquet(tmp_path / name / ROBUSTNESS)
        pl.DataFrame({"a": [1]}).write_parquet(tmp_path / name / "results.parquet")
    joined = read_robustness([tmp_path / "one", tmp_path / "two"])
    assert joined is not None and joined.height == 24
    (tmp_path / "one" / ROBUSTNESS).write_bytes(b"broken")
    with pytest.raises(UserError, match=r"robustness.parquet' cannot be read"):
        read_robustness([tmp_path / "one"])


def test_repair_is_what_somebody_does_on_purpose() -> None:
    names = ("median-3", "inpaint-told", "jpeg-50", "somebody-elses")
    assert [is_repair(name) for name in names] == [True, True, False, False]
    assert set(MEASURES) == {"cosine", "rate"}
