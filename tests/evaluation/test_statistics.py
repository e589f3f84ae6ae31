"""Intervals against scipy.stats and published tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sharpkd.evaluation.statistics import MeanInterval, mean_interval, paired, percentile

# Darwin's maize: heights of cross- minus self-fertilised plants, in eighths of an inch (Fisher 1935, §17)
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_fishers_analysis_of_darwins_maize() -> None:
    found = mean_interval(DARWIN)
    assert found.mean == pytest.approx(20.933, abs=5e-4)
    # Fisher: t = 2.148, just beyond the 5 % value of 2.145
    assert (found.low, found.high) == pytest.approx((0.031, 41.836), abs=5e-3)
    assert found.excludes_zero
    assert not mean_interval(DARWIN, 0.99).excludes_zero


@pytest.mark.parametrize("n", [2, 3, 5, 24, 168])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_equals_scipy(n: int, confidence: float) -> None:
    values = np.random.default_rng(n).normal(0.1, 0.3, n)
    found = mean_interval(values, confidence)
    expected = stats.t.interval(confidence, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert found.n == n
    assert found.half_width == pytest.approx((expected[1] - expected[0]) / 2)


def test_three_seeds_by_the_printed_table() -> None:
    # t(0.975; 2) = 4.303
    found = mean_interval([0.1, 0.2, 0.3])
    assert found.half_width == pytest.approx(4.303 * 0.1 / math.sqrt(3), abs=1e-4)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(1.0, 2.0, 3)) for _ in range(600)]
    covered = sum(1 for one in intervals if one.low is not None and one.low <= 1 <= (one.high or 0))
    assert covered / 600 == pytest.approx(0.95, abs=0.03)


def test_a_single_value_has_no_interval() -> None:
    found = mean_interval([0.7])
    assert found == MeanInterval(0.7, 1, None, None)
    assert found.half_width is None
    assert not found.excludes_zero


def test_equal_values_leave_no_doubt() -> None:
    assert mean_interval([0.25, 0.25, 0.25]) == MeanInterval(0.25, 3, 0.25, 0.25)
    assert not mean_interval([0.0, 0.0]).excludes_zero


@pytest.mark.parametrize(
    ("values", "confidence", "message"),
    [
        ([], 0.95, "a mean needs at least one value, got none"),
        ([1.0, math.nan], 0.95, "a mean needs finite values, got nan"),
        ([1.0], 95, "confidence is 95, expected a share between 0 and 1, such as 0.95"),
    ],
)
def test_what_cannot_be_averaged(values: list[float], confidence: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        mean_interval(values, confidence)


def test_pairs_by_key_and_names_the_rest() -> None:
    found = paired({"a": 1.0, "b": 5.0, "x": 9.0}, {"b": 6.0, "y": 0.0, "a": 1.5})
    assert found.differences == {"a": 0.5, "b": 1.0}
    assert (found.only_first, found.only_second) == (["x"], ["y"])
    assert found.interval() == mean_interval([0.5, 1.0])
    # the paired interval is that of the paired t test
    first, second = np.random.default_rng(3).normal(30, 4, (2, 20))
    second = first + 0.2 + 0.1 * (second - 30)
    series = [dict(enumerate(values.tolist())) for values in (first, second)]
    interval = stats.ttest_rel(second, first).confidence_interval(0.95)
    ours = paired(*series).interval()
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))


def test_percentile() -> None:
    assert percentile(range(101), 95) == 95
    assert percentile([0.0, 1.0], 95) == pytest.approx(0.95)
    assert percentile([3.0], 5) == 3
    with pytest.raises(ValueError, match=r"^a percentile needs at least one value, got none$"):
        percentile([], 95)
    with pytest.raises(ValueError, match=r"^a percentile needs finite values, got inf$"):
        percentile([math.inf], 95)
    with pytest.raises(ValueError, match=r"^percent is 101, expected 0 to 100$"):
        percentile([1.0], 101)
