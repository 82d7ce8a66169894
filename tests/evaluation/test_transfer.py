from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from facefocus.evaluation.transfer import transfer

TABLE = pl.DataFrame(
    {
        "source": ["small", "small", "small", "large", "large", "large"],
        "target": ["small", "large", "other", "small", "large", "other"],
        "rate": [0.50, 0.90, 0.80, 0.75, 0.60, 0.70],
        "clean_rate": [1.00, 1.00, 0.90, 1.00, 1.00, 0.90],
    }
)


def test_matrices_by_hand() -> None:
    result = transfer(TABLE)
    assert result.sources == ("small", "large")
    assert result.targets == ("small", "large", "other")
    np.testing.assert_array_equal(result.rate, [[0.5, 0.9, 0.8], [0.75, 0.6, 0.7]])
    np.testing.assert_allclose(result.drop, [[0.5, 0.1, 0.1], [0.25, 0.4, 0.2]], atol=1e-15)
    # Each column over its own diagonal; nothing is known of `other`'s own maps.
    expected = [[1, 0.25, np.nan], [0.5, 1, np.nan]]
    np.testing.assert_allclose(result.relative, expected, atol=1e-15)


def test_the_rows_may_come_in_any_order() -> None:
    shuffled = transfer(TABLE.reverse())
    assert shuffled.sources == ("large", "small")
    assert shuffled.targets == ("other", "large", "small")
    np.testing.assert_array_equal(shuffled.rate, transfer(TABLE).rate[::-1, ::-1])


def test_a_missing_row_is_unknown() -> None:
    result = transfer(TABLE[:5])
    assert np.isnan(result.rate[1, 2])
    assert np.isnan(result.drop[1, 2])
    assert result.rate[1, 1] == 0.6


@pytest.mark.parametrize("rate", [1.0, 1.1])
def test_a_white_box_without_harm_has_no_shares(rate: float) -> None:
    table = TABLE.with_columns(
        rate=pl.when((pl.col("source") == "small") & (pl.col("target") == "small"))
        .then(rate)
        .otherwise("rate")
    )
    result = transfer(table)
    assert np.all(np.isnan(result.relative[:, 0]))
    assert result.relative[0, 1] == pytest.approx(0.25, abs=1e-15)


def test_a_white_box_not_told_from_zero_has_no_shares() -> None:
    # Only the drop of `large` on itself, row 4, has an interval that includes zero.
    low = pl.Series("drop_low", [0.3, -0.1, 0.0, 0.1, -0.01, None])
    result = transfer(TABLE.with_columns(low))
    np.testing.assert_allclose(result.relative[:, 0], [1, 0.5])
    assert np.all(np.isnan(result.relative[:, 1]))
    assert result.drop[1, 1] == pytest.approx(0.4)


def test_one_row_for_each_cell() -> None:
    with pytest.raises(ValueError, match="one row for each"):
        transfer(pl.concat([TABLE, TABLE[:1]]))
    with pytest.raises(ValueError, match="lacks the columns target, clean_rate"):
        transfer(TABLE.drop("clean_rate", "target"))
