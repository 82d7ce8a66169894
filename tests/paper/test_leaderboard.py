"""Leaderboards: no setting is picked on the people it is reported on."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from facefocus.paper import paper_formats
from facefocus.paper.leaderboard import boards
from tests.report.fabricated import row, table


def noise(seed: int, people: int = 12) -> pl.DataFrame:
    """Two methods of equal worth: one with 20 layers, one with a single one."""
    draw = np.random.default_rng(seed)
    configurations = [("many", str(number)) for number in range(20)] + [("one", "1")]
    return table(
        row(method=method, layer=layer, identity=f"p{number:02}", rate=draw.uniform(0.2, 0.9))
        for method, layer in configurations
        for number in range(people)
    )


def test_a_leaderboard_does_not_favour_methods_with_more_settings() -> None:
    leaderboards = [boards(noise(seed))[0] for seed in range(24)]
    first = [board.ranks.shares[board.methods.index("many"), 0] for board in leaderboards]
    assert np.mean(first) == pytest.approx(0.5, abs=0.15)  # 0.97 if picked on the same people
    worth = [board.drop[board.methods.index("many")].value for board in leaderboards]
    assert np.mean(worth) == pytest.approx(0.45, abs=0.03)  # 0.55 if picked on the same people


def test_a_leaderboard_reports_the_setting_that_others_pick() -> None:
    best = noise(0).with_columns(
        rate=pl.when(pl.col("layer") == "7").then(0.1 * pl.col("rate")).otherwise("rate")
    )
    (board,) = boards(best)
    assert board.methods[0] == "many" and board.settings[0].endswith("(picked 100 %, of 20)")
    assert board.settings[0].startswith("layer 7") and board.settings[1] == "layer 1, cosine"
    own = best.filter(pl.col("method") == "many", pl.col("layer") == "7")
    assert board.rate[0].value == pytest.approx(own["rate"].mean())
    assert board.rows[0].height == 12  # the audit is of the setting that is shown
    text = paper_formats.render(best, "leaderboard", "text")
    assert "with the setting that is best on the other half" in text


def test_each_reading_has_a_leaderboard_of_its_own() -> None:
    black = noise(0)
    filled = noise(1).with_columns(fill=pl.lit("inpaint"), reading=pl.lit("information"))
    titles = [board.title for board in boards(pl.concat([black, filled]))]
    assert titles == [
        f"lfw, own maps, photos the map came from, 1 % {words}"
        for words in ("black (artefact)", "inpaint (information)")
    ]
    alone, together = boards(filled)[0], boards(pl.concat([black, filled]))[1]
    assert [interval.value for interval in alone.drop] == [
        interval.value for interval in together.drop
    ]


def test_a_leaderboard_of_several_recognizers_says_whose_means_it_has() -> None:
    one_net = table(
        row(method=method, identity=f"p{number}", rate=rate)
        for method, rate in (("a", 0.25), ("b", 0.5))
        for number in range(8)
    )
    other = one_net.with_columns(source=pl.lit("other"), target=pl.lit("other"), rate=pl.lit(0.75))
    assert "Means over" not in paper_formats.render(one_net, "leaderboard", "text")
    both = pl.concat([one_net, other])
    net = one_net["target"][0]
    text = paper_formats.render(both, "leaderboard", "text")
    assert f"Means over 2 recognizers: {', '.join(sorted([net, 'other']))}." in " ".join(
        text.split()
    )
    assert boards(both)[0].rate[0].value == pytest.approx(0.5)
